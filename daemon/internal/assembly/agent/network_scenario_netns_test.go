// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// onEachFilter runs a test on a host with each packet filter. Which variant of
// iptables it is follows from the rule that is there already.
func onEachFilter(t *testing.T, test func(t *testing.T, s *site, noRules string)) {
	iptables := func(variant string) string {
		return "for p in iptables ip6tables; do for t in raw mangle filter; do $p-" + variant + " -t $t -F; done; done"
	}
	for name, c := range map[string]struct{ before, dataplane, noRules string }{
		"nftables":           {":", "nftables", "nft delete table inet ripstop"},
		"iptables legacy":    {"iptables-legacy -A INPUT -s 192.0.2.1", "iptables", iptables("legacy")},
		"iptables nf_tables": {"iptables-nft -A INPUT -s 192.0.2.1", "iptables", iptables("nft")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.cfg.Dataplane = c.dataplane
			s.ns.Run("sh", "-c", c.before)
			test(t, s, c.noRules)
		})
	}
}

// TestNetnsScenario_S056_ForwardingIsNotSwitchedOnIfItIsNotWanted: with
// ipForwarding Disabled the host forwards nothing for a workload that it did
// not forward before, and all else of the workload works.
func TestNetnsScenario_S056_ForwardingIsNotSwitchedOnIfItIsNotWanted(t *testing.T) {
	onEachFilter(t, func(t *testing.T, s *site, _ string) {
		s.settings(intent.Settings{NoForwarding: true})
		s.start()
		w1, _ := s.workload("cali1", "10.65.0.1", "fd65::1"), s.workload("cali2", "10.65.0.2", "fd65::2")
		s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
		s.endpoint("w2", "cali2", "10.65.0.2", "fd65::2")
		eventually(t, "routes", s.routes, has("10.65.0.2 dev cali2", "fd65::2 dev cali2"))
		reaches(t, w1, "169.254.1.1")
		s.noErrors()
		for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
			if v := s.sysctl(key)(); v != "0" {
				t.Errorf("%s is %s, want 0", key, v)
			}
		}
		if out, _ := w1.Try("ping", "-6", "-c2", "-i0.2", "-W1", "fd65::2"); !has("100% packet loss")(out) {
			t.Errorf("a packet of IPv6 was forwarded:\n%s", out)
		}
		s.settings(intent.Settings{})
		reaches(t, w1, "10.65.0.2")
		reaches(t, w1, "fd65::2")
	})
}

// TestNetnsScenario_S233_WorkloadMakesNoRoutesOnItsHost: an advertisement of a
// router that comes from a workload, one without addresses of IPv6, is nothing
// to the host; also when there are no rules that would drop it.
func TestNetnsScenario_S233_WorkloadMakesNoRoutesOnItsHost(t *testing.T) {
	onEachFilter(t, func(t *testing.T, s *site, noRules string) {
		learnt := func() string {
			return s.ns.Run("ip", "-6", "route", "show") + s.ns.Run("ip", "-6", "addr", "show")
		}
		w := s.workload("cali1", "10.65.0.1")
		advertise(t, w)
		eventually(t, "without an endpoint the host listens to it", learnt, has("2001:db8:bad::", "default via fe80::"))
		s.ns.Run("sh", "-c", "ip -6 addr flush dev cali1 scope global; ip -6 route flush default; ip -6 route flush 2001:db8:bad::/64")
		s.start()
		s.endpoint("w1", "cali1", "10.65.0.1")
		reaches(t, w, "169.254.1.1")
		eventually(t, "accept_ra", s.sysctl("net.ipv6.conf.cali1.accept_ra"), is("0"))
		s.noErrors()
		deaf := func(when string) {
			t.Helper()
			for range 3 {
				advertise(t, w)
				time.Sleep(50 * time.Millisecond) // it took effect at once above
			}
			if got := learnt(); !hasNot("2001:db8:bad::")(got) || !hasNot("default via")(got) {
				t.Errorf("%s the host has learnt from the workload:\n%s", when, got)
			}
		}
		deaf("with an endpoint")
		s.stop()
		s.ns.Run("sh", "-c", noRules)
		deaf("without rules")
	})
}

// advertise sends a router advertisement (RFC 4861, 4.2) with one prefix for
// addresses and a life as default router, to all nodes on the link.
func advertise(t *testing.T, ns *netnstest.NS) {
	t.Helper()
	body := []byte{
		134, 0, 0, 0, 64, 0, 7, 8, // hop limit 64, 1800 s
		0, 0, 0, 0, 0, 0, 0, 0,
		3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0, // a /64, on the link and for addresses
	}
	body = append(body, netip.MustParseAddr("2001:db8:bad::").AsSlice()...)
	ns.MustDo(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dev, err := net.InterfaceByName("eth0")
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
		}
		if err == nil {
			to := unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(dev.Index)}
			// Its own address has to be its own first (RFC 4862, 5.4).
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				err = unix.Sendto(fd, body, 0, &to)
				if !errors.Is(err, unix.EADDRNOTAVAIL) || time.Now().After(deadline) {
					break
				}
			}
		}
		return err
	})
}
