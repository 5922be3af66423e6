// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"fmt"
	"net/netip"
	"reflect"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// fewRanges are said by rules; more need a map.
const fewRanges = 2

var allPorts = []ruleset.PortRange{{Min: 0, Max: 1<<16 - 1}}

func chainID(name string) ruleset.ID { return ruleset.ID{Kind: ruleset.KindChain, Name: name} }
func mapID(name string) ruleset.ID   { return ruleset.ID{Kind: ruleset.KindVerdicts, Name: name} }
func netID(name string, n netip.Prefix) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindVerdict, Name: name, Elem: ruleset.Element{Net: n}}
}
func leadID(name string, l lead) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindVerdict, Name: name, Range: ruleset.PortRange{Min: l.lo, Max: l.hi}}
}

// sweep notes which peers lead elsewhere than before though they have not
// moved, and gives up classes that nobody is of.
func (s *space) sweep() {
	turned := map[*class]bool{}
	for c := range s.dirty {
		if c != s.root && c.told.done && (c.told.target != c.target || c.told.single != c.single()) {
			turned[c] = true
		}
	}
	if len(turned) > 0 {
		for n, p := range s.peers {
			if turned[p.class] {
				if _, noted := s.moved[n]; !noted {
					s.moved[n] = s.toldOf(n, p.class)
				}
			}
		}
	}
	for len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if c.uses > 0 || s.classes[c.key] != c {
			continue
		}
		delete(s.classes, c.key)
		delete(s.dirty, c)
		s.untell(c)
		for k := range c.says {
			s.silence(&c.says[k])
		}
		s.program.targets.release(c.target)
		s.drop(c.parent)
	}
	s.free = append(s.free, s.ended...)
	s.ended = s.ended[:0]
}

// toldOf is where a peer leads by what was told of its class.
func (s *space) toldOf(n netip.Prefix, c *class) target {
	switch {
	case c == nil:
		return nowhere
	case n.IsSingleIP():
		return c.told.single
	}
	return c.told.target
}

// tell passes on what is different from what was told.
func (s *space) tell() {
	out, p := s.program.out, s.program
	if s.toldEntry == nil {
		for _, name := range []string{s.singles(), s.wides()} {
			out.Want(mapID(name), &ruleset.Verdicts{Family: s.family, Type: ruleset.ByNet})
		}
	}
	if asks := s.asks(); s.toldEntry == nil || asks != s.toldAsks {
		s.toldEntry, s.toldAsks = s.entryRules(asks), asks
		out.Want(chainID(s.entry()), &ruleset.Chain{Rules: s.toldEntry})
	}
	for c := range s.dirty {
		s.tellClass(c)
	}
	clear(s.dirty)
	for n, was := range s.moved {
		now := nowhere
		if c := s.peers[n].class; c != nil {
			now = s.toldOf(n, c)
		}
		switch {
		case now == was:
		case now == nowhere:
			p.peers--
			out.Unwant(netID(s.mapFor(n), n))
		default:
			if was == nowhere {
				p.peers++
			}
			out.Want(netID(s.mapFor(n), n), ruleset.Ruling{Chain: p.targets.name(now)})
		}
	}
	if len(s.moved) > 0 {
		s.moved = map[netip.Prefix]target{} // gives the memory of a burst back
	}
}

// asks reports which of the two maps of peers hold some.
func (s *space) asks() (asks struct{ singles, wides bool }) {
	single := 32
	if s.family == ruleset.IPv6 {
		single = 128
	}
	asks.singles = s.lengths[single] > 0
	for _, n := range s.lengths[:single] {
		asks.wides = asks.wides || n > 0
	}
	return asks
}

// entryRules look the peer up in those maps.
func (s *space) entryRules(asks struct{ singles, wides bool }) (rules []ruleset.Rule) {
	field := ruleset.FieldSrc
	if s.program.in.Egress {
		field = ruleset.FieldDst
	}
	lookUp := func(m string) {
		rules = append(rules, ruleset.Rule{
			Match: ruleset.Match{Family: s.family}, Action: ruleset.Action{Verb: ruleset.Classify, Field: field, Target: m},
		})
	}
	if asks.singles {
		lookUp(s.singles())
	}
	if asks.wides {
		lookUp(s.wides())
	}
	return append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Goto, Target: s.root.name}})
}

func (s *space) mapFor(n netip.Prefix) string {
	if n.IsSingleIP() {
		return s.singles()
	}
	return s.wides()
}

