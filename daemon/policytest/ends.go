// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"fmt"
	"iter"
	"net/netip"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// end is one place that an end of a case stands for.
type end struct {
	place policy.Place
	// endpoints are those at the place; of an address there are none.
	endpoints []policy.Endpoint
	// addresses are all that the place has; none: they are not known to be all.
	addresses []netip.Addr
	// chosen: a selector picked it. Then pairs that mean nothing are left out.
	chosen bool
}

// ends are the places that an end of a case stands for, at least one.
func ends(w *policy.World, field string, e api.PolicyTestEnd) ([]end, error) {
	switch {
	case e.Selector != "":
		return selected(w, field, e)
	case e.IP != "":
		return addresses(field, e.IP)
	}
	text := e.Endpoint
	if e.Host != "" {
		text = "host/" + e.Host
	}
	place, err := policy.ParsePlace(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	x := end{place: place, endpoints: w.EndpointsAt(place)}
	if place.Workload != "" && len(x.endpoints) == 1 {
		x.addresses = x.endpoints[0].Addresses
	}
	return []end{x}, nil
}

// selected are the endpoints that a selector picks.
func selected(w *policy.World, field string, e api.PolicyTestEnd) ([]end, error) {
	found, err := w.Endpoints(e.Selector, e.NamespaceSelector)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if len(found) == 0 {
		text := e.Selector
		if e.NamespaceSelector != "" {
			text += " in namespaces with " + e.NamespaceSelector
		}
		return nil, fmt.Errorf("%s: the selector %s selects no endpoint", field, text)
	}
	var list []end
	for i, x := range found {
		list = append(list, end{place: x.Place, endpoints: found[i : i+1], addresses: x.Addresses, chosen: true})
	}
	return list, nil
}

// addresses are an address, or three of a prefix: the first, the last and one in
// the middle.
func addresses(field, text string) ([]end, error) {
	p, err := api.ParseCIDR(text)
	if err != nil {
		return nil, fmt.Errorf("%s.ip: %q: %w", field, text, err)
	}
	var list []end
	for i, a := range []netip.Addr{p.Addr(), within(p, false), within(p, true)} {
		if i > 0 && a == list[len(list)-1].place.Addr {
			continue
		}
		list = append(list, end{place: policy.Place{Addr: a}, addresses: []netip.Addr{a}})
	}
	return list, nil
}

// within is an address of a prefix: the first of its host bits is set, and the
// others are if rest is. So it is in the middle, or the last.
func within(p netip.Prefix, rest bool) netip.Addr {
	a := p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		if bit == p.Bits() || rest {
			a[bit/8] |= 0x80 >> (bit % 8)
		}
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

// withPorts are the ends of "to" with the port of the case: where it is a name,
// an end for each number that it stands for.
func withPorts(list []end, c *api.PolicyTestCase) ([]end, error) {
	if c.Port == nil {
		return list, nil
	}
	var out []end
	for _, e := range list {
		numbers := map[uint16]bool{}
		var order []uint16
		add := func(n uint16) {
			if !numbers[n] {
				numbers[n] = true
				order = append(order, n)
			}
		}
		if c.Port.Name == "" {
			add(c.Port.Min)
		}
		for _, x := range e.endpoints {
			for _, p := range x.Ports {
				if c.Port.Name != "" && p.Name == c.Port.Name && p.Protocol.Number() == c.Protocol.Number() {
					add(p.Port)
				}
			}
		}
		if len(order) == 0 {
			return nil, fmt.Errorf("to: %s has no port of %s that is named %q", e.place, c.Protocol, c.Port.Name)
		}
		for _, n := range order {
			e.place.Port = n
			out = append(out, e)
		}
	}
	return out, nil
}

// spread are all pairs of two lists, each once, in an order in which each end
// comes early: along the diagonals.
func spread(from, to []end) iter.Seq2[end, end] {
	return func(yield func(end, end) bool) {
		n, m := len(from), len(to)
		lcm := n / gcd(n, m) * m
		for k := range n * m {
			if !yield(from[k%n], to[(k+k/lcm)%m]) {
				return
			}
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// possible tells whether something can be sent from one end to the other over a
// network. Nothing is sent so between a thing that a selector picked and itself,
// or its own host's other endpoints; nor between ends without an IP version in
// common.
func possible(from, to end, protocol uint8) bool {
	if from.chosen || to.chosen {
		for _, a := range from.endpoints {
			for _, b := range to.endpoints {
				hosts := a.Key.Kind == api.KindHostEndpoint && b.Key.Kind == api.KindHostEndpoint
				if a.Key == b.Key || hosts && a.Node == b.Node {
					return false
				}
			}
		}
	}
	for _, v4 := range []bool{true, false} {
		if has(from.addresses, v4) && has(to.addresses, v4) && (protocol != 1 || v4) && (protocol != 58 || !v4) {
			return true
		}
	}
	return false
}

// has tells whether there may be an address of the IP version.
func has(list []netip.Addr, v4 bool) bool {
	for _, a := range list {
		if a.Is4() == v4 {
			return true
		}
	}
	return len(list) == 0
}
