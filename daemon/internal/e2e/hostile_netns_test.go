// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	bin "encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/policy"
)

var hostilePackets = flag.Int("hostile-packets", 20_000, "how many damaged packets are sent against each packet filter")

// arena is a stage on which packets arrive as they are, and a witness who
// says which of them have passed all rules.
type arena struct {
	*stage
	witness *witness
	taps    map[string]int // descriptors
	names   map[int]string // of interfaces
	world   *policy.World
	known   map[connection]bool // that have passed by policy
}

func newArena(t *testing.T, picture string) *arena {
	a := &arena{stage: newStage(t), taps: map[string]int{}, names: map[int]string{}, known: map[connection]bool{}}
	ns := a.inj.NS
	for _, s := range []string{"net/ipv4/ipfrag_time", "net/ipv6/ip6frag_time", "net/netfilter/nf_conntrack_frag6_timeout"} {
		ns.Sysctl(s, "1") // halves of packets are many
	}
	for i, name := range taps {
		a.openTAP(name, fmt.Sprintf("10.%d.0.1/24", 4+i), fmt.Sprintf("fd0%d::1/64", 4+i))
	}
	a.witness = newWitness(t, ns)
	ns.MustDo(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			a.names[l.Attrs().Index] = l.Attrs().Name
		}
		return err
	})
	ifaces := maps.Clone(a.ifaces)
	for i, name := range taps {
		ifaces[name] = []netip.Addr{addr(fmt.Sprintf("10.%d.0.1", 4+i)), addr(fmt.Sprintf("fd0%d::1", 4+i))}
	}
	a.setInterfaces(ifaces)
	a.show(picture)
	var objs []api.Object
	for _, o := range a.objs {
		objs = append(objs, o)
	}
	a.world = worldOf(objs)
	return a
}

// openTAP makes an interface that takes Ethernet frames.
func (a *arena) openTAP(name string, addrs ...string) {
	a.t.Helper()
	a.inj.NS.MustDo(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		a.t.Cleanup(func() { unix.Close(fd) })
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return err
		}
		a.taps[name] = fd
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(l, net.HardwareAddr(linkAddress))
	})
	a.inj.NS.Up(name, addrs...)
}

// send lets the packets arrive and returns those that pass.
func (a *arena) send(h hostile) (passed []admitted) {
	a.t.Helper()
	a.witness.seen(func(admitted) {}) // strays
	for _, f := range h.frames {
		if fd, ok := a.taps[h.iface]; ok {
			if _, err := unix.Write(fd, f); err != nil && !errors.Is(err, unix.EINVAL) {
				a.t.Fatalf("writing to %s: %v", h.iface, err)
			}
		} else {
			a.inj.Arrive(h.iface, f)
		}
	}
	a.witness.seen(func(p admitted) {
		if a.names[p.in] != "lo" && !a.stray(p, h) {
			p.packet = slices.Clone(p.packet)
			passed = append(passed, p)
		}
	})
	return passed
}

// stray tells whether a packet is the host's own: it hears what it sends to
// everybody.
func (a *arena) stray(p admitted, h hostile) bool {
	k, _, _ := readPacket(p.packet)
	own := false
	for _, list := range a.ifaces {
		own = own || slices.Contains(list, k.Src)
	}
	return own && !slices.ContainsFunc(h.frames, func(f []byte) bool {
		return bytes.Contains(f, append(k.Src.AsSlice(), k.Dst.AsSlice()...))
	})
}

// judge says what policy has against a packet that has passed; empty: nothing.
// A packet passes as one of a known connection if one of its addresses and
// ports, either way round, has passed by policy before, wherever that came in;
// an error passes if what it quotes is of such a connection.
func (a *arena) judge(p admitted) string {
	k, transport, err := readPacket(p.packet)
	switch {
	case err != nil:
		return err.Error()
	case ruleset.HasPorts(k.Protocol) && len(transport) < 4:
		return "its ports cannot be read"
	}
	why := a.verdict(p, k)
	if why == "" {
		for _, c := range connections(k, transport) {
			a.known[c] = true
		}
		return ""
	}
	if inner, is := quoted(k, transport); is {
		if k, transport, err = readPacket(inner); err != nil {
			return fmt.Sprintf("%s, and what it quotes cannot be read: %v", why, err)
		}
	}
	if a.known[connections(k, transport)[0]] {
		return ""
	}
	// nftables takes an authentication header for a protocol, as in IPv4;
	// nobody reads what follows who has not the key, and who has gets it as a
	// packet of its own, past the rules once more.
	if k.Src.Is6() {
		_, _, authenticated, _ := behindExtensions(p.packet[6], p.packet[40:])
		if k.Protocol = 51; authenticated && a.verdict(p, k) == "" {
			return ""
		}
	}
	return why
}

// connection is what makes packets those of one connection.
type connection struct {
	src, dst         netip.Addr
	protocol         uint8
	srcPort, dstPort uint16 // of ICMP, the identification is both
}

// connections is a packet's connection, from both ends.
func connections(k ruleset.Packet, transport []byte) [2]connection {
	c := connection{k.Src, k.Dst, k.Protocol, k.SrcPort, k.DstPort}
	if (k.Protocol == 1 || k.Protocol == 58) && len(transport) >= 6 {
		c.srcPort = bin.BigEndian.Uint16(transport[4:])
		c.dstPort = c.srcPort
	}
	return [2]connection{c, {c.dst, c.src, c.protocol, c.dstPort, c.srcPort}}
}

// forget forgets all connections.
func (a *arena) forget() {
	a.inj.FlushConntrack()
	clear(a.known)
}