// tellClass passes on the chain and the maps of a class.
func (s *space) tellClass(c *class) {
	out := s.program.out
	c.told.target, c.told.single, c.told.done = c.target, c.single(), true
	name := c.name
	if name == "" || s.program.targets.name(c.target) != name { // it has no chain
		s.untell(c)
		c.told.done = true
		c.told.target, c.told.single = c.target, c.single()
		return
	}
	rules, maps := s.render(c, name)
	for k := range maps {
		s.tellMap(mapName(name, k), c.told.maps[k], maps[k])
	}
	c.told.maps = maps
	if c.told.chain == nil || !reflect.DeepEqual(c.told.chain.Rules, rules) {
		c.told.chain = &ruleset.Chain{Rules: rules}
		out.Want(chainID(name), c.told.chain)
	}
}

func mapName(chain string, k int) string { return fmt.Sprintf("%s/%d", chain, portProtocols[k]) }

// tellMap passes on what of a map of ports is different; nil: there is none.
func (s *space) tellMap(name string, was, now []lead) {
	out := s.program.out
	if was == nil && now != nil {
		out.Want(mapID(name), &ruleset.Verdicts{Type: ruleset.ByPort})
	}
	i := 0
	for _, l := range now {
		for i < len(was) && (was[i].lo < l.lo || was[i].lo == l.lo && was[i].hi != l.hi) {
			out.Unwant(leadID(name, was[i]))
			i++
		}
		if i < len(was) && was[i].lo == l.lo {
			i++
			if was[i-1] == l {
				continue
			}
		}
		out.Want(leadID(name, l), ruleset.Ruling{Chain: s.program.targets.name(l.to)})
	}
	for ; i < len(was); i++ {
		out.Unwant(leadID(name, was[i]))
	}
	if was != nil && now == nil {
		out.Unwant(mapID(name))
	}
}

// untell takes back what was told of a class but where its peers lead.
func (s *space) untell(c *class) {
	if c.told.chain != nil {
		for k := range c.told.maps {
			s.tellMap(mapName(c.name, k), c.told.maps[k], nil)
		}
		s.program.out.Unwant(chainID(c.name))
	}
	c.told = told{}
}

func (s *space) untellAll() {
	out := s.program.out
	gone := func(n netip.Prefix, was target) {
		if was != nowhere {
			out.Unwant(netID(s.mapFor(n), n))
		}
	}
	for n, p := range s.peers {
		if _, moved := s.moved[n]; !moved {
			gone(n, s.toldOf(n, p.class))
		}
	}
	for n, was := range s.moved {
		gone(n, was)
	}
	for _, c := range s.classes {
		s.untell(c)
	}
	s.untell(s.root)
	if s.toldEntry != nil {
		out.Unwant(chainID(s.entry()))
		out.Unwant(mapID(s.singles()))
		out.Unwant(mapID(s.wides()))
	}
}

// render makes the rules of a class's chain, and the maps that they need.
func (s *space) render(c *class, name string) (rules []ruleset.Rule, maps [ofPorts][]lead) {
	t := &s.program.targets
	ofOthers := &c.says[ofPorts]
	// Packets of a protocol with ports that are not mentioned here must not
	// come to what is said of protocols.
	guard := c != s.root && (ofOthers.def != nowhere || len(ofOthers.leads) > 0)
	for k, pl := range s.planes {
		own := &c.says[k]
		def := own.def
		if guard && def == nowhere && pl.ported > 0 {
			def = c.parent.target
		}
		if def == nowhere && len(own.leads) == 0 {
			continue
		}
		forPorts := func(ports []ruleset.PortRange, to target) {
			rules = append(rules, ruleset.Rule{Match: ruleset.Match{Protocol: pl.proto, DstPorts: ports}, Action: ruleset.Action{Verb: ruleset.Goto, Target: t.name(to)}})
		}
		if len(own.leads) <= fewRanges {
			for _, l := range own.leads {
				forPorts([]ruleset.PortRange{{Min: l.lo, Max: l.hi}}, l.to)
			}
		} else {
			maps[k] = own.leads
			rules = append(rules, ruleset.Rule{Match: ruleset.Match{Protocol: pl.proto}, Action: ruleset.Action{Verb: ruleset.Classify, Field: ruleset.FieldDstPort, Target: mapName(name, k)}})
		}
		// All other ports; packets whose ports cannot be read pass by.
		if def != nowhere {
			forPorts(allPorts, def)
		}
	}
	around := ofOthers.def
	if around == nowhere {
		around = c.parent.target
	}
	last := around // where protocols lead that no rule names
	for _, l := range ofOthers.leads {
		if l.lo == 0 {
			last = l.to
		}
	}
	for _, proto := range s.others.protos[:len(s.others.protos)-1] {
		to := around
		for _, l := range ofOthers.leads {
			if l.lo == uint16(proto) {
				to = l.to
			}
		}
		if to != last {
			rules = append(rules, ruleset.Rule{Match: ruleset.Match{Protocol: proto}, Action: ruleset.Action{Verb: ruleset.Goto, Target: t.name(to)}})
		}
	}
	return append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Goto, Target: t.name(last)}}), maps
}
