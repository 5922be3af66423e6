// SPDX-License-Identifier: Apache-2.0

// Package test installs the packages on machines that systemd has booted, and
// looks at what they do there and leave behind.
package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// root is the top of the repository.
const root = "../.."

// machine is a booted Debian with systemd; its address is 10.213.0.11, ours
// 10.213.0.254.
type machine struct {
	t   testing.TB
	lab string
}

// booted counts the machines, which may be there at the same time.
var booted atomic.Int32

func boot(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, lab: fmt.Sprintf("rspk%d-%d", os.Getpid(), booted.Add(1))}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.try("exec", "journalctl", "--no-pager", "-b", "-n", "80", "-o", "short-monotonic")
			t.Logf("end of the machine's journal:\n%s", out)
		}
		if out, err := m.try("down"); err != nil {
			t.Errorf("machine.sh down: %v\n%s", err, out)
		}
	})
	if out, err := m.try("up"); err != nil {
		t.Fatalf("machine.sh up: %v\n%s", err, out)
	}
	return m
}

func (m *machine) try(args ...string) (string, error) {
	cmd := exec.Command("./machine.sh", args...)
	cmd.Env = append(os.Environ(), "LAB="+m.lab)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs a program inside, which must not fail.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(append([]string{"exec"}, args...)...)
	if err != nil {
		m.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

func (m *machine) push(src, dst string) {
	m.t.Helper()
	if out, err := m.try("push", src, dst); err != nil {
		m.t.Fatalf("copying %s: %v\n%s", src, err, out)
	}
}

// reboot boots the machine anew, with words for the kernel command line.
func (m *machine) reboot(words string) {
	m.t.Helper()
	cmd := exec.Command("./machine.sh", "reboot")
	cmd.Env = append(os.Environ(), "LAB="+m.lab, "BOOT_ARGS="+words)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("machine.sh reboot: %v\n%s", err, out)
	}
}

// eventually waits, a minute at the most, until check is nil.
func (m *machine) eventually(what string, check func() error) {
	m.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: not within a minute: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// settled waits until the agent has everything in force.
func (m *machine) settled() {
	m.t.Helper()
	m.eventually("the agent enforces what the datastore has", func() error {
		out, err := m.try("exec", "ripstop", "status")
		if err == nil && (!strings.Contains(out, "Ready True (Enforcing)") || !strings.Contains(out, "the kernel holds what was seen")) {
			err = fmt.Errorf("not in force")
		}
		if err != nil {
			return fmt.Errorf("%w:\n%s", err, out)
		}
		return nil
	})
}

// in runs f on a thread in one of the machine's network namespaces: "m" is
// its own, "br" the one at the other end of its cable.
func (m *machine) in(which string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		ns, err := os.Open("/run/netns/" + m.lab + "-" + which)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// listen echoes on TCP ports of the machine until the test ends or it reboots.
func (m *machine) listen(ports ...int) {
	m.t.Helper()
	for _, port := range ports {
		var l net.Listener
		if err := m.in("m", func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf("10.213.0.11:%d", port))
			return err
		}); err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
	}
}

func (m *machine) dial(port int) (c net.Conn, err error) {
	err = m.in("br", func() (err error) {
		c, err = net.DialTimeout("tcp", fmt.Sprintf("10.213.0.11:%d", port), 300*time.Millisecond)
		return err
	})
	return c, err
}

// opens tells whether a connection to a port is let through.
func (m *machine) opens(port int) error {
	c, err := m.dial(port)
	if err == nil {
		c.Close()
	}
	return err
}

func (m *machine) want(when string, ports map[int]bool) {
	m.t.Helper()
	for port, open := range ports {
		if err := m.opens(port); (err == nil) != open {
			m.t.Errorf("%s: port %d open: %v (%v), want %v", when, port, err == nil, err, open)
		}
	}
}

// watch keeps one connection to an allowed port talking and tries a denied
// port all the time, until the returned function is called; that tells what
// went wrong.
func (m *machine) watch(allowed, denied int) (end func(what string)) {
	m.t.Helper()
	flow, err := m.dial(allowed)
	if err != nil {
		m.t.Fatalf("port %d, which is allowed: %v", allowed, err)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var echoes, tries int
	var broken error
	var slowest time.Duration
	admitted := 0
	wg.Go(func() {
		b := []byte("x")
		for !stop.Load() {
			began := time.Now()
			flow.SetDeadline(began.Add(20 * time.Second))
			if _, broken = flow.Write(b); broken == nil {
				_, broken = io.ReadFull(flow, b)
			}
			if broken != nil {
				return
			}
			echoes++
			slowest = max(slowest, time.Since(began))
			time.Sleep(2 * time.Millisecond)
		}
	})
	wg.Go(func() {
		for !stop.Load() {
			tries++
			if m.opens(denied) == nil {
				admitted++
			}
		}
	})
	return func(what string) {
		m.t.Helper()
		stop.Store(true)
		wg.Wait()
		flow.Close()
		m.t.Logf("%s: %d echoes, the slowest after %v; %d tries at the denied port, %d admitted", what, echoes, slowest.Round(time.Millisecond), tries, admitted)
		if broken != nil {
			m.t.Errorf("%s: the flow broke: %v", what, broken)
		}
		if admitted > 0 || tries == 0 || echoes == 0 {
			m.t.Errorf("%s: %d of %d tries at a denied port were admitted, %d echoes", what, admitted, tries, echoes)
		}
	}
}

// nfpm is the packager, built once for the version in the Makefile.
func nfpm(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs(root + "/bin/tools/nfpm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if out, err := exec.Command("make", "-C", root, "nfpm").CombinedOutput(); err != nil {
			t.Fatalf("make nfpm: %v\n%s", err, out)
		}
	}
	return path
}

// builtIn is the folder of each version that was built once for all tests.
var builtIn = map[string]string{}

// TestMain removes what was built.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range builtIn {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// built is the folder with the packages of a version.
func built(t testing.TB, version string) string {
	t.Helper()
	if builtIn[version] == "" {
		dir, err := os.MkdirTemp("", "rspk")
		if err != nil {
			t.Fatal(err)
		}
		build(t, version, dir)
		builtIn[version] = dir
	}
	return builtIn[version]
}

// build makes packages of a version, of both kinds, for this machine.
func build(t testing.TB, version, dir string) {
	t.Helper()
	cmd := exec.Command(root + "/packaging/build.sh")
	cmd.Env = append(os.Environ(), "NFPM="+nfpm(t), "OUT="+dir, "ARCHES="+runtime.GOARCH, "PKGVERSION="+version, "SOURCE_DATE_EPOCH=1750000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packaging/build.sh: %v\n%s", err, out)
	}
}

// files are the packages in a folder that match a pattern, at least one.
func files(t testing.TB, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return found
}
