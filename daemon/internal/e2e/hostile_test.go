// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	bin "encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// The picture under which hostile packets come: three interfaces of the host,
// of which eth2 takes whole Ethernet frames, and three workloads, of which the
// one at cali3 does. Most allow little; eth1 denies two ports and allows the
// rest.
var hostilePicture = tierDefault + hEth0 + labelled("HostEndpoint", "g", "role: g", "node: "+here+", interfaceName: eth1") + labelled("HostEndpoint", "k", "role: k", "node: "+here+", interfaceName: eth2") + hostileWorkloads + felix("defaultEndpointToHostAction: Accept") +
	gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny, protocol: UDP, destination: {ports: [7777]}}, {action: Allow, protocol: UDP, destination: {ports: [7778]}}]") +
	gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: ['7000:7010']}}]") +
	gnp("v", "selector: role == 'k', doNotTrack: true, applyOnForward: true, ingress: [{action: Deny, protocol: UDP, destination: {ports: [7777]}}, {action: Allow, protocol: UDP}]") +
	gnp("n", `selector: has(role), order: 10, types: [Ingress, Egress], ingress: [
		{action: Deny, protocol: UDP, destination: {ports: [9999]}},
		{action: Allow, protocol: TCP, destination: {ports: [8000]}},
		{action: Allow, protocol: UDP, source: {nets: [10.0.0.0/25, 10.4.0.0/25]}, destination: {ports: [8000]}},
		{action: Allow, protocol: UDP, source: {nets: ['fd00::/121', 'fd04::/121']}, destination: {ports: [8000]}},
		{action: Allow, protocol: TCP, source: {ports: ['4000:4100']}, destination: {ports: [8002]}},
		{action: Allow, protocol: SCTP, destination: {ports: [8000]}},
		{action: Allow, protocol: 253, source: {nets: [10.0.0.8/32]}},
		{action: Allow, protocol: ICMP, icmp: {type: 8}}, {action: Allow, protocol: ICMPv6, icmp: {type: 128}}], egress: [{action: Deny}]`) +
	gnp("f", `selector: has(role), order: 20, applyOnForward: true, ingress: [
		{action: Allow, protocol: TCP, destination: {ports: [8000]}}, {action: Allow, protocol: UDP, destination: {notPorts: ['1:8002', '8004:65535']}}],
		egress: [{action: Allow, protocol: TCP}, {action: Allow, protocol: UDP}]`) +
	gnp("g", `selector: role == 'g', order: 1, types: [Egress], egress: [{action: Deny}]`) +
	gnp("h", `selector: role == 'g', order: 2, applyOnForward: true, ingress: [{action: Deny, protocol: TCP, destination: {ports: [8001]}},
		{action: Deny, protocol: UDP, destination: {ports: [9999]}}, {action: Allow}], egress: [{action: Allow}]`) +
	gnp("w", `selector: has(app), ingress: [{action: Allow, protocol: TCP, destination: {ports: [8000]}}],
		egress: [{action: Allow, protocol: TCP, destination: {ports: [8000]}}, {action: Allow, protocol: UDP, destination: {ports: [4789, 8000]}}]`)

// hostileWorkloads have addresses of both families.
var hostileWorkloads = func() string {
	of := func(name, iface, ip4, ip6 string) string {
		return inNamespace("WorkloadEndpoint", "prod", here+"-k8s-"+name+"-eth0", "app: "+name,
			"node: "+here+", orchestrator: k8s, pod: "+name+", endpoint: eth0, interfaceName: "+iface+", ipNetworks: ['"+ip4+"/32', '"+ip6+"/128']")
	}
	return of("w1", "cali1", "10.2.0.2", "fd02::2") + of("w2", "cali2", "10.3.0.2", "fd03::2") + of("w3", "cali3", "10.5.0.2", "fd05::2")
}()

// hostile is a sequence of packets that come in by one interface, as they are
// written to it: whole frames if the interface takes those.
type hostile struct {
	name   string
	iface  string
	frames [][]byte
	// passes is how many packets of it pass; -1: as many as policy says.
	passes int
}

// taps are the interfaces that take Ethernet frames.
var taps = []string{"eth2", "cali3"}

