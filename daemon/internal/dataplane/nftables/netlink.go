// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// Numbers of <linux/netfilter/*.h> that x/sys/unix does not have.
const (
	subsystem  = 10 << 8 // NFNL_SUBSYS_NFTABLES
	batchBegin = 0x10
	batchEnd   = 0x11

	flagDormant = 1
	flagOwner   = 2 // kernel 5.12
	flagPersist = 4 // kernel 6.9

	attrTableOwner = 7 // NFTA_TABLE_OWNER
	familyINet     = 1 // NFPROTO_INET

	attrElemExpressions = 11 // NFTA_SET_ELEM_EXPRESSIONS
)

// wire is one netlink socket; tests put faults between.
type wire interface {
	send(b []byte) error
	// recv reads one datagram without waiting longer than waitMs.
	recv(b []byte, waitMs int) (int, error)
	port() uint32
	close() error
}

type socket struct {
	fd     int
	portID uint32
	sndbuf int
}

// openSocket opens a netfilter netlink socket in the namespace of the calling
// thread.
func openSocket() (wire, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	s := &socket{fd: fd}
	if err := s.setup(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return s, nil
}

func (s *socket) setup() error {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return err
	}
	if nl, ok := name.(*unix.SockaddrNetlink); ok {
		s.portID = nl.Pid
	}
	// Errors without the message that caused them, but with their text.
	// Kernels before 4.2 and 4.12 lack these; answers are then longer.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	// A batch in which each of 10,000 messages fails must not lose answers.
	return s.buffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, 32<<20)
}

// buffer sets a socket buffer, beyond the sysctl limit if we may.
func (s *socket) buffer(force, plain, size int) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, size); err == nil {
		return nil
	}
	return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, size)
}

func (s *socket) send(b []byte) error {
	if need := len(b) + len(b)/4 + 64<<10; need > s.sndbuf { // the whole batch is one datagram
		if err := s.buffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, need); err != nil {
			return err
		}
		s.sndbuf = need
	}
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s *socket) recv(b []byte, waitMs int) (int, error) {
	for {
		n, _, flags, _, err := unix.Recvmsg(s.fd, b, nil, unix.MSG_DONTWAIT)
		switch {
		case err == nil && flags&unix.MSG_TRUNC != 0:
			return 0, errors.New("netlink datagram too long")
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN) || waitMs == 0:
			return 0, err
		}
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, waitMs); err == nil && n == 0 {
			return 0, unix.EAGAIN
		}
	}
}

func (s *socket) port() uint32 { return s.portID }
func (s *socket) close() error { return unix.Close(s.fd) }

// conn speaks nftables over a wire. It is not safe for concurrent use.
type conn struct {
	w   wire
	seq uint32
	buf []byte
}

func newConn(w wire) *conn { return &conn{w: w, buf: make([]byte, 128<<10)} }

// object says what a message of a batch is about.
type object struct {
	kind byte // 't' table, 'c' chain, 's' set, 'k' constant set, 'm' dispatch map
	name string
	rule int // of a chain, the ruleset's rule, from 1; 0: the chain itself
}

func (o object) String() string {
	s := map[byte]string{'t': "table", 'c': "chain", 's': "set", 'k': "constant set", 'm': "dispatch"}[o.kind] + " " + o.name
	if o.rule > 0 {
		s += fmt.Sprintf(": rule %d", o.rule-1)
	}
	return s
}

// batch is a transaction being written.
type batch struct {
	enc
	start   int // of the open message
	objects []object
}

// msg closes the message before and begins one. Types are NFT_MSG_*.
func (b *batch) msg(typ, flags uint16, o object) {
	b.closeMsg()
	b.objects = append(b.objects, o)
	b.header(subsystem|typ, unix.NLM_F_REQUEST|flags, familyINet, 0)
}

func (b *batch) header(typ, flags uint16, family byte, res uint16) {
	b.start = len(b.b)
	b.b = append(b.b, make([]byte, 16)...)
	b.b = append(b.b, family, 0, byte(res>>8), byte(res))
	h := b.b[b.start:]
	binary.NativeEndian.PutUint16(h[4:], typ)
	binary.NativeEndian.PutUint16(h[6:], flags)
}

func (b *batch) closeMsg() {
	if len(b.b) > 0 {
		binary.NativeEndian.PutUint32(b.b[b.start:], uint32(len(b.b)-b.start))
	}
}

