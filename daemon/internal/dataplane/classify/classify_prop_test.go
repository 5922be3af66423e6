// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0: from the clock")

func newRand(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// random makes inputs of things that overlap and touch.
type random struct {
	*rand.Rand
	members map[string]map[ruleset.Element]struct{}
}

var (
	nets4 = prefixes("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.128/25", "10.0.0.4/30", "10.0.0.5/32", "10.0.0.6/32", "10.1.0.1/32", "192.168.0.0/16", "255.255.255.255/32")
	nets6 = prefixes("::/0", "fd00::/8", "fd00::/64", "fd00::4/126", "fd00::5/128", "fd00::6/128", "ffff::/16")
	addrs = []string{"10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.129", "10.0.1.1", "10.1.0.1", "10.2.0.1", "192.168.3.3", "8.8.8.8", "255.255.255.255", "0.0.0.0",
		"fd00::4", "fd00::5", "fd00::6", "fd00::7", "fd00::8", "fd00:1::", "fe00::1", "ffff::", "::"}
	ports  = []uint16{0, 1, 79, 80, 81, 443, 1023, 1024, 8080, 65534, 65535}
	ranges = []ruleset.PortRange{{Min: 80, Max: 80}, {Min: 79, Max: 81}, {Min: 0, Max: 0}, {Min: 0, Max: 65535}, {Min: 1024, Max: 65535}, {Min: 443, Max: 1023}, {Min: 65535, Max: 65535}, {Min: 81, Max: 81}, {Min: 1, Max: 79}}
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func netsOf(f ruleset.Family) []netip.Prefix {
	if f == ruleset.IPv4 {
		return nets4
	}
	return nets6
}

func some[T any](r *rand.Rand, from []T) []T {
	var out []T
	for range 1 + r.IntN(3) {
		out = append(out, pick(r, from...))
	}
	return out
}

// exactly is a matcher of one match.
type exactly struct{ match ruleset.Match }

func (e *exactly) Match(ruleset.Family, int) ruleset.Match { return e.match }

// rule is a random rule; the caller says what follows.
func (r random) rule(chain string) Rule {
	m := r.match()
	return Rule{Of: &exactly{*m}, Family: m.Family, Chain: chain, Ends: r.IntN(3) > 0}
}

func (r random) match() *ruleset.Match {
	one := func(n int) bool { return r.IntN(n) == 0 }
	m := &ruleset.Match{Family: pick(r.Rand, ruleset.AnyFamily, ruleset.IPv4, ruleset.IPv4, ruleset.IPv6)}
	switch r.IntN(6) {
	case 0, 1, 2:
		m.Protocol = pick[uint8](r.Rand, 6, 17, 6, 132)
		for _, f := range []*[]ruleset.PortRange{&m.DstPorts, &m.NotDstPorts, &m.SrcPorts} {
			if one(3) {
				*f = some(r.Rand, ranges)
			}
		}
	case 3:
		m.NotProtocol = pick[uint8](r.Rand, 6, 17, 1)
	case 4:
		m.Protocol = pick[uint8](r.Rand, 1, 58, 47)
		if m.Protocol != 47 && one(2) {
			m.ICMP = &ruleset.ICMP{Type: 8, HasCode: one(2)}
		}
	}
	if m.Family == ruleset.AnyFamily {
		return m
	}
	for _, f := range []*[]netip.Prefix{&m.Src, &m.NotSrc, &m.Dst, &m.NotDst} {
		if one(5) {
			*f = some(r.Rand, netsOf(m.Family))
		}
	}
	for _, f := range []*[]string{&m.SrcSets, &m.NotSrcSets, &m.DstSets, &m.NotDstSets} {
		if one(5) {
			*f = []string{setFor(m.Family, r.IntN(3))}
		}
	}
	return m
}

func setFor(f ruleset.Family, i int) string { return fmt.Sprintf("s%d-%d", i, f) }

func (r random) rules(n int) []Rule {
	var out []Rule
	for i := range n {
		x := r.rule(fmt.Sprint("r", i))
		if !x.Ends {
			x.Next = i + 1
			if r.IntN(2) == 0 {
				x.Next += r.IntN(n - i)
			}
		}
		out = append(out, x)
	}
	return append(out, Rule{Of: &exactly{}, Chain: fmt.Sprint("r", n), Ends: true})
}

func (r random) member() (string, netip.Prefix) {
	f := pick(r.Rand, ruleset.IPv4, ruleset.IPv6)
	return setFor(f, r.IntN(3)), pick(r.Rand, netsOf(f)...)
}

func (r random) packet() ruleset.Packet {
	p := ruleset.Packet{Src: netip.MustParseAddr(pick(r.Rand, addrs...)), Protocol: pick[uint8](r.Rand, 6, 6, 17, 132, 136, 1, 58, 47, 99), State: ruleset.CtNew}
	for {
		p.Dst = netip.MustParseAddr(pick(r.Rand, addrs...))
		if p.Dst.Is4() == p.Src.Is4() {
			break
		}
	}
	if ruleset.HasPorts(p.Protocol) {
		p.SrcPort, p.DstPort = pick(r.Rand, ports...), pick(r.Rand, ports...)
	} else {
		p.ICMPType, p.ICMPCode = pick[uint8](r.Rand, 0, 8), pick[uint8](r.Rand, 0, 1)
	}
	return p
}

// world is a State with the sets and the rules' chains, each of which logs
// its name.
func (r random) world(rules []Rule) *ruleset.State {
	s := ruleset.NewState()
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		for i := range 3 {
			s.Sets[setFor(f, i)] = &ruleset.Set{Family: f, Type: ruleset.TypeNet}
		}
	}
	for set, members := range r.members {
		for e := range members {
			s.Want(ruleset.ID{Kind: ruleset.KindMember, Name: set, Elem: e}, ruleset.Member{})
		}
	}
	for _, x := range rules {
		c := &ruleset.Chain{Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: x.Chain}}}}
		if x.Ends {
			c.Rules = append(c.Rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})
		}
		s.Want(ruleset.ID{Kind: ruleset.KindChain, Name: x.Chain}, c)
	}
	return s
}

