// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// is compares what became of a packet with what should.
func is(t *testing.T, what string, got, want bool) {
	t.Helper()
	if got != want {
		t.Errorf("%s: passes=%v, want %v", what, got, want)
	}
}

// TestNetnsScenario_S071_AnswersOfFailsafesPass: untracked policy that denies
// everything cuts neither the answers to failsafes nor connection tracking of
// them.
func TestNetnsScenario_S071_AnswersOfFailsafesPass(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.show(text(tierDefault + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]")))
		here, peer := addr(text("10.0.0.1")), addr(text("10.0.0.2"))
		ask := netnstest.Packet{Src: peer, Dst: here, Protocol: 6, SrcPort: 40001, DstPort: 22}
		answered := false
		s.packetsLeft("eth0")
		is(t, "ssh", s.inj.In("eth0", ask), true)
		for _, b := range s.packetsLeft("eth0") { // nobody listens: a reset
			h := parse(b)
			answered = answered || h.proto == 6 && h.srcPort == 22
		}
		is(t, "answer of ssh", answered, true)
		dns := netnstest.Packet{Src: here, Dst: peer, Protocol: 17, SrcPort: 40002, DstPort: 53}
		is(t, "dns", s.inj.Out("eth0", dns), true)
		is(t, "answer of dns", s.inj.In("eth0", netnstest.Packet{Src: peer, Dst: here, Protocol: 17, SrcPort: 53, DstPort: 40002}), true)
		is(t, "answer to no question", s.inj.In("eth0", netnstest.Packet{Src: peer, Dst: here, Protocol: 17, SrcPort: 53, DstPort: 40003}), false)
	})
}

// TestNetnsScenario_S070_UntrackedConnectionsAreCutAtOnce: what is allowed
// untracked makes no connection, so its packets do not outlive the policy, in
// either direction; what began tracked is cut by an untracked denial too.
func TestNetnsScenario_S070_UntrackedConnectionsAreCutAtOnce(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		both := text(tierDefault + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow, protocol: UDP, destination: {ports: [8055]}}], egress: [{action: Allow, protocol: UDP, source: {ports: [8055]}}]"))
		here, peer := addr(text("10.0.0.1")), addr(text("10.0.0.2"))
		ask := netnstest.Packet{Src: peer, Dst: here, Protocol: 17, SrcPort: 40000, DstPort: 8055}
		answer := netnstest.Packet{Src: here, Dst: peer, Protocol: 17, SrcPort: 8055, DstPort: 40000}
		s.show(both)
		is(t, "ask", s.inj.In("eth0", ask), true)
		is(t, "answer", s.inj.Out("eth0", answer), true)
		s.show(text(tierDefault + hEth0))
		is(t, "ask after the policy has gone", s.inj.In("eth0", ask), false)
		is(t, "answer after the policy has gone", s.inj.Out("eth0", answer), false)

		s.show(text(tierDefault + hep("h", "eth0", openProfile)))
		is(t, "ask, tracked", s.inj.In("eth0", ask), true)
		s.show(text(tierDefault + hep("h", "eth0", openProfile) + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]")))
		is(t, "ask of a known connection, denied untracked", s.inj.In("eth0", ask), false)
	})
}

// TestNetnsScenario_S065_DenialBeforeTheRewriteLetsKnownConnectionsGoOn, that
// is, as far as the packet filter goes.
func TestNetnsScenario_S065_DenialBeforeTheRewriteLetsKnownConnectionsGoOn(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.nft(publishing)
		s.show(text(tierDefault + w1 + hEth0))
		p := netnstest.Packet{Src: addr(text("10.0.0.2")), Dst: addr(text("10.0.0.1")), Protocol: 6, SrcPort: 40000, DstPort: 30000}
		is(t, "new connection", s.inj.Forward(p, "eth0", "cali1"), true)
		back := netnstest.Packet{Src: addr(text("10.2.0.2")), Dst: p.Src, Protocol: 6, SrcPort: 8055, DstPort: 40000, TCPFlags: netnstest.SYN | netnstest.ACK, Ack: 1}
		is(t, "answer of the workload", s.inj.Forward(back, "cali1", "eth0"), true)
		s.show(text(tierDefault + w1 + hEth0 + gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]")))
		p.TCPFlags, p.Seq, p.Ack = netnstest.ACK, 1, 1
		is(t, "known connection", s.inj.Forward(p, "eth0", "cali1"), true)
		p.SrcPort, p.TCPFlags = 40001, 0
		is(t, "another connection", s.inj.Forward(p, "eth0", "cali1"), false)
	})
}