func newBatch() *batch {
	b := &batch{}
	b.header(batchBegin, unix.NLM_F_REQUEST, 0, 10)
	b.objects = append(b.objects, object{})
	return b
}

// onlyAt makes the kernel refuse the batch (ERESTART) if there was another
// transaction since generation gen.
func (b *batch) onlyAt(gen uint32) {
	first := int(binary.NativeEndian.Uint32(b.b))
	var e enc
	e.u32(unix.NFNL_BATCH_GENID, gen)
	b.b = slices.Insert(b.b, first, e.b...)
	binary.NativeEndian.PutUint32(b.b, uint32(first+len(e.b)))
	b.start += len(e.b)
}

// empty reports whether the batch holds no message.
func (b *batch) empty() bool { return len(b.objects) == 1 }

// refusal is the kernel's answer to a batch. All of it was refused unless
// Unknown.
type refusal struct {
	object object
	errno  unix.Errno
	text   string
	others int // further errors in the same batch
	// rules are the objects of those of them that are rules and were
	// refused for the same reason.
	rules []object
	// unknown: no answer came; the batch may or may not be in force.
	unknown bool
}

func (r *refusal) Error() string {
	if r.unknown && r.text != "" {
		return r.text
	}
	if r.unknown {
		return fmt.Sprintf("outcome unknown: %v", r.errno)
	}
	s := r.reason()
	if r.object.kind != 0 {
		s = r.object.String() + ": " + s
	}
	if r.others > 0 {
		s += fmt.Sprintf(" (and %d more)", r.others)
	}
	return s
}

// reason is what the kernel says, without what it is about.
func (r *refusal) reason() string {
	if r.text == "" {
		return r.errno.Error()
	}
	return r.errno.Error() + ": " + r.text
}

func (r *refusal) Unwrap() error { return r.errno }

// commit sends the batch in one sendmsg and waits for the kernel's answer.
// The kernel works inside sendmsg, so when send returns, all answers are
// there. Only the last message asks for one; every message that failed
// answers as well.
func (c *conn) commit(b *batch) error { return c.transact(b, true) }

// try asks whether the kernel would take the batch, which it checks and gives
// up because there is no end.
func (c *conn) try(b *batch) error { return c.transact(b, false) }

func (c *conn) transact(b *batch, end bool) error {
	b.closeMsg()
	binary.NativeEndian.PutUint16(b.b[b.start+6:], binary.NativeEndian.Uint16(b.b[b.start+6:])|unix.NLM_F_ACK)
	if end {
		b.header(batchEnd, unix.NLM_F_REQUEST, 0, 10)
		b.closeMsg()
	}
	c.drain()
	first := c.seq + 1
	n := uint32(0)
	for o := 0; o < len(b.b); {
		binary.NativeEndian.PutUint32(b.b[o+8:], first+n)
		n++
		o += int(binary.NativeEndian.Uint32(b.b[o:]))
	}
	c.seq += n
	if err := c.w.send(b.b); err != nil {
		var errno unix.Errno
		if !errors.As(err, &errno) {
			errno = unix.EIO
		}
		return &refusal{errno: errno, unknown: true}
	}
	last := first + uint32(len(b.objects)) - 1
	var ref *refusal
	acked, wait := false, 1000
	for {
		nr, err := c.w.recv(c.buf, wait)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			var errno unix.Errno
			if !errors.As(err, &errno) {
				errno = unix.EIO
			}
			return &refusal{errno: errno, unknown: true}
		}
		wait = 0
		err = messages(c.buf[:nr], func(m message) error {
			if m.typ != unix.NLMSG_ERROR || m.seq-first >= n {
				return nil
			}
			errno, text := m.errno()
			switch {
			case errno == 0 && m.seq == last:
				acked = true
			case errno == 0:
			default:
				var o object
				if i := m.seq - first; i < uint32(len(b.objects)) {
					o = b.objects[i]
				}
				if ref == nil {
					ref = &refusal{object: o, errno: errno, text: text}
					return nil
				}
				ref.others++
				if o.rule > 0 && errno == ref.errno {
					ref.rules = append(ref.rules, o)
				}
			}
			return nil
		})
		if err != nil {
			return &refusal{errno: unix.EIO, unknown: true}
		}
	}
	switch {
	case ref != nil:
		return ref
	case !acked:
		return &refusal{errno: unix.ENOBUFS, unknown: true}
	}
	return nil
}

