// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// serving serves a Board on a socket in a new directory.
func serving(t *testing.T, b *Board, a Actions) (client *http.Client, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(NewCollector(b)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Handler(b, reg, a)) }()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(dir, SocketName))
	}}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	})
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}, dir
}

func ask(t *testing.T, c *http.Client, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://agent"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestHandler_ShowsAndDoesWhatItSays(t *testing.T) {
	b, _ := newTestBoard()
	hangs := errors.New("host: in filter for 2m")
	var live error
	b.cfg.Live = map[string]func() error{"loop": func() error { return live }}
	accepted, resynced := 0, 0
	var acceptErr error
	c, _ := serving(t, b, Actions{AcceptHeld: func() error { accepted++; return acceptErr }, Resync: func() { resynced++ }, Settings: []string{"x"},
		Doctor:   func(context.Context) (*api.DoctorReport, error) { return &api.DoctorReport{Host: "h1"}, nil },
		Exposure: func(context.Context) (*api.ExposureReport, error) { return nil, errors.New("no resources") },
		Counts: func(context.Context) (*api.RuleCounts, error) {
			return &api.RuleCounts{Rules: []api.RuleCount{{Rule: "gnp/a ingress 0", Packets: 3}}}, nil
		}})

	if code, body := ask(t, c, "GET", "/readyz"); code != 503 || !strings.HasPrefix(body, "NoPicture: ") {
		t.Errorf("GET /readyz = %d %q, want 503 with a reason", code, body)
	}
	enforcing(b, 7)
	if code, body := ask(t, c, "GET", "/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("GET /readyz = %d %q, want 200 ok", code, body)
	}
	if code, _ := ask(t, c, "GET", "/livez"); code != 200 {
		t.Errorf("GET /livez = %d, want 200", code)
	}
	live = hangs
	if code, body := ask(t, c, "GET", "/livez"); code != 503 || !strings.Contains(body, "filter") {
		t.Errorf("GET /livez of a hanging loop = %d %q, want 503", code, body)
	}
	code, body := ask(t, c, "GET", "/status")
	var h api.HostStatus
	if err := json.Unmarshal([]byte(body), &h); code != 200 || err != nil || h.Name != "h1" || h.Status.Dataplane.AppliedRevision != 7 {
		t.Errorf("GET /status = %d %q, %v", code, body, err)
	}
	if code, body := ask(t, c, "GET", "/config"); code != 200 || !strings.Contains(body, "x") {
		t.Errorf("GET /config = %d %q", code, body)
	}
	if code, body := ask(t, c, "GET", "/doctor"); code != 200 || !strings.Contains(body, `"host": "h1"`) {
		t.Errorf("GET /doctor = %d %q", code, body)
	}
	if code, body := ask(t, c, "GET", "/exposure"); code != 503 || !strings.Contains(body, "no resources") {
		t.Errorf("GET /exposure that fails = %d %q, want 503 and why", code, body)
	}
	if code, body := ask(t, c, "GET", "/counts"); code != 200 || !strings.Contains(body, `"rule": "gnp/a ingress 0"`) {
		t.Errorf("GET /counts = %d %q", code, body)
	}
	if code, _ := ask(t, c, "POST", "/accept-held"); code != 200 || accepted != 1 {
		t.Errorf("POST /accept-held = %d, called %d times", code, accepted)
	}
	acceptErr = errors.New("nothing is held")
	if code, body := ask(t, c, "POST", "/accept-held"); code != 409 || !strings.Contains(body, "nothing is held") {
		t.Errorf("POST /accept-held with nothing held = %d %q, want 409", code, body)
	}
	if code, _ := ask(t, c, "GET", "/resync"); code != 405 || resynced != 0 {
		t.Errorf("GET /resync = %d, called %d times; want 405 and not called", code, resynced)
	}
	if code, _ := ask(t, c, "POST", "/resync"); code != 200 || resynced != 1 {
		t.Errorf("POST /resync = %d, called %d times", code, resynced)
	}
}

