// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// lowered is a chain of the ruleset as it shall be in one place.
type lowered struct {
	blocks   []block
	targets  []string // chains of the ruleset
	sets     []string // kernel names
	fromHost bool
	// err is what could not be rendered; exact: what stands in for it decides
	// as it would.
	err   error
	exact bool
}

// block is one chain of the kernel, rules as they are sent.
type block struct {
	name  string
	lines []string
}

// constSet is a set whose name is its content.
type constSet struct {
	family ruleset.Family
	nets   []netip.Prefix
}

// plan is what is to be done.
//
//	prepare  sets that are new are made and filled, single elements added
//	change   one transaction for each table: raw, mangle, filter
//	clean    single elements deleted, sets destroyed that nothing uses
type plan struct {
	f *Filter

	first   []string // sets that must go to make room for newSets
	newSets []newSet
	inPlace []setChange
	tables  map[place]*wanted
	cur     *chainState
	keep    map[*chainState]struct{} // stays dirty
	// usedSets are all sets that any rule uses when the plan is carried out.
	usedSets map[string]bool
	later    bool // a set could not be destroyed yet
	// crowded: a set has no name left to be made anew under, so that the plan is
	// not to be carried out: its rules would look into what the set held before.
	crowded error
	evict   bool // rules of others that go to our chains must go as well
}

type newSet struct {
	s     *setState // nil: a constant
	kname string
	spec  setSpec
	add   []ruleset.Element
	// over: swapped with this set afterwards, which then has the content.
	over string
}

type setChange struct {
	s        *setState
	kname    string
	add, del []ruleset.Element
}

// wanted is what a table shall hold.
type wanted struct {
	chains map[string][]string
	jumps  map[string]string // hook → rule
}

var errNotWanted = errors.New("not wanted")

// plan works out what is to be done. It changes what is believed of the
// kernel in no way; that is apply's.
func (f *Filter) plan() *plan {
	p := &plan{f: f, tables: map[place]*wanted{}, keep: map[*chainState]struct{}{}, usedSets: map[string]bool{}}
	f.soft = map[string]error{}
	p.planSets()
	for c := range f.dirtyChains {
		c.low, c.uses = nil, nil
	}
	for _, fam := range f.prog.families {
		for _, t := range []table{raw, mangle, filter} {
			p.planTable(place{fam, t})
		}
	}
	p.planConsts()
	return p
}

func (p *plan) softly(what string, err error) {
	p.f.soft[what] = fmt.Errorf("%s: %w", what, err)
}

// maxCopied is the largest set that is made anew because rules change with
// it, or that is swapped as a whole.
const maxCopied = 10_000

// planSets decides how each set gets from what it is to what is wanted. One
// element of one set is added or deleted; more become visible at once, by a
// swap. If rules that use the set change as well, or another set does, it is
// made anew under another name, which comes into force with the rules.
func (p *plan) planSets() {
	f := p.f
	var changed []*setState
	for _, s := range slices.SortedFunc(maps.Keys(f.dirtySets), func(a, b *setState) int { return strings.Compare(a.name, b.name) }) {
		what := "set " + s.name
		if s.want == nil {
			continue
		}
		if n := len(s.loose); n > 0 {
			p.softly(what, fmt.Errorf("%d members that cannot be in it", n))
		}
		if s.refused != nil {
			p.softly(what, s.refused)
			continue
		}
		add, del := s.take(f.limit(s))
		if over := s.haves+len(add)-len(del) < s.wants; over != s.over {
			s.over = over
			f.log.Warn("Set holds all its members or not", "set", s.name, "members", s.wants, "overfull", over)
			f.users(use{ruleset.KindSet, s.name})
		}
		switch {
		case s.kname == "" || f.k.sets[s.kname].spec.max < f.spec(s).max:
			p.renew(s)
		case len(add)+len(del) > 0:
			changed = append(changed, s)
		}
	}
	for _, s := range changed {
		add, del := s.take(f.limit(s))
		switch alone := len(changed) == 1 && !f.dirtyUser(s.name); {
		case s.wants > maxCopied || alone && len(add)+len(del) == 1:
			p.inPlace = append(p.inPlace, setChange{s, s.kname, add, del})
		case alone:
			p.swap(s)
		default:
			p.renew(s)
		}
	}
}

