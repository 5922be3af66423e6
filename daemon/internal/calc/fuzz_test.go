// SPDX-License-Identifier: Apache-2.0

package calc_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc/calctest"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/selector"
)

// gen makes random resources out of few words, so that they have much to do
// with each other.
type gen struct{ *rand.Rand }

func pick[T any](g gen, list ...T) T { return list[g.IntN(len(list))] }

func (g gen) labels() map[string]string {
	m := map[string]string{}
	for range g.IntN(4) {
		m[pick(g, "a", "b", "c", "projectcalico.org/namespace", "pcns.a")] = pick(g, "1", "2", "3")
	}
	return m
}

func (g gen) nets(hosts bool) []string {
	var nets []string
	for range g.IntN(3) {
		n := pick(g, "10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2")
		if !hosts {
			n = pick(g, n, "10.0.0.0/8", "10.0.0.7/24", "fd00::/16", "0.0.0.0/0", "bad")
		}
		nets = append(nets, n)
	}
	return nets
}

func (g gen) selector() string {
	atom := func() string {
		l, v := pick(g, "a", "b", "c"), pick(g, "1", "2", "3")
		return pick(g, fmt.Sprintf("%s == '%s'", l, v), fmt.Sprintf("%s != '%s'", l, v),
			fmt.Sprintf("has(%s)", l), fmt.Sprintf("!has(%s)", l),
			fmt.Sprintf("%s in {'%s', '2'}", l, v), "all()")
	}
	switch g.IntN(6) {
	case 0:
		return ""
	case 1:
		return atom() + " && " + atom()
	case 2:
		return atom() + " || " + atom()
	case 3:
		if g.IntN(10) == 0 {
			return "has("
		}
	}
	return atom()
}

func (g gen) entity() api.EntityRule {
	var e api.EntityRule
	maybe := func(f func()) {
		if g.IntN(3) == 0 {
			f()
		}
	}
	maybe(func() { e.Selector = g.selector() })
	maybe(func() { e.NotSelector = g.selector() })
	maybe(func() { e.Nets = g.nets(false) })
	maybe(func() { e.NotNets = g.nets(false) })
	maybe(func() { e.NamespaceSelector = pick(g, "all()", "global()", "a == '1'") })
	maybe(func() {
		e.Ports = append(e.Ports, pick(g, api.Port{Name: "http"}, api.Port{Name: "dns"}, api.Port{Min: 80, Max: 90}))
	})
	maybe(func() { e.NotPorts = append(e.NotPorts, pick(g, api.Port{Name: "http"}, api.Port{Min: 1, Max: 1})) })
	return e
}

func (g gen) rules() []api.Rule {
	var rules []api.Rule
	for range g.IntN(4) {
		r := api.Rule{Action: pick(g, api.Allow, api.Deny, api.Pass, api.Log), Source: g.entity(), Destination: g.entity()}
		if g.IntN(2) == 0 {
			r.Protocol = &api.Protocol{Name: pick(g, "TCP", "UDP", "ICMP")}
		}
		rules = append(rules, r)
	}
	return rules
}

func (g gen) policy() api.PolicySpec {
	s := api.PolicySpec{
		Tier:     pick(g, "", "default", "t1", "t2"),
		Selector: g.selector(),
		Ingress:  g.rules(),
		Egress:   g.rules(),
		Types:    pick(g, nil, []api.PolicyType{api.Ingress}, []api.PolicyType{api.Egress}, []api.PolicyType{api.Ingress, api.Egress}),
	}
	if strings.Contains(s.Selector, "has()") || s.Selector == "has(" {
		s.Selector = "" // what cannot be read depends on what was before
	}
	if g.IntN(2) == 0 {
		o := float64(g.IntN(3))
		s.Order = &o
	}
	s.ApplyOnForward = g.IntN(4) == 0
	s.DoNotTrack = g.IntN(10) == 0
	s.PreDNAT = g.IntN(10) == 0
	if g.IntN(20) == 0 {
		s.PerformanceHints = []string{api.AssumeNeededOnEveryNode}
	}
	return s
}

func (g gen) ports() []api.EndpointPort {
	var ports []api.EndpointPort
	for range g.IntN(3) {
		ports = append(ports, api.EndpointPort{
			Name: pick(g, "http", "dns"), Protocol: api.Protocol{Name: pick(g, "TCP", "UDP")}, Port: uint16(80 + g.IntN(3)),
		})
	}
	return ports
}

