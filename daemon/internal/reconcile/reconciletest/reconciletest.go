// SPDX-License-Identifier: Apache-2.0

// Package reconciletest holds tests that every Part should pass: Crash kills
// it at each of its writes in turn, Orders tells it what is wanted in any
// order. Both work on a simulated piece of the host, the world, which is the
// test's own type and outlives the Part.
//
//	reconciletest.Crash(t, reconciletest.Subject[*table]{
//		World: func() *table { return tableWithYesterdaysRules() },
//		Open:  func(w *table, k *reconciletest.Killer) reconcile.Part { w.onWrite = k.Write; return newPart(w) },
//		Check: func(w *table) error { return w.equals(wanted) },
//		Safe:  func(w *table) error { return w.neverOpen() },
//	})
//
// It is a test room: only tests import it.
package reconciletest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// maxPasses is how often a Part is called to come to rest.
const maxPasses = 100

// killed is what a Killer panics with.
type killed struct{ write int }

// Killer counts a Part's writes and kills the Part at one of them. The world
// calls Write after each change that it has made.
type Killer struct {
	at     int // kill after this write; 0: never
	writes int
	after  func(write int)
}

// Write counts one change of the world and, if its turn has come, does not
// return.
func (k *Killer) Write() {
	k.writes++
	if k.after != nil {
		k.after(k.writes)
	}
	if k.writes == k.at {
		panic(killed{k.writes})
	}
}

// Writes is how many there were.
func (k *Killer) Writes() int { return k.writes }

// Subject is a Part under test in its world.
type Subject[W any] struct {
	// World makes the piece of the host as the Part finds it. Each call
	// gives a like one.
	World func() W
	// Open starts the Part on the world and tells it what is wanted. The
	// world must call k.Write after each change.
	Open func(w W, k *Killer) reconcile.Part
	// Check reports how the world differs from what is wanted.
	Check func(w W) error
	// Safe, if not nil, is asked after every write: it reports what must
	// never be, such as an open host.
	Safe func(w W) error
}

// Crash lets the Part come to rest undisturbed, and then again once for each
// write that this took, killed right after that write and started anew. Each
// time the world must end as wanted, be safe all the way, and stay untouched
// by one pass more. It returns the number of kills.
func Crash[W any](t testing.TB, s Subject[W]) (kills int) {
	t.Helper()
	for at := 0; ; at++ {
		w := s.World()
		unsafe := error(nil)
		k := &Killer{at: at, after: func(n int) {
			if s.Safe == nil || unsafe != nil {
				return
			}
			if err := s.Safe(w); err != nil {
				unsafe = fmt.Errorf("after write %d: %w", n, err)
			}
		}}
		died, err := settle(func() reconcile.Part { return s.Open(w, k) })
		if err != nil {
			t.Errorf("killed at write %d: %v", at, err)
			return kills
		}
		if at > 0 && !died {
			return kills // there is no such write
		}
		if died {
			kills++
			second := &Killer{after: k.after}
			if _, err := settle(func() reconcile.Part { return s.Open(w, second) }); err != nil {
				t.Errorf("killed at write %d and started anew: %v", at, err)
			}
		}
		if unsafe != nil {
			t.Errorf("killed at write %d: not safe: %v", at, unsafe)
		}
		if err := s.Check(w); err != nil {
			t.Errorf("killed at write %d: not healed: %v", at, err)
		}
		rest := &Killer{}
		if _, err := settle(func() reconcile.Part { return s.Open(w, rest) }); err != nil || rest.writes > 0 {
			t.Errorf("killed at write %d: started again when all was done, it wrote %d times (%v), want none", at, rest.writes, err)
		}
		if t.Failed() {
			return kills
		}
	}
}

// settle opens a Part and calls it until it rests. died: its Killer struck.
func settle(open func() reconcile.Part) (died bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(killed); !ok {
				panic(v)
			}
			died = true
		}
	}()
	return false, Settle(open())
}

// Settle calls a Part until a pass ends without error and asks for no other.
// It returns the last error if that takes more than a hundred passes.
func Settle(p reconcile.Part) error {
	var err error
	for range maxPasses {
		again, e := p.Reconcile(context.Background())
		if e == nil && again == 0 {
			return nil
		}
		err = e
	}
	if err == nil {
		return fmt.Errorf("%s: still asks for another pass after %d", p.Name(), maxPasses)
	}
	return fmt.Errorf("%s: still fails after %d passes: %w", p.Name(), maxPasses, err)
}

// Wanted is a Part that is told what is wanted.
type Wanted[K comparable, V any] interface {
	reconcile.Part
	reconcile.Wanter[K, V]
}

// Orders runs a Part through a random story: keys are wanted with one value
// or another, or unwanted, some of it twice; the Part is called, told to
// forget, or started anew at random points. In the end it is told the final
// state once more, in random order, and the world must be as check wants it,
// whatever came before. open starts a Part on the one world that the story
// plays in.
func Orders[K comparable, V any](t testing.TB, rng *rand.Rand, steps int, keys []K, values []V, open func() Wanted[K, V], check func(final map[K]V) error) {
	t.Helper()
	final := map[K]V{}
	p := open()
	tell := func(k K) {
		if v, ok := final[k]; ok {
			p.Want(k, v)
			return
		}
		p.Unwant(k)
	}
	for range steps {
		k := keys[rng.IntN(len(keys))]
		switch rng.IntN(8) {
		case 0, 1, 2:
			final[k] = values[rng.IntN(len(values))]
			tell(k)
		case 3:
			delete(final, k)
			tell(k)
		case 4:
			tell(k) // once more
		case 5:
			if _, err := p.Reconcile(context.Background()); err != nil {
				t.Logf("%s: %v", p.Name(), err)
			}
		case 6:
			p.Resync()
		case 7:
			if rng.IntN(4) > 0 {
				continue
			}
			p = open()
			for _, i := range rng.Perm(len(keys)) {
				if _, ok := final[keys[i]]; ok {
					tell(keys[i])
				}
			}
		}
	}
	for _, i := range rng.Perm(len(keys)) {
		tell(keys[i])
	}
	if err := Settle(p); err != nil {
		t.Errorf("%v", err)
	}
	if err := check(final); err != nil {
		t.Errorf("%s: after %d steps: %v", p.Name(), steps, err)
	}
}
