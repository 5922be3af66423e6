// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// enc appends netlink attributes to a buffer.
type enc struct{ b []byte }

func (e *enc) head(typ uint16, n int) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(4+n))
	e.b = binary.NativeEndian.AppendUint16(e.b, typ)
}

func (e *enc) pad() {
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *enc) bytes(typ uint16, v []byte) { e.b = nlattr.Append(e.b, typ, v) }

// str appends a NUL-terminated string.
func (e *enc) str(typ uint16, v string) {
	e.head(typ, len(v)+1)
	e.b = append(append(e.b, v...), 0)
	e.pad()
}

func (e *enc) u32(typ uint16, v uint32) {
	e.head(typ, 4)
	e.b = binary.BigEndian.AppendUint32(e.b, v)
}

func (e *enc) u64(typ uint16, v uint64) {
	e.head(typ, 8)
	e.b = binary.BigEndian.AppendUint64(e.b, v)
}

// nest opens a nested attribute; end closes it with nest's result.
func (e *enc) nest(typ uint16) int {
	e.head(typ|nlattr.Nested, 0)
	return len(e.b) - 4
}

func (e *enc) end(at int) {
	binary.NativeEndian.PutUint16(e.b[at:], uint16(len(e.b)-at))
}

// value writes plain data (NFTA_DATA_VALUE).
func (e *enc) value(attr uint16, v []byte) {
	d := e.nest(attr)
	e.bytes(unix.NFTA_DATA_VALUE, v)
	e.end(d)
}

// attrs calls visit for each attribute in b, flags taken off the type.
func attrs(b []byte, visit func(typ uint16, v []byte) error) error { return nlattr.Walk(b, visit) }

func toU32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

func toU64(v []byte) uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// toStr takes the terminating NUL off.
func toStr(v []byte) string { return nlattr.Text(v) }
