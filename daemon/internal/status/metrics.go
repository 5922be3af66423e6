// SPDX-License-Identifier: Apache-2.0

package status

import (
	"errors"
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// metrics are what has to be counted as it happens; all else is read off the
// Board when somebody asks.
type metrics struct {
	apply prometheus.Histogram

	mu       *sync.Mutex // guards all below
	turns    map[string]uint64
	failures map[[2]string]uint64 // by loop and part
	panics   uint64
}

func newMetrics() metrics {
	return metrics{
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ripstop_apply_duration_seconds",
			Help:    "How long turns of the loops took in which a part was moved.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}),
		mu: &sync.Mutex{}, turns: map[string]uint64{}, failures: map[[2]string]uint64{},
	}
}

// observe counts a turn.
func (m *metrics) observe(r reconcile.Report) {
	if len(r.Parts) > 0 {
		m.apply.Observe(r.Duration.Seconds())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turns[r.Loop]++
	count := func(part string, err error) {
		if err == nil {
			return
		}
		m.failures[[2]string{r.Loop, part}]++
		if p := (*reconcile.PanicError)(nil); errors.As(err, &p) {
			m.panics++
		}
	}
	count("planning", r.Before)
	for _, p := range r.Parts {
		count(p.Part, p.Err)
	}
}

// desc is a metric that is read off the Board.
type desc struct {
	d *prometheus.Desc
	t prometheus.ValueType
}

func gauge(name, help string, labels ...string) desc {
	return desc{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) desc {
	return desc{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

// Collector shows a Board to Prometheus. Names that start with felix_ mean
// what they mean in Felix.
type Collector struct {
	board *Board

	felixEndpoints, felixPolicies, felixSelectors, felixResync, felixResyncs, felixFailures, felixHost      desc
	clusterHEP, clusterHosts, clusterPolicies, clusterProfiles, clusterTiers, clusterWEP                    desc
	syncState, lastApply, lastVerified, drift, repaired, faults, seen, applied, build, turns, fails, panics desc
	ready, paused, stepped, chains, rules, sets, members, verdicts, snapshot, tracked, trackedMost, cut     desc
}

// NewCollector gives the Collector of a Board; register it once.
func NewCollector(b *Board) *Collector {
	return &Collector{
		board:           b,
		felixEndpoints:  gauge("felix_active_local_endpoints", "Endpoints of this host."),
		felixPolicies:   gauge("felix_active_local_policies", "Policies that govern an endpoint of this host."),
		felixSelectors:  gauge("felix_active_local_selectors", "Selectors that rules on this host use."),
		felixResync:     gauge("felix_resync_state", "The stream from the datastore: 0 waiting, 1 resyncing, 2 in sync."),
		felixResyncs:    counter("felix_resyncs_started", "Times the datastore was listed as a whole."),
		felixFailures:   counter("felix_int_dataplane_failures", "Failed passes of parts of the dataplane."),
		felixHost:       gauge("felix_host", "1, with this host's name.", "host"),
		clusterHEP:      gauge("felix_cluster_num_host_endpoints", "Host endpoints in the datastore."),
		clusterHosts:    gauge("felix_cluster_num_hosts", "Hosts in the datastore."),
		clusterPolicies: gauge("felix_cluster_num_policies", "Policies in the datastore."),
		clusterProfiles: gauge("felix_cluster_num_profiles", "Profiles in the datastore."),
		clusterTiers:    gauge("felix_cluster_num_tiers", "Tiers in the datastore."),
		clusterWEP:      gauge("felix_cluster_num_workload_endpoints", "Workload endpoints in the datastore."),
		syncState:       gauge("ripstop_sync_state", "1 for the state the stream from the datastore is in.", "state"),
		lastApply:       gauge("ripstop_last_apply_timestamp_seconds", "When rules were last changed in the kernel; 0: never."),
		lastVerified:    gauge("ripstop_last_verified_timestamp_seconds", "When rules were last read back from the kernel; 0: never."),
		drift:           counter("ripstop_drift_total", "Changes of our rules by others."),
		repaired:        counter("ripstop_drift_repaired_total", "Changes of our rules by others that were undone."),
		faults:          gauge("ripstop_faults", "Objects that cannot be enforced as written."),
		seen:            gauge("ripstop_revision_seen", "Newest datastore revision received."),
		applied:         gauge("ripstop_revision_applied", "Newest datastore revision whose rules were read back from the kernel."),
		build:           gauge("ripstop_build_info", "1, with the version.", "version", "goversion"),
		turns:           counter("ripstop_loop_turns_total", "Turns of a loop.", "loop"),
		fails:           counter("ripstop_part_failures_total", "Failed passes of a part.", "loop", "part"),
		panics:          counter("ripstop_panics_total", "Panics that were caught."),
		ready:           gauge("ripstop_ready", "1 if the host is ready: rules are in the kernel and verified."),
		stepped:         gauge("ripstop_stepped_back_resources", "Resources of which an operator has made this host enforce earlier values than the datastore has."),
		paused:          gauge("ripstop_paused", "1 while an operator has put policy out of force."),
		chains:          gauge("ripstop_dataplane_chains", "Chains in the kernel."),
		rules:           gauge("ripstop_dataplane_rules", "Rules in the kernel."),
		sets:            gauge("ripstop_dataplane_sets", "Sets in the kernel."),
		members:         gauge("ripstop_dataplane_members", "Members of all sets in the kernel."),
		tracked:         gauge("ripstop_conntrack_entries", "Connections that the kernel tracks."),
		trackedMost:     gauge("ripstop_conntrack_entries_max", "Connections that the kernel can track."),
		cut:             counter("ripstop_conntrack_flows_cut_total", "Established flows that were cut because a change no longer allowed them."),
		verdicts:        gauge("ripstop_dataplane_verdict_elements", "Elements of verdict maps in the kernel."),
		snapshot:        gauge("ripstop_snapshot_good", "1 if the snapshot on disk can be read and written."),
	}
}

// Describe names the metrics.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []desc{c.felixEndpoints, c.felixPolicies, c.felixSelectors, c.felixResync, c.felixResyncs, c.felixFailures, c.felixHost,
		c.clusterHEP, c.clusterHosts, c.clusterPolicies, c.clusterProfiles, c.clusterTiers, c.clusterWEP,
		c.syncState, c.lastApply, c.lastVerified, c.drift, c.repaired, c.faults, c.seen, c.applied, c.build, c.turns, c.fails, c.panics,
		c.ready, c.paused, c.stepped, c.chains, c.rules, c.sets, c.members, c.verdicts, c.snapshot, c.tracked, c.trackedMost, c.cut} {
		ch <- d.d
	}
	c.board.metrics.apply.Describe(ch)
}

// Collect reads the Board.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	put := func(d desc, v float64, labels ...string) { ch <- prometheus.MustNewConstMetric(d.d, d.t, v, labels...) }
	b := c.board
	b.mu.Lock()
	n, phase, held, resyncs := b.counts, b.sync.Phase, b.sync.Held != nil, b.resyncs
	dp, seen, drifts, repaired, snapshot := b.dataplane, b.seen, b.drifts, b.repaired, b.snapshot
	flows := b.flows
	faults := len(b.faultsLocked())
	b.mu.Unlock()

	put(c.felixEndpoints, float64(n.LocalEndpoints))
	put(c.felixPolicies, float64(n.LocalPolicies))
	put(c.felixSelectors, float64(n.LocalSelectors))
	put(c.felixResync, float64(phase))
	put(c.felixResyncs, float64(resyncs))
	put(c.felixHost, 1, b.cfg.Host)
	put(c.clusterHEP, float64(n.HostEndpoints))
	put(c.clusterHosts, float64(n.Hosts))
	put(c.clusterPolicies, float64(n.Policies))
	put(c.clusterProfiles, float64(n.Profiles))
	put(c.clusterTiers, float64(n.Tiers))
	put(c.clusterWEP, float64(n.WorkloadEndpoints))
	state := phase.String()
	if held {
		state = "Held"
	}
	for _, s := range []string{syncer.Waiting.String(), syncer.Resyncing.String(), syncer.InSync.String(), "Held"} {
		put(c.syncState, truth(s == state), s)
	}
	put(c.lastApply, unix(dp.LastApplied))
	put(c.lastVerified, unix(dp.LastVerified))
	put(c.drift, float64(drifts))
	put(c.repaired, float64(repaired))
	put(c.faults, float64(faults))
	put(c.seen, float64(seen))
	put(c.applied, float64(dp.AppliedRevision))
	put(c.build, 1, api.Version, runtime.Version())
	put(c.ready, truth(len(b.ReadyReasons()) == 0))
	now := b.Status().Status
	put(c.paused, truth(now.Paused != nil))
	stepped := 0
	if now.SteppedBack != nil {
		stepped = now.SteppedBack.Count
	}
	put(c.stepped, float64(stepped))
	put(c.chains, float64(dp.Chains))
	put(c.rules, float64(dp.Rules))
	put(c.sets, float64(dp.Sets))
	put(c.members, float64(dp.Members))
	put(c.tracked, float64(flows.Tracked))
	put(c.trackedMost, float64(flows.Most))
	put(c.cut, float64(flows.CutTotal))
	put(c.verdicts, float64(dp.VerdictElements))
	put(c.snapshot, truth(snapshot == ""))

	m := &b.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	for loop, n := range m.turns {
		put(c.turns, float64(n), loop)
	}
	var all uint64
	for k, n := range m.failures {
		put(c.fails, float64(n), k[0], k[1])
		all += n
	}
	put(c.felixFailures, float64(all))
	put(c.panics, float64(m.panics))
	m.apply.Collect(ch)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t api.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
