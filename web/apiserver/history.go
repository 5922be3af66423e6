// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	changes "github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/store"
)

// The history that people see (kind Revision): who changed what, when, and how
// it was before. What one user writes without a pause of historyPause is one
// revision. It is written when the requests are answered; what a crash cuts off
// is in the audit log, which is the record that counts.
const (
	historyPause = 2 * time.Second
	// historyLongest is how long a revision may grow.
	historyLongest = 30 * time.Second
	// historyQueue is how many writes may wait to be taken; more are left out.
	historyQueue = 4096
	// historyTime is how long the store may take to store a revision.
	historyTime = 15 * time.Second
)

// history keeps the history. Its methods may be called from many goroutines.
type history struct {
	store  store.Store
	log    *slog.Logger
	writes chan historyWrite
	// settles asks for all that was noted to be stored; what is in it is closed
	// when it is.
	settles chan chan struct{}
	ended   chan struct{} // closed when run ends
	// gap: something that was written is in no revision. The next one has no
	// values then, so that nobody goes back to before it.
	gap atomic.Bool
}

// historyWrite is one write, for the history.
type historyWrite struct {
	user, from, how string
	at              time.Time
	before, after   api.Object
}

func newHistory(st store.Store, log *slog.Logger) *history {
	return &history{store: st, log: log, writes: make(chan historyWrite, historyQueue), settles: make(chan chan struct{}), ended: make(chan struct{})}
}

// note takes a write that was done. It never waits.
func (h *history) note(r *request, before, after api.Object, now time.Time) {
	o := after
	if o == nil {
		o = before
	}
	if r.change != "" || !api.Changeable(o.Key().Kind) {
		return // a change has its own revision
	}
	// The handler goes on with the objects.
	w := historyWrite{user: r.id.User, from: r.from(), how: r.how(), at: now, before: copied(before), after: copied(after)}
	select {
	case h.writes <- w:
	default:
		h.gap.Store(true)
		h.log.Warn("Write left out of the history: too many at once", "key", o.Key().String(), "user", w.user)
	}
}

// copied is a copy of an object, or nil.
func copied(o api.Object) api.Object {
	if o == nil {
		return nil
	}
	return api.Clone(o)
}

// how is by what program a request is made: what kubectl and ripstop say of
// themselves.
func (r *request) how() string {
	agent := clip(r.UserAgent(), 40)
	if command := clip(r.Header.Get("Kubectl-Command"), 40); command != "" {
		return command
	}
	return agent
}

// growing is a revision that is not stored yet.
type growing struct {
	*api.RevisionRecord
	first, last time.Time
	// before and after are the ends of what was written, by key, in the order
	// of keys.
	keys          []api.Key
	before, after map[api.Key]api.Object
}

// run stores what is noted until ctx ends, and then what it has.
func (h *history) run(ctx context.Context) {
	defer close(h.ended)
	open := map[string]*growing{} // by user
	tick := time.NewTimer(historyPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.flushAll(context.WithoutCancel(ctx), open)
			return
		case w := <-h.writes:
			h.grow(ctx, open, w)
		case done := <-h.settles:
			h.flushAll(ctx, open)
			close(done)
		case <-tick.C:
		}
		now := time.Now()
		next := historyPause
		for user, g := range open {
			left := min(historyPause-now.Sub(g.last), historyLongest-now.Sub(g.first))
			if left > 0 {
				next = min(next, left)
				continue
			}
			delete(open, user)
			h.flush(ctx, g)
		}
		tick.Reset(max(next, 10*time.Millisecond))
	}
}

// settle has all that was noted stored, so that whoever reads the history next
// misses nothing, and what is recorded next stands behind it.
func (h *history) settle(ctx context.Context) {
	done := make(chan struct{})
	select {
	case h.settles <- done:
	case <-ctx.Done():
		return
	case <-h.ended:
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-h.ended:
	}
}

// flushAll stores all that was noted, what began first at first.
func (h *history) flushAll(ctx context.Context, open map[string]*growing) {
	for len(h.writes) > 0 {
		h.grow(ctx, open, <-h.writes)
	}
	all := slices.SortedFunc(maps.Values(open), func(x, y *growing) int { return x.first.Compare(y.first) })
	clear(open)
	for _, g := range all {
		h.flush(ctx, g)
	}
}

