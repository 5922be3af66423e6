// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// TestNetnsNetwork_WorkloadsReachEachOtherByTheirGateway: a host with no other
// route at all answers for the gateway, forwards in both families, and is
// itself reached; what a workload asks about its own address it is not told.
func TestNetnsNetwork_WorkloadsReachEachOtherByTheirGateway(t *testing.T) {
	s := newSite(t)
	s.start()
	w1 := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1") // after its interface
	s.endpoint("w2", "cali2", "10.65.0.2", "fd65::2") // before
	w2 := s.workload("cali2", "10.65.0.2", "fd65::2")
	eventually(t, "routes", s.routes, has(
		"10.65.0.1 dev cali1 proto 82 scope link metric 1024", "10.65.0.2 dev cali2 proto 82 scope link metric 1024",
		"fd65::1 dev cali1 proto 82 metric 1024", "fd65::2 dev cali2 proto 82 metric 1024",
		"local 169.254.1.1 dev lo table local proto 82",
	))
	for _, to := range []string{"10.65.0.2", "fd65::2", "169.254.1.1"} {
		reaches(t, w1, to)
	}
	reaches(t, w2, "10.65.0.1")
	reaches(t, w2, "fd65::1")
	if v := s.sysctl("net.ipv4.conf.cali1.route_localnet")(); v != "0" {
		t.Errorf("route_localnet is %s, want 0", v)
	}
	for key, want := range map[string]string{
		"net.ipv4.conf.cali1.proxy_arp": "1", "net.ipv4.neigh.cali1.proxy_delay": "0", "net.ipv4.conf.cali1.forwarding": "1",
		"net.ipv6.conf.cali1.proxy_ndp": "1", "net.ipv6.conf.cali1.forwarding": "1", "net.ipv6.conf.cali1.accept_ra": "0",
	} {
		eventually(t, key, s.sysctl(key), is(want))
	}
	s.noErrors()
}

// TestNetnsNetwork_OnlyTheGatewayAnswers: the host answers for the gateway,
// with and without a default route, by proxy for addresses that it has a
// route to, and never when a workload asks for its own address.
func TestNetnsNetwork_OnlyTheGatewayAnswers(t *testing.T) {
	s := newSite(t)
	s.ns.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	s.ns.Up("up1")
	s.ns.Up("up0", "192.168.9.1/24")
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "proxy ARP", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	answers := func(from, to string) bool {
		return w.Do(func() error { return arping("eth0", netip.MustParseAddr(from), netip.MustParseAddr(to)) }) == nil
	}
	for _, c := range []struct {
		from, to      string
		alone, routed bool // without and with a default route
	}{
		{"10.65.0.1", "169.254.1.1", true, true},
		{"0.0.0.0", "169.254.1.1", true, true}, // taken: nobody else may have it
		{"10.65.0.1", "10.65.0.1", false, false},
		{"0.0.0.0", "10.65.0.1", false, false},
		{"10.65.0.1", "10.65.0.77", false, true},
		{"10.65.0.1", "192.168.9.77", true, true},
	} {
		if got := answers(c.from, c.to); got != c.alone {
			t.Errorf("without a default route, %s asks for %s: answered %v, want %v", c.from, c.to, got, c.alone)
		}
	}
	s.ns.Run("ip", "route", "add", "default", "via", "192.168.9.2")
	if got := answers("10.65.0.1", "10.65.0.77"); !got {
		t.Errorf("with a default route, an address behind it is not answered for")
	}
	for _, from := range []string{"0.0.0.0", "10.65.0.1"} {
		if answers(from, "10.65.0.1") {
			t.Errorf("with a default route, the workload's own address is answered for when %s asks", from)
		}
	}
	// IPv6: asked for as by one who has not got it yet. What an operator has
	// the host answer for is answered.
	w.Run("ip", "-6", "addr", "del", "fd65::1/128", "dev", "eth0")
	s.ns.Run("ip", "-6", "neigh", "add", "proxy", "fd65::77", "dev", "cali1")
	for to, want := range map[string]bool{"fd65::1": false, "fd65::77": true} {
		w.Run("ip", "-6", "route", "add", to, "dev", "eth0")
		w.Try("ping", "-c1", "-W1", to)
		if got := w.Run("ip", "-6", "neigh", "show", to); strings.Contains(got, "lladdr") != want {
			t.Errorf("%s asked for: answered %v, want %v: %s", to, !want, want, got)
		}
	}
}

