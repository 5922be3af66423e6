// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// State is a whole ruleset: every object that is wanted. It implements
// reconcile.Wanter, so a planner can be run into it, and it can be evaluated.
// The zero value is not ready: use NewState. Not safe for concurrent use.
type State struct {
	Chains     map[string]*Chain
	Sets       map[string]*Set
	Members    map[string]map[Element]struct{}
	Dispatches map[string]*Dispatch
	Entries    map[string]map[string]Entry
	Verdicts   map[string]*VerdictMap

	base map[Hook][]string // base chains by priority; nil: to be made
	// lookups has the members of each set that has some, for lookups.
	lookups map[string]*lookup
}

// NewState is an empty ruleset.
func NewState() *State {
	return &State{
		Chains:     map[string]*Chain{},
		Sets:       map[string]*Set{},
		Members:    map[string]map[Element]struct{}{},
		Dispatches: map[string]*Dispatch{},
		Entries:    map[string]map[string]Entry{},
		lookups:    map[string]*lookup{},
		Verdicts:   map[string]*VerdictMap{},
	}
}

// Want adds or replaces an object.
func (s *State) Want(id ID, o Object) {
	switch v := o.(type) {
	case *Chain:
		s.Chains[id.Name] = v
		s.base = nil
	case *Set:
		s.Sets[id.Name] = v
	case Member:
		m := s.Members[id.Name]
		if m == nil {
			m = map[Element]struct{}{}
			s.Members[id.Name] = m
			s.lookups[id.Name] = &lookup{members: m}
		}
		if _, ok := m[id.Elem]; !ok {
			m[id.Elem] = struct{}{}
			s.lookups[id.Name].add(id.Elem, 1)
		}
	case *Dispatch:
		s.Dispatches[id.Name] = v
	case Entry:
		m := s.Entries[id.Name]
		if m == nil {
			m = map[string]Entry{}
			s.Entries[id.Name] = m
		}
		m[id.Iface] = v
	case *Verdicts:
		s.verdictMap(id.Name).Def = v
	case Ruling:
		s.verdictMap(id.Name).put(VerdictKey{id.Elem.Net, id.Range}, v)
	default:
		panic(fmt.Sprintf("ruleset: object of type %T", o))
	}
}

// Unwant removes an object; of what is not there: no effect.
func (s *State) Unwant(id ID) {
	switch id.Kind {
	case KindChain:
		delete(s.Chains, id.Name)
		s.base = nil
	case KindSet:
		delete(s.Sets, id.Name)
	case KindMember:
		m := s.Members[id.Name]
		if _, ok := m[id.Elem]; !ok {
			return
		}
		s.lookups[id.Name].add(id.Elem, -1)
		if delete(m, id.Elem); len(m) == 0 {
			delete(s.Members, id.Name)
			delete(s.lookups, id.Name)
		}
	case KindDispatch:
		delete(s.Dispatches, id.Name)
	case KindEntry:
		delete(s.Entries[id.Name], id.Iface)
	case KindVerdicts:
		s.verdictMap(id.Name).Def = nil
		s.dropEmpty(id.Name)
	case KindVerdict:
		s.verdictMap(id.Name).drop(VerdictKey{id.Elem.Net, id.Range})
		s.dropEmpty(id.Name)
	default:
		panic(fmt.Sprintf("ruleset: id of kind %d", id.Kind))
	}
}

// Packet is what a rule can see of a packet.
type Packet struct {
	Src, Dst         netip.Addr
	Protocol         uint8
	SrcPort, DstPort uint16 // TCP, UDP, SCTP, UDPLite
	ICMPType         uint8  // ICMP, ICMPv6
	ICMPCode         uint8
	// In is empty for packets made on this host, Out for packets to it.
	In, Out  string
	State    CtState // exactly one bit
	DNATed   bool
	Cut      bool // the connection bears the CutLabel
	Mark     uint32
	HopLimit uint8
	// Fragment: see Match.
	Fragment bool
}

// Verdict is what becomes of a packet at a hook.
type Verdict uint8

// Verdicts of Eval.
const (
	Accepted Verdict = iota + 1
	Dropped
	Rejected
)

