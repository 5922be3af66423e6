// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// A watch of a client is fed by a subscription. All subscriptions to a kind
// share one watch of the store, through the kind's feed, which keeps what it
// needs to tell an addition from a change and the last changes for clients
// that come back:
//
//	store.Watch ─► feed ─► window of the last changes
//	                 ├───► subscription (bounded) ─► client
//	                 └───► subscription (bounded) ─► client
//
// A client that comes back with a revision from before the window gets a
// store watch of its own; it has the same effect and costs more. A client
// that is too slow has its subscription cut and harms nobody else.

// change is one event with what was there before.
type change struct {
	key      api.Key
	revision api.Revision
	// object is nil if the resource is gone; prev is nil if it is new. Both
	// nil, and no name in key: a bookmark.
	object, prev api.Object

	once sync.Once
	json []byte
}

func (c *change) bookmark() bool { return c.key.Name == "" }

// shown is what the event shows: the object, or for a deletion the last state
// with the revision of the deletion.
func (c *change) shown() api.Object {
	if c.object != nil {
		return c.object
	}
	last := api.Clone(c.prev)
	last.Metadata().ResourceVersion = revisionText(c.revision)
	return last
}

// encoded is shown as JSON, made once for all clients.
func (c *change) encoded() []byte {
	c.once.Do(func() {
		data, err := json.Marshal(c.shown())
		if err != nil {
			return // api's types always marshal; writeEvent tells if not
		}
		c.json = data
	})
	return c.json
}

// errSlow ends the watch of a client that does not read fast enough.
var errSlow = errors.New("client is too slow for this watch")

// subscription is the stream of one client. Changes come from backlog first,
// then from ch until it is closed; then cut says why.
type subscription struct {
	after   api.Revision // only later changes are delivered
	backlog []*change
	ch      chan *change
	cut     error // set before ch is closed
	stop    func()
}

// next returns the next change, or an error after which there is no more.
// errTick: until tick nothing came. errClosing: drain was closed.
func (s *subscription) next(ctx context.Context, tick <-chan time.Time, drain <-chan struct{}) (*change, error) {
	if len(s.backlog) > 0 {
		c := s.backlog[0]
		s.backlog = s.backlog[1:]
		return c, nil
	}
	select {
	case c, open := <-s.ch:
		if !open {
			return nil, s.cut
		}
		return c, nil
	case <-tick:
		return nil, errTick
	case <-drain:
		return nil, errClosing
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errTick = errors.New("tick")

// feeds are the feeds of all kinds.
type feeds struct {
	store          store.Store
	log            *slog.Logger
	window, buffer int

	ctx    context.Context // ends all feeds
	cancel context.CancelFunc
	wg     sync.WaitGroup // of the feeds' goroutines

	mu     sync.Mutex // guards kinds and closed
	kinds  map[api.Kind]*feed
	closed bool
}

func newFeeds(st store.Store, log *slog.Logger, window, buffer int) *feeds {
	ctx, cancel := context.WithCancel(context.Background())
	return &feeds{store: st, log: log, window: window, buffer: buffer, ctx: ctx, cancel: cancel, kinds: map[api.Kind]*feed{}}
}

// close ends all feeds and waits for them.
func (f *feeds) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}

// linger is how long a feed without subscriptions goes on.
const linger = 30 * time.Second

// errClosing refuses subscriptions at the end.
var errClosing = errors.New("server is stopping")

// subscribe streams the changes of a kind after a revision. It returns
// store.ErrCompacted if they are forgotten. stop must be called at the end.
func (f *feeds) subscribe(ctx context.Context, kind api.Kind, after api.Revision) (*subscription, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, errClosing
	}
	fd, running := f.kinds[kind]
	if !running {
		// The first client decides where the window begins.
		fd = &feed{kind: kind, all: f, ready: make(chan struct{}), subs: map[*subscription]struct{}{}, objects: map[api.Key]api.Object{}}
		fctx, cancel := context.WithCancel(f.ctx)
		fd.cancel = cancel
		f.kinds[kind] = fd
		f.wg.Go(func() { fd.run(fctx, after) })
	}
	f.mu.Unlock()
	select {
	case <-fd.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.ctx.Done():
		return nil, errClosing
	}
	if after > fd.seenRevision() {
		// Most often other kinds were written since; but a store that was
		// put back to an older state must not be waited for in silence.
		_, now, err := f.store.List(ctx, kind, store.ListOptions{Limit: 1})
		if err != nil {
			return nil, err
		}
		if after > now {
			return nil, fmt.Errorf("watch after revision %d: the datastore is at %d: %w", after, now, store.ErrCompacted)
		}
	}
	if sub := fd.subscribe(after); sub != nil {
		return sub, nil
	}
	return f.private(ctx, kind, after)
}

