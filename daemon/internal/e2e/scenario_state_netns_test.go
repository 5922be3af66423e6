// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// families runs a test in both, with the text of a scenario in each.
func families(t *testing.T, f func(t *testing.T, s *stage, text func(string) string)) {
	t.Helper()
	t.Run("IPv4", func(t *testing.T) { f(t, newStage(t), func(s string) string { return s }) })
	t.Run("IPv6", func(t *testing.T) { f(t, newStage(t), twin) })
}

// nft loads rules of another program into the stage's namespace.
func (s *stage) nft(rules string) {
	s.t.Helper()
	s.inj.NS.MustDo(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
		return nil
	})
}

// sockaddr is an address for system calls.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// socket opens a socket of the host that does not block.
func (s *stage) socket(a netip.AddrPort, typ int) int {
	s.t.Helper()
	fd := -1
	s.inj.NS.MustDo(func() (err error) {
		family := unix.AF_INET
		if a.Addr().Is6() {
			family = unix.AF_INET6
		}
		fd, err = unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	s.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func (s *stage) bound(a netip.AddrPort, typ int) int {
	s.t.Helper()
	fd := s.socket(a, typ)
	if err := unix.Bind(fd, sockaddr(a)); err != nil {
		s.t.Fatalf("bind %s: %v", a, err)
	}
	return fd
}

func port(a string, p uint16) netip.AddrPort { return netip.AddrPortFrom(addr(a), p) }

// soon asks until the answer is yes, two seconds at the most.
func soon(ask func() bool) bool {
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		if ask() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// packetsLeft are the packets that left on an interface.
func (s *stage) packetsLeft(iface string) (out [][]byte) {
	s.inj.Left(iface, func(p []byte) { out = append(out, append([]byte(nil), p...)) })
	return out
}

// header is what tests look at in a packet.
type header struct {
	src, dst         netip.Addr
	proto            uint8
	srcPort, dstPort uint16
	l4               []byte
}

func parse(p []byte) header {
	var h header
	off := 40
	if p[0]>>4 == 4 {
		off = int(p[0]&15) * 4
		h.src, _ = netip.AddrFromSlice(p[12:16])
		h.dst, _ = netip.AddrFromSlice(p[16:20])
		h.proto = p[9]
	} else {
		h.src, _ = netip.AddrFromSlice(p[8:24])
		h.dst, _ = netip.AddrFromSlice(p[24:40])
		h.proto = p[6]
	}
	h.l4 = p[off:]
	if h.proto == 6 || h.proto == 17 {
		h.srcPort, h.dstPort = uint16(h.l4[0])<<8|uint16(h.l4[1]), uint16(h.l4[2])<<8|uint16(h.l4[3])
	}
	return h
}

// TestNetnsScenario_S032_KnownConnectionsGoOn: a policy that comes later cuts
// no connection that both old and new rules know, and lets no new one begin.
func TestNetnsScenario_S032_KnownConnectionsGoOn(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.show(tierDefault)
		here, peer := addr(text("10.0.0.1")), addr(text("10.0.0.2"))
		fd := s.bound(netip.AddrPortFrom(here, 9000), unix.SOCK_DGRAM)
		packet := netnstest.Packet{Src: peer, Dst: here, Protocol: 17, SrcPort: 4000, DstPort: 9000}
		if !s.inj.In("eth0", packet) {
			t.Fatal("a packet to a host without endpoints was not delivered")
		}
		if err := unix.Sendto(fd, []byte("answer"), 0, sockaddr(netip.AddrPortFrom(peer, 4000))); err != nil {
			t.Fatal(err)
		}
		s.show(tierDefault + hEth0)
		if !s.inj.In("eth0", packet) {
			t.Error("a packet of a connection from before the endpoint was cut")
		}
		if err := unix.Sendto(fd, []byte("answer"), 0, sockaddr(netip.AddrPortFrom(peer, 4000))); err != nil {
			t.Errorf("an answer in a connection from before the endpoint: %v", err)
		}
		packet.SrcPort++
		if s.inj.In("eth0", packet) {
			t.Error("a new connection was let in")
		}
	})
}

// TestNetnsScenario_AnswersPass: what a policy lets begin in one direction is
// answered in the other, whatever that direction's policy says.
func TestNetnsScenario_AnswersPass(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.show(text(to("{action: Allow, protocol: UDP, destination: {nets: [10.0.0.2/32]}}")))
		here, peer := addr(text("10.0.0.1")), addr(text("10.0.0.2"))
		answer := netnstest.Packet{Src: peer, Dst: here, Protocol: 17, SrcPort: 9000, DstPort: 4000}
		if s.inj.In("eth0", answer) {
			t.Fatal("an answer to nothing was let in")
		}
		if !s.inj.Out("eth0", netnstest.Packet{Src: here, Dst: peer, Protocol: 17, SrcPort: 4001, DstPort: 9000}) {
			t.Fatal("the request was not let out")
		}
		answer.DstPort = 4001
		if !s.inj.In("eth0", answer) {
			t.Error("the answer was not let in")
		}
	})
}

