// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// Numbers of <linux/netfilter/nfnetlink_conntrack.h>.
const (
	subsystem = 1 << 8 // NFNL_SUBSYS_CTNETLINK

	msgGet    = subsystem | 1
	msgDelete = subsystem | 2

	attrOrig   = 1
	attrReply  = 2
	attrStatus = 3
	attrID     = 12
	attrMaster = 14
	attrZone   = 18

	attrTupleIP    = 1
	attrTupleProto = 2
	attrTupleZone  = 3

	statusReplied = 1 << 1 // IPS_SEEN_REPLY
	statusDNAT    = 1 << 5 // IPS_DST_NAT
)

// tuple is one direction of a connection.
type tuple struct {
	src, dst           netip.Addr
	protocol           uint8
	srcPort, dstPort   uint16
	icmpType, icmpCode uint8
	icmpID             uint16
}

// entry is a connection in the kernel's table. The slices are part of the
// datagram that it was read from.
type entry struct {
	family      byte
	orig, reply tuple
	status      uint32
	id          []byte // CTA_ID
	rawOrig     []byte // CTA_TUPLE_ORIG
	master      tuple  // of the connection that this one came of
	hasMaster   bool
	zoned       bool // not in the default zone
	helped      bool // others may come of it
	labelled    bool // it was cut, though it is there
}

// read reads an entry from the body of a message; false: it is none.
func (e *entry) read(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	*e = entry{family: body[0]}
	nlattr.Each(body[4:], func(typ uint16, v []byte) {
		switch typ {
		case attrOrig:
			e.zoned = e.orig.read(v) || e.zoned
			e.rawOrig = v
		case attrReply:
			e.zoned = e.reply.read(v) || e.zoned
		case attrStatus:
			e.status = bigU32(v)
		case attrID:
			e.id = v
		case attrMaster:
			e.master.read(v)
			e.hasMaster = true
		case attrZone:
			e.zoned = true
		case attrHelp:
			e.helped = true
		case attrLabels:
			e.labelled = hasCutLabel(v)
		}
	})
	return e.orig.src.IsValid() && e.reply.src.IsValid() && len(e.id) == 4
}

// flow is the entry as a flow, without its way and interfaces.
func (e *entry) flow() ruleset.Flow {
	f := ruleset.Flow{
		Protocol: e.orig.protocol, Src: e.orig.src, Dst: e.orig.dst, SrcPort: e.orig.srcPort, DstPort: e.orig.dstPort,
		ICMPType: e.orig.icmpType, ICMPCode: e.orig.icmpCode,
	}
	if e.status&statusDNAT != 0 {
		f.DNATed, f.NewDst, f.NewDstPort = true, e.reply.src, e.reply.srcPort
	}
	return f
}

// read reads a tuple; true: it is in a zone of its own.
func (t *tuple) read(b []byte) (zoned bool) {
	nlattr.Each(b, func(typ uint16, v []byte) {
		switch typ {
		case attrTupleIP:
			nlattr.Each(v, func(typ uint16, v []byte) {
				a, _ := netip.AddrFromSlice(v)
				if typ&1 == 1 { // CTA_IP_V4_SRC, CTA_IP_V6_SRC
					t.src = a
				} else {
					t.dst = a
				}
			})
		case attrTupleProto:
			nlattr.Each(v, t.proto)
		case attrTupleZone:
			zoned = true
		}
	})
	return zoned
}

// proto reads one attribute CTA_PROTO_*.
func (t *tuple) proto(typ uint16, v []byte) {
	small := func() uint8 {
		if len(v) < 1 {
			return 0
		}
		return v[0]
	}
	wide := func() uint16 {
		if len(v) < 2 {
			return 0
		}
		return binary.BigEndian.Uint16(v)
	}
	switch typ {
	case 1:
		t.protocol = small()
	case 2:
		t.srcPort = wide()
	case 3:
		t.dstPort = wide()
	case 4, 7: // ICMP, ICMPv6
		t.icmpID = wide()
	case 5, 8:
		t.icmpType = small()
	case 6, 9:
		t.icmpCode = small()
	}
}

func bigU32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// doomed is an entry that is to be deleted.
type doomed struct {
	family byte
	raw    []byte // CTA_TUPLE_ORIG
	id     [4]byte
	flow   tuple
}

func (e *entry) doom() doomed {
	return doomed{family: e.family, raw: append([]byte(nil), e.rawOrig...), id: [4]byte(e.id), flow: e.orig}
}

// atOnce is how many entries one call of the kernel is about.
const atOnce = 64

// remove deletes entries. It returns how many it has deleted, and how many
// the kernel keeps; an entry that is gone, or another's by now, is neither.
func (c *conn) remove(list []doomed) (removed, kept int, err error) {
	for len(list) > 0 && err == nil {
		n := min(len(list), atOnce)
		err = c.each(list[:n], msgDelete, unix.NLM_F_ACK, byID, func(_ int, m message) {
			switch err := m.errno(); {
			case err == nil:
				removed++
			case errors.Is(err, unix.ENOENT):
			default:
				kept++
			}
		})
		list = list[n:]
	}
	if err != nil {
		err = fmt.Errorf("deleting connections: %w", err)
	}
	return removed, kept, err
}

// byID is the attribute that says which entry is meant, whoever has its
// addresses and ports.
func byID(body []byte, d *doomed) []byte { return nlattr.Append(body, attrID, d.id[:]) }

// each sends one request for each entry, with further attributes by more, and
// visits the one answer to each.
func (c *conn) each(list []doomed, typ, flags uint16, more func(body []byte, d *doomed) []byte, visit func(i int, m message)) error {
	var b, body []byte
	first := c.seq + 1
	for i := range list {
		d := &list[i]
		body = append(body[:0], d.family, 0, 0, 0)
		body = nlattr.Append(body, attrOrig|nlattr.Nested, d.raw)
		if more != nil {
			body = more(body, d)
		}
		b, _ = c.append(b, typ, flags, body)
	}
	if err := c.send(b); err != nil {
		return err
	}
	for answers := 0; answers < len(list); {
		b, err := c.recv()
		if err != nil {
			return err
		}
		err = messages(b, func(m message) error {
			if i := m.seq - first; i < uint32(len(list)) {
				answers++
				visit(int(i), m)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
