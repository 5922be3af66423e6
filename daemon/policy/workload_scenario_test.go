// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"
)

func TestEvaluate_WorkloadToHost(t *testing.T) {
	world := func(action string) string {
		return defaultTier + guests + felix("default", "defaultEndpointToHostAction: "+action)
	}
	run(t, []scenario{
		{name: "S035 without configuration a workload does not reach its host", world: defaultTier + guests, flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80", "Deny EndpointToHost"},
			{"in calia tcp [fd65::2]:4000 [fd00::1]:80", "Deny EndpointToHost"},
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80 untracked", "Deny EndpointToHost"},
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80 established", "Allow Established"},
			{"in calia icmp/3/3 10.65.0.2 10.0.0.1 related", "Allow Established"},
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80 invalid", "Deny Invalid"},
		}},
		{name: "S037 with Return the host's other rules decide, after egress policy", world: world("Return") +
			gnp("p", "selector: app == 'w2', egress: [{action: Allow, protocol: TCP}]"), flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80", opened},
			{"in calib tcp 10.65.0.3:4000 10.0.0.1:80", allows},
			{"in calib udp 10.65.0.3:4000 10.0.0.1:80", ended},
			{"in calib tcp 10.65.0.3:4000 10.0.0.1:80 invalid", "Deny Invalid"},
		}},
		{name: "S016, S038 with Accept a host endpoint of another interface has no say, nor the wildcard's normal policy",
			world: world("accept") + eth0 + wildcard, flows: [][2]string{
				{"in calia tcp 10.65.0.2:4000 10.0.0.1:80", opened},
				{"in calia tcp [fd65::2]:4000 [fd00::1]:80", opened},
			}},
		{name: "S040 with Accept a wildcard's preDNAT deny stops it", world: world("Accept") + wildcard + pre("p", "ingress: [{action: Deny}]"), flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80", "Deny Rule default p 1"},
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80 established", "Allow Established"},
		}},
		{name: "S041 with Drop a wildcard's preDNAT allow does not help it, nor does it spare egress policy", world: world("Drop") + wildcard +
			pre("p", "ingress: [{action: Allow}]") + gnp("q", "selector: app == 'w2', egress: [{action: Deny}]"), flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80", "Deny EndpointToHost"},
			{"in calib tcp 10.65.0.3:4000 10.0.0.1:80", "Deny Rule default q 1"},
		}},
		{name: "an action that cannot be read is the default's", world: world("Maybe"), flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80", "Deny EndpointToHost"},
		}},
		{name: "S043 neighbour discovery and group membership reach the host, echo requests do not", world: defaultTier +
			guest("w", "calia", "'fd65::2'", ""), flows: [][2]string{
			{"in calia icmpv6/130/0 fe80::2 ff02::1", "Allow Essential"},
			{"in calia icmpv6/131/0 fe80::2 ff02::1", "Allow Essential"},
			{"in calia icmpv6/132/0 fe80::2 ff02::2", "Allow Essential"},
			{"in calia icmpv6/133/0 fe80::2 ff02::2", "Allow Essential"},
			{"in calia icmpv6/135/0 fd65::2 ff02::1:ff00:1", "Allow Essential"},
			{"in calia icmpv6/136/0 fd65::2 fe80::1", "Allow Essential"},
			{"in calia icmpv6/143/0 fe80::2 ff02::16", "Allow Essential"},
			{"in calia icmpv6/128/0 fd65::2 fd00::1", "Deny NothingAllows"},
			{"in calia icmpv6/134/0 fe80::2 ff02::1", "Deny RouterMessage"}, // see the sources below
			{"in calia icmpv6/135/0 fd65::9 ff02::1:ff00:1", "Deny SpoofedSource"},
			{"fwd calia eth0 icmpv6/135/0 fd65::2 fd00::2", "Deny NothingAllows"},
		}},
		{name: "S044 failsafe ports are not the workloads'", world: defaultTier + eth0 + wildcard + guests + felix("default",
			"failsafeInboundHostPorts: [{port: 22}]"), flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:22", "Deny EndpointToHost"},
		}},
		{name: "what the host sends to its own workloads is not judged", world: defaultTier + wildcard + guests +
			gnp("p", "types: [Ingress, Egress], ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"out calia tcp 10.0.0.1:4000 10.65.0.2:80", "NotGoverned ToWorkload"},
			{"out calia tcp [fd00::1]:4000 [fd65::2]:80", "NotGoverned ToWorkload"},
			{"out calia tcp 10.0.0.1:4000 10.65.0.2:80 invalid", "NotGoverned ToWorkload"},
			// S013: to a service's address that is rewritten to a workload of the host
			{"out calia tcp 10.0.0.1:4000 10.65.0.2:80 dialled=10.99.0.1:80 first=eth0", "NotGoverned ToWorkload"},
			{"in calia tcp 10.65.0.2:80 10.0.0.1:4000 established", "Allow Established"},
		}},
		{name: "a doNotTrack policy of an endpoint at the workload's interface judges what the host sends there", world: defaultTier + guests +
			hep("h-calia", "role: db", "interfaceName: calia") +
			dnt("d", "types: [Ingress, Egress], ingress: [{action: Deny}], egress: [{action: Deny, protocol: UDP}, {action: Allow, protocol: SCTP}]"), flows: [][2]string{
			{"out calia udp 10.0.0.1:4000 10.65.0.2:80", "Deny Rule default d 1"},
			{"out calia sctp 10.0.0.1:4000 10.65.0.2:80", "Allow Rule default d 2"},
			{"out calia tcp 10.0.0.1:4000 10.65.0.2:80", "NotGoverned ToWorkload"},
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", opened}, // not what comes in there
		}},
	})
}

