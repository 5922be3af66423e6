// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// prog is the expressions of one kernel rule, as netlink attributes.
type prog struct{ enc }

const (
	reg1  = 1                 // the first 16-byte register
	reg32 = unix.NFT_REG32_00 // the same, as four of 4 bytes
)

func (p *prog) expr(name string, fill func()) {
	el := p.nest(unix.NFTA_LIST_ELEM)
	p.str(unix.NFTA_EXPR_NAME, name)
	data := p.nest(unix.NFTA_EXPR_DATA)
	fill()
	p.end(data)
	p.end(el)
}

func (p *prog) meta(key, dreg uint32) {
	p.expr("meta", func() {
		p.u32(unix.NFTA_META_KEY, key)
		p.u32(unix.NFTA_META_DREG, dreg)
	})
}

func (p *prog) ct(key uint32) {
	p.expr("ct", func() {
		p.u32(unix.NFTA_CT_KEY, key)
		p.u32(unix.NFTA_CT_DREG, reg1)
	})
}

// immediate loads a value into register 1.
func (p *prog) immediate(v []byte) {
	p.expr("immediate", func() {
		p.u32(unix.NFTA_IMMEDIATE_DREG, reg1)
		p.value(unix.NFTA_IMMEDIATE_DATA, v)
	})
}

// setCt sets a property of the packet's connection to register 1.
func (p *prog) setCt(key uint32) {
	p.expr("ct", func() {
		p.u32(unix.NFTA_CT_KEY, key)
		p.u32(unix.NFTA_CT_SREG, reg1)
	})
}

func (p *prog) payload(base, offset, length, dreg uint32) {
	p.expr("payload", func() {
		p.u32(unix.NFTA_PAYLOAD_DREG, dreg)
		p.u32(unix.NFTA_PAYLOAD_BASE, base)
		p.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		p.u32(unix.NFTA_PAYLOAD_LEN, length)
	})
}

// extension tells in register 1 whether the packet has an IPv6 extension header.
func (p *prog) extension(number byte) {
	p.expr("exthdr", func() {
		p.u32(unix.NFTA_EXTHDR_DREG, reg1)
		p.bytes(unix.NFTA_EXTHDR_TYPE, []byte{number})
		p.u32(unix.NFTA_EXTHDR_OFFSET, 0)
		p.u32(unix.NFTA_EXTHDR_LEN, 1)
		p.u32(unix.NFTA_EXTHDR_FLAGS, unix.NFT_EXTHDR_F_PRESENT)
		p.u32(unix.NFTA_EXTHDR_OP, unix.NFT_EXTHDR_OP_IPV6)
	})
}

// is compares register 1; not: differs.
func (p *prog) is(v []byte, not bool) {
	op := uint32(unix.NFT_CMP_EQ)
	if not {
		op = unix.NFT_CMP_NEQ
	}
	p.expr("cmp", func() {
		p.u32(unix.NFTA_CMP_SREG, reg1)
		p.u32(unix.NFTA_CMP_OP, op)
		p.value(unix.NFTA_CMP_DATA, v)
	})
}

// bitwise makes register 1 (reg & mask) ^ xor.
func (p *prog) bitwise(mask, xor []byte) {
	p.expr("bitwise", func() {
		p.u32(unix.NFTA_BITWISE_SREG, reg1)
		p.u32(unix.NFTA_BITWISE_DREG, reg1)
		p.u32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		p.value(unix.NFTA_BITWISE_MASK, mask)
		p.value(unix.NFTA_BITWISE_XOR, xor)
	})
}

// within tests register 1 against lo to hi, both included.
func (p *prog) within(lo, hi []byte, not bool) {
	op := uint32(unix.NFT_RANGE_EQ)
	if not {
		op = unix.NFT_RANGE_NEQ
	}
	p.expr("range", func() {
		p.u32(unix.NFTA_RANGE_SREG, reg1)
		p.u32(unix.NFTA_RANGE_OP, op)
		p.value(unix.NFTA_RANGE_FROM_DATA, lo)
		p.value(unix.NFTA_RANGE_TO_DATA, hi)
	})
}

func (p *prog) lookup(set string, sreg uint32, not bool) {
	p.expr("lookup", func() {
		p.str(unix.NFTA_LOOKUP_SET, set)
		p.u32(unix.NFTA_LOOKUP_SREG, sreg)
		if not {
			p.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
		}
	})
}

// vmap looks register 1 up and follows the verdict found.
func (p *prog) vmap(set string) {
	p.expr("lookup", func() {
		p.str(unix.NFTA_LOOKUP_SET, set)
		p.u32(unix.NFTA_LOOKUP_SREG, reg1)
		p.u32(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT)
	})
}

// Verdict codes of <linux/netfilter.h>; those below zero are in x/sys/unix.
const (
	nfDrop   = 0
	nfAccept = 1
)

func (p *prog) verdict(code int32, chain string) {
	p.expr("immediate", func() {
		p.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		d := p.nest(unix.NFTA_IMMEDIATE_DATA)
		p.verdictData(code, chain)
		p.end(d)
	})
}

func (e *enc) verdictData(code int32, chain string) {
	v := e.nest(unix.NFTA_DATA_VERDICT)
	e.u32(unix.NFTA_VERDICT_CODE, uint32(code))
	if chain != "" {
		e.str(unix.NFTA_VERDICT_CHAIN, chain)
	}
	e.end(v)
}

func (p *prog) counter() {
	p.expr("counter", func() {
		p.u64(unix.NFTA_COUNTER_BYTES, 0)
		p.u64(unix.NFTA_COUNTER_PACKETS, 0)
	})
}

const logInfo = 6 // syslog's LOG_INFO

func (p *prog) log(a *ruleset.Action, unit uint64) {
	if a.LogRate > 0 {
		burst := a.LogBurst
		if burst == 0 {
			burst = 5 // what the kernel makes of 0
		}
		p.expr("limit", func() {
			p.u64(unix.NFTA_LIMIT_RATE, a.LogRate)
			p.u64(unix.NFTA_LIMIT_UNIT, unit)
			p.u32(unix.NFTA_LIMIT_BURST, burst)
		})
	}
	p.expr("log", func() {
		if a.LogPrefix != "" {
			p.str(unix.NFTA_LOG_PREFIX, a.LogPrefix)
		}
		p.u32(unix.NFTA_LOG_LEVEL, logInfo)
	})
}

func (p *prog) reject(tcp bool) {
	typ, code := uint32(unix.NFT_REJECT_ICMPX_UNREACH), byte(unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED)
	if tcp {
		typ, code = unix.NFT_REJECT_TCP_RST, 0
	}
	p.expr("reject", func() {
		p.u32(unix.NFTA_REJECT_TYPE, typ)
		p.bytes(unix.NFTA_REJECT_ICMP_CODE, []byte{code})
	})
}

// setMark makes the mark (mark & mask) ^ xor.
func (p *prog) setMark(mask, xor uint32) {
	if mask != 0 {
		p.meta(unix.NFT_META_MARK, reg1)
		p.bitwise(native32(mask), native32(xor))
	} else {
		p.immediate(native32(xor))
	}
	p.expr("meta", func() {
		p.u32(unix.NFTA_META_KEY, unix.NFT_META_MARK)
		p.u32(unix.NFTA_META_SREG, reg1)
	})
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
func net16(v uint16) []byte    { return binary.BigEndian.AppendUint16(nil, v) }

// ifname is an interface name as the kernel's registers hold it.
func ifname(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}
