// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// placed is where a flow goes, in words.
func placed(b *bed, src, dst, newDst string) string {
	b.t.Helper()
	f := ruleset.Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)}
	if newDst != "" {
		f.DNATed, f.NewDst = true, netip.MustParseAddr(newDst)
	}
	ok := false
	b.host.MustDo(func() (err error) { ok, err = b.part.routes.place(&f); return err })
	if !ok {
		return "nowhere"
	}
	return fmt.Sprint(f.Way, " ", slices.Sorted(slices.Values(f.In))) + fmt.Sprint(slices.Sorted(slices.Values(f.Out)))
}

// TestNetnsRoutes_SayWhereAFlowComesAndGoes: with the interfaces that are
// possible, all of them where there are several.
func TestNetnsRoutes_SayWhereAFlowComesAndGoes(t *testing.T) {
	b := newBed(t)
	for _, args := range []string{
		"addr add fe80::1/64 dev eth0 nodad",
		"addr add fe80::2/64 dev eth1 nodad",
		"route add 192.168.1.0/24 nexthop via " + client4 + " nexthop via " + server4,
		"-6 route add fd99::/64 nexthop via " + client6 + " dev eth0 nexthop via " + server6 + " dev eth1",
		"route add blackhole 192.168.2.0/24",
		"-6 route add unreachable fd98::/64",
		"route add local 192.168.3.0/24 dev lo",
	} {
		b.host.Run("sh", "-c", "ip "+args)
	}
	look := func() { b.host.MustDo(b.part.routes.forget) }
	// The kernel lists link-local addresses when it has come to it.
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		look()
		if placed(b, "fe80::2", "fe80::99", "") == "from host [][eth1]" && placed(b, "fe80::99", "fe80::1", "") == "to host [eth0][]" || time.Now().After(end) {
			break
		}
	}
	for _, c := range []struct{ src, dst, newDst, want string }{
		{client4, host4, "", "to host [eth0][]"},
		{client6, host6, "", "to host [eth0][]"},
		{client4, back4, "", "to host [eth0][]"}, // whatever address it uses
		{client4, "192.168.3.7", "", "to host [eth0][]"},
		{host4, client4, "", "from host [][eth0]"},
		{host6, server6, "", "from host [][eth1]"},
		{"127.0.0.1", "127.0.0.1", "", "looped [][]"},
		{host4, back4, "", "looped [][]"},
		{"::1", host6, "", "looped [][]"},
		{client4, server4, "", "forwarded [eth0][eth1]"},
		{server6, client6, "", "forwarded [eth1][eth0]"},
		{client4, host4, server4, "forwarded [eth0][eth1]"},
		{host4, "9.9.9.9", server4, "from host [][eth1]"},
		{client4, server4, host4, "to host [eth0][]"},
		// several ways
		{"192.168.1.5", host4, "", "to host [eth0 eth1][]"},
		{"fd99::5", host6, "", "to host [eth0 eth1][]"},
		{host4, "192.168.1.5", "", "from host [][eth0 eth1]"},
		{host6, "fd99::5", "", "from host [][eth0 eth1]"},
		{client4, "192.168.1.5", "", "forwarded [eth0][eth0 eth1]"},
		// no way: a source may be on any interface, a destination on none
		{"192.168.2.5", host4, "", "to host [eth0 eth1][]"},
		{"203.0.113.5", host4, "", "to host [eth0 eth1][]"},
		{"fd98::5", host6, "", "to host [eth0 eth1][]"},
		{client4, "192.168.2.5", "", "nowhere"},
		{host4, "203.0.113.5", "", "nowhere"},
		{"203.0.113.5", server4, "", "forwarded [eth0 eth1][eth1]"},
		// link-local: the link of the host's own address
		{"fe80::99", "fe80::1", "", "to host [eth0][]"},
		{"fe80::99", "fe80::2", "", "to host [eth1][]"},
		{"fe80::2", "fe80::99", "", "from host [][eth1]"},
		// everybody
		{client4, "224.0.0.251", "", "to host [eth0][]"},
		{client4, "255.255.255.255", "", "to host [eth0][]"},
		{client4, "10.1.0.255", "", "to host [eth0][]"},
		{"fe80::99", "ff02::fb", "", "to host [eth0 eth1][]"},
		{host4, "224.0.0.251", "", "from host [][eth0]"},
		{"fe80::2", "ff02::fb", "", "from host [][eth1]"},
		{"0.0.0.0", "255.255.255.255", "", "from host [][eth0 eth1]"},
	} {
		if got := placed(b, c.src, c.dst, c.newDst); got != c.want {
			t.Errorf("%s to %s (%s): %s, want %s", c.src, c.dst, c.newDst, got, c.want)
		}
	}

	// Routing rules by source and by input interface.
	for _, args := range []string{
		"route add default via " + server4 + " table 100",
		"rule add from " + host4 + " lookup 100",
		"route add 198.51.100.0/24 via " + server4 + " table 101",
		"route add 198.51.100.0/24 via " + client4,
		"rule add iif eth0 lookup 101",
	} {
		b.host.Run("sh", "-c", "ip "+args)
	}
	look()
	for _, c := range []struct{ src, dst, want string }{
		{host4, "203.0.113.5", "from host [][eth1]"},
		{host4, "198.51.100.5", "from host [][eth1]"},
		{back4, "198.51.100.5", "from host [][eth0]"},
		{client4, "198.51.100.5", "forwarded [eth0][eth1]"},
		{server4, "198.51.100.5", "forwarded [eth1][eth0]"},
	} {
		if got := placed(b, c.src, c.dst, ""); got != c.want {
			t.Errorf("with rules, %s to %s: %s, want %s", c.src, c.dst, got, c.want)
		}
	}
}

// TestNetnsRoutes_AreAskedForOnceForAddressesThatNoRouteTellsApart: after many
// questions the answers are the kernel's own still, and few of them are asked.
func TestNetnsRoutes_AreAskedForOnceForAddressesThatNoRouteTellsApart(t *testing.T) {
	b := newBed(t)
	for _, args := range []string{
		"route add 100.0.0.0/9 via " + client4, "route add 100.0.64.0/18 via " + server4, "route add 100.0.64.7/32 via " + client4,
		"route add unreachable 100.0.65.0/24", "route add local 100.0.66.0/24 dev lo",
		"route add 100.0.80.0/24 nexthop via " + client4 + " nexthop via " + server4,
		"-6 route add fd64::/32 via " + client6, "-6 route add fd64:0:0:1::/64 via " + server6, "-6 route add blackhole fd64:0:0:2::/64",
	} {
		b.host.Run("sh", "-c", "ip "+args)
	}
	r := b.part.routes
	b.host.MustDo(func() error {
		if err := r.forget(); err != nil {
			return err
		}
		for i := range 6000 {
			a := netip.AddrFrom4([4]byte{100, byte(i % 2 * 128), byte(60 + i/2%30), byte(i / 60)})
			if i%3 == 0 {
				a = netip.MustParseAddr(fmt.Sprintf("fd%d::%d:0:0:%x", 64+i/3%2, i/6%4, i))
			}
			got, err := r.ask(question{to: a})
			if err != nil {
				return err
			}
			want, err := r.lookUp(question{to: a})
			if err != nil {
				return err
			}
			if !reflect.DeepEqual(got, want) {
				return fmt.Errorf("%s: said to be at %+v, the kernel has it at %+v", a, got, want)
			}
		}
		return nil
	})
	if n := len(r.known) + len(r.alike); n > listingPays+20 {
		t.Errorf("the kernel was asked %d times, want at most %d", n, listingPays+20)
	}
}
