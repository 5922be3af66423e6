// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// compiledFleet is a host with so many policies of five rules, each of which
// names one of 100 sets among 10,000 peers, in the kernel.
func compiledFleet(b *testing.B, policies int) (*dataplane.Planner, *Filter) {
	f := open(b, netnstest.New(b), Default())
	p := dataplane.NewCompilingPlanner(f)
	for i := range 100 {
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindSet, Name: fmt.Sprint("role", i)}, Value: &intent.Set{Type: intent.Nets}})
	}
	for i := range 10_000 {
		p.Note(fleetPeer(i, i%100, true))
	}
	ep := &intent.HostEndpoint{Interface: "eth0", Tiers: []intent.Tier{{Name: "default"}}}
	for i := range policies {
		c := fleetPolicy(i, uint16(10000+5*i))
		p.Note(c)
		ep.Tiers[0].Ingress = append(ep.Tiers[0].Ingress, c.Key.Policy)
	}
	p.Note(intent.Change{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"}, Value: ep})
	p.Flush()
	reconcile(b, f)
	return p, f
}

func fleetPeer(i, role int, in bool) intent.Change {
	a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	c := intent.Change{Key: intent.Key{Kind: intent.KindMember, Name: fmt.Sprint("role", role), Member: intent.Member{Net: netip.PrefixFrom(a, 32)}}}
	if in {
		c.Value = intent.IsMember{}
	}
	return c
}

func fleetPolicy(i int, port uint16) intent.Change {
	pol := &intent.Policy{Tier: "default"}
	for r := range 5 {
		at := port + uint16(r)
		rule := intent.Rule{
			Action: api.Allow, Protocol: 17, Index: r, Source: intent.Entity{Set: fmt.Sprint("role", (i+r*7)%100)},
			Destination: intent.Entity{Ports: []intent.PortRange{{Min: at, Max: at}}},
		}
		if i == 0 { // one that lets everybody in
			rule.Source.Set = ""
		}
		pol.Ingress = append(pol.Ingress, rule)
	}
	k := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: fmt.Sprint("p", i)}
	return intent.Change{Key: intent.Key{Kind: intent.KindPolicy, Policy: k}, Value: pol}
}

// BenchmarkNetnsCompiledChange is a change, from the planner to what is read
// back from the kernel: a policy gets another port (one with selectors, and
// one without), and a peer goes from one set to another.
func BenchmarkNetnsCompiledChange(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			p, f := compiledFleet(b, n)
			for _, c := range []struct {
				name   string
				change func(i int)
			}{
				{"policy", func(i int) { p.Note(fleetPolicy(3, uint16(40000+i%2000))) }},
				{"policy for everybody", func(i int) { p.Note(fleetPolicy(0, uint16(50000+i%2000))) }},
				{"peer", func(i int) {
					p.Note(fleetPeer(7, (7+i)%100, false))
					p.Note(fleetPeer(7, (8+i)%100, true))
				}},
				{"new peer", func(i int) { p.Note(fleetPeer(20_000+i/2, 7, i%2 == 0)) }},
			} {
				b.Run(c.name, func(b *testing.B) {
					before := spent(b)
					for i := 0; b.Loop(); i++ {
						c.change(i)
						p.Flush()
						reconcile(b, f)
					}
					now := spent(b)
					b.ReportMetric(float64(now[0]-before[0])/float64(b.N), "user-ns/op")
					b.ReportMetric(float64(now[1]-before[1])/float64(b.N), "kernel-ns/op")
				})
			}
		})
	}
}

// spent is the processor time of this process in nanoseconds, its own and the
// kernel's: on a busy machine it says more than the clock.
func spent(b *testing.B) (out [2]int64) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return [2]int64{u.Utime.Nano(), u.Stime.Nano()}
}
