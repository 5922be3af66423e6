// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"strconv"
	"strings"
)

// Table is a table of a packet filter, anybody's.
type Table struct {
	// Family is inet, ip, ip6, arp, bridge or netdev.
	Family, Name string
	// Legacy tables are those of the xtables facility, not nf_tables.
	Legacy bool
	// Owned tables belong to the netlink socket of a process that runs or,
	// if Persist, has run; Dormant ones do nothing.
	Owned, Persist, Dormant bool
	Chains                  []Chain
	// Sets counts the named sets and maps.
	Sets int
	// Unread: the chains are not known.
	Unread bool
}

// ID is "inet filter"; "ip filter (legacy)" of a legacy table.
func (t Table) ID() string {
	if t.Legacy {
		return t.Family + " " + t.Name + " (legacy)"
	}
	return t.Family + " " + t.Name
}

// chain finds a chain by its name; nil: there is none.
func (t *Table) chain(name string) *Chain {
	for i := range t.Chains {
		if t.Chains[i].Name == name {
			return &t.Chains[i]
		}
	}
	return nil
}

// Chain is a list of rules. Hook is empty unless it is a base chain.
type Chain struct {
	Name string
	// Type is filter, nat or route.
	Type string
	// Hook is prerouting, input, forward, output, postrouting, ingress or
	// egress; Device the interface of the last two.
	Hook, Device string
	Priority     int
	// Drop: what no rule decides is dropped.
	Drop  bool
	Rules []Rule
}

// Action is what a rule does to a packet that it matches.
type Action uint8

// Actions. Goes: the next rule. Other: something that may or may not end the
// packet here, such as a queue to a program.
const (
	Goes Action = iota
	Accepts
	Drops
	Rejects
	Returns
	Jumps
	GoesTo
	DNATs
	Redirects
	SNATs
	Other
)

// Rule is one rule, as far as it is understood.
type Rule struct {
	Match  Match
	Action Action
	// Chain is where Jumps and GoesTo lead.
	Chain string
	// To is the new destination of DNATs (no address: unchanged) and
	// Redirects; To.Port 0: unchanged. ToMap is the map it is looked up in.
	To    netip.AddrPort
	ToMap string
	// Packets counts what the rule has matched; Counted: it does count.
	Packets uint64
	Counted bool
	Comment string
}

// Cond is true of what is among Any, or if Not, of what is not.
type Cond[T any] struct {
	Not bool
	Any []T
}

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// Addrs is a range of addresses of one family, both ends included.
type Addrs struct{ First, Last netip.Addr }

// AddrsOf is the range of a prefix.
func AddrsOf(p netip.Prefix) Addrs {
	p = p.Masked()
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return Addrs{p.Addr(), last}
}

// Match is what a rule asks of a packet: all of it must be true. More names
// what is asked beside and is not understood.
type Match struct {
	In, Out             []Cond[string] // interfaces; "eth*" is a beginning
	Family              int            // 4, 6; 0: any
	Protocols           []Cond[uint8]
	Source, Destination []Cond[Addrs]
	SourcePorts         []Cond[Ports]
	DestinationPorts    []Cond[Ports]
	// States are bits of connection tracking states (see New and others);
	// 0: any.
	States uint32
	// DNATed asks for packets whose destination was changed (or was not);
	// Local for those to an address of the host.
	DNATed, Local *bool
	// Forged asks for packets to whose source no route leads back.
	Forged bool
	More   []string
}

// States of connection tracking, as nf_tables counts them
// (linux/netfilter/nf_conntrack_common.h).
const (
	Invalid     = 1
	Established = 2
	Related     = 4
	New         = 8
	Untracked   = 64
)

// And is both conditions at once.
func (m Match) And(o Match) Match {
	m.In = append(m.In[:len(m.In):len(m.In)], o.In...)
	m.Out = append(m.Out[:len(m.Out):len(m.Out)], o.Out...)
	m.Protocols = append(m.Protocols[:len(m.Protocols):len(m.Protocols)], o.Protocols...)
	m.Source = append(m.Source[:len(m.Source):len(m.Source)], o.Source...)
	m.Destination = append(m.Destination[:len(m.Destination):len(m.Destination)], o.Destination...)
	m.SourcePorts = append(m.SourcePorts[:len(m.SourcePorts):len(m.SourcePorts)], o.SourcePorts...)
	m.DestinationPorts = append(m.DestinationPorts[:len(m.DestinationPorts):len(m.DestinationPorts)], o.DestinationPorts...)
	m.More = append(m.More[:len(m.More):len(m.More)], o.More...)
	if o.Family != 0 {
		m.Family = o.Family
	}
	switch {
	case m.States == 0:
		m.States = o.States
	case o.States != 0:
		m.States &= o.States
	}
	if o.DNATed != nil {
		m.DNATed = o.DNATed
	}
	if o.Local != nil {
		m.Local = o.Local
	}
	m.Forged = m.Forged || o.Forged
	return m
}

