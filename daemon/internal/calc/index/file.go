// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/selector"
)

// A membership is a place in a list of selectors: in which list, of which
// label or pair, and where in it.
type membership struct {
	kind       listKind
	owner, pos uint32
}

type listKind uint8

const (
	labelUsers listKind = iota + 1
	labelFiled
	pairUsers
	pairFiled
	unfiled
)

// maskOf is one of 64 bits for a label. A selector whose mask has none of the
// bits of the labels that changed does not ask for any of them.
func maskOf(label uint32) uint64 { return 1 << (label % 64) }

func never(needs []selector.Restriction) bool {
	return len(needs) == 1 && needs[0].Values != nil && len(needs[0].Values) == 0
}

// file puts a selector into the lists where it is looked for: as a user of each
// label it asks for, and filed under the one need that the fewest items meet.
func (c *core) file(s uint32, needs []selector.Restriction) {
	c.sels.all[s].mask = 0
	if never(needs) {
		return
	}
	mask := uint64(0)
	for _, name := range c.sels.all[s].sel.Labels() {
		l := c.label(name)
		mask |= maskOf(l)
		i := slices.IndexFunc(needs, func(r selector.Restriction) bool { return r.Label == name })
		if i < 0 || needs[i].Values == nil {
			c.join(s, labelUsers, l)
			continue
		}
		for _, v := range needs[i].Values {
			c.join(s, pairUsers, c.pair(name, v))
		}
	}
	c.sels.all[s].mask = mask

	// Where many selectors are filed already is no good place either, even if
	// no item is there yet: they may all come later.
	best, least := -1, 0
	for i, r := range needs {
		n := c.filedUnder(r)
		if best >= 0 {
			n += c.count(r, least-n)
		} else {
			n += c.count(r, len(c.items))
		}
		if best < 0 || n < least {
			best, least = i, n
		}
	}
	switch {
	case best < 0:
		c.join(s, unfiled, 0)
	case needs[best].Values == nil:
		c.join(s, labelFiled, c.label(needs[best].Label))
	default:
		for _, v := range needs[best].Values {
			c.join(s, pairFiled, c.pair(needs[best].Label, v))
		}
	}
}

// list is the number of a list of selectors, to read or set; nil for unfiled.
func (c *core) list(kind listKind, owner uint32) *uint32 {
	switch kind {
	case labelUsers:
		return &c.labels.all[owner].users
	case labelFiled:
		return &c.labels.all[owner].filed
	case pairUsers:
		return &c.pairs.all[owner].users
	case pairFiled:
		return &c.pairs.all[owner].filed
	case unfiled:
		return nil
	}
	panic("index: unknown kind of list")
}

func (c *core) join(s uint32, kind listKind, owner uint32) {
	members := &c.unfiled
	if list := c.list(kind, owner); list != nil {
		if *list == 0 {
			*list = c.lists.add(nil)
		}
		members = &c.lists.all[*list]
	}
	at := &c.sels.all[s]
	at.in = append(at.in, membership{kind: kind, owner: owner, pos: uint32(len(*members))})
	*members = append(*members, s)
}

func (c *core) leaveAll(s uint32) {
	for _, m := range c.sels.all[s].in {
		list := c.list(m.kind, m.owner)
		members := &c.unfiled
		if list != nil {
			members = &c.lists.all[*list]
		}
		rest, moved, ok := cut(*members, m.pos)
		*members = rest
		if ok {
			in := c.sels.all[moved].in
			i := slices.IndexFunc(in, func(o membership) bool { return o.kind == m.kind && o.owner == m.owner })
			in[i].pos = m.pos
		}
		if list == nil || len(rest) > 0 {
			continue
		}
		c.lists.remove(*list)
		*list = 0
		switch m.kind {
		case labelUsers, labelFiled:
			c.tidyLabel(m.owner)
		case pairUsers, pairFiled:
			c.tidyPair(m.owner)
		}
	}
	c.sels.all[s].in = nil
}

// filedUnder counts the selectors filed where one with this need would be.
func (c *core) filedUnder(r selector.Restriction) int {
	l, ok := c.labelNames[r.Label]
	if !ok {
		return 0
	}
	if r.Values == nil {
		return len(c.selectors(c.labels.all[l].filed))
	}
	n := 0
	for _, v := range r.Values {
		if p := c.labels.all[l].values[v]; p != 0 {
			n += len(c.selectors(c.pairs.all[p].filed))
		}
	}
	return n
}

// count is how many items may meet a need; it stops counting at enough.
func (c *core) count(r selector.Restriction, enough int) int {
	l, ok := c.labelNames[r.Label]
	if !ok {
		return 0
	}
	n := 0
	if r.Values == nil {
		if n = c.labels.all[l].items; n < enough {
			for _, p := range c.labels.all[l].values {
				if n += c.inheritors(p); n >= enough {
					break
				}
			}
		}
		return n
	}
	for _, v := range r.Values {
		if p := c.labels.all[l].values[v]; p != 0 {
			n += len(c.pairs.all[p].items)
			if n += c.inheritors(p); n >= enough {
				break
			}
		}
	}
	return n
}

func (c *core) inheritors(pair uint32) int {
	n := 0
	for _, p := range c.selectors(c.pairs.all[pair].parents) {
		n += len(c.parents.all[p].children)
	}
	return n
}

// selectors is the members of a list; a list of parents is read the same way.
func (c *core) selectors(list uint32) []uint32 {
	if list == 0 {
		return nil
	}
	return c.lists.all[list]
}
