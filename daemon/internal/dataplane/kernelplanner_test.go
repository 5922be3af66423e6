// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

func kernelPlanOf(changes ...intent.Change) kernel.State {
	s := kernel.State{}
	p := NewKernelPlanner(s)
	for _, c := range changes {
		p.Note(c)
	}
	p.Flush()
	return s
}

func link(name string, index int, up, running bool) intent.Change {
	return intent.Change{
		Key:   intent.Key{Kind: intent.KindInterface, Name: name},
		Value: &intent.Interface{Index: index, Up: up, Running: running},
	}
}

func workloadOn(name, iface string, ep intent.WorkloadEndpoint, addrs ...string) intent.Change {
	ep.Interface = iface
	for _, a := range addrs {
		ep.Addrs = append(ep.Addrs, netip.MustParseAddr(a))
	}
	return intent.Change{Key: intent.Key{Kind: intent.KindWorkloadEndpoint, Name: name}, Value: &ep}
}

func TestKernelPlanner_PlansForAnEndpointWhoseInterfaceIsUp(t *testing.T) {
	plain := intent.WorkloadEndpoint{}
	w1 := workloadOn("w1", "cali1", plain, "10.65.0.1", "fd65::1")
	const link4 = `sysctl net/ipv4/conf/cali1/forwarding = 1
sysctl net/ipv4/conf/cali1/proxy_arp = 1
sysctl net/ipv4/conf/cali1/rp_filter as net/ipv4/conf/default/rp_filter
sysctl net/ipv4/neigh/cali1/proxy_delay = 0
`
	const link6 = `sysctl net/ipv6/conf/cali1/accept_ra = 0
sysctl net/ipv6/conf/cali1/forwarding = 1
sysctl net/ipv6/conf/cali1/proxy_ndp = 1
`
	const routes = `route 10.65.0.1 dev cali1 (7)
route fd65::1 dev cali1 (7)
local 169.254.1.1
`
	const hostwide = `sysctl net/ipv4/ip_forward = 1 (kept)
sysctl net/ipv6/conf/all/forwarding = 1 (kept)
`
	for _, c := range []struct {
		name string
		in   []intent.Change
		want string
	}{
		{"both families", []intent.Change{w1, link("cali1", 7, true, true)}, routes + hostwide + link4 + link6},
		{"no carrier", []intent.Change{w1, link("cali1", 7, true, false)}, routes + hostwide + link4 + link6},
		{"down", []intent.Change{w1, link("cali1", 7, false, false)}, ""},
		{"no interface yet", []intent.Change{w1, link("cali2", 7, true, true)}, ""},
		{"interface without an endpoint", []intent.Change{settingsOf(intent.Settings{WorkloadPrefixes: []string{"cali"}, RemoveExternalRoutes: true}), link("cali1", 7, true, true)}, ""},
		{"endpoint without an address", []intent.Change{workloadOn("w1", "cali1", plain), link("cali1", 7, true, true)}, ""},
		{
			"IPv4 alone makes no IPv6 router", []intent.Change{workloadOn("w1", "cali1", plain, "10.65.0.1"), link("cali1", 7, true, true)},
			"route 10.65.0.1 dev cali1 (7)\nlocal 169.254.1.1\nsysctl net/ipv4/ip_forward = 1 (kept)\n" + link4 + "sysctl net/ipv6/conf/cali1/accept_ra = 0\n",
		},
		{
			"IPv6 alone makes no IPv4 router", []intent.Change{workloadOn("w1", "cali1", plain, "fd65::1"), link("cali1", 7, true, true)},
			"route fd65::1 dev cali1 (7)\nsysctl net/ipv6/conf/all/forwarding = 1 (kept)\n" + link6,
		},
		{
			"no forwarding of the host", []intent.Change{w1, link("cali1", 7, true, true), settingsOf(intent.Settings{NoForwarding: true})},
			routes + link4 + link6,
		},
		{
			"no routes", []intent.Change{w1, link("cali1", 7, true, true), settingsOf(intent.Settings{NoRoutes: true, RemoveExternalRoutes: true})},
			hostwide + link4 + link6,
		},
		{
			"routes of others go", []intent.Change{w1, link("cali1", 7, true, true), settingsOf(intent.Settings{RemoveExternalRoutes: true})},
			routes + "guard routes dev cali1 (7)\n" + hostwide + link4 + link6,
		},
		{
			"sources", []intent.Change{w1, link("cali1", 7, true, true), settingsOf(intent.Settings{DeviceRouteSourceAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}})},
			"route 10.65.0.1 dev cali1 (7) src 192.0.2.1\nroute fd65::1 dev cali1 (7) src 2001:db8::1\nlocal 169.254.1.1\n" + hostwide + link4 + link6,
		},
		{
			"link address", []intent.Change{workloadOn("w1", "cali1", intent.WorkloadEndpoint{MAC: [6]byte{2, 0, 0, 0, 0, 9}}, "10.65.0.1", "fd65::1"), link("cali1", 7, true, true)},
			routes + "neighbour 10.65.0.1 lladdr 02:00:00:00:00:09 dev cali1 (7)\nneighbour fd65::1 lladdr 02:00:00:00:00:09 dev cali1 (7)\n" + hostwide + link4 + link6,
		},
		{
			"more sources than its own", []intent.Change{workloadOn("w1", "cali1", intent.WorkloadEndpoint{AllowedSources: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, "10.65.0.1", "fd65::1"), link("cali1", 7, true, true)},
			routes + hostwide + strings.Replace(link4, "rp_filter as net/ipv4/conf/default/rp_filter", "rp_filter = 0", 1) + link6,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, kernelPlanOf(c.in...).String()); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKernelPlanner_ChoosesOneOfTwoInterfacesWithOneAddress(t *testing.T) {
	a := workloadOn("a", "cali1", intent.WorkloadEndpoint{}, "10.65.0.1")
	b := workloadOn("b", "cali2", intent.WorkloadEndpoint{}, "10.65.0.1")
	for _, c := range []struct {
		name string
		in   []intent.Change
		want string
	}{
		{"the higher index", []intent.Change{a, b, link("cali1", 9, true, true), link("cali2", 8, true, true)}, "cali1 (9)"},
		{"the other way round", []intent.Change{a, b, link("cali1", 9, true, true), link("cali2", 10, true, true)}, "cali2 (10)"},
		{"the one with a carrier", []intent.Change{a, b, link("cali1", 9, true, true), link("cali2", 10, true, false)}, "cali1 (9)"},
		{"the one that is up", []intent.Change{a, b, link("cali1", 9, true, false), link("cali2", 10, false, false)}, "cali1 (9)"},
		{"the lower name on one interface", []intent.Change{a, workloadOn("c", "cali1", intent.WorkloadEndpoint{}, "10.65.0.2"), link("cali1", 9, true, true)}, "cali1 (9)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := kernelPlanOf(c.in...).String()
			if !strings.Contains(got, "route 10.65.0.1 dev "+c.want) || strings.Count(got, "route ") != 1 {
				t.Errorf("plan:\n%s\nwant one route, by %s", got, c.want)
			}
			if n := strings.Count(got, "proxy_arp"); n != 1 {
				t.Errorf("plan:\n%s\nwant proxy ARP on the interface that has the address, and there alone", got)
			}
		})
	}
}

// TestKernelPlanner_PathDoesNotMatter: whatever was said before, in whatever
// order, the plan is that of what is so now; and what is passed on step by
// step adds up to it.
func TestKernelPlanner_PathDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	random := func() intent.Change {
		one := func(list ...string) string { return list[r.IntN(len(list))] }
		switch r.IntN(6) {
		case 0:
			return settingsOf(intent.Settings{NoRoutes: r.IntN(4) == 0, NoForwarding: r.IntN(3) == 0, RemoveExternalRoutes: r.IntN(2) == 0})
		case 1:
			return intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: one("cali1", "cali2", "cali3")}}
		case 2, 3:
			name := one("cali1", "cali2", "cali3") // no two have one index
			return link(name, 3*(1+r.IntN(5))+int(name[4]-'1'), r.IntN(4) > 0, r.IntN(4) > 0)
		case 4:
			return intent.Change{Key: intent.Key{Kind: intent.KindWorkloadEndpoint, Name: one("a", "b", "c")}}
		}
		ep := intent.WorkloadEndpoint{}
		if r.IntN(2) == 0 {
			ep.MAC = [6]byte{2, 0, 0, 0, 0, byte(r.IntN(3))}
		}
		return workloadOn(one("a", "b", "c"), one("cali1", "cali2", "cali3"), ep, one("10.0.0.1", "10.0.0.2"), one("fd00::1", "fd00::2"))
	}
	for range 300 {
		said := map[intent.Key]intent.Change{}
		s := kernel.State{}
		p := NewKernelPlanner(s)
		for range 40 {
			c := random()
			p.Note(c)
			said[c.Key] = c
			if r.IntN(3) == 0 {
				p.Flush()
			}
		}
		p.Flush()
		var fresh []intent.Change
		for _, c := range said {
			if c.Key.Kind == intent.KindSettings || c.Value != nil {
				fresh = append(fresh, c)
			}
		}
		if diff := cmp.Diff(kernelPlanOf(fresh...).String(), s.String()); diff != "" {
			t.Fatalf("plan after a history (-fresh +got):\n%s", diff)
		}
	}
}

// BenchmarkKernelPlanner_OneOfAThousand plans after a change of one endpoint.
func BenchmarkKernelPlanner_OneOfAThousand(b *testing.B) {
	p := NewKernelPlanner(kernel.State{})
	for i := range 1000 {
		name := fmt.Sprintf("cali%d", i)
		p.Note(link(name, 10+i, true, true))
		p.Note(workloadOn(name, name, intent.WorkloadEndpoint{}, fmt.Sprintf("10.65.%d.%d", i/250, i%250)))
	}
	p.Flush()
	for i := 0; b.Loop(); i++ {
		p.Note(workloadOn("cali7", "cali7", intent.WorkloadEndpoint{}, fmt.Sprintf("10.66.0.%d", i%250)))
		p.Flush()
	}
}
