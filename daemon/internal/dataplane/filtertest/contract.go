// SPDX-License-Identifier: Apache-2.0

package filtertest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var (
	accept = ruleset.Action{Verb: ruleset.Accept}
	drop   = ruleset.Action{Verb: ruleset.Drop}
)

// base is a base chain of rules that ends in a verdict.
func base(h ruleset.Hook, last ruleset.Action, rules ...ruleset.Rule) *ruleset.Chain {
	return &ruleset.Chain{Hook: h, Rules: append(rules, ruleset.Rule{Action: last})}
}

func tcp(src, dst string, port uint16) netnstest.Packet {
	return netnstest.Packet{Src: adr(src), Dst: adr(dst), Protocol: netnstest.TCP, SrcPort: 40000, DstPort: port}
}

// hooks: every hook sees its packets and no others; FromHost tells packets of
// the host from forwarded ones where they meet; a changed hook or priority
// moves the chain.
func (s Suite) hooks(t *testing.T) {
	b := s.bench(t, Options{Owner: true})
	hooks := []ruleset.Hook{ruleset.HookPrerouting, ruleset.HookInput, ruleset.HookForward, ruleset.HookOutput, ruleset.HookPostrouting, ruleset.HookInput}
	for i, h := range hooks { // the same chain, moved from hook to hook
		b.Want(ChainID("c"), &ruleset.Chain{Hook: h, Priority: i - 2, Rules: []ruleset.Rule{
			{Match: ruleset.Match{Protocol: netnstest.TCP, DstPorts: []ruleset.PortRange{{Min: 80, Max: 80}}}, Action: drop},
			{Match: ruleset.Match{Protocol: netnstest.TCP, FromHost: true, DstPorts: []ruleset.PortRange{{Min: 81, Max: 81}}}, Action: drop},
			{Action: accept},
		}})
		b.reconcile()
		for _, f := range families {
			w := worlds[f]
			for port := uint16(79); port <= 82; port++ {
				b.check(toHost, netnstest.Packet{Src: w.near[0], Dst: w.host[0], Protocol: netnstest.TCP, SrcPort: 1, DstPort: port})
				b.check(fromHost, netnstest.Packet{Src: w.host[0], Dst: w.near[0], Protocol: netnstest.TCP, SrcPort: 1, DstPort: port})
				b.check(through, netnstest.Packet{Src: w.near[0], Dst: w.far[0], Protocol: netnstest.TCP, SrcPort: 1, DstPort: port})
			}
		}
	}
	b.Unwant(ChainID("c"))
	b.reconcile()
	if p := tcp("10.1.0.2", "10.1.0.1", 80); !b.send(toHost, p) {
		t.Errorf("%+v is dropped though no chain is wanted", p)
	}
}

// conntrack: replies are established, errors about them related.
func (s Suite) conntrack(t *testing.T) {
	b := s.bench(t, Options{Owner: true})
	est := ruleset.Match{CtState: ruleset.CtEstablished}
	b.Want(ChainID("in"), base(ruleset.HookInput, drop,
		ruleset.Rule{Match: est, Action: accept},
		ruleset.Rule{Match: ruleset.Match{CtState: ruleset.CtRelated, Protocol: netnstest.ICMP}, Action: accept},
	))
	b.reconcile()
	for _, f := range families {
		w := worlds[f]
		for _, proto := range []uint8{netnstest.TCP, netnstest.UDP} {
			out := netnstest.Packet{Src: w.host[0], Dst: w.near[0], Protocol: proto, SrcPort: 4000, DstPort: 80}
			reply := netnstest.Packet{Src: w.near[0], Dst: w.host[0], Protocol: proto, SrcPort: 80, DstPort: 4000, TCPFlags: netnstest.SYN | netnstest.ACK, Ack: 1}
			if b.send(toHost, reply) {
				t.Errorf("%v: a reply to nothing is accepted", reply)
			}
			b.flush()
			if !b.send(fromHost, out) {
				t.Errorf("%v: not sent", out)
			}
			if !b.send(toHost, reply) {
				t.Errorf("%v: a reply is not accepted", reply)
			}
			other := reply
			other.DstPort++
			if b.send(toHost, other) {
				t.Errorf("%v: accepted, though it belongs to no connection", other)
			}
		}
	}
	// An ICMP error that quotes a packet of ours.
	w := worlds[ruleset.IPv4]
	out := netnstest.Packet{Src: w.host[0], Dst: w.near[0], Protocol: netnstest.UDP, SrcPort: 4001, DstPort: 53}
	b.send(fromHost, out)
	related := netnstest.Packet{Src: w.near[0], Dst: w.host[0], Protocol: netnstest.ICMP, ICMPType: 3, ICMPCode: 3, Payload: out.Build(nil, 7)}
	if !b.send(toHost, related) {
		t.Error("an ICMP error about a connection of ours is not accepted as related")
	}
	out.SrcPort = 4002
	related.Payload = out.Build(nil, 8)
	if b.send(toHost, related) {
		t.Error("an ICMP error about no connection of ours is accepted as related")
	}
}

