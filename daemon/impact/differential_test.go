// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random test; 0: fifteen fixed ones")

// generator makes pictures and changes of them over a small alphabet.
type generator struct{ *rand.Rand }

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func some[T any](g *generator, list ...T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(T) bool { return g.IntN(2) == 0 })
}

var (
	alphabetAddrs = []string{"10.0.0.1", "10.0.0.2", "10.1.0.3", "192.0.2.9", "fd00::1", "fd00::2", "fd01::3", "2001:db8::9"}
	alphabetNets  = []string{"10.0.0.0/24", "10.0.0.2/32", "10.1.0.0/16", "fd00::/64", "fd00::2/128", "0.0.0.0/0", "::/0"}
	alphabetSels  = []string{"a == 'x'", "a != 'x'", "has(b)", "all()", "a in {'x','y'} && !has(b)"}
	alphabetPorts = []uint16{22, 53, 79, 80, 81, 100, 150, 200, 443, 4789}
)

func (g *generator) labels() map[string]string {
	l := map[string]string{}
	for _, k := range some(g, "a", "b") {
		l[k] = pick(g, "x", "y")
	}
	return l
}

func (g *generator) ports() []api.Port {
	return some(g, api.SinglePort(80), api.Port{Min: 100, Max: 200}, api.Port{Name: "http"})
}

func (g *generator) entity(ports bool) api.EntityRule {
	var e api.EntityRule
	if g.IntN(3) == 0 {
		e.Nets = some(g, alphabetNets...)
	}
	if g.IntN(4) == 0 {
		e.NotNets = some(g, alphabetNets[:5]...)
	}
	if g.IntN(3) == 0 {
		e.Selector = pick(g, alphabetSels...)
	}
	if g.IntN(5) == 0 {
		e.NotSelector = pick(g, alphabetSels...)
	}
	if ports && g.IntN(3) == 0 {
		e.Ports = g.ports()
	}
	if ports && g.IntN(5) == 0 {
		e.NotPorts = g.ports()
	}
	return e
}

func (g *generator) rules() []api.Rule {
	var rules []api.Rule
	for range g.IntN(3) {
		r := api.Rule{Action: pick(g, api.Allow, api.Allow, api.Deny, api.Pass, api.Log)}
		switch g.IntN(6) {
		case 0:
			r.Protocol = &api.Protocol{Name: pick(g, "ICMP", "ICMPv6")}
			if kind, code := pick(g, 8, 128, 135), pick(g, 0, 1); g.IntN(2) == 0 {
				r.ICMP = &api.ICMPFields{Type: &kind}
				if g.IntN(2) == 0 {
					r.ICMP.Code = &code
				}
			}
		case 1, 2, 3:
			r.Protocol = &api.Protocol{Name: pick(g, "TCP", "UDP")}
		case 4:
			r.NotProtocol = &api.Protocol{Name: "TCP"}
		}
		if v := pick(g, 4, 6); g.IntN(6) == 0 && !(r.Protocol != nil && r.Protocol.Number() == icmp) {
			r.IPVersion = &v
		}
		ports := r.Protocol != nil && r.Protocol.HasPorts()
		r.Source, r.Destination = g.entity(ports), g.entity(ports)
		rules = append(rules, r)
	}
	return rules
}

func (g *generator) order() *float64 {
	o := float64(g.IntN(4))
	return &o
}

func (g *generator) policy(name string) api.Object {
	p := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: name}, Spec: api.PolicySpec{
		Tier: pick(g, "", "default", "t1", "t2"), Order: g.order(), Selector: pick(g, alphabetSels...),
		Types: some(g, api.Ingress, api.Egress), Ingress: g.rules(), Egress: g.rules(), ApplyOnForward: g.IntN(4) == 0,
	}}
	switch g.IntN(8) {
	case 0:
		p.Spec.DoNotTrack, p.Spec.ApplyOnForward = true, true
	case 1:
		p.Spec.PreDNAT, p.Spec.ApplyOnForward = true, true
	case 2:
		return &api.StagedGlobalNetworkPolicy{Meta: p.Meta, Spec: p.Spec}
	}
	return p
}

func (g *generator) set(name string) api.Object {
	return &api.GlobalNetworkSet{Meta: api.Meta{Name: name, Labels: g.labels()}, Spec: api.NetworkSetSpec{Nets: some(g, alphabetNets...)}}
}