// oneByOne is what the rules say, by going through them.
func oneByOne(s *ruleset.State, rules []Rule, p ruleset.Packet) []string {
	var out []string
	for i := 0; ; {
		s.Want(ruleset.ID{Kind: ruleset.KindChain, Name: "test"}, &ruleset.Chain{Hook: ruleset.HookForward, Rules: []ruleset.Rule{{Match: rules[i].Of.Match(0, 0), Action: ruleset.Action{Verb: ruleset.Drop}}}})
		v, _ := s.Eval(ruleset.HookForward, p)
		s.Unwant(ruleset.ID{Kind: ruleset.KindChain, Name: "test"})
		switch {
		case v != ruleset.Dropped:
			i++
		case rules[i].Ends:
			return append(out, rules[i].Chain)
		default:
			out = append(out, rules[i].Chain)
			i = rules[i].Next
		}
	}
}

// compiled is what the program says.
func compiled(s *ruleset.State, p ruleset.Packet) []string {
	_, t := s.Eval(ruleset.HookInput, p)
	return t.Logged
}

func base(p *Program) *ruleset.Chain {
	c := &ruleset.Chain{Hook: ruleset.HookInput}
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		c.Rules = append(c.Rules, ruleset.Rule{Match: ruleset.Match{Family: f}, Action: ruleset.Action{Verb: ruleset.Goto, Target: p.Entry(f)}})
	}
	return c
}

func (r random) program(egress bool, limits Limits, out Out) *Program {
	return New(Input{Base: "x", Egress: egress, Members: func(set string) map[ruleset.Element]struct{} { return r.members[set] }}, limits, out)
}

// edited is a list with some rules gone, come, moved or leading elsewhere; the
// others are the same.
func (r random) edited(rules []Rule, made *int) []Rule {
	type linked struct {
		Rule
		next *linked // nil: the next in order
	}
	var list []*linked
	for i := range rules {
		list = append(list, &linked{Rule: rules[i]})
	}
	for _, x := range list {
		if !x.Ends && x.Next < len(list) && r.IntN(2) == 0 {
			x.next = list[x.Next]
		}
	}
	last := list[len(list)-1]
	list = list[:len(list)-1]
	for range 1 + r.IntN(3) {
		switch at := r.IntN(len(list) + 1); {
		case r.IntN(2) == 0 || len(list) == 0:
			x := &linked{Rule: r.rule(fmt.Sprint("r", *made))}
			*made++
			list = slices.Insert(list, at, x)
		case r.IntN(2) == 0:
			at = min(at, len(list)-1)
			list = slices.Delete(list, at, at+1)
		default: // goes elsewhere
			at = min(at, len(list)-1)
			x := list[at]
			list = slices.Delete(list, at, at+1)
			list = slices.Insert(list, r.IntN(len(list)+1), x)
		}
	}
	list = append(list, last)
	var out []Rule
	for i, x := range list {
		if !x.Ends {
			x.Next = i + 1
			if j := slices.Index(list, x.next); j > i {
				x.Next = j
			}
		}
		out = append(out, x.Rule)
	}
	return out
}

