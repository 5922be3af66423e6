// SPDX-License-Identifier: Apache-2.0

// Package stepback lets a host go back by itself to what was enforced before
// the last changes of policy reached it: when the datastore, the server or the
// network is away, or nobody knows yet what to write. It stands in the stream
// from the store, before everything that takes it:
//
//	watcher ─► Filter ─► trial ─► enforced, saved
//	             │
//	             └─ journal: what resources were before, the last changes first
//
// A step back takes the last entry from the journal and holds its resources at
// their earlier values, in the rules and on disk, over restarts and reboots. A
// resource that is held is let go when somebody writes it anew: a repair gets
// through. Undo lets all go.
//
// The journal has resources that say which packets may pass, and of endpoints
// this host's. What comes without a pause of two seconds is one change.
// Changes of network sets alone, which some programs make all day, are one, too,
// so that they do not push out what people have changed.
package stepback

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// Bounds of the journal: how many changes, and bytes of values, it keeps.
const (
	maxChanges = 32
	maxValues  = 4 << 20
)

// pause ends a change.
const pause = 2 * time.Second

// ErrNothing: the journal is empty.
var ErrNothing = errors.New("no change is known to go back before: none has reached this host since its agent was first started, all were gone back before, or the last one was too large to be kept")

// Config is what a Filter needs.
type Config struct {
	// Next takes the stream.
	Next syncer.Sink
	// Stored remembers how an object is saved at this moment, and looks it up
	// when what it returns is called.
	Stored func(api.Key) func() api.Object
	// Node is this host's name.
	Node string
	// Known tells that there was a state before the stream began: else the first
	// listing is no change. Revision is that state's.
	Known    bool
	Revision api.Revision
	// Dir is the agent's directory.
	Dir string
	// Record puts on disk that somebody goes back, or undoes it.
	Record func(verb, by, message string) error
	// Changed is told whenever more or less is held; nil: nothing is. It must
	// not call back.
	Changed func(*api.SteppedBack)
	Log     *slog.Logger
	// Clock is the machine's if nil.
	Clock host.Clock
}

// Filter is a syncer.Sink. Its methods may be called by any goroutine.
type Filter struct {
	cfg Config

	mu      sync.Mutex // guards all below, and the order of what goes to Next
	journal []*entry
	last    time.Time // when the last entry got something, monotonic
	held    map[api.Key]*hold
	since   api.Time
	by      string
	seen    api.Revision // the highest that the stream has told of
	writing bool         // the stream's changes go into the journal
	dirty   bool         // the journal has something that is not on disk
	news    chan struct{}
}

// entry is one change: what its resources were before, and are after it.
type entry struct {
	At      api.Time `json:"at"`
	Objects []object `json:"objects"`
}

// object is a resource as it was.
type object struct {
	Kind      api.Kind         `json:"kind"`
	Namespace string           `json:"namespace,omitempty"`
	Name      string           `json:"name"`
	Before    api.ChangedValue `json:"before,omitzero"`
	After     api.ChangedValue `json:"after,omitzero"`
	// before and after look Before and After up, if that was not done yet.
	before, after func() api.Object
}

func (o object) key() api.Key { return api.Key{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name} }

// hold is a resource that is held at an earlier value.
type hold struct {
	// Value is what is enforced, Live what the store has.
	Value api.ChangedValue `json:"value,omitzero"`
	Live  api.ChangedValue `json:"live,omitzero"`
	// Seen is the revision up to which the store's word does not count.
	Seen api.Revision `json:"seen"`
	// Before is when the change was made that is left out.
	Before api.Time `json:"before"`
}

// New gives a Filter that goes on with what the agent before left.
func New(c Config) *Filter {
	if c.Clock == nil {
		c.Clock = host.RealClock{}
	}
	f := &Filter{cfg: c, held: map[api.Key]*hold{}, seen: c.Revision, writing: c.Known, news: make(chan struct{}, 1)}
	f.load()
	f.tellLocked()
	return f
}

// Begin passes on what is held: to those who keep the stream's picture it may
// be new, if the agent before was killed as it went back.
func (f *Filter) Begin(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cfg.Next.Events(ctx, f.heldEventsLocked())
}

// Phase passes p on.
func (f *Filter) Phase(ctx context.Context, p syncer.Phase) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p == syncer.InSync {
		f.writing = true
	}
	return f.cfg.Next.Phase(ctx, p)
}

// Events takes note of changes and passes on all but those of what is held.
func (f *Filter) Events(ctx context.Context, evs []api.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	passed := evs
	if len(f.held) > 0 {
		passed = slices.DeleteFunc(slices.Clone(evs), f.withholdLocked)
	}
	for _, ev := range evs {
		f.seen = max(f.seen, ev.Revision)
	}
	if f.writing {
		f.noteLocked(passed)
	}
	return f.cfg.Next.Events(ctx, passed)
}

