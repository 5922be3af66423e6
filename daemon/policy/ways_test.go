// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func always() bool { return true }

func TestLostWays_AreOpenNowAndShutThen(t *testing.T) {
	hosts := doc("HostEndpoint", "a1", "role: a", "node: a, interfaceName: eth0, expectedIPs: [10.0.0.1, 'fd00::1']") +
		doc("HostEndpoint", "b1", "role: b", "node: b, interfaceName: '*'")
	const (
		open   = "selector: all(), types: [Ingress], ingress: [{action: Allow}]"
		shut   = "selector: role == 'a', order: 1, types: [Ingress], ingress: [{action: Deny, source: {nets: [192.0.2.0/24]}}, {action: Deny, protocol: TCP, destination: {ports: [2222]}}]"
		noWay  = "failsafeInboundHostPorts: []"
		others = "failsafeInboundHostPorts: [{protocol: tcp, port: 8022}]"
	)
	picture := func(config, docs string) *World {
		objs := objects(t, defaultTier+hosts+felix("default", config)+docs)
		return NewWorld(objs, OptionsOf(objs))
	}
	from := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	session := func(server string) *Session {
		return &Session{Client: netip.MustParseAddrPort("198.51.100.9:40000"), Server: netip.MustParseAddrPort(server)}
	}
	for _, c := range []struct {
		name          string
		before, after *World
		m             Manager
		want          string
	}{
		{"SSH of one version", picture(noWay, gnp("p", open)), picture(noWay, gnp("p", open)+gnp("q", shut)), Manager{Addresses: from}, "[a 10.0.0.1:22]"},
		{"nothing is open that was not", picture(noWay, gnp("q", shut)), picture(noWay, gnp("q", shut)), Manager{Addresses: from}, "[]"},
		{"a failsafe stays open", picture(others, gnp("p", open)), picture(others, gnp("p", open+", order: 3")), Manager{Addresses: from}, "[]"},
		{"all but a failsafe goes", picture(others, gnp("p", open)), picture(others, ""), Manager{Addresses: from}, "[a 10.0.0.1:22 a fd00::1:22 b 0.0.0.0:22 b :::22]"},
		{"a failsafe goes", picture(others, ""), picture(noWay, ""), Manager{Addresses: from}, "[a 10.0.0.1:8022 a fd00::1:8022 b 0.0.0.0:8022 b :::8022]"},
		{"the session, by address", picture(others, gnp("p", open)), picture(others, gnp("p", open)+gnp("q", shut)), Manager{Session: session("10.0.0.1:2222")}, "[a 10.0.0.1:2222]"},
		{"a session to another", picture(others, gnp("p", open)), picture(others, gnp("p", open)+gnp("q", shut)), Manager{Session: session("10.0.0.2:2222")}, "[]"},
	} {
		var got []string
		lost, left := LostWays(c.before, c.after, c.m, always)
		for _, l := range lost {
			got = append(got, fmt.Sprintf("%s %s:%d", l.Host, l.Flow.Destination, l.Flow.DestinationPort))
		}
		if fmt.Sprint(got) != c.want || left != 0 {
			t.Errorf("%s: got %v (%d left), want %s", c.name, got, left, c.want)
		}
	}
	// By name, whatever is known of addresses.
	s := session("10.9.9.9:2222")
	s.Client, s.Host = netip.MustParseAddrPort("192.0.2.7:40000"), "a"
	lost, _ := LostWays(picture(others, gnp("p", open)), picture(others, gnp("p", open)+gnp("q", shut)), Manager{Session: s}, always)
	if len(lost) != 1 || lost[0].Host != "a" {
		t.Errorf("by the host's name: %+v", lost)
	}
	// What there is no time for is counted.
	n := 0
	if lost, left := LostWays(picture(others, gnp("p", open)), picture(others, ""), Manager{Addresses: from}, func() bool { n++; return n < 2 }); len(lost) != 2 || left != 1 {
		t.Errorf("cut short: %d lost, %d left", len(lost), left)
	}
}

// BenchmarkLostWays is one address of a manager and 1,000 hosts, of which none
// has a failsafe, with as many policies as it says.
func BenchmarkLostWays(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			docs := defaultTier
			for i := range 1000 {
				docs += doc("HostEndpoint", fmt.Sprintf("h%d", i), fmt.Sprintf("role: r%d", i%100), fmt.Sprintf("node: n%d, interfaceName: eth0, expectedIPs: [10.%d.%d.1]", i, i/256, i%256))
			}
			for i := range n {
				docs += gnp(fmt.Sprintf("p%d", i), fmt.Sprintf("order: %d, selector: role == 'r%d', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {nets: [10.%d.0.0/16]}}]", i, i%100, rand.IntN(200)))
			}
			objs := objects(b, docs)
			o := OptionsOf(objs)
			o.FailsafeInbound = []Failsafe{}
			w := NewWorld(objs, o)
			m := Manager{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
			for b.Loop() {
				LostWays(w, w, m, always)
			}
		})
	}
}
