// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// plan is what is to be done, as data and as up to three transactions:
// prepare makes what is new beside what is in force; only change can be seen
// by packets; clean removes what is then no longer used.
//
// It is not one transaction because the kernel (6.18) shows the elements of a
// new interval set to packets only some time after the rules that use it: with
// all in one, up to 700 of 30,000 packets that both the old and the new rules
// accept were cut while 600 such changes were made, and none when the set was
// there before. And the less there is in the transaction that packets can
// see, the shorter the kernel needs from its first effect to its last.
type plan struct {
	prepare, change, clean *batch

	wake     bool     // dormant table
	policies []string // base chains whose policy is not accept
	newSets  []newSet
	elements []setChange
	consts   []constChange
	chains   []*chainPlan // changed
	maps     []mapChange
	rulings  []verdictChange
	gone     []ref // deleted, in order

	lower *lowerer
	cur   *chainState // being lowered
	f     *Filter
	all   map[*chainState]*chainPlan // lowered
	names map[string]*chainPlan      // of all, by kernel name
	keep  map[*chainState]struct{}   // stays dirty
	keepM map[*mapState]map[string]struct{}
	keepV map[*verdictMap]map[string]struct{}
	delta map[ref]int
	fresh map[string]bool // sets that prepare made
	// dead are the rules, by index, that lead to what will not be there.
	dead map[*chainState]map[int]error
}

type newSet struct {
	kname string
	spec  setSpec
	obj   object
}

type setChange struct {
	s     *setState
	kname string
	spec  setSpec
	change
}

type constChange struct {
	kname    string
	set      *constSet
	spec     setSpec // of what is there
	add, del []krange
}

type mapChange struct {
	m     *mapState
	kname string
	set   map[string]verdict // by key; zero: delete
	old   map[string]verdict
}

// chainPlan is what a chain shall be, and how it differs.
type chainPlan struct {
	c      *chainState
	kname  string
	create bool
	rules  []lowered
	refs   []ref
	state  uint8 // availability: 0 unknown, 1 being found out, 2 yes, 3 no
	why    error
	flaw   error // what is not as wanted though it can be
	// The rules from pre to the last suf are replaced.
	pre, suf int
}

// plan works out the transaction. It changes what is believed of the kernel
// in no way; that is settle's, after the commit.
func (f *Filter) plan() *plan {
	p := &plan{
		f: f, prepare: newBatch(), change: newBatch(), clean: newBatch(), all: map[*chainState]*chainPlan{}, names: map[string]*chainPlan{},
		keep: map[*chainState]struct{}{}, keepM: map[*mapState]map[string]struct{}{}, keepV: map[*verdictMap]map[string]struct{}{}, delta: map[ref]int{}, fresh: map[string]bool{},
		dead: map[*chainState]map[int]error{},
	}
	p.lower = &lowerer{resolver: p, labels: f.labels, consts: map[string]*constSet{}}
	f.soft = map[string]error{}
	p.wake = f.k.table.flags&flagDormant != 0
	for _, s := range sorted(f.dirtySets, func(s *setState) string { return s.name }) {
		p.planSet(s)
	}
	dirtyMaps := sorted(f.dirtyMaps, func(m *mapState) string { return m.name })
	for _, m := range dirtyMaps {
		p.nameMap(m)
	}
	dirtyVerdicts := sorted(f.dirtyVerdicts, func(m *verdictMap) string { return m.name })
	for _, m := range dirtyVerdicts {
		p.nameVerdicts(m)
	}
	p.parted(dirtyVerdicts)
	for c := range maps.Clone(f.dirtyChains) {
		p.nameChain(c)
	}
	dirtyChains := sorted(f.dirtyChains, func(c *chainState) string { return c.name })
	for _, c := range dirtyChains {
		p.lowerChain(c)
	}
	for _, c := range dirtyChains {
		p.planChain(c)
	}
	for _, m := range dirtyMaps {
		p.planMap(m)
	}
	for _, m := range dirtyVerdicts {
		p.planVerdicts(m)
	}
	p.planConsts()
	p.planGone()
	p.write()
	return p
}

