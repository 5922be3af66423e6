// SPDX-License-Identifier: Apache-2.0

package selector

import "fmt"

// A parser reads by recursive descent, straight from the bytes: what a word
// means depends on where it stands (`in in {'in'}` is a fine condition on a
// label called "in"), so a tokenizer of its own would only get in the way.
//
//	selector   = [ or ]                      blank: everything
//	or         = and { "||" and }
//	and        = unary { "&&" unary }
//	unary      = "!" unary | primary
//	primary    = "(" or ")" | "all(" ")" | "global(" ")" | "has(" label ")" | comparison
//	comparison = label ( "==" | "!=" | "contains" | "starts" "with" | "startswith"
//	                   | "ends" "with" | "endswith" ) string
//	           | label ( "in" | "not" "in" | "notin" ) set
//	set        = "{" [ string { "," string } [ "," ] ] "}"
//	string     = '"' { any but '"' } '"' | "'" { any but "'" } "'"
//	label      = 1 to 512 of [A-Za-z0-9_./-]
//
// Space and tab may stand between all of these, but not before the parenthesis
// of has(, all( and global(.
type parser struct {
	in    string
	pos   int
	depth int // open parentheses
}

func parse(s string) (*node, error) {
	p := &parser{in: s}
	if len(s) > MaxLength {
		return nil, p.errorAt(0, "%s", tooLong(len(s)))
	}
	p.blank()
	if p.end() {
		return allNode, nil
	}
	n, _, err := p.or()
	if err != nil {
		return nil, err
	}
	if !p.end() {
		return nil, p.afterCondition()
	}
	return n, nil
}

func tooLong(n int) string {
	return fmt.Sprintf("%d bytes are too long; at most %d are allowed", n, MaxLength)
}

func (p *parser) end() bool { return p.pos == len(p.in) }

// peek is the current byte; 0 at the end.
func (p *parser) peek() byte {
	if p.end() {
		return 0
	}
	return p.in[p.pos]
}

// has says whether the text goes on with s.
func (p *parser) has(s string) bool {
	rest := p.in[p.pos:]
	return len(rest) >= len(s) && rest[:len(s)] == s
}

func (p *parser) take(s string) bool {
	if !p.has(s) {
		return false
	}
	p.pos += len(s)
	return true
}

func (p *parser) blank() {
	for !p.end() && (p.in[p.pos] == ' ' || p.in[p.pos] == '\t') {
		p.pos++
	}
}

// word takes the longest run of label characters; it may be empty.
func (p *parser) word() string {
	start := p.pos
	for !p.end() && isLabelChar(p.in[p.pos]) {
		p.pos++
	}
	return p.in[start:p.pos]
}

// or, and, unary and primary return the condition and how deeply groups are
// nested in it, and leave the position after the blanks that follow.
func (p *parser) or() (*node, int, error)  { return p.group(opOr, p.and) }
func (p *parser) and() (*node, int, error) { return p.group(opAnd, p.unary) }

func (p *parser) group(o op, operand func() (*node, int, error)) (*node, int, error) {
	start := p.pos
	n, height, err := operand()
	if err != nil || !p.has(operatorText(o)) {
		return n, height, err
	}
	kids := []*node{n}
	for p.take(operatorText(o)) {
		p.blank()
		k, h, err := operand()
		if err != nil {
			return nil, 0, err
		}
		kids = append(kids, k)
		height = max(height, h)
	}
	if height++; height > MaxDepth {
		return nil, 0, p.errorAt(start, "conditions are nested deeper than %d", MaxDepth)
	}
	return newGroup(o, kids), height, nil
}

func (p *parser) unary() (*node, int, error) {
	negate := false
	for p.peek() == '!' && !p.has("!=") {
		p.pos++
		p.blank()
		negate = !negate
	}
	n, height, err := p.primary()
	if err == nil && negate {
		n = newNot(n)
	}
	return n, height, err
}

