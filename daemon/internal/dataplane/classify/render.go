// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// fewRanges are said by rules; more need a map.
const fewRanges = 2

var allPorts = []ruleset.PortRange{{Min: 0, Max: 1<<16 - 1}}

// compile works out what is different for a class from the class around it,
// and makes its chain.
func (s *space) compile(c *class) error {
	c.verdict = map[*plane][]string{}
	differ := s.differing(c)
	whole := map[*plane]string{} // planes in which the class has its own default
	same := true
	for _, pl := range s.planes {
		cols, all := pl.touched(differ)
		if len(cols) == 0 && !all {
			continue
		}
		v := make([]string, len(pl.cols))
		decide := func(i int32) error {
			to, err := s.decide(c, pl, &pl.cols[i], 0)
			v[i] = to
			return err
		}
		if !all {
			for _, i := range cols {
				if err := decide(i); err != nil {
					return err
				}
				if v[i] == s.verdictOf(c.parent, pl, i) {
					v[i] = ""
				} else {
					same = false
				}
			}
			c.verdict[pl] = v
			continue
		}
		differs := 0
		for i := range pl.cols {
			if err := decide(int32(i)); err != nil {
				return err
			}
			if v[i] != s.verdictOf(c.parent, pl, int32(i)) {
				differs += len(pl.cols[i].ranges)
				same = false
			}
		}
		most := mostOf(pl, v)
		others := 0
		for i := range pl.cols {
			if v[i] != most {
				others += max(1, len(pl.cols[i].ranges))
			}
		}
		if others < differs {
			whole[pl] = most
		} else {
			for i := range v {
				if v[i] == s.verdictOf(c.parent, pl, int32(i)) {
					v[i] = ""
				}
			}
		}
		c.verdict[pl] = v
	}
	if same {
		c.target = c.parent.target
		return nil
	}
	if to, ok := s.uniform(c, whole); ok {
		c.target = to
		return nil
	}
	c.target = s.nameOf(c)
	rules, maps := s.render(c, c.target, func(pl *plane) ([]string, string) { return c.verdict[pl], whole[pl] })
	c.maps, c.chains = maps, []string{c.target}
	s.program.store.chain(c.target, &ruleset.Chain{Rules: rules})
	entries := 0
	for _, m := range maps {
		entries += len(s.program.store.maps[m].of)
	}
	if s.program.entries += entries; s.program.entries > s.program.limits.Entries {
		return fmt.Errorf("more than %d entries: %w", s.program.limits.Entries, ErrTooLarge)
	}
	return nil
}

// uniform reports whether all packets of a class go the same way.
func (s *space) uniform(c *class, whole map[*plane]string) (string, bool) {
	to := ""
	for _, pl := range s.planes {
		def, ok := whole[pl]
		if !ok || to != "" && def != to {
			return "", false
		}
		to = def
		for _, v := range c.verdict[pl] {
			if v != def {
				return "", false
			}
		}
	}
	return to, true
}

// differing are the rules that a class and the one around it meet otherwise,
// or may: those that ask for an atom that holds only one of them.
func (s *space) differing(c *class) []int32 {
	var rules []int32
	add := func(a int32) { rules = append(rules, s.rulesOf[a]...) }
	for _, a := range c.atoms {
		if !c.parent.holds(a) {
			add(a)
		}
	}
	for _, a := range c.parent.atoms {
		if !c.holds(a) {
			add(a)
		}
	}
	slices.Sort(rules)
	return slices.DeleteFunc(slices.Compact(rules), func(i int32) bool {
		r := &s.rules[i]
		return c.meets(r.peer) == c.parent.meets(r.peer)
	})
}

// touched are the columns that rules concern; all: every one of them.
func (p *plane) touched(rules []int32) (cols []int32, all bool) {
	for _, i := range rules {
		if p.isWide[i] {
			return nil, true
		}
		cols = append(cols, p.colsOf[i]...)
	}
	slices.Sort(cols)
	return slices.Compact(cols), false
}

// verdictOf is where packets of a class in a column go.
func (s *space) verdictOf(c *class, pl *plane, col int32) string {
	for ; c != s.root; c = c.parent {
		if v := c.verdict[pl]; v != nil && v[col] != "" {
			return v[col]
		}
	}
	return pl.base[col]
}

// mostOf is the chain that most pieces lead to; of protocols, the one that
// those lead to that no rule names.
func mostOf(pl *plane, v []string) string {
	if pl.proto == 0 {
		return v[len(v)-1]
	}
	n := map[string]int{}
	best := ""
	for i, to := range v {
		n[to] += max(1, len(pl.cols[i].ranges))
		if best == "" || n[to] > n[best] {
			best = to
		}
	}
	// The last of equals by name, so that the order of columns is no matter.
	for to, k := range n {
		if k > n[best] || k == n[best] && to < best {
			best = to
		}
	}
	return best
}

