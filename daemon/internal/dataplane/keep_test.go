// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// keptBy is a host with two tiers, of two policies and one, and says which of
// them keep flows.
func keptBy(s intent.Settings, a, b, c, pass bool) []intent.Change {
	rules := func(port uint16) []intent.Rule {
		return []intent.Rule{
			{Action: api.Deny, Protocol: 6, Destination: intent.Entity{Ports: []intent.PortRange{{Min: port, Max: port}}}},
			{Action: api.Allow, Protocol: 17},
		}
	}
	return []intent.Change{
		settingsOf(s),
		policyOf("a", &intent.Policy{Tier: "t", Ingress: rules(1), KeepFlows: a}),
		policyOf("b", &intent.Policy{Tier: "t", Ingress: rules(2), KeepFlows: b}),
		policyOf("c", &intent.Policy{Tier: "u", Ingress: rules(3), KeepFlows: c}),
		profileOf("p", &intent.Profile{Ingress: rules(4)}),
		endpoint("h", &intent.HostEndpoint{Interface: "eth0", Profiles: []string{"p"}, Tiers: []intent.Tier{
			{Name: "t", DefaultPass: pass, Ingress: []api.Key{gnp("a"), gnp("b")}},
			{Name: "u", DefaultPass: true, Ingress: []api.Key{gnp("c")}},
		}}),
	}
}

// TestPlanner_WhoDeniesDecidesWhetherFlowsAreKept: by port, the denial of
// policy a, b, c, the profile, and the end of tier t or of the profiles.
func TestPlanner_WhoDeniesDecidesWhetherFlowsAreKept(t *testing.T) {
	for _, c := range []struct {
		name     string
		changes  []intent.Change
		kept     map[uint16]bool
		lastSays string
	}{
		{"nobody keeps", keptBy(intent.Settings{}, false, false, false, true), nil, "no policy or profile allows it"},
		{"the settings keep", keptBy(intent.Settings{KeepFlows: true}, false, false, false, true),
			map[uint16]bool{1: true, 2: true, 3: true, 4: true, 5: true}, "no policy or profile allows it"},
		{"one policy keeps", keptBy(intent.Settings{}, true, false, false, true), map[uint16]bool{1: true}, "no policy or profile allows it"},
		{"all of the deciding tier keep", keptBy(intent.Settings{}, true, true, false, false),
			map[uint16]bool{1: true, 2: true, 3: true, 4: true, 5: true}, "tier t default"},
		{"one of the deciding tier does not", keptBy(intent.Settings{}, true, false, true, false), map[uint16]bool{1: true}, "tier t default"},
		{"all policies keep", keptBy(intent.Settings{}, true, true, true, true),
			map[uint16]bool{1: true, 2: true, 3: true, 5: true}, "no policy or profile allows it"},
		{"all but one of another tier keep", keptBy(intent.Settings{}, true, true, false, true), map[uint16]bool{1: true, 2: true}, "no policy or profile allows it"},
		{"there is no policy", append(keptBy(intent.Settings{}, true, true, true, true), endpoint("h", &intent.HostEndpoint{Interface: "eth0", Profiles: []string{"p"}})),
			nil, "no policy or profile allows it"},
	} {
		s := planOf(c.changes...)
		for name, chain := range s.Chains {
			for _, r := range chain.Rules {
				if r.KeepFlows && r.Action.Verb != ruleset.Drop {
					t.Errorf("%s: chain %s: %s keeps flows and denies nothing", c.name, name, &r)
				}
			}
		}
		for port := uint16(1); port <= 5; port++ {
			p := tcp("eth0", "")
			p.DstPort = port
			v, tr := s.Eval(ruleset.HookInput, p)
			if v != ruleset.Dropped {
				t.Fatalf("%s: port %d: %s", c.name, port, v)
			}
			if got := s.Chains[tr.Chain].Rules[tr.Rule].KeepFlows; got != c.kept[port] {
				t.Errorf("%s: port %d, denied by %q: kept %v, want %v", c.name, port, tr.Comment, got, c.kept[port])
			}
			if port == 5 && tr.Comment != c.lastSays {
				t.Errorf("%s: port 5 denied by %q, want %q", c.name, tr.Comment, c.lastSays)
			}
		}
	}
}

// TestPlanner_KeepingFlowsAnewIsPlannedLikeFromTheStart: an annotation that
// comes or goes reaches the ends of tiers too.
func TestPlanner_KeepingFlowsAnewIsPlannedLikeFromTheStart(t *testing.T) {
	s := ruleset.NewState()
	p := NewPlanner(s)
	for i, c := range [][]intent.Change{
		keptBy(intent.Settings{}, false, true, false, false), keptBy(intent.Settings{}, true, true, false, false),
		keptBy(intent.Settings{}, true, true, true, true), keptBy(intent.Settings{KeepFlows: true}, true, false, true, true),
		keptBy(intent.Settings{}, true, false, true, false),
	} {
		for _, change := range c {
			if i == 0 || change.Key.Kind == intent.KindPolicy || change.Key.Kind == intent.KindSettings {
				p.Note(change)
			}
		}
		if i > 0 {
			p.Note(c[len(c)-1])
		}
		p.Flush()
		if diff := cmp.Diff(planOf(c...).String(), s.String()); diff != "" {
			t.Errorf("step %d: planned from the start and planned after changes differ:\n%s", i, diff)
		}
	}
	// The policy alone changes, nothing else is said.
	last := keptBy(intent.Settings{}, true, true, true, false)
	p.Note(last[2])
	p.Flush()
	if diff := cmp.Diff(planOf(last...).String(), s.String()); diff != "" {
		t.Errorf("one policy begins to keep flows: planned from the start and planned after it differ:\n%s", diff)
	}
}
