// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// office is a small fleet: web and db hosts, an office and its net.
func office() []api.Object {
	var objs []api.Object
	for i, role := range []string{"web", "web", "web", "db", "office", "office"} {
		objs = append(objs, &api.HostEndpoint{
			Meta: api.Meta{Name: fmt.Sprint(role, i+1), Labels: map[string]string{"role": role}},
			Spec: api.HostEndpointSpec{Node: fmt.Sprint(role, i+1), InterfaceName: "*", ExpectedIPs: []string{fmt.Sprint("10.0.0.", i+1), fmt.Sprint("fd00::", i+1)}},
		})
	}
	order := 100.0
	return append(objs,
		&api.Tier{Meta: api.Meta{Name: "default"}, Spec: api.TierSpec{Order: &order, DefaultAction: api.Deny}},
		&api.GlobalNetworkSet{Meta: api.Meta{Name: "bureau", Labels: map[string]string{"role": "bureau"}}, Spec: api.NetworkSetSpec{Nets: []string{"198.51.100.0/24"}}},
		allow("allow-out", "all()", api.Egress, api.Rule{Action: api.Allow}),
		allow("allow-web", "role == 'web'", api.Ingress, api.Rule{Action: api.Allow, Protocol: &api.Protocol{Name: "TCP"},
			Source: api.EntityRule{Selector: "role in {'office', 'bureau'}"}, Destination: api.EntityRule{Ports: []api.Port{api.SinglePort(443)}}}),
		allow("allow-db", "role == 'db'", api.Ingress, api.Rule{Action: api.Allow, Protocol: &api.Protocol{Name: "TCP"},
			Source: api.EntityRule{Selector: "role == 'web'"}, Destination: api.EntityRule{Ports: []api.Port{api.SinglePort(5432)}}}),
	)
}

func allow(name, selector string, direction api.PolicyType, rules ...api.Rule) *api.GlobalNetworkPolicy {
	p := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: name}, Spec: api.PolicySpec{Tier: "default", Selector: selector, Types: []api.PolicyType{direction}}}
	if direction == api.Ingress {
		p.Spec.Ingress = rules
	} else {
		p.Spec.Egress = rules
	}
	return p
}

func tcpPort(action api.Action, source api.EntityRule, port uint16) api.Rule {
	return api.Rule{Action: action, Protocol: &api.Protocol{Name: "TCP"}, Source: source, Destination: api.EntityRule{Ports: []api.Port{api.SinglePort(port)}}}
}

// with is the objects with others in them, in place of those of the same name,
// and without some.
func with(objs []api.Object, gone string, more ...api.Object) []api.Object {
	var out []api.Object
	for _, o := range objs {
		replaced := o.Key().Name == gone
		for _, m := range more {
			replaced = replaced || m.Key() == o.Key()
		}
		if !replaced {
			out = append(out, o)
		}
	}
	return append(out, more...)
}

func said(before, after []api.Object) string {
	o := policy.Options{FailsafeInbound: []policy.Failsafe{{Protocol: tcp, Port: 22}}, FailsafeOutbound: []policy.Failsafe{}}
	return strings.Join(Of(Picture{before, policy.NewWorld(before, o)}, Picture{after, policy.NewWorld(after, o)}).Lines(), "\n")
}

