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
// The order in which a flow is judged, by the endpoints at the interface it
// comes in by (in) and at the one it goes out by (out):
//
//	        to the host          through the host        from the host
//	in      admission            admission
//	 │      untracked ingress    untracked ingress       (out) untracked egress
//	 │      preDNAT              preDNAT                  │
//	 ├ ─ ─  destination NAT ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┤
//	 │      host endpoint        host endpoint forward    │
//	 │      or workload egress   and workload egress      │
//	out                          workload ingress        host endpoint
//	                             host endpoint forward
//
// Admission is before all policy: of an unknown workload's interface nothing
// comes, from a workload only its own addresses, loopback addresses only from
// the loopback interface. Then each phase asks what is its own:
//
//	               untracked  preDNAT  normal     forward    workload
//	known flows    -          goes on  allow      allow      allow
//	invalid        -          deny     deny       deny       deny
//	essential      goes on    goes on  allow      -          to the host: allow
//	failsafes      goes on    goes on  allow      -          -
//	tiers          yes        yes      yes        yes        yes
//	end of tier    -          -        deny       deny       deny
//	profiles       -          -        yes        -          yes
//	at the end     goes on    goes on  deny       allow      deny
//
// An Allow in the first two phases spares the packet what a host endpoint
// would say where it comes in; workloads, and the endpoint where it goes out,
// still judge it. docs/reference/policy-semantics.md has it in full.
//
// It is written for clarity, not for speed, from the specification alone: it
// shares no code with calc, dataplane or ruleset, which are tested against it.
// It does no I/O and needs no clock. The CLI's explain and the differential
// tests use it.
package policy
