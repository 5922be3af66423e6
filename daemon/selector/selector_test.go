// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, s string) *Selector {
	t.Helper()
	sel, err := Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return sel
}

func TestEvaluate_EachForm(t *testing.T) {
	m := Map{"a": "xyz", "empty": ""}
	for _, c := range []struct {
		in   string
		want bool
	}{
		{"", true},
		{"all()", true},
		{"global()", true},
		{"!all()", false},
		{"a == 'xyz'", true},
		{"a == 'xy'", false},
		{"none == ''", false},
		{"empty == ''", true},
		{"a != 'xyz'", false},
		{"a != 'q'", true},
		{"none != 'q'", true},
		{"none != ''", true},
		{"empty != ''", false},
		{"a in {'q', 'xyz'}", true},
		{"a in {'q'}", false},
		{"a in {}", false},
		{"none in {''}", false},
		{"a not in {'q', 'xyz'}", false},
		{"a not in {'q'}", true},
		{"a not in {}", true},
		{"none not in {}", true},
		{"none not in {'q'}", true},
		{"a contains 'y'", true},
		{"a contains ''", true},
		{"a contains 'q'", false},
		{"none contains ''", false},
		{"a starts with 'xy'", true},
		{"a starts with 'y'", false},
		{"none starts with ''", false},
		{"a ends with 'yz'", true},
		{"a ends with 'y'", false},
		{"none ends with ''", false},
		{"has(a)", true},
		{"has(empty)", true},
		{"has(none)", false},
		{"!has(none)", true},
		{"a == 'xyz' || none == 'q' && none == 'q'", true},
		{"(a == 'xyz' || none == 'q') && none == 'q'", false},
		{"!has(none) && has(none)", false},
		{"!(has(none) && has(none))", true},
	} {
		if got := mustParse(t, c.in).Evaluate(m); got != c.want {
			t.Errorf("Parse(%q).Evaluate(%v): got %v, want %v", c.in, m, got, c.want)
		}
	}
}

var large = "role == 'r17' && env in {'dev', 'prod', 'test'} && !has(quarantine) && (zone starts with 'eu-' || zone contains 'x' || tier != 'db' && !(owner ends with 'ops'))"

func TestEvaluate_DoesNotAllocate(t *testing.T) {
	sel := mustParse(t, large)
	var l Labels = Map{"role": "r17", "env": "test", "zone": "us-1", "owner": "devops", "tier": "web"}
	matched := true
	if n := testing.AllocsPerRun(1000, func() { matched = matched && !sel.Evaluate(l) }); n != 0 {
		t.Errorf("Evaluate: got %v allocations, want 0", n)
	}
	if !matched {
		t.Errorf("Parse(%q).Evaluate(%v): got true, want false", large, l)
	}
}