// Anything tells whether the match is true of every packet of a family.
func (m Match) Anything() bool {
	return len(m.In)+len(m.Out)+len(m.Protocols)+len(m.Source)+len(m.Destination)+len(m.SourcePorts)+
		len(m.DestinationPorts)+len(m.More) == 0 && m.States == 0 && m.DNATed == nil && m.Local == nil && !m.Forged
}

// String is the match in words: "tcp to port 22 in eth0"; empty: anything.
func (m Match) String() string {
	var parts []string
	add := func(word string, not bool, list []string) {
		if not {
			word += " not"
		}
		parts = append(parts, strings.TrimSpace(word+" "+strings.Join(list, ",")))
	}
	if m.Family != 0 {
		parts = append(parts, "IPv"+strconv.Itoa(m.Family))
	}
	for _, c := range m.Protocols {
		add("", c.Not, texts(c.Any, ProtocolName))
	}
	for _, c := range m.Source {
		add("from", c.Not, texts(c.Any, Addrs.String))
	}
	for _, c := range m.SourcePorts {
		add("from port", c.Not, texts(c.Any, Ports.String))
	}
	for _, c := range m.Destination {
		add("to", c.Not, texts(c.Any, Addrs.String))
	}
	for _, c := range m.DestinationPorts {
		add("to port", c.Not, texts(c.Any, Ports.String))
	}
	for _, c := range m.In {
		add("in", c.Not, c.Any)
	}
	for _, c := range m.Out {
		add("out", c.Not, c.Any)
	}
	if m.States != 0 {
		add("state", false, stateNames(m.States))
	}
	if m.DNATed != nil {
		add("", !*m.DNATed, []string{"redirected"})
	}
	if m.Local != nil {
		add("to", !*m.Local, []string{"this host"})
	}
	if m.Forged {
		parts = append(parts, "with no route back")
	}
	if len(m.More) > 0 {
		add("and more:", false, m.More)
	}
	return strings.Join(parts, " ")
}

func texts[T any](list []T, text func(T) string) []string {
	const most = 8
	var out []string
	for i, x := range list {
		if i == most {
			return append(out, "and "+strconv.Itoa(len(list)-most)+" more")
		}
		out = append(out, text(x))
	}
	return out
}

func stateNames(states uint32) []string {
	var out []string
	for _, s := range []struct {
		bit  uint32
		name string
	}{{Invalid, "invalid"}, {Established, "established"}, {Related, "related"}, {New, "new"}, {Untracked, "untracked"}} {
		if states&s.bit != 0 {
			out = append(out, s.name)
		}
	}
	return out
}

// String is "80" or "8000-8100".
func (p Ports) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return strconv.Itoa(int(p.First)) + "-" + strconv.Itoa(int(p.Last))
}

// String is an address, a prefix or "10.0.0.5-10.0.0.9".
func (a Addrs) String() string {
	if a.First == a.Last {
		return a.First.String()
	}
	for bits := range a.First.BitLen() {
		if p, err := a.First.Prefix(bits); err == nil && AddrsOf(p) == a {
			return p.String()
		}
	}
	return a.First.String() + "-" + a.Last.String()
}

// Holds tells whether the address is in the range.
func (a Addrs) Holds(x netip.Addr) bool {
	return x.BitLen() == a.First.BitLen() && a.First.Compare(x) <= 0 && x.Compare(a.Last) <= 0
}

// ProtocolName is "tcp", "udp", … or the number.
func ProtocolName(n uint8) string {
	if name, ok := protocolNames[n]; ok {
		return name
	}
	return "protocol " + strconv.Itoa(int(n))
}

var protocolNames = map[uint8]string{1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah",
	58: "icmpv6", 132: "sctp", 136: "udplite"}