// TestNetnsScenario_RelatedErrorsPass: an ICMP error about a packet that was
// let out comes in (else path MTU discovery fails), one about any other does
// not.
func TestNetnsScenario_RelatedErrorsPass(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.show(text(to("{action: Allow, protocol: UDP}")))
		here, peer, router := addr(text("10.0.0.1")), addr(text("203.0.113.7")), addr(text("10.0.0.2"))
		tooBig := func(sent []byte) netnstest.Packet {
			e := netnstest.Packet{Src: router, Dst: here, Protocol: netnstest.ICMP, ICMPType: 3, ICMPCode: 4, ICMPSeq: 1400, Payload: sent}
			if router.Is6() {
				e.Protocol, e.ICMPType, e.ICMPCode = netnstest.ICMPv6, 2, 0
			}
			return e
		}
		p := netnstest.Packet{Src: here, Dst: peer, Protocol: 17, SrcPort: 4000, DstPort: 9000}
		if s.inj.In("eth0", tooBig(p.Build(nil, 1))) {
			t.Error("an error about a packet that was never sent was let in")
		}
		if !s.inj.Out("eth0", p) {
			t.Fatal("the packet was not let out")
		}
		if !s.inj.In("eth0", tooBig(p.Build(nil, 1))) {
			t.Error("an error about a packet that was sent was not let in")
		}
		p.SrcPort++
		if s.inj.In("eth0", tooBig(p.Build(nil, 1))) {
			t.Error("an error about a packet of another port was let in")
		}
	})
}

// TestNetnsScenario_S118_PacketsOfNoConnection: a stray reset is dropped, but
// is policy's to judge where the check is switched off. On forward alike, with
// or without a policy there.
func TestNetnsScenario_S118_PacketsOfNoConnection(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		stray := netnstest.Packet{Src: addr(text("10.0.0.2")), Dst: addr(text("10.0.0.1")), Protocol: 6, SrcPort: 4000, DstPort: 80, TCPFlags: netnstest.RST}
		through := stray
		through.Dst = addr(text("10.1.0.2"))
		open := tierDefault + hEth0 + gnp("p", "applyOnForward: true, "+allowAll)
		for _, c := range []struct {
			name, show string
			want       bool
		}{
			{"no endpoint", tierDefault, true},
			{"endpoint that allows all", open, false},
			{"endpoint without policy on forward", tierDefault + hEth0 + gnp("p", allowAll), false},
			{"check off, policy allows", open + felix("disableConntrackInvalidCheck: true"), true},
		} {
			s.show(text(c.show))
			if got := s.inj.In("eth0", stray); got != c.want {
				t.Errorf("%s: stray reset delivered=%v, want %v", c.name, got, c.want)
			}
			if got := s.inj.Forward(through, "eth0", "eth1"); got != c.want {
				t.Errorf("%s: stray reset forwarded=%v, want %v", c.name, got, c.want)
			}
		}
		s.show(text(tierDefault + hEth0 + felix("disableConntrackInvalidCheck: true")))
		if s.inj.In("eth0", stray) {
			t.Error("check off, no policy: stray reset delivered, want it denied")
		}
	})
}

