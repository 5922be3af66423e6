// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
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

// randomText writes a random valid selector with random spelling.
func randomText(r *rand.Rand, depth int) string {
	ws := func() string { return pick(r, "", "", " ", "\t", "  ") }
	sp := func() string { return pick(r, " ", "\t", "  ") }
	label := func() string { return pick(r, "a", "b", "c", "in", "not", "has", "a/b.c-d_e", "1") }
	val := func() string { return pick(r, `'x'`, `"x"`, `'y'`, `""`, `'xy'`, `"it's"`, `'"'`, `'ü&&'`) }
	n := 13
	if depth <= 0 {
		n = 9
	}
	switch r.IntN(n) {
	case 0:
		return "has(" + ws() + label() + ws() + ")"
	case 1, 2:
		return label() + ws() + "==" + ws() + val()
	case 3:
		return label() + ws() + "!=" + ws() + val()
	case 4, 5:
		var vs []string
		for range r.IntN(4) {
			vs = append(vs, ws()+val()+ws())
		}
		set := strings.Join(vs, ",")
		if len(vs) > 0 && r.IntN(3) == 0 {
			set += "," + ws()
		}
		return label() + sp() + pick(r, "in", "in", "notin", "not"+sp()+"in") + ws() + "{" + set + "}"
	case 6:
		return label() + sp() + pick(r, "contains", "startswith", "starts"+sp()+"with", "endswith", "ends"+sp()+"with") + ws() + val()
	case 7:
		return "all(" + ws() + ")"
	case 8:
		return "global(" + ws() + ")"
	case 9:
		return "!" + ws() + randomText(r, depth-1)
	case 10:
		return "(" + ws() + randomText(r, depth-1) + ws() + ")"
	default:
		s := randomText(r, depth-1)
		for range 1 + r.IntN(3) {
			s += ws() + pick(r, "&&", "||") + ws() + randomText(r, depth-1)
		}
		return s
	}
}

func randomLabels(r *rand.Rand) Map {
	m := Map{}
	for _, k := range []string{"a", "b", "c", "in", "not", "has", "a/b.c-d_e", "1"} {
		if r.IntN(2) == 0 {
			m[k] = pick(r, "x", "y", "", "xy", "yx", "it's", `"`, "ü&&")
		}
	}
	return m
}

// fulfils says whether the labels fulfil all restrictions.
func fulfils(m Map, rs []Restriction) bool {
	for _, r := range rs {
		v, ok := m[r.Label]
		if !ok {
			return false
		}
		in := r.Values == nil
		for _, want := range r.Values {
			in = in || v == want
		}
		if !in {
			return false
		}
	}
	return true
}

func checkText(t *testing.T, text string, maps []Map) {
	t.Helper()
	sel, err := Parse(text)
	_, valid := reference(text, nil)
	if (err == nil) != valid {
		t.Fatalf("Parse(%q): got error %v, reference says valid: %v", text, err, valid)
	}
	if err != nil {
		return
	}
	again, err := Parse(sel.String())
	if err != nil || again.String() != sel.String() || again.ID() != sel.ID() {
		t.Fatalf("Parse(%q) of the canonical text of %q: got %v, error %v", sel.String(), text, again, err)
	}
	rs := sel.Restrictions()
	for _, m := range maps {
		got := sel.Evaluate(m)
		want, _ := reference(text, m)
		if got != want || again.Evaluate(m) != want {
			t.Fatalf("Parse(%q).Evaluate(%v): got %v, after printing %v, want %v", text, m, got, again.Evaluate(m), want)
		}
		if got && !fulfils(m, rs) {
			t.Fatalf("Parse(%q) matches %v, which does not fulfil its restrictions %v", text, m, rs)
		}
		if not := Not(sel); not.Evaluate(m) == got {
			t.Fatalf("Not(%q).Evaluate(%v): got %v, as without", text, m, got)
		} else if !got && !fulfils(m, not.Restrictions()) {
			t.Fatalf("Not(%q) matches %v, which does not fulfil its restrictions %v", text, m, not.Restrictions())
		}
	}
}

