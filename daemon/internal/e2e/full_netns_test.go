// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// TestNetnsConntrackFull_DeniedStaysDenied: the kernel's table of connections
// is filled to its limit under a running agent. What is denied is never
// admitted, before, then and after; the status and the metrics say that the
// table is full, or nearly; and all passes again when there is room. The limit is the
// machine's, one for all namespaces, and not ours to lower.
func TestNetnsConntrackFull_DeniedStaysDenied(t *testing.T) {
	if testing.Short() {
		t.Skip("fills the whole table: not with -short")
	}
	for _, filter := range []string{"nftables", "iptables"} {
		t.Run(filter, func(t *testing.T) {
			srv := startServer(t)
			inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
			srv.put(t, chaosEndpoint)
			rev := srv.put(t, chaosPolicies(0))
			a := startAgent(t, inj.NS, srv.etcd(), "--dataplane", filter)
			a.applied(t, rev)
			s := &streams{inj: inj}
			s.burst(100)
			s.check(t)
			most := int(a.metric(t, "ripstop_conntrack_entries_max"))
			if most == 0 || most > 1<<19 {
				t.Skipf("the kernel's limit is %d connections: it takes too long to fill", most)
			}
			alarm := func(hs *api.HostStatus) bool {
				for _, f := range hs.Status.Faults {
					if f.Object == "connection tracking" { // full, or nearly: some give way to new ones

						return true
					}
				}
				return false
			}
			if hs, err := a.status(); err != nil || alarm(hs) {
				t.Errorf("before: alarm %v (%v), want none", err == nil, err)
			}
			h := inj.NS.Handle()
			fillConntrack(t, h, most)
			denied := func(when string, packets int) {
				t.Helper()
				admitted := 0
				for i := range packets {
					for _, f := range [][2]string{{"10.1.0.7", "10.1.0.1"}, {"fd01::7", "fd01::1"}} {
						for _, proto := range []uint8{netnstest.UDP, netnstest.TCP} {
							if inj.In("rstun0", netnstest.Packet{Src: addr(f[0]), Dst: addr(f[1]), Protocol: proto, SrcPort: uint16(1024 + i), DstPort: 9999}) {
								admitted++
							}
						}
					}
				}
				if admitted > 0 {
					t.Errorf("%s: %d of %d denied packets admitted", when, admitted, 4*packets)
				}
			}
			denied("full", 5000)
			a.until(t, "the alarm is raised", alarm)
			if n := a.metric(t, "ripstop_conntrack_entries"); int(n) < most/5*4 {
				t.Errorf("ripstop_conntrack_entries is %v, want nearly %d", n, most)
			}
			// A change is obeyed all the same.
			a.applied(t, srv.put(t, chaosPolicies(1)))
			denied("full, after a change", 5000)

			inj.FlushConntrack()
			a.until(t, "the alarm has ended", func(hs *api.HostStatus) bool { return !alarm(hs) })
			denied("with room again", 1000)
			s.burst(100)
			s.check(t)
			t.Logf("a table of %d: 44000 denied packets, none admitted", most)
		})
	}
}

// fillConntrack makes connections until the kernel has no room for more.
func fillConntrack(t *testing.T, h *netlink.Handle, most int) {
	t.Helper()
	for i := range most {
		tuple := netlink.IPTuple{
			SrcIP: net.IPv4(100, byte(i>>16), byte(i>>8), byte(i)).To4(), DstIP: net.IPv4(10, 1, 0, 1).To4(), Protocol: netnstest.UDP, SrcPort: 40000, DstPort: 8000,
		}
		back := netlink.IPTuple{SrcIP: tuple.DstIP, DstIP: tuple.SrcIP, Protocol: tuple.Protocol, SrcPort: tuple.DstPort, DstPort: tuple.SrcPort}
		err := h.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{FamilyType: unix.AF_INET, Forward: tuple, Reverse: back, TimeOut: 600})
		if errors.Is(err, unix.ENOMEM) {
			return // full
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
}
