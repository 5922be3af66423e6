// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

// Essential lists the ICMPv6 types that pass a governed interface before
// failsafes and policy are asked, because without them IPv6 itself stops
// (RFC 4861, RFC 2710, RFC 3810):
//
//	type  name                                inbound  outbound
//	130   multicast listener query              yes      no
//	131   multicast listener report, v1         yes      yes
//	132   multicast listener done               yes      yes
//	133   router solicitation                   no       yes
//	134   router advertisement                  yes      no
//	135   neighbour solicitation                yes      yes
//	136   neighbour advertisement               yes      yes
//	137   redirect                              no       no
//	143   multicast listener report, v2         yes      yes
//
// A host is not a router to its neighbours: what only routers hear or say is
// left to policy. Forwarded traffic has no essential types.
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

func (f Flow) essential() bool {
	return f.Protocol == protoICMPv6 && f.family() == 6 && slices.Contains(Essential(f.Direction), f.ICMPType)
}