// drain throws away answers to something that was given up.
func (c *conn) drain() {
	for range 1000 {
		if _, err := c.w.recv(c.buf, 0); errors.Is(err, unix.EAGAIN) {
			return
		}
	}
}

// message is one netlink message.
type message struct {
	typ, flags uint16
	seq, port  uint32
	data       []byte // behind the netlink header
}

// messages splits a datagram.
func messages(b []byte, visit func(message) error) error {
	for len(b) >= 16 {
		n := int(binary.NativeEndian.Uint32(b))
		if n < 16 || n > len(b) {
			return nlattr.ErrMalformed
		}
		m := message{
			typ: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
			seq: binary.NativeEndian.Uint32(b[8:]), port: binary.NativeEndian.Uint32(b[12:]), data: b[16:n],
		}
		if err := visit(m); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// attrs visits the attributes behind the netfilter header.
func (m message) attrs(visit func(typ uint16, v []byte) error) error {
	if len(m.data) < 4 {
		return nlattr.ErrMalformed
	}
	return attrs(m.data[4:], visit)
}

// errno is the outcome in an NLMSG_ERROR message, with the kernel's words.
func (m message) errno() (unix.Errno, string) {
	if len(m.data) < 4 {
		return unix.EIO, ""
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.data)))
	text := ""
	if m.flags&unix.NLM_F_ACK_TLVS != 0 && len(m.data) >= 20 {
		off := 20
		if m.flags&unix.NLM_F_CAPPED == 0 {
			off = 4 + int(binary.NativeEndian.Uint32(m.data[4:]))
			off = (off + 3) &^ 3
		}
		if off <= len(m.data) {
			_ = attrs(m.data[off:], func(t uint16, v []byte) error {
				if t == 1 { // NLMSGERR_ATTR_MSG
					text = toStr(v)
				}
				return nil
			})
		}
	}
	return errno, text
}

// errInterrupted: the kernel's tables changed while they were listed.
var errInterrupted = errors.New("listing interrupted by a change")

// get sends one request (NFT_MSG_GET*) and visits the answers. With
// NLM_F_DUMP in flags all objects are listed; if another change interrupts
// the listing, visit may have seen some and the result is errInterrupted.
func (c *conn) get(typ, flags uint16, fill func(e *enc), visit func(message) error) error {
	c.drain()
	var b batch
	b.header(subsystem|typ, unix.NLM_F_REQUEST|flags, familyINet, 0)
	if flags&unix.NLM_F_DUMP == 0 {
		binary.NativeEndian.PutUint16(b.b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	}
	if fill != nil {
		fill(&b.enc)
	}
	b.closeMsg()
	c.seq++
	binary.NativeEndian.PutUint32(b.b[8:], c.seq)
	if err := c.w.send(b.b); err != nil {
		return err
	}
	interrupted := false
	for done := false; !done; {
		n, err := c.w.recv(c.buf, 1000)
		if err != nil {
			return fmt.Errorf("reading answer: %w", err)
		}
		err = messages(c.buf[:n], func(m message) error {
			if m.seq != c.seq {
				return nil
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_DONE:
				done = true
				if len(m.data) >= 4 {
					if e := int32(binary.NativeEndian.Uint32(m.data)); e < 0 {
						return unix.Errno(-e)
					}
				}
				return nil
			case unix.NLMSG_ERROR:
				done = true
				if errno, text := m.errno(); errno != 0 {
					if text != "" {
						return fmt.Errorf("%w: %s", errno, text)
					}
					return errno
				}
				return nil
			}
			return visit(m)
		})
		if err != nil {
			c.drain()
			return err
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

// generation is the number of the last transaction of the namespace.
func (c *conn) generation() (gen uint32, err error) {
	err = c.get(unix.NFT_MSG_GETGEN, 0, nil, func(m message) error {
		return m.attrs(func(t uint16, v []byte) error {
			if t == unix.NFTA_GEN_ID {
				gen = toU32(v)
			}
			return nil
		})
	})
	if err != nil {
		return 0, fmt.Errorf("reading generation: %w", err)
	}
	return gen, nil
}