func sorted[T comparable](m map[T]struct{}, name func(T) string) []T {
	return slices.SortedFunc(maps.Keys(m), func(a, b T) int { return strings.Compare(name(a), name(b)) })
}

func (p *plan) softly(what string, err error) {
	p.f.soft[what] = fmt.Errorf("%s: %w", what, err)
}

// users marks the chains that refer to an object.
func (f *Filter) users(u use) {
	if len(f.dirtyChains) == len(f.chains) {
		return // as after reading the kernel: all are marked
	}
	for _, c := range f.chains {
		if slices.Contains(c.uses, u) {
			f.dirtyChains[c] = struct{}{}
		}
	}
}

// limit is the largest number of elements of a set.
func (f *Filter) limit(s *setState) int {
	if s.want.MaxSize > 0 {
		return s.want.MaxSize
	}
	return f.cfg.MaxSetSize
}

func (p *plan) planSet(s *setState) {
	f, k := p.f, p.f.k
	what := "set " + s.name
	if s.want == nil {
		if s.kname != "" && k.sets[s.kname] != nil {
			f.doomed[ref{'s', s.kname}] = struct{}{}
		}
		f.users(use{ruleset.KindSet, s.name})
		return
	}
	if n := len(s.loose); n > 0 {
		p.softly(what, fmt.Errorf("%d members that cannot be in it", n))
	}
	kname, err := f.nameSet(k, s)
	if err == nil && kname == s.kname && k.sets[kname] != nil && s.m.take(f.limit(s)).disturbs() {
		kname, err = free(setName(s.name), func(kname string) bool { return k.sets[kname] != nil })
	}
	if err != nil {
		p.softly(what, err)
		return
	}
	if kname != s.kname {
		if s.kname != "" && k.sets[s.kname] != nil {
			f.doomed[ref{'s', s.kname}] = struct{}{}
		}
		s.kname = kname
		s.m.seenAll() // the kernel has none of them under the new name
		f.users(use{ruleset.KindSet, s.name})
	}
	delete(f.doomed, ref{'s', kname})
	limit := f.limit(s)
	if s.refused != nil {
		limit = 0
		p.softly(what, s.refused)
	}
	spec := s.spec(s.want)
	if ks := k.sets[kname]; ks != nil {
		spec = ks.spec
	} else if s.refused != nil {
		return
	} else {
		p.newSets = append(p.newSets, newSet{kname, spec, object{kind: 's', name: s.name}})
		f.users(use{ruleset.KindSet, s.name})
	}
	ch := s.m.take(limit)
	if ch.adds()+ch.dels() > 0 {
		p.elements = append(p.elements, setChange{s, kname, spec, ch})
	}
	if over := s.m.had()+ch.adds()-ch.dels() < s.m.needed(); over != s.over {
		s.over = over
		f.log.Warn("Set holds all its members or not", "set", s.name, "members", s.m.wanted(), "overfull", over)
		f.users(use{ruleset.KindSet, s.name})
	}
}

// lowerChain renders a chain.
func (p *plan) lowerChain(c *chainState) {
	if c.want == nil || c.kname == "" {
		return
	}
	cp := &chainPlan{c: c, kname: c.kname, create: p.f.k.chains[c.kname] == nil}
	p.all[c], p.names[c.kname] = cp, cp
	p.cur, c.uses = c, nil
	base := c.want.Hook != ruleset.NoHook
	_, known := hooks[c.want.Hook]
	switch {
	case base && !known:
		cp.why, cp.state = fmt.Errorf("hook %d: unknown", c.want.Hook), 3
		return
	case c.refused != nil && (base || !cp.create || c.hopeless):
		cp.why, cp.state = c.refused, 3
		return
	case c.refused != nil:
		cp.rules, cp.flaw = p.closed(), fmt.Errorf("replaced by drop: %w", c.refused)
	default:
		rules, ok, err := p.render(c, cp.create)
		if !ok {
			cp.why, cp.state = err, 3
			return
		}
		cp.rules, cp.flaw = rules, err
	}
	for _, r := range cp.rules {
		cp.refs = append(cp.refs, r.body.refs...)
	}
}