func (p *parser) primary() (*node, int, error) {
	if p.peek() == '(' {
		return p.parenthesis()
	}
	start := p.pos
	label := p.word()
	if label == "" {
		return nil, 0, p.noCondition()
	}
	if p.peek() == '(' {
		switch label {
		case "all", "global":
			p.pos++
			p.blank()
			if !p.take(")") {
				return nil, 0, p.errorHere("%s() takes nothing between its parentheses", label)
			}
			p.blank()
			if label == "all" {
				return allNode, 0, nil
			}
			return globalNode, 0, nil
		case "has":
			n, err := p.hasLabel()
			return n, 0, err
		}
	}
	if len(label) > MaxLabelLength {
		return nil, 0, p.errorAt(start, "label of %d characters is too long; at most %d are allowed", len(label), MaxLabelLength)
	}
	n, err := p.comparison(start, label)
	return n, 0, err
}

func (p *parser) parenthesis() (*node, int, error) {
	open := p.pos
	if p.depth++; p.depth > MaxDepth {
		return nil, 0, p.errorHere("parentheses are nested deeper than %d", MaxDepth)
	}
	p.pos++
	p.blank()
	if p.peek() == ')' {
		return nil, 0, p.errorAt(open, "() contains no condition; did you mean all()")
	}
	n, height, err := p.or()
	if err != nil {
		return nil, 0, err
	}
	if p.end() {
		return nil, 0, p.errorAt(open, "( is never closed")
	}
	if !p.take(")") {
		return nil, 0, p.afterCondition()
	}
	p.depth--
	p.blank()
	return n, height, nil
}

// hasLabel reads from the parenthesis of has( on.
func (p *parser) hasLabel() (*node, error) {
	p.pos++
	p.blank()
	start := p.pos
	label := p.word()
	if label == "" {
		return nil, p.noLabel()
	}
	if len(label) > MaxLabelLength {
		return nil, p.errorAt(start, "label of %d characters is too long; at most %d are allowed", len(label), MaxLabelLength)
	}
	p.blank()
	if !p.take(")") {
		return nil, p.afterHasLabel(label)
	}
	p.blank()
	return &node{op: opHas, label: label}, nil
}

// comparison reads what follows a label.
func (p *parser) comparison(start int, label string) (*node, error) {
	afterLabel := p.pos
	p.blank()
	o, err := p.operator(start, afterLabel, label)
	if err != nil {
		return nil, err
	}
	p.blank()
	n := &node{op: o, label: label}
	if o == opIn || o == opNotIn {
		n.values, err = p.set()
	} else {
		n.value, err = p.quoted()
	}
	if err != nil {
		return nil, err
	}
	p.blank()
	return n, nil
}

func (p *parser) operator(start, afterLabel int, label string) (op, error) {
	switch {
	case p.take("=="):
		return opEqual, nil
	case p.take("!="):
		return opNotEqual, nil
	}
	at := p.pos
	first := p.word()
	switch first {
	case "in":
		return opIn, nil
	case "notin":
		return opNotIn, nil
	case "contains":
		return opContains, nil
	case "startswith":
		return opStartsWith, nil
	case "endswith":
		return opEndsWith, nil
	case "not", "starts", "ends":
		end := p.pos
		p.blank()
		switch second := p.word(); {
		case first == "not" && second == "in":
			return opNotIn, nil
		case first == "starts" && second == "with":
			return opStartsWith, nil
		case first == "ends" && second == "with":
			return opEndsWith, nil
		}
		p.pos = end
	}
	p.pos = at
	return 0, p.noOperator(start, afterLabel, label, first)
}

func (p *parser) set() ([]string, error) {
	if p.peek() != '{' {
		return nil, p.noSet()
	}
	open := p.pos
	p.pos++
	var values []string
	for {
		p.blank()
		if p.take("}") {
			return sortedSet(values), nil
		}
		if p.end() {
			return nil, p.errorAt(open, "{ is never closed")
		}
		v, err := p.quoted()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		p.blank()
		switch {
		case p.take(","), p.peek() == '}':
		case p.end():
			return nil, p.errorAt(open, "{ is never closed")
		default:
			return nil, p.noComma()
		}
	}
}

func (p *parser) quoted() (string, error) {
	q := p.peek()
	if q != '"' && q != '\'' {
		return "", p.noValue()
	}
	open := p.pos
	p.pos++
	start := p.pos
	for !p.end() && p.in[p.pos] != q {
		p.pos++
	}
	if p.end() {
		return "", p.errorAt(open, "%c is never closed", q)
	}
	v := p.in[start:p.pos]
	p.pos++
	return v, nil
}