// TestNetnsScenario_B10_RewrittenDestinationsAreJudgedWhereTheyGo: the host
// talks to an address that a rule of another program rewrites. It seems to
// leave by eth0 and leaves by eth1: eth1's endpoint judges, by the address and
// port that are really used, and eth0's has no say.
func TestNetnsScenario_B10_RewrittenDestinationsAreJudgedWhereTheyGo(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		family, to := "ip", "10.1.0.2:8080"
		if text("10.1.0.2") != "10.1.0.2" {
			family, to = "ip6", "[fd01::2]:8080"
		}
		s.nft("table " + family + " strangers {\nchain out { type nat hook output priority -100;\n" +
			family + " daddr " + text("10.99.0.1") + " tcp dport 80 dnat to " + to + "\n}\n}\n")
		// Another program's source NAT behind ours must not matter.
		s.nft("table " + family + " strangers {\nchain post { type nat hook postrouting priority 100;\noifname eth1 masquerade\n}\n}\n")
		connect := func() (sent bool) {
			service := netip.AddrPortFrom(addr(text("10.99.0.1")), 80)
			fd := s.socket(service, unix.SOCK_STREAM)
			s.packetsLeft("eth0")
			s.packetsLeft("eth1")
			err := unix.Connect(fd, sockaddr(service))
			if err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatalf("connect: %v", err)
			}
			for _, p := range s.packetsLeft("eth1") {
				h := parse(p)
				sent = sent || h.proto == 6 && h.dst == addr(text("10.1.0.2")) && h.dstPort == 8080
			}
			for _, p := range s.packetsLeft("eth0") {
				if h := parse(p); h.proto == 6 {
					t.Errorf("the connection left by eth0, to %s", h.dst)
				}
			}
			return sent
		}
		allow8080 := "types: [Egress], egress: [{action: Allow, protocol: TCP, destination: {ports: [8080], nets: [10.1.0.2/32]}}]"
		allow80 := "types: [Egress], egress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"
		g := labelled("HostEndpoint", "g", "role: g", "node: "+here+", interfaceName: eth1")
		reject := felix("nftablesFilterDenyAction: Reject")
		for _, c := range []struct {
			name, show string
			want       bool
		}{
			{"no endpoint", tierDefault, true},
			{"endpoint on eth0 denies all", tierDefault + hEth0, true},
			{"endpoint on eth1 denies all", tierDefault + hEth1, false},
			{"endpoint on eth0 allows all, on eth1 none", tierDefault + hEth0 + g + gnp("p", "selector: role == 'h', "+allowAll), false},
			{"endpoint on eth1 allows what is used", tierDefault + hEth1 + gnp("p", allow8080), true},
			{"endpoint on eth1 allows what was asked for", tierDefault + hEth1 + gnp("p", allow80), false},
			{"wildcard denies all", tierDefault + hAll, false},
			{"wildcard allows what is used", tierDefault + hAll + gnp("p", allow8080), true},
			{"wildcard allows, endpoint on eth1 denies", tierDefault + hAll + g + gnp("p", "selector: role == 'h', "+allowAll), false},
			{"denied packets are answered, but not here", tierDefault + hEth1 + reject, false},
			{"the same with a wildcard", tierDefault + hAll + reject, false},
			{"answers are on and it is allowed", tierDefault + hEth1 + reject + gnp("p", allow8080), true},
			{"answers are on, a tier passes, the policy allows", tierDefault + tierPass + hAll + reject + gnp("first.p", "tier: first, egress: [{action: Pass}]") + gnp("p", allow8080), true},
			{"a failsafe is for the port that is used", tierDefault + hEth1 + felix("failsafeOutboundHostPorts: [{protocol: TCP, port: 8080}]"), true},
			{"not for the port that was asked for", tierDefault + hEth1 + felix("failsafeOutboundHostPorts: [{protocol: TCP, port: 80}]"), false},
		} {
			s.inj.FlushConntrack()
			s.show(text(c.show))
			if sent := connect(); sent != c.want {
				t.Errorf("%s: connection sent=%v, want %v", c.name, sent, c.want)
			}
		}
	})
}

