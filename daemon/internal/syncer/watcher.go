// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Times of a Watcher.
const (
	backoffFirst = 50 * time.Millisecond
	backoffMax   = 5 * time.Second
	// relistMax bounds the pause before a store that answers is listed anew.
	relistMax = time.Second
	// heldFirst and heldMax bound the pauses between looks at a held picture.
	heldFirst = 500 * time.Millisecond
	heldMax   = 10 * time.Second
	// callTimeout ends a listing that hangs; it doubles, up to callTimeoutMax,
	// when a listing needed longer.
	callTimeout    = 30 * time.Second
	callTimeoutMax = 8 * time.Minute
	// probeTimeout is how long a store may take to tell of one object before
	// it counts as away. With the 10 s after which a silent watch is given up
	// that makes less than 15 s until status says so.
	probeTimeout = 4 * time.Second
	// logEvery is the least time between two lines about the upstream.
	logEvery = 10 * time.Second
)

// Config is what a Watcher needs.
type Config struct {
	Store store.Store
	// Kinds are listed and watched. ClusterInformation is added if it is not
	// among them: the guard needs it.
	Kinds []api.Kind
	// Log takes at most one line in ten seconds, and one for each new reason
	// to hold a picture.
	Log *slog.Logger
	// Known is what the sink has been told already (by Replay) and what the
	// first listing is compared with. The Watcher sends only the difference.
	Known Known
	// Report, if not nil, is told of every change of the state, on Run's
	// goroutine. It must not block.
	Report func(State)
}

// State is how a Watcher stands.
type State struct {
	Phase Phase
	// Live: a picture of the store itself has been let through; before that
	// the sink has at most what a snapshot held.
	Live bool
	// Revision is the newest revision let through when this was reported;
	// events alone are not reported (see Batch.Revision).
	Revision api.Revision
	// Held tells of a picture that is not applied; nil: none.
	Held *Held
	// Err is why the store cannot be read just now.
	Err error
	// Since is when Phase, Held or Err last became what it is.
	Since time.Time
}

// Watcher is the Source that lists and watches a Store. Accept may be called
// from any goroutine.
//
//	┌► list all kinds ─► guard ─┬─► difference to what was sent ─► watch ─┐
//	│       ▲                   └─ held: keep all, look again later        │
//	│       └──────────────────────────┘                                   │
//	├── compacted, other cluster, older revision, not ready ◄──────────────┤
//	│                                                                      ▼
//	└──────────────────────── watch again from the last revision ◄── broken
//
// A watch that breaks is opened anew from where it was, after a look at the
// store whether it is still the same one. Nothing is lost and nothing is sent
// twice, because a kind's position moves only when the sink has taken its
// events. Listing is done for all kinds at once, at one revision.
type Watcher struct {
	cfg    Config
	accept chan struct{} // has room for one: an operator said yes

	mu         sync.Mutex // guards all below
	held       *Held
	acceptable Reason // what Accept agrees to; empty: nothing

	// All below belongs to Run's goroutine.
	known    picture                   // what the sink has been told
	at       map[api.Kind]api.Revision // watch goes on after this
	pinned   bool                      // list all kinds at one revision
	timeout  time.Duration             // of a listing
	state    State
	lastLine time.Time
}

// New gives a Watcher that does nothing before Run.
func New(cfg Config) *Watcher {
	cfg.Kinds = slices.Clone(cfg.Kinds)
	if !slices.Contains(cfg.Kinds, api.KindClusterInformation) {
		cfg.Kinds = append(cfg.Kinds, api.KindClusterInformation)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{cfg: cfg, accept: make(chan struct{}, 1), pinned: true, timeout: callTimeout,
		at:    map[api.Kind]api.Revision{},
		known: picture{objects: cfg.Known.Objects, revision: cfg.Known.Revision, guid: cfg.Known.ClusterGUID, lost: cfg.Known.Lost}}
	if w.known.objects == nil {
		w.known.objects = &api.KeyMap[api.Revision]{}
	}
	w.cfg.Known = Known{}
	return w
}

// ErrNothingHeld is returned by Accept when there is nothing to accept.
var ErrNothingHeld = errors.New("no picture is held that could be accepted")

// Accept lets the picture that is held be applied: the next look at the store
// lets it through if it would be held for the same reason again. A picture
// that is NotReady cannot be accepted.
func (w *Watcher) Accept() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil || w.held.Reason == NotReady {
		return ErrNothingHeld
	}
	w.acceptable = w.held.Reason
	select {
	case w.accept <- struct{}{}:
	default:
	}
	return nil
}

// errRelist ends a session whose store must be looked at as a whole.
var errRelist = errors.New("store must be listed again")

