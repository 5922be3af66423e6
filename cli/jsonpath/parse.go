// SPDX-License-Identifier: Apache-2.0

package jsonpath

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Parse reads a template. An error says where it is.
func Parse(text string) (*Template, error) {
	p := &parser{text: text}
	nodes, ended, err := p.nodes(false)
	if err == nil && ended {
		err = p.fault("end without range")
	}
	if err != nil {
		return nil, err
	}
	return &Template{nodes}, nil
}

// ParsePath reads a single path: "{.metadata.name}", ".metadata.name" or
// "metadata.name".
func ParsePath(text string) (*Path, error) {
	inner := strings.TrimSpace(text)
	if strings.HasPrefix(inner, "{") && strings.HasSuffix(inner, "}") {
		inner = inner[1 : len(inner)-1]
	}
	if inner != "" && !strings.ContainsRune(".[$@", rune(inner[0])) {
		inner = "." + inner
	}
	p := &parser{text: inner}
	steps, err := p.path()
	p.space()
	if err == nil && (p.at < len(p.text) || len(steps) == 0) {
		err = p.fault("want a path like .metadata.name")
	}
	if err != nil {
		return nil, err
	}
	return &Path{steps}, nil
}

// maxDepth bounds ranges in ranges and filters in filters.
const maxDepth = 50

type parser struct {
	text  string
	at    int
	depth int
}

func (p *parser) fault(format string, args ...any) error {
	return fmt.Errorf("jsonpath %q: at byte %d: %s", p.text, p.at, fmt.Sprintf(format, args...))
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take moves over s if it stands here.
func (p *parser) take(s string) bool {
	if strings.HasPrefix(p.text[p.at:], s) {
		p.at += len(s)
		return true
	}
	return false
}

// word takes a word that nothing of a name follows.
func (p *parser) word(w string) bool {
	rest := p.text[p.at:]
	if !strings.HasPrefix(rest, w) || len(rest) > len(w) && isName(rest[len(w)]) {
		return false
	}
	p.at += len(w)
	return true
}

// nodes reads up to the end of the text, or up to {end} inside of a range.
func (p *parser) nodes(inside bool) (out []node, ended bool, err error) {
	for p.at < len(p.text) {
		if !p.take("{") {
			i := strings.IndexByte(p.text[p.at:], '{')
			if i < 0 {
				i = len(p.text) - p.at
			}
			out = append(out, node{text: p.text[p.at : p.at+i]})
			p.at += i
			continue
		}
		more, ended, err := p.action()
		out = append(out, more...)
		if err != nil || ended {
			return out, ended, err
		}
	}
	if inside {
		return nil, false, p.fault("range without {end}")
	}
	return out, false, nil
}

// action reads what stands in braces, and of a range all up to its end.
func (p *parser) action() (out []node, ended bool, err error) {
	for {
		p.space()
		switch {
		case p.take("}"):
			return out, false, nil
		case p.at == len(p.text):
			return nil, false, p.fault("the brace is not closed")
		case p.word("end"):
			p.space()
			if !p.take("}") {
				return nil, false, p.fault("want } after end")
			}
			return out, true, nil
		case p.word("range"):
			r, err := p.rangeNode()
			return append(out, r), false, err
		case p.text[p.at] == '"' || p.text[p.at] == '\'':
			s, err := p.quoted()
			if err != nil {
				return nil, false, err
			}
			out = append(out, node{text: s})
		default:
			steps, err := p.path()
			if err != nil {
				return nil, false, err
			}
			if len(steps) == 0 {
				return nil, false, p.fault("want a path like .metadata.name, a text in quotes, range or end")
			}
			out = append(out, node{kind: nodePath, path: steps})
		}
	}
}

func (p *parser) rangeNode() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return node{}, p.fault("more than %d ranges in each other", maxDepth)
	}
	defer func() { p.depth-- }()
	p.space()
	steps, err := p.path()
	if err != nil {
		return node{}, err
	}
	p.space()
	if len(steps) == 0 || !p.take("}") {
		return node{}, p.fault("want {range PATH}")
	}
	body, ended, err := p.nodes(true)
	if err == nil && !ended {
		err = p.fault("range without {end}")
	}
	return node{kind: nodeRange, path: steps, body: body}, err
}

// quoted reads a text in quotes, with the escapes of Go.
func (p *parser) quoted() (string, error) {
	quote, start := p.text[p.at], p.at
	for i := start + 1; i < len(p.text); i++ {
		switch p.text[i] {
		case '\\':
			i++
		case quote:
			p.at = i + 1
			raw := p.text[start+1 : i]
			if quote == '\'' {
				raw = strings.ReplaceAll(strings.ReplaceAll(raw, `\'`, `'`), `"`, `\"`)
			}
			s, err := strconv.Unquote(`"` + raw + `"`)
			if err != nil {
				p.at = start
				return "", p.fault("the text in quotes: %v", err)
			}
			return s, nil
		}
	}
	return "", p.fault("the quote is not closed")
}

