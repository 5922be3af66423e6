// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// lowered is one kernel rule.
type lowered struct {
	exprs   []byte
	comment string
	body    body
	from    int // the ruleset's rule, from 1
}

// resolver says what names of the ruleset are in the kernel.
type resolver interface {
	// set: over reports that the kernel will not hold all members.
	set(name string, typ ruleset.SetType, f ruleset.Family) (kname string, over bool, err error)
	chain(name string) (kname string, err error)
	dispatch(name string) (kname string, err error)
	verdictsOf(name string) (kname string, def *ruleset.Verdicts, err error)
	// constName is where a constant set of that name and kind is or will be.
	constName(kname string, spec setSpec) string
}

// lowerer turns rules into kernel rules and remembers the constant sets that
// they need.
type lowerer struct {
	resolver
	labels bool // the kernel has connection labels
	consts map[string]*constSet
	dig    digester
	buf    []byte // the rule being written
}

// step appends expressions to a rule.
type step func(p *prog)

// rule renders one rule as zero or more kernel rules; a packet matches at
// most one of those of a rule that does not end its way.
func (l *lowerer) rule(r *ruleset.Rule) ([]lowered, error) {
	c := conj{lowerer: l, verb: r.Action.Verb, m: &r.Match, alts: [][]step{nil}}
	if err := c.match(); err != nil {
		return nil, err
	}
	if c.never {
		return nil, nil
	}
	ends, err := l.action(r)
	if err != nil {
		return nil, err
	}
	var out []lowered
	for _, alt := range c.alts {
		for _, end := range ends {
			p := prog{enc{l.buf[:0]}}
			for _, list := range [][]step{c.steps, alt, end.when} {
				for _, s := range list {
					s(&p)
				}
			}
			if r.Counter {
				p.counter()
			}
			end.do(&p)
			l.buf = p.b
			b, err := l.dig.digest(p.b)
			if err != nil {
				return nil, err
			}
			out = append(out, lowered{exprs: bytes.Clone(p.b), comment: r.Comment, body: b})
		}
	}
	return out, nil
}

// ending is an action, with the match that it needs.
type ending struct {
	when []step
	do   step
}

var logUnits = map[string]uint64{"second": 1, "minute": 60, "hour": 3600, "day": 86400}

func (l *lowerer) action(r *ruleset.Rule) ([]ending, error) {
	one := func(s step) ([]ending, error) { return []ending{{do: s}}, nil }
	a := &r.Action
	switch a.Verb {
	case ruleset.Accept:
		return one(func(p *prog) { p.verdict(nfAccept, "") })
	case ruleset.Drop:
		return one(func(p *prog) { p.verdict(nfDrop, "") })
	case ruleset.Return:
		return one(func(p *prog) { p.verdict(unix.NFT_RETURN, "") })
	case ruleset.Reject:
		rst := ending{do: func(p *prog) { p.reject(true) }}
		unreachable := ending{do: func(p *prog) { p.reject(false) }}
		switch {
		case r.Match.Protocol == unix.IPPROTO_TCP:
			return []ending{rst}, nil
		case r.Match.Protocol != 0 || r.Match.NotProtocol == unix.IPPROTO_TCP:
			return []ending{unreachable}, nil
		}
		// The second has no match of its own: it also gets packets in
		// which the kernel finds no transport protocol.
		rst.when = []step{protocol(unix.IPPROTO_TCP, false)}
		return []ending{rst, unreachable}, nil
	case ruleset.Jump, ruleset.Goto:
		code := int32(unix.NFT_JUMP)
		if a.Verb == ruleset.Goto {
			code = unix.NFT_GOTO
		}
		kname, err := l.chain(a.Target)
		if err != nil {
			return nil, err
		}
		return one(func(p *prog) { p.verdict(code, kname) })
	case ruleset.DispatchIn, ruleset.DispatchOut:
		key := uint32(unix.NFT_META_IIFNAME)
		if a.Verb == ruleset.DispatchOut {
			key = unix.NFT_META_OIFNAME
		}
		kname, err := l.dispatch(a.Target)
		if err != nil {
			return nil, err
		}
		return one(func(p *prog) { p.meta(key, reg1); p.vmap(kname) })
	case ruleset.Classify:
		return l.classify(r)
	case ruleset.Log:
		unit, ok := logUnits[a.LogUnit]
		if a.LogRate > 0 && !ok {
			return nil, fmt.Errorf("log rate per %q: unknown unit", a.LogUnit)
		}
		if len(a.LogPrefix) > 127 {
			return nil, fmt.Errorf("log prefix of %d bytes: longer than 127", len(a.LogPrefix))
		}
		return one(func(p *prog) { p.log(a, unit) })
	case ruleset.SetMark:
		return one(func(p *prog) { p.setMark(^(a.MarkMask | a.Mark), a.Mark) })
	case ruleset.NoTrack:
		return one(func(p *prog) { p.expr("notrack", func() {}) })
	}
	return nil, fmt.Errorf("verb %d: unknown", a.Verb)
}

