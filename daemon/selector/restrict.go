// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"maps"
	"slices"
)

// MaxRestrictionValues is the largest number of values in one Restriction; one
// that would need more only says that the label is present.
const MaxRestrictionValues = 1024

// Restriction is something that labels must fulfil for a selector to possibly
// match them.
type Restriction struct {
	// Label must be present.
	Label string
	// Values, sorted: the label must have one of these. Nil: any value.
	// Empty but not nil: nothing fulfils this, the selector matches nothing
	// (Label is then empty).
	Values []string
}

// Restrictions is what labels must fulfil, each of them, for the selector to
// possibly match: `a == 'x' && (b == '1' || b == '2') && c != 'y'` gives
// a: x and b: 1, 2. It is sound (what does not fulfil all of them does not
// match) but not complete. One per label, sorted by label; none if the selector
// may match labels of any kind.
func (s *Selector) Restrictions() []Restriction {
	must, never := s.root.restrict(false)
	if never {
		return []Restriction{{Values: []string{}}}
	}
	var out []Restriction
	for _, label := range slices.Sorted(maps.Keys(must)) {
		out = append(out, Restriction{Label: label, Values: must[label]})
	}
	return out
}

// restrict gives, for n or for its negation, the labels that must be present
// with the values that they may have (nil: any); never: cannot be true.
func (n *node) restrict(negated bool) (must map[string][]string, never bool) {
	switch n.op {
	case opAll, opGlobal:
		return nil, negated
	case opHas, opContains, opStartsWith, opEndsWith:
		if negated {
			return nil, false
		}
		return map[string][]string{n.label: nil}, false
	case opEqual, opNotEqual:
		if negated == (n.op == opEqual) {
			return nil, false
		}
		return map[string][]string{n.label: {n.value}}, false
	case opIn, opNotIn:
		if negated == (n.op == opIn) {
			return nil, false
		}
		if len(n.values) == 0 {
			return nil, true
		}
		return map[string][]string{n.label: capped(n.values)}, false
	case opNot:
		return n.kids[0].restrict(!negated)
	case opAnd, opOr:
		if negated == (n.op == opOr) {
			return n.restrictAll(negated)
		}
		return n.restrictAny(negated)
	}
	panic("selector: node without an operator")
}

// restrictAll: all kids (or all their negations) must be true.
func (n *node) restrictAll(negated bool) (map[string][]string, bool) {
	all := map[string][]string{}
	for _, k := range n.kids {
		must, never := k.restrict(negated)
		if never {
			return nil, true
		}
		for label, values := range must {
			old, seen := all[label]
			switch {
			case !seen || old == nil:
				all[label] = values
			case values != nil:
				both := intersect(old, values)
				if len(both) == 0 {
					return nil, true
				}
				all[label] = both
			}
		}
	}
	return all, false
}

// restrictAny: one of the kids (or of their negations) must be true. Only a
// label that each of them needs is needed by the whole.
func (n *node) restrictAny(negated bool) (map[string][]string, bool) {
	var some map[string][]string
	first := true
	for _, k := range n.kids {
		must, never := k.restrict(negated)
		if never {
			continue
		}
		if first {
			// The values are appended to below.
			some, first = map[string][]string{}, false
			for label, values := range must {
				some[label] = slices.Clone(values)
			}
			continue
		}
		for label, values := range some {
			more, needed := must[label]
			switch {
			case !needed:
				delete(some, label)
			case values == nil || more == nil:
				some[label] = nil
			default:
				values = append(values, more...)
				if len(values) > 2*MaxRestrictionValues {
					values = capped(sortedSet(values))
				}
				some[label] = values
			}
		}
	}
	for label, values := range some {
		if values != nil {
			some[label] = capped(sortedSet(values))
		}
	}
	return some, first
}

func capped(values []string) []string {
	if len(values) > MaxRestrictionValues {
		return nil
	}
	return values
}

// intersect is what is in both sorted lists.
func intersect(a, b []string) []string {
	var out []string
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return out
}
