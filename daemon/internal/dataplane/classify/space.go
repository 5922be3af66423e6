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
// atoms.
type space struct {
	program *Program
	family  ruleset.Family
	rules   []*rule // as in Program.list; nil: of the other family

	atoms  []atom
	atomOf map[string]int32 // by name
	free   []int32          // atoms that are none

	peers   map[netip.Prefix]peer
	holders map[string]*holder
	lengths [129]int          // how many peers are so long
	classes map[string]*class // by key
	idle    []*class          // perhaps of no more use
	root    *class            // the rest of the world
	planes  [ofPorts]*plane
	others  others

	// What is still to be told: classes that are different, and where peers
	// led that have moved.
	dirty map[*class]struct{}
	moved map[netip.Prefix]target
	// toldEntry are the rules of the entry, nil: nothing was told yet;
	// toldAsks which maps of peers they ask.
	toldEntry []ruleset.Rule
	toldAsks  struct{ singles, wides bool }
	// affected are peers that are to be placed again, ended atoms whose
	// numbers are free after that.
	affected map[netip.Prefix]struct{}
	ended    []int32
}

// atom is a set, or a list of nets, that rules ask for.
type atom struct {
	name  string // canonical
	nets  []netip.Prefix
	rules []*rule // in no order
	held  bool    // peers say so
}

// peer is a prefix that is a member of atoms: of which, and its class.
type peer struct {
	own   *holder
	class *class
}

// holder is the atoms that have a prefix as a member of theirs.
type holder struct {
	key   string
	atoms []int32 // ascending
	uses  int
}

// class is peers that the same atoms hold, inside of another class.
type class struct {
	key    string
	parent *class // nil: the root
	depth  int    // how many classes are around it, the root included
	atoms  []int32
	has    []uint64
	uses   int
	around bool   // of other classes
	name   string // of its chain, if it has one
	target target // where packets of the class go
	says   [ofPorts + 1]saying
	told   told
}

// saying is what a class says in a plane: where some ports (or protocols)
// lead, and where the others do, if not (nowhere) as around.
type saying struct {
	leads []lead // in order, as long as can be, none of them to def
	def   target
	all   bool // a wide rule matters to the class
}

type lead struct {
	lo, hi uint16
	to     target
}

