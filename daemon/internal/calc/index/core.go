// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"
	"strings"
)

// core is the index with numbers for selectors and items.
type core struct {
	emit func(sel, item uint32, matches bool)

	labelNames map[string]uint32
	labels     slab[label]
	pairs      slab[pair]
	lists      slab[[]uint32] // of selectors or parents

	items     []item // by number; given out by itemSlots
	itemSlots slab[struct{}]

	parentNames map[string]uint32
	parents     slab[parent]

	sels slab[sel]
	// unfiled lists the selectors that are filed under no label.
	unfiled []uint32

	view        view
	evaluations uint64
	round       uint64 // of visits, see sel.seen

	scratchOwn   []entry
	scratchLinks []link
	scratchSels  []uint32
	delta        []change
	touched      []uint32 // labels
}

// An item has its own labels sorted by number, its parents in order, and the
// selectors that match it, sorted.
type item struct {
	own     []entry
	parents []link
	matches []uint32
	used    bool
}

// A link is a parent of an item, with the place of the item in its children.
type link struct{ parent, pos uint32 }

// A parent lives as long as it is known or has children.
type parent struct {
	name     string
	own      []entry
	children []uint32
	known    bool
}

// A change of the value that an item effectively has for a label; 0: none.
type change struct{ label, old, new uint32 }

func (c *core) init(emit func(sel, item uint32, matches bool)) {
	c.emit = emit
	c.labelNames = map[string]uint32{}
	c.parentNames = map[string]uint32{}
	c.view.core = c
}

func (c *core) stats() Stats {
	return Stats{
		Parents:     len(c.parentNames),
		Unfiled:     len(c.unfiled),
		Labels:      c.labels.len(),
		Values:      c.pairs.len(),
		Evaluations: c.evaluations,
	}
}

func (c *core) newItem() uint32 {
	it := c.itemSlots.add(struct{}{})
	c.items = put(c.items, it, item{used: true})
	return it
}

// setItem works in this order: find out what is new, note the old values of
// what changes, attach the new, try selectors, detach the old. So no number is
// freed and given out again while the old ones are still compared.
func (c *core) setItem(it uint32, labels map[string]string, parents []string, fresh bool) {
	at := &c.items[it]
	own := c.entries(labels)
	oldOwn, oldLinks := at.own, at.parents

	c.touched = c.touched[:0]
	compareOwn(oldOwn, own,
		func(e entry) { c.touched = append(c.touched, e.label) },
		func(e *entry) { c.touched = append(c.touched, e.label) })
	ownChanged := len(c.touched) > 0
	links, linksChanged := c.links(parents, oldLinks)
	if !fresh && !ownChanged && !linksChanged {
		return
	}
	if linksChanged && !fresh {
		for _, l := range oldLinks {
			c.touch(c.parents.all[l.parent].own)
		}
		for _, l := range links {
			c.touch(c.parents.all[l.parent].own)
		}
	}
	if !fresh {
		c.delta = c.delta[:0]
		slices.Sort(c.touched)
		for _, l := range slices.Compact(c.touched) {
			c.delta = append(c.delta, change{label: l, old: c.effective(at, l)})
		}
	}

	if ownChanged {
		compareOwn(oldOwn, own, func(entry) {}, func(e *entry) { c.attachItem(it, e) })
		at.own = slices.Clone(own)
	}
	if linksChanged {
		at.parents = slices.Clone(links)
		c.attachLinks(it, oldLinks)
	}

	if fresh {
		c.tryFresh(it)
	} else {
		for i := range c.delta {
			c.delta[i].new = c.effective(at, c.delta[i].label)
		}
		c.delta = slices.DeleteFunc(c.delta, func(d change) bool { return d.old == d.new })
		c.tryChanged(it)
	}

	if ownChanged {
		compareOwn(oldOwn, at.own, func(e entry) { c.detachItem(e) }, func(*entry) {})
	}
	if linksChanged {
		c.detachLinks(oldLinks, at.parents)
	}
}

func (c *core) touch(own []entry) {
	for _, e := range own {
		c.touched = append(c.touched, e.label)
	}
}

func (c *core) deleteItem(it uint32) {
	at := &c.items[it]
	for _, s := range at.matches {
		c.emit(s, it, false)
	}
	own, links := at.own, at.parents
	*at = item{}
	for _, e := range own {
		c.detachItem(e)
	}
	c.detachLinks(links, nil)
	c.itemSlots.remove(it)
}

// effective is the pair that an item has for a label; 0: none.
func (c *core) effective(at *item, label uint32) uint32 {
	return c.effectiveWith(at, label, 0, nil)
}

