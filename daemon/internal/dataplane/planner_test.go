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