// String is the verdict's name.
func (v Verdict) String() string {
	return [...]string{"none", "accepted", "dropped", "rejected"}[v]
}

// Trace is what Eval saw on the way.
type Trace struct {
	// Chain and Rule are where the packet was decided.
	Chain string
	Rule  int
	// Comment is that rule's comment.
	Comment string
	// Logged holds the prefixes of the Log rules passed.
	Logged []string
	// Mark is the packet's mark afterwards.
	Mark uint32
	// NoTrack: connection tracking shall leave the packet alone.
	NoTrack bool
}

// Eval runs a packet through all base chains of a hook, in order of priority,
// and returns the verdict, the packet's mark afterwards and where it was
// decided. A base chain without a verdict accepts, as the kernel's policy
// does. The state of the packet is that which tracking gives it, or untracked
// behind a NoTrack. Broken references panic: a planner must not make them.
func (s *State) Eval(h Hook, p Packet) (Verdict, Trace) {
	if s.base == nil {
		s.indexBase()
	}
	var t Trace
	for _, name := range s.base[h] {
		e := evaluation{state: s, packet: &p, trace: &t, early: s.Chains[name].Priority < trackingBegins}
		v := e.chain(name, 0)
		t.Mark = p.Mark
		switch v {
		case Dropped, Rejected:
			return v, t
		}
	}
	t.Mark = p.Mark
	return Accepted, t
}

func (s *State) indexBase() {
	s.base = map[Hook][]string{}
	for name, c := range s.Chains {
		if c.Hook != NoHook {
			s.base[c.Hook] = append(s.base[c.Hook], name)
		}
	}
	for _, names := range s.base {
		sort.Slice(names, func(i, j int) bool {
			a, b := s.Chains[names[i]], s.Chains[names[j]]
			if a.Priority != b.Priority {
				return a.Priority < b.Priority
			}
			return names[i] < names[j]
		})
	}
}

// trackingBegins is the priority of connection tracking in prerouting and
// output (NF_IP_PRI_CONNTRACK).
const trackingBegins = -200

type evaluation struct {
	state  *State
	packet *Packet
	trace  *Trace
	early  bool // tracking has not begun
}

// maxDepth is the kernel's limit of nested jumps (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// chain evaluates a chain; zero means that it came to an end or returned.
func (e *evaluation) chain(name string, depth int) Verdict {
	if depth >= maxDepth {
		panic("ruleset: jumps nested too deep at chain " + name)
	}
	c, ok := e.state.Chains[name]
	if !ok {
		panic("ruleset: no chain " + name)
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if !e.matches(&r.Match) {
			continue
		}
		switch a := &r.Action; a.Verb {
		case Accept, Drop, Reject:
			e.trace.Chain, e.trace.Rule, e.trace.Comment = name, i, r.Comment
			return [...]Verdict{Accept: Accepted, Drop: Dropped, Reject: Rejected}[a.Verb]
		case Return:
			return 0
		case Jump:
			if v := e.chain(a.Target, depth+1); v != 0 {
				return v
			}
		case Goto:
			return e.chain(a.Target, depth+1)
		case DispatchIn, DispatchOut:
			iface := e.packet.In
			if a.Verb == DispatchOut {
				iface = e.packet.Out
			}
			entry, ok := e.state.Entries[a.Target][iface]
			if !ok {
				continue
			}
			if entry.Chain == "" {
				e.trace.Chain, e.trace.Rule, e.trace.Comment = name, i, "interface "+iface
				return Accepted
			}
			return e.chain(entry.Chain, depth+1)
		case Classify:
			if to, ok := e.classify(a); ok {
				return e.chain(to, depth+1)
			}
		case Log:
			e.trace.Logged = append(e.trace.Logged, a.LogPrefix)
		case SetMark:
			e.packet.Mark = e.packet.Mark&^a.MarkMask | a.Mark
		case NoTrack:
			if e.early {
				e.trace.NoTrack, e.packet.State = true, CtUntracked
			}
		default:
			panic(fmt.Sprintf("ruleset: chain %s rule %d: verb %d", name, i, a.Verb))
		}
	}
	return 0
}

