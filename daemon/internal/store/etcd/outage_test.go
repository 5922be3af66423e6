// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

func clientTLS(t *testing.T, ca *authority, certFile, keyFile string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}
}

// proxy is a TCP port in front of a server's socket that can go silent as a
// black hole does: connections stay open, nothing passes.
type proxy struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex // guards all below
	to     string
	frozen chan struct{} // closed: not frozen
	conns  []net.Conn
}

func startProxy(t testing.TB, socket string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: socket, frozen: make(chan struct{})}
	close(p.frozen)
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			to := p.to
			p.mu.Unlock()
			d, err := net.Dial("unix", to)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, d)
			p.mu.Unlock()
			p.wg.Go(func() { p.pump(c, d) })
			p.wg.Go(func() { p.pump(d, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.thaw()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) pump(dst, src net.Conn) {
	defer dst.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		<-frozen
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) url() string { return "http://" + p.l.Addr().String() }

// impatient makes a Store notice outages quickly.
func impatient(c *etcd.Config) {
	c.RequestTimeout, c.DialTimeout, c.ProbeAfter = 500*time.Millisecond, 500*time.Millisecond, 300*time.Millisecond
}

func TestStore_NothingThere(t *testing.T) {
	s := openStore(t, etcd.Config{Endpoints: []string{"unix:///nowhere/sock"}}, impatient)
	ctx := context.Background()
	_, err := s.Get(ctx, tier("a", 1).Key())
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get: error %v, want %v", err, store.ErrUnavailable)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get: error %v says that the caller's context ended", err)
	}
	if _, err := s.Put(ctx, tier("a", 1), store.Absent()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Put: error %v, want %v", err, store.ErrUnavailable)
	}
	if _, err := s.Watch(ctx, api.KindTier, 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Watch: error %v, want %v", err, store.ErrUnavailable)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Get(short, tier("a", 1).Key()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get with a context that ends: error %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestStore_FirstEndpointIsDead(t *testing.T) {
	srv := startServer(t)
	p := startProxy(t, srv.socket)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deadURL := "http://" + dead.Addr().String()
	dead.Close()
	s := openStore(t, etcd.Config{Endpoints: []string{deadURL, p.url()}}, nil)
	ctx := testContext(t)
	if _, err := s.Put(ctx, tier("a", 1), store.Absent()); err != nil {
		t.Errorf("Put: %v", err)
	}
	if st, err := s.Status(ctx); err != nil || st.Endpoint != p.url() {
		t.Errorf("Status: endpoint %s, error %v; want %s", st.Endpoint, err, p.url())
	}
}

// TestStore_BlackHole: a connection over which nothing comes any more ends
// the watch, and all works again when it heals.
func TestStore_BlackHole(t *testing.T) {
	srv := startServer(t)
	p := startProxy(t, srv.socket)
	s := openStore(t, etcd.Config{Endpoints: []string{p.url()}}, impatient)
	ctx := testContext(t)
	rev, err := s.Put(ctx, tier("a", 1), store.Absent())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(ctx, api.KindTier, rev)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p.freeze()
	for err == nil {
		_, err = w.Next(ctx)
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Next: error %v, want %v", err, store.ErrUnavailable)
	}
	if _, err := s.Get(context.Background(), tier("a", 1).Key()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get: error %v, want %v", err, store.ErrUnavailable)
	}
	p.thaw()
	var got api.Object
	for end := time.Now().Add(20 * time.Second); got == nil && time.Now().Before(end); {
		got, err = s.Get(context.Background(), tier("a", 1).Key())
	}
	if err != nil {
		t.Errorf("Get after it healed: %v", err)
	}
}

// TestStore_ConnectionCut: a watch survives a cut connection and misses
// nothing.
func TestStore_ConnectionCut(t *testing.T) {
	srv := startServer(t)
	p := startProxy(t, srv.socket)
	s := openStore(t, etcd.Config{Endpoints: []string{p.url()}}, nil)
	direct := srv.open(nil)
	ctx := testContext(t)
	rev, err := s.Put(ctx, tier("a", 0), store.Absent())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(ctx, api.KindTier, rev)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 5 {
		p.cut()
		if rev, err = direct.Put(ctx, tier("a", float64(i+1)), store.At(rev)); err != nil {
			t.Fatal(err)
		}
	}
	var last api.Revision
	for n := 0; n < 5; {
		evs, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("Next after %d events: %v", n, err)
		}
		for _, ev := range evs {
			if ev.Key.Name != "" {
				n++
				last = ev.Revision
			}
		}
	}
	if last != rev {
		t.Errorf("last event is of revision %d, want %d", last, rev)
	}
}

