// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/doctor"
)

// source is what a register holds: a field of the packet, or a constant.
type source struct {
	what string // "daddr", "dport", "iifname", …; "value"; "": not understood
	size int    // of the field, in bytes
	mask []byte
	data []byte // of a constant
}

// reader makes words of the expressions of one rule. What it does not
// understand goes into Match.More, so that nothing is taken for certain that
// is not.
type reader struct {
	s     *surveyor
	table string
	regs  map[uint32]source
	rule  doctor.Rule
	// more are rules that come before: the entries of a verdict map.
	more []doctor.Rule
}

// read gives the rules that one rule of the kernel amounts to: a verdict map
// is a rule for each entry.
func (r *reader) read(list []byte) ([]doctor.Rule, error) {
	err := attrs(list, func(_ uint16, el []byte) error {
		var name string
		var data []byte
		if err := attrs(el, func(t uint16, v []byte) error {
			switch t {
			case unix.NFTA_EXPR_NAME:
				name = toStr(v)
			case unix.NFTA_EXPR_DATA:
				data = v
			}
			return nil
		}); err != nil {
			return err
		}
		a, err := byType(data)
		if err != nil {
			return err
		}
		r.expression(name, a)
		return nil
	})
	if r.rule.Action == doctor.Goes && len(r.more) > 0 {
		return r.more, err
	}
	return append(r.more, r.rule), err
}

// byType is attributes by their type.
func byType(b []byte) (map[uint16][]byte, error) {
	out := map[uint16][]byte{}
	err := attrs(b, func(t uint16, v []byte) error { out[t] = v; return nil })
	return out, err
}

// constant is the data of an immediate or a comparison.
func constant(b []byte) []byte {
	var out []byte
	_ = attrs(b, func(t uint16, v []byte) error {
		if t == unix.NFTA_DATA_VALUE {
			out = v
		}
		return nil
	})
	return out
}

func (r *reader) expression(name string, a map[uint16][]byte) {
	m := &r.rule.Match
	switch name {
	case "payload":
		if _, writes := a[unix.NFTA_PAYLOAD_SREG]; !writes {
			r.load(toU32(a[unix.NFTA_PAYLOAD_DREG]), r.payload(toU32(a[unix.NFTA_PAYLOAD_BASE]), toU32(a[unix.NFTA_PAYLOAD_OFFSET]), toU32(a[unix.NFTA_PAYLOAD_LEN])))
		}
	case "meta":
		if _, writes := a[unix.NFTA_META_SREG]; !writes {
			r.load(toU32(a[unix.NFTA_META_DREG]), metaField(toU32(a[unix.NFTA_META_KEY])))
		}
	case "ct":
		if _, writes := a[unix.NFTA_CT_SREG]; !writes {
			r.load(toU32(a[unix.NFTA_CT_DREG]), source{what: map[uint32]string{unix.NFT_CT_STATE: "state", unix.NFT_CT_STATUS: "status"}[toU32(a[unix.NFTA_CT_KEY])], size: 4})
		}
	case "exthdr": // not a field that is known
		r.load(toU32(a[unix.NFTA_EXTHDR_DREG]), source{size: int(toU32(a[unix.NFTA_EXTHDR_LEN]))})
	case "fib":
		what, flags := "", toU32(a[unix.NFTA_FIB_FLAGS])
		switch toU32(a[unix.NFTA_FIB_RESULT]) {
		case unix.NFT_FIB_RESULT_ADDRTYPE:
			if flags&unix.NFTA_FIB_F_DADDR != 0 {
				what = "local"
			}
		case unix.NFT_FIB_RESULT_OIF:
			if flags&unix.NFTA_FIB_F_SADDR != 0 {
				what = "way back"
			}
		}
		r.load(toU32(a[unix.NFTA_FIB_DREG]), source{what: what, size: 4})
	case "bitwise":
		s := r.regs[regOf(toU32(a[unix.NFTA_BITWISE_SREG]))]
		s.mask = constant(a[unix.NFTA_BITWISE_MASK])
		if len(bytes.Trim(constant(a[unix.NFTA_BITWISE_XOR]), "\x00")) > 0 || s.mask == nil {
			s.what = ""
		}
		r.load(toU32(a[unix.NFTA_BITWISE_DREG]), s)
	case "cmp":
		v := constant(a[unix.NFTA_CMP_DATA])
		r.compare(r.regs[regOf(toU32(a[unix.NFTA_CMP_SREG]))], toU32(a[unix.NFTA_CMP_OP]), v)
	case "range":
		r.within(r.regs[regOf(toU32(a[unix.NFTA_RANGE_SREG]))], toU32(a[unix.NFTA_RANGE_OP]) == unix.NFT_RANGE_NEQ,
			[][]byte{constant(a[unix.NFTA_RANGE_FROM_DATA])}, [][]byte{constant(a[unix.NFTA_RANGE_TO_DATA])})
	case "lookup":
		r.lookup(a)
	case "immediate":
		r.immediate(a)
	case "counter":
		r.rule.Counted, r.rule.Packets = true, toU64(a[unix.NFTA_COUNTER_PACKETS])
	case "nat":
		r.nat(a)
	case "redir":
		r.rule.Action = doctor.Redirects
		r.rule.To = netip.AddrPortFrom(netip.Addr{}, r.port(a[unix.NFTA_REDIR_REG_PROTO_MIN]))
	case "masq":
		r.rule.Action = doctor.SNATs
	case "reject":
		r.rule.Action = doctor.Rejects
	case "queue", "tproxy", "fwd", "synproxy":
		r.rule.Action = doctor.Other
		m.More = append(m.More, name)
	case "match":
		r.xtMatch(toStr(a[unix.NFTA_MATCH_NAME]), toU32(a[unix.NFTA_MATCH_REV]), a[unix.NFTA_MATCH_INFO])
	case "target":
		r.xtTarget(toStr(a[unix.NFTA_TARGET_NAME]), toU32(a[unix.NFTA_TARGET_REV]), a[unix.NFTA_TARGET_INFO])
	case "log", "notrack", "dup", "objref", "byteorder", "flow_offload": // the packet goes on
	default: // limit, quota, dynset, socket, …
		m.More = append(m.More, name)
	}
}

