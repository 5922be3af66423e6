// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// rest lets d pass and waits until all goroutines of the bubble stand still.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// running starts a Watcher in a synctest bubble and waits until it stands
// still. stop ends it.
func running(t *testing.T, cfg Config, sink Sink) (w *Watcher, stop func()) {
	t.Helper()
	if cfg.Kinds == nil {
		cfg.Kinds = testKinds
	}
	w = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, sink) }()
	synctest.Wait()
	return w, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil after its context ended", err)
		}
	}
}

func TestWatcher_SendsThePictureInOnePieceThenInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 5)
		r := newRecorder()
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
		if diff := cmp.Diff([]Phase{Resyncing, InSync}, r.phases); diff != "" {
			t.Errorf("phases:\n%s", diff)
		}
		if r.calls != 1 {
			t.Errorf("sink was told in %d pieces, want 1", r.calls)
		}
		_, rev, _ := f.Store.List(context.Background(), api.KindTier, store.ListOptions{})
		if r.revision != rev {
			t.Errorf("revision = %d, want %d", r.revision, rev)
		}
	})
}

func TestWatcher_ThePictureIsOfOneRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 5)
		once := false
		f.setEdit(func(k api.Kind, o []api.Object, rev api.Revision) ([]api.Object, api.Revision) {
			if k == api.KindClusterInformation && !once {
				once = true // somebody writes between two listings
				put(t, f.Store, gns("between", "10.0.0.0/8"))
			}
			return o, rev
		})
		first := &firstCall{recorder: newRecorder()}
		_, stop := running(t, Config{Store: f}, first)
		defer stop()
		if first.picture["between"] || len(first.picture) == 0 {
			t.Error("the picture has an object that was written after a part of the picture was read")
		}
		if diff := cmp.Diff(inStore(t, f.Store), first.objects); diff != "" {
			t.Errorf("picture at the sink in the end (-store +sink):\n%s", diff)
		}
	})
}

// firstCall keeps the names in the first call of Events apart.
type firstCall struct {
	*recorder
	picture map[string]bool
}

func (f *firstCall) Events(ctx context.Context, evs []api.Event) error {
	if f.picture == nil {
		f.picture = map[string]bool{}
		for _, ev := range evs {
			f.picture[ev.Key.Name] = true
		}
	}
	return f.recorder.Events(ctx, evs)
}

func TestWatcher_EventsGoThroughWithoutTimePassing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 1)
		r := newRecorder()
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		start := time.Now()
		rev := put(t, f, gns("new", "10.0.0.0/8"))
		remove(t, f, gns("s0", "").Key())
		put(t, f, gns("short", "10.0.0.0/8")) // may come in one batch with its end
		remove(t, f, gns("short", "").Key())
		synctest.Wait()
		if got := r.objects[gns("new", "").Key()]; got != rev {
			t.Errorf("new object is at revision %d, want %d", got, rev)
		}
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v of the clock, want none", d)
		}
	})
}

func TestWatcher_BrokenWatchGoesOnFromWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 5)
		r := newRecorder()
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		put(t, f, gns("s4", "11.0.0.0/8"))
		synctest.Wait()
		_, puts := r.counts()
		f.setAway(true)
		rest(time.Minute)
		if p := r.phase(); p != Waiting {
			t.Errorf("phase while away = %v, want Waiting", p)
		}
		put(t, f, gns("new", "10.0.0.0/8"))
		remove(t, f, gns("s1", "").Key())
		f.setAway(false)
		rest(10 * time.Second)
		if p := r.phase(); p != InSync {
			t.Errorf("phase when back = %v, want InSync", p)
		}
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
		if d, p := r.counts(); d != 1 || p != puts+1 {
			t.Errorf("sink was told %d deletions and %d other events, want 1 and 1", d, p-puts)
		}
	})
}

func TestWatcher_HiccupIsNotReportedAsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 2)
		r := newRecorder()
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		rest(time.Minute)
		f.breakWatches()
		rest(time.Second)
		put(t, f, gns("new", "10.0.0.0/8"))
		synctest.Wait()
		if diff := cmp.Diff([]Phase{Resyncing, InSync}, r.phases); diff != "" {
			t.Errorf("phases:\n%s", diff)
		}
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
	})
}

func TestWatcher_CompactionWhileAwaySendsOnlyTheDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 20)
		r := newRecorder()
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		_, puts := r.counts()
		f.setAway(true)
		rest(time.Second)
		put(t, f, gns("new", "10.0.0.0/8"))
		put(t, f, gns("s2", "11.0.0.0/8"))
		remove(t, f, gns("s3", "").Key())
		rev := put(t, f, hep("e"))
		if err := f.Compact(context.Background(), rev); err != nil {
			t.Fatal(err)
		}
		f.setAway(false)
		rest(10 * time.Second)
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
		if d, p := r.counts(); d != 1 || p != puts+3 {
			t.Errorf("sink was told %d deletions and %d other events, want 1 and 3", d, p-puts)
		}
	})
}

func TestWatcher_OneKindThatCannotBeWatchedDoesNotBlindTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 2)
		f.watchErr = func(k api.Kind) error {
			if k == api.KindTier {
				return store.ErrUnavailable
			}
			return nil
		}
		r := newRecorder()
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		rest(time.Minute)
		for i := range 20 {
			put(t, f, gns(fmt.Sprintf("n%d", i), "10.0.0.0/8"))
			rest(time.Second)
		}
		rest(20 * time.Second)
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
	})
}

