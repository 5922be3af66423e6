// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// Where the same tiers judge the same endpoint before and after, only flows
// that a rule of a policy that differs matches can have another verdict, as a
// policy that has no word on a flow changes nothing. Only those are judged.

// shape is the tiers, directions and phases that policies give an endpoint.
func shape(policies []*enforced) string {
	var list []string
	for _, x := range policies {
		phase := "normal"
		switch {
		case x.spec.DoNotTrack:
			phase = "untracked"
		case x.spec.PreDNAT:
			phase = "preDNAT"
		}
		types := x.spec.Types
		if len(types) == 0 {
			types = []api.PolicyType{api.Ingress, api.Egress}
		}
		for _, d := range types {
			list = append(list, strings.Join([]string{x.tier, string(d), phase}, " "))
			if x.spec.ApplyOnForward {
				list = append(list, strings.Join([]string{x.tier, string(d), phase, "forward"}, " "))
			}
		}
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ",")
}

// rulesOnly reports whether no more than the rules of policies and profiles
// differ for a class.
func (s *study) rulesOnly(c *class) bool {
	if c.whole || c.shapes[0] != c.shapes[1] {
		return false
	}
	for _, p := range []*picture{s.before, s.after} {
		for _, k := range c.policies {
			if x := p.policies[k]; x != nil && s.objects[api.Key{Kind: api.KindTier, Name: x.tier}] {
				return false
			}
		}
	}
	for _, name := range c.profiles {
		if (s.before.profile(name) == nil) != (s.after.profile(name) == nil) {
			return false
		}
	}
	return true
}

// filter is what a rule asks for, or less: of what it cannot tell it is true.
type filter struct {
	protocol     uint8 // 0: any
	source, dest []addresses
	ports        spans[number] // destination ports; nil: any
}

// filters are those of the rules that differ for a class.
func (s *study) filters(c *class) (list []filter) {
	add := func(p *picture, of api.Key, rules ...[]api.Rule) {
		for _, rs := range rules {
			for _, r := range rs {
				list = append(list, p.filter(of, r))
			}
		}
	}
	for _, p := range []*picture{s.before, s.after} {
		for _, k := range c.policies {
			if x := p.policies[k]; x != nil && s.policies[k] {
				add(p, k, x.spec.Ingress, x.spec.Egress)
			}
		}
		for _, name := range c.profiles {
			if x := p.profile(name); x != nil && s.profiles[name] {
				add(p, api.Key{Kind: api.KindProfile, Name: name}, x.Ingress, x.Egress)
			}
		}
	}
	return list
}

func (p *picture) filter(of api.Key, r api.Rule) filter {
	var f filter
	if r.Protocol != nil {
		f.protocol = r.Protocol.Number()
	}
	f.source, f.dest = p.asked(of, r.Source), p.asked(of, r.Destination)
	if !hasPorts(f.protocol) || len(r.Destination.Ports) == 0 {
		return f
	}
	for _, x := range r.Destination.Ports {
		if x.Name != "" || x.Min > x.Max {
			f.ports = nil
			return f
		}
		f.ports = append(f.ports, span[number]{number(x.Min), number(x.Max)})
	}
	f.ports = joined(f.ports)
	return f
}

// asked is the addresses that a side must be of, each of them.
func (p *picture) asked(of api.Key, e api.EntityRule) (list []addresses) {
	if nets := prefixes(e.Nets); len(nets) > 0 && len(nets) == len(e.Nets) {
		list = append(list, addressesOf(nets))
	}
	if positive, _, err := policy.PeerSelectors(of, e); err == nil && positive != nil {
		list = append(list, p.stands(positive).addrs)
	}
	return list
}

// relevant tells which cells of a table rules may match. The zero value is all.
type relevant struct {
	rules []struct{ far, peer, service []bool }
	only  bool
}

// relevantIn is what the filters leave of a table, as far as it is given.
func relevantIn(t *table, way passage, filters []filter) relevant {
	r := relevant{only: true}
	for _, f := range filters {
		far, peer := f.dest, f.source
		if way.peers == destSide {
			far, peer = peer, far
		}
		rule := struct{ far, peer, service []bool }{within(t.far, far), within(t.peers, peer), nil}
		for _, v := range t.services[:t.looked] {
			ok := f.protocol == 0 || f.protocol == v.protocol
			rule.service = append(rule.service, ok && (f.ports == nil || f.ports.has(v.dest.one)))
		}
		r.rules = append(r.rules, rule)
	}
	return r
}

func within(atoms []atom[netip.Addr], each []addresses) []bool {
	out := make([]bool, len(atoms))
	for i, a := range atoms {
		out[i] = !slices.ContainsFunc(each, func(x addresses) bool { return !x.has(a.one) })
	}
	return out
}

// has reports whether a rule may match the flows of a cell.
func (r *relevant) has(far, peer, service int) bool {
	if !r.only {
		return true
	}
	for i := range r.rules {
		if x := &r.rules[i]; x.far[far] && x.peer[peer] && x.service[service] {
			return true
		}
	}
	return false
}
