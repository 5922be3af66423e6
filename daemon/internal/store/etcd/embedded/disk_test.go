// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd/embedded"
	"github.com/ripstop/ripstop/daemon/store"
)

// smallDisk mounts a file system of its own for a server's data.
func smallDisk(t *testing.T, p place, bytes int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", p.data, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(p.data, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", p.data, err)
		}
	})
}

// fillUp takes all space that is left.
func fillUp(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// until tries something until it is done, and tells how long it took.
func until(t *testing.T, what string, try func(ctx context.Context) (done bool)) time.Duration {
	t.Helper()
	begin := time.Now()
	for time.Since(begin) < time.Minute {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		done := try(ctx)
		cancel()
		if done {
			return time.Since(begin)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within a minute: %s", what)
	panic("not reached")
}

// TestRun_DiskFull: writes are refused with a clear error, reads go on, also
// after the server was killed, and writes go on when there is room.
func TestRun_DiskFull(t *testing.T) {
	p := newPlace(t)
	smallDisk(t, p, 128<<20)
	r := supervise(t, p, nil)
	r.ready()
	s := r.open(t)
	put := func(ctx context.Context, n int) error {
		_, err := s.Put(ctx, set(fmt.Sprintf("set-%05d", n), "10.0.0.0/8"), store.Absent())
		return err
	}
	acked := 0
	for ; acked < 200; acked++ {
		if err := put(testContext(t), acked); err != nil {
			t.Fatal(err)
		}
	}
	filler := fillUp(t, p.data)
	next, seen := acked, ""
	refused := until(t, "writes are refused", func(ctx context.Context) bool {
		err := put(ctx, next)
		if now := fmt.Sprintf("Put: %v; %+v", err, r.sup.State()); err != nil && now != seen {
			t.Log(now)
			seen = now
		}
		switch {
		case err == nil:
			acked++
			next++
			return false
		case errors.Is(err, store.ErrExists): // its answer was lost
			next++
			return false
		}
		return errors.Is(err, store.ErrNoSpace)
	})
	readAll := func(when string) {
		t.Helper()
		until(t, "reads "+when, func(ctx context.Context) bool {
			objs, _, err := s.List(ctx, api.KindGlobalNetworkSet, store.ListOptions{})
			return err == nil && len(objs) >= acked
		})
	}
	readAll("while the disk is full")
	st := r.ready()
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.wait("running again", func(now embedded.State) bool { return now.Running && now.PID != st.PID })
	readAll("after a kill while the disk is full")
	until(t, "writes are refused again", func(ctx context.Context) bool { return errors.Is(put(ctx, 90000), store.ErrNoSpace) })
	if err := s.Delete(testContext(t), set("set-00000").Key(), store.Always()); err != nil {
		t.Errorf("Delete while the disk is full: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	took := until(t, "writes are taken again", func(ctx context.Context) bool {
		err := put(ctx, 90001)
		return err == nil || errors.Is(err, store.ErrExists)
	})
	objs, _, err := s.List(testContext(t), api.KindGlobalNetworkSet, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, o := range objs {
		have[o.Key().Name] = true
	}
	for i := 1; i < acked; i++ {
		if n := fmt.Sprintf("set-%05d", i); !have[n] {
			t.Errorf("%s was acknowledged and is lost", n)
		}
	}
	t.Logf("refused %v after the disk was full, %d restarts, last error %q; taken again %v after there was room",
		refused.Round(time.Millisecond), r.sup.State().Restarts, r.sup.State().LastError, took.Round(time.Millisecond))
}

// TestSupervisor_SaysThatTheDiskIsFull: where not even the reserve helps, the
// reason names the directory.
func TestSupervisor_SaysThatTheDiskIsFull(t *testing.T) {
	p := newPlace(t)
	smallDisk(t, p, 4<<20)
	fillUp(t, p.data)
	r := supervise(t, p, func(c *embedded.SupervisorConfig) { c.RestartAfter = time.Minute })
	st := r.wait("in error", func(st embedded.State) bool { return st.LastError != "" })
	for _, part := range []string{"disk is full", p.data, " 0 bytes free"} {
		if !strings.Contains(st.LastError, part) {
			t.Errorf("LastError = %q, want it to say %q", st.LastError, part)
		}
	}
}

// TestRun_QuotaFull: the other way to run out of space, and the way back.
func TestRun_QuotaFull(t *testing.T) {
	p := newPlace(t)
	r := supervise(t, p, func(c *embedded.SupervisorConfig) { c.Env = p.env("TEST_QUOTA=8388608") })
	r.ready()
	s := r.open(t)
	ctx := testContext(t)
	big := set("big")
	big.Annotations = map[string]string{"filler": strings.Repeat("x", 200<<10)}
	// The first refusals only make the guard tidy up; then they last.
	n := 0
	for refused := 0; refused < 100; {
		if n == 200 {
			t.Fatal("200 objects of 200 kB went into a quota of 8 MiB")
		}
		big.Name = fmt.Sprintf("big-%03d", n)
		switch _, err := s.Put(ctx, big, store.Absent()); {
		case err == nil:
			n++
			refused = 0
		case errors.Is(err, store.ErrNoSpace):
			refused++
			time.Sleep(10 * time.Millisecond)
		case errors.Is(err, store.ErrExists): // was refused and applied
			n++
		default:
			t.Fatal(err)
		}
	}
	objs, _, err := s.List(ctx, api.KindGlobalNetworkSet, store.ListOptions{})
	// etcd applies the write that crosses the quota and refuses it all the
	// same (server/etcdserver/apply, quotaApplierV3).
	if err != nil || len(objs) != n && len(objs) != n+1 {
		t.Errorf("List under a full quota: %d objects, error %v, want %d or one more", len(objs), err, n)
	}
	st, err := s.Status(ctx)
	if err != nil || len(st.Alarms) == 0 || st.QuotaBytes != 8<<20 || !st.HasLeader || st.Version == "" {
		t.Errorf("Status = %+v, error %v; want an alarm", st, err)
	}
	for i := range n {
		big.Name = fmt.Sprintf("big-%03d", i)
		if err := s.Delete(ctx, big.Key(), store.Always()); err != nil {
			t.Fatalf("Delete under a full quota: %v", err)
		}
	}
	took := until(t, "writes are taken again", func(ctx context.Context) bool {
		_, err := s.Put(ctx, set("small"), store.Always())
		return err == nil
	})
	t.Logf("refused after %d objects; taken again %v after they were deleted", n, took.Round(time.Millisecond))
}

// TestRun_CompactionKeepsTheSeal: history is forgotten after the retention,
// and the database that remains is the sealed one, killed or stopped.
func TestRun_CompactionKeepsTheSeal(t *testing.T) {
	p := newPlace(t)
	r := supervise(t, p, func(c *embedded.SupervisorConfig) { c.Env = p.env("TEST_RETENTION=1s") })
	st := r.ready()
	s := r.open(t)
	want := fill(t, s)
	compacted := func(s *etcd.Store) {
		t.Helper()
		until(t, "the first revisions are forgotten", func(ctx context.Context) bool {
			if _, err := s.Put(ctx, set("tick"), store.Always()); err != nil {
				return false
			}
			_, _, err := s.List(ctx, api.KindTier, store.ListOptions{Revision: 2})
			return errors.Is(err, store.ErrCompacted)
		})
	}
	compacted(s)
	waitSealed(t, p, s)
	syscall.Kill(st.PID, syscall.SIGKILL)
	r.wait("running again", func(now embedded.State) bool { return now.Running && now.PID != st.PID })
	r.stop()
	r = supervise(t, p, nil)
	if st := r.ready(); st.Restarts > 0 || st.LastError != "" {
		t.Errorf("state after a stop = %+v, want a start without trouble", st)
	}
	got, err := content(testContext(t), r.open(t))
	if err != nil {
		t.Fatal(err)
	}
	delete(got, "GlobalNetworkSet(tick)")
	if len(got) != len(want) {
		t.Errorf("%d objects after all that, want %d", len(got), len(want))
	}
}
