// SPDX-License-Identifier: Apache-2.0

package e2e

// Two workloads of the host that may send and get everything, as far as their
// profile goes, and one without profile.
var (
	w1   = wep("w1", "cali1", "10.2.0.2", openProfile)
	w2   = wep("w2", "cali2", "10.3.0.2", openProfile)
	shut = wep("w1", "cali1", "10.2.0.2", "")
)

const (
	openProfile = ", profiles: [projectcalico-default-allow]"
	onHosts     = "selector: role == 'h', "
	onW1        = "selector: app == 'w1', "
	onW2        = "selector: app == 'w2', "
)

// wep is a workload endpoint of this host with label app: name.
func wep(name, iface, ip, more string) string {
	return inNamespace("WorkloadEndpoint", "prod", here+"-k8s-"+name+"-eth0", "app: "+name,
		"node: "+here+", orchestrator: k8s, pod: "+name+", endpoint: eth0, interfaceName: "+iface+", ipNetworks: ['"+ip+"/32']"+more)
}

// publishing is what another program publishes: port 30000 leads to w1:8055,
// 30001 to port 8055 of the host.
const publishing = `
table inet publishing {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta nfproto ipv4 tcp dport 30000 dnat ip to 10.2.0.2:8055
		meta nfproto ipv6 tcp dport 30000 dnat ip6 to [fd02::2]:8055
		meta nfproto ipv4 tcp dport 30001 dnat ip to 10.0.0.1:8055
		meta nfproto ipv6 tcp dport 30001 dnat ip6 to [fd00::1]:8055
	}
}
`

