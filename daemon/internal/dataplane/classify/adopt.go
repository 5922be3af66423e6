// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"maps"
	"net/netip"
	"slices"
)

// adopt takes over what a space of a program before knows of peers, if most of
// the atoms there are still of use. Rules are new; which atoms they ask for
// is found out by split.
func (s *space) adopt(old *space) {
	used := 0
	for _, rules := range old.rulesOf {
		if len(rules) > 0 {
			used++
		}
	}
	if 2*used < len(old.rulesOf) {
		return // full of atoms that are gone
	}
	s.adopted = true
	s.atoms, s.atomOf, s.nets, s.netsOf = old.atoms, old.atomOf, old.nets, old.netsOf
	s.rulesOf = make([][]int32, len(old.rulesOf))
	s.held = make([]bool, len(old.rulesOf))
	for a, rules := range old.rulesOf {
		s.held[a] = len(rules) > 0
	}
	s.own, s.lengths, s.classOf, s.classes, s.root = old.own, old.lengths, old.classOf, old.classes, old.root
	st, was := &s.program.store, &old.program.store
	for _, name := range []string{s.singles(), s.wides()} {
		st.maps[name] = was.maps[name]
	}
}

// again gives the classes of a program before what the new rules say of them,
// then moves peers that new atoms hold or gone ones held.
func (s *space) again() error {
	moved := map[*class]bool{}
	for _, inner := range []bool{false, true} { // the class around comes first
		for _, c := range s.classes {
			if (c.parent != s.root) != inner {
				continue
			}
			before := c.target
			around := c.parent
			if err := s.compile(c); err != nil {
				return err
			}
			if c.target != before || moved[around] {
				moved[c] = true
			}
		}
	}
	affected := s.changedAtoms()
	if len(moved) == 0 && len(affected) == 0 {
		return nil
	}
	st := &s.program.store
	for _, name := range []string{s.singles(), s.wides()} { // not to be changed under the program before
		m := *st.maps[name]
		m.of = maps.Clone(m.of)
		st.maps[name] = &m
	}
	if len(moved) > 0 {
		for n, c := range s.classOf {
			if moved[c] {
				s.point(n, c)
			}
		}
	}
	wide := false
	for n := range affected {
		wide = wide || !n.IsSingleIP()
	}
	if wide { // much may lie in it
		for n := range s.own {
			affected[n] = true
		}
	}
	for _, singles := range []bool{false, true} {
		for n := range affected {
			if n.IsSingleIP() == singles {
				if err := s.place(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// changedAtoms gives atoms that rules ask for now, and did not before, their
// members, and takes those of the others away.
func (s *space) changedAtoms() map[netip.Prefix]bool {
	affected := map[netip.Prefix]bool{}
	gone := map[int32]bool{}
	for a := range s.atoms {
		held := a < len(s.held) && s.held[a]
		switch asked := len(s.rulesOf[a]) > 0; {
		case asked && !held:
			for n := range s.membersOf(int32(a)) {
				s.hold(n, int32(a))
				affected[n] = true
			}
		case !asked && held:
			gone[int32(a)] = true
		}
	}
	if len(gone) == 0 {
		return affected
	}
	for n, atoms := range s.own {
		if slices.ContainsFunc(atoms, func(a int32) bool { return gone[a] }) {
			s.own[n] = slices.DeleteFunc(atoms, func(a int32) bool { return gone[a] })
			affected[n] = true
			if len(s.own[n]) == 0 {
				delete(s.own, n)
				s.lengths[n.Bits()]--
			}
		}
	}
	return affected
}

// membersOf visits the members of an atom that are of the space's family.
func (s *space) membersOf(a int32) func(yield func(netip.Prefix) bool) {
	return func(yield func(netip.Prefix) bool) {
		if set, is := setOf(s.atoms[a]); is {
			for e := range s.program.in.Members(set) {
				if s.fits(e.Net) && !yield(e.Net) {
					return
				}
			}
			return
		}
		for _, n := range s.netsOf[a] {
			if s.fits(n) && !yield(n.Masked()) {
				return
			}
		}
	}
}

// hold notes that an atom has a prefix as a member.
func (s *space) hold(n netip.Prefix, a int32) {
	if s.own[n] == nil {
		s.lengths[n.Bits()]++
	}
	s.own[n] = insert(s.own[n], a)
}
