// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// news is what one watch has brought, that it has been opened, or why it is
// over.
type news struct {
	kind   api.Kind
	events []api.Event
	opened bool
	err    error
}

// link is the book that a session keeps on the watch of one kind.
type link struct {
	open     bool
	since    time.Time // opened
	failures backoff
}

// session watches all kinds from where they stand until the store has to be
// listed again, ctx ends or the sink returns an error. A watch that breaks is
// opened again, with back-off, and the others go on meanwhile. It waits for
// the goroutines that it starts, one per kind.
func (w *Watcher) session(ctx context.Context, sink Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan news)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	links := map[api.Kind]*link{}
	start := func(kind api.Kind, pause time.Duration) {
		l := line{store: w.cfg.Store, kind: kind, after: w.at[kind], guid: w.known.guid, revision: w.known.revision, pause: pause, in: in}
		wg.Go(func() { l.run(ctx) })
	}
	for _, kind := range w.cfg.Kinds {
		links[kind] = &link{}
		start(kind, 0)
	}
	open := 0
	for {
		var n news
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n = <-in:
		}
		l := links[n.kind]
		switch {
		case errors.Is(n.err, errRelist), errors.Is(n.err, store.ErrCompacted):
			return errRelist
		case n.err != nil:
			if l.open {
				l.open = false
				open--
				if time.Since(l.since) > backoffMax {
					l.failures = 0 // it went well for a while
				}
			}
			if l.failures > 0 { // once is a hiccup, twice is away
				if err := w.phase(ctx, sink, Waiting, fmt.Errorf("watching %s: %w", n.kind, n.err)); err != nil {
					return &sinkError{err}
				}
			}
			start(n.kind, l.failures.next(backoffFirst, backoffMax))
		case n.opened:
			l.open, l.since = true, time.Now()
			open++
			if open == len(links) {
				if err := w.phase(ctx, sink, InSync, nil); err != nil {
					return &sinkError{err}
				}
			}
		default:
			if err := w.pass(ctx, sink, n); err != nil {
				return err
			}
		}
	}
}

// line is one attempt to watch one kind.
type line struct {
	store store.Store
	kind  api.Kind
	after api.Revision
	// guid and revision are what the store must still have and have reached.
	guid     string
	revision api.Revision
	// pause is how long to wait first; if not zero, the line has been broken
	// and it is looked whether the store is still the one we know.
	pause time.Duration
	in    chan<- news
}

// run forwards what happens into in until the watch breaks or ctx ends.
func (l line) run(ctx context.Context) {
	send := func(n news) bool {
		n.kind = l.kind
		select {
		case l.in <- n:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if l.pause > 0 {
		pause(ctx, l.pause)
		if err := l.probe(ctx); err != nil {
			send(news{err: err})
			return
		}
	}
	wt, err := l.store.Watch(ctx, l.kind, l.after)
	if err != nil {
		send(news{err: err})
		return
	}
	defer wt.Close()
	if !send(news{opened: true}) {
		return
	}
	for {
		events, err := wt.Next(ctx)
		if len(events) > 0 && !send(news{events: events}) {
			return
		}
		if err != nil {
			send(news{err: err})
			return
		}
	}
}

// probe looks whether the store is there and is still the one we know. Without
// it, a watch after a revision that a restored store has yet to reach would be
// silent for ever.
func (l line) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	objects, revision, err := l.store.List(ctx, api.KindClusterInformation, store.ListOptions{})
	if err != nil {
		return err
	}
	var now picture
	for _, o := range objects {
		now.note(o)
	}
	if !now.ready || now.guid != l.guid || revision < l.revision {
		return errRelist
	}
	return nil
}

// pass gives the sink what a watch has brought, less what it has already.
func (w *Watcher) pass(ctx context.Context, sink Sink, n news) error {
	at := w.at[n.kind]
	fresh := n.events[:0:0]
	relist := false
	for _, ev := range n.events {
		old, has := w.known.objects.Get(ev.Key)
		// One write may change several keys at one revision.
		if ev.Revision < at || ev.Revision == at && (ev.Key.Name == "" || old == ev.Revision) {
			continue
		}
		if ev.Key == clusterInformation && !w.sameCluster(ev.Object) {
			relist = true // judge the whole before anything else is let through
			break
		}
		at = ev.Revision
		switch {
		case ev.Key.Name == "":
		case ev.Object != nil:
			w.known.remember(ev.Key, ev.Revision)
			lighten(ev.Object)
			fresh = append(fresh, ev)
		case has: // else the sink does not have it
			w.known.objects.Delete(ev.Key)
			fresh = append(fresh, ev)
		}
	}
	if at > w.known.revision {
		w.known.revision, w.state.Revision = at, at
		if len(fresh) == 0 || fresh[len(fresh)-1].Revision < at {
			fresh = append(fresh, api.Event{Key: api.Key{Kind: n.kind}, Revision: at})
		}
	}
	if len(fresh) > 0 {
		if err := sink.Events(ctx, fresh); err != nil {
			return &sinkError{err}
		}
	}
	w.at[n.kind] = at
	if relist {
		return errRelist
	}
	return nil
}

var clusterInformation = api.Key{Kind: api.KindClusterInformation, Name: api.DefaultName}

// sameCluster tells whether o is still the ClusterInformation of the cluster
// we know, and says that its datastore is ready.
func (w *Watcher) sameCluster(o api.Object) bool {
	if o == nil {
		return false
	}
	var p picture
	p.note(o)
	return p.ready && p.guid == w.known.guid
}
