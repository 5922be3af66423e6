// SPDX-License-Identifier: Apache-2.0

// Package doctor judges what was seen on a host: whose the packet filters
// are, in which order a packet meets them, what of it works against Ripstop
// (Examine), and who can reach the sockets and published ports (Expose).
//
// It is pure: it is handed Facts and gives reports. Facts are gathered by
// package survey and, of nf_tables, by nftables.Survey. Of other people's
// rules it understands what decides by interface, address, protocol, port and
// connection; of a rule that asks for more it says so and takes both outcomes
// to be possible. It changes nothing and is used by the agent's assembly.
//
//	survey.Look ─► Facts ─► Examine ─► api.DoctorReport
//	                  └───► Expose (with a policy.World) ─► api.ExposureReport
package doctor

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// Facts are what was seen on a host at one moment.
type Facts struct {
	Host string
	// Tables are those of all packet filters, legacy ones too.
	Tables []Table
	Sets   []IPSet
	// Interfaces of the host's network namespace.
	Interfaces []Interface
	Sockets    []Socket
	// Sysctls by their dotted name, "net.ipv4.ip_forward". A dot in an
	// interface's name is a slash, as sysctl(8) writes it.
	Sysctls map[string]string
	// Flushers are services that are enabled and empty the packet filter.
	Flushers []Flusher
	// Unseen says what could not be read, and why.
	Unseen []string
}

// IPSet is a set of the ipset facility.
type IPSet struct {
	Name, Type          string
	Members, References int
}

// Interface is a network interface.
type Interface struct {
	Name         string
	Up, Loopback bool
	// Bridge: it is one. Port: it belongs to another interface, such as a
	// bridge, and has no traffic of its own.
	Bridge, Port bool
	Addrs        []netip.Prefix // the address with the length of its net
}

// Flusher is a service that empties the packet filter when it starts.
type Flusher struct{ Unit, Evidence string }

// Ours is the name of Ripstop's nftables table, and OurPrefix how the names of
// its chains and sets begin elsewhere.
const (
	Ours      = "ripstop"
	OurPrefix = "rs-"
)

// ours tells whether the table is Ripstop's own.
func (t Table) ours() bool { return t.Family == "inet" && t.Name == Ours && !t.Legacy }

// Settings are what of Ripstop's own settings the facts are compared with.
type Settings struct {
	// Workloads counts the workload endpoints of this host.
	Workloads int
	// ForwardPolicies: some policy judges forwarded traffic.
	ForwardPolicies bool
	// Stopped: the agent does not run.
	Stopped bool
}

// Examine makes the report of ripstop doctor.
func Examine(f Facts, s Settings) api.DoctorReport {
	r := api.DoctorReport{Host: f.Host, Version: api.Version, Unseen: f.Unseen,
		Findings: findings(f, s), Filters: filters(f.Tables), Order: order(f.Tables)}
	r.Kind, r.APIVersion = api.KindDoctorReport, api.VersionOurs
	for _, set := range f.Sets {
		r.Sets = append(r.Sets, api.SetSummary{Name: set.Name, Type: set.Type, Members: set.Members, References: set.References, Owner: setOwner(set.Name)})
	}
	return r
}

// facility is nf_tables or xtables.
func (t Table) facility() string {
	if t.Legacy {
		return "xtables"
	}
	return "nf_tables"
}

func (c Chain) policy() string {
	switch {
	case c.Hook == "":
		return ""
	case c.Drop:
		return "drop"
	}
	return "accept"
}

// drops counts the rules that drop or reject.
func (c Chain) drops() int {
	n := 0
	for _, r := range c.Rules {
		if r.Action == Drops || r.Action == Rejects {
			n++
		}
	}
	return n
}

// filters lists all tables.
func filters(tables []Table) []api.PacketFilter {
	out := []api.PacketFilter{}
	for _, t := range tables {
		p := api.PacketFilter{Facility: t.facility(), Family: t.Family, Table: t.Name, Owners: owners(t), Ours: t.ours(),
			Sets: t.Sets, Unread: t.Unread, Chains: []api.FilterChain{}}
		for _, flag := range []struct {
			set  bool
			name string
		}{{t.Owned, "owner"}, {t.Persist, "persist"}, {t.Dormant, "dormant"}} {
			if flag.set {
				p.Flags = append(p.Flags, flag.name)
			}
		}
		for _, c := range t.Chains {
			fc := api.FilterChain{Name: c.Name, Type: c.Type, Hook: c.Hook, Device: c.Device, Policy: c.policy(), Rules: len(c.Rules), Drops: c.drops()}
			if c.Hook != "" {
				priority := c.Priority
				fc.Priority = &priority
			}
			p.Chains = append(p.Chains, fc)
		}
		out = append(out, p)
	}
	return out
}

// hookOrder is the way of a packet through the hooks.
var hookOrder = []string{"ingress", "prerouting", "input", "forward", "output", "postrouting", "egress"}

// order lists, for each hook, the base chains by priority. A dormant table is
// not met.
func order(tables []Table) []api.HookOrder {
	out := []api.HookOrder{}
	for _, family := range []string{"", "bridge ", "arp "} {
		for _, hook := range hookOrder {
			h := api.HookOrder{Hook: family + hook}
			for _, t := range tables {
				own := map[string]string{"bridge": "bridge ", "arp": "arp "}[t.Family]
				if t.Dormant || own != family {
					continue
				}
				for _, c := range t.Chains {
					if c.Hook == hook {
						h.Stations = append(h.Stations, api.Station{Priority: c.Priority, Facility: t.facility(), Family: t.Family, Table: t.Name,
							Chain: c.Name, Type: c.Type, Device: c.Device, Policy: c.policy(), Owner: owners(t)[0].Name})
					}
				}
			}
			if len(h.Stations) > 0 {
				slices.SortStableFunc(h.Stations, func(a, b api.Station) int { return a.Priority - b.Priority })
				out = append(out, h)
			}
		}
	}
	return out
}