// hostileCorpus is what mutations begin with. Each entry by itself, with no
// connection known before it, fares as it says.
func hostileCorpus() (all []hostile) {
	add := func(passes int, iface, name string, frames ...[]byte) {
		all = append(all, hostile{name, iface, frames, passes})
	}
	tcp := func(src, dst string, port uint16, flags uint8) []byte {
		p := netnstest.Packet{Src: addr(src), Dst: addr(dst), Protocol: 6, SrcPort: 4000, DstPort: port, TCPFlags: flags}
		return p.Build(nil, 0x6d61726b)
	}
	udp := func(src, dst string, port uint16) []byte {
		p := netnstest.Packet{Src: addr(src), Dst: addr(dst), Protocol: 17, SrcPort: 4000, DstPort: port, Payload: make([]byte, 48)}
		return p.Build(nil, 0x6d61726b)
	}
	icmp := func(src, dst string, typ, code uint8, payload []byte) []byte {
		p := netnstest.Packet{Src: addr(src), Dst: addr(dst), Protocol: 1, ICMPType: typ, ICMPCode: code, HopLimit: 255, Payload: payload}
		if p.Src.Is6() {
			p.Protocol = 58
		}
		return p.Build(nil, 0x6d61726b)
	}
	number := uint16(0) // of the last fragmented packet: halves of others wait
	id := func() uint16 { number++; return number }
	const syn, ack, fin, rst, psh = netnstest.SYN, netnstest.ACK, netnstest.FIN, netnstest.RST, netnstest.PSH
	for _, v := range []struct {
		name                         string
		peer, far, host, next        string
		w1, w2, other                string
		echo, unreachable, loopback  uint8
		loop, atSecond, everybody, z string
	}{
		{"IPv4", "10.0.0.8", "10.0.0.200", "10.0.0.1", "10.1.0.2", "10.2.0.2", "10.3.0.2", "10.9.9.9", 8, 3, 1, "127.0.0.1", "10.1.0.1", "10.0.0.255", "0.0.0.0"},
		{"IPv6", "fd00::8", "fd00::c8", "fd00::1", "fd01::2", "fd02::2", "fd03::2", "fd09::9", 128, 1, 1, "::1", "fd01::1", "ff02::1", "::"},
	} {
		n := func(s string) string { return v.name + " " + s }
		// What is allowed and what is denied, whole.
		add(1, "eth0", n("TCP to the open port"), tcp(v.peer, v.host, 8000, syn))
		add(0, "eth0", n("TCP to a shut port"), tcp(v.peer, v.host, 8001, syn))
		add(0, "eth0", n("TCP that preDNAT denies"), tcp(v.peer, v.host, 7001, syn))
		add(1, "eth0", n("TCP from the source port that may"), tcp(v.peer, v.host, 8002, syn))
		add(1, "eth0", n("UDP from the net that may"), udp(v.peer, v.host, 8000))
		add(0, "eth0", n("UDP from beside it"), udp(v.far, v.host, 8000))
		add(0, "eth0", n("UDP that is denied"), udp(v.peer, v.host, 9999))
		add(0, "eth0", n("UDP that doNotTrack denies"), udp(v.peer, v.host, 7777))
		add(1, "eth0", n("UDP that doNotTrack allows"), udp(v.peer, v.host, 7778))
		add(1, "eth0", n("forwarded, allowed"), tcp(v.peer, v.next, 8000, syn))
		add(0, "eth0", n("forwarded, denied"), tcp(v.peer, v.next, 8002, syn))
		add(1, "eth0", n("echo request"), icmp(v.peer, v.host, v.echo, 0, nil))
		add(1, "cali1", n("workload to workload"), tcp(v.w1, v.w2, 8000, syn))
		add(0, "cali1", n("workload to workload, denied"), tcp(v.w1, v.w2, 8001, syn))
		add(1, "cali1", n("workload to the host"), tcp(v.w1, v.host, 8000, syn))

		// TCP that begins nothing.
		add(1, "eth0", n("acknowledgement without a connection, open port"), tcp(v.peer, v.host, 8000, ack))
		for _, f := range []uint8{ack, ack | psh, fin, fin | ack, rst, rst | ack, syn | ack, syn | fin, syn | rst, fin | psh | 32, psh, 63} {
			add(0, "eth0", n(fmt.Sprintf("TCP with flags %#x, shut port", f)), tcp(v.peer, v.host, 8001, f))
			add(0, "eth0", n(fmt.Sprintf("TCP with flags %#x, forwarded, shut port", f)), tcp(v.peer, v.next, 8002, f))
		}
		add(0, "eth0", n("SYN and FIN, open port"), tcp(v.peer, v.host, 8000, syn|fin))
		add(0, "eth0", n("RST of no connection, open port"), tcp(v.peer, v.host, 8000, rst))

		// Fragments.
		for _, port := range []uint16{8000, 8001, 9999, 7777, 7778} {
			whole, ok := udp(v.peer, v.host, port), 0
			if port == 8000 || port == 7778 {
				ok = 1
			}
			say := func(s string) string { return n(fmt.Sprintf("UDP port %d, %s", port, s)) }
			pieces := func() [][]byte { return fragments(whole, id(), 16, 40) }
			back := pieces()
			slices.Reverse(back)
			add(ok, "eth0", say("in three fragments"), pieces()...)
			add(ok, "eth0", say("in three fragments, the last first"), back...)
			add(ok, "eth0", say("first fragment of eight bytes"), fragments(whole, id(), 8)...)
			add(0, "eth0", say("first fragment only"), pieces()[0])
			add(0, "eth0", say("later fragments only"), pieces()[1:]...)
			hole := pieces()
			add(0, "eth0", say("a hole"), hole[0], hole[2])
			add(0, "eth0", say("later fragment of a packet with another identification"), pieces()[0], fragment(whole, id(), 16, whole[len(whole)-48:], false))
		}
		open, shutUDP := udp(v.peer, v.host, 8000), udp(v.peer, v.host, 9999)
		both := func() (o, s [][]byte) { i := id(); return fragments(open, i, 24), fragments(shutUDP, i, 24) }
		o, s := both()
		add(-1, "eth0", n("fragments that overlap: the open port, then the shut one"), o[0], s[0], s[1])
		o, s = both()
		add(0, "eth0", n("fragments that overlap: the shut port, then the open one"), s[0], o[0], o[1])
		o, _ = both()
		add(0, "eth0", n("fragments that overlap: a later one reaches into the ports"), o[1], fragment(shutUDP, number, 0, payloadOf(shutUDP)[:32], true))
		o, _ = both()
		add(-1, "eth0", n("fragment past the largest packet"), o[0], fragment(open, number, 65528, make([]byte, 64), false))
		t := tcp(v.peer, v.host, 8001, syn)
		add(0, "eth0", n("TCP to a shut port, ports alone in the first fragment"), fragments(t, id(), 8)...)
		add(0, "eth0", n("TCP to a shut port, two tiny fragments"), fragments(t, id(), 8, 16)...)
		tiny := map[string]int{"IPv4": 1, "IPv6": 0}[v.name] // IPv6 wants all headers in the first one (RFC 8200, 4.5)
		add(tiny, "eth0", n("TCP to the open port, two tiny fragments"), fragments(tcp(v.peer, v.host, 8000, syn), id(), 8, 16)...)
		add(0, "eth0", n("forwarded, denied, in tiny fragments"), fragments(tcp(v.peer, v.next, 8002, syn), id(), 8)...)
		add(tiny, "eth0", n("forwarded, allowed, in tiny fragments"), fragments(tcp(v.peer, v.next, 8000, syn), id(), 8)...)
		add(1, "eth0", n("forwarded, allowed, in fragments"), fragments(tcp(v.peer, v.next, 8000, syn), id(), 24)...)
		add(0, "eth0", n("forwarded, denied, in fragments"), fragments(tcp(v.peer, v.next, 8002, syn), id(), 24)...)
		add(0, "cali1", n("of a workload, denied, in fragments"), fragments(tcp(v.w1, v.w2, 8001, syn), id(), 8)...)

		// Where two ports are denied and the rest is allowed.
		near, self := strings.NewReplacer("10.0.0.8", "10.1.0.8", "fd00::8", "fd01::8").Replace(v.peer), v.atSecond
		for _, port := range []uint16{8000, 8001, 9999} {
			say := func(s string) string { return n(fmt.Sprintf("all but two ports, port %d, %s", port, s)) }
			okTCP, okUDP := map[uint16]int{8000: 1, 9999: 1}[port], map[uint16]int{8000: 1, 8001: 1}[port]
			add(okTCP, "eth1", say("TCP"), tcp(near, self, port, syn))
			add(okUDP, "eth1", say("UDP"), udp(near, self, port))
			add(okTCP, "eth1", say("TCP in two fragments"), fragments(tcp(near, self, port, syn), id(), 24)...)
			add(min(okTCP, tiny), "eth1", say("TCP in tiny fragments"), fragments(tcp(near, self, port, syn), id(), 8, 16)...)
			add(okUDP, "eth1", say("UDP in three fragments"), fragments(udp(near, self, port), id(), 16, 40)...)
			add(0, "eth1", say("UDP, later fragments only"), fragments(udp(near, self, port), id(), 16, 40)[1:]...)
			add(okUDP, "eth1", say("UDP in fragments, forwarded"), fragments(udp(near, v.peer, port), id(), 16)...)
			add(0, "eth1", say("UDP, later fragments only, forwarded"), fragments(udp(near, v.peer, port), id(), 16)[1:]...)
		}

		// Headers that are cut short or lie.
		for _, port := range []uint16{8000, 8001} {
			w := tcp(v.peer, v.host, port, syn)
			for _, keep := range []int{0, 1, 2, 4, 8, 12, 19} {
				header := len(w) - len(payloadOf(w))
				add(0, "eth0", n(fmt.Sprintf("TCP port %d of %d bytes", port, keep)), headerMended(slices.Clone(w[:header+keep])))
			}
			bad := slices.Clone(w)
			bad[len(bad)-1] ^= 1
			add(0, "eth0", n(fmt.Sprintf("TCP port %d with a bad checksum", port)), bad)
			short := slices.Clone(w)
			payloadOf(short)[12] = 0x10 // data offset 4
			add(0, "eth0", n(fmt.Sprintf("TCP port %d, data offset too small", port)), mended(short))
			long := slices.Clone(w)
			payloadOf(long)[12] = 0xf0
			add(0, "eth0", n(fmt.Sprintf("TCP port %d, data offset too large", port)), mended(long))
		}
		cut := udp(v.peer, v.host, 8000)
		bin.BigEndian.PutUint16(payloadOf(cut)[4:], 3)
		add(0, "eth0", n("UDP that says it is of three bytes"), cut)
		cut = udp(v.peer, v.host, 8000)
		bin.BigEndian.PutUint16(payloadOf(cut)[4:], 60000)
		add(0, "eth0", n("UDP that says it is longer than it is"), cut)
		none := slices.Clone(open)
		payloadOf(none)[6], payloadOf(none)[7] = 0, 0
		add(-1, "eth0", n("UDP without a checksum"), none)

		// Errors that quote what is not known, or what is.
		strange := icmp(v.peer, v.host, v.unreachable, 1, tcp(v.host, v.peer, 9000, ack))
		add(0, "eth0", n("error that quotes no connection"), strange)
		add(0, "eth0", n("error that quotes nothing"), icmp(v.peer, v.host, v.unreachable, 1, nil))
		back := netnstest.Packet{Src: addr(v.host), Dst: addr(v.peer), Protocol: 17, SrcPort: 8000, DstPort: 4000}
		add(2, "eth0", n("connection, then an error about it"), udp(v.peer, v.host, 8000), icmp(v.other, v.host, v.unreachable, 1, back.Build(nil, 1)))
		add(1, "eth0", n("connection, then a denied packet beside it"), tcp(v.peer, v.host, 8000, syn), tcp(v.peer, v.host, 8001, ack))
		add(0, "eth0", n("echo reply that nobody asked for"), icmp(v.peer, v.host, map[uint8]uint8{8: 0, 128: 129}[v.echo], 0, nil))

		// Addresses that are not the sender's.
		add(0, "eth0", n("from a loopback address"), tcp(v.loop, v.host, 8000, syn))
		add(0, "eth0", n("to a loopback address"), tcp(v.peer, v.loop, 8000, syn))
		add(0, "eth0", n("from the host's own address"), tcp(v.host, v.host, 8001, syn))
		add(1, "eth0", n("to the host's address on another interface"), tcp(v.peer, v.atSecond, 8000, syn))
		add(0, "eth0", n("to everybody, shut port"), udp(v.peer, v.everybody, 9999))
		for _, spoofed := range []string{v.w2, v.peer, v.host, v.loop, v.other, v.z, v.everybody} {
			add(0, "cali1", n("workload as "+spoofed+" to the host"), tcp(spoofed, v.host, 8000, syn))
			add(0, "cali1", n("workload as "+spoofed+" to a workload"), tcp(spoofed, v.w2, 8000, syn))
			add(0, "cali1", n("workload as "+spoofed+" to a workload, in fragments"), fragments(udp(spoofed, v.w2, 8000), id(), 8)...)
		}
		add(0, "cali1", n("VXLAN of a workload"), udp(v.w1, v.peer, 4789))
		tunnel := headerMended(append(slices.Clone(tcp(v.w1, v.peer, 8000, syn)[:headerOf(v.name)]), tcp("10.9.0.1", "10.0.0.1", 8001, syn)...))
		protocolOf(tunnel)[0] = 4
		add(0, "cali1", n("IPv4 in IP of a workload"), headerMended(tunnel))
		add(0, "eth0", n("IPv4 in IP"), func() []byte {
			b := headerMended(append(slices.Clone(tcp(v.peer, v.host, 8000, syn)[:headerOf(v.name)]), tcp("10.9.0.1", "10.0.0.1", 8001, syn)...))
			protocolOf(b)[0] = 4
			return headerMended(b)
		}())

		// On Ethernet.
		peer, host, w3 := "10.4.0.8", "10.4.0.1", "10.5.0.2"
		if v.name == "IPv6" {
			peer, host, w3 = "fd04::8", "fd04::1", "fd05::2"
		}
		for _, port := range []uint16{8000, 8001} {
			p := tcp(peer, host, port, syn)
			ok := map[uint16]int{8000: 1}[port]
			say := func(s string) string { return n(fmt.Sprintf("TCP port %d, %s", port, s)) }
			add(ok, "eth2", say("in a frame"), frame(p))
			add(ok, "eth2", say("in a frame with VLAN tag 0"), frame(p, 0x8100, 0))
			add(ok, "eth2", say("in a frame with VLAN tag 0 and a priority"), frame(p, 0x8100, 0xe000))
			add(0, "eth2", say("in a frame of VLAN 5"), frame(p, 0x8100, 5))
			add(-1, "eth2", say("in a frame with two VLAN tags 0"), frame(p, 0x8100, 0, 0x8100, 0))
			add(-1, "eth2", say("in a frame with service tag 0"), frame(p, 0x88a8, 0))
			add(-1, "eth2", say("in a frame with service tag 0 and VLAN tag 0"), frame(p, 0x88a8, 0, 0x8100, 0))
			add(0, "eth2", say("behind LLC and SNAP"), snap(p))
			add(0, "eth2", say("behind LLC and SNAP and VLAN tag 0"), tagged(snap(p), 0x8100, 0))
			add(0, "eth2", say("with the type of another protocol"), mistyped(p, 0x8847))
			add(0, "eth2", say("with the type of the other IP version"), mistyped(p, map[byte]uint16{4: 0x86dd, 6: 0x0800}[p[0]>>4]))
			add(ok, "eth2", say("to everybody's link address"), toLink(frame(p), 0xff))
			add(0, "eth2", say("to a stranger's link address"), toLink(frame(p), 0x0a))
			add(ok, "eth2", say("in fragments with VLAN tag 0"), func() (list [][]byte) {
				for _, f := range fragments(p, id(), 24) {
					list = append(list, frame(f, 0x8100, 0))
				}
				return list
			}()...)
			q := tcp(w3, v.host, port, syn)
			add(ok, "cali3", say("of a workload, in a frame"), frame(q))
			add(ok, "cali3", say("of a workload, with VLAN tag 0"), frame(q, 0x8100, 0))
			for _, spoofed := range []string{v.w1, v.peer, v.loop} {
				q := tcp(spoofed, v.host, port, syn)
				add(0, "cali3", say("of a workload as "+spoofed+", with VLAN tag 0"), frame(q, 0x8100, 0))
				add(0, "cali3", say("of a workload as "+spoofed+", behind LLC and SNAP"), snap(q))
			}
		}
	}
	all = append(all, hostileOptions(tcp, udp)...)
	all = append(all, hostileExtensions(tcp, icmp)...)
	return all
}

