// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Direction is how a flow passes a host.
type Direction uint8

// Directions. Inbound: to a socket of the host. Outbound: from one. Forwarded:
// in at one interface and out at another.
const (
	Inbound Direction = iota + 1
	Outbound
	Forwarded
)

// String is "inbound", "outbound" or "forwarded".
func (d Direction) String() string {
	switch d {
	case Inbound:
		return "inbound"
	case Outbound:
		return "outbound"
	case Forwarded:
		return "forwarded"
	}
	return "direction(" + strconv.Itoa(int(d)) + ")"
}

// MarshalText makes a Direction a word in JSON.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// State is what connection tracking says of a packet. The zero value is New.
type State uint8

// States of a packet. Untracked packets are judged like new ones; so are
// invalid ones where disableConntrackInvalidCheck is set.
const (
	New State = iota
	Established
	Related
	Invalid
	Untracked
)

// String is the state's name in lower case.
func (s State) String() string {
	switch s {
	case New:
		return "new"
	case Established:
		return "established"
	case Related:
		return "related"
	case Invalid:
		return "invalid"
	case Untracked:
		return "untracked"
	}
	return "state(" + strconv.Itoa(int(s)) + ")"
}

// MarshalText makes a State a word in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// IANA's numbers of the protocols with names of their own.
const (
	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

// Host is a host as far as it is known. Interfaces maps each interface to its
// addresses; it is needed only for endpoints that are found by expectedIPs.
type Host struct {
	Name       string                  `json:"name"`
	Interfaces map[string][]netip.Addr `json:"interfaces,omitempty"`
}

// has tells whether the host is known to have the address.
func (h Host) has(a netip.Addr) bool { return interfaceWith(h, a) != "" }

// Flow is one packet on its way through one host. Its addresses are of one
// family. An interface name may be empty when it is not known: then only a
// wildcard endpoint governs it. What a caller states:
//
//	to a socket of the host              Inbound, InInterface
//	from a socket of the host            Outbound, OutInterface
//	through the host                     Forwarded, InInterface, OutInterface
//	from a workload                      InInterface is the workload's
//	to a workload                        OutInterface is the workload's
//	its destination is rewritten here    Destination and DestinationPort are those
//	                                     after that, Dialled those before; Direction
//	                                     and OutInterface are those after it
//	its source is rewritten here         Source is that before it
//	it is of a known connection          State Established; of an error that
//	                                     quotes it: Related
//	somebody else's rule keeps           State Untracked
//	tracking away from it
//
// State is what connection tracking says if it sees the packet: if doNotTrack
// policy allows it, tracking does not, and Evaluate goes on as that demands.
// Such a packet keeps its destination, Dialled: a Forwarded one then counts as
// for the host if the host is known to have that address, else as forwarded
// out of OutInterface; an Inbound one always counts as for the host.
type Flow struct {
	Host      Host      `json:"host"`
	Direction Direction `json:"direction"`
	// InInterface is where the packet came in; of inbound and forwarded flows.
	InInterface string `json:"inInterface,omitempty"`
	// OutInterface is where the packet goes out; of outbound and forwarded flows.
	OutInterface string     `json:"outInterface,omitempty"`
	Source       netip.Addr `json:"source"`
	Destination  netip.Addr `json:"destination"`
	// Protocol is IANA's number.
	Protocol uint8 `json:"protocol"`
	// Ports count for TCP, UDP, SCTP and UDPLite only.
	SourcePort      uint16 `json:"sourcePort,omitempty"`
	DestinationPort uint16 `json:"destinationPort,omitempty"`
	// ICMPType and ICMPCode count for ICMP and ICMPv6 only.
	ICMPType uint8 `json:"icmpType,omitempty"`
	ICMPCode uint8 `json:"icmpCode,omitempty"`
	State    State `json:"state"`
	// Dialled is the destination before this host rewrote it (destination
	// NAT); the zero value: it did not. The port is 0 for protocols without
	// ports.
	Dialled netip.AddrPort `json:"dialled,omitzero"`
	// DialledInterface is where an outbound packet would have gone out had its
	// destination not been rewritten; empty: where it goes out.
	DialledInterface string `json:"dialledInterface,omitempty"`
}

// beforeDNAT is the flow as it is before its destination is rewritten.
func (f Flow) beforeDNAT() Flow {
	if f.Dialled.IsValid() {
		f.Destination, f.DestinationPort = f.Dialled.Addr(), f.Dialled.Port()
	}
	return f
}

// firstOutInterface is where an outbound packet seems to go out before its
// destination is rewritten.
func (f Flow) firstOutInterface() string {
	if f.DialledInterface != "" {
		return f.DialledInterface
	}
	return f.OutInterface
}

// String is the flow in one line: "inbound TCP 10.0.0.2:40000 to 10.0.0.5:80
// on h1 eth0".
func (f Flow) String() string {
	s := f.Direction.String() + " " + protocolName(f.Protocol)
	if isICMP(f.Protocol) {
		s += fmt.Sprintf(" type %d code %d", f.ICMPType, f.ICMPCode)
	}
	s += " " + f.endText(netip.AddrPortFrom(f.Source, f.SourcePort)) + " to " + f.endText(netip.AddrPortFrom(f.Destination, f.DestinationPort))
	if f.Dialled.IsValid() {
		s += " (dialled as " + f.endText(f.Dialled) + ")"
	}
	s += " on " + f.Host.Name
	if f.InInterface != "" {
		s += " in " + f.InInterface
	}
	if f.OutInterface != "" {
		s += " out " + f.OutInterface
	}
	if f.State != New {
		s += " (" + f.State.String() + ")"
	}
	return s
}

// endText is an end of the flow: with the port, if its protocol has ports.
func (f Flow) endText(a netip.AddrPort) string {
	if hasPorts(f.Protocol) {
		return a.String()
	}
	return a.Addr().String()
}

// family is 4 or 6.
func (f Flow) family() int { return familyOf(f.Source) }

// side is the source or the destination of a flow.
func (f Flow) address(side string) netip.Addr {
	if side == source {
		return f.Source
	}
	return f.Destination
}

func (f Flow) port(side string) uint16 {
	if side == source {
		return f.SourcePort
	}
	return f.DestinationPort
}

// The sides of a flow, as they are called in sentences.
const (
	source      = "source"
	destination = "destination"
)

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

func hasPorts(protocol uint8) bool {
	switch protocol {
	case protoTCP, protoUDP, protoSCTP, protoUDPLite:
		return true
	}
	return false
}

func protocolName(n uint8) string {
	switch n {
	case protoICMP:
		return "ICMP"
	case protoTCP:
		return "TCP"
	case protoUDP:
		return "UDP"
	case protoICMPv6:
		return "ICMPv6"
	case protoSCTP:
		return "SCTP"
	case protoUDPLite:
		return "UDPLite"
	}
	return "protocol " + strconv.Itoa(int(n))
}
