// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// maxElements is how full an attribute of elements gets; its length is 16 bits.
const maxElements = 60 << 10

// write renders the plan as messages. What is referred to comes before what
// refers to it, and goes after it.
func (p *plan) write() {
	b, table := p.b, p.f.cfg.Table
	if p.wake {
		p.f.tableMsg(b, p.f.k.table.flags&^flagDormant)
	}
	for i, s := range p.newSets {
		b.msg(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.obj)
		b.str(unix.NFTA_SET_TABLE, table)
		b.str(unix.NFTA_SET_NAME, s.kname)
		b.u32(unix.NFTA_SET_FLAGS, s.spec.flags)
		b.u32(unix.NFTA_SET_KEY_TYPE, s.spec.keyType)
		b.u32(unix.NFTA_SET_KEY_LEN, s.spec.keyLen)
		if s.spec.dataType != 0 {
			b.u32(unix.NFTA_SET_DATA_TYPE, s.spec.dataType)
		}
		b.u32(unix.NFTA_SET_ID, uint32(i+1))
		if s.spec.keyType == typeIfname { // for nft's eyes: keys in host byte order
			b.bytes(unix.NFTA_SET_USERDATA, append([]byte{0, 4}, native32(1)...))
		}
	}
	for _, c := range p.chains {
		if c.create {
			p.newChain(c)
		}
	}
	for _, kname := range p.policies {
		b.msg(unix.NFT_MSG_NEWCHAIN, 0, object{'c', kname})
		b.str(unix.NFTA_CHAIN_TABLE, table)
		b.str(unix.NFTA_CHAIN_NAME, kname)
		b.u32(unix.NFTA_CHAIN_POLICY, nfAccept)
	}
	for _, s := range p.elements {
		obj := object{'s', s.s.name}
		p.ranges(unix.NFT_MSG_DELSETELEM, s.kname, obj, s.spec, s.eachDel)
		p.ranges(unix.NFT_MSG_NEWSETELEM, s.kname, obj, s.spec, s.eachAdd)
	}
	for _, c := range p.consts {
		obj := object{'k', c.kname}
		p.ranges(unix.NFT_MSG_DELSETELEM, c.kname, obj, c.spec, each(c.del))
		p.ranges(unix.NFT_MSG_NEWSETELEM, c.kname, obj, c.spec, each(c.add))
	}
	for _, c := range p.chains {
		p.rules(c)
	}
	for _, m := range p.maps {
		p.entries(m)
	}
	for _, r := range p.gone {
		if r.kind == 'c' {
			b.msg(unix.NFT_MSG_DELRULE, 0, object{'c', r.name})
			b.str(unix.NFTA_RULE_TABLE, table)
			b.str(unix.NFTA_RULE_CHAIN, r.name)
		}
	}
	for _, r := range p.gone {
		if r.kind == 's' {
			b.msg(unix.NFT_MSG_DELSET, 0, object{'s', r.name})
			b.str(unix.NFTA_SET_TABLE, table)
			b.str(unix.NFTA_SET_NAME, r.name)
		}
	}
	for _, r := range p.gone {
		if r.kind == 'c' {
			b.msg(unix.NFT_MSG_DELCHAIN, 0, object{'c', r.name})
			b.str(unix.NFTA_CHAIN_TABLE, table)
			b.str(unix.NFTA_CHAIN_NAME, r.name)
		}
	}
}

func (p *plan) newChain(c *chainPlan) {
	b, want := p.b, c.c.want
	b.msg(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, object{'c', c.c.name})
	b.str(unix.NFTA_CHAIN_TABLE, p.f.cfg.Table)
	b.str(unix.NFTA_CHAIN_NAME, c.kname)
	if want.Hook == ruleset.NoHook {
		return
	}
	h := b.nest(unix.NFTA_CHAIN_HOOK)
	b.u32(unix.NFTA_HOOK_HOOKNUM, hooks[want.Hook])
	b.u32(unix.NFTA_HOOK_PRIORITY, uint32(int32(want.Priority)))
	b.end(h)
	b.u32(unix.NFTA_CHAIN_POLICY, nfAccept)
	b.str(unix.NFTA_CHAIN_TYPE, "filter")
}

