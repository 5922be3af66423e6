// SPDX-License-Identifier: Apache-2.0

package index

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/selector"
)

func parse(t testing.TB, s string) *selector.Selector {
	t.Helper()
	sel, err := selector.Parse(s)
	if err != nil {
		t.Fatalf("selector.Parse(%q): %v", s, err)
	}
	return sel
}

// A told is an index together with what it has told since the last call of take.
type told struct {
	*Index[string, string]
	said []string
}

func newTold() *told {
	x := &told{}
	x.Index = New(func(sel, item string, matches bool) {
		x.said = append(x.said, map[bool]string{true: "+", false: "-"}[matches]+sel+":"+item)
	})
	return x
}

// expect checks what was told, in any order: "+sel:item -sel:item".
func (x *told) expect(t *testing.T, after, want string) {
	t.Helper()
	slices.Sort(x.said)
	words := strings.Fields(want)
	slices.Sort(words)
	if got, want := strings.Join(x.said, " "), strings.Join(words, " "); got != want {
		t.Errorf("%s: told %q, want %q", after, got, want)
	}
	x.said = nil
}

func TestIndex_TellsTransitionsOnly(t *testing.T) {
	x := newTold()
	web, prod := parse(t, "role == 'web'"), parse(t, "env in {'prod', 'stage'}")
	l := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	x.SetSelector("web", web)
	x.expect(t, "selector without items", "")
	x.SetItem("h1", l("role", "web"), nil)
	x.expect(t, "item that matches", "+web:h1")
	x.SetItem("h1", l("role", "web"), nil)
	x.expect(t, "same item", "")
	x.SetItem("h2", l("role", "db"), nil)
	x.expect(t, "item that does not match", "")
	x.SetSelector("prod", prod)
	x.expect(t, "selector that matches nothing", "")
	x.SetItem("h1", l("role", "web", "env", "prod"), nil)
	x.expect(t, "label added", "+prod:h1")
	x.SetItem("h1", l("role", "web", "env", "stage", "other", "x"), nil)
	x.expect(t, "label changed that makes no difference", "")
	x.SetSelector("web", parse(t, "(role=='web')"))
	x.expect(t, "same selector spelt otherwise", "")
	x.SetSelector("web", parse(t, "role in {'web', 'db'}"))
	x.expect(t, "selector widened", "+web:h2")
	x.SetSelector("web", parse(t, "role != 'web'"))
	x.expect(t, "selector turned round", "-web:h1")
	x.SetSelector("web", parse(t, "!all()"))
	x.expect(t, "selector that cannot match", "-web:h2")
	x.SetSelector("web", selector.All())
	x.expect(t, "selector that always matches", "+web:h1 +web:h2")
	if !x.Matches("web", "h1") || x.Matches("prod", "h2") || x.Matches("none", "h1") || x.Matches("web", "none") {
		t.Errorf("Matches: got %v %v %v %v, want true false false false",
			x.Matches("web", "h1"), x.Matches("prod", "h2"), x.Matches("none", "h1"), x.Matches("web", "none"))
	}
	if diff := cmp.Diff([]string{"prod", "web"}, slices.Sorted(x.Matching("h1"))); diff != "" {
		t.Errorf("Matching(h1) (-want +got):\n%s", diff)
	}
	for s := range x.Matching("none") {
		t.Errorf("Matching of an unknown item: got %s", s)
	}
	x.DeleteItem("h1")
	x.expect(t, "item deleted", "-web:h1 -prod:h1")
	x.DeleteItem("h1")
	x.DeleteSelector("none")
	x.DeleteParent("none")
	x.expect(t, "unknown things deleted", "")
	x.SetItem("h1", l("env", "stage"), nil)
	x.expect(t, "item back", "+web:h1 +prod:h1")
	x.DeleteSelector("web")
	x.expect(t, "selector deleted", "-web:h1 -web:h2")
}

func TestIndex_InheritedLabels(t *testing.T) {
	x := newTold()
	x.SetSelector("a1", parse(t, "a == '1'"))
	x.SetSelector("a2", parse(t, "a == '2'"))
	x.SetSelector("noA", parse(t, "!has(a)"))
	x.SetItem("i", nil, []string{"p", "q", "p"})
	x.expect(t, "item whose parents are not known yet", "+noA:i")
	x.SetParent("q", map[string]string{"a": "2"})
	x.expect(t, "second parent has the label", "-noA:i +a2:i")
	x.SetParent("p", map[string]string{"a": "1", "b": "x"})
	x.expect(t, "first parent has it too", "-a2:i +a1:i")
	x.SetParent("p", map[string]string{"a": "1"})
	x.expect(t, "another label of the parent goes", "")
	x.SetItem("i", map[string]string{"a": "2"}, []string{"p", "q"})
	x.expect(t, "own label wins", "-a1:i +a2:i")
	x.SetParent("p", map[string]string{"a": "3"})
	x.expect(t, "change of a hidden label", "")
	x.SetItem("i", nil, []string{"q", "p"})
	x.expect(t, "own label replaced by the same one inherited", "")
	x.SetItem("i", nil, []string{"p", "q"})
	x.expect(t, "parents in another order", "-a2:i")
	x.DeleteParent("p")
	x.expect(t, "first parent gone", "+a2:i")
	x.DeleteParent("q")
	x.expect(t, "both gone", "-a2:i +noA:i")
	x.SetParent("q", map[string]string{"a": "1"})
	x.expect(t, "second is back", "-noA:i +a1:i")
	x.SetItem("i", nil, nil)
	x.expect(t, "item leaves its parents", "-a1:i +noA:i")
}

