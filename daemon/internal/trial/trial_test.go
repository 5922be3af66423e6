// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// picture is a Sink that knows what it was told last of each key.
type picture map[api.Key]string

func (p picture) Phase(context.Context, syncer.Phase) error { return nil }
func (p picture) Events(_ context.Context, evs []api.Event) error {
	for _, ev := range evs {
		if ev.Object == nil {
			delete(p, ev.Key)
			continue
		}
		p[ev.Key] = strings.Join(ev.Object.(*api.GlobalNetworkSet).Spec.Nets, ",")
	}
	return nil
}

func (p picture) String() string {
	var words []string
	for k, v := range p {
		words = append(words, k.Name+"="+v)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func setOf(name, net string) *api.GlobalNetworkSet {
	o := &api.GlobalNetworkSet{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico}}
	o.Name, o.Spec.Nets = name, []string{net}
	return o
}

func key(name string) api.Key { return api.Key{Kind: api.KindGlobalNetworkSet, Name: name} }

// is is an event of a set; an empty net: it is gone.
func is(name, net string, rev api.Revision) api.Event {
	ev := api.Event{Key: key(name), Revision: rev}
	if net != "" {
		ev.Object = setOf(name, net)
	}
	return ev
}

// world is a Filter with what comes out of it.
type world struct {
	t               *testing.T
	dir             string
	clock           *host.FakeClock
	f               *Filter
	enforced, saved picture
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), clock: host.NewFakeClock(time.Unix(1e9, 0)), enforced: picture{}, saved: picture{}}
	w.start()
	w.tell(is("aa", "10.0.0.0/8", 1), is("cc", "10.3.0.0/16", 2), is("zz", "10.9.0.0/16", 3))
	w.sync()
	return w
}

func (w *world) start() {
	w.f = New(Config{Enforced: w.enforced, Saved: w.saved, Dir: w.dir, Log: slog.New(slog.DiscardHandler), Clock: w.clock})
}

// restart is a new agent: it begins with what was saved.
func (w *world) restart() {
	w.enforced = picture{}
	for k, v := range w.saved {
		w.enforced[k] = v
	}
	w.start()
}

