// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Times of a watch.
const (
	// bookmarkTime is how often a client that wants bookmarks gets one.
	bookmarkTime = 60 * time.Second
	// watchTime is the least time after which a watch that sets no
	// timeoutSeconds is ended; up to twice that, so that not all come back at
	// once.
	watchTime = 30 * time.Minute
)

// watchQuery is the part of a watch's parameters that says how to follow.
type watchQuery struct {
	after     api.Revision // zero: begin with the state of now
	bookmarks bool
	initial   bool // sendInitialEvents
	timeout   time.Duration
}

func (r *request) watchQuery() (watchQuery, error) {
	q := watchQuery{bookmarks: r.flag("allowWatchBookmarks"), initial: r.flag("sendInitialEvents")}
	var err error
	if q.after, err = r.revision(); err != nil {
		return q, err
	}
	if q.initial && r.query.Get("resourceVersionMatch") != "NotOlderThan" {
		return q, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "sendInitialEvents: needs resourceVersionMatch=NotOlderThan")
	}
	q.timeout = watchTime + rand.N(watchTime)
	if text := r.query.Get("timeoutSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return q, failure(http.StatusBadRequest, api.ReasonBadRequest, "timeoutSeconds %q: want a whole number from 0 on", text)
		}
		if n > 0 {
			q.timeout = time.Duration(n) * time.Second
		}
	}
	return q, nil
}

