// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// names resolves everything.
type names struct{ over map[string]bool }

func (n names) set(name string, _ ruleset.SetType, _ ruleset.Family) (string, bool, error) {
	return setName(name), n.over[name], nil
}
func (names) chain(name string) (string, error)    { return chainName(name), nil }
func (names) dispatch(name string) (string, error) { return mapName(name), nil }
func (names) verdictsOf(name string) (string, *ruleset.Verdicts, error) {
	return verdictsName(name), &ruleset.Verdicts{Type: ruleset.ByPort}, nil
}
func (names) constName(kname string, _ setSpec) string { return kname }

func lower(t *testing.T, r ruleset.Rule, over ...string) []lowered {
	t.Helper()
	n := names{over: map[string]bool{}}
	for _, o := range over {
		n.over[o] = true
	}
	l := lowerer{resolver: n, labels: true, consts: map[string]*constSet{}}
	out, err := l.rule(&r)
	if err != nil {
		t.Fatalf("rule(%+v): %v", r, err)
	}
	return out
}

func classifyBy(verdicts string) ruleset.Rule {
	return ruleset.Rule{Match: ruleset.Match{Protocol: 6}, Action: ruleset.Action{Verb: ruleset.Classify, Target: verdicts, Field: ruleset.FieldDstPort}}
}

func TestDigest_SeesEveryDifference(t *testing.T) {
	accept, drop := ruleset.Action{Verb: ruleset.Accept}, ruleset.Action{Verb: ruleset.Drop}
	port := func(a, b uint16) []ruleset.PortRange { return []ruleset.PortRange{{Min: a, Max: b}} }
	rules := []ruleset.Rule{
		{Action: accept}, {Action: drop}, {Action: ruleset.Action{Verb: ruleset.Return}},
		{Action: ruleset.Action{Verb: ruleset.Jump, Target: "a"}}, {Action: ruleset.Action{Verb: ruleset.Jump, Target: "b"}},
		{Action: ruleset.Action{Verb: ruleset.Goto, Target: "a"}},
		{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "a"}}, {Action: ruleset.Action{Verb: ruleset.DispatchOut, Target: "a"}},
		classifyBy("v"), classifyBy("w"),
		{Action: accept, Counter: true},
		{Match: ruleset.Match{Protocol: 6}, Action: accept}, {Match: ruleset.Match{NotProtocol: 6}, Action: accept},
		{Match: ruleset.Match{Protocol: 6, DstPorts: port(0, 0)}, Action: accept},
		{Match: ruleset.Match{Protocol: 6, SrcPorts: port(0, 0)}, Action: accept},
		{Match: ruleset.Match{Protocol: 6, NotDstPorts: port(0, 0)}, Action: accept},
		{Match: ruleset.Match{Protocol: 6, DstPorts: port(0, 1)}, Action: accept},
		{Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"s"}}, Action: accept},
		{Match: ruleset.Match{Family: ruleset.IPv4, NotSrcSets: []string{"s"}}, Action: accept},
		{Match: ruleset.Match{Family: ruleset.IPv4, DstSets: []string{"s"}}, Action: accept},
		{Match: ruleset.Match{FromHost: true}, Action: accept},
		{Match: ruleset.Match{DNATed: true}, Action: accept},
		{Match: ruleset.Match{CtState: ruleset.CtNew}, Action: accept}, {Match: ruleset.Match{CtState: ruleset.CtInvalid}, Action: accept},
		{Match: ruleset.Match{MarkMask: 1}, Action: accept}, {Match: ruleset.Match{MarkMask: 1, Mark: 1}, Action: accept},
		{Action: ruleset.Action{Verb: ruleset.SetMark, MarkMask: 1}}, {Action: ruleset.Action{Verb: ruleset.SetMark, MarkMask: 1, Mark: 1}},
		{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "a"}}, {Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "b"}},
		{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "a", LogRate: 1, LogUnit: "second"}},
		{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "a", LogRate: 1, LogUnit: "minute"}},
		{Match: ruleset.Match{Protocol: 6}, Action: ruleset.Action{Verb: ruleset.Reject}},
		{Match: ruleset.Match{Protocol: 17}, Action: ruleset.Action{Verb: ruleset.Reject}},
	}
	seen := map[sum]int{}
	for i, r := range rules {
		for _, l := range lower(t, r) {
			if j, ok := seen[l.body.sum]; ok {
				t.Errorf("rules %d and %d have the same sum: %+v, %+v", j, i, rules[j], r)
			}
			seen[l.body.sum] = i
		}
	}
}