// TestNetnsNetwork_FlappingInterfaceEndsConnected: S176, bounded.
func TestNetnsNetwork_FlappingInterfaceEndsConnected(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	reaches(t, w, "169.254.1.1")
	for i := range 100 {
		s.ns.Run("ip", "link", "set", "cali1", "down")
		if i%3 == 0 {
			time.Sleep(3 * time.Millisecond)
		}
		s.ns.Run("ip", "link", "set", "cali1", "up")
	}
	w.Run("ip", "-6", "route", "replace", "default", "via", linkLocal(s.ns, "cali1"), "dev", "eth0")
	reaches(t, w, "169.254.1.1")
	eventually(t, "routes are back", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	reaches(t, s.ns, "10.65.0.1")
	s.noErrors()
	for _, d := range s.board.Status().Status.Drift {
		t.Errorf("reported as somebody's doing: %+v", d)
	}
}

func linkLocal(ns *netnstest.NS, iface string) string {
	for range 1000 {
		for _, f := range strings.Fields(ns.Run("ip", "-6", "addr", "show", "dev", iface, "scope", "link")) {
			if strings.HasPrefix(f, "fe80:") {
				return strings.TrimSuffix(f, "/64")
			}
		}
		time.Sleep(time.Millisecond)
	}
	return ""
}

// TestNetnsNetwork_OneAddressOnTwoInterfaces: S178. The higher index has it;
// when that one is down or gone the other takes over, and gives it back.
func TestNetnsNetwork_OneAddressOnTwoInterfaces(t *testing.T) {
	s := newSite(t)
	s.start()
	s.workload("cali1", "10.65.0.1")
	w2 := s.workload("cali2", "10.65.0.1")
	s.endpoint("a", "cali2", "10.65.0.1")
	s.endpoint("b", "cali1", "10.65.0.1")
	on := func(iface string) { eventually(t, "on "+iface, s.routes, has("10.65.0.1 dev "+iface)) }
	on("cali2")
	eventually(t, "no proxy ARP for who lost", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("0"))
	s.ns.Run("ip", "link", "set", "cali2", "down")
	on("cali1")
	eventually(t, "proxy ARP for who won", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	s.ns.Run("ip", "link", "set", "cali2", "up")
	on("cali2")
	w2.Run("ip", "link", "set", "eth0", "down") // no carrier
	on("cali1")
	w2.Run("ip", "link", "set", "eth0", "up")
	on("cali2")
	s.ns.Run("ip", "link", "del", "cali2")
	on("cali1")
	s.noEndpoint("a") // the loser, by now
	s.noErrors()
	on("cali1")
}

// TestNetnsNetwork_NoRoutes: S182.
func TestNetnsNetwork_NoRoutes(t *testing.T) {
	s := newSite(t)
	s.start()
	s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "routes", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1", "169.254.1.1"))
	s.ns.Run("ip", "route", "add", "10.77.0.0/16", "dev", "cali1")
	s.settings(intent.Settings{NoRoutes: true, RemoveExternalRoutes: true})
	eventually(t, "no route is ours", s.routes, hasNot("proto 82"))
	if !strings.Contains(s.routes(), "10.77.0.0/16") {
		t.Errorf("another's route is gone:\n%s", s.routes())
	}
	if out := s.ns.Run("nft", "list", "tables"); !strings.Contains(out, "ripstop") {
		t.Errorf("policy is not enforced: tables %s", out)
	}
	s.settings(intent.Settings{})
	eventually(t, "routes are back", s.routes, has("10.65.0.1 dev cali1"))
}

// TestNetnsNetwork_NeighbourAndNewAddress: S184, S185.
func TestNetnsNetwork_NeighbourAndNewAddress(t *testing.T) {
	s := newSite(t)
	s.start()
	s.workload("cali1", "10.65.0.1", "fd65::1")
	ep := &intent.WorkloadEndpoint{
		Interface: "cali1", Profiles: []string{openProfile}, MAC: [6]byte{0xee, 0xee, 0xee, 0xee, 0xee, 1},
		Addrs: []netip.Addr{netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd65::1")},
	}
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w1"}, ep)
	s.picture()
	eventually(t, "permanent neighbours", s.neighbours, has(
		"10.65.0.1 dev cali1 lladdr ee:ee:ee:ee:ee:01", "fd65::1 dev cali1 lladdr ee:ee:ee:ee:ee:01",
	))
	moved := *ep
	moved.Addrs = []netip.Addr{netip.MustParseAddr("10.65.0.5"), netip.MustParseAddr("fd65::5")}
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w1"}, &moved)
	s.picture()
	eventually(t, "neighbours of the new address", s.neighbours, has("10.65.0.5 dev cali1", "fd65::5 dev cali1"))
	eventually(t, "none of the old", s.neighbours, func(n string) bool { return !strings.Contains(n, "10.65.0.1 ") && !strings.Contains(n, "fd65::1 ") })
	eventually(t, "routes of the new address", s.routes, has("10.65.0.5 dev cali1", "fd65::5 dev cali1"))
	if r := s.routes(); strings.Contains(r, "10.65.0.1 ") || strings.Contains(r, "fd65::1 ") {
		t.Errorf("routes of the old address are left:\n%s", r)
	}
	// A neighbour that somebody alters is put right, and told.
	s.ns.Run("ip", "neigh", "replace", "10.65.0.5", "lladdr", "66:66:66:66:66:66", "nud", "permanent", "dev", "cali1")
	eventually(t, "altered neighbour is right again", s.neighbours, hasNot("66:66"))
	s.ns.Run("ip", "neigh", "del", "10.65.0.5", "dev", "cali1")
	eventually(t, "removed neighbour is back", s.neighbours, has("10.65.0.5 dev cali1"))
	s.ns.Run("ip", "link", "set", "cali1", "down")
	s.ns.Run("ip", "link", "set", "cali1", "up")
	eventually(t, "neighbours outlive a flap", s.neighbours, has("10.65.0.5 dev cali1", "fd65::5 dev cali1"))
	s.drift("neighbour 10.65.0.5 lladdr ee:ee:ee:ee:ee:01 dev cali1: removed or altered")
}