// regOf numbers registers in units of 4 bytes, as the kernel does.
func regOf(r uint32) uint32 { return uint32(register(r)) }

func (r *reader) load(reg uint32, s source) { r.regs[regOf(reg)] = s }

// payload is a field of a header.
func (r *reader) payload(base, offset, size uint32) source {
	type field struct{ base, offset uint32 }
	six := r.rule.Match.Family == 6
	whole := map[string]uint32{"sport": 2, "dport": 2, "protocol": 1, "saddr": 4, "daddr": 4}
	fields := map[field]string{{2, 0}: "sport", {2, 2}: "dport", {1, 9}: "protocol", {1, 12}: "saddr", {1, 16}: "daddr"}
	if six {
		whole["saddr"], whole["daddr"] = 16, 16
		fields = map[field]string{{2, 0}: "sport", {2, 2}: "dport", {1, 6}: "protocol", {1, 8}: "saddr", {1, 24}: "daddr"}
	}
	what := fields[field{base, offset}]
	if size > whole[what] || size < whole[what] && what != "saddr" && what != "daddr" || r.rule.Match.Family == 0 && base == 1 {
		what = ""
	}
	return source{what: what, size: int(size)}
}

func metaField(key uint32) source {
	switch key {
	case unix.NFT_META_IIFNAME:
		return source{what: "iifname", size: 16}
	case unix.NFT_META_OIFNAME:
		return source{what: "oifname", size: 16}
	case unix.NFT_META_IIF:
		return source{what: "iif", size: 4}
	case unix.NFT_META_OIF:
		return source{what: "oif", size: 4}
	case unix.NFT_META_L4PROTO:
		return source{what: "protocol", size: 1}
	case unix.NFT_META_NFPROTO:
		return source{what: "nfproto", size: 1}
	case unix.NFT_META_PROTOCOL:
		return source{what: "ethertype", size: 2}
	}
	return source{}
}

// compare is a cmp expression.
func (r *reader) compare(s source, op uint32, v []byte) {
	m := &r.rule.Match
	not := op == unix.NFT_CMP_NEQ
	switch {
	case (s.what == "state" || s.what == "status") && s.mask != nil && not && len(bytes.Trim(v, "\x00")) == 0:
		r.bits(s.what, binary.NativeEndian.Uint32(pad4(s.mask)))
	case s.what == "state" && s.mask == nil && op == unix.NFT_CMP_EQ:
		r.bits(s.what, binary.NativeEndian.Uint32(pad4(v)))
	case op == unix.NFT_CMP_EQ || not:
		r.within(s, not, [][]byte{v}, [][]byte{v})
	case op == unix.NFT_CMP_GTE:
		r.within(s, false, [][]byte{v}, [][]byte{bytes.Repeat([]byte{0xff}, len(v))})
	case op == unix.NFT_CMP_LTE:
		r.within(s, false, [][]byte{make([]byte, len(v))}, [][]byte{v})
	default:
		m.More = append(m.More, "comparison")
	}
}

func pad4(b []byte) []byte { return append(append([]byte(nil), b...), make([]byte, 4)...)[:4] }

// ipsDstNAT is IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h).
const ipsDstNAT = 0x20

