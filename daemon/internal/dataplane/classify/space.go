// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// space is the peers of one family. Sets and lists of nets that rules name are
// atoms; own says which atoms hold a prefix as a member of theirs.
type space struct {
	program *Program
	family  ruleset.Family
	rules   []rule

	atoms   []string // canonical names, for the names of classes
	atomOf  map[string]int32
	nets    map[string]int32 // by text
	netsOf  [][]netip.Prefix // of atoms that are nets
	rulesOf [][]int32        // the rules that ask for an atom

	own     map[netip.Prefix][]int32
	lengths [129]int                // how many of own are so long
	classOf map[netip.Prefix]*class // of own
	classes map[string]*class       // those that have a chain, by key
	root    *class                  // the rest of the world
	planes  []*plane
	adopted bool   // the peers are those of a program before
	held    []bool // the atoms that had members in it
}

// class is peers that the same atoms hold, inside of another class.
type class struct {
	key    string
	parent *class // nil: the root
	atoms  []int32
	has    []uint64
	uses   int
	target string            // where packets of the class go
	says   map[*plane]saying // what is different from the class around
	chains []string
	maps   []string
	lists  []string
}

// saying is what a class says in a plane: where some columns lead, and where
// the others do, if not (empty) as around.
type saying struct {
	to  map[int32]string
	def string
}

func (c *class) holds(a int32) bool {
	return int(a>>6) < len(c.has) && c.has[a>>6]&(1<<(a&63)) != 0
}

func (c *class) meets(list []condition) bool {
	for _, x := range list {
		if c.holds(x.atom) != x.is {
			return false
		}
	}
	return true
}

func (p *Program) newSpace(f ruleset.Family) *space {
	return &space{
		program: p, family: f, atomOf: map[string]int32{}, nets: map[string]int32{},
		own: map[netip.Prefix][]int32{}, classOf: map[netip.Prefix]*class{}, classes: map[string]*class{},
	}
}

func (s *space) name(kind string) string {
	return fmt.Sprintf("%s//%s%d", s.program.in.Base, kind, s.family)
}
func (s *space) entry() string   { return s.name("c") }
func (s *space) singles() string { return s.name("a") } // map of single addresses
func (s *space) wides() string   { return s.name("n") } // map of prefixes

func (s *space) fits(n netip.Prefix) bool { return n.Addr().Is4() == (s.family == ruleset.IPv4) }

func (s *space) addAtom(name string) int32 {
	s.atoms = append(s.atoms, name)
	s.netsOf = append(s.netsOf, nil)
	s.rulesOf = append(s.rulesOf, nil)
	return int32(len(s.atoms) - 1)
}

// setPrefix begins the names of atoms that are sets.
const setPrefix = "@"

func setOf(atom string) (set string, is bool) { return strings.CutPrefix(atom, setPrefix) }

func (s *space) setAtom(name string) int32 {
	a, ok := s.atomOf[name]
	if !ok {
		a = s.addAtom(setPrefix + name)
		s.atomOf[name] = a
	}
	return a
}

func (s *space) netAtom(nets []netip.Prefix) int32 {
	var texts []string
	for _, n := range nets {
		texts = append(texts, n.Masked().String())
	}
	slices.Sort(texts)
	text := strings.Join(slices.Compact(texts), " ")
	a, ok := s.nets[text]
	if !ok {
		a = s.addAtom(text)
		s.nets[text] = a
		s.netsOf[a] = nets
	}
	return a
}

// build compiles from nothing.
func (s *space) build() error {
	for i := range s.program.in.Rules {
		r := &s.program.in.Rules[i]
		if f := r.Match.Family; f != ruleset.AnyFamily && f != s.family {
			s.rules = append(s.rules, rule{Rule: r, never: true})
			continue
		}
		s.rules = append(s.rules, s.split(r))
	}
	for i := range s.rules {
		for _, x := range s.rules[i].peer {
			s.rulesOf[x.atom] = append(s.rulesOf[x.atom], int32(i))
		}
	}
	s.cutPlanes()
	if s.root == nil {
		s.root = &class{}
	}
	for _, pl := range s.planes {
		pl.base = make([]string, len(pl.cols))
		for i := range pl.cols {
			var err error
			if pl.base[i], err = s.decide(s.root, pl, &pl.cols[i], 0); err != nil {
				return err
			}
		}
	}
	s.program.keep(s.root)
	st := &s.program.store
	if !s.adopted {
		st.newMap(s.singles(), &ruleset.Verdicts{Family: s.family, Type: ruleset.ByNet})
		st.newMap(s.wides(), &ruleset.Verdicts{Family: s.family, Type: ruleset.ByNet})
	}
	field := ruleset.FieldSrc
	if s.program.in.Egress {
		field = ruleset.FieldDst
	}
	s.root.target = s.name("r")
	s.root.says = map[*plane]saying{}
	for _, pl := range s.planes {
		own := saying{to: map[int32]string{}, def: mostOf(pl, pl.base)}
		for i, to := range pl.base {
			if to != own.def {
				own.to[int32(i)] = to
			}
		}
		s.root.says[pl] = own
	}
	rules, maps := s.render(s.root, s.root.target)
	s.root.maps = maps
	st.chain(s.root.target, &ruleset.Chain{Rules: rules})
	lookup := func(m string) ruleset.Rule {
		return ruleset.Rule{Match: ruleset.Match{Family: s.family}, Action: ruleset.Action{Verb: ruleset.Classify, Field: field, Target: m}}
	}
	st.chain(s.entry(), &ruleset.Chain{Rules: []ruleset.Rule{
		lookup(s.singles()), lookup(s.wides()), {Action: ruleset.Action{Verb: ruleset.Goto, Target: s.root.target}},
	}})
	if s.adopted {
		return s.again()
	}
	return s.fill()
}

