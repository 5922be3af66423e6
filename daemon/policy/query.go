// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Query is a question in words: what becomes of this flow?
//
//	query    = protocol "from" place "to" place
//	protocol = "tcp" | "udp" | "sctp" | "udplite" | "proto" NUMBER
//	         | ( "icmp" | "icmpv6" ) [ "type" NUMBER [ "code" NUMBER ] ]
//	place    = [ who ] [ ":" PORT ] { option }
//	who      = ADDRESS | "[" ADDRESS "]" | "host/" NAME | "hep/" NAME | "this-host"
//	         | ( "workload/" | "wep/" ) NAMESPACE "/" NAME
//	option   = "at" ADDRESS | "via" INTERFACE      of a host or workload: which address, which
//	                                               interface of the host to the other end
//	         | "sport" PORT | "state" STATE        of the flow
//	         | "dialled" ADDRESS [ ":" PORT ]      of the flow, before destination NAT
//	         | "through" "host/" NAME              the host that forwards it
//	         | "in" INTERFACE | "out" INTERFACE    of the host that forwards it
//
// host/NAME is a node, hep/NAME a HostEndpoint, workload/NAMESPACE/NAME a
// WorkloadEndpoint, by its own name or its workload's (a pod's, a container's);
// a place without who is this-host. An option stands behind the place it is of, or, as "at" and "via"
// make no sense behind a mere address, behind the other place. Examples:
//
//	tcp from 10.0.0.2 to host/h1:8080
//	udp from host/h1 via eth1 to [fd00::1]:53 sport 53
//	icmp type 8 from 10.0.0.2 to host/h1 at 10.0.0.5
//	tcp from 10.0.0.2 to 10.1.0.9:443 through host/gw in eth0 out eth1
//	tcp from workload/prod/web to workload/prod/db:5432
//	tcp from 10.0.0.2 to workload/prod/web:8080 via eth0 dialled 10.0.0.1:80
type Query struct {
	// Protocol is IANA's number.
	Protocol uint8
	// ICMPType and ICMPCode are nil if the question does not say.
	ICMPType, ICMPCode *uint8
	From, To           Place
	// SourcePort is 0 if the question does not say.
	SourcePort uint16
	State      State
	// Dialled is the destination before destination NAT; the zero value: it is
	// not rewritten. The port is 0 for protocols without ports.
	Dialled netip.AddrPort
	// Through is the host that forwards; In and Out are its interfaces.
	Through, In, Out string
}

// protocolWords are the protocols with a word of their own.
var protocolWords = []struct {
	word   string
	number uint8
}{{"tcp", protoTCP}, {"udp", protoUDP}, {"sctp", protoSCTP}, {"udplite", protoUDPLite}, {"icmp", protoICMP}, {"icmpv6", protoICMPv6}}

// Names of nodes and endpoints, and of interfaces, as their kinds allow them.
var (
	nameForm      = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,253}$`)
	interfaceForm = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,15}$`)
)

// ParseFlow reads a question. The error says which word is wrong and what to
// write instead.
func ParseFlow(text string) (Query, error) {
	p := &words{list: strings.Fields(text)}
	q, err := p.query()
	if err != nil {
		return Query{}, fmt.Errorf("flow %q: %w", strings.Join(p.list, " "), err)
	}
	return q, nil
}

// words are the words of a question that are still to be read.
type words struct {
	list []string
	next int
	q    Query
}

func (p *words) query() (Query, error) {
	if err := p.protocol(); err != nil {
		return Query{}, err
	}
	if err := p.want("from"); err != nil {
		return Query{}, err
	}
	if err := p.place(&p.q.From, "from"); err != nil {
		return Query{}, err
	}
	if err := p.want("to"); err != nil {
		return Query{}, err
	}
	if err := p.place(&p.q.To, "to"); err != nil {
		return Query{}, err
	}
	if w := p.peek(); w != "" {
		return Query{}, fmt.Errorf("%q is not understood here; options are at, via, sport, state, dialled, through, in, out", w)
	}
	return p.q, p.check()
}

