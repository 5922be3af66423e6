// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// TestNetnsNetwork_RemovedEndpointLeavesNothing: S175.
func TestNetnsNetwork_RemovedEndpointLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.workload("cali2", "10.65.0.2", "fd65::2")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w2", "cali2", "10.65.0.2", "fd65::2")
	reaches(t, w, "10.65.0.2")
	reaches(t, w, "fd65::2")
	s.ns.Run("ping", "-c1", "10.65.0.2")
	flows := func() string {
		v4, _ := s.ns.Try("conntrack", "-L")
		v6, _ := s.ns.Try("conntrack", "-L", "-f", "ipv6")
		return v4 + v6
	}
	if got := flows(); !has("src=10.65.0.1", "src=fd65::1", "src=10.9.9.9")(got) {
		t.Fatalf("flows lack those of the pings:\n%s", got)
	}
	s.noEndpoint("w1")
	eventually(t, "route gone", s.routes, hasNot("cali1"))
	eventually(t, "IPv4 flow gone", flows, hasNot("src=10.65.0.1"))
	eventually(t, "IPv6 flow gone", flows, hasNot("src=fd65::1"))
	if got := flows(); !strings.Contains(got, "src=10.9.9.9") {
		t.Errorf("a flow of another address is gone as well:\n%s", got)
	}
	if got := s.routes(); !strings.Contains(got, "cali2") {
		t.Errorf("the other endpoint's route is gone as well:\n%s", got)
	}
	// An interface that goes with its routes leaves no flows either.
	s.ns.Run("ip", "link", "del", "cali2")
	eventually(t, "flow to a removed interface gone", flows, hasNot("src=10.65.0.2"))
	s.noErrors()
}

// TestNetnsNetwork_CleanupLeavesTheHostAsItWas: sysctls, routes and neighbours
// are equal, also those that moved with others, were not the default, or
// belong to a host that gets its way out from its router.
func TestNetnsNetwork_CleanupLeavesTheHostAsItWas(t *testing.T) {
	s := newSite(t)
	s.ns.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	s.ns.Up("up1")
	s.ns.Up("up0", "192.168.9.1/24")
	s.ns.Sysctl("net/ipv6/conf/up0/accept_ra", "1")
	s.workload("cali1", "10.65.0.1", "fd65::1")
	s.workload("cali2", "10.65.0.2")
	s.ns.Sysctl("net/ipv4/conf/up1/forwarding", "1")
	s.ns.Sysctl("net/ipv4/conf/default/rp_filter", "1")
	s.ns.Sysctl("net/ipv4/conf/cali1/rp_filter", "2")
	s.ns.Sysctl("net/ipv4/conf/all/accept_redirects", "1")
	s.ns.Run("nft", "add table inet mine; add chain inet mine c { type filter hook input priority 0; }; add rule inet mine c ct state new accept")
	before, routes, neighbours := s.sysctls(), s.routes(), s.neighbours()
	s.start()
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w2"}, &intent.WorkloadEndpoint{
		Interface: "cali2", Profiles: []string{openProfile}, MAC: [6]byte{2, 0, 0, 0, 0, 1}, Addrs: []netip.Addr{netip.MustParseAddr("10.65.0.2")},
		AllowedSources: []netip.Prefix{netip.MustParsePrefix("10.66.0.0/24")},
	})
	s.picture()
	eventually(t, "neighbour", s.neighbours, has("10.65.0.2"))
	eventually(t, "rp_filter as the default", s.sysctl("net.ipv4.conf.cali1.rp_filter"), is("1"))
	eventually(t, "router, and listens to its own", s.sysctl("net.ipv6.conf.up0.accept_ra"), is("2"))
	eventually(t, "a workload's interface does not", s.sysctl("net.ipv6.conf.cali1.accept_ra"), is("0"))
	s.noErrors()

	// An endpoint that goes leaves its interface as it was, bar forwarding.
	s.noEndpoint("w1")
	eventually(t, "rp_filter as before", s.sysctl("net.ipv4.conf.cali1.rp_filter"), is("2"))
	eventually(t, "proxy ARP as before", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("0"))
	if v := s.sysctl("net.ipv4.ip_forward")(); v != "1" {
		t.Errorf("ip_forward is %s after an endpoint went, want 1: others may rely on it", v)
	}
	s.noEndpoint("w2")
	eventually(t, "no neighbour", s.neighbours, hasNot("10.65.0.2"))
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "proxy ARP", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	s.stop()

	var out bytes.Buffer
	s.ns.MustDo(func() error { return cleanup(t.Context(), s.cfg, slog.New(slog.DiscardHandler), &out) })
	if diff := cmp.Diff(before, s.sysctls()); diff != "" {
		t.Errorf("sysctls after cleanup (-before +after):\n%s", diff)
	}
	if got := s.routes(); got != routes {
		t.Errorf("routes after cleanup:\n%s\nbefore:\n%s", got, routes)
	}
	if got := s.neighbours(); got != neighbours {
		t.Errorf("neighbours after cleanup:\n%s\nbefore:\n%s", got, neighbours)
	}
	if !has("net/ipv4/ip_forward = 0", "Removed 3 routes")(out.String()) {
		t.Errorf("cleanup says:\n%s", out.String())
	}
	left, _ := filepath.Glob(filepath.Join(s.cfg.StateDir, "agent", "sysctls*"))
	if len(left) > 0 {
		t.Errorf("records are left: %v", left)
	}
	t.Logf("%s", out.String())
}

// TestNetnsNetwork_RestartChangesNothing: a new agent takes over what it
// finds, cuts no flow, and removes only what nobody wants any more, once the
// picture is whole.
func TestNetnsNetwork_RestartChangesNothing(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.workload("cali2", "10.65.0.2")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w2", "cali2", "10.65.0.2")
	reaches(t, w, "10.65.0.2")
	s.noErrors()
	before := s.routes()
	said := maps.Clone(s.said)
	s.stop()
	s.said = map[intent.Key]intent.Value{} // the picture is not whole yet
	s.ns.MustDo(func() (err error) {
		s.board = status.NewBoard(status.Config{Host: "h1"})
		s.lane, err = newLane(s.cfg, slog.New(slog.DiscardHandler), s.board)
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := s.ns.Go(func() error { return s.lane.loop.Run(ctx) })
	links := s.ns.Go(func() error { return s.lane.links.Run(ctx, s.lane.noteLinks) })
	time.Sleep(50 * time.Millisecond)
	if got := s.routes(); got != before {
		t.Errorf("routes before the picture is whole:\n%s\nwant:\n%s", got, before)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-links; err != nil {
		t.Error(err)
	}
	s.lane.close()
	delete(said, intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w2"})
	s.said = said
	s.start()
	eventually(t, "what nobody wants goes", s.routes, hasNot("cali2"))
	s.noErrors()
	for _, line := range strings.Split(before, "\n") {
		if !strings.Contains(line, "cali2") && !strings.Contains(s.routes(), line) {
			t.Errorf("a route that is wanted is gone: %s", line)
		}
	}
	if d := s.board.Status().Status.Drift; len(d) > 0 {
		t.Errorf("a restart is told as drift: %+v", d)
	}
}
