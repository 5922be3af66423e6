// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// Bounds of the work, so that it takes about a second.
const (
	// mostClasses is how many classes of endpoints are looked at.
	mostClasses = 128
	// mostAtoms is how many atoms of addresses of a family, a class.
	mostAtoms = 256
	// mostSpans bounds what it takes to find the atoms.
	mostSpans = 20_000_000
	// mostCells is how many combinations of both ends and service of a passage.
	mostCells = 300_000
	// mostWork is how often a rule or a policy is asked.
	mostWork = 6_000_000
)

// passage is one way past an endpoint.
type passage struct {
	direction policy.Direction
	in, out   string // interfaces
	// peers is the side that is not the endpoint's own; of what a host
	// endpoint forwards neither is, and peers is the source.
	peers string
	own   bool
	// toHost: the other end is the host that the endpoint is on.
	toHost bool
}

// passages are the ways past an endpoint.
func passages(e endpoint, forward bool) []passage {
	seat := e.seat()
	if e.key.Kind == api.KindWorkloadEndpoint {
		return []passage{
			{direction: policy.Forwarded, out: seat, peers: sourceSide, own: true},
			{direction: policy.Forwarded, in: seat, peers: destSide, own: true},
			{direction: policy.Inbound, in: seat, peers: destSide, own: true, toHost: true},
		}
	}
	list := []passage{
		{direction: policy.Inbound, in: seat, peers: sourceSide, own: true},
		{direction: policy.Outbound, out: seat, peers: destSide, own: true},
	}
	if forward {
		list = append(list, passage{direction: policy.Forwarded, in: seat, peers: sourceSide})
		if seat != "" {
			list = append(list, passage{direction: policy.Forwarded, out: seat, peers: sourceSide})
		}
	}
	return list
}

// outcome is a change of what becomes of a flow.
type outcome struct {
	gain bool
	by   string
}

// table is what was judged of one passage in one family: for each far end,
// each peer and each service an outcome, by its place in outcomes; 0: none.
type table struct {
	family   int
	far      []atom[netip.Addr]
	peers    []atom[netip.Addr]
	services []*service
	// farWhole: far are all there are; looked is how many of the services were
	// judged.
	farWhole bool
	looked   int
	outcomes []outcome
	cells    []uint16 // by far end, then peer, then service looked at
}

// judge fills in what changed at an endpoint that stands for others. It judges
// so many flows at the most, and returns how many there were to be judged.
func (s *study) judge(t *table, e endpoint, way passage, r relevant, most int) (judged int) {
	var addrs []netip.Addr
	for _, a := range slices.Concat(t.far, t.peers) {
		addrs = append(addrs, a.one)
	}
	before, after := s.before.world.Narrow(e.place.host, addrs), s.after.world.Narrow(e.place.host, addrs)
	host := policy.Host{Name: e.place.host}
	if e.key.Kind == api.KindHostEndpoint && e.place.iface == "" {
		host.Interfaces = map[string][]netip.Addr{e.seat(): e.now.addressesOf(e.key, e.place)}
	}
	known := map[outcome]uint16{}
	t.outcomes = []outcome{{}}
	t.cells = make([]uint16, 0, len(t.far)*len(t.peers)*t.looked)
	for i, far := range t.far {
		for j, peer := range t.peers {
			f := policy.Flow{Host: host, Direction: way.direction, InInterface: way.in, OutInterface: way.out,
				Source: peer.one, Destination: far.one}
			if way.peers == destSide {
				f.Source, f.Destination = far.one, peer.one
			}
			for k, v := range t.services[:t.looked] {
				if !r.has(i, j, k) {
					t.cells = append(t.cells, 0)
					continue
				}
				if judged++; judged > most {
					t.cells = append(t.cells, 0)
					continue
				}
				v.set(&f)
				was, is := before.Evaluate(f), after.Evaluate(f)
				if was.Verdict.Passes() == is.Verdict.Passes() {
					t.cells = append(t.cells, 0)
					continue
				}
				o := outcome{is.Verdict.Passes(), reason(is)}
				n, ok := known[o]
				if !ok {
					n = uint16(len(t.outcomes))
					known[o], t.outcomes = n, append(t.outcomes, o)
				}
				t.cells = append(t.cells, n)
			}
		}
	}
	return judged
}

// reason says by what a flow has its verdict.
func reason(d policy.Decision) string {
	switch d.Reason {
	case policy.ReasonRule:
		return fmt.Sprintf("by %s (rule %d)", policyName(d.Policy), d.RuleIndex+1)
	case policy.ReasonProfile:
		return fmt.Sprintf("by profile %s (rule %d)", d.Policy.Name, d.RuleIndex+1)
	case policy.ReasonMissingProfile:
		return fmt.Sprintf("as there is no profile %s", d.Policy.Name)
	case policy.ReasonEndOfTier:
		return fmt.Sprintf("as no rule of tier %s allows it", d.Tier)
	case policy.ReasonNothingAllows:
		return "as no policy or profile allows it"
	case policy.ReasonNoEndpoint:
		return "as nothing governs it"
	case policy.ReasonFailsafe:
		return "by a failsafe"
	case policy.ReasonPassed, policy.ReasonNoForwardPolicy:
		return "as no policy for forwarded traffic denies it"
	}
	return "for: " + string(d.Reason)
}

// ownEnd is where the endpoints of a class have their own addresses among the
// atoms of their side.
type ownEnd struct {
	endpoints []endpoint
	atoms     []atom[netip.Addr] // their first points are addresses of the first endpoint
}

// ownEnds parts the endpoints of a class by which atoms of their side their
// addresses are of.
func ownEnds(c *class, atoms []atom[netip.Addr], family int) []*ownEnd {
	var list []*ownEnd
	known := map[string]*ownEnd{}
	for _, e := range c.endpoints {
		addrs := slices.DeleteFunc(e.addresses(), func(a netip.Addr) bool { return familyOf(a) != family })
		if len(addrs) == 0 {
			if e.key.Kind == api.KindWorkloadEndpoint {
				continue // it has none of this family
			}
			addrs = []netip.Addr{lines[family].first}
		}
		at := map[int]netip.Addr{}
		for _, a := range addrs {
			i := 0
			if len(atoms) > 1 {
				i = slices.IndexFunc(atoms, func(x atom[netip.Addr]) bool { return x.all.has(a) })
			}
			if _, there := at[i]; !there {
				at[i] = a
			}
		}
		var numbers []int
		for i := range at {
			numbers = append(numbers, i)
		}
		slices.Sort(numbers)
		key := fmt.Sprint(numbers)
		o := known[key]
		if o == nil {
			o = &ownEnd{}
			for _, i := range numbers {
				o.atoms = append(o.atoms, atom[netip.Addr]{at[i], atoms[i].all})
			}
			known[key], list = o, append(list, o)
		}
		o.endpoints = append(o.endpoints, e)
	}
	return list
}
