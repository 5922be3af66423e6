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

func (f Flow) essentialToHost() bool { return f.isICMPv6(fromWorkloads) }

func (f Flow) isICMPv6(types []uint8) bool {
	return f.Protocol == protoICMPv6 && f.family() == 6 && slices.Contains(types, f.ICMPType)
}
