// SPDX-License-Identifier: Apache-2.0

// Package nlattr reads and writes the attributes of netlink messages: type,
// length and value, one behind the other, each beginning at a multiple of four
// bytes (struct nlattr of linux/netlink.h). What types mean is said by those
// who talk to the kernel: the packet filters, connection tracking, the
// monitors and the survey. It opens no socket and knows no message.
package nlattr

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Flags of a type (linux/netlink.h). What is read has them taken off.
const (
	// Nested says that the value is attributes.
	Nested = 0x8000
	// NetByteOrder says that the value is a number in network byte order.
	NetByteOrder = 0x4000

	flags = Nested | NetByteOrder
)

const headerBytes = 4

// ErrMalformed: the bytes are no attributes, or end within one.
var ErrMalformed = errors.New("malformed netlink attribute")

// next takes the first attribute off b; ok is false if there is none.
func next(b []byte) (typ uint16, v, rest []byte, ok bool) {
	if len(b) < headerBytes {
		return 0, nil, nil, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < headerBytes || n > len(b) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[2:]) &^ flags, b[headerBytes:n], b[min((n+3)&^3, len(b)):], true
}

// Each visits attributes; what is malformed ends it. The values are parts of
// b.
func Each(b []byte, visit func(typ uint16, v []byte)) {
	for {
		typ, v, rest, ok := next(b)
		if !ok {
			return
		}
		visit(typ, v)
		b = rest
	}
}

// Walk visits attributes until visit returns an error, which it returns. What
// is malformed is ErrMalformed.
func Walk(b []byte, visit func(typ uint16, v []byte) error) error {
	for len(b) > 0 {
		typ, v, rest, ok := next(b)
		if !ok {
			return ErrMalformed
		}
		if err := visit(typ, v); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// Find is the value of the first attribute of a type; nil: there is none.
func Find(b []byte, typ uint16) []byte {
	for {
		t, v, rest, ok := next(b)
		if !ok {
			return nil
		}
		if t == typ {
			return v
		}
		b = rest
	}
}

// Append appends an attribute with all that makes the next one begin where it
// must. The type may have flags. v is at most 65,531 bytes long.
func Append(b []byte, typ uint16, v []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(headerBytes+len(v)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Text is a value that is text: what stands before its zero.
func Text(v []byte) string {
	if i := bytes.IndexByte(v, 0); i >= 0 {
		v = v[:i]
	}
	return string(v)
}