// effectiveWith is like effective, as if the parent had these labels.
func (c *core) effectiveWith(at *item, label, parent uint32, own []entry) uint32 {
	if p := valueOf(at.own, label); p != 0 {
		return p
	}
	for _, l := range at.parents {
		labels := c.parents.all[l.parent].own
		if l.parent == parent {
			labels = own
		}
		if p := valueOf(labels, label); p != 0 {
			return p
		}
	}
	return 0
}

// links turns names of parents into links, which are good until the next call,
// and says whether they differ from the old ones. Links to old parents have
// their place; the others have to be attached.
func (c *core) links(names []string, old []link) (links []link, changed bool) {
	links = c.scratchLinks[:0]
	for _, name := range names {
		p := c.parent(name)
		if !slices.ContainsFunc(links, func(l link) bool { return l.parent == p }) {
			links = append(links, link{parent: p})
		}
	}
	c.scratchLinks = links
	changed = !slices.EqualFunc(links, old, func(a, b link) bool { return a.parent == b.parent })
	for i := range links {
		if o := findLink(old, links[i].parent); o != nil {
			links[i].pos = o.pos
		}
	}
	return links, changed
}

func findLink(links []link, parent uint32) *link {
	for i := range links {
		if links[i].parent == parent {
			return &links[i]
		}
	}
	return nil
}

// attachLinks makes the item a child of those parents that were not in old.
func (c *core) attachLinks(it uint32, old []link) {
	links := c.items[it].parents
	for i := range links {
		if findLink(old, links[i].parent) != nil {
			continue
		}
		p := &c.parents.all[links[i].parent]
		links[i].pos = uint32(len(p.children))
		p.children = append(p.children, it)
	}
}

// detachLinks undoes old links to parents that are not in kept.
func (c *core) detachLinks(old, kept []link) {
	for _, l := range old {
		if findLink(kept, l.parent) != nil {
			continue
		}
		p := &c.parents.all[l.parent]
		rest, moved, ok := cut(p.children, l.pos)
		p.children = rest
		if ok {
			findLink(c.items[moved].parents, l.parent).pos = l.pos
		}
		c.tidyParent(l.parent)
	}
}

// parent is the number of a parent, a new one if there is none.
func (c *core) parent(name string) uint32 {
	if p, ok := c.parentNames[name]; ok {
		return p
	}
	name = strings.Clone(name)
	p := c.parents.add(parent{name: name})
	c.parentNames[name] = p
	return p
}

func (c *core) tidyParent(p uint32) {
	at := &c.parents.all[p]
	if at.known || len(at.children) > 0 {
		return
	}
	delete(c.parentNames, at.name)
	c.parents.remove(p)
}

func (c *core) setParent(name string, labels map[string]string) {
	p := c.parent(name)
	c.parents.all[p].known = true
	c.relabelParent(p, labels)
}

func (c *core) deleteParent(name string) {
	p, ok := c.parentNames[name]
	if !ok {
		return
	}
	c.parents.all[p].known = false
	c.relabelParent(p, nil)
	c.tidyParent(p)
}

// relabelParent works in the same order as setItem.
func (c *core) relabelParent(p uint32, labels map[string]string) {
	at := &c.parents.all[p]
	own, old := c.entries(labels), at.own
	c.touched = c.touched[:0]
	compareOwn(old, own,
		func(e entry) { c.touched = append(c.touched, e.label) },
		func(e *entry) {
			c.touched = append(c.touched, e.label)
			c.attachParent(p, e)
		})
	if len(c.touched) == 0 {
		return
	}
	slices.Sort(c.touched)
	c.touched = slices.Compact(c.touched)
	at.own = slices.Clone(own)

	for _, child := range at.children {
		it := &c.items[child]
		c.delta = c.delta[:0]
		for _, l := range c.touched {
			d := change{label: l, old: c.effectiveWith(it, l, p, old), new: c.effective(it, l)}
			if d.old != d.new {
				c.delta = append(c.delta, d)
			}
		}
		c.tryChanged(child)
	}
	compareOwn(old, at.own, func(e entry) { c.detachParent(e) }, func(*entry) {})
}

// A view is the effective labels of one item, for Evaluate.
type view struct {
	core *core
	item *item
}

// Get looks among the item's own labels, then among those of its parents.
func (v *view) Get(key string) (string, bool) {
	if p := v.core.named(v.item.own, key); p != 0 {
		return v.core.pairs.all[p].value, true
	}
	for _, l := range v.item.parents {
		if p := v.core.named(v.core.parents.all[l.parent].own, key); p != 0 {
			return v.core.pairs.all[p].value, true
		}
	}
	return "", false
}

// named finds a label by name; there are few, so looking at each is quickest.
func (c *core) named(own []entry, name string) uint32 {
	for i := range own {
		if c.labels.all[own[i].label].name == name {
			return own[i].pair
		}
	}
	return 0
}
