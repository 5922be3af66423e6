// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/status"
	"github.com/ripstop/ripstop/daemon/internal/stepback"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
	"github.com/ripstop/ripstop/daemon/internal/trial"
	"github.com/ripstop/ripstop/daemon/policy"
)

// kinds are what an agent reads: changes first, see package trial.
var kinds = []api.Kind{
	api.KindChange, api.KindClusterInformation, api.KindFelixConfiguration, api.KindNode, api.KindTier, api.KindProfile,
	api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy,
	api.KindGlobalNetworkSet, api.KindNetworkSet, api.KindHostEndpoint, api.KindWorkloadEndpoint,
}

// etcdSocket is where the embedded etcd of a standalone host listens.
func etcdSocket(cfg config.Config) string { return filepath.Join(cfg.RunDir, "etcd.sock") }

func openStore(cfg config.Config, log *slog.Logger) (*etcd.Store, error) {
	password, err := cfg.Etcd.Password()
	if err != nil {
		return nil, err
	}
	c := etcd.Config{
		Endpoints: cfg.Etcd.Endpoints, CAFile: cfg.Etcd.CAFile, CertFile: cfg.Etcd.CertFile, KeyFile: cfg.Etcd.KeyFile,
		Username: cfg.Etcd.Username, Password: etcd.Secret(password), Log: log.With("part", "etcd"),
	}
	if len(c.Endpoints) == 0 {
		c.Endpoints = []string{"unix://" + etcdSocket(cfg)}
	}
	// The embedded datastore keeps a checksum beside each value.
	c.Checksums = len(c.Endpoints) == 1 && strings.HasPrefix(c.Endpoints[0], "unix:")
	return etcd.Open(c)
}

func calcConfig(cfg config.Config) calc.Config {
	c := calc.Default(cfg.Node)
	c.Settings.FailsafeInbound, c.Settings.FailsafeOutbound = cfg.Failsafes()
	return c
}

func snapshotConfig(cfg config.Config, log *slog.Logger, fault func(string)) snapshot.Config {
	return snapshot.Config{Dir: filepath.Join(cfg.StateDir, "agent"), Host: cfg.Node, Log: log.With("part", "snapshot"), Fault: fault}
}

