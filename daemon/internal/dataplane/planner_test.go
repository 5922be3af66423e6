// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// planOf plans intents from nothing.
func planOf(changes ...intent.Change) *ruleset.State {
	s := ruleset.NewState()
	p := NewPlanner(s)
	for _, c := range changes {
		p.Note(c)
	}
	p.Flush()
	return s
}

func endpoint(name string, v *intent.HostEndpoint) intent.Change {
	return intent.Change{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: name}, Value: v}
}

func iface(name string, addrs ...string) intent.Change {
	v := &intent.Interface{Up: true}
	for _, a := range addrs {
		v.Addrs = append(v.Addrs, netip.MustParseAddr(a))
	}
	return intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}, Value: v}
}

func gnp(name string) api.Key { return api.Key{Kind: api.KindGlobalNetworkPolicy, Name: name} }

func policyOf(name string, v *intent.Policy) intent.Change {
	return intent.Change{Key: intent.Key{Kind: intent.KindPolicy, Policy: gnp(name)}, Value: v}
}

func profileOf(name string, v *intent.Profile) intent.Change {
	return intent.Change{Key: intent.Key{Kind: intent.KindProfile, Name: name}, Value: v}
}

func settingsOf(v intent.Settings) intent.Change {
	return intent.Change{Key: intent.Key{Kind: intent.KindSettings}, Value: &v}
}

func tcp(in, out string) ruleset.Packet {
	return ruleset.Packet{
		Src: netip.MustParseAddr("10.0.0.2"), Dst: netip.MustParseAddr("10.0.0.1"), Protocol: 6, SrcPort: 40000, DstPort: 80,
		In: in, Out: out, State: ruleset.CtNew,
	}
}

// TestPlanner_AddressOnLoopbackDoesNotClaimIt: hosts keep routed addresses on
// lo. An endpoint that expects one is not about what the host says to itself.
func TestPlanner_AddressOnLoopbackDoesNotClaimIt(t *testing.T) {
	anycast := netip.MustParseAddr("10.255.0.1")
	s := planOf(
		iface("lo", "127.0.0.1", "10.255.0.1"), iface("eth0", "10.0.0.1"),
		endpoint("h", &intent.HostEndpoint{ExpectedIPs: []netip.Addr{anycast}}),
	)
	if v, _ := s.Eval(ruleset.HookInput, tcp("lo", "")); v != ruleset.Accepted {
		t.Errorf("packet on lo, which has an expected address: %s, want accepted", v)
	}
	s = planOf(iface("lo", "127.0.0.1"), endpoint("h", &intent.HostEndpoint{Interface: "lo"}))
	if v, _ := s.Eval(ruleset.HookInput, tcp("lo", "")); v != ruleset.Dropped {
		t.Errorf("packet on lo, which an endpoint names: %s, want dropped", v)
	}
}

// TestPlanner_WildcardSparesLoopbackBeforeItIsListed: it does not take a list
// of the interfaces to know that.
func TestPlanner_WildcardSparesLoopbackBeforeItIsListed(t *testing.T) {
	s := planOf(endpoint("h", &intent.HostEndpoint{Interface: api.AllInterfaces}))
	if v, _ := s.Eval(ruleset.HookInput, tcp("lo", "")); v != ruleset.Accepted {
		t.Errorf("packet on lo: %s, want accepted", v)
	}
	if v, _ := s.Eval(ruleset.HookInput, tcp("eth7", "")); v != ruleset.Dropped {
		t.Errorf("packet on an interface that nobody has listed: %s, want dropped", v)
	}
}

// TestPlanner_TierMayHaveAnyName: "nat" is none of our own words for it. What
// is refused is answered, but in postrouting, where that cannot be; so the
// egress chains are there twice, under names of their own.
func TestPlanner_TierMayHaveAnyName(t *testing.T) {
	for _, name := range []string{"nat", "t1"} {
		s := planOf(
			settingsOf(intent.Settings{DenyReject: true}),
			policyOf("p", &intent.Policy{Tier: name, Egress: []intent.Rule{{Action: api.Pass}}}),
			profileOf("pr", &intent.Profile{Egress: []intent.Rule{{Action: api.Deny, Protocol: 6}, {Action: api.Allow}}}),
			endpoint("h", &intent.HostEndpoint{Interface: "eth0", Profiles: []string{"pr"}, Tiers: []intent.Tier{{Name: name, Egress: []api.Key{gnp("p")}}}}),
		)
		p := tcp("", "eth0")
		if v, tr := s.Eval(ruleset.HookOutput, p); v != ruleset.Rejected {
			t.Errorf("tier %s, output: %s by chain %s, want rejected by the profile", name, v, tr.Chain)
		}
		p.DNATed = true
		if v, tr := s.Eval(ruleset.HookPostrouting, p); v != ruleset.Dropped || tr.Comment != "pro/pr egress 0" {
			t.Errorf("tier %s, postrouting: %s by %q, want dropped by the profile", name, v, tr.Comment)
		}
	}
}

