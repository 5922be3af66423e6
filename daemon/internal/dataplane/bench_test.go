// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// discard takes a plan and forgets it.
type discard struct{ n int }

func (d *discard) Want(ruleset.ID, ruleset.Object) { d.n++ }
func (d *discard) Unwant(ruleset.ID)               { d.n++ }

const benchRoles = 100

// fleet is a host with so many policies of five rules, each of which names
// one of 100 sets, among so many peers.
func fleet(p *Planner, peers, policies int) {
	for i := range benchRoles {
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindSet, Name: fmt.Sprint("role", i)}, Value: &intent.Set{Type: intent.Nets}})
	}
	for i := range peers {
		p.Note(benchPeer(i, i%benchRoles, true))
	}
	ep := &intent.HostEndpoint{Interface: "eth0", Tiers: []intent.Tier{{Name: "default"}}}
	for i := range policies {
		p.Note(benchPolicy(i, 0))
		ep.Tiers[0].Ingress = append(ep.Tiers[0].Ingress, gnp(fmt.Sprint("p", i)))
	}
	p.Note(endpoint("h", ep))
	p.Flush()
}

func benchPeer(i, role int, in bool) intent.Change {
	a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	c := intent.Change{Key: intent.Key{Kind: intent.KindMember, Name: fmt.Sprint("role", role), Member: intent.Member{Net: netip.PrefixFrom(a, 32)}}}
	if in {
		c.Value = intent.IsMember{}
	}
	return c
}

func benchPolicy(i, shift int) intent.Change {
	pol := &intent.Policy{Tier: "default"}
	for r := range 5 {
		port := uint16(10000 + (5*i+r)%10000 + shift)
		pol.Ingress = append(pol.Ingress, intent.Rule{
			Action: api.Allow, Protocol: 17, Index: r,
			Source:      intent.Entity{Set: fmt.Sprint("role", (i+r*7)%benchRoles)},
			Destination: intent.Entity{Ports: []intent.PortRange{{Min: port, Max: port}, {Min: port + 1, Max: port + 1}}},
		})
	}
	return policyOf(fmt.Sprint("p", i), pol)
}

func benchmarkSizes(b *testing.B, f func(b *testing.B, p *Planner)) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("peers=10000/policies=%d", n), func(b *testing.B) {
			p := NewCompilingPlanner(&discard{})
			fleet(p, 10_000, n)
			f(b, p)
		})
	}
}

// BenchmarkPolicyChange: one policy gets other ports.
func BenchmarkPolicyChange(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, p *Planner) {
		for i := 0; b.Loop(); i++ {
			p.Note(benchPolicy(3, 20000+i%1000))
			p.Flush()
		}
	})
}

// BenchmarkMemberMoves: one peer goes from one set to another.
func BenchmarkMemberMoves(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, p *Planner) {
		for i := 0; b.Loop(); i++ {
			p.Note(benchPeer(7, (7+i)%benchRoles, false))
			p.Note(benchPeer(7, (8+i)%benchRoles, true))
			p.Flush()
		}
	})
}

// BenchmarkColdPlan: everything from nothing.
func BenchmarkColdPlan(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("peers=10000/policies=%d", n), func(b *testing.B) {
			for b.Loop() {
				fleet(NewCompilingPlanner(&discard{}), 10_000, n)
			}
		})
	}
}
