// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

const loopback = "lo"

// routes knows, for the time of one pass, where addresses are: on this host,
// or behind which interfaces. Asked about an address twice it answers from
// memory.
type routes struct {
	c     *conn           // NETLINK_ROUTE
	h     *netlink.Handle // the same, for what is asked rarely
	names int             // socket to ask for names of interfaces

	// special: there are routing rules beside the kernel's own, so that a
	// route depends on more than its destination.
	special bool
	known   map[question]place
	// nets are the prefixes of all routes, and alike is where addresses are
	// that the same of them covers longest: no route tells them apart. nets is
	// nil until so many questions were asked that it pays to list routes.
	nets    *cover
	alike   map[netip.Prefix]place
	byIndex map[int]string
	all     []string // interfaces, bar loopback; nil: not listed yet
	onLink  map[netip.Addr][]string
}

// question is what a route is asked for. from and in are zero unless there
// are special rules.
type question struct {
	to, from netip.Addr
	in       int
}

// place is where an address is.
type place struct {
	kind whereabouts
	// out are the interfaces that lead there, by name and by index.
	out   []string
	index []int
}

// whereabouts is the kind of a place.
type whereabouts uint8

const (
	nowhere whereabouts = iota // no route leads there
	here                       // an address of this host
	beyond                     // behind an interface
	shared                     // broadcast or multicast
)

func newRoutes() (*routes, error) {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	r := &routes{c: c, names: -1}
	if r.h, err = netlink.NewHandle(unix.NETLINK_ROUTE); err == nil {
		r.names, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("route socket: %w", err)
	}
	return r, nil
}

func (r *routes) close() {
	r.c.close()
	if r.h != nil {
		r.h.Close()
	}
	if r.names >= 0 {
		unix.Close(r.names)
	}
}

// forget makes ready for a new pass: routes may have changed.
func (r *routes) forget() error {
	r.known, r.byIndex, r.all, r.onLink, r.special = map[question]place{}, map[int]string{}, nil, nil, false
	r.nets, r.alike = nil, map[netip.Prefix]place{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := retry(func() ([]netlink.Rule, error) { return r.h.RuleList(family) })
		if err != nil {
			return fmt.Errorf("listing routing rules: %w", err)
		}
		for _, rule := range rules {
			switch rule.Table {
			case unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT:
				r.special = r.special || rule.Src != nil || rule.Dst != nil || rule.IifName != "" || rule.Invert
			default:
				r.special = true
			}
		}
	}
	return nil
}

// place finds out the way of a flow and its interfaces; false: it cannot pass
// through this host.
func (r *routes) place(f *ruleset.Flow) (ok bool, err error) {
	dst := f.Dst
	if f.DNATed {
		dst = f.NewDst
	}
	from, err := r.ask(question{to: f.Src})
	if err != nil {
		return false, err
	}
	to := place{kind: shared}
	if !everybody(dst) {
		if to, err = r.ask(question{to: dst}); err != nil {
			return false, err
		}
	}
	fromHere := from.kind == here || f.Src.IsUnspecified()
	switch {
	case fromHere && to.kind == here:
		f.Way = ruleset.Looped
		return true, nil
	case to.kind == here, to.kind == shared && !fromHere:
		f.Way = ruleset.ToHost
		f.In, err = r.side(f.Src, dst, from)
		return true, err
	case fromHere:
		f.Way = ruleset.FromHost
		if r.special && to.kind != shared && !f.Src.IsUnspecified() {
			if to, err = r.ask(question{to: dst, from: f.Src}); err != nil {
				return false, err
			}
		}
		if to.kind == nowhere {
			return false, nil
		}
		f.Out, err = r.side(dst, f.Src, to)
		return true, err
	}
	f.Way = ruleset.Forwarded
	if f.In, err = r.side(f.Src, dst, from); err != nil {
		return false, err
	}
	f.Out, err = r.onward(f.Src, dst, from, to)
	return len(f.Out) > 0, err
}

