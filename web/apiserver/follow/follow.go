// SPDX-License-Identifier: Apache-2.0

// Package follow keeps what is stored of a kind at hand, for those who decide
// by it in every request: package authn the credentials, authz the roles. It
// is a list and a watch, and when either fails, the last known state until the
// store answers again. It is not a cache to serve from, and not how agents
// follow the store.
package follow

import (
	"context"
	"log/slog"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Times of following.
const (
	// listTime is how long a list may take.
	listTime = 15 * time.Second
	// waitLeast and waitMost are how long it waits after a failure.
	waitLeast = 100 * time.Millisecond
	waitMost  = time.Second
)

// Kind follows a kind until ctx ends. It calls changed with everything that is
// stored of it: once it is known, and after each change, always from this one
// goroutine. The map is only valid during the call. Values that cannot be
// understood are in it as *api.Unreadable. After changed has returned, progress
// is told.
func Kind(ctx context.Context, st store.Store, kind api.Kind, log *slog.Logger, progress *Progress, changed func(map[api.Key]api.Object)) {
	progress.begin()
	defer progress.end()
	log = log.With("kind", string(kind))
	for wait := time.Duration(0); ; wait = min(max(2*wait, waitLeast), waitMost) {
		if wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		listed, err := once(ctx, st, kind, progress, changed)
		if ctx.Err() != nil {
			return
		}
		if listed || wait == 0 { // else it has been said
			log.Warn("Following interrupted, what is known stays in force", "err", err)
		}
		if listed {
			wait = 0
		}
	}
}

// once lists and watches until that fails; listed tells whether it got so far
// as to know the state.
func once(ctx context.Context, st store.Store, kind api.Kind, progress *Progress, changed func(map[api.Key]api.Object)) (listed bool, err error) {
	lctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	objs, rev, err := st.List(lctx, kind, store.ListOptions{})
	if err != nil {
		return false, err
	}
	state := make(map[api.Key]api.Object, len(objs))
	for _, o := range objs {
		state[o.Key()] = o
	}
	changed(state)
	progress.move(rev, state)
	w, err := st.Watch(ctx, kind, rev)
	if err != nil {
		return true, err
	}
	defer w.Close()
	for {
		evs, err := w.Next(ctx)
		if err != nil {
			return true, err
		}
		news := false
		for _, ev := range evs {
			rev = max(rev, ev.Revision)
			switch {
			case ev.Key.Name == "": // a bookmark
				continue
			case ev.Object == nil:
				delete(state, ev.Key)
			default:
				state[ev.Key] = ev.Object
			}
			news = true
		}
		if news {
			changed(state)
			progress.move(rev, state)
		}
	}
}
