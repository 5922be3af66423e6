// SPDX-License-Identifier: Apache-2.0

package reconciletest

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

var seed = flag.Uint64("seed", 0, "seed of random tests; 0: a new one each time")

// shelf is a world: names with values, and a door that must stay shut.
type shelf struct {
	items map[string]int
	open  bool
	k     *Killer
}

func (s *shelf) set(k string, v int) {
	s.items[k] = v
	s.k.Write()
}

func (s *shelf) remove(k string) {
	delete(s.items, k)
	s.k.Write()
}

// keeper is a right Part on a shelf; the flaws make it wrong.
type keeper struct {
	s      *shelf
	want   map[string]int
	opens  bool // opens the door while it works
	trusts bool // believes what it has once seen
	seen   map[string]int
}

func (p *keeper) Name() string         { return "keeper" }
func (p *keeper) Want(k string, v int) { p.want[k] = v }
func (p *keeper) Unwant(k string)      { delete(p.want, k) }
func (p *keeper) Resync() {
	if !p.trusts {
		p.seen = nil
	}
}

func (p *keeper) Reconcile(context.Context) (time.Duration, error) {
	if p.seen == nil || !p.trusts {
		p.seen = maps.Clone(p.s.items)
	}
	if p.opens && !maps.Equal(p.seen, p.want) {
		p.s.open = true
		defer func() { p.s.open = false }()
	}
	for k, v := range p.want {
		if have, ok := p.seen[k]; !ok || have != v {
			p.s.set(k, v)
			p.seen[k] = v
		}
	}
	for k := range maps.Clone(p.seen) {
		if _, ok := p.want[k]; !ok {
			p.s.remove(k)
			delete(p.seen, k)
		}
	}
	return 0, nil
}

// quiet is a testing.TB that notes failures instead of failing.
type quiet struct {
	testing.TB
	failed bool
}

func (q *quiet) Errorf(string, ...any) { q.failed = true }
func (q *quiet) Failed() bool          { return q.failed }
func (q *quiet) Helper()               {}

func subject(flaw func(*keeper)) Subject[*shelf] {
	want := map[string]int{"a": 1, "b": 2, "c": 3}
	return Subject[*shelf]{
		World: func() *shelf { return &shelf{items: map[string]int{"b": 9, "old": 1, "older": 2}} },
		Open: func(w *shelf, k *Killer) reconcile.Part {
			w.k = k
			p := &keeper{s: w, want: maps.Clone(want)}
			if flaw != nil {
				flaw(p)
			}
			return p
		},
		Check: func(w *shelf) error {
			if !maps.Equal(w.items, want) {
				return fmt.Errorf("holds %v, want %v", w.items, want)
			}
			return nil
		},
		Safe: func(w *shelf) error {
			if w.open {
				return fmt.Errorf("the door is open")
			}
			return nil
		},
	}
}

func TestCrash_KillsAtEveryWrite(t *testing.T) {
	if kills := Crash(t, subject(nil)); kills != 5 {
		t.Errorf("Crash killed %d times, want 5: once for each write", kills)
	}
}

func TestCrash_FindsAPartThatOpens(t *testing.T) {
	q := &quiet{TB: t}
	Crash(q, subject(func(p *keeper) { p.opens = true }))
	if !q.failed {
		t.Error("Crash passed a Part that opens the door")
	}
}

func TestCrash_FindsAPartThatDoesNotHeal(t *testing.T) {
	q := &quiet{TB: t}
	Crash(q, subject(func(p *keeper) { p.trusts, p.seen = true, map[string]int{"a": 1} }))
	if !q.failed {
		t.Error("Crash passed a Part that believes what it has not seen")
	}
}

func TestOrders_PassesARightPartAndFindsAWrongOne(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d (-seed=%d repeats it)", s, s)
	found := false
	for round := range 50 {
		for _, wrong := range []bool{false, true} {
			w := &shelf{items: map[string]int{}, k: &Killer{}}
			q := &quiet{TB: t}
			Orders(q, rand.New(rand.NewPCG(s, uint64(round))), 100, []string{"a", "b", "c", "d"}, []int{1, 2, 3},
				func() Wanted[string, int] {
					p := &keeper{s: w, want: map[string]int{}}
					if wrong {
						p.trusts, p.seen = true, map[string]int{}
					}
					return p
				},
				func(final map[string]int) error {
					if !maps.Equal(w.items, final) {
						return fmt.Errorf("holds %v, want %v", w.items, final)
					}
					return nil
				})
			if q.failed && !wrong {
				t.Fatalf("round %d: a right Part was found wrong", round)
			}
			found = found || q.failed
		}
	}
	if !found {
		t.Error("50 stories did not find a Part that forgets what it left behind when started anew")
	}
}