func TestWatcher_OutageIsQuietAndCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 2)
		var log lines
		_, stop := running(t, Config{Store: f, Log: log.logger()}, newRecorder())
		defer stop()
		f.setAway(true)
		f.mu.Lock()
		before := f.lists
		f.mu.Unlock()
		rest(time.Hour)
		f.mu.Lock()
		tries := f.lists - before
		f.mu.Unlock()
		if n := log.count(); n < 1 || n > 360 {
			t.Errorf("%d lines in an hour away, want 1 to 360", n)
		}
		if most := 4 * 3600 / 3; tries > most || tries < 500 {
			t.Errorf("%d tries of four kinds in an hour away, want 500 to %d", tries, most)
		}
	})
}

// silent is a Store that answers nothing, as one behind a cable that is cut.
type silent struct{ *flaky }

func (silent) List(ctx context.Context, _ api.Kind, _ store.ListOptions) ([]api.Object, api.Revision, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

func TestWatcher_AwayAtTheStartIsSaidSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		var state State // written and read while the other goroutines stand still
		_, stop := running(t, Config{Store: silent{initialised(t, 2)}, Log: log.logger(), Report: func(s State) { state = s }}, newRecorder())
		defer stop()
		rest(5 * time.Second)
		if state.Phase != Waiting || state.Err == nil || log.count() != 1 {
			t.Errorf("after 5 s: phase %v, error %v, %d lines, want Waiting with an error and 1 line", state.Phase, state.Err, log.count())
		}
	})
}

func TestWatcher_SinkErrorEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 2)
		want := errors.New("enough")
		for _, s := range []failing{{phase: want}, {events: want}} {
			if err := New(Config{Store: f, Kinds: testKinds}).Run(context.Background(), s); err != want {
				t.Errorf("Run with a sink failing %+v = %v, want %v", s, err, want)
			}
		}
	})
}

type failing struct{ phase, events error }

func (f failing) Phase(context.Context, Phase) error        { return f.phase }
func (f failing) Events(context.Context, []api.Event) error { return f.events }

func TestReplay_IsFollowedByTheDifferenceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 10)
		known := knownOf(t, f.Store)
		remove(t, f, gns("s1", "").Key())
		put(t, f, gns("s2", "11.0.0.0/8"))
		f.setAway(true)
		r := newRecorder()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		all := known.Objects.Len()
		go func() {
			w := New(Config{Store: f, Kinds: testKinds, Known: known})
			done <- errors.Join(known.Replay(ctx, r), w.Run(ctx, r))
		}()
		synctest.Wait()
		if len(r.objects) != all || r.phases[1] != InSync {
			t.Errorf("with the store away: %d objects and phases %v, want %d and InSync from the replay", len(r.objects), r.phases, all)
		}
		_, puts := r.counts()
		f.setAway(false)
		rest(10 * time.Second)
		if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
			t.Errorf("picture at the sink (-store +sink):\n%s", diff)
		}
		if d, p := r.counts(); d != 1 || p != puts+1 {
			t.Errorf("live added %d deletions and %d other events, want 1 and 1", d, p-puts)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestReplay_OfNothingIsNotInSync(t *testing.T) {
	r := newRecorder()
	if err := (Known{Lost: true}).Replay(context.Background(), r); err != nil || len(r.phases) != 0 {
		t.Errorf("Replay of an empty Known = %v with phases %v, want nothing sent", err, r.phases)
	}
}

// TestWatcher_KeepsNothingThatOnlyWritersWant: nobody behind the syncer asks
// who set which field; the store keeps it.
func TestWatcher_KeepsNothingThatOnlyWritersWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := initialised(t, 0)
		ctx := context.Background()
		put := func(name string) {
			o := gns(name, "10.0.0.0/8")
			o.Metadata().ManagedFields = json.RawMessage(`[{"manager":"kubectl"}]`)
			o.Metadata().Annotations = map[string]string{lastApplied: "{}", "note": "stays"}
			if _, err := f.Store.Put(ctx, o, store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		put("listed")
		r := newRecorder()
		r.heard = make(chan api.Event, 100)
		_, stop := running(t, Config{Store: f}, r)
		defer stop()
		put("watched")
		put("listed")
		synctest.Wait()
		close(r.heard)
		seen := map[string]int{}
		for ev := range r.heard {
			if ev.Key.Kind != api.KindGlobalNetworkSet {
				continue
			}
			seen[ev.Key.Name]++
			m := ev.Object.Metadata()
			if m.ManagedFields != nil {
				t.Errorf("%s: managed fields %s, want none", ev.Key, m.ManagedFields)
			}
			if diff := cmp.Diff(map[string]string{"note": "stays"}, m.Annotations); diff != "" {
				t.Errorf("%s: annotations (-want +got):\n%s", ev.Key, diff)
			}
		}
		if diff := cmp.Diff(map[string]int{"listed": 2, "watched": 1}, seen); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		o, err := f.Store.Get(ctx, api.Key{Kind: api.KindGlobalNetworkSet, Name: "listed"})
		if err != nil || o.Metadata().ManagedFields == nil || o.Metadata().Annotations[lastApplied] == "" {
			t.Errorf("the store has %+v, %v, want all that was written", o, err)
		}
	})
}
