// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"net/netip"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// piecesAtOnce is how many connections are judged in one narrowed world.
const piecesAtOnce = 1000

// Cut are those of a host's connections that an agent there would cut when the
// resources become others: each is judged as if it began now, and is cut if
// the world before let it in by any of the interfaces that it may have, and the
// world after lets it in by none.
func Cut(before, after *policy.World, of api.Connections) []api.Connection {
	host := policy.Host{Name: of.Host, Interfaces: of.Interfaces}
	var cut []api.Connection
	for list := of.Connections; len(list) > 0; {
		n := min(len(list), piecesAtOnce)
		var addrs []netip.Addr
		for _, c := range list[:n] {
			addrs = append(addrs, c.Source, c.Destination)
			if c.Dialled.IsValid() {
				addrs = append(addrs, c.Dialled.Addr())
			}
		}
		was, is := before.Narrow(of.Host, addrs), after.Narrow(of.Host, addrs)
		for _, c := range list[:n] {
			if lets(was, host, c) && !lets(is, host, c) {
				cut = append(cut, c)
			}
		}
		list = list[n:]
	}
	return cut
}

// lets reports whether a world lets a connection in, by any of its interfaces.
func lets(w *policy.World, host policy.Host, c api.Connection) bool {
	f := policy.Flow{
		Host: host, Source: c.Source, Destination: c.Destination, Protocol: c.Protocol,
		SourcePort: c.SourcePort, DestinationPort: c.DestinationPort, ICMPType: c.ICMPType, ICMPCode: c.ICMPCode, Dialled: c.Dialled,
	}
	if c.Dialled.IsValid() && !hasPorts(c.Protocol) {
		f.Dialled = netip.AddrPortFrom(c.Dialled.Addr(), 0)
	}
	passes := func(d policy.Direction, in, out string) bool {
		g := f
		g.Direction, g.InInterface, g.OutInterface = d, in, out
		return w.Evaluate(g).Verdict.Passes()
	}
	const loopback = "lo"
	switch c.Way {
	case "inbound":
		for _, in := range c.In {
			if passes(policy.Inbound, in, "") {
				return true
			}
		}
	case "outbound":
		for _, out := range c.Out {
			if passes(policy.Outbound, "", out) {
				return true
			}
		}
	case "forwarded":
		for _, in := range c.In {
			for _, out := range c.Out {
				if passes(policy.Forwarded, in, out) {
					return true
				}
			}
		}
	case "local":
		return passes(policy.Outbound, "", loopback) && passes(policy.Inbound, loopback, "")
	}
	return false
}

// mostCut is how many connections a line names.
const mostCut = 10

// CutLine says in one line which connections would be cut.
func CutLine(cut []api.Connection, more int) string {
	line := "would cut: no connection of this host"
	if len(cut) > 0 {
		line = "would cut: " + plural(len(cut), "connection") + " of this host: "
		for i, c := range cut {
			if i == mostCut {
				line += fmt.Sprintf(" and %d more", len(cut)-i)
				break
			}
			if i > 0 {
				line += ", "
			}
			line += connectionText(c)
		}
	}
	if more > 0 {
		line += fmt.Sprintf("; %d more connections were not looked at", more)
	}
	return line
}

// connectionText is "tcp 192.0.2.7:51000 -> 10.0.0.5:5432".
func connectionText(c api.Connection) string {
	end := func(a netip.Addr, port uint16) string {
		if hasPorts(c.Protocol) {
			return netip.AddrPortFrom(a, port).String()
		}
		return a.String()
	}
	text := protocolName(c.Protocol) + " " + end(c.Source, c.SourcePort) + " -> " + end(c.Destination, c.DestinationPort)
	if c.Dialled.IsValid() {
		text += " (dialled as " + end(c.Dialled.Addr(), c.Dialled.Port()) + ")"
	}
	return text
}
