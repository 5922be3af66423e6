// SPDX-License-Identifier: Apache-2.0

package ruleset

import "net/netip"

// Difference tells, without a look at the whole of two rulesets, of most flows
// that they fare alike in both: where all that differs is some chains that see
// nothing but addresses, protocol and ports (the rules of a policy), it is
// enough to compare what these do with the flow.
type Difference struct {
	before, now *State
	chains      []string // in both, and other in each
}

// worthwhile is how many chains it is quicker to compare than to judge a flow
// twice.
const worthwhile = 20

// NewDifference compares two rulesets in which only these chains differ, and
// the members of sets. (Chains that one of the two lacks do not matter unless
// they are base chains: only chains that differ as well lead to them.) It
// returns nil if one of the chains sees more of a packet, or if there are too
// many; then nothing can be said in short.
func NewDifference(before, now *State, chains []string) *Difference {
	d := &Difference{before: before, now: now}
	for _, name := range chains {
		b, n := before.Chains[name], now.Chains[name]
		switch {
		case b != nil && b.Hook != NoHook, n != nil && n.Hook != NoHook:
			return nil
		case b == nil, n == nil:
			continue
		}
		if !before.plain(name, 0) || !now.plain(name, 0) {
			return nil
		}
		if d.chains = append(d.chains, name); len(d.chains) > worthwhile {
			return nil
		}
	}
	return d
}

// plain reports whether a chain and all that it leads to see of a packet only
// what is the same at every hook, but for the destination.
func (s *State) plain(name string, depth int) bool {
	c := s.Chains[name]
	if c == nil || c.Hook != NoHook || depth >= maxDepth {
		return false
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		m := &r.Match
		if m.InInterface != "" || m.OutInterface != "" || m.InPrefix != "" || m.OutPrefix != "" || m.FromHost ||
			m.CtState != 0 || m.DNATed || m.NotDNATed || m.Cut || m.MarkMask != 0 || m.HopLimit255 || m.Fragment {
			return false
		}
		switch r.Action.Verb {
		case Accept, Drop, Reject, Return, Log, SetMark:
		case Jump, Goto:
			if !s.plain(r.Action.Target, depth+1) {
				return false
			}
		case DispatchIn, DispatchOut, NoTrack:
			return false
		default:
			return false
		}
	}
	return true
}

// Touches reports whether a flow may fare differently. Its way and interfaces
// need not be known.
func (d *Difference) Touches(f *Flow) bool {
	p := Packet{
		Src: f.Src, Dst: f.Dst, Protocol: f.Protocol, SrcPort: f.SrcPort, DstPort: f.DstPort,
		ICMPType: f.ICMPType, ICMPCode: f.ICMPCode, State: CtNew, HopLimit: 64,
	}
	if d.differs(p) {
		return true
	}
	if f.DNATed {
		p.Dst, p.DstPort = f.NewDst, f.NewDstPort
		return d.differs(p)
	}
	return false
}

func (d *Difference) differs(p Packet) bool {
	for _, name := range d.chains {
		// What is done to the mark shows in one where all bits are clear, and
		// in one where all are set: no rule looks at it.
		for _, p.Mark = range [...]uint32{0, ^uint32(0)} {
			v1, m1 := d.before.outcome(name, p)
			v2, m2 := d.now.outcome(name, p)
			if v1 != v2 || m1 != m2 {
				return true
			}
		}
	}
	return false
}

// outcome is what a chain decides and makes of the mark.
func (s *State) outcome(name string, p Packet) (Verdict, uint32) {
	var t Trace
	e := evaluation{state: s, packet: &p, trace: &t}
	return e.chain(name, 0), p.Mark
}

// Has reports whether any address that packets of the flow have on their way
// to its destination is one of those within.
func (f *Flow) Has(within func(netip.Addr) bool) bool {
	return within(f.Src) || within(f.Dst) || f.DNATed && within(f.NewDst)
}
