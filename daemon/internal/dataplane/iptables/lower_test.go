// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// names resolves every name; sets whose name begins with "over" are not whole.
type names struct{}

func (names) set(name string, _ ruleset.SetType, _ ruleset.Family) (string, bool, error) {
	return setName(name), strings.HasPrefix(name, "over"), nil
}
func (names) chain(name string) error {
	if name == "missing" {
		return errors.New("not wanted")
	}
	return nil
}
func (names) reach(string, ruleset.Family) reach { return everything }
func (names) entries(string) (map[string]ruleset.Entry, error) {
	return map[string]ruleset.Entry{"eth0": {Chain: "hi"}, "lo": {}, "gone": {Chain: "missing"}}, nil
}
func (names) constant(_ ruleset.Family, nets []netip.Prefix) (string, error) {
	return constName("x")[:6] + strings.ReplaceAll(strings.Trim(strings.Join(strings.Fields(cmpText(nets)), "+"), "[]"), "/", "-"), nil
}

func cmpText(nets []netip.Prefix) string {
	var s []string
	for _, n := range nets {
		s = append(s, n.String())
	}
	return strings.Join(s, " ")
}

func TestLower(t *testing.T) {
	v4, v6 := place{ruleset.IPv4, filter}, place{ruleset.IPv6, filter}
	pfx := func(s ...string) (out []netip.Prefix) {
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	accept, drop := ruleset.Action{Verb: ruleset.Accept}, ruleset.Action{Verb: ruleset.Drop}
	for _, c := range []struct {
		name string
		at   place
		rule ruleset.Rule
		want []string
	}{
		{"everything", v4, ruleset.Rule{Action: accept}, []string{"-g rs-ACCEPT"}},
		{"yield", v4, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Accept, Yield: true}}, []string{"-g rs-YIELD"}},
		{"the other family", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv6}, Action: drop}, nil},
		{"one prefix, one not", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, Src: pfx("10.0.0.0/8"), NotDst: pfx("10.1.2.3/24")}, Action: drop},
			[]string{"-s 10.0.0.0/8 ! -d 10.1.2.0/24 -j DROP"}},
		{"prefixes of both signs", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, Src: pfx("10.0.0.0/8"), NotSrc: pfx("10.1.0.0/16")}, Action: drop},
			[]string{"-s 10.0.0.0/8 -m set ! --match-set rs-c-f10.1.0.0-16 src -j DROP"}},
		{"all addresses", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, Src: pfx("0.0.0.0/0", "10.0.0.0/8")}, Action: drop}, []string{"-j DROP"}},
		{"no address", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, NotSrc: pfx("0.0.0.0/0")}, Action: drop}, nil},
		{"sets", v6, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv6, SrcSets: []string{"a", "b"}, NotDstSets: []string{"c"}}, Action: drop},
			[]string{"-m set --match-set rs-a src -m set --match-set rs-b src -m set ! --match-set rs-c dst -j DROP"}},
		{"overfull, denied", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"over"}}, Action: drop}, []string{"-j DROP"}},
		{"overfull, all others allowed", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, NotSrcSets: []string{"over"}}, Action: accept}, nil},
		{"port sets are ORed", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, DstPortSets: []string{"p", "q"}}, Action: drop},
			[]string{"-m set --match-set rs-p dst,dst -j DROP", "-m set --match-set rs-q dst,dst -m set ! --match-set rs-p dst,dst -j DROP"}},
		{"ports", v4, ruleset.Rule{Match: ruleset.Match{Protocol: 6, DstPorts: []ruleset.PortRange{{Min: 443, Max: 443}, {Min: 80, Max: 81}, {Min: 82, Max: 82}}, NotSrcPorts: []ruleset.PortRange{{Min: 0, Max: 0}}}, Action: drop},
			[]string{"-p tcp -m multiport ! --sports 0 -m multiport --dports 80:82,443 -j DROP"}},
		{"icmp but a code", v4, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, Protocol: 1, NotICMP: &ruleset.ICMP{Type: 8, Code: 0, HasCode: true}}, Action: drop},
			[]string{"-p icmp -m icmp ! --icmp-type 8/0 -j DROP"}},
		{"icmpv6 on IPv4 is not allowed", v4, ruleset.Rule{Match: ruleset.Match{Protocol: 58, ICMP: &ruleset.ICMP{Type: 135}}, Action: accept}, nil},
		{"icmpv6 on IPv4 is denied", v4, ruleset.Rule{Match: ruleset.Match{Protocol: 58, ICMP: &ruleset.ICMP{Type: 135}}, Action: drop}, []string{"-p ipv6-icmp -j DROP"}},
		{"neighbour discovery", v6, ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv6, Protocol: 58, ICMP: &ruleset.ICMP{Type: 135}, HopLimit255: true}, Action: accept},
			[]string{"-p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -g rs-ACCEPT"}},
		{"states", v4, ruleset.Rule{Match: ruleset.Match{CtState: ruleset.CtRelated | ruleset.CtEstablished, NotDNATed: true}, Action: accept},
			[]string{"-m conntrack --ctstate RELATED,ESTABLISHED -m conntrack ! --ctstate DNAT -g rs-ACCEPT"}},
		{"interfaces", v4, ruleset.Rule{Match: ruleset.Match{InPrefix: "cali", OutInterface: "eth0", NotProtocol: 17}, Action: drop}, []string{"-i cali+ -o eth0 ! -p udp -j DROP"}},
		{"a prefix as long as a name", v4, ruleset.Rule{Match: ruleset.Match{InPrefix: "abcdefghijklmno"}, Action: drop}, []string{"-i abcdefghijklmno -j DROP"}},
		{"our bits are not the ruleset's", v4, ruleset.Rule{Match: ruleset.Match{Mark: 0x20000, MarkMask: 0x1e0000}, Action: ruleset.Action{Verb: ruleset.SetMark, MarkMask: 0xffffffff}},
			[]string{"-m mark --mark 0x20000/0x20000 -j MARK --set-xmark 0x0/0xffe3ffff"}},
		{"jump", v4, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: "x"}}, []string{"-j rs-x", "-m mark --mark 0x40000/0x40000 -j RETURN"}},
		{"reject anything", v6, ruleset.Rule{Match: ruleset.Match{InInterface: "a"}, Action: ruleset.Action{Verb: ruleset.Reject}},
			[]string{"-i a -p tcp -j REJECT --reject-with tcp-reset", "-i a -j REJECT --reject-with icmp6-adm-prohibited"}},
		{"reject all but UDP", v4, ruleset.Rule{Match: ruleset.Match{NotProtocol: 17}, Action: ruleset.Action{Verb: ruleset.Reject}},
			[]string{"-p tcp -j REJECT --reject-with tcp-reset", "! -p udp -j REJECT --reject-with icmp-admin-prohibited"}},
		{"reject where it cannot be said", place{ruleset.IPv4, mangle}, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Reject}}, []string{"-j DROP"}},
		{"log", v4, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "calico-packet gnp/very-long-name: ", LogRate: 120, LogUnit: "minute", LogBurst: 9}},
			[]string{`-m limit --limit 2/sec --limit-burst 9 -j LOG --log-prefix "calico-packet gnp/very-long: " --log-level 6`}},
		{"dispatch", v4, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "m"}}, []string{"-i eth0 -g rs-hi", "-i gone -j DROP", "-i lo -g rs-YIELD"}},
		{"notrack in filter", v4, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.NoTrack}}, nil},
		{"a jump to what is missing", v4, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: "missing"}}, []string{"-j DROP"}},
		{"an interface that ends in +", v4, ruleset.Rule{Match: ruleset.Match{InInterface: "eth+"}, Action: accept}, nil},
	} {
		l := lowerer{resolver: names{}, at: c.at, name: "c"}
		l.lower("rs-c", &ruleset.Chain{Rules: []ruleset.Rule{c.rule}})
		var got []string
		for _, x := range l.parts[0].lines {
			got = append(got, x.essence())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (%s): want -, got +\n%s", c.name, c.rule.String(), diff)
		}
	}
}

