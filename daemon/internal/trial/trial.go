// SPDX-License-Identifier: Apache-2.0

// Package trial is a host's part of a change that undoes itself (api.Change).
// It stands between the stream from the store and those who take it:
//
//	                    ┌─► enforced: the values of now, or, once this host has
//	watcher ─► Filter ──┤             gone back, those from before the change
//	                    └─► saved:    those from before the change, until it is
//	                                  confirmed: the snapshot on disk is always
//	                                  the last confirmed state
//
// A host goes back when nobody has confirmed the change in time, by a timer of
// its own, when a probe fails, or when the store says that the change is rolled
// back. It needs neither the store nor the network for it, and it goes on after
// a restart: what is open is in a file. A machine that is started anew enforces
// the snapshot, so it has gone back.
//
// It stays so until the store agrees: until the change is confirmed or deleted,
// or is rolled back and all its objects have been seen as they were restored.
package trial

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// Config is what a Filter needs.
type Config struct {
	// Enforced and Saved take the stream.
	Enforced, Saved syncer.Sink
	// Kinds are those that the stream tells of; nil: all.
	Kinds []api.Kind
	// Dir is the agent's directory: open changes are kept there.
	Dir string
	// Changed, if not nil, is told of the open changes whenever they have
	// changed. It must not call back.
	Changed func([]api.OpenChange)
	Log     *slog.Logger
	// Clock is the machine's if nil.
	Clock host.Clock
}

// Filter is a syncer.Sink. Events and Phase are called by one goroutine, as of
// every Sink; the other methods by any.
type Filter struct {
	cfg  Config
	news chan struct{} // has room for one: a deadline may have changed

	mu     sync.Mutex // guards all below
	open   map[string]*open
	held   map[api.Key]string    // key → the open change that it is part of
	shadow map[api.Key]api.Event // the last live event of a key that is held
	seen   map[string]bool       // changes that this stream has told of
	live   bool                  // the stream was InSync once
	// recent are events of the last moments, in two generations: an object
	// may come before the change that it is part of.
	recent [2]map[api.Key]api.Event
	turned time.Time
}

// recentTime is how long a generation of recent events lasts. Events of two
// kinds overtake each other by milliseconds.
const recentTime = 10 * time.Second

// rememberLocked keeps an event for a moment. Those of the first listing are
// not kept: it tells of changes first.
func (f *Filter) rememberLocked(ev api.Event) {
	if !f.live {
		return
	}
	if f.recent[0] == nil {
		f.recent[0] = map[api.Key]api.Event{}
	}
	f.recent[0][ev.Key] = ev
}

func (f *Filter) forgetLocked(now time.Time) {
	if now.Sub(f.turned) > recentTime {
		f.recent, f.turned = [2]map[api.Key]api.Event{nil, f.recent[0]}, now
	}
}

// earlyLocked is the event of a key that came before its change, which was
// written at rev.
func (f *Filter) earlyLocked(k api.Key, rev api.Revision) (api.Event, bool) {
	for _, generation := range f.recent {
		if ev, is := generation[k]; is {
			return ev, ev.Revision > rev
		}
	}
	return api.Event{}, false
}

// open is a change that is neither confirmed nor over.
type open struct {
	change   *api.Change
	deadline time.Time // with a monotonic reading
	until    time.Time // the same by the wall clock of then
	back     bool      // this host enforces the values from before
	reason   string    // why
	restored bool      // the store has gone back too
	whole    bool      // it had when the first listing was made: that tells of all it restored
}

// New gives a Filter that goes on with what the agent before left open.
func New(c Config) *Filter {
	if c.Clock == nil {
		c.Clock = host.RealClock{}
	}
	f := &Filter{cfg: c, news: make(chan struct{}, 1), open: map[string]*open{}, held: map[api.Key]string{},
		shadow: map[api.Key]api.Event{}, seen: map[string]bool{}}
	for _, o := range f.load() {
		f.open[o.change.Name] = o
		if !o.back && !o.deadline.After(c.Clock.Now()) {
			// Now, so that nothing new is enforced before Run looks.
			o.back, o.reason = true, ReasonTimeout
		}
		f.holdLocked(o)
	}
	f.tellLocked()
	return f
}

// holdLocked makes the keys of a change held by it. Of two changes with one
// object, which the server does not let come about, the first holds it.
func (f *Filter) holdLocked(o *open) {
	for _, obj := range o.change.Spec.Objects {
		if _, taken := f.held[obj.Key()]; !taken {
			f.held[obj.Key()] = o.change.Name
		}
	}
}