// render makes the rules of a class's chain. of is, for each plane, where the
// columns lead (empty: as around) and where all the others do (empty: on to
// the class around).
func (s *space) render(c *class, name string, of func(*plane) (verdict []string, def string)) (rules []ruleset.Rule, maps []string) {
	last := ""
	other := s.planes[len(s.planes)-1]
	verdict, def := of(other)
	// Packets of a protocol with ports that are not mentioned here must not
	// come to what is said of protocols.
	guard := c != s.root && (def != "" || slices.ContainsFunc(verdict, func(to string) bool { return to != "" }))
	for _, pl := range s.planes {
		verdict, def := of(pl)
		if guard && def == "" && pl != other {
			def = c.parent.target
		}
		if pl.proto == 0 {
			last = def
		}
		if verdict == nil && def == "" {
			continue
		}
		byChain := map[string][]column{}
		for i, to := range verdict {
			if to != "" && to != def {
				byChain[to] = append(byChain[to], pl.cols[i])
			}
		}
		if pl.proto == 0 {
			if rest := verdict[len(verdict)-1]; def == "" && rest != "" { // for others it is as around
				for i, to := range verdict {
					if to == "" {
						byChain[c.parent.target] = append(byChain[c.parent.target], pl.cols[i])
					}
				}
			}
			own, rest := s.otherRules(byChain)
			rules = append(rules, own...)
			if rest != "" {
				last = rest
			}
			continue
		}
		own, m := s.portRules(pl.proto, fmt.Sprintf("%s/%d", name, pl.proto), byChain, def)
		rules = append(rules, own...)
		if m != "" {
			maps = append(maps, m)
		}
	}
	if last == "" {
		last = c.parent.target
	}
	return append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Goto, Target: last}}), maps
}

// portRules say where ports of a protocol lead: by rules if they are few, by a
// map otherwise. Behind them come those for all other ports, if def says so;
// packets whose ports cannot be read pass by them all.
func (s *space) portRules(proto uint8, name string, byChain map[string][]column, def string) (rules []ruleset.Rule, m string) {
	type leads struct {
		ruleset.PortRange
		to string
	}
	var list []leads
	for to, cols := range byChain {
		for _, c := range cols {
			for _, r := range c.ranges {
				list = append(list, leads{r, to})
			}
		}
	}
	slices.SortFunc(list, func(a, b leads) int { return cmp.Compare(a.Min, b.Min) })
	joined := list[:0]
	for _, l := range list {
		if n := len(joined); n > 0 && joined[n-1].to == l.to && int(joined[n-1].Max)+1 == int(l.Min) {
			joined[n-1].Max = l.Max
			continue
		}
		joined = append(joined, l)
	}
	match := ruleset.Match{Protocol: proto}
	forPorts := func(ports []ruleset.PortRange, to string) {
		m := match
		m.DstPorts = ports
		rules = append(rules, ruleset.Rule{Match: m, Action: ruleset.Action{Verb: ruleset.Goto, Target: to}})
	}
	if len(joined) <= fewRanges {
		for _, l := range joined {
			forPorts([]ruleset.PortRange{l.PortRange}, l.to)
		}
	} else {
		m = name
		s.program.store.newMap(name, &ruleset.Verdicts{Type: ruleset.ByPort})
		for _, l := range joined {
			s.program.store.put(name, ruleset.VerdictKey{Range: l.PortRange}, l.to)
		}
		rules = append(rules, ruleset.Rule{Match: match, Action: ruleset.Action{Verb: ruleset.Classify, Field: ruleset.FieldDstPort, Target: name}})
	}
	if def != "" {
		forPorts(allPorts, def)
	}
	return rules, m
}

// otherRules say where protocols lead; rest is where those lead that no rule
// names.
func (s *space) otherRules(byChain map[string][]column) (rules []ruleset.Rule, rest string) {
	to := map[uint8]string{}
	var protos []uint8
	for chain, cols := range byChain {
		for _, c := range cols {
			if c.proto == 0 {
				rest = chain
				continue
			}
			to[c.proto] = chain
			protos = append(protos, c.proto)
		}
	}
	slices.Sort(protos)
	for _, p := range protos {
		rules = append(rules, ruleset.Rule{Match: ruleset.Match{Protocol: p}, Action: ruleset.Action{Verb: ruleset.Goto, Target: to[p]}})
	}
	return rules, rest
}
