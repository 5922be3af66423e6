// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
)

// TestRun_KilledInItsFirstStart kills a server that has never been started
// before, at any moment: the next start succeeds, and has what was
// acknowledged.
func TestRun_KilledInItsFirstStart(t *testing.T) {
	rng := random(t)
	for n := range 25 {
		p := newPlace(t)
		cmd := exec.Command(os.Args[0])
		cmd.Env = p.env()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait := time.Duration(rng.IntN(120)) * time.Millisecond
		want := map[string]string{}
		if n%5 == 4 { // once it serves
			s := openStore(t, p)
			want = fill(t, s)
		} else {
			time.Sleep(wait)
		}
		cmd.Process.Kill()
		cmd.Wait()

		var out bytes.Buffer
		again := exec.Command(os.Args[0])
		again.Env, again.Stderr = p.env(), &out
		if err := again.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- again.Wait() }()
		answered := make(chan error, 1)
		s := openStore(t, p)
		var got map[string]string
		go func() {
			var err error
			got, err = content(testContext(t), s)
			answered <- err
		}()
		select {
		case <-ended:
			t.Fatalf("kill %d after %v: the next start ends: %s", n, wait, out.String())
		case err := <-answered:
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Errorf("kill %d after %v: content -want +got, %v\n%s", n, wait, err, d)
			}
			again.Process.Signal(syscall.SIGTERM)
			if err := <-ended; err != nil {
				t.Errorf("kill %d after %v: %v: %s", n, wait, err, out.String())
			}
		}
	}
}

func openStore(t *testing.T, p place) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + p.socket}, Checksums: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
