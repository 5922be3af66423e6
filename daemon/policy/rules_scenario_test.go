// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

func TestEvaluate_Policy(t *testing.T) {
	run(t, []scenario{
		{name: "S085-S088 types follow from the rules when a policy is written", world: defaultTier + allowAll +
			hep("h-in", "t: in", "interfaceName: eth0, profiles: [open]") + gnp("i", "selector: t == 'in', ingress: [{action: Allow, protocol: UDP}]") +
			hep("h-out", "t: out", "interfaceName: eth1, profiles: [open]") + gnp("o", "selector: t == 'out', egress: [{action: Allow, protocol: UDP}]") +
			hep("h-no", "t: neither", "interfaceName: eth2, profiles: [open]") + gnp("n", "selector: t == 'neither'"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", ended},                   // S085
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:80", "Allow Profile open 1"}, // S085
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Profile open 1"},  // S086
			{"out eth1 tcp 10.0.0.1:4000 10.0.0.2:80", ended},                  // S086
			{"in eth2 tcp 10.0.0.2:4000 10.0.0.1:80", ended},                   // S088
			{"out eth2 tcp 10.0.0.1:4000 10.0.0.2:80", "Allow Profile open 1"}, // S088
		}},
		{name: "a type without rules of its direction ends the tier", world: defaultTier + eth0 +
			gnp("p", "types: [Ingress, Egress], ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.0.0.2:80", ended},
		}},
		{name: "S091 a policy without order comes after those with one, equals by name", world: defaultTier + eth0 +
			gnp("a", "ingress: [{action: Deny}]") +
			gnp("z", "order: 1000000000, ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]") +
			gnp("c", "order: 5, ingress: [{action: Allow, protocol: TCP, destination: {ports: [81]}}]") +
			gnp("b", "order: 5, ingress: [{action: Deny, protocol: TCP, destination: {ports: [81]}}]") +
			gnp("d", "order: -1, ingress: [{action: Allow, protocol: TCP, destination: {ports: [82]}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule default z 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:81", "Deny Rule default b 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:82", "Allow Rule default d 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:83", "Deny Rule default a 1"},
		}},
		{name: "S092 a missing profile denies, whatever comes after it", world: defaultTier + allowAll +
			hep("h-eth0", "", "interfaceName: eth0, profiles: [gone, open]") +
			hep("h-eth1", "", "interfaceName: eth1, profiles: [open, gone]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny MissingProfile gone"},
			{"in eth1 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Profile open 1"},
		}},
		{name: "profiles are asked in order, a pass leads to the next", world: defaultTier + allowAll +
			profileDoc("some", "ingress: [{action: Log}, {action: Pass, protocol: TCP}, {action: Deny}]") +
			profileDoc("empty", "") + hep("h-eth0", "", "interfaceName: eth0, profiles: [empty, some, open]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Profile open 1"},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Deny Profile some 3"},
			{"out eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Allow Profile open 1"},
		}},
		{name: "S094 labels are inherited from profiles, the first that has one, own labels win", world: defaultTier +
			profileDoc("a", "labelsToApply: {x: a, w: a, role: a}") + profileDoc("b", "labelsToApply: {w: b, z: b}") +
			hep("h-eth0", "role: own", "interfaceName: eth0, profiles: [a, b, gone]") +
			gnp("p", "selector: x == 'a' && w == 'a' && z == 'b' && role == 'own', ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
		}},
		{name: "S097 notSelector alone matches addresses that nobody has", world: defaultTier + eth0 + gns("bad", "bad: 'y'", "192.0.2.0/24") +
			gnp("p", "ingress: [{action: Allow, source: {notSelector: has(bad)}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 192.0.2.7:4000 10.0.0.1:80", ended},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:80", allows},
		}},
		{name: "a notSelector that selects nothing matches everything, a selector that selects nothing nothing", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Deny, source: {selector: has(nobody)}}, {action: Allow, source: {notSelector: has(nobody)}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule default p 2"},
		}},
		{name: "selector and notSelector are asked of the same endpoint or set", world: defaultTier + eth0 +
			gns("wide", "a: 'y'", "10.0.0.0/8") + gns("narrow", "a: 'y', b: 'y'", "10.1.0.0/16") + gns("only", "a: 'y', b: 'y'", "11.0.0.0/8") +
			gnp("p", "ingress: [{action: Allow, source: {selector: has(a), notSelector: has(b)}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.1.0.2:4000 10.0.0.1:80", allows}, // of "wide", which has no b
			{"in eth0 tcp 11.1.0.2:4000 10.0.0.1:80", ended},
		}},
		{name: "selector and nets must both match", world: defaultTier + eth0 + gns("web", "role: web", "10.0.0.0/24") +
			gnp("p", "ingress: [{action: Allow, source: {selector: role == 'web', nets: [10.0.0.0/28, 10.7.0.0/16], notNets: [10.0.0.3/32]}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.0.0.3:4000 10.0.0.1:80", ended},
			{"in eth0 tcp 10.0.0.99:4000 10.0.0.1:80", ended},
			{"in eth0 tcp 10.7.0.1:4000 10.0.0.1:80", ended},
		}},
		{name: "S100 notNets of one family: what they leave of an Allow is of that family", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, source: {notNets: [10.0.0.0/8]}}]"), flows: [][2]string{
			{"in eth0 tcp 11.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", ended},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:80", ended},
		}},
		{name: "S100 notNets of one family: a Pass and a Log are of that family too", world: defaultTier + eth0 + tierDoc("t", "order: 1") +
			gnp("t", "tier: t, ingress: [{action: Log, source: {notNets: [10.0.0.0/8]}}, {action: Pass, source: {notNets: [10.0.0.0/8]}}]") +
			gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 11.0.0.2:4000 10.0.0.1:80", allows},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:80", "Deny EndOfTier t"},
		}},
		{name: "S100 notNets of one family: a Deny holds for the other family too (X)", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Deny, source: {notNets: [10.0.0.0/8]}}, {action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule default p 2"},
			{"in eth0 tcp 11.0.0.2:4000 10.0.0.1:80", "Deny Rule default p 1"},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:80", "Deny Rule default p 1"},
		}},
		{name: "nets of one family restrict the rule to it, a Deny as well", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Deny, source: {nets: [0.0.0.0/0]}}, {action: Allow, destination: {nets: ['fd00::1/128']}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule default p 1"},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:80", "Allow Rule default p 2"},
			{"in eth0 tcp [fd00::2]:4000 [fd00::3]:80", ended},
		}},
		{name: "S101 ipVersion", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, ipVersion: 6}, {action: Log, ipVersion: 4}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", ended},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:80", allows},
		}},
		{name: "S103 many ports", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,'1000:1010', 65535]}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:1", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:16", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:17", ended},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:999", ended},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:1000", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:1010", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:1011", ended},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:65535", allows},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:16", ended},
		}},
		{name: "S104 ports that are excepted, S106 with notNets", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: TCP, source: {notNets: [10.0.0.0/24, 10.0.0.0/28]}, destination: {notPorts: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,'1000:1010']}}]"), flows: [][2]string{
			{"in eth0 tcp 10.1.0.2:4000 10.0.0.1:16", ended},
			{"in eth0 tcp 10.1.0.2:4000 10.0.0.1:17", allows},
			{"in eth0 tcp 10.1.0.2:4000 10.0.0.1:1005", ended},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:17", ended},
		}},
		{name: "source ports, ports and notPorts together", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: UDP, source: {ports: ['500:510'], notPorts: [505]}}]"), flows: [][2]string{
			{"in eth0 udp 10.1.0.2:500 10.0.0.1:9", allows},
			{"in eth0 udp 10.1.0.2:505 10.0.0.1:9", ended},
			{"in eth0 udp 10.1.0.2:9 10.0.0.1:500", ended},
		}},
		{name: "the protocols that have ports, by name and number, and those that have none", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: 6, destination: {ports: [80]}}, {action: Allow, protocol: SCTP, destination: {ports: [80]}}, {action: Allow, protocol: UDPLite, destination: {ports: [80]}}, {action: Allow, protocol: 47}, {action: Deny, notProtocol: UDP}, {action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.1.0.2:500 10.0.0.1:80", allows},
			{"in eth0 sctp 10.1.0.2:500 10.0.0.1:80", "Allow Rule default p 2"},
			{"in eth0 udplite 10.1.0.2:500 10.0.0.1:80", "Allow Rule default p 3"},
			{"in eth0 47 10.1.0.2 10.0.0.1", "Allow Rule default p 4"},
			{"in eth0 tcp 10.1.0.2:500 10.0.0.1:81", "Deny Rule default p 5"},
			{"in eth0 50 10.1.0.2 10.0.0.1", "Deny Rule default p 5"},
			{"in eth0 udp 10.1.0.2:500 10.0.0.1:81", "Allow Rule default p 6"},
		}},
		{name: "S107 ICMP by type, and by type and code", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8}}, {action: Allow, protocol: ICMP, icmp: {type: 3, code: 1}}]"), flows: [][2]string{
			{"in eth0 icmp/8/0 10.0.0.2 10.0.0.1", allows},
			{"in eth0 icmp/8/7 10.0.0.2 10.0.0.1", allows},
			{"in eth0 icmp/3/1 10.0.0.2 10.0.0.1", "Allow Rule default p 2"},
			{"in eth0 icmp/3/0 10.0.0.2 10.0.0.1", ended},
			{"in eth0 icmp/0/0 10.0.0.2 10.0.0.1", ended},
			{"in eth0 icmpv6/8/0 fd00::2 fd00::1", ended},
		}},
		{name: "S109 notICMP with a code is not (type and code)", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: ICMP, notICMP: {type: 8, code: 0}}]"), flows: [][2]string{
			{"in eth0 icmp/8/1 10.0.0.2 10.0.0.1", allows},
			{"in eth0 icmp/3/0 10.0.0.2 10.0.0.1", allows},
			{"in eth0 icmp/8/0 10.0.0.2 10.0.0.1", ended},
		}},
		{name: "S109 notICMP by type", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: ICMPv6, notICMP: {type: 128}}]"), flows: [][2]string{
			{"in eth0 icmpv6/128/3 fd00::2 fd00::1", ended},
			{"in eth0 icmpv6/129/0 fd00::2 fd00::1", allows},
			{"in eth0 tcp [fd00::2]:1 [fd00::1]:2", ended},
		}},
		{name: "S110 ICMP is IPv4's, ICMPv6 is IPv6's", world: defaultTier + eth0 +
			gnp("p", "ingress: [{action: Allow, protocol: ICMP}, {action: Allow, protocol: ICMPv6}]"), flows: [][2]string{
			{"in eth0 icmp/8/0 10.0.0.2 10.0.0.1", allows},
			{"in eth0 icmpv6/128/0 fd00::2 fd00::1", "Allow Rule default p 2"},
			{"in eth0 1 fd00::2 fd00::1", ended},
			{"in eth0 58 10.0.0.2 10.0.0.1", ended},
		}},
		{name: "a rule without any match matches everything", world: defaultTier + eth0 + gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 253 10.0.0.2 10.0.0.1", allows},
			{"in eth0 icmpv6/1/0 fd00::2 fd00::1", allows},
		}},
		{name: "a policy that only logs decides nothing, so its tier ends", world: defaultTier + eth0 + gnp("p", "ingress: [{action: Log}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:1 10.0.0.1:2", ended},
		}},
	})
}

