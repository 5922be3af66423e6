// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd/embedded"
	"github.com/ripstop/ripstop/daemon/internal/store/storetest"
	"github.com/ripstop/ripstop/daemon/store"
)

// server is an embedded etcd in this process, behind a unix socket.
type server struct {
	t      testing.TB
	dir    string
	socket string
	stop   func() // returns when it has stopped
}

// startServer runs a server until the end of the test.
func startServer(t testing.TB) *server {
	t.Helper()
	// Not t.TempDir: a socket's path must be short.
	dir, err := os.MkdirTemp("", "rs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{t: t, dir: dir, socket: filepath.Join(dir, "s", "sock")}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *server) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- embedded.Run(ctx, embedded.Config{
			DataDir: filepath.Join(s.dir, "data"), ClientSocket: s.socket, Bookmarks: 200 * time.Millisecond,
			ReserveBytes: 1 << 20,
		})
	}()
	s.stop = func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.t.Errorf("embedded.Run: %v", err)
			}
			done <- nil
		case <-time.After(30 * time.Second):
			s.t.Error("embedded.Run did not return")
		}
	}
}

func (s *server) url() string { return "unix://" + s.socket }

// open gives a Store on the server.
func (s *server) open(change func(c *etcd.Config)) *etcd.Store {
	s.t.Helper()
	return openStore(s.t, etcd.Config{Endpoints: []string{s.url()}, Checksums: true}, change)
}

func openStore(t testing.TB, cfg etcd.Config, change func(c *etcd.Config)) *etcd.Store {
	t.Helper()
	if change != nil {
		change(&cfg)
	}
	st, err := etcd.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// raw is a plain etcd client on the server, for what other programs do.
func (s *server) raw() *clientv3.Client { return rawClient(s.t, s.url()) }

func rawClient(t testing.TB, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// injectable adds what storetest.Injector wants.
type injectable struct {
	*etcd.Store
	c *clientv3.Client
}

func (i injectable) PutBytes(ctx context.Context, k api.Key, value []byte) (api.Revision, error) {
	r, err := i.c.Put(ctx, etcd.Path(k), string(value))
	if err != nil {
		return 0, err
	}
	return api.Revision(r.Header.Revision), nil
}

var (
	_ storetest.Injector  = injectable{}
	_ storetest.Compacter = injectable{}
)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func tier(name string, order float64) *api.Tier {
	o := &api.Tier{}
	o.Kind, o.APIVersion, o.Name, o.Spec.Order, o.Spec.DefaultAction = api.KindTier, api.VersionCalico, name, &order, api.Deny
	return o
}

func TestStore_KeepsTheContract(t *testing.T) {
	for _, c := range []struct {
		name      string
		checksums bool
	}{{"WithChecksums", true}, {"Plain", false}} {
		t.Run(c.name, func(t *testing.T) {
			srv := startServer(t)
			storetest.Run(t, func(t *testing.T) store.Store {
				raw := srv.raw()
				for _, p := range []string{"/calico/", "/ripstop/"} {
					if _, err := raw.Delete(testContext(t), p, clientv3.WithPrefix()); err != nil {
						t.Fatal(err)
					}
				}
				return injectable{srv.open(func(cfg *etcd.Config) { cfg.Checksums = c.checksums }), raw}
			})
		})
	}
}
