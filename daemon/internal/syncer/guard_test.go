// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/store"
)

func otherGUID(objects []api.Object) []api.Object {
	objects = slices.Clone(objects)
	for i, o := range objects {
		if ci, ok := api.Clone(o).(*api.ClusterInformation); ok {
			ci.Spec.ClusterGUID = strings.Repeat("0", 32)
			objects[i] = ci
		}
	}
	return objects
}

func notReady(objects []api.Object) []api.Object {
	objects = slices.Clone(objects)
	for i, o := range objects {
		if ci, ok := api.Clone(o).(*api.ClusterInformation); ok {
			ci.Spec.DatastoreReady = new(bool)
			objects[i] = ci
		}
	}
	return objects
}

// pictures are listings as a damaged, exchanged or restored store would give
// them, and why they are to be held.
var pictures = []struct {
	name string
	want Reason
	edit func(api.Kind, []api.Object, api.Revision) ([]api.Object, api.Revision)
}{
	{"nothing at all", NotReady, func(_ api.Kind, _ []api.Object, r api.Revision) ([]api.Object, api.Revision) { return nil, r }},
	{"half of a kind gone", Shrunk, func(k api.Kind, o []api.Object, r api.Revision) ([]api.Object, api.Revision) {
		if k == api.KindGlobalNetworkSet {
			o = o[:1]
		}
		return o, r
	}},
	{"another cluster", OtherCluster, func(_ api.Kind, o []api.Object, r api.Revision) ([]api.Object, api.Revision) {
		return otherGUID(o), r
	}},
	{"older revision", OlderRevision, func(_ api.Kind, o []api.Object, _ api.Revision) ([]api.Object, api.Revision) {
		return o, 3
	}},
	{"not ready", NotReady, func(_ api.Kind, o []api.Object, r api.Revision) ([]api.Object, api.Revision) {
		return notReady(o), r
	}},
	{"no cluster information", NotReady, func(k api.Kind, o []api.Object, r api.Revision) ([]api.Object, api.Revision) {
		if k == api.KindClusterInformation {
			o = nil
		}
		return o, r
	}},
}

func TestGuard_HoldsAPictureThatLooksWrong(t *testing.T) {
	for _, tc := range pictures {
		for _, when := range []string{"at start", "while running"} {
			t.Run(tc.name+" "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testHolds(t, tc.want, tc.edit, when == "at start") })
			})
		}
	}
}

func testHolds(t *testing.T, want Reason, edit func(api.Kind, []api.Object, api.Revision) ([]api.Object, api.Revision), atStart bool) {
	f := initialised(t, 10)
	known := knownOf(t, f.Store)
	all := inStore(t, f.Store)
	if atStart {
		f.setEdit(edit)
	}
	var state State
	r := newRecorder()
	if err := known.Replay(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	w, stop := running(t, Config{Store: f, Known: known, Report: func(s State) { state = s }}, r)
	defer stop()
	if !atStart {
		f.setEdit(edit)
		rev := put(t, f, gns("s0", "10.0.0.0/8"))
		all[gns("s0", "").Key()] = rev
		synctest.Wait()
		f.Compact(context.Background(), rev) // the watches' position is lost
		f.setAway(true)
		rest(time.Second)
		f.Compact(context.Background(), put(t, f, gns("s0", "12.0.0.0/8")))
		f.setAway(false)
	}
	rest(30 * time.Second)
	if state.Held == nil || state.Held.Reason != want {
		t.Fatalf("held = %v, want %s", state.Held, want)
	}
	if diff := cmp.Diff(all, r.objects); diff != "" {
		t.Errorf("while held the picture at the sink has changed (-before +now):\n%s", diff)
	}
	err := w.Accept()
	if want == NotReady {
		if !errors.Is(err, ErrNothingHeld) {
			t.Errorf("Accept of a picture that is not ready = %v, want ErrNothingHeld", err)
		}
	} else {
		if err != nil {
			t.Fatalf("Accept = %v", err)
		}
		rest(10 * time.Second)
		if state.Held != nil {
			t.Fatalf("after Accept still held: %v", state.Held)
		}
		if r.phase() != InSync {
			t.Errorf("phase after Accept = %v, want InSync", r.phase())
		}
	}
	f.setEdit(nil)
	f.breakWatches()
	rest(time.Minute)
	if state.Held != nil && want != OtherCluster { // the right cluster is another one again
		t.Errorf("held with a healthy store: %v", state.Held)
	}
	if state.Held != nil {
		if err := w.Accept(); err != nil {
			t.Fatal(err)
		}
		rest(20 * time.Second)
	}
	if want == Shrunk {
		// What the store kept to itself was never changed, so that only a
		// new listing brings it back.
		f.Compact(context.Background(), put(t, f, gns("late", "10.0.0.0/8")))
		f.setAway(true)
		rest(time.Second)
		f.Compact(context.Background(), put(t, f, gns("later", "10.0.0.0/8")))
		f.setAway(false)
		rest(time.Minute)
	}
	if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
		t.Errorf("in the end the sink does not have what the store has (-store +sink):\n%s", diff)
	}
}

func TestGuard_LetsOrdinaryDeletionsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 4)
		known := knownOf(t, f.Store)
		remove(t, f, gns("s0", "").Key())
		remove(t, f, gns("s1", "").Key())
		r := newRecorder()
		known.Replay(context.Background(), r)
		_, stop := running(t, Config{Store: f, Known: known}, r)
		defer stop()
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
	})
}

func TestGuard_DatastoreThatTurnsNotReadyFreezesUntilItIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 4)
		r := newRecorder()
		var state State
		_, stop := running(t, Config{Store: f, Report: func(s State) { state = s }}, r)
		defer stop()
		setReady := func(ready bool) {
			o, err := f.Get(context.Background(), clusterInformation)
			if err != nil {
				t.Fatal(err)
			}
			ci := api.Clone(o).(*api.ClusterInformation)
			ci.Spec.DatastoreReady = &ready
			put(t, f, ci)
		}
		setReady(false)
		rest(5 * time.Second)
		if state.Held == nil || state.Held.Reason != NotReady {
			t.Fatalf("held = %v, want NotReady", state.Held)
		}
		for i := range 4 {
			remove(t, f, gns("s"+string(rune('0'+i)), "").Key())
		}
		rest(time.Minute)
		if d, _ := r.counts(); d != 0 {
			t.Errorf("%d deletions went through a datastore that is not ready", d)
		}
		put(t, f, gns("s0", "10.0.0.0/8"))
		put(t, f, gns("s1", "10.0.0.0/8"))
		setReady(true)
		rest(time.Minute)
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("when ready again, held %v, picture (-store +sink):\n%s", state.Held, diff)
		}
	})
}

func TestGuard_ResumeDoesNotWaitForAStoreThatWentBack(t *testing.T) {
	// A watch after a revision that the store has yet to reach would be
	// silent for ever: the look at the store before it must notice.
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 10)
		old := initialised(t, 0).Store
		r := newRecorder()
		var state State
		w, stop := running(t, Config{Store: f, Report: func(s State) { state = s }}, r)
		defer stop()
		f.setAway(true)
		rest(time.Second)
		f.mu.Lock()
		f.Store = old
		f.mu.Unlock()
		ci, err := old.Get(context.Background(), clusterInformation)
		if err != nil {
			t.Fatal(err)
		}
		same := api.Clone(ci).(*api.ClusterInformation)
		same.Spec.ClusterGUID = w.known.guid
		put(t, old, same)
		f.setAway(false)
		rest(time.Minute)
		if state.Held == nil || state.Held.Reason != OlderRevision {
			t.Fatalf("held = %v, want OlderRevision", state.Held)
		}
		if len(r.deletes) != 0 {
			t.Errorf("%d deletions while held", len(r.deletes))
		}
		if err := w.Accept(); err != nil {
			t.Fatal(err)
		}
		rest(20 * time.Second)
		if diff := cmp.Diff(inStore(t, old), r.objects); diff != "" {
			t.Errorf("after Accept, picture (-store +sink):\n%s", diff)
		}
		if _, rev, _ := old.List(context.Background(), api.KindTier, store.ListOptions{}); r.revision != rev {
			t.Errorf("revision after Accept = %d, want %d, the restored store's", r.revision, rev)
		}
		put(t, old, gns("after", "10.0.0.0/8"))
		synctest.Wait()
		if diff := cmp.Diff(inStore(t, old), r.objects); diff != "" {
			t.Errorf("events after Accept, picture (-store +sink):\n%s", diff)
		}
	})
}