// told is what was passed on of a class.
type told struct {
	target, single target // where its prefixes, and single addresses, lead
	chain          *ruleset.Chain
	maps           [ofPorts][]lead
	done           bool
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

// single is where single addresses of a class lead. A class that nothing is
// different for has no chain: they need no element. Prefixes do: what is
// around them would be found by none.
func (c *class) single() target {
	if c.parent != nil && c.target == c.parent.target {
		return nowhere
	}
	return c.target
}

func (p *Program) newSpace(f ruleset.Family) *space {
	s := &space{
		program: p, family: f, atomOf: map[string]int32{}, peers: map[netip.Prefix]peer{}, holders: map[string]*holder{},
		classes: map[string]*class{}, root: &class{}, dirty: map[*class]struct{}{}, moved: map[netip.Prefix]target{},
		affected: map[netip.Prefix]struct{}{},
	}
	s.root.name = s.name("r")
	for i, proto := range portProtocols {
		s.planes[i] = newPlane(proto)
	}
	return s
}

func (s *space) name(kind string) string {
	return fmt.Sprintf("%s//%s%d", s.program.in.Base, kind, s.family)
}
func (s *space) entry() string   { return s.name("c") }
func (s *space) singles() string { return s.name("a") } // map of single addresses
func (s *space) wides() string   { return s.name("n") } // map of prefixes

func (s *space) fits(n netip.Prefix) bool { return n.Addr().Is4() == (s.family == ruleset.IPv4) }

// setPrefix begins the names of atoms that are sets.
const setPrefix = "@"

func (s *space) setAtom(name string) int32 { return s.atomNamed(setPrefix+name, nil) }

func (s *space) netAtom(nets []netip.Prefix) int32 {
	var texts []string
	for _, n := range nets {
		texts = append(texts, n.Masked().String())
	}
	slices.Sort(texts)
	return s.atomNamed(strings.Join(slices.Compact(texts), " "), nets)
}

func (s *space) atomNamed(name string, nets []netip.Prefix) int32 {
	if a, ok := s.atomOf[name]; ok {
		return a
	}
	a := int32(len(s.atoms))
	if last := len(s.free) - 1; last >= 0 {
		a = s.free[last]
		s.free = s.free[:last]
	} else {
		s.atoms = append(s.atoms, atom{})
	}
	s.atoms[a] = atom{name: name, nets: nets}
	s.atomOf[name] = a
	return a
}

// membersOf visits the members of an atom that are of the space's family.
func (s *space) membersOf(a *atom, visit func(netip.Prefix)) {
	if set, is := strings.CutPrefix(a.name, setPrefix); is {
		for e := range s.program.in.Members(set) {
			if s.fits(e.Net) {
				visit(e.Net)
			}
		}
		return
	}
	for _, n := range a.nets {
		if s.fits(n) {
			visit(n.Masked())
		}
	}
}

// holder finds or makes the holder of these atoms; nil: none.
func (s *space) holder(atoms []int32) *holder {
	if len(atoms) == 0 {
		return nil
	}
	var buf [64]byte
	key := buf[:0]
	for _, a := range atoms {
		key = binary.AppendUvarint(key, uint64(a))
	}
	h := s.holders[string(key)]
	if h == nil {
		h = &holder{key: string(key), atoms: atoms}
		s.holders[h.key] = h
	}
	return h
}

// hold notes which atoms have a prefix as a member of theirs. Its class is
// found by place.
func (s *space) hold(n netip.Prefix, h *holder) {
	p := s.peers[n]
	if p.own == h {
		return
	}
	if p.own == nil {
		s.lengths[n.Bits()]++
	} else if p.own.uses--; p.own.uses == 0 {
		delete(s.holders, p.own.key)
	}
	if h == nil {
		s.lengths[n.Bits()]--
	} else {
		if h.uses++; h.uses == 1 {
			s.holders[h.key] = h
		}
	}
	p.own = h
	s.peers[n] = p
}

// holdOne notes that an atom has a prefix as a member, or no longer.
func (s *space) holdOne(n netip.Prefix, a int32, in bool) {
	var atoms []int32
	if p := s.peers[n]; p.own != nil {
		atoms = p.own.atoms
	}
	i, there := slices.BinarySearch(atoms, a)
	switch {
	case in == there:
		return
	case in:
		atoms = slices.Insert(slices.Clone(atoms), i, a)
	default:
		atoms = slices.Delete(slices.Clone(atoms), i, i+1)
	}
	s.hold(n, s.holder(atoms))
}

// member notes a member of a set that comes or goes.
func (s *space) member(a int32, n netip.Prefix, in bool) {
	if !s.atoms[a].held {
		return // no rule asks for it any more
	}
	s.holdOne(n, a, in)
	s.affected[n] = struct{}{}
}

// placeAll finds the classes of prefixes whose atoms have changed, and of what
// lies in them.
func (s *space) placeAll() {
	affected := s.affected
	if len(affected) == 0 {
		return
	}
	s.affected = map[netip.Prefix]struct{}{}
	few := len(affected) < 4
	wide := false
	for n := range affected {
		wide = wide || !n.IsSingleIP()
	}
	concerned := func(m netip.Prefix) bool {
		if _, is := affected[m]; is || !few {
			return true
		}
		for n := range affected {
			if n.Bits() < m.Bits() && n.Contains(m.Addr()) {
				return true
			}
		}
		return false
	}
	var again []netip.Prefix
	if wide {
		for m := range s.peers {
			if concerned(m) {
				again = append(again, m)
			}
		}
	} else {
		for n := range affected {
			again = append(again, n)
		}
	}
	// What is around comes first.
	slices.SortFunc(again, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, n := range again {
		s.place(n)
	}
}

// nesting is how deep classes of prefixes are inside of each other, the rest of
// the world not counted; those that are deeper are put beside the deepest. Each
// is a chain more that a packet may go through, and the kernel follows sixteen.
const nesting = 3

// place finds the class of a prefix that has atoms, or had.
func (s *space) place(n netip.Prefix) {
	p, is := s.peers[n]
	if !is {
		return
	}
	old := p.class
	if _, noted := s.moved[n]; !noted {
		s.moved[n] = s.toldOf(n, old)
	}
	if p.own == nil {
		delete(s.peers, n)
		s.drop(old)
		return
	}
	atoms := p.own.atoms
	shared := true
	parent := s.root
	for bits := range n.Bits() {
		if s.lengths[bits] == 0 {
			continue
		}
		m, _ := n.Addr().Prefix(bits)
		around, is := s.peers[m]
		if !is || around.own == nil {
			continue
		}
		for _, a := range around.own.atoms {
			if i, there := slices.BinarySearch(atoms, a); !there {
				if shared {
					atoms, shared = slices.Clone(atoms), false
				}
				atoms = slices.Insert(atoms, i, a)
			}
		}
		if around.class != nil {
			parent = around.class
		}
	}
	if !n.IsSingleIP() && parent.depth == nesting {
		parent = parent.parent // a class may say what is different from any other
	}
	c := s.class(parent, atoms)
	if c == old {
		return
	}
	c.uses++
	p.class = c
	s.peers[n] = p
	s.drop(old)
}

// class finds the class of these atoms inside of another, or makes it.
func (s *space) class(parent *class, atoms []int32) *class {
	var buf [128]byte
	b := append(buf[:0], parent.key...)
	b = append(b, '|')
	for _, a := range atoms {
		b = binary.AppendUvarint(b, uint64(a))
	}
	if c := s.classes[string(b)]; c != nil {
		return c
	}
	c := &class{key: string(b), parent: parent, depth: parent.depth + 1, atoms: atoms, has: make([]uint64, len(s.atoms)/64+1)}
	for _, a := range atoms {
		c.has[a>>6] |= 1 << (a & 63)
	}
	if len(s.classes) > 2*s.program.limits.Classes && s.program.err == nil { // gone ones are counted, too
		s.program.err = fmt.Errorf("more than %d classes of peers: %w", s.program.limits.Classes, ErrTooLarge)
	}
	if s.program.err == nil {
		s.compile(c)
	}
	parent.uses++
	parent.around = true
	s.classes[c.key] = c
	s.idle = append(s.idle, c)
	return c
}

// drop gives up one use of a class.
func (s *space) drop(c *class) {
	if c == nil || c == s.root {
		return
	}
	if c.uses--; c.uses == 0 {
		s.idle = append(s.idle, c)
	}
}

// nameOf is a name that depends on nothing but what the class is.
func (s *space) nameOf(c *class) string {
	if c.name != "" {
		return c.name
	}
	var b strings.Builder
	for x := c; x != s.root; x = x.parent {
		names := make([]string, 0, len(x.atoms))
		for _, a := range x.atoms {
			names = append(names, s.atoms[a].name)
		}
		slices.Sort(names)
		b.WriteString(strings.Join(names, ","))
		b.WriteByte('|')
	}
	sum := sha256.Sum256([]byte(b.String()))
	c.name = s.name("c") + "/" + hex.EncodeToString(sum[:8])
	return c.name
}
