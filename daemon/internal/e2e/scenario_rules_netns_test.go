// SPDX-License-Identifier: Apache-2.0

package e2e

import "strings"

// from is the endpoint under test with a policy of these ingress rules.
func from(rules string) string {
	return tierDefault + hEth0 + gnp("p", "types: [Ingress], ingress: ["+rules+"]")
}

// to is the endpoint under test with a policy of these egress rules.
func to(rules string) string {
	return tierDefault + hEth0 + gnp("p", "types: [Egress], egress: ["+rules+"]")
}

// ports is "1, 3, 5 …", n of them.
func ports(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(itoa(first + 2*i))
	}
	return b.String()
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// policyScenarios are about types, order, profiles and labels (group F).
var policyScenarios = []scenario{
	{name: "S085 ingress rules only: egress is the profile's", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("p", "ingress: [{action: Allow, protocol: TCP}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked
		out eth0 udp 10.0.0.1 10.0.0.2 80 ok`}}},
	{name: "S086 egress rules only: ingress is the profile's", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("p", "egress: [{action: Allow, protocol: TCP}]"), `
		in eth0 udp 10.0.0.2 10.0.0.1 80 ok
		out eth0 udp 10.0.0.1 10.0.0.2 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok`}}},
	{name: "S088 neither rules nor types: ingress is denied", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("p", "selector: all()"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok`}}},
	{name: "S088 both types without rules: both are denied", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("p", "types: [Ingress, Egress]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked`}}},
	{name: "S089 without its policy the endpoint is back at the profile", steps: []step{
		{tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("p", "ingress: [{action: Deny}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`},
		{tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S090 the lower order is asked first", steps: []step{
		{tierDefault + hEth0 + gnp("a", "order: 20, ingress: [{action: Deny}]") + gnp("b", "order: 10, ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{tierDefault + hEth0 + gnp("a", "order: 5, ingress: [{action: Deny}]") + gnp("b", "order: 10, ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S091 a policy without order comes after all with one", steps: []step{{
		tierDefault + hEth0 + gnp("a", "ingress: [{action: Deny}]") + gnp("b", "order: 1000000000, ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S091 of equal order the name decides", steps: []step{{
		tierDefault + hEth0 + gnp("a", "order: 5, ingress: [{action: Deny}]") + gnp("b", "order: 5, ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S092 a profile that is missing denies until it is there", steps: []step{
		{tierDefault + hep("h", "eth0", ", profiles: [pr]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`},
		{tierDefault + hep("h", "eth0", ", profiles: [pr, projectcalico-default-allow]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`},
		{tierDefault + hep("h", "eth0", ", profiles: [pr]") + doc("Profile", "pr", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S093 profiles are asked in the order that the endpoint lists", steps: []step{
		{tierDefault + hep("h", "eth0", ", profiles: [one, two]") + doc("Profile", "one", "ingress: [{action: Allow, protocol: TCP}]") + doc("Profile", "two", "ingress: [{action: Deny}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked`},
	}},
	{name: "S093 a profile's Pass leads to the next profile", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [one, two]") + doc("Profile", "one", "ingress: [{action: Pass, protocol: TCP}, {action: Deny}]") + doc("Profile", "two", "ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S094 labels of a profile select, the endpoint's own go first", steps: []step{
		{tierDefault + hep("h", "eth0", ", profiles: [pr]") + doc("Profile", "pr", "labelsToApply: {zone: in}") + gnp("p", "selector: zone == 'in', ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{tierDefault + labelled("HostEndpoint", "h", "zone: out", "node: "+here+", interfaceName: eth0, profiles: [pr]") + doc("Profile", "pr", "labelsToApply: {zone: in}") + gnp("p", "selector: zone == 'in', ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S095 a peer's label decides whether it is in the set", steps: []step{
		{from("{action: Allow, source: {selector: zone == 'in'}}") + remote("r", "zone: in", "10.0.0.2", "") + remote("s", "zone: in", "10.0.0.3", ""), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.3 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'in'}}") + remote("r", "zone: out", "10.0.0.2", "") + remote("s", "zone: in", "10.0.0.3", ""), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.3 10.0.0.1 80 ok`}}},
	{name: "S096 a policy of a namespace does not govern a host endpoint", steps: []step{{
		tierDefault + hEth0 + inNamespace("NetworkPolicy", "prod", "p", "a: b", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S096 nor does a global one with a namespaceSelector", steps: []step{{
		tierDefault + hEth0 + gnp("p", "namespaceSelector: all(), "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
}

// ruleScenarios are about what a rule matches (group F).
var ruleScenarios = []scenario{
	{name: "S097 notSelector alone matches addresses that nobody has", steps: []step{{
		from("{action: Allow, source: {notSelector: zone == 'in'}}") + remote("r", "zone: in", "10.0.0.2", ""), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 203.0.113.7 10.0.0.1 80 ok`}}},
	{name: "S097 selector and notSelector are of one and the same peer", steps: []step{{
		from("{action: Allow, source: {selector: has(zone), notSelector: zone == 'in'}}") + remote("r", "zone: in", "10.0.0.2", "") + remote("s", "zone: out", "10.0.0.3", ""), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.3 10.0.0.1 80 ok
		in eth0 tcp 203.0.113.7 10.0.0.1 80 blocked`}}},
	{name: "S099 an address must be in the selection and in the nets", steps: []step{{
		from("{action: Allow, source: {selector: zone == 'in', nets: [10.0.0.0/25]}}") + gns("g", "zone: in", "10.0.0.2/32, 10.0.0.200/32"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.200 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.3 10.0.0.1 80 blocked`}}},
	{name: "S100 an Allow with notNets of IPv4 is none of IPv6", only: 4, steps: []step{{
		from("{action: Allow, source: {notNets: [10.0.0.0/25]}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.200 10.0.0.1 80 ok
		in eth0 tcp fd00::2 fd00::1 80 blocked`}}},
	{name: "B6 a Deny with notNets of IPv4 denies IPv6", only: 4, steps: []step{{
		from("{action: Deny, source: {notNets: [10.0.0.0/25]}}, {action: Allow}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.200 10.0.0.1 80 blocked
		in eth0 tcp fd00::2 fd00::1 80 blocked`}}},
	{name: "S101 a rule for one IP version is none for the other", only: 4, steps: []step{{
		from("{action: Allow, ipVersion: 6}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp fd00::2 fd00::1 80 ok`}}},
	{name: "S102 nets of IPv6 say nothing of IPv4", only: 4, steps: []step{{
		from("{action: Deny, source: {nets: ['fd00::/64']}}, {action: Allow}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp fd00::2 fd00::1 80 blocked`}}},
	{name: "S103 twenty ports and two ranges", steps: []step{{
		from("{action: Allow, protocol: TCP, destination: {ports: [" + ports(1001, 20) + ", '2000:2009', '2011:2020']}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 1001 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 1039 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 1000 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 1002 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 1040 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 1999 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 2000 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 2009 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 2010 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 2011 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 2021 blocked
		in eth0 udp 10.0.0.2 10.0.0.1 1001 blocked`}}},
	{name: "S104 twenty ports excepted", steps: []step{{
		from("{action: Allow, protocol: TCP, destination: {notPorts: [" + ports(1001, 20) + ", '2000:2009']}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 1001 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 1039 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 1002 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 2005 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 65535 ok
		in eth0 udp 10.0.0.2 10.0.0.1 1002 blocked`}}},
	{name: "S105 ports and notPorts of source and destination together", steps: []step{{
		from("{action: Allow, protocol: UDP, source: {ports: ['1000:1999'], notPorts: [1500]}, destination: {ports: ['80:90'], notPorts: [85, 86]}}"), `
		in eth0 udp 10.0.0.2@1000 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2@1999 10.0.0.1 90 ok
		in eth0 udp 10.0.0.2@1500 10.0.0.1 81 blocked
		in eth0 udp 10.0.0.2@2000 10.0.0.1 81 blocked
		in eth0 udp 10.0.0.2@1001 10.0.0.1 85 blocked
		in eth0 udp 10.0.0.2@1002 10.0.0.1 91 blocked`}}},
	{name: "S106 nets and notNets that overlap, of both sides", steps: []step{{
		from("{action: Allow, source: {nets: [10.0.0.0/24, 203.0.113.0/24], notNets: [10.0.0.128/25]}, destination: {nets: [10.0.0.0/8], notNets: [10.1.0.0/24]}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 203.0.113.7 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.129 10.0.0.1 80 blocked
		in eth0 tcp 10.1.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.3 10.1.0.1 80 blocked`}}},
	{name: "S107 one ICMP type", steps: []step{{
		from("{action: Allow, protocol: ICMP, icmp: {type: 8}}"), `
		in eth0 icmp/8/0 10.0.0.2 10.0.0.1 ok
		in eth0 icmp/3/0 10.0.0.2 10.0.0.1 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S107 an ICMP type and code", steps: []step{{
		tierDefault + hEth0 + felix("disableConntrackInvalidCheck: true") + gnp("p", "ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8, code: 1}}]"), `
		in eth0 icmp/8/1 10.0.0.2 10.0.0.1 ok
		in eth0 icmp/8/0 10.0.0.2 10.0.0.1 blocked
		in eth0 icmp/3/1 10.0.0.2 10.0.0.1 blocked`}}},
	{name: "S109 a type and code excepted except one packet only", steps: []step{{
		tierDefault + hEth0 + felix("disableConntrackInvalidCheck: true") + gnp("p", "ingress: [{action: Allow, protocol: ICMP, notICMP: {type: 8, code: 0}}]"), `
		in eth0 icmp/8/0 10.0.0.2 10.0.0.1 blocked
		in eth0 icmp/8/1 10.0.0.2 10.0.0.1 ok
		in eth0 icmp/3/0 10.0.0.2 10.0.0.1 ok`}}},
	{name: "S110 ICMP is of IPv4, ICMPv6 of IPv6", only: 4, steps: []step{{
		from("{action: Allow, protocol: ICMPv6}"), `
		in eth0 icmp/8/0 10.0.0.2 10.0.0.1 blocked
		in eth0 icmpv6/128/0 fd00::2 fd00::1 ok`},
		{from("{action: Allow, protocol: ICMP}"), `
		in eth0 icmp/8/0 10.0.0.2 10.0.0.1 ok
		in eth0 icmpv6/128/0 fd00::2 fd00::1 blocked`}}},
	{name: "S111 protocols by number and excepted", steps: []step{
		{from("{action: Allow, protocol: 132}"), `
		in eth0 sctp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`},
		{from("{action: Allow, notProtocol: TCP}"), `
		in eth0 sctp 10.0.0.2 10.0.0.1 80 ok
		in eth0 47 10.0.0.2 10.0.0.1 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`},
		{from("{action: Allow, protocol: SCTP, destination: {ports: [80]}}"), `
		in eth0 sctp 10.0.0.2 10.0.0.1 80 ok
		in eth0 sctp 10.0.0.2 10.0.0.1 81 blocked`}}},
	{name: "S114 the first rule that matches decides", steps: []step{{
		from("{action: Deny, source: {nets: [10.0.0.2/32]}}, {action: Allow, source: {nets: [10.0.0.0/24]}}, {action: Deny}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.3 10.0.0.1 80 ok
		in eth0 tcp 203.0.113.7 10.0.0.1 80 blocked`}}},
	{name: "S114 a Log rule decides nothing", steps: []step{{
		from("{action: Log}, {action: Allow, protocol: TCP}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S241 annotations of a rule, whatever is in them, do nothing to packets", steps: []step{{
		from(`{action: Deny, protocol: UDP, metadata: {annotations: {why: "two\nlines"}}}, ` +
			`{action: Allow, destination: {ports: [80]}, protocol: TCP, metadata: {annotations: {why: "\u00e9 \u4e16 \" ' \\ # -j ACCEPT ; accept", "a/b": ""}}}`), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 81 blocked
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S115 a policy that only logs makes the tier deny", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("p", "ingress: [{action: Log}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "B7 an Allow with an HTTP match allows nothing", steps: []step{{
		from("{action: Allow, protocol: TCP, http: {methods: [GET]}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "B8 a Deny of a service denies as if it named none", steps: []step{{
		to("{action: Deny, protocol: TCP, destination: {services: {name: s, namespace: n}}}, {action: Allow}"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked
		out eth0 udp 10.0.0.1 10.0.0.2 80 ok`}}},
	{name: "S116 an Allow of a service allows nothing", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {services: {name: s, namespace: n}}}"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked`}}},
}

// portScenarios are about named ports (group G).
var portScenarios = []scenario{
	{name: "S121 a port by the name that a peer gives it", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {ports: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 8080 blocked
		out eth0 tcp 10.0.0.1 10.0.0.3 80 blocked`}}},
	{name: "S122 each peer by its own number", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {ports: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]") + remote("s", "a: b", "10.0.0.3", ", ports: [{name: http, protocol: TCP, port: 8080}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.3 8080 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 8080 blocked
		out eth0 tcp 10.0.0.1 10.0.0.3 80 blocked`}}},
	{name: "S124 a name beside seventeen numbers", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {ports: [http, "+ports(1001, 17)+"]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.3 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.3 1001 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 1033 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 1002 blocked`}}},
	{name: "S125 all but a named port", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {notPorts: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 81 ok
		out eth0 tcp 10.0.0.1 10.0.0.3 80 ok`}}},
	{name: "S126 the selector says whose port is meant", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {selector: a == 'b', ports: [http, 90]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]") + remote("s", "a: c", "10.0.0.3", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 90 ok
		out eth0 tcp 10.0.0.1 10.0.0.3 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.3 90 blocked`}}},
	{name: "S126 also if all ports have names", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {selector: a == 'b', ports: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]") + remote("s", "a: c", "10.0.0.3", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 90 blocked
		out eth0 tcp 10.0.0.1 10.0.0.3 80 blocked`}}},
	{name: "S127 named ports, notSelector, nets and notNets all hold", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {notSelector: a == 'c', nets: [10.0.0.0/24], notNets: [10.0.0.128/25], ports: [http]}}") +
			remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]") + remote("s", "a: c", "10.0.0.3", ", ports: [{name: http, protocol: TCP, port: 80}]") + remote("u", "a: b", "10.0.0.200", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.3 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.200 80 blocked`}}},
	{name: "S128 a name of another protocol", steps: []step{{
		to("{action: Allow, protocol: UDP, destination: {ports: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 udp 10.0.0.1 10.0.0.2 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked`}}},
	{name: "S129 a name without protocol is of any", steps: []step{{
		to("{action: Allow, destination: {ports: [dns]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: dns, protocol: UDP, port: 5353}, {name: dns, protocol: TCP, port: 5354}]"), `
		out eth0 udp 10.0.0.1 10.0.0.2 5353 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 5354 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 5353 blocked
		out eth0 icmp/8/0 10.0.0.1 10.0.0.2 blocked`}}},
	{name: "S130 a source port by name", steps: []step{{
		from("{action: Allow, protocol: UDP, source: {ports: [ntp]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: ntp, protocol: UDP, port: 123}]"), `
		in eth0 udp 10.0.0.2@123 10.0.0.1 9000 ok
		in eth0 udp 10.0.0.2@124 10.0.0.1 9000 blocked
		in eth0 udp 10.0.0.3@123 10.0.0.1 9000 blocked`}}},
	{name: "S131 a named port needs an address to be at", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {ports: [http]}}") + labelled("HostEndpoint", "r", "a: b", "node: other, interfaceName: eth0, ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked`}}},
	{name: "S133 one name for two ports", steps: []step{{
		to("{action: Allow, protocol: TCP, destination: {ports: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}, {name: http, protocol: TCP, port: 81}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 81 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 82 blocked`}}},
	{name: "S134 a port's number changes with its endpoint", steps: []step{
		{to("{action: Allow, protocol: TCP, destination: {ports: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 80}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok`},
		{to("{action: Allow, protocol: TCP, destination: {ports: [http]}}") + remote("r", "a: b", "10.0.0.2", ", ports: [{name: http, protocol: TCP, port: 8080}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 8080 ok`}}},
}

// setScenarios are about network sets and their members (group H).
var setScenarios = []scenario{
	{name: "S136 a set of everything", steps: []step{{
		from("{action: Allow, source: {selector: zone == 'all'}}") + gns("g", "zone: all", "0.0.0.0/0"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 203.0.113.7 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {notSelector: zone == 'all'}}") + gns("g", "zone: all", "0.0.0.0/0"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S137 of sets that overlap one goes, the other stays", steps: []step{
		{from("{action: Allow, source: {selector: zone == 'in'}}") + gns("a", "zone: in", "10.0.0.0/8") + gns("b", "zone: in", "10.0.0.0/25"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.200 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'in'}}") + gns("b", "zone: in", "10.0.0.0/25"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.200 10.0.0.1 80 blocked`},
		{from("{action: Allow, source: {selector: zone == 'in'}}") + gns("a", "zone: in", "10.0.0.0/8"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.200 10.0.0.1 80 ok`}}},
	{name: "S138 nets that touch", steps: []step{{
		from("{action: Allow, source: {selector: zone == 'in'}}") + gns("a", "zone: in", "10.0.0.0/25, 10.0.0.128/25"), `
		in eth0 tcp 10.0.0.127 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.128 10.0.0.1 80 ok
		in eth0 tcp 203.0.113.7 10.0.0.1 80 blocked`}}},
	{name: "S139 an address of a set and of an endpoint stays until both go", steps: []step{
		{from("{action: Allow, source: {selector: zone == 'in'}}") + gns("a", "zone: in", "10.0.0.2/32") + remote("r", "zone: in", "10.0.0.2", ""), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'in'}}") + remote("r", "zone: in", "10.0.0.2", ""), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'in'}}") + gns("a", "zone: in", "10.0.0.2/32"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'in'}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S141 a selector that selects nothing matches nothing, excepted all", steps: []step{
		{from("{action: Allow, source: {selector: zone == 'none'}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`},
		{from("{action: Allow, source: {notSelector: zone == 'none'}}"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'none'}}") + labelled("GlobalNetworkSet", "a", "zone: none", ""), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S142 a set by another selector in the same breath", steps: []step{
		{from("{action: Allow, source: {selector: zone == 'in'}}") + gns("a", "zone: in", "10.0.0.2/32"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'out'}}") + gns("a", "zone: out", "10.0.0.3/32"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.3 10.0.0.1 80 ok`}}},
	{name: "S144 an endpoint of this host is a peer like others", steps: []step{{
		tierDefault + hep("h", "eth0", ", expectedIPs: ['10.0.0.1']") + gnp("p", "ingress: [{action: Allow, destination: {selector: role == 'h'}}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.1.0.1 80 blocked`}}},
	{name: "S146 sets of a namespace by namespaceSelector, global ones by global()", steps: []step{
		{from("{action: Allow, source: {namespaceSelector: team == 'x', selector: zone == 'in'}}") + inNamespace("NetworkSet", "prod", "n", "zone: in", "nets: [10.0.0.2/32]") +
			doc("Profile", "kns.prod", "labelsToApply: {pcns.team: x}") + gns("g", "zone: in", "10.0.0.3/32"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.3 10.0.0.1 80 blocked`},
		{from("{action: Allow, source: {namespaceSelector: global(), selector: zone == 'in'}}") + inNamespace("NetworkSet", "prod", "n", "zone: in", "nets: [10.0.0.2/32]") + gns("g", "zone: in", "10.0.0.3/32"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.3 10.0.0.1 80 ok`},
		{from("{action: Allow, source: {selector: zone == 'in'}}") + inNamespace("NetworkSet", "prod", "n", "zone: in", "nets: [10.0.0.2/32]") + gns("g", "zone: in", "10.0.0.3/32"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.3 10.0.0.1 80 ok`}}},
}

// tierScenarios are about tiers, Pass and staged policies (group I).
var tierScenarios = []scenario{
	{name: "S148 one tier passes, the next denies", steps: []step{{
		tierDefault + tier("a", "1", "Deny") + tier("b", "2", "Deny") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Pass}]") + gnp("b.p", "tier: b, ingress: [{action: Deny}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S149 the end of a tier denies though the next would allow", steps: []step{
		{tierDefault + tier("a", "1", "Deny") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Allow, protocol: UDP}]") + gnp("p", allowAll), `
		in eth0 udp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`},
		{tierDefault + tier("a", "1", "Pass") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Allow, protocol: UDP}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S150 Pass leaves out the rest of its tier only", steps: []step{{
		tierDefault + tier("a", "1", "Deny") + hEth0 + gnp("a.p", "tier: a, order: 1, ingress: [{action: Pass, protocol: TCP}]") + gnp("a.q", "tier: a, order: 2, ingress: [{action: Deny, protocol: TCP}, {action: Allow}]") +
			gnp("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 81 blocked
		in eth0 udp 10.0.0.2 10.0.0.1 81 ok`}}},
	{name: "S150 any policy of a tier may pass, not the first alone", steps: []step{{
		tierDefault + tier("a", "1", "Deny") + hEth0 + gnp("a.p", "tier: a, order: 1, ingress: [{action: Pass, protocol: TCP}]") + gnp("a.q", "tier: a, order: 2, ingress: [{action: Pass, protocol: UDP}]") +
			gnp("a.r", "tier: a, order: 3, ingress: [{action: Deny}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 ok
		in eth0 sctp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S151 a tier with policies of the other direction only is skipped", steps: []step{{
		tierDefault + tier("a", "1", "Deny") + hEth0 + gnp("a.p", "tier: a, types: [Egress], egress: [{action: Deny}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked`}}},
	{name: "S152 Pass in the last tier leads to the profiles", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [pr]") + doc("Profile", "pr", "ingress: [{action: Allow, protocol: TCP}]") + gnp("p", "ingress: [{action: Pass}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S153 the order of tiers, equal ones by name", steps: []step{
		{tierDefault + tier("a", "20", "Deny") + tier("b", "10", "Deny") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Deny}]") + gnp("b.p", "tier: b, ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{tierDefault + tier("a", "10", "Deny") + tier("b", "10", "Deny") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Deny}]") + gnp("b.p", "tier: b, ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S154 a staged policy alone has no effect", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + doc("StagedGlobalNetworkPolicy", "p", "ingress: [{action: Deny}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S155 beside a staged policy the enforced one holds, and the end of the tier", steps: []step{{
		tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + doc("StagedGlobalNetworkPolicy", "a", "order: 1, ingress: [{action: Allow}]") + gnp("p", "order: 2, ingress: [{action: Allow, protocol: UDP}]"), `
		in eth0 udp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S156 a policy that is staged and one that is enforced may share a name", steps: []step{{
		tierDefault + hEth0 + doc("StagedGlobalNetworkPolicy", "p", "ingress: [{action: Deny}]") + gnp("p", "ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{tierDefault + hEth0 + doc("StagedGlobalNetworkPolicy", "p", "stagedAction: Delete") + gnp("p", "ingress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S157 a policy of a tier that does not exist comes last and denies the rest", steps: []step{
		{tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("a.p", "tier: a, ingress: [{action: Allow, protocol: TCP}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked`},
		{tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]") + gnp("a.p", "tier: a, ingress: [{action: Allow}]") + gnp("p", "ingress: [{action: Deny, protocol: TCP}, {action: Pass}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 udp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S158 admin before default before baseline", steps: []step{
		{tierDefault + tier("kube-admin", "1000", "Pass") + tier("kube-baseline", "10000000", "Pass") + hEth0 + gnp("kube-admin.p", "tier: kube-admin, ingress: [{action: Deny, protocol: TCP, destination: {ports: [81]}}, {action: Allow, protocol: TCP, destination: {ports: [82]}}, {action: Pass}]") +
			gnp("p", "ingress: [{action: Deny, protocol: TCP, destination: {ports: [82]}}, {action: Allow, protocol: TCP}, {action: Pass, protocol: UDP}]") +
			gnp("kube-baseline.p", "tier: kube-baseline, ingress: [{action: Allow, protocol: UDP, destination: {ports: [80]}}, {action: Deny}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 81 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 82 ok
		in eth0 udp 10.0.0.2 10.0.0.1 80 ok
		in eth0 udp 10.0.0.2 10.0.0.1 81 blocked`}}},
	{name: "S159 a tier's default changes at once", steps: []step{
		{tierDefault + tier("a", "1", "Pass") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Deny, protocol: UDP}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`},
		{tierDefault + tier("a", "1", "Deny") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Deny, protocol: UDP}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S160 staged policies among enforced ones are not asked", steps: []step{{
		tierDefault + hEth0 + gnp("a", "order: 1, ingress: [{action: Deny, protocol: UDP}]") + doc("StagedGlobalNetworkPolicy", "b", "order: 2, ingress: [{action: Deny}]") + gnp("c", "order: 3, ingress: [{action: Allow}]"), `
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "B9 a tier called as one of our own words", steps: []step{{
		tierDefault + tier("nat", "1", "Deny") + felix("nftablesFilterDenyAction: Reject") + hEth0 + gnp("nat.p", "tier: nat, egress: [{action: Pass, protocol: TCP}]") + gnp("p", "egress: [{action: Allow}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 80 ok
		out eth0 udp 10.0.0.1 10.0.0.2 80 blocked`}}},
}