// side are the interfaces by which this host and far exchange packets, if p is
// where far is; near is this host's address. Link-local and multicast addresses
// are on every link, and so it is the links with the host's own address that
// count.
func (r *routes) side(far, near netip.Addr, p place) ([]string, error) {
	if far.IsLinkLocalUnicast() && far.Is6() || everybody(far) {
		if !r.listed() {
			if err := r.list(); err != nil {
				return nil, err
			}
		}
		if on := r.onLink[near]; len(on) > 0 {
			return on, nil
		}
		return r.all, nil
	}
	if len(p.out) > 0 {
		return p.out, nil
	}
	if !r.listed() {
		if err := r.list(); err != nil {
			return nil, err
		}
	}
	return r.all, nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// everybody reports whether an address is that of no host, which no route is
// asked for.
func everybody(a netip.Addr) bool { return a.IsMulticast() || a == broadcast }

// onward are the interfaces by which what came from src leaves for dst.
func (r *routes) onward(src, dst netip.Addr, from, to place) ([]string, error) {
	if !r.special {
		return to.out, nil
	}
	var out []string
	for _, in := range from.index {
		p, err := r.ask(question{to: dst, from: src, in: in})
		if err != nil {
			return nil, err
		}
		out = append(out, p.out...)
	}
	if len(out) == 0 { // the kernel would not route it as it is (rp_filter)
		return to.out, nil
	}
	return out, nil
}

const (
	// listingPays is after how many questions the routes are listed.
	listingPays = 500
	// mostRoutes is with how many routes every address is asked for.
	mostRoutes = 20_000
)

func (r *routes) ask(q question) (place, error) {
	if p, ok := r.known[q]; ok {
		return p, nil
	}
	if len(r.known) >= listingPays && r.nets == nil && !r.special {
		var err error
		if r.nets, err = prefixes(); err != nil {
			return place{}, err
		}
	}
	var net netip.Prefix
	if r.nets != nil && len(r.nets.prefixes) > 0 {
		ok := false
		if net, ok = r.nets.longest(q.to); !ok {
			net, _ = q.to.Prefix(0)
		}
		if p, ok := r.alike[net]; ok {
			return p, nil
		}
	}
	p, err := r.lookUp(q)
	if err != nil {
		return p, fmt.Errorf("route to %s: %w", q.to, err)
	}
	if net.IsValid() {
		r.alike[net] = p
	} else {
		r.known[q] = p
	}
	return p, nil
}

// prefixes are those that all routes of all tables are for; if there are too
// many: none.
func prefixes() (*cover, error) {
	c, err := dial(unix.NETLINK_ROUTE) // so that the rest may be left unread
	if err != nil {
		return nil, err
	}
	defer c.close()
	nets := &cover{}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		body := make([]byte, 12) // struct rtmsg
		body[0] = family
		b, seq := c.append(nil, unix.RTM_GETROUTE, unix.NLM_F_DUMP, body)
		if err := c.send(b); err != nil {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for done := false; !done; {
			b, err := c.recv()
			if err != nil {
				return nil, fmt.Errorf("listing routes: %w", err)
			}
			err = messages(b, func(m message) error {
				switch {
				case m.seq != seq:
				case m.typ == unix.NLMSG_DONE, m.typ == unix.NLMSG_ERROR:
					done = true
					return m.errno()
				case m.typ == unix.RTM_NEWROUTE && len(m.body) >= 12:
					nets.add(routeTo(m.body))
				}
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("listing routes: %w", err)
			}
			if len(nets.prefixes) > mostRoutes {
				return &cover{}, nil
			}
		}
	}
	return nets, nil
}

// routeTo is the prefix that a route is for.
func routeTo(body []byte) netip.Prefix {
	to := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	nlattr.Each(body[12:], func(typ uint16, v []byte) {
		if a, ok := netip.AddrFromSlice(v); typ == unix.RTA_DST && ok {
			to = a
		}
	})
	return netip.PrefixFrom(to, int(body[1])).Masked()
}

// lookUp asks the kernel for a route: the whole of it, with all next hops
// (RTM_F_FIB_MATCH, kernel 4.13), not the one that it would choose now.
func (r *routes) lookUp(q question) (place, error) {
	family, bits := byte(unix.AF_INET), byte(q.to.BitLen())
	if q.to.Is6() {
		family = unix.AF_INET6
	}
	body := make([]byte, 12, 64)
	body[0], body[1] = family, bits
	binary.NativeEndian.PutUint32(body[8:], unix.RTM_F_LOOKUP_TABLE|unix.RTM_F_FIB_MATCH)
	body = nlattr.Append(body, unix.RTA_DST, q.to.AsSlice())
	if q.from.IsValid() {
		body[2] = bits
		body = nlattr.Append(body, unix.RTA_SRC, q.from.AsSlice())
	}
	if q.in != 0 {
		body = nlattr.Append(body, unix.RTA_IIF, binary.NativeEndian.AppendUint32(nil, uint32(q.in)))
	}
	b, seq := r.c.append(nil, unix.RTM_GETROUTE, 0, body)
	if err := r.c.send(b); err != nil {
		return place{}, err
	}
	for {
		b, err := r.c.recv()
		if err != nil {
			return place{}, err
		}
		var p place
		answered := false
		err = messages(b, func(m message) error {
			if m.seq != seq {
				return nil
			}
			answered = true
			if m.typ == unix.RTM_NEWROUTE {
				var err error
				p, err = r.read(m.body)
				return err
			}
			return nil // an error: unreachable, forbidden; that is nowhere
		})
		if answered || err != nil {
			return p, err
		}
	}
}

// read reads a route.
func (r *routes) read(body []byte) (p place, err error) {
	if len(body) < 12 {
		return p, errMalformed
	}
	switch body[7] {
	case unix.RTN_LOCAL, unix.RTN_ANYCAST:
		return place{kind: here}, nil
	case unix.RTN_UNICAST:
		p.kind = beyond
	case unix.RTN_BROADCAST, unix.RTN_MULTICAST:
		p.kind = shared
	default:
		return p, nil
	}
	add := func(index uint32) {
		var name string
		if name, err = r.name(int(index)); err == nil && name != "" {
			p.out, p.index = append(p.out, name), append(p.index, int(index))
		}
	}
	nlattr.Each(body[12:], func(typ uint16, v []byte) {
		switch {
		case typ == unix.RTA_OIF && len(v) >= 4:
			add(binary.NativeEndian.Uint32(v))
		case typ == unix.RTA_MULTIPATH:
			for len(v) >= 8 { // struct rtnexthop
				n := int(binary.NativeEndian.Uint16(v))
				if n < 8 || n > len(v) {
					break
				}
				add(binary.NativeEndian.Uint32(v[4:]))
				v = v[min((n+3)&^3, len(v)):]
			}
		}
	})
	return p, err
}

// name is an interface's name; empty: it is gone.
func (r *routes) name(index int) (string, error) {
	if name, ok := r.byIndex[index]; ok {
		return name, nil
	}
	ifr, err := unix.NewIfreq("")
	if err == nil {
		ifr.SetUint32(uint32(index))
		err = unix.IoctlIfreq(r.names, unix.SIOCGIFNAME, ifr)
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("name of interface %d: %w", index, err)
	}
	r.byIndex[index] = ifr.Name()
	return r.byIndex[index], nil
}

func (r *routes) listed() bool { return r.onLink != nil }

// list lists the interfaces and the addresses on them.
func (r *routes) list() error {
	links, err := retry(r.h.LinkList)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	addrs, err := retry(func() ([]netlink.Addr, error) { return r.h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		if at := l.Attrs(); at.Name != loopback {
			names[at.Index] = at.Name
			r.all = append(r.all, at.Name)
		}
	}
	r.onLink = map[netip.Addr][]string{}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && names[a.LinkIndex] != "" {
			r.onLink[ip.Unmap()] = append(r.onLink[ip.Unmap()], names[a.LinkIndex])
		}
	}
	return nil
}

// retry repeats a listing that changed while it was read.
func retry[T any](list func() ([]T, error)) ([]T, error) {
	for range 10 {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return list()
}
