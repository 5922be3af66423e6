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
	c.says, c.chains, c.maps, c.lists = map[*plane]saying{}, nil, nil, nil
	differ := s.differing(c)
	same := true
	for _, pl := range s.planes {
		cols, all := pl.touched(differ)
		if all {
			if err := s.compileAll(c, pl); err != nil {
				return err
			}
		}
		own := saying{to: map[int32]string{}}
		for _, i := range cols {
			to, err := s.decide(c, pl, &pl.cols[i], 0)
			if err != nil {
				return err
			}
			if to != s.verdictOf(c.parent, pl, i) {
				own.to[i] = to
			}
		}
		if len(own.to) > 0 {
			c.says[pl] = own
		}
		_, says := c.says[pl]
		same = same && !says
	}
	s.program.keep(c)
	if same {
		c.target = c.parent.target
		return nil
	}
	if to, ok := s.uniform(c); ok {
		c.target = to
		return nil
	}
	c.target = s.nameOf(c)
	rules, maps := s.render(c, c.target)
	c.maps, c.chains = maps, []string{c.target}
	s.program.store.chain(c.target, &ruleset.Chain{Rules: rules})
	for _, m := range maps {
		s.program.entries += len(s.program.store.maps[m].of)
	}
	if s.program.entries > s.program.limits.Entries {
		return fmt.Errorf("more than %d entries: %w", s.program.limits.Entries, ErrTooLarge)
	}
	return nil
}

// compileAll is for a class to which a rule matters that concerns many
// columns: it says what is different, or all, whichever is shorter.
func (s *space) compileAll(c *class, pl *plane) error {
	v := make([]string, len(pl.cols))
	own := saying{to: map[int32]string{}}
	differs := 0
	for i := range pl.cols {
		to, err := s.decide(c, pl, &pl.cols[i], 0)
		if err != nil {
			return err
		}
		v[i] = to
		if to != s.verdictOf(c.parent, pl, int32(i)) {
			own.to[int32(i)] = to
			differs += max(1, len(pl.cols[i].ranges))
		}
	}
	if differs == 0 {
		return nil
	}
	most, others := mostOf(pl, v), 0
	for i := range pl.cols {
		if v[i] != most {
			others += max(1, len(pl.cols[i].ranges))
		}
	}
	if others < differs {
		own = saying{to: map[int32]string{}, def: most}
		for i, to := range v {
			if to != most {
				own.to[int32(i)] = to
			}
		}
	}
	c.says[pl] = own
	return nil
}

// uniform reports whether all packets of a class go the same way.
func (s *space) uniform(c *class) (string, bool) {
	to := ""
	for _, pl := range s.planes {
		own := c.says[pl]
		if own.def == "" || len(own.to) > 0 || to != "" && own.def != to {
			return "", false
		}
		to = own.def
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
		own := c.says[pl]
		if to, ok := own.to[col]; ok {
			return to
		}
		if own.def != "" {
			return own.def
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

// render makes the rules of a class's chain, and the maps that they need.
func (s *space) render(c *class, name string) (rules []ruleset.Rule, maps []string) {
	other := s.planes[len(s.planes)-1]
	last, ofOthers := "", c.says[other]
	// Packets of a protocol with ports that are not mentioned here must not
	// come to what is said of protocols.
	guard := c != s.root && (ofOthers.def != "" || len(ofOthers.to) > 0)
	for _, pl := range s.planes[:len(s.planes)-1] {
		own := c.says[pl]
		if guard && own.def == "" {
			own.def = c.parent.target
		}
		if own.def == "" && len(own.to) == 0 {
			continue
		}
		byChain := map[string][]*column{}
		for i, to := range own.to {
			if to != own.def {
				byChain[to] = append(byChain[to], &pl.cols[i])
			}
		}
		forPorts, m := s.portRules(pl.proto, fmt.Sprintf("%s/%d", name, pl.proto), byChain, own.def)
		rules = append(rules, forPorts...)
		if m != "" {
			maps = append(maps, m)
		}
	}
	to := map[uint8]string{}
	for i := range other.cols {
		col := &other.cols[i]
		switch says, ok := ofOthers.to[int32(i)]; {
		case ok:
			to[col.proto] = says
		case ofOthers.def != "":
			to[col.proto] = ofOthers.def
		default:
			to[col.proto] = c.parent.target
		}
	}
	last = to[0] // where protocols lead that no rule names
	for i := range other.cols {
		if p := other.cols[i].proto; to[p] != last {
			rules = append(rules, ruleset.Rule{Match: ruleset.Match{Protocol: p}, Action: ruleset.Action{Verb: ruleset.Goto, Target: to[p]}})
		}
	}
	return append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Goto, Target: last}}), maps
}

// portRules say where ports of a protocol lead: by rules if they are few, by a
// map otherwise. Behind them come those for all other ports, if def says so;
// packets whose ports cannot be read pass by them all.
func (s *space) portRules(proto uint8, name string, byChain map[string][]*column, def string) (rules []ruleset.Rule, m string) {
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
