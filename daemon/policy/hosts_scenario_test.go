// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"
)

// Scenario numbers are those of the project's catalogue of Calico's behaviour;
// (X) marks where Ripstop differs from it on purpose.

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

func TestEvaluate_HostEndpoints(t *testing.T) {
	run(t, []scenario{
		{name: "S001 no endpoint: the host is untouched", world: defaultTier, flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", none},
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:9000", none},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.2:9000", none},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000 invalid", none},
		}},
		{name: "S001 an endpoint of another host governs nothing here", flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", none},
		}, world: defaultTier + doc("HostEndpoint", "g-eth0", "", "node: g, interfaceName: eth0")},
		{name: "S002-S010 endpoint with neither policy nor profile", world: defaultTier + eth0 + guests, flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny NothingAllows"},   // S002
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:9000", "Deny NothingAllows"}, // S002
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22", "Allow Failsafe"},         // S004
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:22", "Allow Failsafe"},       // S004
			{"in eth0 udp 0.0.0.0:67 255.255.255.255:68", "Allow Failsafe"},     // S004
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:22", "Deny NothingAllows"},     // failsafe is of TCP
			{"in eth0 sctp 10.0.0.2:4000 10.0.0.1:22", "Deny NothingAllows"},    // failsafe is of TCP
			{"in eth0 tcp 10.0.0.2:22 10.0.0.1:9000", "Deny NothingAllows"},     // by destination port only
			{"out eth0 udp 10.0.0.1:4000 10.0.0.2:53", "Allow Failsafe"},        // S005
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:2379", "Allow Failsafe"},      // S005
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:22", "Deny NothingAllows"},    // inbound only
			{"out eth0 icmp/8/0 10.0.0.1 10.0.0.2", "Deny NothingAllows"},       // S007
			{"in eth0 253 10.0.0.2 10.0.0.1", "Deny NothingAllows"},             // S008
			{"out eth0 254 10.0.0.1 10.0.0.2", "Deny NothingAllows"},            // S008
			{"fwd calia calib tcp 10.65.0.2:4000 10.65.0.3:80", opened},         // S010
			{"fwd calia eth0 tcp 10.65.0.2:4000 10.0.0.2:80", opened},           // S011
			{"fwd eth0 calia tcp 10.0.0.2:4000 10.65.0.2:80", opened},           // S011
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:9000", none},
		}},
		{name: "S014 wildcard endpoint alone: the same on every interface but the loopback (X) and workloads'",
			world: defaultTier + wildcard, flows: [][2]string{
				{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny NothingAllows"},
				{"in eth7 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny NothingAllows"},
				{"out eth7 icmp/8/0 10.0.0.1 10.0.0.2", "Deny NothingAllows"},
				{"in eth7 tcp 10.0.0.2:4000 10.0.0.1:22", "Allow Failsafe"},
				{"fwd eth0 eth7 tcp 10.0.0.2:4000 10.1.0.2:80", "Allow NoForwardPolicy"},
				{"in lo tcp 127.0.0.1:4000 127.0.0.1:9000", none},
				{"out lo tcp 10.0.0.1:4000 10.0.0.1:9000", none},
				{"in cali12345 tcp 10.65.0.2:4000 10.0.0.1:9000", strange},
				{"out cali12345 tcp 10.0.0.1:4000 10.65.0.2:80", none},
				{"in kube-ipvs0 tcp 10.65.0.2:4000 10.0.0.1:9000", none},
			}},
		{name: "S017 wildcard and a named endpoint that allows all", world: defaultTier + wildcard + allowAll +
			hep("h-eth0", "", "interfaceName: eth0, profiles: [open]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Allow Profile open 1"},
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny NothingAllows"},
		}},
		{name: "S017 a named endpoint without policy is not covered by the wildcard's policy", world: defaultTier + eth0 +
			hep("h-all", "all: 'y'", "interfaceName: '*'") + gnp("p", "selector: has(all), ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny NothingAllows"},
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:9000", allows},
		}},
		{name: "an endpoint that names the loopback interface governs it", world: defaultTier + wildcard +
			hep("h-lo", "", "interfaceName: lo"), flows: [][2]string{
			{"in lo tcp 127.0.0.1:4000 127.0.0.1:9000", "Deny NothingAllows"},
		}},
		{name: "an endpoint that expects an address of the loopback interface does not govern it", world: defaultTier +
			hep("h-any", "", "expectedIPs: [192.0.2.1]"), interfaces: map[string][]netip.Addr{
			"lo": addrs("127.0.0.1", "192.0.2.1"), "eth0": addrs("192.0.2.1")}, flows: [][2]string{
			{"in lo tcp 127.0.0.1:4000 192.0.2.1:9000", none},
			{"in eth0 tcp 10.0.0.2:4000 192.0.2.1:9000", "Deny NothingAllows"},
		}},
		{name: "S019 endpoint with an allow-all profile and no policy", world: defaultTier + allowAll +
			hep("h-eth0", "", "interfaceName: eth0, profiles: [open]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Allow Profile open 1"},
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:9000", "Allow Profile open 1"},
		}},
		{name: "S019 the built-in profile is always there", world: defaultTier +
			hep("h-eth0", "", "interfaceName: eth0, profiles: [projectcalico-default-allow]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Allow Profile projectcalico-default-allow 1"},
			{"out eth0 253 10.0.0.1 10.0.0.2", "Allow Profile projectcalico-default-allow 1"},
		}},
		{name: "S020 policy for ingress of one port only", world: defaultTier + eth0 +
			gnp("p", "selector: role == 'db', ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:8055", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", ended},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:8055", ended},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22", "Allow Failsafe"},
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:9000", "Deny NothingAllows"},
			{"out eth0 udp 10.0.0.1:4000 10.0.0.2:53", "Allow Failsafe"},
		}},
		{name: "S022 endpoint by expectedIPs governs the interface that has one of them", world: defaultTier +
			hep("h-ip", "", "expectedIPs: [10.0.0.9, 10.0.0.1]"), interfaces: map[string][]netip.Addr{
			"eth0": addrs("10.0.0.7"), "eth1": addrs("fe80::1", "10.0.0.1"), "eth2": addrs("10.0.0.9")}, flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.7:9000", none},
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny NothingAllows"},
			{"in eth2 tcp 10.0.0.2:4000 10.0.0.9:9000", "Deny NothingAllows"}, // governs both
		}},
		{name: "S022 expectedIPs do not widen an endpoint that names an interface", world: defaultTier +
			hep("h-eth0", "", "interfaceName: eth0, expectedIPs: [10.0.0.1]"), interfaces: map[string][]netip.Addr{
			"eth1": addrs("10.0.0.1")}, flows: [][2]string{
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:9000", none},
		}},
		{name: "S023 of two endpoints for one interface the first by name governs", world: defaultTier + allowAll +
			hep("a", "", "expectedIPs: [10.0.0.1], profiles: [open]") + hep("b", "", "interfaceName: eth0"),
			interfaces: map[string][]netip.Addr{"eth0": addrs("10.0.0.1")}, flows: [][2]string{
				{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Allow Profile open 1"},
			}},
		{name: "S023 of two endpoints for one interface the first by name governs, named or not", world: defaultTier + allowAll +
			hep("b", "", "expectedIPs: [10.0.0.1]") + hep("a", "", "interfaceName: eth0, profiles: [open]") +
			hep("c", "", "interfaceName: eth0"),
			interfaces: map[string][]netip.Addr{"eth0": addrs("10.0.0.1")}, flows: [][2]string{
				{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Allow Profile open 1"},
			}},
		{name: "S023 of two wildcard endpoints the first by name governs", world: defaultTier + allowAll +
			hep("b", "", "interfaceName: '*'") + hep("a", "", "interfaceName: '*', profiles: [open]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Allow Profile open 1"},
		}},
		{name: "S025 a policy selects by the endpoint's labels", world: defaultTier +
			hep("h-eth0", "role: web", "interfaceName: eth0") +
			gnp("p", "selector: role == 'db', ingress: [{action: Allow}]") +
			gnp("q", "selector: role == 'web', ingress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny Rule default q 1"},
		}},
		{name: "S028 a deny in an earlier tier wins", world: defaultTier + eth0 + tierDoc("security", "order: 10") +
			gnp("deny", "tier: security, ingress: [{action: Deny}]") + gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", "Deny Rule security deny 1"},
		}},
		{name: "S028 a pass in an earlier tier leaves it to the next", world: defaultTier + eth0 + tierDoc("security", "order: 10") +
			gnp("pass", "tier: security, ingress: [{action: Pass}, {action: Deny}]") +
			gnp("pass-not-asked", "tier: security, order: 9, ingress: [{action: Pass, protocol: UDP}]") +
			gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000", allows},
		}},
		{name: "S029 the agent's own metrics port is as any other", world: defaultTier + wildcard, flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9091", "Deny NothingAllows"},
		}},
		{name: "S032 established and related traffic continues, invalid does not", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000 established", "Allow Established"},
			{"out eth0 icmp/3/3 10.0.0.1 10.0.0.2 related", "Allow Established"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000 untracked", "Deny Rule default p 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22 untracked", "Allow Failsafe"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22 invalid", "Deny Invalid"},
			{"fwd eth0 eth1 tcp 10.0.0.2:4000 10.1.0.1:80 established", "Allow Established"},
			{"fwd eth1 eth0 tcp 10.0.0.2:4000 10.1.0.1:80 invalid", "Deny Invalid"},
			{"fwd eth1 eth2 tcp 10.0.0.2:4000 10.1.0.1:80 invalid", none},
		}},
		{name: "S118 disableConntrackInvalidCheck leaves invalid packets to policy", world: defaultTier + eth0 +
			felix("default", "disableConntrackInvalidCheck: true") + gnp("p", "ingress: [{action: Allow, protocol: TCP}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:9000 invalid", allows},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:9000 invalid", ended},
		}},
		{name: "S013 what the host sends is judged by the address behind destination NAT, where it really goes out", world: defaultTier + eth0 +
			gnp("p", "selector: has(role), egress: [{action: Allow, protocol: TCP, destination: {nets: [10.0.0.2/32], ports: [8055]}}]"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:8055 dialled=10.99.0.1:80 first=eth1", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:80 dialled=10.0.0.2:8055", ended},
			{"out eth1 tcp 10.0.0.1:4000 10.1.0.2:80 dialled=10.99.0.1:80 first=eth0", none},
		}},
		{name: "S034 IPv6 works behind an endpoint: neighbour discovery passes (X)", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 icmpv6/134/0 fe80::2 ff02::1", "Allow Essential"},
			{"in eth0 icmpv6/135/0 fd00::2 ff02::1:ff00:1", "Allow Essential"},
			{"in eth0 icmpv6/136/0 fd00::2 fd00::1", "Allow Essential"},
			{"in eth0 icmpv6/130/0 fe80::2 ff02::1", "Allow Essential"},
			{"in eth0 icmpv6/131/0 fe80::2 ff02::1", "Allow Essential"},
			{"in eth0 icmpv6/132/0 fe80::2 ff02::2", "Allow Essential"},
			{"in eth0 icmpv6/143/0 fe80::2 ff02::16", "Allow Essential"},
			{"in eth0 icmpv6/133/0 fe80::2 ff02::2", "Deny Rule default p 1"},
			{"in eth0 icmpv6/137/0 fe80::2 fd00::1", "Deny Rule default p 1"},
			{"in eth0 icmpv6/128/0 fd00::2 fd00::1", "Deny Rule default p 1"},
			{"in eth0 icmpv6/135/0 fd00::2 fd00::1 invalid", "Deny Invalid"},
			{"out eth0 icmpv6/133/0 fe80::1 ff02::2", "Allow Essential"},
			{"out eth0 icmpv6/135/0 fd00::1 ff02::1:ff00:2", "Allow Essential"},
			{"out eth0 icmpv6/136/0 fd00::1 fd00::2", "Allow Essential"},
			{"out eth0 icmpv6/131/0 fe80::1 ff02::1", "Allow Essential"},
			{"out eth0 icmpv6/132/0 fe80::1 ff02::2", "Allow Essential"},
			{"out eth0 icmpv6/143/0 fe80::1 ff02::16", "Allow Essential"},
			{"out eth0 icmpv6/130/0 fe80::1 ff02::1", "Deny Rule default p 1"},
			{"out eth0 icmpv6/134/0 fe80::1 ff02::1", "Deny Rule default p 1"},
			{"out eth0 icmpv6/137/0 fe80::1 fd00::2", "Deny Rule default p 1"},
			{"in eth0 icmp/135/0 10.0.0.2 10.0.0.1", "Deny Rule default p 1"}, // IPv4's type 135 is nothing
		}},
		{name: "S034 an ICMPv6 rule of an IPv6 endpoint", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: ICMPv6}]"), flows: [][2]string{
			{"in eth0 icmpv6/128/0 fd00::2 fd00::1", allows},
			{"in eth0 icmpv6/133/0 fe80::2 ff02::2", allows},
			{"in eth0 icmp/8/0 10.0.0.2 10.0.0.1", ended},
		}},
	})
}