// rules replaces the rules of a chain that differ.
func (p *plan) rules(c *chainPlan) {
	b, table, obj := p.b, p.f.cfg.Table, object{'c', c.c.name}
	var have []krule
	if ch := p.f.k.chains[c.kname]; ch != nil {
		have = ch.rules
	}
	if old := have[c.pre : len(have)-c.suf]; len(old) > 1 && len(old) == len(have) {
		b.msg(unix.NFT_MSG_DELRULE, 0, obj) // all
		b.str(unix.NFTA_RULE_TABLE, table)
		b.str(unix.NFTA_RULE_CHAIN, c.kname)
	} else {
		for _, r := range old {
			b.msg(unix.NFT_MSG_DELRULE, 0, obj)
			b.str(unix.NFTA_RULE_TABLE, table)
			b.str(unix.NFTA_RULE_CHAIN, c.kname)
			b.u64(unix.NFTA_RULE_HANDLE, r.handle)
		}
	}
	for _, r := range c.rules[c.pre : len(c.rules)-c.suf] {
		flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_APPEND)
		if c.suf > 0 { // without NLM_F_APPEND a position means "before"
			flags = unix.NLM_F_CREATE
		}
		b.msg(unix.NFT_MSG_NEWRULE, flags, obj)
		b.str(unix.NFTA_RULE_TABLE, table)
		b.str(unix.NFTA_RULE_CHAIN, c.kname)
		if c.suf > 0 {
			b.u64(unix.NFTA_RULE_POSITION, have[len(have)-c.suf].handle)
		}
		b.bytes(unix.NFTA_RULE_EXPRESSIONS|nested, r.exprs)
		if r.comment != "" {
			b.bytes(unix.NFTA_RULE_USERDATA, commentData(r.comment))
		}
	}
}

// each visits ranges as members' changes do.
func each(list []krange) func(visit func(lo, hi []byte)) {
	return func(visit func(lo, hi []byte)) {
		for _, r := range list {
			visit([]byte(r.lo), []byte(r.hi))
		}
	}
}

// elementWriter writes elements in as many messages as they need.
type elementWriter struct {
	p        *plan
	typ      uint16
	kname    string
	obj      object
	open     bool
	list, at int
}

// interval writes a range of an interval set. The kernel (6.18) takes a start
// that is followed by no end for an interval up to the last key only if it is
// the last element of its message; elsewhere it silently damages the set. So
// such a one gets its own message, and no message parts a start from its end.
func (w *elementWriter) interval(lo, hi []byte) {
	next, ok := succ(string(hi))
	if !ok {
		w.close()
	}
	w.room()
	w.put(lo, false, verdict{})
	if !ok {
		w.close()
		return
	}
	w.put([]byte(next), true, verdict{})
}

// room begins a new message if this one is full.
func (w *elementWriter) room() {
	if w.open && len(w.p.b.b)-w.list > maxElements {
		w.close()
	}
}

func (w *elementWriter) put(key []byte, end bool, v verdict) {
	b := w.p.b
	if !w.open {
		flags := uint16(0)
		if w.typ == unix.NFT_MSG_NEWSETELEM {
			flags = unix.NLM_F_CREATE
		}
		b.msg(w.typ, flags, w.obj)
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, w.p.f.cfg.Table)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, w.kname)
		w.list = b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		w.open = true
	}
	putElement(&b.enc, key, end, v)
}

func (w *elementWriter) close() {
	if w.open {
		w.p.b.end(w.list)
		w.open = false
	}
}