// TestPlanner_MarkLeavesAsItCame: our bit is ours only inside of our chains,
// and the other bits are not ours at all.
func TestPlanner_MarkLeavesAsItCame(t *testing.T) {
	pass := []intent.Rule{{Action: api.Pass}}
	s := planOf(
		policyOf("p", &intent.Policy{Tier: "t", Ingress: pass}),
		profileOf("one", &intent.Profile{Ingress: pass}),
		profileOf("two", &intent.Profile{Ingress: []intent.Rule{{Action: api.Allow}}}),
		endpoint("h", &intent.HostEndpoint{Interface: "eth0", Profiles: []string{"one", "two"}, Tiers: []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("p")}}}}),
	)
	for _, mark := range []uint32{0, 0x1, 0xfffdffff} {
		p := tcp("eth0", "")
		p.Mark = mark
		if v, tr := s.Eval(ruleset.HookInput, p); v != ruleset.Accepted || tr.Mark != mark {
			t.Errorf("packet with mark %#x that a policy and a profile pass on: %s with mark %#x, want accepted with the mark it had", mark, v, tr.Mark)
		}
	}
}

// TestPlanner_StrangersPassBitMeansNothing: a packet that comes with our bit
// set, from a program that uses it too, has not been passed by a policy.
func TestPlanner_StrangersPassBitMeansNothing(t *testing.T) {
	s := planOf(
		policyOf("p", &intent.Policy{Tier: "t", Ingress: []intent.Rule{{Action: api.Pass, Protocol: 17}}}),
		profileOf("pr", &intent.Profile{Ingress: []intent.Rule{{Action: api.Allow}}}),
		endpoint("h", &intent.HostEndpoint{Interface: "eth0", Profiles: []string{"pr"}, Tiers: []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("p")}}}}),
	)
	p := tcp("eth0", "")
	p.Mark = MarkPass
	if v, tr := s.Eval(ruleset.HookInput, p); v != ruleset.Dropped || tr.Comment != "tier t default" {
		t.Errorf("marked packet that no policy passes: %s by %q, want dropped at the end of the tier", v, tr.Comment)
	}
}

func workloadEP(name string, v *intent.WorkloadEndpoint) intent.Change {
	return intent.Change{Key: intent.Key{Kind: intent.KindWorkloadEndpoint, Name: name}, Value: v}
}

// through runs a packet through prerouting and one more hook.
func through(s *ruleset.State, h ruleset.Hook, p ruleset.Packet) (ruleset.Verdict, ruleset.Trace) {
	v, tr := s.Eval(ruleset.HookPrerouting, p)
	if v != ruleset.Accepted {
		return v, tr
	}
	if p.Mark = tr.Mark; tr.NoTrack {
		p.State = ruleset.CtUntracked
	}
	return s.Eval(h, p)
}

// TestPlanner_NoPrefixTakesLoopback: whatever beginnings of names workloads
// have, the host can talk to itself.
func TestPlanner_NoPrefixTakesLoopback(t *testing.T) {
	s := planOf(settingsOf(intent.Settings{WorkloadPrefixes: []string{"l"}}), endpoint("w", &intent.HostEndpoint{Interface: api.AllInterfaces}))
	if v, tr := through(s, ruleset.HookInput, tcp("lo", "")); v != ruleset.Accepted {
		t.Errorf("packet on lo, with prefix l: %s by %q, want accepted", v, tr.Comment)
	}
	if v, _ := through(s, ruleset.HookInput, tcp("l0", "")); v != ruleset.Dropped {
		t.Errorf("packet on l0, with prefix l: %s, want dropped", v)
	}
}