// TestNetnsScenario_RewrittenForOthers: destinations that are rewritten for
// packets from outside. They are judged by what they are rewritten to, and
// those that are forwarded are not taken for the host's own.
func TestNetnsScenario_RewrittenForOthers(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		family := "ip"
		if text("10.1.0.2") != "10.1.0.2" {
			family = "ip6"
		}
		s.nft("table " + family + " strangers {\nchain pre { type nat hook prerouting priority -100;\n" +
			"tcp dport 80 redirect to :8080\n" + "tcp dport 81 dnat to " + text("10.1.0.2") + "\n}\n}\n")
		local := netnstest.Packet{Src: addr(text("10.0.0.2")), Dst: addr(text("10.0.0.1")), Protocol: 6, SrcPort: 4000, DstPort: 80}
		on := local
		on.DstPort = 81
		for _, c := range []struct {
			name, show string
			local, on  bool
		}{
			{name: "no endpoint", show: tierDefault, local: true, on: true},
			{name: "the port that was asked for is allowed", show: from("{action: Allow, protocol: TCP, destination: {ports: [80]}}"), local: false, on: true},
			{name: "the port that is used is allowed", show: from("{action: Allow, protocol: TCP, destination: {ports: [8080]}}"), local: true, on: true},
			{name: "eth1 denies what the host sends", show: tierDefault + hEth1, local: true, on: true},
			{name: "eth1 denies what is forwarded", show: tierDefault + hEth1 + gnp("p", "applyOnForward: true, types: [Egress], egress: [{action: Deny}]"), local: true, on: false},
			{name: "the wildcard denies what the host sends", show: tierDefault + hAll, local: false, on: true},
		} {
			s.inj.FlushConntrack()
			s.show(text(c.show))
			local.SrcPort++
			if got := s.inj.In("eth0", local); got != c.local {
				t.Errorf("%s: redirected to the host: delivered=%v, want %v", c.name, got, c.local)
			}
			on.SrcPort++
			if got := s.inj.Forward(on, "eth0", "eth1"); got != c.on {
				t.Errorf("%s: sent on: forwarded=%v, want %v", c.name, got, c.on)
			}
		}
	})
}

// TestNetnsScenario_DeniedPacketsAreAnswered: with Reject, TCP is reset and
// the rest gets an ICMP error, in every direction; with Drop there is silence.
func TestNetnsScenario_DeniedPacketsAreAnswered(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		here, peer, behind := addr(text("10.0.0.1")), addr(text("10.0.0.2")), addr(text("10.1.0.2"))
		deny := gnp("p", "applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]")
		answers := func(p netnstest.Packet) (rst, unreachable bool) {
			s.packetsLeft("eth0")
			if p.Dst == here {
				s.inj.In("eth0", p)
			} else {
				s.inj.Forward(p, "eth0", "eth1")
			}
			for _, b := range s.packetsLeft("eth0") {
				h := parse(b)
				rst = rst || h.proto == 6 && h.dst == peer && h.dstPort == p.SrcPort && h.l4[13]&4 != 0
				unreachable = unreachable || h.dst == peer && (h.proto == 1 && h.l4[0] == 3 || h.proto == 58 && h.l4[0] == 1)
			}
			return rst, unreachable
		}
		refused := func(typ int) bool { // by the host's own rules
			fd := s.socket(netip.AddrPortFrom(peer, 80), typ)
			err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(peer, 80)))
			return errors.Is(err, unix.ECONNREFUSED) || refusedSoon(fd)
		}
		for _, reject := range []bool{true, false, true} {
			config := felix("nftablesFilterDenyAction: Drop")
			if reject {
				config = felix("nftablesFilterDenyAction: Reject")
			}
			s.show(tierDefault + hEth0 + deny + config)
			for i, dst := range []netip.Addr{here, behind} {
				s.port++
				rst, _ := answers(netnstest.Packet{Src: peer, Dst: dst, Protocol: 6, SrcPort: s.port, DstPort: 80})
				_, unreachable := answers(netnstest.Packet{Src: peer, Dst: dst, Protocol: 17, SrcPort: s.port, DstPort: 80})
				if rst != reject || unreachable != reject {
					t.Errorf("reject=%v, forwarded=%v: reset %v, ICMP error %v", reject, i == 1, rst, unreachable)
				}
			}
			if got := refused(unix.SOCK_STREAM); got != reject {
				t.Errorf("reject=%v: the host's own connection was refused: %v", reject, got)
			}
		}
	})
}