// Run streams the store into sink until ctx ends, and then returns nil, or
// until the sink returns an error, which it returns. It is called once.
func (w *Watcher) Run(ctx context.Context, sink Sink) error {
	if err := w.phase(ctx, sink, Resyncing, nil); err != nil {
		return err
	}
	var failures backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := w.resync(ctx, sink)
		if err == nil {
			err = w.session(ctx, sink)
		}
		var se *sinkError
		if errors.As(err, &se) {
			return se.err
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > backoffMax {
			failures = 0 // it went well for a while
		}
		most := backoffMax
		switch {
		case errors.Is(err, errRelist), errors.Is(err, store.ErrCompacted):
			most = relistMax // the store answers
		case failures > 0 || !w.state.Live: // once is a hiccup, twice is away
			if err := w.phase(ctx, sink, Waiting, err); err != nil {
				return err
			}
		}
		pause(ctx, failures.next(backoffFirst, most))
	}
	return nil
}

// resync lists all kinds until the guard lets a listing through, and sends the
// difference. It returns an error if the store cannot be listed.
func (w *Watcher) resync(ctx context.Context, sink Sink) error {
	var looks backoff
	for {
		got, events, err := w.list(ctx)
		if err != nil {
			return err
		}
		if err := w.phase(ctx, sink, Resyncing, nil); err != nil {
			return &sinkError{err}
		}
		v := judge(&w.known, got, w.heldFor())
		anew := false
		if len(v.reasons) > 0 {
			if !w.accepted(v) {
				w.hold(v)
				select {
				case <-w.accept:
				case <-time.After(jitter(looks.next(w.firstLook(v), heldMax))):
				case <-ctx.Done():
					return ctx.Err()
				}
				continue
			}
			w.cfg.Log.Warn("syncer: held picture accepted by the operator", "why", v.held(time.Time{}).String())
			anew = true
		}
		w.release()
		return w.send(ctx, sink, got, w.difference(got, events, anew))
	}
}

// firstLook is the pause before the second look at a held picture: short while
// a new store is only being filled.
func (w *Watcher) firstLook(v verdict) time.Duration {
	if v.reasons[0] == NotReady && w.known.objects.Len() == 0 {
		return backoffFirst
	}
	return heldFirst
}

// difference is what the sink must be told so that it has got. anew: what was
// known is of another history, in which equal revisions mean nothing.
func (w *Watcher) difference(got *picture, events []api.Event, anew bool) []api.Event {
	out := make([]api.Event, 0, 16)
	for k := range w.known.objects.All() {
		if _, ok := got.objects.Get(k); !ok {
			out = append(out, api.Event{Key: k, Revision: got.revision})
		}
	}
	slices.SortFunc(out, func(a, b api.Event) int { return a.Key.Compare(b.Key) })
	for _, ev := range events {
		if rev, ok := w.known.objects.Get(ev.Key); anew || !ok || rev != ev.Revision || rev == 0 {
			out = append(out, ev)
		}
	}
	// The bookmark says how far the store is even if nothing has changed.
	return append(out, api.Event{Key: api.Key{Kind: api.KindClusterInformation}, Revision: got.revision})
}

// send gives the sink a picture in one piece and makes it what is known.
func (w *Watcher) send(ctx context.Context, sink Sink, got *picture, diff []api.Event) error {
	if err := sink.Events(ctx, diff); err != nil {
		return &sinkError{err}
	}
	w.known = *got
	w.state.Live = true
	w.state.Revision = got.revision
	if err := w.phase(ctx, sink, InSync, nil); err != nil {
		return &sinkError{err}
	}
	return nil
}

