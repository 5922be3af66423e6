// SPDX-License-Identifier: Apache-2.0

package neigh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/rtnetlink"
)

// ndaProtocol is NDA_PROTOCOL of linux/neighbour.h, since Linux 5.0.
const ndaProtocol = 12

// sizeofNdmsg is the size of struct ndmsg.
const sizeofNdmsg = 12

// place is where an entry is in the neighbour table.
type place struct {
	index int
	addr  netip.Addr
}

// door is the way to the kernel.
type door struct{ *rtnetlink.Socket }

func open() (*door, error) {
	s, err := rtnetlink.Open()
	if err != nil {
		return nil, err
	}
	return &door{s}, nil
}

// list tells of all permanent entries with a link address.
func (d *door) list(each func(p place, mac [6]byte, protocol uint8)) error {
	for range 10 {
		req := d.Request(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		req.AddData(&netlink.Ndmsg{})
		msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue // changed while it was read
		}
		if err != nil {
			return fmt.Errorf("listing neighbours: %w", err)
		}
		for _, b := range msgs {
			if p, mac, protocol, ok := parse(b); ok {
				each(p, mac, protocol)
			}
		}
		return nil
	}
	return fmt.Errorf("listing neighbours: %w", netlink.ErrDumpInterrupted)
}

// parse reads a struct ndmsg with its attributes; ok is false for an entry
// that is not permanent, or has no link address of six bytes.
func parse(b []byte) (p place, mac [6]byte, protocol uint8, ok bool) {
	if len(b) < sizeofNdmsg {
		return p, mac, 0, false
	}
	state := binary.NativeEndian.Uint16(b[8:])
	attrs, err := nl.ParseRouteAttr(b[sizeofNdmsg:])
	if err != nil || state&unix.NUD_PERMANENT == 0 {
		return p, mac, 0, false
	}
	p.index = int(binary.NativeEndian.Uint32(b[4:]))
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.NDA_DST:
			p.addr, _ = netip.AddrFromSlice(a.Value)
		case unix.NDA_LLADDR:
			if len(a.Value) == len(mac) {
				mac, ok = [6]byte(a.Value), true
			}
		case ndaProtocol:
			if len(a.Value) > 0 {
				protocol = a.Value[0]
			}
		}
	}
	return p, mac, protocol, ok && p.addr.IsValid()
}

// put makes a permanent entry, in the place of whatever is there.
func (d *door) put(p place, mac [6]byte, protocol uint8) error {
	req := d.message(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, p)
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, mac[:]))
	req.AddData(nl.NewRtAttr(ndaProtocol, []byte{protocol}))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (d *door) del(p place) error {
	_, err := d.message(unix.RTM_DELNEIGH, 0, p).Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (d *door) message(typ, flags int, p place) *nl.NetlinkRequest {
	req := d.Request(typ, flags|unix.NLM_F_ACK)
	family := uint8(unix.AF_INET6)
	if p.addr.Is4() {
		family = unix.AF_INET
	}
	req.AddData(&netlink.Ndmsg{Family: family, Index: uint32(p.index), State: unix.NUD_PERMANENT})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, p.addr.AsSlice()))
	return req
}
