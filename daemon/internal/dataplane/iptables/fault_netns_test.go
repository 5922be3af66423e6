// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var faultRounds = flag.Int("fault-rounds", 150, "how many changes are made while programs fail")

// faulty runs programs that fail in all ways, now and then.
type faulty struct {
	host.Runner
	r      *rand.Rand
	faults int
	off    bool
}

func (f *faulty) Run(ctx context.Context, c host.Cmd) ([]byte, error) {
	if f.off || f.r.IntN(4) > 0 {
		return f.Runner.Run(ctx, c)
	}
	f.faults++
	switch f.r.IntN(6) {
	case 0: // refused
		return nil, &host.ExitError{Path: c.Path, Code: 1, Stderr: "iptables-restore: line 3 failed"}
	case 1: // the lock was not to be had
		return nil, &host.ExitError{Path: c.Path, Code: 4, Stderr: "Another app is currently holding the xtables lock; still -9s 0us time ahead to have a chance to grab the lock..."}
	case 2: // missing
		return nil, fmt.Errorf("%s: %w", c.Path, exec.ErrNotFound)
	case 3: // killed after it was done
		if out, err := f.Runner.Run(ctx, c); err != nil {
			return out, err
		}
		return nil, &host.ExitError{Path: c.Path, Code: -1}
	case 4: // output cut off
		out, err := f.Runner.Run(ctx, c)
		return out[:len(out)/2], err
	}
	time.Sleep(20 * time.Millisecond) // slow
	return f.Runner.Run(ctx, c)
}

// stubborn reconciles as the loop does: until it succeeds.
type stubborn struct {
	*iptables.Filter
	failures int
}

func (s *stubborn) Reconcile(ctx context.Context) (time.Duration, error) {
	var err error
	for range 200 {
		var again time.Duration
		if again, err = s.Filter.Reconcile(ctx); err == nil {
			return again, nil
		}
		s.failures++
	}
	return 0, err
}

// TestNetnsFaults: programs fail in all ways while the rules are changed all
// the time. Packets whose verdict does not change never see another one, and
// when the faults end, all is as wanted.
func TestNetnsFaults(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		r := filtertest.Rand(t)
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		run := &faulty{Runner: inNS{inj.NS}, r: r, off: true}
		cfg := config(v)
		cfg.Run = run
		f := &stubborn{Filter: open(t, inj.NS, cfg)}
		filtertest.WantAll(f, filtertest.DriftState())
		reconcile(t, f.Filter)
		run.off = false
		rounds := *faultRounds
		if testing.Short() {
			rounds = 20
		}
		var tally filtertest.Tally
		done := make(chan error, 1)
		go func() {
			done <- filtertest.Churn(t.Context(), rand.New(rand.NewPCG(5, 5)), f, func(i int) bool { return i < rounds })
		}()
		for running := true; running; {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				running = false
			default:
			}
			for range 25 {
				tally.Probe(inj)
			}
		}
		run.off = true
		began := time.Now()
		f.Resync() // what was believed during the faults is read back
		reconcile(t, f.Filter)
		if err := f.Verify(t.Context()); err != nil {
			t.Errorf("after the faults: %v", err)
		}
		for range 100 {
			tally.Probe(inj)
		}
		t.Logf("%d rounds, %d faults, %d failed passes: %v; whole again after %v", rounds, run.faults, f.failures, &tally, time.Since(began).Round(time.Millisecond))
		if tally.Admitted+tally.Cut > 0 {
			t.Error(&tally)
		}
	})
}

// TestNetnsMissingLater: programs that go away while we run are an error that
// says so, and the rules stay in force.
func TestNetnsMissingLater(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	run := &gone{Runner: inNS{inj.NS}}
	cfg := config(iptables.Legacy)
	cfg.Run = run
	f := open(t, inj.NS, cfg)
	filtertest.WantAll(f, filtertest.DriftState())
	reconcile(t, f)
	run.gone = true
	f.Want(filtertest.ChainID("ep"), filtertest.DriftState().Chains["in"])
	if _, err := f.Reconcile(t.Context()); !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "iptables-legacy") {
		t.Errorf("Reconcile without programs: %v, want an error that names one", err)
	}
	if got := openPorts(inj, 80, 81, 95); got != "80 95" {
		t.Errorf("open %s, want 80 95", got)
	}
}

type gone struct {
	host.Runner
	gone bool
}

func (g *gone) Run(ctx context.Context, c host.Cmd) ([]byte, error) {
	if g.gone {
		return nil, fmt.Errorf("%s: %w", c.Path, exec.ErrNotFound)
	}
	return g.Runner.Run(ctx, c)
}
