// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ripstop/ripstop/daemon/api"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")

// forSeeds runs f with n random sources; a failure names the one to repeat.
func forSeeds(t *testing.T, n int, f func(t *testing.T, g *generator)) {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	} else {
		n = 1
	}
	for i := range uint64(n) {
		if !t.Run(fmt.Sprintf("seed=%d", seed+i), func(t *testing.T) {
			f(t, &generator{rand.New(rand.NewPCG(seed+i, 0))})
		}) {
			t.Fatalf("repeat with: go test -run '%s' -seed %d", t.Name(), seed+i)
		}
	}
}

// generator makes worlds over a small alphabet, so that flows often meet rules.
type generator struct{ *rand.Rand }

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// some is each of the list with probability one half.
func some[T any](g *generator, list ...T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(T) bool { return g.IntN(2) == 0 })
}

var (
	alphabetAddrs = []string{"10.0.0.1", "10.0.0.2", "10.1.0.3", "fd00::1", "fd00::2", "fd01::3"}
	alphabetNets  = []string{"10.0.0.0/24", "10.0.0.2/32", "10.1.0.0/16", "fd00::/64", "fd00::2/128", "0.0.0.0/0", "::/0"}
	alphabetSels  = []string{"a == 'x'", "a != 'x'", "has(b)", "all()", "a in {'x','y'} && !has(b)"}
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

func (g *generator) rule(actions ...api.Action) api.Rule {
	r := api.Rule{Action: pick(g, actions...)}
	switch g.IntN(5) {
	case 0:
		r.Protocol = &api.Protocol{Name: pick(g, "ICMP", "ICMPv6")}
		if t := pick(g, 8, 128, 135); g.IntN(2) == 0 {
			r.ICMP = &api.ICMPFields{Type: &t}
		}
	case 1, 2:
		r.Protocol = &api.Protocol{Name: pick(g, "TCP", "UDP")}
	case 3:
		r.NotProtocol = &api.Protocol{Name: "TCP"}
	}
	if v := pick(g, 4, 6); g.IntN(6) == 0 && !(r.Protocol != nil && r.Protocol.Number() == protoICMP) {
		r.IPVersion = &v
	}
	ports := r.Protocol != nil && r.Protocol.HasPorts()
	r.Source, r.Destination = g.entity(ports), g.entity(ports)
	return r
}

func (g *generator) rules() []api.Rule {
	var rules []api.Rule
	for range g.IntN(4) {
		rules = append(rules, g.rule(api.Allow, api.Deny, api.Pass, api.Log))
	}
	return rules
}

func (g *generator) order() *float64 {
	if g.IntN(4) == 0 {
		return nil
	}
	o := float64(g.IntN(4))
	return &o
}

// objects makes a world; the host is h with eth0, eth1 and lo.
func (g *generator) objects() []api.Object {
	var objs []api.Object
	for _, name := range some(g, "default", "t1", "t2") {
		objs = append(objs, &api.Tier{Meta: api.Meta{Name: name}, Spec: api.TierSpec{Order: g.order(), DefaultAction: pick(g, api.Deny, api.Pass)}})
	}
	for i := range g.IntN(6) {
		p := api.GlobalNetworkPolicy{Meta: api.Meta{Name: fmt.Sprint("p", i)}, Spec: api.PolicySpec{
			Tier: pick(g, "", "default", "t1", "t2"), Order: g.order(), Selector: pick(g, alphabetSels...),
			Types: some(g, api.Ingress, api.Egress), Ingress: g.rules(), Egress: g.rules(), ApplyOnForward: g.IntN(2) == 0,
		}}
		switch g.IntN(6) {
		case 0:
			p.Spec.DoNotTrack, p.Spec.ApplyOnForward = true, true
		case 1:
			p.Spec.PreDNAT, p.Spec.ApplyOnForward = true, true
		}
		if g.IntN(5) == 0 {
			objs = append(objs, &api.StagedGlobalNetworkPolicy{Meta: p.Meta, Spec: p.Spec})
		} else {
			objs = append(objs, &p)
		}
	}
	for i := range g.IntN(4) {
		objs = append(objs, &api.GlobalNetworkSet{Meta: api.Meta{Name: fmt.Sprint("s", i), Labels: g.labels()},
			Spec: api.NetworkSetSpec{Nets: some(g, alphabetNets...)}})
	}
	for i := range g.IntN(4) {
		e := &api.HostEndpoint{Meta: api.Meta{Name: fmt.Sprint("e", i), Labels: g.labels()}, Spec: api.HostEndpointSpec{
			Node: pick(g, "h", "h", "h", "other"), InterfaceName: pick(g, "", "*", "eth0", "eth1", "lo"), ExpectedIPs: some(g, alphabetAddrs...),
			Profiles: some(g, "f0", "f1", api.DefaultAllowProfile)}}
		if g.IntN(2) == 0 {
			e.Spec.Ports = []api.EndpointPort{{Name: "http", Protocol: api.Protocol{Name: "TCP"}, Port: pick[uint16](g, 80, 443)}}
		}
		objs = append(objs, e)
	}
	for i := range g.IntN(4) {
		objs = append(objs, &api.WorkloadEndpoint{Meta: api.Meta{Namespace: "n", Name: fmt.Sprint("w", i), Labels: g.labels()}, Spec: api.WorkloadEndpointSpec{
			Node: pick(g, "h", "h", "h", "other"), InterfaceName: pick(g, "cali1", "cali1", "cali2", "eth1", ""),
			IPNetworks: some(g, "10.0.0.2/32", "10.1.0.3/32", "fd00::2/128"), Profiles: some(g, "f0", "f1", api.DefaultAllowProfile),
			AllowSpoofedSourcePrefixes: pick(g, nil, nil, nil, []string{"10.0.0.0/24", "fd00::/64"})}})
	}
	if g.IntN(2) == 0 {
		objs = append(objs, &api.FelixConfiguration{Meta: api.Meta{Name: "default"}, Spec: api.FelixConfigurationSpec{
			DefaultEndpointToHostAction: pick(g, "", "Drop", "Return", "Accept"), WorkloadSourceSpoofing: pick(g, "", "Any")}})
	}
	for _, name := range some(g, "f0", "f1") {
		objs = append(objs, &api.Profile{Meta: api.Meta{Name: name}, Spec: api.ProfileSpec{Ingress: g.rules(), Egress: g.rules(), LabelsToApply: g.labels()}})
	}
	return objs
}

func (g *generator) flow() Flow {
	v4 := g.IntN(2) == 0
	f := Flow{
		Host: Host{Name: "h", Interfaces: map[string][]netip.Addr{
			"eth0": addrs("10.0.0.1", "fd00::1"), "eth1": addrs("10.1.0.3", "fd01::3"), "lo": addrs("127.0.0.1", "::1")}},
		Direction: pick(g, Inbound, Outbound, Forwarded), InInterface: pick(g, "eth0", "eth1", "lo", "cali1", "cali1", "cali2", ""), OutInterface: pick(g, "eth0", "eth1", "lo", "cali1", "cali2"),
		Protocol: pick[uint8](g, 6, 6, 17, 253, protoICMP, ipInIP), SourcePort: pick[uint16](g, 22, 53, 80, 150, 40000), DestinationPort: pick[uint16](g, 22, 53, 80, 150, 443, 4789),
		ICMPType: pick[uint8](g, 8, 128, 134, 135), State: pick(g, New, New, New, Untracked, Established, Invalid),
	}
	pair := alphabetAddrs[3:]
	if v4 {
		pair = alphabetAddrs[:3]
	} else if f.Protocol == protoICMP {
		f.Protocol = protoICMPv6
	}
	f.Source, f.Destination = netip.MustParseAddr(pick(g, pair...)), netip.MustParseAddr(pick(g, pair...))
	switch {
	case g.IntN(20) == 0:
		f.Source = map[bool]netip.Addr{true: netip.MustParseAddr("127.0.0.1"), false: netip.IPv6Loopback()}[v4]
	case g.IntN(4) == 0:
		f.Dialled = netip.AddrPortFrom(netip.MustParseAddr(pick(g, pair...)), pick[uint16](g, 22, 80, 150))
		f.DialledInterface = pick(g, "", "eth0", "eth1")
	}
	return f
}

const flowsPerWorld = 40

func TestEvaluate_PropOrderOfObjectsDoesNotMatter(t *testing.T) {
	forSeeds(t, 200, func(t *testing.T, g *generator) {
		objs := g.objects()
		other := slices.Clone(objs)
		g.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		a, b := NewWorld(objs, Options{}), NewWorld(other, Options{})
		for range flowsPerWorld {
			f := g.flow()
			if diff := cmp.Diff(a.Evaluate(f), b.Evaluate(f)); diff != "" {
				t.Fatalf("Evaluate(%s) after a shuffle:\n%s", f, diff)
			}
		}
	})
}

// A first tier that denies all leaves only what policy has no say in.
func TestEvaluate_PropDenyAllFirst(t *testing.T) {
	denies := 0
	forSeeds(t, 200, func(t *testing.T, g *generator) {
		objs := g.objects()
		plain, closed := NewWorld(objs, Options{}), NewWorld(append(objs, firstTier(api.Deny)...), Options{})
		for range flowsPerWorld {
			f := g.flow()
			before, after := plain.Evaluate(f), closed.Evaluate(f)
			want := Deny
			switch before.Reason {
			case ReasonNoEndpoint, ReasonEssential, ReasonFailsafe, ReasonEstablished, ReasonToWorkload:
				want = before.Verdict
			}
			if slices.ContainsFunc(before.Steps, func(s Step) bool { return s.Phase.early() && s.Outcome == Allows }) {
				continue // it skips what the tier would deny, perhaps all of it
			}
			if after.Verdict != want {
				t.Fatalf("Evaluate(%s) with a first tier that denies all: %s, want %s\n%v", f, after.Verdict, want, after.Sentences())
			}
			if after.Reason == ReasonRule {
				denies++
			}
		}
	})
	if denies == 0 {
		t.Error("no flow met the rule that denies all: the test tests nothing")
	}
}

// A first tier that allows all leaves only what is invalid or not governed.
func TestEvaluate_PropAllowAllFirst(t *testing.T) {
	forSeeds(t, 200, func(t *testing.T, g *generator) {
		objs := g.objects()
		plain, open := NewWorld(objs, Options{}), NewWorld(append(objs, firstTier(api.Allow)...), Options{})
		for range flowsPerWorld {
			f := g.flow()
			before, after := plain.Evaluate(f), open.Evaluate(f)
			switch after.Reason {
			case ReasonNoEndpoint, ReasonToWorkload:
				if before.Verdict != NotGoverned {
					t.Fatalf("Evaluate(%s) with a first tier that allows all is not governed, but was\n%v", f, before.Sentences())
				}
				continue
			case ReasonInvalid, ReasonUnknownInterface, ReasonLoopbackAddress, ReasonSpoofedSource, ReasonRouterMessage, ReasonEncapsulated, ReasonEndpointToHost:
				continue
			}
			if after.Verdict != Allow && !after.Phase.early() {
				t.Fatalf("Evaluate(%s) with a first tier that allows all: %s, want Allow\n%v", f, after.Verdict, after.Sentences())
			}
		}
	})
}

func firstTier(a api.Action) []api.Object {
	order := -1.0
	return []api.Object{
		&api.Tier{Meta: api.Meta{Name: "first"}, Spec: api.TierSpec{Order: &order}},
		&api.GlobalNetworkPolicy{Meta: api.Meta{Name: "all"}, Spec: api.PolicySpec{Tier: "first", ApplyOnForward: true,
			Types: []api.PolicyType{api.Ingress, api.Egress}, Ingress: []api.Rule{{Action: a}}, Egress: []api.Rule{{Action: a}}}},
	}
}

// What should change no verdict: staged policies taken away, a Log put before
// every rule, a rule split into one rule for each net and port that it lists,
// a set split into one set for each net.
func TestEvaluate_PropNeutralChanges(t *testing.T) {
	eachPolicy := func(objs []api.Object, f func(spec *api.PolicySpec)) []api.Object {
		var list []api.Object
		for _, o := range objs {
			if p, ok := o.(*api.GlobalNetworkPolicy); ok {
				q := *p
				f(&q.Spec)
				o = &q
			}
			list = append(list, o)
		}
		return list
	}
	eachRule := func(rules []api.Rule, f func(api.Rule) []api.Rule) (list []api.Rule) {
		for _, r := range rules {
			list = append(list, f(r)...)
		}
		return list
	}
	withLog := func(r api.Rule) []api.Rule { return []api.Rule{{Action: api.Log}, r} }
	for _, c := range []struct {
		name   string
		change func([]api.Object) []api.Object
	}{
		{"staged policies away", func(objs []api.Object) []api.Object {
			return slices.DeleteFunc(slices.Clone(objs), func(o api.Object) bool { _, ok := o.(*api.StagedGlobalNetworkPolicy); return ok })
		}},
		{"logs", func(objs []api.Object) []api.Object {
			return eachPolicy(objs, func(s *api.PolicySpec) {
				s.Ingress, s.Egress = eachRule(s.Ingress, withLog), eachRule(s.Egress, withLog)
			})
		}},
		{"split rules", func(objs []api.Object) []api.Object {
			return eachPolicy(objs, func(s *api.PolicySpec) {
				s.Ingress, s.Egress = eachRule(s.Ingress, split), eachRule(s.Egress, split)
			})
		}},
		{"split sets", func(objs []api.Object) (list []api.Object) {
			for _, o := range objs {
				set, ok := o.(*api.GlobalNetworkSet)
				if !ok {
					list = append(list, o)
					continue
				}
				for i, n := range set.Spec.Nets {
					list = append(list, &api.GlobalNetworkSet{Meta: api.Meta{Name: fmt.Sprint(set.Name, "-", i), Labels: set.Labels},
						Spec: api.NetworkSetSpec{Nets: []string{n}}})
				}
			}
			return list
		}},
		{"an endpoint of another host without addresses", func(objs []api.Object) []api.Object {
			return append(slices.Clone(objs), &api.HostEndpoint{Meta: api.Meta{Name: "a"}, Spec: api.HostEndpointSpec{Node: "far", InterfaceName: "*"}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			forSeeds(t, 100, func(t *testing.T, g *generator) {
				objs := g.objects()
				a, b := NewWorld(objs, Options{}), NewWorld(c.change(objs), Options{})
				for range flowsPerWorld {
					f := g.flow()
					x, y := a.Evaluate(f), b.Evaluate(f)
					if x.Verdict != y.Verdict || x.Reason != y.Reason || x.Endpoint != y.Endpoint || x.Tier != y.Tier {
						t.Fatalf("Evaluate(%s): %s before, %s after\n%v\n%v", f, short(x), short(y), x.Sentences(), y.Sentences())
					}
				}
			})
		})
	}
}

// split is a rule as one rule for each source net and destination port.
func split(r api.Rule) []api.Rule {
	rules := []api.Rule{r}
	if len(r.Source.Nets) > 0 {
		rules = nil
		for _, n := range r.Source.Nets {
			x := r
			x.Source.Nets = []string{n}
			rules = append(rules, x)
		}
	}
	if len(r.Destination.Ports) == 0 {
		return rules
	}
	var list []api.Rule
	for _, x := range rules {
		for _, p := range r.Destination.Ports {
			y := x
			y.Destination.Ports = []api.Port{p}
			list = append(list, y)
		}
	}
	return list
}

// What decided must be found in the world, and the last step must be the one
// that says so.
func TestEvaluate_PropDecisionNamesWhatDecided(t *testing.T) {
	seen := map[Reason]int{}
	forSeeds(t, 300, func(t *testing.T, g *generator) {
		w := NewWorld(g.objects(), Options{})
		for range flowsPerWorld {
			f := g.flow()
			d := w.Evaluate(f)
			seen[d.Reason]++
			if (d.RuleIndex >= 0) != (d.Reason == ReasonRule || d.Reason == ReasonProfile) {
				t.Fatalf("Evaluate(%s) = %s: a rule is named if and only if one decided", f, short(d))
			}
			if (d.Endpoint == api.Key{}) != (d.Verdict == NotGoverned || d.Reason == ReasonUnknownInterface) {
				t.Fatalf("Evaluate(%s) = %s at %s: an endpoint is named if and only if one governs", f, short(d), d.Endpoint)
			}
			outcome := map[Verdict]Outcome{Allow: Allows, Deny: Denies, NotGoverned: Continues}[d.Verdict]
			decided := slices.ContainsFunc(d.Steps, func(s Step) bool {
				return s.Outcome == outcome && s.Endpoint == d.Endpoint && s.RuleIndex == d.RuleIndex && s.Tier == d.Tier
			})
			if !decided {
				t.Fatalf("Evaluate(%s) = %s, but no step says so:\n%v", f, short(d), d.Sentences())
			}
		}
	})
	for _, r := range []Reason{ReasonNoEndpoint, ReasonEstablished, ReasonInvalid, ReasonEssential, ReasonFailsafe, ReasonRule, ReasonEndOfTier,
		ReasonProfile, ReasonMissingProfile, ReasonNothingAllows, ReasonNoForwardPolicy, ReasonPassed, ReasonToWorkload, ReasonUnknownInterface,
		ReasonLoopbackAddress, ReasonSpoofedSource, ReasonRouterMessage, ReasonEncapsulated, ReasonEndpointToHost} {
		if *seedFlag == 0 && seen[r] == 0 {
			t.Errorf("no flow was decided by %s: the generator is too narrow", r)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	g := &generator{rand.New(rand.NewPCG(1, 0))}
	var worlds []*World
	var flows []Flow
	for range 64 {
		worlds, flows = append(worlds, NewWorld(g.objects(), Options{})), append(flows, g.flow())
	}
	for i := 0; b.Loop(); i++ {
		worlds[i%64].Evaluate(flows[i/64%64])
	}
}
