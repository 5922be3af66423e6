// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"slices"
	"strings"
)

// A label is a label name that anybody uses; it lives as long as it has values
// or selectors.
type label struct {
	name   string
	values map[string]uint32 // to pairs
	items  int               // that have it as their own
	users  uint32            // list of selectors that ask for it, whatever its value
	filed  uint32            // list of selectors that need it, filed here
}

// A pair is a label with a value; it lives as long as it has items, parents or
// selectors. Each label and value is stored once.
type pair struct {
	value   string
	items   []uint32 // that have it as their own
	label   uint32
	parents uint32 // list of parents that have it
	users   uint32 // list of selectors that need its label to have this or some other value
	filed   uint32 // list of selectors that do, filed here
}

// An entry is a label of an item or parent, with its place in pair.items or
// pair.parents.
type entry struct{ label, pair, pos uint32 }

func compareEntries(a, b entry) int { return cmp.Compare(a.label, b.label) }

// valueOf finds the pair for a label in sorted entries; 0: none.
func valueOf(own []entry, label uint32) uint32 {
	i, ok := slices.BinarySearchFunc(own, label, func(e entry, l uint32) int {
		return cmp.Compare(e.label, l)
	})
	if !ok {
		return 0
	}
	return own[i].pair
}

// label is the number of a label name, a new one if there is none.
func (c *core) label(name string) uint32 {
	if l, ok := c.labelNames[name]; ok {
		return l
	}
	name = strings.Clone(name) // do not hold on to a whole document
	l := c.labels.add(label{name: name, values: map[string]uint32{}})
	c.labelNames[name] = l
	return l
}

// pair is the number of a label with a value, a new one if there is none.
func (c *core) pair(name, value string) uint32 {
	l := c.label(name)
	if p, ok := c.labels.all[l].values[value]; ok {
		return p
	}
	value = strings.Clone(value)
	p := c.pairs.add(pair{value: value, label: l})
	c.labels.all[l].values[value] = p
	return p
}

// findPair is like pair but makes none; 0: nobody uses it.
func (c *core) findPair(name, value string) uint32 {
	l, ok := c.labelNames[name]
	if !ok {
		return 0
	}
	return c.labels.all[l].values[value]
}

func (c *core) tidyPair(p uint32) {
	at := &c.pairs.all[p]
	if len(at.items) > 0 || at.parents != 0 || at.users != 0 || at.filed != 0 {
		return
	}
	l := at.label
	delete(c.labels.all[l].values, at.value)
	c.pairs.remove(p)
	c.tidyLabel(l)
}

func (c *core) tidyLabel(l uint32) {
	at := &c.labels.all[l]
	if len(at.values) > 0 || at.users != 0 || at.filed != 0 {
		return
	}
	delete(c.labelNames, at.name)
	c.labels.remove(l)
}

// entries turns labels into sorted entries, which are good until the next call.
// They are not attached, so pairs may be made that nobody has yet.
func (c *core) entries(labels map[string]string) []entry {
	own := c.scratchOwn[:0]
	for name, value := range labels {
		p := c.pair(name, value)
		own = append(own, entry{label: c.pairs.all[p].label, pair: p})
	}
	slices.SortFunc(own, compareEntries)
	c.scratchOwn = own
	return own
}

// compareOwn walks over old and new entries. Of those that are in both it
// copies the place to the new ones; it calls gone and came for the others.
func compareOwn(before, after []entry, gone func(entry), came func(*entry)) {
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].label < after[0].label:
			gone(before[0])
			before = before[1:]
		case len(before) == 0 || after[0].label < before[0].label:
			came(&after[0])
			after = after[1:]
		default:
			if before[0].pair == after[0].pair {
				after[0].pos = before[0].pos
			} else {
				gone(before[0])
				came(&after[0])
			}
			before, after = before[1:], after[1:]
		}
	}
}

// attachItem puts an item under one of its own labels.
func (c *core) attachItem(it uint32, e *entry) {
	p := &c.pairs.all[e.pair]
	e.pos = uint32(len(p.items))
	p.items = append(p.items, it)
	c.labels.all[e.label].items++
}

func (c *core) detachItem(e entry) {
	p := &c.pairs.all[e.pair]
	rest, moved, ok := cut(p.items, e.pos)
	p.items = rest
	if len(rest) == 0 {
		p.items = nil
	}
	if ok {
		place(c.items[moved].own, e)
	}
	c.labels.all[e.label].items--
	c.tidyPair(e.pair)
}

// attachParent puts a parent under one of its labels.
func (c *core) attachParent(parent uint32, e *entry) {
	p := &c.pairs.all[e.pair]
	if p.parents == 0 {
		p.parents = c.lists.add(nil)
	}
	list := &c.lists.all[p.parents]
	e.pos = uint32(len(*list))
	*list = append(*list, parent)
}

func (c *core) detachParent(e entry) {
	p := &c.pairs.all[e.pair]
	list := &c.lists.all[p.parents]
	rest, moved, ok := cut(*list, e.pos)
	*list = rest
	if ok {
		place(c.parents.all[moved].own, e)
	}
	if len(rest) == 0 {
		c.lists.remove(p.parents)
		p.parents = 0
	}
	c.tidyPair(e.pair)
}

// place notes that the entry for the pair of e is now where e was.
func place(own []entry, e entry) {
	i, ok := slices.BinarySearchFunc(own, e, compareEntries)
	if !ok || own[i].pair != e.pair {
		panic("index: an item is listed under a label that it does not have")
	}
	own[i].pos = e.pos
}