// object is a new version of one of some forty resources.
func (g gen) object() api.Object {
	n := g.IntN(4)
	name := func(p string) api.Meta { return api.Meta{Name: fmt.Sprintf("%s%d", p, n)} }
	in := func(p string) api.Meta {
		return api.Meta{Name: fmt.Sprintf("%s%d", p, n/2), Namespace: fmt.Sprintf("%d", n%2+1), Labels: g.labels()}
	}
	profiles := []string{fmt.Sprintf("p%d", g.IntN(4)), pick(g, "kns.1", "p1", api.DefaultAllowProfile)}
	switch g.IntN(16) {
	case 12:
		return &api.FelixConfiguration{Meta: api.Meta{Name: pick(g, "default", "node.h", "node.o")}, Spec: api.FelixConfigurationSpec{
			WorkloadSourceSpoofing: pick(g, "", "Any", "Disabled"), DefaultEndpointToHostAction: pick(g, "", "Accept"),
		}}
	case 0:
		t := &api.Tier{Meta: api.Meta{Name: pick(g, "default", "t1", "t2")}}
		o := float64(g.IntN(3))
		t.Spec = api.TierSpec{Order: &o, DefaultAction: pick(g, api.Deny, api.Pass)}
		return t
	case 1, 2:
		return &api.GlobalNetworkPolicy{Meta: name("g"), Spec: g.policy()}
	case 3:
		return &api.StagedGlobalNetworkPolicy{Meta: name("g"), Spec: g.policy()}
	case 4:
		return &api.NetworkPolicy{Meta: in("n"), Spec: g.policy()}
	case 5:
		m := name("s")
		m.Labels = g.labels()
		return &api.GlobalNetworkSet{Meta: m, Spec: api.NetworkSetSpec{Nets: g.nets(false)}}
	case 6:
		return &api.NetworkSet{Meta: in("s"), Spec: api.NetworkSetSpec{Nets: g.nets(false)}}
	case 7, 8, 9:
		m := name("e")
		m.Labels = g.labels()
		return &api.HostEndpoint{Meta: m, Spec: api.HostEndpointSpec{
			Node: pick(g, "h", "h", "o"), InterfaceName: pick(g, "eth0", "*", ""),
			ExpectedIPs: g.nets(true), Profiles: profiles[:g.IntN(3)], Ports: g.ports(),
		}}
	case 10, 13, 14:
		w := &api.WorkloadEndpoint{Meta: in("w"), Spec: api.WorkloadEndpointSpec{
			Node: pick(g, "h", "h", "o"), InterfaceName: pick(g, "cali1", "cali2", "cali3", "tap1", ""),
			IPNetworks: g.nets(true), Profiles: profiles[:g.IntN(3)], ServiceAccountName: pick(g, "", "sa"),
		}}
		if g.IntN(4) == 0 {
			w.Spec.AllowSpoofedSourcePrefixes = []string{"10.9.0.0/16"}
		}
		for _, p := range g.ports() {
			w.Spec.Ports = append(w.Spec.Ports, api.WorkloadPort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
		}
		return w
	}
	m := name("p")
	if n == 3 {
		m.Name = "kns.1"
	}
	return &api.Profile{Meta: m, Spec: api.ProfileSpec{Ingress: g.rules(), LabelsToApply: pick(g, nil, g.labels(), g.labels())}}
}

// TestRandom_EqualsARebuild changes resources at random and compares the
// graph that went through all of it with a new one, and the members of its
// sets with what evaluating the selectors one by one gives.
func TestRandom_EqualsARebuild(t *testing.T) {
	r := random(t)
	runs := 60
	if testing.Short() {
		runs = 10
	}
	members := 0
	for run := range runs {
		g := gen{rand.New(rand.NewPCG(r.Uint64(), 2))}
		graph, facts := newGraph(), calctest.NewFacts()
		now := map[api.Key]api.Object{}
		var log []string
		for range 60 {
			for range 1 + g.IntN(6) {
				o := g.object()
				k := o.Key()
				if _, there := now[k]; there && g.IntN(3) == 0 {
					delete(now, k)
					graph.Note(api.Event{Key: k})
					log = append(log, "- "+k.String())
					continue
				}
				now[k] = o
				graph.Note(api.Event{Key: k, Object: o})
				log = append(log, fmt.Sprintf("+ %s %+v", k, o))
			}
			graph.Flush(facts.Take)
			if err := facts.End(); err != nil {
				t.Fatalf("run %d: %v\nafter\n%s", run, err, strings.Join(log, "\n"))
			}
			g2, want := fresh(t, now)
			if d := diff.Diff(strings.Split(want.Text(), "\n"), strings.Split(facts.Text(), "\n")); d != "" {
				t.Fatalf("run %d: (-fresh +got)\n%s\nafter\n%s", run, d, strings.Join(log, "\n"))
			}
			if d := diff.Diff(g2.Faults(), graph.Faults()); d != "" {
				t.Fatalf("run %d: faults: (-fresh +got)\n%s", run, d)
			}
			if d := diff.Diff(g2.Stats(), graph.Stats()); d != "" {
				t.Fatalf("run %d: stats: (-fresh +got)\n%s", run, d)
			}
			members += checkMembers(t, facts, now)
		}
	}
	t.Logf("%d members compared", members)
	if members == 0 {
		t.Error("no set had a member: the test tests nothing")
	}
}

// checkMembers compares each set with the plainest way to work it out.
func checkMembers(t *testing.T, f *calctest.Facts, now map[api.Key]api.Object) (compared int) {
	t.Helper()
	got := map[string][]string{}
	for k := range f.Now {
		if k.Kind == intent.KindMember {
			got[k.Name] = append(got[k.Name], fmt.Sprintf("%s %d:%d", k.Member.Net, k.Member.Protocol, k.Member.Port))
		}
	}
	for k, v := range f.Now {
		set, ok := v.(*intent.Set)
		if !ok {
			continue
		}
		text, port, _ := strings.Cut(set.Selector, " port ")
		name, proto, _ := strings.Cut(port, " of protocol ")
		sel, err := selector.Parse(text)
		if err != nil {
			t.Fatalf("set %s: selector %s: %v", k.Name, text, err)
		}
		want := map[string]bool{}
		for _, o := range now {
			labels, nets, ports := contribution(o, now)
			if labels == nil || !sel.Evaluate(selector.Map(labels)) {
				continue
			}
			for _, n := range nets {
				if set.Type == intent.Nets {
					want[n.String()+" 0:0"] = true
					continue
				}
				for _, p := range ports {
					number := fmt.Sprint(p.Protocol.Number())
					if p.Name == name && (proto == "" || proto == number) && n.IsSingleIP() {
						want[fmt.Sprintf("%s %s:%d", n, number, p.Port)] = true
					}
				}
			}
		}
		slices.Sort(got[k.Name])
		if d := diff.Diff(slices.Sorted(maps.Keys(want)), got[k.Name]); d != "" {
			t.Fatalf("set %s %s: (-want +got)\n%s", k.Name, set.Selector, d)
		}
		compared += len(want)
	}
	return compared
}

// spoofing tells whether workloads of a host may have further sources.
func spoofing(host string, now map[api.Key]api.Object) bool {
	says := ""
	for _, name := range []string{"default", "node." + host} {
		if o, ok := now[api.Key{Kind: api.KindFelixConfiguration, Name: name}].(*api.FelixConfiguration); ok {
			says = cmp.Or(o.Spec.WorkloadSourceSpoofing, says)
		}
	}
	return says == "Any"
}

// contribution is the labels of a resource with all it inherits, and what it
// brings into sets.
func contribution(o api.Object, now map[api.Key]api.Object) (labels map[string]string, nets []netip.Prefix, ports []api.EndpointPort) {
	var own map[string]string
	var texts, profiles []string
	labels = map[string]string{}
	switch o := o.(type) {
	case *api.HostEndpoint:
		own, texts, profiles, ports = o.Labels, o.Spec.ExpectedIPs, o.Spec.Profiles, o.Spec.Ports
	case *api.GlobalNetworkSet:
		own, texts = o.Labels, o.Spec.Nets
	case *api.NetworkSet:
		own, texts, profiles = o.Labels, o.Spec.Nets, []string{"kns." + o.Namespace}
		labels["projectcalico.org/namespace"] = o.Namespace
	case *api.WorkloadEndpoint:
		if len(o.Spec.AllowSpoofedSourcePrefixes) > 0 && !spoofing(o.Spec.Node, now) {
			return nil, nil, nil // refused
		}
		own, texts, profiles = o.Labels, o.Spec.IPNetworks, o.Spec.Profiles
		labels["projectcalico.org/namespace"] = o.Namespace
		if o.Spec.ServiceAccountName != "" {
			labels["projectcalico.org/serviceaccount"] = o.Spec.ServiceAccountName
		}
		for _, p := range o.Spec.Ports {
			ports = append(ports, api.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
		}
	default:
		return nil, nil, nil
	}
	for k, v := range own {
		if !strings.HasPrefix(k, "projectcalico.org/") && !strings.HasPrefix(k, "pcns.") {
			labels[k] = v
		}
	}
	for _, name := range profiles {
		p, ok := now[api.Key{Kind: api.KindProfile, Name: name}].(*api.Profile)
		if !ok {
			continue
		}
		for k, v := range p.Spec.LabelsToApply {
			if _, has := labels[k]; !has {
				labels[k] = v
			}
		}
	}
	for _, text := range texts {
		if n, err := netip.ParsePrefix(text); err == nil {
			nets = append(nets, n.Masked())
		} else if a, err := netip.ParseAddr(text); err == nil {
			nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return labels, nets, ports
}
