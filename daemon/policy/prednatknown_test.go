// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

// TestEvaluate_PreDNATLeavesKnownConnectionsToThoseAfterIt: preDNAT policy does
// not decide about packets of known connections, whether established or
// related; the endpoint's normal policy lets them pass.
func TestEvaluate_PreDNATLeavesKnownConnectionsToThoseAfterIt(t *testing.T) {
	w := world(t, defaultTier+hep("h-eth0", "role: db", "interfaceName: eth0")+
		gnp("p", "selector: has(role), preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]"))
	for _, state := range []State{Established, Related} {
		f := flow(t, "in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", nil)
		f.State = state
		if d := w.Evaluate(f); d.Verdict != Allow || d.Phase != PhaseNormal {
			t.Errorf("Evaluate(%s) = %s in phase %s, want Allow in phase %s", state, d.Verdict, d.Phase, PhaseNormal)
		}
	}
}