func TestEvaluate_Settings(t *testing.T) {
	run(t, []scenario{
		{name: "failsafes may have a net, of the peer", world: defaultTier + eth0 + felix("default",
			"failsafeInboundHostPorts: [{protocol: tcp, port: 22, net: 10.0.0.0/8}, {protocol: UDP, port: 9, net: 'fd00::/16'}], failsafeOutboundHostPorts: [{port: 443, net: 192.0.2.1}]"),
			flows: [][2]string{
				{"in eth0 tcp 10.9.9.9:4000 10.0.0.1:22", "Allow Failsafe"},
				{"in eth0 tcp 11.9.9.9:4000 10.0.0.1:22", "Deny NothingAllows"},
				{"in eth0 tcp [fd00::2]:4000 [fd00::1]:22", "Deny NothingAllows"},
				{"in eth0 udp [fd00::2]:4000 [fd00::1]:9", "Allow Failsafe"},
				{"out eth0 tcp 10.0.0.1:4000 192.0.2.1:443", "Allow Failsafe"},
				{"out eth0 tcp 10.0.0.1:4000 192.0.2.2:443", "Deny NothingAllows"},
				{"out eth0 udp 10.0.0.1:4000 192.0.2.1:53", "Deny NothingAllows"},
			}},
		{name: "an empty list of failsafes means none", world: defaultTier + eth0 + felix("default", "failsafeInboundHostPorts: []"), flows: [][2]string{
			{"in eth0 tcp 10.9.9.9:4000 10.0.0.1:22", "Deny NothingAllows"},
			{"out eth0 udp 10.0.0.1:4000 10.0.0.2:53", "Allow Failsafe"},
		}},
		{name: "a host's own configuration wins over the selected one over the default one", world: defaultTier + eth0 +
			doc("Node", "h", "site: ams", "") +
			felix("default", "failsafeInboundHostPorts: [{port: 1}], failsafeOutboundHostPorts: [{port: 1}], interfacePrefix: tap") +
			felix("zone", "nodeSelector: site == 'ams', failsafeInboundHostPorts: [{port: 2}], failsafeOutboundHostPorts: [{port: 2}]") +
			felix("elsewhere", "nodeSelector: site == 'fra', failsafeOutboundHostPorts: [{port: 4}]") +
			felix("nobody", "failsafeOutboundHostPorts: [{port: 5}]") +
			felix("node.h", "failsafeInboundHostPorts: [{port: 3}]") + felix("node.g", "failsafeInboundHostPorts: [{port: 6}]"),
			flows: [][2]string{
				{"in eth0 tcp 10.9.9.9:4000 10.0.0.1:3", "Allow Failsafe"},
				{"in eth0 tcp 10.9.9.9:4000 10.0.0.1:2", "Deny NothingAllows"},
				{"out eth0 tcp 10.0.0.1:4000 10.9.9.9:2", "Allow Failsafe"},
				{"out eth0 tcp 10.0.0.1:4000 10.9.9.9:1", "Deny NothingAllows"},
			}},
		{name: "interfacePrefix and interfaceExclude except interfaces from the wildcard, not from endpoints of their own",
			world: defaultTier + wildcard + felix("default", "interfacePrefix: 'tap,vnet', interfaceExclude: 'dummy0,/^br-.*/'") +
				hep("h-tap", "", "interfaceName: tap7") + hep("h-br", "", "interfaceName: br-own"), flows: [][2]string{
				{"in tap1 tcp 10.9.9.9:4000 10.0.0.1:9000", strange},
				{"in vnet2 tcp 10.9.9.9:4000 10.0.0.1:9000", strange},
				{"out vnet2 tcp 10.0.0.1:4000 10.9.9.9:9000", none},
				{"in dummy0 tcp 10.9.9.9:4000 10.0.0.1:9000", none},
				{"in dummy01 tcp 10.9.9.9:4000 10.0.0.1:9000", "Deny NothingAllows"},
				{"in br-x tcp 10.9.9.9:4000 10.0.0.1:9000", none},
				{"in cali1 tcp 10.9.9.9:4000 10.0.0.1:9000", "Deny NothingAllows"},
				{"in tap7 tcp 10.9.9.9:4000 10.0.0.1:9000", "Deny NothingAllows"},
				{"in br-own tcp 10.9.9.9:4000 10.0.0.1:9000", "Deny NothingAllows"},
			}},
	})
}
