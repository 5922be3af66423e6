// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// rule is a Rule as a space sees it.
type rule struct {
	*Rule
	protocol, notProtocol uint8
	// peer is what must hold of the peer.
	peer            []condition
	ports, notPorts []ruleset.PortRange
	// rest is what else must hold; nil: nothing.
	rest *ruleset.Match
	// never: it is of the other family.
	never bool
}

// condition: the peer is, or is not, in the set or the nets.
type condition struct {
	atom int32
	is   bool
}

// step is one rule of a list.
type step struct {
	match ruleset.Match
	verb  ruleset.Verb
	chain string
}

// decide finds the rules that packets of a class in a column can meet, from
// one on, and the chain that does as they say. before are chains that packets
// have been counted by already on the way, and are still to go through.
func (s *space) decide(c *class, p *plane, col *column, from int32, before ...string) (string, error) {
	var steps []step
	for _, chain := range before {
		steps = append(steps, step{verb: ruleset.Jump, chain: chain})
	}
	a, b := at(col.rules, from), at(p.wide, from)
	for {
		var i int32
		switch {
		case a < len(col.rules) && (b >= len(p.wide) || col.rules[a] < p.wide[b]):
			i = col.rules[a]
			a++
		case b < len(p.wide):
			i = p.wide[b]
			b++
		default:
			panic("classify: the last rule does not match all")
		}
		s.program.work++
		r := &s.rules[i]
		if i < from || !c.meets(r.peer) || p.isWide[i] && !p.inColumn(r, col) {
			continue
		}
		if s.program.work > s.program.limits.Work {
			return "", ErrTooLarge
		}
		st := step{verb: ruleset.Goto, chain: r.Chain}
		if r.rest != nil {
			st.match = *r.rest
		}
		switch {
		case r.Ends:
		case r.rest == nil || r.Next == int(i)+1:
			st.verb = ruleset.Jump
			if r.rest == nil {
				from = int32(r.Next)
			}
		default: // what it passes on goes another way from here
			to, err := s.decide(c, p, col, int32(r.Next), r.Chain)
			if err != nil {
				return "", err
			}
			st.chain = to
		}
		steps = append(steps, st)
		if r.rest == nil && r.Ends {
			return s.program.chainFor(steps)
		}
	}
}

func at(list []int32, from int32) int {
	lo, hi := 0, len(list)
	for lo < hi {
		if m := (lo + hi) / 2; list[m] < from {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// chainFor is the chain that goes through the steps.
func (p *Program) chainFor(steps []step) (string, error) {
	if len(steps) == 1 {
		return steps[0].chain, nil
	}
	c := &ruleset.Chain{}
	for _, st := range steps {
		c.Rules = append(c.Rules, ruleset.Rule{Match: st.match, Action: ruleset.Action{Verb: st.verb, Target: st.chain}})
	}
	sum := sha256.Sum256([]byte(c.String()))
	name := fmt.Sprintf("%s//l/%s", p.in.Base, hex.EncodeToString(sum[:8]))
	p.made[name] = true
	if p.store.chains[name] == nil {
		if len(p.lists) >= p.limits.Lists {
			return "", fmt.Errorf("more than %d lists of rules: %w", p.limits.Lists, ErrTooLarge)
		}
		p.lists[name] = 0
		p.store.chain(name, c)
	}
	return name, nil
}

// split takes the peer and the ports out of a match.
func (s *space) split(r *Rule) rule {
	m := *r.Match
	out := rule{Rule: r, protocol: m.Protocol, notProtocol: m.NotProtocol, ports: m.DstPorts, notPorts: m.NotDstPorts}
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
	}
	return out
}

func isZero(m *ruleset.Match) bool {
	return m.InInterface == "" && m.OutInterface == "" && m.InPrefix == "" && m.OutPrefix == "" && !m.FromHost &&
		m.CtState == 0 && !m.DNATed && !m.NotDNATed && m.Mark == 0 && m.MarkMask == 0 &&
		m.Family == 0 && m.Protocol == 0 && m.NotProtocol == 0 && m.ICMP == nil && m.NotICMP == nil && !m.HopLimit255 &&
		len(m.Src)+len(m.NotSrc)+len(m.Dst)+len(m.NotDst) == 0 &&
		len(m.SrcSets)+len(m.NotSrcSets)+len(m.DstSets)+len(m.NotDstSets) == 0 &&
		len(m.SrcPorts)+len(m.NotSrcPorts)+len(m.DstPorts)+len(m.NotDstPorts) == 0 &&
		len(m.SrcPortSets)+len(m.NotSrcPortSets)+len(m.DstPortSets)+len(m.NotDstPortSets) == 0
}