// Phase passes p on. At the first InSync the stream has told of all changes
// there are: those that it has not told of were confirmed meanwhile.
func (f *Filter) Phase(ctx context.Context, p syncer.Phase) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p == syncer.InSync && !f.live {
		f.live = true
		for _, name := range slices.Sorted(maps.Keys(f.open)) {
			if !f.seen[name] {
				if err := f.closeLocked(ctx, name); err != nil {
					return err
				}
			}
		}
		for _, o := range f.open {
			o.whole = o.restored
		}
		if err := f.closeCaughtUpLocked(ctx); err != nil {
			return err
		}
	}
	if err := f.cfg.Enforced.Phase(ctx, p); err != nil {
		return err
	}
	return f.cfg.Saved.Phase(ctx, p)
}

// Events sorts out who gets what.
func (f *Filter) Events(ctx context.Context, evs []api.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// First what is opened, last what is closed: so that whatever else is in
	// the batch is held while it has to be.
	for _, ev := range evs {
		if c, is := ev.Object.(*api.Change); is {
			if err := f.openLocked(ctx, ev, c); err != nil {
				return err
			}
		}
	}
	var enforced, saved []api.Event
	f.forgetLocked(f.cfg.Clock.Now())
	for _, ev := range evs {
		name, isHeld := f.held[ev.Key]
		if !isHeld || ev.Key.Name == "" {
			if ev.Key.Kind != api.KindChange || ev.Key.Name == "" {
				f.rememberLocked(ev)
				enforced, saved = append(enforced, ev), append(saved, ev)
			}
			continue
		}
		f.shadow[ev.Key] = ev
		if !f.open[name].back {
			enforced = append(enforced, ev)
		}
	}
	if err := f.pass(ctx, enforced, saved); err != nil {
		return err
	}
	for _, ev := range evs {
		if ev.Key.Kind == api.KindChange && ev.Object == nil && ev.Key.Name != "" {
			if err := f.closeLocked(ctx, ev.Key.Name); err != nil {
				return err
			}
		}
	}
	return f.closeCaughtUpLocked(ctx)
}

