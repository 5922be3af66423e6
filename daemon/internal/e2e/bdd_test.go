// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/dalzilio/rudd"

	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// space is all packets of one IP version and of new connections that pass a
// hook by given interfaces, as a binary decision diagram over their headers:
// addresses, protocol and ports (of ICMP, type and code take the place of the
// source port) and the two bits of the mark that the plan uses.
type space struct {
	*rudd.BDD
	layout
	state   *ruleset.State
	in, out string
	accepts rudd.Node
	drops   rudd.Node
}

// layout is where the fields begin, in bits.
type layout struct {
	family                              ruleset.Family
	width                               int // of an address
	src, dst, proto, sport, dport, mark int
}

func layoutOf(f ruleset.Family) layout {
	l := layout{family: f, width: 32}
	if f == ruleset.IPv6 {
		l.width = 128
	}
	l.dst = l.src + l.width
	l.proto = l.dst + l.width
	l.sport = l.proto + 8
	l.dport = l.sport + 16
	l.mark = l.dport + 16
	return l
}

// markBits are the mark's bits by variable.
var markBits = [2]uint32{dataplane.MarkAccept, dataplane.MarkPass}

func newDiagram(t testing.TB, l layout) *rudd.BDD {
	t.Helper()
	b, err := rudd.New(l.mark+len(markBits), rudd.Nodesize(1<<18), rudd.Cachesize(1<<16))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// leading is the packets in which the first n bits of a field are those of v.
func (s *space) leading(at, n int, v []byte) rudd.Node {
	r := s.True()
	for i := n - 1; i >= 0; i-- {
		if v[i/8]>>(7-i%8)&1 == 1 {
			r = s.And(s.Ithvar(at+i), r)
		} else {
			r = s.And(s.NIthvar(at+i), r)
		}
	}
	return r
}

func (s *space) equal8(at int, v uint8) rudd.Node { return s.leading(at, 8, []byte{v}) }
func (s *space) equal16(at int, v uint16) rudd.Node {
	return s.leading(at, 16, []byte{byte(v >> 8), byte(v)})
}

func (s *space) net(at int, n netip.Prefix) rudd.Node {
	if n.Addr().Is4() != (s.family == ruleset.IPv4) {
		return s.False()
	}
	return s.leading(at, n.Bits(), n.Addr().AsSlice())
}

func (s *space) anyNet(at int, nets []netip.Prefix) rudd.Node {
	r := s.False()
	for _, n := range nets {
		r = s.Or(r, s.net(at, n))
	}
	return r
}

// within is the packets with a number from lo to hi: a prefix for each step.
func (s *space) within(at int, p ruleset.PortRange) rudd.Node {
	r := s.False()
	for lo := uint32(p.Min); lo <= uint32(p.Max); {
		n := 16
		for n > 0 && lo&(1<<(16-n+1)-1) == 0 && lo+1<<(16-n+1)-1 <= uint32(p.Max) {
			n--
		}
		r = s.Or(r, s.leading(at, n, []byte{byte(lo >> 8), byte(lo)}))
		lo += 1 << (16 - n)
	}
	return r
}

func (s *space) anyPort(at int, list []ruleset.PortRange) rudd.Node {
	r := s.False()
	for _, p := range list {
		r = s.Or(r, s.within(at, p))
	}
	return s.And(r, s.ported())
}

func (s *space) ported() rudd.Node {
	return s.Or(s.equal8(s.proto, 6), s.equal8(s.proto, 17), s.equal8(s.proto, 132), s.equal8(s.proto, 136))
}

func (s *space) set(at int, name string) rudd.Node {
	return s.anyNet(at, slices.Collect(func(yield func(netip.Prefix) bool) {
		for e := range s.state.Members[name] {
			if !yield(e.Net) {
				return
			}
		}
	}))
}

func (s *space) portSet(addr, port int, name string) rudd.Node {
	r := s.False()
	for e := range s.state.Members[name] {
		r = s.Or(r, s.And(s.net(addr, e.Net), s.equal8(s.proto, e.Proto), s.equal16(port, e.Port)))
	}
	return r
}

func (s *space) icmp(i *ruleset.ICMP) rudd.Node {
	r := s.equal8(s.sport, i.Type)
	if i.HasCode {
		r = s.equal16(s.sport, uint16(i.Type)<<8|uint16(i.Code))
	}
	return r
}

// match is the packets that a match holds for.
func (s *space) match(m *ruleset.Match) rudd.Node {
	prefix := func(name, p string) bool { return p == "" || len(name) >= len(p) && name[:len(p)] == p }
	if m.Family != ruleset.AnyFamily && m.Family != s.family || m.InInterface != "" && m.InInterface != s.in || m.OutInterface != "" && m.OutInterface != s.out ||
		!prefix(s.in, m.InPrefix) || !prefix(s.out, m.OutPrefix) || m.FromHost && s.in != "" ||
		m.CtState != 0 && m.CtState&ruleset.CtNew == 0 || m.DNATed || m.Cut || m.HopLimit255 {
		return s.False()
	}
	r := s.True()
	also := func(n rudd.Node) { r = s.And(r, n) }
	for i, bit := range markBits {
		switch {
		case m.MarkMask&bit == 0:
		case m.Mark&bit != 0:
			also(s.Ithvar(s.mark + i))
		default:
			also(s.NIthvar(s.mark + i))
		}
	}
	if m.Protocol != 0 {
		also(s.equal8(s.proto, m.Protocol))
	}
	if m.NotProtocol != 0 {
		also(s.Not(s.equal8(s.proto, m.NotProtocol)))
	}
	if m.ICMP != nil {
		also(s.icmp(m.ICMP))
	}
	if m.NotICMP != nil {
		also(s.Not(s.icmp(m.NotICMP)))
	}
	for _, side := range []struct {
		addr, port      int
		nets, notNets   []netip.Prefix
		sets, notSets   []string
		ports, notPorts []ruleset.PortRange
		named, notNamed []string
	}{
		{s.src, s.sport, m.Src, m.NotSrc, m.SrcSets, m.NotSrcSets, m.SrcPorts, m.NotSrcPorts, m.SrcPortSets, m.NotSrcPortSets},
		{s.dst, s.dport, m.Dst, m.NotDst, m.DstSets, m.NotDstSets, m.DstPorts, m.NotDstPorts, m.DstPortSets, m.NotDstPortSets},
	} {
		if len(side.nets) > 0 {
			also(s.anyNet(side.addr, side.nets))
		}
		also(s.Not(s.anyNet(side.addr, side.notNets)))
		for _, name := range side.sets {
			also(s.set(side.addr, name))
		}
		for _, name := range side.notSets {
			also(s.Not(s.set(side.addr, name)))
		}
		if len(side.ports) > 0 {
			also(s.anyPort(side.port, side.ports))
		}
		also(s.Not(s.anyPort(side.port, side.notPorts)))
		if len(side.named) > 0 {
			some := s.False()
			for _, name := range side.named {
				some = s.Or(some, s.portSet(side.addr, side.port, name))
			}
			also(some)
		}
		for _, name := range side.notNamed {
			also(s.Not(s.portSet(side.addr, side.port, name)))
		}
	}
	return r
}

// chain takes packets through a chain; those that come to its end are left.
func (s *space) chain(name string, in rudd.Node) (left rudd.Node) {
	c := s.state.Chains[name]
	left = s.False()
	for i := range c.Rules {
		r := &c.Rules[i]
		if s.Equal(in, s.False()) {
			return left
		}
		m := s.match(&r.Match)
		hit := s.And(in, m)
		rest := s.And(in, s.Not(m))
		switch a := &r.Action; a.Verb {
		case ruleset.Accept:
			s.accepts = s.Or(s.accepts, hit)
		case ruleset.Drop, ruleset.Reject:
			s.drops = s.Or(s.drops, hit)
		case ruleset.Return:
			left = s.Or(left, hit)
		case ruleset.Jump:
			rest = s.Or(rest, s.chain(a.Target, hit))
		case ruleset.Goto:
			left = s.Or(left, s.chain(a.Target, hit))
		case ruleset.DispatchIn, ruleset.DispatchOut:
			iface := s.in
			if a.Verb == ruleset.DispatchOut {
				iface = s.out
			}
			switch e, ok := s.state.Entries[a.Target][iface]; {
			case !ok:
				rest = s.Or(rest, hit)
			case e.Chain == "":
				s.accepts = s.Or(s.accepts, hit)
			default:
				left = s.Or(left, s.chain(e.Chain, hit))
			}
		case ruleset.Classify:
			to, none := s.classify(a, hit)
			rest = s.Or(rest, none)
			for _, chain := range slices.Sorted(maps.Keys(to)) {
				left = s.Or(left, s.chain(chain, to[chain]))
			}
		case ruleset.SetMark:
			for i, bit := range markBits {
				if a.MarkMask&bit == 0 {
					continue
				}
				hit = s.Exist(hit, s.Makeset([]int{s.mark + i}))
				if a.Mark&bit != 0 {
					hit = s.And(hit, s.Ithvar(s.mark+i))
				} else {
					hit = s.And(hit, s.NIthvar(s.mark+i))
				}
			}
			rest = s.Or(rest, hit)
		case ruleset.Log, ruleset.NoTrack:
			rest = s.Or(rest, hit)
		}
		in = rest
	}
	return s.Or(left, in)
}

// classify parts packets by a verdict map.
func (s *space) classify(a *ruleset.Action, in rudd.Node) (to map[string]rudd.Node, none rudd.Node) {
	to = map[string]rudd.Node{}
	m := s.state.Verdicts[a.Target]
	keys := slices.SortedFunc(maps.Keys(m.Of), func(a, b ruleset.VerdictKey) int { return b.Net.Bits() - a.Net.Bits() })
	for _, k := range keys { // the longest first
		var n rudd.Node
		switch a.Field {
		case ruleset.FieldSrc:
			n = s.net(s.src, k.Net)
		case ruleset.FieldDst:
			n = s.net(s.dst, k.Net)
		default:
			n = s.And(s.within(s.dport, k.Range), s.ported())
		}
		chain := m.Of[k].Chain
		if to[chain] == nil {
			to[chain] = s.False()
		}
		to[chain] = s.Or(to[chain], s.And(in, n))
		in = s.And(in, s.Not(n))
	}
	return to, in
}

// places are base chains with interfaces that packets pass there.
var places = []struct{ chain, in, out string }{
	{"input", "eth0", ""}, {"input", "eth1", ""}, {"output", "", "eth0"}, {"output", "", "eth1"},
	{"forward-in", "eth0", "eth1"}, {"forward-out", "eth0", "eth1"}, {"forward-from-workload", "cali1", "eth0"}, {"forward-to-workload", "eth0", "cali1"},
}

// judged is what a base chain accepts and drops of all packets without marks.
func judged(t testing.TB, b *rudd.BDD, l layout, p *ruleset.State, chain, in, out string) (accepts, drops rudd.Node) {
	t.Helper()
	s := &space{BDD: b, layout: l, state: p, in: in, out: out, accepts: b.False(), drops: b.False()}
	all := b.And(b.NIthvar(l.mark), b.NIthvar(l.mark+1))
	if left := s.chain(chain, all); !b.Equal(left, b.False()) {
		t.Fatalf("chain %s: packets come to its end", chain)
	}
	marks := b.Makeset([]int{l.mark, l.mark + 1})
	accepts, drops = b.Exist(s.accepts, marks), b.Exist(s.drops, marks)
	if b.Errored() {
		t.Fatal(b.Error())
	}
	return accepts, drops
}

// TestBDD_CompiledPlanAcceptsTheSamePackets: of random pictures, at every base
// chain, for every interface and both IP versions, the plan one by one and the
// compiled plan accept and refuse the same packets of all that there can be.
func TestBDD_CompiledPlanAcceptsTheSamePackets(t *testing.T) {
	g := generator{Rand: newRand(t)}
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	// The library's finalizers of nodes write what its operations read without
	// a lock: no node of a diagram may be found to be garbage while it is used.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	spaces, rules := 0, 0
	for range rounds {
		objs := g.resources()
		one, compiled := plannedBy(dataplane.NewPlanner, objs), plannedBy(dataplane.NewCompilingPlanner, objs)
		for _, l := range []layout{layoutOf(ruleset.IPv4), layoutOf(ruleset.IPv6)} {
			runtime.GC() // of the diagram before
			b := newDiagram(t, l)
			for _, at := range places {
				a0, d0 := judged(t, b, l, one, at.chain, at.in, at.out)
				a1, d1 := judged(t, b, l, compiled, at.chain, at.in, at.out)
				if !b.Equal(a0, a1) || !b.Equal(d0, d1) {
					t.Fatalf("IPv%d, chain %s, %+v: %s headers are accepted by one plan only\n%s\n%s\n%s", l.family, at.chain, at,
						b.Satcount(b.Apply(a0, a1, rudd.OPxor)), text(objs), one, compiled)
				}
				spaces++
			}
		}
		for _, c := range one.Chains {
			rules += len(c.Rules)
		}
	}
	t.Logf("%d spaces (2^104 headers of IPv4, 2^296 of IPv6) over %d pictures, %d rules one by one", spaces, rounds, rules)
}

// BenchmarkBDD is what it costs to prove that 1,000 policies of 5 rules judge
// alike one by one and compiled, in a fleet of 1,000 hosts: one chain, one
// interface, one IP version.
func BenchmarkBDD(b *testing.B) {
	size := size{hosts: 1000, policies: 1000, local: 1000}
	objs := size.objects()
	one, compiled := plannedBy(dataplane.NewPlanner, objs), plannedBy(dataplane.NewCompilingPlanner, objs)
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		b.Run(fmt.Sprintf("IPv%d", f), func(b *testing.B) {
			l := layoutOf(f)
			for b.Loop() {
				d := newDiagram(b, l)
				a0, _ := judged(b, d, l, one, "input", "rstun0", "")
				a1, _ := judged(b, d, l, compiled, "input", "rstun0", "")
				if !d.Equal(a0, a1) {
					b.Fatal("they do not judge alike")
				}
			}
		})
	}
}
