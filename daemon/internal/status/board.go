// SPDX-License-Identifier: Apache-2.0

// Package status collects what the agent's pieces report and shows it: as the
// HostStatus object in the store, as Felix's status keys, on the agent's
// socket, as /livez, /readyz and /metrics.
//
//	syncer.State, reconcile.Report,     ┌► Handler   agent.sock, loopback
//	read-back of the kernel, faults ─► Board ─► Writer    HostStatus in the store
//	                                    └► Reporter  Felix's status keys
//
// It is the last of the three places in Ripstop that have a queue: the Board
// keeps only the last word of each reporter. It decides nothing and moves
// nothing; what an operator asks for on the socket is handed to the functions
// that the assembly gives.
//
// "Applied" here always means read back from the kernel, never only sent.
package status

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// driftKept is the number of drift events that are shown.
const driftKept = 50

// Config is what a Board needs.
type Config struct {
	// Host is the host's name, Role the daemon's.
	Host, Role string
	// Datastore is etcd, api, ... and Endpoints where it is.
	Datastore string
	Endpoints []string
	// Live are asked by /livez, by name: an error means that the piece hangs.
	Live map[string]func() error
	// Clock is the machine's if nil.
	Clock host.Clock
	// Log is told of nothing but what the socket's users asked for.
	Log *slog.Logger
}

// Counts are how many objects of a sort the store holds, for metrics.
type Counts struct {
	Hosts, HostEndpoints, WorkloadEndpoints, Policies, Profiles, Tiers int
	// LocalEndpoints, LocalPolicies and LocalSelectors matter on this host.
	LocalEndpoints, LocalPolicies, LocalSelectors int
}

// Board keeps the last report of each piece. All methods may be called from
// any goroutine; none blocks.
type Board struct {
	cfg     Config
	started time.Time
	metrics metrics
	news    *signal

	mu        sync.Mutex // guards all below
	sync      syncer.State
	syncKnown bool
	inSync    bool // the gate has been opened: by the snapshot or live
	seen      api.Revision
	seenSince time.Time // seen is above applied since
	dataplane api.DataplaneStatus
	flows     api.FlowsStatus
	endpoints []api.EndpointState
	counted   bool // endpoints were set once
	safeIn    []string
	safeOut   []string
	noEffect  []string
	faults    map[string][]api.Fault // by reporter
	drift     []api.Drift
	drifts    int64
	repaired  int64
	snapshot  string     // what is wrong with it
	paused    *api.Pause // policy is out of force
	stepped   *api.SteppedBack
	changes   []api.OpenChange
	parts     map[string]partState // by loop and part
	counts    Counts
	resyncs   int64
	published map[string]api.Condition // last transition of each
}

// partState is the last report of one Part.
type partState struct {
	loop, part string
	err        string
	failures   int
	since      time.Time // failing since
}

// NewBoard gives a Board on which nothing has been reported yet.
func NewBoard(cfg Config) *Board {
	if cfg.Clock == nil {
		cfg.Clock = host.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Board{cfg: cfg, started: cfg.Clock.Now(), metrics: newMetrics(), news: newSignal(),
		faults: map[string][]api.Fault{}, parts: map[string]partState{}, published: map[string]api.Condition{}}
}

// change runs f with the lock held and tells whoever listens.
func (b *Board) change(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
	b.news.fire()
}

// SetSync notes how the stream from the datastore stands; it is a
// syncer.Config.Report.
func (b *Board) SetSync(s syncer.State) {
	b.change(func() {
		if s.Phase == syncer.Resyncing && (!b.syncKnown || b.sync.Phase != syncer.Resyncing) {
			b.resyncs++
		}
		b.sync, b.syncKnown = s, true
		b.inSync = b.inSync || s.Phase == syncer.InSync
	})
}

// SetBatch notes what has come out of the stream: the newest revision seen,
// and whether the picture has been whole once (from the snapshot or live).
func (b *Board) SetBatch(batch syncer.Batch) {
	b.change(func() {
		b.inSync = b.inSync || batch.Synced
		b.seen = batch.Revision
		b.agePendingLocked()
	})
}

// SetDataplane notes what the kernel holds. d.AppliedRevision and
// d.LastVerified must be those of a read-back.
func (b *Board) SetDataplane(d api.DataplaneStatus) {
	b.change(func() {
		b.dataplane = d
		b.agePendingLocked()
	})
}

// UpdateDataplane changes what is noted of the kernel, as SetDataplane.
func (b *Board) UpdateDataplane(f func(d *api.DataplaneStatus)) {
	b.change(func() {
		f(&b.dataplane)
		b.agePendingLocked()
	})
}

// SetFlows notes what is known of tracked connections. That their number is
// another alone is no news: it always is.
func (b *Board) SetFlows(f api.FlowsStatus) {
	b.mu.Lock()
	old := b.flows
	b.flows = f
	b.mu.Unlock()
	old.Tracked, old.Most = f.Tracked, f.Most
	if old != f {
		b.news.fire()
	}
}

func (b *Board) agePendingLocked() {
	if b.dataplane.AppliedRevision >= b.seen {
		b.seenSince = time.Time{}
	} else if b.seenSince.IsZero() {
		b.seenSince = b.cfg.Clock.Now()
	}
}

// SetEndpoints notes this host's endpoints: all of them, once the picture is
// whole. The slice is not changed later.
func (b *Board) SetEndpoints(e []api.EndpointState) {
	b.change(func() { b.endpoints, b.counted = e, true })
}

// SetFailsafes notes the failsafe ports in force, as "tcp:22".
func (b *Board) SetFailsafes(inbound, outbound []string) {
	b.change(func() { b.safeIn, b.safeOut = inbound, outbound })
}

// SetNoEffect notes parameters that are set and not acted on.
func (b *Board) SetNoEffect(names []string) { b.change(func() { b.noEffect = names }) }

// SetFaults notes what one reporter cannot enforce as written, in place of
// what it said before.
func (b *Board) SetFaults(reporter string, faults []api.Fault) {
	b.change(func() {
		if len(faults) == 0 {
			delete(b.faults, reporter)
			return
		}
		b.faults[reporter] = faults
	})
}

// SetChanges tells which changes go back unless they are confirmed.
func (b *Board) SetChanges(c []api.OpenChange) { b.change(func() { b.changes = c }) }

// SetSteppedBack tells what this host holds at earlier values; nil: nothing.
func (b *Board) SetSteppedBack(s *api.SteppedBack) { b.change(func() { b.stepped = s }) }

// SetPaused tells that policy is out of force; nil: it is in force.
func (b *Board) SetPaused(p *api.Pause) { b.change(func() { b.paused = p }) }

// SetSnapshotFault notes what is wrong with the snapshot on disk; empty:
// nothing. It is a snapshot.Config.Fault.
func (b *Board) SetSnapshotFault(text string) { b.change(func() { b.snapshot = text }) }

// SetCounts notes how many objects there are.
func (b *Board) SetCounts(c Counts) { b.change(func() { b.counts = c }) }

// AddDrift notes a change that somebody made behind our back. A zero Time is
// now. A Drift that is repaired later is added once, when it is.
func (b *Board) AddDrift(d api.Drift) {
	b.change(func() {
		if d.Time.IsZero() {
			d.Time = api.Time{Time: b.cfg.Clock.Now().UTC().Truncate(time.Second)}
		}
		b.drifts++
		if d.Repaired {
			b.repaired++
		}
		b.drift = append(b.drift, d)
		b.drift = slices.Delete(b.drift, 0, max(0, len(b.drift)-driftKept))
	})
}

// LoopReport notes a turn; it is a reconcile.Config.Report.
func (b *Board) LoopReport(r reconcile.Report) {
	b.metrics.observe(r)
	b.mu.Lock()
	changed := false
	note := func(part string, err error, failures int) {
		name := r.Loop + "/" + part
		old := b.parts[name]
		s := partState{loop: r.Loop, part: part, failures: failures}
		if err != nil {
			s.err = err.Error()
			if s.since = old.since; old.err == "" {
				s.since = b.cfg.Clock.Now()
			}
		}
		changed = changed || old != s
		b.parts[name] = s
	}
	note("planning", r.Before, 0)
	for _, p := range r.Parts {
		note(p.Part, p.Err, p.Failures)
	}
	b.mu.Unlock()
	if changed {
		b.news.fire()
	}
}

// Held is why a picture is not applied; empty: none is held.
func (b *Board) Held() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sync.Held == nil {
		return ""
	}
	return b.sync.Held.String()
}