// TestPlanner_WorkloadNeedsNoPrefix: a workload endpoint governs the interface
// it names, whatever its name; of two that name one, the first by name.
func TestPlanner_WorkloadNeedsNoPrefix(t *testing.T) {
	addr := []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	allow := profileOf("pr", &intent.Profile{Ingress: []intent.Rule{{Action: api.Allow}}, Egress: []intent.Rule{{Action: api.Allow}}})
	s := planOf(allow,
		workloadEP("ns/b", &intent.WorkloadEndpoint{Interface: "tap0", Addrs: addr, Profiles: []string{"pr"}}),
		workloadEP("ns/a", &intent.WorkloadEndpoint{Interface: "tap0", Addrs: addr}),
		workloadEP("ns/c", &intent.WorkloadEndpoint{Interface: "tap1", Addrs: addr, Profiles: []string{"pr"}}),
		endpoint("h", &intent.HostEndpoint{Interface: "tap1"}),
	)
	if v, tr := through(s, ruleset.HookForward, tcp("tap0", "eth0")); v != ruleset.Dropped || tr.Chain != "wo-ns/a" {
		t.Errorf("from tap0: %s by %s, want dropped by ns/a", v, tr.Chain)
	}
	if v, tr := through(s, ruleset.HookForward, tcp("tap1", "eth0")); v != ruleset.Accepted {
		t.Errorf("from tap1: %s by %s, want accepted", v, tr.Chain)
	}
	if v, tr := through(s, ruleset.HookInput, tcp("tap1", "")); v != ruleset.Dropped || tr.Chain != chainToHost {
		t.Errorf("from tap1 to the host: %s by %s, want dropped by %s", v, tr.Chain, chainToHost)
	}
}

// TestPlanner_WhatIsLeftToOthers: where our chains share the kernel's with
// those of other programs, what nobody governs and what Return means is theirs
// to judge, and what policy allows is not.
func TestPlanner_WhatIsLeftToOthers(t *testing.T) {
	allow := []intent.Rule{{Action: api.Allow}}
	ep := endpoint("h", &intent.HostEndpoint{Interface: "eth0", Tiers: []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("p")}}}})
	pol := policyOf("p", &intent.Policy{Tier: "t", Ingress: allow})
	yields := func(s *ruleset.State, chain string, rule int) bool { return s.Chains[chain].Rules[rule].Action.Yield }
	s := planOf(ep, pol)
	for name, c := range s.Chains {
		if c.Hook != ruleset.NoHook {
			if n := len(c.Rules); !yields(s, name, n-2) {
				t.Errorf("chain %s: what nobody governs is accepted for good", name)
			}
			if want := name == "input-workload" || name == "output-nat"; c.Yield != want {
				t.Errorf("chain %s: yields %v, want %v", name, c.Yield, want)
			}
		}
	}
	if _, tr := s.Eval(ruleset.HookInput, tcp("eth0", "")); tr.Chain != "pi-gnp/p" || yields(s, tr.Chain, tr.Rule) {
		t.Errorf("allowed by chain %s rule %d, want by the policy, for good", tr.Chain, tr.Rule)
	}
	if _, tr := s.Eval(ruleset.HookForward, tcp("eth0", "eth1")); tr.Comment != "" || !yields(s, "hfi-h", len(s.Chains["hfi-h"].Rules)-1) {
		t.Error("forwarded traffic that no policy judges is accepted for good")
	}
	for action, want := range map[intent.ToHost]string{intent.ToHostReturn: "accept yield", intent.ToHostAccept: "accept", intent.ToHostDrop: "drop"} {
		s := planOf(settingsOf(intent.Settings{EndpointToHost: action}))
		rules := s.Chains[chainToHost].Rules
		if got := rules[len(rules)-1].Action.String(); got != want {
			t.Errorf("workload to host, action %d: %s, want %s", action, got, want)
		}
	}
	s = planOf(ep, pol, settingsOf(intent.Settings{YieldFilter: true, YieldMangle: true}))
	for name, want := range map[string]bool{"input": true, "forward-in": true, "forward-from-workload": true, "forward-to-workload": true, "forward-out": true, "output": true, "pre-dnat": true, "raw-in": false} {
		if got := s.Chains[name].Yield; got != want {
			t.Errorf("allow action Return: chain %s yields %v, want %v", name, got, want)
		}
	}
}