// grow adds a write to its user's revision. Of a resource that is in another
// user's, that one is stored first: what is earlier stands earlier.
func (h *history) grow(ctx context.Context, open map[string]*growing, w historyWrite) {
	id := w.user + "\x00" + w.how
	g := open[id]
	if g == nil {
		g = &growing{RevisionRecord: newRevision(w.user, w.from, w.how, w.at), first: time.Now(), before: map[api.Key]api.Object{}, after: map[api.Key]api.Object{}}
		open[id] = g
	}
	g.last = time.Now()
	o := w.after
	if o == nil {
		o = w.before
	}
	k := o.Key()
	for other, o := range open {
		if other != id && slices.Contains(o.keys, k) {
			delete(open, other)
			h.flush(ctx, o)
		}
	}
	if !slices.Contains(g.keys, k) {
		g.keys = append(g.keys, k)
		g.before[k] = w.before
	}
	g.after[k] = w.after
}

// newRevision is a revision without objects.
func newRevision(user, from, how string, at time.Time) *api.RevisionRecord {
	rev := &api.RevisionRecord{TypeMeta: api.TypeMeta{Kind: api.KindRevision, APIVersion: api.VersionOurs}}
	rev.Spec.User, rev.Spec.From, rev.Spec.How = user, from, how
	rev.Spec.At = api.Time{Time: at.UTC().Truncate(time.Second)}
	rev.Spec.Outcome = changes.OutcomeWritten
	return rev
}

// addObject adds an object to a revision. If it could not be read before, that
// value could not be written again, and the revision is one without values: it
// was there, and whoever went back would delete it.
func addObject(rev *api.RevisionRecord, k api.Key, before, after api.Object) {
	o := api.ChangedObject{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}
	if _, bad := before.(*api.Unreadable); bad {
		before, rev.Spec.WithoutValues = nil, true
	}
	var err error
	if o.Before, err = api.NewChangedValue(before); err == nil {
		o.After, err = api.NewChangedValue(after)
	}
	if err != nil {
		rev.Spec.WithoutValues = true
	}
	rev.Spec.Objects = append(rev.Spec.Objects, o)
}

// flush stores a revision.
func (h *history) flush(ctx context.Context, g *growing) {
	for _, k := range g.keys {
		addObject(g.RevisionRecord, k, g.before[k], g.after[k])
	}
	h.record(ctx, g.RevisionRecord)
}

func (h *history) record(ctx context.Context, rev *api.RevisionRecord) {
	ctx, cancel := context.WithTimeout(ctx, historyTime)
	defer cancel()
	// A change that is rolled back is passed over by whoever goes back, so that
	// its revision does not do.
	if rev.Spec.Change != "" && h.gap.Load() || rev.Spec.Change == "" && h.gap.Swap(false) {
		rev.Spec.WithoutValues = true
	}
	if err := changes.Record(ctx, h.store, rev); err != nil {
		h.gap.Store(true)
		h.log.Warn("History not written", "user", rev.Spec.User, "resources", len(rev.Spec.Objects), "err", err)
	}
}

// begun records a change that has begun.
func (h *history) begun(ctx context.Context, c *api.Change, how string, todo []*stagedWrite) {
	h.settle(ctx)
	rev := newRevision(c.Spec.User, c.Spec.From, how, c.Spec.At.Time)
	rev.Spec.Change, rev.Spec.Outcome = c.Name, changes.OutcomePending
	for _, w := range todo {
		addObject(rev, w.key, w.before, w.after)
	}
	h.record(ctx, rev)
}

// confirmed and over say what became of a change.
func (h *history) confirmed(ctx context.Context, c *api.Change) {
	h.outcome(ctx, c, changes.OutcomeConfirmed)
}

func (h *history) over(ctx context.Context, c *api.Change) {
	h.outcome(ctx, c, changes.OutcomeOf(c))
}

func (h *history) outcome(ctx context.Context, c *api.Change, outcome string) {
	if err := changes.SetOutcome(ctx, h.store, c.Name, outcome); err != nil {
		h.log.Warn("History not written", "change", c.Name, "err", err)
	}
}