// Status is what the HostStatus object says now.
func (b *Board) Status() api.HostStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Clock.Now()
	h := api.HostStatus{}
	h.Kind, h.APIVersion, h.Name = api.KindHostStatus, api.VersionOurs, b.cfg.Host
	s := &h.Status
	s.Role, s.Version = b.cfg.Role, api.Version
	s.StartedAt, s.ReportedAt = stamp(b.started), stamp(now)
	s.Datastore = b.datastoreLocked()
	s.Dataplane, s.Paused, s.SteppedBack, s.Flows = b.dataplane, b.paused, b.stepped, b.flows
	s.Changes = slices.Clone(b.changes)
	s.Endpoints = slices.Clone(b.endpoints)
	s.FailsafesInbound, s.FailsafesOutbound = slices.Clone(b.safeIn), slices.Clone(b.safeOut)
	s.NoEffect = slices.Clone(b.noEffect)
	s.Faults = b.faultsLocked()
	s.Drift, s.DriftTotal = slices.Clone(b.drift), b.drifts
	s.Conditions = b.conditionsLocked(now)
	return h
}

func (b *Board) datastoreLocked() api.DatastoreStatus {
	d := api.DatastoreStatus{Type: b.cfg.Datastore, Endpoints: slices.Clone(b.cfg.Endpoints),
		Phase: b.sync.Phase.String(), SeenRevision: b.seen, Since: stamp(b.sync.Since)}
	switch {
	case b.sync.Live:
		d.Source = "live"
	case b.inSync:
		d.Source = "snapshot"
	}
	if b.sync.Held != nil {
		d.Held = b.sync.Held.String()
	}
	if b.sync.Err != nil {
		d.Error = b.sync.Err.Error()
	}
	return d
}

// faultsLocked joins the faults of all reporters, in a fixed order.
func (b *Board) faultsLocked() []api.Fault {
	var out []api.Fault
	for _, reporter := range slices.Sorted(maps.Keys(b.faults)) {
		out = append(out, b.faults[reporter]...)
	}
	if b.snapshot != "" {
		out = append(out, api.Fault{Object: "snapshot", Message: b.snapshot, Effect: "what is enforced does not depend on it until the next start without a datastore"})
	}
	return out
}

// stamp is t as the API writes it; zero stays zero.
func stamp(t time.Time) api.Time {
	if t.IsZero() {
		return api.Time{}
	}
	return api.Time{Time: t.UTC().Truncate(time.Second)}
}

// signal wakes any number of listeners, each at least once after the last
// fire.
type signal struct {
	mu        sync.Mutex // guards listeners
	listeners []chan struct{}
}

func newSignal() *signal { return &signal{} }

// listen gives a channel that has room for one wake-up.
func (s *signal) listen() <-chan struct{} {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	s.listeners = append(s.listeners, c)
	s.mu.Unlock()
	return c
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
