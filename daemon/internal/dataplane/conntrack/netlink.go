// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// datagram is the size of a buffer for answers, in bytes; the kernel makes none
// that is longer than 32 KiB.
const datagram = 64 << 10

// conn is a netlink socket of one protocol.
type conn struct {
	fd  int
	seq uint32
	buf []byte
}

// dial opens a socket in the network namespace of the calling thread.
func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, datagram)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		c.close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// Errors without the message that caused them; kernels before 4.2 give
	// longer answers.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return c, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// append adds a message to a batch and returns it with the message's number.
func (c *conn) append(b []byte, typ, flags uint16, body []byte) ([]byte, uint32) {
	c.seq++
	b = binary.NativeEndian.AppendUint32(b, uint32(16+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, c.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b, c.seq
}

func (c *conn) send(b []byte) error {
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// recv reads one datagram, which is valid until the next call. The kernel
// answers within the call of send, or of recv for the next piece of a listing;
// that nothing comes within a second is an error.
func (c *conn) recv() ([]byte, error) {
	for {
		n, _, flags, _, err := unix.Recvmsg(c.fd, c.buf, nil, unix.MSG_DONTWAIT)
		switch {
		case err == nil && flags&unix.MSG_TRUNC != 0:
			return nil, errors.New("netlink datagram too long")
		case err == nil:
			return c.buf[:n], nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return nil, err
		}
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 1000); err == nil && n == 0 {
			return nil, errors.New("no answer from the kernel within 1 s")
		}
	}
}

// message is one netlink message.
type message struct {
	typ  uint16
	seq  uint32
	body []byte
}

var errMalformed = errors.New("malformed netlink message")

// messages visits the messages of a datagram.
func messages(b []byte, visit func(message) error) error {
	for len(b) >= 16 {
		n := int(binary.NativeEndian.Uint32(b))
		if n < 16 || n > len(b) {
			return errMalformed
		}
		m := message{typ: binary.NativeEndian.Uint16(b[4:]), seq: binary.NativeEndian.Uint32(b[8:]), body: b[16:n]}
		if err := visit(m); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// errno is the outcome in a message of type NLMSG_ERROR or NLMSG_DONE; nil:
// all went well.
func (m message) errno() error {
	if len(m.body) < 4 {
		return nil
	}
	if e := int32(binary.NativeEndian.Uint32(m.body)); e != 0 {
		return unix.Errno(-e)
	}
	return nil
}
