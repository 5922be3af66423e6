// SPDX-License-Identifier: Apache-2.0

package mutation

// nftablesFaults are in the lowering to rules of nftables.
var nftablesFaults = []mutation{
	{file: "daemon/internal/dataplane/nftables/verdictmaps.go", old: `string(net16(id.Range.Min)) + string(net16(id.Range.Max))`, now: `string(net16(id.Range.Min)) + string(net16(max(id.Range.Min, id.Range.Max-1)))`, damage: "the last port of a range is not in a map"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `{ruleset.CtRelated, 4},`, now: `{ruleset.CtRelated, 2},`, damage: "related packets are not known"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `c.add(status(true))`, now: `c.add(status(false))`, damage: "rewritten is read as not rewritten"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `		p.is(v, not)
`, now: `		p.is(v, false)
`, damage: "notICMP is read as icmp"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `	if i.HasCode {`, now: `	if i.HasCode && not {`, damage: "the ICMP code does not count"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `{"source", 12, 8, 0,`, now: `{"source", 12, 24, 0,`, damage: "IPv6 sources are read where destinations are"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `{"destination", 16, 24, 2,`, now: `{"destination", 16, 24, 0,`, damage: "destination ports are read where source ports are"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `mask[i/8] |= 0x80 >> (i % 8)`, now: `mask[i/8] |= 0x01 << (i % 8)`, damage: "bits of a prefix are counted from the wrong end"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `if bits%8 == 0 {`, now: `if bits%8 == 0 || bits > 24 {`, damage: "long prefixes are rounded up to bytes"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `				c.add(func(p *prog) { p.lookup(kname, reg1, not) })`, now: `				c.add(func(p *prog) { p.lookup(kname, reg1, false) })`, damage: "several notPorts are read as ports"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `				c.add(func(p *prog) { p.within([]byte(r.lo), []byte(r.hi), not) })`, now: `				c.add(func(p *prog) { p.within([]byte(r.lo), []byte(r.lo), not) })`, damage: "a range is its first port"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `		return !not
`, now: `		return not
`, damage: "a Drop is narrowed by a set that is not whole"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `code = unix.NFT_GOTO`, now: `code = unix.NFT_JUMP`, damage: "goto comes back"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `key = unix.NFT_META_OIFNAME`, now: `key = unix.NFT_META_IIFNAME`, damage: "where a packet goes out is looked up by where it came in"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `p.setMark(^(a.MarkMask | a.Mark), a.Mark)`, now: `p.setMark(0, a.Mark)`, damage: "other programs' mark bits are cleared"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `rst.when = []step{protocol(unix.IPPROTO_TCP, false)}`, now: `rst.when = []step{protocol(unix.IPPROTO_UDP, false)}`, damage: "TCP is answered as if it were UDP"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `p.meta(unix.NFT_META_IIF, reg1); p.is(native32(0), false)`, now: `p.meta(unix.NFT_META_IIF, reg1); p.is(native32(0), true)`, damage: "what is forwarded is taken for what the host sends"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `c.either([]step{state(without)}, []step{status(false)})`, now: `c.either([]step{status(false)})`, damage: "what belongs to no connection is taken for rewritten"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `					negated = append(negated, l(true))`, now: `					negated = append(negated, l(len(negated) == 0))`, damage: "of several named ports in notPorts only the first counts"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `c.either([]step{ported(true)}, append([]step{ported(false)}, negated...))`, now: `c.either(append([]step{ported(false)}, negated...))`, damage: "a rule with named notPorts does not match protocols without ports"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `			c.never = c.never || not
			return nil`, now: `			return nil`, damage: "to except everything excepts nothing"},
	{file: "daemon/internal/dataplane/nftables/lower.go", old: `		c.add(protocol(m.NotProtocol, true))`, now: `		c.add(protocol(m.NotProtocol, false))`, damage: "notProtocol is read as protocol"},
}

