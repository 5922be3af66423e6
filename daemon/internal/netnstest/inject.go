// SPDX-License-Identifier: Apache-2.0

package netnstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Interface is one TUN device of an Injector.
type Interface struct {
	Name string
	// Addrs are the host's own addresses on it, with their length, as
	// "10.1.0.1/24". Routes are further destinations behind it.
	Addrs  []string
	Routes []string
}

// InjectorConfig says what the Injector's namespace looks like.
type InjectorConfig struct {
	// Interfaces; none: DefaultInterfaces.
	Interfaces []Interface
}

// DefaultInterfaces is two devices: rstun0 with 10.1.0.1/24 and fd01::1/64,
// rstun1 with 10.2.0.1/24 and fd02::1/64.
func DefaultInterfaces() []Interface {
	return []Interface{
		{Name: "rstun0", Addrs: []string{"10.1.0.1/24", "fd01::1/64"}},
		{Name: "rstun1", Addrs: []string{"10.2.0.1/24", "fd02::1/64"}},
	}
}

// Injector says what the kernel does with packets in a namespace of its own.
// It is for one goroutine.
//
// Connection tracking (once a rule asks for it) remembers what passed: two
// packets of one flow are not independent. Use a fresh source port for each
// packet, or FlushConntrack between cases; its table also fills up, so flush
// every few ten thousand accepted packets.
//
// The kernel answers what it let in (a reset, an ICMP error); the answers
// pass OUTPUT and end in the TUN, where they are thrown away. Counters of
// OUTPUT rules see them.
type Injector struct {
	// NS is the namespace; make the rules under test in it.
	NS *NS

	t      testing.TB
	tuns   map[string]*tun
	names  []string
	raw    map[rawKey]int // raw sockets that see what INPUT let through
	send4  int
	send6  int
	marker uint64
	buf    []byte
	in     []byte
	h      *netlink.Handle
}

type tun struct {
	name  string
	fd    int
	stale bool // packets nobody waits for may be queued
}

type rawKey struct {
	v6    bool
	proto uint8
}

// NewInjector makes the namespace, its devices, and the sockets that watch.
// IPv4 and IPv6 forwarding are on, source validation is off.
func NewInjector(t testing.TB, c InjectorConfig) *Injector {
	t.Helper()
	if c.Interfaces == nil {
		c.Interfaces = DefaultInterfaces()
	}
	j := &Injector{
		NS: New(t), t: t, tuns: map[string]*tun{}, raw: map[rawKey]int{}, send4: -1, send6: -1,
		marker: 0x5253_0000_0000_0000, in: make([]byte, 65536),
	}
	t.Cleanup(j.close)
	j.NS.MustDo(func() error {
		for _, s := range [][2]string{
			{"net/ipv4/ip_forward", "1"}, {"net/ipv6/conf/all/forwarding", "1"},
			{"net/ipv4/conf/all/rp_filter", "0"}, {"net/ipv4/conf/default/rp_filter", "0"},
			{"net/ipv6/conf/default/accept_dad", "0"}, {"net/ipv6/conf/default/addr_gen_mode", "1"},
			{"net/ipv6/conf/default/router_solicitations", "0"},
		} {
			if err := sysctl(s[0], s[1]); err != nil {
				return err
			}
		}
		for _, i := range c.Interfaces {
			if err := j.addTUN(i.Name); err != nil {
				return fmt.Errorf("tun %s: %w", i.Name, err)
			}
		}
		var err error
		if j.send4, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		j.send6, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	for _, i := range c.Interfaces {
		j.NS.Up(i.Name, i.Addrs...)
		for _, r := range i.Routes {
			j.route(i.Name, r)
		}
	}
	for _, p := range []uint8{TCP, UDP, ICMP, SCTP, UDPLite} {
		j.watch(rawKey{proto: p})
	}
	for _, p := range []uint8{TCP, UDP, ICMPv6, SCTP, UDPLite} {
		j.watch(rawKey{v6: true, proto: p})
	}
	j.h = j.NS.Handle()
	return j
}

func (j *Injector) addTUN(name string) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	j.tuns[name] = &tun{name: name, fd: fd}
	j.names = append(j.names, name)
	return nil
}

func (j *Injector) route(iface, dst string) {
	j.t.Helper()
	j.NS.MustDo(func() error {
		link, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		n, err := netlink.ParseIPNet(dst)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: n})
	})
}

