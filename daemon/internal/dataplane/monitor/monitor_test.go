// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var tables = []Table{{unix.NFPROTO_INET, "ripstop"}, {unix.NFPROTO_IPV6, "raw"}}

func message(typ uint16, port uint32, family byte, attrs ...[]byte) []byte {
	b := make([]byte, headerLen+familyLen)
	b[headerLen] = family
	for _, a := range attrs {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], subsysNFTables<<8|typ)
	binary.NativeEndian.PutUint32(b[12:], port)
	return b
}

func attribute(typ uint16, v []byte) []byte {
	b := make([]byte, 4, 4+len(v)+3)
	binary.NativeEndian.PutUint16(b, uint16(4+len(v)))
	binary.NativeEndian.PutUint16(b[2:], typ)
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func generation(id uint32, port uint32, name string, pid uint32) []byte {
	return message(msgNewGen, port, 0, attribute(attrGenID, binary.BigEndian.AppendUint32(nil, id)),
		attribute(attrGenName, append([]byte(name), 0)), attribute(attrGenPID, binary.BigEndian.AppendUint32(nil, pid)))
}

func rule(port uint32, family byte, table string) []byte {
	return message(6, port, family, attribute(attrTable, append([]byte(table), 0)))
}

func TestTransaction_TellsOfOthersAndWhetherTheyTouchedUs(t *testing.T) {
	const own, other = 7, 99
	for _, c := range []struct {
		name string
		in   [][]byte
		want []Event
	}{
		{"our own", [][]byte{rule(own, unix.NFPROTO_INET, "ripstop"), generation(5, own, "ripstopd", 1)}, nil},
		{"another table", [][]byte{rule(other, unix.NFPROTO_INET, "filter"), generation(5, other, "nft", 42)}, []Event{{Generation: 5, By: "nft[42]"}}},
		{"our second table", [][]byte{rule(other, unix.NFPROTO_IPV6, "raw"), generation(5, other, "nft", 42)}, []Event{{Generation: 5, Touched: true, By: "nft[42]"}}},
		{"our name in another family", [][]byte{rule(other, 2, "ripstop"), generation(5, other, "nft", 42)}, []Event{{Generation: 5, By: "nft[42]"}}},
		{"our table", [][]byte{rule(other, unix.NFPROTO_INET, "ripstop"), generation(5, other, "nft", 42)}, []Event{{Generation: 5, Touched: true, By: "nft[42]"}}},
		{"ours, then theirs", [][]byte{rule(own, unix.NFPROTO_INET, "ripstop"), generation(5, own, "ripstopd", 1), generation(6, other, "nft", 42)}, []Event{{Generation: 6, By: "nft[42]"}}},
		{"cut short", [][]byte{{200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, []Event{{Touched: true, Lost: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var in []byte
			for _, m := range c.in {
				in = append(in, m...)
			}
			var whole, piecewise transaction
			if diff := cmp.Diff(c.want, whole.take(in, tables, own)); diff != "" {
				t.Errorf("take (-want +got):\n%s", diff)
			}
			var got []Event // the same, one message a read
			for _, m := range c.in {
				got = append(got, piecewise.take(m, tables, own)...)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("take, message by message (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzTransaction_Take(f *testing.F) {
	f.Add(append(rule(9, unix.NFPROTO_INET, "ripstop"), generation(5, 9, "nft", 42)...))
	f.Add([]byte{200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var tr transaction
		if n := len(tr.take(b, tables, 7)); n > len(b)/headerLen+1 {
			t.Errorf("take of %d bytes told of %d transactions", len(b), n)
		}
	})
}
