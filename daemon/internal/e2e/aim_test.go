// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// aimRule is a rule with the direction it is for.
type aimRule struct {
	*api.Rule
	ingress bool
}

// probeOf makes a packet for a picture. Half of the packets are aimed at one
// of its rules: they have the rule's protocol, and addresses and ports that it
// names, or that stand beside those. Of random packets alone, few get as far
// as a rule with three conditions.
func (g generator) probeOf(objs []api.Object) probe {
	p := g.aimed(objs)
	g.sendAsWorkload(&p, objs)
	g.dial(&p)
	return p
}

func (g generator) aimed(objs []api.Object) probe {
	p := g.probe()
	var rules []aimRule
	add := func(ingress, egress []api.Rule) {
		for i := range ingress {
			rules = append(rules, aimRule{&ingress[i], true})
		}
		for i := range egress {
			rules = append(rules, aimRule{&egress[i], false})
		}
	}
	for _, o := range objs {
		switch o := o.(type) {
		case *api.GlobalNetworkPolicy:
			add(o.Spec.Ingress, o.Spec.Egress)
		case *api.NetworkPolicy:
			add(o.Spec.Ingress, o.Spec.Egress)
		case *api.Profile:
			add(o.Spec.Ingress, o.Spec.Egress)
		}
	}
	if len(rules) == 0 || chance(g.Rand, 50) {
		return p
	}
	g.aim(&p, pick(g.Rand, rules...), objs)
	return p
}

func (g generator) aim(p *probe, r aimRule, objs []api.Object) {
	k := &p.packet
	// What a workload sends to the host is judged by egress rules.
	asIs := p.hook == ruleset.HookForward || p.hook == ruleset.HookInput && slices.Contains(workloadInterfaces, k.In)
	if !asIs && r.ingress != (p.hook == ruleset.HookInput) {
		p.hook = map[bool]ruleset.Hook{true: ruleset.HookInput, false: ruleset.HookOutput}[r.ingress]
		k.In, k.Out, p.before = pick(g.Rand, "eth0", "eth1"), "", ""
		if !r.ingress {
			k.In, k.Out = "", k.In
			if k.DNATed {
				p.before = pick(g.Rand, "eth0", "eth1", "lo")
			}
		}
	}
	if r.Protocol != nil && r.Protocol.Number() != 0 {
		k.Protocol = r.Protocol.Number()
	}
	src, dst := g.aimAddress(&r.Source, objs), g.aimAddress(&r.Destination, objs)
	switch {
	case src.IsValid() && dst.IsValid() && src.Is4() == dst.Is4():
		k.Src, k.Dst = src, dst
	case src.IsValid():
		k.Src = src
		if k.Dst.Is4() != src.Is4() {
			k.Dst = pick(g.Rand, bordersOf(src)...)
		}
	case dst.IsValid():
		k.Dst = dst
		if k.Src.Is4() != dst.Is4() {
			k.Src = pick(g.Rand, bordersOf(dst)...)
		}
	}
	k.SrcPort, k.DstPort, k.ICMPType, k.ICMPCode = 0, 0, 0, 0
	if ruleset.HasPorts(k.Protocol) {
		k.SrcPort, k.DstPort = g.aimPort(&r.Source), g.aimPort(&r.Destination)
	}
	if k.Protocol == 1 || k.Protocol == 58 {
		k.ICMPType, k.ICMPCode = pick[uint8](g.Rand, 0, 3, 8, 128, 135, 254), pick[uint8](g.Rand, 0, 1, 255)
	}
}

func bordersOf(a netip.Addr) []netip.Addr {
	if a.Is4() {
		return borders4
	}
	return borders6
}

// aimAddress is an address that a side of a rule names, or one that an
// endpoint or set has, selected or not; invalid: any will do.
func (g generator) aimAddress(e *api.EntityRule, objs []api.Object) netip.Addr {
	var nets []string
	if len(e.Nets)+len(e.NotNets) > 0 && chance(g.Rand, 60) {
		nets = append(append(nets, e.Nets...), e.NotNets...)
	} else if e.Selector != "" || e.NotSelector != "" || e.NamespaceSelector != "" || namesPort(e.Ports) || namesPort(e.NotPorts) {
		for _, o := range objs {
			switch o := o.(type) {
			case *api.HostEndpoint:
				nets = append(nets, o.Spec.ExpectedIPs...)
			case *api.WorkloadEndpoint:
				nets = append(nets, o.Spec.IPNetworks...)
			case *api.GlobalNetworkSet:
				nets = append(nets, o.Spec.Nets...)
			case *api.NetworkSet:
				nets = append(nets, o.Spec.Nets...)
			}
		}
	}
	if len(nets) == 0 {
		return netip.Addr{}
	}
	text := pick(g.Rand, nets...)
	if a, err := netip.ParseAddr(text); err == nil {
		return a
	}
	n, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Addr{}
	}
	n = n.Masked()
	a := pick(g.Rand, n.Addr(), n.Addr().Prev(), lastOf(n), lastOf(n).Next())
	if !a.IsValid() {
		a = n.Addr()
	}
	return a
}

func namesPort(list []api.Port) bool {
	for _, p := range list {
		if p.Name != "" {
			return true
		}
	}
	return false
}

// aimPort is a port that a side of a rule names, or one beside it.
func (g generator) aimPort(e *api.EntityRule) uint16 {
	list := append(append([]api.Port(nil), e.Ports...), e.NotPorts...)
	if len(list) == 0 {
		return pick(g.Rand, borderPorts...)
	}
	switch p := pick(g.Rand, list...); {
	case p.Name != "":
		return pick[uint16](g.Rand, 80, 1000, 53)
	case chance(g.Rand, 70):
		return pick(g.Rand, p.Min, p.Max)
	default:
		return pick(g.Rand, p.Min-1, p.Max+1)
	}
}