// bits asks that one of the bits is set.
func (r *reader) bits(what string, mask uint32) {
	m := &r.rule.Match
	yes := true
	switch {
	case what == "state" && m.States == 0:
		m.States = mask
	case what == "state":
		m.States &= mask
	case mask == ipsDstNAT:
		m.DNATed = &yes
	default:
		m.More = append(m.More, "ct status")
	}
}

// within asks that a field is in (or in none) of some ranges.
func (r *reader) within(s source, not bool, lo, hi [][]byte) {
	m := &r.rule.Match
	if s.mask != nil && s.what != "saddr" && s.what != "daddr" {
		s.what = ""
	}
	switch s.what {
	case "protocol":
		c := doctor.Cond[uint8]{Not: not}
		for i := range lo {
			for p := int(lo[i][0]); p <= int(hi[i][0]); p++ {
				c.Any = append(c.Any, uint8(p))
			}
		}
		m.Protocols = append(m.Protocols, c)
	case "nfproto", "ethertype":
		family := 0
		if len(lo) == 1 {
			family = map[string]int{"\x02": 4, "\x0a": 6, "\x08\x00": 4, "\x86\xdd": 6}[string(lo[0])]
		}
		if not || family == 0 || m.Family != 0 && m.Family != family {
			m.More = append(m.More, s.what)
			return
		}
		m.Family = family
	case "sport", "dport":
		c := doctor.Cond[doctor.Ports]{Not: not}
		for i := range lo {
			c.Any = append(c.Any, doctor.Ports{First: binary.BigEndian.Uint16(lo[i]), Last: binary.BigEndian.Uint16(hi[i])})
		}
		if s.what == "sport" {
			m.SourcePorts = append(m.SourcePorts, c)
		} else {
			m.DestinationPorts = append(m.DestinationPorts, c)
		}
	case "saddr", "daddr":
		c, ok := addresses(s, not, lo, hi, m.Family)
		switch {
		case !ok:
			m.More = append(m.More, s.what)
		case s.what == "saddr":
			m.Source = append(m.Source, c)
		default:
			m.Destination = append(m.Destination, c)
		}
	case "iifname", "oifname", "iif", "oif":
		c := doctor.Cond[string]{Not: not}
		for i := range lo {
			name, ok := interfaceName(s.what, lo[i], hi[i])
			if !ok {
				m.More = append(m.More, s.what)
				return
			}
			c.Any = append(c.Any, name)
		}
		if s.what[0] == 'i' {
			m.In = append(m.In, c)
		} else {
			m.Out = append(m.Out, c)
		}
	case "state":
		mask := uint32(0)
		for i := range lo {
			if !bytes.Equal(lo[i], hi[i]) {
				m.More = append(m.More, s.what)
				return
			}
			mask |= binary.NativeEndian.Uint32(pad4(lo[i]))
		}
		if not {
			mask = ^mask & (doctor.Invalid | doctor.Established | doctor.Related | doctor.New | doctor.Untracked)
		}
		r.bits("state", mask)
	case "way back":
		if not || len(lo) != 1 || !allZero(lo[0]) {
			m.More = append(m.More, "fib")
			return
		}
		m.Forged = true
	case "local":
		yes := !not
		if len(lo) != 1 || binary.NativeEndian.Uint32(pad4(lo[0])) != unix.RTN_LOCAL {
			m.More = append(m.More, "fib")
			return
		}
		m.Local = &yes
	default:
		m.More = append(m.More, orElse(s.what, "expression"))
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// addresses are ranges of addresses out of constants, which are shorter than
// an address where nft compares only the bytes of a prefix.
func addresses(s source, not bool, lo, hi [][]byte, family int) (doctor.Cond[doctor.Addrs], bool) {
	c := doctor.Cond[doctor.Addrs]{Not: not}
	n := 4
	if family == 6 {
		n = 16
	}
	for i := range lo {
		first, last := make([]byte, n), bytes.Repeat([]byte{0xff}, n)
		if copy(first, lo[i]) != copy(last, hi[i]) {
			return c, false
		}
		if s.mask != nil {
			if len(s.mask) != n || len(lo) != 1 || !bytes.Equal(lo[i], hi[i]) {
				return c, false
			}
			ones := true // the mask must be that of a prefix
			for bit := range n * 8 {
				set := s.mask[bit/8]&(0x80>>(bit%8)) != 0
				if set && !ones {
					return c, false
				}
				if ones = ones && set; !set {
					last[bit/8] |= 0x80 >> (bit % 8)
				}
			}
		}
		f, _ := netip.AddrFromSlice(first)
		l, _ := netip.AddrFromSlice(last)
		c.Any = append(c.Any, doctor.Addrs{First: f, Last: l})
	}
	return c, true
}

// interfaceName reads an index, a name, or the beginning of one: a name without
// its terminating NUL, or all names from lo to hi.
func interfaceName(what string, lo, hi []byte) (string, bool) {
	if what == "iif" || what == "oif" {
		i, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(pad4(lo))))
		if err != nil {
			return "gone", bytes.Equal(lo, hi)
		}
		return i.Name, bytes.Equal(lo, hi)
	}
	n := bytes.IndexByte(lo, 0)
	switch {
	case bytes.Equal(lo, hi) && n >= 0:
		return string(lo[:n]), true
	case bytes.Equal(lo, hi) && len(lo) < 16:
		return string(lo) + "*", true
	case bytes.Equal(lo, hi):
		return string(lo), true
	case n > 0 && bytes.Equal(lo[:n], hi[:n]) && allZero(lo[n:]) && len(bytes.Trim(hi[n:], "\xff")) == 0:
		return string(lo[:n]) + "*", true
	}
	return "", false
}