func (s *space) cutPlanes() {
	for _, proto := range []uint8{6, 17, 132, 136} {
		for i := range s.rules {
			r := &s.rules[i]
			if r.concerns(proto) && len(r.ports)+len(r.notPorts) > 0 {
				s.planes = append(s.planes, portPlane(proto, s.rules))
				break
			}
		}
	}
	s.planes = append(s.planes, otherPlane(s.rules))
}

// fill puts every member of every atom into its class.
func (s *space) fill() error {
	for a := range s.atoms {
		for n := range s.membersOf(int32(a)) {
			s.hold(n, int32(a))
		}
	}
	for n := range s.own {
		if !n.IsSingleIP() {
			if err := s.place(n); err != nil {
				return err
			}
		}
	}
	for n := range s.own {
		if n.IsSingleIP() {
			if err := s.place(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func insert(list []int32, a int32) []int32 {
	i, there := slices.BinarySearch(list, a)
	if there {
		return list
	}
	return slices.Insert(list, i, a)
}

// member notes a member of an atom that comes or goes.
func (s *space) member(a int32, n netip.Prefix, in bool) error {
	if len(s.rulesOf[a]) == 0 {
		return nil // no rule asks for it any more
	}
	if in {
		s.hold(n, a)
	} else if i, there := slices.BinarySearch(s.own[n], a); there {
		s.own[n] = slices.Delete(s.own[n], i, i+1)
		if len(s.own[n]) == 0 {
			delete(s.own, n)
			s.lengths[n.Bits()]--
		}
	}
	if err := s.place(n); err != nil || n.IsSingleIP() {
		return err
	}
	for _, singles := range []bool{false, true} { // what lies in it
		for m := range s.own {
			if m.IsSingleIP() == singles && m.Bits() > n.Bits() && n.Contains(m.Addr()) {
				if err := s.place(m); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// place finds the class of a prefix that has atoms, or had.
func (s *space) place(n netip.Prefix) error {
	old := s.classOf[n]
	var c *class
	if s.own[n] != nil {
		var atoms []int32
		parent := s.root
		for bits := 0; bits <= n.Bits(); bits++ {
			if s.lengths[bits] == 0 {
				continue
			}
			m, _ := n.Addr().Prefix(bits)
			for _, a := range s.own[m] {
				atoms = insert(atoms, a)
			}
			if n.IsSingleIP() && bits < n.Bits() && s.classOf[m] != nil {
				parent = s.classOf[m]
			}
		}
		var err error
		if c, err = s.class(parent, atoms); err != nil {
			return err
		}
		c.uses++
	}
	if c != old {
		if c == nil {
			delete(s.classOf, n)
		} else {
			s.classOf[n] = c
		}
	}
	s.point(n, c)
	if old != nil {
		s.drop(old)
	}
	return nil
}

// point sets where packets of a prefix go. A class that nothing is different
// for has no chain: single addresses of it need no element, and prefixes lead
// on to what is around them by theirs.
func (s *space) point(n netip.Prefix, c *class) {
	name := s.wides()
	if n.IsSingleIP() {
		name = s.singles()
	}
	to := ""
	switch {
	case c == nil:
	case !n.IsSingleIP() || c.target != c.parent.target:
		to = c.target
	}
	s.program.store.put(name, ruleset.VerdictKey{Net: n}, to)
}

// class finds the class of these atoms inside of another, or makes it.
func (s *space) class(parent *class, atoms []int32) (*class, error) {
	var b []byte
	b = append(b, parent.key...)
	b = append(b, '|')
	for _, a := range atoms {
		b = binary.AppendUvarint(b, uint64(a))
	}
	if c := s.classes[string(b)]; c != nil {
		return c, nil
	}
	if len(s.classes) >= s.program.limits.Classes {
		return nil, fmt.Errorf("more than %d classes of peers: %w", s.program.limits.Classes, ErrTooLarge)
	}
	c := &class{key: string(b), parent: parent, atoms: atoms, has: make([]uint64, len(s.atoms)/64+1)}
	for _, a := range atoms {
		c.has[a>>6] |= 1 << (a & 63)
	}
	if err := s.compile(c); err != nil {
		return nil, err
	}
	parent.uses++
	s.classes[c.key] = c
	return c, nil
}

// drop gives up one use of a class.
func (s *space) drop(c *class) {
	for c != s.root {
		if c.uses--; c.uses > 0 {
			return
		}
		delete(s.classes, c.key)
		s.program.forget(c)
		c = c.parent
	}
}

// forget takes away what a class has.
func (p *Program) forget(c *class) {
	for _, m := range c.maps {
		p.entries -= len(p.store.maps[m].of)
		p.store.dropMap(m)
	}
	for _, chain := range c.chains {
		p.store.chain(chain, nil)
	}
	for _, name := range c.lists {
		if p.lists[name]--; p.lists[name] == 0 {
			delete(p.lists, name)
			p.store.chain(name, nil)
		}
	}
}

// nameOf is a name that depends on nothing but what the class is.
func (s *space) nameOf(c *class) string {
	var b strings.Builder
	for x := c; x != s.root; x = x.parent {
		names := make([]string, 0, len(x.atoms))
		for _, a := range x.atoms {
			names = append(names, s.atoms[a])
		}
		slices.Sort(names)
		b.WriteString(strings.Join(names, ","))
		b.WriteByte('|')
	}
	sum := sha256.Sum256([]byte(b.String()))
	return s.name("c") + "/" + hex.EncodeToString(sum[:8])
}
