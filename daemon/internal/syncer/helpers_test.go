// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/store"
)

var testKinds = []api.Kind{api.KindGlobalNetworkSet, api.KindHostEndpoint, api.KindTier}

// flaky is a Store that can be away and whose watches can be broken.
type flaky struct {
	*mem.Store

	mu    sync.Mutex // guards all below
	away  bool
	cut   chan struct{} // closed to break the watches that are open
	lists int
	// edit changes what List answers, nil: nothing.
	edit func(kind api.Kind, objects []api.Object, rev api.Revision) ([]api.Object, api.Revision)
	// watchErr is what Watch answers, nil: what the store does.
	watchErr func(kind api.Kind) error
}

func newFlaky() *flaky {
	return &flaky{Store: mem.New(mem.Config{}), cut: make(chan struct{})}
}

func (f *flaky) List(ctx context.Context, kind api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	f.mu.Lock()
	f.lists++
	away, edit := f.away, f.edit
	f.mu.Unlock()
	if away {
		return nil, 0, store.ErrUnavailable
	}
	objects, rev, err := f.Store.List(ctx, kind, o)
	if err == nil && edit != nil {
		objects, rev = edit(kind, objects, rev)
	}
	return objects, rev, err
}

func (f *flaky) Watch(ctx context.Context, kind api.Kind, after api.Revision) (store.Watch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, store.ErrUnavailable
	}
	if f.watchErr != nil {
		if err := f.watchErr(kind); err != nil {
			return nil, err
		}
	}
	w, err := f.Store.Watch(ctx, kind, after)
	return &flakyWatch{w, f.cut}, err
}

// setAway takes the store away and breaks its watches, or brings it back.
func (f *flaky) setAway(away bool) {
	f.mu.Lock()
	f.away = away
	f.mu.Unlock()
	if away {
		f.breakWatches()
	}
}

func (f *flaky) breakWatches() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.cut)
	f.cut = make(chan struct{})
}

func (f *flaky) setEdit(edit func(api.Kind, []api.Object, api.Revision) ([]api.Object, api.Revision)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.edit = edit
}

type flakyWatch struct {
	store.Watch
	cut chan struct{}
}

func (w *flakyWatch) Next(ctx context.Context) ([]api.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer func() { <-done }()
	defer cancel()
	go func() {
		defer close(done)
		select {
		case <-w.cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	evs, err := w.Watch.Next(ctx)
	select {
	case <-w.cut:
		return nil, store.ErrUnavailable
	default:
		return evs, err
	}
}

// recorder is a Sink that keeps the picture it is told.
type recorder struct {
	mu       sync.Mutex // guards all below
	objects  map[api.Key]api.Revision
	phases   []Phase
	deletes  []api.Event
	puts     int
	revision api.Revision
	calls    int
	heard    chan api.Event // every event, if not nil
}

func newRecorder() *recorder { return &recorder{objects: map[api.Key]api.Revision{}} }

func (r *recorder) Phase(_ context.Context, p Phase) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phases = append(r.phases, p)
	return nil
}

func (r *recorder) Events(_ context.Context, evs []api.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	for _, ev := range evs {
		switch {
		case ev.Key.Name == "":
			r.revision = ev.Revision
			continue
		case ev.Object == nil:
			r.deletes = append(r.deletes, ev)
			delete(r.objects, ev.Key)
		default:
			r.puts++
			r.objects[ev.Key] = ev.Revision
		}
		r.revision = max(r.revision, ev.Revision)
		if r.heard != nil {
			r.heard <- ev
		}
	}
	return nil
}

func (r *recorder) phase() Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.phases) == 0 {
		return -1
	}
	return r.phases[len(r.phases)-1]
}

func (r *recorder) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.objects)
}

// counts gives the numbers of deletions and of other events so far.
func (r *recorder) counts() (deletes, puts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.deletes), r.puts
}

func gns(name, net string) api.Object {
	o := &api.GlobalNetworkSet{}
	o.Kind, o.APIVersion, o.Name = api.KindGlobalNetworkSet, api.VersionCalico, name
	o.Spec.Nets = []string{net}
	return o
}

func hep(name string) api.Object {
	o := &api.HostEndpoint{}
	o.Kind, o.APIVersion, o.Name = api.KindHostEndpoint, api.VersionCalico, name
	o.Spec.Node, o.Spec.InterfaceName = "h1", "eth0"
	return o
}

func put(t testing.TB, s store.Store, o api.Object) api.Revision {
	t.Helper()
	rev, err := s.Put(context.Background(), o, store.Always())
	if err != nil {
		t.Fatalf("Put(%s): %v", o.Key(), err)
	}
	return rev
}

func remove(t testing.TB, s store.Store, k api.Key) {
	t.Helper()
	if err := s.Delete(context.Background(), k, store.Always()); err != nil {
		t.Fatalf("Delete(%s): %v", k, err)
	}
}

// initialised gives a store of a ready cluster with n network sets.
func initialised(t testing.TB, n int) *flaky {
	t.Helper()
	f := newFlaky()
	if err := store.Initialise(context.Background(), f.Store); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		put(t, f, gns(fmt.Sprintf("s%d", i), "10.0.0.0/8"))
	}
	return f
}

// inStore is what a store holds of the kinds a Watcher of testKinds follows.
func inStore(t testing.TB, s *mem.Store) map[api.Key]api.Revision {
	t.Helper()
	out := map[api.Key]api.Revision{}
	for _, kind := range append([]api.Kind{api.KindClusterInformation}, testKinds...) {
		objects, _, err := s.List(context.Background(), kind, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			var rev api.Revision
			fmt.Sscan(o.Metadata().ResourceVersion, &rev)
			out[o.Key()] = rev
		}
	}
	return out
}

// knownOf makes a Known of what a store holds.
func knownOf(t testing.TB, s *mem.Store) Known {
	t.Helper()
	var k Known
	var events []api.Event
	for _, kind := range append([]api.Kind{api.KindClusterInformation}, testKinds...) {
		objects, rev, err := s.List(context.Background(), kind, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		k.Revision = rev
		for _, o := range objects {
			var at api.Revision
			fmt.Sscan(o.Metadata().ResourceVersion, &at)
			events = append(events, api.Event{Key: o.Key(), Object: o, Revision: at})
			if ci, ok := o.(*api.ClusterInformation); ok {
				k.ClusterGUID = ci.Spec.ClusterGUID
			}
		}
	}
	k.remember(events)
	return k
}

// remember makes events what is known.
func (k *Known) remember(events []api.Event) {
	k.Events = slices.Values([][]api.Event{events})
	k.Objects = &api.KeyMap[api.Revision]{}
	for _, ev := range events {
		k.Objects.Set(ev.Key, ev.Revision)
	}
}

// lines counts log lines and keeps their text.
type lines struct {
	mu   sync.Mutex // guards text
	text []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, strings.TrimSpace(string(b)))
	return len(b), nil
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.text)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
