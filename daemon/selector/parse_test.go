// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"errors"
	"strings"
	"testing"
)

// TestParse_Accepts also pins the canonical text of every form.
func TestParse_Accepts(t *testing.T) {
	long := strings.Repeat("x", MaxLabelLength)
	for _, c := range []struct{ in, want string }{
		{"", `all()`},
		{" \t ", `all()`},
		{"all()", `all()`},
		{"all( )", `all()`},
		{"all(\t)", `all()`},
		{"global()", `global()`},
		{"global( )", `global()`},
		{"has(a)", `has(a)`},
		{"has( a )", `has(a)`},
		{"! has(a)", `!has(a)`},
		{"!!has(a)", `has(a)`},
		{"! ! !has(a)", `!has(a)`},
		{"!(!(a == 'x'))", `a == "x"`},
		{"!a == 'x'", `!a == "x"`},
		{"!a != 'x'", `!a != "x"`},
		{"!(a == 'x')", `!a == "x"`},
		{"((a == 'x'))", `a == "x"`},
		{"( ( a=='x' ) )", `a == "x"`},
		{"a=='x'", `a == "x"`},
		{"\ta\t==\t'x'\t", `a == "x"`},
		{`a == ""`, `a == ""`},
		{`a!="x"`, `a != "x"`},
		{"a in {}", `a in {}`},
		{"a in { }", `a in {}`},
		{"a in {'x',}", `a in {"x"}`},
		{"a in {'x', }", `a in {"x"}`},
		{"a in{'x'}", `a in {"x"}`},
		{"a in {'z','x' , \"y\",'x'}", `a in {"x", "y", "z"}`},
		{"a not in{'x'}", `a not in {"x"}`},
		{"a notin{'x'}", `a not in {"x"}`},
		{"a  not   in {'x'}", `a not in {"x"}`},
		{"a not\tin {}", `a not in {}`},
		{"a contains'x'", `a contains "x"`},
		{"a starts  with 'x'", `a starts with "x"`},
		{"a startswith'x'", `a starts with "x"`},
		{`a ends with "x"`, `a ends with "x"`},
		{`a endswith "x"`, `a ends with "x"`},
		{"in == 'x'", `in == "x"`},
		{"has == 'x'", `has == "x"`},
		{"all == 'x'", `all == "x"`},
		{"global in {'x'}", `global in {"x"}`},
		{"contains contains 'x'", `contains contains "x"`},
		{"starts starts with 'x'", `starts starts with "x"`},
		{"not not in {'x'}", `not not in {"x"}`},
		{"not in {'x'}", `not in {"x"}`},
		{"in in {'x'}", `in in {"x"}`},
		{"notin notin {'x'}", `notin not in {"x"}`},
		{"has(has)", `has(has)`},
		{"has(in)", `has(in)`},
		{"1 == 'x'", `1 == "x"`},
		{"-a == 'x'", `-a == "x"`},
		{".a == 'x'", `.a == "x"`},
		{"/ == 'x'", `/ == "x"`},
		{"a/b/c == 'x'", `a/b/c == "x"`},
		{"A_b-c.d/E9 == 'x'", `A_b-c.d/E9 == "x"`},
		{long + " == 'x'", long + ` == "x"`},
		{"has(" + long + ")", "has(" + long + ")"},
		{"a == 'grün \u2603'", "a == \"grün \u2603\""},
		{`a == "it's"`, `a == "it's"`},
		{`a == 'say "x"'`, `a == 'say "x"'`},
		{`a in {'"', "'"}`, `a in {'"', "'"}`},
		{`a == '\'`, `a == "\"`},
		{`a == "\n"`, `a == "\n"`},
		{"a == 'two\nlines'", "a == \"two\nlines\""},
		{"a == '&& || ! ( ) {'", `a == "&& || ! ( ) {"`},
		{"a == 'x' && b == 'y'", `(a == "x" && b == "y")`},
		{"a=='x'&&b=='y'&&has(c)", `(a == "x" && b == "y" && has(c))`},
		{"a == 'x' || b == 'y'", `(a == "x" || b == "y")`},
		{"a == 'x' || b == 'y' && has(c)", `(a == "x" || (b == "y" && has(c)))`},
		{"(a == 'x' || b == 'y') && has(c)", `((a == "x" || b == "y") && has(c))`},
		{"(has(a) && has(b)) && has(c)", `((has(a) && has(b)) && has(c))`},
		{"!(has(a) && has(b))", `!(has(a) && has(b))`},
		{"!has(a) && has(b)", `(!has(a) && has(b))`},
		{"all() && !global()", `(all() && !global())`},
		{"all()&&all()", `(all() && all())`},
	} {
		sel, err := Parse(c.in)
		if err != nil {
			t.Errorf("Parse(%.60q): got error %v, want %q", c.in, err, c.want)
			continue
		}
		if got := sel.String(); got != c.want {
			t.Errorf("Parse(%.60q).String(): got %q, want %q", c.in, got, c.want)
		}
		again, err := Parse(sel.String())
		if err != nil || again.String() != sel.String() {
			t.Errorf("Parse(%q) of canonical text: got %v, error %v", sel.String(), again, err)
		}
	}
}