// list reads all kinds: at one revision if the store lets us.
func (w *Watcher) list(ctx context.Context) (*picture, []api.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	// A store that is away is not waited for as long as one that has much to
	// tell.
	soon, done := context.WithTimeout(ctx, probeTimeout)
	first, revision, err := w.cfg.Store.List(soon, api.KindClusterInformation, store.ListOptions{})
	done()
	if err != nil {
		return nil, nil, w.listError(ctx, api.KindClusterInformation, err)
	}
	lists := make([][]api.Object, len(w.cfg.Kinds))
	at := make([]api.Revision, len(w.cfg.Kinds))
	errs := make([]error, len(w.cfg.Kinds))
	var opts store.ListOptions
	if w.pinned {
		opts.Revision = revision
	}
	var wg sync.WaitGroup
	for i, kind := range w.cfg.Kinds {
		at[i], lists[i] = revision, first
		if kind == api.KindClusterInformation {
			continue
		}
		wg.Go(func() {
			var rev api.Revision
			lists[i], rev, errs[i] = w.cfg.Store.List(ctx, kind, opts)
			if opts.Revision == 0 {
				at[i] = rev
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, nil, w.listError(ctx, w.cfg.Kinds[i], err)
		}
	}
	w.pinned = true
	got := &picture{objects: &api.KeyMap[api.Revision]{}, revision: slices.Max(at)}
	var events []api.Event
	for i, objects := range lists {
		w.at[w.cfg.Kinds[i]] = at[i]
		for _, o := range objects {
			// Without a revision the object counts as changed each time.
			rev, _ := strconv.ParseInt(o.Metadata().ResourceVersion, 10, 64)
			events = append(events, api.Event{Key: o.Key(), Object: o, Revision: api.Revision(rev)})
			got.remember(o.Key(), api.Revision(rev))
			got.note(o)
			lighten(o)
		}
	}
	return got, events, nil
}

// listError names the kind and learns from the error.
func (w *Watcher) listError(ctx context.Context, kind api.Kind, err error) error {
	switch {
	case errors.Is(err, store.ErrCompacted):
		w.pinned = false // the store forgets faster than we list
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		w.timeout = min(w.timeout*2, callTimeoutMax)
	}
	return fmt.Errorf("listing %s: %w", kind, err)
}

// lighten takes from an object what only its writers want: who set which field
// (half of a small object that was applied with kubectl), and the text it was
// applied from.
func lighten(o api.Object) {
	m := o.Metadata()
	m.ManagedFields = nil
	delete(m.Annotations, lastApplied)
}

// lastApplied is the annotation in which kubectl keeps what was applied.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// remember notes an object. The key may be a part of something long.
func (p *picture) remember(k api.Key, rev api.Revision) {
	k.Namespace, k.Name = strings.Clone(k.Namespace), strings.Clone(k.Name)
	p.objects.Set(k, rev)
}

// note takes from o what the guard wants to know.
func (p *picture) note(o api.Object) {
	if ci, ok := o.(*api.ClusterInformation); ok && ci.Name == api.DefaultName {
		p.guid = ci.Spec.ClusterGUID
		p.ready = ci.Spec.DatastoreReady != nil && *ci.Spec.DatastoreReady
	}
}

// accepted tells whether the operator has agreed to what v says.
func (w *Watcher) accepted(v verdict) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return v.reasons[0] != NotReady && w.acceptable == v.reasons[0]
}

// heldFor is why a picture is held, empty: none is.
func (w *Watcher) heldFor() Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		return ""
	}
	return w.held.Reason
}

// hold notes that a picture is not applied.
func (w *Watcher) hold(v verdict) {
	now := time.Now()
	h := v.held(now)
	w.mu.Lock()
	if w.held != nil && w.held.Reason == h.Reason {
		h.Since = w.held.Since
	}
	news := w.held == nil || *w.held != *h
	another := w.held == nil || w.held.Reason != h.Reason
	w.held, w.acceptable = h, ""
	w.mu.Unlock()
	if !news {
		return
	}
	if h.Reason == NotReady && w.known.objects.Len() == 0 {
		w.line(slog.LevelInfo, "Waiting for the datastore to be ready", "details", h.Details)
		return
	}
	if another { // it is too grave to be lost behind a line of just before
		w.lastLine = time.Time{}
	}
	w.line(slog.LevelError, "Picture held, what was enforced stays enforced", "reason", h.Reason, "details", h.Details)
	w.state.Held, w.state.Since = h, now
	w.report()
}

// release notes that nothing is held.
func (w *Watcher) release() {
	w.mu.Lock()
	was := w.held
	w.held, w.acceptable = nil, ""
	w.mu.Unlock()
	select {
	case <-w.accept:
	default:
	}
	if was != nil {
		w.state.Held, w.state.Since = nil, time.Now()
	}
}

// phase tells sink and board how the stream stands, if that has changed.
func (w *Watcher) phase(ctx context.Context, sink Sink, p Phase, why error) error {
	changed := w.state.Since.IsZero() || p != w.state.Phase
	if p == Waiting {
		w.line(slog.LevelWarn, "syncer: datastore is away, what was enforced stays enforced", "err", why)
	}
	if !changed && (why == nil) == (w.state.Err == nil) {
		return nil
	}
	back := w.state.Phase == Waiting && p == InSync && !w.state.Since.IsZero()
	if changed {
		if err := sink.Phase(ctx, p); err != nil {
			return err
		}
		w.state.Since = time.Now()
	}
	w.state.Phase, w.state.Err = p, why
	if back {
		w.line(slog.LevelInfo, "syncer: datastore is back", "revision", w.known.revision)
	}
	w.report()
	return nil
}

func (w *Watcher) report() {
	if w.cfg.Report != nil {
		w.cfg.Report(w.state)
	}
}

// line logs unless it did so just now.
func (w *Watcher) line(level slog.Level, msg string, args ...any) {
	now := time.Now()
	if !w.lastLine.IsZero() && now.Sub(w.lastLine) < logEvery {
		return
	}
	w.lastLine = now
	w.cfg.Log.Log(context.Background(), level, msg, args...)
}

// sinkError is an error of the sink, which ends Run.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// backoff counts tries.
type backoff int

// next is the pause after one more failed try.
func (b *backoff) next(first, most time.Duration) time.Duration {
	d := most
	if *b < 16 {
		d = min(most, first<<*b)
	}
	*b++
	return jitter(d)
}

// jitter moves d up or down by at most a quarter.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.5*float64(d))
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