// noTrack: what tracking is kept away from is untracked ever after, in either
// direction, makes no connection and belongs to none.
func (s Suite) noTrack(t *testing.T) {
	b := s.bench(t, Options{Owner: true})
	port := func(m ruleset.Match, p uint16) ruleset.Match {
		m.Protocol, m.DstPorts = netnstest.UDP, []ruleset.PortRange{{Min: p, Max: p}}
		return m
	}
	raw := func(h ruleset.Hook) *ruleset.Chain {
		c := base(h, accept, ruleset.Rule{Match: port(ruleset.Match{}, 53), Action: ruleset.Action{Verb: ruleset.NoTrack}})
		c.Priority = rawPriority
		return c
	}
	b.Want(ChainID("raw-in"), raw(ruleset.HookPrerouting))
	b.Want(ChainID("raw-out"), raw(ruleset.HookOutput))
	untracked := ruleset.Match{CtState: ruleset.CtUntracked}
	b.Want(ChainID("in"), base(ruleset.HookInput, drop, ruleset.Rule{Match: port(untracked, 53), Action: accept},
		ruleset.Rule{Match: ruleset.Match{CtState: ruleset.CtEstablished}, Action: accept}))
	b.Want(ChainID("out"), base(ruleset.HookOutput, drop, ruleset.Rule{Match: port(untracked, 53), Action: accept},
		ruleset.Rule{Match: port(ruleset.Match{CtState: ruleset.CtNew}, 54), Action: accept}))
	b.reconcile()
	for _, f := range families {
		w := worlds[f]
		udp := func(src, dst netip.Addr, sport, dport uint16) netnstest.Packet {
			return netnstest.Packet{Src: src, Dst: dst, Protocol: netnstest.UDP, SrcPort: sport, DstPort: dport}
		}
		b.check(toHost, udp(w.near[0], w.host[0], 1000, 53))
		b.check(toHost, udp(w.near[0], w.host[0], 1000, 54))
		b.check(fromHost, udp(w.host[0], w.near[0], 1001, 53))
		b.check(fromHost, udp(w.host[0], w.near[0], 1001, 54))
		if b.send(toHost, udp(w.near[0], w.host[0], 53, 1001)) {
			t.Errorf("%v: the answer to an untracked packet is taken for one of a connection", f)
		}
		if !b.send(toHost, udp(w.near[0], w.host[0], 54, 1001)) {
			t.Errorf("%v: the answer to a tracked packet is dropped", f)
		}
	}
}

// prefixes: interfaces by the beginning of their names, and packets without
// that interface.
func (s Suite) prefixes(t *testing.T) {
	for _, prefix := range prefixes {
		b := s.bench(t, Options{Owner: true})
		for i, m := range []ruleset.Match{{InPrefix: prefix}, {OutPrefix: prefix}} {
			b.Want(ChainID(fmt.Sprint("input", i)), &ruleset.Chain{Hook: ruleset.HookInput, Priority: i, Rules: []ruleset.Rule{{Match: m, Action: drop}, {Action: accept}}})
			b.Want(ChainID(fmt.Sprint("output", i)), &ruleset.Chain{Hook: ruleset.HookOutput, Priority: i, Rules: []ruleset.Rule{{Match: m, Action: drop}, {Action: accept}}})
		}
		b.Want(ChainID("forward"), base(ruleset.HookForward, accept, ruleset.Rule{Match: ruleset.Match{InPrefix: prefix, OutPrefix: "rstun1"}, Action: drop}))
		b.reconcile()
		for _, f := range families {
			w := worlds[f]
			b.check(toHost, netnstest.Packet{Src: w.near[0], Dst: w.host[0], Protocol: netnstest.TCP, SrcPort: 1, DstPort: 80})
			b.check(fromHost, netnstest.Packet{Src: w.host[0], Dst: w.near[0], Protocol: netnstest.TCP, SrcPort: 1, DstPort: 80})
			b.check(through, netnstest.Packet{Src: w.near[0], Dst: w.far[0], Protocol: netnstest.TCP, SrcPort: 1, DstPort: 80})
		}
	}
}

