// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// maxElements is how full an attribute of elements gets; its length is 16 bits.
const maxElements = 60 << 10

// write renders the plan as messages. What is referred to comes before what
// refers to it, and goes after it.
func (p *plan) write() {
	p.writePrepare()
	p.writeChange()
	p.writeClean()
}

// isNewSet reports whether a set is made by this plan; for write only.
func (p *plan) isNewSet(kname string) bool { return p.f.k.sets[kname] == nil }

// beside reports whether a chain is made beside what is in force: it is new
// and packets reach it only by rules that are changed later.
func (c *chainPlan) beside() bool { return c.create && c.c.want.Hook == ruleset.NoHook }

func (p *plan) writePrepare() {
	b, table := p.prepare, p.f.cfg.Table
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
		if c.beside() {
			p.newChain(b, c)
		}
	}
	p.writeElements(b, true)
	for _, c := range p.chains {
		if c.beside() {
			p.rules(b, c)
		}
	}
	for _, m := range p.maps {
		if p.isNewSet(m.kname) {
			p.entries(b, m)
		}
	}
	p.writeVerdicts(b, true)
}

func (p *plan) writeElements(b *batch, fresh bool) {
	for _, s := range p.elements {
		if p.isNewSet(s.kname) == fresh {
			obj := object{kind: 's', name: s.s.name}
			p.ranges(b, unix.NFT_MSG_DELSETELEM, s.kname, obj, s.spec, s.eachDel)
			p.ranges(b, unix.NFT_MSG_NEWSETELEM, s.kname, obj, s.spec, s.eachAdd)
		}
	}
	for _, c := range p.consts {
		if p.isNewSet(c.kname) == fresh {
			obj := object{kind: 'k', name: c.kname}
			p.ranges(b, unix.NFT_MSG_DELSETELEM, c.kname, obj, c.spec, each(c.del))
			p.ranges(b, unix.NFT_MSG_NEWSETELEM, c.kname, obj, c.spec, each(c.add))
		}
	}
}

func (p *plan) writeChange() {
	b, table := p.change, p.f.cfg.Table
	if p.wake {
		p.f.tableMsg(b, p.f.k.table.flags&^flagDormant)
	}
	for _, kname := range p.policies {
		b.msg(unix.NFT_MSG_NEWCHAIN, 0, object{kind: 'c', name: kname})
		b.str(unix.NFTA_CHAIN_TABLE, table)
		b.str(unix.NFTA_CHAIN_NAME, kname)
		b.u32(unix.NFTA_CHAIN_POLICY, nfAccept)
	}
	for _, c := range p.chains {
		if c.create && !c.beside() {
			p.newChain(b, c)
		}
	}
	p.writeElements(b, false)
	for _, c := range p.chains {
		if !c.beside() {
			p.rules(b, c)
		}
	}
	for _, m := range p.maps {
		if !p.isNewSet(m.kname) {
			p.entries(b, m)
		}
	}
	p.writeVerdicts(b, false)
}

func (p *plan) writeClean() {
	b, table := p.clean, p.f.cfg.Table
	for _, r := range p.gone {
		if r.kind == 'c' {
			b.msg(unix.NFT_MSG_DELRULE, 0, object{kind: 'c', name: r.name})
			b.str(unix.NFTA_RULE_TABLE, table)
			b.str(unix.NFTA_RULE_CHAIN, r.name)
		}
	}
	for _, r := range p.gone {
		if r.kind == 's' {
			b.msg(unix.NFT_MSG_DELSET, 0, object{kind: 's', name: r.name})
			b.str(unix.NFTA_SET_TABLE, table)
			b.str(unix.NFTA_SET_NAME, r.name)
		}
	}
	for _, r := range p.gone {
		if r.kind == 'c' {
			b.msg(unix.NFT_MSG_DELCHAIN, 0, object{kind: 'c', name: r.name})
			b.str(unix.NFTA_CHAIN_TABLE, table)
			b.str(unix.NFTA_CHAIN_NAME, r.name)
		}
	}
}

func (p *plan) newChain(b *batch, c *chainPlan) {
	want := c.c.want
	b.msg(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, object{kind: 'c', name: c.c.name})
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
func (p *plan) rules(b *batch, c *chainPlan) {
	table, obj := p.f.cfg.Table, object{kind: 'c', name: c.c.name}
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
		obj.rule = r.from
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
		b.bytes(unix.NFTA_RULE_EXPRESSIONS|nlattr.Nested, r.exprs)
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
	b     *batch
	table string
	typ   uint16
	kname string
	obj   object
	open  bool
	list  int
}

// interval writes a range of an interval set. The kernel (6.18) takes a start
// that is followed by no end for an interval up to the last key only if it is
// the last element of its message; elsewhere it silently damages the set. So
// such a one gets its own message, and no message parts a start from its end.
func (w *elementWriter) interval(lo, hi []byte, v verdict) {
	next, ok := succ(string(hi))
	if !ok {
		w.close()
	}
	w.room()
	w.put(lo, false, v)
	if !ok {
		w.close()
		return
	}
	w.put([]byte(next), true, verdict{})
}

// room begins a new message if this one is full.
func (w *elementWriter) room() {
	if w.open && len(w.b.b)-w.list > maxElements {
		w.close()
	}
}

func (w *elementWriter) put(key []byte, end bool, v verdict) {
	b := w.b
	if !w.open {
		flags := uint16(0)
		if w.typ == unix.NFT_MSG_NEWSETELEM {
			flags = unix.NLM_F_CREATE
		}
		b.msg(w.typ, flags, w.obj)
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, w.table)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, w.kname)
		w.list = b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		w.open = true
	}
	putElement(&b.enc, key, end, v)
}

func (w *elementWriter) close() {
	if w.open {
		w.b.end(w.list)
		w.open = false
	}
}

func putElement(e *enc, key []byte, end bool, v verdict) {
	el := e.nest(unix.NFTA_LIST_ELEM)
	e.value(unix.NFTA_SET_ELEM_KEY, key)
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

func (p *plan) ranges(b *batch, typ uint16, kname string, obj object, spec setSpec, all func(visit func(lo, hi []byte))) {
	w := elementWriter{b: b, table: p.f.cfg.Table, typ: typ, kname: kname, obj: obj}
	all(func(lo, hi []byte) {
		if spec.interval() {
			w.interval(lo, hi, verdict{})
			return
		}
		w.room()
		w.put(lo, false, verdict{})
	})
	w.close()
}

func (p *plan) entries(b *batch, m mapChange) {
	del := elementWriter{b: b, table: p.f.cfg.Table, typ: unix.NFT_MSG_DELSETELEM, kname: m.kname, obj: object{kind: 'm', name: m.m.name}}
	for key := range m.set {
		if m.old[key].there {
			del.room()
			del.put([]byte(key), false, verdict{})
		}
	}
	del.close()
	add := elementWriter{b: b, table: p.f.cfg.Table, typ: unix.NFT_MSG_NEWSETELEM, kname: m.kname, obj: object{kind: 'm', name: m.m.name}}
	for key, v := range m.set {
		if v.there {
			add.room()
			add.put([]byte(key), false, v)
		}
	}
	add.close()
}
