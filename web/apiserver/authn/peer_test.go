// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPeer_IsWhoTheKernelSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id := Peer(s, -1)
	if !id.Known() || id.Via != "unix" || !slices.Contains(id.Groups, GroupAdmins) {
		t.Errorf("own process: %+v, want a known admin", id)
	}
	raw, err := s.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var groups []uint32
	if err := raw.Control(func(fd uintptr) { groups = peerGroups(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	want, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != len(want) {
		t.Errorf("groups %v, want %v", groups, want)
	}
}

func TestIsAdmin(t *testing.T) {
	for _, c := range []struct {
		name     string
		uid, gid uint32
		groups   []uint32
		euid     int
		admins   int
		want     bool
	}{
		{"root", 0, 0, nil, 500, -1, true},
		{"the server's user", 500, 1, nil, 500, -1, true},
		{"a stranger", 501, 1, nil, 500, 900, false},
		{"a stranger where the group is missing", 501, 1, []uint32{4294967295}, 500, -1, false},
		{"primary group", 501, 900, nil, 500, 900, true},
		{"supplementary group", 501, 1, []uint32{4, 900}, 500, 900, true},
		{"other groups", 501, 1, []uint32{4, 901}, 500, 900, false},
	} {
		if got := isAdmin(&unix.Ucred{Uid: c.uid, Gid: c.gid}, c.groups, c.euid, c.admins); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