// What is tried must not grow with what cannot be touched.
func TestIndex_TriesOnlyWhatMayChange(t *testing.T) {
	x := New(func(int, int, bool) {})
	evaluations := func(f func()) uint64 {
		before := x.Stats().Evaluations
		f()
		return x.Stats().Evaluations - before
	}
	labels := func(i int, role string) map[string]string {
		return map[string]string{"role": role, "env": []string{"dev", "prod"}[i%2], "name": fmt.Sprint("n", i), "zone": "z"}
	}
	const items, sels, roles = 2000, 2000, 200
	cold := evaluations(func() {
		for i := range items {
			x.SetItem(i, labels(i, fmt.Sprint("r", i%roles)), []string{fmt.Sprint("ns", i%10)})
		}
		for s := range sels {
			x.SetSelector(s, parse(t, fmt.Sprintf("role == 'r%d' && env == 'prod' && tag != 't%d'", s%roles, s)))
		}
	})
	if per := cold / sels; per > items/roles {
		t.Errorf("adding a selector: tried %d items on average, want at most %d", per, items/roles)
	}
	for _, c := range []struct {
		name string
		most uint64
		do   func()
	}{
		{"label that nobody asks for", 0, func() {
			l := labels(0, "r0")
			l["zone"] = "y"
			x.SetItem(0, l, []string{"ns0"})
		}},
		{"label that few ask for", 2 * sels / roles, func() { x.SetItem(1, labels(1, "r7"), []string{"ns1"}) }},
		{"label that half of the selectors ask for", 2 * sels / roles, func() {
			l := labels(2, "r2")
			l["env"] = "prod"
			x.SetItem(2, l, []string{"ns2"})
		}},
		{"label that all ask for, on an item that few can match", 2 * sels / roles, func() {
			l := labels(3, "r3")
			l["tag"] = "x"
			x.SetItem(3, l, []string{"ns3"})
		}},
		{"parent's label that nobody asks for", 0, func() { x.SetParent("ns4", map[string]string{"pcns.x": "y"}) }},
		{"parent's label that all ask for", items / 10 * sels / roles, func() { x.SetParent("ns5", map[string]string{"tag": "y"}) }},
		{"new item", 2 * sels / roles, func() { x.SetItem(items, labels(1, "r9"), nil) }},
		{"new selector for a rare label", 1, func() { x.SetSelector(sels, parse(t, "name == 'n17' && env == 'prod'")) }},
		{"new selector for a label of nobody", 0, func() { x.SetSelector(sels+1, parse(t, "has(nobody) && env == 'prod'")) }},
		{"new selector for a parent's label", items / 10, func() { x.SetSelector(sels+2, parse(t, "pcns.x == 'y' && env == 'dev'")) }},
		{"own label that its parent gets too", 0, func() {
			x.SetItem(7, labels(7, "r7"), []string{"ns7"})
			x.SetParent("ns7", labels(7, "r7"))
		}},
		{"own labels give way to the same ones inherited", 0, func() { x.SetItem(7, nil, []string{"ns7"}) }},
		{"deleted item", 0, func() { x.DeleteItem(5) }},
		{"deleted selector", 0, func() { x.DeleteSelector(5) }},
	} {
		if got := evaluations(c.do); got > c.most {
			t.Errorf("%s: tried %d times, want at most %d", c.name, got, c.most)
		}
	}
}

// Selectors that come before the items must not all be filed in one place.
func TestIndex_SelectorsBeforeItems(t *testing.T) {
	x := New(func(int, int, bool) {})
	const sels, roles = 2000, 200
	for s := range sels {
		x.SetSelector(s, parse(t, fmt.Sprintf("env == 'prod' && role == 'r%d'", s%roles)))
	}
	for i := range 1000 {
		x.SetItem(i, map[string]string{"role": fmt.Sprint("r", i%roles), "env": "prod"}, nil)
	}
	if per := x.Stats().Evaluations / 1000; per > 4*sels/roles {
		t.Errorf("adding an item: tried %d selectors on average, want at most %d", per, 4*sels/roles)
	}
}

