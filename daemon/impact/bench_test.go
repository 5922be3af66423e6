// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// fleet is 10,000 host endpoints of a hundred roles, and so many policies: each
// is for the hosts of a role and names nets, another role and ports.
func fleet(policies int) []api.Object {
	order := 100.0
	objs := []api.Object{&api.Tier{Meta: api.Meta{Name: "default"}, Spec: api.TierSpec{Order: &order, DefaultAction: api.Deny}}}
	for i := range 10_000 {
		objs = append(objs, &api.HostEndpoint{
			Meta: api.Meta{Name: fmt.Sprint("h", i), Labels: map[string]string{"role": fmt.Sprint("r", i%100), "zone": fmt.Sprint("z", i%7)}},
			Spec: api.HostEndpointSpec{Node: fmt.Sprint("h", i), InterfaceName: "*", ExpectedIPs: []string{fmt.Sprintf("10.%d.%d.%d", i/65536, i/256%256, i%256)}},
		})
	}
	for i := range policies {
		objs = append(objs, allow(fmt.Sprint("p", i), fmt.Sprintf("role == 'r%d'", i%100), api.Ingress,
			tcpPort(api.Allow, api.EntityRule{Selector: fmt.Sprintf("role == 'r%d'", (i+1)%100)}, uint16(1000+i)),
			tcpPort(api.Allow, api.EntityRule{Nets: []string{fmt.Sprintf("192.0.%d.0/24", i%256)}}, uint16(3000+i))))
	}
	return objs
}

func pictureWith(objs []api.Object) Picture {
	return Picture{objs, policy.NewWorld(objs, policy.Options{})}
}

func BenchmarkOf(b *testing.B) {
	objs := fleet(1000)
	before := pictureWith(objs)
	for _, c := range []struct {
		name  string
		after []api.Object
	}{
		{"one_policy_of_100_hosts", with(objs, "", allow("p7", "role == 'r7'", api.Ingress, tcpPort(api.Allow, api.EntityRule{}, 80)))},
		{"one_policy_of_10000_hosts", with(objs, "", allow("all", "all()", api.Ingress, api.Rule{Action: api.Deny, Source: api.EntityRule{Nets: []string{"192.0.2.0/24"}}}))},
		{"one_set", with(objs, "", &api.GlobalNetworkSet{Meta: api.Meta{Name: "s", Labels: map[string]string{"role": "r9"}}, Spec: api.NetworkSetSpec{Nets: []string{"198.51.100.0/24"}}})},
	} {
		after := pictureWith(c.after)
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if r := Of(before, after); len(r.Gains)+len(r.Losses) == 0 {
					b.Fatalf("nothing is said: %v", r.Lines())
				}
			}
		})
	}
}
