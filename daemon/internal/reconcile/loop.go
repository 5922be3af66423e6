// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

// Back-off of a Part that returned an error or panicked.
const (
	backoffFirst = 20 * time.Millisecond
	backoffMax   = 10 * time.Second
	// backoffWoken is the longest that news wait for a failing Part: what
	// has just been asked for may be the cure.
	backoffWoken = time.Second
)

// Config is what a Loop needs.
type Config struct {
	// Name is the lane's name, for logs and reports.
	Name string
	// Parts are moved in this order in every turn.
	Parts []Part
	// Before, if not nil, is called on the Loop's goroutine at the start of
	// each turn: it takes what is new and plans. An error or a panic is
	// reported and tried again with back-off; the Parts have their turn all
	// the same.
	Before func(ctx context.Context) error
	// Log takes errors of Parts: the Loop is where they are told.
	Log *slog.Logger
	// Clock is the machine's if nil.
	Clock host.Clock
	// ResyncEvery is how often all Parts forget what they believe, give or
	// take 10 %. Zero: only when asked.
	ResyncEvery time.Duration
	// Report, if not nil, is told of every turn, on the Loop's goroutine. It
	// must not block.
	Report func(Report)
}

// Report tells of one turn of a Loop.
type Report struct {
	Loop string
	// Turn counts turns from 1.
	Turn uint64
	// Started is when the turn began, Duration how long it took.
	Started  time.Time
	Duration time.Duration
	// Open tells whether the gate was open: if not, no Part was called.
	Open bool
	// Before is the error of Config.Before.
	Before error
	// Parts are those that had their turn, in order.
	Parts []PartReport
}

// PartReport tells of one pass of one Part.
type PartReport struct {
	Part string
	// Err is the Part's error; a *PanicError if it panicked.
	Err      error
	Duration time.Duration
	// Again is what the Part asked for.
	Again time.Duration
	// Resynced: the Part was told to forget before this pass.
	Resynced bool
	// Failures counts the failed passes in a row, this one included.
	Failures int
}

// PanicError is a panic of a Part (or of Before), caught by the Loop.
type PanicError struct {
	Value any
	Stack []byte
}

// Error is the value that was panicked with.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Loop moves Parts until the host is as wanted. It is the only thing that
// calls them, on one goroutine: Run's.
//
//	wake ─┐                       ┌─ gate shut: that was it
//	again ┼─► turn: Before, then ─┤
//	retry ┤                       └─ gate open: each Part that is due, in order
//	resync┘
//
// A Part that fails is called again after 20 ms, doubling to 10 s, give or
// take a quarter; the others go on. A Part that panics is treated alike and
// told to forget what it believed. All methods but Run may be called from any
// goroutine.
type Loop struct {
	cfg   Config
	lanes []*lane
	plan  lane // Before's own back-off
	wake  chan struct{}

	mu     sync.Mutex // guards all below
	open   bool
	resync map[string]bool // parts to be resynced; "" is all
	doing  string          // what runs now; empty: nothing
	since  time.Time       // doing began
}

// lane is the book that the Loop keeps on one Part.
type lane struct {
	part     Part
	resync   bool      // Resync before the next pass
	due      time.Time // zero: no pass asked for
	last     time.Time // of the last pass
	failures int
}