// An item may have a label under which many selectors are filed, of which few
// ask for the label that changes.
func TestIndex_CrowdedLabelDoesNotSlowOthers(t *testing.T) {
	x := New(func(int, int, bool) {})
	for i := range 2000 {
		x.SetItem(i, map[string]string{"tag": fmt.Sprint("t", i%2)}, nil)
	}
	for s := range 500 {
		x.SetSelector(s, parse(t, fmt.Sprintf("crowd == 'x' && tag == 't1' && name != 'n%d'", s)))
	}
	x.SetItem(0, map[string]string{"tag": "t0", "crowd": "x"}, nil)
	before := x.Stats().Evaluations
	x.SetItem(0, map[string]string{"tag": "t2", "crowd": "x"}, nil)
	if got := x.Stats().Evaluations - before; got != 0 {
		t.Errorf("label changed to a value nobody asks for: tried %d times, want none", got)
	}
	x.SetItem(0, map[string]string{"tag": "t1", "crowd": "x"}, nil)
	if got := x.Stats().Evaluations - before; got != 500 {
		t.Errorf("label changed to a value all ask for: tried %d times, want 500", got)
	}
}

func TestIndex_StatsAndNothingLeftBehind(t *testing.T) {
	x := New(func(int, int, bool) {})
	for i := range 10 {
		x.SetItem(i, map[string]string{"a": fmt.Sprint(i), "b": "same"}, []string{"p", fmt.Sprint("q", i)})
	}
	x.SetParent("p", map[string]string{"c": "inherited", "a": "x"})
	x.SetParent("lonely", map[string]string{"d": "1"})
	for i, s := range []string{"a == '1'", "has(zz)", "!has(b)", "a in {'1', '77'} && y contains 'q'", "!all()", "all()"} {
		x.SetSelector(i, parse(t, s))
	}
	got := x.Stats()
	want := Stats{Items: 10, Selectors: 6, Parents: 12, Unfiled: 2, Labels: 6, Values: 15, Evaluations: got.Evaluations}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
	for i := range 10 {
		x.DeleteItem(i)
		x.DeleteSelector(i)
	}
	x.DeleteParent("p")
	x.DeleteParent("lonely")
	checkEmpty(t, x)
}

func checkEmpty[S, I comparable](t *testing.T, x *Index[S, I]) {
	t.Helper()
	got := x.Stats()
	got.Evaluations = 0
	if diff := cmp.Diff(Stats{}, got); diff != "" {
		t.Errorf("Stats of an emptied index (-want +got):\n%s", diff)
	}
	c := &x.core
	if n := c.lists.len() + c.parents.len() + c.sels.len() + c.itemSlots.len() + len(c.labelNames); n != 0 {
		t.Errorf("an emptied index has %d things left", n)
	}
}

// checkCore checks that every list and every place in it agree.
func checkCore(t *testing.T, c *core) {
	t.Helper()
	entries, memberships, inLists := 0, 0, len(c.unfiled)
	for i, it := range c.items {
		if !slices.IsSortedFunc(it.own, compareEntries) || !slices.IsSorted(it.matches) {
			t.Fatalf("item %d is not sorted: %v %v", i, it.own, it.matches)
		}
		for _, e := range it.own {
			entries++
			if p := c.pairs.all[e.pair]; p.label != e.label || p.items[e.pos] != uint32(i) {
				t.Fatalf("item %d: %v points to %v", i, e, p)
			}
		}
		for _, l := range it.parents {
			if c.parents.all[l.parent].children[l.pos] != uint32(i) {
				t.Fatalf("item %d: link %v points to %v", i, l, c.parents.all[l.parent])
			}
		}
	}
	for i, p := range c.parents.all {
		for _, e := range p.own {
			if c.lists.all[c.pairs.all[e.pair].parents][e.pos] != uint32(i) {
				t.Fatalf("parent %d: %v points elsewhere", i, e)
			}
		}
	}
	for i, s := range c.sels.all {
		for _, m := range s.in {
			memberships++
			list := c.unfiled
			if n := c.list(m.kind, m.owner); n != nil {
				list = c.lists.all[*n]
			}
			if list[m.pos] != uint32(i) {
				t.Fatalf("selector %d: %v points elsewhere", i, m)
			}
		}
	}
	inPairs, inLabels := 0, 0
	for l := range maps.Values(c.labelNames) {
		at := c.labels.all[l]
		inLabels += at.items
		inLists += len(c.selectors(at.users)) + len(c.selectors(at.filed))
		if len(at.values) == 0 && at.users == 0 && at.filed == 0 {
			t.Fatalf("label %s is used by nobody", at.name)
		}
		for v, p := range at.values {
			pair := c.pairs.all[p]
			inPairs += len(pair.items)
			inLists += len(c.selectors(pair.users)) + len(c.selectors(pair.filed))
			if pair.value != v || pair.label != l || len(pair.items)+len(c.selectors(pair.parents)) == 0 && pair.users == 0 && pair.filed == 0 {
				t.Fatalf("value %s of label %s is used by nobody, or wrong: %v", v, at.name, pair)
			}
		}
	}
	if entries != inPairs || entries != inLabels || memberships != inLists {
		t.Fatalf("items have %d labels, values list %d, labels count %d; selectors are in %d lists, lists have %d",
			entries, inPairs, inLabels, memberships, inLists)
	}
}
