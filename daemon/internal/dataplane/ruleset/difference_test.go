// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// TestDifference_WhatItDoesNotTouchFaresAlike: two rulesets that differ in
// chains that the base chains jump to; whatever the Difference does not touch
// is judged alike, at every hook and with every mark, and it does touch
// something.
func TestDifference_WhatItDoesNotTouchFaresAlike(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	touched, spared, silent := 0, 0, 0
	for range 3000 {
		before, now := NewState(), NewState()
		both := func(name string, c *Chain) {
			before.Want(ID{Kind: KindChain, Name: name}, c)
			now.Want(ID{Kind: KindChain, Name: name}, c)
		}
		for h := HookPrerouting; h <= HookPostrouting; h++ {
			mark := uint32(r.IntN(4))
			both("base-"+h.String(), &Chain{Hook: h, Priority: -300 + 100*r.IntN(4), Rules: []Rule{
				{Action: Action{Verb: SetMark, Mark: mark, MarkMask: uint32(r.IntN(4))}},
				{Match: Match{InInterface: []string{"", "eth0", "eth1"}[r.IntN(3)]}, Action: Action{Verb: Jump, Target: fmt.Sprint("c", r.IntN(2))}},
				{Match: Match{MarkMask: 3, Mark: uint32(r.IntN(4))}, Action: Action{Verb: Drop}},
			}})
		}
		for i := range 4 { // c0 and c1 are jumped to, and jump to c2 and c3
			name := fmt.Sprint("c", i)
			both(name, randomChain(r, i))
			if r.IntN(3) == 0 {
				now.Want(ID{Kind: KindChain, Name: name}, randomChain(r, i))
			}
		}
		d := NewDifference(before, now, []string{"c0", "c1", "c2", "c3"})
		if d == nil {
			t.Fatal("NewDifference = nil of chains that see addresses and ports only")
		}
		for range 30 {
			f := &Flow{
				Way: Way(1 + r.IntN(4)), Protocol: []uint8{6, 17}[r.IntN(2)], Src: randomAddr(r), Dst: randomAddr(r),
				SrcPort: uint16(r.IntN(4)), DstPort: uint16(r.IntN(4)),
			}
			if r.IntN(2) == 0 {
				f.DNATed, f.NewDst, f.NewDstPort = true, randomAddr(r), uint16(r.IntN(4))
			}
			in, out := []string{"eth0", "eth1", "eth2"}[r.IntN(3)], "eth3"
			a, _ := before.Judge(f, in, out)
			b, _ := now.Judge(f, in, out)
			switch {
			case !d.Touches(f) && a != b:
				t.Fatalf("%+v is not touched, and %s before, %s now:\n%s\n%s", f, a, b, before, now)
			case !d.Touches(f):
				spared++
			case a != b:
				touched++
			default:
				silent++
			}
		}
	}
	if touched < 1000 || spared < 1000 {
		t.Errorf("%d flows touched and judged otherwise, %d not touched, %d touched for nothing: too few to believe", touched, spared, silent)
	}
}

func randomAddr(r *rand.Rand) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))}) }

func randomChain(r *rand.Rand, level int) *Chain {
	c := &Chain{}
	for range r.IntN(4) {
		m := Match{}
		if r.IntN(2) == 0 {
			m.Protocol = 6
			m.DstPorts = []PortRange{{Min: uint16(r.IntN(3)), Max: 3}}
		}
		if r.IntN(2) == 0 {
			m.Family, m.Dst = IPv4, []netip.Prefix{netip.PrefixFrom(randomAddr(r), 31).Masked()}
		}
		if r.IntN(3) == 0 {
			m.Family, m.NotSrc = IPv4, []netip.Prefix{netip.PrefixFrom(randomAddr(r), 32)}
		}
		a := []Action{{Verb: Accept}, {Verb: Drop}, {Verb: Return}, {Verb: SetMark, Mark: uint32(r.IntN(4)), MarkMask: uint32(r.IntN(4))}}[r.IntN(4)]
		if level < 2 && r.IntN(3) == 0 {
			a = Action{Verb: []Verb{Jump, Goto}[r.IntN(2)], Target: fmt.Sprint("c", 2+r.IntN(2))}
		}
		c.Rules = append(c.Rules, Rule{Match: m, Action: a})
	}
	return c
}

// TestDifference_SaysNothingOfChainsThatSeeMore: of a packet than its
// addresses, protocol and ports.
func TestDifference_SaysNothingOfChainsThatSeeMore(t *testing.T) {
	rules := map[string]Rule{
		"an interface":          {Match: Match{InInterface: "eth0"}, Action: Action{Verb: Drop}},
		"where it goes":         {Match: Match{OutPrefix: "eth"}, Action: Action{Verb: Drop}},
		"that it is the host's": {Match: Match{FromHost: true}, Action: Action{Verb: Drop}},
		"its state":             {Match: Match{CtState: CtNew}, Action: Action{Verb: Drop}},
		"rewriting":             {Match: Match{NotDNATed: true}, Action: Action{Verb: Drop}},
		"a mark":                {Match: Match{MarkMask: 1}, Action: Action{Verb: Drop}},
		"dispatch":              {Action: Action{Verb: DispatchIn, Target: "m"}},
		"untracking":            {Action: Action{Verb: NoTrack}},
		"a chain that does":     {Action: Action{Verb: Jump, Target: "other"}},
	}
	for name, r := range rules {
		before, now := NewState(), NewState()
		for _, s := range []*State{before, now} {
			s.Want(ID{Kind: KindChain, Name: "other"}, &Chain{Rules: []Rule{{Match: Match{MarkMask: 1}, Action: Action{Verb: Drop}}}})
			s.Want(ID{Kind: KindChain, Name: "c"}, &Chain{})
		}
		now.Want(ID{Kind: KindChain, Name: "c"}, &Chain{Rules: []Rule{r}})
		if NewDifference(before, now, []string{"c"}) != nil || NewDifference(now, before, []string{"c"}) != nil {
			t.Errorf("a chain that sees %s: a Difference, want none", name)
		}
		if NewDifference(before, now, []string{"elsewhere"}) == nil {
			t.Errorf("a chain that neither has: no Difference, want one that touches nothing")
		}
	}
	before, now, names := NewState(), NewState(), []string(nil)
	for i := range worthwhile + 1 {
		names = append(names, fmt.Sprint("c", i))
		before.Want(ID{Kind: KindChain, Name: names[i]}, &Chain{})
		now.Want(ID{Kind: KindChain, Name: names[i]}, &Chain{Rules: []Rule{drop(Match{})}})
	}
	if NewDifference(before, now, names) != nil || NewDifference(before, now, names[1:]) == nil {
		t.Errorf("of %d chains a Difference, or of %d none", worthwhile+1, worthwhile)
	}
	base := one(HookInput, 0)
	if NewDifference(base, one(HookInput, 1), []string{"base"}) != nil {
		t.Error("a base chain: a Difference, want none")
	}
	if NewDifference(base, NewState(), []string{"base"}) != nil || NewDifference(NewState(), base, []string{"base"}) != nil {
		t.Error("a base chain that comes or goes: a Difference, want none")
	}
}
