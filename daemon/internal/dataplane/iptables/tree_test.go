// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// shops resolves chains of which each is about a TCP port of its own.
type shops struct{ names }

func (shops) reach(name string, _ ruleset.Family) reach {
	var n uint16
	fmt.Sscanf(name, "shop%d", &n)
	return reach{ports: map[uint8][]ruleset.PortRange{6: {{Min: n, Max: n}}}}
}

func lowerShops(n int, without ...int) []part {
	c := &ruleset.Chain{}
	for i := range n {
		if !slices.Contains(without, i) {
			c.Rules = append(c.Rules, jumpTo(fmt.Sprintf("shop%d", i)))
		}
	}
	l := lowerer{resolver: shops{}, at: place{ruleset.IPv4, filter}, name: "mall"}
	l.lower("rs-mall", c)
	return l.parts
}

func jumpTo(target string) ruleset.Rule {
	return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: target}}
}

// TestTree_PacketComparesWithFewRulesOfMany: the longest chain is short, each
// jump is there once, and is reached in the order of the list.
func TestTree_PacketComparesWithFewRulesOfMany(t *testing.T) {
	parts := lowerShops(1000)
	chains := map[string][]line{}
	for _, p := range parts {
		if _, twice := chains[p.name]; twice {
			t.Fatalf("two chains %s", p.name)
		}
		if chains[p.name] = p.lines; len(p.lines) > 4*treeFrom {
			t.Errorf("chain %s has %d rules", p.name, len(p.lines))
		}
	}
	var order []string
	var walk func(chain string)
	walk = func(chain string) {
		for i, l := range chains[chain] {
			target := strings.TrimPrefix(l.action, "-j ")
			if target != "RETURN" {
				if next := chains[chain][i+1]; next.essence() != "-m mark --mark 0x40000/0x40000 -j RETURN" {
					t.Errorf("behind the jump to %s: %s, want the end of what is accepted", target, next.essence())
				}
			}
			if _, group := chains[target]; group {
				walk(target)
			} else if strings.HasPrefix(target, "rs-shop") {
				order = append(order, target)
				if want := " -p tcp -m multiport --dports " + strings.TrimPrefix(target, "rs-shop"); l.match != want {
					t.Errorf("jump to %s: match %q, want %q", target, l.match, want)
				}
			}
		}
	}
	walk("rs-mall")
	if len(order) != 1000 || order[0] != "rs-shop0" || !slices.IsSortedFunc(order, func(a, b string) int {
		var x, y int
		fmt.Sscanf(a, "rs-shop%d", &x)
		fmt.Sscanf(b, "rs-shop%d", &y)
		return x - y
	}) {
		t.Errorf("%d jumps, from %s: want 1000 in order", len(order), order[0])
	}
}

// TestTree_RuleThatGoesChangesFewChains: groups end where names say so.
func TestTree_RuleThatGoesChangesFewChains(t *testing.T) {
	before := map[string]block{}
	for _, p := range lowerShops(1000) {
		before[p.name] = p.finish()
	}
	changed := 0
	for _, p := range lowerShops(1000, 500) {
		if !slices.Equal(before[p.name].lines, p.finish().lines) {
			changed++
		}
	}
	if changed == 0 || changed > 8 {
		t.Errorf("%d of %d chains changed, want its group, the neighbour's and those above", changed, len(before))
	}
}

// TestTree_RulesOfOneNameHaveChainsOfTheirOwn: two rows of rules without a
// comment are two trees.
func TestTree_RulesOfOneNameHaveChainsOfTheirOwn(t *testing.T) {
	c := &ruleset.Chain{}
	for i := range 100 {
		if i == 50 {
			c.Rules = append(c.Rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.SetMark, Mark: 1, MarkMask: 1}})
		}
		c.Rules = append(c.Rules, ruleset.Rule{
			Match: ruleset.Match{Protocol: 17, DstPorts: []ruleset.PortRange{{Min: uint16(i), Max: uint16(i)}}}, Action: ruleset.Action{Verb: ruleset.Accept},
		})
	}
	l := lowerer{resolver: names{}, at: place{ruleset.IPv4, filter}, name: "c"}
	l.lower("rs-c", c)
	seen := map[string]bool{}
	for _, p := range l.parts {
		if seen[p.name] {
			t.Fatalf("two chains %s", p.name)
		}
		seen[p.name] = true
	}
	if len(seen) < 5 {
		t.Errorf("%d chains, want two trees", len(seen))
	}
}

// TestReach_CoarseCoversWhatItStandsFor: whatever the ranges, one match takes
// them, and none of their ports is lost.
func TestReach_CoarseCoversWhatItStandsFor(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var list []ruleset.PortRange
		for range 1 + r.IntN(60) {
			lo := uint16(r.IntN(1 << 16))
			list = append(list, ruleset.PortRange{Min: lo, Max: lo + uint16(r.IntN(3))*min(10, 65535-lo)/2})
		}
		merged, err := mergePorts(list)
		if err != nil {
			t.Fatal(err)
		}
		got := coarse(merged)
		if n := len(portGroups(got)); n != 1 {
			t.Fatalf("coarse(%v) = %v: %d matches, want 1", merged, got, n)
		}
		for _, p := range merged {
			if !slices.ContainsFunc(got, func(g ruleset.PortRange) bool { return g.Min <= p.Min && p.Max <= g.Max }) {
				t.Fatalf("coarse(%v) = %v: without %v", merged, got, p)
			}
		}
	}
}

// TestReach_OfAChainIsNeverTooNarrow: what a rule does not bind counts as all.
func TestReach_OfAChainIsNeverTooNarrow(t *testing.T) {
	tcp := func(ports ...ruleset.PortRange) ruleset.Rule {
		return ruleset.Rule{Match: ruleset.Match{Protocol: 6, DstPorts: ports}}
	}
	port := ruleset.PortRange{Min: 80, Max: 80}
	for _, c := range []struct {
		name  string
		rules []ruleset.Rule
		want  []string
	}{
		{"one port", []ruleset.Rule{tcp(port)}, []string{" -p tcp -m multiport --dports 80"}},
		{"a port and all ports", []ruleset.Rule{tcp(port), tcp()}, []string{" -p tcp"}},
		{"two protocols", []ruleset.Rule{tcp(port), {Match: ruleset.Match{Protocol: 1}}}, []string{" -p icmp", " -p tcp -m multiport --dports 80"}},
		{"a rule about any protocol", []ruleset.Rule{tcp(port), {}}, []string{""}},
		{"a rule about all but one", []ruleset.Rule{tcp(port), {Match: ruleset.Match{NotProtocol: 6}}}, []string{""}},
		{"a rule of the other family", []ruleset.Rule{tcp(port), {Match: ruleset.Match{Family: ruleset.IPv6}}}, []string{" -p tcp -m multiport --dports 80"}},
		{"ports that cannot be", []ruleset.Rule{tcp(ruleset.PortRange{Min: 2, Max: 1})}, []string{""}},
		{"no rules", nil, nil},
	} {
		if got := reachOfChain(&ruleset.Chain{Rules: c.rules}, ruleset.IPv4).matches(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