// hostileOptions are IPv4 headers that are unusual.
func hostileOptions(tcp func(string, string, uint16, uint8) []byte, udp func(string, string, uint16) []byte) (all []hostile) {
	add := func(passes int, iface, name string, frames ...[]byte) {
		all = append(all, hostile{name, iface, frames, passes})
	}
	route := append([]byte{131, 7, 4}, addr("10.1.0.1").AsSlice()...)
	strict := append([]byte{137, 7, 4}, addr("10.1.0.2").AsSlice()...)
	for _, port := range []uint16{8000, 8001} {
		p := tcp("10.0.0.8", "10.0.0.1", port, netnstest.SYN)
		ok := map[uint16]int{8000: 1}[port]
		say := func(s string) string { return fmt.Sprintf("IPv4 port %d, %s", port, s) }
		add(ok, "eth0", say("forty bytes of no operation"), withOptions(p, slices.Repeat([]byte{1}, 40)))
		add(ok, "eth0", say("end of options"), withOptions(p, make([]byte, 4)))
		add(ok, "eth0", say("record route"), withOptions(p, append([]byte{7, 11, 4}, make([]byte, 9)...)))
		add(-1, "eth0", say("loose source route"), withOptions(p, append(slices.Clone(route), 0)))
		add(-1, "eth0", say("strict source route"), withOptions(p, append(slices.Clone(strict), 0)))
		add(-1, "eth0", say("router alert"), withOptions(p, []byte{148, 4, 0, 0}))
		add(-1, "eth0", say("option of no length"), withOptions(p, []byte{68, 0, 0, 0}))
		add(-1, "eth0", say("option past the end"), withOptions(p, []byte{68, 40, 5, 0}))
		lie := slices.Clone(p)
		lie[0] = 0x4f
		add(0, "eth0", say("header longer than it is"), headerMended(lie))
		lie = slices.Clone(p)
		lie[0] = 0x44
		add(0, "eth0", say("header too short"), lie)
		lie = slices.Clone(p)
		lie[2], lie[3] = 0, 0
		add(0, "eth0", say("total length of nothing"), lie)
		lie = slices.Clone(p)
		lie[2], lie[3] = 0xff, 0xff
		add(0, "eth0", say("total length past the end"), lie)
		lie = slices.Clone(p)
		lie[10] ^= 1
		add(0, "eth0", say("header with a bad checksum"), lie)
		lie = slices.Clone(p)
		lie[8] = 0
		add(-1, "eth0", say("time to live of nothing"), headerMended(lie))
	}
	loose := append(slices.Clone(route), 0)
	add(0, "eth0", "IPv4 to a shut port by a loose source route", withOptions(tcp("10.0.0.8", "10.0.0.1", 8001, netnstest.SYN), loose))
	add(0, "cali1", "IPv4 of a workload, spoofed, by a loose source route", withOptions(udp("10.0.0.8", "10.3.0.2", 8000), loose))
	return all
}

