// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/doctor"
)

// witnessEvery is the least time between two looks for a packet that shows a
// drift: who alters the table all the time shall not keep us busy with it.
const witnessEvery = 10 * time.Second

// witness looks for a packet that fares otherwise by what the kernel has than
// by what is wanted, where that was altered by another. It is called between
// the reading and the repair.
func (p *plan) witness() string {
	f := p.f
	want, have := f.wanted(), f.wanted()
	if !f.k.table.exists || f.k.table.flags&flagDormant != 0 || len(f.k.chains) == 0 {
		have = ruleset.NewState() // nothing is judged
	}
	x := altered{p: p, have: have, chains: map[string]string{}, odd: map[string]string{}}
	for _, name := range f.odd {
		if _, twice := x.odd[base(name)]; !twice {
			x.odd[base(name)] = name
		}
	}
	_, all := x.odd[""]
	for _, cp := range p.all {
		x.chains[base(cp.kname)] = cp.c.name
	}
	for _, cp := range p.all {
		if kname, ok := x.odd[base(cp.kname)]; ok {
			x.chain(cp, kname)
		} else if all {
			x.chain(cp, cp.kname)
		}
	}
	for _, s := range f.sets {
		if kname, ok := x.odd[setName(s.name)]; ok && s.want != nil {
			x.set(s, kname)
		}
	}
	for _, m := range f.maps {
		if kname, ok := x.odd[mapName(m.name)]; ok && m.want {
			x.dispatch(m, kname)
		}
	}
	for _, m := range f.verdicts {
		if kname, ok := x.odd[verdictsName(m.name)]; ok && m.want != nil {
			x.verdicts(m, kname)
		}
	}
	if w, ok := ruleset.FindWitness(want, have, x.names); ok {
		return w.String()
	}
	return ""
}

// own notes what has to be done although nobody has altered the table and
// nothing new is wanted: then we believed wrongly that it was done.
func (p *plan) own() {
	note := func(kind, kname string) {
		p.f.drifted(fmt.Sprintf("%s %s: is not as wanted, though nobody has altered it", kind, kname), kname)
	}
	for _, c := range p.chains {
		note("chain", c.kname)
	}
	for _, s := range p.elements {
		note("set", s.kname)
	}
	for _, m := range p.rulings {
		note("set", m.kname)
	}
	for _, m := range p.maps {
		note("set", m.kname)
	}
	for _, s := range p.newSets {
		note("set", s.kname)
	}
}

// base is a kernel name without the number of a variant.
func base(kname string) string {
	name, _, _ := strings.Cut(kname, "~")
	return name
}

// wanted is all that is wanted.
func (f *Filter) wanted() *ruleset.State {
	s := ruleset.NewState()
	for name, c := range f.chains {
		if c.want != nil {
			s.Want(ruleset.ID{Kind: ruleset.KindChain, Name: name}, c.want)
		}
	}
	for name, set := range f.sets {
		if set.want == nil {
			continue
		}
		s.Want(ruleset.ID{Kind: ruleset.KindSet, Name: name}, set.want)
		set.m.each(func(e ruleset.Element) {
			s.Want(ruleset.ID{Kind: ruleset.KindMember, Name: name, Elem: e}, ruleset.Member{})
		})
	}
	for name, m := range f.maps {
		if !m.want {
			continue
		}
		s.Want(ruleset.ID{Kind: ruleset.KindDispatch, Name: name}, &ruleset.Dispatch{})
		for iface, e := range m.entries {
			s.Want(ruleset.ID{Kind: ruleset.KindEntry, Name: name, Iface: iface}, e)
		}
	}
	for name, m := range f.verdicts {
		if m.want == nil {
			continue
		}
		s.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: name}, m.want)
		for key, chain := range m.elems {
			putRulings(s, m, []byte(key), chain)
		}
	}
	return s
}

// putRulings puts what an element of a verdict map covers into a state: a
// range of ports, or the prefixes of a range of addresses.
func putRulings(s *ruleset.State, m *verdictMap, key []byte, chain string) {
	lo, hi := key, key
	if half := len(key) / 2; m.want.Type == ruleset.ByPort && len(key) == 4 || m.want.Type == ruleset.ByNet && half == int(addrLen(m.want.Family)) {
		lo, hi = key[:half], key[half:]
	}
	id := ruleset.ID{Kind: ruleset.KindVerdict, Name: m.name}
	if m.want.Type == ruleset.ByPort {
		id.Range = ruleset.PortRange{Min: uint16(lo[0])<<8 | uint16(lo[1]), Max: uint16(hi[0])<<8 | uint16(hi[1])}
		s.Want(id, ruleset.Ruling{Chain: chain})
		return
	}
	for _, n := range prefixesOf(lo, hi) {
		id.Elem.Net = n
		s.Want(id, ruleset.Ruling{Chain: chain})
	}
}

