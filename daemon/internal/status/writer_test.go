// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
	"github.com/ripstop/ripstop/daemon/store"
)

// puts counts writes, and is away on demand.
type puts struct {
	store.Store
	mu    sync.Mutex // guards all below
	away  bool
	times []time.Time
}

func (p *puts) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times = append(p.times, time.Now())
	if p.away {
		return 0, store.ErrUnavailable
	}
	return p.Store.Put(ctx, o, cond)
}

// count is the number of tries so far.
func (p *puts) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.times)
}

// rest lets d pass and waits until all goroutines of the bubble stand still.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func begin(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
}

func TestWriter_WritesChangesAtMostEveryTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &puts{Store: mem.New(mem.Config{})}
		b := NewBoard(Config{Host: "h1"})
		stop := begin(t, (&Writer{Board: b, Store: p}).Run)
		defer stop()
		for i := range 100 { // 10 s of changes
			b.SetBatch(syncer.Batch{Revision: api.Revision(i + 1)})
			b.UpdateDataplane(func(d *api.DataplaneStatus) { d.LastApplied = api.Time{Time: time.Now()} })
			rest(100 * time.Millisecond)
		}
		rest(2 * time.Second)
		if n := p.count(); n < 5 || n > 7 {
			t.Errorf("%d writes in 12 s, want 5 to 7", n)
		}
		o, err := p.Get(context.Background(), api.Key{Kind: api.KindHostStatus, Name: "h1"})
		if err != nil || o.(*api.HostStatus).Status.Datastore.SeenRevision != 100 {
			t.Errorf("stored = %+v, %v; want the last revision, 100", o, err)
		}
		before := p.count()
		for i := range 300 { // the store moves on, and nothing changes here
			b.SetBatch(syncer.Batch{Revision: api.Revision(i + 101)})
			rest(time.Second)
		}
		if n := p.count() - before; n < 9 || n > 11 {
			t.Errorf("%d writes in 5 minutes without a change, want about 10", n)
		}
		b.UpdateDataplane(func(d *api.DataplaneStatus) { d.Rules, d.LastVerified = 7, stamp(time.Now()) })
		rest(3 * time.Second)
		before = p.count()
		for range 20 {
			b.UpdateDataplane(func(d *api.DataplaneStatus) { d.LastVerified = stamp(time.Now()) })
			rest(time.Second)
		}
		if n := p.count() - before; n > 0 {
			t.Errorf("%d writes because the kernel was looked at, want none", n)
		}
		rest(11 * time.Second) // behind the write that is due without a change
		before = p.count()
		for i := range 15 {
			b.SetFlows(api.FlowsStatus{Tracked: i, Most: 100})
			b.UpdateDataplane(func(d *api.DataplaneStatus) { d.LastVerified = stamp(time.Now()) })
			rest(time.Second)
		}
		if n := p.count() - before; n > 0 {
			t.Errorf("%d writes because there were more connections, want none", n)
		}
		b.SetFlows(api.FlowsStatus{Tracked: 1, Most: 100, CutTotal: 1, LastCut: 1, LastChange: stamp(time.Now())})
		rest(3 * time.Second)
		if n := p.count() - before; n != 1 {
			t.Errorf("%d writes when a flow was cut, want one", n)
		}
	})
}

func TestWriter_KeepsTryingWhenTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &puts{Store: mem.New(mem.Config{}), away: true}
		b := NewBoard(Config{Host: "h1"})
		stop := begin(t, (&Writer{Board: b, Store: p}).Run)
		defer stop()
		rest(time.Minute)
		if n := p.count(); n < 10 || n > 14 {
			t.Errorf("%d tries in a minute, want about 12", n)
		}
		p.mu.Lock()
		p.away = false
		p.mu.Unlock()
		rest(10 * time.Second)
		if _, err := p.Get(context.Background(), api.Key{Kind: api.KindHostStatus, Name: "h1"}); err != nil {
			t.Errorf("Get when the store is back = %v", err)
		}
	})
}

// raw is a RawStore in memory.
type raw struct {
	mu     sync.Mutex // guards all below
	values map[string]string
	ttls   map[string]time.Duration
	writes []string
	away   bool
}

var errAway = errors.New("away")

func (r *raw) PutRaw(_ context.Context, key string, value []byte, ttl time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return errAway
	}
	r.values[key], r.ttls[key] = string(value), ttl
	r.writes = append(r.writes, key)
	return nil
}

func (r *raw) DeleteRaw(_ context.Context, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.values, key)
	r.writes = append(r.writes, "-"+key)
	return nil
}

func (r *raw) ListRaw(_ context.Context, prefix string) (map[string][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil, errAway
	}
	out := map[string][]byte{}
	for k, v := range r.values {
		if strings.HasPrefix(k, prefix) {
			out[k] = []byte(v)
		}
	}
	return out, nil
}

// forget starts counting writes anew.
func (r *raw) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = nil
}

const (
	endpointDir = "/calico/felix/v1/host/h1/endpoint/"
	aliveDir    = "/calico/felix/v2/no-region/host/h1/"
)

func endpoints(n int, status string) []api.EndpointState {
	var out []api.EndpointState
	for i := range n {
		out = append(out, api.EndpointState{Name: fmt.Sprintf("e%d", i), Status: status})
	}
	return out
}

