// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

// pre is a preDNAT policy on host endpoints.
func pre(name, spec string) string {
	return gnp(name, "selector: has(role), preDNAT: true, applyOnForward: true, "+spec)
}

func TestEvaluate_PreDNAT(t *testing.T) {
	const published = " dialled=10.0.0.1:30000"
	run(t, []scenario{
		{name: "S059 a deny of all that comes in stops a published port and the workload behind it", world: defaultTier + eth0 + guests +
			pre("p", "ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055" + published, "Deny Rule default p 1"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055", "Deny Rule default p 1"},
			{"fwd eth0 calia tcp [fd00::2]:4000 [fd65::2]:8055 dialled=[fd00::1]:30000", "Deny Rule default p 1"},
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:8055", opened},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", opened},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule default p 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22", "Allow Failsafe"},
			{"in eth0 icmpv6/135/0 fd00::2 fd00::1", "Allow Essential"},
		}},
		{name: "S061 it sees the port that was dialled, not the one behind it", world: defaultTier + eth0 + guests +
			pre("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}, {action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055" + published, "Deny Rule default p 2"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80 dialled=10.0.0.1:8055", opened},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055", opened},
		}},
		{name: "S062 a wildcard's deny holds for workloads too", world: defaultTier + wildcard + guests + felix("default", "defaultEndpointToHostAction: Accept") +
			pre("p", "ingress: [{action: Deny, protocol: TCP, destination: {ports: [30000]}}]"), flows: [][2]string{
			{"fwd calib calia tcp 10.65.0.3:4000 10.65.0.2:8055" + published, "Deny Rule default p 1"},
			{"fwd calib calia tcp 10.65.0.3:4000 10.65.0.2:8055", opened},
			{"in calib tcp 10.65.0.3:4000 10.0.0.1:30000", "Deny Rule default p 1"},
			{"in calib tcp [fd65::3]:4000 [fd00::1]:30000", "Deny Rule default p 1"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055" + published, "Deny Rule default p 1"},
			{"in lo tcp 127.0.0.1:4000 127.0.0.1:30000", none},
		}},
		{name: "S062 a named endpoint at a workload's interface does not keep the wildcard's away", world: defaultTier + guests +
			hep("h-all", "role: all", "interfaceName: '*'") + hep("h-calia", "", "interfaceName: calia") + pre("p", "ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", "Deny Rule default p 1"},
		}},
		{name: "S065 it has no say in established connections", world: defaultTier + eth0 + guests +
			pre("p", "ingress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 established", "Allow Established"},
			{"in eth0 icmp/3/3 10.0.0.2 10.0.0.1 related", "Allow Established"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055 established" + published, "Allow Established"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 untracked", "Deny Rule default p 1"},
		}},
		{name: "invalid packets are stopped before it, failsafe or not", world: defaultTier + eth0 +
			pre("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22 invalid", "Deny Invalid"},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80 invalid", "Deny Invalid"},
		}},
		{name: "disableConntrackInvalidCheck leaves invalid packets to it", world: defaultTier + eth0 +
			felix("default", "disableConntrackInvalidCheck: true") + pre("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 invalid", allows},
		}},
		{name: "S067 what it allows needs no normal policy", world: defaultTier + eth0 +
			pre("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]") + gnp("q", "selector: has(role), ingress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:8055", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 dialled=10.0.0.1:8055", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule default q 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:8055 dialled=10.0.0.1:80", "Deny Rule default q 1"},
		}},
		{name: "what it allows skips the way in of applyOnForward, not a workload's policy and not the way out", world: defaultTier + eth0 + guests +
			hep("h-eth1", "side: b", "interfaceName: eth1") + pre("p", "ingress: [{action: Allow, protocol: TCP}]") + aof("f", "ingress: [{action: Deny}]") +
			gnp("w", "selector: app == 'w1', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]") +
			gnp("o", "selector: side == 'b', applyOnForward: true, types: [Egress], egress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Allow Rule default w 1"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:81", ended},
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:81", opened},
			{"fwd eth0 calib udp 10.0.0.2:4000 10.65.0.3:81", "Deny Rule default f 1"},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Deny Rule default o 1"},
			{"fwd eth0 eth2 tcp 10.0.0.2:4000 10.1.0.2:80", allows},
		}},
		{name: "what a wildcard's allows of a workload the workload's egress policy still judges", world: defaultTier + wildcard + guests +
			pre("p", "ingress: [{action: Allow}]") + gnp("w", "selector: app == 'w1', egress: [{action: Deny, protocol: UDP}, {action: Allow}]"), flows: [][2]string{
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:80", "Deny Rule default w 1"},
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", opened},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", "Allow Rule default w 2"},
		}},
		{name: "S076 a policy that is both, which no store takes, is doNotTrack", world: defaultTier + eth0 +
			gnp("p", "selector: has(role), doNotTrack: true, preDNAT: true, applyOnForward: true, ingress: [{action: Allow, protocol: TCP}, {action: Pass}]") +
			dnt("q", "ingress: [{action: Deny, protocol: TCP}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80 established", allows},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
		}},
		{name: "S076 such a policy has no say a second time", world: defaultTier + hep("h-all", "role: db", "interfaceName: '*'") +
			gnp("p", "selector: has(role), doNotTrack: true, preDNAT: true, applyOnForward: true, ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
		}},
		{name: "a dialled failsafe port is left alone, what is behind it is judged", world: defaultTier + eth0 +
			pre("p", "ingress: [{action: Deny}]") + aof("f", "ingress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:2222 dialled=10.0.0.1:22", "Deny Rule default f 1"},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:22", "Deny Rule default f 1"},
			{"fwd eth0 eth1 icmpv6/135/0 fd00::2 fd01::2", "Deny Rule default f 1"},
			{"in eth0 udp 10.0.0.2:53 10.0.0.1:4000", "Deny Rule default p 1"}, // answers need no help here
		}},
		{name: "what no rule decides goes on, there is no end of a tier", world: defaultTier + eth0 + tierDoc("first", "order: 1") +
			gnp("a", "tier: first, selector: has(role), preDNAT: true, applyOnForward: true, ingress: [{action: Pass, protocol: TCP}, {action: Deny}]") +
			pre("b", "ingress: [{action: Log}]") + gnp("p", "selector: has(role), ingress: [{action: Allow, protocol: TCP}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule first a 2"},
		}},
		{name: "it has no say in what goes out, and doNotTrack goes before it", world: defaultTier +
			hep("h-eth0", "role: db", "interfaceName: eth0, profiles: [projectcalico-default-allow]") +
			pre("p", "ingress: [{action: Deny}]") + dnt("d", "types: [Ingress], ingress: [{action: Allow, protocol: UDP}]"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:80", "Allow Profile projectcalico-default-allow 1"},
			{"fwd eth1 eth0 tcp 10.1.0.2:4000 10.0.0.2:80", "Allow NoForwardPolicy"},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule default d 1"},
		}},
	})
}
