// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListen_ModesAndCleanUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "run")
	path := filepath.Join(dir, "api.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o750, path: fs.ModeSocket | 0o660, path + ".lock": 0o600} {
		fi, err := os.Stat(p)
		if err != nil || fi.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", p, fi.Mode(), err, want)
		}
	}
	if gid := adminGID(DefaultAdminGroup); gid >= 0 && os.Geteuid() == 0 {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st := fi.Sys().(*syscall.Stat_t); st.Uid != 0 || int(st.Gid) != gid {
			t.Errorf("socket belongs to %d:%d, want 0:%d", st.Uid, st.Gid, gid)
		}
	}
	if got := l.Addr().String(); got != path {
		t.Errorf("Addr: %q, want %q", got, path)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := l.Close(); err == nil {
		t.Errorf("second Close: no error, want one")
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after Close the socket is there (%v)", err)
	}
}

func TestListen_SecondServerIsToldOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another ripstop-server") {
		t.Errorf("second Listen: %v", err)
	}
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first server was harmed: %v", err)
	}
}

func TestListen_WhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := Listen(stale)
	if err != nil {
		t.Fatalf("over a socket that nobody listens on: %v", err)
	}
	l.Close()

	live := filepath.Join(dir, "live.sock")
	other, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := Listen(live); err == nil || !strings.Contains(err.Error(), "another program answers") {
		t.Errorf("over a live socket: %v", err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "x" {
		t.Errorf("the file was harmed: %q, %v", data, err)
	}

	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(open, "api.sock")); err == nil || !strings.Contains(err.Error(), "writable by everybody") {
		t.Errorf("in a directory open to everybody: %v", err)
	}
}

func TestListenLoopback_OnlyLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "example.org:80", "127.0.0.1", ""} {
		if l, err := ListenLoopback(addr); err == nil {
			l.Close()
			t.Errorf("ListenLoopback(%q): no error, listens on %v", addr, l.Addr())
		}
	}
	l, err := ListenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

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
	id := peerIdentity(s, -1)
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
	if err := AdminsOnly(context.Background(), Identity{User: "x", Groups: []string{GroupAuthenticated}}, Attributes{}); err == nil {
		t.Error("AdminsOnly lets a stranger in")
	}
}