// TestStore_ServerRestarts: calls and watches go on after a restart.
func TestStore_ServerRestarts(t *testing.T) {
	srv := startServer(t)
	s := srv.open(nil)
	ctx := testContext(t)
	rev, err := s.Put(ctx, tier("a", 0), store.Absent())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(ctx, api.KindTier, rev)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	srv.stop()
	srv.start()
	for errors.Is(err, store.ErrUnavailable) || err == nil {
		var again api.Revision
		if again, err = s.Put(context.Background(), tier("a", 1), store.At(rev)); err == nil {
			rev = again
			break
		}
	}
	if err != nil {
		t.Fatalf("Put after a restart: %v", err)
	}
	for {
		evs, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("Next after a restart: %v", err)
		}
		if evs[len(evs)-1].Revision == rev {
			break
		}
	}
}

// TestStore_OtherStoreAnswers: when what comes back is not what was there, a
// watch does not go on as if it were.
func TestStore_OtherStoreAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		// swap makes something else answer at the proxy.
		swap func(t *testing.T, srv *server, p *proxy, saved string)
	}{
		{"AnotherCluster", func(t *testing.T, _ *server, p *proxy, _ string) {
			other := startServer(t)
			s := other.open(nil)
			for i := range 20 { // so that its revision is higher
				if _, err := s.Put(testContext(t), tier("x", float64(i)), store.Always()); err != nil {
					t.Fatal(err)
				}
			}
			p.mu.Lock()
			p.to = other.socket
			p.mu.Unlock()
		}},
		{"AnOlderState", func(t *testing.T, srv *server, _ *proxy, saved string) {
			srv.stop()
			if err := os.RemoveAll(srv.dir + "/data"); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(srv.dir+"/data", os.DirFS(saved)); err != nil {
				t.Fatal(err)
			}
			srv.start()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := startServer(t)
			p := startProxy(t, srv.socket)
			ctx := testContext(t)
			direct := srv.open(nil)
			if _, err := direct.Put(ctx, tier("a", 0), store.Always()); err != nil {
				t.Fatal(err)
			}
			srv.stop()
			if err := os.Remove(srv.dir + "/data/ballast"); err != nil {
				t.Fatal(err) // it only takes time to copy
			}
			saved := t.TempDir()
			if err := os.CopyFS(saved, os.DirFS(srv.dir+"/data")); err != nil {
				t.Fatal(err)
			}
			srv.start()
			s := openStore(t, etcd.Config{Endpoints: []string{p.url()}, ProbeAfter: 300 * time.Millisecond}, nil)
			var rev api.Revision
			var err error
			for i := range 5 {
				if rev, err = s.Put(ctx, tier("a", float64(i)), store.Always()); err != nil {
					t.Fatal(err)
				}
			}
			w, err := s.Watch(ctx, api.KindTier, rev-1)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			// One event and one bookmark: the watch knows its store.
			for seen := 0; seen < 2; {
				evs, err := w.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				seen += len(evs)
			}
			c.swap(t, srv, p, saved)
			p.cut()
			for err == nil {
				_, err = w.Next(ctx)
			}
			if !errors.Is(err, store.ErrCompacted) {
				t.Errorf("Next: error %v, want %v", err, store.ErrCompacted)
			}
		})
	}
}

func TestStore_CloseEndsAll(t *testing.T) {
	srv := startServer(t)
	s := srv.open(nil)
	ctx := testContext(t)
	w, err := s.Watch(ctx, api.KindTier, 1)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = w.Next(ctx)
		}
		done <- err
	}()
	s.Close()
	s.Close()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("Next did not return after Close")
	}
	if _, err := s.Get(ctx, tier("a", 1).Key()); err == nil {
		t.Error("Get after Close: no error")
	}
}
