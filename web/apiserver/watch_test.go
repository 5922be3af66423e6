// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// follower is a client that follows a watch.
type follower struct {
	t    testing.TB
	resp *http.Response
	dec  *json.Decoder
	stop context.CancelFunc
}

// follow opens a watch that ends with the test at the latest.
func (e *env) follow(path string, headers ...string) *follower {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://localhost"+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := e.http.Do(req)
	if err != nil {
		e.t.Fatalf("watch %s: %v", path, err)
	}
	if resp.StatusCode != 200 {
		data, _ := io.ReadAll(resp.Body)
		e.t.Fatalf("watch %s: %d %s", path, resp.StatusCode, data)
	}
	f := &follower{t: e.t, resp: resp, dec: json.NewDecoder(resp.Body), stop: func() { cancel(); resp.Body.Close() }}
	e.t.Cleanup(f.stop)
	return f
}

// got is one event.
type got struct {
	Type   string
	Object struct {
		Kind     string
		Code     int
		Reason   string
		Metadata api.Meta
		Columns  []tableColumn `json:"columnDefinitions"`
		Rows     []tableRow
	}
}

func (f *follower) next() got {
	f.t.Helper()
	var g got
	if err := f.dec.Decode(&g); err != nil {
		f.t.Fatalf("next event: %v", err)
	}
	return g
}

// want reads events, skipping bookmarks, and compares "TYPE name".
func (f *follower) want(events ...string) {
	f.t.Helper()
	for _, want := range events {
		g := f.next()
		for g.Type == "BOOKMARK" {
			g = f.next()
		}
		if have := g.Type + " " + g.Object.Metadata.Name; have != want {
			f.t.Fatalf("event: got %q (%+v), want %q", have, g.Object, want)
		}
	}
}

// ended waits for the end of the stream.
func (f *follower) ended() {
	f.t.Helper()
	var g got
	for {
		err := f.dec.Decode(&g)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			f.t.Fatalf("end of stream: %v, want an orderly end", err)
		}
		if g.Type != "BOOKMARK" {
			f.t.Fatalf("end of stream: got %+v", g)
		}
	}
}

// revision is the revision of a list.
func (e *env) revision(path string) string {
	var l struct{ Metadata api.ListMeta }
	e.want(200, "GET", path, "").decode(e.t, &l)
	return l.Metadata.ResourceVersion
}

func TestWatch_TellsWhatHappens(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("old"))
	rev := e.revision(gnss)
	f := e.follow(gnss + "?watch=true&resourceVersion=" + rev)
	e.want(201, "POST", gnss, netset("new"))
	e.want(200, "PUT", gnss+"/old", netset("old", "a", "b"))
	e.want(200, "DELETE", gnss+"/new", "")
	f.want("ADDED new", "MODIFIED old", "DELETED new")
	// Another client comes back with the same revision: from the window.
	e.follow(gnss+"?watch=true&resourceVersion="+rev).want("ADDED new", "MODIFIED old", "DELETED new")
	// One that asks for no revision gets the state first.
	g := e.follow(gnss + "?watch=true")
	g.want("ADDED old")
	e.want(200, "DELETE", gnss+"/old", "")
	g.want("DELETED old")
	f.want("DELETED old")
}

func TestWatch_DeletionHasItsRevisionAndTheLastState(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("x", "a", "b"))
	f := e.follow(gnss + "?watch=true&resourceVersion=" + e.revision(gnss))
	e.want(200, "DELETE", gnss+"/x", "")
	g := f.next()
	if want := e.revision(gnss); g.Type != "DELETED" || g.Object.Metadata.ResourceVersion != want || g.Object.Metadata.Labels["a"] != "b" {
		t.Errorf("got %+v, want a deletion at %s with labels", g, want)
	}
}

func TestWatch_SelectorTurnsChangesIntoComingAndGoing(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("x", "a", "1"))
	for _, q := range []string{"labelSelector=a%3D2", "labelSelector=a%3D2&allowWatchBookmarks=true"} {
		rev := e.revision(gnss)
		f := e.follow(gnss + "?watch=true&resourceVersion=" + rev + "&" + q)
		e.want(200, "PUT", gnss+"/x", netset("x", "a", "2"))
		e.want(200, "PUT", gnss+"/x", netset("x", "a", "2", "b", "1"))
		e.want(200, "PUT", gnss+"/x", netset("x", "a", "1"))
		e.want(201, "POST", gnss, netset("y", "a", "2"))
		e.want(200, "DELETE", gnss+"/y", "")
		f.want("ADDED x", "MODIFIED x", "DELETED x", "ADDED y", "DELETED y")
	}
	f := e.follow(gnss + "?watch=true&fieldSelector=metadata.name%3Dz&resourceVersion=" + e.revision(gnss))
	e.want(200, "DELETE", gnss+"/x", "")
	e.want(201, "POST", gnss, netset("z"))
	f.want("ADDED z")
}

