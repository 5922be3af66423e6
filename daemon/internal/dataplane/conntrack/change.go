// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// change is what a pass is about: what became other than it was.
type change struct {
	objects map[ruleset.ID]ruleset.Object // nil: gone
	old     map[ruleset.ID]ruleset.Object // what they were; nil: they were not
	// members covers the members of sets that came or went, chains are those
	// that changed, and rest tells of other changes.
	members cover
	chains  []string
	rest    bool
	// difference is what chains make out for a flow; nil: it must be judged.
	difference *ruleset.Difference
}

// changeOf is the difference that noted wishes make to a state.
func changeOf(s *ruleset.State, noted map[ruleset.ID]ruleset.Object) change {
	c := change{objects: map[ruleset.ID]ruleset.Object{}, old: map[ruleset.ID]ruleset.Object{}}
	for id, o := range noted {
		old := object(s, id)
		if reflect.DeepEqual(old, o) {
			continue
		}
		c.objects[id], c.old[id] = o, old
		switch id.Kind {
		case ruleset.KindMember:
			c.members.add(id.Elem.Net)
		case ruleset.KindVerdict: // of addresses: as good as a member
			if id.Elem.Net.IsValid() {
				c.members.add(id.Elem.Net)
			} else {
				c.rest = true
			}
		case ruleset.KindChain:
			c.chains = append(c.chains, id.Name)
		case ruleset.KindSet, ruleset.KindVerdicts: // one that comes or goes is not used by other chains
			c.rest = c.rest || old != nil && o != nil
		default:
			c.rest = true
		}
	}
	return c
}

// object is what a state has under a name; nil: nothing.
func object(s *ruleset.State, id ruleset.ID) ruleset.Object {
	switch id.Kind {
	case ruleset.KindChain:
		if c, ok := s.Chains[id.Name]; ok {
			return c
		}
	case ruleset.KindSet:
		if v, ok := s.Sets[id.Name]; ok {
			return v
		}
	case ruleset.KindMember:
		if _, ok := s.Members[id.Name][id.Elem]; ok {
			return ruleset.Member{}
		}
	case ruleset.KindDispatch:
		if d, ok := s.Dispatches[id.Name]; ok {
			return d
		}
	case ruleset.KindEntry:
		if e, ok := s.Entries[id.Name][id.Iface]; ok {
			return e
		}
	case ruleset.KindVerdicts:
		if m := s.Verdicts[id.Name]; m != nil && m.Def != nil {
			return m.Def
		}
	case ruleset.KindVerdict:
		if m := s.Verdicts[id.Name]; m != nil {
			if r, ok := m.Of[ruleset.VerdictKey{Net: id.Elem.Net, Range: id.Range}]; ok {
				return r
			}
		}
	}
	return nil
}

// apply makes the change in a state.
func (c *change) apply(s *ruleset.State) {
	for id, o := range c.objects {
		if o == nil {
			s.Unwant(id)
			continue
		}
		s.Want(id, o)
	}
}

// and is the change from before c to behind next, which follows it. c is not
// used any more; what it makes of objects is left out.
func (c change) and(next change) change {
	old := maps.Clone(next.old)
	if old == nil {
		old = map[ruleset.ID]ruleset.Object{}
	}
	maps.Copy(old, c.old)
	for p := range next.members.prefixes {
		c.members.add(p)
	}
	chains := slices.Concat(c.chains, next.chains)
	slices.Sort(chains)
	return change{old: old, members: c.members, chains: slices.Compact(chains), rest: c.rest || next.rest}
}

// concerns tells whether the change can matter to a flow, of which neither way
// nor interfaces need be known yet.
func (c *change) concerns(f *ruleset.Flow) bool {
	return c.rest || c.difference == nil || f.Has(c.members.has) || c.difference.Touches(f)
}

// family is the address family of all flows that the change can matter to;
// AF_UNSPEC: of both.
func (c *change) family() byte {
	if c.rest || c.difference == nil || len(c.chains) > 0 || len(c.members.prefixes) == 0 {
		return unix.AF_UNSPEC
	}
	v4 := slices.Contains(c.members.lengths4[:], true)
	switch v6 := slices.Contains(c.members.lengths6[:], true); {
	case v4 && v6:
		return unix.AF_UNSPEC
	case v4:
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// cover is a set of prefixes. The zero value is empty.
type cover struct {
	prefixes map[netip.Prefix]struct{}
	lengths4 [33]bool
	lengths6 [129]bool
}

func (c *cover) add(p netip.Prefix) {
	if c.prefixes == nil {
		c.prefixes = map[netip.Prefix]struct{}{}
	}
	c.prefixes[p] = struct{}{}
	if p.Addr().Is4() {
		c.lengths4[p.Bits()] = true
	} else {
		c.lengths6[p.Bits()] = true
	}
}

// has tells whether any of the prefixes covers a.
func (c *cover) has(a netip.Addr) bool {
	_, ok := c.longest(a)
	return ok
}

// longest is the longest of the prefixes that cover a; false: none does.
func (c *cover) longest(a netip.Addr) (netip.Prefix, bool) {
	lengths := c.lengths6[:]
	if a.Is4() {
		lengths = c.lengths4[:]
	}
	for bits := len(lengths) - 1; bits >= 0; bits-- {
		if !lengths[bits] {
			continue
		}
		p, _ := a.Prefix(bits)
		if _, ok := c.prefixes[p]; ok {
			return p, true
		}
	}
	return netip.Prefix{}, false
}
