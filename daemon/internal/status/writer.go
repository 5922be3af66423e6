// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Times of a Writer.
const (
	writeSoonest = 2 * time.Second
	writeLatest  = 30 * time.Second
	writeTimeout = 5 * time.Second
	writeRetry   = 5 * time.Second
)

// Writer keeps the HostStatus object in the store: written when something has
// changed, at most every two seconds, else every thirty. It is quiet when the
// store is away: that is told elsewhere.
type Writer struct {
	Board *Board
	Store store.Store
	// Log is told, once, that a store that answers refuses the object.
	Log *slog.Logger
}

// Run writes until ctx ends and then returns nil.
func (w *Writer) Run(ctx context.Context) error {
	changed := w.Board.news.listen()
	clock := w.Board.cfg.Clock
	var last string // what was written, without times that pass by themselves
	failing := false
	timer := clock.NewTimer(0)
	defer timer.Stop()
	var earliest time.Time
	for {
		due := false
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C():
			due = true
		case <-changed:
		}
		if wait := earliest.Sub(clock.Now()); wait > 0 {
			if due = pause(ctx, clock.After(wait)); !due {
				return nil
			}
			due = false
		}
		h := w.Board.Status()
		now := essence(h)
		if !due && now == last {
			continue
		}
		call, cancel := context.WithTimeout(ctx, writeTimeout)
		_, err := w.Store.Put(call, &h, store.Always())
		cancel()
		if err == nil {
			last = now
		} else {
			last = "" // try again with the next change or soon
		}
		if (err != nil) != failing && ctx.Err() == nil && w.Log != nil {
			failing = err != nil
			w.Log.Debug("status: writing HostStatus", "err", err)
		}
		earliest = clock.Now().Add(writeSoonest)
		timer.Reset(writeLatest)
		if err != nil {
			timer.Reset(writeRetry)
		}
	}
}

// pause waits for c and reports false if ctx ended first.
func pause(ctx context.Context, c <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c:
		return true
	}
}

// essence is what makes a status worth writing at once: all but the times of
// the report and of the last look at the kernel, the revisions, and how many
// connections are tracked. The store
// moves on with each status that any host writes: hosts that answered that by
// writing theirs would never come to rest. That rules were changed shows in
// LastApplied, to the nanosecond, which the JSON has not.
func essence(h api.HostStatus) string {
	applied := h.Status.Dataplane.LastApplied.UnixNano()
	h.Status.ReportedAt = api.Time{}
	h.Status.Dataplane.LastVerified = api.Time{}
	h.Status.Dataplane.AppliedRevision, h.Status.Datastore.SeenRevision = 0, 0
	h.Status.Flows.Tracked, h.Status.Flows.Most = 0, 0
	b, err := json.Marshal(h.Status)
	if err != nil {
		return ""
	}
	return fmt.Sprint(applied, string(b))
}
