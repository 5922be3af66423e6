// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPeerOf_IsThisProcess(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := PeerOf(s)
	if err != nil || int(p.UID) != os.Geteuid() || int(p.GID) != os.Getegid() {
		t.Fatalf("PeerOf = %+v, %v, want ourselves", p, err)
	}
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range own {
		if !p.In(g) {
			t.Errorf("In(%d) = false, and we are in that group", g)
		}
	}
	if p.In(-1) || !slices.Contains(own, 54321) && p.In(54321) {
		t.Error("In of a group that we are not in = true")
	}
}

func TestGroupID(t *testing.T) {
	if id := GroupID("root"); id != 0 {
		t.Errorf("GroupID(root) = %d, want 0", id)
	}
	if id := GroupID("no-such-group-here"); id != -1 {
		t.Errorf("GroupID of a group that is not there = %d, want -1", id)
	}
}
