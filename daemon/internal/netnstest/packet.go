// SPDX-License-Identifier: Apache-2.0

package netnstest

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers that Packet knows how to build.
const (
	ICMP    = 1
	TCP     = 6
	UDP     = 17
	ICMPv6  = 58
	SCTP    = 132
	UDPLite = 136
)

// TCP flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Packet describes an IP packet. The IP version is that of Src. Build makes
// it with all checksums right (connection tracking looks at them).
type Packet struct {
	Src, Dst netip.Addr
	// Protocol; of unknown ones the payload is the marker alone.
	Protocol uint8
	// SrcPort, DstPort of TCP, UDP, SCTP and UDPLite.
	SrcPort, DstPort uint16
	// TCPFlags; 0: SYN. Seq and Ack are TCP's numbers.
	TCPFlags uint8
	Seq, Ack uint32
	// ICMPType, ICMPCode, and the identifier and sequence of echoes.
	ICMPType, ICMPCode uint8
	ICMPID, ICMPSeq    uint16
	// HopLimit is also IPv4's TTL; 0: 64.
	HopLimit uint8
	// Payload comes between the transport header and the marker.
	Payload []byte
}

// markerLen is the length of the marker that ends every built packet.
const markerLen = 8

// Build appends the packet, ended by an 8-byte marker, to dst.
func (p *Packet) Build(dst []byte, marker uint64) []byte {
	start := len(dst)
	hop := p.HopLimit
	if hop == 0 {
		hop = 64
	}
	var ipLen int
	if p.Src.Is4() {
		ipLen = 20
		dst = append(dst, 0x45, 0, 0, 0, byte(marker>>8), byte(marker), 0x40, 0, hop, p.Protocol, 0, 0)
		s, d := p.Src.As4(), p.Dst.As4()
		dst = append(append(dst, s[:]...), d[:]...)
	} else {
		ipLen = 40
		dst = append(dst, 0x60, 0, 0, 0, 0, 0, p.Protocol, hop)
		s, d := p.Src.As16(), p.Dst.As16()
		dst = append(append(dst, s[:]...), d[:]...)
	}
	dst = p.transport(dst)
	dst = append(dst, p.Payload...)
	dst = binary.BigEndian.AppendUint64(dst, marker)
	b := dst[start:]
	if ipLen == 20 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[10:], fold(sum(b[:20], 0)))
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
	p.checksum(b[:ipLen], b[ipLen:])
	return dst
}

func (p *Packet) transport(dst []byte) []byte {
	ports := []byte{byte(p.SrcPort >> 8), byte(p.SrcPort), byte(p.DstPort >> 8), byte(p.DstPort)}
	switch p.Protocol {
	case TCP:
		flags := p.TCPFlags
		if flags == 0 {
			flags = SYN
		}
		dst = append(dst, ports...)
		dst = binary.BigEndian.AppendUint32(dst, p.Seq)
		dst = binary.BigEndian.AppendUint32(dst, p.Ack)
		return append(dst, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	case UDP, UDPLite:
		n := 8 + len(p.Payload) + markerLen
		return append(append(dst, ports...), byte(n>>8), byte(n), 0, 0)
	case SCTP: // an INIT chunk whose parameters are the payload
		dst = append(dst, ports...)
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
		n := 20 + len(p.Payload) + markerLen
		dst = append(dst, 1, 0, byte(n>>8), byte(n))
		return append(dst, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1)
	case ICMP, ICMPv6:
		return append(dst, p.ICMPType, p.ICMPCode, 0, 0,
			byte(p.ICMPID>>8), byte(p.ICMPID), byte(p.ICMPSeq>>8), byte(p.ICMPSeq))
	}
	return dst
}

// checksum fills in the transport checksum.
func (p *Packet) checksum(ip, l4 []byte) {
	pseudo := func(length int) uint32 {
		s := uint32(p.Protocol) + uint32(length)
		if len(ip) == 20 {
			return sum(ip[12:20], s)
		}
		return sum(ip[8:40], s)
	}
	put := func(off int, c uint16) { binary.BigEndian.PutUint16(l4[off:], c) }
	switch p.Protocol {
	case TCP:
		put(16, fold(sum(l4, pseudo(len(l4)))))
	case UDP, UDPLite:
		c := fold(sum(l4, pseudo(len(l4))))
		if c == 0 {
			c = 0xffff
		}
		put(6, c)
	case ICMP:
		put(2, fold(sum(l4, 0)))
	case ICMPv6:
		put(2, fold(sum(l4, pseudo(len(l4)))))
	case SCTP:
		binary.LittleEndian.PutUint32(l4[8:], crc32c(l4))
	}
}

func sum(b []byte, s uint32) uint32 {
	for len(b) > 1 {
		s += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
