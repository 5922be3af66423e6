// SPDX-License-Identifier: Apache-2.0

package ruleset

import "net/netip"

// Comparison tells of many flows whether a change ends them (Cuts), and judges
// only one of those that no rule can tell apart. The rules see of an address
// which of their prefixes cover it, and these are known from the longest of
// them; of a port they see between which borders of their ranges it is. So
// flows that agree in these, and in all else that a flow has, fare alike.
//
// It is good for as long as neither ruleset changes. Not safe for concurrent
// use.
type Comparison struct {
	before, now *State
	patience    int     // how many flows more to judge one by one
	classes     classes // once patience is at its end
	fates       map[class]fate
}

const (
	// classesPay is after how many flows it pays to put them into classes: as many as
	// there are members of sets, divided by this.
	classesPay = 100
	// mostMembers is how many members of sets are gone through at most, which
	// takes some 50 ms; in rulesets with more, flows are judged one by one.
	mostMembers = 500_000
)

// NewComparison compares the ruleset before a change with the one now.
func NewComparison(before, now *State) *Comparison {
	c := &Comparison{before: before, now: now, patience: -1}
	if n := before.size() + now.size(); n <= mostMembers {
		c.patience = 100 + n/classesPay
	}
	return c
}

// size counts the members of sets and the elements of verdict maps.
func (s *State) size() int {
	n := 0
	for _, m := range s.Members {
		n += len(m)
	}
	for _, m := range s.Verdicts {
		n += len(m.Of)
	}
	return n
}

// class is all that rules see of a flow that goes by given interfaces.
type class struct {
	way                       Way
	protocol                  uint8
	icmpType, icmpCode        uint8
	dnated                    bool
	src, dst, newDst          uint32
	srcPort, dstPort, newPort uint16
	in, out                   string
}

// fate is what becomes of a class of flows.
type fate uint8

const (
	unknown   fate = iota
	goesOn         // it is allowed now, or kept
	ended          // it was allowed, and is not now
	neverWent      // it was not allowed before either
)

// Cuts tells whether the change ends a flow; see the function Cuts.
func (c *Comparison) Cuts(f *Flow) bool {
	switch {
	case c.patience > 0:
		c.patience--
		return Cuts(c.before, c.now, f)
	case c.patience < 0:
		return Cuts(c.before, c.now, f)
	case c.fates == nil:
		c.classes, c.fates = newClasses(c.before, c.now), map[class]fate{}
	}
	k := c.classes.of(f)
	was := false
	for _, k.in = range f.ins() {
		for _, k.out = range f.outs() {
			is := c.fates[k]
			if is == unknown {
				is = fateOf(c.before, c.now, f, k.in, k.out)
				c.fates[k] = is
			}
			switch is {
			case goesOn:
				return false
			case ended:
				was = true
			}
		}
	}
	return was
}

// classes knows what rulesets can tell apart.
type classes struct {
	nets    map[netip.Prefix]uint32
	lengths [129]bool
	ports   [1 << 16]uint16 // how many borders are at or below the port, but 0
}

func newClasses(states ...*State) classes {
	s := classes{nets: map[netip.Prefix]uint32{}}
	border := make([]bool, len(s.ports)+1)
	ports := func(list ...PortRange) {
		for _, r := range list {
			border[r.Min], border[int(r.Max)+1] = true, true
		}
	}
	for _, state := range states {
		for _, c := range state.Chains {
			for i := range c.Rules {
				m := &c.Rules[i].Match
				s.add(m.Src...)
				s.add(m.NotSrc...)
				s.add(m.Dst...)
				s.add(m.NotDst...)
				ports(m.SrcPorts...)
				ports(m.NotSrcPorts...)
				ports(m.DstPorts...)
				ports(m.NotDstPorts...)
			}
		}
		for _, l := range state.lookups {
			for _, members := range []map[Element]struct{}{l.members, l.plus} {
				for e := range members {
					s.add(e.Net)
					if e.Proto != 0 {
						ports(PortRange{e.Port, e.Port})
					}
				}
			}
		}
		for _, v := range state.Verdicts {
			for _, rulings := range []map[VerdictKey]Ruling{v.Of, v.other} {
				for k := range rulings {
					if k.Net.IsValid() {
						s.add(k.Net)
					} else {
						ports(k.Range)
					}
				}
			}
		}
	}
	n := uint16(0)
	for p := range s.ports {
		if border[p] && p > 0 {
			n++
		}
		s.ports[p] = n
	}
	return s
}

func (s *classes) add(list ...netip.Prefix) {
	for _, p := range list {
		if p = p.Masked(); s.nets[p] == 0 {
			s.nets[p] = uint32(len(s.nets)) + 2
			s.lengths[p.Bits()] = true
		}
	}
}

// net numbers the longest prefix that covers an address; 0 and 1: none does,
// by family.
func (s *classes) net(a netip.Addr) uint32 {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if !s.lengths[bits] {
			continue
		}
		p, _ := a.Prefix(bits)
		if n := s.nets[p]; n != 0 {
			return n
		}
	}
	if a.Is4() {
		return 0
	}
	return 1
}

// of is the class of a flow, without interfaces.
func (s *classes) of(f *Flow) class {
	k := class{
		way: f.Way, protocol: f.Protocol, icmpType: f.ICMPType, icmpCode: f.ICMPCode, dnated: f.DNATed,
		src: s.net(f.Src), dst: s.net(f.Dst), srcPort: s.ports[f.SrcPort], dstPort: s.ports[f.DstPort],
	}
	if f.DNATed {
		k.newDst, k.newPort = s.net(f.NewDst), s.ports[f.NewDstPort]
	}
	return k
}