// refusedSoon reports whether a connection that is under way is refused at
// once.
func refusedSoon(fd int) bool {
	for range 20 {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, _ := unix.Poll(fds, 5); n > 0 {
			e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			return err == nil && e == int(unix.ECONNREFUSED)
		}
	}
	return false
}

// TestNetnsScenario_LogRulesInTheKernel: a Log rule is there with its prefix,
// expanded, and its rate; what follows decides.
func TestNetnsScenario_LogRulesInTheKernel(t *testing.T) {
	s := newStage(t)
	s.show(tierDefault + tier("sec", "1", "Deny") + hep("h", "eth0", ", profiles: [pr]") +
		felix("logPrefix: '%t|%k|%n|%p', logActionRateLimit: 10/minute, logActionRateLimitBurst: 7") +
		gnp("sec.p", "tier: sec, ingress: [{action: Log, protocol: TCP}, {action: Pass}]") +
		doc("Profile", "pr", "ingress: [{action: Log}, {action: Allow}]"))
	rules := s.inj.NS.Run("sh", "-c", rulesText())
	wants := []string{`limit rate 10/minute burst 7 packets log prefix "sec|gnp|sec.p|sec.p: "`, `log prefix "|pro|pr|pr: "`}
	if *filterFlag != "nftables" {
		wants = []string{`-m limit --limit 10/min --limit-burst 7`, `--log-prefix "sec|gnp|sec.p|sec.p: "`, `--log-prefix "|pro|pr|pr: "`}
	}
	for _, want := range wants {
		if !strings.Contains(rules, want) {
			t.Errorf("rules lack %q:\n%s", want, rules)
		}
	}
	s.expect("in eth0 tcp 10.0.0.2 10.0.0.1 80 ok")
	s.show(tierDefault + hEth0 + gnp("p", "ingress: [{action: Log}, {action: Allow}]"))
	rules = s.inj.NS.Run("sh", "-c", rulesText())
	if !strings.Contains(strings.ReplaceAll(rules, "-", " "), `log prefix "calico packet: "`) || strings.Contains(rules, "limit rate") || strings.Contains(rules, "-m limit") {
		t.Errorf("with the defaults rules lack the prefix, or have a rate:\n%s", rules)
	}
}

