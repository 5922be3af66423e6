// SPDX-License-Identifier: Apache-2.0

// Package kernel is what is wanted of the kernel beside packet filtering, as
// plain keyed data: routes to workloads, addresses that the host answers for,
// interfaces whose routes are ours alone, neighbours, and sysctls. It can be
// compared and printed as canonical text (text.go). The planner says it, the
// parts route, neigh and sysctl make it so.
//
// Interfaces are named by their index: an interface that is made anew under
// the same name is another one.
package kernel

import "net/netip"

// Protocol is the protocol number of all routes and neighbour entries of
// Ripstop (rtm_protocol, NDA_PROTOCOL), the letter R in ASCII. Numbers above 4
// belong to user space (linux/rtnetlink.h); this one is not in iproute2's
// rt_protos, nor is it Calico's (80), OVN's (84) or one of FRR's (11, 186 to
// 197).
const Protocol = 82

// Metric is the metric of routes to workloads, as in Calico: above what
// people set by hand, so that a route of theirs to the same address wins.
const Metric = 1024

// Gateway is the IPv4 address that workloads use as their gateway, as with
// Calico's CNI plugin. Of IPv6 it is the link-local address of the interface.
var Gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Kind is the kind of an Object.
type Kind uint8

// Kinds of object.
const (
	KindRoute Kind = iota + 1
	KindLocal
	KindGuard
	KindNeighbour
	KindSysctl
)

// ID names one object.
type ID struct {
	Kind Kind
	// Addr is the destination of a Route, the address of a Local or of a
	// Neighbour.
	Addr netip.Addr
	// Index is the interface of a Guard, a Neighbour or a Sysctl; zero for a
	// sysctl of the whole host.
	Index int
	// Name is a sysctl's path below /proc/sys, with "*" for the interface's
	// name: "net/ipv4/conf/*/proxy_arp".
	Name string
}

// Object is Route, Local, Guard, Neighbour or Sysctl. All are comparable.
type Object interface{ isObject() }

// Route leads packets to Addr to the interface of that index, which must be
// up. Table main, scope link, metric Metric, protocol Protocol.
type Route struct {
	Index int
	// Iface is the interface's name, for people.
	Iface string
	// Source is the preferred source of the host's own packets; zero: as the
	// kernel chooses.
	Source netip.Addr
}

// Local makes the host answer for Addr as for one of its own, without the
// address on an interface: a local route by lo in table local.
type Local struct{}

// Guard says that routes of others that lead to the interface are to go.
// Routes that the kernel makes for the interface's own addresses stay.
type Guard struct {
	// Iface is the interface's name, for people.
	Iface string
}

// Neighbour is a permanent entry of the neighbour table.
type Neighbour struct {
	// Iface is the interface's name, for people.
	Iface string
	MAC   [6]byte
}

// Sysctl is the value that a sysctl shall have.
type Sysctl struct {
	// Iface is the interface's name now; empty for one of the whole host.
	Iface string
	// Value is the text; empty: that of the sysctl SameAs.
	Value  string
	SameAs string
	// Keep: once it was changed, it stays so when it is no longer wanted,
	// until it is restored by hand, because other programs may have come to
	// rely on it.
	Keep bool
}

func (Route) isObject()     {}
func (Local) isObject()     {}
func (Guard) isObject()     {}
func (Neighbour) isObject() {}
func (Sysctl) isObject()    {}

// Subject is what a Notice is about.
type Subject uint8

// Subjects. Setting: a sysctl of an interface. Lost: notices were lost, so
// anything may have happened.
const (
	Lost Subject = iota
	RouteChanged
	NeighbourChanged
	SettingChanged
	LinkChanged
	AddressChanged
)

// Notice tells of a change in the kernel that we did not make.
type Notice struct {
	Subject Subject
	// Index is the interface; 0: none or several. Of a setting of the whole
	// host it is negative.
	Index int
	// Protocol is that of the route or neighbour.
	Protocol uint8
	// Down: the interface is down or gone, and with it its routes and
	// neighbours.
	Down bool
	// Itself: the route or neighbour was changed by the kernel itself, as
	// those of an interface that goes down are, and not by a program.
	Itself bool
	// Addr is the address of AddressChanged.
	Addr netip.Addr
	// By is who did it, as "ip[4711]"; empty if not known.
	By string
}