func TestEvaluate_NamedPorts(t *testing.T) {
	const pods = "---\n{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: kns.prod}, spec: {labelsToApply: {pcns.env: prod}}}\n"
	workloads := pods + wep("prod", "w1", "app: web", "ipNetworks: [10.65.0.1/32], profiles: [kns.prod], ports: [{name: http, protocol: TCP, port: 80}, {name: dns, protocol: UDP, port: 53}, {protocol: TCP, port: 7}]") +
		wep("prod", "w2", "app: api", "ipNetworks: [10.65.0.2], profiles: [kns.prod], ports: [{name: http, protocol: TCP, port: 8080}, {name: http, protocol: TCP, port: 8081}]") +
		wep("prod", "w3", "app: web", "profiles: [kns.prod], ports: [{name: http, protocol: TCP, port: 80}]")
	out := func(rules string) string { return defaultTier + eth0 + workloads + gnp("p", "egress: ["+rules+"]") }
	run(t, []scenario{
		{name: "S121 S122 S133 S134 a named port is each endpoint's own, or several", world: out("{action: Allow, protocol: TCP, destination: {ports: [http]}}"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:80", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:8080", ended},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.2:80", ended},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.2:8080", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.2:8081", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.3:80", ended},
			{"out eth0 udp 10.0.0.1:4000 10.65.0.1:80", ended},
		}},
		{name: "S124 named and numbered ports are ORed, and the selector holds for both", world: out("{action: Allow, protocol: TCP, destination: {selector: app == 'web', ports: [http, 443]}}"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:80", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:443", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.2:8080", ended},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.2:443", ended},
		}},
		{name: "of endpoints that share an address only those selected lend their ports", world: defaultTier + eth0 +
			hep("h-x", "app: web", "interfaceName: eth9, expectedIPs: [10.5.0.1], ports: [{name: ssh, protocol: TCP, port: 22}]") +
			hep("h-y", "app: api", "interfaceName: eth8, expectedIPs: [10.5.0.1], ports: [{name: ssh, protocol: TCP, port: 2222}]") +
			gnp("p", "egress: [{action: Allow, protocol: TCP, destination: {selector: app == 'web', ports: [ssh]}}]"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.5.0.1:22", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.5.0.1:2222", ended},
		}},
		{name: "S125 notPorts by name: all but that", world: out("{action: Allow, protocol: TCP, destination: {notPorts: [http, 22]}}"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:80", ended},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:81", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:22", ended},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.2:80", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.99.0.2:80", allows},
		}},
		{name: "notPorts by name and no protocol: what has no ports matches", world: out("{action: Allow, destination: {notPorts: [http]}}"), flows: [][2]string{
			{"out eth0 icmp/8/0 10.0.0.1 10.65.0.1", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:80", ended},
		}},
		{name: "S127 named ports with notSelector, nets and notNets are ANDed", world: out("{action: Allow, protocol: TCP, destination: {notSelector: app == 'api', nets: [10.65.0.0/24], notNets: [10.65.0.9/32], ports: [http]}}"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:80", allows},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.2:8080", ended},
		}},
		{name: "S128 a rule of another protocol does not match the named port", world: out("{action: Allow, protocol: UDP, destination: {ports: [http]}}"), flows: [][2]string{
			{"out eth0 udp 10.0.0.1:4000 10.65.0.1:80", ended},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:80", ended},
		}},
		{name: "a named port without a protocol is of any protocol", world: out("{action: Allow, destination: {ports: [http, dns]}}"), flows: [][2]string{
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:80", allows},
			{"out eth0 udp 10.0.0.1:4000 10.65.0.1:54", ended},
			{"out eth0 tcp 10.0.0.1:4000 10.65.0.1:53", ended},
			{"out eth0 icmp/8/0 10.0.0.1 10.65.0.1", ended},
		}},
		{name: "S130 a named source port", world: defaultTier + eth0 + workloads + gnp("p", "ingress: [{action: Allow, protocol: TCP, source: {ports: [http]}}]"), flows: [][2]string{
			{"in eth0 tcp 10.65.0.1:80 10.0.0.1:4000", allows},
			{"in eth0 tcp 10.65.0.1:81 10.0.0.1:4000", ended},
			{"in eth0 tcp 10.65.0.2:80 10.0.0.1:4000", ended},
		}},
		{name: "S131 a host endpoint's named port is that of its expectedIPs (X: not of its interface's addresses)", world: defaultTier + eth0 +
			hep("h-x", "", "interfaceName: eth9, expectedIPs: [10.0.0.1, 'fd00::1'], ports: [{name: ssh, protocol: TCP, port: 2222}]") +
			hep("h-y", "", "interfaceName: eth8, ports: [{name: ssh, protocol: TCP, port: 3333}]") +
			gnp("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [ssh]}}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:2222", allows},
			{"in eth0 tcp [fd00::2]:4000 [fd00::1]:2222", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.7:3333", ended},
		}},
	})
}