func TestParse_Refuses(t *testing.T) {
	long := strings.Repeat("x", MaxLabelLength+1)
	for _, c := range []struct {
		in     string
		offset int
		want   string
	}{
		{"all ()", 3, "there must be no space between all and ("},
		{"global ()", 6, "there must be no space between global and ("},
		{"has (a)", 3, "there must be no space between has and ("},
		{"has()", 4, "has() needs a label"},
		{"has( )", 5, "has() needs a label"},
		{"has('a')", 4, "a label is not quoted; write has(label)"},
		{"has(a", 5, "has(a is not closed; ) is missing"},
		{"has(a b)", 6, "has() takes one label and nothing else"},
		{"has(a:b)", 5, `":" cannot be part of a label; a label has only letters, digits and _ . / -`},
		{"all(a)", 4, "all() takes nothing between its parentheses"},
		{"all(", 4, "all() takes nothing between its parentheses"},
		{"()", 0, "() contains no condition; did you mean all()"},
		{"all()all()", 5, `"all" follows a complete condition; && or || is missing before it`},
		{"Has(a)", 0, "Has( is not a function; did you mean has("},
		{"any(a)", 0, "any( is not a function; there are has(label), all() and global()"},
		{"not(a == 'x')", 0, "not does not negate; did you mean !"},
		{"not has(a)", 0, "not does not negate; did you mean !"},
		{"NOT a == 'x'", 0, "NOT does not negate; did you mean !"},
		{"a in {'x' 'y'}", 10, `a comma is missing between the values of the set, before "'"`},
		{"a in 'x'", 5, "in needs a set; did you mean {'...'}, or == for one value"},
		{"a in ('x')", 5, "( does not begin a set; a set is written {'a', 'b'}"},
		{"a in ['x']", 5, "[ does not begin a set; a set is written {'a', 'b'}"},
		{"a in", 4, "a set such as {'a', 'b'} is missing before the end"},
		{"a in {", 5, "{ is never closed"},
		{"a in {'x'", 5, "{ is never closed"},
		{"a in {'x", 6, "' is never closed"},
		{"a in {,}", 6, `a value in quotes is missing before ","`},
		{"a in {x}", 6, "value x must be in quotes: 'x'"},
		{"a has 'x'", 2, "has is not an operator; did you mean has(label), or contains"},
		{"a like 'x'", 2, `"like" is not an operator; there are ==, !=, in, not in, contains, starts with, ends with`},
		{"a IN {'x'}", 2, "operators are in lower case; did you mean in"},
		{"a not contains 'x'", 2, "not is only an operator together with in; to negate another condition put ! before the label"},
		{"a starts 'x'", 2, "starts is only an operator together with with: starts with"},
		{"a inx {'x'}", 2, `"inx" is not an operator; there are ==, !=, in, not in, contains, starts with, ends with`},
		{"ain{'x'}", 3, "an operator is missing before {; did you mean in"},
		{"a equals 'x'", 2, "equals is not an operator; did you mean =="},
		{`"a" == 'x'`, 0, "a label is not quoted; only values are, as in label == 'value'"},
		{"a == b", 5, "value b must be in quotes: 'b'"},
		{"a == 'x", 5, "' is never closed"},
		{`a == "x'`, 5, `" is never closed`},
		{"a ==", 4, "a value in quotes is missing at the end"},
		{"a === 'x'", 4, "too many =; the operator is =="},
		{"a == {'x'}", 5, "this operator takes one value; did you mean in or not in"},
		{"a = 'x'", 2, "= is not an operator; did you mean =="},
		{"a ! = 'x'", 2, "! is not an operator after a label; did you mean !="},
		{"a =~ 'x'", 2, "there are no regular expressions; did you mean contains, starts with or ends with"},
		{"a < '3'", 2, "< is not an operator; values are not compared by size (there are ==, !=, in, not in, contains, starts with, ends with)"},
		{"a: 'x'", 1, ": cannot be part of a label, and is not an operator; did you mean =="},
		{"a:b == 'x'", 1, ": cannot be part of a label, and is not an operator; did you mean =="},
		{"a 'x'", 2, "an operator is missing before the value; did you mean =="},
		{"a", 1, "label a has no operator after it; did you mean has(a)"},
		{"a && b == 'x'", 2, "label a has no operator after it; did you mean has(a)"},
		{"(a)", 2, "label a has no operator after it; did you mean has(a)"},
		{"a and has(b)", 2, "label a has no operator after it; did you mean has(a), and && for and"},
		{"has(a) & has(b)", 7, "& is not an operator; did you mean &&"},
		{"has(a) | has(b)", 7, "| is not an operator; did you mean ||"},
		{"has(a) && & has(b)", 10, "a condition is missing before &"},
		{"has(a) AND has(b)", 7, `"AND" is not an operator; did you mean &&`},
		{"has(a) or has(b)", 7, `"or" is not an operator; did you mean ||`},
		{"has(a), has(b)", 6, ", does not join conditions; did you mean &&"},
		{"has(a) &&", 9, "a condition is missing at the end"},
		{"&& has(a)", 0, "a condition is missing before &"},
		{"(has(a) &&", 10, "a condition is missing at the end, and ( is not closed"},
		{"(has(a)", 0, "( is never closed"},
		{"has(a))", 6, ") closes nothing"},
		{")", 0, "a condition is missing before )"},
		{"!", 1, "a condition is missing at the end"},
		{"== 'x'", 0, "a label is missing before the operator"},
		{"!= 'x'", 0, "a label is missing before the operator"},
		{"has(a)\n&& has(b)", 6, "a selector must be on one line; only space and tab may stand between words"},
		{"\r", 0, "a selector must be on one line; only space and tab may stand between words"},
		{"a ==\u00a0'x'", 4, `'\u00a0' is not allowed; only space and tab may stand between words`},
		{"a\v== 'x'", 1, `'\v' is not allowed; only space and tab may stand between words`},
		{"grün == 'x'", 2, `"ü" cannot be part of a label, and is not an operator; a label has only letters, digits and _ . / -`},
		{"über == 'x'", 0, `"ü" cannot begin a condition; a label has only letters, digits and _ . / -`},
		{"a == \u201cx\u201d", 5, "\u201c is not a quotation mark here; use \" or '"},
		{`a == 'it\'s'`, 10, `"s" follows a complete condition; && or || is missing before it`},
		{`a == "x""y"`, 8, "a value follows a value; a quotation mark ends the value and cannot be escaped"},
		{long + " == 'x'", 0, "label of 513 characters is too long; at most 512 are allowed"},
		{"has(" + long + ")", 4, "label of 513 characters is too long; at most 512 are allowed"},
		{strings.Repeat(" ", MaxLength+1), 0, "1048577 bytes are too long; at most 1048576 are allowed"},
		{strings.Repeat("(", 300) + "all()" + strings.Repeat(")", 300), 200, "parentheses are nested deeper than 200"},
		{strings.Repeat("(all()||all()&&", 150) + "all()" + strings.Repeat(")", 150), 743, "conditions are nested deeper than 200"},
	} {
		sel, err := Parse(c.in)
		var se *SyntaxError
		if !errors.As(err, &se) {
			t.Errorf("Parse(%.60q): got %.60v, error %v; want a *SyntaxError", c.in, sel, err)
			continue
		}
		if se.Message != c.want || se.Offset != c.offset || se.Input != c.in {
			t.Errorf("Parse(%.60q): got offset %d %q, want offset %d %q", c.in, se.Offset, se.Message, c.offset, c.want)
		}
	}
}