func (g *generator) hostEndpoint(name string) api.Object {
	e := &api.HostEndpoint{Meta: api.Meta{Name: name, Labels: g.labels()}, Spec: api.HostEndpointSpec{
		Node: pick(g, "h", "i"), InterfaceName: pick(g, "", "*", "*", "eth0", "eth1"), ExpectedIPs: some(g, alphabetAddrs...),
		Profiles: some(g, "f0", "f1", api.DefaultAllowProfile)}}
	if g.IntN(2) == 0 {
		e.Spec.Ports = []api.EndpointPort{{Name: "http", Protocol: api.Protocol{Name: "TCP"}, Port: pick[uint16](g, 80, 443)}}
	}
	return e
}

func (g *generator) workload(name string) api.Object {
	return &api.WorkloadEndpoint{Meta: api.Meta{Namespace: "n", Name: name, Labels: g.labels()}, Spec: api.WorkloadEndpointSpec{
		Node: pick(g, "h", "i"), InterfaceName: pick(g, "cali1", "cali2"), IPNetworks: some(g, "10.0.0.2/32", "10.1.0.3/32", "fd00::2/128"),
		Profiles: some(g, "f0", "f1", api.DefaultAllowProfile)}}
}

func (g *generator) tier(name string) api.Object {
	return &api.Tier{Meta: api.Meta{Name: name}, Spec: api.TierSpec{Order: g.order(), DefaultAction: pick(g, api.Deny, api.Pass)}}
}

func (g *generator) profile(name string) api.Object {
	return &api.Profile{Meta: api.Meta{Name: name}, Spec: api.ProfileSpec{Ingress: g.rules(), Egress: g.rules(), LabelsToApply: g.labels()}}
}

func (g *generator) felix(string) api.Object {
	failsafes := &[]api.ProtoPort{{Protocol: "tcp", Port: pick[uint16](g, 22, 443), Net: pick(g, "", "10.0.0.0/24")}}
	return &api.FelixConfiguration{Meta: api.Meta{Name: "default"}, Spec: api.FelixConfigurationSpec{
		DefaultEndpointToHostAction: pick(g, "", "Drop", "Return", "Accept"), FailsafeInboundHostPorts: pick(g, nil, failsafes)}}
}

// makers make an object of a kind under a name.
func (g *generator) makers() []func(string) api.Object {
	return []func(string) api.Object{g.policy, g.policy, g.policy, g.set, g.set, g.hostEndpoint, g.hostEndpoint, g.workload, g.tier, g.profile, g.felix}
}

func (g *generator) object(i int) api.Object {
	makers := g.makers()
	n := g.IntN(len(makers))
	names := map[int]string{8: pick(g, "default", "t1", "t2"), 9: pick(g, "f0", "f1")}
	if name, ok := names[n]; ok {
		return makers[n](name)
	}
	return makers[n](fmt.Sprint("o", i))
}

// objects are some, each under its own name.
func (g *generator) objects() map[api.Key]api.Object {
	out := map[api.Key]api.Object{}
	for i := range 4 + g.IntN(10) {
		o := g.object(i)
		out[o.Key()] = o
	}
	return out
}

func pictureFrom(objs map[api.Key]api.Object) Picture {
	list := slices.Collect(maps.Values(objs))
	return Picture{list, policy.NewWorld(list, policy.Options{})}
}

// seatsOf are all places where something may govern in either picture.
func seatsOf(s *study) (list []endpoint) {
	keys := slices.Concat(slices.Collect(maps.Keys(s.before.members)), slices.Collect(maps.Keys(s.after.members)))
	slices.SortFunc(keys, api.Key.Compare)
	seen := map[[2]string]bool{}
	for _, k := range keys {
		is, now := s.after.placeOf(k)
		was, then := s.before.placeOf(k)
		add := func(e endpoint) {
			if seat := [2]string{e.place.host, e.seat()}; !seen[seat] {
				seen[seat] = true
				list = append(list, e)
			}
		}
		if now {
			add(endpoint{k, is, s.after, nil})
		}
		if then && (!now || was.host != is.host || was.iface != is.iface) {
			add(endpoint{k, was, s.before, nil})
		}
	}
	return list
}

// shared reports whether an endpoint without an interface has an address that
// another one has: then the interface with it is the other's, if that comes
// first, and lines name that.
func shared(s *study, e endpoint) bool {
	if e.place.iface != "" {
		return false
	}
	for _, p := range []*picture{s.before, s.after} {
		for k, m := range p.members {
			at, there := p.placeOf(k)
			if k == e.key || !there || k.Kind != api.KindHostEndpoint || at.iface != "" || at.host != e.place.host {
				continue
			}
			if slices.ContainsFunc(m.Nets, func(n netip.Prefix) bool { return slices.Contains(e.now.members[e.key].Nets, n) }) {
				return true
			}
		}
	}
	return false
}

