// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// netfilter is a netlink socket for nfnetlink (linux/netfilter/nfnetlink.h):
// requests, listings, transactions. It reads into one buffer, since the look
// at a thousand ipsets is a thousand datagrams twice a second. It is for one
// goroutine.
type netfilter struct {
	fd  int
	seq uint32
	buf []byte
}

// openNetfilter opens the socket in the namespace of the calling thread.
func openNetfilter() (*netfilter, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil { // the kernel answers at once; this is against waiting for ever
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &netfilter{fd: fd, buf: make([]byte, 1<<17)}, nil
}

func (n *netfilter) close() { unix.Close(n.fd) }

// message is one request, or several, being written.
type message struct {
	b     []byte
	start int
}

// begin writes the heads of a message; finish ends it.
func (m *message) begin(typ, flags int, family byte, res uint16, seq uint32) {
	m.start = len(m.b)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(typ))
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(unix.NLM_F_REQUEST|flags))
	m.b = binary.NativeEndian.AppendUint32(m.b, seq)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	m.b = append(m.b, family, unix.NFNETLINK_V0, byte(res>>8), byte(res))
}

func (m *message) finish() {
	binary.NativeEndian.PutUint32(m.b[m.start:], uint32(len(m.b)-m.start))
}

func (m *message) attr(typ int, v []byte) { m.b = nlattr.Append(m.b, uint16(typ), v) }

func (m *message) text(typ int, s string) { m.attr(typ, append([]byte(s), 0)) }
func (m *message) u32(typ int, v uint32) {
	m.attr(typ|nlattr.NetByteOrder, binary.BigEndian.AppendUint32(nil, v))
}

func (m *message) nest(typ int) int {
	m.attr(typ|nlattr.Nested, nil)
	return len(m.b) - 4
}

func (m *message) end(at int) {
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

// do sends a request with the attributes that write writes, and gives visit
// each answer's attributes, which are valid during the call.
func (n *netfilter) do(typ, flags int, family byte, write func(*message), visit func(attrs []byte)) error {
	n.seq++
	var m message
	m.begin(typ, unix.NLM_F_ACK|flags, family, 0, n.seq)
	write(&m)
	m.finish()
	return n.exchange(m.b, 1, visit)
}

// exchange sends messages and reads until so many of them are acknowledged;
// the first error is returned.
func (n *netfilter) exchange(b []byte, acks int, visit func(attrs []byte)) error {
	if err := unix.Sendto(n.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		got, _, err := unix.Recvfrom(n.fd, n.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for rest := n.buf[:got]; len(rest) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.SizeofNlMsghdr || size > len(rest) {
				return fmt.Errorf("netlink message of %d bytes in %d: %w", size, len(rest), unix.EBADMSG)
			}
			typ, seq := binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint32(rest[8:])
			body := rest[unix.SizeofNlMsghdr:size]
			rest = rest[min((size+3)&^3, len(rest)):]
			switch {
			case seq != n.seq: // the rest of an exchange that ended with an error
			case typ == unix.NLMSG_ERROR || typ == unix.NLMSG_DONE:
				if len(body) >= 4 {
					if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
						return unix.Errno(-code)
					}
				}
				if acks--; acks == 0 {
					return nil
				}
			case visit != nil && len(body) >= 4:
				visit(body[4:])
			}
		}
	}
}

func be32(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}
