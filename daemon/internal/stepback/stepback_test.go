// SPDX-License-Identifier: Apache-2.0

package stepback

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// picture is a Sink that knows what it was told last of each set.
type picture map[api.Key]api.Object

func (p picture) Phase(context.Context, syncer.Phase) error { return nil }
func (p picture) Events(_ context.Context, evs []api.Event) error {
	for _, ev := range evs {
		delete(p, ev.Key)
		if ev.Object != nil {
			p[ev.Key] = ev.Object
		}
	}
	return nil
}

func (p picture) String() string {
	var words []string
	for k, o := range p {
		switch x := o.(type) {
		case *api.GlobalNetworkSet:
			words = append(words, k.Name+"="+strings.Join(x.Spec.Nets, ","))
		case *api.GlobalNetworkPolicy:
			words = append(words, fmt.Sprintf("%s=%v", k.Name, *x.Spec.Order))
		case *api.HostEndpoint:
			words = append(words, k.Name+"@"+x.Spec.Node)
		}
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// is is an event of a policy with an order; of a negative one it is gone.
func is(name string, order float64, rev api.Revision) api.Event {
	k := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: name}
	if order < 0 {
		return api.Event{Key: k, Revision: rev}
	}
	o := &api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy, APIVersion: api.VersionCalico}}
	o.Name, o.Spec.Order, o.Spec.Selector = name, &order, "all()"
	return api.Event{Key: k, Object: o, Revision: rev}
}

func set(name, net string, rev api.Revision) api.Event {
	o := &api.GlobalNetworkSet{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico}}
	o.Name, o.Spec.Nets = name, []string{net}
	return api.Event{Key: o.Key(), Object: o, Revision: rev}
}

