// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"maps"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Stats are numbers of things, for metrics, as of the last Flush.
type Stats struct {
	// Policies and ActivePolicies count all kinds, staged ones too; an active
	// one selects an endpoint of this host.
	Tiers, Policies, ActivePolicies, Profiles int
	// HostEndpoints and WorkloadEndpoints are those of all hosts, and
	// LocalEndpoints those of this host that are in force.
	HostEndpoints, WorkloadEndpoints, LocalEndpoints int
	NetworkSets                                      int
	// Sets and Members are what is said to the planners.
	Sets, Members int
	// Unreadable are objects whose newest version is not in force.
	Unreadable int
}

// Stats counts.
func (g *Graph) Stats() Stats {
	s := Stats{
		Tiers:          len(g.policies.tiers),
		Policies:       len(g.policies.byKey),
		Profiles:       len(g.profiles.byName),
		LocalEndpoints: len(g.endpoints.byName),
		Sets:           len(g.sets.byID),
		Unreadable:     len(g.intake.unreadable),
	}
	for _, p := range g.policies.byKey {
		if len(p.endpoints) > 0 {
			s.ActivePolicies++
		}
	}
	for _, x := range g.sets.byID {
		s.Members += g.sets.members.Len(x)
	}
	count := g.intake.known.Count
	s.HostEndpoints, s.WorkloadEndpoints = count(api.KindHostEndpoint), count(api.KindWorkloadEndpoint)
	s.NetworkSets = count(api.KindNetworkSet) + count(api.KindGlobalNetworkSet)
	return s
}

// Endpoint is an endpoint of this host as status shows it.
type Endpoint struct {
	// Name of a workload endpoint is "namespace/name".
	Name string
	// Policies judge it, in this order, as "tier/Kind(name)": doNotTrack,
	// preDNAT, the others; the staged ones are not in it.
	Policies []string
	Profiles []string
}

// Endpoints are the endpoints of this host, by name, as of the last Flush.
func (g *Graph) Endpoints() []Endpoint {
	var all []Endpoint
	for _, name := range slices.Sorted(maps.Keys(g.endpoints.byName)) {
		ep := g.endpoints.byName[name]
		switch v := ep.said.(type) {
		case *intent.HostEndpoint:
			all = append(all, Endpoint{Name: name, Policies: ep.judged, Profiles: v.Profiles})
		case *intent.WorkloadEndpoint:
			all = append(all, Endpoint{Name: name, Policies: ep.judged, Profiles: v.Profiles})
		}
	}
	return all
}

// Faults are the objects that are not enforced as written, with what is
// enforced instead, sorted, as of the last Flush. Of policies and profiles
// only those that matter to this host are looked at.
func (g *Graph) Faults() []api.Fault {
	var all []api.Fault
	for _, f := range g.intake.unreadable {
		all = append(all, f)
	}
	all = append(all, g.settings.faults...)
	all = append(all, g.policies.faults()...)
	all = append(all, g.rules.faults()...)
	all = append(all, g.sets.faults()...)
	for _, ep := range g.endpoints.byName {
		all = append(all, ep.faults...)
	}
	all = append(all, g.workloads.faults()...)
	// Faults of one object stay in the order of its fields.
	slices.SortStableFunc(all, func(a, b api.Fault) int { return strings.Compare(a.Object, b.Object) })
	return slices.Compact(all)
}

// NoEffect are the parameters of FelixConfiguration that are set for this
// host without anyone acting on them: names in spec, and annotations; sorted.
func (g *Graph) NoEffect() []string { return g.settings.noEffect }

// Reporting is what the store shall be told, as of the last Flush.
func (g *Graph) Reporting() Reporting { return g.settings.reporting }
