// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// RawStore keeps plain values beside the resources. Methods may block until
// ctx ends; they are called from one goroutine.
type RawStore interface {
	// PutRaw writes value under key; with a ttl it goes away by itself after
	// that time unless it is written again. Zero: it stays.
	PutRaw(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// DeleteRaw removes key; of what is not there: no error.
	DeleteRaw(ctx context.Context, key string) error
	// ListRaw gives all keys that start with prefix, with their values.
	ListRaw(ctx context.Context, prefix string) (map[string][]byte, error)
}

// Reporting is what FelixConfiguration says of status reports.
type Reporting struct {
	// Enabled is EndpointReportingEnabled. False: nothing is written.
	Enabled bool
	// Interval is ReportingIntervalSecs, TTL ReportingTTLSecs. Zero: 30 s
	// and 90 s, as in Felix.
	Interval, TTL time.Duration
	// EndpointDelay is EndpointReportingDelaySecs: changes of endpoints are
	// gathered for so long before they are written.
	EndpointDelay time.Duration
	// Region is OpenstackRegion; empty: none.
	Region string
}

func (r Reporting) withDefaults() Reporting {
	if r.Interval <= 0 {
		r.Interval = 30 * time.Second
	}
	if r.TTL <= 0 {
		r.TTL = 90 * time.Second
	}
	return r
}

// Reporter writes Felix's status keys: that the agent is alive (under a lease),
// when it last was, and the state of each host endpoint. Unlike Felix, which
// writes one endpoint a second, it writes all that have changed at once; keys
// of endpoints that are gone are removed, also those of an earlier run.
type Reporter struct {
	board *Board
	store RawStore
	host  string
	log   *slog.Logger
	news  chan struct{} // has room for one: settings have changed

	mu       sync.Mutex // guards settings
	settings Reporting

	// All below belongs to Run's goroutine.
	written map[string]string // endpoint keys in the store; nil: not known
	first   bool              // no report was written yet
}

// NewReporter gives a Reporter that writes nothing until SetReporting has
// enabled it.
func NewReporter(b *Board, s RawStore, log *slog.Logger) *Reporter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Reporter{board: b, store: s, host: b.cfg.Host, log: log, news: make(chan struct{}, 1), first: true}
}

