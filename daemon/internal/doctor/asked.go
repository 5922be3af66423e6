// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// A fleet has thousands of endpoints and hundreds of policies, and the
// reference semantics ask one packet after the other. To keep the number of
// questions small, classes of addresses are joined for each port: those that no
// rule which can decide about this port tells apart.

// asked is one rule, with who its source is.
type asked struct {
	rule  api.Rule
	peers func(netip.Addr) bool
	// match has "1" for each class of a family that the source matches, else
	// "0"; empty: not asked yet.
	match map[int]string
}

// settingsOf are the resources that settings follow from.
func settingsOf(objs []api.Object) []api.Object {
	return slices.DeleteFunc(slices.Clone(objs), func(o api.Object) bool {
		switch o.(type) {
		case *api.FelixConfiguration, *api.Node:
			return false
		}
		return true
	})
}

// seenFrom leaves out the endpoints and network sets that no class's example
// and no address of this host, or behind it, is in: they have no say.
func (x *exposer) seenFrom(objs []api.Object) []api.Object {
	var examples []netip.Addr
	for _, list := range x.classes {
		for _, c := range list {
			examples = append(examples, c.example)
		}
	}
	examples = append(examples, x.own...)
	for _, p := range publishedPorts(x.facts.Tables) {
		examples = append(examples, p.To.Addr())
	}
	slices.SortFunc(examples, netip.Addr.Compare)
	needed := func(nets []string) bool {
		return slices.ContainsFunc(nets, func(n string) bool {
			p, ok := parsePrefix(n)
			i, found := slices.BinarySearchFunc(examples, p.Addr(), netip.Addr.Compare)
			return ok && (found || i < len(examples) && p.Contains(examples[i]))
		})
	}
	return slices.DeleteFunc(slices.Clone(objs), func(o api.Object) bool {
		switch m := o.(type) {
		case *api.GlobalNetworkSet:
			return !needed(m.Spec.Nets)
		case *api.NetworkSet:
			return !needed(m.Spec.Nets)
		case *api.HostEndpoint:
			return m.Spec.Node != x.host.Name && !needed(m.Spec.ExpectedIPs)
		case *api.WorkloadEndpoint:
			return m.Spec.Node != x.host.Name && !needed(m.Spec.IPNetworks)
		}
		return false
	})
}

// askedRules are the rules of all policies and profiles.
func (x *exposer) askedRules(objs []api.Object) []*asked {
	var out []*asked
	for _, o := range objs {
		if u, bad := o.(*api.Unreadable); bad {
			o = u.Salvaged
		}
		for _, r := range rulesOf(o) {
			out = append(out, &asked{rule: r, peers: x.world.Peers(o.Key(), r.Source), match: map[int]string{}})
		}
	}
	return out
}

// about tells whether a rule can decide about a port at all.
func (r *asked) about(a approach) bool {
	p := r.rule.Protocol
	if p != nil && p.Number() != 0 && p.Number() != a.protocol || r.rule.IPVersion != nil && *r.rule.IPVersion != a.family {
		return false
	}
	ports := r.rule.Destination.Ports
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p api.Port) bool {
		in := func(n uint16) bool { return p.Min <= n && n <= p.Max }
		return p.Name != "" || in(a.dialled.Port()) || a.published != nil && in(a.to.Port())
	})
}

// matches is match, asked for now.
func (r *asked) matches(x *exposer, family int) string {
	if r.match[family] == "" {
		var b strings.Builder
		for _, c := range x.classes[family] {
			b.WriteByte(map[bool]byte{true: '1', false: '0'}[r.peers(c.example)])
		}
		r.match[family] = b.String()
	}
	return r.match[family]
}

// representatives are the classes that something which can decide about a port
// tells apart, each with the nets of all that are alike; anybody first.
func (x *exposer) representatives(a approach) []*class {
	classes := x.classes[a.family]
	keys := make([]strings.Builder, len(classes))
	id := map[int]string{4: "4", 6: "6"}[a.family]
	seen := map[string]bool{}
	for _, r := range x.rules {
		if !r.about(a) {
			continue
		}
		m := r.matches(x, a.family)
		if seen[m] {
			continue // another rule has the same sources
		}
		seen[m] = true
		id += " " + m
		for i := range classes {
			keys[i].WriteByte(m[i])
		}
	}
	if list, ok := x.alike[id]; ok {
		return list
	}
	var out []*class
	byKey := map[string]*class{}
	for i, c := range classes {
		k := keys[i].String() + c.beside
		if old := byKey[k]; old != nil {
			old.nets = append(old.nets, c.nets...)
			old.names = append(old.names, c.names...)
			continue
		}
		joined := &class{example: c.example, nets: slices.Clone(c.nets), names: slices.Clone(c.names), anybody: c.anybody}
		byKey[k] = joined
		out = append(out, joined)
	}
	x.alike[id] = out
	return out
}
