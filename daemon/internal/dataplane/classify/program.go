// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"maps"
	"net/netip"
	"reflect"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Program is compiled rules. It is kept up with members of sets that come and
// go. Not safe for concurrent use.
type Program struct {
	in     Input
	limits Limits
	spaces []*space        // IPv4, IPv6
	lists  map[string]int  // how many classes use it
	made   map[string]bool // lists that the class being compiled uses
	work   int
	// entries is how many elements the maps of classes have.
	entries int
	store   store
}

// store is what a program consists of.
type store struct {
	chains map[string]*ruleset.Chain
	maps   map[string]*verdicts
	out    Out // nil: nobody is told yet
}

type verdicts struct {
	def *ruleset.Verdicts
	of  map[ruleset.VerdictKey]string
}

// Compile compiles rules. Nothing is passed on before Replace. What old, which
// may be nil, knows of peers is taken over; old is then good for nothing but
// Replace and Remove.
func Compile(in Input, limits Limits, old *Program) (*Program, error) {
	p := &Program{in: in, limits: limits, lists: map[string]int{}, made: map[string]bool{},
		store: store{chains: map[string]*ruleset.Chain{}, maps: map[string]*verdicts{}}}
	for i, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		s := p.newSpace(f)
		if old != nil && old.in.Base == in.Base && old.in.Egress == in.Egress {
			s.adopt(old.spaces[i])
		}
		p.spaces = append(p.spaces, s)
		if err := s.build(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Entry is the chain that judges packets of a family.
func (p *Program) Entry(f ruleset.Family) string {
	for _, s := range p.spaces {
		if s.family == f {
			return s.entry()
		}
	}
	panic("classify: no such family")
}

// Stats says what the program consists of.
func (p *Program) Stats() Stats {
	s := Stats{Rules: len(p.in.Rules), Lists: len(p.lists)}
	for _, m := range p.store.maps {
		if m.def.Type == ruleset.ByNet {
			s.Peers += len(m.of)
		} else {
			s.Entries += len(m.of)
		}
	}
	for _, sp := range p.spaces {
		s.Classes += len(sp.classes)
	}
	return s
}

// Sets calls visit with each set whose members make classes.
func (p *Program) Sets(visit func(set string)) {
	for _, s := range p.spaces {
		for name, a := range s.atomOf {
			if len(s.rulesOf[a]) > 0 {
				visit(name)
			}
		}
	}
}

// Member says that a member of a set has come or gone. An error means that
// the program is of no more use: it is to be compiled anew, or not at all.
func (p *Program) Member(set string, n netip.Prefix, in bool) error {
	for _, s := range p.spaces {
		if a, ok := s.atomOf[set]; ok && s.fits(n) {
			if err := s.member(a, n, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep notes that a class uses the lists that were made for it.
func (p *Program) keep(c *class) {
	for name := range p.made {
		p.lists[name]++
		c.lists = append(c.lists, name)
	}
	clear(p.made)
}

// Replace tells out the difference between old, which it has, and p; old may
// be nil. From then on p tells out of its changes.
func (p *Program) Replace(old *Program, out Out) {
	was := store{}
	if old != nil {
		was = old.store
		old.store.out = nil
	}
	p.store.out = out
	for name, c := range p.store.chains {
		if o, ok := was.chains[name]; !ok || !reflect.DeepEqual(o, c) {
			out.Want(ruleset.ID{Kind: ruleset.KindChain, Name: name}, c)
		}
	}
	for name, m := range p.store.maps {
		o := was.maps[name]
		if o == m {
			continue
		}
		if o == nil || *o.def != *m.def {
			out.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: name}, m.def)
		}
		if o == nil {
			o = &verdicts{}
		}
		for k := range o.of {
			if _, ok := m.of[k]; !ok {
				out.Unwant(verdictID(name, k))
			}
		}
		for k, chain := range m.of {
			if o.of[k] != chain {
				out.Want(verdictID(name, k), ruleset.Ruling{Chain: chain})
			}
		}
	}
	gone := was
	gone.out = out
	for name := range maps.Clone(gone.chains) {
		if p.store.chains[name] == nil {
			out.Unwant(ruleset.ID{Kind: ruleset.KindChain, Name: name})
		}
	}
	for name, m := range gone.maps {
		if p.store.maps[name] == nil {
			gone.unwantMap(name, m)
		}
	}
}

// Remove tells the program's out that nothing of it is wanted.
func (p *Program) Remove() {
	for name := range maps.Clone(p.store.chains) {
		p.store.chain(name, nil)
	}
	for name := range maps.Clone(p.store.maps) {
		p.store.dropMap(name)
	}
}

func verdictID(name string, k ruleset.VerdictKey) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindVerdict, Name: name, Elem: ruleset.Element{Net: k.Net}, Range: k.Range}
}

// chain puts a chain, or takes it away if c is nil.
func (s *store) chain(name string, c *ruleset.Chain) {
	id := ruleset.ID{Kind: ruleset.KindChain, Name: name}
	if c == nil {
		delete(s.chains, name)
		if s.out != nil {
			s.out.Unwant(id)
		}
		return
	}
	s.chains[name] = c
	if s.out != nil {
		s.out.Want(id, c)
	}
}

func (s *store) newMap(name string, def *ruleset.Verdicts) {
	s.maps[name] = &verdicts{def: def, of: map[ruleset.VerdictKey]string{}}
	if s.out != nil {
		s.out.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: name}, def)
	}
}

// put sets what a key leads to; nowhere: the element goes.
func (s *store) put(name string, k ruleset.VerdictKey, chain string) {
	m := s.maps[name]
	if m.of[k] == chain {
		return
	}
	if chain == "" {
		delete(m.of, k)
		if s.out != nil {
			s.out.Unwant(verdictID(name, k))
		}
		return
	}
	m.of[k] = chain
	if s.out != nil {
		s.out.Want(verdictID(name, k), ruleset.Ruling{Chain: chain})
	}
}

func (s *store) dropMap(name string) {
	m := s.maps[name]
	delete(s.maps, name)
	if s.out != nil {
		s.unwantMap(name, m)
	}
}

func (s *store) unwantMap(name string, m *verdicts) {
	for k := range m.of {
		s.out.Unwant(verdictID(name, k))
	}
	s.out.Unwant(ruleset.ID{Kind: ruleset.KindVerdicts, Name: name})
}