// conj is a match being rendered: steps that all hold, and alternatives of
// which exactly one holds.
type conj struct {
	*lowerer
	verb  ruleset.Verb
	m     *ruleset.Match
	steps []step
	alts  [][]step
	never bool
}

func (c *conj) add(s ...step) { c.steps = append(c.steps, s...) }

// either multiplies the alternatives.
func (c *conj) either(choices ...[]step) {
	var out [][]step
	for _, a := range c.alts {
		for _, b := range choices {
			out = append(out, append(a[:len(a):len(a)], b...))
		}
	}
	c.alts = out
}

func protocol(n uint8, not bool) step {
	return func(p *prog) { p.meta(unix.NFT_META_L4PROTO, reg1); p.is([]byte{n}, not) }
}

func iface(key uint32, name string) step {
	return func(p *prog) { p.meta(key, reg1); p.is(ifname(name), false) }
}

// ifacePrefix compares the beginning of an interface's name only.
func ifacePrefix(key uint32, prefix string) step {
	return func(p *prog) { p.meta(key, reg1); p.is([]byte(prefix), false) }
}

func masked(load step, mask, want uint32, not bool) step {
	return func(p *prog) {
		load(p)
		if mask != ^uint32(0) {
			p.bitwise(native32(mask), native32(0))
		}
		p.is(native32(want), not)
	}
}

func (c *conj) match() error {
	m := c.m
	switch m.Family {
	case ruleset.AnyFamily:
	case ruleset.IPv4:
		c.add(func(p *prog) { p.meta(unix.NFT_META_NFPROTO, reg1); p.is([]byte{unix.NFPROTO_IPV4}, false) })
	case ruleset.IPv6:
		c.add(func(p *prog) { p.meta(unix.NFT_META_NFPROTO, reg1); p.is([]byte{unix.NFPROTO_IPV6}, false) })
	default:
		return fmt.Errorf("family %d: unknown", m.Family)
	}
	if max(len(m.InInterface), len(m.OutInterface), len(m.InPrefix), len(m.OutPrefix)) > 15 {
		c.never = true
	}
	if m.InInterface != "" {
		c.add(iface(unix.NFT_META_IIFNAME, m.InInterface))
	}
	if m.OutInterface != "" {
		c.add(iface(unix.NFT_META_OIFNAME, m.OutInterface))
	}
	if m.InPrefix != "" {
		c.add(ifacePrefix(unix.NFT_META_IIFNAME, m.InPrefix))
	}
	if m.OutPrefix != "" {
		c.add(ifacePrefix(unix.NFT_META_OIFNAME, m.OutPrefix))
	}
	if m.FromHost {
		c.add(func(p *prog) { p.meta(unix.NFT_META_IIF, reg1); p.is(native32(0), false) })
	}
	c.conntrack()
	c.cut()
	if m.MarkMask != 0 {
		c.add(masked(func(p *prog) { p.meta(unix.NFT_META_MARK, reg1) }, m.MarkMask, m.Mark, false))
		c.never = c.never || m.Mark&^m.MarkMask != 0
	}
	if m.Protocol != 0 {
		c.add(protocol(m.Protocol, false))
	}
	if m.NotProtocol != 0 {
		c.add(protocol(m.NotProtocol, true))
	}
	if err := c.icmp(m.ICMP, false); err != nil {
		return err
	}
	if err := c.icmp(m.NotICMP, true); err != nil {
		return err
	}
	if m.HopLimit255 {
		if m.Family != ruleset.IPv6 {
			return fmt.Errorf("hop limit without family IPv6")
		}
		c.add(func(p *prog) { p.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 7, 1, reg1); p.is([]byte{255}, false) })
	}
	if m.Fragment {
		if m.Family != ruleset.IPv6 {
			return fmt.Errorf("fragment header without family IPv6")
		}
		c.add(func(p *prog) { p.extension(unix.IPPROTO_FRAGMENT); p.is([]byte{1}, false) })
	}
	// Ports before addresses: a comparison costs less than a look-up in a
	// set, and most rules that do not match differ in the port already.
	if err := c.ports(); err != nil {
		return err
	}
	if err := c.addresses(); err != nil {
		return err
	}
	return c.portSets()
}

