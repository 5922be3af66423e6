// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"net"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AdminGroup is the Unix group whose members may use Ripstop's sockets.
const AdminGroup = "ripstop"

// GroupID is the id of a group by name, or -1 if this machine has no such
// group.
func GroupID(name string) int {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return id
}

// Peer is who was at the other end of a Unix socket when it was connected.
type Peer struct {
	UID, GID uint32
	// Groups are the supplementary groups, as far as the kernel tells
	// (SO_PEERGROUPS, Linux 4.13).
	Groups []uint32
}

// In reports whether the peer is in a group; nobody is in one below zero.
func (p Peer) In(gid int) bool {
	return gid >= 0 && (int64(p.GID) == int64(gid) || slices.Contains(p.Groups, uint32(gid)))
}

// PeerOf asks the kernel who is at the other end (unix(7), SO_PEERCRED).
func PeerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var credErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr == nil {
			p = Peer{UID: cred.Uid, GID: cred.Gid, Groups: peerGroups(fd)}
		}
	})
	return p, errors.Join(err, credErr)
}

// peerGroups are the peer's supplementary groups, or nil.
func peerGroups(fd uintptr) []uint32 {
	for n := uint32(64); n <= 65536; n *= 8 {
		buf := make([]uint32, n)
		size := n * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return buf[:min(size/4, n)]
		case errno != unix.ERANGE:
			return nil
		}
	}
	return nil
}
