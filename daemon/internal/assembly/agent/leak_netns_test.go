// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// inside is set in the process that runs agents: a process of its own, in a
// network namespace of its own, because an agent's goroutines run on any
// thread.
const inside = "RIPSTOP_TEST_INSIDE"

// TestNetnsRun_LeavesNothingRunning: an agent that is stopped ends, with all
// its goroutines and files, be its datastore away, silent, or never there; and
// another one can be started in its place.
func TestNetnsRun_LeavesNothingRunning(t *testing.T) {
	if os.Getenv(inside) != "" {
		runAndCount(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNetnsRun_LeavesNothingRunning$", "-test.v", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child lives as long as the thread that starts it
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(err.Error(), "operation not permitted") {
		t.Skipf("network namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func runAndCount(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "rs") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	silent, err := net.Listen("unix", filepath.Join(dir, "silent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, c := range []struct {
		name, etcd string
		snapshot   bool
	}{
		{"no datastore, no snapshot", "unix://" + dir + "/none.sock", false},
		{"no datastore, a snapshot", "unix://" + dir + "/none.sock", true},
		{"a datastore that takes connections and says nothing", "unix://" + dir + "/silent.sock", true},
	} {
		cfg := config.Config{
			Role: config.Agent, Node: "h1", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"),
			Etcd: config.Etcd{Endpoints: []string{c.etcd}}, MetricsAddress: "127.0.0.1:0", ResyncInterval: time.Minute,
		}
		until := `"role"`
		if c.snapshot {
			keep(t, cfg)
			until = `"appliedRevision": 5`
		}
		once(t, cfg, until) // what the runtime and libraries keep once and for all
		goroutines, files := runtime.NumGoroutine(), openFiles(t)
		for range 3 {
			once(t, cfg, until)
		}
		for range 500 { // a goroutine that has said its last word still counts
			if runtime.NumGoroutine() <= goroutines && openFiles(t) <= files {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			stacks := make([]byte, 1<<20)
			t.Errorf("%s: %d goroutines before, %d after:\n%s", c.name, goroutines, n, stacks[:runtime.Stack(stacks, true)])
		}
		if n := openFiles(t); n > files {
			t.Errorf("%s: %d open files before, %d after", c.name, files, n)
		}
	}
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// once runs an agent until its status says something; then it is told to
// stop.
func once(t *testing.T, cfg config.Config, until string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, cfg, slog.New(slog.NewTextHandler(&log, nil)), io.Discard, func() error { return nil })
	}()
	socket := filepath.Join(cfg.RunDir, "agent.sock")
	status := ""
	for range 500 {
		c, err := net.Dial("unix", socket)
		if err == nil {
			fmt.Fprint(c, "GET /status HTTP/1.0\r\n\r\n")
			b, _ := io.ReadAll(c)
			status = string(b)
			c.Close()
		}
		if strings.Contains(status, until) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.Contains(status, until) {
		t.Errorf("status lacks %s:\n%s\n%s", until, status, log.String())
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run = %v, want nil", err)
		}
	case <-time.After(20 * time.Second):
		stacks := make([]byte, 1<<20)
		t.Fatalf("run has not returned 20 s after it was told to:\n%s\n%s", log.String(), stacks[:runtime.Stack(stacks, true)])
	}
}

// keep writes a snapshot with an endpoint in it.
func keep(t *testing.T, cfg config.Config) {
	t.Helper()
	h := &api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindHostEndpoint, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "h"}}
	h.Spec.Node, h.Spec.InterfaceName = cfg.Node, api.AllInterfaces
	w := snapshot.NewWriter(snapshotConfig(cfg, slog.New(slog.DiscardHandler), nil), snapshot.Loaded{})
	ctx := context.Background()
	if err := w.Events(ctx, []api.Event{{Key: h.Key(), Object: h, Revision: 5}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Phase(ctx, syncer.InSync); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}