// NewLoop gives a Loop that is shut and does nothing before Run.
func NewLoop(cfg Config) *Loop {
	if cfg.Clock == nil {
		cfg.Clock = host.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Loop{cfg: cfg, wake: make(chan struct{}, 1), resync: map[string]bool{}}
	for _, p := range cfg.Parts {
		l.lanes = append(l.lanes, &lane{part: p})
	}
	return l
}

// Wake asks for a turn soon. Many calls before it begins make one turn.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Open opens the gate for good: from the next turn on Parts are called.
func (l *Loop) Open() {
	l.mu.Lock()
	l.open = true
	l.mu.Unlock()
	l.Wake()
}

// ResyncAll makes all Parts read the host anew in the next turn.
func (l *Loop) ResyncAll() { l.ResyncPart("") }

// ResyncPart makes the Part of that name read the host anew in the next turn.
// A name that no Part has: no effect.
func (l *Loop) ResyncPart(name string) {
	l.mu.Lock()
	l.resync[name] = true
	l.mu.Unlock()
	l.Wake()
}

// Check returns an error if the Loop has been inside one call for longer than
// most: it hangs. It is what liveness asks.
func (l *Loop) Check(most time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doing == "" {
		return nil
	}
	if d := l.cfg.Clock.Now().Sub(l.since); d > most {
		return fmt.Errorf("%s: in %s for %s", l.cfg.Name, l.doing, d.Round(time.Second))
	}
	return nil
}

// do calls f, notes for Check that it runs, and makes an error of a panic.
func (l *Loop) do(what string, f func() error) error {
	note := func(what string) {
		l.mu.Lock()
		l.doing, l.since = what, l.cfg.Clock.Now()
		l.mu.Unlock()
	}
	note(what)
	defer note("")
	return caught(f)
}

// Run takes turns until ctx ends and then returns nil. The first turn comes at
// once. It is called once.
func (l *Loop) Run(ctx context.Context) error {
	clock := l.cfg.Clock
	timer := clock.NewTimer(0)
	defer timer.Stop()
	nextResync := l.afterResync(clock.Now())
	woken := true
	var turn uint64
	for {
		if ctx.Err() != nil {
			return nil
		}
		now := clock.Now()
		if !nextResync.IsZero() && !now.Before(nextResync) {
			nextResync = l.afterResync(now)
			l.ResyncAll()
			woken = true
		}
		turn++
		l.turn(ctx, turn, woken)
		if d, ok := l.pause(clock.Now(), nextResync); ok {
			timer.Reset(d)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
			woken = true
		case <-timer.C():
			woken = false
		}
	}
}

// turn is one turn. woken: something new was said.
func (l *Loop) turn(ctx context.Context, n uint64, woken bool) {
	clock := l.cfg.Clock
	r := Report{Loop: l.cfg.Name, Turn: n, Started: clock.Now()}
	if l.cfg.Before != nil && (woken || l.plan.isDue(r.Started)) {
		r.Before = l.do("planning", func() error { return l.cfg.Before(ctx) })
		l.plan.done(clock.Now(), r.Before, 0)
		l.tell("planning", l.plan, r.Before)
		woken = true // there may be a new plan
	}
	r.Open = l.takeRequests()
	if r.Open {
		for _, ln := range l.lanes {
			if ctx.Err() != nil {
				break
			}
			if ln.wants(clock.Now(), woken) {
				r.Parts = append(r.Parts, l.pass(ctx, ln))
			}
		}
	}
	r.Duration = clock.Now().Sub(r.Started)
	if l.cfg.Report != nil {
		l.cfg.Report(r)
	}
}

// takeRequests moves resync requests into the books and reports the gate.
func (l *Loop) takeRequests() (open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.lanes {
		if l.resync[""] || l.resync[ln.part.Name()] {
			ln.resync = true
		}
	}
	clear(l.resync)
	return l.open
}

// pass lets one Part have its turn.
func (l *Loop) pass(ctx context.Context, ln *lane) PartReport {
	r := PartReport{Part: ln.part.Name(), Resynced: ln.resync}
	start := l.cfg.Clock.Now()
	r.Err = l.do(r.Part, func() error {
		if ln.resync {
			ln.part.Resync()
			ln.resync = false
		}
		var err error
		r.Again, err = ln.part.Reconcile(ctx)
		return err
	})
	if p := (*PanicError)(nil); errors.As(r.Err, &p) {
		ln.resync = true // what it believes may be half a belief
	}
	end := l.cfg.Clock.Now()
	r.Duration = end.Sub(start)
	ln.done(end, r.Err, r.Again)
	r.Failures = ln.failures
	if ctx.Err() == nil {
		l.tell(r.Part, *ln, r.Err)
	}
	return r
}

// tell logs the error of a pass: the first, and then each that is twice as
// many failures later, so that a lasting fault does not flood the log.
func (l *Loop) tell(what string, ln lane, err error) {
	if err == nil || ln.failures&(ln.failures-1) != 0 {
		return
	}
	args := []any{"loop", l.cfg.Name, "part", what, "err", err, "failures", ln.failures, "retry", ln.due.Sub(ln.last).Round(time.Millisecond)}
	if p := (*PanicError)(nil); errors.As(err, &p) {
		args = append(args, "stack", string(p.Stack))
	}
	l.cfg.Log.Error("Part failed, it is tried again", args...)
}

// pause says how long nothing is due; ok is false if nothing ever is.
func (l *Loop) pause(now, nextResync time.Time) (d time.Duration, ok bool) {
	dues := []time.Time{nextResync, l.plan.due}
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	if open {
		for _, ln := range l.lanes {
			dues = append(dues, ln.due)
		}
	}
	dues = slices.DeleteFunc(dues, time.Time.IsZero)
	if len(dues) == 0 {
		return 0, false
	}
	return max(0, slices.MinFunc(dues, time.Time.Compare).Sub(now)), true
}

// afterResync is the time of the resync that follows one at now.
func (l *Loop) afterResync(now time.Time) time.Time {
	if l.cfg.ResyncEvery <= 0 {
		return time.Time{}
	}
	return now.Add(jitter(l.cfg.ResyncEvery, 0.10))
}

func (ln *lane) isDue(now time.Time) bool { return !ln.due.IsZero() && !now.Before(ln.due) }

// wants tells whether the Part has its turn now.
func (ln *lane) wants(now time.Time, woken bool) bool {
	if ln.isDue(now) {
		return true
	}
	if !woken {
		return ln.resync && ln.failures == 0
	}
	if ln.failures == 0 {
		return true
	}
	if sooner := ln.last.Add(backoffWoken); ln.due.After(sooner) {
		ln.due = sooner
	}
	return ln.isDue(now)
}

// done notes the outcome of a pass that ended now.
func (ln *lane) done(now time.Time, err error, again time.Duration) {
	ln.last, ln.due = now, time.Time{}
	if err != nil {
		ln.failures++
		d := backoffMax
		if n := ln.failures - 1; n < 16 {
			d = min(backoffMax, backoffFirst<<n)
		}
		ln.due = now.Add(jitter(d, 0.25))
		return
	}
	ln.failures = 0
	if again > 0 {
		ln.due = now.Add(max(again, time.Millisecond))
	}
}

// jitter moves d up or down by at most the share.
func jitter(d time.Duration, share float64) time.Duration {
	return d + time.Duration((rand.Float64()*2-1)*share*float64(d))
}

// caught calls f and makes an error of a panic.
func caught(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