// ctBits are the kernel's state bits (NF_CT_STATE_BIT) of ours.
var ctBits = []struct {
	ours   ruleset.CtState
	kernel uint32
}{
	{ruleset.CtInvalid, 1}, {ruleset.CtEstablished, 2}, {ruleset.CtRelated, 4},
	{ruleset.CtNew, 8}, {ruleset.CtUntracked, 64},
}

const dnatBit = 0x20 // IPS_DST_NAT

func state(s ruleset.CtState) step {
	var bits uint32
	for _, b := range ctBits {
		if s&b.ours != 0 {
			bits |= b.kernel
		}
	}
	return masked(func(p *prog) { p.ct(unix.NFT_CT_STATE) }, bits, 0, true)
}

// conntrack renders CtState and DNATed. "ct status" matches nothing, not even
// negated, if the packet belongs to no connection; its state is then invalid
// or untracked, and it was not rewritten.
func (c *conj) conntrack() {
	const without = ruleset.CtInvalid | ruleset.CtUntracked
	m := c.m
	if m.CtState != 0 {
		c.add(state(m.CtState))
	}
	status := func(not bool) step {
		return masked(func(p *prog) { p.ct(unix.NFT_CT_STATUS) }, dnatBit, 0, not)
	}
	switch {
	case m.DNATed && m.NotDNATed:
		c.never = true
	case m.DNATed:
		c.add(status(true))
	case !m.NotDNATed:
	case m.CtState != 0 && m.CtState&without == 0:
		c.add(status(false))
	case m.CtState != 0 && m.CtState&^without == 0: // holds always
	default:
		c.either([]step{state(without)}, []step{status(false)})
	}
}

// cut renders Cut, with a statement that sets the label that is set already:
// the kernel gives new connections room for labels only while a rule sets some
// (nf_connlabels_get).
func (c *conj) cut() {
	if !c.m.Cut {
		return
	}
	c.never = c.never || !c.labels
	label := cutLabel()
	c.add(func(p *prog) {
		p.ct(unix.NFT_CT_LABELS)
		p.bitwise(label, make([]byte, len(label)))
		p.is(make([]byte, len(label)), true)
		p.immediate(label)
		p.setCt(unix.NFT_CT_LABELS)
	})
}

// cutLabel is the label as it stands in the 128 bits of a connection.
func cutLabel() []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint64(b[ruleset.CutLabel/64*8:], 1<<(ruleset.CutLabel%64))
	return b
}