func TestWatch_Namespace(t *testing.T) {
	e := start(t, nil)
	path := func(ns string) string { return "/apis/projectcalico.org/v3/namespaces/" + ns + "/networksets" }
	body := `{"apiVersion":"projectcalico.org/v3","kind":"NetworkSet","metadata":{"name":"x"},"spec":{}}`
	rev := e.revision(path("a"))
	one, all := e.follow(path("b")+"?watch=true&resourceVersion="+rev), e.follow("/apis/projectcalico.org/v3/networksets?watch=true&resourceVersion="+rev)
	e.want(201, "POST", path("a"), body)
	e.want(201, "POST", path("b"), body)
	if g := one.next(); g.Object.Metadata.Namespace != "b" {
		t.Errorf("watch of namespace b: got %+v", g)
	}
	all.want("ADDED x", "ADDED x")
}

func TestWatch_OlderThanTheWindowIsServedAllTheSame(t *testing.T) {
	e := start(t, func(c *Config) { c.WatchWindow = 4 })
	rev := e.revision(gnss)
	var want []string
	e.follow(gnss + "?watch=true&resourceVersion=" + rev) // opens the window here
	for i := range 20 {
		e.want(201, "POST", gnss, netset(fmt.Sprintf("s%02d", i)))
		want = append(want, fmt.Sprintf("ADDED s%02d", i))
	}
	e.want(200, "DELETE", gnss+"/s00", "")
	want = append(want, "DELETED s00")
	f := e.follow(gnss + "?watch=true&resourceVersion=" + rev)
	f.want(want...)
	e.want(201, "POST", gnss, netset("later"))
	f.want("ADDED later")
}