func TestEvaluate_Workload(t *testing.T) {
	run(t, []scenario{
		{name: "S083 neither policy nor profile: nothing passes", world: defaultTier + guest("w", "calia", "10.65.0.2, 'fd65::2'", ""), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Deny NothingAllows"},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", "Deny NothingAllows"},
			{"fwd eth0 calia tcp [fd00::2]:4000 [fd65::2]:80", "Deny NothingAllows"},
			{"fwd calia eth0 tcp [fd65::2]:4000 [fd00::2]:80", "Deny NothingAllows"},
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
		}},
		{name: "S085-S088 the direction without policy is the profile's", world: defaultTier + guests +
			gnp("i", "selector: app == 'w1', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]") +
			gnp("o", "selector: app == 'w2', egress: [{action: Allow, protocol: UDP}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Allow Rule default i 1"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:81", ended},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", opened},
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:80", opened},
			{"fwd calib eth0 udp 10.65.0.3:4000 10.0.0.2:80", "Allow Rule default o 1"},
			{"fwd calib eth0 tcp 10.65.0.3:4000 10.0.0.2:80", ended},
		}},
		{name: "from workload to workload: egress of the one, then ingress of the other", world: defaultTier + guests +
			gnp("o", "selector: app == 'w1', egress: [{action: Allow, protocol: TCP, destination: {selector: app == 'w2'}}]") +
			gnp("i", "selector: app == 'w2', ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'w1'}, destination: {ports: [80]}}]"), flows: [][2]string{
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", "Allow Rule default i 1"},
			{"fwd calia calib tcp [fd65::2]:4000 [fd65::3]:80", "Allow Rule default i 1"},
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:81", ended},
			{"fwd calia calib udp 10.65.0.2:4000 10.65.0.3:80", ended},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", ended},
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:80", ended},
			{"fwd calib calia tcp 10.65.0.3:80 10.65.0.2:4000 established", "Allow Established"},
		}},
		{name: "S092 a missing profile denies", world: defaultTier + guest("w", "calia", "10.65.0.2", "profiles: [gone]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Deny MissingProfile gone"},
		}},
		{name: "a network policy selects in its namespace", world: defaultTier + guests +
			np("prod/p", "selector: app == 'w1', ingress: [{action: Deny}]") + np("dev/q", "selector: app == 'w2', ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Deny Rule default p 1"},
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:80", opened},
		}},
		{name: "applyOnForward has no meaning for it, doNotTrack and preDNAT policies have no effect", world: defaultTier + guests +
			gnp("f", "selector: app == 'w1', applyOnForward: true, ingress: [{action: Deny, protocol: UDP}, {action: Allow}]") +
			gnp("d", "selector: app == 'w2', doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]") +
			gnp("n", "selector: app == 'w2', preDNAT: true, applyOnForward: true, ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia udp 10.0.0.2:4000 10.65.0.2:80", "Deny Rule default f 1"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Allow Rule default f 2"},
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:80", opened},
			{"fwd calib eth0 tcp 10.65.0.3:4000 10.0.0.2:80", opened},
		}},
		{name: "S148-S155 tiers are as at host endpoints", world: defaultTier + guests + tierDoc("a", "order: 1") + tierDoc("b", "order: 2, defaultAction: Pass") +
			gnp("a", "tier: a, selector: has(app), ingress: [{action: Pass, protocol: TCP}, {action: Deny, protocol: SCTP}]") +
			gnp("b", "tier: b, selector: has(app), ingress: [{action: Deny, destination: {selector: app == 'w2'}}]") +
			sgnp("s", "selector: has(app), ingress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},
			{"fwd eth0 calib tcp 10.0.0.2:4000 10.65.0.3:80", "Deny Rule b b 1"},
			{"fwd eth0 calia sctp 10.0.0.2:4000 10.65.0.2:80", "Deny Rule a a 2"},
			{"fwd eth0 calia udp 10.0.0.2:4000 10.65.0.2:80", "Deny EndOfTier a"},
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:80", opened},
		}},
		{name: "S118 invalid packets are stopped in both directions", world: defaultTier + guests, flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80 invalid", "Deny Invalid"},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80 invalid", "Deny Invalid"},
		}},
		{name: "S118 disableConntrackInvalidCheck leaves them to policy", world: defaultTier + guests +
			felix("default", "disableConntrackInvalidCheck: true"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80 invalid", opened},
		}},
		{name: "S119 a workload sends no encapsulated packets", world: defaultTier + guests, flows: [][2]string{
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:4789", "Deny Encapsulated"},
			{"fwd calia eth0 udp [fd65::2]:4000 [fd00::2]:4789", "Deny Encapsulated"},
			{"in calia udp 10.65.0.2:4000 10.0.0.1:4789", "Deny Encapsulated"},
			{"fwd calia eth0 4 10.65.0.2 10.0.0.2", "Deny Encapsulated"},
			{"fwd calia calib 4 fd65::2 fd65::3", "Deny Encapsulated"},
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:4789 established", "Allow Established"},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:4789", opened},
			{"fwd calia eth0 udp 10.65.0.2:4789 10.0.0.2:4000", opened},
			{"fwd calia eth0 41 10.65.0.2 10.0.0.2", opened},
			{"fwd eth0 calia udp 10.0.0.2:4000 10.65.0.2:4789", opened}, // it may get them
			{"fwd eth0 calia 4 10.0.0.2 10.65.0.2", opened},
		}},
		{name: "S119 unless it may", world: defaultTier + guests +
			felix("default", "allowVXLANPacketsFromWorkloads: true, allowIPIPPacketsFromWorkloads: true"), flows: [][2]string{
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:4789", opened},
			{"fwd calia eth0 4 10.65.0.2 10.0.0.2", opened},
		}},
		{name: "S119 at another port", world: defaultTier + guests + felix("default", "vxlanPort: 8472"), flows: [][2]string{
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:4789", opened},
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:8472", "Deny Encapsulated"},
		}},
		{name: "S119 a port that there is not is the default's", world: defaultTier + guests + felix("default", "vxlanPort: 70000"), flows: [][2]string{
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:4789", "Deny Encapsulated"},
			{"fwd calia eth0 udp 10.65.0.2:4000 10.0.0.2:4464", opened}, // 70000 modulo 65536
		}},
		{name: "from a workload through its host's own address to another: egress of the one, ingress of the other", world: defaultTier + guests +
			gnp("i", "selector: app == 'w2', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"), flows: [][2]string{
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80 dialled=10.0.0.1:30000", "Allow Rule default i 1"},
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:81 dialled=10.0.0.1:80", ended},
		}},
	})
}

