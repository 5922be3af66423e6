// SPDX-License-Identifier: Apache-2.0

package nftables

import (
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
func digest(exprs []byte) (body, error) {
	var d digester
	err := attrs(exprs, func(_ uint16, v []byte) error { return d.expr(v) })
	if err != nil {
		return body{}, fmt.Errorf("rule expressions: %w", err)
	}
	h := sha256.Sum256(d.out)
	copy(d.body.sum[:], h[:])
	return d.body, nil
}

type digester struct {
	out  []byte
	body body
}

// containers are the attributes of expressions that hold NFTA_DATA_*.
var containers = map[string][]uint16{
	"cmp":       {unix.NFTA_CMP_DATA},
	"bitwise":   {unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR},
	"range":     {unix.NFTA_RANGE_FROM_DATA, unix.NFTA_RANGE_TO_DATA},
	"immediate": {unix.NFTA_IMMEDIATE_DATA},
}

// registers are the attributes of expressions that name a register.
var registers = map[string][]uint16{
	"cmp":       {unix.NFTA_CMP_SREG},
	"bitwise":   {unix.NFTA_BITWISE_SREG, unix.NFTA_BITWISE_DREG},
	"range":     {unix.NFTA_RANGE_SREG},
	"immediate": {unix.NFTA_IMMEDIATE_DREG},
	"payload":   {unix.NFTA_PAYLOAD_DREG, unix.NFTA_PAYLOAD_SREG},
	"meta":      {unix.NFTA_META_DREG, unix.NFTA_META_SREG},
	"ct":        {unix.NFTA_CT_DREG, unix.NFTA_CT_SREG},
	"lookup":    {unix.NFTA_LOOKUP_SREG, unix.NFTA_LOOKUP_DREG},
}

// ignored are attributes that do not change what an expression does.
var ignored = map[string][]uint16{
	"counter": {unix.NFTA_COUNTER_BYTES, unix.NFTA_COUNTER_PACKETS, unix.NFTA_COUNTER_PAD},
	"limit":   {unix.NFTA_LIMIT_PAD},
	"lookup":  {unix.NFTA_LOOKUP_SET_ID},
}

type attr struct {
	typ uint16
	val []byte
}

func (d *digester) expr(b []byte) error {
	var name string
	var list []attr
	err := attrs(b, func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_EXPR_NAME:
			name = toStr(v)
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
	slices.SortFunc(list, func(a, b attr) int { return cmp.Compare(a.typ, b.typ) })
	d.field(0xffff, []byte(name))
	for _, a := range list {
		switch {
		case slices.Contains(ignored[name], a.typ):
			if name == "counter" {
				d.count(a)
			}
		case slices.Contains(containers[name], a.typ):
			if err := d.data(a); err != nil {
				return err
			}
		case slices.Contains(registers[name], a.typ):
			d.field(a.typ, []byte{register(toU32(a.val))})
		case len(a.val) <= 8 && allZero(a.val):
			// as good as absent
		default:
			if name == "lookup" && a.typ == unix.NFTA_LOOKUP_SET {
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
