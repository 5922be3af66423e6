// SPDX-License-Identifier: Apache-2.0

package calc_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// fleet is a large installation: each host has one endpoint, every tenth
// policy selects this one.
type fleet struct{ hosts, policies int }

const (
	groups = 10  // of hosts; a policy is for one of them
	roles  = 100 // of hosts; a rule lets one or two in
)

func (f fleet) endpoint(i, role int) *api.HostEndpoint {
	node := fmt.Sprintf("host-%05d", i)
	if i == 0 {
		node = "h"
	}
	return &api.HostEndpoint{
		Meta: api.Meta{
			Name: fmt.Sprintf("%s-eth0", node), UID: fmt.Sprintf("0c1a9c3e-%012d", i), ResourceVersion: fmt.Sprint(1000 + i),
			Labels: map[string]string{
				"group": fmt.Sprintf("g%d", i%groups), "role": fmt.Sprintf("r%d", role),
				"zone": fmt.Sprintf("z%d", i%7), "host": node, "env": "prod",
			},
		},
		Spec: api.HostEndpointSpec{
			Node: node, InterfaceName: "eth0",
			ExpectedIPs: []string{fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), fmt.Sprintf("fd00::%x", i+1)},
			Profiles:    []string{"base"},
			Ports:       []api.EndpointPort{{Name: "http", Protocol: api.Protocol{Name: "TCP"}, Port: 8080}},
		},
	}
}

func (f fleet) policy(i, port int) *api.GlobalNetworkPolicy {
	order := float64(i)
	tcp := &api.Protocol{Name: "TCP"}
	ports := []api.Port{{Min: uint16(port), Max: uint16(port)}, {Min: 8000, Max: 8010}}
	return &api.GlobalNetworkPolicy{
		Meta: api.Meta{Name: fmt.Sprintf("policy-%05d", i), UID: fmt.Sprintf("aaaa-%012d", i), ResourceVersion: fmt.Sprint(i)},
		Spec: api.PolicySpec{
			Tier: "default", Order: &order, Selector: fmt.Sprintf("group == 'g%d'", i%groups),
			Types: []api.PolicyType{api.Ingress, api.Egress},
			Ingress: []api.Rule{
				{Action: api.Allow, Protocol: tcp, Source: api.EntityRule{Selector: fmt.Sprintf("role == 'r%d'", i%roles)}, Destination: api.EntityRule{Ports: ports}},
				{Action: api.Allow, Protocol: tcp, Source: api.EntityRule{Selector: fmt.Sprintf("role in {'r%d', 'r%d'} && zone == 'z%d'", i%roles, (i/groups)%roles, i%7)}, Destination: api.EntityRule{Ports: ports}},
				{Action: api.Deny, Protocol: tcp, Source: api.EntityRule{Nets: []string{"10.200.0.0/16", "10.201.0.0/16"}}},
			},
			Egress: []api.Rule{
				{Action: api.Allow, Protocol: tcp, Destination: api.EntityRule{Selector: fmt.Sprintf("role == 'r%d'", (i+1)%roles), Ports: []api.Port{{Name: "http"}}}},
			},
		},
	}
}

// note tells a graph of all of it. Nothing of it is kept but by the graph.
func (f fleet) note(g *calc.Graph) {
	order := 1e6
	put := func(o api.Object) { g.Note(api.Event{Key: o.Key(), Object: o}) }
	put(&api.Tier{Meta: api.Meta{Name: "default"}, Spec: api.TierSpec{Order: &order, DefaultAction: api.Deny}})
	put(&api.Profile{Meta: api.Meta{Name: "base"}, Spec: api.ProfileSpec{LabelsToApply: map[string]string{"fleet": "one"}}})
	for i := range f.policies {
		put(f.policy(i, 80))
	}
	for i := range f.hosts {
		put(f.endpoint(i, i%roles))
	}
}

func (f fleet) String() string { return fmt.Sprintf("%d hosts, %d policies", f.hosts, f.policies) }

var fleets = []fleet{{1_000, 100}, {10_000, 100}, {10_000, 1_000}, {50_000, 10_000}}

func nothing(intent.Change) {}

// BenchmarkColdStart is from nothing to the first flush.
func BenchmarkColdStart(b *testing.B) {
	for _, f := range fleets {
		b.Run(f.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g := newGraph()
				f.note(g)
				g.Flush(nothing)
			}
		})
	}
}

// BenchmarkMemory reports what a graph holds on to, and how many facts it has
// said; members are the largest part of them.
func BenchmarkMemory(b *testing.B) {
	for _, f := range fleets {
		b.Run(f.String(), func(b *testing.B) {
			var bytes float64
			var st calc.Stats
			for b.Loop() {
				before := heap()
				g := newGraph()
				f.note(g)
				g.Flush(nothing)
				bytes = heap() - before
				st = g.Stats()
				runtime.KeepAlive(g)
			}
			b.ReportMetric(bytes/1e6, "MB")
			b.ReportMetric(float64(st.ActivePolicies), "active")
			b.ReportMetric(float64(st.Sets), "sets")
			b.ReportMetric(float64(st.Members), "members")
		})
	}
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func bench(b *testing.B, name string, change func(f fleet, i int) api.Object) {
	for _, f := range fleets {
		b.Run(f.String(), func(b *testing.B) {
			g := newGraph()
			f.note(g)
			g.Flush(nothing)
			said, i := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				o := change(f, i)
				g.Note(api.Event{Key: o.Key(), Object: o})
				g.Flush(func(intent.Change) { said++ })
			}
			if said == 0 {
				b.Fatalf("%s: nothing was said", name)
			}
			b.ReportMetric(float64(said)/float64(i), "facts/op")
		})
	}
}

// BenchmarkRemoteLabel changes the role of one host elsewhere.
func BenchmarkRemoteLabel(b *testing.B) {
	bench(b, "remote label", func(f fleet, i int) api.Object { return f.endpoint(7, i%roles) })
}

// BenchmarkLocalPolicy changes a port in one policy that is active here.
func BenchmarkLocalPolicy(b *testing.B) {
	bench(b, "local policy", func(f fleet, i int) api.Object { return f.policy(0, 80+i%2) })
}

// BenchmarkRemotePolicy changes a policy that selects no endpoint here. It
// has nothing to say, so the local endpoint's is changed along, now and then.
func BenchmarkRemotePolicy(b *testing.B) {
	bench(b, "remote policy", func(f fleet, i int) api.Object {
		if i%1000 == 1 {
			return f.policy(0, 80+i/1000%2)
		}
		return f.policy(1, 80+i%2)
	})
}

// BenchmarkLocalEndpoint changes a label of the endpoint of this host, so that
// all policies that selected it cease to, and others begin.
func BenchmarkLocalEndpoint(b *testing.B) {
	bench(b, "local endpoint", func(f fleet, i int) api.Object {
		e := f.endpoint(0, 0)
		e.Labels["group"] = fmt.Sprintf("g%d", i%groups)
		return e
	})
}
