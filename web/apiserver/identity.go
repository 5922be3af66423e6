// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Groups that the server itself gives to identities. They carry a colon, so
// no group of a machine can be mistaken for one.
const (
	// GroupAdmins may do everything.
	GroupAdmins = "ripstop:admins"
	// GroupAuthenticated is everybody whose name the server knows.
	GroupAuthenticated = "ripstop:authenticated"
)

// Identity is who makes a request.
type Identity struct {
	// User is the name; empty for somebody unknown.
	User string
	// Groups are what Authorise goes by.
	Groups []string
	// Via is "unix" or "tcp".
	Via string
	// Method is how the server knows: one of the Methods; empty for somebody
	// unknown.
	Method Method
	// Credential names what was shown, without giving it away: the serial
	// number of a certificate, the id of a token, the process at the other
	// end of a socket ("pid:1234"). It is for the record only.
	Credential string
}

// Method is a way in which somebody shows who he is.
type Method string

// The ways there are.
const (
	// MethodSocket: the kernel names the peer of a Unix socket.
	MethodSocket Method = "socket"
	// MethodCertificate: a client certificate of the server's CA.
	MethodCertificate Method = "certificate"
	// MethodToken: a bearer token that the server has given out.
	MethodToken Method = "token"
	// MethodOIDC: a token of an OpenID Connect issuer.
	MethodOIDC Method = "oidc"
)

// Known reports whether the server knows who this is.
func (i Identity) Known() bool { return i.User != "" }

// String is the name and the way, for logs and errors.
func (i Identity) String() string {
	if !i.Known() {
		return "anonymous (" + i.Via + ")"
	}
	return i.User + " (" + i.Via + ")"
}

// Attributes are what a request is about to do. Authorise is asked with them.
type Attributes struct {
	// Verb is get, list, watch, create, update, patch, delete or
	// deletecollection.
	Verb string
	// Group, Version, Plural, Namespace and Name say to what, as the client
	// wrote them in the path; all empty for Path outside of resources.
	Group, Version, Plural, Namespace, Name string
	// Subresource is status or empty.
	Subresource string
	Path        string
}

// ErrDenied is what an Authorise hook returns (or wraps, with the reason) to
// refuse.
var ErrDenied = errors.New("not allowed")

// AdminsOnly is the Authorise hook used when none is given: members of
// GroupAdmins may do everything, everybody else nothing.
func AdminsOnly(_ context.Context, id Identity, _ Attributes) error {
	if slices.Contains(id.Groups, GroupAdmins) {
		return nil
	}
	return fmt.Errorf("%w: only root, the user that ripstop-server runs as, and members of group %s may use this socket", ErrDenied, DefaultAdminGroup)
}

// peerIdentity asks the kernel who is at the other end of a connection. On
// TCP nobody is known: being on this machine is no authority.
func peerIdentity(c net.Conn, adminGID int) Identity {
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
	id.Groups = []string{GroupAuthenticated}
	if isAdmin(cred, groups, os.Geteuid(), adminGID) {
		id.Groups = append(id.Groups, GroupAdmins)
	}
	return id
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