func TestLines_SayWhatAChangeMeans(t *testing.T) {
	fleet := office()
	for _, c := range []struct {
		name          string
		before, after []api.Object
		want          string
	}{
		{"nothing", fleet, fleet, "nobody gains or loses access"},
		{"a rule more", fleet, with(fleet, "", allow("allow-web", "role == 'web'", api.Ingress,
			tcpPort(api.Allow, api.EntityRule{Selector: "role in {'office', 'bureau'}"}, 443), tcpPort(api.Allow, api.EntityRule{}, 80))), `gains: all -> tcp 80 of hosts web1, web2 and web3, by allow-web (rule 2)`},
		{"a rule less", fleet, with(fleet, "", allow("allow-web", "role == 'web'", api.Ingress)), `loses: 2 hosts and 1 set (role in {'office', 'bureau'}) -> tcp 443 of hosts web1, web2 and web3, as no rule of tier default allows it`},
		{"a deny before all", fleet, with(fleet, "", allow("a-deny-db", "role == 'db'", api.Ingress, tcpPort(api.Deny, api.EntityRule{}, 5432))), `loses: 3 hosts (role == 'web') -> tcp 5432 of host db4, by a-deny-db (rule 1)`},
		{"a set that grows", fleet, with(fleet, "", &api.GlobalNetworkSet{Meta: api.Meta{Name: "bureau", Labels: map[string]string{"role": "bureau"}},
			Spec: api.NetworkSetSpec{Nets: []string{"198.51.100.0/24", "203.0.113.0/28"}}}), `gains: 203.0.113.0/28 -> tcp 443 of hosts web1, web2 and web3, by allow-web (rule 1)`},
		{"a host of another role", fleet, with(fleet, "", &api.HostEndpoint{Meta: api.Meta{Name: "office6", Labels: map[string]string{"role": "web"}},
			Spec: api.HostEndpointSpec{Node: "office6", InterfaceName: "*", ExpectedIPs: []string{"10.0.0.6", "fd00::6"}}}), `gains: host office6 -> tcp 5432 of host db4, by allow-db (rule 1)
gains: 1 host and 1 set (role in {'office', 'bureau'}) -> tcp 443 of host office6, by allow-web (rule 1)
loses: host office6 -> tcp 443 of hosts web1, web2 and web3, as no rule of tier default allows it`},
		{"the first endpoint of a host", fleet, with(fleet, "", &api.HostEndpoint{Meta: api.Meta{Name: "new"},
			Spec: api.HostEndpointSpec{Node: "new", InterfaceName: "eth0"}}), `loses: all -> everything but tcp 22 and icmpv6 type 130-132,134-136,143 of host new eth0, as no policy or profile allows it`},
		{"six nets, each told", fleet, with(fleet, "", &api.GlobalNetworkSet{Meta: api.Meta{Name: "bureau", Labels: map[string]string{"role": "bureau"}},
			Spec: api.NetworkSetSpec{Nets: []string{"198.51.100.0/24", "203.0.113.0/32", "203.0.113.2/32", "203.0.113.4/32", "203.0.113.6/32", "203.0.113.8/32", "203.0.113.10/32"}}}),
			`gains: 203.0.113.0, 203.0.113.2, 203.0.113.4, 203.0.113.6, 203.0.113.8 and 203.0.113.10 -> tcp 443 of hosts web1, web2 and web3, by allow-web (rule 1)`},
		{"a policy of a namespace that selects nothing", fleet, with(fleet, "", &api.NetworkPolicy{Meta: api.Meta{Namespace: "prod", Name: "typo"},
			Spec: api.PolicySpec{Tier: "default", Selector: "role == 'web'", Types: []api.PolicyType{api.Ingress}}}), `nobody gains or loses access
selects nothing: prod/typo`},
		{"a policy that selects nothing", fleet, with(fleet, "", allow("typo", "role == 'wbe'", api.Ingress, api.Rule{Action: api.Allow})), `nobody gains or loses access
selects nothing: typo: no endpoint has role == 'wbe'`},
		{"what is sent", fleet, with(fleet, "allow-out", allow("allow-out", "role != 'db'", api.Egress, api.Rule{Action: api.Allow}),
			allow("db-out", "role == 'db'", api.Egress, tcpPort(api.Allow, api.EntityRule{}, 53))), `loses: host db4 -> everything but tcp 53 and icmpv6 type 131-133,135-136,143 of all, as no rule of tier default allows it`},
		{"a container that may not send mail", with(fleet, "", container()), with(fleet, "", container(),
			allow("a-containers", "app == 'shop'", api.Egress, tcpPort(api.Deny, api.EntityRule{}, 25))), `loses: workload prod/shop -> tcp 25 of all IPv4, by a-containers (rule 1)`},
		{"what a router forwards", fleet, with(fleet, "", forwarding()), `gains: 192.0.2.0/24 -> tcp 80 of hosts office5 and office6, by forward (rule 1)
loses: all but 192.0.2.0/24 -> everything of all, forwarded through hosts office5 and office6, as no rule of tier default allows it
loses: 192.0.2.0/24 -> everything but tcp 80 of all, forwarded through hosts office5 and office6, as no rule of tier default allows it`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, said(c.before, c.after)); diff != "" {
				t.Errorf("Lines (-want +got):\n%s", diff)
			}
		})
	}
}

func container() api.Object {
	return &api.WorkloadEndpoint{Meta: api.Meta{Namespace: "prod", Name: "shop", Labels: map[string]string{"app": "shop"}},
		Spec: api.WorkloadEndpointSpec{Node: "web1", InterfaceName: "cali1", IPNetworks: []string{"10.9.0.2/32"}, Profiles: []string{api.DefaultAllowProfile}}}
}

func forwarding() api.Object {
	p := allow("forward", "role == 'office'", api.Ingress, tcpPort(api.Allow, api.EntityRule{Nets: []string{"192.0.2.0/24"}}, 80))
	p.Spec.ApplyOnForward = true
	return p
}

func TestLines_SayWhatWasNotLookedAt(t *testing.T) {
	objs := []api.Object{&api.Tier{Meta: api.Meta{Name: "default"}}}
	for i := range mostClasses + 40 { // each with a policy of its own
		name := fmt.Sprint("h", i)
		objs = append(objs, &api.HostEndpoint{Meta: api.Meta{Name: name, Labels: map[string]string{"name": name}}, Spec: api.HostEndpointSpec{Node: name, InterfaceName: "*"}},
			allow(name, "name == '"+name+"'", api.Ingress, tcpPort(api.Allow, api.EntityRule{}, uint16(8000+i))))
	}
	order := 1.0
	deny := allow("first", "all()", api.Ingress, api.Rule{Action: api.Deny})
	deny.Spec.Order = &order
	r := Of(Picture{objs, policy.NewWorld(objs, policy.Options{})}, Picture{append(objs, deny), policy.NewWorld(append(objs, deny), policy.Options{})})
	want := "not looked at: 40 hosts (...)"
	if lines := r.Lines(); len(r.Losses) != mostLines || r.MoreLosses != mostClasses-mostLines || lines[mostLines] != "loses: and 113 more" || !strings.HasPrefix(lines[mostLines+1], "not looked at: 40 hosts (") {
		t.Errorf("Lines of a change of more than is looked at:\n%s\nwant %d losses, %d more, and %q", strings.Join(lines, "\n"), mostLines, mostClasses-mostLines, want)
	}
}