func (c *conj) icmp(i *ruleset.ICMP, not bool) error {
	if i == nil {
		return nil
	}
	if c.m.Protocol != unix.IPPROTO_ICMP && c.m.Protocol != unix.IPPROTO_ICMPV6 {
		return fmt.Errorf("icmp type with protocol %d", c.m.Protocol)
	}
	v := []byte{i.Type}
	if i.HasCode {
		v = append(v, i.Code)
	}
	c.add(func(p *prog) {
		p.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, uint32(len(v)), reg1)
		p.is(v, not)
	})
	return nil
}

// side is where source or destination are in the packet.
type side struct {
	name     string
	off4     uint32
	off6     uint32
	portOff  uint32
	nets     [2][]netip.Prefix // positive, negated
	sets     [2][]string
	ports    [2][]ruleset.PortRange
	portSets [2][]string
}

func sides(m *ruleset.Match) [2]side {
	return [2]side{
		{"source", 12, 8, 0, [2][]netip.Prefix{m.Src, m.NotSrc}, [2][]string{m.SrcSets, m.NotSrcSets},
			[2][]ruleset.PortRange{m.SrcPorts, m.NotSrcPorts}, [2][]string{m.SrcPortSets, m.NotSrcPortSets}},
		{"destination", 16, 24, 2, [2][]netip.Prefix{m.Dst, m.NotDst}, [2][]string{m.DstSets, m.NotDstSets},
			[2][]ruleset.PortRange{m.DstPorts, m.NotDstPorts}, [2][]string{m.DstPortSets, m.NotDstPortSets}},
	}
}

// load loads n bytes of the address into a register.
func (s *side) load(f ruleset.Family, n, dreg uint32) step {
	off := s.off4
	if f == ruleset.IPv6 {
		off = s.off6
	}
	return func(p *prog) { p.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, off, n, dreg) }
}

func addrLen(f ruleset.Family) uint32 {
	if f == ruleset.IPv4 {
		return 4
	}
	return 16
}

func (c *conj) addresses() error {
	for _, s := range sides(c.m) {
		for neg := range 2 {
			not := neg == 1
			if len(s.nets[neg]) > 0 {
				if err := c.nets(&s, s.nets[neg], not); err != nil {
					return err
				}
			}
			for _, name := range s.sets[neg] {
				kname, over, err := c.set(name, ruleset.TypeNet, c.m.Family)
				if err != nil {
					return err
				}
				if over && c.skip(not) {
					continue
				}
				c.add(s.load(c.m.Family, addrLen(c.m.Family), reg1), func(p *prog) { p.lookup(kname, reg1, not) })
			}
		}
	}
	return nil
}

// skip decides about a match on a set that is not whole: whether to leave it
// out, or, by c.never, the rule.
func (c *conj) skip(not bool) bool {
	switch c.verb {
	case ruleset.Drop, ruleset.Reject:
		return !not
	case ruleset.Accept:
		c.never = c.never || not
	}
	return false
}

func (c *conj) nets(s *side, nets []netip.Prefix, not bool) error {
	f := c.m.Family
	if f == ruleset.AnyFamily {
		return fmt.Errorf("%s prefixes without a family", s.name)
	}
	for _, n := range nets {
		if n.Addr().Is4() != (f == ruleset.IPv4) || !n.IsValid() || n.Addr().Is4In6() {
			return fmt.Errorf("%s prefix %s: not of the rule's family", s.name, n)
		}
	}
	ranges := merge(prefixRanges(nets))
	if len(ranges) == 1 {
		r := ranges[0]
		switch p, ok := r.prefix(); {
		case ok && p == 0:
			c.never = c.never || not
			return nil
		case ok:
			c.add(prefix(s, f, r, uint32(p), not))
			return nil
		}
		c.add(s.load(f, addrLen(f), reg1), func(p *prog) { p.within([]byte(r.lo), []byte(r.hi), not) })
		return nil
	}
	kname := c.constant(netSpec(f, ranges), ranges)
	c.add(s.load(f, addrLen(f), reg1), func(p *prog) { p.lookup(kname, reg1, not) })
	return nil
}

