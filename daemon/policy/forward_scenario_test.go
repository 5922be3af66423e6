// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

// aof is an applyOnForward policy on host endpoints.
func aof(name, spec string) string {
	return gnp(name, "selector: has(role), applyOnForward: true, "+spec)
}

func TestEvaluate_ApplyOnForward(t *testing.T) {
	run(t, []scenario{
		{name: "S046 a deny of ingress stops only what comes in there", world: defaultTier + eth0 + guests +
			aof("p", "ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Deny Rule default p 1"},
			{"fwd eth0 calia tcp [fd00::2]:4000 [fd65::2]:80", "Deny Rule default p 1"},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", opened},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80 established", "Allow Established"},
		}},
		{name: "S047 a deny of egress stops only what goes out there", world: defaultTier + eth0 + guests +
			aof("p", "egress: [{action: Deny}]"), flows: [][2]string{
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", "Deny Rule default p 1"},
			{"fwd calia eth0 tcp [fd65::2]:4000 [fd00::2]:80", "Deny Rule default p 1"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},
		}},
		{name: "S049 one port is forwarded, failsafes and essential types are not", world: defaultTier + eth0 + guests +
			aof("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}], egress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"),
			flows: [][2]string{
				{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},
				{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", allows},
				{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", allows},
				{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:22", ended},
				{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:53", ended},
				{"fwd eth0 eth1 icmpv6/135/0 fd00::2 fd01::2", ended},
				{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22", "Allow Failsafe"},
			}},
		{name: "S050 a policy of one direction leaves the other open (X)", world: defaultTier + eth0 + guests +
			aof("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", opened},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", allows},
			{"fwd eth1 eth0 tcp 10.1.0.2:4000 10.0.0.2:80", "Allow NoForwardPolicy"},
		}},
		{name: "S052 routed through: in at one endpoint, out at the other", world: defaultTier + eth0 +
			hep("h-eth1", "side: b", "interfaceName: eth1") +
			aof("p", "types: [Ingress, Egress], ingress: [{action: Allow, protocol: TCP}], egress: [{action: Deny}]") +
			gnp("q", "selector: side == 'b', applyOnForward: true, types: [Egress], egress: [{action: Deny, destination: {nets: [10.1.0.9/32]}}, {action: Allow}]"),
			flows: [][2]string{
				{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow Rule default q 2"},
				{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.9:80", "Deny Rule default q 1"},
				{"fwd eth0 eth1 udp 10.0.0.2:4000 10.1.0.2:80", ended},
				{"fwd eth0 eth2 tcp 10.0.0.2:4000 10.1.0.2:80", allows},
				{"fwd eth1 eth2 tcp 10.1.0.2:4000 10.2.0.2:80", "Allow NoForwardPolicy"},
				{"fwd eth1 eth0 tcp 10.1.0.2:4000 10.0.0.2:80", "Deny Rule default p 1"},
			}},
		{name: "S052 a rule that allowed on the way in stays the one that decided", world: defaultTier + eth0 +
			hep("h-eth1", "side: b", "interfaceName: eth1") + aof("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", allows},
		}},
		{name: "normal policy and profiles have no say in what is forwarded", world: defaultTier +
			hep("h-eth0", "role: db", "interfaceName: eth0, profiles: [missing]") +
			gnp("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow NoForwardPolicy"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule default p 1"},
		}},
		{name: "applyOnForward policy also judges what is for the host", world: defaultTier + eth0 +
			aof("p", "ingress: [{action: Deny}]") + gnp("q", "ingress: [{action: Allow}], order: 7"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule default q 1"},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Deny Rule default p 1"},
		}},
		{name: "the end of the tier denies what is forwarded, a pass of all tiers allows it", world: defaultTier + eth0 + tierDoc("soft", "order: 1, defaultAction: Pass") +
			aof("soft", "tier: soft, ingress: [{action: Log}]") +
			aof("p", "ingress: [{action: Allow, protocol: UDP}, {action: Pass, protocol: TCP}]"), flows: [][2]string{
			{"fwd eth0 eth1 udp 10.0.0.2:4000 10.1.0.2:80", allows},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow Passed"},
			{"fwd eth0 eth1 253 10.0.0.2 10.1.0.2", ended},
		}},
		{name: "a staged applyOnForward policy does not count", world: defaultTier + eth0 +
			sgnp("s", "applyOnForward: true, ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow NoForwardPolicy"},
		}},
		{name: "what is forwarded is judged by the address behind destination NAT", world: defaultTier + eth0 + guests +
			aof("p", "ingress: [{action: Allow, protocol: TCP, destination: {nets: [10.65.0.2/32], ports: [8055]}}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:8055 dialled=10.0.0.1:30000", opened},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80 dialled=10.65.0.2:8055", ended},
		}},
		{name: "S053 a wildcard endpoint has a say at workload interfaces, in both directions", world: defaultTier + wildcard + guests +
			aof("p", "types: [Ingress, Egress], ingress: [{action: Allow, protocol: TCP}], egress: [{action: Deny, destination: {nets: [10.65.0.3/32]}}, {action: Allow}]"), flows: [][2]string{
			{"fwd calia calib udp 10.65.0.2:4000 10.65.0.3:80", ended},
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", "Deny Rule default p 1"},
			{"fwd calib calia tcp 10.65.0.3:4000 10.65.0.2:80", "Allow Rule default p 2"},
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:80", "Deny Rule default p 1"},
			{"fwd lo calia udp 10.0.0.1:4000 10.65.0.2:80", "Allow Rule default p 2"}, // never at lo
		}},
		{name: "S053 interfaceExclude keeps the wildcard from a workload's interface", world: defaultTier + wildcard + guests +
			felix("default", "interfaceExclude: calia") + aof("p", "ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", opened},
			{"fwd calib calia tcp 10.65.0.3:4000 10.65.0.2:80", "Deny Rule default p 1"},
		}},
		{name: "S053 a named endpoint beats the wildcard in what is forwarded", world: defaultTier + guests +
			hep("h-all", "role: all", "interfaceName: '*'") + hep("h-eth0", "role: db", "interfaceName: eth0") +
			gnp("p", "selector: role == 'all', applyOnForward: true, ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},
			{"fwd eth1 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Deny Rule default p 1"},
		}},
		{name: "S055 what applyOnForward policy allows the workload's policy still judges", world: defaultTier + wildcard + guests +
			aof("p", "types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]") +
			gnp("q", "selector: app == 'w2', types: [Ingress, Egress], ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", "Deny Rule default q 1"},
			{"fwd calib calia tcp 10.65.0.3:4000 10.65.0.2:80", ended},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", "Allow Rule default p 1"},
		}},
		{name: "S058 what applyOnForward policy allows a workload without policy and profile denies", world: defaultTier + eth0 +
			guest("w", "calia", "10.65.0.2", "") + aof("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Deny NothingAllows"},
		}},
	})
}