// toHostScenarios are about what workloads send to their host (group B).
var toHostScenarios = []scenario{
	{name: "S035 to the host nothing passes by default", steps: []step{{tierDefault + w1, `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 blocked
		in cali1 tcp 10.2.0.2 10.0.0.1 9000 blocked
		in cali1 icmp/8/0 10.2.0.2 10.2.0.1 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok
		out cali1 tcp 10.2.0.1 10.2.0.2 80 ok`}}},
	{name: "S037 Return and Accept let pass what the workload's policy allows", steps: []step{
		{tierDefault + w1 + felix("defaultEndpointToHostAction: Return"), `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 ok`},
		{tierDefault + w1 + felix("defaultEndpointToHostAction: Accept") + gnp("p", onW1+"types: [Egress], egress: [{action: Deny, protocol: TCP, destination: {ports: [22]}}, {action: Allow}]"), `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 ok
		in cali1 tcp 10.2.0.2 10.2.0.1 22 blocked`},
		{tierDefault + w1, `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 blocked`}}},
	{name: "S038 host endpoints have no say about it", steps: []step{
		{tierDefault + w1 + hEth0 + felix("defaultEndpointToHostAction: Accept"), `
		in cali1 tcp 10.2.0.2 10.0.0.1 9000 ok`},
		{tierDefault + w1 + hAll + felix("defaultEndpointToHostAction: Accept"), `
		in cali1 tcp 10.2.0.2 10.0.0.1 9000 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`}}},
	{name: "S040 preDNAT policy of a wildcard endpoint has", steps: []step{{
		tierDefault + w1 + hAll + felix("defaultEndpointToHostAction: Accept") + gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny, protocol: TCP}]"), `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 blocked
		in cali1 udp 10.2.0.2 10.2.0.1 9000 ok`}}},
	{name: "S041 but what it allows is still dropped", steps: []step{{
		tierDefault + w1 + hAll + gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow}]"), `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok`}}},
	{name: "S043 neighbour discovery passes to the host, advertisements of routers do not", only: 6, steps: []step{{
		tierDefault + twin(shut) + gnp("p", onW1+"egress: [{action: Deny}]"), `
		in cali1 icmpv6/135/0 fd02::2 fd02::1 ok
		in cali1 icmpv6/136/0 fd02::2 fd02::1 ok
		in cali1 icmpv6/133/0 fd02::2 fd02::1 ok
		in cali1 icmpv6/130/0 fd02::2 fd02::1 ok
		in cali1 icmpv6/143/0 fd02::2 fd02::1 ok
		in cali1 icmpv6/134/0 fd02::2 fd02::1 blocked
		in cali1 icmpv6/137/0 fd02::2 fd02::1 blocked
		in cali1 icmpv6/128/0 fd02::2 fd02::1 blocked
		in cali1 icmpv6/135/0 fd02::3 fd02::1 blocked`}}},
	{name: "S044 failsafes are none of a workload's", steps: []step{{tierDefault + w1 + hAll, `
		in cali1 tcp 10.2.0.2 10.2.0.1 22 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 22 ok`}}},
	{name: "B20 a host endpoint that names a workload's interface does not get it", steps: []step{{
		tierDefault + w1 + hep("c", "cali1", openProfile) + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow}]"), `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 blocked
		in cali1 tcp 10.2.0.3 10.2.0.1 9000 blocked
		out cali1 tcp 10.2.0.1 10.2.0.2 9000 ok`}}},
}

// preDNATScenarios are about preDNAT policy (group D).
var preDNATScenarios = []scenario{
	{name: "S059 what is denied before the rewrite does not reach the published port", steps: []step{{
		tierDefault + w1 + w2 + hEth0 + gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 dialled 10.0.0.1 30000 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 blocked
		fwd eth1 cali1 tcp 10.1.0.2 10.2.0.2 8055 dialled 10.0.0.1 30000 ok
		fwd cali2 cali1 tcp 10.3.0.2 10.2.0.2 8055 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 22 ok`}}},
	{name: "S060 the port that is dialled counts, the policy of the workload too", steps: []step{
		{tierDefault + w1 + hEth0 + gnp("d", onHosts+"order: 2, preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]") +
			gnp("a", onHosts+"order: 1, preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [30000]}}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 dialled 10.0.0.1 30000 ok
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 blocked`},
		{tierDefault + shut + hEth0 + gnp("a", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [30000]}}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 dialled 10.0.0.1 30000 blocked`}}},
	{name: "S061 the port behind it does not", steps: []step{{
		tierDefault + w1 + hEth0 + gnp("d", onHosts+"order: 2, preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]") +
			gnp("a", onHosts+"order: 1, preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 dialled 10.0.0.1 30000 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 ok`}}},
	{name: "S062 of a wildcard endpoint it counts for workloads as well", steps: []step{{
		tierDefault + w1 + w2 + hAll + gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [30000]}}]"), `
		fwd cali2 cali1 tcp 10.3.0.2 10.2.0.2 8055 dialled 10.0.0.1 30000 blocked
		fwd cali2 cali1 tcp 10.3.0.2 10.2.0.2 8055 ok`}}},
	{name: "S063 forwarded traffic that it allows is not judged on forward as it comes in", steps: []step{{
		tierDefault + w1 + hEth0 + gnp("a", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [30000]}}]") +
			gnp("f", onHosts+"applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 dialled 10.0.0.1 30000 ok
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 8055 blocked`}}},
	{name: "S066 a published port of the host", steps: []step{
		{tierDefault + hEth0 + gnp("a", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [30001]}}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 8055 dialled 10.0.0.1 30001 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 8055 blocked`},
		{tierDefault + hEth0 + gnp("n", onHosts+"ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 8055 dialled 10.0.0.1 30001 ok`}}},
	{name: "S067 what it allows needs no other policy", steps: []step{{
		tierDefault + hEth0 + gnp("a", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 8055 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		in eth1 tcp 10.1.0.2 10.0.0.1 9000 ok`}}},
	{name: "S068 gone is gone", steps: []step{
		{tierDefault + hEth0 + gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked`},
		{tierDefault + hEth0, `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok`}}},
	{name: "B21 a tier that denies at its end does not before the rewrite", steps: []step{{
		tierDefault + tier("first", "1", "Deny") + hEth0 +
			gnp("first.d", onHosts+"tier: first, preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny, protocol: UDP}, {action: Pass, protocol: TCP, destination: {ports: [80]}}]") +
			gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [80, 81]}}]"), `
		fwd eth0 eth1 udp 10.0.0.2 10.1.0.2 80 blocked
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 81 blocked
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 82 ok`}}},
}

// untrackedScenarios are about doNotTrack policy (group E).
var untrackedScenarios = []scenario{
	{name: "S070 each direction is allowed for itself", steps: []step{
		{tierDefault + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}], egress: [{action: Allow, protocol: TCP, source: {ports: [8055]}}]"), `
		in eth0 tcp 10.0.0.2@40000 10.0.0.1 8055 ok
		out eth0 tcp 10.0.0.1@8055 10.0.0.2 40000 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`},
		{tierDefault + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"), `
		in eth0 tcp 10.0.0.2@40000 10.0.0.1 8055 ok
		out eth0 tcp 10.0.0.1@8055 10.0.0.2 40000 blocked`}}},
	{name: "S071 failsafes and their answers go before it, and stay tracked", steps: []step{{
		tierDefault + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]"), `
		in eth0 tcp 10.0.0.2@40001 10.0.0.1 22 ok
		out eth0 udp 10.0.0.1@40002 10.0.0.2 53 ok
		in eth0 udp 10.0.0.2@53 10.0.0.1 40003 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked`}}},
	{name: "S072 neighbour discovery goes before it", only: 6, steps: []step{{
		tierDefault + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]"), `
		in eth0 icmpv6/135/0 fd00::2 fd00::1 ok
		out eth0 icmpv6/136/0 fd00::1 fd00::2 ok
		in eth0 icmpv6/128/0 fd00::2 fd00::1 blocked`}}},
	{name: "what routers say of the path's MTU goes before it", only: 4, steps: []step{
		{tierDefault + hEth0 + hep("g", "eth1", "") + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]") +
			gnp("f", onHosts+"applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]"), `
		in eth0 icmp/3/4 10.0.0.2 10.0.0.1 ok
		out eth0 icmp/3/4 10.0.0.1 10.0.0.2 ok
		fwd eth0 eth1 icmp/3/4 10.0.0.2 10.1.0.2 ok
		in eth0 icmp/3/3 10.0.0.2 10.0.0.1 blocked`},
		{tierDefault + hEth0 + hep("g", "eth1", "") + gnp("f", onHosts+"applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), `
		in eth0 icmp/3/4 10.0.0.2 10.0.0.1 blocked
		fwd eth0 eth1 icmp/3/4 10.0.0.2 10.1.0.2 blocked`},
		{tierDefault + w1 + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), `
		fwd eth0 cali1 icmp/3/4 10.0.0.2 10.2.0.2 blocked`}}},
	{name: "what routers say of the path's MTU goes before it, IPv6", only: 6, steps: []step{
		{tierDefault + hEth0 + hep("g", "eth1", "") + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]") +
			gnp("f", onHosts+"applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]"), `
		in eth0 icmpv6/2/0 fd00::2 fd00::1 ok
		out eth0 icmpv6/2/0 fd00::1 fd00::2 ok
		fwd eth0 eth1 icmpv6/2/0 fd00::2 fd01::2 ok
		in eth0 icmpv6/1/0 fd00::2 fd00::1 blocked`},
		{tierDefault + hEth0 + hep("g", "eth1", "") + gnp("f", onHosts+"applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), `
		in eth0 icmpv6/2/0 fd00::2 fd00::1 blocked
		fwd eth0 eth1 icmpv6/2/0 fd00::2 fd01::2 blocked`},
		{tierDefault + w1 + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), `
		fwd eth0 cali1 icmpv6/2/0 fd00::2 fd02::2 blocked`}}},
	{name: "S073 what it does not decide is tracked and judged as ever", steps: []step{{
		tierDefault + tier("first", "1", "Deny") + hEth0 + gnp("first.u", onHosts+"tier: first, doNotTrack: true, applyOnForward: true, ingress: [{action: Deny, protocol: UDP}]") +
			gnp("n", onHosts+"ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Allow, protocol: UDP}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 81 blocked
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S074 on a wildcard endpoint it counts for nothing", steps: []step{{
		tierDefault + hAll + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok`}}},
	{name: "S075 what it allows is spared policy before the rewrite and on forward as it comes in", steps: []step{{
		tierDefault + hEth0 + hep("g", "eth1", "") + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: UDP}]") +
			gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]") +
			gnp("f", onHosts+"applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny, protocol: UDP, destination: {ports: [53]}}, {action: Allow}]"), `
		fwd eth0 eth1 udp 10.0.0.2 10.1.0.2 80 ok
		fwd eth0 eth1 udp 10.0.0.2 10.1.0.2 53 blocked
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked
		in eth0 udp 10.0.0.2 10.0.0.1 80 ok`}}},
	{name: "S077 a workload behind it judges without the help of connections", steps: []step{
		{tierDefault + w1 + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]") +
			gnp("p", onW1+"ingress: [{action: Allow, protocol: UDP, destination: {ports: [53]}}]"), `
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 53 ok
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 54 blocked`},
		{tierDefault + shut + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), `
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 53 blocked`}}},
}

