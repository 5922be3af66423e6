// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// nth is the i-th of many members: single addresses, or every second /31.
func nth(set string, i, bits int) ruleset.ID {
	a := netip.AddrFrom4([4]byte{11 + byte(i>>22), byte(i >> 14), byte(i >> 6), byte(i << 2)})
	return ruleset.ID{Kind: ruleset.KindMember, Name: set, Elem: ruleset.Element{Net: netip.PrefixFrom(a, bits)}}
}

func fill(f *Filter, bits, n int) {
	f.Want(set("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	for i := range n {
		f.Want(nth("s", i, bits), ruleset.Member{})
	}
}

// policies wants n policies of 5 rules, each with a set of its own.
func policies(f *Filter, n int) {
	var jumps []ruleset.Rule
	for i := range n {
		s := fmt.Sprintf("p%d", i)
		f.Want(set(s), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
		f.Want(nth(s, i, 32), ruleset.Member{})
		f.Want(chain(s), policy(s, 0))
		jumps = append(jumps, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: s}})
	}
	f.Want(chain("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: append(jumps, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})})
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

func BenchmarkNetnsOneMember(b *testing.B) {
	for _, bits := range []int{32, 31} {
		for _, n := range []int{100, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", map[int]string{32: "hash", 31: "interval"}[bits], n), func(b *testing.B) {
				f := open(b, netnstest.New(b), Default())
				fill(f, bits, n)
				reconcile(b, f)
				for i := 0; b.Loop(); i++ {
					if i%2 == 0 {
						f.Want(nth("s", n+i, bits), ruleset.Member{})
					} else {
						f.Unwant(nth("s", n+i-1, bits))
					}
					reconcile(b, f)
				}
			})
		}
	}
}

func BenchmarkNetnsPolicyReplaced(b *testing.B) {
	f := open(b, netnstest.New(b), Default())
	policies(f, 1000)
	reconcile(b, f)
	for i := 0; b.Loop(); i++ {
		f.Want(chain("p7"), policy("p7", i%100+1))
		reconcile(b, f)
	}
}

func BenchmarkNetnsColdStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		f := open(b, netnstest.New(b), Default())
		policies(f, 1000)
		b.StartTimer()
		reconcile(b, f)
	}
}

func BenchmarkNetnsRestart(b *testing.B) {
	ns := netnstest.New(b)
	f := open(b, ns, Default())
	policies(f, 1000)
	reconcile(b, f)
	for b.Loop() {
		f.Close()
		f = open(b, ns, Default())
		policies(f, 1000)
		reconcile(b, f)
	}
}

// BenchmarkNetnsResync is one audit of 5,000 rules: one after the other, each
// policy with a set, and as look-ups with 20,000 elements. It tells the
// processor time, the kernel's included, and what that makes of one core if it
// is done every 60 s.
func BenchmarkNetnsResync(b *testing.B) {
	for _, c := range []struct {
		name string
		want func(*Filter)
	}{
		{"one by one", func(f *Filter) { policies(f, 1000) }},
		{"look-ups", func(f *Filter) { lookups(f, 5000, 10_000) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := open(b, netnstest.New(b), Default())
			c.want(f)
			reconcile(b, f)
			var before, after unix.Rusage
			if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				f.Resync()
				reconcile(b, f)
			}
			if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			used := float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()) / float64(b.N)
			b.ReportMetric(used/1e6, "cpu-ms")
			b.ReportMetric(used/60e9*100, "%core/60s")
		})
	}
}

// lookups wants n rules, each in a chain of its own, that peers in 100 classes
// and ports lead to.
func lookups(f *Filter, n, peers int) {
	f.Want(chain("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv4}, Action: ruleset.Action{Verb: ruleset.Classify, Target: "peers", Field: ruleset.FieldSrc}},
		{Action: ruleset.Action{Verb: ruleset.Drop}},
	}})
	f.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: "peers"}, &ruleset.Verdicts{Family: ruleset.IPv4, Type: ruleset.ByNet})
	for i := range 100 {
		class := fmt.Sprintf("class-%d", i)
		f.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: class}, &ruleset.Verdicts{Type: ruleset.ByPort})
		f.Want(chain(class), &ruleset.Chain{Rules: []ruleset.Rule{
			{Match: ruleset.Match{Protocol: 17}, Action: ruleset.Action{Verb: ruleset.Classify, Target: class, Field: ruleset.FieldDstPort}},
			{Action: ruleset.Action{Verb: ruleset.Drop}},
		}})
	}
	for i := range n {
		rule := fmt.Sprintf("rule-%d", i)
		f.Want(chain(rule), &ruleset.Chain{Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: fmt.Sprintf("gnp/p%d ingress %d", i/5, i%5)}}})
		for p := range uint16(2) {
			id := ruleset.ID{Kind: ruleset.KindVerdict, Name: fmt.Sprintf("class-%d", i%100), Range: ruleset.PortRange{Min: uint16(10000 + i*2%20000), Max: uint16(10000 + i*2%20000)}}
			id.Range.Min, id.Range.Max = id.Range.Min+p, id.Range.Max+p
			f.Want(id, ruleset.Ruling{Chain: rule})
		}
	}
	for i := range peers {
		id := nth("peers", i, 32)
		id.Kind = ruleset.KindVerdict
		f.Want(id, ruleset.Ruling{Chain: fmt.Sprintf("class-%d", i%100)})
	}
}

func BenchmarkNetnsIdle(b *testing.B) {
	f := open(b, netnstest.New(b), Default())
	policies(f, 1000)
	reconcile(b, f)
	for b.Loop() {
		reconcile(b, f)
	}
}

func BenchmarkNetnsLoad100000(b *testing.B) {
	for _, bits := range []int{32, 31} {
		b.Run(map[int]string{32: "hash", 31: "interval"}[bits], func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				f := open(b, netnstest.New(b), Default())
				fill(f, bits, 100_000)
				b.StartTimer()
				reconcile(b, f)
				b.StopTimer()
				f.Close()
				b.StartTimer()
			}
		})
	}
}

func BenchmarkNetnsReadBack100000(b *testing.B) {
	for _, bits := range []int{32, 31} {
		b.Run(map[int]string{32: "hash", 31: "interval"}[bits], func(b *testing.B) {
			f := open(b, netnstest.New(b), Default())
			fill(f, bits, 100_000)
			reconcile(b, f)
			for b.Loop() {
				f.Resync()
				reconcile(b, f)
			}
		})
	}
}