func TestDigest_CountsDoNotMatter(t *testing.T) {
	rule := func(packets uint64) []byte {
		var p prog
		p.expr("counter", func() {
			p.u64(unix.NFTA_COUNTER_PACKETS, packets)
			p.u64(unix.NFTA_COUNTER_BYTES, packets*100)
		})
		return p.b
	}
	a, err := digest(rule(0))
	if err != nil {
		t.Fatal(err)
	}
	b, err := digest(rule(7))
	if err != nil {
		t.Fatal(err)
	}
	if a.sum != b.sum {
		t.Error("the sum of a rule changes with its counter")
	}
	if b.packets != 7 || b.bytes != 700 {
		t.Errorf("counter reads %d packets, %d bytes, want 7, 700", b.packets, b.bytes)
	}
}

func TestLower_OverfullSetFailsClosed(t *testing.T) {
	m := func(yes, no string) ruleset.Match {
		m := ruleset.Match{Family: ruleset.IPv4, Src: nil}
		if yes != "" {
			m.SrcSets = []string{yes}
		}
		if no != "" {
			m.NotSrcSets = []string{no}
		}
		return m
	}
	ports := ruleset.Match{Family: ruleset.IPv4, DstPortSets: []string{"s", "t"}}
	plain := ruleset.Match{Family: ruleset.IPv4}
	cases := []struct {
		name string
		in   ruleset.Match
		verb ruleset.Verb
		want *ruleset.Match // as if the rule were this; nil: no rule
	}{
		{"drop, in", m("s", ""), ruleset.Drop, &plain},
		{"reject, in", m("s", ""), ruleset.Reject, &plain},
		{"drop, not in", m("", "s"), ruleset.Drop, ptr(m("", "s"))},
		{"accept, in", m("s", ""), ruleset.Accept, ptr(m("s", ""))},
		{"accept, not in", m("", "s"), ruleset.Accept, nil},
		{"accept, in one of port sets", ports, ruleset.Accept, &ports},
		{"drop, in one of port sets", ports, ruleset.Drop, &plain},
		{"return is left alone", m("", "s"), ruleset.Return, ptr(m("", "s"))},
	}
	for _, c := range cases {
		a := ruleset.Action{Verb: c.verb}
		got := lower(t, ruleset.Rule{Match: c.in, Action: a}, "s")
		var want []lowered
		if c.want != nil {
			want = lower(t, ruleset.Rule{Match: *c.want, Action: a})
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d kernel rules, want %d", c.name, len(got), len(want))
			continue
		}
		for i := range got {
			if got[i].body.sum != want[i].body.sum {
				t.Errorf("%s: kernel rule %d is not that of %+v", c.name, i, *c.want)
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestLower_RefusesWhatCannotBeSaid(t *testing.T) {
	a := ruleset.Action{Verb: ruleset.Accept}
	p4 := prefixes("10.0.0.0/8")
	for name, r := range map[string]ruleset.Rule{
		"prefix without family":  {Match: ruleset.Match{Src: p4}, Action: a},
		"prefix of other family": {Match: ruleset.Match{Family: ruleset.IPv6, Src: p4}, Action: a},
		"ports of no protocol":   {Match: ruleset.Match{DstPorts: []ruleset.PortRange{{Min: 1, Max: 1}}}, Action: a},
		"ports of icmp":          {Match: ruleset.Match{Protocol: 1, DstPorts: []ruleset.PortRange{{Min: 1, Max: 1}}}, Action: a},
		"ports backwards":        {Match: ruleset.Match{Protocol: 6, DstPorts: []ruleset.PortRange{{Min: 2, Max: 1}}}, Action: a},
		"icmp type of tcp":       {Match: ruleset.Match{Protocol: 6, ICMP: &ruleset.ICMP{}}, Action: a},
		"hop limit of IPv4":      {Match: ruleset.Match{Family: ruleset.IPv4, HopLimit255: true}, Action: a},
		"no verb":                {},
		"log per fortnight":      {Action: ruleset.Action{Verb: ruleset.Log, LogRate: 1, LogUnit: "fortnight"}},
	} {
		l := lowerer{resolver: names{}, labels: true, consts: map[string]*constSet{}}
		if got, err := l.rule(&r); err == nil {
			t.Errorf("%s: rule() = %d kernel rules, want an error", name, len(got))
		}
	}
}

func TestNames_NeverClash(t *testing.T) {
	seen := map[string]string{}
	long := string(bytes.Repeat([]byte("x"), 300))
	for _, n := range []string{"a", "c-a", "m-a", "h-a", "c-", "a~1", "a b", "", long, long + "y", "c-0123456789abcdef01234567"} {
		for kind, k := range map[string]string{"set": setName(n), "map": mapName(n), "const": prefixConst + "0123456789abcdef01234567"} {
			if kind == "const" && n != "a" {
				continue
			}
			if len(k)+3 > 255 {
				t.Errorf("%s %q: name of %d bytes", kind, n, len(k))
			}
			if other, ok := seen[k]; ok {
				t.Errorf("%s %q and %s are both called %s", kind, n, other, k)
			}
			seen[k] = kind + " " + n
		}
	}
}

// FuzzParse: no bytes from the kernel make a reader panic.
func FuzzParse(f *testing.F) {
	var p prog
	p.meta(unix.NFT_META_L4PROTO, reg1)
	p.is([]byte{6}, false)
	p.verdict(unix.NFT_GOTO, "x")
	f.Add(p.b)
	var b batch
	b.header(subsystem|unix.NFT_MSG_NEWSETELEM, 0, familyINet, 0)
	list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	putElement(&b.enc, []byte{10, 0, 0, 0}, false, verdict{})
	putElement(&b.enc, []byte{11, 0, 0, 0}, true, verdict{code: nfAccept, there: true})
	b.end(list)
	b.closeMsg()
	f.Add(b.b)
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = digest(in)
		_ = comment(in)
		_ = messages(in, func(m message) error {
			m.errno()
			_, _, _, _, _, _ = readRule(m, new(digester))
			flt := &Filter{cfg: Default()}
			k := &kernel{chains: map[string]*kchain{}, sets: map[string]*kset{}}
			_ = flt.readChain(k, m)
			_ = flt.readSet(k, m)
			for _, n := range []int{1, 2, 4, 12, 16} {
				r := records{keyLen: n}
				_ = r.add(m)
				for _, flags := range []uint32{0, unix.NFT_SET_INTERVAL} {
					r.ranges(setSpec{flags: flags}, func(lo, hi []byte) {
						if bytes.Compare(lo, hi) > 0 {
							t.Errorf("range %x-%x", lo, hi)
						}
					})
				}
			}
			return nil
		})
	})
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestReleaseLooksAgain_OnlyWhereItIsKnown(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.0": true, "6.18.44-fc-v595": true, "6.19-rc1": true, "7.0.1": true, "6.17.9": false, "5.15.0-91-generic": false, "6": false, "": false, "next": false,
	} {
		if got := releaseLooksAgain(release); got != want {
			t.Errorf("releaseLooksAgain(%q) = %v, want %v", release, got, want)
		}
	}
}
