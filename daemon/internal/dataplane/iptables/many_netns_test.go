// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// both wants things of a filter and of the state that says what they mean.
type both struct {
	f *iptables.Filter
	s *ruleset.State
}

func (b both) Want(id ruleset.ID, o ruleset.Object) {
	b.f.Want(id, o)
	b.s.Want(id, o)
}

// judge compares the kernel's verdicts with Eval's for packets to ports on
// two interfaces, of both families.
func (b both) judge(t *testing.T, inj *netnstest.Injector, ports ...uint16) {
	t.Helper()
	inj.FlushConntrack()
	for n, iface := range []string{"rstun0", "rstun1"} {
		for _, addrs := range [][2]string{{"10.%d.0.2", "10.%d.0.1"}, {"fd0%d::2", "fd0%d::1"}} {
			for _, port := range ports {
				p := netnstest.Packet{
					Src: netip.MustParseAddr(fmt.Sprintf(addrs[0], n+1)), Dst: netip.MustParseAddr(fmt.Sprintf(addrs[1], n+1)),
					Protocol: netnstest.TCP, SrcPort: port, DstPort: port,
				}
				v, _ := b.s.Eval(ruleset.HookInput, ruleset.Packet{
					Src: p.Src, Dst: p.Dst, Protocol: p.Protocol, SrcPort: p.SrcPort, DstPort: p.DstPort, In: iface, State: ruleset.CtNew,
				})
				if got := inj.In(iface, p); got != (v == ruleset.Accepted) {
					t.Fatalf("%s %v: the kernel accepts %v, Eval says %s\n%s", iface, p, got, v, b.s)
				}
			}
		}
	}
}

// TestNetnsManyPorts: lists of ports longer than what one match takes, on both
// sides, wanted and not wanted.
func TestNetnsManyPorts(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		r := filtertest.Rand(t)
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		b := both{open(t, inj.NS, config(v)), ruleset.NewState()}
		list := func() (out []ruleset.PortRange) {
			for range r.IntN(60) {
				p := uint16(r.IntN(300))
				out = append(out, ruleset.PortRange{Min: p, Max: p + uint16(r.IntN(3))})
			}
			return out
		}
		var ports []uint16
		for p := range uint16(310) {
			ports = append(ports, p)
		}
		for range 15 {
			var rules []ruleset.Rule
			for range 3 {
				m := ruleset.Match{Protocol: netnstest.TCP}
				m.DstPorts, m.NotDstPorts = list(), list()
				if r.IntN(2) == 0 {
					m.SrcPorts, m.NotSrcPorts = list(), nil
				}
				rules = append(rules, ruleset.Rule{Match: m, Action: ruleset.Action{Verb: []ruleset.Verb{ruleset.Accept, ruleset.Drop}[r.IntN(2)]}})
			}
			b.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})})
			reconcile(t, b.f)
			b.judge(t, inj, ports...)
		}
	})
}

// TestNetnsManyInterfaces: dispatch maps of all sizes, as lists and as trees,
// behind matches and in the middle of a chain that is jumped to; whoever finds
// no entry goes on behind.
func TestNetnsManyInterfaces(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		r := filtertest.Rand(t)
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		b := both{open(t, inj.NS, config(v)), ruleset.NewState()}
		for i := range uint16(4) {
			rules := []ruleset.Rule{verb(ruleset.Drop, 10+i), verb(ruleset.Accept, 20+i)} // and back
			b.Want(filtertest.ChainID(fmt.Sprint("c", i)), &ruleset.Chain{Rules: rules})
		}
		name4 := func() string { // close to those that are there
			return []string{"rstun0", "rstun1", "rstun", "rs", "rstun00", "rstun11", "eth", "rstuna"}[r.IntN(8)] + fmt.Sprint(r.IntN(40))[:r.IntN(2)]
		}
		for range 40 {
			for _, m := range []string{"a", "b"} {
				for iface := range b.s.Entries[m] {
					id := filtertest.EntryID(m, iface)
					b.f.Unwant(id)
					b.s.Unwant(id)
				}
				b.Want(filtertest.DispatchID(m), &ruleset.Dispatch{})
				for range r.IntN(50) {
					e := ruleset.Entry{Chain: fmt.Sprint("c", r.IntN(4))}
					if r.IntN(5) == 0 {
						e.Chain = ""
					}
					b.Want(filtertest.EntryID(m, name4()), e)
				}
			}
			dispatch := func(m string) ruleset.Rule {
				rule := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: m}}
				switch r.IntN(3) {
				case 0:
					rule.Match.Family = ruleset.IPv4
				case 1:
					rule.Match = ruleset.Match{Protocol: netnstest.TCP, NotDstPorts: []ruleset.PortRange{{Min: 22, Max: 23}}}
				}
				return rule
			}
			sub := []ruleset.Rule{verb(ruleset.Accept, 30), dispatch("a"), verb(ruleset.Drop, 31), dispatch("b"), verb(ruleset.Accept, 32)}
			b.Want(filtertest.ChainID("sub"), &ruleset.Chain{Rules: sub})
			b.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
				{Action: ruleset.Action{Verb: ruleset.Jump, Target: "sub"}}, verb(ruleset.Accept, 40), verb(ruleset.Accept, 12), verb(ruleset.Drop, 0),
			}})
			reconcile(t, b.f)
			b.judge(t, inj, 10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 40, 50)
		}
	})
}

// TestNetnsLongNames: names that are too long or odd are kept apart.
func TestNetnsLongNames(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		b := both{open(t, inj.NS, config(v)), ruleset.NewState()}
		r := rand.New(rand.NewPCG(1, 1))
		var jumps []ruleset.Rule
		for i, chain := range []string{
			"pi-gnp/a-policy-with-a-long-name", "pi-gnp/a-policy-with-a-long-name2", "INPUT", "ACCEPT", "YIELD", "LET-INPUT", "é", "a b", `q"'\`, "pi-np/space/x//nat", "1", "a1234567890123456789012345", "PROBE", "MADE",
		} {
			port := uint16(100 + i)
			set := chain + "-4"
			b.Want(filtertest.SetID(set), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
			if r.IntN(2) == 0 {
				b.Want(filtertest.MemberID(set, "10.1.0.0/16"), ruleset.Member{})
			}
			rule := verb(ruleset.Accept, port)
			rule.Comment = chain
			rule.Match.Family, rule.Match.SrcSets = ruleset.IPv4, []string{set}
			b.Want(filtertest.ChainID(chain), &ruleset.Chain{Rules: []ruleset.Rule{rule}})
			jumps = append(jumps, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: chain}})
		}
		b.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: append(jumps, verb(ruleset.Drop, 0))})
		reconcile(t, b.f)
		for p := uint16(99); p < 120; p++ {
			b.judge(t, inj, p)
		}
		b.f.Resync()
		reconcile(t, b.f)
		counts, err := b.f.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := counts[iptables.CounterKey{Chain: "pi-gnp/a-policy-with-a-long-name", Comment: "pi-gnp/a-policy-with-a-long-name"}]
		if want := uint64(len(b.s.Members["pi-gnp/a-policy-with-a-long-name-4"])); got.Packets != want {
			t.Errorf("counter %+v, want %d packets", got, want)
		}
	})
}
