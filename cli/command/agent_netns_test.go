// SPDX-License-Identifier: Apache-2.0

package command

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// otherNetworkAfter connects to a listener of this process from a thread that
// unshares what flags say, and asks whether the other end is elsewhere.
func otherNetworkAfter(t *testing.T, flags int) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answer := make(chan bool, 1)
	failed := make(chan error, 1)
	var try func()
	try = func() {
		runtime.LockOSThread() // and never back: the thread ends with the goroutine
		if unix.Gettid() == os.Getpid() {
			// /proc shows the process in the namespace of this thread.
			done := make(chan struct{})
			go func() { defer close(done); try() }()
			<-done
			runtime.UnlockOSThread()
			return
		}
		if flags != 0 {
			if err := unix.Unshare(flags); err != nil {
				failed <- err
				return
			}
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			failed <- err
			return
		}
		defer c.Close()
		answer <- otherNetwork(c)
	}
	go try()
	select {
	case err := <-failed:
		t.Skipf("needs root: %v", err)
		return false
	case a := <-answer:
		return a
	}
}

func TestNetnsOtherNetwork(t *testing.T) {
	if otherNetworkAfter(t, 0) {
		t.Error("a process of the same namespace is said to be elsewhere")
	}
	if !otherNetworkAfter(t, unix.CLONE_NEWNET) {
		t.Error("a process of another namespace is not said to be elsewhere")
	}
}