// hostileExtensions are IPv6 packets with extension headers.
func hostileExtensions(tcp func(string, string, uint16, uint8) []byte, icmp func(string, string, uint8, uint8, []byte) []byte) (all []hostile) {
	add := func(passes int, iface, name string, frames ...[]byte) {
		all = append(all, hostile{name, iface, frames, passes})
	}
	routing := func(typ, left byte) extension {
		body := make([]byte, 24)
		body[1], body[2], body[3] = 2, typ, left
		copy(body[8:], addr("fd01::1").AsSlice())
		return extension{43, body}
	}
	authentication := extension{51, append([]byte{0, 4}, make([]byte, 22)...)}
	for _, port := range []uint16{8000, 8001} {
		p := tcp("fd00::8", "fd00::1", port, netnstest.SYN)
		ok := map[uint16]int{8000: 1}[port]
		any := -ok // of the open port: as the kernel likes
		say := func(s string) string { return fmt.Sprintf("IPv6 port %d, %s", port, s) }
		add(ok, "eth0", say("hop-by-hop options"), withExtension(p, padded(0, 1)))
		add(ok, "eth0", say("destination options"), withExtension(p, padded(60, 1)))
		add(ok, "eth0", say("hop-by-hop and destination options"), withExtension(p, padded(0, 2), padded(60, 4)))
		add(any, "eth0", say("twenty headers of destination options"), withExtension(p, slices.Repeat([]extension{padded(60, 1)}, 20)...))
		add(any, "eth0", say("a hundred headers of destination options"), withExtension(p, slices.Repeat([]extension{padded(60, 1)}, 100)...))
		add(any, "eth0", say("destination options of two kilobytes"), withExtension(p, padded(60, 250)))
		add(any, "eth0", say("hop-by-hop options not in front"), withExtension(p, padded(60, 1), padded(0, 1)))
		add(any, "eth0", say("hop-by-hop options twice"), withExtension(p, padded(0, 1), padded(0, 1)))
		add(any, "eth0", say("routing header of type 0, done"), withExtension(p, routing(0, 0)))
		add(any, "eth0", say("routing header of type 0, one to go"), withExtension(p, routing(0, 1)))
		add(any, "eth0", say("routing header of type 2"), withExtension(p, routing(2, 1)))
		add(any, "eth0", say("routing header of type 4"), withExtension(p, routing(4, 1)))
		add(any, "eth0", say("authentication header"), withExtension(p, authentication))
		add(ok, "eth0", say("fragment header of a whole packet"), withExtension(p, fragmentHeader(0, false, 41)))
		// Its length is no multiple of eight, so nobody will ever put it
		// together; the kernel shows it to the rules as it is.
		add(ok, "eth0", say("fragment header with more to come, of a length that cannot be"), withExtension(p, fragmentHeader(0, true, 42)))
		add(any, "eth0", say("fragment header twice"), withExtension(p, fragmentHeader(0, false, 43), fragmentHeader(0, false, 44)))
		add(any, "eth0", say("fragment header behind options"), withExtension(p, padded(60, 1), fragmentHeader(0, false, 45)))
		add(0, "eth0", say("unknown extension header"), withExtension(p, extension{200, make([]byte, 8)}))
		add(0, "eth0", say("mobility header"), withExtension(p, extension{135, make([]byte, 8)}))
		add(0, "eth0", say("no next header"), withExtension(p, extension{59, make([]byte, 8)}))
		add(0, "eth0", say("encapsulating security payload"), withExtension(p, extension{50, make([]byte, 8)}))
		cut := withExtension(p, padded(60, 1))
		cut[41] = 40 // longer than the packet
		add(0, "eth0", say("options past the end"), cut)
		half := withExtension(p, padded(0, 1), padded(60, 1))
		add(0, "eth0", say("options, and then nothing"), headerMended(slices.Clone(half[:50])))
		jumbo := withExtension(p, extension{0, []byte{0, 0, 0xc2, 4, 0, 1, 0, 0}})
		jumbo[4], jumbo[5] = 0, 0
		add(any, "eth0", say("jumbo payload"), jumbo)
		zero := slices.Clone(p)
		zero[4], zero[5] = 0, 0
		add(0, "eth0", say("payload of no length"), zero)
		add(0, "cali1", say("of a workload as a peer, hop-by-hop options"), withExtension(tcp("fd00::8", "fd03::2", port, netnstest.SYN), padded(0, 1)))
		// The header chain in the first fragment, the ports in the second
		// (RFC 7112).
		long := withExtension(p, padded(60, 2), padded(60, 2))
		at := func(cut int) [][]byte { return fragments(long, 46, cut) }
		add(any, "eth0", say("header chain cut in two, ports in the second fragment"), at(32)...)
		add(0, "eth0", say("header chain cut in two, second fragment only"), at(32)[1])
	}
	// Fragments behind the fragment header of a whole packet: a rule cannot
	// see whether others belong to them.
	hidden := func(b []byte) []byte { return withExtension(b, fragmentHeader(0, false, 61)) }
	for _, iface := range []string{"eth1", "eth2"} {
		src, dst := "fd01::8", "fd01::1"
		put := func(b []byte) []byte { return b }
		if iface == "eth2" {
			src, dst = "fd04::8", "fd04::1"
			put = func(b []byte) []byte { return frame(b) }
		}
		for i, port := range []uint16{8000, 7777, 9999} {
			denied := iface == "eth1" && port == 9999 || iface == "eth2" && port == 7777
			p := netnstest.Packet{Src: addr(src), Dst: addr(dst), Protocol: 17, SrcPort: 4000, DstPort: port, Payload: make([]byte, 48)}
			whole := p.Build(nil, 0x6d61726b)
			pieces := fragments(whole, uint16(62+i), 16, 40)
			ok := 1
			if denied {
				ok = 0
			}
			say := func(s string) string { return fmt.Sprintf("IPv6 UDP port %d, hidden, %s", port, s) }
			add(ok, iface, say("whole"), put(hidden(whole)))
			add(0, iface, say("first fragment"), put(hidden(pieces[0])))
			add(0, iface, say("later fragments"), put(hidden(pieces[1])), put(hidden(pieces[2])))
			late := fragments(withExtension(whole, padded(60, 1)), uint16(72+i), 8)
			add(0, iface, say("first fragment without the ports, then the ports"), put(hidden(late[0])), put(hidden(late[1])))
			add(0, iface, say("later fragment behind options"), put(withExtension(pieces[1], fragmentHeader(0, false, 82), padded(60, 1))))
		}
	}
	// What neighbours and routers say.
	advert := icmp("fe80::8", "ff02::1", 134, 0, make([]byte, 16))
	add(1, "eth0", "router advertisement of the network", advert)
	add(0, "eth0", "redirect of the network", icmp("fe80::8", "fd00::1", 137, 0, make([]byte, 40)))
	add(0, "eth0", "router solicitation of the network", icmp("fe80::8", "ff02::2", 133, 0, nil))
	for _, x := range []extension{padded(0, 1), padded(60, 1), fragmentHeader(0, false, 51)} {
		add(0, "cali1", fmt.Sprintf("router advertisement of a workload behind header %d", x.number),
			withExtension(icmp("fe80::2", "ff02::1", 134, 0, make([]byte, 16)), x))
		add(0, "cali1", fmt.Sprintf("redirect of a workload behind header %d", x.number),
			withExtension(icmp("fe80::2", "fd02::1", 137, 0, make([]byte, 40)), x))
	}
	add(0, "cali1", "router advertisement of a workload in fragments", fragments(icmp("fe80::2", "ff02::1", 134, 0, make([]byte, 64)), 52, 8)...)
	add(0, "cali1", "router advertisement of a workload", icmp("fe80::2", "ff02::1", 134, 0, make([]byte, 16)))
	add(0, "cali1", "neighbour solicitation of a workload as another", icmp("fd03::2", "fd02::1", 135, 0, make([]byte, 16)))
	add(1, "cali1", "neighbour solicitation of a workload", icmp("fd02::2", "fd02::1", 135, 0, append(make([]byte, 0, 16), addr("fd02::1").AsSlice()...)))
	add(0, "cali3", "router advertisement of a workload with VLAN tag 0", frame(icmp("fe80::2", "ff02::1", 134, 0, make([]byte, 16)), 0x8100, 0))
	return all
}

