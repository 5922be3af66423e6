// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"slices"
	"strings"
)

// The grammar has no escapes: a label is made of [A-Za-z0-9_./-], and a value
// cannot hold both kinds of quotes. The constructors keep to what can be
// written, so that String can always be read again: a condition on a label or
// value that cannot be written matches no labels at all (no stored object can
// have such a label).

// All matches everything.
func All() *Selector { return newSelector(allNode) }

// And matches what all of sels match; And() matches everything. None may be nil.
func And(sels ...*Selector) *Selector {
	if len(sels) == 0 {
		return All()
	}
	if len(sels) == 1 {
		return sels[0]
	}
	kids := make([]*node, len(sels))
	for i, s := range sels {
		kids[i] = s.root
	}
	return newSelector(newGroup(opAnd, kids))
}

// Not matches what s does not match.
func Not(s *Selector) *Selector { return newSelector(newNot(s.root)) }

// Equal matches where the label is there with exactly this value.
func Equal(label, value string) *Selector {
	if !writableLabel(label) {
		return newSelector(newNot(allNode))
	}
	if !writableValue(value) {
		return newSelector(&node{op: opIn, label: label})
	}
	return newSelector(&node{op: opEqual, label: label, value: value})
}

// Has matches where the label is there, with any value.
func Has(label string) *Selector {
	if !writableLabel(label) {
		return newSelector(newNot(allNode))
	}
	return newSelector(&node{op: opHas, label: label})
}

// In matches where the label is there with one of the values; with no values
// it matches nothing.
func In(label string, values ...string) *Selector {
	if !writableLabel(label) {
		return newSelector(newNot(allNode))
	}
	values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !writableValue(v) })
	return newSelector(&node{op: opIn, label: label, values: sortedSet(values)})
}

// PrefixLabels is s with prefix before the name of every label. Names that
// become longer than MaxLabelLength still evaluate, but Parse refuses the text.
func (s *Selector) PrefixLabels(prefix string) *Selector {
	return newSelector(s.root.rewrite(func(n *node) *node {
		if prefix == "" || !n.op.hasLabel() {
			return n
		}
		m := *n
		m.label = prefix + n.label
		return &m
	}))
}

// Replace is s with every all() replaced by all and every global() by global;
// nil keeps them.
func (s *Selector) Replace(all, global *Selector) *Selector {
	return newSelector(s.root.rewrite(func(n *node) *node {
		switch {
		case n.op == opAll && all != nil:
			return all.root
		case n.op == opGlobal && global != nil:
			return global.root
		}
		return n
	}))
}

func sortedSet(values []string) []string {
	slices.Sort(values)
	return slices.Clip(slices.Compact(values))
}

func isLabelChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '_' || c == '.' || c == '/' || c == '-'
}

func writableLabel(l string) bool {
	for i := range len(l) {
		if !isLabelChar(l[i]) {
			return false
		}
	}
	return len(l) > 0 && len(l) <= MaxLabelLength
}

func writableValue(v string) bool {
	return strings.IndexByte(v, '"') < 0 || strings.IndexByte(v, '\'') < 0
}
