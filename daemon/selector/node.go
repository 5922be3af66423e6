// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"slices"
	"strings"
)

type op uint8

const (
	opAll op = iota + 1
	opGlobal
	opHas
	opEqual
	opNotEqual
	opIn
	opNotIn
	opContains
	opStartsWith
	opEndsWith
	opNot
	opAnd
	opOr
)

func (o op) hasLabel() bool { return o >= opHas && o <= opEndsWith }

// A node is one condition of the tree. It never changes once it is built, so
// trees share branches freely.
type node struct {
	op     op
	label  string   // for all that ask for a label
	value  string   // == != contains, starts with, ends with
	values []string // in, not in: sorted, each once
	kids   []*node  // opNot: one; opAnd, opOr: two or more
}

var (
	allNode    = &node{op: opAll}
	globalNode = &node{op: opGlobal}
)

// newNot negates; a double negation is none.
func newNot(n *node) *node {
	if n.op == opNot {
		return n.kids[0]
	}
	return &node{op: opNot, kids: []*node{n}}
}

// newGroup joins with opAnd or opOr; a group of one is that one.
func newGroup(o op, kids []*node) *node {
	if len(kids) == 1 {
		return kids[0]
	}
	return &node{op: o, kids: kids}
}

func (n *node) eval(l Labels) bool {
	switch n.op {
	case opAll, opGlobal:
		return true
	case opHas:
		_, ok := l.Get(n.label)
		return ok
	case opEqual:
		v, ok := l.Get(n.label)
		return ok && v == n.value
	case opNotEqual:
		v, ok := l.Get(n.label)
		return !ok || v != n.value
	case opIn:
		v, ok := l.Get(n.label)
		return ok && n.member(v)
	case opNotIn:
		v, ok := l.Get(n.label)
		return !ok || !n.member(v)
	case opContains:
		v, ok := l.Get(n.label)
		return ok && strings.Contains(v, n.value)
	case opStartsWith:
		v, ok := l.Get(n.label)
		return ok && strings.HasPrefix(v, n.value)
	case opEndsWith:
		v, ok := l.Get(n.label)
		return ok && strings.HasSuffix(v, n.value)
	case opNot:
		return !n.kids[0].eval(l)
	case opAnd:
		for _, k := range n.kids {
			if !k.eval(l) {
				return false
			}
		}
		return true
	case opOr:
		for _, k := range n.kids {
			if k.eval(l) {
				return true
			}
		}
		return false
	}
	panic("selector: node without an operator")
}

func (n *node) member(v string) bool {
	_, ok := slices.BinarySearch(n.values, v)
	return ok
}

// append writes the canonical text.
func (n *node) append(b []byte) []byte {
	switch n.op {
	case opAll:
		return append(b, "all()"...)
	case opGlobal:
		return append(b, "global()"...)
	case opHas:
		b = append(b, "has("...)
		b = append(b, n.label...)
		return append(b, ')')
	case opEqual, opNotEqual, opContains, opStartsWith, opEndsWith:
		b = append(b, n.label...)
		b = append(b, ' ')
		b = append(b, operatorText(n.op)...)
		b = append(b, ' ')
		return appendQuoted(b, n.value)
	case opIn, opNotIn:
		b = append(b, n.label...)
		b = append(b, ' ')
		b = append(b, operatorText(n.op)...)
		b = append(b, " {"...)
		for i, v := range n.values {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendQuoted(b, v)
		}
		return append(b, '}')
	case opNot:
		return n.kids[0].append(append(b, '!'))
	case opAnd, opOr:
		b = append(b, '(')
		for i, k := range n.kids {
			if i > 0 {
				b = append(b, ' ')
				b = append(b, operatorText(n.op)...)
				b = append(b, ' ')
			}
			b = k.append(b)
		}
		return append(b, ')')
	}
	panic("selector: node without an operator")
}

func operatorText(o op) string {
	switch o {
	case opEqual:
		return "=="
	case opNotEqual:
		return "!="
	case opIn:
		return "in"
	case opNotIn:
		return "not in"
	case opContains:
		return "contains"
	case opStartsWith:
		return "starts with"
	case opEndsWith:
		return "ends with"
	case opAnd:
		return "&&"
	case opOr:
		return "||"
	}
	panic("selector: not an operator between two things")
}

func appendQuoted(b []byte, v string) []byte {
	q := byte('"')
	if strings.IndexByte(v, '"') >= 0 {
		q = '\''
	}
	b = append(b, q)
	b = append(b, v...)
	return append(b, q)
}

// walk calls f for every node, parents first.
func (n *node) walk(f func(*node)) {
	f(n)
	for _, k := range n.kids {
		k.walk(f)
	}
}

// rewrite replaces leaves, from the bottom up; f returns its argument for what
// stays as it is.
func (n *node) rewrite(f func(*node) *node) *node {
	if len(n.kids) == 0 {
		return f(n)
	}
	kids := make([]*node, len(n.kids))
	changed := false
	for i, k := range n.kids {
		kids[i] = k.rewrite(f)
		changed = changed || kids[i] != k
	}
	if !changed {
		return n
	}
	if n.op == opNot {
		return newNot(kids[0])
	}
	return &node{op: n.op, kids: kids}
}
