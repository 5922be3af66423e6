// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd/embedded"
	"github.com/ripstop/ripstop/daemon/store"
)

func TestRun_OnlyItsOwnerGetsAtIt(t *testing.T) {
	r := supervise(t, newPlace(t), nil)
	r.ready()
	for path, want := range map[string]fs.FileMode{r.socket: 0o600, filepath.Dir(r.socket): 0o700, r.data: 0o700} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %04o, want %04o", path, got, want)
		}
	}
	filepath.WalkDir(r.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a temporary file that is gone
		}
		if fi, err := d.Info(); err == nil && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("mode of %s = %04o, want nothing for group and others", path, fi.Mode().Perm())
		}
		return nil
	})
}

// listening gives the sockets of a process that wait for anything from the
// network: TCP in LISTEN, UDP and raw in any state.
func listening(t *testing.T, pid int) []string {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("descriptors of %d: %v, %d", pid, err, len(fds))
	}
	for _, fd := range fds {
		if l, _ := os.Readlink(fd); strings.HasPrefix(l, "socket:[") {
			inodes[strings.Trim(l, "socket:[]")] = true
		}
	}
	if len(inodes) == 0 {
		t.Fatalf("process %d has no sockets at all: this test looks at the wrong place", pid)
	}
	var found []string
	for _, f := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, f))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(b), "\n") {
			if w := strings.Fields(line); len(w) > 9 && inodes[w[9]] && (w[3] == "0A" || !strings.HasPrefix(f, "tcp")) {
				found = append(found, f+" "+w[1])
			}
		}
	}
	return found
}

func TestRun_NothingListensOnTheNetwork(t *testing.T) {
	r := supervise(t, newPlace(t), nil)
	st := r.ready()
	if got := listening(t, st.PID); len(got) > 0 {
		t.Errorf("server listens on %v, want the unix socket only", got)
	}
}

func TestRun_SecondServerIsRefused(t *testing.T) {
	r := supervise(t, newPlace(t), nil)
	r.ready()
	cmd := exec.Command(os.Args[0])
	cmd.Env = r.env()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another store is running") {
		t.Errorf("second server: error %v, output %q; want it refused", err, out)
	}
	if _, err := r.open(t).ClusterID(testContext(t)); err != nil {
		t.Errorf("first server after that: %v", err)
	}
}

func TestRun_BadPlacesAreRefused(t *testing.T) {
	p := newPlace(t)
	open := filepath.Join(p.dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, socket, want string }{
		{"long path", filepath.Join(p.dir, strings.Repeat("x", 120)), "at most"},
		{"relative path", "sock", "absolute"},
		{"directory that all may write to", filepath.Join(open, "sock"), "lets everybody"},
	} {
		err := embedded.Run(testContext(t), embedded.Config{DataDir: p.data, ClientSocket: c.socket})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Run with %s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

func TestSupervisor_StopsTheServer(t *testing.T) {
	r := supervise(t, newPlace(t), nil)
	st := r.ready()
	s := r.open(t)
	// An open watch must not make stopping slow.
	w, err := s.Watch(testContext(t), api.KindTier, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.stop()
	if err := syscall.Kill(st.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d after stop: %v, want it gone", st.PID, err)
	}
	if st := r.sup.State(); st.Running || st.PID != 0 || st.LastError != "" {
		t.Errorf("state after stop = %+v, want not running and no error", st)
	}
}

func TestSupervisor_ServerDiesWithIt(t *testing.T) {
	p := newPlace(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(p.env(), childMode+"=supervisor")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil || pid == 0 {
		t.Fatalf("supervisor said %q: %v", line, err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		if time.Now().After(end) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("server %d outlived its supervisor", pid)
		}
	}
}

func TestSupervisor_TellsWhyTheServerEnded(t *testing.T) {
	r := supervise(t, newPlace(t), func(c *embedded.SupervisorConfig) {
		c.Command = []string{"/bin/sh", "-c", `echo '{"level":"FATAL","msg":"it broke","error":"on purpose"}' >&2; exit 3`}
	})
	st := r.wait("restarted three times", func(st embedded.State) bool { return st.Restarts >= 3 && st.PID == 0 })
	if st.Running || !strings.Contains(st.LastError, "it broke: on purpose") || !strings.Contains(st.LastError, "exit status 3") {
		t.Errorf("state = %+v, want the process's own reason", st)
	}
}

func TestSupervisor_MissingProgram(t *testing.T) {
	r := supervise(t, newPlace(t), func(c *embedded.SupervisorConfig) { c.Command = []string{"/does/not/exist"} })
	st := r.wait("in error", func(st embedded.State) bool { return st.LastError != "" })
	if !strings.Contains(st.LastError, "/does/not/exist") {
		t.Errorf("LastError = %q, want it to name the program", st.LastError)
	}
}

// TestSupervisor_KilledUnderLoad kills the server again and again while
// clients write: no write that was acknowledged is lost.
func TestSupervisor_KilledUnderLoad(t *testing.T) {
	rng := random(t)
	r := supervise(t, newPlace(t), nil)
	r.ready()
	s := r.open(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(*killsFlag)*5*time.Second)
	defer cancel()

	const writers = 3
	var acked [writers]atomic.Int64
	var total atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				o := set(fmt.Sprint("writer-", w))
				o.Labels = map[string]string{"n": strconv.FormatInt(n, 10)}
				if _, err := s.Put(ctx, o, store.Always()); err == nil {
					acked[w].Store(n)
					total.Add(1)
				} else if !errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
					t.Errorf("Put: %v, want none or %v", err, store.ErrUnavailable)
					return
				}
			}
		})
	}
	var took []time.Duration
	for range *killsFlag {
		// Kill after a random amount of work, not of time.
		for goal := total.Load() + 1 + rng.Int64N(150); total.Load() < goal && ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
		st := r.ready()
		begin := time.Now()
		if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.wait("running again", func(now embedded.State) bool { return now.Running && now.PID != st.PID })
		took = append(took, time.Since(begin))
		for w := range writers {
			before := acked[w].Load()
			if before == 0 {
				continue
			}
			o, err := s.Get(ctx, set(fmt.Sprint("writer-", w)).Key())
			if err != nil {
				t.Fatalf("Get after a kill: %v", err)
			}
			if got, _ := strconv.ParseInt(o.Metadata().Labels["n"], 10, 64); got < before {
				t.Fatalf("writer %d had %d acknowledged, stored is %d", w, before, got)
			}
		}
	}
	cancel()
	wg.Wait()
	slices.Sort(took)
	if len(took) > 0 {
		t.Logf("%d kills, %d acknowledged writes, 0 lost; answering again after: median %v, worst %v",
			len(took), total.Load(), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	}
}
