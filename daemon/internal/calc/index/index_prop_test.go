// SPDX-License-Identifier: Apache-2.0

package index

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/selector"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests (0: a new one)")

// newRand says its seed, so that a failure can be repeated with -seed.
func newRand(t testing.TB) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func randomSelector(r *rand.Rand, depth int) string {
	label := func() string { return pick(r, "a", "b", "c", "d") }
	value := func() string { return pick(r, "'x'", "'y'", "'z'") }
	n := 15
	if depth == 0 {
		n = 10
	}
	switch r.IntN(n) {
	case 0:
		return "has(" + label() + ")"
	case 1, 2, 3, 4:
		return label() + " == " + value()
	case 5:
		return label() + " != " + value()
	case 6, 7:
		return label() + pick(r, " in ", " not in ") + pick(r, "{}", "{'x','y'}", "{'z'}", "{'y','z','none'}")
	case 8:
		return label() + " contains " + value()
	case 9:
		return pick(r, "all()", "!has("+label()+")", "!all()")
	case 10:
		return "!(" + randomSelector(r, depth-1) + ")"
	case 11:
		return "(" + randomSelector(r, depth-1) + " || " + randomSelector(r, depth-1) + ")"
	default:
		return "(" + randomSelector(r, depth-1) + " && " + randomSelector(r, depth-1) + ")"
	}
}

func randomLabels(r *rand.Rand) map[string]string {
	m := map[string]string{}
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		if r.IntN(2) == 0 {
			m[k] = pick(r, "x", "y", "z", "xy")
		}
	}
	return m
}

type match struct{ sel, item string }

type modelItem struct {
	labels  map[string]string
	parents []string
}

// A model knows everything and decides everything anew each time.
type model struct {
	sels    map[string]*selector.Selector
	items   map[string]modelItem
	parents map[string]map[string]string
}

func (m *model) matches() map[match]bool {
	all := map[match]bool{}
	for id, it := range m.items {
		labels := selector.Map{}
		for i := len(it.parents) - 1; i >= 0; i-- {
			maps.Copy(labels, m.parents[it.parents[i]])
		}
		maps.Copy(labels, it.labels)
		for s, sel := range m.sels {
			if sel.Evaluate(labels) {
				all[match{s, id}] = true
			}
		}
	}
	return all
}

// step makes one random change to the model and returns it as a call.
func (m *model) step(r *rand.Rand, t *testing.T) (func(*Index[string, string]), string) {
	item, sel, parent := fmt.Sprint("i", r.IntN(12)), fmt.Sprint("s", r.IntN(12)), fmt.Sprint("p", r.IntN(4))
	switch r.IntN(12) {
	case 0, 1:
		text := randomSelector(r, 3)
		s := parse(t, text)
		m.sels[sel] = s
		return func(x *Index[string, string]) { x.SetSelector(sel, s) }, "SetSelector " + sel + " " + text
	case 2:
		delete(m.sels, sel)
		return func(x *Index[string, string]) { x.DeleteSelector(sel) }, "DeleteSelector " + sel
	case 3, 4, 5:
		it := modelItem{labels: randomLabels(r)}
		for range r.IntN(4) {
			it.parents = append(it.parents, fmt.Sprint("p", r.IntN(4)))
		}
		m.items[item] = it
		return func(x *Index[string, string]) { x.SetItem(item, it.labels, it.parents) }, fmt.Sprint("SetItem ", item, it)
	case 6, 7:
		// One label only.
		it := modelItem{labels: maps.Clone(m.items[item].labels), parents: m.items[item].parents}
		if it.labels == nil {
			it.labels = map[string]string{}
		}
		k := pick(r, "a", "b", "c", "d")
		if _, ok := it.labels[k]; ok && r.IntN(2) == 0 {
			delete(it.labels, k)
		} else {
			it.labels[k] = pick(r, "x", "y", "z")
		}
		m.items[item] = it
		return func(x *Index[string, string]) { x.SetItem(item, it.labels, it.parents) }, fmt.Sprint("SetItem ", item, it)
	case 8:
		delete(m.items, item)
		return func(x *Index[string, string]) { x.DeleteItem(item) }, "DeleteItem " + item
	case 9, 10:
		l := randomLabels(r)
		m.parents[parent] = l
		return func(x *Index[string, string]) { x.SetParent(parent, l) }, fmt.Sprint("SetParent ", parent, l)
	default:
		delete(m.parents, parent)
		return func(x *Index[string, string]) { x.DeleteParent(parent) }, "DeleteParent " + parent
	}
}

func TestIndex_AgreesWithModel(t *testing.T) {
	r := newRand(t)
	runs := 150
	if testing.Short() {
		runs = 15
	}
	transitions := 0
	for range runs {
		m := &model{map[string]*selector.Selector{}, map[string]modelItem{}, map[string]map[string]string{}}
		got := map[match]bool{}
		said := 0
		var step string
		x := New(func(sel, item string, matches bool) {
			said++
			if got[match{sel, item}] == matches {
				t.Fatalf("after %s: told %s %s %v again", step, sel, item, matches)
			}
			if matches {
				got[match{sel, item}] = true
			} else {
				delete(got, match{sel, item})
			}
		})
		for range 200 {
			var do func(*Index[string, string])
			do, step = m.step(r, t)
			do(x)
			if diff := cmp.Diff(m.matches(), got); diff != "" {
				t.Fatalf("matches after %s (-want +got):\n%s", step, diff)
			}
			transitions += said
			said = 0
			evaluations := x.Stats().Evaluations
			do(x)
			if said != 0 || x.Stats().Evaluations != evaluations {
				t.Fatalf("%s a second time: told %d transitions, tried %d times; want none", step, said, x.Stats().Evaluations-evaluations)
			}
			for it := range m.items {
				for s := range x.Matching(it) {
					if !got[match{s, it}] || !x.Matches(s, it) {
						t.Fatalf("after %s: Matching(%s) yields %s; Matches: %v", step, it, s, x.Matches(s, it))
					}
				}
			}
			checkCore(t, &x.core)
		}
		// The same state built in another order tells the same.
		again := map[match]bool{}
		y := New(func(sel, item string, matches bool) {
			if matches {
				again[match{sel, item}] = true
			} else {
				delete(again, match{sel, item})
			}
		})
		var calls []func()
		for id, s := range m.sels {
			calls = append(calls, func() { y.SetSelector(id, s) })
		}
		for id, it := range m.items {
			calls = append(calls, func() { y.SetItem(id, it.labels, it.parents) })
		}
		for id, l := range m.parents {
			calls = append(calls, func() { y.SetParent(id, l) })
		}
		r.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
		for _, call := range calls {
			call()
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("matches of the same state built in another order (-first +second):\n%s", diff)
		}
		for i := range 12 {
			x.DeleteItem(fmt.Sprint("i", i))
			x.DeleteSelector(fmt.Sprint("s", i))
			x.DeleteParent(fmt.Sprint("p", i))
		}
		if len(got) != 0 {
			t.Fatalf("after everything was deleted: %v still match", got)
		}
		checkEmpty(t, x)
	}
	if transitions < runs*100 {
		t.Errorf("only %d transitions in %d runs; the test no longer tests much", transitions, runs)
	}
}