// overlaps: covers come and go, also of everything, with one member changed
// at a time and in any order.
func (s Suite) overlaps(t *testing.T) {
	r := Rand(t)
	for _, f := range families {
		b := s.bench(t, Options{Owner: true})
		w := worlds[f]
		b.Want(SetID("s"), &ruleset.Set{Family: f, Type: ruleset.TypeNet})
		b.Want(ChainID("in"), base(ruleset.HookInput, drop,
			ruleset.Rule{Match: ruleset.Match{Family: f, SrcSets: []string{"s"}}, Action: accept}))
		for i := range 200 {
			n := w.nets[r.IntN(len(w.nets))]
			if i < len(w.nets) { // all, once, from /0 down
				n = w.nets[i]
			}
			id := ruleset.ID{Kind: ruleset.KindMember, Name: "s", Elem: ruleset.Element{Net: n}}
			if i < len(w.nets) || r.IntN(2) == 0 {
				b.Want(id, ruleset.Member{})
			} else {
				b.Unwant(id)
			}
			b.reconcile()
			for _, a := range w.near {
				b.check(toHost, netnstest.Packet{Src: a, Dst: w.host[0], Protocol: netnstest.UDP, DstPort: 9})
			}
			if t.Failed() {
				return
			}
		}
	}
}

// adoption: what a back end made stays in force when it is closed, and the
// next one takes it over without a gap and ends where the wishes are.
func (s Suite) adoption(t *testing.T) {
	for _, owner := range []bool{true, false} {
		g := &generator{r: Rand(t), hooks: []ruleset.Hook{ruleset.HookInput}}
		b := s.bench(t, Options{Owner: owner})
		g.start(b)
		b.reconcile()
		for range 10 {
			b.be.Close()
			g.probe(b, 60) // orphaned
			b.open(Options{Owner: owner})
			g.probe(b, 20)
			for range g.r.IntN(4) { // the wishes may have changed meanwhile
				g.change(b)
			}
			b.open(Options{Owner: owner})
			wantAll(b.be, b.state, g.r.Shuffle)
			b.reconcile()
			g.probe(b, 100)
			if t.Failed() {
				return
			}
		}
	}
}

