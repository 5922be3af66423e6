// SPDX-License-Identifier: Apache-2.0

// Package netnstest is a test room: network namespaces, virtual links and
// exact packet verdicts for tests that must ask a real kernel.
//
// A namespace (NS) has no name and no file: it belongs to one OS thread of
// the test process and is gone when the test ends, also when the test is
// killed. Code runs inside by NS.Do, programs by NS.Run; other processes can
// be started inside by NS.Start or reach it through NS.Path.
//
// An Injector judges packets: it owns a namespace with one TUN device per
// interface and says, packet by packet, whether the kernel's INPUT, OUTPUT or
// FORWARD path let it through. The kernel handles a packet inside write(2), so
// there are no time-outs and no sleeps: not there when write returned means
// dropped. One thread reaches 200,000 to 400,000 verdicts a second.
//
//	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
//	inj.NS.Do(func() error { ... make rules ... })
//	ok := inj.In("rstun0", netnstest.Packet{Src: a, Dst: b, Protocol: 6, DstPort: 22})
//
// It is not for production code, and not for traffic between processes: for
// that, join two namespaces with Veth and use sockets.
package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NS is a network namespace held by one locked OS thread. Its methods may be
// called from several goroutines; they run one after the other.
type NS struct {
	t    testing.TB
	jobs chan job
	done chan struct{}
	path string
	fd   int
}

type job struct {
	run  func() error
	errc chan error
}

// New makes a namespace with loopback up, and removes it at the end of the
// test. It skips the test if the process may not make one.
func New(t testing.TB) *NS {
	t.Helper()
	n := &NS{t: t, jobs: make(chan job), done: make(chan struct{}), fd: -1}
	started := make(chan error, 1)
	go n.work(started)
	if err := <-started; err != nil {
		<-n.done
		if errors.Is(err, unix.EPERM) {
			t.Skipf("network namespace: %v", err)
		}
		t.Fatalf("network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(n.jobs)
		<-n.done
		unix.Close(n.fd)
	})
	n.MustDo(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return n
}

// work is the namespace's thread. It is never unlocked, so that the runtime
// destroys it, and the namespace with it, when work returns.
func (n *NS) work(started chan<- error) {
	defer close(n.done)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		started <- fmt.Errorf("unshare: %w", err)
		return
	}
	n.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	fd, err := unix.Open(n.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		started <- fmt.Errorf("%s: %w", n.path, err)
		return
	}
	n.fd = fd
	started <- nil
	for j := range n.jobs {
		j.errc <- j.run()
	}
}

// Do runs fn on the namespace's thread and waits for it. Sockets opened by fn
// belong to the namespace for ever, whoever uses them later; goroutines that
// fn starts run elsewhere. fn must not call t.FailNow: it returns an error.
func (n *NS) Do(fn func() error) error {
	j := job{run: fn, errc: make(chan error, 1)}
	n.jobs <- j
	return <-j.errc
}

// MustDo is Do that ends the test on an error.
func (n *NS) MustDo(fn func() error) {
	n.t.Helper()
	if err := n.Do(fn); err != nil {
		n.t.Fatal(err)
	}
}

// Go runs fn on a thread of its own inside the namespace, so that a blocking
// call does not hold up Do. The channel yields fn's error.
func (n *NS) Go(fn func() error) <-chan error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			errc <- fmt.Errorf("setns: %w", err)
			return
		}
		errc <- fn()
	}()
	return errc
}

// Path is the namespace's file under /proc while the test runs; it can be
// given to nsenter(1), setns(2) or `ip link set ... netns`.
func (n *NS) Path() string { return n.path }

// Fd is an open descriptor of the namespace, owned by NS.
func (n *NS) Fd() int { return n.fd }

// Run runs a program inside and returns its output, standard error included.
// A failure ends the test.
func (n *NS) Run(name string, args ...string) string {
	n.t.Helper()
	out, err := n.Try(name, args...)
	if err != nil {
		n.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// Try is Run that returns the error.
func (n *NS) Try(name string, args ...string) (string, error) {
	var out []byte
	err := n.Do(func() error {
		var err error
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	return string(out), err
}

// Start starts cmd inside. The caller waits for it.
func (n *NS) Start(cmd *exec.Cmd) error {
	return n.Do(cmd.Start)
}

// Sysctl writes one sysctl of the namespace; key has slashes, as
// "net/ipv4/ip_forward".
func (n *NS) Sysctl(key, value string) {
	n.t.Helper()
	n.MustDo(func() error { return sysctl(key, value) })
}

// sysctl must run on the namespace's thread: /proc/sys/net is the reader's.
func sysctl(key, value string) error {
	return os.WriteFile("/proc/sys/"+key, []byte(value), 0)
}

// Veth joins two namespaces by a pair of interfaces, up, with the given
// addresses ("10.0.0.1/24", "fd00::1/64"), usable at once (no duplicate
// address detection).
func Veth(a, b *NS, nameA, nameB string, addrsA, addrsB []string) {
	a.t.Helper()
	a.MustDo(func() error {
		v := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB,
			PeerNamespace: netlink.NsFd(b.fd),
		}
		return netlink.LinkAdd(v)
	})
	a.Up(nameA, addrsA...)
	b.Up(nameB, addrsB...)
}

// Up adds addresses to an interface and sets it up.
func (n *NS) Up(iface string, addrs ...string) {
	n.t.Helper()
	n.MustDo(func() error {
		link, err := netlink.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("interface %s: %w", iface, err)
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, a); err != nil {
				return fmt.Errorf("address %s: %w", s, err)
			}
		}
		return netlink.LinkSetUp(link)
	})
	for _, s := range addrs {
		n.awaitLocal(s)
	}
}

// awaitLocal waits until the kernel delivers to an address: it makes IPv6
// ones usable on a work queue, some time after the call.
func (n *NS) awaitLocal(s string) {
	n.t.Helper()
	a, err := netlink.ParseAddr(s)
	if err != nil {
		n.t.Fatal(err)
	}
	if a.IP.To4() != nil {
		return
	}
	for range 2000 {
		local := false
		n.MustDo(func() error {
			routes, err := netlink.RouteGet(a.IP)
			local = err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
			return nil
		})
		if local {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Fatalf("address %s: not usable after 2 s", s)
}

// Handle is a netlink handle bound to the namespace, usable from any thread.
// It is closed at the end of the test.
func (n *NS) Handle() *netlink.Handle {
	n.t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.fd))
	if err != nil {
		n.t.Fatalf("netlink handle: %v", err)
	}
	n.t.Cleanup(h.Close)
	return h
}