func (w *world) tell(evs ...api.Event) {
	w.t.Helper()
	if err := w.f.Events(w.t.Context(), evs); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sync() {
	w.t.Helper()
	if err := w.f.Phase(w.t.Context(), syncer.InSync); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) want(when, enforced, saved string) {
	w.t.Helper()
	if got := w.enforced.String(); got != enforced {
		w.t.Errorf("%s: enforced\n%s, want\n%s", when, got, enforced)
	}
	if got := w.saved.String(); got != saved {
		w.t.Errorf("%s: saved\n%s, want\n%s", when, got, saved)
	}
}

const (
	old    = "aa=10.0.0.0/8 cc=10.3.0.0/16 zz=10.9.0.0/16"
	newer  = "aa=fd00::/8 bb=10.2.0.0/16 zz=10.9.0.0/16"
	change = "20260101-000000-abcde"
)

// ofChange is the event of a change of three sets: aa is replaced, bb is made,
// cc is deleted. An empty phase: it is gone.
func (w *world) ofChange(phase api.ChangePhase, rev api.Revision) api.Event {
	w.t.Helper()
	k := api.Key{Kind: api.KindChange, Name: change}
	if phase == "" {
		return api.Event{Key: k, Revision: rev}
	}
	c := &api.Change{TypeMeta: api.TypeMeta{Kind: api.KindChange, APIVersion: api.VersionOurs}}
	c.Name, c.Spec.User, c.Spec.Timeout = change, "alice", api.Duration{Duration: time.Minute}
	value := func(o api.Object) api.ChangedValue {
		v, err := api.NewChangedValue(o)
		if err != nil {
			w.t.Fatal(err)
		}
		return v
	}
	c.Spec.Objects = []api.ChangedObject{
		{Kind: api.KindGlobalNetworkSet, Name: "aa", Before: value(setOf("aa", "10.0.0.0/8")), After: value(setOf("aa", "fd00::/8"))},
		{Kind: api.KindGlobalNetworkSet, Name: "bb", After: value(setOf("bb", "10.2.0.0/16"))},
		{Kind: api.KindGlobalNetworkSet, Name: "cc", Before: value(setOf("cc", "10.3.0.0/16"))},
	}
	c.Status.Phase = phase
	if phase == api.ChangeRolledBack {
		c.Status.Objects = []api.ChangeResult{{Revision: 22}, {}, {Revision: 20}}
	}
	return api.Event{Key: k, Object: c, Revision: rev}
}

// begin opens the change and makes it.
func (w *world) begin() {
	w.t.Helper()
	w.tell(w.ofChange(api.ChangePending, 10))
	w.tell(is("aa", "fd00::/8", 11), is("bb", "10.2.0.0/16", 12), is("cc", "", 13))
	w.want("on trial", newer, old)
}

// expire lets the time of the change be over.
func (w *world) expire() (told []string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	tell := make(chan string)
	go func() {
		ended <- w.f.Run(ctx, func(_ context.Context, name, reason string) { tell <- name + ": " + reason })
	}()
	for w.clock.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	w.clock.Advance(2 * time.Minute)
	told = append(told, <-tell)
	cancel()
	if err := <-ended; err != nil {
		w.t.Error(err)
	}
	return told
}

func TestTrial_ConfirmedStays(t *testing.T) {
	w := newWorld(t)
	w.want("at first", old, old)
	w.begin()
	w.tell(w.ofChange("", 14))
	w.want("confirmed", newer, newer)
	w.tell(is("aa", "10.1.0.0/16", 15))
	w.want("changed later", strings.Replace(newer, "fd00::/8", "10.1.0.0/16", 1), strings.Replace(newer, "fd00::/8", "10.1.0.0/16", 1))
}

// TestTrial_ObjectsBeforeTheChange: with a watch of each kind they may come
// first.
func TestTrial_ObjectsBeforeTheChange(t *testing.T) {
	w := newWorld(t)
	w.tell(is("aa", "fd00::/8", 11), is("cc", "", 13))
	w.tell(w.ofChange(api.ChangePending, 10))
	w.tell(is("bb", "10.2.0.0/16", 12))
	w.want("on trial", newer, old)
}

func TestTrial_GoesBackWithoutTheStore(t *testing.T) {
	w := newWorld(t)
	w.begin()
	if told := w.expire(); len(told) != 1 || told[0] != change+": "+ReasonTimeout {
		t.Errorf("the store is told %q", told)
	}
	w.want("over", old, old)
	w.tell(is("zz", "10.8.0.0/16", 15), is("aa", "fd01::/16", 16))
	w.want("others go on", strings.Replace(old, "10.9", "10.8", 1), strings.Replace(old, "10.9", "10.8", 1))

	// The agent starts anew, and the store still has not gone back.
	w.restart()
	w.tell(w.ofChange(api.ChangePending, 10), is("aa", "fd01::/16", 16), is("bb", "10.2.0.0/16", 12), is("cc", "", 13))
	w.sync()
	w.want("started anew", strings.Replace(old, "10.9", "10.8", 1), strings.Replace(old, "10.9", "10.8", 1))

	// It was confirmed after all, by who did not know.
	w.tell(w.ofChange("", 30))
	now := "aa=fd01::/16 bb=10.2.0.0/16 zz=10.8.0.0/16"
	w.want("confirmed late", now, now)
}

// TestTrial_NoFlashOfTheNewWhenTheStoreHasGoneBack: the word that it has may
// come before the objects.
func TestTrial_NoFlashOfTheNewWhenTheStoreHasGoneBack(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.tell(w.ofChange(api.ChangeRollingBack, 19))
	w.want("going back", old, old)
	w.tell(w.ofChange(api.ChangeRolledBack, 23))
	w.want("the store has gone back, the objects have not come", old, old)
	w.tell(is("cc", "10.3.0.0/16", 20))
	w.tell(is("bb", "", 21))
	w.want("two of three", old, old)
	if len(w.f.Open()) != 1 {
		t.Error("it is over too early")
	}
	w.tell(is("aa", "10.0.0.0/8", 22))
	w.want("all are there", old, old)
	if got := w.f.Open(); len(got) != 0 {
		t.Errorf("still open: %+v", got)
	}
	w.tell(is("aa", "10.7.0.0/16", 25))
	w.want("free again", strings.Replace(old, "10.0.0.0/8", "10.7.0.0/16", 1), strings.Replace(old, "10.0.0.0/8", "10.7.0.0/16", 1))
}

// TestTrial_AListingAfterTheRollbackEndsIt: an agent that was away finds the
// store as it was before.
func TestTrial_AListingAfterTheRollbackEndsIt(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.expire()
	w.restart()
	w.tell(w.ofChange(api.ChangeRolledBack, 23), is("aa", "10.0.0.0/8", 22), is("cc", "10.3.0.0/16", 20)) // bb never was, for this agent
	w.want("before the listing is whole", old, old)
	w.sync()
	w.want("after it", old, old)
	if got := w.f.Open(); len(got) != 0 {
		t.Errorf("still open: %+v", got)
	}
}

// TestTrial_ARestartGoesOn: with time left the new values are tried on, and
// what was confirmed while no agent ran is confirmed.
func TestTrial_ARestartGoesOn(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.clock.Advance(50 * time.Second)
	w.restart()
	w.want("before the store answers", old, old)
	w.tell(w.ofChange(api.ChangePending, 10), is("aa", "fd00::/8", 11), is("bb", "10.2.0.0/16", 12), is("cc", "", 13))
	w.sync()
	w.want("goes on", newer, old)
	if got := w.f.Open()[0].Until.Sub(w.clock.Now()); got != 10*time.Second {
		t.Errorf("%v are left, want 10 s", got)
	}
	w.restart()
	w.tell(is("aa", "fd00::/8", 11), is("bb", "10.2.0.0/16", 12), is("cc", "", 13))
	w.sync()
	w.want("confirmed meanwhile", newer, newer)
}

func TestTrial_AClockThatWentBackEndsIt(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.clock.Set(w.clock.Now().Add(-time.Hour))
	w.restart()
	if got := w.f.Open()[0].Until.Sub(w.clock.Now()); got > 0 {
		t.Errorf("%v are left, want none", got)
	}
}

func TestTrial_AProbeGoesBackOnce(t *testing.T) {
	w := newWorld(t)
	w.begin()
	for i, want := range []bool{true, false} {
		if went, err := w.f.Back(t.Context(), change, "cannot reach 192.0.2.1"); went != want || err != nil {
			t.Errorf("call %d: %v, %v", i, went, err)
		}
	}
	w.want("after the probe", old, old)
	if got := w.f.Open()[0]; !got.WentBack || got.Reason != "cannot reach 192.0.2.1" {
		t.Errorf("got %+v", got)
	}
	if went, err := w.f.Back(t.Context(), "no such", ""); went || err != nil {
		t.Errorf("a change that is not: %v, %v", went, err)
	}
}

// TestTrial_DamagedFile: the store tells which changes there are.
func TestTrial_DamagedFile(t *testing.T) {
	w := newWorld(t)
	w.begin()
	if err := os.WriteFile(filepath.Join(w.dir, fileName), []byte(`[{"change":`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.tell(w.ofChange(api.ChangePending, 10), is("aa", "fd00::/8", 11), is("bb", "10.2.0.0/16", 12), is("cc", "", 13))
	w.sync()
	w.want("goes on", newer, old)
}

// TestTrial_AnyOrderOfEvents: whatever comes first of what two watches tell,
// and wherever the agent is killed, what is saved is always the old or, once
// the change is confirmed, the new, and in the end both are.
func TestTrial_AnyOrderOfEvents(t *testing.T) {
	type step struct {
		name string
		ev   func(*world) api.Event
	}
	change := func(p api.ChangePhase, rev api.Revision) func(*world) api.Event {
		return func(w *world) api.Event { return w.ofChange(p, rev) }
	}
	set := func(name, net string, rev api.Revision) func(*world) api.Event {
		return func(*world) api.Event { return is(name, net, rev) }
	}
	sets := []step{{"aa", set("aa", "fd00::/8", 11)}, {"bb", set("bb", "10.2.0.0/16", 12)}, {"cc", set("cc", "", 13)}}
	undone := []step{{"cc back", set("cc", "10.3.0.0/16", 20)}, {"bb gone", set("bb", "", 21)}, {"aa back", set("aa", "10.0.0.0/8", 22)}}
	n := 0
	for _, end := range []struct {
		changes, sets []step
		want          string
	}{
		{[]step{{"pending", change(api.ChangePending, 10)}, {"confirmed", change("", 14)}}, sets, newer},
		{[]step{{"pending", change(api.ChangePending, 10)}, {"rolling", change(api.ChangeRollingBack, 19)}, {"rolled", change(api.ChangeRolledBack, 23)}}, append(slices.Clone(sets), undone...), old},
	} {
		var walk func(path []step, a, b []step)
		walk = func(path []step, a, b []step) {
			if len(a) == 0 && len(b) == 0 {
				for kill := -1; kill < len(path); kill++ {
					n++
					w := newWorld(t)
					var names []string
					for i, s := range path {
						names = append(names, s.name)
						w.tell(s.ev(w))
						if got := w.saved.String(); s.name == "pending" && got != old {
							t.Errorf("%q: saved %s", names, got)
						}
						if i == kill { // the store tells all that is, anew
							w.restart()
							// A listing is of one revision, whatever the watches have told.
							all, at := map[api.Key]api.Event{}, api.Revision(0)
							for _, s := range path[:i+1] {
								at = max(at, s.ev(w).Revision)
							}
							for _, s := range path {
								if ev := s.ev(w); ev.Revision <= at {
									all[ev.Key] = ev
								}
							}
							for k, ev := range all {
								if k.Kind == api.KindChange && ev.Object != nil {
									w.tell(ev) // of changes first
								}
							}
							for k, ev := range all {
								if k.Kind != api.KindChange {
									w.tell(ev)
								}
							}
							w.sync()
						}
					}
					if w.enforced.String() != end.want || w.saved.String() != end.want {
						t.Fatalf("%q, killed after %d: enforced %s, saved %s, want %s", names, kill, w.enforced, w.saved, end.want)
					}
				}
				return
			}
			if len(a) > 0 {
				walk(append(slices.Clone(path), a[0]), a[1:], b)
			}
			if len(b) > 0 {
				walk(append(slices.Clone(path), b[0]), a, b[1:])
			}
		}
		walk(nil, end.changes, end.sets)
	}
	t.Logf("%d orders of events, with and without a kill", n)
}

// FuzzParse: whatever is on disk, it is read or refused, and no change gets
// more time than it had.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"change":{"metadata":{"name":"x"},"spec":{"timeout":"1m"}},"saved":"2001-09-09T01:46:40Z","until":"2001-09-09T01:47:40Z"}]`))
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, data []byte) {
		opens, err := parse(data, now)
		if err != nil {
			return
		}
		for _, o := range opens {
			if left := o.deadline.Sub(now); left > max(0, o.change.Spec.Timeout.Duration) {
				t.Errorf("%v are left of %v", left, o.change.Spec.Timeout)
			}
		}
	})
}
