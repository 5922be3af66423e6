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
//	option   = "at" ADDRESS | "via" INTERFACE      of a host: which of its addresses, interfaces
//	         | "sport" PORT | "state" STATE        of the flow
//	         | "through" "host/" NAME              the host that forwards it
//	         | "in" INTERFACE | "out" INTERFACE    of the host that forwards it
//
// host/NAME is a node, hep/NAME a HostEndpoint; a place without who is
// this-host. An option stands behind the place it is of, or, as "at" and "via"
// make no sense behind a mere address, behind the other place. Examples:
//
//	tcp from 10.0.0.2 to host/h1:8080
//	udp from host/h1 via eth1 to [fd00::1]:53 sport 53
//	icmp type 8 from 10.0.0.2 to host/h1 at 10.0.0.5
//	tcp from 10.0.0.2 to 10.1.0.9:443 through host/gw in eth0 out eth1
type Query struct {
	// Protocol is IANA's number.
	Protocol uint8
	// ICMPType and ICMPCode are nil if the question does not say.
	ICMPType, ICMPCode *uint8
	From, To           Place
	// SourcePort is 0 if the question does not say.
	SourcePort uint16
	State      State
	// Through is the host that forwards; In and Out are its interfaces.
	Through, In, Out string
}

// Place is one end of a Query: an address, a host or a host endpoint. Exactly
// one of Addr, Host, Endpoint and ThisHost is set.
type Place struct {
	Addr     netip.Addr
	Host     string
	Endpoint string
	ThisHost bool
	// Port is 0 if the question does not say.
	Port uint16
	// At and Via choose an address and an interface of a host.
	At  netip.Addr
	Via string
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
		return Query{}, fmt.Errorf("%q is not understood here; options are at, via, sport, state, through, in, out", w)
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
		return fmt.Errorf("an address, host/NAME or hep/NAME is missing after %q", after)
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

func (at *Place) parse(w string) error {
	who, portText, hasPort := w, "", false
	switch {
	case strings.HasPrefix(w, "["):
		end := strings.IndexByte(w, ']')
		if end < 0 {
			return fmt.Errorf("%q: the closing ] is missing", w)
		}
		rest := w[end+1:]
		who = w[1:end]
		if _, err := address(who); err != nil {
			return err
		}
		if rest != "" {
			portText, hasPort = strings.CutPrefix(rest, ":")
			if !hasPort {
				return fmt.Errorf("%q: only a port, as in ]:443, may follow the ]", w)
			}
		}
	case strings.Count(w, ":") <= 1:
		who, portText, hasPort = strings.Cut(w, ":")
	}
	if hasPort {
		n, err := port(portText)
		if err != nil {
			return fmt.Errorf("%q: %w", w, err)
		}
		at.Port = n
	}
	return at.who(who)
}

func (at *Place) who(who string) error {
	kind, name, slash := strings.Cut(who, "/")
	switch {
	case who == "" || who == "this-host":
		at.ThisHost = true
		return nil
	case slash && (kind == "host" || kind == "hep"):
		if !nameForm.MatchString(name) {
			return fmt.Errorf("%q: a name is missing or has a character that no name has", who)
		}
		if kind == "host" {
			at.Host = name
		} else {
			at.Endpoint = name
		}
		return nil
	}
	a, err := address(who)
	at.Addr = a
	return err
}

func address(text string) (netip.Addr, error) {
	if _, err := netip.ParsePrefix(text); err == nil {
		return netip.Addr{}, fmt.Errorf("%q is a net; write one address of it", text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is neither an address nor host/NAME nor hep/NAME", text)
	}
	return a.Unmap(), nil
}

func (p *words) address() (netip.Addr, error) { return address(p.take()) }

func (p *words) iface(of string) (string, error) {
	w := p.take()
	if !interfaceForm.MatchString(w) {
		return "", fmt.Errorf("%s needs the name of an interface, not %q", of, w)
	}
	return w, nil
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

// lend gives what is said of a host but stands behind an address to the other
// end, if that is a host.
func (at *Place) lend(other *Place) error {
	if !at.Addr.IsValid() || !at.At.IsValid() && at.Via == "" {
		return nil
	}
	if other.Addr.IsValid() {
		return errors.New("at and via are of a host, and neither end is one; write host/NAME")
	}
	if other.At.IsValid() && at.At.IsValid() || other.Via != "" && at.Via != "" {
		return errors.New("at or via is given twice for the same host")
	}
	if at.At.IsValid() {
		other.At = at.At
	}
	if at.Via != "" {
		other.Via = at.Via
	}
	at.At, at.Via = netip.Addr{}, ""
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

// String is the place as it stands in a question.
func (at Place) String() string {
	var s string
	switch {
	case at.Addr.IsValid() && at.Addr.Is6():
		s = "[" + at.Addr.String() + "]"
	case at.Addr.IsValid():
		s = at.Addr.String()
	case at.Host != "":
		s = "host/" + at.Host
	case at.Endpoint != "":
		s = "hep/" + at.Endpoint
	default:
		s = "this-host"
	}
	if at.Port != 0 {
		s += ":" + strconv.Itoa(int(at.Port))
	}
	if at.At.IsValid() {
		s += " at " + at.At.String()
	}
	if at.Via != "" {
		s += " via " + at.Via
	}
	return s
}
