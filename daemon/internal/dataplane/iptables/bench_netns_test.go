// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// nth is the i-th of many members.
func nth(set string, i int) ruleset.ID {
	a := netip.AddrFrom4([4]byte{11 + byte(i>>22), byte(i >> 14), byte(i >> 6), byte(i << 2)})
	return ruleset.ID{Kind: ruleset.KindMember, Name: set, Elem: ruleset.Element{Net: netip.PrefixFrom(a, 32)}}
}

func fill(f *iptables.Filter, n int) {
	f.Want(filtertest.SetID("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	for i := range n {
		f.Want(nth("s", i), ruleset.Member{})
	}
}

// policies wants n policies of 5 rules, each with a set of its own.
func policies(f *iptables.Filter, n int) {
	var jumps []ruleset.Rule
	for i := range n {
		s := fmt.Sprintf("p%d", i)
		f.Want(filtertest.SetID(s), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
		f.Want(nth(s, i), ruleset.Member{})
		f.Want(filtertest.ChainID(s), policy(s, 0))
		jumps = append(jumps, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: s}})
	}
	f.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: append(jumps, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})})
}

func policy(s string, shift int) *ruleset.Chain {
	c := &ruleset.Chain{}
	for j := range 5 {
		p := uint16(1000 + j + shift)
		c.Rules = append(c.Rules, ruleset.Rule{
			Match:  ruleset.Match{Family: ruleset.IPv4, Protocol: 6, SrcSets: []string{s}, DstPorts: []ruleset.PortRange{{Min: p, Max: p}}},
			Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: fmt.Sprintf("gnp/%s ingress %d", s, j),
		})
	}
	return c
}

func benchVariants(b *testing.B, bench func(b *testing.B, cfg iptables.Config)) {
	for _, name := range []string{"legacy", "nft"} {
		b.Run(name, func(b *testing.B) { bench(b, config(variants[name])) })
	}
}

func BenchmarkNetnsOneMember(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			benchVariants(b, func(b *testing.B, cfg iptables.Config) {
				f := open(b, netnstest.New(b), cfg)
				fill(f, n)
				reconcile(b, f)
				for i := 0; b.Loop(); i++ {
					if i%2 == 0 {
						f.Want(nth("s", n+i), ruleset.Member{})
					} else {
						f.Unwant(nth("s", n+i-1))
					}
					reconcile(b, f)
				}
			})
		})
	}
}

func BenchmarkNetnsPolicyReplaced(b *testing.B) {
	benchVariants(b, func(b *testing.B, cfg iptables.Config) {
		f := open(b, netnstest.New(b), cfg)
		policies(f, 1000)
		reconcile(b, f)
		for i := 0; b.Loop(); i++ {
			f.Want(filtertest.ChainID("p7"), policy("p7", i%100+1))
			reconcile(b, f)
		}
	})
}

func BenchmarkNetnsColdStart(b *testing.B) {
	benchVariants(b, func(b *testing.B, cfg iptables.Config) {
		for b.Loop() {
			b.StopTimer()
			f := open(b, netnstest.New(b), cfg)
			policies(f, 1000)
			b.StartTimer()
			reconcile(b, f)
		}
	})
}

func BenchmarkNetnsRestart(b *testing.B) {
	benchVariants(b, func(b *testing.B, cfg iptables.Config) {
		ns := netnstest.New(b)
		f := open(b, ns, cfg)
		policies(f, 1000)
		reconcile(b, f)
		for b.Loop() {
			f.Close()
			f = open(b, ns, cfg)
			policies(f, 1000)
			reconcile(b, f)
		}
	})
}

func BenchmarkNetnsResync(b *testing.B) {
	benchVariants(b, func(b *testing.B, cfg iptables.Config) {
		f := open(b, netnstest.New(b), cfg)
		policies(f, 1000)
		reconcile(b, f)
		for b.Loop() {
			f.Resync()
			reconcile(b, f)
		}
	})
}

// BenchmarkNetnsIdle is the look at the kernel, twice a second.
func BenchmarkNetnsIdle(b *testing.B) {
	benchVariants(b, func(b *testing.B, cfg iptables.Config) {
		f := open(b, netnstest.New(b), cfg)
		policies(f, 1000)
		reconcile(b, f)
		for b.Loop() {
			reconcile(b, f)
		}
	})
}

func BenchmarkNetnsLoad100000(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		f := open(b, netnstest.New(b), config(iptables.Legacy))
		fill(f, 100_000)
		b.StartTimer()
		reconcile(b, f)
		b.StopTimer()
		f.Close()
		b.StartTimer()
	}
}

func BenchmarkNetnsReadBack100000(b *testing.B) {
	f := open(b, netnstest.New(b), config(iptables.Legacy))
	fill(f, 100_000)
	reconcile(b, f)
	for b.Loop() {
		f.Resync()
		reconcile(b, f)
	}
}
