// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"net/netip"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// setState is a set of the ruleset: the elements that are wanted, and those
// that the kernel has. The kernel's hash:net takes overlapping prefixes, but
// none of length 0: that one is kept as its two halves.
type setState struct {
	name  string
	want  *ruleset.Set // nil: not wanted
	def   *ruleset.Set // what it was when it was last wanted
	kname string       // in the kernel; empty: nothing yet
	m     map[ruleset.Element]uint8
	queue map[ruleset.Element]struct{} // whose state may differ from what is wanted
	wants int                          // elements that the kernel shall have
	haves int                          // elements that it has
	loose map[ruleset.Element]struct{} // members told before the set, or that cannot be in it
	over  bool                         // it will not hold all
	// refused is the kernel's answer; left alone until Filter.retry.
	refused error
}

const (
	elWant = 1 << iota // is a member
	elHalf             // is half of the member of length 0
	elHave             // is in the kernel
	elSeen             // was seen in the listing under way
)

const elWanted = elWant | elHalf

// fits reports whether e can be a member.
func (s *setState) fits(e ruleset.Element) bool {
	if s.def == nil || !e.Net.IsValid() || e.Net.Addr().Is4() != (s.def.Family == ruleset.IPv4) || e.Net.Addr().Is4In6() {
		return false
	}
	if s.def.Type == ruleset.TypeAddrPort {
		return e.Net.IsSingleIP() && ruleset.HasPorts(e.Proto)
	}
	return e.Proto == 0 && e.Port == 0
}

// mark changes the flags of what stands for a member in the kernel.
func (s *setState) mark(e ruleset.Element, wanted bool) {
	e.Net = e.Net.Masked()
	if e.Proto != 0 || e.Net.Bits() > 0 {
		s.flag(e, elWant, wanted)
		return
	}
	low := netip.PrefixFrom(e.Net.Addr(), 1)
	high := e.Net.Addr().AsSlice()
	high[0] = 0x80
	a, _ := netip.AddrFromSlice(high)
	s.flag(ruleset.Element{Net: low}, elHalf, wanted)
	s.flag(ruleset.Element{Net: netip.PrefixFrom(a, 1)}, elHalf, wanted)
}

func (s *setState) flag(e ruleset.Element, bit uint8, on bool) {
	old := s.m[e]
	v := old &^ bit
	if on {
		v |= bit
	}
	if old&elWanted == 0 && v&elWanted != 0 {
		s.wants++
	} else if old&elWanted != 0 && v&elWanted == 0 {
		s.wants--
	}
	s.put(e, v)
}

// put keeps the queue right.
func (s *setState) put(e ruleset.Element, v uint8) {
	if v == 0 {
		delete(s.m, e)
		delete(s.queue, e)
		return
	}
	s.m[e] = v
	if (v&elWanted != 0) != (v&elHave != 0) {
		s.queue[e] = struct{}{}
	} else {
		delete(s.queue, e)
	}
}

func (s *setState) loosen(e ruleset.Element) {
	if s.loose == nil {
		s.loose = map[ruleset.Element]struct{}{}
	}
	s.loose[e] = struct{}{}
}

// wantMember and unwantMember note a member.
func (s *setState) wantMember(e ruleset.Element) {
	if s.fits(e) {
		s.mark(e, true)
	} else {
		s.loosen(e)
	}
}

func (s *setState) unwantMember(e ruleset.Element) {
	if s.fits(e) {
		s.mark(e, false)
	}
	delete(s.loose, e)
}

// define notes what the set is. If it becomes another, its members move, and
// the kernel's set of before is not it any more.
func (s *setState) define(v *ruleset.Set) {
	s.want = v
	if s.def != nil && s.def.Type == v.Type && s.def.Family == v.Family {
		s.def = v
		return
	}
	old, loose := s.m, s.loose
	s.def, s.kname = v, ""
	s.m, s.queue, s.wants, s.haves, s.loose = map[ruleset.Element]uint8{}, map[ruleset.Element]struct{}{}, 0, 0, nil
	for e, flags := range old {
		switch {
		case flags&elWant != 0:
			s.wantMember(e)
		case flags&elHalf != 0 && !s.fits(ruleset.Element{Net: netip.PrefixFrom(e.Net.Addr(), 0)}):
			s.loosen(ruleset.Element{Net: netip.PrefixFrom(e.Net.Addr(), 0).Masked()})
		case flags&elHalf != 0:
			s.mark(ruleset.Element{Net: netip.PrefixFrom(e.Net.Addr(), 0)}, true)
		}
	}
	for e := range loose {
		s.wantMember(e)
	}
}

// take works out the next change, with room for limit elements.
func (s *setState) take(limit int) (add, del []ruleset.Element) {
	for e := range s.queue {
		if s.m[e]&elHave != 0 {
			del = append(del, e)
		} else {
			add = append(add, e)
		}
	}
	sortElements(add)
	sortElements(del)
	if room := max(0, limit-s.haves+len(del)); len(add) > room {
		add = add[:room:room]
	}
	return add, del
}

// settle notes that a change was done.
func (s *setState) settle(add, del []ruleset.Element) {
	for _, e := range add {
		s.put(e, s.m[e]|elHave)
	}
	for _, e := range del {
		s.put(e, s.m[e]&^elHave)
	}
	s.haves += len(add) - len(del)
}

// lose notes that the kernel has none of the elements.
func (s *setState) lose() {
	s.kname = ""
	s.seenAll()
}

// see notes that a listing of the kernel's set holds e; seenAll ends the
// listing and counts what differs from what was believed.
func (s *setState) see(e ruleset.Element) { s.m[e] |= elSeen }

func (s *setState) seenAll() (missing, extra int) {
	s.haves = 0
	for e, v := range s.m {
		switch v & (elHave | elSeen) {
		case elHave:
			missing++
		case elSeen:
			extra++
		}
		now := v &^ (elHave | elSeen)
		if v&elSeen != 0 {
			s.haves++
			now |= elHave
		}
		s.put(e, now)
	}
	return missing, extra
}