// TestNetnsScenario_B11_LoopbackIsNeverCut: over loopback the host reaches
// itself, by any of its addresses, whatever governs its interfaces; unless an
// endpoint names lo.
func TestNetnsScenario_B11_LoopbackIsNeverCut(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		addrs := []string{"127.0.0.1", text("10.0.0.1"), text("10.1.0.1")}
		if text("10.0.0.1") != "10.0.0.1" {
			addrs[0] = "::1"
		}
		reaches := func(a string) bool {
			s.port++
			to := port(a, s.port)
			server, client := s.bound(to, unix.SOCK_DGRAM), s.socket(to, unix.SOCK_DGRAM)
			if err := unix.Sendto(client, []byte("hello"), 0, sockaddr(to)); err != nil {
				if errors.Is(err, unix.EPERM) {
					return false
				}
				t.Fatal(err)
			}
			b := make([]byte, 16)
			return soon(func() bool { n, err := unix.Read(server, b); return err == nil && n == 5 })
		}
		for _, c := range []struct {
			name, show string
			want       bool
		}{
			{"wildcard", tierDefault + hAll + gnp("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"), true},
			{"wildcard that applies on forward", tierDefault + hAll + gnp("p", "applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]"), true},
			{"endpoint that expects an address of lo", tierDefault + labelled("HostEndpoint", "h", "role: h", "node: "+here+", expectedIPs: ['"+addrs[0]+"', '"+addrs[1]+"']"), true},
			{"endpoint that names lo", tierDefault + hep("h", "lo", ""), false},
			{"endpoint that names lo and allows", tierDefault + hep("h", "lo", "") + gnp("p", allowAll), true},
			{"endpoint that names lo beside a wildcard", tierDefault + hep("h", "lo", "") + labelled("HostEndpoint", "w", "role: w", "node: "+here+", interfaceName: '*'") + gnp("p", "selector: role == 'w', "+allowAll), false},
		} {
			s.show(c.show)
			for _, a := range addrs {
				if got := reaches(a); got != c.want {
					t.Errorf("%s: the host reaches itself at %s: %v, want %v", c.name, a, got, c.want)
				}
			}
		}
	})
}

// TestNetnsScenario_S022_AddressesMove: an endpoint that is found by address
// follows it from interface to interface, and back.
func TestNetnsScenario_S022_AddressesMove(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		a, b := addr(text("10.0.0.1")), addr(text("10.1.0.1"))
		on := func(eth0, eth1 []netip.Addr) {
			s.setInterfaces(map[string][]netip.Addr{"lo": {addr("127.0.0.1")}, "eth0": eth0, "eth1": eth1})
			s.settle()
		}
		s.show(text(tierDefault + labelled("HostEndpoint", "h", "role: h", "node: "+here+", expectedIPs: ['10.0.0.1']") +
			labelled("HostEndpoint", "w", "role: w", "node: "+here+", interfaceName: '*'") + gnp("p", "selector: role == 'w', "+allowAll)))
		both := func(eth0, eth1 string) {
			t.Helper()
			s.expect(text("in eth0 tcp 10.0.0.2 10.0.0.1 80 ") + eth0)
			s.expect(text("in eth1 tcp 10.1.0.2 10.1.0.1 80 ") + eth1)
			s.expect(text("out eth0 tcp 10.0.0.1 10.0.0.2 80 ") + eth0)
			s.expect(text("out eth1 tcp 10.1.0.1 10.1.0.2 80 ") + eth1)
		}
		both("blocked", "ok")
		on([]netip.Addr{b}, []netip.Addr{a})
		both("ok", "blocked")
		on([]netip.Addr{a}, []netip.Addr{a}) // on both: both are governed
		both("blocked", "blocked")
		on(nil, nil)
		both("ok", "ok")
		on([]netip.Addr{a}, []netip.Addr{b})
		both("blocked", "ok")
	})
}

// TestNetnsScenario_B12_InterfacesAreGuardedByName: an interface that an
// endpoint names is guarded in the moment in which it gets the name.
func TestNetnsScenario_B12_InterfacesAreGuardedByName(t *testing.T) {
	s := newStage(t)
	s.show(tierDefault + hep("h", "eth7", ""))
	s.expect("in eth1 tcp 10.1.0.2 10.1.0.1 80 ok")
	syn := netnstest.Packet{Src: addr("10.1.0.2"), Dst: addr("10.1.0.1"), Protocol: 6, SrcPort: 999, DstPort: 80}
	s.inj.NS.Run("ip", "link", "set", "eth1", "down")
	s.inj.NS.Run("ip", "link", "set", "eth1", "name", "eth7", "up")
	// Nobody has been told of the new name.
	if s.inj.In("eth1", syn) {
		t.Error("a packet came in by an interface that had just got a name that an endpoint names")
	}
	s.setInterfaces(map[string][]netip.Addr{"lo": {addr("127.0.0.1")}, "eth0": {addr("10.0.0.1")}, "eth7": {addr("10.1.0.1")}})
	s.settle()
	syn.SrcPort++
	if s.inj.In("eth1", syn) {
		t.Error("a packet came in by the renamed interface")
	}
	s.inj.NS.Run("ip", "link", "set", "eth7", "down")
	s.inj.NS.Run("ip", "link", "set", "eth7", "name", "eth1", "up")
	syn.SrcPort++
	if !s.inj.In("eth1", syn) {
		t.Error("a packet did not come in by the interface with its old name")
	}
}

