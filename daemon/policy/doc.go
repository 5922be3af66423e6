// SPDX-License-Identifier: Apache-2.0

// Package policy is what policy means: the reference semantics. Given the
// resources and a flow it says what becomes of the flow, which tier, policy
// and rule decided, and every step that led there.
//
//	w := policy.NewWorld(objects, policy.Options{})
//	d := w.Evaluate(policy.Flow{
//		Host: policy.Host{Name: "h1"}, Direction: policy.Inbound, InInterface: "eth0",
//		Source: client, Destination: server, Protocol: 6, DestinationPort: 443,
//	})
//	for _, line := range d.Sentences() { fmt.Println(line) }
//
// The order in which a flow is judged:
//
//	which HostEndpoint governs the interface?      none: not governed, passes
//	 │
//	 ├─ established, related: allow; invalid: deny
//	 ├─ essential ICMPv6, failsafe ports: allow    not for forwarded traffic
//	 ├─ tiers ─ policies ─ rules                   forwarded: applyOnForward only
//	 │    └─ end of tier: deny, or the next tier
//	 ├─ profiles                                   not for forwarded traffic
//	 └─ deny                                       forwarded: allow
//
// It is written for clarity, not for speed, from the specification alone: it
// shares no code with calc, dataplane or ruleset, which are tested against it.
// It does no I/O and needs no clock. The CLI's explain and the differential
// tests use it. What it does not judge in this version: doNotTrack and preDNAT
// policies (they are not applied), and the policies of workload endpoints
// (whose addresses do count in selectors).
package policy
