// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Where rules are compiled, members of sets become classes of peers, and few
// sets are asked for by rules in the kernel. Those are passed on; the others
// are only kept.

func (c *compiler) set(name string) *keptSet {
	s := c.sets[name]
	if s == nil {
		s = &keptSet{members: map[ruleset.Element]struct{}{}}
		c.sets[name] = s
	}
	return s
}

func (c *compiler) noteSet(p *Planner, ch intent.Change) {
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		name := setName(ch.Key.Name, f)
		s := c.set(name)
		s.def = nil
		if ch.Value != nil {
			s.def = p.rulesetSet(ch.Value.(*intent.Set), f)
		}
		c.moved[name] = true
	}
}

// tooLarge reports whether a set may not have so many members: then rules by
// it are weakened towards denial, which only the kernel's own set can say.
func (c *compiler) tooLarge(p *Planner, s *keptSet) bool {
	return p.settings.MaxSetSize > 0 && len(s.members) > p.settings.MaxSetSize
}

// noteKept takes a member that is there or no longer.
func (p *Planner) noteKept(id ruleset.ID, in bool) {
	c := p.compiler
	s := c.set(id.Name)
	if _, there := s.members[id.Elem]; there == in {
		return
	}
	was := c.tooLarge(p, s)
	if in {
		s.members[id.Elem] = struct{}{}
	} else {
		delete(s.members, id.Elem)
		if len(s.members) == 0 {
			c.moved[id.Name] = true // it may be forgotten
		}
	}
	if s.wanted != nil {
		if in {
			p.out.Want(id, ruleset.Member{})
		} else {
			p.out.Unwant(id)
		}
	}
	if was != c.tooLarge(p, s) {
		for chain := range c.units {
			c.dirty[chain] = true
		}
	}
	if id.Elem.Proto != 0 || id.Elem.Port != 0 {
		return
	}
	for owner, prog := range c.programs {
		if prog.p != nil {
			prog.p.Member(id.Name, id.Elem.Net, in)
			c.touched[owner] = true
		}
	}
}

// refer keeps count of the sets that chains ask for.
func (c *compiler) refer(id ruleset.ID, o ruleset.Object) {
	if id.Kind != ruleset.KindChain {
		return
	}
	for _, name := range c.asked[id.Name] {
		c.refs[name]--
		c.moved[name] = true
	}
	delete(c.asked, id.Name)
	if o == nil {
		return
	}
	var asks []string
	for i := range o.(*ruleset.Chain).Rules {
		m := &o.(*ruleset.Chain).Rules[i].Match
		for _, l := range [][]string{m.SrcSets, m.NotSrcSets, m.DstSets, m.NotDstSets, m.SrcPortSets, m.NotSrcPortSets, m.DstPortSets, m.NotDstPortSets} {
			asks = append(asks, l...)
		}
	}
	for _, name := range asks {
		c.refs[name]++
		c.moved[name] = true
	}
	if len(asks) > 0 {
		c.asked[id.Name] = slices.Clip(asks)
	}
}

// planSets passes on the sets that are asked for now, and takes back others.
func (p *Planner) planSets() {
	c := p.compiler
	for name := range c.moved {
		if c.refs[name] == 0 {
			delete(c.refs, name)
		}
		s := c.sets[name]
		if s == nil {
			continue
		}
		id := ruleset.ID{Kind: ruleset.KindSet, Name: name}
		member := func(e ruleset.Element) ruleset.ID {
			return ruleset.ID{Kind: ruleset.KindMember, Name: name, Elem: e}
		}
		if s.def != nil {
			s.def = &ruleset.Set{Family: s.def.Family, Type: s.def.Type, MaxSize: p.settings.MaxSetSize}
		}
		switch want := s.def != nil && c.refs[name] > 0; {
		case want && (s.wanted == nil || *s.wanted != *s.def):
			fresh := s.wanted == nil
			s.wanted = s.def
			p.out.Want(id, s.def)
			if fresh {
				for e := range s.members {
					p.out.Want(member(e), ruleset.Member{})
				}
			}
		case !want && s.wanted != nil:
			s.wanted = nil
			for e := range s.members {
				p.out.Unwant(member(e))
			}
			p.out.Unwant(id)
		}
		if s.def == nil && len(s.members) == 0 {
			delete(c.sets, name)
		}
	}
	clear(c.moved)
}
