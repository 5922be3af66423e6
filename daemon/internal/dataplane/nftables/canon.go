// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// sum identifies the body of a rule: all its expressions in a form in which
// what we send and what the kernel gives back are equal if they mean the
// same. The order of attributes, attributes that are absent for zero,
// register names and counted packets do not matter; everything else does,
// also what we do not know.
type sum [16]byte

// body is what a reader of a rule's expressions learns.
type body struct {
	sum  sum
	refs []ref
	// packets, bytes of the first counter.
	packets, bytes uint64
}

// ref names what a rule or a map entry uses; kernel names.
type ref struct {
	kind byte // 'c' chain, 's' set or map
	name string
}

// digest reads NFTA_RULE_EXPRESSIONS.
func digest(exprs []byte) (body, error) { return new(digester).digest(exprs) }

// digester reads one rule after the other and keeps its buffers.
type digester struct {
	out  []byte
	list []attr
	body body
}

func (d *digester) digest(exprs []byte) (body, error) {
	d.out, d.body = d.out[:0], body{}
	err := attrs(exprs, func(_ uint16, v []byte) error { return d.expr(v) })
	if err != nil {
		return body{}, fmt.Errorf("rule expressions: %w", err)
	}
	h := sha256.Sum256(d.out)
	copy(d.body.sum[:], h[:])
	return d.body, nil
}

// exprKind says how to read the attributes of one kind of expression.
type exprKind struct {
	containers      []uint16 // hold NFTA_DATA_*
	registers       []uint16 // name a register
	ignored         []uint16 // do not change what the expression does
	counter, lookup bool
}

var kinds = map[string]exprKind{
	"cmp":       {containers: []uint16{unix.NFTA_CMP_DATA}, registers: []uint16{unix.NFTA_CMP_SREG}},
	"bitwise":   {containers: []uint16{unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR}, registers: []uint16{unix.NFTA_BITWISE_SREG, unix.NFTA_BITWISE_DREG}},
	"range":     {containers: []uint16{unix.NFTA_RANGE_FROM_DATA, unix.NFTA_RANGE_TO_DATA}, registers: []uint16{unix.NFTA_RANGE_SREG}},
	"immediate": {containers: []uint16{unix.NFTA_IMMEDIATE_DATA}, registers: []uint16{unix.NFTA_IMMEDIATE_DREG}},
	"payload":   {registers: []uint16{unix.NFTA_PAYLOAD_DREG, unix.NFTA_PAYLOAD_SREG}},
	"meta":      {registers: []uint16{unix.NFTA_META_DREG, unix.NFTA_META_SREG}},
	"exthdr":    {registers: []uint16{unix.NFTA_EXTHDR_DREG, unix.NFTA_EXTHDR_SREG}},
	"ct":        {registers: []uint16{unix.NFTA_CT_DREG, unix.NFTA_CT_SREG}},
	"lookup": {registers: []uint16{unix.NFTA_LOOKUP_SREG, unix.NFTA_LOOKUP_DREG},
		ignored: []uint16{unix.NFTA_LOOKUP_SET_ID}, lookup: true},
	"counter": {ignored: []uint16{unix.NFTA_COUNTER_BYTES, unix.NFTA_COUNTER_PACKETS, unix.NFTA_COUNTER_PAD}, counter: true},
	"limit":   {ignored: []uint16{unix.NFTA_LIMIT_PAD}},
}

type attr struct {
	typ uint16
	val []byte
}

func (d *digester) expr(b []byte) error {
	var name []byte
	list := d.list[:0]
	err := attrs(b, func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_EXPR_NAME:
			name = bytes.TrimRight(v, "\x00")
		case unix.NFTA_EXPR_DATA:
			return attrs(v, func(t uint16, v []byte) error {
				list = append(list, attr{t, v})
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.list = list
	slices.SortStableFunc(list, func(a, b attr) int { return cmp.Compare(a.typ, b.typ) })
	d.field(0xffff, name)
	kind := kinds[string(name)]
	for _, a := range list {
		switch {
		case slices.Contains(kind.ignored, a.typ):
			if kind.counter {
				d.count(a)
			}
		case slices.Contains(kind.containers, a.typ):
			if err := d.data(a); err != nil {
				return err
			}
		case slices.Contains(kind.registers, a.typ):
			d.field(a.typ, []byte{register(toU32(a.val))})
		case len(a.val) <= 8 && allZero(a.val):
			// as good as absent
		default:
			if kind.lookup && a.typ == unix.NFTA_LOOKUP_SET {
				d.body.refs = append(d.body.refs, ref{'s', toStr(a.val)})
			}
			d.field(a.typ, a.val)
		}
	}
	return nil
}

func (d *digester) count(a attr) {
	switch a.typ {
	case unix.NFTA_COUNTER_BYTES:
		d.body.bytes = toU64(a.val)
	case unix.NFTA_COUNTER_PACKETS:
		d.body.packets = toU64(a.val)
	}
}

// data reads a value or a verdict.
func (d *digester) data(a attr) error {
	return attrs(a.val, func(t uint16, v []byte) error {
		if t != unix.NFTA_DATA_VERDICT {
			d.field(a.typ<<8|t, v)
			return nil
		}
		code, chain, err := readVerdict(v)
		if err != nil {
			return err
		}
		d.field(a.typ<<8|t, binary.BigEndian.AppendUint32(nil, uint32(code)))
		d.field(a.typ<<8|t, []byte(chain))
		if chain != "" {
			d.body.refs = append(d.body.refs, ref{'c', chain})
		}
		return nil
	})
}

func readVerdict(b []byte) (code int32, chain string, err error) {
	err = attrs(b, func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_VERDICT_CODE:
			code = int32(toU32(v))
		case unix.NFTA_VERDICT_CHAIN:
			chain = toStr(v)
		}
		return nil
	})
	return code, chain, err
}

func (d *digester) field(t uint16, v []byte) {
	d.out = binary.BigEndian.AppendUint16(d.out, t)
	d.out = binary.BigEndian.AppendUint32(d.out, uint32(len(v)))
	d.out = append(d.out, v...)
}

// register numbers a register in units of 4 bytes: NFT_REG_1 is
// NFT_REG32_00, the verdict register is 0.
func register(r uint32) byte {
	switch {
	case r == 0:
		return 0
	case r < reg32:
		return byte(r * 4)
	}
	return byte(r - reg32 + 4)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// comment reads a rule's user data: type, length, value; type 0 is the
// comment, ended by NUL.
func comment(udata []byte) string {
	for len(udata) >= 2 {
		t, n := udata[0], int(udata[1])
		if len(udata) < 2+n {
			break
		}
		if t == 0 {
			return toStr(udata[2 : 2+n])
		}
		udata = udata[2+n:]
	}
	return ""
}

// commentData is the user data that holds a comment.
func commentData(s string) []byte {
	if len(s) > 250 {
		s = s[:250]
	}
	return append(append([]byte{0, byte(len(s) + 1)}, s...), 0)
}
