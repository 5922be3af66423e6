// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// verdictChange is what is to be done to a verdict map.
type verdictChange struct {
	m     *verdictMap
	kname string
	spec  setSpec
	set   map[string]verdict // by key; zero: delete
	old   map[string]verdict
	// keys of set, those to be deleted and those to be added.
	del, add []string
}

func (p *plan) nameVerdicts(m *verdictMap) {
	f, k := p.f, p.f.k
	if m.want == nil {
		if m.kname != "" && k.sets[m.kname] != nil {
			f.doomed[ref{'s', m.kname}] = struct{}{}
		}
		f.users(use{ruleset.KindVerdicts, m.name})
		return
	}
	m.derive()
	spec := m.spec()
	kname, err := pick(verdictsName(m.name), func(kname string) (there, fits bool) {
		ks := k.sets[kname]
		return ks != nil, ks != nil && !ks.tainted && ks.spec == spec && (m.kname == "" || m.kname == kname)
	})
	if err == nil && p.disturbed(m, k.sets[kname], spec) {
		kname, err = free(verdictsName(m.name), func(kname string) bool { return k.sets[kname] != nil })
	}
	if err != nil {
		p.softly("verdicts "+m.name, err)
		return
	}
	p.renameVerdicts(m, kname, spec)
}

// renameVerdicts makes a map what the kernel calls kname.
func (p *plan) renameVerdicts(m *verdictMap, kname string, spec setSpec) {
	f, k := p.f, p.f.k
	if m.kname != kname {
		if m.kname != "" && k.sets[m.kname] != nil {
			f.doomed[ref{'s', m.kname}] = struct{}{}
		}
		m.kname = kname
		f.users(use{ruleset.KindVerdicts, m.name})
		m.allDirty()
	}
	delete(f.doomed, ref{'s', kname})
	if k.sets[kname] == nil && !m.hopeless {
		p.newSets = append(p.newSets, newSet{kname, spec, object{kind: 'v', name: m.name}})
		f.users(use{ruleset.KindVerdicts, m.name})
		m.allDirty()
	}
}

// parted makes those maps anew of which keys come or go while rules that look
// into them change: a packet that is under way goes by the old rules and finds
// the new elements, and what the old rules do with a key that is not found may
// be what neither picture says. A map that is made anew changes the rules that
// look into it, and so other maps.
func (p *plan) parted(dirty []*verdictMap) {
	k := p.f.k
	for again := true; again; {
		again = false
		looked := map[string]bool{} // by rules in force that may change
		for c := range p.f.dirtyChains {
			kname := c.kname
			if kname == "" { // as after a start
				kname = chainName(c.name)
			}
			if ch := k.chains[kname]; ch != nil {
				for _, r := range ch.refs {
					looked[r.name] = looked[r.name] || r.kind == 's'
				}
			}
		}
		for _, m := range dirty {
			have := k.sets[m.kname]
			if m.want == nil || have == nil || !looked[m.kname] || !p.keysChange(m, have) {
				continue
			}
			kname, err := free(verdictsName(m.name), func(kname string) bool { return k.sets[kname] != nil })
			if err != nil {
				continue // changed in place, as well as can be
			}
			p.renameVerdicts(m, kname, m.spec())
			again = true
		}
	}
}

// keysChange reports whether a key comes or goes.
func (p *plan) keysChange(m *verdictMap, have *kset) bool {
	for key := range m.dirty {
		_, wanted := m.elems[key]
		if have.verdicts[kernelKey(key, have.spec)].there != wanted {
			return true
		}
	}
	return false
}