// workloadScenarios are about policy of workloads (groups C and F).
var workloadScenarios = []scenario{
	{name: "S058 forward policy of the host does not open a workload", steps: []step{{
		tierDefault + shut + hEth0 + gnp("f", onHosts+"applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked`}}},
	{name: "S055 nor that of a wildcard endpoint", steps: []step{{
		tierDefault + w1 + hAll + gnp("f", onHosts+"applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow}]") + gnp("p", onW1+"ingress: [{action: Deny, protocol: UDP}, {action: Allow}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 80 blocked`}}},
	{name: "S053 egress policy of a wildcard endpoint judges what goes to workloads", steps: []step{{
		tierDefault + w1 + w2 + hAll + gnp("f", onHosts+"applyOnForward: true, types: [Egress], egress: [{action: Deny, protocol: UDP}, {action: Allow}]"), `
		fwd cali1 cali2 udp 10.2.0.2 10.3.0.2 80 blocked
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok`}}},
	{name: "S083 a workload without policy and profile", steps: []step{{tierDefault + shut + w2, `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked
		fwd cali2 cali1 tcp 10.3.0.2 10.2.0.2 80 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked
		in cali1 tcp 10.2.0.2 10.2.0.1 80 blocked
		out cali1 tcp 10.2.0.1 10.2.0.2 80 ok`}}},
	{name: "S010 both ends judge", steps: []step{
		{tierDefault + w1 + w2 + hEth0, `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok`},
		{tierDefault + w1 + w2 + gnp("p", onW1+"types: [Egress], egress: [{action: Allow, destination: {selector: app == 'w2', ports: [80]}, protocol: TCP}]") +
			gnp("q", onW2+"types: [Ingress], ingress: [{action: Allow, source: {selector: app == 'w1'}}]"), `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 81 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd eth0 cali2 tcp 10.0.0.2 10.3.0.2 80 blocked
		fwd cali2 eth0 tcp 10.3.0.2 10.0.0.2 80 ok`}}},
	{name: "S085 policy of one direction leaves the other to profiles", steps: []step{
		{tierDefault + w1 + gnp("p", onW1+"ingress: [{action: Allow, protocol: TCP}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 80 blocked
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 80 ok`},
		{tierDefault + w1 + gnp("p", onW1+"egress: [{action: Allow, protocol: TCP}]"), `
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 80 ok
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok`}}},
	{name: "S088 a policy without rules denies what comes in, and gone it gives way to the profile", steps: []step{
		{tierDefault + w1 + gnp("p", onW1+"order: 1"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok`},
		{tierDefault + w1, `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok`}}},
	{name: "S092 a missing profile denies until it is there", steps: []step{
		{tierDefault + wep("w1", "cali1", "10.2.0.2", ", profiles: [pr]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked`},
		{tierDefault + wep("w1", "cali1", "10.2.0.2", ", profiles: [pr]") + doc("Profile", "pr", "ingress: [{action: Allow, protocol: TCP}], egress: [{action: Allow}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 80 blocked
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 80 ok`}}},
	{name: "S094 labels come from profiles, and own ones go before", steps: []step{
		{tierDefault + wep("w1", "cali1", "10.2.0.2", ", profiles: [pr]") + doc("Profile", "pr", "labelsToApply: {tint: red, app: other}, ingress: [{action: Allow}], egress: [{action: Allow}]") +
			gnp("p", "selector: tint == 'red', ingress: [{action: Deny}]") + gnp("q", "selector: app == 'other', egress: [{action: Deny}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok`}}},
	{name: "S095 an address follows the labels of its workload", steps: []step{
		{tierDefault + w1 + w2 + gnp("q", onW2+"ingress: [{action: Allow, source: {selector: app == 'w1'}}]"), `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok`},
		{tierDefault + w1 + w2 + gnp("q", onW2+"ingress: [{action: Allow, source: {selector: app == 'w9'}}]"), `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked`}}},
	{name: "S098 a namespaced policy speaks of its namespace, unless it says more", steps: []step{
		{tierDefault + w2 + inNamespace("WorkloadEndpoint", "dev", here+"-k8s-w1-eth0", "app: w1", "node: "+here+", orchestrator: k8s, pod: w1, endpoint: eth0, interfaceName: cali1, ipNetworks: ['10.2.0.2/32']"+openProfile) +
			inNamespace("NetworkPolicy", "prod", "p", "a: b", "ingress: [{action: Allow, source: {notSelector: app == 'w9'}}]"), `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked
		fwd eth0 cali2 tcp 10.0.0.2 10.3.0.2 80 blocked`},
		{tierDefault + w2 + w1 + inNamespace("NetworkPolicy", "prod", "p", "a: b", "ingress: [{action: Allow, source: {notSelector: app == 'w9'}}]"), `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok
		fwd eth0 cali2 tcp 10.0.0.2 10.3.0.2 80 blocked`},
		{tierDefault + w2 + w1 + gnp("p", "selector: app == 'w2', ingress: [{action: Allow, source: {notSelector: app == 'w9'}}]"), `
		fwd eth0 cali2 tcp 10.0.0.2 10.3.0.2 80 ok`}}},
	{name: "S146 network sets of namespaces", steps: []step{{
		tierDefault + w1 + w2 + inNamespace("NetworkSet", "prod", "s", "zone: in", "nets: ['10.0.0.0/25']") + inNamespace("NetworkSet", "dev", "s", "zone: in", "nets: ['10.0.0.128/25']") +
			doc("Profile", "kns.dev", "labelsToApply: {pcns.team: red}") +
			inNamespace("NetworkPolicy", "prod", "own", "a: b", "selector: app == 'w1', ingress: [{action: Allow, source: {selector: zone == 'in'}}]") +
			inNamespace("NetworkPolicy", "prod", "other", "a: b", "selector: app == 'w2', ingress: [{action: Allow, source: {selector: zone == 'in', namespaceSelector: team == 'red'}}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok
		fwd eth0 cali1 tcp 10.0.0.200 10.2.0.2 80 blocked
		fwd eth0 cali2 tcp 10.0.0.2 10.3.0.2 80 blocked
		fwd eth0 cali2 tcp 10.0.0.200 10.3.0.2 80 ok`}}},
	{name: "S099 service accounts", steps: []step{{
		tierDefault + wep("w1", "cali1", "10.2.0.2", ", serviceAccountName: cook"+openProfile) + w2 +
			inNamespace("NetworkPolicy", "prod", "p", "a: b", "selector: app == 'w2', ingress: [{action: Allow, source: {serviceAccounts: {names: [cook]}}}]") +
			gnp("q", "serviceAccountSelector: all(), types: [Egress], egress: [{action: Allow, protocol: TCP}]"), `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok
		fwd cali1 cali2 udp 10.2.0.2 10.3.0.2 80 blocked
		fwd eth0 cali2 tcp 10.0.0.2 10.3.0.2 80 blocked`}}},
	{name: "S108 a flag for other stages takes a policy away from workloads", steps: []step{{
		tierDefault + w1 + gnp("u", onW1+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}]") + gnp("d", onW1+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok`}}},
	{name: "S119 tunnels out of a workload", steps: []step{
		{tierDefault + w1, `
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 4789 blocked
		fwd cali1 eth0 4 10.2.0.2 10.0.0.2 blocked
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 4789 ok
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 4790 ok`},
		{tierDefault + w1 + felix("vxlanPort: 4790"), `
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 4789 ok
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 4790 blocked`},
		{tierDefault + w1 + felix("allowVXLANPacketsFromWorkloads: true, allowIPIPPacketsFromWorkloads: true"), `
		fwd cali1 eth0 udp 10.2.0.2 10.0.0.2 4789 ok
		fwd cali1 eth0 4 10.2.0.2 10.0.0.2 ok`}}},
	{name: "S118 what belongs to no connection", steps: []step{
		{tierDefault + w1, `
		fwd eth0 cali1 icmp/0/0 10.0.0.2 10.2.0.2 blocked`},
		{tierDefault + w1 + felix("disableConntrackInvalidCheck: true"), `
		fwd eth0 cali1 icmp/0/0 10.0.0.2 10.2.0.2 ok`}}},
	{name: "S121 named ports of workloads", steps: []step{{
		tierDefault + wep("w1", "cali1", "10.2.0.2", ", ports: [{name: http, protocol: TCP, port: 8080}]"+openProfile) + w2 +
			gnp("p", onW1+"ingress: [{action: Allow, protocol: TCP, destination: {ports: [http]}}]") + gnp("q", onW2+"egress: [{action: Allow, protocol: TCP, destination: {ports: [http]}}]"), `
		fwd cali2 cali1 tcp 10.3.0.2 10.2.0.2 8080 ok
		fwd cali2 cali1 tcp 10.3.0.2 10.2.0.2 80 blocked
		fwd cali2 eth0 tcp 10.3.0.2 10.0.0.2 8080 blocked`}}},
	{name: "S148 tiers of a workload", steps: []step{{
		tierDefault + tier("first", "1", "Deny") + w1 + gnp("first.p", onW1+"tier: first, ingress: [{action: Pass, protocol: TCP}, {action: Allow, protocol: SCTP}]") + gnp("p", onW1+"ingress: [{action: Pass, source: {nets: [10.0.0.0/25]}}, {action: Deny}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok
		fwd eth0 cali1 tcp 10.0.0.200 10.2.0.2 80 blocked
		fwd eth0 cali1 sctp 10.0.0.200 10.2.0.2 80 ok
		fwd eth0 cali1 udp 10.0.0.2 10.2.0.2 80 blocked`}}},
	{name: "S154 staged policies do nothing", steps: []step{{
		tierDefault + w1 + doc("StagedGlobalNetworkPolicy", "p", onW1+"ingress: [{action: Deny}]") + inNamespace("StagedNetworkPolicy", "prod", "q", "a: b", "ingress: [{action: Deny}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok`}}},
}

// sourceScenarios are about who a workload may say it is, and about
// interfaces of workloads that nobody knows (group K).
var sourceScenarios = []scenario{
	{name: "S167 only its own addresses are a workload's sources", steps: []step{
		{tierDefault + w1 + w2 + felix("defaultEndpointToHostAction: Accept"), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok
		fwd cali1 eth0 tcp 10.3.0.2 10.0.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.3 10.0.0.2 80 blocked
		in cali1 udp 10.0.0.2 10.2.0.1 80 blocked
		in cali1 udp 10.2.0.2 10.2.0.1 80 ok`},
		{tierDefault + wep("w1", "cali1", "10.2.0.9", openProfile), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.9 10.0.0.2 80 ok`}}},
	{name: "S169 further sources need two that agree", steps: []step{
		{tierDefault + felix("workloadSourceSpoofing: Any") + wep("w1", "cali1", "10.2.0.2", ", allowSpoofedSourcePrefixes: ['10.0.0.128/25']"+openProfile), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok
		fwd cali1 eth0 tcp 10.0.0.129 10.0.0.2 80 ok
		fwd cali1 eth0 tcp 10.0.0.127 10.0.0.2 80 blocked`},
		{tierDefault + felix("workloadSourceSpoofing: Any") + wep("w1", "cali1", "10.2.0.2", ", allowSpoofedSourcePrefixes: ['10.1.0.0/24']"+openProfile), `
		fwd cali1 eth0 tcp 10.0.0.129 10.0.0.2 80 blocked
		fwd cali1 eth0 tcp 10.1.0.9 10.0.0.2 80 ok`},
		{tierDefault + felix("workloadSourceSpoofing: Any") + w1, `
		fwd cali1 eth0 tcp 10.1.0.9 10.0.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok`}}},
	{name: "S170 without the configuration the workload is refused as a whole", steps: []step{
		{tierDefault + wep("w1", "cali1", "10.2.0.2", ", allowSpoofedSourcePrefixes: ['10.0.0.128/25']"+openProfile), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked
		in cali1 udp 10.2.0.2 10.2.0.1 80 blocked`},
		{tierDefault + felix("workloadSourceSpoofing: Any") + wep("w1", "cali1", "10.2.0.2", ", allowSpoofedSourcePrefixes: ['10.0.0.128/25']"+openProfile), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok`}}},
	{name: "S014 what no endpoint is for and is named like a workload's is dropped", steps: []step{
		{tierDefault, `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked
		in cali1 tcp 10.2.0.2 10.2.0.1 80 blocked
		out cali1 tcp 10.2.0.1 10.2.0.2 80 ok
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok`},
		{tierDefault + w1, `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked`},
		{tierDefault + w1 + felix("interfacePrefix: tap"), `
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok
		fwd cali2 cali1 tcp 10.3.0.2 10.2.0.2 80 ok
		fwd cali1 eth0 tcp 10.2.0.3 10.0.0.2 80 blocked`}}},
	{name: "S008 a workload without addresses is as if it were not there", steps: []step{{
		tierDefault + inNamespace("WorkloadEndpoint", "prod", here+"-k8s-w1-eth0", "app: w1", "node: "+here+", orchestrator: k8s, pod: w1, endpoint: eth0, interfaceName: cali1"+openProfile), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked`}}},
	{name: "B22 of two workloads with one interface the first by name has it", steps: []step{
		{tierDefault + w1 + wep("w0", "cali1", "10.2.0.9", openProfile), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.9 10.0.0.2 80 ok`},
		{tierDefault + w1, `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok`}}},
}
