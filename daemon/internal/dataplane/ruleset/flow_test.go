// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"net/netip"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// one is a state with one base chain.
func one(h Hook, priority int, rules ...Rule) *State {
	s := NewState()
	s.Want(ID{Kind: KindChain, Name: "base"}, &Chain{Hook: h, Priority: priority, Rules: rules})
	return s
}

func drop(m Match) Rule { return Rule{Match: m, Action: Action{Verb: Drop}} }

func dport(p uint16) Match {
	return Match{Protocol: 6, DstPorts: []PortRange{{Min: p, Max: p}}}
}

func tcpFlow(w Way, in, out []string) *Flow {
	return &Flow{
		Way: w, Protocol: 6, Src: addr("10.0.0.2"), Dst: addr("10.0.0.1"), SrcPort: 40000, DstPort: 8080,
		DNATed: true, NewDst: addr("10.9.0.1"), NewDstPort: 80, In: in, Out: out,
	}
}

// TestState_JudgeShowsARewrittenDestinationWhereTheKernelDoes: before
// priority -100 of prerouting and output a packet has the destination that
// was dialled, behind it the new one.
func TestState_JudgeShowsARewrittenDestinationWhereTheKernelDoes(t *testing.T) {
	for _, c := range []struct {
		name     string
		way      Way
		hook     Hook
		priority int
		port     uint16 // seen there
	}{
		{"raw prerouting", ToHost, HookPrerouting, -300, 8080},
		{"mangle prerouting", Forwarded, HookPrerouting, -150, 8080},
		{"input", ToHost, HookInput, 0, 80},
		{"forward", Forwarded, HookForward, -300, 80},
		{"postrouting of forwarded", Forwarded, HookPostrouting, 0, 80},
		{"raw output", FromHost, HookOutput, -300, 8080},
		{"output", FromHost, HookOutput, 0, 80},
		{"postrouting", FromHost, HookPostrouting, -300, 80},
		{"looped, raw output", Looped, HookOutput, -300, 8080},
		{"looped, raw prerouting", Looped, HookPrerouting, -300, 80},
	} {
		for _, port := range []uint16{80, 8080} {
			s := one(c.hook, c.priority, drop(dport(port)))
			v, _ := s.Judge(tcpFlow(c.way, nil, nil), "eth0", "eth1")
			if got, want := v == Dropped, port == c.port; got != want {
				t.Errorf("%s: a rule for port %d drops: %v, want %v", c.name, port, got, want)
			}
		}
	}
}

func TestState_JudgeTakesAFlowThroughItsOwnHooksOnly(t *testing.T) {
	hooks := map[Way][]Hook{
		ToHost:    {HookPrerouting, HookInput},
		FromHost:  {HookOutput, HookPostrouting},
		Forwarded: {HookPrerouting, HookForward, HookPostrouting},
		Looped:    {HookPrerouting, HookInput, HookOutput, HookPostrouting},
	}
	for way, passed := range hooks {
		for h := HookPrerouting; h <= HookPostrouting; h++ {
			want := Accepted
			for _, p := range passed {
				if p == h {
					want = Dropped
				}
			}
			if v, _ := one(h, 0, drop(Match{})).Judge(tcpFlow(way, nil, nil), "eth0", "eth1"); v != want {
				t.Errorf("%s flow, all dropped in %s: %s, want %s", way, h, v, want)
			}
		}
	}
}

func TestState_JudgeKeepsMarkAndUntrackedBetweenHooks(t *testing.T) {
	s := one(HookPrerouting, -300,
		Rule{Action: Action{Verb: SetMark, Mark: 4, MarkMask: 4}},
		Rule{Action: Action{Verb: NoTrack}})
	s.Want(ID{Kind: KindChain, Name: "input"}, &Chain{Hook: HookInput, Rules: []Rule{
		drop(Match{CtState: CtUntracked, Mark: 4, MarkMask: 4, NotDNATed: true, Protocol: 6, DstPorts: []PortRange{{Min: 8080, Max: 8080}}}),
	}})
	v, tr := s.Judge(tcpFlow(ToHost, nil, nil), "eth0", "")
	if v != Dropped || !tr.NoTrack || tr.Mark != 4 || tr.Chain != "input" {
		t.Errorf("Judge = %s, %+v; want dropped in input, untracked, mark 4", v, tr)
	}
}