// disturbed reports whether a key that is found before and after, might, if
// the map is changed in place, not be found in between: its data change (see
// looksAgain), or it moves from one range to another. Then the map is made anew, and the rules
// that use it are replaced, which packets see at once.
func (p *plan) disturbed(m *verdictMap, have *kset, spec setSpec) bool {
	if have == nil {
		return false
	}
	var del, add []krange
	for key := range m.dirty {
		e, wanted := m.elems[key]
		key = kernelKey(key, spec)
		old := have.verdicts[key]
		switch {
		case wanted && old.there && !p.means(old, e) && (spec.interval() || !p.f.looksAgain):
			return true
		case spec.interval() && wanted != old.there:
			n := len(key) / 2
			if wanted {
				add = append(add, krange{key[:n], key[n:]})
			} else {
				del = append(del, krange{key[:n], key[n:]})
			}
		}
	}
	slices.SortFunc(add, func(a, b krange) int { return strings.Compare(a.lo, b.lo) })
	for _, d := range del {
		i, _ := slices.BinarySearchFunc(add, d.lo, func(r krange, lo string) int { return strings.Compare(r.hi, lo) })
		if i < len(add) && add[i].lo <= d.hi {
			return true
		}
	}
	return false
}

// means reports whether the kernel's data say what is wanted.
func (p *plan) means(have verdict, want string) bool {
	return have.chain != "" && p.isChain(have.chain, want)
}

func (p *plan) planVerdicts(m *verdictMap) {
	if m.want == nil || m.kname == "" {
		return
	}
	if m.refused != nil {
		p.softly("verdicts "+m.name, m.refused)
	}
	if m.hopeless {
		return
	}
	c := verdictChange{m: m, kname: m.kname, spec: m.spec(), set: map[string]verdict{}}
	ours := map[string]struct{}{}
	if ks := p.f.k.sets[m.kname]; ks != nil {
		c.old, c.spec = ks.verdicts, ks.spec
	}
	if len(m.dirty) >= len(m.elems) { // find what was never ours
		for key := range m.elems {
			ours[kernelKey(key, c.spec)] = struct{}{}
		}
		for key := range c.old {
			if _, ok := ours[key]; !ok {
				c.set[key] = verdict{}
			}
		}
	}
	for key := range m.dirty {
		e, wanted := m.elems[key]
		kkey := kernelKey(key, c.spec)
		v := verdict{}
		if wanted {
			v = p.data(m, key, e, c.old[kkey])
		}
		if c.old[kkey] != v {
			c.set[kkey] = v
		}
	}
	for key, v := range c.set {
		old := c.old[key]
		if old.chain != "" {
			p.delta[ref{'c', old.chain}]--
		}
		if v.chain != "" {
			p.delta[ref{'c', v.chain}]++
		}
		if old.there {
			c.del = append(c.del, key)
		}
		if v.there {
			c.add = append(c.add, key)
		}
	}
	slices.Sort(c.del)
	slices.Sort(c.add)
	if len(c.set) > 0 {
		p.rulings = append(p.rulings, c)
	}
}

// data is what an element shall hold. What leads to a chain that cannot be
// stays as it is, or drops if it is new.
func (p *plan) data(m *verdictMap, key string, chain string, old verdict) verdict {
	c := p.f.chains[chain]
	err := errNotWanted
	if c != nil && c.want != nil && c.want.Hook == ruleset.NoHook {
		err = p.available(c.kname)
	}
	if err == nil {
		err = m.refused
	}
	if err == nil {
		return verdict{code: unix.NFT_GOTO, chain: c.kname, there: true}
	}
	if p.keepV[m] == nil {
		p.keepV[m] = map[string]struct{}{}
	}
	p.keepV[m][key] = struct{}{}
	if old.there {
		p.softly("verdicts "+m.name, fmt.Errorf("chain %s: %w", chain, err))
		return old
	}
	p.softly("verdicts "+m.name, fmt.Errorf("chain %s, replaced by drop: %w", chain, err))
	return verdict{code: nfDrop, there: true}
}

// writeVerdicts writes elements of maps that are new, or of those in force.
func (p *plan) writeVerdicts(b *batch, fresh bool) {
	for i := range p.rulings {
		if c := &p.rulings[i]; p.isNewSet(c.kname) == fresh {
			p.writeRulings(b, c, false)
			p.writeRulings(b, c, true)
		}
	}
}