// prefixesOf are those that make up a range of addresses.
func prefixesOf(lo, hi []byte) (all []netip.Prefix) {
	first, _ := netip.AddrFromSlice(lo)
	last, _ := netip.AddrFromSlice(hi)
	for first.IsValid() && first.Compare(last) <= 0 {
		bits := first.BitLen()
		for bits > 0 {
			n, _ := first.Prefix(bits - 1)
			if r := prefixRanges([]netip.Prefix{n})[0]; n.Addr() != first || r.hi > string(hi) {
				break
			}
			bits--
		}
		n := netip.PrefixFrom(first, bits)
		all = append(all, n)
		end, _ := netip.AddrFromSlice([]byte(prefixRanges([]netip.Prefix{n})[0].hi))
		first = end.Next()
	}
	return all
}

// altered makes of a state what the kernel has of it.
type altered struct {
	p      *plan
	have   *ruleset.State
	chains map[string]string // the ruleset's name by the kernel's
	odd    map[string]string // kernel names of what was altered, by their base
	names  []string          // the ruleset's names of what is other in have
}

// chain takes the rules that the kernel has: those that are ours are known by
// their bodies, others are read as far as they can be.
func (x *altered) chain(cp *chainPlan, kname string) {
	x.names = append(x.names, cp.c.name)
	kc := x.p.f.k.chains[kname]
	id := ruleset.ID{Kind: ruleset.KindChain, Name: cp.c.name}
	c := *cp.c.want
	c.Rules = nil
	if kc == nil {
		if c.Hook != ruleset.NoHook {
			x.have.Unwant(id)
			return
		}
		x.have.Want(id, &c)
		return
	}
	from := map[sum]int{}
	for _, r := range cp.rules {
		from[r.body.sum] = r.from
	}
	var foreign []doctor.Rule
	asked := false
	last := 0
	for i, r := range kc.rules {
		n, ours := from[r.sum]
		switch {
		case !ours:
			if !asked {
				foreign, asked = x.read(kname, len(kc.rules)), true
			}
			if i < len(foreign) {
				if rule, ok := ruleOf(foreign[i]); ok {
					c.Rules = append(c.Rules, rule)
				}
			}
		case n > 0 && n != last:
			c.Rules = append(c.Rules, cp.c.want.Rules[n-1])
		}
		last = n
	}
	if kc.base && kc.policy != nfAccept {
		c.Rules = append(c.Rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})
	}
	x.have.Want(id, &c)
}

// read reads the rules of a chain as those of a stranger are read; nil if that
// does not give as many.
func (x *altered) read(kname string, n int) []doctor.Rule {
	f := x.p.f
	table := "inet " + f.cfg.Table
	s := &surveyor{c: f.c, chains: map[string]int{table + " " + kname: 0}, sets: map[string]content{},
		tables: map[string]*doctor.Table{table: {Chains: make([]doctor.Chain, 1)}}}
	err := f.c.get(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(e *enc) {
		e.str(unix.NFTA_RULE_TABLE, f.cfg.Table)
		e.str(unix.NFTA_RULE_CHAIN, kname)
	}, s.rule)
	rules := s.tables[table].Chains[0].Rules
	if err != nil || len(rules) != n {
		return nil
	}
	return rules
}

// ruleOf is a stranger's rule as one of ours; false: it cannot be.
func ruleOf(r doctor.Rule) (ruleset.Rule, bool) {
	var out ruleset.Rule
	switch r.Action {
	case doctor.Accepts:
		out.Action.Verb = ruleset.Accept
	case doctor.Drops:
		out.Action.Verb = ruleset.Drop
	case doctor.Rejects:
		out.Action.Verb = ruleset.Reject
	case doctor.Returns:
		out.Action.Verb = ruleset.Return
	default:
		return out, false
	}
	m := &r.Match
	if len(m.More) > 0 || m.DNATed != nil || m.Local != nil || m.Forged || m.States&^(doctor.Invalid|doctor.Established|doctor.Related|doctor.New|doctor.Untracked) != 0 ||
		len(m.Protocols) > 1 || len(m.Source) > 1 || len(m.Destination) > 1 || len(m.SourcePorts) > 1 || len(m.DestinationPorts) > 1 || len(m.In) > 1 || len(m.Out) > 1 {
		return out, false
	}
	o := &out.Match
	o.Family = ruleset.Family(m.Family)
	for state, bit := range map[uint32]ruleset.CtState{doctor.Invalid: ruleset.CtInvalid, doctor.Established: ruleset.CtEstablished,
		doctor.Related: ruleset.CtRelated, doctor.New: ruleset.CtNew, doctor.Untracked: ruleset.CtUntracked} {
		if m.States&state != 0 {
			o.CtState |= bit
		}
	}
	ok := true
	for _, c := range m.Protocols {
		ok = ok && len(c.Any) == 1
		if ok && c.Not {
			o.NotProtocol = c.Any[0]
		} else if ok {
			o.Protocol = c.Any[0]
		}
	}
	nets := func(list []doctor.Cond[doctor.Addrs], in, not *[]netip.Prefix) {
		for _, c := range list {
			for _, a := range c.Any {
				o.Family = ruleset.IPv6
				if a.First.Is4() {
					o.Family = ruleset.IPv4
				}
				if c.Not {
					*not = append(*not, prefixesOf(a.First.AsSlice(), a.Last.AsSlice())...)
				} else {
					*in = append(*in, prefixesOf(a.First.AsSlice(), a.Last.AsSlice())...)
				}
			}
		}
	}
	nets(m.Source, &o.Src, &o.NotSrc)
	nets(m.Destination, &o.Dst, &o.NotDst)
	ports := func(list []doctor.Cond[doctor.Ports], in, not *[]ruleset.PortRange) {
		for _, c := range list {
			ok = ok && ruleset.HasPorts(o.Protocol)
			for _, r := range c.Any {
				if c.Not {
					*not = append(*not, ruleset.PortRange{Min: r.First, Max: r.Last})
				} else {
					*in = append(*in, ruleset.PortRange{Min: r.First, Max: r.Last})
				}
			}
		}
	}
	ports(m.SourcePorts, &o.SrcPorts, &o.NotSrcPorts)
	ports(m.DestinationPorts, &o.DstPorts, &o.NotDstPorts)
	name := func(list []doctor.Cond[string]) string {
		if len(list) == 0 {
			return ""
		}
		ok = ok && len(list[0].Any) == 1 && !list[0].Not && !strings.HasSuffix(list[0].Any[0], "*")
		return list[0].Any[0]
	}
	o.InInterface, o.OutInterface = name(m.In), name(m.Out)
	return out, ok
}