// retire forgets a feed that nobody has subscribed to for a while.
func (f *feeds) retire(fd *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if len(fd.subs) > 0 {
		return
	}
	fd.retired = true
	if f.kinds[fd.kind] == fd {
		delete(f.kinds, fd.kind)
	}
	fd.cancel()
}

// private streams from a store watch of the client's own.
func (f *feeds) private(ctx context.Context, kind api.Kind, after api.Revision) (*subscription, error) {
	var base []api.Object
	if after > 0 { // before the first revision there was nothing
		var err error
		if base, _, err = f.store.List(ctx, kind, store.ListOptions{Revision: after}); err != nil {
			return nil, err
		}
	}
	wctx, cancel := context.WithCancel(f.ctx)
	w, err := f.store.Watch(wctx, kind, after)
	if err != nil {
		cancel()
		return nil, err
	}
	objects := map[api.Key]api.Object{}
	for _, o := range base {
		objects[o.Key()] = o
	}
	s := &subscription{after: after, ch: make(chan *change)}
	done := make(chan struct{})
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		cancel()
		w.Close()
		return nil, errClosing
	}
	f.wg.Go(func() {
		defer close(done)
		defer close(s.ch)
		defer w.Close()
		s.cut = pump(wctx, w, objects, s.ch)
	})
	f.mu.Unlock()
	s.stop = func() { cancel(); <-done }
	return s, nil
}

