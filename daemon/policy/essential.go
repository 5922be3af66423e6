// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// Essential lists the ICMPv6 types that pass a governed interface before
// failsafes and policy are asked, because without them IPv6 itself stops
// (RFC 4861, RFC 2710, RFC 3810):
//
//	type  name                                inbound  outbound  workload to its host
//	130   multicast listener query              yes      no        yes
//	131   multicast listener report, v1         yes      yes       yes
//	132   multicast listener done               yes      yes       yes
//	133   router solicitation                   no       yes       yes
//	134   router advertisement                  yes      no        no, see below
//	135   neighbour solicitation                yes      yes       yes
//	136   neighbour advertisement               yes      yes       yes
//	137   redirect                              no       no        no, see below
//	143   multicast listener report, v2         yes      yes       yes
//
// A host is not a router to its neighbours, but it is one to its workloads:
// what only routers hear or say is left to policy, and what a workload says as
// if it were a router (134, 137) is dropped, wherever it goes. Forwarded
// traffic has no essential types; but untracked and preDNAT policy, which
// judge what comes in before it is known to be forwarded, leave the inbound
// ones alone there too.
//
// Messages about the path's MTU (untrackedMTU) are essential only where there
// are flows that connection tracking knows nothing of.
func Essential(d Direction) []uint8 {
	switch d {
	case Inbound:
		return []uint8{130, 131, 132, 134, 135, 136, 143}
	case Outbound:
		return []uint8{131, 132, 133, 135, 136, 143}
	case Forwarded:
		return nil
	}
	return nil
}

// What only a router sends.
const (
	routerAdvertisement = 134
	redirect            = 137
)

// fromWorkloads are the types that a workload may always send to its host.
var fromWorkloads = []uint8{130, 131, 132, 133, 135, 136, 143}

// unaddressed are the types that are sent from the address :: by one who has
// no address yet: duplicate address detection and joining its multicast group
// (RFC 4862, 5.4; RFC 3590).
var unaddressed = []uint8{131, 132, 135, 143}

// essential tells whether the flow is essential where rules of the direction
// would judge it.
func (f Flow) essential(dir api.PolicyType) bool {
	d := Inbound
	if dir == api.Egress {
		d = Outbound
	}
	return f.isICMPv6(Essential(d))
}

// Messages of a router that a packet is too large for what lies ahead: ICMP
// type 3 code 4 (RFC 792, RFC 1191), ICMPv6 type 2 of any code (RFC 4443, 3.2).
const (
	icmpUnreachable    = 3
	icmpFragNeeded     = 4
	icmpv6PacketTooBig = 2
)

// pathMTU tells whether the flow is such a message.
func (f Flow) pathMTU() bool {
	if f.family() == 6 {
		return f.Protocol == protoICMPv6 && f.ICMPType == icmpv6PacketTooBig
	}
	return f.Protocol == protoICMP && f.ICMPType == icmpUnreachable && f.ICMPCode == icmpFragNeeded
}

// untrackedMTU lets pass what a router says about the path's MTU, at a host
// endpoint with doNotTrack policy. About a tracked connection it is related,
// and passes as such everywhere. About one that is not tracked it seems to
// belong to nothing, and without it the flow's large packets vanish without a
// word. Whom it is for takes it only if it is about a packet of its own
// (RFC 8899, 4.6.1, and what Linux compares: a socket with the ports in it).
func (e *evaluation) untrackedMTU(h *hostEndpoint) bool {
	if !e.f.pathMTU() || !e.w.untracks(h) {
		return false
	}
	e.step(Step{Stage: StageEssential, Matched: true, Outcome: Allows, Why: whyMTU})
	return e.decide(Allow, Decision{Reason: ReasonEssential, RuleIndex: -1})
}

const whyMTU = "a flow that is not tracked needs what routers say of the path's MTU"

// untracks tells whether an endpoint has doNotTrack policy, in either
// direction. A wildcard endpoint has none.
func (w *World) untracks(h *hostEndpoint) bool {
	return h.spec.InterfaceName != api.AllInterfaces &&
		len(w.tiersOf(h.member, api.Ingress, PhaseUntracked))+len(w.tiersOf(h.member, api.Egress, PhaseUntracked)) > 0
}

func (f Flow) essentialToHost() bool { return f.isICMPv6(fromWorkloads) }

func (f Flow) isICMPv6(types []uint8) bool {
	return f.Protocol == protoICMPv6 && f.family() == 6 && slices.Contains(types, f.ICMPType)
}