// SetReporting says what is to be written from now on. It may be called from
// any goroutine.
func (r *Reporter) SetReporting(s Reporting) {
	r.mu.Lock()
	r.settings = s
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// retryAfter is the pause after the store could not be written.
const retryAfter = 5 * time.Second

// Run writes until ctx ends and then returns nil. The keys stay, but for the
// leased one.
func (r *Reporter) Run(ctx context.Context) error {
	changed := r.board.news.listen()
	clock := r.board.cfg.Clock
	timer := clock.NewTimer(0)
	defer timer.Stop()
	var nextAlive, nextEndpoints, notBefore time.Time
	for {
		gather := false
		select {
		case <-ctx.Done():
			return nil
		case <-r.news:
		case <-changed:
			gather = true
		case <-timer.C():
		}
		r.mu.Lock()
		s := r.settings.withDefaults()
		r.mu.Unlock()
		if !s.Enabled {
			r.written, nextAlive, nextEndpoints = nil, time.Time{}, time.Time{}
			continue
		}
		now := clock.Now()
		if gather && nextEndpoints.IsZero() {
			nextEndpoints = now.Add(s.EndpointDelay)
		}
		if now.Before(notBefore) {
			timer.Reset(notBefore.Sub(now))
			continue
		}
		call, cancel := context.WithTimeout(ctx, writeTimeout)
		var err error
		if !now.Before(nextAlive) {
			if err = r.alive(call, s); err == nil {
				nextAlive = now.Add(s.Interval)
			}
		}
		if err == nil && (r.written == nil || !nextEndpoints.IsZero() && !now.Before(nextEndpoints)) {
			if err = r.endpoints(call, s); err == nil {
				nextEndpoints = time.Time{}
			}
		}
		cancel()
		if err != nil {
			r.log.Debug("status: writing Felix's status keys", "err", err)
			r.written, notBefore = nil, clock.Now().Add(retryAfter)
			timer.Reset(retryAfter)
			continue
		}
		next := nextAlive
		if !nextEndpoints.IsZero() && nextEndpoints.Before(next) {
			next = nextEndpoints
		}
		timer.Reset(max(0, next.Sub(clock.Now())))
	}
}

// alive writes the two keys that say that the agent runs.
func (r *Reporter) alive(ctx context.Context, s Reporting) error {
	now := r.board.cfg.Clock.Now()
	value, err := json.Marshal(struct {
		Time   string  `json:"time"`
		Uptime float64 `json:"uptime"`
		First  bool    `json:"first_update"`
	}{now.UTC().Format(time.RFC3339), now.Sub(r.board.started).Seconds(), r.first})
	if err != nil {
		return err
	}
	dir := "/calico/felix/v2/" + region(s.Region) + "/host/" + escape(r.host) + "/"
	if err := r.store.PutRaw(ctx, dir+"status", value, s.TTL); err != nil {
		return err
	}
	if err := r.store.PutRaw(ctx, dir+"last_reported_status", value, 0); err != nil {
		return err
	}
	r.first = false
	return nil
}

// endpoints makes the endpoint keys in the store what the Board says.
func (r *Reporter) endpoints(ctx context.Context, s Reporting) error {
	hosts := "/calico/felix/v1/host/" + escape(r.host) + "/endpoint/"
	workloads := "/calico/felix/v2/" + region(s.Region) + "/host/" + escape(r.host) + "/workload/"
	want := map[string]string{}
	r.board.mu.Lock()
	known := r.board.inSync && r.board.counted
	for _, e := range r.board.endpoints {
		key := hosts + escape(e.Name)
		if namespace, name, ok := strings.Cut(e.Name, "/"); ok {
			if key, ok = workloadKey(namespace, name); !ok {
				continue
			}
			key = workloads + key
		}
		want[key] = `{"status":"` + e.Status + `"}`
	}
	r.board.mu.Unlock()
	if !known {
		return nil // an agent that knows no endpoints yet must not say so
	}
	if r.written == nil {
		written := map[string]string{}
		for _, dir := range []string{hosts, workloads} {
			there, err := r.store.ListRaw(ctx, dir)
			if err != nil {
				return err
			}
			for k, v := range there {
				written[k] = string(v)
			}
		}
		r.written = written
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if r.written[k] == want[k] {
			continue
		}
		if err := r.store.PutRaw(ctx, k, []byte(want[k]), 0); err != nil {
			return err
		}
		r.written[k] = want[k]
	}
	for _, k := range slices.Sorted(maps.Keys(r.written)) {
		if _, ok := want[k]; ok {
			continue
		}
		if err := r.store.DeleteRaw(ctx, k); err != nil {
			return err
		}
		delete(r.written, k)
	}
	return nil
}

// workloadKey is the key of a workload endpoint below ".../workload/". Its name
// is node, orchestrator, workload and endpoint joined by "-", with every "-"
// inside them doubled. false: it is not such a name.
func workloadKey(namespace, name string) (string, bool) {
	parts := strings.Split(strings.ReplaceAll(name, "--", "\x00"), "-")
	if len(parts) != 4 {
		return "", false
	}
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "\x00", "-")
	}
	return escape(parts[1]) + "/" + escape(namespace+"/"+parts[2]) + "/endpoint/" + escape(parts[3]), true
}

func region(name string) string {
	if name == "" {
		return "no-region"
	}
	return "region-" + escape(name)
}

// escape makes one segment of a key of a name, as Calico does.
func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "%", "%25"), "/", "%2f")
}

// States of an endpoint, as in api.EndpointState.Status and in Felix's keys.
// Error: it resolves to no interface.
const (
	EndpointUp    = "up"
	EndpointDown  = "down"
	EndpointError = "error"
)