func headerOf(name string) int { return map[string]int{"IPv4": 20, "IPv6": 40}[name] }

// payloadOf is what follows the header of a packet without options.
func payloadOf(b []byte) []byte {
	if b[0]>>4 == 6 {
		return b[40:]
	}
	return b[20:]
}

// protocolOf is where a packet has the number of what follows its header.
func protocolOf(b []byte) []byte {
	if b[0]>>4 == 6 {
		return b[6:7]
	}
	return b[9:10]
}

// frame puts a packet into an Ethernet frame, with VLAN tags: type, tag.
func frame(p []byte, tags ...uint16) []byte {
	typ := uint16(0x0800)
	if p[0]>>4 == 6 {
		typ = 0x86dd
	}
	return tagged(mistyped(p, typ), tags...)
}

// linkAddress is the one that the interfaces of the host have which take
// frames.
var linkAddress = []byte{2, 0, 0, 0, 0, 1}

func mistyped(p []byte, typ uint16) []byte {
	b := append(slices.Clone(linkAddress), 2, 0, 0, 0, 0, 2)
	return append(bin.BigEndian.AppendUint16(b, typ), p...)
}

func tagged(f []byte, tags ...uint16) []byte {
	b := slices.Clone(f[:12])
	for _, t := range tags {
		b = bin.BigEndian.AppendUint16(b, t)
	}
	return append(b, f[12:]...)
}