// TestLimitText: rates are written as iptables prints them back.
func TestLimitText(t *testing.T) {
	for _, c := range []struct {
		rate uint64
		unit string
		want string
	}{
		{1, "second", "1/sec"}, {60, "minute", "1/sec"}, {5, "minute", "5/min"}, {1, "day", "1/day"}, {24, "day", "1/hour"}, {700, "hour", "700/hour"}, {10000, "second", "10000/sec"},
	} {
		got, err := limitText(&ruleset.Action{LogRate: c.rate, LogUnit: c.unit})
		if want := " -m limit --limit " + c.want; err != nil || got != want {
			t.Errorf("limitText(%d/%s) = %q, %v, want %q", c.rate, c.unit, got, err, want)
		}
	}
	if _, err := limitText(&ruleset.Action{LogRate: 1, LogUnit: "week"}); err == nil {
		t.Error("a rate per week: no error")
	}
}

func FuzzParseSave(f *testing.F) {
	f.Add([]byte("# c\n*filter\n:INPUT ACCEPT [1:2]\n:rs-x - [0:0]\n[3:4] -A rs-x -s 10.0.0.0/8 -m comment --comment \"rs:abc -p\" -g rs-y\n-A INPUT -j rs-x\nCOMMIT\n"))
	f.Add([]byte("*nat\n:X - [0:0]\nCOMMIT\n*raw\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tables, err := parseSave(b)
		if err != nil {
			return
		}
		for _, k := range tables {
			for name, lines := range k.chains {
				for _, l := range lines {
					if canonical(l) != l && canonical(canonical(l)) != canonical(l) {
						t.Errorf("%s: canonical is not stable for %q", name, l)
					}
					targetOf(l)
					setsOf(l)
					essence(l)
				}
			}
		}
	})
}