func TestCuts_OnlyWhatWasAllowedAndIsDenied(t *testing.T) {
	open, shut := one(HookInput, 0), one(HookInput, 0, drop(dport(80)))
	keep := one(HookInput, 0, Rule{Match: dport(80), Action: Action{Verb: Drop}, KeepFlows: true})
	f := tcpFlow(ToHost, []string{"eth0"}, nil)
	for _, c := range []struct {
		name        string
		before, now *State
		want        bool
	}{
		{"allowed before and now", open, open, false},
		{"allowed before, denied now", open, shut, true},
		{"denied before and now", shut, shut, false},
		{"denied before, allowed now", shut, open, false},
		{"denied now by a rule that keeps flows", open, keep, false},
		{"kept, then denied by a rule that does not", keep, shut, false},
		{"nothing governed it before", NewState(), shut, true},
	} {
		if got := Cuts(c.before, c.now, f); got != c.want {
			t.Errorf("%s: Cuts = %v, want %v", c.name, got, c.want)
		}
	}
}

// TestCuts_NotIfAnyPossibleInterfaceLetsItIn: where routing does not say by
// which interface a flow came, it has the benefit of the doubt.
func TestCuts_NotIfAnyPossibleInterfaceLetsItIn(t *testing.T) {
	open := NewState()
	shut := one(HookInput, 0, drop(Match{InInterface: "eth0"}), drop(Match{InInterface: "eth1"}))
	for _, c := range []struct {
		in   []string
		want bool
	}{
		{[]string{"eth0"}, true},
		{[]string{"eth0", "eth1"}, true},
		{[]string{"eth0", "eth2"}, false},
		{[]string{"eth2", "eth1"}, false},
		{nil, false}, // nothing is known: nothing is done
	} {
		if got := Cuts(open, shut, tcpFlow(ToHost, c.in, nil)); got != c.want {
			t.Errorf("in by any of %v: Cuts = %v, want %v", c.in, got, c.want)
		}
	}
	// Denied before on the one, but not on the other: it may have used that.
	before := one(HookInput, 0, drop(Match{InInterface: "eth0"}))
	if !Cuts(before, shut, tcpFlow(ToHost, []string{"eth0", "eth1"}, nil)) {
		t.Error("allowed before on one of two possible interfaces, denied now on both: Cuts = false, want true")
	}
}

func TestFlow_AnswerComesFromWhereTheConnectionWent(t *testing.T) {
	a := tcpFlow(ToHost, []string{"eth0"}, nil).Answer()
	if a.Way != FromHost || a.Src != addr("10.9.0.1") || a.SrcPort != 80 || a.Dst != addr("10.0.0.2") || a.DstPort != 40000 || len(a.Out) != 1 || a.DNATed {
		t.Errorf("Answer = %+v, want 10.9.0.1:80 to 10.0.0.2:40000, from host, out by eth0", a)
	}
}

// TestState_MembersAreCountedByLength: lookups try only the lengths that
// occur, also after members have come twice and gone.
func TestState_MembersAreCountedByLength(t *testing.T) {
	s := one(HookInput, 0, drop(Match{Family: IPv4, SrcSets: []string{"s"}}))
	s.Want(ID{Kind: KindSet, Name: "s"}, &Set{Family: IPv4, Type: TypeNet})
	member := func(p string) ID {
		return ID{Kind: KindMember, Name: "s", Elem: Element{Net: netip.MustParsePrefix(p)}}
	}
	judge := func() Verdict { v, _ := s.Judge(tcpFlow(ToHost, nil, nil), "", ""); return v }
	steps := []struct {
		do   func()
		want Verdict
	}{
		{func() {}, Accepted},
		{func() { s.Want(member("10.0.0.0/24"), Member{}); s.Want(member("10.0.0.0/24"), Member{}) }, Dropped},
		{func() { s.Want(member("10.1.0.0/24"), Member{}); s.Unwant(member("10.0.0.0/24")) }, Accepted},
		{func() { s.Unwant(member("10.0.0.0/24")); s.Want(member("10.0.0.2/32"), Member{}) }, Dropped},
		{func() { s.Unwant(member("10.1.0.0/24")); s.Want(member("10.1.0.0/24"), Member{}) }, Dropped},
		{func() { s.Unwant(member("10.1.0.0/24")); s.Unwant(member("10.0.0.2/32")) }, Accepted},
		{func() { s.Want(member("0.0.0.0/0"), Member{}) }, Dropped},
	}
	for i, step := range steps {
		if step.do(); judge() != step.want {
			t.Errorf("step %d: %s, want %s", i, judge(), step.want)
		}
		lengths := map[int]bool{}
		for e := range s.Members["s"] {
			lengths[e.Net.Bits()] = true
		}
		if l := s.lookups["s"]; l != nil && len(l.lengths) != len(lengths) || l == nil && len(lengths) > 0 {
			t.Errorf("step %d: looks for lengths %+v, want those of %v", i, l, s.Members["s"])
		}
	}
}