// snap puts a packet behind the headers of IEEE 802.2 and SNAP (RFC 1042).
func snap(p []byte) []byte {
	typ := frame(p)[12:14]
	b := append(slices.Clone(linkAddress), 2, 0, 0, 0, 0, 2)
	b = bin.BigEndian.AppendUint16(b, uint16(8+len(p)))
	return append(append(append(b, 0xaa, 0xaa, 3, 0, 0, 0), typ...), p...)
}

func toLink(f []byte, with byte) []byte {
	f = slices.Clone(f)
	for i := range 6 {
		f[i] = with
	}
	return f
}

// mutant is a hostile sequence, damaged at random.
func mutant(r *rand.Rand, corpus []hostile) hostile {
	h := corpus[r.IntN(len(corpus))]
	for range 4 { // rather such as pass: what is damaged is denied soon enough
		if h.passes == 0 {
			h = corpus[r.IntN(len(corpus))]
		}
	}
	h.frames = slices.Clone(h.frames)
	for i := range h.frames {
		h.frames[i] = slices.Clone(h.frames[i])
	}
	switch r.IntN(12) {
	case 0: // in another order
		r.Shuffle(len(h.frames), func(i, j int) { h.frames[i], h.frames[j] = h.frames[j], h.frames[i] })
	case 1: // something else in between
		other := corpus[r.IntN(len(corpus))]
		if other.iface == h.iface {
			h.frames = slices.Insert(h.frames, r.IntN(len(h.frames)+1), slices.Clone(other.frames[r.IntN(len(other.frames))]))
		}
	case 2: // by another interface of the kind
		kind := taps
		if !slices.Contains(taps, h.iface) {
			kind = []string{"eth0", "eth1", "cali1", "cali2"}
		}
		h.iface = kind[r.IntN(len(kind))]
	}
	for range 1 + r.IntN(3) {
		i := r.IntN(len(h.frames))
		link := 0
		if slices.Contains(taps, h.iface) {
			link = min(14, len(h.frames[i]))
			if r.IntN(4) == 0 {
				link = 0 // the frame itself
			}
		}
		head, b := slices.Clone(h.frames[i][:link]), damaged(r, h.frames[i][link:])
		h.frames[i] = append(head, b...)
	}
	return h
}

