// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// rule is a Rule as a space sees it.
type rule struct {
	space *space
	chain target
	ends  bool
	// place orders rules; next is the one that follows if this one does not
	// end, nil: the next in order.
	place int64
	next  *rule

	protocol, notProtocol uint8
	wide                  bool // see isWide
	// peer is what must hold of the peer.
	peer            []condition
	ports, notPorts []ruleset.PortRange
	// rest is what else must hold, as a match and as text; nil: nothing.
	rest *ruleset.Match
	text string
}

// condition: the peer is, or is not, in the set or the nets.
type condition struct {
	atom int32
	is   bool
}

// question is what of a packet is known when it is asked where it goes: the
// lists hold every rule that can match, in order.
type question struct {
	listed, wide []*rule
	// ask tells whether a rule of wide is about the packet.
	ask func(r *rule) bool
}

// decide finds the rules that packets of a class can meet, from a place on,
// and the chain that does as they say. before is a chain that packets have
// been counted by already on the way, and are still to go through.
func (s *space) decide(c *class, q *question, place int64, before target) target {
	p := s.program
	var buf [8]step
	steps := buf[:0]
	if before != nowhere {
		steps = append(steps, step{verb: ruleset.Jump, to: before})
	}
	a, b := from(q.listed, place), from(q.wide, place)
	for {
		var r *rule
		asked := false
		switch {
		case a < len(q.listed) && (b >= len(q.wide) || q.listed[a].place < q.wide[b].place):
			r = q.listed[a]
			a++
		case b < len(q.wide):
			r, asked = q.wide[b], true
			b++
		default:
			panic("classify: the last rule does not match all")
		}
		p.work++
		if r.place < place || !c.meets(r.peer) || asked && !q.ask(r) {
			continue
		}
		if p.work > p.limits.Work && p.err == nil {
			p.err = ErrTooLarge
		}
		if p.err != nil {
			return r.chain // nobody will hear of it
		}
		st := step{verb: ruleset.Goto, to: r.chain, match: r.rest, text: r.text}
		switch {
		case r.ends:
		case r.rest == nil || r.next == nil:
			st.verb = ruleset.Jump
			if r.rest == nil && r.next != nil {
				place = r.next.place
			}
		default: // what it passes on goes another way from here
			st.to = s.decide(c, q, r.next.place, r.chain)
		}
		steps = append(steps, st)
		if r.rest == nil && r.ends {
			if len(steps) == 1 {
				return steps[0].to
			}
			return p.listOf(steps)
		}
	}
}

// newRule takes the peer and the ports out of a match.
func (s *space) newRule(in *Rule) *rule {
	m := in.Of.Match(in.Family, in.Nth)
	out := &rule{
		space: s, chain: s.program.targets.chain(in.Chain), ends: in.Ends,
		protocol: m.Protocol, notProtocol: m.NotProtocol, ports: m.DstPorts, notPorts: m.NotDstPorts, wide: isWide(m.DstPorts),
	}
	nets, notNets, sets, notSets := &m.Src, &m.NotSrc, &m.SrcSets, &m.NotSrcSets
	if s.program.in.Egress {
		nets, notNets, sets, notSets = &m.Dst, &m.NotDst, &m.DstSets, &m.NotDstSets
	}
	if len(*nets) > 0 {
		out.peer = append(out.peer, condition{s.netAtom(*nets), true})
	}
	if len(*notNets) > 0 {
		out.peer = append(out.peer, condition{s.netAtom(*notNets), false})
	}
	for _, name := range *sets {
		out.peer = append(out.peer, condition{s.setAtom(name), true})
	}
	for _, name := range *notSets {
		out.peer = append(out.peer, condition{s.setAtom(name), false})
	}
	*nets, *notNets, *sets, *notSets = nil, nil, nil, nil
	m.DstPorts, m.NotDstPorts = nil, nil
	bare := m
	bare.Family, bare.Protocol, bare.NotProtocol = 0, 0, 0
	if !isZero(&bare) {
		rest := m
		out.rest = &rest
		out.text = (&ruleset.Rule{Match: m, Action: ruleset.Action{Verb: ruleset.Accept}}).String()
	}
	return out
}

func isZero(m *ruleset.Match) bool {
	return m.InInterface == "" && m.OutInterface == "" && m.InPrefix == "" && m.OutPrefix == "" && !m.FromHost &&
		m.CtState == 0 && !m.DNATed && !m.NotDNATed && !m.Cut && m.Mark == 0 && m.MarkMask == 0 &&
		m.Family == 0 && m.Protocol == 0 && m.NotProtocol == 0 && m.ICMP == nil && m.NotICMP == nil && !m.HopLimit255 && !m.Fragment &&
		len(m.Src)+len(m.NotSrc)+len(m.Dst)+len(m.NotDst) == 0 &&
		len(m.SrcSets)+len(m.NotSrcSets)+len(m.DstSets)+len(m.NotDstSets) == 0 &&
		len(m.SrcPorts)+len(m.NotSrcPorts)+len(m.DstPorts)+len(m.NotDstPorts) == 0 &&
		len(m.SrcPortSets)+len(m.NotSrcPortSets)+len(m.DstPortSets)+len(m.NotDstPortSets) == 0
}
