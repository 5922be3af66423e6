// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// maxBatch bounds what one Next returns.
const maxBatch = 1000

// errClosed is what Next returns after Close.
var errClosed = errors.New("watch is closed")

// watch reads a stream of events. When the server ends the stream in order,
// as it does after a while, the watch goes on with a new one.
type watch struct {
	c     *Client
	kind  api.Kind
	match Match

	ctx    context.Context // ends the reader
	cancel context.CancelFunc
	once   sync.Once
	done   chan struct{} // closed when the reader is gone

	events chan api.Event // closed by the reader, after over is set
	over   error
}

// Watch streams what happens to a kind after a revision.
func (c *Client) Watch(ctx context.Context, kind api.Kind, after api.Revision) (store.Watch, error) {
	return c.WatchMatching(ctx, kind, Match{}, after)
}

// WatchMatching streams what happens to the objects of a kind that match. An
// object that no longer matches is told as deleted.
func (c *Client) WatchMatching(ctx context.Context, kind api.Kind, m Match, after api.Revision) (store.Watch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The stream outlives this call's context; opening it does not.
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	body, err := c.openWatch(wctx, kind, m, after)
	if !stop() && err == nil {
		body.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	// The buffer lets events that come in a burst leave in one batch.
	w := &watch{c: c, kind: kind, match: m, ctx: wctx, cancel: cancel, done: make(chan struct{}), events: make(chan api.Event, 256)}
	go func() {
		defer close(w.done)
		defer close(w.events)
		w.over = w.read(body, after)
	}()
	return w, nil
}

// openWatch asks for a stream.
func (c *Client) openWatch(ctx context.Context, kind api.Kind, m Match, after api.Revision) (io.ReadCloser, error) {
	d, err := descriptor(kind)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	q := m.narrow(c.query())
	q.Set("watch", "true")
	q.Set("allowWatchBookmarks", "true")
	q.Set("resourceVersion", strconv.FormatInt(int64(after), 10))
	req, err := c.request(ctx, http.MethodGet, path(d, m.Namespace, ""), q, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return nil, c.unreachable(ctx, err)
		}
		return nil, c.refusal(resp, data)
	}
	c.warn(resp)
	return resp.Body, nil
}

// leastStream is how long a stream that brought nothing must have lasted for
// its end to be no sign of trouble.
const leastStream = 10 * time.Second

// read hands events on until there are no more, and returns why.
func (w *watch) read(body io.ReadCloser, after api.Revision) error {
	for {
		began, before := time.Now(), after
		err := w.readStream(body, &after)
		body.Close()
		if !errors.Is(err, io.EOF) {
			return err
		}
		if after == before && time.Since(began) < leastStream {
			return fmt.Errorf("%s: watch of %s: %w: the server ended it", w.c.cfg.Server, w.kind, store.ErrUnavailable)
		}
		if body, err = w.c.openWatch(w.ctx, w.kind, w.match, after); err != nil {
			return err
		}
	}
}

// line is one line of the stream.
type line struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// readStream reads one stream to its end: io.EOF if that was in order. after
// follows the revisions.
func (w *watch) readStream(body io.Reader, after *api.Revision) error {
	d := json.NewDecoder(body)
	for {
		var l line
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return io.EOF
		} else if err != nil {
			return w.c.unreachable(w.ctx, err)
		}
		ev, err := w.event(l)
		if err != nil {
			return err
		}
		select {
		case w.events <- ev:
			*after = max(*after, ev.Revision)
		case <-w.ctx.Done():
			return errClosed
		}
	}
}

// event turns a line into an event.
func (w *watch) event(l line) (api.Event, error) {
	if l.Type == "ERROR" {
		var st api.Status
		if err := json.Unmarshal(l.Object, &st); err != nil {
			return api.Event{}, fmt.Errorf("%s: watch of %s: %w", w.c.cfg.Server, w.kind, err)
		}
		return api.Event{}, statusError(&st)
	}
	var it item
	if err := json.Unmarshal(l.Object, &it); err != nil {
		return api.Event{}, fmt.Errorf("%s: watch of %s: %w", w.c.cfg.Server, w.kind, err)
	}
	rev, err := parseRevision(it.Metadata.ResourceVersion)
	if err != nil {
		return api.Event{}, fmt.Errorf("%s: watch of %s: %w", w.c.cfg.Server, w.kind, err)
	}
	ev := api.Event{Key: api.Key{Kind: w.kind, Namespace: it.Metadata.Namespace, Name: it.Metadata.Name}, Revision: rev}
	switch l.Type {
	case "BOOKMARK":
		return api.Event{Key: api.Key{Kind: w.kind}, Revision: rev}, nil
	case "DELETED":
		return ev, nil
	case "ADDED", "MODIFIED":
		if ev.Object, err = decode(w.kind, l.Object); err != nil {
			return ev, fmt.Errorf("%s: watch of %s: %w", w.c.cfg.Server, w.kind, err)
		}
		return ev, nil
	default:
		return ev, fmt.Errorf("%s: watch of %s: event type %q is unknown", w.c.cfg.Server, w.kind, l.Type)
	}
}

// Next waits for events and returns those that are there.
func (w *watch) Next(ctx context.Context) ([]api.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var evs []api.Event
	select {
	case ev, open := <-w.events:
		if !open {
			return nil, w.over
		}
		evs = append(evs, ev)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(evs) < maxBatch {
		select {
		case ev, open := <-w.events:
			if !open {
				return evs, nil // the next call says why
			}
			evs = append(evs, ev)
		default:
			return evs, nil
		}
	}
	return evs, nil
}

// Close ends the watch.
func (w *watch) Close() {
	w.once.Do(func() {
		w.cancel()
		<-w.done
	})
}