func TestReporter_WritesFelixKeys(t *testing.T) {
	const (
		workload    = "prod/h1-k8s-web--1-eth0"
		workloadKey = aliveDir + "workload/k8s/prod%2fweb-1/endpoint/eth0"
	)
	synctest.Test(t, func(t *testing.T) {
		r := &raw{values: map[string]string{endpointDir + "stale": `{"status":"up"}`, endpointDir + "e0": `{"status":"up"}`, aliveDir + "workload/k8s/prod%2fgone/endpoint/eth0": "x", "/calico/felix/v1/host/h10/endpoint/x": "y"}, ttls: map[string]time.Duration{}}
		b := NewBoard(Config{Host: "h1"})
		rep := NewReporter(b, r, nil)
		stop := begin(t, rep.Run)
		defer stop()
		rest(time.Minute)
		if len(r.writes) != 0 {
			t.Fatalf("writes before it was enabled: %q", r.writes)
		}
		rep.SetReporting(Reporting{Enabled: true})
		synctest.Wait()
		if !slices.Equal(r.writes, []string{aliveDir + "status", aliveDir + "last_reported_status"}) || r.ttls[aliveDir+"status"] != 90*time.Second || r.ttls[aliveDir+"last_reported_status"] != 0 {
			t.Errorf("first writes %q with ttls %v; want both status keys, one leased, and no endpoint before the picture is whole", r.writes, r.ttls)
		}
		if want := `"uptime":60,"first_update":true}`; !strings.HasSuffix(r.values[aliveDir+"status"], want) {
			t.Errorf("status = %s, want it to end in %s", r.values[aliveDir+"status"], want)
		}
		b.SetBatch(syncer.Batch{Synced: true})
		b.SetEndpoints(append(endpoints(1000, "up"), api.EndpointState{Name: workload, Status: "error"}))
		synctest.Wait() // no time passes: all at once
		want := map[string]string{}
		for i := range 1000 {
			want[endpointDir+fmt.Sprintf("e%d", i)] = `{"status":"up"}`
		}
		want[workloadKey] = `{"status":"error"}`
		got, _ := r.ListRaw(context.Background(), endpointDir)
		workloads, _ := r.ListRaw(context.Background(), aliveDir+"workload/")
		maps.Copy(got, workloads)
		text := map[string]string{}
		for k, v := range got {
			text[k] = string(v)
		}
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("endpoint keys (-want +got):\n%s", diff)
		}
		if slices.Contains(r.writes, endpointDir+"e0") {
			t.Error("a key that was right already was written")
		}
		r.forget()
		b.SetEndpoints(append(endpoints(999, "up"), api.EndpointState{Name: workload, Status: "down"}))
		synctest.Wait()
		if !slices.Equal(r.writes, []string{workloadKey, "-" + endpointDir + "e999"}) {
			t.Errorf("writes for one change and one removal = %q", r.writes)
		}
		r.forget()
		rest(31 * time.Second)
		if !slices.Equal(r.writes, []string{aliveDir + "status", aliveDir + "last_reported_status"}) || !strings.HasSuffix(r.values[aliveDir+"status"], `"first_update":false}`) {
			t.Errorf("writes after the interval = %q, status %s", r.writes, r.values[aliveDir+"status"])
		}
	})
}

func TestReporter_AfterAnOutageWritesWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &raw{values: map[string]string{}, ttls: map[string]time.Duration{}}
		b := NewBoard(Config{Host: "h1"})
		rep := NewReporter(b, r, nil)
		stop := begin(t, rep.Run)
		defer stop()
		b.SetBatch(syncer.Batch{Synced: true})
		b.SetEndpoints(endpoints(3, "up"))
		rep.SetReporting(Reporting{Enabled: true, Region: "r1"})
		synctest.Wait()
		r.mu.Lock()
		r.away = true
		r.mu.Unlock()
		b.SetEndpoints(endpoints(4, "down"))
		rest(time.Minute)
		r.mu.Lock()
		r.away = false
		clear(r.values) // the store lost it all
		r.mu.Unlock()
		rest(10 * time.Second)
		if n := len(r.values); n != 6 || r.values[endpointDir+"e3"] != `{"status":"down"}` || r.values["/calico/felix/v2/region-r1/host/h1/status"] == "" {
			t.Errorf("keys after the outage: %v, want 4 endpoints and 2 of the agent", slices.Sorted(maps.Keys(r.values)))
		}
	})
}

func TestReporter_GathersChangesOfEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &raw{values: map[string]string{}, ttls: map[string]time.Duration{}}
		b := NewBoard(Config{Host: "h1"})
		rep := NewReporter(b, r, nil)
		stop := begin(t, rep.Run)
		defer stop()
		b.SetBatch(syncer.Batch{Synced: true})
		b.SetEndpoints(endpoints(1, "up"))
		rep.SetReporting(Reporting{Enabled: true, EndpointDelay: 3 * time.Second})
		synctest.Wait()
		rest(3 * time.Second)
		r.forget()
		for range 5 { // flapping
			b.SetEndpoints(endpoints(1, "down"))
			rest(200 * time.Millisecond)
			b.SetEndpoints(endpoints(1, "up"))
			rest(200 * time.Millisecond)
		}
		b.SetEndpoints(endpoints(1, "down"))
		synctest.Wait()
		r.mu.Lock()
		if len(r.writes) != 0 {
			t.Errorf("writes within the delay: %q", r.writes)
		}
		r.mu.Unlock()
		rest(2 * time.Second)
		if !slices.Equal(r.writes, []string{endpointDir + "e0"}) || string(r.values[endpointDir+"e0"]) != `{"status":"down"}` {
			t.Errorf("writes after the delay: %q, %v; want the last state, once", r.writes, r.values)
		}
	})
}