// available reports whether a chain will be in the kernel after this plan.
func (p *plan) available(kname string) error {
	if p.f.k.chains[kname] != nil {
		return nil
	}
	cp := p.names[kname]
	if cp == nil {
		return fmt.Errorf("chain %s: %w", kname, errNotWanted)
	}
	return p.feasible(cp)
}

// feasible reports whether a chain can be as wanted: it could be rendered,
// and all that it goes to will be there.
func (p *plan) feasible(cp *chainPlan) error {
	if cp.state != 0 {
		return cp.why // also of a loop; the kernel refuses those
	}
	cp.state = 1
	for _, r := range cp.rules {
		for _, u := range r.body.refs {
			if u.kind != 'c' {
				continue
			}
			err := p.available(u.name)
			if err == nil {
				continue
			}
			if !cp.create || cp.c.want.Hook != ruleset.NoHook {
				cp.state, cp.why = 3, err
				return err
			}
			// A stand-in takes the place of what leads nowhere.
			if p.dead[cp.c] == nil {
				p.dead[cp.c] = map[int]error{}
			}
			p.dead[cp.c][r.from-1] = err
			p.lowerChain(cp.c)
			*cp = *p.all[cp.c]
			p.all[cp.c], p.names[cp.kname] = cp, cp
			return p.feasible(cp)
		}
	}
	cp.state = 2
	return nil
}

func (p *plan) planChain(c *chainState) {
	cp := p.all[c]
	if cp == nil {
		return
	}
	if err := p.feasible(cp); err != nil {
		p.softly("chain "+c.name, err)
		p.keep[c] = struct{}{}
		return
	}
	if cp.flaw != nil {
		p.softly("chain "+c.name, cp.flaw)
		p.keep[c] = struct{}{}
	}
	var have []krule
	if ch := p.f.k.chains[c.kname]; ch != nil {
		have = ch.rules
		if ch.base && ch.policy != nfAccept {
			p.policies = append(p.policies, c.kname)
		}
		for _, r := range ch.refs {
			p.delta[r]--
		}
	}
	for _, r := range cp.refs {
		p.delta[r]++
	}
	same := func(k krule, l *lowered) bool { return k.sum == l.body.sum && k.comment == commentHash(l.comment) }
	want := cp.rules
	for cp.pre < len(have) && cp.pre < len(want) && same(have[cp.pre], &want[cp.pre]) {
		cp.pre++
	}
	for cp.suf < len(have)-cp.pre && cp.suf < len(want)-cp.pre &&
		same(have[len(have)-1-cp.suf], &want[len(want)-1-cp.suf]) {
		cp.suf++
	}
	if cp.create || cp.pre+cp.suf < max(len(have), len(want)) {
		p.chains = append(p.chains, cp)
	}
}