// run is the agent: it builds all parts, runs each in a goroutine of one
// group, and returns when ctx ends or one of them fails, or with errReload
// after a SIGHUP if reread, which looks at the configuration, finds it good.
func run(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer, reread func() error) error {
	lock, err := lockState(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	store, err := openStore(cfg, log)
	if err != nil {
		return err
	}
	defer store.Close()
	socket, err := status.Listen(cfg.RunDir)
	if err != nil {
		return err
	}
	defer socket.Close()
	endpoints := cfg.Etcd.Endpoints
	if len(endpoints) == 0 {
		endpoints = []string{"unix://" + etcdSocket(cfg)}
	}
	live := map[string]func() error{} // filled below, asked once all runs
	board := status.NewBoard(status.Config{Host: cfg.Node, Role: string(cfg.Role), Datastore: "etcdv3", Endpoints: endpoints, Live: live, Log: log})

	public := listenMetrics(cfg, log, board)
	if public != nil {
		defer public.Close()
	}

	known, err := snapshot.Load(snapshotConfig(cfg, log, board.SetSnapshotFault))
	if err != nil && cfg.Log.Level <= slog.LevelInfo {
		log.Info("No snapshot to begin with", "reason", err)
	}
	writer := snapshot.NewWriter(snapshotConfig(cfg, log, board.SetSnapshotFault), known)
	thrift := newThrift()
	watcher := syncer.New(syncer.Config{Store: store, Kinds: kinds, Log: log.With("part", "syncer"), Known: known.Known,
		Report: func(s syncer.State) { board.SetSync(s); thrift.synced(s) }})
	buffer := syncer.NewBuffer()

	l, err := newLane(cfg, log, board)
	if err != nil {
		return err
	}
	defer l.close()
	done := openRecord(cfg, log)
	defer done.close()
	pauses := openPause(cfg, log, done)
	l.notePause(pauses.Now()) // before anything is planned
	thinking := &pulse{}
	maps.Copy(live, liveness(l.loop, thinking))
	reporter := status.NewReporter(board, store, log.With("part", "reporter"))

	registry := prometheus.NewRegistry()
	registry.MustRegister(status.NewCollector(board), status.NewRuleCounts(l.filter.counts), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	denials := status.NewDenials(l.filter.counts, l.denying.denies)
	trials := trial.New(trial.Config{Enforced: buffer, Saved: writer, Kinds: kinds, Dir: filepath.Join(cfg.StateDir, "agent"),
		Changed: board.SetChanges, Log: log.With("part", "trial")})
	steps := stepback.New(stepback.Config{Next: trials, Stored: writer.Stored, Node: cfg.Node, Known: known.Known.Events != nil, Revision: known.Known.Revision,
		Dir: filepath.Join(cfg.StateDir, "agent"), Record: done.done, Changed: board.SetSteppedBack, Log: log.With("part", "stepback")})
	undo := func(ctx context.Context, name, reason string) { goBack(ctx, store, log, trials, name, reason) }
	examiner := &examiner{cfg: cfg, log: log.With("part", "doctor"), board: board}
	actions := status.Actions{AcceptHeld: watcher.Accept, Resync: l.loop.ResyncAll, Settings: cfg.Effective(),
		Doctor: examiner.doctor, Exposure: examiner.exposure,
		Denials: func(ctx context.Context, before time.Duration) (*api.Denials, error) {
			return denials.Since(ctx, cfg.Node, before)
		},
		Pause: pauses.Begin, Resume: pauses.End, StepBack: steps.Back, UndoStepBack: steps.Undo,
		Connections: tracked(cfg.Node),
		Counts:      func(ctx context.Context) (*api.RuleCounts, error) { return l.filter.ruleCounts(ctx, cfg.Node) }}

	found, err := look(cfg, endpoints)
	if err != nil {
		return err
	}
	found.print(stdout)
	found.advise(stdout)

	group, ctx := errgroup.WithContext(ctx)
	if cfg.Role == config.Standalone {
		group.Go(func() error { serve(ctx, cfg, log, serverPath); return nil })
	}
	group.Go(func() error { return thrift.run(ctx) })
	group.Go(func() error {
		replays := known.Known.Events != nil
		known.Known.Events = stepback.Over(filepath.Join(cfg.StateDir, "agent"), log, known.Known.Events)
		err := known.Known.Replay(ctx, buffer) // the writer has it
		known = snapshot.Loaded{}              // give the memory back
		if err != nil {
			return err
		}
		if replays {
			await(ctx, l.settled, headStart)
		}
		if err := steps.Begin(ctx); err != nil {
			return err
		}
		return watcher.Run(ctx, steps)
	})
	group.Go(func() error { return writer.Run(ctx) })
	group.Go(func() error { return think(ctx, cfg, buffer, l, board, reporter, thinking, thrift) })
	group.Go(func() error { return l.links.Run(ctx, l.noteLinks) })
	group.Go(func() error { return trials.Run(ctx, undo) })
	group.Go(func() error { return steps.Run(ctx) })
	group.Go(func() error { return probe(ctx, trials, endpoints, undo) })
	group.Go(func() error { return denials.Run(ctx) })
	group.Go(func() error { return pauses.Run(ctx, l.notePause) })
	group.Go(func() error { return l.monitor.Run(ctx, l.noteForeign) })
	group.Go(func() error { return l.network.watch.Run(ctx, l.noteNetwork) })
	group.Go(func() error { return l.loop.Run(ctx) })
	group.Go(func() error { return status.Serve(ctx, socket, status.Handler(board, registry, actions)) })
	if public != nil {
		group.Go(func() error { return status.Serve(ctx, public, status.PublicHandler(board, registry)) })
	}
	group.Go(func() error {
		return (&status.Writer{Board: board, Store: store, Log: log.With("part", "status")}).Run(ctx)
	})
	group.Go(func() error { return reporter.Run(ctx) })
	group.Go(func() error { return tellSystemd(ctx, l.settled, live, log) })
	group.Go(func() error { return awaitReload(ctx, reread, log) })
	err = group.Wait()
	if errors.Is(err, errReload) {
		return err
	}
	fmt.Fprintln(stdout, "ripstopd has stopped. Its rules stay in force; 'ripstopd --cleanup' removes them.")
	return err
}

// headStart is how long the listing of the store waits for the snapshot to be
// enforced: to read 60,000 objects takes a processor for more than a second,
// and the kernel is quicker without.
const headStart = 5 * time.Second

// await waits for something to be done, for so long at the most.
func await(ctx context.Context, done <-chan struct{}, most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-done:
	case <-t.C:
	}
}

// lockState keeps two agents from writing the same state.
func lockState(cfg config.Config) (*os.File, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	dir := filepath.Join(cfg.StateDir, "agent")
	if err := host.MkdirPrivate(dir); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	f, err := host.LockFile(filepath.Join(dir, "lock"))
	if errors.Is(err, host.ErrLocked) {
		return nil, fmt.Errorf("state-dir %s: another ripstopd is using it: stop that one, or choose another --state-dir", cfg.StateDir)
	}
	return f, err
}

// listenMetrics listens for who wants metrics. That it cannot is a fault to
// report, and no reason to leave the host unprotected.
func listenMetrics(cfg config.Config, log *slog.Logger, board *status.Board) net.Listener {
	if cfg.MetricsAddress == "" {
		return nil
	}
	l, err := net.Listen("tcp", cfg.MetricsAddress)
	if err != nil {
		log.Warn("Metrics are not served: set another --metrics-address, or none", "address", cfg.MetricsAddress, "err", err)
		board.SetFaults("metrics", []api.Fault{{
			Object: "metrics-address " + cfg.MetricsAddress, Message: err.Error(),
			Effect: "metrics and health are served on the agent's socket only; set another --metrics-address, or none",
		}})
		return nil
	}
	return l
}

// reportDelay is how long a change of what status shows may wait, so that a
// stream of events does not make calc count everything after each.
const reportDelay = 300 * time.Millisecond

// think runs calc: batches of events in, batches of intents out.
func think(ctx context.Context, cfg config.Config, in *syncer.Buffer, l *lane, board *status.Board, reporter *status.Reporter, thinking *pulse, thrift *thrift) error {
	g := calc.New(calcConfig(cfg))
	report := func() {
		l.setEndpoints(g.Endpoints())
		board.SetFaults("calc", g.Faults())
		board.SetNoEffect(g.NoEffect())
		r := g.Reporting()
		reporter.SetReporting(status.Reporting{Enabled: r.Endpoints, Interval: r.Interval, TTL: r.TTL, EndpointDelay: r.EndpointDelay})
		n := g.Stats()
		board.SetCounts(status.Counts{
			HostEndpoints: n.HostEndpoints, WorkloadEndpoints: n.WorkloadEndpoints, Policies: n.Policies, Profiles: n.Profiles,
			Tiers: n.Tiers, LocalEndpoints: n.LocalEndpoints, LocalPolicies: n.ActivePolicies, LocalSelectors: n.Sets,
		})
	}
	reported, due := time.Time{}, false
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if due {
			wait, cancel = context.WithDeadline(ctx, reported.Add(reportDelay))
		}
		thinking.rest()
		batch, err := in.Next(wait)
		thinking.work()
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // nothing new came in time
			report()
			reported, due = time.Now(), false
			continue
		}
		for _, ev := range batch.Events {
			g.Note(ev)
		}
		thrift.note(len(batch.Events))
		board.SetBatch(batch)
		if !batch.Synced {
			continue
		}
		var changes []intent.Change
		g.Flush(func(c intent.Change) {
			if s, ok := c.Value.(*intent.Settings); ok {
				board.SetFailsafes(failsafeTexts(s.FailsafeInbound), failsafeTexts(s.FailsafeOutbound))
			}
			changes = append(changes, c)
		})
		l.picture(changes, batch.Revision)
		g.Pack()
		if len(batch.Events) > 0 || reported.IsZero() {
			due = true
		}
		if due && time.Since(reported) > reportDelay {
			report()
			reported, due = time.Now(), false
		}
	}
}