func isName(c byte) bool {
	return c == '_' || c == '-' || c == '/' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// path reads steps; none if no path stands here.
func (p *parser) path() (steps []step, err error) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '$':
			p.at++
			steps = append(steps, step{kind: stepRoot})
		case c == '@':
			p.at++
			steps = append(steps, step{kind: stepItself})
		case c == '[':
			s, err := p.bracket()
			if err != nil {
				return nil, err
			}
			steps = append(steps, s)
		case p.take(".."):
			steps = append(steps, step{kind: stepDeep})
			if p.at < len(p.text) && p.text[p.at] == '[' {
				continue
			}
			s, err := p.member()
			if err != nil {
				return nil, err
			}
			steps = append(steps, s)
		case p.take("."):
			if p.at < len(p.text) && p.text[p.at] == '[' { // .[0] is [0]
				continue
			}
			if p.at == len(p.text) || strings.IndexByte("} )\t,", p.text[p.at]) >= 0 { // . is the value itself
				steps = append(steps, step{kind: stepItself})
				continue
			}
			s, err := p.member()
			if err != nil {
				return nil, err
			}
			steps = append(steps, s)
		default:
			return steps, nil
		}
	}
	return steps, nil
}

// member reads a name, in which a backslash takes the meaning from a dot.
func (p *parser) member() (step, error) {
	if p.take("*") {
		return step{kind: stepAll}, nil
	}
	var name strings.Builder
	for p.at < len(p.text) {
		c := p.text[p.at]
		if c == '\\' && p.at+1 < len(p.text) {
			p.at++
			c = p.text[p.at]
		} else if !isName(c) {
			break
		}
		name.WriteByte(c)
		p.at++
	}
	if name.Len() == 0 {
		return step{}, p.fault("a name is missing")
	}
	return step{kind: stepMember, name: name.String()}, nil
}

// bracket reads [0], [1:3], [*], ['a.b'], ['a','b'], [0,2] or [?(...)].
func (p *parser) bracket() (step, error) {
	p.at++
	p.space()
	if p.take("?(") {
		f, err := p.filter()
		if err != nil {
			return step{}, err
		}
		p.space()
		if !p.take("]") {
			return step{}, p.fault("want ] after the filter")
		}
		return step{kind: stepFilter, filter: f}, nil
	}
	var union [][]step
	for {
		s, err := p.selector()
		if err != nil {
			return step{}, err
		}
		union = append(union, []step{s})
		p.space()
		switch {
		case p.take("]"):
			if len(union) == 1 {
				return s, nil
			}
			return step{kind: stepUnion, union: union}, nil
		case p.take(","):
			p.space()
		default:
			return step{}, p.fault("want ] or a comma")
		}
	}
}

// selector reads one part of what stands in brackets.
func (p *parser) selector() (step, error) {
	if p.take("*") {
		return step{kind: stepAll}, nil
	}
	if p.at < len(p.text) && (p.text[p.at] == '\'' || p.text[p.at] == '"') {
		name, err := p.quoted()
		return step{kind: stepMember, name: name}, err
	}
	from, err := p.number()
	if err != nil {
		return step{}, err
	}
	if !p.take(":") {
		if from == nil {
			return step{}, p.fault("want a number, *, a name in quotes or ?(")
		}
		return step{kind: stepIndex, index: from}, nil
	}
	s := step{kind: stepSlice, from: from}
	if s.to, err = p.number(); err != nil {
		return step{}, err
	}
	if p.take(":") {
		if s.every, err = p.number(); err != nil {
			return step{}, err
		}
		if s.every != nil && *s.every <= 0 {
			return step{}, p.fault("the third number of a slice is 1 or more")
		}
	}
	return s, nil
}

// number reads a whole number; nil if none stands here.
func (p *parser) number() (*int, error) {
	start := p.at
	if p.at < len(p.text) && p.text[p.at] == '-' {
		p.at++
	}
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	if p.at == start {
		return nil, nil
	}
	n, err := strconv.Atoi(p.text[start:p.at])
	if err != nil {
		return nil, p.fault("%q is not a number", p.text[start:p.at])
	}
	return &n, nil
}

// filter reads what follows [?( with its closing parenthesis.
func (p *parser) filter() (*filter, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fault("more than %d filters in each other", maxDepth)
	}
	defer func() { p.depth-- }()
	f := &filter{}
	var err error
	if f.left, err = p.operand(); err != nil {
		return nil, err
	}
	p.space()
	for _, op := range []string{"==", "!=", "<=", ">=", "<", ">"} {
		if p.take(op) {
			f.operator = op
			break
		}
	}
	if f.operator != "" {
		if f.right, err = p.operand(); err != nil {
			return nil, err
		}
		p.space()
	} else if f.left.path == nil {
		return nil, p.fault("a constant alone is no filter")
	}
	if !p.take(")") {
		return nil, p.fault("want a comparison (==, !=, <, <=, >, >=) or the filter's )")
	}
	return f, nil
}

// operand reads a path or a constant.
func (p *parser) operand() (operand, error) {
	p.space()
	if p.at == len(p.text) {
		return operand{}, p.fault("the filter is not closed")
	}
	switch c := p.text[p.at]; {
	case c == '\'' || c == '"':
		s, err := p.quoted()
		return operand{value: s}, err
	case p.word("true"):
		return operand{value: true}, nil
	case p.word("false"):
		return operand{value: false}, nil
	case c == '-' || c >= '0' && c <= '9':
		start := p.at
		for p.at < len(p.text) && strings.IndexByte("+-.0123456789eE", p.text[p.at]) >= 0 {
			p.at++
		}
		n := json.Number(p.text[start:p.at])
		if _, err := n.Float64(); err != nil {
			return operand{}, p.fault("%q is not a number", n)
		}
		return operand{value: n}, nil
	}
	steps, err := p.path()
	if err == nil && len(steps) == 0 {
		err = p.fault("want a path like @.action, a number or a text in quotes")
	}
	return operand{path: steps}, err
}
