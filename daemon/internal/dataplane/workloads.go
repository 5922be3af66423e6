// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// ICMPv6 that only a router may send (RFC 4861), and that a host sends before
// it has an address (RFC 4862, RFC 3590).
var (
	ofRouters       = []uint8{134, 137}
	beforeAddresses = []uint8{131, 132, 135, 143}
)

var (
	loopback4   = netip.MustParsePrefix("127.0.0.0/8")
	loopback6   = netip.MustParsePrefix("::1/128")
	linkLocal6  = netip.MustParsePrefix("fe80::/10")
	noAddress4  = netip.MustParsePrefix("0.0.0.0/32")
	noAddress6  = netip.MustParsePrefix("::/128")
	dhcpClient  = []ruleset.PortRange{{Min: 68, Max: 68}}
	dhcpServer  = []ruleset.PortRange{{Min: 67, Max: 67}}
	spoofed     = "spoofed source"
	fromRouters = "only a router sends this"
)

func refuse(m ruleset.Match, comment string) ruleset.Rule {
	return ruleset.Rule{Match: m, Action: ruleset.Action{Verb: ruleset.Drop}, Counter: true, Comment: comment}
}

// loopbackGuard drops what has no business outside of the host, and that the
// kernel itself lets in where route_localnet is set (CVE-2020-8558).
func loopbackGuard() []ruleset.Rule {
	var rules []ruleset.Rule
	for _, n := range []netip.Prefix{loopback4, loopback6} {
		f, list := familyOf(n), []netip.Prefix{n}
		rules = append(rules,
			refuse(ruleset.Match{Family: f, Src: list}, "loopback address"),
			refuse(ruleset.Match{Family: f, Dst: list}, "loopback address"))
	}
	return rules
}

// sourceRules let pass what a workload may send as itself. It names addresses
// and does not ask for the way back: routes may be missing or asymmetric.
func sourceRules(w *intent.WorkloadEndpoint) []ruleset.Rule {
	rules := []ruleset.Rule{jump(chainLoopbackGuard)}
	icmpv6 := func(typ uint8) ruleset.Match {
		return ruleset.Match{Family: ruleset.IPv6, Protocol: protoICMPv6, ICMP: &ruleset.ICMP{Type: typ}}
	}
	for _, typ := range ofRouters {
		rules = append(rules, refuse(icmpv6(typ), fromRouters))
	}
	sources := map[ruleset.Family][]netip.Prefix{ruleset.IPv6: {linkLocal6}}
	for _, a := range w.Addrs {
		n := netip.PrefixFrom(a, a.BitLen())
		sources[familyOf(n)] = append(sources[familyOf(n)], n)
	}
	for _, n := range w.AllowedSources {
		sources[familyOf(n)] = append(sources[familyOf(n)], n)
	}
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		if len(sources[f]) > 0 {
			rules = append(rules, yield(ruleset.Match{Family: f, Src: sources[f]}))
		}
	}
	rules = append(rules, yield(ruleset.Match{
		Family: ruleset.IPv4, Protocol: protoUDP, Src: []netip.Prefix{noAddress4}, SrcPorts: dhcpClient, DstPorts: dhcpServer,
	}))
	for _, typ := range beforeAddresses {
		m := icmpv6(typ)
		m.Src = []netip.Prefix{noAddress6}
		rules = append(rules, yield(m))
	}
	return append(rules, refuse(ruleset.Match{}, spoofed))
}

// encapsulated drops tunnels that a workload makes, with which it could reach
// the others' addresses past every policy.
func (p *Planner) encapsulated() []ruleset.Rule {
	var rules []ruleset.Rule
	if !p.settings.AllowVXLANFromWorkloads && p.settings.VXLANPort != 0 {
		port := ruleset.PortRange{Min: p.settings.VXLANPort, Max: p.settings.VXLANPort}
		rules = append(rules, refuse(ruleset.Match{Protocol: protoUDP, DstPorts: []ruleset.PortRange{port}}, "VXLAN from a workload"))
	}
	if !p.settings.AllowIPIPFromWorkloads {
		rules = append(rules, refuse(ruleset.Match{Protocol: protoIPIP}, "IPIP from a workload"))
	}
	return rules
}

// toHost is what becomes of packets from a workload to the host that the
// workload's egress policy lets through. What an earlier stage of the wildcard
// endpoint has accepted counts for nothing here.
func (p *Planner) toHost() []ruleset.Rule {
	rules := []ruleset.Rule{
		clearMark(MarkAccept),
		{
			Match:  ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated},
			Action: ruleset.Action{Verb: ruleset.Accept},
		},
		toEssential(chainEssentialWorkload),
	}
	switch p.settings.EndpointToHost {
	case intent.ToHostAccept:
		return append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Accept}})
	case intent.ToHostReturn:
		return append(rules, yield(ruleset.Match{}))
	case intent.ToHostDrop:
	}
	return append(rules, refuse(ruleset.Match{}, "workload to host"))
}