// dirtyUser reports whether rules that use a set, or will, may change.
func (f *Filter) dirtyUser(name string) bool {
	for c := range f.dirtyChains {
		if slices.Contains(c.uses, use{ruleset.KindSet, name}) || looksInto(c.want, name) {
			return true
		}
	}
	return false
}

func looksInto(c *ruleset.Chain, set string) bool {
	for i := range c.Rules {
		m := &c.Rules[i].Match
		for _, list := range [][]string{m.SrcSets, m.NotSrcSets, m.DstSets, m.NotDstSets, m.SrcPortSets, m.NotSrcPortSets, m.DstPortSets, m.NotDstPortSets} {
			if slices.Contains(list, set) {
				return true
			}
		}
	}
	return false
}

func (p *plan) taken(kname string) bool {
	return p.f.k.sets[kname] != nil || slices.ContainsFunc(p.newSets, func(n newSet) bool { return n.kname == kname })
}

// freeName is a variant of a set's name that is not there.
func (p *plan) freeName(kname string) string {
	v, err := freeVariant(kname, p.taken)
	if err != nil {
		p.crowded = err
	}
	return v
}

// limit is the largest number of elements of a set.
func (f *Filter) limit(s *setState) int {
	if s.want.MaxSize > 0 {
		return s.want.MaxSize
	}
	return f.cfg.MaxSetSize
}

// spec is the kernel set that s should be. It has room for twice as many
// elements as it may hold, so that what is new comes before what is old goes.
func (f *Filter) spec(s *setState) setSpec { return specOf(s.want, 2*f.limit(s)) }

// whole are the elements of a set made anew.
func (s *setState) whole(limit int) []ruleset.Element {
	var add []ruleset.Element
	for e, v := range s.m {
		if v&elWanted != 0 {
			add = append(add, e)
		}
	}
	sortElements(add)
	return add[:min(len(add), limit)]
}

// renew makes the set under a name that is not there.
func (p *plan) renew(s *setState) {
	kname := p.freeName(setName(s.name))
	s.kname = kname
	p.newSets = append(p.newSets, newSet{s: s, kname: kname, spec: p.f.spec(s), add: s.whole(p.f.limit(s))})
	p.f.users(use{ruleset.KindSet, s.name})
}

// swap makes the set beside itself and exchanges the two.
func (p *plan) swap(s *setState) {
	p.newSets = append(p.newSets, newSet{s: s, kname: p.freeName(setName(s.name)), spec: p.f.spec(s), add: s.whole(p.f.limit(s)), over: s.kname})
}

// planConsts finds the constant sets to be made.
func (p *plan) planConsts() {
	for _, kname := range slices.Sorted(maps.Keys(p.usedSets)) {
		c := p.f.consts[kname]
		if c == nil {
			continue
		}
		n := newSet{kname: kname, spec: c.spec()}
		if k := p.f.k.sets[kname]; k != nil {
			if !k.altered {
				continue
			}
			if k.spec.typ != n.spec.typ || k.spec.family != n.spec.family { // no rule of ours uses it
				p.first = append(p.first, kname)
			} else {
				n.kname, n.over = p.freeName(kname), kname
			}
		}
		for _, net := range c.nets {
			n.add = append(n.add, ruleset.Element{Net: net})
		}
		p.newSets = append(p.newSets, n)
	}
}

func (c *constSet) spec() setSpec {
	return specOf(&ruleset.Set{Family: c.family, Type: ruleset.TypeNet}, max(1024, 2*len(c.nets)))
}

// set, chain, entries and constant resolve names for the lowerer.
func (p *plan) set(name string, typ ruleset.SetType, fam ruleset.Family) (string, bool, error) {
	p.uses(ruleset.KindSet, name)
	s := p.f.sets[name]
	switch {
	case s == nil || s.want == nil:
		return "", false, fmt.Errorf("set %s: %w", name, errNotWanted)
	case s.want.Type != typ || s.want.Family != fam:
		return "", false, fmt.Errorf("set %s: of another type or family than the rule", name)
	case s.refused != nil && p.f.k.sets[s.kname] == nil:
		return "", false, fmt.Errorf("set %s: %w", name, s.refused)
	case s.kname == "":
		return "", false, fmt.Errorf("set %s: without a name", name)
	}
	return s.kname, s.over, nil
}

