// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// probeKey is read to see whether etcd answers. Nothing is stored there.
const probeKey = "/ripstop/probe"

// watch is one watch. The client library reconnects by itself and goes on
// where it was; the watch adds what that leaves open: it notices when the
// store stays away, and when what comes back is not the store it was.
type watch struct {
	s      *Store
	layout layout
	what   op
	ctx    context.Context // ends the client library's watch
	cancel context.CancelFunc
	ch     clientv3.WatchChan

	// Used by the watch's goroutine only.
	seen    int64 // newest revision delivered
	cluster uint64
	over    error
	once    sync.Once
}

// Watch streams what happens to a kind after a revision.
func (s *Store) Watch(ctx context.Context, kind api.Kind, after api.Revision) (store.Watch, error) {
	if _, ok := api.DescriptorOf(kind); !ok {
		return nil, fmt.Errorf("watch: %w: kind %q is unknown", store.ErrKey, kind)
	}
	w := &watch{s: s, layout: layoutOf(kind), what: op("watch of " + string(kind)), seen: int64(after)}
	err := s.call(ctx, w.what, func(ctx context.Context, c *clientv3.Client) error {
		// The watch lives on after this call, so it gets a context of its
		// own, which is cancelled if it does not come about in time.
		w.ctx, w.cancel = context.WithCancel(clientv3.WithRequireLeader(context.Background()))
		stop := context.AfterFunc(ctx, w.cancel)
		w.ch = c.Watch(w.ctx, Prefix(kind), clientv3.WithPrefix(), clientv3.WithRev(w.seen+1),
			clientv3.WithPrevKV(), clientv3.WithProgressNotify(), clientv3.WithFragment())
		if !stop() {
			return ctx.Err()
		}
		return nil
	})
	if err != nil {
		if w.cancel != nil {
			w.cancel()
		}
		return nil, err
	}
	return w, nil
}

// Next waits for events or a bookmark.
func (w *watch) Next(ctx context.Context) ([]api.Event, error) {
	quiet := time.NewTimer(w.s.cfg.ProbeAfter)
	defer quiet.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if w.over != nil {
			return nil, w.over
		}
		select {
		case <-ctx.Done():
		case <-w.s.closed:
			w.end(fmt.Errorf("%s: %w", w.what, errClosed))
		case resp, open := <-w.ch:
			evs, err := w.take(ctx, resp, open)
			if err != nil && ctx.Err() == nil {
				w.end(err)
			}
			if len(evs) > 0 {
				return evs, nil
			}
		case <-quiet.C:
			quiet.Reset(w.s.cfg.ProbeAfter)
			res, err := w.s.probe(ctx)
			if err == nil {
				err = w.same(res.cluster, res.rev)
			}
			if err != nil && ctx.Err() == nil {
				w.end(fmt.Errorf("%s: %w", w.what, err))
			}
		}
	}
}

// take turns one response into events, or the error that ends the watch.
func (w *watch) take(ctx context.Context, resp clientv3.WatchResponse, open bool) ([]api.Event, error) {
	if !open {
		return nil, fmt.Errorf("%s: %w: the connection was given up", w.what, store.ErrUnavailable)
	}
	if err := resp.Err(); err != nil {
		err = w.s.translate(ctx, w.what, err)
		if resp.CompactRevision != 0 {
			err = fmt.Errorf("%w (up to %d)", err, resp.CompactRevision)
		}
		return nil, err
	}
	if resp.IsProgressNotify() {
		rev := resp.Header.Revision
		if err := w.same(resp.Header.ClusterId, rev); err != nil {
			return nil, fmt.Errorf("%s: %w", w.what, err)
		}
		w.seen = rev
		return []api.Event{{Key: api.Key{Kind: w.layout.kind}, Revision: api.Revision(rev)}}, nil
	}
	evs := make([]api.Event, 0, len(resp.Events))
	for _, e := range resp.Events {
		w.seen = max(w.seen, e.Kv.ModRevision)
		ev, ok, err := w.event(ctx, e)
		if err != nil {
			return nil, err
		}
		if ok {
			evs = append(evs, ev)
		}
	}
	return evs, nil
}

// event turns one change into an event. ok is false for what is not a
// resource, and for a change of a legacy twin: see store.LegacyKey.
func (w *watch) event(ctx context.Context, e *clientv3.Event) (ev api.Event, ok bool, err error) {
	at, ok := w.layout.key(string(e.Kv.Key))
	if !ok {
		return ev, false, nil
	}
	ev = api.Event{Key: at, Revision: api.Revision(e.Kv.ModRevision)}
	switch {
	case e.Type == mvccpb.Event_PUT:
		ev.Object = decode(at, e.Kv, nil)
		ev.Key = ev.Object.Key()
	case e.PrevKv != nil:
		ev.Key = decode(at, e.PrevKv, nil).Key()
	}
	if ev.Key == at {
		return ev, true, nil
	}
	// Stored under its legacy key. If it is stored under its own as well,
	// that one counts: a migration writes the new key, then deletes the old
	// one, and must not look like the end of the policy.
	var own *clientv3.GetResponse
	err = w.s.call(ctx, w.what, func(ctx context.Context, c *clientv3.Client) (err error) {
		own, err = c.Get(ctx, Path(ev.Key), clientv3.WithRev(e.Kv.ModRevision))
		if errors.Is(w.s.translate(ctx, w.what, err), store.ErrCompacted) {
			own, err = c.Get(ctx, Path(ev.Key))
		}
		return err
	})
	if err != nil {
		return ev, false, err
	}
	return ev, len(own.Kvs) == 0, nil
}

// same reports whether a store that says it is of this cluster and at this
// revision can be the one watched so far. If not, what was seen is worth as
// much as after a compaction: the caller has to list again.
func (w *watch) same(cluster uint64, rev int64) error {
	if w.cluster == 0 {
		w.cluster = cluster
	}
	if cluster != w.cluster {
		return fmt.Errorf("%w: the store answering now is another cluster (%x, was %x)", store.ErrCompacted, cluster, w.cluster)
	}
	if rev < w.seen {
		return fmt.Errorf("%w: the store went back to revision %d from %d", store.ErrCompacted, rev, w.seen)
	}
	return nil
}

// end ends the watch with an error.
func (w *watch) end(err error) {
	w.over = err
	w.cancel()
}

// Close ends the watch.
func (w *watch) Close() { w.once.Do(w.cancel) }

// probeResult is what a probe has learnt, or why it has not.
type probeResult struct {
	cluster uint64
	rev     int64
	err     error
}

// probe asks whether the store answers. Watches that ask at about the same
// time share one answer.
func (s *Store) probe(ctx context.Context) (probeResult, error) {
	select {
	case s.probing <- struct{}{}:
		defer func() { <-s.probing }()
	case <-ctx.Done():
		return probeResult{}, ctx.Err()
	}
	if time.Since(s.probed) < s.cfg.ProbeAfter/2 {
		return s.probeOK, s.probeOK.err
	}
	var r probeResult
	// The caller may have all the time in the world; an answer may not.
	bounded, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	r.err = s.call(bounded, op("probe"), func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, probeKey, clientv3.WithCountOnly())
		if err == nil {
			r.cluster, r.rev = resp.Header.ClusterId, resp.Header.Revision
		}
		return err
	})
	if ctx.Err() != nil {
		return r, ctx.Err() // says nothing about the store
	}
	if bounded.Err() != nil {
		r.err = fmt.Errorf("%w: no answer within %v", store.ErrUnavailable, s.cfg.RequestTimeout)
	}
	s.probed, s.probeOK = time.Now(), r
	return r, r.err
}