// world is a host: what its Filter passes on is enforced and saved.
type world struct {
	t       *testing.T
	dir     string
	clock   *host.FakeClock
	f       *Filter
	now     picture
	rev     api.Revision
	records []string
	told    *api.SteppedBack
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), clock: host.NewFakeClock(time.Unix(1e9, 0)), now: picture{}}
	w.start(false)
	w.change(is("a", 1, 0), is("b", 2, 0))
	if err := w.f.Phase(t.Context(), syncer.InSync); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) start(known bool) {
	w.f = New(Config{Next: w.now, Dir: w.dir, Node: "here", Known: known, Revision: w.rev, Clock: w.clock, Log: slog.New(slog.DiscardHandler),
		Stored:  func(k api.Key) func() api.Object { o := w.now[k]; return func() api.Object { return o } },
		Record:  func(verb, by, _ string) error { w.records = append(w.records, verb+" "+by); return nil },
		Changed: func(s *api.SteppedBack) { w.told = s }})
	if err := w.f.Begin(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// change is what somebody writes into the store, and time going by.
func (w *world) change(evs ...api.Event) {
	w.t.Helper()
	for i := range evs {
		w.rev++
		evs[i].Revision = w.rev
	}
	w.hear(evs...)
	w.clock.Advance(pause)
}

func (w *world) hear(evs ...api.Event) {
	w.t.Helper()
	if err := w.f.Events(w.t.Context(), evs); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) back() api.SteppedBack {
	w.t.Helper()
	s, err := w.f.Back(w.t.Context(), "root")
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) want(when, now string) {
	w.t.Helper()
	if got := w.now.String(); got != now {
		w.t.Errorf("%s: %s, want %s", when, got, now)
	}
}

func TestBack_GoesChangeByChange(t *testing.T) {
	w := newWorld(t)
	if _, err := w.f.Back(t.Context(), "root"); !errors.Is(err, ErrNothing) {
		t.Fatalf("of the first listing nothing can be undone: %v", err)
	}
	w.change(is("a", 3, 0), is("c", 4, 0)) // one change of two
	w.change(is("b", -1, 0))
	w.want("now", "a=3 c=4")
	if s := w.back(); s.Count != 1 || s.Left != 1 || s.By != "root" || !slices.Equal(s.Resources, []string{"GlobalNetworkPolicy(b)"}) {
		t.Errorf("told: %+v", s)
	}
	w.want("one back", "a=3 b=2 c=4")
	if s := w.back(); s.Count != 3 || s.Left != 0 || !s.Before.Before(w.clock.Now().Add(-pause)) {
		t.Errorf("told: %+v", s)
	}
	w.want("two back", "a=1 b=2")
	if w.told == nil || w.told.Count != 3 {
		t.Errorf("status: %+v", w.told)
	}
	if was, err := w.f.Undo(t.Context(), "root"); !was || err != nil {
		t.Errorf("undo: %v %v", was, err)
	}
	w.want("undone", "a=3 c=4")
	if was, _ := w.f.Undo(t.Context(), "root"); was || w.told != nil {
		t.Error("undone twice, or the status still says that something is held")
	}
	w.back()
	w.want("the undoing is a change, too", "a=1 b=2")
	if want := []string{"rollback root", "rollback root", "rollback-undo root", "rollback root"}; !slices.Equal(w.records, want) {
		t.Errorf("on record: %q", w.records)
	}
}

func TestBack_WhatIsWrittenAnewIsLetGo(t *testing.T) {
	w := newWorld(t)
	w.change(is("a", 3, 0), is("b", -1, 0))
	w.back()
	w.want("back", "a=1 b=2")
	w.hear(is("a", 3, w.rev-1)) // told again, as after a break
	w.want("an old word", "a=1 b=2")
	w.change(is("a", 5, 0))
	w.want("a repair gets through", "a=5 b=2")
	w.hear(is("b", -1, w.rev+10))
	w.want("what was gone is told to be gone again", "a=5 b=2")
	w.change(is("b", 6, 0))
	w.want("all are let go", "a=5 b=6")
	if w.told != nil {
		t.Errorf("held: %+v", w.told)
	}
}

func TestBack_HoldsOverRestartsAndReboots(t *testing.T) {
	w := newWorld(t)
	w.change(is("a", 3, 0), is("b", -1, 0), is("c", 4, 0))
	saved := maps.Clone(w.now) // the snapshot is older than what follows
	w.back()
	w.want("back", "a=1 b=2")
	w.now = saved
	batches := func(yield func([]api.Event) bool) {
		for k, o := range saved {
			if !yield([]api.Event{{Key: k, Object: o}}) {
				return
			}
		}
	}
	booted := picture{}
	for evs := range Over(w.dir, slog.New(slog.DiscardHandler), batches) {
		_ = booted.Events(t.Context(), evs)
	}
	if got := booted.String(); got != "a=1 b=2" {
		t.Errorf("at the machine's start: %s", got)
	}
	w.start(true)
	w.want("the agent is started anew", "a=1 b=2")
	if w.told == nil || w.told.Count != 3 || w.told.By != "root" {
		t.Errorf("status: %+v", w.told)
	}
	// The listing, compared with what is saved.
	w.hear(is("a", 3, w.rev-2), is("b", -1, w.rev), is("c", 4, w.rev))
	w.want("the store is there", "a=1 b=2")
	if _, err := w.f.Undo(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	w.want("undone", "a=3 c=4")
}

// TestBack_DamagedFileIsNoFile: the store's word counts, and the saved state.
func TestBack_DamagedFileIsNoFile(t *testing.T) {
	w := newWorld(t)
	w.change(is("a", 3, 0))
	w.back()
	file := filepath.Join(w.dir, fileName)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", strings.Replace(string(good), `"GlobalNetworkPolicy"`, `"Node"`, 1), strings.Replace(string(good), "selector", "selektor", 1), string(good[:len(good)/2])} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		w.now = picture{}
		w.start(true)
		if len(w.now) != 0 || w.told != nil {
			t.Errorf("%.40q: something is held: %v", bad, w.now)
		}
	}
}

func TestJournal_IsOfThisHostAndBounded(t *testing.T) {
	w := newWorld(t)
	endpoint := func(name, node string) api.Event {
		o := &api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindHostEndpoint, APIVersion: api.VersionCalico}}
		o.Name, o.Spec.Node, o.Spec.InterfaceName = name, node, "eth0"
		return api.Event{Key: o.Key(), Object: o}
	}
	w.change(endpoint("mine", "here"))
	w.change(endpoint("theirs", "there"))
	w.change(api.Event{Key: endpoint("theirs", "there").Key})
	w.back()
	w.want("the endpoint of another host is no change", "a=1 b=2")

	w.change(is("a", 3, 0))
	for i := range 100 { // a program that goes on writing sets
		w.change(set(fmt.Sprint("s", i%3), fmt.Sprintf("10.0.%d.0/24", i), 0))
	}
	w.back()
	w.back()
	if w.now[is("a", 1, 0).Key] == nil || !strings.HasPrefix(w.now.String(), "a=1 b=2") || strings.Contains(w.now.String(), "s0") {
		t.Errorf("after sets: %s", w.now)
	}
	for i := range 3 * maxChanges {
		w.change(is("a", float64(10+i), 0))
	}
	n := 0
	for ; n < 10*maxChanges; n++ {
		if _, err := w.f.Back(t.Context(), "root"); err != nil {
			break
		}
	}
	if n != maxChanges {
		t.Errorf("%d changes are kept, want %d", n, maxChanges)
	}
}

// TestJournal_WhatIsTooLargeIsPassedOver: a change of sets, but not one of
// policy, without which what was before it is not known.
func TestJournal_WhatIsTooLargeIsPassedOver(t *testing.T) {
	w := newWorld(t)
	w.change(is("a", 3, 0))
	noise := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	many := set("many", "fd00::/8", 0)
	many.Object.Metadata().Annotations = map[string]string{"noise": base64.StdEncoding.EncodeToString(noise)}
	w.change(many)
	w.back()
	delete(w.now, many.Key)
	w.want("a large set came in between", "a=1 b=2")

	w.change(is("b", 5, 0))
	w.change(many, is("a", 7, 0))
	if _, err := w.f.Back(t.Context(), "root"); !errors.Is(err, ErrNothing) {
		t.Errorf("Back before a change that is too large: %v, want ErrNothing", err)
	}
	delete(w.now, many.Key)
	w.want("after that", "a=7 b=5")
}

