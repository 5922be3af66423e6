// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// drift waits until a drift of that text is on the board, repaired.
func (s *site) drift(text string) {
	s.t.Helper()
	eventually(s.t, "drift told", func() string {
		var b strings.Builder
		for _, d := range s.board.Status().Status.Drift {
			for _, what := range strings.Split(d.What, "; ") {
				fmt.Fprintf(&b, "%s (repaired %v)\n", what, d.Repaired)
			}
		}
		return b.String()
	}, has(text+" (repaired true)"))
}

// TestNetnsNetwork_InterfaceMadeAnew: the same name, another interface; and
// one that is renamed away and back.
func TestNetnsNetwork_InterfaceMadeAnew(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	reaches(t, w, "169.254.1.1")
	for range 5 {
		s.ns.Run("ip", "link", "del", "cali1")
		s.plug(w, "cali1", "10.65.0.1", "fd65::1")
	}
	eventually(t, "routes", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	for _, key := range []string{"net.ipv4.conf.cali1.proxy_arp", "net.ipv6.conf.cali1.proxy_ndp"} {
		eventually(t, key, s.sysctl(key), is("1"))
	}
	reaches(t, w, "169.254.1.1")
	reaches(t, s.ns, "fd65::1")
	s.ns.Run("ip", "link", "set", "cali1", "down")
	s.ns.Run("ip", "link", "set", "cali1", "name", "other")
	s.ns.Run("ip", "link", "set", "other", "up")
	eventually(t, "no route under another name", s.routes, hasNot("10.65.0.1"))
	eventually(t, "sysctl is as before under another name", s.sysctl("net.ipv4.conf.other.proxy_arp"), is("0"))
	s.ns.Run("ip", "link", "set", "other", "down")
	s.ns.Run("ip", "link", "set", "other", "name", "cali1")
	s.ns.Run("ip", "link", "set", "cali1", "up")
	eventually(t, "routes are back", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	eventually(t, "sysctl", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	s.noErrors()
	if r, err := os.ReadFile(filepath.Join(s.cfg.StateDir, "agent", "sysctls.json")); err != nil || strings.Count(string(r), "proxy_delay") > 1 {
		t.Errorf("records of interfaces that are gone are left (%v):\n%s", err, r)
	}
}

// TestNetnsNetwork_WhatOthersDamageIsRepaired: routes, the gateway and
// sysctls, each put right and told.
func TestNetnsNetwork_WhatOthersDamageIsRepaired(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	reaches(t, w, "169.254.1.1")
	s.ns.Run("ping", "-c1", "10.65.0.1")
	s.noErrors()
	s.ns.Run("ip", "route", "flush", "proto", "82") // as a restart of systemd-networkd may
	eventually(t, "IPv4 route", s.routes, has("10.65.0.1 dev cali1"))
	s.drift("route to 10.65.0.1 dev cali1: removed")
	if out, _ := s.ns.Try("conntrack", "-L"); !strings.Contains(out, "src=10.65.0.1") {
		t.Errorf("a repair has cut flows:\n%s", out)
	}
	s.ns.Run("ip", "-6", "route", "flush", "proto", "82")
	eventually(t, "IPv6 route", s.routes, has("fd65::1 dev cali1"))
	s.ns.Run("ip", "route", "flush", "table", "local", "proto", "82")
	eventually(t, "gateway", s.routes, has("local 169.254.1.1"))
	s.ns.Run("ip", "route", "add", "10.99.0.1/32", "dev", "cali1", "proto", "82")
	eventually(t, "a route under our number goes", s.routes, hasNot("10.99.0.1"))
	for key, bad := range map[string]string{
		"net.ipv4.conf.cali1.proxy_arp": "0", "net.ipv4.conf.cali1.rp_filter": "2", "net.ipv6.conf.cali1.accept_ra": "2",
		"net.ipv4.neigh.cali1.proxy_delay": "50", "net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0",
	} {
		was := s.sysctl(key)()
		s.ns.Sysctl(strings.ReplaceAll(key, ".", "/"), bad)
		eventually(t, key, s.sysctl(key), is(was))
		s.drift(fmt.Sprintf("sysctl %s: was %s, is %s again", strings.ReplaceAll(key, ".", "/"), bad, was))
	}
	reaches(t, w, "169.254.1.1")
	s.noErrors()
}

// TestNetnsNetwork_StrangersAreLeftAlone: interfaces without an endpoint, even
// of a workload's prefix, and routes of others.
func TestNetnsNetwork_StrangersAreLeftAlone(t *testing.T) {
	s := newSite(t)
	s.ns.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	s.ns.Up("up1")
	s.ns.Up("up0", "192.168.9.1/24", "fd99::1/64")
	s.workload("cali9", "10.65.0.9")
	s.workload("cali1", "10.65.0.1", "fd65::1")
	for _, r := range [][]string{
		{"10.1.0.0/16", "via", "192.168.9.2"}, {"10.65.0.1/32", "via", "192.168.9.2", "metric", "50"},
		{"10.65.0.7/32", "dev", "up0", "metric", "1024"}, {"10.2.0.0/16", "dev", "cali9"}, {"10.3.0.0/16", "dev", "cali1"},
	} {
		s.ns.Run("ip", append([]string{"route", "add"}, r...)...)
	}
	theirs := s.routes()
	before := s.sysctls()
	s.start()
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "routes", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	eventually(t, "IPv6 forwarding", s.sysctl("net.ipv6.conf.all.forwarding"), is("1"))
	s.noErrors()
	for _, line := range strings.Split(theirs, "\n") {
		if !strings.Contains(s.routes(), line) {
			t.Errorf("another's route is gone: %s", line)
		}
	}
	for k, v := range s.sysctls() {
		own := strings.Contains(k, ".cali1.") || strings.HasSuffix(k, ".forwarding") || strings.HasSuffix(k, ".accept_ra") ||
			k == "net.ipv4.ip_forward" || k == "net.ipv4.conf.all.accept_redirects" || strings.Contains(k, "conntrack")
		if !own && before[k] != v {
			t.Errorf("sysctl %s was %q, is %q", k, before[k], v)
		}
	}
	// The same destination and metric on another's interface: told, not taken.
	s.endpoint("w7", "cali9", "10.65.0.7")
	eventually(t, "conflict told", func() string { return s.board.Status().Status.Dataplane.Error }, has("10.65.0.7", "another program"))
	if !strings.Contains(s.routes(), "10.65.0.7 dev up0") {
		t.Errorf("another's route is gone:\n%s", s.routes())
	}
	s.ns.Run("ip", "route", "del", "10.65.0.7/32", "dev", "up0")
	eventually(t, "conflict over", s.routes, has("10.65.0.7 dev cali9"))
	s.noErrors()
}
