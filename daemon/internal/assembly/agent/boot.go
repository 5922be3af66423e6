// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/status"
	"github.com/ripstop/ripstop/daemon/internal/stepback"
)

// Times of a machine's start.
const (
	// bootMost is how long it may wait for its rules.
	bootMost = 8 * time.Second
	// lockdownMost is how long it may wait, after that, for a lockdown.
	lockdownMost = 3 * time.Second
)

// boot puts the last state on disk in force once and ends: before the network
// is up, without a datastore, within bootMost. A host that nothing has been
// enforced on stays as it is. One whose state cannot be read, or is not in
// force in time, gets a lockdown, failsafe ports only, unless its kernel still
// has rules: those stay.
func boot(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer) error {
	return bootWithin(ctx, cfg, log, stdout, bootMost)
}

func bootWithin(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer, most time.Duration) error {
	lock, err := lockState(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	within, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	known, err := snapshot.Load(snapshotConfig(cfg, log, nil))
	switch {
	case errors.Is(err, snapshot.ErrNone):
		fmt.Fprintln(stdout, "Nothing has been enforced on this host yet, so nothing is at its start.")
		return nil
	case err != nil:
		log.Error("The last state cannot be read", "err", err)
		return lockDown(ctx, cfg, log, stdout, "the last state cannot be read", most)
	}
	events := stepback.Over(filepath.Join(cfg.StateDir, "agent"), log, known.Known.Events)
	changes, err := meaning(within, cfg, events)
	if err == nil {
		err = enforceOnce(within, cfg, log, changes, known.Known.Revision)
	}
	switch {
	case err == nil:
		fmt.Fprintf(stdout, "In force: the state of revision %d.\n", known.Known.Revision)
		return nil
	case changes != nil && !governs(changes):
		return fmt.Errorf("boot: %w", err) // it filters nothing
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("not all rules are in force after %s: %w", most, err)
	}
	return errors.Join(fmt.Errorf("boot: %w", err), lockDown(ctx, cfg, log, stdout, "the last state could not be put in force", lockdownMost))
}

// lockDown puts a lockdown in force, unless the kernel has rules of ours.
func lockDown(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer, why string, most time.Duration) error {
	found, err := look(cfg, nil)
	if err != nil {
		return err
	}
	if found.rules {
		fmt.Fprintf(stdout, "%s; the rules in the kernel stay in force.\n", strings.ToUpper(why[:1])+why[1:])
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	changes, err := meaning(ctx, cfg, slices.Values([][]api.Event{lockdown(cfg.Node)}))
	if err == nil {
		err = enforceOnce(ctx, cfg, log, changes, 0)
	}
	if err != nil {
		return fmt.Errorf("boot: lockdown: %w", err)
	}
	fmt.Fprintf(stdout, "In force: a lockdown, for %s: only the failsafe ports are open until the agent puts policy in force.\n", why)
	return nil
}

// meaning is what events, nil for none, mean for this host.
func meaning(ctx context.Context, cfg config.Config, events iter.Seq[[]api.Event]) ([]intent.Change, error) {
	g := calc.New(calcConfig(cfg))
	if events == nil { // a state without a single object
		events = func(func([]api.Event) bool) {}
	}
	for some := range events {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, ev := range some {
			g.Note(ev)
		}
	}
	changes := []intent.Change{}
	g.Flush(func(c intent.Change) { changes = append(changes, c) })
	return changes, nil
}

// governs reports whether this host has an endpoint.
func governs(changes []intent.Change) bool {
	return slices.ContainsFunc(changes, func(c intent.Change) bool {
		return c.Value != nil && (c.Key.Kind == intent.KindHostEndpoint || c.Key.Kind == intent.KindWorkloadEndpoint)
	})
}

// enforceOnce runs the lane until its filter has once been brought to what
// changes say, as read back from the kernel.
func enforceOnce(ctx context.Context, cfg config.Config, log *slog.Logger, changes []intent.Change, revision api.Revision) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := newLane(cfg, log, status.NewBoard(status.Config{Host: cfg.Node, Log: log}))
	if err != nil {
		return err
	}
	defer l.close()
	l.picture(changes, revision)
	group, inner := errgroup.WithContext(ctx)
	inner, stop := context.WithCancel(inner)
	group.Go(func() error { return l.links.Run(inner, l.noteLinks) })
	group.Go(func() error { return l.loop.Run(inner) })
	group.Go(func() error {
		defer stop()
		select {
		case <-l.settled:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-inner.Done():
			return nil // the one that failed says why
		}
	})
	return group.Wait()
}

// lockdown is a picture in which this host speaks at its failsafe ports only,
// and forwards nothing.
func lockdown(node string) []api.Event {
	const label = "ripstop.io/lockdown"
	endpoint := &api.HostEndpoint{
		Meta: api.Meta{Name: "lockdown", Labels: map[string]string{label: ""}},
		Spec: api.HostEndpointSpec{Node: node, InterfaceName: api.AllInterfaces},
	}
	// A host endpoint that no policy selects denies the host's own traffic,
	// but says nothing of what is forwarded.
	forwarded := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: "lockdown"}}
	forwarded.Spec.Selector = "has(" + label + ")"
	forwarded.Spec.ApplyOnForward = true
	forwarded.Spec.Types = []api.PolicyType{api.Ingress, api.Egress}

	var events []api.Event
	for _, o := range []api.Object{&api.Tier{Meta: api.Meta{Name: api.DefaultTier}}, endpoint, forwarded} {
		o.Default()
		events = append(events, api.Event{Key: o.Key(), Object: o})
	}
	return events
}
