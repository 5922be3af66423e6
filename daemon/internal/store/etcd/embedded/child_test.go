// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd/embedded"
)

var (
	killsFlag = flag.Int("kills", 50, "how often the server is killed under load")
	flipsFlag = flag.Int("flips", 100, "how many bits are flipped in stored files, one at a time")
	seedFlag  = flag.Uint64("seed", 0, "seed of random tests; 0 chooses one")
)

// childMode is the environment variable that makes the test binary something
// else than a test: the server, or a supervisor of the server.
const childMode = "RIPSTOP_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "store":
		runStore()
	case "supervisor":
		runSupervisor()
	default:
		os.Exit(m.Run())
	}
}

// runStore is what "ripstop-server store" does.
func runStore() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	quota, _ := strconv.ParseInt(os.Getenv("TEST_QUOTA"), 10, 64)
	retention, _ := time.ParseDuration(os.Getenv("TEST_RETENTION"))
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	err := embedded.Run(ctx, embedded.Config{
		DataDir: os.Getenv("TEST_DATA"), ClientSocket: os.Getenv("TEST_SOCKET"),
		QuotaBytes: quota, Retention: retention, AcceptDamage: os.Getenv("TEST_ACCEPT") != "", Log: log,
	})
	if err != nil {
		log.Error("Store failed", "err", err)
		os.Exit(1)
	}
}

// runSupervisor supervises a server until it is killed, and prints the
// server's process id.
func runSupervisor() {
	embedded.NewSupervisor(embedded.SupervisorConfig{
		Command: []string{"/proc/self/exe"}, Env: append(os.Environ(), childMode+"=store"),
		DataDir: os.Getenv("TEST_DATA"), ClientSocket: os.Getenv("TEST_SOCKET"),
		OnState: func(st embedded.State) {
			if st.Running {
				fmt.Println(st.PID)
			}
		},
	}).Run(context.Background())
}

// place is where a server of a test lives.
type place struct{ dir, data, socket string }

func newPlace(t testing.TB) place {
	t.Helper()
	dir, err := os.MkdirTemp("", "rs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return place{dir, filepath.Join(dir, "data"), filepath.Join(dir, "run", "sock")}
}

func (p place) env(more ...string) []string {
	return append(append(os.Environ(), childMode+"=store", "TEST_DATA="+p.data, "TEST_SOCKET="+p.socket), more...)
}

// running is a supervised server.
type running struct {
	place
	t    testing.TB
	sup  *embedded.Supervisor
	stop func()

	mu     sync.Mutex // guards states
	states []embedded.State
}

// supervise runs a supervised server until the end of the test.
func supervise(t testing.TB, p place, change func(c *embedded.SupervisorConfig)) *running {
	t.Helper()
	r := &running{place: p, t: t}
	cfg := embedded.SupervisorConfig{
		Command: []string{os.Args[0]}, Env: p.env(), DataDir: p.data, ClientSocket: p.socket,
		RestartAfter: time.Millisecond,
		OnState: func(st embedded.State) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.states = append(r.states, st)
		},
	}
	if change != nil {
		change(&cfg)
	}
	r.sup = embedded.NewSupervisor(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.sup.Run(ctx); err != nil {
			t.Errorf("Supervisor.Run: %v", err)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(r.stop)
	return r
}

// wait polls until the state is as wanted.
func (r *running) wait(what string, is func(st embedded.State) bool) embedded.State {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if st := r.sup.State(); is(st) {
			return st
		}
	}
	r.t.Fatalf("supervisor's state is %+v, want it %s", r.sup.State(), what)
	panic("not reached")
}

func (r *running) ready() embedded.State {
	r.t.Helper()
	return r.wait("running", func(st embedded.State) bool { return st.Running })
}

// open gives a Store on a server.
func (p place) open(t testing.TB) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + p.socket}, Checksums: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// random is a source of randomness whose seed is printed.
func random(t testing.TB) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func set(name string, nets ...string) *api.GlobalNetworkSet {
	o := &api.GlobalNetworkSet{}
	o.Kind, o.APIVersion, o.Name, o.Spec.Nets = api.KindGlobalNetworkSet, api.VersionCalico, name, nets
	return o
}