// TestNetnsScenario_S145_OverfullSets: a set that is too large fails alone and
// on the denying side, and recovers.
func TestNetnsScenario_S145_OverfullSets(t *testing.T) {
	s := newStage(t)
	few := gns("g", "zone: big", "10.0.0.2/32, 10.0.0.4/32")
	many := gns("g", "zone: big", "10.0.0.2/32, 10.0.0.4/32, 10.0.0.6/32, 10.0.0.8/32, 10.0.0.10/32")
	picture := func(set string) string {
		return doc("FelixConfiguration", "default", "maxIpsetSize: 3") + tierDefault + hEth0 + set + gns("s", "zone: small", "10.0.0.20/32") +
			gnp("a", "order: 1, ingress: [{action: Allow, source: {selector: zone == 'small'}}]") +
			gnp("b", "order: 2, ingress: [{action: Allow, protocol: TCP, source: {notSelector: zone == 'big'}}]") +
			gnp("c", "order: 3, ingress: [{action: Allow, protocol: UDP, source: {selector: zone == 'big'}}]")
	}
	in := func(src string, proto uint8) bool {
		s.port++
		return s.inj.In("eth0", netnstest.Packet{Src: addr(src), Dst: addr("10.0.0.1"), Protocol: proto, SrcPort: s.port, DstPort: 80})
	}
	for range 2 {
		s.show(picture(few))
		if over := s.filter.OverSize(); len(over) != 0 {
			t.Errorf("overfull sets: %v, want none", over)
		}
		if in("10.0.0.2", 6) || !in("10.0.0.3", 6) || !in("10.0.0.4", 17) {
			t.Error("a set that is not too large does not do what it says")
		}
		s.show(picture(many))
		if over := s.filter.OverSize(); len(over) != 1 {
			t.Errorf("overfull sets: %v, want one", over)
		}
		for _, src := range []string{"10.0.0.2", "10.0.0.4", "10.0.0.6", "10.0.0.8", "10.0.0.10"} {
			if in(src, 6) {
				t.Errorf("%s, which an overfull set should except from an Allow, was let in", src)
			}
		}
		if in("10.0.0.3", 17) {
			t.Error("an address that is not in an overfull set was let in because of it")
		}
		if !in("10.0.0.20", 6) {
			t.Error("an address of another set was not let in")
		}
	}
}

// TestNetnsScenario_StrangersMark: other programs may use marks, our own bit
// too.
func TestNetnsScenario_StrangersMark(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.nft("table inet strangers {\nchain pre { type filter hook prerouting priority -150;\nmeta mark set 0xffffffff\n}\nchain out { type filter hook output priority -150;\nmeta mark set 0x20000\n}\n" +
			fmt.Sprintf("chain in { type filter hook input priority 10;\nmeta mark & %#[1]x == %#[1]x counter accept\ncounter drop\n}\n}\n", ^ownMarks()))
		s.show(text(tierDefault + tier("a", "1", "Deny") + hEth0 + gnp("a.p", "tier: a, ingress: [{action: Pass, protocol: UDP}], egress: [{action: Pass, protocol: UDP}]") + gnp("p", allowAll)))
		s.expect(text("in eth0 udp 10.0.0.2 10.0.0.1 80 ok"))
		s.expect(text("in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked"))
		s.expect(text("out eth0 udp 10.0.0.1 10.0.0.2 80 ok"))
		s.expect(text("out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked"))
	})
}
