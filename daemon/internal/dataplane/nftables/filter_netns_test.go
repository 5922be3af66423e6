// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// open makes a Filter in a namespace.
func open(t testing.TB, ns *netnstest.NS, cfg Config) *Filter {
	t.Helper()
	var f *Filter
	ns.MustDo(func() (err error) {
		f, err = New(cfg)
		return err
	})
	t.Cleanup(func() { f.Close() })
	return f
}

func reconcile(t testing.TB, f *Filter) {
	t.Helper()
	if _, err := f.Reconcile(t.Context()); err != nil {
		t.Fatalf("Reconcile: %v", err)
	}
}

func chain(name string) ruleset.ID { return ruleset.ID{Kind: ruleset.KindChain, Name: name} }
func set(name string) ruleset.ID   { return ruleset.ID{Kind: ruleset.KindSet, Name: name} }
func dispatch(name string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindDispatch, Name: name}
}
func member(set, prefix string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindMember, Name: set, Elem: ruleset.Element{Net: netip.MustParsePrefix(prefix)}}
}
func entryID(m, iface string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindEntry, Name: m, Iface: iface}
}

// sample is a small whole ruleset.
func sample(f *Filter) {
	f.Want(set("s4"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	f.Want(member("s4", "10.1.0.7/32"), ruleset.Member{})
	f.Want(set("s6"), &ruleset.Set{Family: ruleset.IPv6, Type: ruleset.TypeNet})
	f.Want(member("s6", "fd01::/64"), ruleset.Member{})
	f.Want(member("s6", "fd01::7/128"), ruleset.Member{})
	f.Want(set("p4"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeAddrPort})
	f.Want(ruleset.ID{Kind: ruleset.KindMember, Name: "p4", Elem: ruleset.Element{Net: netip.MustParsePrefix("10.1.0.1/32"), Proto: 6, Port: 80}}, ruleset.Member{})
	f.Want(dispatch("in"), &ruleset.Dispatch{})
	f.Want(entryID("in", "rstun0"), ruleset.Entry{Chain: "ep"})
	f.Want(entryID("in", "lo"), ruleset.Entry{})
	f.Want(chain("input"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
		{Match: ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated}, Action: ruleset.Action{Verb: ruleset.Accept}},
		{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "in"}},
		{Action: ruleset.Action{Verb: ruleset.Accept}},
	}})
	f.Want(chain("ep"), &ruleset.Chain{Rules: []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv4, Protocol: 6, SrcSets: []string{"s4"}, DstPorts: []ruleset.PortRange{{Min: 22, Max: 22}, {Min: 100, Max: 200}}},
			Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: "gnp/a ingress 0"},
		{Match: ruleset.Match{Family: ruleset.IPv6, Protocol: 6, SrcSets: []string{"s6"}, DstPorts: []ruleset.PortRange{{Min: 22, Max: 22}}},
			Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: "gnp/a ingress 0"},
		{Match: ruleset.Match{Family: ruleset.IPv4, DstPortSets: []string{"p4"}}, Action: ruleset.Action{Verb: ruleset.Accept}},
		{Match: ruleset.Match{NotDNATed: true, Protocol: 17}, Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "x: ", LogRate: 3, LogUnit: "minute", LogBurst: 7}},
		{Action: ruleset.Action{Verb: ruleset.SetMark, Mark: 0x10, MarkMask: 0xf0}},
		{Action: ruleset.Action{Verb: ruleset.Jump, Target: "tail"}},
		{Action: ruleset.Action{Verb: ruleset.Reject}, Counter: true, Comment: "default"},
	}})
	f.Want(chain("tail"), &ruleset.Chain{Rules: []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv4, NotSrc: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.4.0/22")}}, Action: ruleset.Action{Verb: ruleset.Drop}},
		{Match: ruleset.Match{Family: ruleset.IPv6, Protocol: 58, NotICMP: &ruleset.ICMP{Type: 128, Code: 0, HasCode: true}, HopLimit255: true}, Action: ruleset.Action{Verb: ruleset.Return}},
	}})
}