// set takes the members that the kernel has.
func (x *altered) set(s *setState, kname string) {
	x.names = append(x.names, s.name)
	f := x.p.f
	id := ruleset.ID{Kind: ruleset.KindMember, Name: s.name}
	for e := range maps.Clone(x.have.Members[s.name]) {
		id.Elem = e
		x.have.Unwant(id)
	}
	ks := f.k.sets[kname]
	if ks == nil {
		return
	}
	r, err := f.readElements(kname, ks.spec)
	if err != nil {
		return
	}
	n := int(addrLen(s.want.Family))
	r.ranges(ks.spec, func(lo, hi []byte) {
		switch {
		case s.want.Type == ruleset.TypeNet && len(lo) == n:
			for _, id.Elem.Net = range prefixesOf(lo, hi) {
				x.have.Want(id, ruleset.Member{})
			}
		case s.want.Type == ruleset.TypeAddrPort && len(lo) == n+8:
			a, _ := netip.AddrFromSlice(lo[:n])
			id.Elem = ruleset.Element{Net: netip.PrefixFrom(a, a.BitLen()), Proto: lo[n], Port: uint16(lo[n+4])<<8 | uint16(lo[n+5])}
			x.have.Want(id, ruleset.Member{})
		}
	})
}

// ruling is the ruleset's chain of an element; one that decides by itself gets
// a chain that does.
func (x *altered) ruling(v verdict) (string, bool) {
	verb := ruleset.Accept
	switch v.code {
	case nfAccept:
	case nfDrop:
		verb = ruleset.Drop
	case unix.NFT_GOTO, unix.NFT_JUMP:
		name, ok := x.chains[base(v.chain)]
		return name, ok
	default:
		return "", false
	}
	name := " " + []string{"", "accept", "drop"}[verb]
	x.have.Want(ruleset.ID{Kind: ruleset.KindChain, Name: name}, &ruleset.Chain{Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: verb}}}})
	return name, true
}

// dispatch takes the entries that the kernel has.
func (x *altered) dispatch(m *mapState, kname string) {
	x.names = append(x.names, m.name)
	for iface := range maps.Clone(x.have.Entries[m.name]) {
		x.have.Unwant(ruleset.ID{Kind: ruleset.KindEntry, Name: m.name, Iface: iface})
	}
	if ks := x.p.f.k.sets[kname]; ks != nil {
		for key, v := range ks.verdicts {
			if chain, ok := x.ruling(v); ok {
				x.have.Want(ruleset.ID{Kind: ruleset.KindEntry, Name: m.name, Iface: strings.TrimRight(key, "\x00")}, ruleset.Entry{Chain: chain})
			}
		}
	}
}

// verdicts takes the elements that the kernel has.
func (x *altered) verdicts(m *verdictMap, kname string) {
	x.names = append(x.names, m.name)
	x.have.Unwant(ruleset.ID{Kind: ruleset.KindVerdicts, Name: m.name})
	delete(x.have.Verdicts, m.name)
	x.have.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: m.name}, m.want)
	if ks := x.p.f.k.sets[kname]; ks != nil {
		for key, v := range ks.verdicts {
			if chain, ok := x.ruling(v); ok {
				putRulings(x.have, m, []byte(key), chain)
			}
		}
	}
}
