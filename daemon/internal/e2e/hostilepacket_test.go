// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	bin "encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// readPacket reads a packet that the rules have seen, by its own account and not
// by the kernel's: RFC 791, RFC 8200. Of a packet of which nothing follows the
// headers there is no transport.
//
// A fragment is an error, because the kernel puts packets together before any
// rule sees them. Of IPv6 it leaves out some with faults; of these a first
// fragment has what is in it, its ports too, and the others are an error: what
// they belong to, no rule can see.
func readPacket(b []byte) (k ruleset.Packet, transport []byte, err error) {
	if len(b) < 20 {
		return k, nil, fmt.Errorf("%d bytes are no packet", len(b))
	}
	if b[0]>>4 == 4 {
		header := int(b[0]&15) * 4
		if header < 20 || header > len(b) {
			return k, nil, errors.New("the header has no end")
		}
		if bin.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return k, nil, errors.New("it is a fragment")
		}
		k.Src, _ = netip.AddrFromSlice(b[12:16])
		k.Dst, _ = netip.AddrFromSlice(b[16:20])
		k.Protocol, transport = b[9], b[header:min(max(header, int(bin.BigEndian.Uint16(b[2:]))), len(b))]
	} else {
		if b[0]>>4 != 6 || len(b) < 40 {
			return k, nil, errors.New("it is of no IP version")
		}
		k.Src, _ = netip.AddrFromSlice(b[8:24])
		k.Dst, _ = netip.AddrFromSlice(b[24:40])
		if k.Protocol, transport, _, err = behindExtensions(b[6], b[40:]); err != nil {
			return k, nil, err
		}
	}
	switch {
	case ruleset.HasPorts(k.Protocol) && len(transport) >= 4:
		k.SrcPort, k.DstPort = bin.BigEndian.Uint16(transport), bin.BigEndian.Uint16(transport[2:])
	case (k.Protocol == 1 || k.Protocol == 58) && len(transport) > 0:
		if k.ICMPType = transport[0]; len(transport) > 1 {
			k.ICMPCode = transport[1]
		}
	}
	return k, transport, nil
}

// behindExtensions is what follows IPv6's extension headers, of which the first
// has this number. Of headers that are cut off it is the number that they say
// follows; authenticated, that one of them was an authentication header.
func behindExtensions(number byte, b []byte) (protocol uint8, transport []byte, authenticated bool, err error) {
	for {
		size := 8
		switch number {
		case 0, 43, 60: // hop-by-hop options, routing, destination options
			if len(b) >= 2 {
				size = int(b[1])*8 + 8
			}
		case 51: // authentication header
			if authenticated = true; len(b) >= 2 {
				size = int(b[1])*4 + 8
			}
		case 44:
			if len(b) < 8 {
				break
			}
			if bin.BigEndian.Uint16(b[2:])&^7 != 0 {
				return 0, nil, authenticated, errors.New("it is a fragment")
			}
		default:
			return number, b, authenticated, nil
		}
		switch {
		case len(b) < 2:
			return 59, nil, authenticated, nil // nothing follows
		case size > len(b):
			return b[0], nil, authenticated, nil
		}
		number, b = b[0], b[size:]
	}
}

// quoted is the packet that an ICMP error quotes, as the kernel reads it: of the
// same IP version, and whole; false: it is no error.
func quoted(k ruleset.Packet, transport []byte) ([]byte, bool) {
	if len(transport) < 8 {
		return nil, false
	}
	switch {
	case k.Protocol == 1 && (k.ICMPType == 3 || k.ICMPType == 4 || k.ICMPType == 5 || k.ICMPType == 11 || k.ICMPType == 12):
	case k.Protocol == 58 && k.ICMPType < 128:
	default:
		return nil, false
	}
	inner := append([]byte(nil), transport[8:]...)
	switch {
	case k.Protocol == 58 && len(inner) > 0:
		inner[0] = 6<<4 | inner[0]&15
	case len(inner) >= 20:
		inner[0], inner[6], inner[7] = 4<<4|inner[0]&15, 0, 0
		bin.BigEndian.PutUint16(inner[2:], uint16(len(inner)))
	}
	return inner, true
}

// The pieces that hostile packets are made of. All give whole packets with
// right checksums; damage comes later.