// closeCaughtUpLocked ends the trials of changes that the store has undone.
func (f *Filter) closeCaughtUpLocked(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(f.open)) {
		if f.caughtUpLocked(f.open[name]) {
			if err := f.closeLocked(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Filter) pass(ctx context.Context, enforced, saved []api.Event) error {
	if len(enforced) > 0 {
		if err := f.cfg.Enforced.Events(ctx, enforced); err != nil {
			return err
		}
	}
	if len(saved) > 0 {
		return f.cfg.Saved.Events(ctx, saved)
	}
	return nil
}

// openLocked takes a Change as the store has it now.
func (f *Filter) openLocked(ctx context.Context, ev api.Event, c *api.Change) error {
	f.seen[c.Name] = true
	o := f.open[c.Name]
	if o == nil {
		if c.Status.Phase == api.ChangeRolledBack {
			return nil // this host has never heard of it
		}
		// Of two changes of one object the server begins the second only once
		// the store has gone back from the first, which is over then.
		for _, obj := range c.Spec.Objects {
			if first := f.open[f.held[obj.Key()]]; first != nil && first.restored {
				if err := f.closeLocked(ctx, first.change.Name); err != nil {
					return err
				}
			}
		}
		now := f.cfg.Clock.Now()
		o = &open{change: c, deadline: now.Add(c.Spec.Timeout.Duration), until: now.Add(c.Spec.Timeout.Duration).Round(0)}
		f.open[c.Name] = o
		f.holdLocked(o)
		f.cfg.Log.Warn("A change goes back unless it is confirmed", "change", c.Name, "user", c.Spec.User, "in", c.Spec.Timeout.String(), "objects", len(c.Spec.Objects))
		for _, obj := range c.Spec.Objects {
			if early, is := f.earlyLocked(obj.Key(), ev.Revision); is && f.held[obj.Key()] == c.Name {
				f.shadow[obj.Key()] = early
			}
		}
		// At what revision the old values were stored nobody says. Zero, which the
		// next listing settles: any other may be higher than that of an object
		// that is never written, and the store would look as if it had gone back
		// in time.
		if err := f.cfg.Saved.Events(ctx, f.before(o)); err != nil {
			return err
		}
	}
	o.change = c
	switch c.Status.Phase {
	case api.ChangeRollingBack, api.ChangeRolledBack:
		o.restored = c.Status.Phase == api.ChangeRolledBack
		if !o.back {
			if err := f.backLocked(ctx, o, c.Status.Reason); err != nil {
				return err
			}
		}
	}
	f.saveLocked()
	f.tellLocked()
	return nil
}

// before are the objects of a change as they were.
func (f *Filter) before(o *open) []api.Event {
	var evs []api.Event
	for _, obj := range o.change.Spec.Objects {
		k := obj.Key()
		if f.held[k] != o.change.Name {
			continue
		}
		v, err := obj.Before.Object(k)
		if err != nil {
			f.cfg.Log.Error("What was before a change cannot be read, so it stays as it is", "change", o.change.Name, "object", k.String(), "err", err)
			continue
		}
		evs = append(evs, api.Event{Key: k, Object: v})
	}
	return evs
}

// backLocked makes this host enforce what was before a change.
func (f *Filter) backLocked(ctx context.Context, o *open, reason string) error {
	o.back, o.reason = true, reason
	f.saveLocked() // before, so that a restart does not undo it
	f.cfg.Log.Warn("This host has gone back to what was before a change", "change", o.change.Name, "reason", reason)
	f.tellLocked()
	return f.cfg.Enforced.Events(ctx, f.before(o))
}

// caughtUpLocked reports whether the store has gone back and all that it has
// restored was seen.
func (f *Filter) caughtUpLocked(o *open) bool {
	// Before the stream is whole, an object that it has not told of may still
	// come with its new value.
	if !f.live || !o.restored || len(o.change.Status.Objects) != len(o.change.Spec.Objects) {
		return false
	}
	for i, obj := range o.change.Spec.Objects {
		r, k := o.change.Status.Objects[i], obj.Key()
		if f.cfg.Kinds != nil && !slices.Contains(f.cfg.Kinds, k.Kind) {
			continue // the stream never tells of it
		}
		last, seen := f.shadow[k]
		switch {
		case f.held[k] != o.change.Name || r.Left != "":
		case !seen && o.whole: // it is as it was before, and as it was saved
		case !seen: // it may still come; if it was never written, the change's end is waited for
			return false
		case r.Revision == 0 && last.Object != nil, last.Revision < r.Revision:
			return false
		}
	}
	return true
}

// closeLocked ends a trial: the store's word counts again.
func (f *Filter) closeLocked(ctx context.Context, name string) error {
	o := f.open[name]
	if o == nil {
		return nil
	}
	delete(f.open, name)
	var evs []api.Event
	for _, obj := range o.change.Spec.Objects {
		k := obj.Key()
		if f.held[k] != name {
			continue
		}
		delete(f.held, k)
		if ev, seen := f.shadow[k]; seen {
			evs = append(evs, ev)
			delete(f.shadow, k)
		}
	}
	f.cfg.Log.Info("A change is over", "change", name, "went_back", o.back)
	f.saveLocked()
	f.tellLocked()
	if o.back {
		return f.pass(ctx, evs, evs)
	}
	return f.pass(ctx, nil, evs)
}

// Back makes this host go back from a change for a reason, such as a probe that
// failed, and reports whether the change was open and this host had not.
func (f *Filter) Back(ctx context.Context, name, reason string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.open[name]
	if o == nil || o.back {
		return false, nil
	}
	return true, f.backLocked(ctx, o, reason)
}

// Open are the changes that are open, by name.
func (f *Filter) Open() []api.OpenChange {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.openChangesLocked()
}

func (f *Filter) openChangesLocked() []api.OpenChange {
	var out []api.OpenChange
	for _, name := range slices.Sorted(maps.Keys(f.open)) {
		o := f.open[name]
		out = append(out, api.OpenChange{Name: name, User: o.change.Spec.User, Until: api.Time{Time: o.until.UTC().Truncate(time.Second)},
			WentBack: o.back, Reason: o.reason, MustReach: o.change.Spec.MustReach})
	}
	return out
}

func (f *Filter) tellLocked() {
	if f.cfg.Changed != nil {
		f.cfg.Changed(f.openChangesLocked())
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// ReasonTimeout is why a host goes back from a change that nobody confirmed.
const ReasonTimeout = "nobody confirmed it in time"

// look is how often the deadlines are looked at at least: a timer does not
// count the time that a machine sleeps.
const look = 5 * time.Second

// Run goes back when a deadline has come, until ctx ends. After each it calls
// then, from a goroutine of its own, which tells the store.
func (f *Filter) Run(ctx context.Context, then func(ctx context.Context, name, reason string)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	f.mu.Lock()
	for name, o := range f.open { // the agent before may not have come to tell
		if reason := o.reason; o.back && !o.restored {
			wg.Go(func() { then(ctx, name, reason) })
		}
	}
	f.mu.Unlock()
	for {
		f.mu.Lock()
		f.forgetLocked(f.cfg.Clock.Now())
		wait, due := look, ""
		for _, name := range slices.Sorted(maps.Keys(f.open)) {
			o := f.open[name]
			if o.back {
				continue
			}
			now := f.cfg.Clock.Now()
			left := min(o.deadline.Sub(now), o.until.Sub(now.Round(0)))
			if left <= 0 {
				due = name
				break
			}
			wait = min(wait, left)
		}
		var err error
		if due != "" {
			err = f.backLocked(ctx, f.open[due], ReasonTimeout)
		}
		f.mu.Unlock()
		if err != nil {
			return fmt.Errorf("trial: %w", err)
		}
		if due != "" {
			wg.Go(func() { then(ctx, due, ReasonTimeout) })
			continue
		}
		t := f.cfg.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-f.news:
		case <-t.C():
		}
		t.Stop()
	}
}
