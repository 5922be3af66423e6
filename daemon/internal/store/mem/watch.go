// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// maxEvents bounds what one Next returns.
const maxEvents = 1000

var errClosed = errors.New("watch is closed")

// watch reads the store's log from a position onwards.
type watch struct {
	s    *Store
	kind api.Kind
	// after is the revision up to which all has been delivered; used by the
	// watch's goroutine only.
	after  api.Revision
	over   error
	once   sync.Once
	closed chan struct{}
}

// Watch streams what happens to a kind after a revision.
func (s *Store) Watch(ctx context.Context, kind api.Kind, after api.Revision) (store.Watch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, ok := api.DescriptorOf(kind); !ok {
		return nil, fmt.Errorf("watch: %w: kind %q is unknown", store.ErrKey, kind)
	}
	return &watch{s: s, kind: kind, after: after, closed: make(chan struct{})}, nil
}

// Next waits for events, or for the time of a bookmark.
func (w *watch) Next(ctx context.Context) ([]api.Event, error) {
	bookmark := time.NewTimer(w.s.cfg.BookmarkEvery)
	defer bookmark.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if w.over != nil {
			return nil, w.over
		}
		select {
		case <-w.closed:
			return nil, errClosed
		default:
		}
		evs, changed, err := w.take()
		if err != nil {
			w.over = err
			return nil, err
		}
		if len(evs) > 0 {
			return evs, nil
		}
		select {
		case <-ctx.Done():
		case <-w.closed:
		case <-changed:
		case <-bookmark.C:
			w.s.mu.Lock()
			rev := w.s.rev
			w.s.mu.Unlock()
			if evs, _, err := w.take(); err != nil || len(evs) > 0 {
				w.over = err
				return evs, err
			}
			// After take found nothing, all up to rev is known to be delivered.
			return []api.Event{{Key: api.Key{Kind: w.kind}, Revision: rev}}, nil
		}
	}
}

// take gives the events after w.after, and a channel that is closed by the
// next write.
func (w *watch) take() ([]api.Event, <-chan struct{}, error) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.after < s.compacted {
		return nil, nil, fmt.Errorf("watch of %s after revision %d: %w (up to %d)", w.kind, w.after, store.ErrCompacted, s.compacted)
	}
	n, _ := slices.BinarySearchFunc(s.log, w.after+1, func(c change, r api.Revision) int { return int(c.rev - r) })
	var evs []api.Event
	for _, c := range s.log[n:] {
		if c.key.Kind == w.kind && !c.hidden {
			ev := api.Event{Key: c.as, Revision: c.rev}
			if c.value != nil {
				ev.Object = store.Decode(c.key, c.value, c.rev)
			}
			evs = append(evs, ev)
		}
		w.after = c.rev
		if len(evs) == maxEvents {
			return evs, s.changed, nil
		}
	}
	w.after = max(w.after, s.rev)
	return evs, s.changed, nil
}

// Close ends the watch.
func (w *watch) Close() { w.once.Do(func() { close(w.closed) }) }
