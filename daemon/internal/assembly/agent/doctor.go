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
	"path/filepath"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/doctor"
	"github.com/ripstop/ripstop/daemon/internal/doctor/survey"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/status"
	"github.com/ripstop/ripstop/daemon/policy"
)

// examiner looks at this host for ripstop doctor and ripstop exposure. It may
// be asked from many goroutines; it looks for one at a time.
type examiner struct {
	cfg config.Config
	log *slog.Logger
	// board is the agent's own; nil: this is not the agent.
	board *status.Board
	// stopped: no agent runs.
	stopped bool

	mu sync.Mutex // held while it looks
}

func (e *examiner) look(ctx context.Context) doctor.Facts {
	return survey.Look(ctx, survey.Config{Host: e.cfg.Node, NFTables: nftables.Survey, Run: host.RealRunner{}, Root: "/"})
}

func now() api.Time { return api.Time{Time: time.Now().UTC().Truncate(time.Second)} }

// doctor makes the report of ripstop doctor. What the resources say is left
// out if they cannot be read.
func (e *examiner) doctor(ctx context.Context) (*api.DoctorReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := doctor.Settings{Stopped: e.stopped}
	facts := e.look(ctx)
	objs, _, err := e.picture(ctx)
	if err != nil {
		facts.Unseen = append(facts.Unseen, "resources: "+err.Error())
	}
	s.Workloads, s.ForwardPolicies = ofForwarding(e.cfg.Node, objs)
	r := doctor.Examine(facts, s)
	r.At = now()
	return &r, ctx.Err()
}

// exposure makes the report of ripstop exposure.
func (e *examiner) exposure(ctx context.Context) (*api.ExposureReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	objs, source, err := e.picture(ctx)
	if err != nil {
		return nil, fmt.Errorf("exposure: %w", err)
	}
	r := doctor.Expose(e.look(ctx), objs, e.options())
	r.At, r.Source = now(), source
	return &r, ctx.Err()
}

// picture is the resources that are enforced: what is held is not, and then
// the last confirmed picture on disk is what is.
func (e *examiner) picture(ctx context.Context) (objs []api.Object, source string, err error) {
	var events []api.Event
	if e.board != nil && e.board.Held() != "" {
		known, err := snapshot.Peek(snapshotConfig(e.cfg, e.log, nil))
		if err != nil {
			return nil, "", err
		}
		events, source = eventsOf(known.Known), "the snapshot, since a picture is held"
	} else if events, source, err = pictureNow(ctx, e.cfg, e.log); err != nil {
		return nil, "", err
	}
	for _, ev := range events {
		if ev.Object != nil {
			objs = append(objs, ev.Object)
		}
	}
	return objs, source, nil
}

// options are what holds where the resources say nothing: the failsafes that
// the agent has in force, else those of its configuration.
func (e *examiner) options() policy.Options {
	in, out := e.cfg.Failsafes()
	o := policy.Options{FailsafeInbound: []policy.Failsafe{}, FailsafeOutbound: []policy.Failsafe{}}
	for _, f := range in {
		o.FailsafeInbound = append(o.FailsafeInbound, policy.Failsafe(f))
	}
	for _, f := range out {
		o.FailsafeOutbound = append(o.FailsafeOutbound, policy.Failsafe(f))
	}
	return o
}

// ofForwarding counts this host's workloads, and tells whether a policy judges
// what is forwarded.
func ofForwarding(node string, objs []api.Object) (workloads int, policies bool) {
	for _, o := range objs {
		switch x := o.(type) {
		case *api.WorkloadEndpoint:
			if x.Spec.Node == node {
				workloads++
			}
		case *api.GlobalNetworkPolicy:
			policies = policies || x.Spec.ApplyOnForward
		case *api.NetworkPolicy:
			policies = policies || x.Spec.ApplyOnForward
		}
	}
	return workloads, policies
}

// errWorry tells Main that the doctor found something to worry about.
var errWorry = errors.New("the doctor found something to worry about")

// outsider makes the examiner of a program that is not the agent.
func outsider(cfg config.Config, log *slog.Logger) *examiner {
	c, err := net.DialTimeout("unix", filepath.Join(cfg.RunDir, status.SocketName), time.Second)
	if err == nil {
		c.Close()
	}
	return &examiner{cfg: cfg, log: log, stopped: err != nil && !errors.Is(err, fs.ErrPermission)}
}

// printDoctor is ripstopd --doctor.
func printDoctor(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer) error {
	r, err := outsider(cfg, log).doctor(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, r)
	if r.Worry() {
		return errWorry
	}
	return nil
}

// printExposure is ripstopd --exposure.
func printExposure(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer) error {
	r, err := outsider(cfg, log).exposure(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, r.Text(true))
	return nil
}