// failsafeTexts writes failsafes as status shows them: "tcp:22" or
// "tcp:10.0.0.0/8:22".
func failsafeTexts(list []intent.Failsafe) []string {
	var out []string
	for _, f := range list {
		out = append(out, policy.Failsafe(f).String())
	}
	return out
}

// cleanup removes what Ripstop has put on this host and puts back what it has
// changed: sysctls, neighbours and routes first, the filter last, so that
// nothing is forwarded unfiltered.
func cleanup(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer) error {
	lock, err := lockIfThere(cfg)
	if err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	defer lock.Close()
	if err := nftables.Removable(nftables.Default().Table); err != nil && probeNFTables() == nil {
		return fmt.Errorf("cleanup: %w: is ripstopd still running? stop it first", err)
	}
	n, err := newNetwork(cfg, log, status.NewBoard(status.Config{}))
	if err != nil {
		return err
	}
	defer n.close()
	err = n.cleanup(stdout)
	return errors.Join(err, cleanupFilter(ctx, stdout))
}

// lockIfThere keeps an agent from starting while its host is cleaned up. Where
// none has run there is nothing to lock, and the file is nil.
func lockIfThere(cfg config.Config) (*os.File, error) {
	f, err := host.LockFile(filepath.Join(cfg.StateDir, "agent", "lock"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, host.ErrLocked):
		return nil, fmt.Errorf("state-dir %s: ripstopd is still running, stop it first", cfg.StateDir)
	}
	return f, err
}

func cleanupFilter(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	table := nftables.Default().Table
	tables, err := nftables.Tables()
	inTable := err == nil && slices.Contains(tables, "inet "+table)
	if inTable {
		if err := nftables.Cleanup(ctx, table); err != nil {
			return fmt.Errorf("cleanup: %w: is ripstopd still running? stop it first", err)
		}
		fmt.Fprintf(stdout, "Removed the nftables table inet %s. This host is no longer filtered by Ripstop.\n", table)
	}
	inChains, err := iptables.Cleanup(ctx, host.RealRunner{})
	if err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	if inChains {
		fmt.Fprintln(stdout, "Removed the chains and ipsets rs-… of iptables. This host is no longer filtered by Ripstop.")
	}
	if !inTable && !inChains {
		fmt.Fprintf(stdout, "There is no nftables table inet %s, and no chain or ipset of Ripstop's in iptables: this host is not filtered by Ripstop.\n", table)
	}
	return nil
}