func (j *Injector) close() {
	for _, t := range j.tuns {
		unix.Close(t.fd)
	}
	for _, fd := range j.raw {
		unix.Close(fd)
	}
	for _, fd := range []int{j.send4, j.send6} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// watch opens the raw socket that sees delivered packets of one protocol.
func (j *Injector) watch(k rawKey) int {
	if fd, ok := j.raw[k]; ok {
		return fd
	}
	family := unix.AF_INET
	if k.v6 {
		family = unix.AF_INET6
	}
	var fd int
	j.NS.MustDo(func() error {
		var err error
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(k.proto))
		if err != nil {
			return fmt.Errorf("raw socket of protocol %d: %w", k.proto, err)
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	})
	j.raw[k] = fd
	return fd
}

func (j *Injector) tun(iface string) *tun {
	t := j.tuns[iface]
	if t == nil {
		j.t.Fatalf("no tun %s among %v", iface, j.names)
	}
	return t
}

// In lets p arrive on iface and reports whether it was delivered to the host
// itself: accepted in PREROUTING and INPUT. p.Dst must be an address of the
// host, else nothing is delivered and the answer is false.
func (j *Injector) In(iface string, p Packet) bool {
	fd := j.watch(rawKey{v6: p.Src.Is6(), proto: p.Protocol})
	j.arrive(iface, &p)
	for _, t := range j.tuns {
		t.stale = true // answers
	}
	length := len(j.buf)
	if p.Src.Is6() {
		length -= 40 // raw IPv6 sockets give no IP header
	}
	return j.seen(fd, length)
}

// Forward lets p arrive on in and reports whether it left on out: accepted in
// PREROUTING, FORWARD and POSTROUTING. p.Dst must be routed to out.
func (j *Injector) Forward(p Packet, in, out string) bool {
	j.drain(out)
	j.tun(in).stale = true
	j.arrive(in, &p)
	return j.seen(j.tun(out).fd, len(j.buf))
}

// Out sends p from the host and reports whether it left on iface: accepted in
// OUTPUT and POSTROUTING. p.Dst must be routed to iface; p.Src may be any
// address. A packet that a rule rewrites to another interface is not seen.
func (j *Injector) Out(iface string, p Packet) bool {
	j.drain(iface)
	j.build(&p)
	var err error
	if p.Dst.Is4() {
		err = unix.Sendto(j.send4, j.buf, 0, &unix.SockaddrInet4{Addr: p.Dst.As4()})
	} else {
		err = unix.Sendto(j.send6, j.buf, 0, &unix.SockaddrInet6{Addr: p.Dst.As16()})
	}
	if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		j.t.Fatalf("sending %+v: %v", p, err)
	}
	return j.seen(j.tun(iface).fd, len(j.buf))
}

// Arrive lets raw bytes (a whole IP packet) arrive on iface and judges
// nothing. With it hostile packets are made; Left and Delivered look for them.
func (j *Injector) Arrive(iface string, packet []byte) {
	for _, t := range j.tuns {
		t.stale = true
	}
	if _, err := unix.Write(j.tun(iface).fd, packet); err != nil && !errors.Is(err, unix.EINVAL) {
		j.t.Fatalf("writing to %s: %v", iface, err)
	}
}

// Left takes all that has left on iface since it was last looked at and calls
// visit for each packet. The bytes are valid during the call.
func (j *Injector) Left(iface string, visit func(packet []byte)) {
	t := j.tun(iface)
	for {
		n, err := unix.Read(t.fd, j.in)
		if err != nil {
			break
		}
		visit(j.in[:n])
	}
	t.stale = false
}

// Delivered takes all packets of a protocol that INPUT has let through since
// last asked and calls visit for each; IPv4 packets begin with the IP header,
// IPv6 ones with the transport header. The first call only begins to watch if
// the protocol is not one of those that have a name here.
func (j *Injector) Delivered(v6 bool, protocol uint8, visit func(packet []byte)) {
	fd := j.watch(rawKey{v6, protocol})
	for {
		n, err := unix.Read(fd, j.in)
		if err != nil {
			return
		}
		visit(j.in[:n])
	}
}

// FlushConntrack forgets all connections of the namespace.
func (j *Injector) FlushConntrack() {
	j.t.Helper()
	if err := j.h.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		j.t.Fatalf("flushing conntrack: %v", err)
	}
}

func (j *Injector) build(p *Packet) {
	j.marker++
	j.buf = p.Build(j.buf[:0], j.marker)
}

func (j *Injector) arrive(iface string, p *Packet) {
	j.build(p)
	if _, err := unix.Write(j.tun(iface).fd, j.buf); err != nil {
		j.t.Fatalf("writing to %s: %v", iface, err)
	}
}

// seen reads fd until it finds the packet built last, of which fd gives length
// bytes; strays are dropped. What ends in our marker and has another length is
// an ICMP error or redirect that quotes ours.
func (j *Injector) seen(fd, length int) bool {
	for {
		n, err := unix.Read(fd, j.in)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil:
			j.t.Fatalf("reading packets: %v", err)
		}
		if err == nil && n != length {
			continue
		}
		if n >= markerLen && binary.BigEndian.Uint64(j.in[n-markerLen:n]) == j.marker {
			return true
		}
	}
}

// drain empties a TUN whose queue may be full of what nobody waits for.
func (j *Injector) drain(iface string) {
	t := j.tun(iface)
	if !t.stale {
		return
	}
	t.stale = false
	for {
		if _, err := unix.Read(t.fd, j.in); err != nil {
			return
		}
	}
}
