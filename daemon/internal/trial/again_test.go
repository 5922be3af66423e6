// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// flashes is a picture that counts how often a set had a value.
type flashes struct {
	picture
	name, net string
	n         int
}

func (f *flashes) Events(ctx context.Context, evs []api.Event) error {
	err := f.picture.Events(ctx, evs)
	if f.picture[key(f.name)] == f.net {
		f.n++
	}
	return err
}

// TestTrial_OverWhileNoAgentRan: the first that the next agent hears are the
// new values, and it never enforces them; the store is told.
func TestTrial_OverWhileNoAgentRan(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.clock.Advance(2 * time.Minute)
	saw := &flashes{picture: picture{}, name: "aa", net: "fd00::/8"}
	f := New(Config{Enforced: saw, Saved: w.saved, Dir: w.dir, Log: slog.New(slog.DiscardHandler), Clock: w.clock})
	if err := f.Events(t.Context(), []api.Event{w.ofChange(api.ChangePending, 10), is("aa", "fd00::/8", 11)}); err != nil {
		t.Fatal(err)
	}
	if err := f.Phase(t.Context(), syncer.InSync); err != nil {
		t.Fatal(err)
	}
	if saw.n != 0 {
		t.Error("the new value was enforced after its time")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan string, 1)
	ended := make(chan error)
	go func() {
		ended <- f.Run(ctx, func(_ context.Context, name, reason string) { told <- name + ": " + reason })
	}()
	select {
	case got := <-told:
		if got != change+": "+ReasonTimeout {
			t.Errorf("the store is told %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the store is not told")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// revisions is a Sink that knows at what revision each key was told last.
type revisions map[api.Key]api.Revision

func (r revisions) Phase(context.Context, syncer.Phase) error { return nil }
func (r revisions) Events(_ context.Context, evs []api.Event) error {
	for _, ev := range evs {
		r[ev.Key] = ev.Revision
	}
	return nil
}

// TestTrial_AnObjectThatIsNeverWrittenDoesNotLookNewer: a server that ends
// between a change and its objects leaves them at their old revisions. An agent
// that has saved higher ones would hold the store for one that went back in
// time.
func TestTrial_AnObjectThatIsNeverWrittenDoesNotLookNewer(t *testing.T) {
	saved := revisions{}
	w := newWorld(t)
	f := New(Config{Enforced: picture{}, Saved: saved, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Clock: w.clock})
	for _, ev := range []api.Event{is("aa", "10.0.0.0/8", 1), is("cc", "10.3.0.0/16", 2), w.ofChange(api.ChangePending, 10)} {
		if err := f.Events(t.Context(), []api.Event{ev}); err != nil {
			t.Fatal(err)
		}
	}
	for name, stored := range map[string]api.Revision{"aa": 1, "cc": 2} {
		if got := saved[key(name)]; got > stored {
			t.Errorf("%s is saved at revision %d, the store has it at %d", name, got, stored)
		}
	}
}

// TestTrial_TheNextChangeOfAnObjectIsHeldToo: the first was rolled back, and
// what it never came to write (bb) is still waited for.
func TestTrial_TheNextChangeOfAnObjectIsHeldToo(t *testing.T) {
	w := newWorld(t)
	w.tell(w.ofChange(api.ChangePending, 10))
	w.tell(is("aa", "fd00::/8", 11), is("cc", "", 13), w.ofChange(api.ChangeRolledBack, 23), is("cc", "10.3.0.0/16", 20), is("aa", "10.0.0.0/8", 22))
	next := w.ofChange(api.ChangePending, 30)
	c := api.Clone(next.Object).(*api.Change)
	c.Name = change + "2"
	next.Key.Name, next.Object = c.Name, c
	w.tell(next)
	w.tell(is("aa", "fd00::/8", 31), is("bb", "10.2.0.0/16", 32), is("cc", "", 33))
	w.want("the second is on trial", newer, old)
	if went, err := w.f.Back(t.Context(), c.Name, "a probe"); !went || err != nil {
		t.Errorf("it does not go back: %v, %v", went, err)
	}
	w.want("the second went back", old, old)
}

// TestTrial_AKindThatTheStreamDoesNotTellOfIsNotWaitedFor: an agent reads no
// roles.
func TestTrial_AKindThatTheStreamDoesNotTellOfIsNotWaitedFor(t *testing.T) {
	for _, kinds := range [][]api.Kind{nil, {api.KindChange, api.KindGlobalNetworkSet}} {
		w := newWorld(t)
		w.f.cfg.Kinds = kinds
		role := func(ev api.Event) api.Event {
			c := api.Clone(ev.Object).(*api.Change)
			c.Spec.Objects = append(c.Spec.Objects, api.ChangedObject{Kind: api.KindRole, Name: "r"})
			if c.Status.Objects != nil {
				c.Status.Objects = append(c.Status.Objects, api.ChangeResult{Revision: 19})
			}
			ev.Object = c
			return ev
		}
		w.tell(role(w.ofChange(api.ChangePending, 10)))
		w.tell(is("aa", "fd00::/8", 11), is("bb", "10.2.0.0/16", 12), is("cc", "", 13))
		w.tell(role(w.ofChange(api.ChangeRolledBack, 23)))
		w.tell(is("cc", "10.3.0.0/16", 20), is("bb", "", 21), is("aa", "10.0.0.0/8", 22))
		if got := len(w.f.Open()); (got != 0) != (kinds == nil) {
			t.Errorf("the stream tells of %v: %d are open", kinds, got)
		}
	}
}
