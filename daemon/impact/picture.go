// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/selector"
)

// Picture is all resources at one time.
type Picture struct {
	Objects []api.Object
	World   *policy.World // of the objects
}

// picture is a Picture as it is asked here.
type picture struct {
	world    *policy.World
	objects  map[api.Key]api.Object
	members  map[api.Key]policy.Member
	policies map[api.Key]*enforced
	known    map[string]named // by selector
	// labels names what selectors stand for: the same in both pictures if they
	// stand for the same.
	labels string
}

// enforced is a policy that has a say.
type enforced struct {
	key  api.Key
	spec *api.PolicySpec
	tier string
	sel  *selector.Selector
	text string // of the selector, in one form
}

func pictureOf(p Picture) *picture {
	out := &picture{world: p.World, objects: map[api.Key]api.Object{}, members: map[api.Key]policy.Member{}, policies: map[api.Key]*enforced{}, known: map[string]named{}}
	for _, o := range p.Objects {
		key := o.Key()
		if u, bad := o.(*api.Unreadable); bad {
			if o = u.Salvaged; o == nil {
				continue
			}
		}
		out.objects[key] = o
		spec := api.PolicySpecOf(o)
		if spec == nil || staged(key.Kind) {
			continue
		}
		if sel, err := policy.Selects(key, *spec); err == nil {
			out.policies[key] = &enforced{key, spec, cmp.Or(spec.Tier, api.DefaultTier), sel, sel.String()}
		}
	}
	for _, m := range p.World.Members() {
		out.members[m.Key] = m
	}
	return out
}

func staged(k api.Kind) bool {
	return k == api.KindStagedGlobalNetworkPolicy || k == api.KindStagedNetworkPolicy
}

func isEndpoint(k api.Kind) bool { return k == api.KindHostEndpoint || k == api.KindWorkloadEndpoint }

// profile is the rules of a profile; nil: it is not there, or says all in its
// name.
func (p *picture) profile(name string) *api.ProfileSpec {
	if x, ok := p.objects[api.Key{Kind: api.KindProfile, Name: name}].(*api.Profile); ok && name != api.DefaultAllowProfile {
		return &x.Spec
	}
	return nil
}

// place is where an endpoint is.
type place struct {
	host, iface string
	profiles    []string
	ports       []api.EndpointPort
}

// placeOf is where an endpoint is; false: it is not there.
func (p *picture) placeOf(k api.Key) (place, bool) {
	if _, there := p.members[k]; !there {
		return place{}, false
	}
	switch x := p.objects[k].(type) {
	case *api.HostEndpoint:
		return place{x.Spec.Node, x.Spec.InterfaceName, x.Spec.Profiles, x.Spec.Ports}, true
	case *api.WorkloadEndpoint:
		return place{x.Spec.Node, x.Spec.InterfaceName, x.Spec.Profiles, p.members[k].Ports}, true
	}
	return place{}, false
}

// addressesOf are the addresses of an endpoint: its own, or else those that
// its host's Node has there.
func (p *picture) addressesOf(k api.Key, at place) []netip.Addr {
	var list []netip.Addr
	for _, n := range p.members[k].Nets {
		if n.IsSingleIP() {
			list = append(list, n.Addr())
		}
	}
	if len(list) > 0 {
		return list
	}
	return p.hostAddresses(at.host, at.iface)
}

// hostAddresses are those of a host's interface as its Node has them, or of
// the host.
func (p *picture) hostAddresses(host, iface string) []netip.Addr {
	node, ok := p.objects[api.Key{Kind: api.KindNode, Name: host}].(*api.Node)
	if !ok {
		return nil
	}
	var texts []string
	for _, i := range node.Spec.Interfaces {
		if i.Name == iface {
			texts = append(texts, i.Addresses...)
		}
	}
	if len(texts) == 0 {
		for _, a := range node.Spec.Addresses {
			texts = append(texts, a.Address)
		}
		if b := node.Spec.BGP; b != nil {
			texts = append(texts, b.IPv4Address, b.IPv6Address)
		}
	}
	var list []netip.Addr
	for _, t := range texts {
		if n, err := netip.ParsePrefix(t); err == nil {
			list = append(list, n.Addr().Unmap())
		} else if a, err := netip.ParseAddr(t); err == nil {
			list = append(list, a.Unmap().WithZone(""))
		}
	}
	return slices.DeleteFunc(list, netip.Addr.IsLoopback)
}

// named is what a selector stands for.
type named struct {
	members []policy.Member
	addrs   addresses
}

// stands is what a selector stands for; of several questions the first costs.
func (p *picture) stands(s *selector.Selector) named {
	text := s.String()
	n, ok := p.known[text]
	if ok {
		return n
	}
	var nets []netip.Prefix
	for _, m := range p.members {
		if s.Evaluate(m.Labels) {
			n.members = append(n.members, m)
			nets = append(nets, m.Nets...)
		}
	}
	slices.SortFunc(n.members, func(a, b policy.Member) int { return a.Key.Compare(b.Key) })
	n.addrs = addressesOf(nets)
	p.known[text] = n
	return n
}

// differing are the keys of objects that are not the same in both pictures.
func differing(before, after *picture) map[api.Key]bool {
	out := map[api.Key]bool{}
	for k, o := range before.objects {
		if p, there := after.objects[k]; !there || !same(o, p) {
			out[k] = true
		}
	}
	for k := range after.objects {
		if _, there := before.objects[k]; !there {
			out[k] = true
		}
	}
	return out
}

// same reports whether two objects say the same, but for what no verdict
// depends on.
func same(a, b api.Object) bool {
	if a == b {
		return true
	}
	a, b = api.Clone(a), api.Clone(b)
	for _, o := range []api.Object{a, b} {
		m := o.Metadata()
		*m = api.Meta{Name: m.Name, Namespace: m.Namespace, Labels: m.Labels, CreationTimestamp: m.CreationTimestamp}
		if o.Key().Kind != api.KindFelixConfiguration { // of which the oldest counts
			m.CreationTimestamp = api.Time{}
		}
	}
	return reflect.DeepEqual(a, b)
}

// differingMembers are the endpoints and sets that stand for other addresses,
// or have other labels, in one picture than in the other.
func differingMembers(before, after *picture) map[api.Key]bool {
	out := map[api.Key]bool{}
	for k, m := range before.members {
		n, there := after.members[k]
		if !there || !maps.Equal(m.Labels, n.Labels) || !slices.Equal(m.Nets, n.Nets) || !slices.Equal(m.Ports, n.Ports) {
			out[k] = true
		}
	}
	for k := range after.members {
		if _, there := before.members[k]; !there {
			out[k] = true
		}
	}
	return out
}
