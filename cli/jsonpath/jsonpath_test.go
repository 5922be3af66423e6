// SPDX-License-Identifier: Apache-2.0

package jsonpath

import (
	"encoding/json"
	"strings"
	"testing"
)

const sample = `{
 "kind": "List",
 "items": [
  {"metadata": {"name": "a", "annotations": {"projectcalico.org/x": "1"}}, "spec": {"order": 10, "nets": ["10.0.0.0/8", "fd00::/8"], "log": true}},
  {"metadata": {"name": "b"}, "spec": {"order": 9.5, "selector": "all()", "nets": []}},
  {"metadata": {"name": "c"}, "spec": {"order": 2, "rules": [{"action": "Deny", "ports": [1, 2]}, {"action": "Allow"}]}}
 ]
}`

func decoded(t testing.TB) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(sample))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTemplate_PrintsAsKubectlDoes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"{.kind}", "List"},
		{"{$.kind}-{@.kind}", "List-List"},
		{"plain", "plain"},
		{`{.items[*].metadata.name}`, "a b c"},
		{`{.items[0].metadata.name}{"\t"}{.items[-1].metadata.name}{"\n"}`, "a\tc\n"},
		{`{range .items[*]}{.metadata.name}={.spec.order}{"\n"}{end}`, "a=10\nb=9.5\nc=2\n"},
		{`{range .items[*]}{.metadata.name}:{range .spec.nets[*]} {@}{end};{end}`, "a: 10.0.0.0/8 fd00::/8;b:;c:;"},
		{`{.items[0].metadata.annotations.projectcalico\.org/x}`, "1"},
		{`{.items[0].metadata.annotations['projectcalico.org/x']}`, "1"},
		{`{.items[0:2].metadata.name}`, "a b"},
		{`{.items[::2].metadata.name}`, "a c"},
		{`{.items[-2:].metadata.name}`, "b c"},
		{`{.items[0,2].metadata.name}`, "a c"},
		{`{.items[*]['metadata','spec']['name','order']}`, "a 10 b 9.5 c 2"},
		{`{.items[?(@.spec.order>9.6)].metadata.name}`, "a"},
		{`{.items[?(@.spec.order>=2)].metadata.name}`, "a b c"},
		{`{.items[?(@.metadata.name!="b")].metadata.name}`, "a c"},
		{`{.items[?(@.metadata.name=='b')].spec.selector}`, "all()"},
		{`{.items[?(@.spec.log==true)].metadata.name}`, "a"},
		{`{.items[?(@.spec.rules)].metadata.name}`, "c"},
		{`{.items[2].spec.rules[?(@.action=="Deny")].ports}`, "[1,2]"},
		{`{..action}`, "Deny Allow"},
		{`{..ports[1]}`, "2"},
		{`{.items[1].spec}`, `{"nets":[],"order":9.5,"selector":"all()"}`},
		{`{.items[0].nothing.there}`, ""},
		{`{.items[9].metadata.name}`, ""},
		{`{.kind} {'it''s'}`, "List its"},
	} {
		tmpl, err := Parse(c.text)
		if err != nil {
			t.Errorf("Parse(%s): %v", c.text, err)
			continue
		}
		if got := tmpl.Execute(decoded(t)); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestParse_FaultsSayWhere(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"{.kind", "at byte 6: the brace is not closed"},
		{"{range .items[*]}x", "range without {end}"},
		{"x{end}", "end without range"},
		{"{range}{end}", "want {range PATH}"},
		{"{.items[}", "want a number"},
		{"{.items[1", "want ] or a comma"},
		{"{.items[0:3:0]}", "1 or more"},
		{"{.items[?(@.a~1)]}", "want a comparison"},
		{"{.items[?(1)]}", "no filter"},
		{"{.}{..}", "a name is missing"},
		{`{"x}`, "the quote is not closed"},
		{"{nonsense}", "want a path like"},
	} {
		if _, err := Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse(%q): got %v, want %q in it", c.text, err, c.want)
		}
	}
}

func TestPath_IsReadWithAndWithoutBraces(t *testing.T) {
	for _, text := range []string{"{.kind}", ".kind", "kind", "$.kind"} {
		p, err := ParsePath(text)
		if err != nil {
			t.Errorf("ParsePath(%q): %v", text, err)
			continue
		}
		if got := p.Find(decoded(t)); len(got) != 1 || got[0] != "List" {
			t.Errorf("%q finds %v", text, got)
		}
	}
	for _, text := range []string{"", "{}", ".kind x", "{.a}{.b}", "a b"} {
		if _, err := ParsePath(text); err == nil {
			t.Errorf("ParsePath(%q) is no error", text)
		}
	}
}

func TestCompare_NumbersBySize(t *testing.T) {
	for _, c := range []struct {
		a, b any
		want int
	}{
		{json.Number("9"), json.Number("10"), -1}, {"9", "10", 1}, {"a", "a", 0}, {json.Number("1e6"), json.Number("1000000"), 0},
		{nil, "a", -1}, {true, false, 1},
	} {
		if got := Compare(c.a, c.b); got != c.want {
			t.Errorf("Compare(%v, %v): got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"{.a}", "{range .a[*]}{end}", "{.a[?(@.b==1)]}", `{"\n"}`, "{..a[1:2:3]}"} {
		f.Add(s)
	}
	v := decoded(f)
	f.Fuzz(func(t *testing.T, s string) {
		if tmpl, err := Parse(s); err == nil {
			_ = tmpl.Execute(v)
		}
	})
}