func TestEvaluate_WorkloadInterfaces(t *testing.T) {
	spoofer := guest("w", "calia", "10.65.0.2", "profiles: [open], allowSpoofedSourcePrefixes: [192.0.2.0/24]") + allowAll
	run(t, []scenario{
		{name: "an interface with a workload's prefix and nobody behind it: nothing passes, but from the host", world: defaultTier + wildcard + allowAll, flows: [][2]string{
			{"in cali9 tcp 10.65.0.9:4000 10.0.0.1:22", strange},
			{"in cali9 icmpv6/135/0 fe80::9 ff02::1", strange},
			{"in cali9 tcp 10.65.0.9:4000 10.0.0.1:80 established", strange},
			{"fwd cali9 eth0 tcp 10.65.0.9:4000 10.0.0.2:80", strange},
			{"fwd cali9 eth0 tcp [fd65::9]:4000 [fd00::2]:80", strange},
			{"fwd eth0 cali9 tcp 10.0.0.2:4000 10.65.0.9:80", strange},
			{"fwd eth0 cali9 tcp 10.0.0.2:4000 10.65.0.9:80 established", strange},
			{"fwd eth0 cali9 tcp 10.0.0.2:4000 10.65.0.9:80 untracked", strange},
			{"out cali9 tcp 10.0.0.1:4000 10.65.0.9:80", none},
		}},
		{name: "an endpoint without addresses counts as absent", world: defaultTier + allowAll +
			wep("prod", "w", "app: w", "interfaceName: calia, profiles: [open]") +
			wep("prod", "x", "app: x", "interfaceName: calix, profiles: [open], ipNetworks: [10.65.0.0/24]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", strange},
			{"fwd calix eth0 tcp 10.65.0.2:4000 10.0.0.2:80", strange},
		}},
		{name: "S170 so does one that may spoof, where spoofing is not allowed, for interfaces and for selectors", world: defaultTier + spoofer + eth0 +
			gnp("p", "selector: has(role), ingress: [{action: Allow, source: {selector: app == 'w'}}]"), flows: [][2]string{
			{"fwd calia eth1 tcp 10.65.0.2:4000 10.0.0.2:80", strange},
			{"fwd eth1 calia tcp 10.0.0.2:4000 10.65.0.2:80", strange},
			{"in eth0 tcp 10.65.0.2:4000 10.0.0.1:80", ended},
		}},
		{name: "S169 where it is allowed, its prefixes are its own too", world: defaultTier + spoofer + eth0 + felix("node.h", "workloadSourceSpoofing: Any") +
			gnp("p", "selector: has(role), ingress: [{action: Allow, source: {selector: app == 'w'}}]"), flows: [][2]string{
			{"fwd calia eth1 tcp 10.65.0.2:4000 10.0.0.2:80", opened},
			{"fwd calia eth1 tcp 192.0.2.7:4000 10.0.0.2:80", opened},
			{"fwd calia eth1 tcp 192.0.3.7:4000 10.0.0.2:80", "Deny SpoofedSource"},
			{"in eth0 tcp 10.65.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 192.0.2.7:4000 10.0.0.1:80", ended}, // its addresses are still only its own
		}},
		{name: "S170 the other host's settings do not count", world: defaultTier + spoofer + felix("node.g", "workloadSourceSpoofing: Any"), flows: [][2]string{
			{"fwd calia eth1 tcp 10.65.0.2:4000 10.0.0.2:80", strange},
		}},
		{name: "an endpoint governs by the exact name of its interface, whatever its prefix", world: defaultTier + guest("w", "veth7", "10.65.0.2", "") + wildcard + allowAll +
			felix("default", "failsafeInboundHostPorts: []"), flows: [][2]string{
			{"fwd eth0 veth7 tcp 10.0.0.2:4000 10.65.0.2:80", "Deny NothingAllows"},
			{"fwd eth0 veth70 tcp 10.0.0.2:4000 10.65.0.2:80", "Allow NoForwardPolicy"},
			{"in veth7 tcp 10.65.0.3:4000 10.0.0.1:80", "Deny SpoofedSource"},
			{"out veth7 tcp 10.0.0.1:4000 10.65.0.2:80", "NotGoverned ToWorkload"},
		}},
		{name: "of two for one interface the first by key governs, absent ones do not count", world: defaultTier + allowAll +
			guest("a", "calia", "", "profiles: [gone]") + guest("b", "calia", "10.65.0.2", "profiles: [open]") + guest("c", "calia", "10.65.0.2", ""), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},
		}},
		{name: "an endpoint of another host governs nothing here", world: defaultTier +
			doc("WorkloadEndpoint", "prod/g-k8s-w-eth0", "", "node: g, orchestrator: k8s, pod: w, endpoint: eth0, interfaceName: calia, ipNetworks: [10.65.0.2]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", strange},
		}},
		{name: "a workload endpoint beats a named host endpoint on its interface", world: defaultTier + guests +
			hep("h-calia", "role: db", "interfaceName: calia") + aof("f", "ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", opened},
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:22", "Deny EndpointToHost"},
		}},
		{name: "a host endpoint of its own makes an interface with a workload's prefix an ordinary one", world: defaultTier +
			hep("h-calia", "role: db", "interfaceName: calia"), flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.0.0.1:22", "Allow Failsafe"},
			{"out calia tcp 10.0.0.1:4000 10.65.0.2:80", "Deny NothingAllows"},
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", "Allow NoForwardPolicy"},
		}},
		{name: "the loopback interface is no workload's", world: defaultTier + guest("w", "lo", "10.65.0.2", "") +
			felix("default", "interfacePrefix: 'l'"), flows: [][2]string{
			{"in lo tcp 127.0.0.1:4000 127.0.0.1:80", none},
			{"out lo tcp 127.0.0.1:4000 127.0.0.1:80", none},
		}},
	})
}

