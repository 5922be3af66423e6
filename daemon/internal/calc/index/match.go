// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/selector"
)

// A sel is a selector and the lists it is in.
type sel struct {
	sel  *selector.Selector
	mask uint64 // of the labels it asks for, see maskOf
	seen uint64 // round of the last visit
	in   []membership
}

func (c *core) newSelector() uint32 { return c.sels.add(sel{}) }

func (c *core) setSelector(s uint32, to *selector.Selector) {
	from := c.sels.all[s].sel
	if from.Equal(to) {
		return
	}
	c.sels.all[s].sel = to
	if from != nil {
		c.scan(from.Restrictions(), func(it uint32) {
			if _, matched := slices.BinarySearch(c.items[it].matches, s); matched {
				c.look(it)
				c.try(it, s)
			}
		})
		c.leaveAll(s)
	}
	needs := to.Restrictions()
	c.file(s, needs)
	c.scan(needs, func(it uint32) {
		c.look(it)
		c.try(it, s)
	})
}

func (c *core) deleteSelector(s uint32) {
	c.scan(c.sels.all[s].sel.Restrictions(), func(it uint32) {
		at := &c.items[it]
		if i, matched := slices.BinarySearch(at.matches, s); matched {
			at.matches = slices.Delete(at.matches, i, i+1)
			c.emit(s, it, false)
		}
	})
	c.leaveAll(s)
	c.sels.remove(s)
}

// scan calls f for a set of items, as small as can be had, outside of which no
// item fulfils the needs. It may call f for an item more than once.
func (c *core) scan(needs []selector.Restriction, f func(it uint32)) {
	if never(needs) {
		return
	}
	best, least := -1, c.itemSlots.len()
	for i, r := range needs {
		if n := c.count(r, least); n < least {
			best, least = i, n
		}
	}
	if best < 0 {
		for it := range c.items {
			if c.items[it].used {
				f(uint32(it))
			}
		}
		return
	}
	r := needs[best]
	if r.Values != nil {
		for _, v := range r.Values {
			c.scanPair(c.findPair(r.Label, v), f)
		}
		return
	}
	if l, ok := c.labelNames[r.Label]; ok {
		for _, p := range c.labels.all[l].values {
			c.scanPair(p, f)
		}
	}
}

func (c *core) scanPair(p uint32, f func(it uint32)) {
	if p == 0 {
		return
	}
	for _, it := range c.pairs.all[p].items {
		f(it)
	}
	for _, parent := range c.selectors(c.pairs.all[p].parents) {
		for _, it := range c.parents.all[parent].children {
			f(it)
		}
	}
}

// look makes an item the one that try evaluates.
func (c *core) look(it uint32) { c.view.item = &c.items[it] }

// try evaluates a selector on the item looked at and tells if the answer is
// new.
func (c *core) try(it, s uint32) {
	c.evaluations++
	now := c.sels.all[s].sel.Evaluate(&c.view)
	at := c.view.item
	i, before := slices.BinarySearch(at.matches, s)
	switch {
	case now && !before:
		at.matches = slices.Insert(at.matches, i, s)
		c.emit(s, it, true)
	case before && !now:
		at.matches = slices.Delete(at.matches, i, i+1)
		c.emit(s, it, false)
	}
}

// tryFresh tries on a new item all selectors that can match it.
func (c *core) tryFresh(it uint32) {
	c.look(it)
	c.round++
	c.visitFiled(it, ^uint64(0), true)
}

// tryChanged tries on an item the selectors for which the changes in c.delta
// can make a difference.
func (c *core) tryChanged(it uint32) {
	if len(c.delta) == 0 {
		return
	}
	at := &c.items[it]
	c.look(it)
	c.round++

	users, mask := 0, uint64(0)
	for _, d := range c.delta {
		mask |= maskOf(d.label)
		users += len(c.selectors(c.labels.all[d.label].users)) +
			len(c.selectors(c.pairs.all[d.old].users)) + len(c.selectors(c.pairs.all[d.new].users))
	}
	if users <= len(at.matches)+c.countFiled(at) {
		// A selector that needs certain values of a label is among the users
		// of those only: it cannot match before or after if neither the old
		// nor the new value is one of them.
		for _, d := range c.delta {
			c.visit(it, c.selectors(c.labels.all[d.label].users), mask, false)
			c.visit(it, c.selectors(c.pairs.all[d.old].users), mask, false)
			c.visit(it, c.selectors(c.pairs.all[d.new].users), mask, false)
		}
		return
	}
	// What matches now may cease to; what matches from now on is filed under
	// something that the item has now.
	c.scratchSels = append(c.scratchSels[:0], at.matches...)
	c.visit(it, c.scratchSels, mask, false)
	c.visitFiled(it, mask, false)
}

func (c *core) countFiled(at *item) int {
	n := len(c.unfiled)
	count := func(own []entry) {
		for _, e := range own {
			n += len(c.selectors(c.pairs.all[e.pair].filed)) + len(c.selectors(c.labels.all[e.label].filed))
		}
	}
	count(at.own)
	for _, l := range at.parents {
		count(c.parents.all[l.parent].own)
	}
	return n
}

func (c *core) visitFiled(it uint32, mask uint64, all bool) {
	c.visit(it, c.unfiled, mask, all)
	at := &c.items[it]
	c.visitFiledUnder(it, at.own, mask, all)
	for _, l := range at.parents {
		c.visitFiledUnder(it, c.parents.all[l.parent].own, mask, all)
	}
}

func (c *core) visitFiledUnder(it uint32, own []entry, mask uint64, all bool) {
	for _, e := range own {
		c.visit(it, c.selectors(c.pairs.all[e.pair].filed), mask, all)
		c.visit(it, c.selectors(c.labels.all[e.label].filed), mask, all)
	}
}

// visit tries those selectors that ask for a label in mask (or all), each once
// a round.
func (c *core) visit(it uint32, sels []uint32, mask uint64, all bool) {
	for _, s := range sels {
		at := &c.sels.all[s]
		if at.seen == c.round || !all && at.mask&mask == 0 {
			continue
		}
		at.seen = c.round
		c.try(it, s)
	}
}