// heard closes once something is logged.
type heard struct {
	slog.Handler
	once sync.Once
	c    chan struct{}
}

func (h *heard) Handle(context.Context, slog.Record) error {
	h.once.Do(func() { close(h.c) })
	return nil
}

// TestRun_WritesAgainWhatCouldNotBeWritten: the disk is full for a while; no
// more news is needed for what was noted then to be on disk.
func TestRun_WritesAgainWhatCouldNotBeWritten(t *testing.T) {
	w := newWorld(t)
	w.change(is("a", 3, 0))
	w.back()
	full := filepath.Join(w.dir, fileName)
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(full, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.change(is("a", 4, 0)) // is let go
	said := &heard{Handler: slog.NewTextHandler(io.Discard, nil), c: make(chan struct{})}
	w.f.cfg.Log = slog.New(said)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.f.Run(ctx) }()
	wait := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 30 s: %s", what)
			}
			w.clock.Advance(saveEvery)
		}
	}
	wait("it says that it cannot write", func() bool {
		select {
		case <-said.c:
			return true
		default:
			return false
		}
	})
	if err := os.RemoveAll(full); err != nil {
		t.Fatal(err)
	}
	wait("it is written", func() bool {
		s, err := read(w.dir)
		return err == nil && len(s.Journal) > 0 && len(s.Held) == 0
	})
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.start(true)
	w.want("the next agent", "a=4 b=2")
	w.back()
	w.want("the next agent goes back", "a=1 b=2")
}

// TestJournal_IsOnDisk: the next agent goes back before what this one heard.
func TestJournal_IsOnDisk(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.f.Run(ctx) }()
	w.change(is("a", 3, 0))
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.start(true)
	w.back()
	w.want("by the next agent", "a=1 b=2")
}

// TestBack_RandomHistoriesAgreeWithAModel: writes, repeats, steps back,
// undoing and restarts in any order; the model keeps whole pictures.
func TestBack_RandomHistoriesAgreeWithAModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		w := newWorld(t)
		live := map[string]float64{"a": 1, "b": 2}     // the store's
		enforced := maps.Clone(live)                   // this host's
		held := map[string]bool{}                      // which it holds
		written := map[string]api.Revision{}           // when each was
		type undo struct{ before map[string]*float64 } // a journal entry
		var journal []undo
		was := func(m map[string]float64, name string) *float64 {
			if v, is := m[name]; is {
				return &v
			}
			return nil
		}
		put := func(m map[string]float64, name string, v *float64) {
			delete(m, name)
			if v != nil {
				m[name] = *v
			}
		}
		for range 30 {
			name := string(rune('a' + r.IntN(4)))
			switch r.IntN(7) {
			case 0, 1, 2:
				order := float64(r.IntN(100))
				if _, there := live[name]; there && r.IntN(3) == 0 {
					order = -1
				}
				if _, there := live[name]; !there && order < 0 {
					continue
				}
				journal = append(journal, undo{map[string]*float64{name: was(enforced, name)}})
				v := &order
				if order < 0 {
					v = nil
				}
				put(live, name, v)
				put(enforced, name, v)
				delete(held, name)
				w.change(is(name, order, 0))
				written[name] = w.rev
			case 3, 4:
				if len(journal) == 0 {
					continue
				}
				u := journal[len(journal)-1]
				journal = journal[:len(journal)-1]
				for n, v := range u.before {
					put(enforced, n, v)
					held[n] = true
				}
				w.back()
			case 5:
				if len(held) == 0 {
					continue
				}
				u := undo{map[string]*float64{}}
				for n := range held {
					u.before[n] = was(enforced, n)
					put(enforced, n, was(live, n))
				}
				clear(held)
				journal = append(journal, u)
				if _, err := w.f.Undo(t.Context(), "root"); err != nil {
					t.Fatal(err)
				}
				w.clock.Advance(pause)
			case 6: // a new agent, and the listing that it gets
				w.f.mu.Lock()
				_ = w.f.saveLocked()
				w.f.mu.Unlock()
				w.start(true)
				for n := range held {
					order := -1.0
					if v, is := live[n]; is {
						order = v
					}
					rev := written[n] // as an object; that it is gone is told of now
					if order < 0 {
						rev = w.rev
					}
					w.hear(is(n, order, rev))
				}
			}
			var words []string
			for n, v := range enforced {
				words = append(words, fmt.Sprintf("%s=%v", n, v))
			}
			slices.Sort(words)
			w.want("model", strings.Join(words, " "))
			if t.Failed() {
				return
			}
		}
	}
}

// FuzzParse: nothing that stands in the file makes the agent fall over.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"journal":[{"at":"2026-01-01T00:00:00Z","objects":[{"kind":"Tier","name":"t"}]}],"held":[]}`))
	f.Add([]byte(`{"journal":[null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		_, _ = parse(data)
	})
}
