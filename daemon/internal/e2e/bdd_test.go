// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/dalzilio/rudd"

	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// space is all IPv4 packets of new connections that pass a hook by given
// interfaces, as a binary decision diagram over their headers: addresses,
// protocol and ports (of ICMP, type and code take the place of the source
// port) and the two bits of the mark that the plan uses.
type space struct {
	*rudd.BDD
	state   *ruleset.State
	in, out string
	accepts rudd.Node
	drops   rudd.Node
}

// Where the fields begin.
const (
	bitSrc    = 0
	bitDst    = bitSrc + 32
	bitProto  = bitDst + 32
	bitSport  = bitProto + 8
	bitDport  = bitSport + 16
	bitMark   = bitDport + 16
	bitsInAll = bitMark + 2
)

// markBits are the mark's bits by variable.
var markBits = [2]uint32{dataplane.MarkAccept, dataplane.MarkPass}

func newSpace(t *testing.T) *rudd.BDD {
	t.Helper()
	b, err := rudd.New(bitsInAll, rudd.Nodesize(1<<18), rudd.Cachesize(1<<16))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// leading is the packets in which the first n of so many bits are those of v.
func (s *space) leading(at, bits, n int, v uint32) rudd.Node {
	r := s.True()
	for i := n - 1; i >= 0; i-- {
		if v>>(bits-1-i)&1 == 1 {
			r = s.And(s.Ithvar(at+i), r)
		} else {
			r = s.And(s.NIthvar(at+i), r)
		}
	}
	return r
}

func (s *space) equal(at, bits int, v uint32) rudd.Node { return s.leading(at, bits, bits, v) }

func (s *space) net(at int, n netip.Prefix) rudd.Node {
	if !n.Addr().Is4() {
		return s.False()
	}
	a := n.Addr().As4()
	return s.leading(at, 32, n.Bits(), uint32(a[0])<<24|uint32(a[1])<<16|uint32(a[2])<<8|uint32(a[3]))
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
		r = s.Or(r, s.leading(at, 16, n, lo))
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
	return s.Or(s.equal(bitProto, 8, 6), s.equal(bitProto, 8, 17), s.equal(bitProto, 8, 132), s.equal(bitProto, 8, 136))
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
		r = s.Or(r, s.And(s.net(addr, e.Net), s.equal(bitProto, 8, uint32(e.Proto)), s.equal(port, 16, uint32(e.Port))))
	}
	return r
}

func (s *space) icmp(i *ruleset.ICMP) rudd.Node {
	r := s.leading(bitSport, 16, 8, uint32(i.Type)<<8)
	if i.HasCode {
		r = s.equal(bitSport, 16, uint32(i.Type)<<8|uint32(i.Code))
	}
	return r
}

// match is the packets that a match holds for.
func (s *space) match(m *ruleset.Match) rudd.Node {
	prefix := func(name, p string) bool { return p == "" || len(name) >= len(p) && name[:len(p)] == p }
	if m.Family == ruleset.IPv6 || m.InInterface != "" && m.InInterface != s.in || m.OutInterface != "" && m.OutInterface != s.out ||
		!prefix(s.in, m.InPrefix) || !prefix(s.out, m.OutPrefix) || m.FromHost && s.in != "" ||
		m.CtState != 0 && m.CtState&ruleset.CtNew == 0 || m.DNATed || m.HopLimit255 {
		return s.False()
	}
	r := s.True()
	also := func(n rudd.Node) { r = s.And(r, n) }
	for i, bit := range markBits {
		switch {
		case m.MarkMask&bit == 0:
		case m.Mark&bit != 0:
			also(s.Ithvar(bitMark + i))
		default:
			also(s.NIthvar(bitMark + i))
		}
	}
	if m.Protocol != 0 {
		also(s.equal(bitProto, 8, uint32(m.Protocol)))
	}
	if m.NotProtocol != 0 {
		also(s.Not(s.equal(bitProto, 8, uint32(m.NotProtocol))))
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
		{bitSrc, bitSport, m.Src, m.NotSrc, m.SrcSets, m.NotSrcSets, m.SrcPorts, m.NotSrcPorts, m.SrcPortSets, m.NotSrcPortSets},
		{bitDst, bitDport, m.Dst, m.NotDst, m.DstSets, m.NotDstSets, m.DstPorts, m.NotDstPorts, m.DstPortSets, m.NotDstPortSets},
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
				hit = s.Exist(hit, s.Makeset([]int{bitMark + i}))
				if a.Mark&bit != 0 {
					hit = s.And(hit, s.Ithvar(bitMark+i))
				} else {
					hit = s.And(hit, s.NIthvar(bitMark+i))
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
			n = s.net(bitSrc, k.Net)
		case ruleset.FieldDst:
			n = s.net(bitDst, k.Net)
		default:
			n = s.And(s.within(bitDport, k.Range), s.ported())
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

// TestBDD_CompiledPlanAcceptsTheSamePackets: of random pictures, at every base
// chain and for every interface, the plan one by one and the compiled plan
// accept and refuse the same packets of all that there can be.
func TestBDD_CompiledPlanAcceptsTheSamePackets(t *testing.T) {
	g := generator{Rand: newRand(t)}
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	spaces, rules := 0, 0
	for range rounds {
		objs := g.resources()
		b := newSpace(t)
		plans := []*ruleset.State{plannedBy(dataplane.NewPlanner, objs), plannedBy(dataplane.NewCompilingPlanner, objs)}
		for _, at := range []struct{ chain, in, out string }{
			{"input", "eth0", ""}, {"input", "eth1", ""}, {"output", "", "eth0"}, {"output", "", "eth1"},
			{"forward-in", "eth0", "eth1"}, {"forward-out", "eth0", "eth1"}, {"forward-from-workload", "cali1", "eth0"}, {"forward-to-workload", "eth0", "cali1"},
		} {
			var accepts, drops [2]rudd.Node
			for i, p := range plans {
				s := &space{BDD: b, state: p, in: at.in, out: at.out, accepts: b.False(), drops: b.False()}
				all := b.And(b.NIthvar(bitMark), b.NIthvar(bitMark+1))
				if left := s.chain(at.chain, all); !b.Equal(left, b.False()) {
					t.Fatalf("plan %d, chain %s: packets come to its end", i, at.chain)
				}
				marks := b.Makeset([]int{bitMark, bitMark + 1})
				accepts[i], drops[i] = b.Exist(s.accepts, marks), b.Exist(s.drops, marks)
				if b.Errored() {
					t.Fatal(b.Error())
				}
			}
			if !b.Equal(accepts[0], accepts[1]) || !b.Equal(drops[0], drops[1]) {
				t.Fatalf("chain %s, %+v: %s headers are accepted by one plan only\n%s\n%s\n%s", at.chain, at,
					b.Satcount(b.Apply(accepts[0], accepts[1], rudd.OPxor)), text(objs), plans[0], plans[1])
			}
			spaces++
		}
		for _, c := range plans[0].Chains {
			rules += len(c.Rules)
		}
	}
	t.Logf("%d spaces of 2^104 headers over %d pictures, %d rules one by one", spaces, rounds, rules)
}