// lookup asks a set, or a map of verdicts.
func (r *reader) lookup(a map[uint16][]byte) {
	m := &r.rule.Match
	name := toStr(a[unix.NFTA_LOOKUP_SET])
	set := r.s.sets[r.table+" "+name]
	field := r.regs[regOf(toU32(a[unix.NFTA_LOOKUP_SREG]))]
	understood := set.known && field.size == int(set.spec.keyLen)
	dreg, into := a[unix.NFTA_LOOKUP_DREG]
	switch {
	case into && regOf(toU32(dreg)) != 0:
		r.load(toU32(dreg), source{what: "map", data: []byte(name)})
		m.More = append(m.More, "map @"+name)
	case into:
		for i := range set.lo {
			entry := &reader{s: r.s, table: r.table, rule: r.rule}
			entry.rule.Match = r.rule.Match.And(doctor.Match{})
			if understood && field.what == "state" {
				entry.bits("state", binary.NativeEndian.Uint32(pad4(set.lo[i])))
			} else {
				if !understood {
					field.what = ""
				}
				entry.within(field, false, set.lo[i:i+1], set.hi[i:i+1])
			}
			entry.verdict(set.verdicts[i].code, set.verdicts[i].chain)
			r.more = append(r.more, entry.rule)
		}
		if !set.known { // it may lead anywhere
			r.rule.Action = doctor.Other
			m.More = append(m.More, "vmap @"+strings.TrimPrefix(name, "__"))
		}
	case understood:
		r.within(field, toU32(a[unix.NFTA_LOOKUP_FLAGS])&unix.NFT_LOOKUP_F_INV != 0, set.lo, set.hi)
	default:
		m.More = append(m.More, orElse(field.what, "members")+" @"+name)
	}
}

func (r *reader) immediate(a map[uint16][]byte) {
	_ = attrs(a[unix.NFTA_IMMEDIATE_DATA], func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_DATA_VALUE:
			r.load(toU32(a[unix.NFTA_IMMEDIATE_DREG]), source{what: "value", data: v})
		case unix.NFTA_DATA_VERDICT:
			code, chain, err := readVerdict(v)
			r.verdict(code, chain)
			return err
		}
		return nil
	})
}

func (r *reader) verdict(code int32, chain string) {
	r.rule.Chain = chain
	switch code {
	case nfDrop:
		r.rule.Action = doctor.Drops
	case nfAccept:
		r.rule.Action = doctor.Accepts
	case unix.NFT_JUMP:
		r.rule.Action = doctor.Jumps
	case unix.NFT_GOTO:
		r.rule.Action = doctor.GoesTo
	case unix.NFT_RETURN:
		r.rule.Action = doctor.Returns
	case unix.NFT_CONTINUE:
		r.rule.Action = doctor.Goes
	default:
		r.rule.Action = doctor.Other
	}
}

// nat is a native nat expression.
func (r *reader) nat(a map[uint16][]byte) {
	if toU32(a[unix.NFTA_NAT_TYPE]) != unix.NFT_NAT_DNAT {
		r.rule.Action = doctor.SNATs
		return
	}
	r.rule.Action = doctor.DNATs
	s := r.regs[regOf(toU32(a[unix.NFTA_NAT_REG_ADDR_MIN]))]
	if s.what == "map" {
		r.rule.ToMap = string(s.data)
		return
	}
	to, _ := netip.AddrFromSlice(s.data)
	r.rule.To = netip.AddrPortFrom(to, r.port(a[unix.NFTA_NAT_REG_PROTO_MIN]))
}

// port is a port that a register holds.
func (r *reader) port(reg []byte) uint16 {
	if reg == nil {
		return 0
	}
	if v := r.regs[regOf(toU32(reg))].data; len(v) >= 2 {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}
