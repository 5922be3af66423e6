// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// Witness is a packet that fares otherwise in one ruleset than in another.
type Witness struct {
	Hook   Hook
	Packet Packet
	A, B   Verdict
}

// String is the packet in words, with what becomes of it in both:
// "input tcp 10.0.0.7:1024 > 10.0.0.1:22 in eth0, new: dropped, now accepted".
func (w Witness) String() string {
	p := &w.Packet
	src, dst, proto := p.Src.String(), p.Dst.String(), fmt.Sprint("protocol ", p.Protocol)
	switch p.Protocol {
	case 6, 17, 132, 136:
		proto = map[uint8]string{6: "tcp", 17: "udp", 132: "sctp", 136: "udplite"}[p.Protocol]
		src, dst = netip.AddrPortFrom(p.Src, p.SrcPort).String(), netip.AddrPortFrom(p.Dst, p.DstPort).String()
	case 1, 58:
		proto = fmt.Sprintf("%s type %d code %d", map[uint8]string{1: "icmp", 58: "icmpv6"}[p.Protocol], p.ICMPType, p.ICMPCode)
	}
	text := fmt.Sprintf("%s %s %s > %s", hookName(w.Hook), proto, src, dst)
	if p.In != "" {
		text += " in " + p.In
	}
	if p.Out != "" {
		text += " out " + p.Out
	}
	return fmt.Sprintf("%s, %s: %s, now %s", text, stateName(p.State), w.A, w.B)
}

func hookName(h Hook) string {
	return [...]string{"none", "prerouting", "input", "forward", "output", "postrouting"}[h]
}

func stateName(s CtState) string {
	return map[CtState]string{CtInvalid: "invalid", CtEstablished: "established", CtRelated: "related", CtNew: "new", CtUntracked: "untracked"}[s]
}

// witnessTries is how many packets FindWitness tries: some 100 ms of work.
const witnessTries = 30_000

// FindWitness looks for a packet that fares otherwise in b than in a, which
// differ in the chains, sets and maps named. It tries packets made of what is
// said there and on the ways there: addresses, ports, protocols, interfaces,
// and what is just beside them. That it finds none (false) does not mean that
// there is none. What both have must refer to nothing that they lack.
func FindWitness(a, b *State, differ []string) (Witness, bool) {
	f := finder{noted: map[string]bool{}}
	for _, name := range differ {
		f.only(a, b, name)
		f.only(b, a, name)
	}
	f.near, f.nearPorts = slices.Clone(f.addrs), slices.Clone(f.ports)
	for _, name := range differ {
		f.beneath(a, b, name)
		f.beneath(b, a, name)
	}
	for _, s := range []*State{a, b} {
		f.climb(s, differ)
	}
	return f.search(a, b)
}

// only notes the elements of a set or map that b lacks, or has otherwise.
func (f *finder) only(a, b *State, name string) {
	n := 0
	more := func() bool { n++; return n < mostParts }
	for e := range a.Members[name] {
		if _, both := b.Members[name][e]; !both {
			if f.element(e); !more() {
				return
			}
		}
	}
	for iface, e := range a.Entries[name] {
		if b.Entries[name][iface] != e {
			if f.key(VerdictKey{}, iface); !more() {
				return
			}
		}
	}
	if m := a.Verdicts[name]; m != nil {
		for k, r := range m.Of {
			if o := b.Verdicts[name]; o == nil || o.Of[k] != r {
				if f.key(k, ""); !more() {
					return
				}
			}
		}
	}
}

// beneath notes what such elements lead to.
func (f *finder) beneath(a, b *State, name string) {
	m := a.Verdicts[name]
	if m == nil {
		return
	}
	n := 0
	for k, r := range m.Of {
		if o := b.Verdicts[name]; o == nil || o.Of[k] != r {
			f.note(a, r.Chain, 4)
			if n++; n >= mostParts {
				return
			}
		}
	}
}

// finder gathers what packets to try are made of.
type finder struct {
	noted  map[string]bool // names, of either ruleset
	hooks  []Hook
	addrs  []netip.Addr
	ports  []uint16
	protos []uint8
	icmps  []ICMP
	ifaces []string
	marks  []uint32
	// near and nearPorts are of elements that differ: half of all packets are
	// made of them, however many others there are.
	near      []netip.Addr
	nearPorts []uint16
}

