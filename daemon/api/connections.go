// SPDX-License-Identifier: Apache-2.0

package api

import "net/netip"

// Connections is what a host's kernel tracks at the moment. It is asked for on
// the agent's socket, and never stored.
type Connections struct {
	// Host is the host's name.
	Host string `json:"host"`
	// Interfaces are the host's, with their addresses.
	Interfaces map[string][]netip.Addr `json:"interfaces"`
	// Connections are those of which the way is known, the first 100,000.
	Connections []Connection `json:"connections"`
	// More is how many there are beside them.
	More int `json:"more"`
}

// Connection is one entry of connection tracking, as its first packet was. One
// that came of another (the data of FTP) is left out: it shares the other's
// fate.
type Connection struct {
	// Way is "inbound" to a socket of the host, "outbound" from one,
	// "forwarded", or "local" from the host to itself.
	Way string `json:"way"`
	// Protocol is IANA's number.
	Protocol    uint8      `json:"protocol"`
	Source      netip.Addr `json:"source"`
	Destination netip.Addr `json:"destination"`
	// Ports count for protocols that have any.
	SourcePort      uint16 `json:"sourcePort,omitempty"`
	DestinationPort uint16 `json:"destinationPort,omitempty"`
	// ICMPType and ICMPCode count for ICMP and ICMPv6.
	ICMPType uint8 `json:"icmpType,omitempty"`
	ICMPCode uint8 `json:"icmpCode,omitempty"`
	// Dialled is the destination before the host rewrote it (destination NAT);
	// the zero value: it did not.
	Dialled netip.AddrPort `json:"dialled,omitzero"`
	// In are the interfaces by which the first packet may have come, Out those
	// by which it may have left: one each where that is known.
	In  []string `json:"in,omitempty"`
	Out []string `json:"out,omitempty"`
}
