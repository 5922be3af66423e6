// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/delta"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// KernelOut takes the plan of a KernelPlanner: parts, or a kernel.State.
type KernelOut interface {
	Want(kernel.ID, kernel.Object)
	Unwant(kernel.ID)
}

// KernelPlanner turns workload endpoints into routes, neighbours and sysctls.
// Only an interface that has an endpoint, is there and is up gets any:
//
//	endpoint + interface ─► guard: no routes of others (RemoveExternalRoutes)
//	                     ├► neighbour entry of each address, if the MAC is known
//	                     ├► sysctls: forwarding, proxy ARP and NDP, no router
//	                     │  advertisements, rp_filter; never route_localnet
//	                     └► route to each address that no better interface claims
//	any IPv4 address     ─► the host answers for the gateway; ip_forward
//	any IPv6 address     ─► IPv6 forwarding
//
// Of two endpoints with one interface the lower name has it, as in Planner. Of
// two interfaces with one address the one with a carrier has it, then the one
// with the higher index. Such an interface that has lost an address is not
// given proxy ARP: it would answer the workload's probe for that address.
//
// A plan is made anew as a whole, and differences are passed on. It is used by
// one goroutine, the lane's. Make one with NewKernelPlanner.
type KernelPlanner struct {
	out        KernelOut
	settings   *intent.Settings
	endpoints  map[string]*intent.WorkloadEndpoint
	interfaces map[string]*intent.Interface
	planned    kernel.State
	dirty      bool
}

// NewKernelPlanner makes a planner that passes its plan on to out. Nothing is
// planned before the first Flush.
func NewKernelPlanner(out KernelOut) *KernelPlanner {
	return &KernelPlanner{
		out: out, settings: &intent.Settings{},
		endpoints: map[string]*intent.WorkloadEndpoint{}, interfaces: map[string]*intent.Interface{},
		planned: kernel.State{},
	}
}

// Note takes one change. Kinds that do not matter here are let pass.
func (p *KernelPlanner) Note(c intent.Change) {
	switch c.Key.Kind {
	case intent.KindSettings:
		p.settings = &intent.Settings{}
		if c.Value != nil {
			p.settings = c.Value.(*intent.Settings)
		}
	case intent.KindWorkloadEndpoint:
		note(p.endpoints, c.Key.Name, c.Value)
	case intent.KindInterface:
		note(p.interfaces, c.Key.Name, c.Value)
	default:
		return
	}
	p.dirty = true
}

// Flush plans what has changed and passes the differences on.
func (p *KernelPlanner) Flush() {
	if !p.dirty {
		return
	}
	plan := p.plan()
	d := delta.Of(plan, p.planned)
	for _, id := range slices.SortedFunc(maps.Keys(d.Drop), kernel.Compare) {
		p.out.Unwant(id)
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.Put), kernel.Compare) {
		p.out.Want(id, d.Put[id])
	}
	p.planned, p.dirty = plan, false
}

// workload is an endpoint whose interface is there and up.
type workload struct {
	*intent.WorkloadEndpoint
	link *intent.Interface
}

// workloads are the endpoints that have an interface, by its name.
func (p *KernelPlanner) workloads() map[string]workload {
	owners := map[string]string{}
	for name, ep := range p.endpoints {
		if have, ok := owners[ep.Interface]; len(ep.Addrs) > 0 && (!ok || name < have) {
			owners[ep.Interface] = name
		}
	}
	out := map[string]workload{}
	for iface, name := range owners {
		if link := p.interfaces[iface]; link != nil && link.Up && link.Index > 0 {
			out[iface] = workload{p.endpoints[name], link}
		}
	}
	return out
}

