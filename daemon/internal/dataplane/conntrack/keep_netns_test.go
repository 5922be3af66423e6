// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// TestNetnsConntrack_KeptFlowsGoOn: by the settings of the host, or by the
// annotation of the policy that denies; what another denies is cut.
func TestNetnsConntrack_KeptFlowsGoOn(t *testing.T) {
	deny := func(keep bool, ports ...uint16) *intent.Policy {
		p := &intent.Policy{KeepFlows: keep}
		for _, port := range ports {
			p.Ingress = append(p.Ingress, intent.Rule{Action: api.Deny, Protocol: protoTCP, Destination: intent.Entity{Ports: []intent.PortRange{{Min: port, Max: port}}}})
		}
		return p
	}
	b := newBed(t)
	for _, at := range []string{host4 + ":80", host4 + ":81", "[" + host6 + "]:80", "[" + host6 + "]:81"} {
		serve(t, b.host, at)
	}
	dial := func(port string) []*flow {
		return []*flow{dialFlow(t, b.client, "tcp", host4+port), dialFlow(t, b.client, "tcp", "["+host6+"]"+port)}
	}
	start := func() []intent.Change {
		return []intent.Change{settings(intent.Settings{}), open, policy("a", &intent.Policy{}), policy("b", &intent.Policy{}),
			policy("c", &intent.Policy{Ingress: []intent.Rule{all}}), guard([]string{"a", "b", "c"}, nil)}
	}
	b.say(start()...)
	kept, cut := dial(":80"), dial(":81")
	if s := b.say(policy("a", deny(true, 80)), policy("b", deny(false, 81))); s.LastCut != 2 {
		t.Errorf("%d flows cut, want the 2 that the policy without annotation denies", s.LastCut)
	}
	expect(t, true, kept...)
	expect(t, false, cut...)
	// New flows are denied all the same.
	if c, err := dialTimeout(b.client, host4+":80"); err == nil {
		c.Close()
		t.Error("a new connection is let in by a policy that keeps established ones")
	}
	// What was kept once is not cut by a later change that says the same.
	if s := b.say(policy("a", deny(false, 80))); s.LastCut != 0 {
		t.Errorf("%d flows cut by a change of the annotation alone, want none", s.LastCut)
	}
	expect(t, true, kept...)

	b.say(start()...)
	more := dial(":80")
	if s := b.say(settings(intent.Settings{KeepFlows: true}), policy("a", deny(false, 80)), guard([]string{"a"}, nil)); s.LastCut != 0 {
		t.Errorf("%d flows cut on a host that keeps flows, want none", s.LastCut)
	}
	expect(t, true, more...)
}
