// SPDX-License-Identifier: Apache-2.0

package filtertest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func adr(s string) netip.Addr   { return netip.MustParseAddr(s) }

// world is what random rules and packets are made of, per family; small, so
// that they meet, and with the neighbours of every border.
type world struct {
	near, host, far []netip.Addr // behind rstun0, our own, behind rstun1
	nets            []netip.Prefix
	icmp            uint8
	types           []uint8
}

var worlds = map[ruleset.Family]world{
	ruleset.IPv4: {
		near: []netip.Addr{adr("10.1.0.2"), adr("10.1.0.3"), adr("10.1.0.4"), adr("10.1.0.127"), adr("10.1.0.128"), adr("10.1.0.254")},
		host: []netip.Addr{adr("10.1.0.1"), adr("10.2.0.1")},
		far:  []netip.Addr{adr("10.2.0.2"), adr("10.2.0.3"), adr("10.2.0.64"), adr("10.2.0.254")},
		nets: []netip.Prefix{
			pfx("0.0.0.0/0"), pfx("10.0.0.0/8"), pfx("10.1.0.0/16"), pfx("10.1.0.0/24"), pfx("10.1.0.0/25"), pfx("10.1.0.128/25"),
			pfx("10.1.0.2/31"), pfx("10.1.0.2/32"), pfx("10.1.0.3/32"), pfx("10.1.0.4/32"), pfx("10.2.0.0/15"), pfx("10.2.0.2/32"),
			pfx("10.2.0.64/26"), pfx("10.2.0.1/32"), pfx("128.0.0.0/1"), pfx("255.255.255.255/32"),
		},
		icmp: netnstest.ICMP, types: []uint8{8, 13, 0, 3},
	},
	ruleset.IPv6: {
		near: []netip.Addr{adr("fd01::2"), adr("fd01::3"), adr("fd01::4"), adr("fd01::7fff"), adr("fd01::8000"), adr("fd01::ffff:ffff:ffff:ffff")},
		host: []netip.Addr{adr("fd01::1"), adr("fd02::1")},
		far:  []netip.Addr{adr("fd02::2"), adr("fd02::3"), adr("fd02::64"), adr("fd02::fffe")},
		nets: []netip.Prefix{
			pfx("::/0"), pfx("fd00::/8"), pfx("fd01::/16"), pfx("fd01::/64"), pfx("fd01::/113"), pfx("fd01::8000/113"),
			pfx("fd01::2/127"), pfx("fd01::2/128"), pfx("fd01::3/128"), pfx("fd01::4/128"), pfx("fd02::/63"), pfx("fd02::2/128"),
			pfx("fd02::40/122"), pfx("fd02::1/128"), pfx("8000::/1"), pfx("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
		},
		icmp: netnstest.ICMPv6, types: []uint8{128, 129, 135, 1},
	},
}

var (
	protos = []uint8{netnstest.TCP, netnstest.UDP, netnstest.SCTP}
	portsA = []uint16{0, 1, 79, 80, 81, 443, 1023, 1024, 8080, 65534, 65535}
	ranges = []ruleset.PortRange{
		{Min: 80, Max: 80}, {Min: 79, Max: 81}, {Min: 0, Max: 0}, {Min: 0, Max: 65535}, {Min: 1024, Max: 65535},
		{Min: 443, Max: 1023}, {Min: 65535, Max: 65535}, {Min: 8080, Max: 8080}, {Min: 82, Max: 100},
	}
	families = []ruleset.Family{ruleset.IPv4, ruleset.IPv6}
)

// prefixes are the beginnings of the interfaces' names, and no beginnings.
var prefixes = []string{"r", "rstun", "rstun0", "rstun1", "rstun00", "stun0", "x"}

func one[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// some returns up to n elements of list, with repetition.
func some[T any](r *rand.Rand, list []T, n int) []T {
	var out []T
	for range 1 + r.IntN(n) {
		out = append(out, one(r, list))
	}
	return out
}

// generator makes random rulesets that are well-formed.
type generator struct {
	r     *rand.Rand
	hooks []ruleset.Hook
	// early: the chain stands before connection tracking. What it says of
	// NoTrack is looked at by a chain behind it, watch.
	early bool
	// verdicts: chains classify, too.
	verdicts bool
	// long: chains are long, and most rules are about one protocol and a few
	// ports, and decide nothing.
	long bool
}

// rawPriority is before connection tracking, which begins at -200.
const rawPriority = -300

const nChains, nSets, nPortSets = 5, 3, 2

func setFor(kind string, f ruleset.Family, i int) string { return fmt.Sprintf("%s%d-%d", kind, f, i) }

// sets wants all sets that rules may name.
func (g *generator) sets(b *bench) {
	for _, f := range families {
		for i := range nSets {
			b.Want(SetID(setFor("n", f, i)), &ruleset.Set{Family: f, Type: ruleset.TypeNet})
		}
		for i := range nPortSets {
			b.Want(SetID(setFor("p", f, i)), &ruleset.Set{Family: f, Type: ruleset.TypeAddrPort})
		}
	}
	for i := range 2 {
		b.Want(DispatchID(fmt.Sprintf("d%d", i)), &ruleset.Dispatch{})
	}
}

func (g *generator) member() ruleset.ID {
	f := one(g.r, families)
	w := worlds[f]
	if g.r.IntN(3) > 0 {
		return ruleset.ID{Kind: ruleset.KindMember, Name: setFor("n", f, g.r.IntN(nSets)), Elem: ruleset.Element{Net: one(g.r, w.nets)}}
	}
	addrs := append(append(append([]netip.Addr{}, w.near...), w.host...), w.far...)
	a := one(g.r, addrs)
	return ruleset.ID{
		Kind: ruleset.KindMember, Name: setFor("p", f, g.r.IntN(nPortSets)),
		Elem: ruleset.Element{Net: netip.PrefixFrom(a, a.BitLen()), Proto: one(g.r, protos), Port: one(g.r, portsA)},
	}
}

// chain is a random chain; number i may go to those above i.
func (g *generator) chain(i int, hook ruleset.Hook) *ruleset.Chain {
	c := &ruleset.Chain{Hook: hook}
	if hook != ruleset.NoHook && g.early {
		c.Priority = rawPriority
	}
	n := g.r.IntN(6)
	if g.long && g.r.IntN(3) > 0 {
		n = 30 + g.r.IntN(150)
	}
	for k := range n {
		r := ruleset.Rule{Match: g.match(), Action: g.action(i, hook)}
		if n >= 30 && k%40 != 39 { // now and then one that is about anything
			r = g.narrow(i)
		}
		if r.Action.Verb == ruleset.Classify {
			if i != 0 { // verdicts lead to any chain but the first
				continue
			}
			r.Match, r.Action = g.classify()
		}
		r.Counter = g.r.IntN(2) == 0
		if g.r.IntN(2) == 0 {
			r.Comment = fmt.Sprintf("rule %d", g.r.IntN(4))
		}
		c.Rules = append(c.Rules, r)
	}
	if hook != ruleset.NoHook {
		c.Rules = append(c.Rules, ruleset.Rule{Action: ruleset.Action{Verb: one(g.r, []ruleset.Verb{ruleset.Accept, ruleset.Drop})}})
	}
	return c
}

// narrow is a rule of a long list.
func (g *generator) narrow(i int) ruleset.Rule {
	m := ruleset.Match{Protocol: one(g.r, protos), DstPorts: some(g.r, ranges, 2)}
	if g.r.IntN(4) == 0 {
		m.Family = one(g.r, families)
		m.Src = some(g.r, worlds[m.Family].nets, 2)
	}
	if g.r.IntN(4) == 0 {
		m.MarkMask = 0x30
		m.Mark = one(g.r, []uint32{0, 0x10, 0x20})
	}
	a := ruleset.Action{Verb: ruleset.SetMark, MarkMask: 0x30, Mark: one(g.r, []uint32{0, 0x10, 0x20})}
	switch g.r.IntN(8) {
	case 0:
		if g.r.IntN(6) == 0 {
			a = ruleset.Action{Verb: one(g.r, []ruleset.Verb{ruleset.Accept, ruleset.Drop})}
		}
	case 1, 2:
		if i+1 < nChains {
			a = ruleset.Action{Verb: ruleset.Jump, Target: g.target(i)}
		}
		if g.r.IntN(2) == 0 { // as wide as what the chain says
			m = ruleset.Match{}
		}
	}
	return ruleset.Rule{Match: m, Action: a}
}

func (g *generator) action(i int, hook ruleset.Hook) ruleset.Action {
	verbs := []ruleset.Verb{ruleset.Accept, ruleset.Accept, ruleset.Drop, ruleset.Drop, ruleset.Return, ruleset.SetMark, ruleset.Log}
	switch {
	case g.early: // there is nothing to answer from yet
		verbs = append(verbs, ruleset.NoTrack, ruleset.NoTrack)
	case g.hooks[0] != ruleset.HookPostrouting: // the kernel refuses to answer from there
		verbs = append(verbs, ruleset.Reject)
	}
	if i+1 < nChains && g.verdicts {
		verbs = append(verbs, ruleset.Classify, ruleset.Classify, ruleset.Classify)
	}
	if i+1 < nChains {
		verbs = append(verbs, ruleset.Jump, ruleset.Jump, ruleset.Goto, ruleset.DispatchIn, ruleset.DispatchOut)
	}
	a := ruleset.Action{Verb: one(g.r, verbs)}
	switch a.Verb {
	case ruleset.Jump, ruleset.Goto:
		a.Target = g.target(i)
	case ruleset.DispatchIn, ruleset.DispatchOut:
		if i != 0 { // entries go to any chain but the first
			return ruleset.Action{Verb: ruleset.Drop}
		}
		a.Target = fmt.Sprintf("d%d", g.r.IntN(2))
	case ruleset.SetMark:
		a.MarkMask = one(g.r, []uint32{0x10, 0x30, 0xffffffff})
		a.Mark = a.MarkMask & one(g.r, []uint32{0, 0x10, 0x30})
	case ruleset.Log:
		a.LogPrefix = "t: "
		if g.r.IntN(2) == 0 {
			a.LogRate, a.LogUnit = 5, "minute"
		}
	}
	return a
}

func (g *generator) target(i int) string {
	return fmt.Sprintf("c%d", i+1+g.r.IntN(nChains-i-1))
}

func (g *generator) match() ruleset.Match {
	r := g.r
	var m ruleset.Match
	if r.IntN(10) == 0 {
		return m
	}
	pick := func(n int) bool { return r.IntN(n) == 0 }
	if pick(8) {
		m.InInterface = one(r, []string{"rstun0", "rstun1", "nope"})
	}
	if pick(8) {
		m.OutInterface = one(r, []string{"rstun0", "rstun1", "nope"})
	}
	if pick(10) {
		m.InPrefix = one(r, prefixes)
	}
	if pick(10) {
		m.OutPrefix = one(r, prefixes)
	}
	m.FromHost = pick(12)
	if !g.early {
		if pick(6) {
			m.CtState = ruleset.CtState(1 + r.IntN(31))
		}
		m.DNATed = pick(20)
		m.NotDNATed = pick(10)
	}
	if pick(8) {
		m.MarkMask = one(r, []uint32{0x10, 0x30, 0xffffffff})
		m.Mark = one(r, []uint32{0, 0x10})
	}
	m.Family = one(r, []ruleset.Family{ruleset.AnyFamily, ruleset.IPv4, ruleset.IPv4, ruleset.IPv6, ruleset.IPv6})
	switch {
	case pick(2):
		m.Protocol = one(r, protos)
	case pick(4):
		m.NotProtocol = one(r, append([]uint8{200, 1, 58}, protos...))
	case m.Family != ruleset.AnyFamily && pick(2):
		g.icmp(&m)
	}
	if ruleset.HasPorts(m.Protocol) {
		for _, f := range []*[]ruleset.PortRange{&m.SrcPorts, &m.NotSrcPorts, &m.DstPorts, &m.NotDstPorts} {
			if pick(4) {
				*f = some(r, ranges, 3)
			}
		}
	}
	if m.Family == ruleset.AnyFamily {
		return m
	}
	m.HopLimit255 = m.Family == ruleset.IPv6 && pick(10)
	m.Fragment = m.Family == ruleset.IPv6 && pick(20)
	w := worlds[m.Family]
	for _, f := range []*[]netip.Prefix{&m.Src, &m.NotSrc, &m.Dst, &m.NotDst} {
		if pick(6) {
			*f = some(r, w.nets, 3)
		}
	}
	sets := func(kind string, n int) []string {
		var out []string
		for range 1 + r.IntN(2) {
			out = append(out, setFor(kind, m.Family, r.IntN(n)))
		}
		return out
	}
	for _, f := range []*[]string{&m.SrcSets, &m.NotSrcSets, &m.DstSets, &m.NotDstSets} {
		if pick(6) {
			*f = sets("n", nSets)
		}
	}
	for _, f := range []*[]string{&m.SrcPortSets, &m.NotSrcPortSets, &m.DstPortSets, &m.NotDstPortSets} {
		if pick(10) {
			*f = sets("p", nPortSets)
		}
	}
	return m
}

func (g *generator) icmp(m *ruleset.Match) {
	w := worlds[m.Family]
	m.Protocol = w.icmp
	i := &ruleset.ICMP{Type: one(g.r, w.types)}
	if g.r.IntN(2) == 0 {
		i.HasCode, i.Code = true, uint8(g.r.IntN(2))
	}
	if g.r.IntN(2) == 0 {
		m.ICMP = i
	} else {
		m.NotICMP = i
	}
}

// change makes one random change of the wishes.
func (g *generator) change(b *bench) {
	if g.verdicts && g.r.IntN(2) == 0 {
		g.changeVerdicts(b)
		return
	}
	switch g.r.IntN(10) {
	case 0, 1, 2:
		i := g.r.IntN(nChains)
		hook := ruleset.NoHook
		if i == 0 {
			hook = g.hooks[0]
		}
		b.Want(ChainID(fmt.Sprintf("c%d", i)), g.chain(i, hook))
	case 3, 4, 5:
		b.Want(g.member(), ruleset.Member{})
	case 6, 7:
		b.Unwant(g.member())
	case 8:
		e := ruleset.Entry{Chain: g.target(0)}
		if g.r.IntN(3) == 0 {
			e.Chain = ""
		}
		b.Want(EntryID(fmt.Sprintf("d%d", g.r.IntN(2)), one(g.r, []string{"rstun0", "rstun1", "lo", "other"})), e)
	case 9:
		b.Unwant(EntryID(fmt.Sprintf("d%d", g.r.IntN(2)), one(g.r, []string{"rstun0", "rstun1", "lo", "other"})))
	}
}

// start wants a whole random state.
func (g *generator) start(b *bench) {
	g.sets(b)
	if g.verdicts {
		g.verdictMaps(b)
	}
	for range 12 {
		b.Want(g.member(), ruleset.Member{})
	}
	for i := range nChains {
		hook := ruleset.NoHook
		if i == 0 {
			hook = g.hooks[0]
		}
		b.Want(ChainID(fmt.Sprintf("c%d", i)), g.chain(i, hook))
	}
	if g.early {
		b.Want(ChainID("watch"), g.watch())
	}
	for range 4 {
		g.change(b)
	}
}

// watch drops, behind connection tracking, some of what is or is not tracked.
func (g *generator) watch() *ruleset.Chain {
	hook := g.hooks[0]
	if hook == ruleset.HookPrerouting && g.r.IntN(2) == 0 {
		hook = ruleset.HookInput
	}
	state := one(g.r, []ruleset.CtState{ruleset.CtUntracked, ruleset.CtNew, ruleset.CtInvalid})
	return base(hook, accept, ruleset.Rule{Match: ruleset.Match{CtState: state}, Action: drop})
}

// packet is a random packet for a way.
func (g *generator) packet(way path) netnstest.Packet {
	r := g.r
	w := worlds[one(r, families)]
	p := netnstest.Packet{SrcPort: one(r, portsA), DstPort: one(r, portsA), ICMPID: uint16(r.Uint32())}
	p.Protocol = one(r, append([]uint8{w.icmp, w.icmp, 200}, protos...))
	if p.Protocol == w.icmp || p.Protocol == 200 {
		p.SrcPort, p.DstPort = 0, 0
	}
	if p.Protocol == w.icmp {
		p.ICMPType, p.ICMPCode = one(r, w.types), uint8(r.IntN(2))
	}
	p.Src = one(r, w.near)
	switch way {
	case toHost:
		p.Dst = one(r, w.host)
	case fromHost:
		p.Src, p.Dst = one(r, w.host), one(r, w.near)
	case through:
		p.Dst = one(r, w.far)
	}
	if r.IntN(8) == 0 {
		p.HopLimit = 255
	}
	return p
}

// ways are the ways on which a hook lies.
var ways = map[ruleset.Hook][]path{
	ruleset.HookPrerouting:  {toHost, through},
	ruleset.HookInput:       {toHost},
	ruleset.HookForward:     {through},
	ruleset.HookOutput:      {fromHost},
	ruleset.HookPostrouting: {fromHost, through},
}

// randomStates walks from state to state and compares packets at each.
func (s Suite) randomStates(t *testing.T) {
	steps, packets := 150, 120
	if testing.Short() {
		steps = 20
	}
	total := 0
	for i, hook := range []ruleset.Hook{
		ruleset.HookInput, ruleset.HookForward, ruleset.HookOutput, ruleset.HookPostrouting, ruleset.HookPrerouting,
		ruleset.HookPrerouting, ruleset.HookOutput,
	} {
		g := &generator{r: Rand(t), hooks: []ruleset.Hook{hook}, early: i >= 5}
		b := s.bench(t, Options{Owner: true})
		g.start(b)
		for range steps {
			b.reconcile()
			g.probe(b, packets)
			if t.Failed() {
				return
			}
			for range 1 + g.r.IntN(4) {
				g.change(b)
			}
			if g.early && g.r.IntN(3) == 0 {
				b.Want(ChainID("watch"), g.watch())
			}
			if g.r.IntN(20) == 0 {
				b.be.Resync()
			}
		}
		total += b.judge
	}
	t.Logf("%d verdicts compared", total)
}

func (g *generator) probe(b *bench, packets int) {
	b.t.Helper()
	b.flush()
	for range packets {
		way := one(g.r, ways[g.hooks[0]])
		p := g.packet(way)
		if (g.hooks[0] == ruleset.HookPrerouting) && stateOf(&p) != ruleset.CtNew && way == through {
			continue // an invalid packet's reverse path is not looked at here
		}
		if b.fresh(&p) {
			b.check(way, p)
		}
		if b.t.Failed() {
			return
		}
	}
}

// longLists does so with chains of up to 180 rules, which a back end may say
// otherwise than one after the other.
func (s Suite) longLists(t *testing.T) {
	steps, packets := 15, 150
	if testing.Short() {
		steps = 10
	}
	total := 0
	for i, hook := range []ruleset.Hook{ruleset.HookInput, ruleset.HookForward, ruleset.HookOutput, ruleset.HookPrerouting} {
		g := &generator{r: Rand(t), hooks: []ruleset.Hook{hook}, early: i == 3, long: true}
		b := s.bench(t, Options{Owner: true})
		g.start(b)
		for range steps {
			b.reconcile()
			g.probe(b, packets)
			if t.Failed() {
				return
			}
			for range 1 + g.r.IntN(6) {
				g.change(b)
			}
		}
		total += b.judge
	}
	t.Logf("%d verdicts compared", total)
}

// order tells the same state in several orders to fresh back ends.
func (s Suite) order(t *testing.T) {
	for range 10 {
		g := &generator{r: Rand(t), hooks: []ruleset.Hook{ruleset.HookInput}}
		b := s.bench(t, Options{Owner: true})
		g.start(b)
		b.reconcile()
		b.open(Options{Owner: true})
		wantAll(b.be, b.state, g.r.Shuffle)
		b.reconcile()
		g.probe(b, 100)

		c := s.bench(t, Options{})
		c.state = b.state
		wantAll(c.be, c.state, g.r.Shuffle)
		c.reconcile()
		g.probe(c, 100)
	}
}