func TestEvaluate_SelectorsAndSets(t *testing.T) {
	from := func(sets, rule string) string {
		return defaultTier + eth0 + sets + gnp("p", "ingress: [{action: Allow, source: {"+rule+"}}]")
	}
	run(t, []scenario{
		{name: "a selector stands for the nets of sets, the addresses of workloads and the expectedIPs of hosts", world: from(
			gns("s", "role: web", "192.0.2.0/24, 'fd01::/64'")+wep("prod", "w1", "role: web", "ipNetworks: [10.65.0.1/32, 'fd65::1/128']")+
				hep("h-w", "role: web", "interfaceName: eth5, expectedIPs: [10.5.0.1, 'fd05::1']")+
				doc("HostEndpoint", "g-w", "role: web", "node: g, interfaceName: '*', expectedIPs: [10.6.0.1]"), "selector: role == 'web'"), flows: [][2]string{
			{"in eth0 tcp 192.0.2.9:4000 10.0.0.1:80", allows},
			{"in eth0 tcp [fd01::9]:4000 [fd00::1]:80", allows},
			{"in eth0 tcp 10.65.0.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp [fd65::1]:4000 [fd00::1]:80", allows},
			{"in eth0 tcp 10.5.0.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp [fd05::1]:4000 [fd00::1]:80", allows},
			{"in eth0 tcp 10.6.0.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.65.0.2:4000 10.0.0.1:80", ended},
			{"in eth0 tcp [fd02::9]:4000 [fd00::1]:80", ended},
		}},
		{name: "S136 a set with a net of all addresses", world: from(gns("s", "role: web", "0.0.0.0/0"), "selector: role == 'web'"), flows: [][2]string{
			{"in eth0 tcp 1.2.3.4:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 0.0.0.0:4000 10.0.0.1:80", allows},
			{"in eth0 tcp [fd02::9]:4000 [fd00::1]:80", ended},
		}},
		{name: "S137 S139 overlapping sets and endpoints", world: from(gns("a", "role: web", "10.1.0.0/16")+gns("b", "role: db", "10.0.0.0/8, 10.1.1.1")+
			wep("prod", "w1", "role: x", "ipNetworks: [10.1.1.1/32]"), "selector: role == 'web'"), flows: [][2]string{
			{"in eth0 tcp 10.1.1.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.2.1.1:4000 10.0.0.1:80", ended},
		}},
		{name: "S140 host bits in a set's net are masked", world: from(gns("a", "role: web", "10.1.2.3/16"), "selector: role == 'web'"), flows: [][2]string{
			{"in eth0 tcp 10.1.9.9:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.2.2.3:4000 10.0.0.1:80", ended},
		}},
		{name: "a set inherits the labels of its namespace", world: from(profileDoc("kns.prod", "labelsToApply: {pcns.env: prod, team: a}")+
			ns("prod/s", "role: web", "10.1.0.0/16")+ns("dev/s", "role: web", "10.2.0.0/16")+gns("g", "role: web", "10.3.0.0/16"),
			"selector: role == 'web', namespaceSelector: env == 'prod'"), flows: [][2]string{
			{"in eth0 tcp 10.1.0.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.2.0.1:4000 10.0.0.1:80", ended},
			{"in eth0 tcp 10.3.0.1:4000 10.0.0.1:80", ended},
		}},
		{name: "namespaceSelector all() is what is in a namespace", world: from(
			ns("prod/s", "role: web", "10.1.0.0/16")+gns("g", "role: web", "10.3.0.0/16"), "namespaceSelector: all()"), flows: [][2]string{
			{"in eth0 tcp 10.1.0.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.3.0.1:4000 10.0.0.1:80", ended},
		}},
		{name: "namespaceSelector global() is what is in none", world: from(
			ns("prod/s", "role: web", "10.1.0.0/16")+gns("g", "role: web", "10.3.0.0/16")+gns("x", "role: db", "10.4.0.0/16"),
			"selector: role == 'web', namespaceSelector: global()"), flows: [][2]string{
			{"in eth0 tcp 10.1.0.1:4000 10.0.0.1:80", ended},
			{"in eth0 tcp 10.3.0.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.4.0.1:4000 10.0.0.1:80", ended},
			{"in eth0 tcp 10.9.0.1:4000 10.0.0.1:80", ended},
		}},
		{name: "service accounts by name and by label", world: defaultTier + eth0 + profileDoc("ksa.prod.web", "labelsToApply: {pcsa.tier: front}") +
			wep("prod", "w1", "", "ipNetworks: [10.65.0.1], serviceAccountName: web, profiles: [ksa.prod.web]") +
			wep("prod", "w2", "", "ipNetworks: [10.65.0.2], serviceAccountName: api") +
			wep("prod", "w3", "", "ipNetworks: [10.65.0.3]") +
			gnp("p", "ingress: [{action: Allow, source: {serviceAccounts: {names: [web, x]}}}, {action: Deny, protocol: UDP, source: {serviceAccounts: {selector: tier == 'front'}}}, {action: Pass, source: {serviceAccounts: {selector: all()}}}]") +
			gnp("q", "order: 0, ingress: [{action: Deny, protocol: 253, source: {serviceAccounts: {names: [api], selector: tier == 'front'}}}]"), flows: [][2]string{
			{"in eth0 tcp 10.65.0.1:4000 10.0.0.1:80", allows},
			{"in eth0 tcp 10.65.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
			{"in eth0 tcp 10.65.0.3:4000 10.0.0.1:80", ended},
			{"in eth0 253 10.65.0.1 10.0.0.1", allows},
		}},
		{name: "nobody says with a label who he is", world: from(
			gns("g", "projectcalico.org/namespace: prod, pcns.env: prod, role: web", "10.3.0.0/16")+
				wep("dev", "w1", "pcns.env: prod, pcsa.x: 'y', projectcalico.org/serviceaccount: root", "ipNetworks: [10.65.0.1]"),
			"namespaceSelector: env == 'prod' || has(projectcalico.org/name)"), flows: [][2]string{
			{"in eth0 tcp 10.3.0.1:4000 10.0.0.1:80", ended},
			{"in eth0 tcp 10.65.0.1:4000 10.0.0.1:80", ended},
		}},
		{name: "a policy of a namespace does not select host endpoints, nor does a namespaceSelector", world: defaultTier +
			hep("h-eth0", "role: db, projectcalico.org/namespace: prod", "interfaceName: eth0, profiles: [kns.prod]") +
			profileDoc("kns.prod", "labelsToApply: {pcns.env: prod}, ingress: [{action: Allow}]") +
			np("prod/n", "ingress: [{action: Deny}]") + gnp("g", "namespaceSelector: env == 'prod', ingress: [{action: Deny}]") +
			gnp("a", "namespaceSelector: all(), ingress: [{action: Deny}]") + gnp("not", "namespaceSelector: env != 'dev', ingress: [{action: Deny}]") +
			gnp("sa", "serviceAccountSelector: all(), ingress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.65.0.1:4000 10.0.0.1:80", "Allow Profile kns.prod 1"},
		}},
	})
}