func TestWatch_ForgottenRevisionIsExpired(t *testing.T) {
	e := start(t, nil)
	rev := e.revision(gnss)
	e.want(201, "POST", gnss, netset("a"))
	e.want(201, "POST", gnss, netset("b"))
	_, now, err := e.mem.List(t.Context(), api.KindGlobalNetworkSet, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.mem.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{rev, "100000"} {
		f := e.follow(gnss + "?watch=true&resourceVersion=" + q)
		if g := f.next(); g.Type != "ERROR" || g.Object.Kind != "Status" || g.Object.Code != 410 || g.Object.Reason != api.ReasonExpired {
			t.Errorf("resourceVersion %s: got %+v, want ERROR 410 Expired", q, g)
		}
		f.ended()
	}
}

func TestWatch_InitialEventsEndWithABookmark(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("a"))
	e.want(201, "POST", gnss, netset("b"))
	f := e.follow(gnss + "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
	f.want("ADDED a", "ADDED b")
	g := f.next()
	if g.Type != "BOOKMARK" || g.Object.Kind != "GlobalNetworkSet" || g.Object.Metadata.Annotations["k8s.io/initial-events-end"] != "true" || g.Object.Metadata.ResourceVersion != e.revision(gnss) {
		t.Errorf("after the initial events: %+v", g)
	}
	e.want(201, "POST", gnss, netset("c"))
	f.want("ADDED c")
	e.want(422, "GET", gnss+"?watch=true&sendInitialEvents=true", "")
}

func TestWatch_TimeoutEndsInOrderWithABookmark(t *testing.T) {
	e := start(t, nil)
	rev := e.revision(gnss)
	f := e.follow(gnss + "?watch=true&timeoutSeconds=1&resourceVersion=" + rev)
	f.ended()
	e.want(400, "GET", gnss+"?watch=true&timeoutSeconds=x", "")
	e.want(400, "GET", gnss+"?watch=true&resourceVersion=x", "")
}

func TestWatch_TableHasColumnsInTheFirstEventOnly(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("a"))
	f := e.follow(gnss+"?watch=true", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	one := f.next()
	e.want(201, "POST", gnss, netset("b"))
	two := f.next()
	if one.Object.Kind != "Table" || len(one.Object.Columns) == 0 || one.Object.Rows[0].Cells[0] != "a" {
		t.Errorf("first event: %+v", one)
	}
	if two.Object.Kind != "Table" || len(two.Object.Columns) != 0 || two.Object.Rows[0].Cells[0] != "b" {
		t.Errorf("second event: %+v", two)
	}
}

func TestWatch_EndsInOrderWhenTheServerStops(t *testing.T) {
	e := start(t, nil)
	f := e.follow(gnss + "?watch=true")
	done := make(chan error, 1)
	go func() { done <- e.stop() }()
	f.ended()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// breaking is a Store whose running watches break when fail is closed.
type breaking struct {
	store.Store
	fail atomic.Pointer[chan struct{}]
}

func newBreak() *chan struct{} { c := make(chan struct{}); return &c }

func (b *breaking) Watch(ctx context.Context, k api.Kind, after api.Revision) (store.Watch, error) {
	w, err := b.Store.Watch(ctx, k, after)
	return &breakingWatch{w, *b.fail.Load()}, err
}

type breakingWatch struct {
	store.Watch
	fail chan struct{}
}

func (w *breakingWatch) Next(ctx context.Context) ([]api.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer func() { <-done }()
	defer cancel()
	go func() {
		defer close(done)
		select {
		case <-w.fail:
			cancel()
		case <-ctx.Done():
		}
	}()
	evs, err := w.Watch.Next(ctx)
	select {
	case <-w.fail:
		return nil, store.ErrUnavailable
	default:
		return evs, err
	}
}

// counting is a Store that counts its watches.
type counting struct {
	store.Store
	n atomic.Int64
}

func (c *counting) Watch(ctx context.Context, k api.Kind, after api.Revision) (store.Watch, error) {
	c.n.Add(1)
	return c.Store.Watch(ctx, k, after)
}

func TestFeed_GoesOnAfterItsWatchBroke(t *testing.T) {
	b := &breaking{}
	b.fail.Store(newBreak())
	e := start(t, func(c *Config) { b.Store = c.Store; c.Store = b })
	f := e.follow(gnss + "?watch=true&resourceVersion=" + e.revision(gnss))
	e.want(201, "POST", gnss, netset("a"))
	f.want("ADDED a")
	for i := range 3 {
		// The store's watch breaks; what happens meanwhile is not lost.
		close(*b.fail.Swap(newBreak()))
		name := fmt.Sprintf("b%d", i)
		e.want(201, "POST", gnss, netset(name))
		f.want("ADDED " + name)
	}
	e.want(200, "DELETE", gnss+"/a", "")
	f.want("DELETED a")
}

func TestFeed_SlowClientIsCutAndHarmsNobody(t *testing.T) {
	m := start(t, nil).mem
	fs := newFeeds(m, New(Config{Store: m}).log, 1024, 4)
	defer fs.close()
	_, rev, err := m.List(t.Context(), api.KindGlobalNetworkSet, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	slow, err := fs.subscribe(ctx, api.KindGlobalNetworkSet, rev)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.stop()
	quick, err := fs.subscribe(ctx, api.KindGlobalNetworkSet, rev)
	if err != nil {
		t.Fatal(err)
	}
	defer quick.stop()
	for i := range 10 {
		o := sample(t, api.KindGlobalNetworkSet)
		o.Metadata().Name = fmt.Sprintf("s%d", i)
		if _, err := m.Put(ctx, o, store.Always()); err != nil {
			t.Fatal(err)
		}
		c, err := quick.next(ctx, nil, nil)
		if err != nil || c.key.Name != o.Key().Name {
			t.Fatalf("quick client: got %v, %v, want %s", c, err, o.Key().Name)
		}
	}
	n := 0
	for err = nil; err == nil; n++ {
		_, err = slow.next(ctx, nil, nil)
	}
	if !errors.Is(err, errSlow) || n != 4+1 {
		t.Errorf("slow client: %v after %d events, want %v after 4", err, n-1, errSlow)
	}
}

func TestFeed_OneStoreWatchServesAll(t *testing.T) {
	counting := &counting{}
	e := start(t, func(c *Config) { counting.Store = c.Store; c.Store = counting })
	before := counting.n.Load() // what the census watches
	rev := e.revision(gnss)
	for range 10 {
		e.follow(gnss + "?watch=true&resourceVersion=" + rev)
	}
	e.want(201, "POST", gnss, netset("a"))
	e.follow(gnss + "?watch=true&resourceVersion=" + rev).want("ADDED a")
	if n := counting.n.Load() - before; n != 1 {
		t.Errorf("11 clients cost %d watches of the store, want 1", n)
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 150 * time.Second: "2m30s", 10*time.Minute + 5*time.Second: "10m",
		3*time.Hour + 20*time.Minute: "3h20m", 9*time.Hour + time.Minute: "9h", 49 * time.Hour: "2d1h", 20 * 24 * time.Hour: "20d",
		400 * 24 * time.Hour: "1y35d", -time.Hour: "0s",
	} {
		if got := age(api.Time{Time: now.Add(-d)}, now); got != want {
			t.Errorf("age(%v): got %q, want %q", d, got, want)
		}
	}
	if got := age(api.Time{}, now); !strings.Contains(got, "unknown") {
		t.Errorf("age of no time: %q", got)
	}
	if diff := cmp.Diff("3h", age(api.Time{Time: now.Add(-3 * time.Hour)}, now)); diff != "" {
		t.Error(diff)
	}
}