func (p *plan) planMap(m *mapState) {
	if !m.want || m.kname == "" {
		return
	}
	what := "dispatch " + m.name
	if m.refused != nil {
		p.softly(what, m.refused)
	}
	if m.hopeless {
		return
	}
	mc := mapChange{m: m, kname: m.kname, set: map[string]verdict{}}
	if ks := p.f.k.sets[m.kname]; ks != nil {
		mc.old = ks.verdicts
		for key := range ks.verdicts { // those that were never ours
			if _, ok := m.entries[ifaceOf(key)]; !ok {
				mc.set[key] = verdict{}
			}
		}
	}
	for name := range m.dirty {
		if name == "" || len(name) > 15 {
			continue // no such interface can be
		}
		key := string(ifname(name))
		e, ok := m.entries[name]
		if !ok {
			continue
		}
		v := verdict{code: nfAccept, there: true}
		if e.Chain != "" {
			c := p.f.chains[e.Chain]
			err := errNotWanted
			if c != nil && c.want != nil && c.want.Hook == ruleset.NoHook {
				err = p.available(c.kname)
			}
			if err == nil {
				err = m.refused
			}
			if err != nil {
				if p.keepM[m] == nil {
					p.keepM[m] = map[string]struct{}{}
				}
				p.keepM[m][name] = struct{}{}
				if mc.old[key].there {
					p.softly(what+" "+name, fmt.Errorf("chain %s: %w", e.Chain, err))
					continue
				}
				p.softly(what+" "+name, fmt.Errorf("chain %s, replaced by drop: %w", e.Chain, err))
				mc.set[key] = verdict{code: nfDrop, there: true}
				continue
			}
			v = verdict{code: unix.NFT_GOTO, chain: c.kname, there: true}
		}
		if mc.old[key] != v {
			mc.set[key] = v
		}
	}
	for key, v := range mc.set {
		if old := mc.old[key]; old.chain != "" {
			p.delta[ref{'c', old.chain}]--
		}
		if v.chain != "" {
			p.delta[ref{'c', v.chain}]++
		}
	}
	if len(mc.set) > 0 {
		p.maps = append(p.maps, mc)
	}
}

// ifaceOf is the interface name in a map's key.
func ifaceOf(key string) string { return toStr([]byte(key)) }

// planConsts finds the constant sets to be made or mended.
func (p *plan) planConsts() {
	for _, kname := range slices.Sorted(maps.Keys(p.lower.consts)) {
		c := p.lower.consts[kname]
		if p.f.refs[ref{'s', kname}]+p.delta[ref{'s', kname}] <= 0 {
			continue // only by chains that stay as they are
		}
		ch := constChange{kname: kname, set: c, spec: c.spec, add: c.ranges}
		if ks := p.f.k.sets[kname]; ks != nil {
			if slices.Equal(ks.ranges, c.ranges) {
				continue
			}
			ch.del, ch.add = subtract(ks.ranges, c.ranges), subtract(c.ranges, ks.ranges)
		} else {
			p.newSets = append(p.newSets, newSet{kname, c.spec, object{kind: 'k', name: kname}})
		}
		p.consts = append(p.consts, ch)
	}
}

func subtract(a, b []krange) []krange {
	return slices.DeleteFunc(slices.Clone(a), func(r krange) bool { return slices.Contains(b, r) })
}

// planGone finds what can go: not wanted, and used by nothing that stays.
func (p *plan) planGone() {
	f, k := p.f, p.f.k
	candidates := maps.Clone(f.doomed)
	for r, d := range p.delta {
		if d < 0 && r.kind == 's' && strings.HasPrefix(r.name, prefixConst) {
			candidates[r] = struct{}{}
		}
	}
	for more := true; more; {
		more = false
		for _, r := range sorted(candidates, func(r ref) string { return string(r.kind) + r.name }) {
			if f.refs[r]+p.delta[r] > 0 {
				continue
			}
			delete(candidates, r)
			var uses []ref
			switch r.kind {
			case 'c':
				if k.chains[r.name] == nil {
					continue
				}
				uses = k.chains[r.name].refs
			case 's':
				if k.sets[r.name] == nil {
					continue
				}
				for _, v := range k.sets[r.name].verdicts {
					if v.chain != "" {
						uses = append(uses, ref{'c', v.chain})
					}
				}
			}
			for _, u := range uses {
				p.delta[u]--
				if u.kind == 's' && strings.HasPrefix(u.name, prefixConst) {
					candidates[u] = struct{}{}
				}
			}
			p.gone = append(p.gone, r)
			more = true
		}
	}
}