func (p *words) peek() string {
	if p.next < len(p.list) {
		return p.list[p.next]
	}
	return ""
}

func (p *words) take() string {
	w := p.peek()
	p.next++
	return w
}

func (p *words) want(word string) error {
	switch w := p.take(); w {
	case word:
		return nil
	case "":
		return fmt.Errorf("%q is missing; write: tcp from 10.0.0.2 to host/NAME:80", word)
	default:
		return fmt.Errorf("%q stands where %q should", w, word)
	}
}

func (p *words) protocol() error {
	w := p.take()
	switch strings.ToLower(w) {
	case "":
		return errors.New("nothing is asked; write: tcp from 10.0.0.2 to host/NAME:80")
	case "icmp6":
		p.q.Protocol = protoICMPv6
	case "proto":
		n, err := strconv.ParseUint(p.take(), 10, 8)
		if err != nil || n == 0 {
			return errors.New("proto needs a number from 1 to 255")
		}
		p.q.Protocol = uint8(n)
	default:
		for _, k := range protocolWords {
			if k.word == strings.ToLower(w) {
				p.q.Protocol = k.number
			}
		}
		if p.q.Protocol == 0 {
			return fmt.Errorf("protocol %q is not known; it is tcp, udp, sctp, udplite, icmp, icmpv6 or proto NUMBER", w)
		}
	}
	if p.peek() != "type" {
		return nil
	}
	if !isICMP(p.q.Protocol) {
		return errors.New("only icmp and icmpv6 have a type")
	}
	p.take()
	var err error
	if p.q.ICMPType, err = p.octet("type"); err != nil || p.peek() != "code" {
		return err
	}
	p.take()
	p.q.ICMPCode, err = p.octet("code")
	return err
}

func (p *words) octet(of string) (*uint8, error) {
	n, err := strconv.ParseUint(p.take(), 10, 8)
	if err != nil {
		return nil, fmt.Errorf("%s needs a number from 0 to 255", of)
	}
	o := uint8(n)
	return &o, nil
}