// broken: a chain that refers to what is not wanted stays as it was; all
// else goes on; when what it needs comes, it follows.
func (s Suite) broken(t *testing.T) {
	b := s.bench(t, Options{Owner: true})
	open := func(p uint16) ruleset.Rule {
		return ruleset.Rule{Match: ruleset.Match{Protocol: netnstest.TCP, DstPorts: []ruleset.PortRange{{Min: p, Max: p}}}, Action: accept}
	}
	jump := func(c string) ruleset.Rule {
		return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: c}}
	}
	b.Want(ChainID("a"), &ruleset.Chain{Rules: []ruleset.Rule{open(80)}})
	b.Want(ChainID("b"), &ruleset.Chain{Rules: []ruleset.Rule{open(81)}})
	b.Want(ChainID("in"), base(ruleset.HookInput, drop, jump("a"), jump("b")))
	b.reconcile()
	is := func(port uint16, want bool) {
		t.Helper()
		if got := b.send(toHost, tcp("10.1.0.2", "10.1.0.1", port)); got != want {
			t.Errorf("port %d: accepted %v, want %v", port, got, want)
		}
	}
	is(80, true)
	is(81, true)
	is(82, false)

	b.Want(ChainID("a"), &ruleset.Chain{Rules: []ruleset.Rule{open(90), jump("missing")}})
	b.Want(ChainID("b"), &ruleset.Chain{Rules: []ruleset.Rule{open(91), {
		Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"late"}}, Action: accept}}})
	b.Want(ChainID("c"), &ruleset.Chain{Rules: []ruleset.Rule{open(82)}})
	b.Want(ChainID("in"), base(ruleset.HookInput, drop, jump("a"), jump("b"), jump("c")))
	if _, err := b.be.Reconcile(t.Context()); err == nil {
		t.Error("Reconcile with broken references: no error")
	}
	is(80, true) // as it was
	is(81, true)
	is(82, true) // new
	is(90, false)
	is(91, false)

	b.Want(SetID("late"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	b.Want(ChainID("missing"), &ruleset.Chain{Rules: []ruleset.Rule{open(92)}})
	b.reconcile()
	for _, p := range []uint16{80, 81} {
		is(p, false)
	}
	for _, p := range []uint16{82, 90, 91, 92} {
		is(p, true)
	}

	b.Unwant(ChainID("missing")) // still referred to: must stay
	if _, err := b.be.Reconcile(t.Context()); err == nil {
		t.Error("Reconcile with an unwanted chain that is referred to: no error")
	}
	is(92, true)
}

// overfull: of a set with too many members some are left out; what that
// would open stays closed, and the rest goes on.
func (s Suite) overfull(t *testing.T) {
	const limit = 8
	b := s.bench(t, Options{Owner: true, MaxSetSize: 1000})
	w := worlds[ruleset.IPv4]
	in, out := w.near[0], adr("10.1.0.200")
	id := func(i int) ruleset.ID {
		a := netip.AddrFrom4([4]byte{10, 7, 0, byte(i)})
		if i == 0 {
			a = in
		}
		return ruleset.ID{Kind: ruleset.KindMember, Name: "s", Elem: ruleset.Element{Net: netip.PrefixFrom(a, 32)}}
	}
	b.Want(SetID("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet, MaxSize: 1})
	port := func(p uint16, m ruleset.Match, a ruleset.Action) ruleset.Rule {
		m.Family, m.Protocol, m.DstPorts = ruleset.IPv4, netnstest.TCP, []ruleset.PortRange{{Min: p, Max: p}}
		return ruleset.Rule{Match: m, Action: a}
	}
	yes, no := ruleset.Match{SrcSets: []string{"s"}}, ruleset.Match{NotSrcSets: []string{"s"}}
	rules := []ruleset.Rule{
		port(1, yes, drop), port(1, ruleset.Match{}, accept),
		port(2, no, drop), port(2, ruleset.Match{}, accept),
		port(3, yes, accept), port(4, no, accept),
	}
	b.Want(ChainID("in"), base(ruleset.HookInput, drop, rules...))
	for i := range limit {
		b.Want(id(i+1), ruleset.Member{})
	}
	b.Want(id(0), ruleset.Member{}) // the one too many, or one of the others
	b.reconcile()
	b.Want(SetID("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet, MaxSize: limit}) // the limit changes
	b.reconcile()
	if got := s.OverSize(b.be); !slices.Equal(got, []string{"s"}) {
		t.Errorf("OverSize() = %v, want [s]", got)
	}
	verdicts := func(src netip.Addr) (got [4]bool) {
		for p := range got {
			got[p] = b.send(toHost, netnstest.Packet{Src: src, Dst: w.host[0], Protocol: netnstest.TCP, SrcPort: 9, DstPort: uint16(p + 1)})
		}
		return got
	}
	// Outside the set: nothing may be open that is closed for anybody, and
	// a deny for the set now denies all.
	if got, want := verdicts(out), [4]bool{false, false, false, false}; got != want {
		t.Errorf("overfull, source outside: ports 1-4 open: %v, want %v", got, want)
	}
	if got := verdicts(in); got[0] || got[3] {
		t.Errorf("overfull, source in the set: port 1 open %v, port 4 open %v, want both closed", got[0], got[3])
	}
	b.Unwant(id(3))
	b.reconcile()
	if got := s.OverSize(b.be); len(got) != 0 {
		t.Errorf("OverSize() = %v, want none", got)
	}
	if got, want := verdicts(in), [4]bool{false, true, true, false}; got != want {
		t.Errorf("whole again, source in the set: ports 1-4 open: %v, want %v", got, want)
	}
	if got, want := verdicts(out), [4]bool{true, false, false, true}; got != want {
		t.Errorf("whole again, source outside: ports 1-4 open: %v, want %v", got, want)
	}
}

// foreign: objects of others are the same, byte for byte, whatever we do.
func (s Suite) foreign(t *testing.T) {
	g := &generator{r: Rand(t), hooks: []ruleset.Hook{ruleset.HookInput}}
	b := s.bench(t, Options{Owner: true})
	b.inj.NS.Run("sh", "-ec", s.Foreign)
	before := b.inj.NS.Run("sh", "-ec", s.ForeignDump)
	g.start(b)
	for range 50 {
		b.reconcile()
		for range 3 {
			g.change(b)
		}
	}
	b.be.Resync()
	b.reconcile()
	if after := b.inj.NS.Run("sh", "-ec", s.ForeignDump); after != before {
		t.Errorf("foreign objects before:\n%s\nafter:\n%s", before, after)
	}
}

// large: 10,000 rules and 200,000 members at once, then one change, then all
// away.
func (s Suite) large(t *testing.T) {
	b := s.bench(t, Options{Owner: true})
	const chains, rules, members = 1000, 10, 200_000
	for i := range chains {
		c := &ruleset.Chain{}
		for j := range rules {
			c.Rules = append(c.Rules, ruleset.Rule{Match: ruleset.Match{
				Family: ruleset.IPv4, Protocol: netnstest.TCP, SrcSets: []string{"s"},
				DstPorts: []ruleset.PortRange{{Min: uint16(i), Max: uint16(i)}}, NotSrc: []netip.Prefix{pfx(fmt.Sprintf("10.9.%d.0/24", j))},
			}, Action: accept, Counter: true, Comment: "gnp/large ingress"})
		}
		b.Want(ChainID(fmt.Sprintf("c%d", i)), c)
	}
	id := func(set string, i int) ruleset.ID {
		bits := 32
		if set == "n" {
			bits = 31
		}
		return ruleset.ID{Kind: ruleset.KindMember, Name: set, Elem: ruleset.Element{
			Net: netip.PrefixFrom(netip.AddrFrom4([4]byte{11 + byte(i>>17), byte(i >> 9), byte(i >> 1), byte(i << 7)}), bits).Masked()}}
	}
	for _, set := range []string{"s", "n"} {
		b.Want(SetID(set), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
		for i := range members / 2 {
			b.Want(id(set, i), ruleset.Member{})
		}
	}
	b.Want(MemberID("s", "10.1.0.2/32"), ruleset.Member{})
	in := base(ruleset.HookInput, drop)
	in.Rules = slices.Insert(in.Rules, 0,
		ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: "c7"}},
		ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"n"}}, Action: accept})
	b.Want(ChainID("in"), in)
	timed := func(what string, f func()) {
		t.Helper()
		start := time.Now()
		f()
		t.Logf("%s: %v", what, time.Since(start).Round(10*time.Microsecond))
	}
	timed("10,000 rules and 200,000 members", b.reconcile)
	b.check(toHost, tcp("10.1.0.2", "10.1.0.1", 7))
	b.check(toHost, tcp("10.1.0.3", "10.1.0.1", 7))
	b.check(toHost, tcp("10.1.0.2", "10.1.0.1", 8))
	timed("one member more", func() { b.Want(MemberID("s", "10.1.0.3/32"), ruleset.Member{}); b.reconcile() })
	b.check(toHost, tcp("10.1.0.3", "10.1.0.1", 7))
	timed("reading all again", func() { b.be.Resync(); b.reconcile() })
	b.check(toHost, tcp("10.1.0.3", "10.1.0.1", 7))
	timed("all away but one chain", func() {
		for i := range chains {
			b.Unwant(ChainID(fmt.Sprintf("c%d", i)))
		}
		for _, set := range []string{"s", "n"} {
			b.Unwant(SetID(set))
			for i := range members / 2 {
				b.Unwant(id(set, i))
			}
		}
		b.Want(ChainID("in"), base(ruleset.HookInput, drop))
		b.reconcile()
	})
	b.check(toHost, tcp("10.1.0.2", "10.1.0.1", 7))
}

// DriftState is what the Drift and Owner tests have made when Tamper and
// Refused commands run. Packets to port 80 from members of s are accepted,
// all else is dropped.
func DriftState() *ruleset.State {
	s := ruleset.NewState()
	s.Want(SetID("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	s.Want(MemberID("s", "10.1.0.2/32"), ruleset.Member{})
	s.Want(SetID("n"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	s.Want(MemberID("n", "10.1.0.0/25"), ruleset.Member{})
	s.Want(DispatchID("in"), &ruleset.Dispatch{})
	s.Want(EntryID("in", "rstun0"), ruleset.Entry{Chain: "ep"})
	s.Want(ChainID("ep"), &ruleset.Chain{Rules: []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv4, Protocol: netnstest.TCP, SrcSets: []string{"s"}, DstSets: []string{"n"},
			DstPorts: []ruleset.PortRange{{Min: 80, Max: 80}, {Min: 90, Max: 99}}}, Action: accept, Counter: true, Comment: "allow"},
		{Action: drop, Counter: true, Comment: "deny"},
	}})
	s.Want(ChainID("in"), base(ruleset.HookInput, drop,
		ruleset.Rule{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "in"}}))
	return s
}

// driftProbes are packets that tell whether DriftState is in force.
var driftProbes = []driftProbe{{"10.1.0.2", 80, true}, {"10.1.0.3", 80, false}, {"10.1.0.2", 81, false}, {"10.1.0.2", 95, true}}

type driftProbe struct {
	src  string
	port uint16
	want bool
}

func (b *bench) driftIntact() bool { return b.intact(driftProbes) }

func (b *bench) intact(probes []driftProbe) bool {
	for _, p := range probes {
		if b.send(toHost, tcp(p.src, "10.1.0.1", p.port)) != p.want {
			return false
		}
	}
	return true
}

// driftRepair: whatever another tool changes is found by the next Resync,
// reported, and repaired.
func (s Suite) driftRepair(t *testing.T) {
	s.drift(t, s.Tamper, DriftState(), driftProbes)
}

// drift makes a state, changes it in every way, and sees it repaired.
func (s Suite) drift(t *testing.T, tamper map[string]string, state *ruleset.State, probes []driftProbe) {
	for _, name := range slices.Sorted(maps.Keys(tamper)) {
		t.Run(name, func(t *testing.T) {
			var drifts []string
			b := s.bench(t, Options{OnDrift: func(what []string, repaired bool) {
				drifts = append(drifts, fmt.Sprint(what, repaired))
			}})
			b.state = state
			wantAll(b.be, b.state, func(int, func(i, j int)) {})
			b.reconcile()
			if !b.intact(probes) {
				t.Fatal("the state is not in force at the start")
			}
			b.be.Resync()
			b.reconcile()
			if len(drifts) != 0 {
				t.Fatalf("drift reported though nobody changed anything: %v", drifts)
			}
			b.inj.NS.Run("sh", "-ec", tamper[name])
			b.be.Resync()
			b.reconcile()
			if !b.intact(probes) {
				t.Error("not repaired")
			}
			if len(drifts) != 1 {
				t.Errorf("%d reports of drift, want 1: %v", len(drifts), drifts)
			}
			t.Log(drifts)
			b.be.Resync()
			b.reconcile()
			if len(drifts) > 1 {
				t.Errorf("drift reported again after the repair: %v", drifts[1:])
			}
		})
	}
}

// owner: a guarded back end's objects cannot be changed by others.
func (s Suite) owner(t *testing.T) {
	if s.Unguarded != "" {
		t.Skip(s.Unguarded)
	}
	if len(s.Refused) == 0 {
		t.Fatal("nothing is tried that the back end refuses, and no reason is given")
	}
	b := s.bench(t, Options{Owner: true})
	b.state = DriftState()
	wantAll(b.be, b.state, func(int, func(i, j int)) {})
	b.reconcile()
	for _, name := range slices.Sorted(maps.Keys(s.Refused)) {
		out, _ := b.inj.NS.Try("sh", "-ec", s.Refused[name])
		if !b.driftIntact() {
			t.Fatalf("%s: the rules are not in force any more\n%s", name, out)
		}
	}
}

// Churn changes the wishes of a back end that has DriftState, round after
// round, in ways that do not change the verdict of Tally.Probe's packets: other rules around,
// other members, covers that come and go, sets that change their kind, new and
// vanishing chains, entries of another interface. It returns when more says
// so, or with the first error.
func Churn(ctx context.Context, r *rand.Rand, be Backend, more func(round int) bool) error {
	g := &generator{r: r, hooks: []ruleset.Hook{ruleset.HookInput}}
	allow := DriftState().Chains["ep"].Rules
	toggle := func(id ruleset.ID, o ruleset.Object) {
		if r.IntN(2) == 0 {
			be.Want(id, o)
		} else {
			be.Unwant(id)
		}
	}
	for i := 0; more(i); i++ {
		noise := ruleset.Rule{
			Match:  ruleset.Match{Protocol: netnstest.UDP, DstPorts: some(r, ranges, 4)},
			Action: one(r, []ruleset.Action{accept, drop}), Comment: fmt.Sprint(i),
		}
		ep := &ruleset.Chain{Rules: slices.Concat(slices.Repeat([]ruleset.Rule{noise}, r.IntN(5)), allow)}
		if r.IntN(4) == 0 { // the same set by another name
			be.Want(SetID("m"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
			be.Want(MemberID("m", "10.1.0.0/24"), ruleset.Member{})
			rule := allow[0]
			rule.Match.DstSets = []string{"m"}
			ep.Rules = slices.Concat(ep.Rules[:len(ep.Rules)-2], []ruleset.Rule{rule}, allow[1:])
		} else {
			be.Unwant(SetID("m"))
		}
		be.Want(ChainID("ep"), ep)
		extra := fmt.Sprintf("x%d", i%3)
		be.Want(ChainID(extra), g.chainWithoutNames())
		be.Unwant(ChainID(fmt.Sprintf("x%d", (i+1)%3)))
		toggle(MemberID("s", fmt.Sprintf("10.8.%d.0/24", i%7)), ruleset.Member{})
		toggle(MemberID("n", one(r, []string{"10.0.0.0/8", "10.1.0.0/24", "10.1.0.0/26", "10.1.0.0/32"})), ruleset.Member{})
		toggle(EntryID("in", "rstun1"), ruleset.Entry{Chain: one(r, []string{"ep", extra, ""})})
		// The entry of the probes' own interface moves between two chains
		// that say the same.
		be.Want(ChainID("ep2"), ep)
		be.Want(EntryID("in", "rstun0"), ruleset.Entry{Chain: one(r, []string{"ep", "ep2"})})
		if r.IntN(10) == 0 {
			be.Resync()
		}
		if _, err := be.Reconcile(ctx); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	return nil
}

// updates: while the rules are rewritten in all ways that do not change the
// verdict of some packets, those packets never see another verdict.
func (s Suite) updates(t *testing.T) {
	r := Rand(t)
	b := s.bench(t, Options{Owner: true})
	b.state = DriftState()
	wantAll(b.be, b.state, func(int, func(i, j int)) {})
	b.reconcile()
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	done := make(chan error, 1)
	go func() { done <- Churn(t.Context(), r, b.be, func(i int) bool { return i < rounds }) }()
	var tally Tally
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			running = false
		default:
		}
		for range 25 {
			tally.Probe(b.inj)
		}
	}
	t.Logf("%d updates: %v", rounds, &tally)
	if tally.Admitted+tally.Cut > 0 {
		t.Errorf("during %d updates: %v", rounds, &tally)
	}
}

// Tally counts packets that saw another verdict than DriftState's.
type Tally struct{ Packets, Admitted, Cut int }

// Probe sends the packets whose verdict Churn does not change.
func (t *Tally) Probe(inj *netnstest.Injector) { t.probe(inj, driftProbes) }

func (t *Tally) probe(inj *netnstest.Injector, probes []driftProbe) {
	for _, p := range probes {
		t.Packets++
		switch got := inj.In("rstun0", tcp(p.src, "10.1.0.1", p.port)); {
		case got && !p.want:
			t.Admitted++
		case !got && p.want:
			t.Cut++
		}
	}
}

// String tells the figures.
func (t *Tally) String() string {
	return fmt.Sprintf("%d packets, %d wrongly admitted, %d wrongly cut", t.Packets, t.Admitted, t.Cut)
}

// chainWithoutNames is a random chain that refers to nothing.
func (g *generator) chainWithoutNames() *ruleset.Chain {
	c := &ruleset.Chain{}
	for range 1 + g.r.IntN(20) {
		p := one(g.r, ranges)
		c.Rules = append(c.Rules, ruleset.Rule{Match: ruleset.Match{Protocol: netnstest.TCP, DstPorts: []ruleset.PortRange{p}}, Action: accept})
	}
	return c
}
