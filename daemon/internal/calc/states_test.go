// SPDX-License-Identifier: Apache-2.0

package calc_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/calc/calctest"
)

var (
	update = flag.Bool("update", false, "rewrite what calc is to make of the states")
	seed   = flag.Uint64("seed", 0, "seed of random tests; 0: a new one")
)

// random prints its seed, so that a failure can be had again.
func random(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("run again with -seed %d", s)
	return rand.New(rand.NewPCG(s, 1))
}

func newGraph() *calc.Graph { return calc.New(calc.Default("h")) }

// fresh is what a new graph makes of a state.
func fresh(t testing.TB, objects map[api.Key]api.Object) (*calc.Graph, *calctest.Facts) {
	t.Helper()
	g, f := newGraph(), calctest.NewFacts()
	for _, ev := range calctest.Difference(nil, objects) {
		g.Note(ev)
	}
	g.Flush(f.Take)
	if err := f.End(); err != nil {
		t.Fatalf("fresh graph: %v", err)
	}
	return g, f
}

func lists(t testing.TB) []*calctest.List {
	t.Helper()
	lists, err := calctest.Load("testdata/states")
	if err != nil {
		t.Fatal(err)
	}
	if len(lists) < 30 {
		t.Fatalf("%d lists of states, want at least 30", len(lists))
	}
	return lists
}

// report is all that a graph tells: facts, and what status shows.
func report(g *calc.Graph, facts string) string {
	_, none := calc.New(calc.Default("h")), calctest.NewFacts()
	calc.New(calc.Default("h")).Flush(none.Take)
	var b strings.Builder
	b.WriteString(strings.Replace(facts, none.Text(), "", 1)) // the defaults need no telling
	for _, e := range g.Endpoints() {
		if len(e.Policies) > 0 {
			fmt.Fprintf(&b, "judged %s: %s\n", e.Name, strings.Join(e.Policies, " "))
		}
	}
	for _, f := range g.Faults() {
		fmt.Fprintf(&b, "fault %s: %s: %s\n", f.Object, f.Message, f.Effect)
	}
	for _, p := range g.NoEffect() {
		fmt.Fprintf(&b, "no effect %s\n", p)
	}
	if r := g.Reporting(); r != calc.Default("h").Reporting {
		fmt.Fprintf(&b, "reporting %+v\n", r)
	}
	return b.String()
}

// TestStates_AreAsWritten walks each list forward and compares each state
// with what is written beside it.
func TestStates_AreAsWritten(t *testing.T) {
	for _, l := range lists(t) {
		t.Run(l.Name, func(t *testing.T) {
			g, f := newGraph(), calctest.NewFacts()
			now := map[api.Key]api.Object{}
			got := map[string]string{}
			for _, s := range l.States {
				for _, ev := range calctest.Difference(now, s.Objects) {
					g.Note(ev)
				}
				now = s.Objects
				g.Flush(f.Take)
				if err := f.End(); err != nil {
					t.Errorf("state %s: %v", s.Name, err)
				}
				got[s.Name] = report(g, f.Text())
				if d := cmp.Diff(l.Want(s.Name), got[s.Name]); d != "" && !*update {
					t.Errorf("state %s: (-want +got)\n%s", s.Name, d)
				}
			}
			if *update {
				if err := l.Update(got); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestStates_DoNotDependOnTheWay walks each list in every way and manner: the
// facts of a state are always those of a fresh graph, no promise is broken on
// the way, and at the end nothing is left behind.
func TestStates_DoNotDependOnTheWay(t *testing.T) {
	r := random(t)
	walks := 0
	for _, l := range lists(t) {
		t.Run(l.Name, func(t *testing.T) {
			want := map[int]string{}
			_, nothing := fresh(t, nil)
			want[-1] = nothing.Text()
			forward := newGraph()
			facts, now := calctest.NewFacts(), map[api.Key]api.Object{}
			for i, s := range l.States {
				_, f := fresh(t, s.Objects)
				want[i] = f.Text()
				if l.Ordered {
					for _, ev := range calctest.Difference(now, s.Objects) {
						forward.Note(ev)
					}
					now = s.Objects
					forward.Flush(facts.Take)
					want[i] = facts.Text()
				}
			}
			for _, route := range calctest.Routes(l, r) {
				for _, m := range calctest.Manners() {
					walks++
					g := newGraph()
					f, err := calctest.Walk(g, l, route, m, r, want)
					if err != nil {
						t.Errorf("%s, %s: %v", route.Name, m.Name, err)
						continue
					}
					last := route.States[len(route.States)-1]
					if last < 0 || l.Ordered {
						continue
					}
					for k := range l.States[last].Objects {
						g.Note(api.Event{Key: k})
					}
					g.Flush(f.Take)
					if err := f.End(); err != nil {
						t.Errorf("%s, %s: clearing up: %v", route.Name, m.Name, err)
					}
					if d := cmp.Diff(want[-1], f.Text()); d != "" {
						t.Errorf("%s, %s: left behind: (-want +got)\n%s", route.Name, m.Name, d)
					}
					if s := g.Stats(); s != (calc.Stats{}) {
						t.Errorf("%s, %s: stats when nothing is left: %+v", route.Name, m.Name, s)
					}
				}
			}
		})
	}
	t.Logf("%d walks", walks)
}
