// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// Packet is the first packet of a connection, as far as other people's rules
// are asked about it.
type Packet struct {
	Protocol            uint8
	In, Out             string
	Source, Destination netip.Addr
	DestinationPort     uint16
	// DNATed: its destination was changed. Local: it was dialled at an
	// address of this host.
	DNATed, Local bool
}

// truth is yes, no, or not known.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

// of tells whether a condition holds.
func (c Cond[T]) of(is func(T) bool) truth {
	if slices.ContainsFunc(c.Any, is) != c.Not {
		return yes
	}
	return no
}

// matches tells whether a packet is what the match asks for. Source ports are
// not known, and a source is taken to be what it says it is.
func (m Match) matches(p Packet) truth {
	all := yes
	and := func(t truth) { all = min(all, t) }
	if m.Family != 0 {
		and(Cond[int]{Any: []int{m.Family}}.of(func(f int) bool { return (f == 4) == p.Destination.Is4() }))
	}
	for _, c := range m.In {
		and(c.of(func(n string) bool { return sameInterface(n, p.In) }))
	}
	for _, c := range m.Out {
		and(c.of(func(n string) bool { return sameInterface(n, p.Out) }))
	}
	for _, c := range m.Protocols {
		and(c.of(func(n uint8) bool { return n == p.Protocol }))
	}
	for _, c := range m.Source {
		and(c.of(func(a Addrs) bool { return a.Holds(p.Source) }))
	}
	for _, c := range m.Destination {
		and(c.of(func(a Addrs) bool { return a.Holds(p.Destination) }))
	}
	for _, c := range m.DestinationPorts {
		and(c.of(func(r Ports) bool { return r.First <= p.DestinationPort && p.DestinationPort <= r.Last }))
	}
	if m.States != 0 {
		and(Cond[uint32]{Any: []uint32{New}}.of(func(s uint32) bool { return m.States&s != 0 }))
	}
	if m.DNATed != nil {
		and(Cond[bool]{Any: []bool{p.DNATed}}.of(func(b bool) bool { return b == *m.DNATed }))
	}
	if m.Local != nil {
		and(Cond[bool]{Any: []bool{p.Local}}.of(func(b bool) bool { return b == *m.Local }))
	}
	if m.Forged {
		and(no)
	}
	if len(m.SourcePorts)+len(m.More) > 0 {
		and(maybe)
	}
	return all
}

func sameInterface(pattern, name string) bool {
	if begin, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, begin)
	}
	return pattern == name
}

// Fate is what other people's rules make of a packet. Both false cannot be;
// both true: it is not known. By is what drops it.
type Fate struct {
	Passes, Drops bool
	By            string
}

// Judge asks the base chains of hooks, which a packet meets in this order,
// what becomes of it. Ripstop's own and those of dormant tables are not asked.
func Judge(tables []Table, hooks []string, p Packet) Fate {
	f := Fate{Passes: true}
	for _, hook := range hooks {
		for i := range tables {
			t := &tables[i]
			if t.Dormant || t.ours() || !t.sees(p) {
				continue
			}
			if t.Unread {
				f.Drops, f.By = true, orFirst(f.By, "table "+t.ID()+", which was not read")
				continue
			}
			for j := range t.Chains {
				c := &t.Chains[j]
				if c.Hook != hook || c.Device != "" && c.Device != p.In {
					continue
				}
				w := walk{table: t, packet: p, budget: 20000}
				o := w.chain(c, 0)
				if o.ends && c.Drop {
					o.drops, w.by = true, orFirst(w.by, "the policy of chain "+c.Name+" in table "+t.ID())
				}
				passes := o.accepts || o.ends && !c.Drop
				if o.drops && (f.By == "" || !passes) {
					f.By = w.by
				}
				f.Drops = f.Drops || o.drops
				if !passes {
					return Fate{Drops: true, By: f.By}
				}
			}
		}
	}
	return f
}

func orFirst(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// sees tells whether packets of this family come through the table.
func (t *Table) sees(p Packet) bool {
	switch t.Family {
	case "inet", "netdev":
		return true
	case "ip":
		return p.Destination.Is4()
	case "ip6":
		return !p.Destination.Is4()
	}
	return false
}

// outcome is what can become of a packet in a chain. Ends: it comes back.
type outcome struct{ accepts, drops, ends bool }

// walk is one packet's way through one base chain.
type walk struct {
	table  *Table
	packet Packet
	budget int // rules that are still looked at
	by     string
}

// maxDepth is the kernel's own limit of jumps (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

func (w *walk) chain(c *Chain, depth int) outcome {
	var o outcome
	if c == nil || depth > maxDepth {
		return outcome{true, true, true}
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if w.budget--; w.budget < 0 {
			return outcome{true, true, true}
		}
		t := r.Match.matches(w.packet)
		if t == no {
			continue
		}
		stops := false
		switch r.Action {
		case Accepts, DNATs, Redirects, SNATs:
			o.accepts, stops = true, true
		case Drops, Rejects:
			o.drops, stops = true, true
			w.note(r, c)
		case Returns:
			o.ends, stops = true, true
		case Jumps, GoesTo:
			if strings.HasPrefix(r.Chain, OurPrefix) {
				continue
			}
			s := w.chain(w.table.chain(r.Chain), depth+1)
			o.accepts, o.drops = o.accepts || s.accepts, o.drops || s.drops
			if stops = !s.ends; r.Action == GoesTo && s.ends {
				o.ends, stops = true, true
			}
		case Other:
			o.accepts, o.drops, stops = true, true, true
			w.note(r, c)
		case Goes:
		}
		if stops && t == yes {
			return o
		}
	}
	o.ends = true
	return o
}

// note remembers what dropped the packet: the first that may.
func (w *walk) note(r *Rule, c *Chain) {
	if w.by == "" {
		w.by = "a rule of chain " + c.Name + " in table " + w.table.ID()
		if m := r.Match.String(); m != "" {
			w.by += " (" + m + ")"
		}
	}
}
