// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// fleetState is an input chain that leads, by interface, peer and port, to a
// rule of a policy; all else is dropped.
func fleetState() *State {
	s := NewState()
	chain := func(name string, c Chain) { s.Want(ID{Kind: KindChain, Name: name}, &c) }
	to := func(v Verb, target string, f Field, m Match) Rule {
		return Rule{Match: m, Action: Action{Verb: v, Target: target, Field: f}}
	}
	chain("input", Chain{Hook: HookInput, Rules: []Rule{to(DispatchIn, "in", 0, Match{})}})
	s.Want(ID{Kind: KindDispatch, Name: "in"}, &Dispatch{})
	s.Want(ID{Kind: KindEntry, Name: "in", Iface: "eth7"}, Entry{Chain: "hi-e"})
	chain("hi-e", Chain{Rules: []Rule{
		{Match: Match{CtState: CtEstablished}, Action: Action{Verb: Accept}},
		{Match: Match{Family: IPv4, SrcSets: []string{"bad"}}, Action: Action{Verb: Drop}},
		to(Classify, "peers", FieldSrc, Match{Family: IPv4}),
		{Action: Action{Verb: Drop}},
	}})
	s.Want(ID{Kind: KindSet, Name: "bad"}, &Set{Family: IPv4, Type: TypeNet})
	s.Want(ID{Kind: KindVerdicts, Name: "peers"}, &Verdicts{Family: IPv4, Type: ByNet})
	s.Want(ID{Kind: KindVerdicts, Name: "ports"}, &Verdicts{Type: ByPort})
	for i := range 3000 {
		n := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 32)
		s.Want(ID{Kind: KindVerdict, Name: "peers", Elem: Element{Net: n}}, Ruling{Chain: "class"})
		s.Want(ID{Kind: KindMember, Name: "bad", Elem: Element{Net: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}), 32)}}, Member{})
	}
	chain("class", Chain{Rules: []Rule{to(Classify, "ports", FieldDstPort, Match{Protocol: 6}), {Action: Action{Verb: Drop}}}})
	s.Want(ID{Kind: KindVerdict, Name: "ports", Range: PortRange{8443, 8450}}, Ruling{Chain: "rule"})
	chain("rule", Chain{Rules: []Rule{{Action: Action{Verb: Accept}}}})
	return s
}

// TestFindWitness_FindsTheOnePacketInMany: whatever single thing is altered, a
// packet is found that shows it, and only such a one.
func TestFindWitness_FindsTheOnePacketInMany(t *testing.T) {
	chain := func(s *State, name string, edit func(*Chain)) {
		c := *s.Chains[name]
		c.Rules = append([]Rule{}, c.Rules...)
		edit(&c)
		s.Want(ID{Kind: KindChain, Name: name}, &c)
	}
	net := netip.MustParsePrefix("10.9.4.5/32")
	for _, tc := range []struct {
		name, object, want string
		alter              func(*State)
	}{
		{"the rule of a policy denies", "rule", "accepted, now dropped", func(s *State) {
			chain(s, "rule", func(c *Chain) { c.Rules[0].Action.Verb = Drop })
		}},
		{"one peer of thousands is gone", "peers", "10.9.4.5:", func(s *State) {
			s.Unwant(ID{Kind: KindVerdict, Name: "peers", Elem: Element{Net: net}})
		}},
		{"one peer is added", "peers", "dropped, now accepted", func(s *State) {
			s.Want(ID{Kind: KindVerdict, Name: "peers", Elem: Element{Net: netip.MustParsePrefix("203.0.113.0/24")}}, Ruling{Chain: "class"})
		}},
		{"ports are added", "ports", "dropped, now accepted", func(s *State) {
			s.Want(ID{Kind: KindVerdict, Name: "ports", Range: PortRange{23, 23}}, Ruling{Chain: "rule"})
		}},
		{"a member of a set is added that hides a peer", "bad", "accepted, now dropped", func(s *State) {
			s.Want(ID{Kind: KindMember, Name: "bad", Elem: Element{Net: net}}, Member{})
		}},
		{"the interface is nobody's", "in", "eth7", func(s *State) {
			s.Unwant(ID{Kind: KindEntry, Name: "in", Iface: "eth7"})
		}},
		{"the endpoint's last rule is gone", "hi-e", "in eth7", func(s *State) {
			chain(s, "hi-e", func(c *Chain) { c.Rules = c.Rules[:3] })
		}},
		{"everything is let in", "input", "dropped, now accepted", func(s *State) {
			chain(s, "input", func(c *Chain) { c.Rules = append([]Rule{{Action: Action{Verb: Accept}}}, c.Rules...) })
		}},
	} {
		a, b := fleetState(), fleetState()
		tc.alter(b)
		w, ok := FindWitness(a, b, []string{tc.object})
		if !ok {
			t.Errorf("%s: no packet found", tc.name)
			continue
		}
		va, _ := a.Eval(w.Hook, w.Packet)
		vb, _ := b.Eval(w.Hook, w.Packet)
		if va == vb || va != w.A || vb != w.B || !strings.Contains(w.String(), tc.want) {
			t.Errorf("%s: %s; want %q in it, verdicts are %s and %s", tc.name, w, tc.want, va, vb)
		}
	}
	a, b := fleetState(), fleetState()
	chain(b, "class", func(c *Chain) { c.Rules = append(c.Rules, Rule{Action: Action{Verb: Drop}}) }) // never reached
	if w, ok := FindWitness(a, b, []string{"class"}); ok {
		t.Errorf("a rule that no packet reaches: found %s", w)
	}
	if _, ok := FindWitness(a, b, []string{"nobody"}); ok {
		t.Error(fmt.Errorf("an object that is not there has a witness"))
	}
}
