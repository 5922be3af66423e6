// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// Published is a port that a rule in prerouting sends elsewhere: what is
// dialled here is served there.
type Published struct {
	// Match is what is asked of a packet, from the base chain to the rule.
	Match Match
	// To is where it goes; no address: to this host itself; port 0: the port
	// that was dialled. ToMap is the map that says where, if it is one.
	To    netip.AddrPort
	ToMap string
	// Table and Chain are where the rule is, Owner whose.
	Table, Chain, Owner string
}

// Protocols are those that the rule is about: TCP and UDP if it does not say.
func (p Published) Protocols() []uint8 {
	var out []uint8
	for _, n := range []uint8{6, 17} {
		if !slices.ContainsFunc(p.Match.Protocols, func(c Cond[uint8]) bool {
			return c.of(func(x uint8) bool { return x == n }) == no
		}) {
			out = append(out, n)
		}
	}
	return out
}

// ports are those that all conditions allow, as ranges in order.
func (p Published) ports() []Ports {
	list := []Ports{{0, 0xffff}}
	for _, c := range p.Match.DestinationPorts {
		var cut []Ports
		any := c.Any
		if c.Not {
			any = others(c.Any)
		}
		for _, a := range list {
			for _, b := range any {
				if x := (Ports{max(a.First, b.First), min(a.Last, b.Last)}); x.First <= x.Last {
					cut = append(cut, x)
				}
			}
		}
		list = cut
	}
	return list
}

// others are all ports that are in none of the ranges.
func others(ranges []Ports) []Ports {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b Ports) int { return int(a.First) - int(b.First) })
	var out []Ports
	next := 0
	for _, r := range ranges {
		if int(r.First) > next {
			out = append(out, Ports{uint16(next), r.First - 1})
		}
		next = max(next, int(r.Last)+1)
	}
	if next <= 0xffff {
		out = append(out, Ports{uint16(next), 0xffff})
	}
	return out
}

// publishedPorts finds the ports that are redirected before routing.
func publishedPorts(tables []Table) []Published {
	var out []Published
	for i := range tables {
		t := &tables[i]
		if t.Dormant || t.ours() {
			continue
		}
		for j := range t.Chains {
			if c := &t.Chains[j]; c.Hook == "prerouting" && c.Type == "nat" {
				f := finder{table: t, budget: 50000}
				f.chain(c, Match{}, 0)
				out = append(out, f.found...)
			}
		}
	}
	return out
}

// finder collects the redirections below one base chain.
type finder struct {
	table  *Table
	found  []Published
	budget int
}

func (f *finder) chain(c *Chain, so Match, depth int) {
	if c == nil || depth > maxDepth {
		return
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if f.budget--; f.budget < 0 {
			return
		}
		m := so.And(r.Match)
		switch r.Action {
		case Jumps, GoesTo:
			f.chain(f.table.chain(r.Chain), m, depth+1)
		case DNATs, Redirects:
			to := r.To
			if r.Action == Redirects {
				to = netip.AddrPortFrom(netip.Addr{}, to.Port())
			}
			if len(m.DestinationPorts) == 0 && r.ToMap == "" {
				continue // a whole address is mapped: no port is published
			}
			p := Published{Match: m, To: to, ToMap: r.ToMap, Table: f.table.ID(), Chain: c.Name, Owner: chainOwner(f.table, c.Name)}
			if len(p.ports()) > 0 && len(p.Protocols()) > 0 { // else no packet gets here
				f.found = append(f.found, p)
			}
		case Accepts, Drops, Rejects, Returns, SNATs, Other, Goes:
		}
	}
}

// chainOwner guesses whose a chain is: by its own name, else by its table.
func chainOwner(t *Table, chain string) string {
	for _, s := range signs {
		if s.chain != "" && strings.HasPrefix(chain, s.chain) {
			return s.owner
		}
	}
	return owners(*t)[0].Name
}