// generation is the number of the last transaction in f's namespace.
func generation(t *testing.T, f *Filter) uint32 {
	t.Helper()
	g, err := f.c.generation()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestNetnsFilter_ReadsBackWhatItWrites(t *testing.T) {
	ns := netnstest.New(t)
	f := open(t, ns, Default())
	sample(f)
	reconcile(t, f)
	if err := f.Verify(t.Context()); err != nil {
		t.Errorf("Verify after Reconcile: %v\n%s", err, ns.Run("nft", "list", "ruleset"))
	}
	want := Summary{Chains: 3, Rules: 14, Sets: 6, Members: 3, Owner: true}
	if got := f.Summary(); got != want {
		t.Errorf("Summary() = %+v, want %+v", got, want)
	}
	g := generation(t, f)
	f.Resync()
	reconcile(t, f)
	if got := generation(t, f); got != g {
		t.Errorf("a Reconcile with nothing to do made %d transactions", got-g)
	}
}

func TestNetnsFilter_RestartOnlyClaims(t *testing.T) {
	for _, owner := range []bool{true, false} {
		ns := netnstest.New(t)
		cfg := Default()
		cfg.Owner = owner
		f := open(t, ns, cfg)
		sample(f)
		reconcile(t, f)
		before := generation(t, f)
		rules := ns.Run("nft", "-a", "list", "ruleset")
		f.Close()

		f = open(t, ns, cfg)
		sample(f)
		reconcile(t, f)
		want := before
		if owner {
			want++ // the claim
		}
		if got := generation(t, f); got != want {
			t.Errorf("owner %v: generation %d after a restart, want %d", owner, got, want)
		}
		if after := ns.Run("nft", "-a", "list", "ruleset"); owner == false && after != rules {
			t.Errorf("rules before the restart:\n%s\nafter:\n%s", rules, after)
		}
	}
}

func TestNetnsFilter_Owner(t *testing.T) {
	ns := netnstest.New(t)
	first := open(t, ns, Default())
	sample(first)
	reconcile(t, first)

	second := open(t, ns, Default())
	sample(second)
	if _, err := second.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "owned by another process") {
		t.Errorf("Reconcile of a table that another owns: %v", err)
	}
	if err := second.Cleanup(t.Context()); err == nil {
		t.Error("Cleanup of a table that another owns: no error")
	}
	if second.Summary().Owner {
		t.Error("Summary().Owner is true though another owns the table")
	}
	first.Close()
	reconcile(t, second)
	if s := second.Summary(); !s.Owner || s.OwnerReason != "" {
		t.Errorf("Summary() after the owner went = %+v, want it claimed", s)
	}
	second.Close()

	// A table made without the flags stays without them, and says so.
	ns.Run("nft", "delete table inet ripstop; add table inet ripstop")
	third := open(t, ns, Default())
	sample(third)
	reconcile(t, third)
	if s := third.Summary(); s.Owner || s.OwnerReason == "" {
		t.Errorf("Summary() of a plain table = %+v, want not owned, with a reason", s)
	}
	ns.Run("nft", "delete rule inet ripstop rs-tail handle "+handleOf(ns, "rs-tail"))
	third.Foreign(generation(t, third), true, "nft (pid 1)")
	reconcile(t, third)
	if err := third.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// handleOf is the handle of a chain's first rule.
func handleOf(ns *netnstest.NS, chain string) string {
	return strings.TrimSpace(ns.Run("sh", "-c", "nft -a list chain inet ripstop "+chain+` | sed -n 's/.*# handle //p' | sed -n 2p`))
}

func TestNetnsCleanup_DeletesOnlyOurTable(t *testing.T) {
	ns := netnstest.New(t)
	ns.Run("nft", "add table inet other; add table ip ripstop")
	f := open(t, ns, Default())
	sample(f)
	reconcile(t, f)
	f.Close()
	for range 2 { // the second time there is nothing
		ns.MustDo(func() error { return Cleanup(t.Context(), "ripstop") })
	}
	if got, want := ns.Run("nft", "list", "tables"), "table inet other\ntable ip ripstop\n"; got != want {
		t.Errorf("tables after Cleanup:\n%swant:\n%s", got, want)
	}
	f = open(t, ns, Default())
	sample(f)
	reconcile(t, f)
	if err := f.Cleanup(t.Context()); err != nil {
		t.Error(err)
	}
	if got := ns.Run("nft", "list", "tables"); strings.Contains(got, "inet ripstop") {
		t.Errorf("tables after Cleanup by the owner:\n%s", got)
	}
	reconcile(t, f) // and it can begin again
}

func TestNetnsFilter_SendsOnlyTheDifference(t *testing.T) {
	ns := netnstest.New(t)
	f := open(t, ns, Default())
	sample(f)
	reconcile(t, f)
	chains := f.chains["ep"].want
	more := *chains
	more.Rules = append([]ruleset.Rule{{Match: ruleset.Match{Protocol: 99}, Action: ruleset.Action{Verb: ruleset.Drop}}}, chains.Rules...)
	cases := []struct {
		name     string
		change   func()
		messages int
	}{
		{"the same again", func() { sample(f) }, 0},
		{"one member", func() { f.Want(member("s4", "10.1.0.9/32"), ruleset.Member{}) }, 1},
		{"a covered member", func() { f.Want(member("s6", "fd01::9/128"), ruleset.Member{}) }, 0},
		{"one rule inserted", func() { f.Want(chain("ep"), &more) }, 1},
		{"one rule deleted", func() { f.Want(chain("ep"), chains) }, 1},
		{"one entry", func() { f.Want(entryID("in", "eth9"), ruleset.Entry{Chain: "ep"}) }, 1},
		{"the entry gone", func() { f.Unwant(entryID("in", "eth9")) }, 1},
		{"a new chain", func() { f.Want(chain("new"), &ruleset.Chain{Rules: chains.Rules[4:5]}) }, 2},
	}
	for _, c := range cases {
		c.change()
		p := f.plan()
		got := len(p.prepare.objects) + len(p.change.objects) + len(p.clean.objects) - 3
		if got != c.messages {
			t.Errorf("%s: %d messages, want %d", c.name, got, c.messages)
		}
		reconcile(t, f)
	}
}

func TestNetnsFilter_Counters(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	f := open(t, inj.NS, Default())
	sample(f)
	reconcile(t, f)
	p := netnstest.Packet{Src: netip.MustParseAddr("10.1.0.7"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: 6, SrcPort: 9, DstPort: 150}
	for range 3 {
		if !inj.In("rstun0", p) {
			t.Fatalf("%+v is not accepted", p)
		}
		inj.FlushConntrack()
	}
	got, err := f.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := got[CounterKey{"ep", "gnp/a ingress 0"}]; c.Packets != 3 || c.Bytes != 3*48 {
		t.Errorf("counter = %+v, want 3 packets of 48 bytes; all: %v", c, got)
	}
	// Another rule of the chain changes: the counter goes on.
	ep := *f.chains["ep"].want
	ep.Rules = ep.Rules[:len(ep.Rules)-1]
	f.Want(chain("ep"), &ep)
	reconcile(t, f)
	got, err = f.Counters(t.Context())
	if c := got[CounterKey{"ep", "gnp/a ingress 0"}]; err != nil || c.Packets != 3 {
		t.Errorf("counter after another rule went = %+v, %v, want 3 packets", c, err)
	}
}

func TestNetnsFilter_RefusedRuleIsSetAside(t *testing.T) {
	ns := netnstest.New(t)
	f := open(t, ns, Default())
	// The kernel lets nothing be answered from postrouting.
	f.Want(chain("post"), &ruleset.Chain{Hook: ruleset.HookPostrouting, Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Accept}}}})
	reconcile(t, f)
	f.Want(chain("post"), &ruleset.Chain{Hook: ruleset.HookPostrouting, Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Reject}}}})
	sample(f)
	again, err := f.Reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "chain post: rule 0 (reject), replaced by drop: refused by the kernel") {
		t.Errorf("Reconcile with a chain that the kernel refuses: %v", err)
	}
	if again <= 0 {
		t.Error("a refused rule is not tried again")
	}
	out := ns.Run("nft", "list", "ruleset")
	if !strings.Contains(out, "gnp/a ingress 0") || !strings.Contains(out, "hook postrouting priority filter; policy accept;\n\t\tdrop\n") {
		t.Errorf("the rest is not in force, or the refused rule has no stand-in:\n%s", out)
	}
	f.Want(chain("post"), &ruleset.Chain{Hook: ruleset.HookPostrouting, Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Drop}}}})
	if _, err := f.Reconcile(t.Context()); err != nil {
		t.Errorf("Reconcile after the chain was mended: %v", err)
	}
}

func TestNetnsFilter_FightIsSlow(t *testing.T) {
	ns := netnstest.New(t)
	drifts := 0
	cfg := Default()
	cfg.Owner = false
	cfg.OnDrift = func(Drift) { drifts++ }
	f := open(t, ns, cfg)
	sample(f)
	reconcile(t, f)
	waited := false
	for range maxFights + 5 {
		ns.Run("nft", "flush", "chain", "inet", "ripstop", "rs-tail")
		f.Foreign(generation(t, f), true, "nft")
		again, err := f.Reconcile(t.Context())
		if err != nil && again > 0 {
			waited = true
		}
	}
	if !waited || drifts != maxFights {
		t.Errorf("%d repairs, waited %v; want %d, then a pause", drifts, waited, maxFights)
	}
}