func TestEvaluate_Sources(t *testing.T) {
	run(t, []scenario{
		{name: "S167 a workload sends from its own addresses only, in every state", world: defaultTier + guests +
			felix("default", "defaultEndpointToHostAction: Accept"), flows: [][2]string{
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", opened},
			{"fwd calia eth0 tcp [fd65::2]:4000 [fd00::2]:80", opened},
			{"fwd calia eth0 tcp 10.65.0.3:4000 10.0.0.2:80", "Deny SpoofedSource"},
			{"fwd calia eth0 tcp [fd65::3]:4000 [fd00::2]:80", "Deny SpoofedSource"},
			{"fwd calia calib tcp 10.65.0.3:4000 10.65.0.3:80", "Deny SpoofedSource"},
			{"in calia tcp 10.0.0.1:4000 10.0.0.1:80", "Deny SpoofedSource"},
			{"fwd calia eth0 tcp 10.65.0.3:4000 10.0.0.2:80 established", "Deny SpoofedSource"},
			{"fwd calia eth0 tcp 169.254.1.1:4000 10.0.0.2:80", "Deny SpoofedSource"},
			{"in calia tcp [fe80::2]:4000 [fe80::1]:80", opened},
			{"fwd calia eth0 tcp [febf::2]:4000 [fd00::2]:80", opened},
			{"fwd calia eth0 tcp [fec0::2]:4000 [fd00::2]:80", "Deny SpoofedSource"},
			// What comes to it is not its own.
			{"fwd eth0 calia tcp 10.65.0.3:4000 10.65.0.2:80", opened},
		}},
		{name: "S172 without the list nothing else is its own, spoofing allowed or not", world: defaultTier + guests +
			felix("default", "workloadSourceSpoofing: Any"), flows: [][2]string{
			{"fwd calia eth0 tcp 192.0.2.7:4000 10.0.0.2:80", "Deny SpoofedSource"},
		}},
		{name: "without an address it may ask for one and look whether another has it", world: defaultTier + guests +
			felix("default", "defaultEndpointToHostAction: Accept"), flows: [][2]string{
			{"in calia udp 0.0.0.0:68 255.255.255.255:67", opened},
			{"in calia udp 0.0.0.0:67 255.255.255.255:68", "Deny SpoofedSource"},
			{"in calia tcp 0.0.0.0:68 255.255.255.255:67", "Deny SpoofedSource"},
			{"in calia icmpv6/135/0 :: ff02::1:ff00:2", "Allow Essential"},
			{"in calia icmpv6/143/0 :: ff02::16", "Allow Essential"},
			{"in calia icmpv6/131/0 :: ff02::1:ff00:2", "Allow Essential"},
			{"in calia icmpv6/132/0 :: ff02::2", "Allow Essential"},
			{"in calia icmpv6/130/0 :: ff02::1", "Deny SpoofedSource"},
			{"in calia icmpv6/133/0 :: ff02::2", "Deny SpoofedSource"},
			{"in calia icmpv6/136/0 :: ff02::1", "Deny SpoofedSource"},
			{"in calia icmpv6/128/0 :: ff02::1", "Deny SpoofedSource"},
			{"in calia udp [::]:546 [ff02::1:2]:547", "Deny SpoofedSource"},
		}},
		{name: "a workload is no router, even where its policy allows all and whatever the state", world: defaultTier + guests +
			felix("default", "defaultEndpointToHostAction: Accept"), flows: [][2]string{
			{"in calia icmpv6/134/0 fe80::2 ff02::1", "Deny RouterMessage"},
			{"in calia icmpv6/134/0 fd65::2 ff02::1", "Deny RouterMessage"},
			{"fwd calia calib icmpv6/134/0 fd65::2 fd65::3", "Deny RouterMessage"},
			{"in calia icmpv6/137/0 fe80::2 fd00::1 related", "Deny RouterMessage"},
			{"fwd eth0 calia icmpv6/134/0 fd00::2 fd65::2", opened},
			{"in calia icmp/134/0 10.65.0.2 10.0.0.1", opened}, // of ICMPv6 only
		}},
		{name: "addresses of the loopback interface come in nowhere else", world: defaultTier + eth0 + guests +
			dnt("d", "ingress: [{action: Allow}]") + felix("default", "defaultEndpointToHostAction: Accept"), flows: [][2]string{
			{"in eth0 tcp 127.0.0.1:4000 10.0.0.1:22", "Deny LoopbackAddress"},
			{"in eth0 tcp 10.0.0.2:4000 127.8.9.1:22", "Deny LoopbackAddress"},
			{"in eth0 tcp [::1]:4000 [fd00::1]:22", "Deny LoopbackAddress"},
			{"in eth0 icmpv6/135/0 fd00::2 ::1", "Deny LoopbackAddress"},
			{"in eth0 tcp 10.0.0.2:4000 127.0.0.1:22 established", "Deny LoopbackAddress"},
			{"fwd eth0 eth1 tcp 127.0.0.1:4000 10.1.0.2:80", "Deny LoopbackAddress"},
			{"in calia tcp 127.0.0.1:4000 10.0.0.1:80", "Deny LoopbackAddress"},
			{"in calia tcp 10.65.0.2:4000 127.0.0.1:80", "Deny LoopbackAddress"},
			{"in calia tcp [fd65::2]:4000 [::1]:80", "Deny LoopbackAddress"},
			// As dialled: behind destination NAT it may be.
			{"in eth0 tcp 10.0.0.2:4000 127.0.0.1:8080 dialled=10.0.0.1:80", "Allow Rule default d 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:8080 dialled=127.0.0.1:80", "Deny LoopbackAddress"},
			// Where nothing governs, and on the loopback interface itself.
			{"in eth1 tcp 127.0.0.1:4000 10.0.0.1:80", none},
			{"in lo tcp 127.0.0.1:4000 127.0.0.1:80", none},
			{"out eth0 tcp 127.0.0.1:4000 10.0.0.2:2379", "Allow Failsafe"},
		}},
		{name: "an endpoint that names the loopback interface leaves its addresses alone", world: defaultTier +
			hep("h-lo", "", "interfaceName: lo, profiles: [projectcalico-default-allow]"), flows: [][2]string{
			{"in lo tcp 127.0.0.1:4000 127.0.0.1:80", "Allow Profile projectcalico-default-allow 1"},
			{"in lo tcp [::1]:4000 [::1]:80", "Allow Profile projectcalico-default-allow 1"},
		}},
		{name: "a wildcard endpoint stops them too", world: defaultTier + wildcard, flows: [][2]string{
			{"in eth5 tcp 127.0.0.1:4000 10.0.0.1:22", "Deny LoopbackAddress"},
			{"in lo tcp 127.0.0.1:4000 127.0.0.1:80", none},
		}},
	})
}

// An endpoint by address governs an interface with a workload's prefix only
// where no workload endpoint does.
func TestEvaluate_HostEndpointByAddressAtWorkloadInterface(t *testing.T) {
	run(t, []scenario{{name: "by address", world: defaultTier + guests + hep("h-ip", "", "expectedIPs: [10.65.0.1]"),
		interfaces: map[string][]netip.Addr{"calia": addrs("10.65.0.1"), "cali9": addrs("10.65.0.1")}, flows: [][2]string{
			{"in calia tcp 10.65.0.2:4000 10.65.0.1:22", "Deny EndpointToHost"},
			{"in cali9 tcp 10.65.0.9:4000 10.65.0.1:22", "Allow Failsafe"},
		}}})
}