// The rules of a namespaced policy cannot be seen at a host endpoint, so they
// are asked directly.
func TestRule_OfNamespacedPolicy(t *testing.T) {
	docs := profileDoc("kns.prod", "labelsToApply: {pcns.env: prod}") +
		wep("prod", "w1", "app: web", "ipNetworks: [10.1.0.1], profiles: [kns.prod]") +
		wep("dev", "w1", "app: web", "ipNetworks: [10.2.0.1]") +
		ns("prod/s", "app: web", "10.1.5.0/24") + ns("dev/s", "app: web", "10.2.5.0/24") + gns("g", "app: web", "10.3.0.0/16")
	for _, c := range []struct {
		name, rule string
		match      []string
		not        []string
	}{
		{"S146 a selector stays in the namespace", "{action: Allow, source: {selector: app == 'web'}}",
			[]string{"10.1.0.1", "10.1.5.9"}, []string{"10.2.0.1", "10.2.5.9", "10.3.0.1", "10.9.9.9"}},
		{"S098 notSelector alone stays in the namespace", "{action: Allow, source: {notSelector: app == 'db'}}",
			[]string{"10.1.0.1", "10.1.5.9"}, []string{"10.2.0.1", "10.3.0.1", "10.9.9.9"}},
		{"S146 a namespaceSelector leads elsewhere", "{action: Allow, source: {selector: app == 'web', namespaceSelector: projectcalico.org/name != 'x'}}",
			[]string{"10.1.0.1", "10.2.0.1", "10.2.5.9"}, nil},
		{"S146 to global sets", "{action: Allow, source: {selector: app == 'web', namespaceSelector: global()}}",
			[]string{"10.3.0.1"}, []string{"10.1.0.1", "10.2.0.1"}},
		{"nets alone are not restricted to the namespace", "{action: Allow, source: {nets: [10.0.0.0/8]}}",
			[]string{"10.1.0.1", "10.2.0.1", "10.9.9.9"}, []string{"11.0.0.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			objs := objects(t, docs+np("prod/p", "ingress: ["+c.rule+"]"))
			w := NewWorld(objs, Options{})
			r := w.tiers[0].policies[0].rules["Ingress"][0]
			for _, a := range append(c.match, c.not...) {
				got, why := r.match(w, flow(t, "in eth0 tcp "+a+":4000 10.0.0.1:80", nil))
				want := false
				for _, m := range c.match {
					want = want || m == a
				}
				if got != want {
					t.Errorf("match from %s = %v (%s), want %v", a, got, why, want)
				}
			}
		})
	}
}

