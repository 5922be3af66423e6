// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/selector"
)

// labelled is something that a selector can match.
type labelled struct {
	namespace string // empty: in none
	labels    map[string]string
}

type objects map[*labelled]struct{}

// population is a number of objects, found by their labels. Its zero value is
// empty.
type population struct {
	all  objects
	with map[string]map[string]objects // label, value
}

func (p *population) add(l *labelled) {
	if p.all == nil {
		p.all, p.with = objects{}, map[string]map[string]objects{}
	}
	p.all[l] = struct{}{}
	for k, v := range l.labels {
		values := p.with[k]
		if values == nil {
			values = map[string]objects{}
			p.with[k] = values
		}
		if values[v] == nil {
			values[v] = objects{}
		}
		values[v][l] = struct{}{}
	}
}

func (p *population) remove(l *labelled) {
	delete(p.all, l)
	for k, v := range l.labels {
		values := p.with[k]
		if delete(values[v], l); len(values[v]) == 0 {
			delete(values, v)
		}
		if len(values) == 0 {
			delete(p.with, k)
		}
	}
}

// counted is a population and the parts of it that are in a namespace.
type counted struct {
	population
	in map[string]*population
}

func (c *counted) add(l *labelled) {
	c.population.add(l)
	if l.namespace == "" {
		return
	}
	if c.in[l.namespace] == nil {
		if c.in == nil {
			c.in = map[string]*population{}
		}
		c.in[l.namespace] = &population{}
	}
	c.in[l.namespace].add(l)
}

func (c *counted) remove(l *labelled) {
	c.population.remove(l)
	if p := c.in[l.namespace]; p != nil {
		if p.remove(l); len(p.all) == 0 {
			delete(c.in, l.namespace)
		}
	}
}

// within is the part in a namespace; empty: all.
func (c *counted) within(namespace string) *population {
	if namespace == "" {
		return &c.population
	}
	if p := c.in[namespace]; p != nil {
		return p
	}
	return &population{}
}

// matches reports whether a selector matches an object. At most *tries objects
// are asked, which is counted down; when it is used up, the answer is yes.
func (p *population) matches(sel *selector.Selector, tries *int) bool {
	among := []objects{p.all}
	least := len(p.all)
	for _, need := range sel.Restrictions() {
		values := p.with[need.Label]
		if need.Values == nil {
			if len(values) == 0 {
				return false
			}
			continue
		}
		var some []objects
		n := 0
		for _, v := range need.Values {
			if have := values[v]; len(have) > 0 {
				some = append(some, have)
				n += len(have)
			}
		}
		if n < least || n == 0 {
			among, least = some, n
		}
	}
	for _, objs := range among {
		for o := range objs {
			if *tries--; *tries < 0 || sel.Evaluate(selector.Map(o.labels)) {
				return true
			}
		}
	}
	return false
}

// mismatch says that a selector matches nothing in some populations, and what
// may have been meant; empty if it matches something, or tries are used up.
func mismatch(text, what string, tries *int, among ...*population) string {
	sel, err := selector.Parse(text)
	if err != nil {
		return ""
	}
	for _, p := range among {
		if p.matches(sel, tries) {
			return ""
		}
	}
	var hints []string
	for _, need := range sel.Restrictions() {
		if need.Label == "" {
			hints = append(hints, "nothing can match it")
			continue
		}
		have := valuesOf(need.Label, among)
		switch {
		case len(have) == 0:
			hint := "none has the label " + need.Label
			if near := nearest(need.Label, labelsOf(among)); near != "" {
				hint += "; did you mean " + near + "?"
			}
			hints = append(hints, hint)
		case need.Values != nil && !slices.ContainsFunc(need.Values, func(v string) bool { return has(have, v) }):
			hint := "none has " + need.Label + " " + quotedList(need.Values)
			if near := nearest(need.Values[0], have); near != "" {
				hint += "; did you mean " + strconv.Quote(near) + "?"
			} else {
				hint += "; there is " + quotedList(have)
			}
			hints = append(hints, hint)
		}
	}
	message := "matches no " + what + " that there is now"
	if len(hints) > 0 {
		message += ": " + strings.Join(hints, ", ")
	}
	return message
}

// valuesOf are the values that a label has, sorted.
func valuesOf(label string, among []*population) []string {
	var values []string
	for _, p := range among {
		values = slices.AppendSeq(values, maps.Keys(p.with[label]))
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// labelsOf are the labels that there are, sorted.
func labelsOf(among []*population) []string {
	var labels []string
	for _, p := range among {
		labels = slices.AppendSeq(labels, maps.Keys(p.with))
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

func has(sorted []string, s string) bool {
	_, found := slices.BinarySearch(sorted, s)
	return found
}

// maxNear is among how many names one is looked for that is alike; each takes
// half a microsecond.
const maxNear = 500

// nearest is api.Nearest, if the names are not too many.
func nearest(name string, known []string) string {
	if len(known) > maxNear {
		return ""
	}
	return api.Nearest(name, known)
}

// quotedList is some values, quoted, joined by "or".
func quotedList(values []string) string {
	var out []string
	for i, v := range values {
		if i == 3 {
			out = append(out, "...")
			break
		}
		out = append(out, strconv.Quote(v))
	}
	return strings.Join(out, " or ")
}