// withOptions puts options into an IPv4 header; their length is a multiple of
// four.
func withOptions(b, options []byte) []byte {
	out := append([]byte(nil), b[:20]...)
	out = append(append(out, options...), b[20:]...)
	out[0] = 0x45 + byte(len(options)/4)
	return mended(out)
}

// withExtension puts extension headers before what follows the IPv6 header;
// each begins with a byte for the next header.
func withExtension(b []byte, chain ...extension) []byte {
	out := append([]byte(nil), b[:40]...)
	next := b[6]
	at := &out[6]
	var tail []byte
	for _, e := range chain {
		*at = e.number
		tail = append(tail, e.body...)
		at = &tail[len(tail)-len(e.body)]
		*at = next
	}
	out = append(append(out, tail...), b[40:]...)
	bin.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

type extension struct {
	number byte
	body   []byte
}

// padded is one option of a length, as hop-by-hop or destination option. It is
// an experimental one that who does not know it skips (RFC 4727): of padding
// the kernel takes seven bytes only.
func padded(number byte, eights int) extension {
	body := make([]byte, eights*8)
	body[1], body[2], body[3] = byte(eights-1), 0x1e, byte(eights*8-4)
	if rest := eights*8 - 4; rest > 255 {
		body[3] = 255
	}
	return extension{number, body}
}

func fragmentHeader(offset uint16, more bool, id uint32) extension {
	body := make([]byte, 8)
	if bin.BigEndian.PutUint16(body[2:], offset); more {
		body[3] |= 1
	}
	bin.BigEndian.PutUint32(body[4:], id)
	return extension{44, body}
}

// fragments cuts a packet's payload at these offsets, multiples of eight.
func fragments(b []byte, id uint16, cuts ...int) [][]byte {
	header := 20
	if b[0]>>4 == 6 {
		header = 40
	}
	payload := b[header:]
	cuts = append(append([]int{0}, cuts...), len(payload))
	var out [][]byte
	for i := range len(cuts) - 1 {
		out = append(out, fragment(b, id, cuts[i], payload[cuts[i]:cuts[i+1]], i < len(cuts)-2))
	}
	return out
}

// fragment is one fragment of a packet, with a payload of its own.
func fragment(b []byte, id uint16, offset int, payload []byte, more bool) []byte {
	if b[0]>>4 == 6 {
		f := append(append([]byte(nil), b[:40]...), payload...)
		return withExtension(f, fragmentHeader(uint16(offset), more, uint32(id)))
	}
	f := append(append([]byte(nil), b[:20]...), payload...)
	flags := uint16(offset / 8)
	if more {
		flags |= 0x2000
	}
	bin.BigEndian.PutUint16(f[4:], id)
	bin.BigEndian.PutUint16(f[6:], flags)
	return headerMended(f)
}

// headerMended gives a packet the length and, in IPv4, the checksum that it
// must have.
func headerMended(b []byte) []byte {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && int(b[0]&15)*4 <= len(b) && b[0]&15 >= 5:
		bin.BigEndian.PutUint16(b[2:], uint16(len(b)))
		b[10], b[11] = 0, 0
		bin.BigEndian.PutUint16(b[10:], checksum(b[:int(b[0]&15)*4]))
	case len(b) >= 40 && b[0]>>4 == 6:
		bin.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
	return b
}

// mended is headerMended for the transport's checksum too, as far as it is
// whole.
func mended(b []byte) []byte {
	headerMended(b)
	k, transport, err := readPacket(b)
	if err != nil {
		return b
	}
	at := map[uint8]int{1: 2, 6: 16, 17: 6, 58: 2}[k.Protocol]
	if at == 0 || len(transport) < at+2 {
		return b
	}
	transport[at], transport[at+1] = 0, 0
	if k.Protocol == 17 && len(transport) >= 8 {
		bin.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	}
	var pseudo []byte
	if k.Protocol != 1 {
		pseudo = append(append(pseudo, k.Src.AsSlice()...), k.Dst.AsSlice()...)
		pseudo = bin.BigEndian.AppendUint32(pseudo, uint32(len(transport)))
		pseudo = append(pseudo, 0, 0, 0, k.Protocol)
	}
	bin.BigEndian.PutUint16(transport[at:], checksum(append(pseudo, transport...)))
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var s uint32
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