func flush(t *testing.T, p *Program) {
	t.Helper()
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
}

func (r random) change() (string, netip.Prefix, bool) {
	set, n := r.member()
	e := ruleset.Element{Net: n}
	_, there := r.members[set][e]
	if there {
		delete(r.members[set], e)
	} else {
		if r.members[set] == nil {
			r.members[set] = map[ruleset.Element]struct{}{}
		}
		r.members[set][e] = struct{}{}
	}
	return set, n, !there
}

// TestCompile_SaysWhatTheRulesSay: a program agrees with its rules, when it is
// new, after members have come and gone, and after it has replaced another.
func TestCompile_SaysWhatTheRulesSay(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 100
	}
	r := random{Rand: newRand(t)}
	compared := 0
	for range rounds {
		r.members = map[string]map[ruleset.Element]struct{}{}
		for range r.IntN(12) {
			r.change()
		}
		egress := r.IntN(2) == 0
		out := ruleset.NewState()
		p := r.program(egress, DefaultLimits, out)
		made := 1 + r.IntN(10)
		rules := r.rules(made)
		made++
		for range 3 {
			p.Update(rules)
			for range 4 {
				flush(t, p)
				s := r.world(rules)
				for name, c := range out.Chains {
					s.Chains[name] = c
				}
				s.Verdicts = out.Verdicts
				s.Chains["base"] = base(p)
				for range 40 {
					pk := r.packet()
					want, got := oneByOne(s, rules, pk), compiled(s, pk)
					compared++
					if !slices.Equal(want, got) {
						text := ""
						for i := range rules {
							text += fmt.Sprintf("%s: %s ends=%v next=%d\n", rules[i].Chain, (&ruleset.Rule{Match: rules[i].Of.Match(0, 0), Action: ruleset.Action{Verb: ruleset.Accept}}).String(), rules[i].Ends, rules[i].Next)
						}
						t.Fatalf("%+v egress=%v: rules say %q, program %q\n%s\nmembers %v\n%s", pk, egress, want, got, text, r.members, out)
					}
				}
				for range 1 + r.IntN(3) {
					p.Member(r.change())
				}
			}
			rules = r.edited(rules, &made)
		}
		flush(t, p)
		p.Remove()
		if diff := cmp.Diff("", out.String()); diff != "" {
			t.Fatalf("Remove leaves (-want +got):\n%s", diff)
		}
	}
	t.Logf("%d packets", compared)
}

// TestProgram_KeptUpIsTheOneCompiledAnew: whatever rules and members have come
// and gone, what was told adds up to what a new program tells.
func TestProgram_KeptUpIsTheOneCompiledAnew(t *testing.T) {
	r := random{Rand: newRand(t)}
	for round := range 300 {
		r.members = map[string]map[ruleset.Element]struct{}{}
		egress := r.IntN(2) == 0
		keptOut := ruleset.NewState()
		kept := r.program(egress, DefaultLimits, keptOut)
		made := 1 + r.IntN(12)
		rules := r.rules(made)
		made++
		kept.Update(rules)
		for step := range 25 {
			for range r.IntN(4) {
				kept.Member(r.change())
			}
			if r.IntN(2) == 0 {
				rules = r.edited(rules, &made)
				kept.Update(rules)
			}
			if r.IntN(3) == 0 {
				continue
			}
			flush(t, kept)
			freshOut := ruleset.NewState()
			fresh := r.program(egress, DefaultLimits, freshOut)
			fresh.Update(rules)
			flush(t, fresh)
			if diff := cmp.Diff(freshOut.String(), keptOut.String()); diff != "" {
				t.Fatalf("round %d, step %d: compiled anew (-) and kept up (+):\n%s", round, step, diff)
			}
			if a, b := fresh.Stats(), kept.Stats(); a != b {
				t.Fatalf("round %d, step %d: Stats() of one compiled anew %+v, kept up %+v", round, step, a, b)
			}
		}
		kept.Remove()
		if diff := cmp.Diff("", keptOut.String()); diff != "" {
			t.Fatalf("Remove leaves (-want +got):\n%s", diff)
		}
	}
}