// withholdLocked reports whether an event is of a resource that stays held. One
// that was written anew is let go.
func (f *Filter) withholdLocked(ev api.Event) bool {
	h := f.held[ev.Key]
	if h == nil {
		return false
	}
	// That a resource is gone which was gone before is nothing new: whoever
	// compares a listing with what is saved here is told so again and again.
	gone := ev.Object == nil && h.Live.Absent()
	if ev.Revision <= h.Seen || gone {
		if v, err := api.NewChangedValue(ev.Object); err == nil {
			h.Live = v
		}
		return true
	}
	delete(f.held, ev.Key)
	f.cfg.Log.Warn("A resource that this host had gone back on was written anew and is enforced", "key", ev.Key.String(), "revision", int64(ev.Revision))
	if err := f.saveLocked(); err != nil {
		f.cfg.Log.Warn("That a resource was let go is not on disk yet, it is tried again: until then a restart would hold it", "key", ev.Key.String(), "err", err)
	}
	f.tellLocked()
	return false
}

// Back holds the resources of the last change at what they were before it. by
// says who wants it.
func (f *Filter) Back(ctx context.Context, by string) (api.SteppedBack, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookUpLocked()
	if len(f.journal) == 0 {
		return api.SteppedBack{}, ErrNothing
	}
	e := f.journal[len(f.journal)-1]
	f.journal = f.journal[:len(f.journal)-1]
	f.last = time.Time{}
	var evs []api.Event
	for _, o := range e.Objects {
		k := o.key()
		v, err := o.Before.Object(k)
		if err != nil {
			f.cfg.Log.Error("What was before a change cannot be read, so it stays as it is", "key", k.String(), "err", err)
			continue
		}
		h := f.held[k]
		if h == nil {
			h = &hold{Live: o.After} // no later change is of it
			f.held[k] = h
		}
		h.Value, h.Seen, h.Before = o.Before, f.seen, e.At
		evs = append(evs, api.Event{Key: k, Object: v})
	}
	f.since, f.by = api.Time{Time: f.cfg.Clock.Now().UTC().Truncate(time.Second)}, by
	f.cfg.Log.Warn("This host has gone back before a change, at its operator's will", "by", by, "change", e.At.Format(time.RFC3339), "resources", len(evs))
	// On disk before it is in force, so that a restart does not undo it. What
	// cannot be written down is done all the same: it is an emergency.
	err := errors.Join(f.saveLocked(), f.cfg.Record("rollback", by, "back before the change of "+e.At.Format(time.RFC3339)))
	f.tellLocked()
	return *f.statusLocked(), errors.Join(f.cfg.Next.Events(ctx, evs), err)
}

// Undo lets everything go: the store's word counts again. It reports whether
// anything was held.
func (f *Filter) Undo(ctx context.Context, by string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.held) == 0 {
		return false, nil
	}
	var evs []api.Event
	var errs []error
	for _, k := range f.keysLocked() {
		v, err := f.held[k].Live.Object(k)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		evs = append(evs, api.Event{Key: k, Object: v})
		delete(f.held, k)
	}
	f.last = time.Time{} // it is a change of its own
	f.noteLocked(evs)
	f.last = time.Time{}
	f.lookUpLocked()
	f.cfg.Log.Warn("The datastore's word counts again on this host", "by", by, "resources", len(evs))
	err := errors.Join(f.saveLocked(), f.cfg.Record("rollback-undo", by, "the datastore's word counts again"))
	f.tellLocked()
	return true, errors.Join(f.cfg.Next.Events(ctx, evs), errors.Join(errs...), err)
}

// heldEventsLocked are the events of what is held. At what revision it was
// stored nobody says: zero, which the next listing settles.
func (f *Filter) heldEventsLocked() []api.Event {
	var evs []api.Event
	for _, k := range f.keysLocked() {
		if v, err := f.held[k].Value.Object(k); err == nil { // read before it was held
			evs = append(evs, api.Event{Key: k, Object: v})
		}
	}
	return evs
}

func (f *Filter) keysLocked() []api.Key {
	keys := make([]api.Key, 0, len(f.held))
	for k := range f.held {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, api.Key.Compare)
	return keys
}

// statusLocked says what is held; nil: nothing is.
func (f *Filter) statusLocked() *api.SteppedBack {
	s := &api.SteppedBack{Since: f.since, By: f.by, Count: len(f.held), Left: len(f.journal)}
	for i, k := range f.keysLocked() {
		if i < api.MaxSteppedBack {
			s.Resources = append(s.Resources, k.String())
		}
		if at := f.held[k].Before; s.Before.IsZero() || at.Before(s.Before.Time) {
			s.Before = at
		}
	}
	return s
}

func (f *Filter) tellLocked() {
	if f.cfg.Changed == nil {
		return
	}
	if len(f.held) == 0 {
		f.cfg.Changed(nil)
		return
	}
	f.cfg.Changed(f.statusLocked())
}