func TestGuard_LostKnowledgeHoldsAStoreWithNothingInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 0)
		r := newRecorder()
		var state State
		_, stop := running(t, Config{Store: f, Known: Known{Lost: true}, Report: func(s State) { state = s }}, r)
		defer stop()
		if state.Held == nil || state.Held.Reason != Empty || r.phase() == InSync {
			t.Fatalf("held = %v in phase %v, want Empty", state.Held, r.phase())
		}
		put(t, f, gns("s", "10.0.0.0/8"))
		rest(20 * time.Second)
		if state.Held != nil || r.phase() != InSync {
			t.Errorf("held = %v in phase %v with something in the store, want InSync", state.Held, r.phase())
		}
	})
}

func TestGuard_FreshStoreAndNothingKnownPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{Store: mem.New(mem.Config{}), cut: make(chan struct{})}
		r := newRecorder()
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		rest(time.Minute)
		if r.phase() == InSync {
			t.Error("InSync with a store that was never initialised")
		}
		if err := store.Initialise(context.Background(), f.Store); err != nil {
			t.Fatal(err)
		}
		rest(20 * time.Second)
		if r.phase() != InSync {
			t.Errorf("phase = %v after the store was initialised, want InSync", r.phase())
		}
	})
}

func TestAccept_WithNothingHeldLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 10)
		r := newRecorder()
		w, stop := running(t, Config{Store: f}, r)
		defer stop()
		if err := w.Accept(); !errors.Is(err, ErrNothingHeld) {
			t.Errorf("Accept = %v, want ErrNothingHeld", err)
		}
		f.setEdit(pictures[2].edit)
		f.breakWatches()
		rest(time.Minute)
		if d, _ := r.counts(); d != 0 || w.held == nil {
			t.Errorf("held = %v with %d deletions, want OtherCluster and none", w.held, d)
		}
	})
}

// A store that was put back is written to again, and its revision climbs past
// the one that was seen. That does not make it the store that was known.
func TestGuard_StoreThatWentBackStaysHeldWhateverItsRevision(t *testing.T) {
	key := func(name string) api.Key { return gns(name, "").Key() }
	type objects = map[api.Key]api.Revision
	mapOf := func(o objects) *api.KeyMap[api.Revision] {
		var m api.KeyMap[api.Revision]
		for k, rev := range o {
			m.Set(k, rev)
		}
		return &m
	}
	known := picture{revision: 100, ready: true, objects: mapOf(objects{key("a"): 10, key("b"): 80, key("c"): 90})}
	for _, tc := range []struct {
		name    string
		was     Reason
		rev     api.Revision
		objects objects
		held    bool
	}{
		{"older", "", 50, objects{key("a"): 10, key("b"): 40}, true},
		{"older object, higher revision", "", 150, objects{key("a"): 10, key("b"): 40, key("c"): 90}, true},
		{"climbed, a new object is missing", OlderRevision, 150, objects{key("a"): 10, key("b"): 120}, true},
		{"climbed, a deleted object is back", OlderRevision, 150, objects{key("a"): 10, key("b"): 120, key("c"): 121, key("d"): 30}, true},
		{"the right store is back", OlderRevision, 150, objects{key("a"): 10, key("b"): 80, key("c"): 120, key("d"): 130}, false},
		{"a deletion", "", 150, objects{key("a"): 10, key("b"): 80}, false},
		{"a change of each", "", 150, objects{key("a"): 110, key("b"): 111, key("c"): 112}, false},
	} {
		v := judge(&known, &picture{revision: tc.rev, ready: true, objects: mapOf(tc.objects)}, tc.was)
		if got := slices.Contains(v.reasons, OlderRevision); got != tc.held {
			t.Errorf("%s: held for an older revision: %v, want %v (%v)", tc.name, got, tc.held, v.details)
		}
	}
}

// An outage that ends with a store put back to an older state is told as both:
// the second line is not lost because the first was written just before.
func TestGuard_HeldPictureIsLoggedRightAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 10)
		var log lines
		_, stop := running(t, Config{Store: f, Known: knownOf(t, f.Store), Log: log.logger()}, newRecorder())
		defer stop()
		rest(time.Minute)
		f.setAway(true)
		rest(2 * time.Second)
		f.setEdit(func(_ api.Kind, o []api.Object, _ api.Revision) ([]api.Object, api.Revision) { return o, 3 })
		f.setAway(false)
		rest(5 * time.Second)
		text := strings.Join(log.text, "\n")
		if !strings.Contains(text, "datastore is away") || strings.Count(text, "Picture held") != 1 {
			t.Errorf("log has no line of the outage, or not one of the held picture:\n%s", text)
		}
	})
}
