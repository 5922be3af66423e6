// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer asks the kernel who is at the other end of a connection. On TCP nobody
// is known: being on this machine is no authority. adminGID is the Unix group
// whose members are admins; below zero: there is none.
func Peer(c net.Conn, adminGID int) Identity {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Identity{Via: "tcp"}
	}
	id := Identity{Via: "unix"}
	raw, err := uc.SyscallConn()
	if err != nil {
		return id
	}
	var cred *unix.Ucred
	var groups []uint32
	if cerr := raw.Control(func(fd uintptr) {
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			groups = peerGroups(int(fd))
		}
	}); cerr != nil || err != nil {
		return id
	}
	id.User = "uid:" + strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10)); err == nil {
		id.User = u.Username
	}
	id.Method, id.Credential = MethodSocket, "pid:"+strconv.FormatInt(int64(cred.Pid), 10)
	id.Groups = append([]string{GroupAuthenticated}, unixGroups(cred.Gid, groups)...)
	if isAdmin(cred, groups, os.Geteuid(), adminGID) {
		id.Groups = append(id.Groups, GroupAdmins)
	}
	return id
}

// mostGroups is how many groups of a peer are looked up by name.
const mostGroups = 64

// unixGroups are the names of groups on this machine, each once. One that has
// no name here is left out.
func unixGroups(gid uint32, more []uint32) []string {
	var names []string
	for _, g := range append([]uint32{gid}, more[:min(len(more), mostGroups)]...) {
		if known, err := user.LookupGroupId(strconv.FormatUint(uint64(g), 10)); err == nil {
			if name := GroupUnixPrefix + known.Name; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// isAdmin decides by what the kernel said of the peer: root, the server's own
// user, or a member of the admin group. adminGID below zero: no such group.
func isAdmin(cred *unix.Ucred, groups []uint32, euid, adminGID int) bool {
	if cred.Uid == 0 || int64(cred.Uid) == int64(euid) {
		return true
	}
	if adminGID < 0 {
		return false
	}
	return int64(cred.Gid) == int64(adminGID) || slices.Contains(groups, uint32(adminGID))
}

// peerGroups are the supplementary groups of the process at the other end
// (SO_PEERGROUPS, Linux 4.13); nil if the kernel does not say.
func peerGroups(fd int) []uint32 {
	for n := uint32(64); n <= 65536; n *= 8 {
		buf := make([]uint32, n)
		size := n * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
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