// place reads who and where, and the options behind it.
func (p *words) place(at *Place, after string) error {
	w := p.take()
	if w == "" {
		return fmt.Errorf("an address, host/NAME, hep/NAME or workload/NAMESPACE/NAME is missing after %q", after)
	}
	if err := at.parse(w); err != nil {
		return err
	}
	for {
		var err error
		switch p.peek() {
		case "at":
			p.take()
			at.At, err = p.address()
		case "via":
			p.take()
			at.Via, err = p.iface("via")
		case "sport":
			p.take()
			p.q.SourcePort, err = port(p.take())
		case "state":
			p.take()
			p.q.State, err = state(p.take())
		case "dialled":
			p.take()
			p.q.Dialled, err = dialled(p.take())
		case "through":
			p.take()
			p.q.Through, err = p.through()
		case "in":
			p.take()
			p.q.In, err = p.iface("in")
		case "out":
			p.take()
			p.q.Out, err = p.iface("out")
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *words) address() (netip.Addr, error) { return address(p.take()) }

func (p *words) iface(of string) (string, error) {
	w := p.take()
	if !interfaceForm.MatchString(w) {
		return "", fmt.Errorf("%s needs the name of an interface, not %q", of, w)
	}
	return w, nil
}

// dialled reads an address with a port behind it, if it has one.
func dialled(text string) (netip.AddrPort, error) {
	var at Place
	if err := at.parse(text); err != nil || !at.Addr.IsValid() {
		return netip.AddrPort{}, fmt.Errorf("dialled needs an address and a port, as in 10.0.0.1:80, not %q", text)
	}
	return netip.AddrPortFrom(at.Addr, at.Port), nil
}

func (p *words) through() (string, error) {
	name, ok := strings.CutPrefix(p.take(), "host/")
	if !ok || !nameForm.MatchString(name) {
		return "", errors.New("through needs host/NAME")
	}
	return name, nil
}

func port(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", text)
	}
	return uint16(n), nil
}

func state(text string) (State, error) {
	for s := New; s <= Untracked; s++ {
		if s.String() == text {
			return s, nil
		}
	}
	return New, fmt.Errorf("state %q is not known; it is new, established, related, invalid or untracked", text)
}

func isICMP(protocol uint8) bool { return protocol == protoICMP || protocol == protoICMPv6 }

// check looks at the question as a whole, and gives options that stand behind
// a mere address to the other end.
func (p *words) check() error {
	q := &p.q
	if q.From.Port != 0 {
		if q.SourcePort != 0 && q.SourcePort != q.From.Port {
			return fmt.Errorf("two source ports are given, %d and %d", q.From.Port, q.SourcePort)
		}
		q.SourcePort, q.From.Port = q.From.Port, 0
	}
	switch ports := hasPorts(q.Protocol); {
	case ports && q.To.Port == 0:
		return fmt.Errorf("%s needs a destination port; write: to %s:80", protocolName(q.Protocol), strings.TrimSuffix(q.To.String(), ":"))
	case !ports && (q.To.Port != 0 || q.SourcePort != 0):
		return fmt.Errorf("%s has no ports", protocolName(q.Protocol))
	}
	if err := q.checkDialled(); err != nil {
		return err
	}
	if err := q.From.lend(&q.To); err != nil {
		return err
	}
	if err := q.To.lend(&q.From); err != nil {
		return err
	}
	for _, at := range []*Place{&q.From, &q.To} {
		if at.Addr.IsValid() && at.Addr.Is4() && q.Protocol == protoICMPv6 {
			return errors.New("icmpv6 is of IPv6; write icmp for " + at.Addr.String())
		}
		if at.Addr.IsValid() && at.Addr.Is6() && q.Protocol == protoICMP {
			return errors.New("icmp is of IPv4; write icmpv6 for " + at.Addr.String())
		}
	}
	if a, b := q.From.Addr, q.To.Addr; a.IsValid() && b.IsValid() && a.Is4() != b.Is4() {
		return fmt.Errorf("%s and %s are not of the same IP version", a, b)
	}
	if q.Through == "" && (q.In != "" || q.Out != "") {
		return errors.New("in and out are of the host that forwards; say which: through host/NAME")
	}
	return nil
}

// checkDialled looks at the destination before destination NAT.
func (q *Query) checkDialled() error {
	if !q.Dialled.IsValid() {
		return nil
	}
	a := q.Dialled.Addr()
	switch ports := hasPorts(q.Protocol); {
	case ports && q.Dialled.Port() == 0:
		return fmt.Errorf("dialled needs a port; write: dialled %s", netip.AddrPortFrom(a, 80))
	case !ports && q.Dialled.Port() != 0:
		return fmt.Errorf("%s has no ports", protocolName(q.Protocol))
	}
	for _, other := range []netip.Addr{q.From.Addr, q.To.Addr, q.From.At, q.To.At} {
		if other.IsValid() && familyOf(other) != familyOf(a) {
			return fmt.Errorf("%s and %s are not of the same IP version", a, other)
		}
	}
	return nil
}

// String is the question in words; ParseFlow reads it back.
func (q Query) String() string {
	s := "proto " + strconv.Itoa(int(q.Protocol))
	for _, k := range protocolWords {
		if k.number == q.Protocol {
			s = k.word
		}
	}
	if q.ICMPType != nil {
		s += " type " + strconv.Itoa(int(*q.ICMPType))
	}
	if q.ICMPCode != nil {
		s += " code " + strconv.Itoa(int(*q.ICMPCode))
	}
	s += " from " + q.From.String() + " to " + q.To.String()
	if q.SourcePort != 0 {
		s += " sport " + strconv.Itoa(int(q.SourcePort))
	}
	if q.State != New {
		s += " state " + q.State.String()
	}
	if q.Dialled.IsValid() {
		s += " dialled " + Place{Addr: q.Dialled.Addr(), Port: q.Dialled.Port()}.String()
	}
	if q.Through != "" {
		s += " through host/" + q.Through
	}
	if q.In != "" {
		s += " in " + q.In
	}
	if q.Out != "" {
		s += " out " + q.Out
	}
	return s
}
