// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

func TestCut_IsWhatPassedAndWouldNotAnyMore(t *testing.T) {
	everything := []string{api.DefaultAllowProfile}
	endpoint := func(name, iface string) api.Object {
		return &api.HostEndpoint{Meta: api.Meta{Name: name, Labels: map[string]string{"role": "db"}}, Spec: api.HostEndpointSpec{Node: "db1", InterfaceName: iface, Profiles: everything}}
	}
	objs := []api.Object{endpoint("a", "eth0"), endpoint("b", "eth1"), &api.Tier{Meta: api.Meta{Name: "default"}},
		&api.GlobalNetworkPolicy{Meta: api.Meta{Name: "z"}, Spec: api.PolicySpec{Selector: "all()", ApplyOnForward: true, Types: []api.PolicyType{api.Ingress, api.Egress},
			Ingress: []api.Rule{tcpPort(api.Deny, api.EntityRule{}, 99), {Action: api.Allow}}, Egress: []api.Rule{{Action: api.Allow}}}}}
	order := 1.0
	deny := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: "cut"}, Spec: api.PolicySpec{Order: &order, Selector: "role == 'db'", ApplyOnForward: true, Types: []api.PolicyType{api.Ingress},
		Ingress: []api.Rule{tcpPort(api.Deny, api.EntityRule{}, 99), tcpPort(api.Deny, api.EntityRule{}, 5432), {Action: api.Deny, Protocol: &api.Protocol{Name: "ICMPv6"}}}}}
	on := func(way, from, to string, in, out []string) api.Connection {
		a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
		return api.Connection{Way: way, Protocol: tcp, Source: a.Addr(), SourcePort: a.Port(), Destination: b.Addr(), DestinationPort: b.Port(), In: in, Out: out}
	}
	eth0, eth1, eth2 := []string{"eth0"}, []string{"eth1"}, []string{"eth2"}
	dialled := on("inbound", "192.0.2.8:51000", "10.0.0.5:5432", eth0, nil)
	dialled.Dialled = netip.MustParseAddrPort("10.0.0.1:80")
	ping := api.Connection{Way: "inbound", Protocol: icmpv6, ICMPType: 128, Source: netip.MustParseAddr("fd00::9"), Destination: netip.MustParseAddr("fd00::5"), In: eth0}
	list := []api.Connection{
		on("inbound", "192.0.2.7:51000", "10.0.0.5:5432", eth0, nil),
		dialled,
		on("inbound", "[fd00::9]:51000", "[fd00::5]:5432", eth1, nil),
		ping,
		on("forwarded", "192.0.2.7:51001", "10.1.0.5:5432", eth1, eth2),
		on("inbound", "192.0.2.7:51000", "10.0.0.5:22", eth0, nil),                       // still allowed
		on("inbound", "192.0.2.7:51000", "10.0.0.5:99", eth0, nil),                       // never was
		on("inbound", "192.0.2.7:51000", "10.0.0.5:5432", eth2, nil),                     // not governed
		on("inbound", "192.0.2.7:51002", "10.0.0.5:5432", []string{"eth0", "eth2"}, nil), // perhaps not
		on("outbound", "10.0.0.5:51000", "192.0.2.7:5432", nil, eth0),
		on("local", "10.0.0.5:51000", "10.0.0.5:5432", nil, nil),
	}
	o := policy.Options{}
	with := func(more ...api.Object) Picture {
		all := append(slices.Clone(objs), more...)
		return Picture{all, policy.NewWorld(all, o)}
	}
	before, after := with(), with(deny)
	cut := Cut(before, after, api.Connections{Host: "db1", Interfaces: map[string][]netip.Addr{"eth0": nil}, Connections: list})
	want := "would cut: 5 connections of this host: tcp 192.0.2.7:51000 -> 10.0.0.5:5432, tcp 192.0.2.8:51000 -> 10.0.0.5:5432 (dialled as 10.0.0.1:80), " +
		"tcp [fd00::9]:51000 -> [fd00::5]:5432, icmpv6 fd00::9 -> fd00::5, tcp 192.0.2.7:51001 -> 10.1.0.5:5432"
	if diff := cmp.Diff(want, CutLine(cut, 0)); diff != "" {
		t.Errorf("CutLine (-want +got):\n%s", diff)
	}
	if got := Cut(before, before, api.Connections{Host: "db1", Connections: list}); len(got) > 0 {
		t.Errorf("without a change %v would be cut", got)
	}
	// What keeps established flows cuts none.
	keep := map[string]string{api.AnnotationEstablishedFlows: "keep"}
	keeping := *deny
	keeping.Annotations = keep
	host := &api.FelixConfiguration{Meta: api.Meta{Name: "node.db1", Annotations: keep}}
	everywhere := &api.FelixConfiguration{Meta: api.Meta{Name: "default", Annotations: keep}}
	not := &api.FelixConfiguration{Meta: api.Meta{Name: "node.db1", Annotations: map[string]string{api.AnnotationEstablishedFlows: "Cut"}}}
	elsewhere := &api.FelixConfiguration{Meta: api.Meta{Name: "node.db2", Annotations: keep}}
	end := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: "end", Annotations: keep}, Spec: api.PolicySpec{Tier: "first", Selector: "role == 'db'",
		Types: []api.PolicyType{api.Ingress}, Ingress: []api.Rule{tcpPort(api.Allow, api.EntityRule{}, 22)}}}
	also := *end
	also.Name, also.Annotations = "also", nil
	tier := &api.Tier{Meta: api.Meta{Name: "first"}, Spec: api.TierSpec{Order: &order}}
	for _, c := range []struct {
		name string
		more []api.Object
		want int
	}{
		{"the policy keeps them", []api.Object{&keeping}, 0},
		{"the host does", []api.Object{deny, host}, 0},
		{"all hosts do", []api.Object{deny, everywhere}, 0},
		{"all hosts but this one do", []api.Object{deny, everywhere, not}, 5},
		{"another host does", []api.Object{deny, elsewhere}, 5},
		{"the end of a tier does", []api.Object{tier, end}, 0},
		{"the end of a tier does not for all its policies", []api.Object{tier, end, &also}, 4},
	} {
		if got := Cut(before, with(c.more...), api.Connections{Host: "db1", Connections: list}); len(got) != c.want {
			t.Errorf("%s: %d would be cut, want %d: %s", c.name, len(got), c.want, CutLine(got, 0))
		}
	}
	var many []api.Connection
	for range 3000 {
		many = append(many, list[0])
	}
	got := CutLine(Cut(before, after, api.Connections{Host: "db1", Connections: many}), 5)
	if !strings.HasPrefix(got, "would cut: 3000 connections of this host: tcp") || !strings.HasSuffix(got, "5432 and 2990 more; 5 more connections were not looked at") || strings.Count(got, "->") != 10 {
		t.Errorf("CutLine of many: %s", got)
	}
	if got := CutLine(nil, 0); got != "would cut: no connection of this host" {
		t.Errorf("CutLine of none: %s", got)
	}
}