func TestSelector_AgreesWithReference(t *testing.T) {
	r := newRand(t)
	n := 4_000
	if testing.Short() {
		n = 500
	}
	for range n {
		var maps []Map
		for range 10 {
			maps = append(maps, randomLabels(r))
		}
		text := randomText(r, 3)
		if _, valid := reference(text, nil); !valid {
			t.Fatalf("reference refuses %q", text)
		}
		checkText(t, text, maps)
		// A damaged text: both must say the same of it.
		i := r.IntN(len(text))
		checkText(t, text[:i]+pick(r, "", "", "(", "'", " ", "&", "!", "x", ",")+text[i+r.IntN(2):], maps)
	}
}

func TestSelector_RewritingAgreesWithRewrittenLabels(t *testing.T) {
	r := newRand(t)
	all, global := Has("ns"), Not(Has("ns"))
	for range 2_000 {
		text := randomText(r, 3)
		sel, err := Parse(text)
		if err != nil {
			t.Fatalf("Parse(%q): %v", text, err)
		}
		m := randomLabels(r)
		prefixed := Map{}
		for k, v := range m {
			prefixed["p."+k] = v
		}
		p := sel.PrefixLabels("p.")
		if p.Evaluate(prefixed) != sel.Evaluate(m) {
			t.Fatalf("Parse(%q).PrefixLabels(p.) = %q on %v: got %v, want %v", text, p, prefixed, p.Evaluate(prefixed), sel.Evaluate(m))
		}
		// With the namespace label there all() stays true and global()
		// becomes false; without it the other way round.
		re := sel.Replace(all, global)
		for _, in := range []bool{true, false} {
			want, _ := Parse(strings.NewReplacer("all()", map[bool]string{true: "all()", false: "!all()"}[in],
				"global()", map[bool]string{true: "!all()", false: "all()"}[in]).Replace(sel.String()))
			delete(m, "ns")
			if in {
				m["ns"] = ""
			}
			if re.Evaluate(m) != want.Evaluate(m) {
				t.Fatalf("Parse(%q).Replace = %q on %v: got %v, want %v", text, re, m, re.Evaluate(m), want.Evaluate(m))
			}
		}
		if re.UsesGlobal() {
			t.Fatalf("Parse(%q).Replace = %q still uses global()", text, re)
		}
		for _, s := range []*Selector{p, re, And(sel, p, re), Not(sel)} {
			if again, err := Parse(s.String()); err != nil || !again.Equal(s) {
				t.Fatalf("Parse(%q) of a built selector: got %v, error %v", s, again, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "all()", "a == 'x' && !has(b) || c in {'y',\"z\"}", "!(a not in {}) && (b starts  with 'x' || global( ))",
		"not not in {'x'}", "a contains'x'&&b endswith\"y\"", "a = b", "((", "a in {'x' 'y'}", "has (a)", "(a in{}))&&(global()", "!!!a!='x'",
	} {
		f.Add(s, uint64(1))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		if len(text) > 1024 {
			return
		}
		sel, err := Parse(text)
		if err != nil && strings.Contains(err.Error(), "nested deeper") {
			return
		}
		if err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Fatalf("Parse(%q): empty error", text)
		}
		r := rand.New(rand.NewPCG(seed, 2))
		maps := []Map{{}}
		if err == nil {
			values := []string{"", "x"}
			for _, q := range refString.FindAllString(sel.String(), -1) {
				v := q[1 : len(q)-1]
				values = append(values, v, v+"x", "x"+v)
			}
			for range 8 {
				m := Map{}
				for _, l := range sel.Labels() {
					if r.IntN(4) > 0 {
						m[l] = values[r.IntN(len(values))]
					}
				}
				maps = append(maps, m)
			}
		}
		checkText(t, text, maps)
	})
}
