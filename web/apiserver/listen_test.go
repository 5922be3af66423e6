// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