// TestPlanner_StrangersAcceptBitMeansNothing: at no hook does a packet pass
// because it came with our bit; not even where an untracked policy judges one
// interface and the packet goes out by another.
func TestPlanner_StrangersAcceptBitMeansNothing(t *testing.T) {
	udp := []intent.Rule{{Action: api.Allow, Protocol: 17}}
	s := planOf(
		policyOf("u", &intent.Policy{Tier: "t", Untracked: true, Ingress: udp, Egress: udp}),
		policyOf("d", &intent.Policy{Tier: "t", PreDNAT: true, Ingress: udp}),
		endpoint("h", &intent.HostEndpoint{
			Interface:      "eth0",
			UntrackedTiers: []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("u")}, Egress: []api.Key{gnp("u")}}},
			PreDNATTiers:   []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("d")}}},
		}),
		endpoint("g", &intent.HostEndpoint{Interface: "eth1"}),
	)
	for _, p := range []ruleset.Packet{tcp("eth0", ""), tcp("eth1", ""), tcp("", "eth0"), tcp("", "eth1")} {
		p.Mark = MarkAccept
		hook, run := ruleset.HookInput, through
		if p.In == "" {
			hook, run = ruleset.HookOutput, func(s *ruleset.State, h ruleset.Hook, p ruleset.Packet) (ruleset.Verdict, ruleset.Trace) {
				return s.Eval(h, p)
			}
		}
		if v, tr := run(s, hook, p); v != ruleset.Dropped || tr.Comment != "no policy or profile allows it" {
			t.Errorf("%s, in %q out %q, marked: %s by %q, want dropped", hook, p.In, p.Out, v, tr.Comment)
		}
		p.Protocol, p.Mark = 17, 0x80000
		if p.In != "eth1" && p.Out != "eth1" {
			if v, tr := run(s, hook, p); v != ruleset.Accepted || tr.Mark != 0x80000 {
				t.Errorf("%s, in %q out %q, allowed untracked: %s with mark %#x, want accepted with the mark it came with", hook, p.In, p.Out, v, tr.Mark)
			}
		}
	}
}

// TestPlanner_MarkOfAWorkloadLeavesClean: what a wildcard endpoint allows before
// the rewrite, of what a workload sends to the host.
func TestPlanner_MarkOfAWorkloadLeavesClean(t *testing.T) {
	allow := []intent.Rule{{Action: api.Allow}}
	s := planOf(
		settingsOf(intent.Settings{EndpointToHost: intent.ToHostAccept}),
		policyOf("d", &intent.Policy{Tier: "t", PreDNAT: true, Ingress: allow}),
		profileOf("pr", &intent.Profile{Egress: allow}),
		endpoint("w", &intent.HostEndpoint{Interface: api.AllInterfaces, PreDNATTiers: []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("d")}}}}),
		workloadEP("ns/a", &intent.WorkloadEndpoint{Interface: "cali1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Profiles: []string{"pr"}}),
	)
	if v, tr := through(s, ruleset.HookInput, tcp("cali1", "")); v != ruleset.Accepted || tr.Mark != 0 {
		t.Errorf("packet from a workload: %s with mark %#x, want accepted without", v, tr.Mark)
	}
}

// TestPlanner_WildcardHasNoUntrackedPolicy, whoever says that it has.
func TestPlanner_WildcardHasNoUntrackedPolicy(t *testing.T) {
	deny := []intent.Rule{{Action: api.Deny}}
	s := planOf(
		policyOf("u", &intent.Policy{Tier: "t", Untracked: true, Ingress: deny, Egress: deny}),
		profileOf("pr", &intent.Profile{Ingress: []intent.Rule{{Action: api.Allow}}, Egress: []intent.Rule{{Action: api.Allow}}}),
		endpoint("w", &intent.HostEndpoint{
			Interface: api.AllInterfaces, Profiles: []string{"pr"},
			UntrackedTiers: []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("u")}, Egress: []api.Key{gnp("u")}}},
		}),
	)
	if v, tr := through(s, ruleset.HookInput, tcp("eth0", "")); v != ruleset.Accepted {
		t.Errorf("packet in: %s by %q, want accepted", v, tr.Comment)
	}
	if v, tr := s.Eval(ruleset.HookOutput, tcp("", "eth0")); v != ruleset.Accepted {
		t.Errorf("packet out: %s by %q, want accepted", v, tr.Comment)
	}
}