// pump hands every event of a watch to ch until it ends.
func pump(ctx context.Context, w store.Watch, objects map[api.Key]api.Object, ch chan<- *change) error {
	for {
		evs, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, ev := range evs {
			c := note(objects, ev)
			if c == nil {
				continue
			}
			select {
			case ch <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// note takes an event into objects and returns it as a change, or nil if it
// changes nothing.
func note(objects map[api.Key]api.Object, ev api.Event) *change {
	if ev.Key.Name == "" {
		return &change{key: api.Key{Kind: ev.Key.Kind}, revision: ev.Revision}
	}
	c := &change{key: ev.Key, revision: ev.Revision, object: ev.Object, prev: objects[ev.Key]}
	switch {
	case ev.Object != nil:
		objects[ev.Key] = ev.Object
	case c.prev == nil:
		return nil
	default:
		delete(objects, ev.Key)
	}
	return c
}

// feed is the shared watch of one kind.
type feed struct {
	kind   api.Kind
	all    *feeds
	cancel context.CancelFunc
	ready  chan struct{} // closed when the window has a beginning

	mu sync.Mutex // guards what follows
	// objects is the state at seen; window the changes after start up to
	// seen, oldest first.
	objects     map[api.Key]api.Object
	window      []*change
	start, seen api.Revision
	subs        map[*subscription]struct{}
	retired     bool
	idle        *time.Timer
}

// run follows the store until ctx ends.
func (fd *feed) run(ctx context.Context, after api.Revision) {
	defer fd.cutAll(errClosing)
	log := fd.all.log.With("kind", string(fd.kind))
	for delay := time.Duration(0); ; delay = min(max(2*delay, 100*time.Millisecond), 5*time.Second) {
		if delay > 0 && !wait(ctx, delay) {
			return
		}
		if fd.seenRevision() == 0 {
			if err := fd.begin(ctx, after); err != nil {
				after = 0 // what the first client asked for may be forgotten
				if delay == 0 && ctx.Err() == nil {
					log.Warn("Watch cannot begin", "err", err)
				}
				continue
			}
		}
		progress, err := fd.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, store.ErrCompacted) {
			fd.cutAll(err)
			fd.reset()
			after = 0
		}
		if progress {
			delay = 0
		}
		log.Warn("Watch interrupted", "err", err)
	}
}

// wait sleeps; false means that ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (fd *feed) seenRevision() api.Revision {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return fd.seen
}

// begin lists the kind, at a revision of the past if one is given, and opens
// the window there.
func (fd *feed) begin(ctx context.Context, at api.Revision) error {
	lctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	objs, rev, err := fd.all.store.List(lctx, fd.kind, store.ListOptions{Revision: at})
	if err != nil {
		return err
	}
	fd.mu.Lock()
	defer fd.mu.Unlock()
	for _, o := range objs {
		fd.objects[o.Key()] = o
	}
	fd.start, fd.seen = rev, rev
	select {
	case <-fd.ready:
	default:
		close(fd.ready)
	}
	return nil
}

// reset forgets everything, to begin anew.
func (fd *feed) reset() {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	clear(fd.objects)
	fd.window, fd.start, fd.seen = nil, 0, 0
}

// follow hands events on until the store's watch ends; progress tells whether
// there were any.
func (fd *feed) follow(ctx context.Context) (progress bool, err error) {
	w, err := fd.all.store.Watch(ctx, fd.kind, fd.seenRevision())
	if err != nil {
		return false, err
	}
	defer w.Close()
	for {
		evs, err := w.Next(ctx)
		if err != nil {
			return progress, err
		}
		progress = true
		fd.publish(evs)
	}
}

// publish takes events in and hands them to everybody.
func (fd *feed) publish(evs []api.Event) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	for _, ev := range evs {
		c := note(fd.objects, ev)
		fd.seen = max(fd.seen, ev.Revision)
		if c == nil {
			continue
		}
		if !c.bookmark() {
			fd.window = append(fd.window, c)
			if n := len(fd.window) - fd.all.window; n > 0 {
				fd.start = fd.window[n-1].revision
				clear(fd.window[:n])
				fd.window = fd.window[n:]
			}
		}
		for s := range fd.subs {
			if c.revision <= s.after {
				continue
			}
			select {
			case s.ch <- c:
			default:
				fd.cutLocked(s, errSlow)
			}
		}
	}
}

// subscribe is a subscription to what comes after a revision, or nil if the
// window does not reach back so far.
func (fd *feed) subscribe(after api.Revision) *subscription {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.retired || fd.start == 0 || after < fd.start {
		return nil
	}
	s := &subscription{after: after, ch: make(chan *change, fd.all.buffer)}
	for _, c := range fd.window {
		if c.revision > after {
			s.backlog = append(s.backlog, c)
		}
	}
	s.stop = func() { fd.unsubscribe(s) }
	fd.subs[s] = struct{}{}
	if fd.idle != nil {
		fd.idle.Stop()
		fd.idle = nil
	}
	return s
}

func (fd *feed) unsubscribe(s *subscription) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if _, here := fd.subs[s]; here {
		delete(fd.subs, s)
		close(s.ch)
	}
	if len(fd.subs) == 0 && fd.idle == nil && !fd.retired {
		fd.idle = time.AfterFunc(linger, func() { fd.all.retire(fd) })
	}
}

func (fd *feed) cutLocked(s *subscription, why error) {
	s.cut = why
	delete(fd.subs, s)
	close(s.ch)
}

// cutAll ends all subscriptions.
func (fd *feed) cutAll(why error) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	for s := range fd.subs {
		fd.cutLocked(s, why)
	}
	if fd.idle != nil {
		fd.idle.Stop()
		fd.idle = nil
	}
}