// mostParts bounds what is taken from one object, mostObjects how many there
// are.
const (
	mostParts   = 64
	mostObjects = 2000
)

// climb notes what is said in objects, in what they lead to, and in what leads
// to them, up to the base chains.
func (f *finder) climb(s *State, names []string) {
	users := s.users()
	clear(f.noted)
	for _, name := range names {
		f.note(s, name, 4)
	}
	todo := slices.Clone(names)
	up := map[string]bool{}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if up[name] || len(up) > 10_000 {
			continue
		}
		up[name] = true
		if c := s.Chains[name]; c != nil {
			if c.Hook != NoHook && !slices.Contains(f.hooks, c.Hook) {
				f.hooks = append(f.hooks, c.Hook)
			}
			f.note(s, name, 4) // what else it leads to decides too
		}
		for i, u := range users[name] {
			if i >= mostParts {
				break
			}
			f.key(u.key, u.iface)
			todo = append(todo, u.name)
		}
	}
}

// user is what leads to an object: a chain, or a map by one of its elements.
type user struct {
	name  string
	key   VerdictKey
	iface string
}

// users are those of each chain, set and map.
func (s *State) users() map[string][]user {
	all := map[string][]user{}
	for _, name := range slices.Sorted(maps.Keys(s.Chains)) {
		for i := range s.Chains[name].Rules {
			r := &s.Chains[name].Rules[i]
			if r.Action.Target != "" {
				all[r.Action.Target] = append(all[r.Action.Target], user{name: name})
			}
			for _, set := range r.Match.sets() {
				all[set] = append(all[set], user{name: name})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Entries)) {
		for _, iface := range slices.Sorted(maps.Keys(s.Entries[name])) {
			e := s.Entries[name][iface]
			all[e.Chain] = append(all[e.Chain], user{name: name, iface: iface})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Verdicts)) {
		m := s.Verdicts[name]
		for k, r := range m.Of {
			if len(all[r.Chain]) < mostParts {
				all[r.Chain] = append(all[r.Chain], user{name: name, key: k})
			}
		}
	}
	return all
}

// sets are the names of all sets that a match asks.
func (m *Match) sets() []string {
	return slices.Concat(m.SrcSets, m.NotSrcSets, m.DstSets, m.NotDstSets, m.SrcPortSets, m.NotSrcPortSets, m.DstPortSets, m.NotDstPortSets)
}

// note takes what is said in an object, and in what it leads to.
func (f *finder) note(s *State, name string, depth int) {
	if depth == 0 || f.noted[name] || len(f.noted) > mostObjects {
		return
	}
	f.noted[name] = true
	if c := s.Chains[name]; c != nil {
		f.chain(s, c)
		for i := range c.Rules {
			if t := c.Rules[i].Action.Target; t != "" {
				f.note(s, t, depth-1)
			}
		}
	}
	n := 0
	for e := range s.Members[name] {
		f.element(e)
		if n++; n >= mostParts {
			break
		}
	}
	for iface := range s.Entries[name] {
		f.key(VerdictKey{}, iface)
	}
	if m := s.Verdicts[name]; m != nil {
		n = 0
		for k, r := range m.Of {
			f.key(k, "")
			if n++; n >= mostParts {
				break
			}
			f.note(s, r.Chain, depth-1)
		}
	}
}

// element takes a member of a set.
func (f *finder) element(e Element) {
	f.net(e.Net)
	if e.Proto != 0 {
		f.protos = add(f.protos, e.Proto)
		f.port(PortRange{e.Port, e.Port})
	}
}

func (f *finder) key(k VerdictKey, iface string) {
	if k.Net.IsValid() {
		f.net(k.Net)
	} else if k.Range != (PortRange{}) {
		f.port(k.Range)
	}
	if iface != "" {
		f.ifaces = add(f.ifaces, iface)
	}
}

// net takes the first and the last address of a prefix, and one beside it.
func (f *finder) net(n netip.Prefix) {
	first := n.Masked().Addr()
	last := first.AsSlice()
	for i := n.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	for _, a := range []netip.Addr{first, end, end.Next()} {
		if a.IsValid() {
			f.addrs = add(f.addrs, a)
		}
	}
}

func (f *finder) port(r PortRange) {
	for _, p := range []uint16{r.Min, r.Max, r.Max + 1, r.Min - 1} {
		f.ports = add(f.ports, p)
	}
}

// chain takes what the rules of a chain ask for.
func (f *finder) chain(s *State, c *Chain) {
	for i := range c.Rules {
		m := &c.Rules[i].Match
		for _, list := range [][]netip.Prefix{m.Src, m.NotSrc, m.Dst, m.NotDst} {
			for _, n := range list[:min(len(list), mostParts)] {
				f.net(n)
			}
		}
		for _, list := range [][]PortRange{m.SrcPorts, m.NotSrcPorts, m.DstPorts, m.NotDstPorts} {
			for _, r := range list[:min(len(list), mostParts)] {
				f.port(r)
			}
		}
		for _, p := range []uint8{m.Protocol, m.NotProtocol} {
			if p != 0 {
				f.protos = add(f.protos, p)
			}
		}
		for _, x := range []*ICMP{m.ICMP, m.NotICMP} {
			if x != nil {
				f.icmps = add(f.icmps, *x)
			}
		}
		for _, name := range []string{m.InInterface, m.OutInterface, m.InPrefix, m.OutPrefix} {
			if name != "" {
				f.ifaces = add(f.ifaces, name)
			}
		}
		if m.MarkMask != 0 {
			f.marks = add(f.marks, m.Mark)
		}
		for _, name := range m.sets() {
			n := 0
			for e := range s.Members[name] {
				f.element(e)
				if n++; n >= mostParts {
					break
				}
			}
		}
	}
}

// add appends what is not there.
func add[T comparable](list []T, x T) []T {
	if len(list) > 4096 || slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}

// search tries packets, the same ones whenever it is called with the same.
func (f *finder) search(a, b *State) (Witness, bool) {
	if len(f.hooks) == 0 {
		return Witness{}, false
	}
	slices.SortFunc(f.addrs, netip.Addr.Compare)
	slices.Sort(f.ports)
	slices.Sort(f.ifaces)
	slices.Sort(f.protos)
	slices.SortFunc(f.icmps, func(x, y ICMP) int { return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Code, y.Code)) })
	slices.SortFunc(f.near, netip.Addr.Compare)
	slices.Sort(f.nearPorts)
	v4, v6 := byFamily(append(f.addrs, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")))
	near4, near6 := byFamily(f.near)
	ports := append(f.ports, 1024)
	protos := append(f.protos, 6, 17, 1, 58, 253)
	ifaces := append(f.ifaces, "none")
	icmps := append(f.icmps, ICMP{Type: 8})
	marks := append(f.marks, 0, 0)
	rng := rand.New(rand.NewPCG(1, 1))
	for range witnessTries {
		addrs, near := v4, near4
		if rng.IntN(2) == 0 {
			addrs, near = v6, near6
		}
		x := anyOf(rng, icmps)
		p := Packet{
			Src: eitherOf(rng, near, addrs), Dst: eitherOf(rng, near, addrs), Protocol: anyOf(rng, protos),
			SrcPort: anyOf(rng, ports), DstPort: eitherOf(rng, f.nearPorts, ports),
			ICMPType: x.Type, ICMPCode: x.Code, Mark: anyOf(rng, marks), HopLimit: 64,
			State: anyOf(rng, []CtState{CtNew, CtNew, CtNew, CtNew, CtEstablished, CtInvalid}),
		}
		h := anyOf(rng, f.hooks)
		if h != HookOutput && h != HookPostrouting {
			p.In = anyOf(rng, ifaces)
		}
		if h != HookPrerouting && h != HookInput {
			p.Out = anyOf(rng, ifaces)
		}
		va, _ := a.Eval(h, p)
		vb, _ := b.Eval(h, p)
		if va != vb {
			return Witness{h, p, va, vb}, true
		}
	}
	return Witness{}, false
}

func anyOf[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// eitherOf is one of near half of the time, if there are some.
func eitherOf[T any](rng *rand.Rand, near, list []T) T {
	if len(near) > 0 && rng.IntN(2) == 0 {
		return anyOf(rng, near)
	}
	return anyOf(rng, list)
}

func byFamily(list []netip.Addr) (v4, v6 []netip.Addr) {
	for _, a := range list {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	return v4, v6
}