func TestSyntaxError_ErrorIsOneReadableLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a = 'x'", `selector "a = 'x'": character 3: = is not an operator; did you mean ==`},
		{"ü", `selector "ü": character 1: "ü" cannot begin a condition; a label has only letters, digits and _ . / -`},
		{"a == 'ü' & b", `selector "a == 'ü' & b": character 10: & is not an operator; did you mean &&`},
		{"has(a)\n", `selector "has(a)\n": character 7: a selector must be on one line; only space and tab may stand between words`},
		{
			strings.Repeat("has(x) && ", 20) + "b = 'c'" + strings.Repeat(" && has(y)", 20),
			`selector ..."s(x) && has(x) && has(x) && has(x) && b = 'c' && has(y) && has(y) && has(y) && h"...: character 203: = is not an operator; did you mean ==`,
		},
	} {
		_, err := Parse(c.in)
		if err == nil || err.Error() != c.want {
			t.Errorf("Parse(%.60q): got error\n\t%v\nwant\n\t%s", c.in, err, c.want)
		}
	}
}

func TestParse_LimitOfCanonicalText(t *testing.T) {
	// The text is within the limit, its canonical form is not.
	in := strings.Repeat("a==''&&", MaxLength/7-1) + "all()"
	if len(in) > MaxLength {
		t.Fatalf("input of %d bytes is itself too long", len(in))
	}
	if _, err := Parse(in); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("Parse of %d bytes: got error %v, want too long", len(in), err)
	}
	in = in[:MaxLength/2-3*7-(MaxLength/2)%7] + "all()"
	sel, err := Parse(in)
	if err != nil {
		t.Fatalf("Parse of %d bytes: %v", len(in), err)
	}
	if _, err := Parse(sel.String()); err != nil {
		t.Errorf("Parse of the canonical text of %d bytes: %v", len(sel.String()), err)
	}
}

func TestParse_DepthWithinLimitPrintsAndParsesAgain(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("(", MaxDepth) + "all()" + strings.Repeat(")", MaxDepth),
		strings.Repeat("(all()||all()&&", MaxDepth/2-1) + "all()" + strings.Repeat(")", MaxDepth/2-1),
		strings.Repeat("!(", MaxDepth) + "all()" + strings.Repeat(")", MaxDepth),
		strings.Repeat("!", 100_001) + "all()",
	} {
		sel, err := Parse(in)
		if err != nil {
			t.Errorf("Parse(%.40q...): %v", in, err)
			continue
		}
		again, err := Parse(sel.String())
		if err != nil || !again.Equal(sel) {
			t.Errorf("Parse(%.40q...).String() parsed again: got %.60v, error %v", in, again, err)
		}
	}
}
