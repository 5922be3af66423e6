// SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd/embedded"
	"github.com/ripstop/ripstop/daemon/store"
)

// NewEtcd is an initialised Store on an etcd server of its own, in this
// process, which ends with the test: for what depends on how long a real store
// takes.
func NewEtcd(t testing.TB) store.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "rs") // short: a socket's path has 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- embedded.Run(running, embedded.Config{DataDir: filepath.Join(dir, "data"), ClientSocket: socket})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("etcd: %v", err)
		}
	})
	s, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + socket}, Checksums: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ctx, cancel := context.WithTimeout(running, time.Minute)
	defer cancel()
	if err := store.Initialise(ctx, s); err != nil {
		t.Fatalf("initialising the store: %v", err)
	}
	return s
}