// HasPorts reports whether a protocol's header begins with two ports that
// Ripstop matches on: TCP, UDP, SCTP, UDPLite.
func HasPorts(protocol uint8) bool {
	return protocol == 6 || protocol == 17 || protocol == 132 || protocol == 136
}

func (e *evaluation) matches(m *Match) bool {
	p := e.packet
	family := IPv6
	if p.Src.Is4() {
		family = IPv4
	}
	switch {
	case m.Protocol != 0 && m.Protocol != p.Protocol, // the most telling first
		m.Family != AnyFamily && m.Family != family,
		m.InInterface != "" && m.InInterface != p.In,
		m.OutInterface != "" && m.OutInterface != p.Out,
		m.InPrefix != "" && !strings.HasPrefix(p.In, m.InPrefix),
		m.OutPrefix != "" && !strings.HasPrefix(p.Out, m.OutPrefix),
		m.FromHost && p.In != "",
		m.CtState != 0 && m.CtState&p.State == 0,
		m.DNATed && !p.DNATed,
		m.NotDNATed && p.DNATed,
		m.Cut && !p.Cut,
		m.MarkMask != 0 && p.Mark&m.MarkMask != m.Mark,
		m.NotProtocol != 0 && m.NotProtocol == p.Protocol,
		m.ICMP != nil && !m.ICMP.covers(p),
		m.NotICMP != nil && m.NotICMP.covers(p),
		m.HopLimit255 && p.HopLimit != 255,
		m.Fragment && !p.Fragment,
		len(m.Src) > 0 && !covers(m.Src, p.Src),
		covers(m.NotSrc, p.Src),
		len(m.Dst) > 0 && !covers(m.Dst, p.Dst),
		covers(m.NotDst, p.Dst):
		return false
	}
	return e.inSets(m.SrcSets, p.Src, true) && e.inSets(m.NotSrcSets, p.Src, false) &&
		e.inSets(m.DstSets, p.Dst, true) && e.inSets(m.NotDstSets, p.Dst, false) &&
		portsMatch(m.SrcPorts, m.NotSrcPorts, p.SrcPort) &&
		portsMatch(m.DstPorts, m.NotDstPorts, p.DstPort) &&
		e.portSetsMatch(m.SrcPortSets, m.NotSrcPortSets, p.Src, p.SrcPort) &&
		e.portSetsMatch(m.DstPortSets, m.NotDstPortSets, p.Dst, p.DstPort)
}

func (i *ICMP) covers(p *Packet) bool {
	return i.Type == p.ICMPType && (!i.HasCode || i.Code == p.ICMPCode)
}

func covers(nets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(a) })
}

func (e *evaluation) inSets(names []string, a netip.Addr, want bool) bool {
	for _, name := range names {
		if e.inSet(name, a) != want {
			return false
		}
	}
	return true
}

func (e *evaluation) inSet(name string, a netip.Addr) bool {
	l, ok := e.state.lookups[name]
	if !ok {
		if _, ok := e.state.Sets[name]; !ok {
			panic("ruleset: no set " + name)
		}
		return false
	}
	for _, bits := range l.lengths {
		n, err := a.Prefix(int(bits))
		if err != nil {
			continue // of the other family
		}
		if l.has(Element{Net: n}) {
			return true
		}
	}
	return false
}

func portsMatch(yes, no []PortRange, port uint16) bool {
	in := func(r PortRange) bool { return r.Min <= port && port <= r.Max }
	return (len(yes) == 0 || slices.ContainsFunc(yes, in)) && !slices.ContainsFunc(no, in)
}

func (e *evaluation) portSetsMatch(yes, no []string, a netip.Addr, port uint16) bool {
	in := func(name string) bool {
		if _, ok := e.state.Sets[name]; !ok {
			panic("ruleset: no set " + name)
		}
		if !HasPorts(e.packet.Protocol) {
			return false
		}
		l := e.state.lookups[name]
		return l != nil && l.has(Element{Net: netip.PrefixFrom(a, a.BitLen()), Proto: e.packet.Protocol, Port: port})
	}
	return (len(yes) == 0 || slices.ContainsFunc(yes, in)) && !slices.ContainsFunc(no, in)
}
