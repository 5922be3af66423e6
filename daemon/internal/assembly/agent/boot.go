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

// bootMost is how long a machine's start may wait for its rules.
const bootMost = 8 * time.Second

// boot puts the last state on disk in force once and ends: before the network
// is up, without a datastore, within bootMost. A host that nothing has been
// enforced on stays as it is. One whose state cannot be read gets a lockdown,
// failsafe ports only, unless its kernel still has rules: those stay.
func boot(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer) error {
	lock, err := lockState(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	known, err := snapshot.Load(snapshotConfig(cfg, log, nil))
	events, what := known.Known.Events, fmt.Sprintf("the state of revision %d", known.Known.Revision)
	switch {
	case errors.Is(err, snapshot.ErrNone):
		fmt.Fprintln(stdout, "Nothing has been enforced on this host yet, so nothing is at its start.")
		return nil
	case err != nil:
		log.Error("The last state cannot be read", "err", err)
		found, err := look(cfg, nil)
		if err != nil {
			return err
		}
		if found.rules {
			fmt.Fprintln(stdout, "The last state cannot be read; the rules in the kernel stay in force.")
			return nil
		}
		events, what = slices.Values([][]api.Event{lockdown(cfg.Node)}), "a lockdown, for the last state cannot be read: only the failsafe ports are open until the datastore answers"
	}
	if err == nil {
		events = stepback.Over(filepath.Join(cfg.StateDir, "agent"), log, events)
	}
	if err := enforceOnce(ctx, cfg, log, events, known.Known.Revision); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	fmt.Fprintf(stdout, "In force: %s.\n", what)
	return nil
}

// enforceOnce runs the lane until its filter has once been brought to what
// events say, as read back from the kernel.
func enforceOnce(ctx context.Context, cfg config.Config, log *slog.Logger, events iter.Seq[[]api.Event], revision api.Revision) error {
	l, err := newLane(cfg, log, status.NewBoard(status.Config{Host: cfg.Node, Log: log}))
	if err != nil {
		return err
	}
	defer l.close()
	g := calc.New(calcConfig(cfg))
	if events == nil { // a state without a single object
		events = func(func([]api.Event) bool) {}
	}
	for some := range events {
		for _, ev := range some {
			g.Note(ev)
		}
	}
	var changes []intent.Change
	g.Flush(func(c intent.Change) { changes = append(changes, c) })
	l.picture(changes, revision)

	ctx, cancel := context.WithTimeout(ctx, bootMost)
	defer cancel()
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
			return fmt.Errorf("not all rules are in force after %s: %w", bootMost, ctx.Err())
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
