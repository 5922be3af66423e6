// SPDX-License-Identifier: Apache-2.0

package change_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/store"
)

// A program is what one program does with the store. It is run call by call:
// in every order of the calls of two programs, with each of them cut off after
// every number of calls.
type program struct {
	name string
	run  func(ctx context.Context, s store.Store) error
}

// gated is a Store of which each call waits for its turn.
type gated struct {
	store.Store
	arrived, turn chan struct{}
}

func (g *gated) wait() { g.arrived <- struct{}{}; <-g.turn }

func (g *gated) Get(ctx context.Context, k api.Key) (api.Object, error) {
	g.wait()
	return g.Store.Get(ctx, k)
}

func (g *gated) List(ctx context.Context, k api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	g.wait()
	return g.Store.List(ctx, k, o)
}

func (g *gated) Put(ctx context.Context, o api.Object, c store.If) (api.Revision, error) {
	g.wait()
	return g.Store.Put(ctx, o, c)
}

func (g *gated) Delete(ctx context.Context, k api.Key, c store.If) error {
	g.wait()
	return g.Store.Delete(ctx, k, c)
}

// running is a program that is run call by call.
type running struct {
	*gated
	done chan error
	over bool
	err  error
}

func begin(ctx context.Context, p program, s store.Store) *running {
	r := &running{gated: &gated{s, make(chan struct{}), make(chan struct{})}, done: make(chan error, 1)}
	go func() { r.done <- p.run(ctx, r.gated) }()
	r.next()
	return r
}

// next waits until it is before its next call, or over.
func (r *running) next() {
	select {
	case <-r.arrived:
	case r.err = <-r.done:
		r.over = true
	}
}

// step lets it do one call.
func (r *running) step() {
	r.turn <- struct{}{}
	r.next()
}

// explore tries every schedule of two programs, each up to a cut, and calls
// check after each with both, where they stand still; check lets them run on.
// It returns the number of schedules.
func explore(t *testing.T, x, y program, check func(s store.Store, x, y *running, schedule string)) int {
	n := 0
	schedules := []string{""}
	for len(schedules) > 0 {
		schedule := schedules[0]
		schedules = schedules[1:]
		s, _ := before(t)
		p := map[byte]*running{'x': begin(t.Context(), x, s), 'y': begin(t.Context(), y, s)}
		for i := range len(schedule) {
			p[schedule[i]].step()
		}
		for _, who := range []byte{'x', 'y'} {
			if !p[who].over {
				schedules = append(schedules, schedule+string(who))
			}
		}
		check(s, p['x'], p['y'], schedule)
		for _, r := range p {
			for !r.over {
				r.step()
			}
		}
		n++
		if t.Failed() {
			return n
		}
	}
	return n
}

func TestExplore_WhoeverIsCutOffWhereverItEndsWhole(t *testing.T) {
	// The revisions that the writer has seen: those that before gives.
	_, at := before(t)
	// first is plan with its first objects only, so that there are not more
	// schedules than can be tried.
	first := func(n int) *api.Change {
		c := plan(t, "c")
		c.Spec.Objects = c.Spec.Objects[:n]
		return c
	}
	writer := program{"writer", func(ctx context.Context, s store.Store) error { return do(ctx, s, first(2), at) }}
	roller := program{"roller", func(ctx context.Context, s store.Store) error {
		_, err := change.RollBack(ctx, s, "c", "by the program")
		return err
	}}
	confirmer := program{"confirmer", func(ctx context.Context, s store.Store) error {
		_, err := change.Confirm(ctx, s, "c")
		return err
	}}
	// A change that is written whole first, and then comes the second program.
	written := func(p program, n int) program {
		return program{"written, then " + p.name, func(ctx context.Context, s store.Store) error {
			if err := do(ctx, s.(*gated).Store, first(n), at); err != nil && !errors.Is(err, store.ErrExists) {
				return err
			}
			return p.run(ctx, s)
		}}
	}
	for _, c := range []struct{ x, y program }{
		{writer, roller}, {writer, confirmer}, {written(roller, 1), roller}, {written(roller, 3), confirmer},
	} {
		t.Run(c.x.name+" beside "+c.y.name, func(t *testing.T) {
			outcomes := map[string]int{}
			n := explore(t, c.x, c.y, func(s store.Store, x, y *running, schedule string) {
				// Now somebody comes to roll back, as a server does that is
				// started anew; and only then those who stood still go on.
				end, err := change.RollBack(t.Context(), s, "c", "time")
				confirmed := false
				switch {
				case errors.Is(err, store.ErrNotFound):
					_, gone := s.Get(t.Context(), change.Key("c"))
					confirmed = objects(t, s) != "bbb" || gone != nil && y.over && y.err == nil && c.y.name == "confirmer"
				case err != nil || end.Status.Phase != api.ChangeRolledBack:
					t.Fatalf("%s: RollBack: %+v, %v", schedule, end, err)
				case objects(t, s) != "bbb":
					t.Fatalf("%s: rolled back: %s, want bbb", schedule, objects(t, s))
				}
				at := objects(t, s)
				for _, r := range []*running{x, y} {
					for !r.over {
						r.step()
					}
				}
				got := objects(t, s)
				now, err := change.Get(t.Context(), s, "c")
				switch {
				case confirmed && got != at:
					t.Fatalf("%s: a confirmed change was %s and is %s", schedule, at, got)
				case end != nil && got != "bbb":
					t.Fatalf("%s: a change that was undone is %s when all are done", schedule, got)
				case end != nil && (err != nil || now.Status.Phase != api.ChangeRolledBack):
					t.Fatalf("%s: at the end: %+v, %v", schedule, now, err)
				case errors.Is(err, store.ErrNotFound) && got == "bbb" && c.x.name != "writer":
					t.Fatalf("%s: the change is gone, nobody confirmed it, and it is undone", schedule)
				}
				outcomes[fmt.Sprint(confirmed, " ", got)]++
			})
			if n < 30 || len(outcomes) == 0 {
				t.Errorf("%d schedules, %v", n, outcomes)
			}
			t.Logf("%d schedules: %v", n, outcomes)
		})
	}
}