// iptablesFaults are in the lowering to rules of iptables.
var iptablesFaults = []mutation{
	{file: "daemon/internal/dataplane/iptables/match.go", old: `if m.CtState&s.bit != 0 {`, now: `if m.CtState&s.bit == 0 {`, damage: "connection states are negated"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `c.add(" -m conntrack ! --ctstate DNAT")`, now: `c.add(" -m conntrack --ctstate DNAT")`, damage: "not rewritten is read as rewritten"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `c.add(" -m conntrack --ctstate DNAT")`, now: `c.add(" -m conntrack ! --ctstate DNAT")`, damage: "rewritten is read as not rewritten"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `ifaceText(prefix+"+"), nil`, now: `ifaceText(prefix), nil`, damage: "a prefix is a whole name"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `*s.header = " ! " + s.option + " " + nets[0].String()`, now: `*s.header = " " + s.option + " " + nets[0].String()`, damage: "an excepted net is read as a net"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `{"destination", "dst", "-d",`, now: `{"destination", "src", "-d",`, damage: "destinations are looked for in sets as sources"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `{"source", "src", "-s",`, now: `{"source", "src", "-d",`, damage: "a source net is compared with the destination"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `int(r.Min) <= int(out[n-1].Max)+1 {`, now: `int(r.Min) <= int(out[n-1].Max)+2 {`, damage: "the port between two is joined to them"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `text, need = fmt.Sprintf("%d:%d", r.Min, r.Max), 2`, now: `text, need = fmt.Sprintf("%d:%d", r.Min, max(r.Min, r.Max-1)), 2`, damage: "the last port of a range does not count"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `			groups, g, slots = append(groups, strings.Join(g, ",")), nil, 0`, now: `			g, slots = nil, 0`, damage: "of a long list of ports only the end counts"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `c.add(" -m %s %s%s %s", name, not, option, i)`, now: `c.add(" -m %s %s %s%.0s", name, option, i, not)`, damage: "notICMP is read as icmp"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `c.never = c.never || c.verb != ruleset.Drop && c.verb != ruleset.Reject
		return nil`, now: `return nil`, damage: "ICMP of the other family is allowed whatever its type"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `c.proto = " ! -p " + protoName(m.NotProtocol)`, now: `c.proto = " -p " + protoName(m.NotProtocol)`, damage: "notProtocol is read as protocol"},
	{file: "daemon/internal/dataplane/iptables/match.go", old: `		return !not
	case ruleset.Accept:`, now: `		return not
	case ruleset.Accept:`, damage: "a Drop is narrowed by a set that is not whole"},
	{file: "daemon/internal/dataplane/iptables/lower.go", old: `			return raw, nil
		}
		return mangle, nil`, now: `			return raw, nil
		}
		return raw, nil`, damage: "preDNAT policy stands before connection tracking"},
	{file: "daemon/internal/dataplane/iptables/lower.go", old: `		if a.Yield {
			return each("-g " + chainYield)`, now: `		if !a.Yield {
			return each("-g " + chainYield)`, damage: "what policy allows is left to others, and what it leaves is accepted"},
	{file: "daemon/internal/dataplane/iptables/lower.go", old: `		l.emit(markIs(markDone, markDone), "-j RETURN", "")`, now: ``, damage: "an accepted packet goes on behind a jump"},
	{file: "daemon/internal/dataplane/iptables/tree.go", old: `	l.emit(markIs(markDone, markDone), "-j RETURN", "")`, now: ``, damage: "an accepted packet goes on behind a group of rules"},
	{file: "daemon/internal/dataplane/iptables/tree.go", old: `g.reach = g.or(g.kids[i].reach)`, now: `g.reach = g.kids[i].reach`, damage: "packets pass groups by that have a rule for them"},
	{file: "daemon/internal/dataplane/iptables/filter.go", old: ` || !maps.EqualFunc(c.reaches, reaches, reach.same)`, now: ` || len(reaches) < 0 && !maps.EqualFunc(c.reaches, reaches, reach.same)`, damage: "packets pass a policy by that has a new rule for them"},
	{file: "daemon/internal/dataplane/iptables/lower.go", old: `if r.Match.Family != ruleset.AnyFamily && r.Match.Family != l.at.family {`, now: `if r.Match.Family == l.at.family && l.at.family == ruleset.AnyFamily {`, damage: "rules of one family are in the tables of both"},
	{file: "daemon/internal/dataplane/iptables/lower.go", old: `return each("-g " + chainName(a.Target))`, now: `return each("-j " + chainName(a.Target))`, damage: "goto comes back"},
}