func TestEvaluate_Tiers(t *testing.T) {
	two := defaultTier + eth0 + tierDoc("first", "order: 1") + tierDoc("second", "order: 2, defaultAction: Pass")
	run(t, []scenario{
		{name: "S148 a pass in one tier, a deny in the next", world: two +
			gnp("a", "tier: first, ingress: [{action: Pass}]") + gnp("b", "tier: second, ingress: [{action: Deny}]") +
			gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule second b 1"},
		}},
		{name: "S149 no rule matches in a tier that denies at its end", world: two +
			gnp("a", "tier: first, ingress: [{action: Allow, protocol: UDP}]") + gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny EndOfTier first"},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule first a 1"},
		}},
		{name: "a tier whose default action is Pass leads on", world: two +
			gnp("b", "tier: second, ingress: [{action: Allow, protocol: UDP}]") + gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
		}},
		{name: "S151 a tier with policies of the other direction only is skipped", world: two +
			gnp("a", "tier: first, egress: [{action: Deny}]") + gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
		}},
		{name: "a tier with policies for other endpoints only is skipped", world: two +
			gnp("a", "tier: first, selector: has(nothing), ingress: [{action: Deny}]") + gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
		}},
		{name: "S152 after a pass in the last tier profiles decide", world: defaultTier + allowAll +
			hep("h-eth0", "", "interfaceName: eth0, profiles: [open]") + gnp("p", "ingress: [{action: Pass, protocol: TCP}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Profile open 1"},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", ended},
		}},
		{name: "S152 and without profiles it is denied", world: defaultTier + eth0 + gnp("p", "ingress: [{action: Pass}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny NothingAllows"},
		}},
		{name: "S154 a tier with staged policies only passes", world: two +
			sgnp("a", "tier: first, ingress: [{action: Deny}]") + gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", allows},
		}},
		{name: "S155 S160 beside an enforced policy a staged one does nothing", world: two +
			sgnp("a", "tier: first, order: 1, ingress: [{action: Allow}]") + gnp("b", "tier: first, order: 2, ingress: [{action: Log}]") +
			gnp("p", "ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Deny EndOfTier first"},
		}},
		{name: "S157 policies of a missing tier come last, and their end denies", world: defaultTier + eth0 +
			gnp("a", "tier: absent, order: -7, ingress: [{action: Allow, protocol: TCP}]") + gnp("p", "ingress: [{action: Deny, protocol: UDP}, {action: Pass}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "Allow Rule absent a 1"},
			{"in eth0 udp 10.0.0.2:4000 10.0.0.1:80", "Deny Rule default p 1"},
			{"in eth0 sctp 10.0.0.2:4000 10.0.0.1:80", "Deny EndOfTier absent"},
		}},
		{name: "S158 the tiers of an administrator and of a base line", world: defaultTier + eth0 +
			tierDoc("kube-admin", "order: 1000, defaultAction: Pass") + tierDoc("kube-baseline", "order: 10000000, defaultAction: Pass") +
			gnp("admin", "tier: kube-admin, ingress: [{action: Deny, protocol: TCP, destination: {ports: [1]}}, {action: Allow, protocol: TCP, destination: {ports: [2]}}, {action: Pass, protocol: TCP, destination: {ports: [3]}}]") +
			gnp("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [1, 3]}}, {action: Pass, protocol: TCP, destination: {ports: [4]}}]") +
			gnp("base", "tier: kube-baseline, ingress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:1", "Deny Rule kube-admin admin 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:2", "Allow Rule kube-admin admin 2"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:3", allows},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:4", "Deny Rule kube-baseline base 1"},
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:5", ended},
		}},
		{name: "tiers of equal order go by name", world: defaultTier + eth0 + tierDoc("b", "order: 5") + tierDoc("a", "order: 5") +
			gnp("in-b", "tier: b, ingress: [{action: Deny}]") + gnp("in-a", "tier: a, ingress: [{action: Allow}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:1", "Allow Rule a in-a 1"},
		}},
		{name: "a failsafe port is open whatever a tier says", world: two + gnp("a", "tier: first, ingress: [{action: Deny}], egress: [{action: Deny}]"), flows: [][2]string{
			{"in eth0 tcp 10.0.0.2:4000 10.0.0.1:22", "Allow Failsafe"},
			{"out eth0 udp 10.0.0.1:4000 10.0.0.2:53", "Allow Failsafe"},
		}},
	})
}
