// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/selector"
)

// Member is an endpoint or a network set as selectors see it: labels that
// stand for addresses.
type Member struct {
	Key api.Key
	// Labels are its own and those that it inherits; not to be changed.
	Labels selector.Map
	Nets   []netip.Prefix
	// Ports are those that have names.
	Ports []api.EndpointPort
}

// Members are everything that a selector can stand for, in the order of their
// keys. Endpoints that count as absent are not among them.
func (w *World) Members() []Member {
	list := make([]Member, 0, len(w.members))
	for _, m := range w.members {
		list = append(list, Member{m.key, m.labels, m.nets, m.ports})
	}
	return list
}

// Selects is what a policy of that key selects, as one selector on the labels
// that Members have. The error is that of a selector that cannot be read: such
// a policy selects nothing.
func Selects(of api.Key, spec api.PolicySpec) (*selector.Selector, error) {
	return policySelector(of, spec)
}

// PeerSelectors are the selectors of one side of a rule of the policy or
// profile "of", on the labels that Members have: the one that the address must
// have, or else the one that it must not have. Both are nil if the side asks
// for no labels. The error is that of a selector that cannot be read.
func PeerSelectors(of api.Key, e api.EntityRule) (positive, negative *selector.Selector, err error) {
	return entitySelectors(e, of)
}

// Narrow is the world as far as it matters at one host, to flows whose
// addresses (Source, Destination and Dialled) are among those given: of such a
// flow Evaluate gives the same Decision as before, and sooner. Of other flows
// its decisions mean nothing.
func (w *World) Narrow(host string, addrs []netip.Addr) *World {
	n := &World{options: w.options, profiles: w.profiles, nodes: w.nodes, felix: w.felix}
	var at []*member // what a policy must select to matter
	for _, h := range w.hosts {
		if h.spec.Node == host {
			n.hosts, at = append(n.hosts, h), append(at, h.member)
		}
	}
	for _, x := range w.workloads {
		if x.spec.Node == host {
			n.workloads, at = append(n.workloads, x), append(at, x.member)
		}
	}
	for _, t := range w.tiers {
		kept := *t
		kept.policies = nil
		for _, p := range t.policies {
			if slices.ContainsFunc(at, func(m *member) bool { return p.selector.Evaluate(m.labels) }) {
				kept.policies = append(kept.policies, p)
			}
		}
		n.tiers = append(n.tiers, &kept)
	}
	among := map[netip.Addr]bool{} // most members have single addresses
	for _, a := range addrs {
		among[plain(a)] = true
	}
	for _, m := range w.members {
		if slices.ContainsFunc(m.nets, func(net netip.Prefix) bool {
			if net.IsSingleIP() {
				return among[net.Addr()]
			}
			return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return net.Contains(plain(a)) })
		}) {
			n.members = append(n.members, m)
		}
	}
	return n
}