// flowFaults are in what decides which established flows are cut.
var flowFaults = []mutation{
	{file: "daemon/internal/dataplane/ruleset/flow.go", old: `if v == Accepted || now.Chains[t.Chain].Rules[t.Rule].KeepFlows {`, now: `if v == Accepted || t.Chain == "" && now.Chains[t.Chain].Rules[t.Rule].KeepFlows {`, damage: "flows that are to be kept are cut"},
	{file: "daemon/internal/dataplane/ruleset/flow.go", old: `	return was
`, now: `	return was || true
`, damage: "flows that were denied before are cut"},
	{file: "daemon/internal/dataplane/ruleset/flow.go", old: `if w.flow.DNATed && w.packet.State != CtUntracked {`, now: `if w.flow.DNATed {`, damage: "an untracked packet is rewritten"},
	{file: "daemon/internal/dataplane/ruleset/flow.go", old: `if !early || w.state.Chains[name].Priority >= priorityDNAT {`, now: `if !early || w.state.Chains[name].Priority >= -200 {`, damage: "preDNAT policy sees the new destination"},
	{file: "daemon/internal/dataplane/conntrack/routes.go", old: `case to.kind == here, to.kind == shared && !fromHere:`, now: `case to.kind == here:`, damage: "broadcasts that come in are forwarded"},
	{file: "daemon/internal/dataplane/conntrack/conntrack.go", old: `if len(p.noted) > 0 && p.cfg.InForce() {`, now: `if len(p.noted) > 0 {`, damage: "flows are cut before the rules are in force"},
	{file: "daemon/internal/dataplane/conntrack/conntrack.go", old: `	if e.zoned {`, now: `	if e.zoned && e.hasMaster {`, damage: "flows of other zones are cut"},
	{file: "daemon/internal/dataplane/conntrack/conntrack.go", old: `if _, ok := w.ended[r.master]; ok {`, now: `if _, ok := w.ended[r.master]; ok && len(w.ended) > 1 {`, damage: "what came of a flow that is cut goes on"},
	{file: "daemon/internal/dataplane/conntrack/conntrack.go", old: `then := p.now.With(c.old)`, now: `then := p.now.With(nil)`, damage: "flows are compared with the first plan for ever"},
	{file: "daemon/internal/dataplane/conntrack/conntrack.go", old: `if a := f.Answer(); allowed(p.now, &a) {`, now: `if a := f.Answer(); !allowed(p.now, &a) {`, damage: "sockets are closed where the other end cannot take a connection up, and only there"},
	{file: "daemon/internal/dataplane/conntrack/conntrack.go", old: `		case allowed(p.now, &f):`, now: `		case !allowed(p.now, &f):`, damage: "flows that were cut are let go on by the next change, those that are allowed again are not"},
	{file: "daemon/internal/dataplane/conntrack/conntrack.go", old: `return e.status&statusReplied != 0 && `, now: `return e.status&statusReplied == 0 && `, damage: "flows that the other end takes up again are deleted"},
	{file: "daemon/internal/dataplane/base.go", old: `one(dropCut()), p.ifAsked`, now: `p.ifAsked`, damage: "what comes in of flows that were cut passes"},
	{file: "daemon/internal/dataplane/conntrack/change.go", old: `f.Has(c.members.has) ||`, now: `f.Has(c.members.has) && c.rest ||`, damage: "flows of a member that goes are not looked at"},
	{file: "daemon/internal/dataplane/conntrack/table.go", old: `true, e.reply.src, e.reply.srcPort`, now: `true, e.reply.dst, e.reply.dstPort`, damage: "a rewritten destination is read at the wrong end"},
	{file: "daemon/internal/dataplane/conntrack/table.go", old: `return nlattr.Append(body, attrID, d.id[:])`, now: `return body`, damage: "another flow with the same addresses is cut"},
	{file: "daemon/internal/dataplane/conntrack/table.go", old: `		t.dstPort = wide()`, now: `		t.srcPort = wide()`, damage: "destination ports are not read"},
	{file: "daemon/internal/dataplane/ruleset/eval.go", old: `m.NotDNATed && p.DNATed,`, now: `m.NotDNATed && !p.DNATed,`, damage: "the interpreter reads not rewritten as rewritten"},
	{file: "daemon/internal/dataplane/ruleset/eval.go", old: `if e.inSet(name, a) != want {`, now: `if e.inSet(name, a) != want && len(names) > 1 {`, damage: "the interpreter does not look into a single set"},
	{file: "daemon/internal/dataplane/ruleset/eval.go", old: `e.packet.Mark = e.packet.Mark&^a.MarkMask | a.Mark`, now: `e.packet.Mark = a.Mark`, damage: "the interpreter clears other programs' mark bits"},
}
