// SPDX-License-Identifier: Apache-2.0

package netnstest

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var families = []struct {
	name                        string
	near, host, hostB, far, out netip.Addr
	icmp, echo                  uint8
}{
	{"v4", addr("10.1.0.7"), addr("10.1.0.1"), addr("10.2.0.1"), addr("10.2.0.9"), addr("10.1.0.99"), ICMP, 8},
	{"v6", addr("fd01::7"), addr("fd01::1"), addr("fd02::1"), addr("fd02::9"), addr("fd01::99"), ICMPv6, 128},
}

func TestNetnsInjector_WithoutRulesEverythingPasses(t *testing.T) {
	j := NewInjector(t, InjectorConfig{})
	for _, f := range families {
		for _, proto := range []uint8{TCP, UDP, SCTP, UDPLite, f.icmp, 200} {
			p := Packet{Src: f.near, Dst: f.host, Protocol: proto, SrcPort: 4000, DstPort: 5000, ICMPType: f.echo}
			if !j.In("rstun0", p) {
				t.Errorf("%s In(protocol %d) = false, want true", f.name, proto)
			}
			p.Dst = f.far
			if !j.Forward(p, "rstun0", "rstun1") {
				t.Errorf("%s Forward(protocol %d) = false, want true", f.name, proto)
			}
			p.Src, p.Dst = f.host, f.out
			if !j.Out("rstun0", p) {
				t.Errorf("%s Out(protocol %d) = false, want true", f.name, proto)
			}
			p.Src, p.Dst = f.near, f.far
			if j.In("rstun0", p) {
				t.Errorf("%s In(protocol %d) of a packet for somebody else = true, want false", f.name, proto)
			}
		}
	}
}

func TestNetnsInjector_SeesDrops(t *testing.T) {
	for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
		t.Run(hook, func(t *testing.T) {
			j := NewInjector(t, InjectorConfig{})
			j.NS.Run("nft", "add table inet t; add chain inet t c { type filter hook "+hook+" priority 0; }; "+
				"add rule inet t c th dport 5001 drop")
			for _, f := range families {
				for _, proto := range []uint8{TCP, UDP, SCTP} {
					for _, port := range []uint16{5000, 5001} {
						p := Packet{Src: f.near, Dst: f.host, Protocol: proto, SrcPort: 4000, DstPort: port}
						in := j.In("rstun0", p)
						p.Dst = f.far
						fwd := j.Forward(p, "rstun0", "rstun1")
						p.Src, p.Dst = f.host, f.out
						out := j.Out("rstun0", p)
						open := port == 5000
						if want := open || hook != "prerouting" && hook != "input"; in != want {
							t.Errorf("%s In(%d/%d) = %v, want %v", f.name, proto, port, in, want)
						}
						if want := open || hook == "input" || hook == "output"; fwd != want {
							t.Errorf("%s Forward(%d/%d) = %v, want %v", f.name, proto, port, fwd, want)
						}
						if want := open || hook != "output" && hook != "postrouting"; out != want {
							t.Errorf("%s Out(%d/%d) = %v, want %v", f.name, proto, port, out, want)
						}
					}
				}
			}
		})
	}
}

func TestNetnsInjector_BuildsPacketsThatConntrackFindsValid(t *testing.T) {
	j := NewInjector(t, InjectorConfig{})
	j.NS.Run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }; "+
		"add rule inet t c ct state invalid drop")
	for _, f := range families {
		// Not UDPLite: the kernel (6.18) checks it with UDP's pseudo header.
		for _, proto := range []uint8{TCP, UDP, SCTP, f.icmp} {
			p := Packet{Src: f.near, Dst: f.host, Protocol: proto, SrcPort: 4000, DstPort: 5000, ICMPType: f.echo, Payload: []byte("odd")}
			if proto == SCTP {
				p.Payload = []byte("even")
			}
			if !j.In("rstun0", p) {
				t.Errorf("%s In(protocol %d): conntrack says invalid", f.name, proto)
			}
		}
	}
	p := Packet{Src: families[0].near, Dst: families[0].host, Protocol: TCP, SrcPort: 1, DstPort: 2, TCPFlags: SYN | FIN}
	if j.In("rstun0", p) {
		t.Errorf("In(SYN|FIN) = true, want false: conntrack should say invalid")
	}
	j.FlushConntrack()
}

func TestNetnsVeth_CarriesTraffic(t *testing.T) {
	a, b := New(t), New(t)
	Veth(a, b, "va", "vb", []string{"10.9.0.1/24"}, []string{"10.9.0.2/24"})
	var l *net.TCPListener
	b.MustDo(func() (err error) {
		l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 80})
		return err
	})
	defer l.Close()
	a.MustDo(func() error {
		c, err := net.DialTimeout("tcp4", "10.9.0.2:80", 5*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func BenchmarkNetnsIn(b *testing.B)      { benchmark(b, 0) }
func BenchmarkNetnsOut(b *testing.B)     { benchmark(b, 1) }
func BenchmarkNetnsForward(b *testing.B) { benchmark(b, 2) }

func benchmark(b *testing.B, way int) {
	j := NewInjector(b, InjectorConfig{})
	f := families[0]
	for i := 0; b.Loop(); i++ {
		p := Packet{Src: f.near, Dst: f.host, Protocol: TCP, SrcPort: uint16(i), DstPort: 80}
		ok := false
		switch way {
		case 0:
			ok = j.In("rstun0", p)
		case 1:
			p.Src, p.Dst = f.host, f.out
			ok = j.Out("rstun0", p)
		case 2:
			p.Dst = f.far
			ok = j.Forward(p, "rstun0", "rstun1")
		}
		if !ok {
			b.Fatalf("packet %d not seen", i)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verdicts/s")
}