func putElement(e *enc, key []byte, end bool, v verdict) {
	el := e.nest(unix.NFTA_LIST_ELEM)
	k := e.nest(unix.NFTA_SET_ELEM_KEY)
	e.bytes(unix.NFTA_DATA_VALUE, key)
	e.end(k)
	if v.there {
		d := e.nest(unix.NFTA_SET_ELEM_DATA)
		e.verdictData(v.code, v.chain)
		e.end(d)
	}
	if end {
		e.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	e.end(el)
}

func (p *plan) ranges(typ uint16, kname string, obj object, spec setSpec, all func(visit func(lo, hi []byte))) {
	w := elementWriter{p: p, typ: typ, kname: kname, obj: obj}
	all(func(lo, hi []byte) {
		if spec.interval() {
			w.interval(lo, hi)
			return
		}
		w.room()
		w.put(lo, false, verdict{})
	})
	w.close()
}

func (p *plan) entries(m mapChange) {
	del := elementWriter{p: p, typ: unix.NFT_MSG_DELSETELEM, kname: m.kname, obj: object{'m', m.m.name}}
	for key := range m.set {
		if m.old[key].there {
			del.room()
			del.put([]byte(key), false, verdict{})
		}
	}
	del.close()
	add := elementWriter{p: p, typ: unix.NFT_MSG_NEWSETELEM, kname: m.kname, obj: object{'m', m.m.name}}
	for key, v := range m.set {
		if v.there {
			add.room()
			add.put([]byte(key), false, v)
		}
	}
	add.close()
}

// settle makes what the plan did what is believed. It is also called for a
// plan that has nothing to send.
func (p *plan) settle(f *Filter) {
	k := f.k
	if p.wake {
		k.table.flags &^= flagDormant
	}
	for r, d := range p.delta {
		if f.refs[r] += d; f.refs[r] <= 0 {
			delete(f.refs, r)
		}
	}
	for _, s := range p.newSets {
		k.sets[s.kname] = &kset{spec: s.spec}
		if s.spec == dispatchSpec {
			k.sets[s.kname].verdicts = map[string]verdict{}
		}
	}
	for _, s := range p.elements {
		s.settle()
	}
	for _, c := range p.consts {
		k.sets[c.kname].ranges = c.set.ranges
	}
	for _, kname := range p.policies {
		k.chains[kname].policy = nfAccept
	}
	for _, c := range p.chains {
		ch := k.chains[c.kname]
		if ch == nil {
			ch = &kchain{policy: nfAccept}
			if want := c.c.want; want.Hook != ruleset.NoHook {
				ch.base, ch.hook, ch.prio, ch.typ = true, hooks[want.Hook], int32(want.Priority), "filter"
			}
			k.chains[c.kname] = ch
		}
		ch.refs = c.refs
		ch.rules = make([]krule, len(c.rules)) // handles come with verify
		for i, r := range c.rules {
			ch.rules[i] = krule{sum: r.body.sum, comment: commentHash(r.comment)}
		}
	}
	for _, m := range p.maps {
		for key, v := range m.set {
			if v.there {
				k.sets[m.kname].verdicts[key] = v
			} else {
				delete(k.sets[m.kname].verdicts, key)
			}
		}
	}
	for _, r := range p.gone {
		delete(f.doomed, r)
		if r.kind == 'c' {
			delete(k.chains, r.name)
		} else {
			delete(k.sets, r.name)
		}
	}
	p.clean(f)
}

// clean marks what was planned as done, and forgets what is neither wanted
// nor there.
func (p *plan) clean(f *Filter) {
	for c := range f.dirtyChains {
		if c.want == nil && f.k.chains[c.kname] == nil {
			delete(f.chains, c.name)
		}
	}
	f.dirtyChains = p.keep
	for s := range f.dirtySets {
		switch {
		case s.want != nil:
			if len(s.loose) == 0 && s.refused == nil {
				delete(f.dirtySets, s)
			}
			continue
		case f.k.sets[s.kname] == nil && s.m != nil:
			s.m.seenAll() // gone from the kernel with all its elements
			s.kname, s.over = "", false
			if s.m.wanted() == 0 && len(s.loose) == 0 {
				delete(f.sets, s.name)
			}
		case s.m == nil && len(s.loose) == 0:
			delete(f.sets, s.name)
		}
		delete(f.dirtySets, s)
	}
	for m := range f.dirtyMaps {
		clear(m.dirty)
		if keep := p.keepM[m]; keep != nil {
			m.dirty = keep
			continue
		}
		if m.refused == nil {
			delete(f.dirtyMaps, m)
		}
		if !m.want && len(m.entries) == 0 && f.k.sets[m.kname] == nil {
			delete(f.maps, m.name)
		}
	}
}

// softErrors are what stands in the way of single objects.
func (f *Filter) softErrors() error {
	var errs []error
	for _, what := range sortedKeys(f.soft) {
		errs = append(errs, f.soft[what])
	}
	return errors.Join(errs...)
}

// Up to so many changed chains, or elements deleted from a set, are read back
// one by one, beyond it the whole table or set is. (To list a set the kernel
// walks it from the start for each 32 KiB of answer.)
const (
	singleChains   = 16
	singleElements = 256
	// elementsAtOnce are asked for in one request.
	elementsAtOnce = 400
)

// verify reads back what the plan changed.
func (f *Filter) verify(p *plan) error {
	if err := f.verifyChains(p); err != nil {
		return err
	}
	for _, s := range p.elements {
		var err error
		if s.dels() <= singleElements {
			err = f.verifyElements(s)
		} else {
			err = f.verifySet(s)
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", s.kname, err)
		}
	}
	for _, c := range p.consts {
		var got []krange
		r, err := f.readElements(c.kname, c.spec)
		if err != nil {
			return err
		}
		r.ranges(c.spec, func(lo, hi []byte) { got = append(got, krange{string(lo), string(hi)}) })
		if !sameRanges(got, c.set.ranges) {
			return fmt.Errorf("set %s: reads back other than written", c.kname)
		}
	}
	for _, m := range p.maps {
		r, err := f.readElements(m.kname, dispatchSpec)
		if err != nil {
			return err
		}
		want := f.k.sets[m.kname].verdicts
		for i, v := range r.verdicts {
			if want[string(r.key(i))] != v {
				return fmt.Errorf("set %s: reads back other than written", m.kname)
			}
		}
		if len(r.verdicts) != len(want) {
			return fmt.Errorf("set %s: reads back %d elements, want %d", m.kname, len(r.verdicts), len(want))
		}
	}
	return nil
}

func (f *Filter) verifyChains(p *plan) error {
	if len(p.chains) == 0 {
		return nil
	}
	got := map[string]*kchain{}
	for _, c := range p.chains {
		got[c.kname] = &kchain{}
	}
	if len(got) > singleChains {
		if err := f.readRules(got, ""); err != nil {
			return err
		}
	} else {
		for kname := range got {
			if err := f.readRules(got, kname); err != nil {
				return err
			}
		}
	}
	for _, c := range p.chains {
		ch := f.k.chains[c.kname]
		if d := diffRules(ch.rules, got[c.kname].rules); d != "" {
			return fmt.Errorf("chain %s: reads back other than written: %s", c.kname, d)
		}
		ch.rules = got[c.kname].rules
	}
	return nil
}

// verifySet reads a set whole.
func (f *Filter) verifySet(s setChange) error {
	r, err := f.readElements(s.kname, s.spec)
	if err != nil {
		return err
	}
	odd := 0
	r.ranges(s.spec, func(lo, hi []byte) {
		if !s.s.m.see(lo, hi) {
			odd++
		}
	})
	if missing, extra := s.s.m.seenAll(); missing+extra+odd > 0 || r.tainted {
		return fmt.Errorf("reads back with %d elements missing, %d too many", missing, extra+odd)
	}
	return nil
}

// verifyElements asks for the single elements.
func (f *Filter) verifyElements(s setChange) (err error) {
	added := map[string]bool{}
	var ask []element
	flush := func() {
		if err == nil && len(ask) > 0 {
			var n int
			if n, err = f.countElements(s, ask); err == nil && n != len(ask) {
				err = fmt.Errorf("%d of %d elements are there", n, len(ask))
			}
		}
		ask = ask[:0]
	}
	s.eachAdd(func(lo, hi []byte) {
		if s.dels() > 0 {
			added[string(lo)] = true
		}
		ask = append(ask, element{key: string(lo)})
		if next, ok := succ(string(hi)); s.spec.interval() && ok {
			ask = append(ask, element{next, true})
		}
		if len(ask) >= elementsAtOnce {
			flush()
		}
	})
	flush()
	s.eachDel(func(lo, _ []byte) {
		if err != nil || added[string(lo)] {
			return
		}
		var n int
		if n, err = f.countElements(s, []element{{key: string(lo)}}); n != 0 {
			err = fmt.Errorf("element %x is still there", lo)
		}
	})
	return err
}

// countElements asks for elements and counts those that are there, with
// exactly that key; the kernel stops at the first that is not.
func (f *Filter) countElements(s setChange, ask []element) (n int, err error) {
	r := records{keyLen: int(s.spec.keyLen)}
	err = f.c.get(unix.NFT_MSG_GETSETELEM, 0, func(e *enc) {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, f.cfg.Table)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, s.kname)
		list := e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for _, el := range ask {
			putElement(e, []byte(el.key), el.end, verdict{})
		}
		e.end(list)
	}, r.add)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, err
	}
	for i := range min(r.Len(), len(ask)) { // answers come in order
		if string(r.key(i)) == ask[i].key && r.end(i) == ask[i].end {
			n++
		}
	}
	return n, nil
}