func (p *plan) uses(kind ruleset.Kind, name string) {
	if u := (use{kind, name}); !slices.Contains(p.cur.uses, u) {
		p.cur.uses = append(p.cur.uses, u)
	}
}

func (p *plan) chain(name string) error {
	p.uses(ruleset.KindChain, name)
	c := p.f.chains[name]
	switch {
	case c == nil:
		return fmt.Errorf("chain %s: %w", name, errNotWanted)
	case c.want.Hook != ruleset.NoHook:
		return fmt.Errorf("chain %s: a base chain is no target", name)
	}
	return nil
}

func (p *plan) reach(name string, fam ruleset.Family) reach {
	p.uses(ruleset.KindChain, name)
	c := p.f.chains[name]
	if c == nil {
		return everything
	}
	return c.reaches[fam]
}

func (p *plan) entries(name string) (map[string]ruleset.Entry, error) {
	p.uses(ruleset.KindDispatch, name)
	m := p.f.maps[name]
	if m == nil || !m.want {
		return nil, fmt.Errorf("dispatch %s: %w", name, errNotWanted)
	}
	for _, iface := range slices.Sorted(maps.Keys(m.entries)) {
		if target := m.entries[iface].Chain; target != "" {
			if err := p.chain(target); err != nil {
				p.softly("dispatch "+name+" "+iface, err)
				p.keep[p.cur] = struct{}{}
			}
		}
	}
	return m.entries, nil
}

func (p *plan) constant(fam ruleset.Family, nets []netip.Prefix) (string, error) {
	kname := constName(fmt.Sprint(fam, nets))
	if err := p.f.barred[kname]; err != nil {
		return "", err
	}
	if p.f.consts[kname] == nil {
		p.f.consts[kname] = &constSet{fam, nets}
	}
	return kname, nil
}

// low is a chain as it shall be in a place.
func (p *plan) low(c *chainState, at place) *lowered {
	if low := c.low[at]; low != nil {
		return low
	}
	p.cur = c
	l := lowerer{resolver: p, labels: p.f.labels, at: at, name: c.name, banned: p.f.banned[at]}
	low := &lowered{}
	low.err, low.exact = l.lower(c.kname, c.want)
	low.targets, low.sets, low.fromHost = l.targets, append(l.sets, l.consts...), l.fromHost
	for i := range l.parts {
		low.blocks = append(low.blocks, l.parts[i].finish())
	}
	if c.low == nil {
		c.low = map[place]*lowered{}
	}
	c.low[at] = low
	return low
}

// finish writes the rules as they are sent. Each bears a hash of its chain's
// name, of the rules before it and of itself, so that one sees at a glance
// whether two chains are the same; that is for people and other programs,
// since what we compare is the rules.
func (p *part) finish() block {
	b := block{name: p.name}
	hash := p.name
	for _, l := range p.lines {
		text := ""
		if l.comment != "" {
			text = " " + printable(l.comment)
		}
		hash = digest(hash+"\x00"+l.match+"\x00"+l.action+text, 16)
		s := l.match + ` -m comment --comment "rs:` + hash + text + `" ` + l.action
		b.lines = append(b.lines, s[1:]) // begins with a space
	}
	return b
}

// planTable works out what a table shall hold.
func (p *plan) planTable(at place) {
	w := &wanted{chains: map[string][]string{}, jumps: map[string]string{}}
	p.tables[at] = w
	bases := p.bases(at)
	if len(bases) == 0 {
		return
	}
	fromHost := false
	for _, h := range slices.Sorted(maps.Keys(bases)) {
		for _, c := range bases[h] {
			fromHost = p.walk(w, at, c) || fromHost
		}
	}
	p.helpers(w)
	if at.table == mangle && fromHost && len(bases[ruleset.HookPostrouting]) > 0 {
		w.wrap(ruleset.HookForward, part{lines: []line{setMark(markIn, markIn)}})
	}
	for _, h := range slices.Sorted(maps.Keys(bases)) {
		w.wrap(h, p.wrapper(w, at, h, bases[h]))
	}
}