// TestNetnsScenario_HostAndWorkloadTalk: the host may begin, and is answered,
// whatever the workload's policy and the host's settings say; the workload may
// not begin, nor answer in another's name.
func TestNetnsScenario_HostAndWorkloadTalk(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.show(text(tierDefault + shut + hAll))
		host, w := addr(text("10.2.0.1")), addr(text("10.2.0.2"))
		is(t, "host to workload", s.inj.Out("cali1", netnstest.Packet{Src: host, Dst: w, Protocol: 17, SrcPort: 4000, DstPort: 80}), true)
		answer := netnstest.Packet{Src: w, Dst: host, Protocol: 17, SrcPort: 80, DstPort: 4000}
		is(t, "its answer", s.inj.In("cali1", answer), true)
		answer.DstPort = 4001
		is(t, "an answer to nothing", s.inj.In("cali1", answer), false)
		answer.DstPort, answer.Src = 4000, addr(text("10.2.0.3"))
		is(t, "an answer of another", s.inj.In("cali1", answer), false)
	})
}

// TestNetnsScenario_WorkloadsAreAnswered: answers pass the policy of the other
// direction; when the endpoint goes, no connection outlives it.
func TestNetnsScenario_WorkloadsAreAnswered(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.show(text(tierDefault + w1 + gnp("p", onW1+"ingress: [{action: Deny}]") + gnp("q", onW1+"egress: [{action: Allow}]")))
		w, peer := addr(text("10.2.0.2")), addr(text("10.0.0.2"))
		is(t, "workload asks", s.inj.Forward(netnstest.Packet{Src: w, Dst: peer, Protocol: 17, SrcPort: 4000, DstPort: 80}, "cali1", "eth0"), true)
		answer := netnstest.Packet{Src: peer, Dst: w, Protocol: 17, SrcPort: 80, DstPort: 4000}
		is(t, "it is answered", s.inj.Forward(answer, "eth0", "cali1"), true)
		answer.SrcPort = 81
		is(t, "an answer to nothing", s.inj.Forward(answer, "eth0", "cali1"), false)
		answer.SrcPort = 80
		s.show(tierDefault)
		is(t, "an answer to a workload that has gone", s.inj.Forward(answer, "eth0", "cali1"), false)
		is(t, "more from a workload that has gone", s.inj.Forward(netnstest.Packet{Src: w, Dst: peer, Protocol: 17, SrcPort: 4000, DstPort: 80}, "cali1", "eth0"), false)
	})
}

