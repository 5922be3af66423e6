// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

// size is a fleet of hosts, one endpoint each, and its policies. Local
// policies govern this host.
type size struct{ hosts, policies, local int }

func (s size) String() string {
	return fmt.Sprintf("%d hosts, %d policies (%d local)", s.hosts, s.policies, s.local)
}

func parseSizes(b *testing.B, text string) []size {
	var out []size
	for _, part := range strings.Split(text, ",") {
		var s size
		if _, err := fmt.Sscanf(part, "%d/%d", &s.hosts, &s.policies); err != nil || s.hosts < 1 || s.policies < 1 {
			b.Fatalf("-bench-sizes %q: want hosts/policies,hosts/policies,…", text)
		}
		s.local = max(1, s.policies/10)
		out = append(out, s)
	}
	return out
}

const benchRoles = 100 // of hosts; a rule lets the hosts of one role in

// objects are the endpoints and policies of a fleet. The first endpoint is
// this host's.
func (s size) objects() []api.Object {
	var out []api.Object
	for i := range s.hosts {
		h := &api.HostEndpoint{
			Meta: api.Meta{Name: fmt.Sprintf("host-%05d-eth0", i), Labels: map[string]string{
				"role": fmt.Sprintf("r%d", i%benchRoles), "zone": fmt.Sprintf("z%d", i%7), "group": fmt.Sprintf("g%d", i%10),
			}},
			Spec: api.HostEndpointSpec{
				Node: fmt.Sprintf("host-%05d", i), InterfaceName: "eth0",
				ExpectedIPs: []string{fmt.Sprintf("172.%d.%d.%d", 16+i>>16, i>>8&255, i&255), fmt.Sprintf("fd50::%x", i+1)},
			},
		}
		if i == 0 {
			h.Labels = map[string]string{"bench": "local", "role": "none"}
			h.Spec.Node, h.Spec.InterfaceName, h.Spec.ExpectedIPs = here, "rstun0", []string{"10.1.0.1", "fd01::1"}
		}
		out = append(out, h)
	}
	for i := range s.policies {
		selector := fmt.Sprintf("group == 'g%d'", i%10)
		if i < s.local {
			selector = "bench == 'local'"
		}
		out = append(out, benchPolicy(i, selector))
	}
	return out
}

// benchPolicy has five rules of the protocol that the probes have: three for
// hosts of a role, one for nets, one against all but some nets, each for two
// ports; nets are IPv4 in every other policy, else IPv6. Each policy has a net of
// its own, and what is not denied are the fleet's networks and one of ten
// others. None matches a probe.
func benchPolicy(i int, selector string) *api.GlobalNetworkPolicy {
	p := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: fmt.Sprintf("policy-%05d", i)}}
	p.Spec.Order, p.Spec.Selector, p.Spec.Types = ptr(float64(100+i)), selector, []api.PolicyType{api.Ingress}
	for r := range 5 {
		port := uint16(10000 + (5*i+r)%10000)
		rule := api.Rule{
			Action: api.Allow, Protocol: &api.Protocol{Name: "UDP"},
			Destination: api.EntityRule{Ports: []api.Port{api.SinglePort(port), api.SinglePort(port + 1)}},
		}
		switch r {
		default:
			rule.Source.Selector = fmt.Sprintf("role == 'r%d'", (i+r*7)%benchRoles)
		case 3:
			rule.Source.Nets = []string{fmt.Sprintf("10.%d.%d.0/24", 128+i>>8&127, i&255), "192.0.2.0/24"}
			if i%2 == 1 {
				rule.Source.Nets = []string{fmt.Sprintf("fd60:%x::/32", i), "2001:db8::/32"}
			}
		case 4:
			rule.Action, rule.Source.NotNets = api.Deny, []string{"10.0.0.0/8", "172.16.0.0/12", fmt.Sprintf("192.168.%d.0/24", i%10)}
			if i%2 == 1 {
				rule.Source.NotNets = []string{"fd00::/8", fmt.Sprintf("2001:db8:%x::/48", i%10)}
			}
		}
		p.Spec.Ingress = append(p.Spec.Ingress, rule)
	}
	return p
}

// seed writes objects straight into the server's etcd, many at once.
func (s *server) seed(b *testing.B, objs []api.Object) api.Revision {
	b.Helper()
	st, err := etcd.Open(etcd.Config{Endpoints: []string{s.etcd()}, Checksums: true})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for _, o := range objs {
		o.Default()
		if err := o.Validate(); err != nil {
			b.Fatalf("%s: %v", o.Key(), err)
		}
		group.Go(func() error {
			_, err := st.Put(ctx, o, store.Always())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	_, rev, err := st.List(context.Background(), api.KindTier, store.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return rev
}
