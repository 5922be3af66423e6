// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// workloadInterfaces of the host: of the first two any endpoint may be the
// governor, tap1 has no workload's prefix.
var workloadInterfaces = []string{"cali1", "cali2", "tap1"}

// Addresses of workloads are on the borders of nets.
var (
	workloadAddrs4 = []string{"10.0.0.9/32", "10.1.2.0/32", "192.168.0.1/32", "10.0.0.2/32", "128.0.0.0/32"}
	workloadAddrs6 = []string{"fd00::9/128", "2001:db8::2/128", "fd01::/128", "8000::/128"}
)

// workloads makes endpoints of workloads here and in h2; some claim the same
// interface, have no address, or ask for more than the configuration allows.
func (g generator) workloads(add func(api.Object)) {
	one := func(node, iface string, i int) {
		w := &api.WorkloadEndpoint{TypeMeta: head(api.KindWorkloadEndpoint), Meta: api.Meta{Namespace: pick(g.Rand, "prod", "prod", "dev"), Labels: g.labels()}}
		w.Spec.Node, w.Spec.Orchestrator, w.Spec.Pod, w.Spec.Endpoint = node, "k8s", fmt.Sprintf("pod%d", i), "eth0"
		w.Spec.InterfaceName = iface
		w.Spec.IPNetworks = []string{pick(g.Rand, workloadAddrs4...), pick(g.Rand, workloadAddrs6...)}
		switch g.IntN(12) {
		case 0:
			w.Spec.IPNetworks = nil
		case 1:
			w.Spec.IPNetworks = w.Spec.IPNetworks[1:]
		}
		w.Spec.Profiles = pick(g.Rand, nil, []string{"pr"}, []string{"kns.prod"}, []string{"pr", "projectcalico-default-allow"}, []string{"projectcalico-default-allow"}, []string{"missing"})
		w.Spec.ServiceAccountName = pick(g.Rand, "", "sa", "other")
		if chance(g.Rand, 50) {
			w.Spec.Ports = []api.WorkloadPort{{Name: "web", Protocol: *named("TCP"), Port: 80}}
		}
		if chance(g.Rand, 15) {
			w.Spec.AllowSpoofedSourcePrefixes = []string{pick(g.Rand, "10.1.0.0/16", "10.0.0.0/24", "fd00::/64", "::/0")}
		}
		if g.broken && chance(g.Rand, 20) {
			w.Spec.IPNetworks = pick(g.Rand, []string{"10.0.0.0/24"}, []string{"10.0.0.0/24", "10.0.0.9/32"}, []string{"nonsense", "fd00::9"})
		}
		w.Name = w.ComputedName()
		add(w)
	}
	for i := range pick(g.Rand, 0, 1, 2, 2, 3, 4) {
		one(here, pick(g.Rand, "cali1", "cali1", "cali1", "cali2", "cali2", "tap1", "eth1"), i)
	}
	if chance(g.Rand, 30) {
		one("h2", "cali9", 9)
	}
}

// settingsOfWorkloads fills in what is about workloads.
func (g generator) settingsOfWorkloads(f *api.FelixConfigurationSpec) {
	f.DefaultEndpointToHostAction = pick(g.Rand, "", "Drop", "Accept", "Accept", "Return")
	f.WorkloadSourceSpoofing = pick(g.Rand, "", "Any", "Any", "Disabled")
	if chance(g.Rand, 30) {
		f.VXLANPort = ptr(pick(g.Rand, 80, 1000, 4789))
	}
	if chance(g.Rand, 30) {
		f.AllowVXLANPacketsFromWorkloads = ptr(chance(g.Rand, 50))
	}
	if chance(g.Rand, 30) {
		f.AllowIPIPPacketsFromWorkloads = ptr(chance(g.Rand, 50))
	}
	if g.broken && chance(g.Rand, 30) {
		f.DefaultEndpointToHostAction = pick(g.Rand, "Maybe", "accept", "RETURN")
		f.WorkloadSourceSpoofing = pick(g.Rand, "Some", "any")
		f.VXLANPort = ptr(pick(g.Rand, 0, 70000))
	}
}

// sendAsWorkload gives most of the packets that come in by a workload's
// interface an address of a workload there, and many of those that go out by
// one such a destination.
func (g generator) sendAsWorkload(p *probe, objs []api.Object) {
	k := &p.packet
	address := func(iface string) netip.Addr {
		var all []netip.Addr
		for _, o := range objs {
			w, ok := o.(*api.WorkloadEndpoint)
			if !ok || w.Spec.Node != here || w.Spec.InterfaceName != iface {
				continue
			}
			for _, text := range append(append([]string(nil), w.Spec.IPNetworks...), w.Spec.AllowSpoofedSourcePrefixes...) {
				if n, err := netip.ParsePrefix(text); err == nil && n.Addr().Is4() == k.Src.Is4() {
					all = append(all, n.Addr())
				}
			}
		}
		if len(all) == 0 {
			return netip.Addr{}
		}
		return pick(g.Rand, all...)
	}
	if a := address(k.In); a.IsValid() && chance(g.Rand, 80) {
		k.Src = a
	}
	if a := address(k.Out); a.IsValid() && p.hook == ruleset.HookForward && chance(g.Rand, 40) {
		k.Dst = a
	}
	switch {
	case chance(g.Rand, 97):
	case k.Src.Is4():
		k.Src, k.Protocol, k.SrcPort, k.DstPort = addr("0.0.0.0"), 17, pick[uint16](g.Rand, 68, 69), pick[uint16](g.Rand, 67, 68)
	default:
		k.Src = pick(g.Rand, addr("::"), addr("fe80::1"), addr("fe80::1"))
	}
	if chance(g.Rand, 1) {
		a := map[bool]netip.Addr{true: addr("127.0.0.1"), false: addr("::1")}[k.Src.Is4()]
		*pick(g.Rand, &k.Src, &k.Dst) = a
	}
}

// dial gives a packet whose destination is rewritten the destination that it
// had before. What the host has itself is none: see policy.Flow.
func (g generator) dial(p *probe) {
	k := &p.packet
	if !k.DNATed {
		return
	}
	for {
		a := pick(g.Rand, bordersOf(k.Dst)...)
		port := uint16(0)
		if ruleset.HasPorts(k.Protocol) {
			port = pick(g.Rand, append([]uint16{30000, 30001, 30002}, borderPorts...)...)
		}
		if a != k.Dst && !ownAddress(a) {
			p.dialled = netip.AddrPortFrom(a, port)
			return
		}
	}
}

func ownAddress(a netip.Addr) bool {
	for _, addrs := range interfaces {
		for _, own := range addrs {
			if own == a {
				return true
			}
		}
	}
	return a.IsLoopback()
}

// published are destinations for a picture that dialled ports lead to.
func (g generator) published(objs []api.Object) []netip.AddrPort {
	var out []netip.AddrPort
	for tries := 0; len(out) < 8 && tries < 1000; tries++ {
		k := g.probeOf(objs).packet
		to := netip.AddrPortFrom(k.Dst, k.DstPort)
		if ruleset.HasPorts(k.Protocol) && k.DstPort != 0 && routable(k.Dst) && !ownAddress(k.Dst) && !slices.Contains(out, to) {
			out = append(out, to)
		}
	}
	return out
}
