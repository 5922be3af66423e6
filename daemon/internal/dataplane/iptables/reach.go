// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// reach says which packets something can matter to, by protocol and destination
// port: those beyond it pass it by as if it were not there. It may be too wide,
// never too narrow.
type reach struct {
	all bool
	// ports are the ranges of each protocol, sorted, none of which touch; nil:
	// all ports, or a protocol that has none.
	ports map[uint8][]ruleset.PortRange
}

// mostProtocols is how many protocols a reach tells apart.
const mostProtocols = 4

// everything is the reach of what may matter to any packet.
var everything = reach{all: true}

// same reports whether two reaches are equal.
func (r reach) same(o reach) bool {
	return r.all == o.all && maps.EqualFunc(r.ports, o.ports, func(a, b []ruleset.PortRange) bool {
		return (a == nil) == (b == nil) && slices.Equal(a, b)
	})
}

// or is what either of the two reaches.
func (r reach) or(o reach) reach {
	if r.all || o.all {
		return everything
	}
	out := reach{ports: maps.Clone(r.ports)}
	if out.ports == nil {
		out.ports = map[uint8][]ruleset.PortRange{}
	}
	for proto, ports := range o.ports {
		have, known := out.ports[proto]
		switch {
		case !known:
			out.ports[proto] = ports
		case have == nil || ports == nil:
			out.ports[proto] = nil
		default:
			merged, err := mergePorts(slices.Concat(have, ports))
			if err != nil {
				return everything
			}
			out.ports[proto] = merged
		}
	}
	if len(out.ports) > mostProtocols {
		return everything
	}
	return out
}

// reachOfMatch is what a rule with this match can matter to in a family.
func reachOfMatch(m *ruleset.Match, f ruleset.Family) reach {
	switch {
	case m.Family != ruleset.AnyFamily && m.Family != f:
		return reach{}
	case m.Protocol == 0:
		return everything
	}
	r := reach{ports: map[uint8][]ruleset.PortRange{m.Protocol: nil}}
	if len(m.DstPorts) > 0 {
		merged, err := mergePorts(m.DstPorts)
		if err != nil || !ruleset.HasPorts(m.Protocol) {
			return everything // the rule cannot be said, and something stands in for it
		}
		r.ports[m.Protocol] = merged
	}
	return r
}

// reachOfChain is what a chain can matter to in a family.
func reachOfChain(c *ruleset.Chain, f ruleset.Family) (r reach) {
	for i := range c.Rules {
		if r = r.or(reachOfMatch(&c.Rules[i].Match, f)); r.all {
			break
		}
	}
	return r
}

// matches are the reach as a list of matches of which a packet within it
// matches one. Where a list of ports is longer than a match takes, the
// narrowest gaps between them are closed.
func (r reach) matches() []string {
	if r.all {
		return []string{""}
	}
	var out []string
	for _, proto := range slices.Sorted(maps.Keys(r.ports)) {
		m := " -p " + protoName(proto)
		if ports := r.ports[proto]; ports != nil {
			m += fmt.Sprintf(" -m multiport --dports %s", portGroups(coarse(ports))[0])
		}
		out = append(out, m)
	}
	return out
}

// coarse closes gaps between ranges until one match takes them.
func coarse(ranges []ruleset.PortRange) []ruleset.PortRange {
	ranges = slices.Clone(ranges)
	for len(portGroups(ranges)) > 1 {
		narrow := 1
		for i := 2; i < len(ranges); i++ {
			if ranges[i].Min-ranges[i-1].Max < ranges[narrow].Min-ranges[narrow-1].Max {
				narrow = i
			}
		}
		ranges[narrow-1].Max = ranges[narrow].Max
		ranges = slices.Delete(ranges, narrow, narrow+1)
	}
	return ranges
}
