// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/selector"
)

// The sides of a flow.
const (
	sourceSide = "source"
	destSide   = "destination"
)

// cuts is all that the rules of a class tell apart.
type cuts struct {
	source, dest addressCuts
	services     [2]*serviceCuts // by family
	names        []naming        // that lines may use for addresses
	forward      bool            // a policy judges what is forwarded
}

// addressCuts are different parts of the lines. What policies say that may
// judge otherwise comes first.
type addressCuts struct {
	list  []addresses
	first int // so many of the list are of such policies
	seen  map[string]bool
}

func (c *addressCuts) add(key string, a addresses) {
	if c.seen[key] {
		return
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[key] = true
	if !a.empty() {
		c.list = append(c.list, a)
	}
}

// line is the cuts of one family.
func (c *addressCuts) line(family int) (list []spans[netip.Addr]) {
	for _, a := range c.list {
		list = append(list, a[family])
	}
	return append(list, loopbacks[family])
}

// naming is a word for addresses.
type naming struct {
	text  string
	addrs addresses
}

// cutsOf are the cuts of a class.
func (s *study) cutsOf(c *class) *cuts {
	out := &cuts{services: [2]*serviceCuts{newServiceCuts(), newServiceCuts()}}
	for _, changed := range []bool{true, false} {
		for _, p := range []*picture{s.before, s.after} {
			for _, k := range c.policies {
				x := p.policies[k]
				if x == nil || s.policies[k] != changed {
					continue
				}
				out.forward = out.forward || x.spec.ApplyOnForward || x.spec.PreDNAT || x.spec.DoNotTrack
				s.rules(out, p, k, x.spec.Ingress, x.spec.Egress)
			}
			for _, name := range c.profiles {
				if x := p.profile(name); x != nil && s.profiles[name] == changed {
					s.rules(out, p, api.Key{Kind: api.KindProfile, Name: name}, x.Ingress, x.Egress)
				}
			}
		}
		if changed {
			out.source.first, out.dest.first = len(out.source.list), len(out.dest.list)
		}
	}
	for _, p := range []*picture{s.before, s.after} {
		first := c.endpoints[0]
		out.settings(p.world.Settings(first.place.host), first.key.Kind == api.KindWorkloadEndpoint)
	}
	return out
}

// rules adds what rules of a policy or profile tell apart.
func (s *study) rules(c *cuts, p *picture, of api.Key, lists ...[]api.Rule) {
	for _, list := range lists {
		for _, r := range list {
			c.protocols(r)
			for _, side := range []struct {
				name  string
				e     api.EntityRule
				addrs *addressCuts
			}{{sourceSide, r.Source, &c.source}, {destSide, r.Destination, &c.dest}} {
				s.entity(c, p, of, r, side.name, side.e, side.addrs)
			}
		}
	}
}

// protocols adds protocols and ICMP types.
func (c *cuts) protocols(r api.Rule) {
	var of uint8
	for _, x := range []*api.Protocol{r.Protocol, r.NotProtocol} {
		if x == nil || x.Number() == 0 {
			continue
		}
		for _, services := range c.services {
			services.protocols[x.Number()] = true
		}
		if x == r.Protocol {
			of = x.Number()
		}
	}
	for _, x := range []*api.ICMPFields{r.ICMP, r.NotICMP} {
		if x == nil || x.Type == nil {
			continue
		}
		switch of {
		case icmp:
			c.services[v4].icmp(icmp, *x.Type, x.Code)
		case icmpv6:
			c.services[v6].icmp(icmpv6, *x.Type, x.Code)
		}
	}
}

// entity adds one side of a rule.
func (s *study) entity(c *cuts, p *picture, of api.Key, r api.Rule, side string, e api.EntityRule, addrs *addressCuts) {
	for _, nets := range [][]string{e.Nets, e.NotNets} {
		if len(nets) > 0 {
			addrs.add(fmt.Sprint(nets), addressesOf(prefixes(nets)))
		}
	}
	positive, negative, err := policy.PeerSelectors(of, e)
	if err != nil {
		positive, negative = nil, nil // the condition is the same for all
	}
	if sel := positive; sel != nil || negative != nil {
		if sel == nil {
			sel = negative
		}
		is := p.stands(sel)
		addrs.add(p.labels+" "+sel.String(), is.addrs)
		words := sel.String()
		if e.Selector != "" && of.Namespace == "" && e.NamespaceSelector == "" && e.ServiceAccounts == nil && e.NotSelector == "" {
			words = e.Selector
		}
		c.names = append(c.names, naming{s.nameOf(is, words), is.addrs})
	}
	var protocol uint8
	if r.Protocol != nil {
		protocol = r.Protocol.Number()
	}
	for _, ports := range [][]api.Port{e.Ports, e.NotPorts} {
		var list spans[number]
		for _, x := range ports {
			switch {
			case x.Name != "":
				s.namedPort(c, p, x.Name, positive, side, addrs)
			case x.Min <= x.Max:
				list = append(list, span[number]{number(x.Min), number(x.Max)})
			}
		}
		if len(list) > 0 {
			c.port(protocol, side, joined(list))
		}
	}
}

// namedPort adds the endpoints that have a port of that name, with the number
// it is there.
func (s *study) namedPort(c *cuts, p *picture, name string, of *selector.Selector, side string, addrs *addressCuts) {
	type port struct {
		protocol uint8
		number   uint16
	}
	nets := map[port][]netip.Prefix{}
	for _, m := range p.members {
		if len(m.Ports) == 0 || of != nil && !of.Evaluate(m.Labels) {
			continue
		}
		for _, x := range m.Ports {
			if x.Name == name {
				k := port{x.Protocol.Number(), x.Port}
				nets[k] = append(nets[k], m.Nets...)
			}
		}
	}
	for k, list := range nets {
		c.port(k.protocol, side, spans[number]{{number(k.number), number(k.number)}})
		addrs.add(fmt.Sprintf("%s port %s %v %v", p.labels, name, k, of), addressesOf(list))
	}
}

// prefixes reads nets; what is none restricts nothing.
func prefixes(texts []string) (list []netip.Prefix) {
	for _, t := range texts {
		if n, err := netip.ParsePrefix(t); err == nil {
			list = append(list, n)
		} else if a, err := netip.ParseAddr(t); err == nil && a.Zone() == "" {
			list = append(list, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
	}
	return list
}

// port tells ports of a protocol apart, in both families.
func (c *cuts) port(protocol uint8, side string, list spans[number]) {
	for _, services := range c.services {
		services.port(protocol, side, list)
	}
}

// settings adds what a host's settings tell apart: failsafes, ports and
// protocols that workloads must not use, and what IPv6 needs.
func (c *cuts) settings(set policy.Settings, workload bool) {
	for _, f := range slices.Concat(set.FailsafeInbound, set.FailsafeOutbound) {
		port := spans[number]{{number(f.Port), number(f.Port)}}
		c.port(f.Protocol, destSide, port)
		if c.forward { // early policy knows answers by their source port
			c.port(f.Protocol, sourceSide, port)
		}
		if f.Net.IsValid() { // of the peer, and of who answers one
			nets := addressesOf([]netip.Prefix{f.Net})
			c.source.add(f.Net.String(), nets)
			c.dest.add(f.Net.String(), nets)
		}
	}
	if workload {
		for _, services := range c.services {
			services.protocols[ipInIP] = true
		}
		c.port(udp, destSide, spans[number]{{number(set.VXLANPort), number(set.VXLANPort)}})
	}
	for _, d := range []policy.Direction{policy.Inbound, policy.Outbound} {
		for _, t := range policy.Essential(d) {
			c.services[v6].icmp(icmpv6, int(t), nil)
		}
	}
	for _, t := range []int{134, 137} { // what only routers send (RFC 4861)
		c.services[v6].icmp(icmpv6, t, nil)
	}
	if c.forward { // what routers say of a path's MTU (RFC 1191, RFC 4443)
		code := 4
		c.services[v4].icmp(icmp, 3, &code)
		c.services[v6].icmp(icmpv6, 2, nil)
	}
}

// ipInIP is IANA's number of IPv4 in IP (RFC 2003).
const ipInIP = 4