// TestPlanner_AnswersOfFailsafesAreThePeers: before connection tracking a
// failsafe's answer is known by its port and, if the failsafe has a net, by
// the peer in it, who is the source of what comes in.
func TestPlanner_AnswersOfFailsafesAreThePeers(t *testing.T) {
	deny := []intent.Rule{{Action: api.Deny}}
	tiers := []intent.Tier{{Name: "t", Ingress: []api.Key{gnp("u")}, Egress: []api.Key{gnp("u")}}}
	peers := netip.MustParsePrefix("10.0.0.2/32")
	s := planOf(
		settingsOf(intent.Settings{
			FailsafeInbound:  []intent.Failsafe{{Protocol: 6, Port: 22, Net: peers}},
			FailsafeOutbound: []intent.Failsafe{{Protocol: 6, Port: 443, Net: peers}},
		}),
		policyOf("u", &intent.Policy{Tier: "t", Untracked: true, Ingress: deny, Egress: deny}),
		endpoint("h", &intent.HostEndpoint{Interface: "eth0", UntrackedTiers: tiers}),
	)
	for _, c := range []struct {
		src, dst     string
		sport, dport uint16
		want         bool // before connection tracking
	}{
		{"10.0.0.2", "10.0.0.1", 1000, 22, true},
		{"10.0.0.3", "10.0.0.1", 1000, 22, false},
		{"10.0.0.2", "10.0.0.1", 443, 1000, true},
		{"10.0.0.3", "10.0.0.2", 443, 1000, false},
		{"10.0.0.2", "10.0.0.1", 22, 1000, false},
	} {
		for _, way := range []ruleset.Hook{ruleset.HookPrerouting, ruleset.HookOutput} {
			p := tcp("eth0", "")
			p.Src, p.Dst, p.SrcPort, p.DstPort = netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst), c.sport, c.dport
			if way == ruleset.HookOutput { // the same with the sides and the ports of the two failsafes changed
				p = tcp("", "eth0")
				swap := map[uint16]uint16{22: 443, 443: 22, 1000: 1000}
				p.Src, p.Dst, p.SrcPort, p.DstPort = netip.MustParseAddr(c.dst), netip.MustParseAddr(c.src), swap[c.sport], swap[c.dport]
				p.State = ruleset.CtEstablished // so that only the untracked policy can object
			}
			if v, tr := s.Eval(way, p); (v == ruleset.Accepted) != c.want {
				t.Errorf("%s: %s:%d to %s:%d: %s by %q, want passes=%v", way, p.Src, p.SrcPort, p.Dst, p.DstPort, v, tr.Comment, c.want)
			}
		}
	}
}

// TestPlanner_WorkloadSaysFromNoAddressOnlyWhatComesBeforeOne: whether an
// address is free, which routers there are, which groups it listens to; never
// that an address is its own.
func TestPlanner_WorkloadSaysFromNoAddressOnlyWhatComesBeforeOne(t *testing.T) {
	s := planOf(settingsOf(intent.Settings{WorkloadPrefixes: []string{"cali"}}), iface("cali1"),
		workloadEP("w", &intent.WorkloadEndpoint{Interface: "cali1", Addrs: []netip.Addr{netip.MustParseAddr("fd65::1")}}))
	for typ := range 256 {
		p := ruleset.Packet{Src: netip.IPv6Unspecified(), Dst: netip.MustParseAddr("ff02::1"), Protocol: 58, ICMPType: uint8(typ), In: "cali1", State: ruleset.CtUntracked}
		want := ruleset.Dropped
		switch typ {
		case 131, 132, 135, 143:
			want = ruleset.Accepted
		}
		if v, _ := s.Eval(ruleset.HookPrerouting, p); v != want {
			t.Errorf("ICMPv6 of type %d from ::: %s, want %s", typ, v, want)
		}
	}
}

// TestPlanner_PausedAsksNobody, and goes on where it was.
func TestPlanner_PausedAsksNobody(t *testing.T) {
	s := ruleset.NewState()
	p := NewPlanner(s)
	p.Note(endpoint("h", &intent.HostEndpoint{Interface: "eth0"}))
	pause := intent.Change{Key: intent.Key{Kind: intent.KindPause}}
	for _, c := range []struct {
		value intent.Value
		want  ruleset.Verdict
	}{{nil, ruleset.Dropped}, {&intent.Pause{}, ruleset.Accepted}, {nil, ruleset.Dropped}} {
		pause.Value = c.value
		p.Note(pause)
		p.Flush()
		if v, _ := s.Eval(ruleset.HookInput, tcp("eth0", "")); v != c.want {
			t.Errorf("paused %v: %s, want %s", c.value != nil, v, c.want)
		}
	}
}