func TestHandler_MetricsFollowTheBoard(t *testing.T) {
	b, _ := newTestBoard()
	c, _ := serving(t, b, Actions{})
	enforcing(b, 42)
	b.SetCounts(Counts{HostEndpoints: 3, Policies: 4, LocalPolicies: 2})
	b.AddDrift(api.Drift{What: "x", Repaired: true})
	b.SetFaults("calc", []api.Fault{{Object: "a"}})
	b.LoopReport(reconcile.Report{Loop: "host", Duration: time.Millisecond, Parts: []reconcile.PartReport{{Part: "filter", Err: &reconcile.PanicError{Value: 1}, Failures: 1}}})
	code, body := ask(t, c, "GET", "/metrics")
	if code != 200 {
		t.Fatalf("GET /metrics = %d %s", code, body)
	}
	for _, want := range []string{
		"felix_active_local_policies 2", "felix_cluster_num_host_endpoints 3", "felix_cluster_num_policies 4", "felix_resync_state 2",
		"felix_int_dataplane_failures 1", `felix_host{host="h1"} 1`, `ripstop_sync_state{state="InSync"} 1`, `ripstop_sync_state{state="Held"} 0`,
		"ripstop_revision_seen 42", "ripstop_revision_applied 42", "ripstop_drift_repaired_total 1", "ripstop_faults 1", "ripstop_apply_duration_seconds_count 1",
		`ripstop_part_failures_total{loop="host",part="filter"} 1`, "ripstop_panics_total 1", "ripstop_ready 1", "ripstop_last_apply_timestamp_seconds 1.777", `ripstop_build_info{`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("not in /metrics: %s", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestPublicHandler_ShowsNoPolicyAndTakesNoOrders(t *testing.T) {
	b, _ := newTestBoard()
	reg := prometheus.NewRegistry()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, PublicHandler(b, reg)) }()
	defer func() { cancel(); <-done }()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/metrics": 200, "/status": 404, "/config": 404} {
		if code, _ := ask(t, c, "GET", path); code != want {
			t.Errorf("GET %s = %d, want %d", path, code, want)
		}
	}
	if code, _ := ask(t, c, "POST", "/accept-held"); code != 404 {
		t.Errorf("POST /accept-held = %d, want 404", code)
	}
}

func TestListen_TakesOverADeadSocketAndLeavesALiveOne(t *testing.T) {
	b, _ := newTestBoard()
	_, dir := serving(t, b, Actions{})
	path := filepath.Join(dir, SocketName)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket = %v, %v, want 0660", st.Mode(), err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("mode of the directory = %v, %v, want 0750", st.Mode(), err)
	}
	if l, err := Listen(dir); !errors.Is(err, ErrRunning) {
		t.Errorf("Listen beside a live agent = %v, %v, want ErrRunning", l, err)
	}

	dead := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dead, SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := Listen(dead)
	if err != nil {
		t.Fatalf("Listen over a dead socket = %v", err)
	}
	again.Close()

	file := t.TempDir()
	if err := os.WriteFile(filepath.Join(file, SocketName), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("Listen over somebody's file = %v, want an error", err)
	}
}

func TestPeers_OnlyRootOurselvesAndTheGroup(t *testing.T) {
	for _, tc := range []struct {
		peer host.Peer
		own  uint32
		gid  int
		want bool
	}{
		{host.Peer{UID: 0}, 0, -1, true},
		{host.Peer{UID: 0}, 990, -1, true},
		{host.Peer{UID: 990, GID: 990}, 990, -1, true},
		{host.Peer{UID: 1000, GID: 1000}, 0, -1, false},
		{host.Peer{UID: 1000, GID: 1000}, 990, 77, false},
		{host.Peer{UID: 1000, GID: 77}, 0, 77, true},
		{host.Peer{UID: 1000, GID: 1000, Groups: []uint32{5, 77}}, 0, 77, true},
		{host.Peer{UID: 1000, GID: 1000, Groups: []uint32{5, 78}}, 0, 77, false},
	} {
		if got := allowed(tc.peer, tc.own, tc.gid); got != tc.want {
			t.Errorf("allowed(%+v, %d, %d) = %v, want %v", tc.peer, tc.own, tc.gid, got, tc.want)
		}
	}
}