// watch streams what happens to a kind: one line of JSON for each event.
func (s *Server) watch(r *request, v view, f filter) response {
	q, err := r.watchQuery()
	if err != nil {
		return s.failed(r, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	wt := &watcher{server: s, request: r, view: v, filter: f, query: q, after: q.after}
	if q.after == 0 && !v.stored || q.initial {
		if wt.state, wt.after, err = s.stateNow(ctx, r, q.after); err != nil {
			return s.failed(r, err)
		}
	}
	if wt.sub, err = s.feeds.subscribe(ctx, r.desc.Kind, wt.after); err != nil {
		if errors.Is(err, store.ErrCompacted) {
			// A watch tells of this in its stream, as Kubernetes does.
			return response{code: http.StatusOK, stream: func(_ context.Context, w http.ResponseWriter) {
				wt.open(w)
				_ = wt.writeError(s.status(r, err))
			}}
		}
		return s.failed(r, err)
	}
	return response{code: http.StatusOK, stream: wt.run}
}

// stateNow is everything of the kind, not older than least.
func (s *Server) stateNow(ctx context.Context, r *request, least api.Revision) ([]api.Object, api.Revision, error) {
	objs, rev, err := s.cfg.Store.List(ctx, r.desc.Kind, store.ListOptions{Namespace: r.attrs.Namespace})
	if err == nil && rev < least {
		err = retryLater(failure(http.StatusGatewayTimeout, api.ReasonTimeout,
			"resourceVersion %d lies in the future: the datastore is at %d", least, rev))
	}
	return objs, rev, err
}

// watcher is one running watch.
type watcher struct {
	server  *Server
	request *request
	view    view
	filter  filter
	query   watchQuery
	state   []api.Object // to be sent first, as ADDED
	after   api.Revision
	sub     *subscription

	w    http.ResponseWriter
	rc   *http.ResponseController
	seen api.Revision // everything up to here has been sent
	sent api.Revision // of the last event the client got
}

// event is one line of a watch.
type event struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

// open readies the connection for a stream.
func (wt *watcher) open(w http.ResponseWriter) {
	wt.w, wt.rc = w, http.NewResponseController(w)
	// A recorder in a test has no deadlines; a connection has.
	_ = wt.rc.SetReadDeadline(time.Time{})
	_ = wt.rc.SetWriteDeadline(time.Now().Add(wt.server.cfg.Limits.AnswerTime))
	_ = wt.rc.Flush()
}

// run writes the stream until the client goes, the time is up or the server
// stops. In the last two cases it ends cleanly and the client comes back.
func (wt *watcher) run(ctx context.Context, w http.ResponseWriter) {
	defer wt.sub.stop()
	wt.open(w)
	ctx, cancel := context.WithTimeout(ctx, wt.query.timeout)
	defer cancel()
	if err := wt.begin(); err != nil {
		return
	}
	tick := time.NewTicker(recheckTime)
	defer tick.Stop()
	told := time.Now()
	for {
		c, err := wt.sub.next(ctx, tick.C, wt.server.draining)
		switch {
		case err == nil:
			err = wt.take(c)
		case errors.Is(err, errTick):
			if err = wt.server.still(wt.request); err != nil {
				_ = wt.writeError(wt.server.status(wt.request, err))
			} else if time.Since(told) >= bookmarkTime {
				told = time.Now()
				err = wt.bookmark(false)
			}
		case errors.Is(err, store.ErrCompacted):
			_ = wt.writeError(wt.server.status(wt.request, err))
		case errors.Is(err, context.DeadlineExceeded) && wt.query.bookmarks:
			_ = wt.bookmark(false)
		}
		if err != nil {
			return
		}
	}
}

// begin sends the state that the watch starts from.
func (wt *watcher) begin() error {
	wt.seen, wt.sent = wt.after, wt.query.after
	for _, o := range wt.state {
		if !wt.filter.keeps(o) {
			continue
		}
		if err := wt.write("ADDED", o, nil); err != nil {
			return err
		}
	}
	wt.state = nil
	if wt.query.initial && wt.query.bookmarks {
		return wt.bookmark(true)
	}
	return nil
}

// take sends one change, as far as it concerns this client.
func (wt *watcher) take(c *change) error {
	wt.seen = max(wt.seen, c.revision)
	if c.bookmark() {
		return wt.bookmark(false)
	}
	was, is := wt.filter.keeps(c.prev), wt.filter.keeps(c.object)
	var typ string
	switch {
	case is && !was:
		typ = "ADDED"
	case is:
		typ = "MODIFIED"
	case was:
		typ = "DELETED"
	default:
		return nil
	}
	wt.sent = c.revision
	if typ == "DELETED" && c.object != nil {
		// It no longer is what the client asked for; it is still there.
		if wt.filter.maySee(c.object) {
			return wt.write(typ, c.object, c)
		}
		last := api.Clone(c.prev) // what it has become is not for the client
		last.Metadata().ResourceVersion = revisionText(c.revision)
		return wt.write(typ, last, nil)
	}
	return wt.write(typ, c.shown(), c)
}

// bookmark tells up to where everything has been sent. first marks the end of
// the initial events.
func (wt *watcher) bookmark(first bool) error {
	if !first && (!wt.query.bookmarks || wt.seen <= wt.sent) {
		return nil
	}
	wt.sent = wt.seen
	return wt.line(event{"BOOKMARK", wt.view.bookmark(wt.seen, first)})
}

// write sends an object. c, if there is one, has its JSON ready.
func (wt *watcher) write(typ string, o api.Object, c *change) error {
	if c != nil && wt.view.plain(o) {
		if data := c.encoded(); data != nil {
			return wt.line(event{typ, json.RawMessage(data)})
		}
	}
	return wt.line(event{typ, wt.view.one(o)})
}

func (wt *watcher) writeError(st *api.Status) error { return wt.line(event{"ERROR", st}) }

// line writes one event and flushes it.
func (wt *watcher) line(e event) error {
	data, err := json.Marshal(e)
	if err != nil {
		wt.server.log.Error("Event cannot be encoded", "path", wt.request.URL.Path, "err", err)
		return err
	}
	_ = wt.rc.SetWriteDeadline(time.Now().Add(wt.server.cfg.Limits.AnswerTime))
	if _, err := wt.w.Write(append(data, '\n')); err != nil {
		return err
	}
	return wt.rc.Flush()
}
