// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"
)

// scenario is one behaviour that hosts are known for, as steps: a picture,
// and what becomes of packets under it. Names begin with the number that the
// behaviour has in the catalogue of Calico's; those with B are Ripstop's own
// (the better behaviour where Calico's is a fault).
type scenario struct {
	name  string
	only  int // 4 or 6: there is no twin
	steps []step
}

type step struct {
	show string // the whole picture
	then string // a packet in each line
}

var (
	hEth0    = hep("h", "eth0", "")
	hEth1    = hep("g", "eth1", "")
	hAll     = hep("w", "*", "")
	tierPass = tier("first", "1", "Pass")
)

// hostScenarios are about endpoints: which governs what, and what it does
// without policy (groups A and P).
var hostScenarios = []scenario{
	{name: "S001 without an endpoint nothing is judged", steps: []step{{tierDefault, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 ok
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 9000 ok`}}},
	{name: "S002 an endpoint without policy and profile denies", steps: []step{{tierDefault + hEth0, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		in eth0 udp 10.0.0.2 10.0.0.1 9000 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 blocked
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 ok
		out eth1 tcp 10.1.0.1 10.1.0.2 9000 ok`}}},
	{name: "S004 failsafes come in", steps: []step{{tierDefault + hEth0, `
		in eth0 tcp 10.0.0.2 10.0.0.1 22 ok
		in eth0 udp 10.0.0.2 10.0.0.1 22 blocked
		in eth0 tcp 10.0.0.2@22 10.0.0.1 9000 blocked`}}},
	{name: "S005 failsafes go out", steps: []step{{tierDefault + hEth0, `
		out eth0 udp 10.0.0.1 10.0.0.2 53 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 22 blocked`}}},
	{name: "S005 failsafes hold against a policy that denies all", steps: []step{{tierDefault + hEth0 + tier("a", "1", "Deny") + gnp("a.deny", "tier: a, ingress: [{action: Deny}], egress: [{action: Deny}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 22 ok
		out eth0 udp 10.0.0.1 10.0.0.2 53 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 23 blocked`}}},
	{name: "S007 echo requests need policy", steps: []step{{tierDefault + hEth0, `
		out eth0 icmp/8/0 10.0.0.1 10.0.0.2 blocked
		in eth0 icmp/8/0 10.0.0.2 10.0.0.1 blocked`}}},
	{name: "S008 protocols without a name are judged too", steps: []step{
		{tierDefault + hEth0, `
		in eth0 253 10.0.0.2 10.0.0.1 blocked
		out eth0 254 10.0.0.1 10.0.0.2 blocked`},
		{tierDefault + hEth0 + gnp("p", "ingress: [{action: Allow, protocol: 253}]"), `
		in eth0 253 10.0.0.2 10.0.0.1 ok
		in eth0 254 10.0.0.2 10.0.0.1 blocked`}}},
	{name: "S011 what is forwarded needs no policy as long as none applies on forward", steps: []step{{tierDefault + hEth0 + w1, `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok
		fwd eth0 eth1 udp 10.0.0.2 10.1.0.2 80 ok`}}},
	{name: "S014 a wildcard endpoint governs every interface alike", steps: []step{{tierDefault + hAll, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 blocked
		in eth1 tcp 10.1.0.2 10.1.0.1 22 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 blocked
		out eth1 udp 10.1.0.1 10.1.0.2 53 ok
		out eth1 icmp/8/0 10.1.0.1 10.1.0.2 blocked
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 9000 ok`}}},
	{name: "S016 a wildcard endpoint leaves workloads' interfaces alone", steps: []step{{tierDefault + hAll + w1 + felix("defaultEndpointToHostAction: Accept"), `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 ok
		out cali1 tcp 10.2.0.1 10.2.0.2 9000 ok`}}},
	{name: "S017 a named endpoint goes before the wildcard", steps: []step{{
		tierDefault + labelled("HostEndpoint", "z", "role: open", "node: "+here+", interfaceName: eth0") + hAll + gnp("p", "selector: role == 'open', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 ok
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 blocked`}}},
	{name: "S018 a named endpoint without policy denies though the wildcard has one", steps: []step{{
		tierDefault + labelled("HostEndpoint", "z", "role: none", "node: "+here+", interfaceName: eth0") + hAll + gnp("p", "selector: role == 'h', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 ok`}}},
	{name: "S019 a profile that allows all", steps: []step{{tierDefault + hep("h", "eth0", ", profiles: [projectcalico-default-allow]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		out eth0 icmp/8/0 10.0.0.1 10.0.0.2 ok`}}},
	{name: "S020 a policy for one direction leaves the other to profiles", steps: []step{{
		tierDefault + hEth0 + gnp("p", "types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 8055 ok
		in eth0 udp 10.0.0.2 10.0.0.1 8055 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 8055 blocked`}}},
	{name: "S022 an endpoint is found by its address", steps: []step{
		{tierDefault + labelled("HostEndpoint", "h", "role: h", "node: "+here+", expectedIPs: ['10.1.0.1']"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 blocked
		out eth1 tcp 10.1.0.1 10.1.0.2 9000 blocked`},
		{tierDefault + labelled("HostEndpoint", "h", "role: h", "node: "+here+", expectedIPs: ['10.9.9.9', '10.0.0.1']"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 ok`},
		{tierDefault + labelled("HostEndpoint", "h", "role: h", "node: "+here+", expectedIPs: ['10.9.9.9']"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 ok`}}},
	{name: "S023 of two endpoints for one interface the first by name governs", steps: []step{
		{tierDefault + labelled("HostEndpoint", "a", "role: a", "node: "+here+", interfaceName: eth0") + hEth0 + gnp("p", "selector: role == 'a', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok`},
		{tierDefault + hEth0 + gnp("p", "selector: role == 'a', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`},
		{tierDefault + labelled("HostEndpoint", "i", "role: a", "node: "+here+", interfaceName: eth0") + hEth0 + gnp("p", "selector: role == 'a', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`}}},
	{name: "S023 by name and by address are one competition", steps: []step{{
		tierDefault + labelled("HostEndpoint", "a", "role: a", "node: "+here+", expectedIPs: ['10.0.0.1']") + hEth0 + gnp("p", "selector: role == 'a', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok`}}},
	{name: "S024 an endpoint of another host governs nothing here", steps: []step{{
		tierDefault + labelled("HostEndpoint", "o", "role: h", "node: other, interfaceName: eth0") + labelled("HostEndpoint", "p", "role: h", "node: other, interfaceName: '*'"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok`}}},
	{name: "S025 a label decides which policy governs", steps: []step{
		{tierDefault + hEth0 + gnp("p", "selector: role == 'x', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`},
		{tierDefault + labelled("HostEndpoint", "h", "role: x", "node: "+here+", interfaceName: eth0") + gnp("p", "selector: role == 'x', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok`},
		{tierDefault + hEth0 + gnp("p", "selector: role == 'x', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`}}},
	{name: "S026 an endpoint that goes leaves nothing behind", steps: []step{
		{tierDefault + hEth0 + gnp("p", "selector: role == 'x', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`},
		{tierDefault + gnp("p", "selector: role == 'x', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 ok`}}},
	{name: "S028 the earlier tier denies or passes", steps: []step{
		{tierDefault + tier("security", "10", "Deny") + hEth0 + gnp("security.p", "tier: security, ingress: [{action: Deny}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 ok`},
		{tierDefault + tier("security", "10", "Deny") + hEth0 + gnp("security.p", "tier: security, ingress: [{action: Pass}]") + gnp("p", allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok`}}},
	{name: "S029 the port of the agent's metrics is a port like others", steps: []step{
		{tierDefault, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9091 ok`},
		{tierDefault + hEth0, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9091 blocked`},
		{tierDefault + hAll, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9091 blocked`}}},
	{name: "S030 the host's address on another interface is no way round", steps: []step{{tierDefault + hEth0, `
		in eth0 tcp 10.0.0.2 10.1.0.1 9000 blocked
		in eth1 tcp 10.1.0.2 10.0.0.1 9000 ok`}}},
	{name: "S031 a workload that comes and goes leaves the host's ports alone", steps: []step{
		{tierDefault, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok`},
		{tierDefault + w1, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		in eth1 udp 10.1.0.2 10.0.0.1 9000 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 ok
		in cali1 tcp 10.2.0.2 10.0.0.1 9000 blocked`},
		{tierDefault, `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 ok`}}},
	{name: "S034 ICMPv6 by rule", only: 6, steps: []step{{tierDefault + hEth0 + gnp("p", "ingress: [{action: Allow, protocol: ICMPv6}]"), `
		in eth0 icmpv6/128/0 fd00::2 fd00::1 ok
		in eth0 tcp fd00::2 fd00::1 22 ok
		in eth0 tcp fd00::2 fd00::1 80 blocked`}}},
	{name: "B1 neighbour discovery passes without policy", only: 6, steps: []step{{tierDefault + hEth0 + tier("a", "1", "Deny") + gnp("a.deny", "tier: a, ingress: [{action: Deny}], egress: [{action: Deny}]"), `
		in eth0 icmpv6/135/0 fd00::2 fd00::1 ok
		in eth0 icmpv6/136/0 fd00::2 fd00::1 ok
		out eth0 icmpv6/135/0 fd00::1 fd00::2 ok
		out eth0 icmpv6/136/0 fd00::1 fd00::2 ok
		in eth0 icmpv6/134/0 fd00::2 fd00::1 ok
		out eth0 icmpv6/134/0 fd00::1 fd00::2 blocked
		in eth0 icmpv6/133/0 fd00::2 fd00::1 blocked
		out eth0 icmpv6/133/0 fd00::1 fd00::2 ok
		in eth0 icmpv6/137/0 fd00::2 fd00::1 blocked
		in eth0 icmpv6/128/0 fd00::2 fd00::1 blocked`}}},
	{name: "B2 of several wildcard endpoints the first by name governs", steps: []step{
		{tierDefault + hAll + labelled("HostEndpoint", "x", "role: open", "node: "+here+", interfaceName: '*'") + gnp("p", "selector: role == 'open', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked`},
		{tierDefault + labelled("HostEndpoint", "x", "role: open", "node: "+here+", interfaceName: '*'") + gnp("p", "selector: role == 'open', "+allowAll), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		out eth1 tcp 10.1.0.1 10.1.0.2 9000 ok`}}},
	{name: "B3 excluded interfaces are spared by the wildcard, not by a name", steps: []step{
		{tierDefault + hAll + felix("interfaceExclude: '/^eth/,x'"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 ok`},
		{tierDefault + hAll + hEth0 + felix("interfaceExclude: '/^eth/,x'"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 blocked
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 ok`},
		{tierDefault + hAll, `
		in eth1 tcp 10.1.0.2 10.1.0.1 9000 blocked`}}},
	{name: "B4 a workload's interface is governed by an endpoint that names it", steps: []step{{tierDefault + hep("c", "cali1", ""), `
		in cali1 tcp 10.2.0.2 10.2.0.1 9000 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok`}}},
	{name: "B5 an address of another host's that is kept on lo claims nothing", steps: []step{{
		tierDefault + labelled("HostEndpoint", "h", "role: h", "node: "+here+", expectedIPs: ['127.0.0.1']"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 9000 ok
		out eth0 tcp 10.0.0.1 10.0.0.2 9000 ok`}}},
	{name: "S212 failsafes follow the configuration at once", steps: []step{
		{tierDefault + hEth0, `
		in eth0 tcp 10.0.0.2 10.0.0.1 22 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 2222 blocked`},
		{tierDefault + hEth0 + felix("failsafeInboundHostPorts: [{protocol: TCP, port: 2222, net: 10.0.0.0/25}], failsafeOutboundHostPorts: []"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 22 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 2222 ok
		in eth0 tcp 203.0.113.9 10.0.0.1 2222 blocked
		out eth0 udp 10.0.0.1 10.0.0.2 53 blocked`},
		{tierDefault + hEth0, `
		in eth0 tcp 10.0.0.2 10.0.0.1 22 ok
		out eth0 udp 10.0.0.1 10.0.0.2 53 ok`}}},
	{name: "S212 the net of an outbound failsafe is the destination's", steps: []step{{
		tierDefault + hEth0 + felix("failsafeOutboundHostPorts: [{protocol: TCP, port: 443, net: 10.0.0.0/25}]"), `
		out eth0 tcp 10.0.0.1 10.0.0.2 443 ok
		out eth0 tcp 10.0.0.1 203.0.113.9 443 blocked`}}},
	{name: "S212 one host's configuration is before everybody's", steps: []step{{
		tierDefault + hEth0 + felix("failsafeInboundHostPorts: [{protocol: TCP, port: 1111}]") +
			doc("FelixConfiguration", "node."+here, "failsafeInboundHostPorts: [{protocol: TCP, port: 3333}]") +
			doc("FelixConfiguration", "node.other", "failsafeInboundHostPorts: [{protocol: TCP, port: 4444}]"), `
		in eth0 tcp 10.0.0.2 10.0.0.1 3333 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 1111 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 4444 blocked`}}},
}

// forwardScenarios are about applyOnForward (group C).
var forwardScenarios = []scenario{
	{name: "S046 an ingress denial on forward stops one direction", steps: []step{{
		tierDefault + hEth0 + w1 + gnp("p", onHosts+"applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]"), `
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok
		fwd eth1 cali1 tcp 10.1.0.2 10.2.0.2 80 ok`}}},
	{name: "S047 an egress denial on forward stops the other", steps: []step{{
		tierDefault + hEth0 + w1 + gnp("p", onHosts+"applyOnForward: true, types: [Egress], egress: [{action: Deny}]"), `
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok`}}},
	{name: "S048 normal policy does not judge what is forwarded", steps: []step{{
		tierDefault + hEth0 + gnp("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok
		fwd eth1 eth0 tcp 10.1.0.2 10.0.0.2 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S049 only the port that is allowed is forwarded, failsafes are not", steps: []step{{
		tierDefault + hEth0 + gnp("p", "applyOnForward: true, ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}], egress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 22 blocked
		fwd eth1 eth0 tcp 10.1.0.2 10.0.0.2 80 ok
		fwd eth1 eth0 udp 10.1.0.2 10.0.0.2 53 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 22 ok`}}},
	{name: "S050 a policy of one direction leaves the other alone", steps: []step{{
		tierDefault + hEth0 + gnp("p", "applyOnForward: true, types: [Ingress], ingress: [{action: Allow}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok
		fwd eth1 eth0 tcp 10.1.0.2 10.0.0.2 80 ok`}}},
	{name: "S052 both interfaces must let it through", steps: []step{
		{tierDefault + hEth0 + hEth1 + w1 + gnp("p", "selector: role == 'h', applyOnForward: true, ingress: [{action: Allow}], egress: [{action: Allow, destination: {nets: [10.1.0.0/24]}}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok
		fwd eth1 eth0 tcp 10.1.0.2 10.0.0.2 80 blocked
		fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok`},
		{tierDefault + hEth0 + labelled("HostEndpoint", "g", "role: g", "node: "+here+", interfaceName: eth1") + gnp("p", "selector: role == 'h', applyOnForward: true, ingress: [{action: Allow}]") +
			gnp("q", "selector: role == 'g', applyOnForward: true, types: [Egress], egress: [{action: Deny}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked
		fwd eth1 eth0 tcp 10.1.0.2 10.0.0.2 80 ok`}}},
	{name: "S053 a wildcard endpoint judges what is forwarded", steps: []step{{
		tierDefault + hAll + w1 + w2 + gnp("p", onHosts+"applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked
		fwd eth1 eth0 tcp 10.1.0.2 10.0.0.2 80 blocked
		fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked
		fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked`}}},
	{name: "S054 what every tier passes on forward is let through", steps: []step{{
		tierDefault + tierPass + hep("h", "eth0", ", profiles: [pr]") + doc("Profile", "pr", "ingress: [{action: Deny}]") + gnp("first.p", "tier: first, applyOnForward: true, ingress: [{action: Pass}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok
		in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked`}}},
	{name: "S054 the end of a tier denies on forward", steps: []step{{
		tierDefault + hEth0 + gnp("p", "applyOnForward: true, types: [Ingress], ingress: [{action: Allow, source: {nets: [10.0.0.0/25]}}]"), `
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok
		fwd eth0 eth1 tcp 10.0.0.200 10.1.0.2 80 blocked`}}},
	{name: "S055 a policy on forward stands beside those for the host alone", steps: []step{{
		tierDefault + hEth0 + gnp("a", "order: 1, ingress: [{action: Deny, protocol: UDP}]") + gnp("b", "order: 2, applyOnForward: true, ingress: [{action: Allow}]"), `
		in eth0 udp 10.0.0.2 10.0.0.1 80 blocked
		in eth0 tcp 10.0.0.2 10.0.0.1 80 ok
		fwd eth0 eth1 udp 10.0.0.2 10.1.0.2 80 ok`}}},
	{name: "S057 policies on forward keep the order of their tiers", steps: []step{{
		tierDefault + tier("first", "1", "Deny") + hEth0 + gnp("first.p", "tier: first, applyOnForward: true, ingress: [{action: Pass, protocol: TCP}, {action: Allow, protocol: UDP}]") + gnp("p", "applyOnForward: true, ingress: [{action: Deny}]"), `
		fwd eth0 eth1 udp 10.0.0.2 10.1.0.2 80 ok
		fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked
		fwd eth0 eth1 sctp 10.0.0.2 10.1.0.2 80 blocked`}}},
}

// scenarios are all of them, by group.
func scenarios() [][]scenario {
	return [][]scenario{
		hostScenarios, forwardScenarios, policyScenarios, ruleScenarios, portScenarios, setScenarios, tierScenarios,
		toHostScenarios, preDNATScenarios, untrackedScenarios, workloadScenarios, sourceScenarios, cellScenarios,
	}
}

// TestNetnsScenario: each scenario in both families. One host stands through
// all of them, so that what one leaves behind would show in the next.
func TestNetnsScenario(t *testing.T) { runScenarios(t, 0, 1) }

// today is the number of the day.
func today() int { return int(time.Now().Unix() / 86400) }

// runScenarios runs one scenario in so many.
func runScenarios(t *testing.T, one, in int) {
	s := newStage(t)
	s.nft(publishing)
	n, packets := 0, 0
	for _, group := range scenarios() {
		for _, sc := range group {
			if n++; n%in != one {
				continue
			}
			for _, family := range []string{"IPv4", "IPv6"} {
				text := func(s string) string { return s }
				switch {
				case sc.only == 4 && family == "IPv6", sc.only == 6 && family == "IPv4":
					continue
				case family == "IPv6" && sc.only == 0:
					text = twin
				}
				t.Run(sc.name+" "+family, func(t *testing.T) {
					s.t = t
					s.inj.FlushConntrack()
					for _, st := range sc.steps {
						s.show(text(st.show))
						for line := range strings.Lines(text(st.then)) {
							if line = strings.TrimSpace(line); line != "" {
								s.expect(line)
								packets++
							}
						}
					}
				})
			}
		}
	}
	s.t = t
	t.Logf("%d scenarios, %d packets, each judged by policy, plan and kernel", n/in, packets)
}