// flowsPast are all flows of the alphabet past an endpoint.
func flowsPast(e endpoint, way passage, visit func(policy.Flow)) {
	for _, family := range []int{v4, v6} {
		var peers, own []netip.Addr
		for _, text := range alphabetAddrs {
			if a := netip.MustParseAddr(text); familyOf(a) == family {
				peers = append(peers, a)
			}
		}
		far := peers
		if way.own {
			for _, a := range e.now.addressesOf(e.key, e.place) {
				if familyOf(a) == family {
					own = append(own, a)
				}
			}
			if far = own; len(own) == 0 && e.key.Kind == api.KindHostEndpoint {
				far = []netip.Addr{lines[family].first}
			}
		}
		host := policy.Host{Name: e.place.host}
		if e.key.Kind == api.KindHostEndpoint && e.place.iface == "" {
			host.Interfaces = map[string][]netip.Addr{e.seat(): e.now.addressesOf(e.key, e.place)}
		}
		for _, peer := range peers {
			for _, x := range far {
				f := policy.Flow{Host: host, Direction: way.direction, InInterface: way.in, OutInterface: way.out, Source: peer, Destination: x}
				if way.peers == destSide {
					f.Source, f.Destination = x, peer
				}
				for _, p := range []uint8{tcp, udp} {
					for _, port := range alphabetPorts {
						for _, sport := range []uint16{40000, 80, 22} {
							g := f
							g.Protocol, g.SourcePort, g.DestinationPort = p, sport, port
							visit(g)
						}
					}
				}
				for _, t := range []uint8{0, 3, 8, 128, 134, 135} {
					for _, code := range []uint8{0, 1, 4} {
						g := f
						g.Protocol, g.ICMPType, g.ICMPCode = [2]uint8{icmp, icmpv6}[family], t, code
						visit(g)
					}
				}
				for _, p := range []uint8{ipInIP, sctp, 47} {
					g := f
					g.Protocol, g.SourcePort, g.DestinationPort = p, 40000, 80
					visit(g)
				}
			}
		}
	}
}

// What is said is all that brute force finds, and nothing else; and where there
// is too much to look at, nothing else, and that there is.
func TestOf_SaysAllThatBruteForceFinds(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		// Those that found something, and some others.
		seeds = []uint64{1795921371678552053, 1795922378250744740, rand.Uint64(), rand.Uint64(), rand.Uint64()}
		for n := range uint64(12) {
			seeds = append(seeds, 1+n)
		}
	}
	changes, flows := 0, 0
	for _, seed := range seeds {
		g := &generator{rand.New(rand.NewPCG(seed, 0))}
		objs := g.objects()
		then := maps.Clone(objs)
		for range 1 + g.IntN(2) {
			keys := slices.SortedFunc(maps.Keys(objs), api.Key.Compare)
			switch k := pick(g, keys...); g.IntN(3) {
			case 0:
				delete(then, k)
			default:
				o := g.object(g.IntN(14))
				then[o.Key()] = o
			}
		}
		before, after := pictureFrom(objs), pictureFrom(then)
		s := newStudy(before, after)
		bounded := g.IntN(5) == 0
		if s.work *= 100; bounded { // the usual bound is for interactive use
			s.work = 2000
		}
		found := s.look()
		if len(s.limits()) > 0 && !bounded {
			t.Fatalf("seed %d: a small change was not looked at as a whole: %v", seed, s.limits())
		}
		for _, e := range seatsOf(s) {
			if shared(s, e) {
				continue
			}
			for _, way := range passages(e, true) {
				flowsPast(e, way, func(f policy.Flow) {
					was, is := before.World.Evaluate(f).Verdict.Passes(), after.World.Evaluate(f).Verdict.Passes()
					flows++
					var said []string
					for _, x := range found {
						if x.has(e, way, f) {
							said = append(said, map[bool]string{true: "gain", false: "loss"}[x.gain])
						}
					}
					var want []string
					if was != is {
						changes++
						want = []string{map[bool]string{true: "gain", false: "loss"}[is]}
					}
					if len(said) == 0 && len(s.limits()) > 0 {
						return // it was not looked at, and that is said
					}
					if !slices.Equal(said, want) {
						t.Fatalf("seed %d: %s past %s: said %v, want %v\nbefore: %v\nafter: %v\nlines: %v", seed, f, e.key, said, want,
							before.World.Evaluate(f), after.World.Evaluate(f), Of(before, after).Lines())
					}
				})
			}
		}
		Of(before, after).Lines()
	}
	t.Logf("%d flows, %d of them changed", flows, changes)
	if changes == 0 && *seedFlag == 0 {
		t.Error("no change changed anything: the test tests nothing")
	}
}