// TestNetnsScenario_SourcesBeforeAnAddress: what a workload must send before
// it has an address passes, and nothing else with such a source does.
func TestNetnsScenario_SourcesBeforeAnAddress(t *testing.T) {
	s := newStage(t)
	// Policy lets it talk to the host; the sources alone are in question.
	s.show(tierDefault + inNamespace("WorkloadEndpoint", "prod", here+"-k8s-w1-eth0", "app: w1",
		"node: "+here+", orchestrator: k8s, pod: w1, endpoint: eth0, interfaceName: cali1, ipNetworks: ['10.2.0.2/32', 'fd02::2/128']"+openProfile) + felix("defaultEndpointToHostAction: Accept"))
	udp := func(src, dst string, sport, dport uint16) netnstest.Packet {
		return netnstest.Packet{Src: addr(src), Dst: addr(dst), Protocol: 17, SrcPort: sport, DstPort: dport}
	}
	icmp := func(src, dst string, typ uint8) netnstest.Packet {
		return netnstest.Packet{Src: addr(src), Dst: addr(dst), Protocol: netnstest.ICMPv6, ICMPType: typ, HopLimit: 255}
	}
	for _, c := range []struct {
		name   string
		packet netnstest.Packet
		want   bool
	}{
		{"DHCP", udp("0.0.0.0", "255.255.255.255", 68, 67), true},
		{"DHCP of a server", udp("0.0.0.0", "255.255.255.255", 67, 68), false},
		{"no address and another port", udp("0.0.0.0", "255.255.255.255", 68, 53), false},
		{"its own address", udp("10.2.0.2", "255.255.255.255", 68, 53), true},
		{"duplicate address detection", icmp("::", "ff02::1", 135), true},

		{"echo request without an address", icmp("::", "fd02::1", 128), false},
		{"link-local address", icmp("fe80::2", "fd02::1", 128), true},
		{"router advertisement", icmp("fe80::2", "ff02::1", 134), false},
		{"site-local address", icmp("fec0::2", "fd02::1", 128), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			is(t, "kernel", s.inj.In("cali1", c.packet), c.want)
			k := ruleset.Packet{
				Src: c.packet.Src, Dst: c.packet.Dst, Protocol: c.packet.Protocol, SrcPort: c.packet.SrcPort, DstPort: c.packet.DstPort,
				ICMPType: c.packet.ICMPType, In: "cali1", State: ruleset.CtNew, HopLimit: 255,
			}
			v, trace := s.state.Eval(ruleset.HookPrerouting, k)
			if v == ruleset.Accepted {
				v, trace = s.state.Eval(ruleset.HookInput, k)
			}
			is(t, "plan, by "+trace.Comment, v == ruleset.Accepted, c.want)
		})
	}
}

// TestNetnsLoopbackAddressesStayInside: though the kernel routes to 127/8 from
// outside (route_localnet), no packet with such an address gets in by an
// interface that an endpoint governs.
func TestNetnsLoopbackAddressesStayInside(t *testing.T) {
	s := newStage(t)
	for _, iface := range []string{"all", "eth0", "eth1", "cali1"} {
		s.inj.NS.Sysctl("net/ipv4/conf/"+iface+"/route_localnet", "1")
	}
	to := func(iface, src, dst string) bool {
		s.port++
		return s.inj.In(iface, netnstest.Packet{Src: addr(src), Dst: addr(dst), Protocol: 17, SrcPort: s.port, DstPort: 9000})
	}
	s.show(tierDefault)
	is(t, "nobody governs", to("eth0", "10.0.0.2", "127.0.0.1"), true) // so the kernel would
	for _, c := range []struct{ name, show, iface, src string }{
		{"a host endpoint that allows all", tierDefault + hep("h", "eth0", openProfile), "eth0", "10.0.0.2"},
		{"a wildcard endpoint that allows all", tierDefault + hep("h", "*", openProfile), "eth1", "10.1.0.2"},
		{"a workload", tierDefault + w1 + felix("defaultEndpointToHostAction: Accept"), "cali1", "10.2.0.2"},
		{"a host endpoint that allows all untracked", tierDefault + hEth0 + gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow}]"), "eth0", "10.0.0.2"},
	} {
		s.show(c.show)
		is(t, c.name+": to 127.0.0.1", to(c.iface, c.src, "127.0.0.1"), false)
		is(t, c.name+": to the host's address", to(c.iface, c.src, "10.0.0.1"), true)
	}
}

