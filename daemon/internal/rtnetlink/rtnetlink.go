// SPDX-License-Identifier: Apache-2.0

// Package rtnetlink is the socket through which the parts for routes and for
// neighbours talk to the kernel (rtnetlink(7)). It knows no route and no
// neighbour: they make the messages.
//
//	s, err := rtnetlink.Open()
//	_, err = s.Request(unix.RTM_DELROUTE, unix.NLM_F_ACK).Execute(unix.NETLINK_ROUTE, 0)
package rtnetlink

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// answerTime bounds the wait for an answer of the kernel.
const answerTime = 10 * time.Second

// Socket is one netlink socket, bound to the network namespace in which it was
// opened. It is used by one goroutine at a time.
type Socket struct {
	socket *nl.NetlinkSocket
	on     map[int]*nl.SocketHandle
}

// Open opens a socket in the network namespace of the calling thread. An
// answer that does not come within 10 s is an error.
func Open() (*Socket, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	tv := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(s.SetReceiveTimeout(&tv), s.SetSendTimeout(&tv)); err != nil {
		s.Close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Socket{socket: s, on: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

// Close closes the socket.
func (s *Socket) Close() { s.socket.Close() }

// Strict asks the kernel to leave out of its lists what was not asked for
// (NETLINK_GET_STRICT_CHK, Linux 4.20). Older ones tell all.
func (s *Socket) Strict() {
	_ = unix.SetsockoptInt(s.socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
}

// Port is the socket's netlink port, by which our own changes are known.
func (s *Socket) Port() (uint32, error) { return s.socket.GetPid() }

// Request is a message to be filled and executed.
func (s *Socket) Request(typ, flags int) *nl.NetlinkRequest {
	return &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: uint16(typ), Flags: uint16(unix.NLM_F_REQUEST | flags)},
		Sockets:  s.on,
	}
}
