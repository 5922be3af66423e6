// SPDX-License-Identifier: Apache-2.0

// Package jsonpath picks values out of JSON with the templates that people
// know from kubectl, and prints them:
//
//	{.metadata.name}   {range .items[*]}{.metadata.name}{"\n"}{end}
//	{.spec.ingress[?(@.action=="Deny")].source.nets}   {..selector}
//
// It is pure: it reads what encoding/json decodes into any, with numbers kept
// as json.Number, and knows nothing of resources. It is used by cli/command.
// It is not JSONPath of RFC 9535, whose texts look different.
package jsonpath

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Template is a parsed text with expressions in braces. It is not changed by
// use.
type Template struct{ nodes []node }

// node is a part of a template: a text, a path whose values are printed, or a
// range.
type node struct {
	text string
	path []step
	body []node // of a range over path
	kind nodeKind
}

type nodeKind uint8

const (
	nodeText nodeKind = iota
	nodePath
	nodeRange
)

// step leads from values to values.
type step struct {
	kind stepKind
	name string // of a member
	// index, and of a slice from, to and every; nil: not said.
	index, from, to, every *int
	union                  [][]step
	filter                 *filter
}

type stepKind uint8

const (
	stepMember stepKind = iota
	stepAll
	stepIndex
	stepSlice
	stepUnion
	stepFilter
	stepDeep   // everything below, itself included
	stepRoot   // $
	stepItself // @
)

// filter is what stands in [?( )]: a comparison, or a path that must lead
// somewhere.
type filter struct {
	left, right operand
	operator    string // empty: left exists
}

// operand is a path or a constant.
type operand struct {
	path  []step
	value any // string, json.Number, bool; with path nil
}

// Execute prints the template over a value. A path that leads nowhere prints
// nothing.
func (t *Template) Execute(root any) string {
	var b strings.Builder
	run(&b, t.nodes, root, root)
	return b.String()
}

func run(b *strings.Builder, nodes []node, root, at any) {
	for _, n := range nodes {
		switch n.kind {
		case nodeText:
			b.WriteString(n.text)
		case nodePath:
			for i, v := range follow(n.path, root, []any{at}) {
				if i > 0 {
					b.WriteByte(' ')
				}
				b.WriteString(Text(v))
			}
		case nodeRange:
			for _, v := range follow(n.path, root, []any{at}) {
				run(b, n.body, root, v)
			}
		}
	}
}

// Path is a single path, as sorting and columns want it.
type Path struct{ steps []step }

// Find are the values that the path leads to, in order.
func (p *Path) Find(root any) []any { return follow(p.steps, root, []any{root}) }

// follow takes values through steps.
func follow(steps []step, root any, at []any) []any {
	for _, s := range steps {
		var next []any
		for _, v := range at {
			next = append(next, s.from1(root, v)...)
		}
		at = next
	}
	return at
}

// from1 takes one step from one value.
func (s step) from1(root, v any) []any {
	switch s.kind {
	case stepRoot:
		return []any{root}
	case stepItself:
		return []any{v}
	case stepMember:
		if m, ok := v.(map[string]any); ok {
			if w, ok := m[s.name]; ok {
				return []any{w}
			}
		}
		return nil
	case stepAll:
		return children(v)
	case stepDeep:
		all := []any{v}
		for _, c := range children(v) {
			all = append(all, s.from1(root, c)...)
		}
		return all
	case stepIndex:
		l, _ := v.([]any)
		i := *s.index
		if i < 0 {
			i += len(l)
		}
		if i < 0 || i >= len(l) {
			return nil
		}
		return []any{l[i]}
	case stepSlice:
		l, _ := v.([]any)
		return s.slice(l)
	case stepUnion:
		var all []any
		for _, u := range s.union {
			all = append(all, follow(u, root, []any{v})...)
		}
		return all
	case stepFilter:
		var all []any
		for _, c := range elements(v) {
			if s.filter.holds(root, c) {
				all = append(all, c)
			}
		}
		return all
	default:
		panic("jsonpath: a step of no kind")
	}
}

// slice is the part of a list from:to:every; below zero counts from the end.
func (s step) slice(l []any) []any {
	bound := func(p *int, otherwise int) int {
		if p == nil {
			return otherwise
		}
		i := *p
		if i < 0 {
			i += len(l)
		}
		return min(max(i, 0), len(l))
	}
	var out []any
	every := 1
	if s.every != nil {
		every = min(*s.every, len(l)+1)
	}
	for i := bound(s.from, 0); i < bound(s.to, len(l)); i += every {
		out = append(out, l[i])
	}
	return out
}

// elements are what a filter looks at: those of a list, or the value itself.
func elements(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

// children are the elements of a list or, in the order of their names, the
// members of an object.
func children(v any) []any {
	switch t := v.(type) {
	case []any:
		return t
	case map[string]any:
		names := make([]string, 0, len(t))
		for n := range t {
			names = append(names, n)
		}
		slices.Sort(names)
		out := make([]any, len(names))
		for i, n := range names {
			out[i] = t[n]
		}
		return out
	}
	return nil
}

func (f *filter) holds(root, at any) bool {
	left := f.left.values(root, at)
	if f.operator == "" {
		return len(left) > 0
	}
	right := f.right.values(root, at)
	if len(left) != 1 || len(right) != 1 {
		return false
	}
	c, ok := compare(left[0], right[0])
	switch f.operator {
	case "==":
		return ok && c == 0
	case "!=":
		return !ok || c != 0
	case "<":
		return ok && c < 0
	case "<=":
		return ok && c <= 0
	case ">":
		return ok && c > 0
	case ">=":
		return ok && c >= 0
	default:
		panic("jsonpath: operator " + f.operator)
	}
}

func (o operand) values(root, at any) []any {
	if o.path == nil {
		return []any{o.value}
	}
	return follow(o.path, root, []any{at})
}

// Compare orders two values: numbers by size, everything else by its text.
func Compare(a, b any) int {
	if c, ok := compare(a, b); ok {
		return c
	}
	return strings.Compare(Text(a), Text(b))
}

// compare orders two values of one type; ok is false of others.
func compare(a, b any) (c int, ok bool) {
	switch x := a.(type) {
	case json.Number:
		y, is := b.(json.Number)
		if !is {
			return 0, false
		}
		f, errX := x.Float64()
		g, errY := y.Float64()
		if errX != nil || errY != nil {
			return 0, false
		}
		switch {
		case f < g:
			return -1, true
		case f > g:
			return 1, true
		}
		return 0, true
	case string:
		y, is := b.(string)
		return strings.Compare(x, y), is
	case bool:
		y, is := b.(bool)
		return strings.Compare(strconv.FormatBool(x), strconv.FormatBool(y)), is
	}
	return 0, false
}

// Text is how a value is printed: a string as it is, null as nothing, lists
// and objects as JSON.
func Text(v any) string {
	switch t := v.(type) {
	case nil:
		return ""
	case string:
		return t
	case json.Number:
		return t.String()
	case bool:
		return strconv.FormatBool(t)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