// prefix compares the leading bits of an address; of whole bytes only those
// are loaded.
func prefix(s *side, f ruleset.Family, r krange, bits uint32, not bool) step {
	n := (bits + 7) / 8
	value := []byte(r.lo)[:n]
	load := s.load(f, n, reg1)
	if bits%8 == 0 {
		return func(p *prog) { load(p); p.is(value, not) }
	}
	load = s.load(f, addrLen(f), reg1)
	mask := make([]byte, addrLen(f))
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return func(p *prog) {
		load(p)
		p.bitwise(mask, make([]byte, len(mask)))
		p.is([]byte(r.lo), not)
	}
}

func (c *conj) ports() error {
	for _, s := range sides(c.m) {
		for neg := range 2 {
			not := neg == 1
			if len(s.ports[neg]) == 0 {
				continue
			}
			if !ruleset.HasPorts(c.m.Protocol) {
				return fmt.Errorf("%s ports with protocol %d", s.name, c.m.Protocol)
			}
			var ranges []krange
			for _, r := range s.ports[neg] {
				if r.Min > r.Max {
					return fmt.Errorf("%s ports %d-%d: wrong order", s.name, r.Min, r.Max)
				}
				ranges = append(ranges, krange{string(net16(r.Min)), string(net16(r.Max))})
			}
			ranges = merge(ranges)
			c.add(func(p *prog) { p.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, s.portOff, 2, reg1) })
			switch r := ranges[0]; {
			case len(ranges) > 1:
				kname := c.constant(portSpec(ranges), ranges)
				c.add(func(p *prog) { p.lookup(kname, reg1, not) })
			case r.lo == r.hi:
				c.add(func(p *prog) { p.is([]byte(r.lo), not) })
			default:
				c.add(func(p *prog) { p.within([]byte(r.lo), []byte(r.hi), not) })
			}
		}
	}
	return nil
}

// portSets renders sets of (address, protocol, port). Of several positive
// ones one alternative each, with "and not in those before", so that exactly
// one holds. A protocol without ports is in no such set.
func (c *conj) portSets() error {
	m := c.m
	var negated []step
	for _, s := range sides(m) {
		for neg := range 2 {
			not := neg == 1
			names := s.portSets[neg]
			var lookups []func(not bool) step
			leaveOut := false
			for _, name := range names {
				kname, over, err := c.set(name, ruleset.TypeAddrPort, m.Family)
				if err != nil {
					return err
				}
				if over && c.skip(not) {
					leaveOut = true
				}
				lookups = append(lookups, func(not bool) step { return s.portLookup(m.Family, kname, not) })
			}
			switch {
			case len(names) == 0 || leaveOut:
			case not:
				for _, l := range lookups {
					negated = append(negated, l(true))
				}
			default:
				var choices [][]step
				for i, l := range lookups {
					choice := []step{l(false)}
					for _, before := range lookups[:i] {
						choice = append(choice, before(true))
					}
					choices = append(choices, choice)
				}
				c.either(choices...)
				c.never = c.never || m.Protocol != 0 && !ruleset.HasPorts(m.Protocol)
			}
		}
	}
	switch {
	case len(negated) == 0:
	case ruleset.HasPorts(m.Protocol):
		c.add(negated...)
	case m.Protocol == 0:
		kname := c.constant(protoSpec, protoRanges)
		ported := func(not bool) step {
			return func(p *prog) { p.meta(unix.NFT_META_L4PROTO, reg1); p.lookup(kname, reg1, not) }
		}
		c.either([]step{ported(true)}, append([]step{ported(false)}, negated...))
	}
	return nil
}

func (s *side) portLookup(f ruleset.Family, kname string, not bool) step {
	words := addrLen(f) / 4
	load := s.load(f, addrLen(f), reg32)
	return func(p *prog) {
		load(p)
		p.meta(unix.NFT_META_L4PROTO, reg32+words)
		p.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, s.portOff, 2, reg32+words+1)
		p.lookup(kname, reg32, not)
	}
}
