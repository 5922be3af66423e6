// SPDX-License-Identifier: Apache-2.0

package route

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/rtnetlink"
)

// entry is a route as the kernel knows it. Two entries differ if and only if
// they are different routes or differ in something that we set.
type entry struct {
	dst      netip.Prefix
	table    uint32
	typ      uint8
	tos      uint8
	scope    uint8
	protocol uint8
	metric   uint32
	index    int
	source   netip.Addr
	gateway  netip.Addr
}

// String is the route as ip(8) writes it, with the interface's number.
func (e entry) String() string {
	s := e.dst.String()
	if e.gateway.IsValid() {
		s += " via " + e.gateway.String()
	}
	s += fmt.Sprintf(" dev %d proto %d metric %d", e.index, e.protocol, e.metric)
	if e.source.IsValid() {
		s += " src " + e.source.String()
	}
	return s
}

// door is the way to the kernel, with a handle for connection tracking.
type door struct {
	*rtnetlink.Socket
	flows *netlink.Handle
}

func open() (*door, error) {
	s, err := rtnetlink.Open()
	if err != nil {
		return nil, err
	}
	s.Strict() // list sorts what older kernels tell
	flows, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &door{s, flows}, nil
}

// Close closes the socket and the handle.
func (d *door) Close() {
	d.Socket.Close()
	d.flows.Close()
}

// list tells of routes of one family: of those of a table, or of those of a
// protocol in all tables. Zero: of any.
func (d *door) list(family int, table uint32, protocol uint8, each func(entry)) error {
	for range 10 {
		var got []entry
		req := d.Request(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
		m := &nl.RtMsg{}
		m.Family, m.Protocol = uint8(family), protocol
		req.AddData(m)
		if table != 0 {
			req.AddData(attribute(unix.RTA_TABLE, table))
		}
		err := req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(b []byte) bool {
			if e, ok := parse(b); ok && (table == 0 || e.table == table) && (protocol == 0 || e.protocol == protocol) {
				got = append(got, e)
			}
			return true
		})
		switch {
		case errors.Is(err, netlink.ErrDumpInterrupted):
			continue // changed while it was read
		case errors.Is(err, unix.ENOENT) && table != 0, errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
			return nil // there is no such table, or no IPv6
		case err != nil:
			return fmt.Errorf("listing routes: %w", err)
		}
		for _, e := range got {
			each(e)
		}
		return nil
	}
	return fmt.Errorf("listing routes: %w", netlink.ErrDumpInterrupted)
}

// parse reads a struct rtmsg with its attributes. Cached routes and routes
// with several next hops are not told: neither is ever ours.
func parse(b []byte) (entry, bool) {
	if len(b) < unix.SizeofRtMsg {
		return entry{}, false
	}
	m := nl.DeserializeRtMsg(b)
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtMsg:])
	if err != nil || m.Flags&unix.RTM_F_CLONED != 0 || m.Family != unix.AF_INET && m.Family != unix.AF_INET6 {
		return entry{}, false
	}
	e := entry{table: uint32(m.Table), typ: m.Type, tos: m.Tos, scope: m.Scope, protocol: m.Protocol}
	dst := netip.IPv4Unspecified()
	if m.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_OIF:
			e.index = int(number(a.Value))
		case unix.RTA_PRIORITY:
			e.metric = number(a.Value)
		case unix.RTA_TABLE:
			e.table = number(a.Value)
		case unix.RTA_PREFSRC:
			e.source, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_GATEWAY:
			e.gateway, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_MULTIPATH:
			return entry{}, false
		}
	}
	e.dst = netip.PrefixFrom(dst, int(m.Dst_len))
	return e, e.dst.IsValid()
}

func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func attribute(typ int, v uint32) *nl.RtAttr {
	return nl.NewRtAttr(typ, binary.NativeEndian.AppendUint32(nil, v))
}

// add makes a route. It replaces none: EEXIST says that there is one of the
// same destination and metric.
func (d *door) add(e entry) error {
	return d.say(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, e)
}

// del removes exactly this route.
func (d *door) del(e entry) error { return d.say(unix.RTM_DELROUTE, 0, e) }

func (d *door) say(typ, flags int, e entry) error {
	req := d.Request(typ, flags|unix.NLM_F_ACK)
	m := &nl.RtMsg{}
	m.Family = unix.AF_INET6
	if e.dst.Addr().Is4() {
		m.Family = unix.AF_INET
	}
	m.Dst_len, m.Tos, m.Protocol, m.Scope, m.Type = uint8(e.dst.Bits()), e.tos, e.protocol, e.scope, e.typ
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, e.dst.Addr().AsSlice()))
	req.AddData(attribute(unix.RTA_TABLE, e.table))
	req.AddData(attribute(unix.RTA_PRIORITY, e.metric))
	if e.index != 0 {
		req.AddData(attribute(unix.RTA_OIF, uint32(e.index)))
	}
	if e.gateway.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, e.gateway.AsSlice()))
	}
	if e.source.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, e.source.AsSlice()))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// cut removes the connection-tracking entries of flows that one of the
// addresses has begun or answers. A kernel that tracks no connections has none.
func (d *door) cut(addrs map[netip.Addr]bool) (uint, error) {
	families := map[netlink.InetFamily]bool{}
	for a := range addrs {
		if a.Is4() {
			families[unix.AF_INET] = true
		} else {
			families[unix.AF_INET6] = true
		}
	}
	var total uint
	for family := range families {
		var n uint
		var err error = netlink.ErrDumpInterrupted
		for tries := 0; tries < 3 && errors.Is(err, netlink.ErrDumpInterrupted); tries++ {
			n, err = d.flows.ConntrackDeleteFilters(netlink.ConntrackTable, family, ofAddrs(addrs))
			total += n
		}
		// nfnetlink answers EINVAL for a subsystem that is not loaded.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			return total, fmt.Errorf("deleting flows: %w", err)
		}
	}
	return total, nil
}

// ofAddrs matches flows by their two sources: who began, and who answers.
type ofAddrs map[netip.Addr]bool

// MatchConntrackFlow is asked by netlink of every flow.
func (o ofAddrs) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	from, _ := netip.AddrFromSlice(f.Forward.SrcIP)
	by, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
	return o[from.Unmap()] || o[by.Unmap()]
}
