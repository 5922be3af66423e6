// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
	"github.com/ripstop/ripstop/daemon/store"
)

// check loads the configuration and the resources, plans, and prints the
// plan. It changes nothing, neither in the kernel nor on disk. Resources come
// from the datastore or, if that cannot be reached, from the snapshot.
func check(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer) error {
	for _, s := range cfg.Effective() {
		fmt.Fprintf(stdout, "# %s = %s (%s)\n", s.Key, s.Value, s.Source)
	}
	c := choose(cfg.Dataplane, probeNFTables)
	fmt.Fprintf(stdout, "# packet filter: %s: %s\n", c.name, c.why)
	if c.name == "iptables" {
		if p, err := iptables.Programs(ctx, host.RealRunner{}); err != nil {
			fmt.Fprintf(stdout, "# fault: %v\n", err)
		} else {
			fmt.Fprintf(stdout, "# %s\n", p)
		}
	}
	events, from, err := pictureNow(ctx, cfg, log)
	if err != nil {
		return err
	}
	g := calc.New(calcConfig(cfg))
	for _, ev := range events {
		g.Note(ev)
	}
	s := ruleset.NewState()
	k := kernel.State{}
	p, kp := dataplane.NewCompilingPlanner(s), dataplane.NewKernelPlanner(k)
	note := func(c intent.Change) {
		p.Note(c)
		kp.Note(c)
	}
	g.Flush(note)
	if err := noteInterfaces(note); err != nil {
		return err
	}
	p.Flush()
	kp.Flush()
	fmt.Fprintf(stdout, "# %d objects from %s\n", len(events), from)
	for _, f := range g.Faults() {
		fmt.Fprintf(stdout, "# fault: %s: %s (%s)\n", f.Object, f.Message, f.Effect)
	}
	for _, name := range g.NoEffect() {
		fmt.Fprintf(stdout, "# accepted, no effect: %s\n", name)
	}
	fmt.Fprint(stdout, s.String(), k.String())
	return nil
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func noteInterfaces(note func(intent.Change)) error {
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing interfaces: %w", err)
	}
	for _, i := range all {
		list, err := i.Addrs()
		if err != nil {
			return fmt.Errorf("listing addresses of %s: %w", i.Name, err)
		}
		v := &intent.Interface{Index: i.Index, Up: i.Flags&net.FlagUp != 0, Running: i.Flags&net.FlagRunning != 0}
		for _, a := range list {
			if n, err := netip.ParsePrefix(a.String()); err == nil {
				v.Addrs = append(v.Addrs, n.Addr())
			}
		}
		note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: i.Name}, Value: v})
	}
	return nil
}

// pictureNow reads all resources that matter to an agent. Where a standalone
// host has neither a datastore nor a snapshot yet, there are none.
func pictureNow(ctx context.Context, cfg config.Config, log *slog.Logger) (events []api.Event, from string, err error) {
	if cfg.Role == config.Standalone && len(cfg.Etcd.Endpoints) == 0 && missing(etcdSocket(cfg)) {
		known, err := snapshot.Peek(snapshotConfig(cfg, log, nil))
		switch {
		case err == nil:
			return eventsOf(known.Known), "the snapshot, since the datastore is not running", nil
		case missing(filepath.Join(cfg.StateDir, "agent")):
			return nil, "nowhere: no datastore has run here yet", nil
		}
		return nil, "", fmt.Errorf("the datastore is not running, and there is no snapshot to plan with: %w", err)
	}
	s, err := openStore(cfg, log)
	if err != nil {
		return nil, "", err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, kind := range kinds {
		list, _, err := s.List(ctx, kind, store.ListOptions{})
		if err != nil {
			known, snapErr := snapshot.Peek(snapshotConfig(cfg, log, nil))
			if snapErr != nil {
				return nil, "", errors.Join(fmt.Errorf("reading the datastore: %w", err), fmt.Errorf("and there is no snapshot to plan with: %w", snapErr))
			}
			log.Warn("Datastore cannot be read, the snapshot is used", "err", err)
			return eventsOf(known.Known), "the snapshot", nil
		}
		for _, o := range list {
			events = append(events, api.Event{Key: o.Key(), Object: o})
		}
	}
	return events, "the datastore", nil
}

func eventsOf(k syncer.Known) (events []api.Event) {
	if k.Events == nil {
		return nil
	}
	for batch := range k.Events {
		events = append(events, batch...)
	}
	return events
}