func (p *plan) writeRulings(b *batch, c *verdictChange, add bool) {
	typ, keys := uint16(unix.NFT_MSG_DELSETELEM), c.del
	if add {
		typ, keys = unix.NFT_MSG_NEWSETELEM, c.add
	}
	w := elementWriter{b: b, table: p.f.cfg.Table, typ: typ, kname: c.kname, obj: object{kind: 'v', name: c.m.name}}
	for _, key := range keys {
		v := verdict{}
		if add {
			v = c.set[key]
		}
		if c.spec.interval() {
			n := len(key) / 2
			w.interval([]byte(key[:n]), []byte(key[n:]), v)
			continue
		}
		w.room()
		w.put([]byte(key), false, v)
	}
	w.close()
}

func (c *verdictChange) settle(ks *kset) {
	for key, v := range c.set {
		if v.there {
			ks.verdicts[key] = v
		} else {
			delete(ks.verdicts, key)
		}
	}
}

func (p *plan) doneVerdicts(m *verdictMap) {
	f := p.f
	clear(m.dirty)
	if keep := p.keepV[m]; keep != nil {
		m.dirty = keep
		return
	}
	if m.refused == nil {
		delete(f.dirtyVerdicts, m)
	}
	if m.want == nil && f.k.sets[m.kname] == nil {
		m.kname = ""
		if len(m.elems) == 0 && len(m.wide) == 0 && len(m.nets) == 0 {
			delete(f.verdicts, m.name)
		}
	}
}

// verdictsOf resolves names for the lowerer.
func (p *plan) verdictsOf(name string) (string, *ruleset.Verdicts, error) {
	p.cur.uses = append(p.cur.uses, use{ruleset.KindVerdicts, name})
	m := p.f.verdicts[name]
	switch {
	case m == nil || m.want == nil:
		return "", nil, fmt.Errorf("verdicts %s: %w", name, errNotWanted)
	case m.hopeless && p.f.k.sets[m.kname] == nil:
		return "", nil, fmt.Errorf("verdicts %s: %w", name, m.refused)
	}
	return m.kname, m.want, nil
}

// verifyVerdicts reads a changed map back, or of a large one what was changed.
func (f *Filter) verifyVerdicts(c verdictChange) error {
	want := f.k.sets[c.kname].verdicts
	if len(want) <= smallSet || len(c.set) > singleElements {
		r, err := f.readElements(c.kname, c.spec)
		if err != nil {
			return err
		}
		got := r.entries(c.spec)
		for key, v := range got {
			if want[key] != v {
				return errors.New("reads back other than written")
			}
		}
		if len(got) != len(want) || r.tainted {
			return fmt.Errorf("reads back %d elements, want %d", len(got), len(want))
		}
		return nil
	}
	for _, key := range c.add {
		if v, err := f.readElement(c, key); err != nil || v != c.set[key] {
			return errors.Join(fmt.Errorf("element %x reads back other than written", key), err)
		}
	}
	for _, key := range c.del {
		if c.set[key].there {
			continue
		}
		if v, err := f.readElement(c, key); err != nil || v.there {
			return errors.Join(fmt.Errorf("element %x is still there", key), err)
		}
	}
	return nil
}

// readElement asks for one element; of a range by its first key.
func (f *Filter) readElement(c verdictChange, key string) (verdict, error) {
	lo := key
	if c.spec.interval() {
		lo = key[:len(key)/2]
	}
	r := records{keyLen: int(c.spec.keyLen), isMap: true}
	err := f.c.get(unix.NFT_MSG_GETSETELEM, 0, func(e *enc) {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, f.cfg.Table)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, c.kname)
		list := e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		putElement(e, []byte(lo), false, verdict{})
		e.end(list)
	}, r.add)
	if errors.Is(err, unix.ENOENT) {
		return verdict{}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	if r.Len() == 0 || string(r.key(0)) != lo || r.end(0) {
		return verdict{}, nil
	}
	return r.verdicts[0], nil
}