func TestBuild_Text(t *testing.T) {
	x := mustParse(t, "x == '1' || all()")
	for _, c := range []struct {
		name string
		got  *Selector
		want string
	}{
		{"All", All(), `all()`},
		{"And of none", And(), `all()`},
		{"And of one", And(x), `(x == "1" || all())`},
		{"And of two", And(x, Has("y")), `((x == "1" || all()) && has(y))`},
		{"Not", Not(x), `!(x == "1" || all())`},
		{"Not of Not", Not(Not(x)), `(x == "1" || all())`},
		{"Equal", Equal("a", "b"), `a == "b"`},
		{"Equal with a double quote", Equal("a", `"`), `a == '"'`},
		{"Equal with both quotes matches nothing", Equal("a", `"'`), `a in {}`},
		{"Equal of a label that cannot be", Equal("a b", "x"), `!all()`},
		{"Equal of no label", Equal("", "x"), `!all()`},
		{"Has", Has("a"), `has(a)`},
		{"Has of a label that cannot be", Has("a)||has(b"), `!all()`},
		{"In", In("a", "y", "x", "y"), `a in {"x", "y"}`},
		{"In of none", In("a"), `a in {}`},
		{"In drops what cannot be", In("a", `'"`, "x"), `a in {"x"}`},
		{"In of a label that cannot be", In("ä", "x"), `!all()`},
		{"PrefixLabels", mustParse(t, large).PrefixLabels("pcns."),
			`(pcns.role == "r17" && pcns.env in {"dev", "prod", "test"} && !has(pcns.quarantine) && (pcns.zone starts with "eu-" || pcns.zone contains "x" || (pcns.tier != "db" && !pcns.owner ends with "ops")))`},
		{"Replace all", x.Replace(Has("ns"), nil), `(x == "1" || has(ns))`},
		{"Replace keeps", x.Replace(nil, Has("ns")), `(x == "1" || all())`},
		{"Replace global", mustParse(t, "!global() && all()").Replace(nil, Not(Has("ns"))), `(has(ns) && all())`},
	} {
		if got := c.got.String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if got, want := x.String(), `(x == "1" || all())`; got != want {
		t.Errorf("the selector others were built from: got %s, want %s", got, want)
	}
}

func TestIn_DoesNotTouchItsArguments(t *testing.T) {
	values := []string{"z", `'"`, "a"}
	In("l", values...)
	if diff := cmp.Diff([]string{"z", `'"`, "a"}, values); diff != "" {
		t.Errorf("arguments after In (-before +after):\n%s", diff)
	}
}

func TestUsesGlobal(t *testing.T) {
	for in, want := range map[string]bool{"": false, "all()": false, "global == 'x'": false, "a == 'global()'": false,
		"global()": true, "a == 'x' || !(has(b) && global( ))": true} {
		if got := mustParse(t, in).UsesGlobal(); got != want {
			t.Errorf("Parse(%q).UsesGlobal(): got %v, want %v", in, got, want)
		}
	}
}

func TestLabels_SortedAndEachOnce(t *testing.T) {
	got := mustParse(t, "z == 'x' && (has(a) || !b in {} || a != 'q') && all()").Labels()
	if diff := cmp.Diff([]string{"a", "b", "z"}, got); diff != "" {
		t.Errorf("Labels (-want +got):\n%s", diff)
	}
	if got := All().Labels(); len(got) != 0 {
		t.Errorf("All().Labels(): got %q, want none", got)
	}
}

func TestID_StableAndSafeInNames(t *testing.T) {
	// Pinned: a change of the hash would rename every set on every host.
	if got, want := mustParse(t, "role=='web'").ID(), "snm3vqhpxwodifmzkvxaj"; got != want {
		t.Errorf("ID: got %q, want %q", got, want)
	}
	safe := regexp.MustCompile(`^s[a-z2-7]{20}$`)
	seen := map[string]string{}
	for _, in := range []string{"", "global()", "a == 'x'", "a != 'x'", "a in {'x'}", "a == 'y'", "b == 'x'", large} {
		sel := mustParse(t, in)
		if !safe.MatchString(sel.ID()) {
			t.Errorf("Parse(%q).ID(): got %q, want it to match %s", in, sel.ID(), safe)
		}
		if other, ok := seen[sel.ID()]; ok {
			t.Errorf("ID of %q and %q: both %s", in, other, sel.ID())
		}
		seen[sel.ID()] = in
	}
	if a, b := mustParse(t, "a in {'x','y'}"), mustParse(t, "(a  in {\"y\",'x',})"); a.ID() != b.ID() || !a.Equal(b) {
		t.Errorf("ID of two spellings: got %s and %s", a.ID(), b.ID())
	}
}

func TestEqual_OfNil(t *testing.T) {
	var none *Selector
	if !none.Equal(nil) || none.Equal(All()) || All().Equal(none) {
		t.Errorf("Equal of nil: got %v %v %v, want true false false", none.Equal(nil), none.Equal(All()), All().Equal(none))
	}
}

func TestRestrictions(t *testing.T) {
	never := []Restriction{{Values: []string{}}}
	for _, c := range []struct {
		in   string
		want []Restriction
	}{
		{"", nil},
		{"all()", nil},
		{"global()", nil},
		{"!all()", never},
		{"has(a)", []Restriction{{Label: "a"}}},
		{"!has(a)", nil},
		{"a == 'x'", []Restriction{{Label: "a", Values: []string{"x"}}}},
		{"!a == 'x'", nil},
		{"a != 'x'", nil},
		{"!a != 'x'", []Restriction{{Label: "a", Values: []string{"x"}}}},
		{"a in {'y', 'x'}", []Restriction{{Label: "a", Values: []string{"x", "y"}}}},
		{"a in {}", never},
		{"a not in {'x'}", nil},
		{"!a not in {'x'}", []Restriction{{Label: "a", Values: []string{"x"}}}},
		{"!a not in {}", never},
		{"a contains 'x'", []Restriction{{Label: "a"}}},
		{"!a starts with 'x'", nil},
		{"b == 'x' && a == 'y'", []Restriction{{Label: "a", Values: []string{"y"}}, {Label: "b", Values: []string{"x"}}}},
		{"a == 'x' && has(a)", []Restriction{{Label: "a", Values: []string{"x"}}}},
		{"has(a) && a == 'x'", []Restriction{{Label: "a", Values: []string{"x"}}}},
		{"a == 'x' && a == 'y'", never},
		{"a in {'x', 'y', 'z'} && a in {'w', 'y', 'z'}", []Restriction{{Label: "a", Values: []string{"y", "z"}}}},
		{"a == 'y' || a == 'x'", []Restriction{{Label: "a", Values: []string{"x", "y"}}}},
		{"a == 'x' || has(a)", []Restriction{{Label: "a"}}},
		{"a == 'x' || b == 'y'", nil},
		{"a == 'x' || all()", nil},
		{"a == 'x' || !all()", []Restriction{{Label: "a", Values: []string{"x"}}}},
		{"!all() || a in {}", never},
		{"a == 'x' && b == 'y' || a == 'z' && has(c)", []Restriction{{Label: "a", Values: []string{"x", "z"}}}},
		{"!(a != 'x' || b != 'y')", []Restriction{{Label: "a", Values: []string{"x"}}, {Label: "b", Values: []string{"y"}}}},
		{"!(a != 'x' && a != 'y')", []Restriction{{Label: "a", Values: []string{"x", "y"}}}},
	} {
		if diff := cmp.Diff(c.want, mustParse(t, c.in).Restrictions()); diff != "" {
			t.Errorf("Parse(%q).Restrictions() (-want +got):\n%s", c.in, diff)
		}
	}
}

func TestRestrictions_OfManyValuesAreBounded(t *testing.T) {
	var many, same []string
	for i := range 3 * MaxRestrictionValues {
		many = append(many, fmt.Sprintf("a == 'v%d'", i))
		same = append(same, fmt.Sprintf("a == 'v%d'", i%7))
	}
	got := mustParse(t, strings.Join(many, "||")).Restrictions()
	if diff := cmp.Diff([]Restriction{{Label: "a"}}, got); diff != "" {
		t.Errorf("Restrictions of many values (-want +got):\n%s", diff)
	}
	got = mustParse(t, strings.Join(same, "||")).Restrictions()
	if diff := cmp.Diff([]Restriction{{Label: "a", Values: []string{"v0", "v1", "v2", "v3", "v4", "v5", "v6"}}}, got); diff != "" {
		t.Errorf("Restrictions of few values many times (-want +got):\n%s", diff)
	}
	sel := In("a", strings.Split(strings.Repeat("x", MaxRestrictionValues), "")...)
	if got := sel.Restrictions(); len(got) != 1 || len(got[0].Values) != 1 {
		t.Errorf("Restrictions of one value many times: got %v", got)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	sel := mustParse(b, large)
	var l Labels = Map{"role": "r17", "env": "test", "zone": "us-1", "owner": "devops", "tier": "web"}
	b.ReportAllocs()
	for b.Loop() {
		sel.Evaluate(l)
	}
}

func BenchmarkParse(b *testing.B) {
	b.SetBytes(int64(len(large)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(large); err != nil {
			b.Fatal(err)
		}
	}
}