func (a *arena) verdict(p admitted, k ruleset.Packet) string {
	for _, x := range []*netip.Addr{&k.Src, &k.Dst} {
		if x.Is4In6() { // on the wire an IPv6 address like any other; policy would read IPv4
			*x = addr("2001:db8:ffff::1")
		}
	}
	f := probe{packet: k, hook: ruleset.HookInput}
	if f.packet.In = a.names[p.in]; p.forwarded {
		f.hook, f.packet.Out = ruleset.HookForward, a.names[p.out]
	}
	flow := f.flow()
	flow.Host.Interfaces = a.ifaces
	flow.State = policy.New
	if d := a.world.Evaluate(flow); !d.Verdict.Passes() {
		return strings.Join(d.Sentences(), "\n  ")
	}
	return ""
}

func (a *arena) check(h hostile, passed []admitted) {
	a.t.Helper()
	for _, p := range passed {
		if why := a.judge(p); why != "" {
			a.t.Errorf("%s by %s: passed in %s (forwarded: %v), and policy denies it: %s\nit is\n%x\nand was sent as\n%x",
				h.name, h.iface, a.names[p.in], p.forwarded, why, p.packet, h.frames)
		}
	}
}

// eachFilter runs a test against each packet filter, of which -filter names
// one if it is given.
func eachFilter(t *testing.T, run func(t *testing.T)) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "filter" })
	filters := []string{"nftables", string(iptables.Legacy), string(iptables.NFT)}
	if given {
		filters = []string{*filterFlag}
	}
	was := *filterFlag
	defer func() { *filterFlag = was }()
	for _, name := range filters {
		*filterFlag = name
		t.Run(name, run)
	}
}

// TestNetnsHostile_CorpusFaresAsWritten: fragments, extension headers, options,
// tags, false senders, headers that lie: each passes or is stopped as written,
// and nothing passes that policy denies. A packet has passed when a rule of
// another table that stands behind all of ours, at input or forward, has seen
// it.
func TestNetnsHostile_CorpusFaresAsWritten(t *testing.T) {
	eachFilter(t, func(t *testing.T) {
		corpus := hostileCorpus()
		through := newArena(t, hostilePicture).fares(corpus)
		t.Logf("%d sequences, %d packets pass", len(corpus), through)
	})
}

// fares sends the corpus, and counts what passes.
func (a *arena) fares(corpus []hostile) (through int) {
	a.t.Helper()
	for _, h := range corpus {
		a.forget()
		passed := a.send(h)
		through += len(passed)
		a.check(h, passed)
		if h.passes >= 0 && len(passed) != h.passes {
			a.t.Errorf("%s by %s: %d packets pass, want %d\n%x", h.name, h.iface, len(passed), h.passes, h.frames)
		}
	}
	return through
}

// TestNetnsHostile_WithoutPortsNothingPassesThatPortsDeny: where policy also
// judges what belongs to no connection, a packet whose ports are hidden does not
// pass by the rule for all ports.
func TestNetnsHostile_WithoutPortsNothingPassesThatPortsDeny(t *testing.T) {
	eachFilter(t, func(t *testing.T) {
		a := newArena(t, strings.Replace(hostilePicture, "defaultEndpointToHostAction: Accept", "defaultEndpointToHostAction: Accept, disableConntrackInvalidCheck: true", 1))
		corpus := hostileCorpus()
		through := 0
		for _, h := range corpus {
			a.inj.FlushConntrack()
			for _, p := range a.send(h) {
				through++
				if k, transport, err := readPacket(p.packet); err != nil || ruleset.HasPorts(k.Protocol) && len(transport) < 4 {
					t.Errorf("%s by %s: passes (%v)\n%x", h.name, h.iface, err, p.packet)
				}
			}
		}
		t.Logf("%d sequences, %d packets pass", len(corpus), through)
	})
}

// TestNetnsHostile_DamagedPacketsNeverPassAgainstPolicy: the corpus, damaged
// at random. -hostile-packets says how many packets are sent.
func TestNetnsHostile_DamagedPacketsNeverPassAgainstPolicy(t *testing.T) {
	eachFilter(t, func(t *testing.T) {
		r := newRand(t)
		a := newArena(t, hostilePicture)
		corpus := hostileCorpus()
		sent, through := 0, map[string]int{}
		for round := 0; sent < *hostilePackets && !t.Failed(); round++ {
			if round%500 == 0 {
				a.forget()
			}
			h := mutant(r, corpus)
			sent += len(h.frames)
			passed := a.send(h)
			a.check(h, passed)
			for _, p := range passed {
				k, _, _ := readPacket(p.packet)
				way := "to the host"
				if p.forwarded {
					way = "forwarded"
				}
				through[fmt.Sprintf("protocol %d %s from %s", k.Protocol, way, a.names[p.in])]++
			}
		}
		total := 0
		for _, what := range slices.Sorted(maps.Keys(through)) {
			total += through[what]
			t.Logf("%8d %s", through[what], what)
		}
		t.Logf("%d packets sent, %d passed, none that policy denies", sent, total)
		// Nothing has worn out; halves of packets may still wait.
		a.fares(slices.DeleteFunc(corpus, func(h hostile) bool {
			return len(h.frames) > 1 || strings.Contains(h.name, "fragment") || strings.Contains(h.name, "hidden")
		}))
		for _, want := range []string{
			"protocol 6 to the host from eth0", "protocol 6 to the host from eth2", "protocol 6 to the host from cali1", "protocol 6 to the host from cali3",
			"protocol 6 forwarded from eth0", "protocol 6 forwarded from cali1", "protocol 17 to the host from eth0", "protocol 58 to the host from eth0", "protocol 1 to the host from eth0",
		} {
			if through[want] == 0 {
				t.Errorf("nothing passed as %q: damage does not leave enough whole", want)
			}
		}
	})
}