func (p *KernelPlanner) plan() kernel.State {
	s := kernel.State{}
	all := p.workloads()
	holders := map[netip.Addr]workload{}
	for _, w := range all {
		for _, a := range w.Addrs {
			if h, ok := holders[a]; !ok || beats(w.link, h.link) {
				holders[a] = w
			}
		}
	}
	for _, w := range all {
		p.planLink(s, w, holders)
	}
	if !p.settings.NoRoutes {
		for a, w := range holders {
			s[kernel.ID{Kind: kernel.KindRoute, Addr: a}] = kernel.Route{Index: w.link.Index, Iface: w.Interface, Source: p.source(a)}
		}
	}
	p.planHost(s, holders)
	return s
}

// beats reports whether an interface is to have an address rather than
// another one.
func beats(a, b *intent.Interface) bool {
	if a.Running != b.Running {
		return a.Running
	}
	return a.Index > b.Index
}

// source is the preferred source of routes to addresses like a.
func (p *KernelPlanner) source(a netip.Addr) netip.Addr {
	for _, s := range p.settings.DeviceRouteSourceAddrs {
		if s.Is4() == a.Is4() {
			return s
		}
	}
	return netip.Addr{}
}

// planHost plans what the host needs as soon as one workload is here. What
// makes the host a router is kept when the last one goes.
func (p *KernelPlanner) planHost(s kernel.State, holders map[netip.Addr]workload) {
	v4, v6 := false, false
	for a := range holders {
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	if v4 && !p.settings.NoRoutes {
		s[kernel.ID{Kind: kernel.KindLocal, Addr: kernel.Gateway}] = kernel.Local{}
	}
	if p.settings.NoForwarding {
		return
	}
	if v4 {
		s[kernel.ID{Kind: kernel.KindSysctl, Name: "net/ipv4/ip_forward"}] = kernel.Sysctl{Value: "1", Keep: true}
	}
	if v6 {
		s[kernel.ID{Kind: kernel.KindSysctl, Name: "net/ipv6/conf/all/forwarding"}] = kernel.Sysctl{Value: "1", Keep: true}
	}
}

// planLink plans what one interface needs, bar its routes.
func (p *KernelPlanner) planLink(s kernel.State, w workload, holders map[netip.Addr]workload) {
	if p.settings.RemoveExternalRoutes && !p.settings.NoRoutes {
		s[kernel.ID{Kind: kernel.KindGuard, Index: w.link.Index}] = kernel.Guard{Iface: w.Interface}
	}
	sysctl := func(name string, v kernel.Sysctl) {
		v.Iface = w.Interface
		s[kernel.ID{Kind: kernel.KindSysctl, Index: w.link.Index, Name: name}] = v
	}
	v4, v6, lost := false, false, false
	for _, a := range w.Addrs {
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
		if holders[a].link != w.link {
			lost = lost || a.Is4()
			continue
		}
		if w.MAC != [6]byte{} {
			s[kernel.ID{Kind: kernel.KindNeighbour, Addr: a, Index: w.link.Index}] = kernel.Neighbour{Iface: w.Interface, MAC: w.MAC}
		}
	}
	// A workload must not make routes on its host, whatever the family.
	sysctl("net/ipv6/conf/*/accept_ra", kernel.Sysctl{Value: "0"})
	if v6 {
		sysctl("net/ipv6/conf/*/forwarding", kernel.Sysctl{Value: "1"})
		sysctl("net/ipv6/conf/*/proxy_ndp", kernel.Sysctl{Value: "1"})
	}
	if !v4 {
		return
	}
	sysctl("net/ipv4/conf/*/forwarding", kernel.Sysctl{Value: "1"})
	if !lost {
		sysctl("net/ipv4/conf/*/proxy_arp", kernel.Sysctl{Value: "1"})
	}
	sysctl("net/ipv4/neigh/*/proxy_delay", kernel.Sysctl{Value: "0"})
	filter := kernel.Sysctl{SameAs: "net/ipv4/conf/default/rp_filter"}
	if len(w.AllowedSources) > 0 {
		filter = kernel.Sysctl{Value: "0"}
	}
	sysctl("net/ipv4/conf/*/rp_filter", filter)
}