// damaged is a packet with a random fault. Half of the time the checksums and
// lengths are right again after that.
func damaged(r *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	near := func() int { return min(r.IntN(len(b)), r.IntN(len(b))) } // headers, rather
	switch r.IntN(13) {
	case 0:
		b[near()] ^= 1 << r.IntN(8)
	case 1:
		b[near()] = byte(r.Uint32())
	case 2:
		b[near()] = []byte{0, 1, 4, 5, 6, 17, 43, 44, 50, 51, 58, 59, 60, 127, 128, 132, 255}[r.IntN(17)]
	case 3: // cut off
		b = b[:r.IntN(len(b)+1)]
	case 4: // too long
		b = append(b, make([]byte, r.IntN(64))...)
	case 5: // a piece twice
		at := near()
		b = slices.Insert(b, at, slices.Clone(b[at:min(len(b), at+r.IntN(24))])...)
	case 6: // a piece missing
		at := near()
		b = slices.Delete(b, at, min(len(b), at+r.IntN(16)))
	case 7, 8: // other ports, as policy knows them
		if k, transport, err := readPacket(b); err == nil && len(transport) >= 4 {
			bin.BigEndian.PutUint16(transport[2:], []uint16{7777, 7778, 7000, 7010, 7999, 8000, 8001, 8002, 9999, 22, 53, 4789}[r.IntN(12)])
			if k.Protocol == 6 && r.IntN(3) == 0 && len(transport) > 13 {
				transport[13] = byte(r.Uint32())
			}
		}
	case 9: // another destination or source
		list := []string{"10.0.0.1", "10.0.0.8", "10.0.0.129", "10.1.0.1", "10.1.0.2", "10.2.0.2", "10.3.0.2", "10.5.0.2", "127.0.0.1", "10.0.0.255", "255.255.255.255", "224.0.0.1"}
		if len(b) >= 40 && b[0]>>4 == 6 {
			list = []string{"fd00::1", "fd00::8", "fd00::81", "fd01::1", "fd01::2", "fd02::2", "fd03::2", "fd05::2", "::1", "ff02::1", "fe80::2", "::ffff:10.0.0.1"}
			copy(b[8+16*r.IntN(2):], netip.MustParseAddr(list[r.IntN(len(list))]).AsSlice())
		} else if len(b) >= 20 {
			copy(b[12+4*r.IntN(2):], netip.MustParseAddr(list[r.IntN(len(list))]).AsSlice())
		}
	case 10: // an extension header or options more
		switch {
		case len(b) >= 40 && b[0]>>4 == 6:
			number := []byte{0, 43, 44, 50, 51, 59, 60, 135, 253}[r.IntN(9)]
			body := make([]byte, 8*(1+r.IntN(3)))
			body[1] = byte(len(body)/8 - 1)
			for i := 2; i < len(body) && r.IntN(2) == 0; i++ {
				body[i] = byte(r.Uint32())
			}
			b = withExtension(b, extension{number, body})
		case len(b) >= 20 && b[0] == 0x45:
			options := make([]byte, 4*(1+r.IntN(10)))
			for i := range options {
				options[i] = []byte{0, 1, 7, 68, 131, 137, 148, byte(r.Uint32())}[r.IntN(8)]
			}
			b = withOptions(b, options)
		}
	case 11: // a fragment of something
		if len(b) >= 48 && (b[0] == 0x45 || b[0]>>4 == 6) {
			b = fragment(b, uint16(r.IntN(4)), 8*r.IntN(8), payloadOf(b), r.IntN(2) == 0)
		}
	case 12: // lengths that lie
		if len(b) >= 6 {
			bin.BigEndian.PutUint16(b[2+2*r.IntN(2):], uint16(r.Uint32()))
			return b
		}
	}
	if r.IntN(2) == 0 && len(b) >= 20 {
		b = mended(b)
	}
	return b
}
