// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"
)

// dnt is a doNotTrack policy on host endpoints.
func dnt(name, spec string) string {
	return gnp(name, "selector: has(role), doNotTrack: true, applyOnForward: true, "+spec)
}

func TestEvaluate_Untracked(t *testing.T) {
	const both = "ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}], egress: [{action: Allow, protocol: TCP, source: {ports: [8055]}}]"
	run(t, []scenario{
		{name: "what it allows needs no other policy, in each direction by itself", world: defaultTier + eth0 + dnt("p", both), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:8055", allows},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:8055", allows},
			{"out eth0 tcp 10.0.0.1:8055 10.0.0.2:4000", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:8056", "Deny NothingAllows"},
			{"out eth0 tcp 10.0.0.1:8056 10.0.0.2:4000", "Deny NothingAllows"},
		}},
		{name: "S070 without the egress half the answers are stopped", world: defaultTier + eth0 +
			dnt("p", "types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:8055", allows},
			{"out eth0 tcp 10.0.0.1:8055 10.0.0.2:4000 untracked", "Deny NothingAllows"},
			{"out eth0 tcp 10.0.0.1:8055 10.0.0.2:4000 invalid", "Deny Invalid"},
		}},
		{name: "S070 it judges packets of every state", world: defaultTier + eth0 +
			dnt("p", "ingress: [{action: Allow, protocol: UDP}, {action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 established", "Deny Rule default p 2"},
			{"in eth0 icmp/3/3 10.0.0.2 10.0.0.1 related", "Deny Rule default p 2"},
			{"out eth0 tcp 10.0.0.1:80 10.0.0.2:4000 established", "Deny Rule default p 1"},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80 invalid", allows},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80 established", "Deny Rule default p 2"},
		}},
		{name: "S071 failsafes come first, and so do their answers", world: defaultTier + eth0 +
			dnt("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22", "Allow Failsafe"},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:22", "Allow Failsafe"},
			{"out eth0 tcp 10.0.0.1:22 10.0.0.2:4000 established", "Allow Established"},
			{"out eth0 udp 10.0.0.1:4000 10.0.0.2:53", "Allow Failsafe"},
			{"in eth0 udp 10.0.0.2:53 10.0.0.1:4000 established", "Allow Established"},
			// The answer's port alone opens nothing: it goes on, tracked.
			{"in eth0 udp 10.0.0.2:53 10.0.0.1:4000", "Deny NothingAllows"},
			{"out eth0 tcp 10.0.0.1:22 10.0.0.2:4000", "Deny NothingAllows"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule default p 1"},
		}},
		{name: "S071 what a failsafe's net leaves out is no answer to it", world: defaultTier + eth0 + felix("default",
			"failsafeInboundHostPorts: [{port: 22, net: 10.0.0.0/24}], failsafeOutboundHostPorts: [{port: 2379, net: 10.0.0.0/24}]") +
			dnt("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:22 10.0.0.2:4000 established", "Allow Established"},
			{"out eth0 tcp 10.0.0.1:22 10.0.1.2:4000 established", "Deny Rule default p 1"},
			{"in eth0 tcp 10.0.0.2:2379 10.0.0.1:4000 established", "Allow Established"},
			{"in eth0 tcp 10.0.1.2:2379 10.0.0.1:4000 established", "Deny Rule default p 1"},
			{"in eth0 udp 10.0.0.2:2379 10.0.0.1:4000 established", "Deny Rule default p 1"},
		}},
		{name: "essential ICMPv6 comes first", world: defaultTier + eth0 +
			dnt("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 icmpv6/135/0 fd00::2 fd00::1", "Allow Essential"},
			{"in eth0 icmpv6/134/0 fe80::2 ff02::1", "Allow Essential"},
			{"out eth0 icmpv6/133/0 fe80::1 ff02::2", "Allow Essential"},
			{"in eth0 icmpv6/133/0 fe80::2 ff02::2", "Deny Rule default p 1"},
			{"in eth0 icmpv6/128/0 fd00::2 fd00::1", "Deny Rule default p 1"},
		}},
		{name: "what routers say of the path's MTU comes first, at every place of the endpoint", world: defaultTier + eth0 +
			dnt("p", "ingress: [{action: Deny}], egress: [{action: Deny}]") +
			gnp("d", "selector: has(role), preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]") +
			gnp("f", "selector: has(role), applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 icmp/3/4 10.0.0.2 10.0.0.1 invalid", "Allow Essential"},
			{"in eth0 icmpv6/2/0 fd00::2 fd00::1 invalid", "Allow Essential"},
			{"in eth0 icmpv6/2/1 fd00::2 fd00::1 invalid", "Allow Essential"},
			{"in eth0 icmpv6/2/0 fd00::2 fd00::1 related", "Allow Essential"},
			{"out eth0 icmp/3/4 10.0.0.1 10.0.0.2 invalid", "Allow Essential"},
			{"fwd eth0 eth1 icmpv6/2/0 fd00::2 fd01::2 invalid", "Allow Essential"},
			{"fwd eth1 eth0 icmp/3/4 10.1.0.2 10.0.0.2 invalid", "Allow Essential"},
			{"in eth0 icmp/3/3 10.0.0.2 10.0.0.1 invalid", "Deny Rule default p 1"},
			{"in eth0 icmpv6/1/0 fd00::2 fd00::1 invalid", "Deny Rule default p 1"},
			{"in eth0 icmp/2/4 10.0.0.2 10.0.0.1 invalid", "Deny Rule default p 1"},
		}},
		{name: "without doNotTrack policy they belong to a connection or to nothing", world: defaultTier + eth0 +
			gnp("p", "selector: has(role), applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 icmp/3/4 10.0.0.2 10.0.0.1 invalid", "Deny Invalid"},
			{"in eth0 icmpv6/2/0 fd00::2 fd00::1 invalid", "Deny Invalid"},
			{"fwd eth0 eth1 icmpv6/2/0 fd00::2 fd01::2 invalid", "Deny Invalid"},
		}},
		{name: "S073 what no rule decides is tracked, and normal policy decides", world: defaultTier + eth0 +
			dnt("d", "ingress: [{action: Allow, protocol: UDP}]") + gnp("p", "selector: has(role), ingress: [{action: Allow, protocol: TCP}]"), flows: [][2]string{
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule default d 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 established", "Allow Established"},
			{"in eth0 sctp 10.0.0.2:4000 10.0.0.1:80", ended},
		}},
		{name: "S073 there is no end of a tier, and a pass leads to the next tier of its own kind", world: defaultTier + eth0 + tierDoc("first", "order: 1") +
			gnp("a", "tier: first, selector: has(role), doNotTrack: true, applyOnForward: true, ingress: [{action: Pass, protocol: TCP}, {action: Deny, protocol: UDP}, {action: Log}]") +
			gnp("b", "tier: first, selector: has(role), doNotTrack: true, applyOnForward: true, ingress: [{action: Deny, protocol: TCP}]") +
			dnt("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule first a 2"},
			{"in eth0 sctp 10.0.0.2:4000 10.0.0.1:80", allows},
		}},
		{name: "S074 a wildcard endpoint has no doNotTrack policy", world: defaultTier + wildcard +
			dnt("d", "ingress: [{action: Allow}], egress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:80", "Deny NothingAllows"},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow NoForwardPolicy"},
		}},
		{name: "S077 what it allows a workload still judges, as untracked", world: defaultTier + eth0 + guests +
			dnt("d", "ingress: [{action: Allow}]") + aof("f", "ingress: [{action: Deny}]") +
			gnp("p", "selector: app == 'w1', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", allows},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:81", ended},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:81 established", ended}, // nobody tracks it
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:81", opened},
		}},
		{name: "S077 what it allows skips the way in of applyOnForward, not the way out", world: defaultTier + eth0 +
			hep("h-eth1", "side: b", "interfaceName: eth1") + dnt("d", "ingress: [{action: Allow}]") + aof("f", "ingress: [{action: Deny}]") +
			gnp("p", "selector: side == 'b', applyOnForward: true, types: [Egress], egress: [{action: Allow, protocol: TCP}]"), flows: [][2]string{
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", allows},
			{"fwd eth0 eth1 udp 10.0.0.2:4000 10.1.0.2:80", ended},
			{"fwd eth0 eth2 udp 10.0.0.2:4000 10.1.0.2:80", "Allow Rule default d 1"},
			{"fwd eth0 eth1 udp 10.0.0.2:4000 10.1.0.2:80 established", ended},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80 invalid", allows},
		}},
		{name: "forwarded packets meet it where they come in only", world: defaultTier + eth0 +
			dnt("d", "egress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth1 eth0 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow NoForwardPolicy"},
			{"out eth0 tcp 10.0.0.2:4000 10.1.0.2:80", "Deny Rule default d 1"},
		}},
		{name: "it judges the destination that was dialled, which then stays", world: defaultTier + eth0 +
			dnt("d", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [30000]}}, {action: Deny, destination: {nets: [10.0.0.9/32]}}], egress: [{action: Deny, protocol: TCP, destination: {ports: [30000]}}]"),
			interfaces: map[string][]netip.Addr{"eth0": addrs("10.0.0.1")}, flows: [][2]string{
				{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 dialled=10.0.0.1:30000", "Allow Rule default d 1"},
				{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:30000 dialled=10.0.0.1:80", "Deny NothingAllows"},
				{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 dialled=10.0.0.9:80", "Deny Rule default d 2"},
				// It was to be forwarded to a workload that nobody knows, and is now for the host.
				{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055 dialled=10.0.0.1:30000", "Allow Rule default d 1"},
				{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055 dialled=10.0.0.1:30001", strange},
				{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:80 dialled=10.0.0.2:30000", "Deny Rule default d 1"},
				{"out eth1 tcp 10.0.0.1:4000 10.0.0.2:80 dialled=10.0.0.2:30000 first=eth0", "Deny Rule default d 1"},
				{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:80 dialled=10.0.0.2:30000 first=eth1", "Deny NothingAllows"},
			}},
		{name: "staged policies do not count", world: defaultTier + eth0 +
			sgnp("s", "doNotTrack: true, applyOnForward: true, ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
		}},
		{name: "it has no say in later phases", world: defaultTier + eth0 +
			dnt("d", "ingress: [{action: Pass}], egress: [{action: Pass}]") +
			hep("h-eth1", "role: x", "interfaceName: eth1, profiles: [projectcalico-default-allow]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Profile projectcalico-default-allow 1"},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow NoForwardPolicy"},
		}},
	})
}
