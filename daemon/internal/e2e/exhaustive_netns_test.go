// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// alphabet is 84 rules: 3 actions, 7 forms of protocol and ports, 4 forms of
// source.
func alphabet() []api.Rule {
	var out []api.Rule
	tcp, udp := &api.Protocol{Name: "TCP"}, &api.Protocol{Name: "UDP"}
	one := func(lo, hi uint16) []api.Port { return []api.Port{{Min: lo, Max: hi}} }
	for _, action := range []api.Action{api.Allow, api.Deny, api.Pass} {
		for _, form := range []func(*api.Rule){
			func(*api.Rule) {},
			func(r *api.Rule) { r.Protocol = tcp },
			func(r *api.Rule) { r.Protocol = tcp; r.Destination.Ports = one(80, 80) },
			func(r *api.Rule) { r.Protocol = tcp; r.Destination.Ports = one(80, 81) },
			func(r *api.Rule) { r.Protocol = tcp; r.Destination.NotPorts = one(80, 80) },
			func(r *api.Rule) { r.Protocol = udp; r.Destination.Ports = one(80, 80) },
			func(r *api.Rule) { r.NotProtocol = tcp },
		} {
			for _, source := range []func(*api.Rule){
				func(*api.Rule) {},
				func(r *api.Rule) { r.Source.Nets = []string{"10.0.0.0/24"} },
				func(r *api.Rule) { r.Source.Selector = "zone == 'in'" },
				func(r *api.Rule) { r.Source.NotSelector = "zone == 'in'" },
			} {
				r := api.Rule{Action: action}
				form(&r)
				source(&r)
				out = append(out, r)
			}
		}
	}
	return out
}

// scopeProbes are 27 packets: three sources (in net and set, in the set only,
// in neither), three protocols, three ports.
func scopeProbes() []probe {
	var out []probe
	for i, src := range []string{"10.0.0.2", "10.1.0.2", "192.168.0.9"} {
		for j, proto := range []uint8{6, 17, 132} {
			for k, port := range []uint16{80, 81, 82} {
				out = append(out, probe{hook: ruleset.HookInput, packet: ruleset.Packet{
					Src: addr(src), Dst: addr("10.0.0.1"), Protocol: proto, SrcPort: uint16(1000 + i*9 + j*3 + k), DstPort: port,
					In: "eth0", State: ruleset.CtNew, HopLimit: 64,
				}})
			}
		}
	}
	return out
}

// TestNetnsExhaustive_AllPoliciesOfUpToTwoRules: every policy of one and two
// rules over the alphabet, 7,140 of them, judged by all three.
func TestNetnsExhaustive_AllPoliciesOfUpToTwoRules(t *testing.T) {
	c := newCourt(t)
	c.seats = c.seats[:1] // input only
	rules := alphabet()
	var lists [][]api.Rule
	for i := range rules {
		lists = append(lists, rules[i:i+1])
		for j := range rules {
			lists = append(lists, []api.Rule{rules[i], rules[j]})
		}
	}
	probes := scopeProbes()
	judged := 0
	for _, list := range lists {
		objs := scopePicture(list)
		w, s := worldOf(objs), c.load(objs)
		for _, p := range probes {
			want, _ := allowedByPolicy(w, p)
			eval, _ := allowedByEval(s, p)
			judged++
			if kernel := c.judge(p); want != eval || want != kernel {
				c.reportSmallest(objs, p)
				return
			}
		}
	}
	t.Logf("%d policies, %d packets: policy = plan = kernel", len(lists), judged)
}

func scopePicture(rules []api.Rule) []api.Object {
	tier := &api.Tier{TypeMeta: api.TypeMeta{Kind: api.KindTier, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "default"}}
	hep := &api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindHostEndpoint, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "h"}}
	hep.Spec = api.HostEndpointSpec{Node: here, InterfaceName: "eth0", Profiles: []string{"pr"}}
	set := &api.GlobalNetworkSet{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "in", Labels: map[string]string{"zone": "in"}}}
	set.Spec.Nets = []string{"10.0.0.0/24", "10.1.0.0/16", "fd00::/64"}
	pro := &api.Profile{TypeMeta: api.TypeMeta{Kind: api.KindProfile, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "pr"}}
	pro.Spec.Ingress = []api.Rule{{Action: api.Allow, Protocol: &api.Protocol{Name: "UDP"}}}
	pol := &api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "p"}}
	pol.Spec = api.PolicySpec{Ingress: rules}
	objs := []api.Object{tier, hep, set, pro, pol}
	for _, o := range objs {
		o.Default()
	}
	return objs
}