// TestProgram_ManyRulesAtOnceAreAsManyOneByOne: pieces of ports that are cut
// anew are those that were cut one by one.
func TestProgram_ManyRulesAtOnceAreAsManyOneByOne(t *testing.T) {
	r := random{Rand: newRand(t), members: map[string]map[ruleset.Element]struct{}{}}
	for range 15 {
		r.change()
	}
	for range 10 {
		rules := r.rules(bulk + 50)
		for i := range rules {
			rules[i].Next = min(rules[i].Next, i+1)
		}
		atOnceOut, slowlyOut := ruleset.NewState(), ruleset.NewState()
		atOnce, slowly := r.program(false, DefaultLimits, atOnceOut), r.program(false, DefaultLimits, slowlyOut)
		atOnce.Update(rules)
		for n := 40; n < len(rules); n += 30 {
			part := append(slices.Clone(rules[:n]), rules[len(rules)-1])
			slowly.Update(part)
			if r.IntN(2) == 0 {
				flush(t, slowly)
			}
		}
		slowly.Update(rules)
		flush(t, atOnce)
		flush(t, slowly)
		if diff := cmp.Diff(atOnceOut.String(), slowlyOut.String()); diff != "" {
			t.Fatalf("at once (-) and one by one (+):\n%s", diff)
		}
	}
}

// counted counts what it is told.
type counted struct{ n int }

func (c *counted) Want(ruleset.ID, ruleset.Object) { c.n++ }
func (c *counted) Unwant(ruleset.ID)               { c.n++ }

// TestProgram_TellsNothingOfWhatStays: a program that is given the rules it
// has tells nothing, and one that gets another rule for a port tells of that
// port.
func TestProgram_TellsNothingOfWhatStays(t *testing.T) {
	r := random{members: map[string]map[ruleset.Element]struct{}{}}
	for i := range 3 {
		for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			r.members[setFor(f, i)] = map[ruleset.Element]struct{}{{Net: netsOf(f)[4+i]}: {}}
		}
	}
	out := &counted{}
	p := r.program(false, DefaultLimits, out)
	udp := func(port uint16, chain string, m ruleset.Match) Rule {
		m.Protocol, m.DstPorts = 17, []ruleset.PortRange{{Min: port, Max: port}}
		return Rule{Of: &exactly{m}, Family: m.Family, Chain: chain, Ends: true}
	}
	var rules []Rule
	for i := range uint16(100) {
		rules = append(rules, udp(2000+2*i, fmt.Sprint("p", i), ruleset.Match{}))
		f := []ruleset.Family{ruleset.IPv4, ruleset.IPv6}[i%2]
		rules = append(rules, udp(4000+2*i, fmt.Sprint("q", i), ruleset.Match{Family: f, SrcSets: []string{setFor(f, int(i/2%3))}}))
	}
	rules = append(rules, Rule{Of: &exactly{}, Chain: "last", Ends: true})
	p.Update(rules)
	flush(t, p)
	if out.n < 300 {
		t.Fatalf("told %d things at first, want one for each port and family at the least", out.n)
	}
	for _, c := range []struct {
		name string
		at   int
		rule Rule
		want int
	}{
		{"the same rules again", 0, rules[0], 0},
		{"another port for everybody", 8, udp(5001, "p4", ruleset.Match{}), 4},
		{"another port for one class", 9, udp(5003, "q4", ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{setFor(ruleset.IPv4, 2)}}), 2},
	} {
		rules = slices.Clone(rules)
		rules[c.at], out.n = c.rule, 0
		p.Update(rules)
		flush(t, p)
		if out.n != c.want {
			t.Errorf("%s: told %d things, want %d", c.name, out.n, c.want)
		}
	}
}

// TestCompile_RefusesWhatIsTooLarge: each limit is one.
func TestCompile_RefusesWhatIsTooLarge(t *testing.T) {
	r := random{Rand: newRand(t), members: map[string]map[ruleset.Element]struct{}{}}
	for range 40 {
		r.change()
	}
	for _, cut := range []func(*Limits){
		func(l *Limits) { l.Entries = 1 }, func(l *Limits) { l.Classes = 1 }, func(l *Limits) { l.Lists = 1 }, func(l *Limits) { l.Work = 1 },
	} {
		l := DefaultLimits
		cut(&l)
		var err error
		for range 50 { // some random rules need little
			p := r.program(false, l, ruleset.NewState())
			p.Update(r.rules(40))
			if err = p.Flush(); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("Compile with %+v: %v, want ErrTooLarge", l, err)
		}
	}
}