// TestNetnsScenario_OurMarksLeaveClean: what is allowed before tracking or
// before the rewrite is so for our own chains only: behind them, no program
// sees our bits, and all see their own; and whoever had set ours before has said
// nothing.
func TestNetnsScenario_OurMarksLeaveClean(t *testing.T) {
	families(t, func(t *testing.T, s *stage, text func(string) string) {
		s.nft("table inet strangers {\n" +
			"chain before { type filter hook prerouting priority -310;\nmeta mark set 0xffffffff\n}\n" +
			"chain sent { type filter hook output priority -310;\nmeta mark set 0xffffffff\n}\n" +
			"chain in { type filter hook input priority 10;\nmeta mark & 0x10000 != 0 drop\nmeta mark & 0xff != 0xff drop\n}\n" +
			"chain out { type filter hook output priority 10;\nmeta mark & 0x10000 != 0 drop\nmeta mark & 0xff != 0xff drop\n}\n" +
			"chain through { type filter hook forward priority 10;\nmeta mark & 0x10000 != 0 drop\nmeta mark & 0xff != 0xff drop\n}\n}\n")
		s.show(text(tierDefault + hEth0 + hep("g", "eth1", "") +
			gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Allow, protocol: UDP, destination: {ports: [80]}}], egress: [{action: Allow, protocol: UDP, destination: {ports: [80]}}]") +
			gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]") +
			gnp("f", onHosts+"applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]")))
		for _, line := range []string{
			"in eth0 udp 10.0.0.2 10.0.0.1 80 ok", "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok", "out eth0 udp 10.0.0.1 10.0.0.2 80 ok",
			"fwd eth0 eth1 udp 10.0.0.2 10.1.0.2 80 ok", "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok",
			"in eth0 udp 10.0.0.2 10.0.0.1 81 blocked", "in eth0 tcp 10.0.0.2 10.0.0.1 81 blocked", "out eth0 udp 10.0.0.1 10.0.0.2 81 blocked",
			"fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 81 blocked",
		} {
			s.expect(text(line))
		}
	})
}

// TestNetnsNewInterface_OfAWorkloadIsGuardedBeforeItAppears: an interface with
// a workload's prefix is created, set up and sent through at once, again and
// again, before its endpoint is known and after: nothing passes that no
// endpoint allows, in either family, to the host and through it.
func TestNetnsNewInterface_OfAWorkloadIsGuardedBeforeItAppears(t *testing.T) {
	s := newStage(t)
	unknown := tierDefault + felix("defaultEndpointToHostAction: Accept")
	known := unknown + inNamespace("WorkloadEndpoint", "prod", here+"-k8s-w9-eth0", "app: w9",
		"node: "+here+", orchestrator: k8s, pod: w9, endpoint: eth0, interfaceName: cali9, ipNetworks: ['10.9.0.5/32', 'fd09::5/128']"+openProfile)
	packets, wrong := 0, 0
	for n := range *appearances {
		allowed := n%4 == 3
		if allowed {
			s.show(known)
		} else {
			s.show(unknown)
		}
		var fd int
		s.inj.NS.MustDo(func() (err error) {
			if fd, err = newTUN("cali9"); err != nil {
				return err
			}
			link, err := netlink.LinkByName("cali9")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(link)
		})
		if n%2 == 0 { // the monitor's notice comes some time after
			s.ifaces["cali9"] = []netip.Addr{}
			s.setInterfaces(s.ifaces)
			s.settle()
		}
		for i, c := range []struct{ src, host, out string }{{"10.9.0.5", "10.0.0.1", "10.0.0.2"}, {"fd09::5", "fd00::1", "fd00::2"}} {
			for _, dst := range []string{c.host, c.out} {
				s.port++
				p := netnstest.Packet{Src: addr(c.src), Dst: addr(dst), Protocol: netnstest.UDP, SrcPort: s.port, DstPort: 9000}
				marker := uint64(0x77_0000) + uint64(packets)
				if _, err := unix.Write(fd, p.Build(nil, marker)); err != nil {
					t.Fatal(err)
				}
				seen := false
				look := func(b []byte) { seen = seen || len(b) >= 8 && markerOf(b) == marker }
				s.inj.Delivered(i == 1, netnstest.UDP, look)
				s.inj.Left("eth0", look)
				packets++
				if seen != allowed {
					wrong++
				}
			}
		}
		unix.Close(fd)
		s.inj.FlushConntrack()
	}
	if wrong > 0 {
		t.Errorf("%d appearances, %d packets: %d were let through without an endpoint, or cut with one", *appearances, packets, wrong)
	}
	t.Logf("%d appearances, %d packets, %d wrong", *appearances, packets, wrong)
}

func markerOf(b []byte) (m uint64) {
	for _, x := range b[len(b)-8:] {
		m = m<<8 | uint64(x)
	}
	return m
}
