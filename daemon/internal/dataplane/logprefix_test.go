// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"slices"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// TestPlanner_LogLinesSayWhichRuleWroteThem: in tier, policy, direction and
// place, one by one and compiled.
func TestPlanner_LogLinesSayWhichRuleWroteThem(t *testing.T) {
	global := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "web"}
	in := api.Key{Kind: api.KindNetworkPolicy, Namespace: "prod", Name: "db"}
	log := intent.Rule{Action: api.Log}
	for name, planner := range map[string]func(Out) *Planner{"one by one": NewPlanner, "compiled": NewCompilingPlanner} {
		s := ruleset.NewState()
		p := planner(s)
		for _, c := range []intent.Change{
			{Key: intent.Key{Kind: intent.KindSettings}, Value: &intent.Settings{LogPrefix: "calico-packet %t %k/%p %r", WorkloadPrefixes: []string{"cali"}}},
			{Key: intent.Key{Kind: intent.KindPolicy, Policy: global}, Value: &intent.Policy{Tier: "sec",
				Ingress: []intent.Rule{{Action: api.Deny, Protocol: 6, Index: 0}, {Action: api.Log, Index: 1}, {Action: api.Deny, Index: 2}}, Egress: []intent.Rule{log}}},
			{Key: intent.Key{Kind: intent.KindPolicy, Policy: in}, Value: &intent.Policy{Tier: "default", Ingress: []intent.Rule{log}}},
			{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "e"}, Value: &intent.HostEndpoint{Interface: "eth0",
				Tiers: []intent.Tier{{Name: "sec", Ingress: []api.Key{global}, Egress: []api.Key{global}}, {Name: "default", Ingress: []api.Key{in}}}}},
			{Key: intent.Key{Kind: intent.KindInterface, Name: "eth0"}, Value: &intent.Interface{Up: true}},
		} {
			p.Note(c)
		}
		p.Flush()
		var got []string
		for _, c := range s.Chains {
			for _, r := range c.Rules {
				if r.Action.Verb == ruleset.Log && !slices.Contains(got, r.Action.LogPrefix) {
					got = append(got, r.Action.LogPrefix)
				}
			}
		}
		slices.Sort(got)
		want := []string{"calico-packet default np/prod/db ingress 0: ", "calico-packet sec gnp/web egress 0: ", "calico-packet sec gnp/web ingress 1: "}
		if !slices.Equal(got, want) {
			t.Errorf("%s: prefixes %q, want %q", name, got, want)
		}
	}
}
