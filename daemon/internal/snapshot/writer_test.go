// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// resum puts the right sum behind changed bytes.
func resum(b []byte) []byte {
	body := b[:len(b)-sumBytes]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

// rest lets d pass and waits until all goroutines of the bubble stand still.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func header(t testing.TB, cfg Config, name string) Header {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cfg.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestWriter_WritesOnlyAWholePicture(t *testing.T) {
	ctx := context.Background()
	cfg := testConfig(t.TempDir())
	w := NewWriter(cfg, Loaded{})
	flushed := func(want bool, when string) {
		t.Helper()
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := exists(cfg, fileLast); got != want {
			t.Errorf("%s: file written is %v, want %v", when, got, want)
		}
		os.RemoveAll(cfg.Dir)
	}
	w.Phase(ctx, syncer.Resyncing)
	w.Events(ctx, sample())
	flushed(false, "before the first InSync")
	w.Phase(ctx, syncer.InSync)
	flushed(true, "when InSync")
	flushed(false, "nothing new")
	w.Phase(ctx, syncer.Waiting)
	w.Events(ctx, []api.Event{event(gns("b", "10.0.0.0/8"), 13)})
	flushed(true, "change while others wait")
	w.Phase(ctx, syncer.Resyncing)
	w.Events(ctx, []api.Event{event(gns("c", "10.0.0.0/8"), 14)})
	flushed(false, "half of a listing")
	w.Phase(ctx, syncer.InSync)
	flushed(true, "the other half")
	w.Events(ctx, []api.Event{bookmark(20)})
	flushed(false, "a bookmark alone")
	w.Events(ctx, []api.Event{bookmark(5)})
	flushed(true, "history began anew")
	w.Events(ctx, []api.Event{{Key: gns("nobody", "").Key(), Revision: 6}})
	flushed(false, "deletion of what was not there")
}

func TestWriter_ReplayOfTheSameIsNotWrittenAgain(t *testing.T) {
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	l, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(cfg, l)
	if err := l.Known.Replay(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil || exists(cfg, fileBefore) {
		t.Errorf("Flush after a replay = %v, and it was written again: %v", err, exists(cfg, fileBefore))
	}
	w.Events(context.Background(), []api.Event{event(gns("n", "10.0.0.0/8"), 20), {Key: gns("a", "").Key(), Revision: 21}})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if a, b := header(t, cfg, fileLast), header(t, cfg, fileBefore); a.Count != 4 || a.Revision != 21 || b.Count != 4 || b.Revision != 12 {
		t.Errorf("last %+v, before %+v; want 4 objects at 21 and 4 at 12", a, b)
	}
}

func TestWriter_GathersChangesAndKeepsItsDistance(t *testing.T) {
	cfg := testConfig(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		writes := 0
		w := NewWriter(cfg, Loaded{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		feed(t, w, sample())
		var last api.Revision
		for i := range 1000 { // a change each 100 ms for 100 s
			w.Events(ctx, []api.Event{event(gns("a", "10.0.0.0/8"), api.Revision(100+i))})
			rest(100 * time.Millisecond)
			synctest.Wait()
			if exists(cfg, fileLast) {
				if h := header(t, cfg, fileLast); h.Revision != last {
					writes++
					last = h.Revision
				}
			}
		}
		if writes < 9 || writes > 12 {
			t.Errorf("%d writes in 100 s of changes, want 9 to 12", writes)
		}
		w.Events(ctx, []api.Event{event(gns("a", "10.0.0.0/8"), 5000)})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if h := header(t, cfg, fileLast); h.Revision != 5000 {
			t.Errorf("after the end the file is at revision %d, want 5000", h.Revision)
		}
	})
}

func TestWriter_FailedWriteIsToldAndTriedAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir)
	if err := os.WriteFile(cfg.Dir, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []string
	cfg.Fault = func(s string) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, s)
	}
	told := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
	synctest.Test(t, func(t *testing.T) {
		w := NewWriter(cfg, Loaded{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		feed(t, w, sample())
		rest(time.Minute)
		synctest.Wait()
		if faults := told(); len(faults) != 1 || faults[0] == "" {
			t.Errorf("faults = %q, want one", faults)
		}
		os.Remove(cfg.Dir)
		rest(time.Minute)
		synctest.Wait()
		if faults := told(); !exists(cfg, fileLast) || len(faults) != 2 || faults[1] != "" {
			t.Errorf("after the cure: written %v, faults %q; want true and an empty one", exists(cfg, fileLast), faults)
		}
		cancel()
		<-done
	})
}

func TestWriter_CrashBetweenItsStepsLeavesAGoodFile(t *testing.T) {
	// The steps that change names, undone one by one from a finished write.
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	written(t, cfg, append(sample(), event(gns("late", "10.0.0.0/8"), 13)))
	path := func(n string) string { return filepath.Join(cfg.Dir, n) }
	if err := os.Rename(path(fileLast), path(fileNew)); err != nil { // died before the last rename
		t.Fatal(err)
	}
	if l, err := Load(cfg); err != nil || l.File != fileBefore {
		t.Errorf("Load = %q, %v, want snapshot.1", l.File, err)
	}
	if err := os.Rename(path(fileBefore), path(fileLast)); err != nil { // died before the one before it
		t.Fatal(err)
	}
	if l, err := Load(cfg); err != nil || l.File != fileLast || l.Known.Revision != 12 {
		t.Errorf("Load = %q at %d, %v, want snapshot at 12", l.File, l.Known.Revision, err)
	}
	written(t, cfg, append(sample(), event(gns("later", "10.0.0.0/8"), 14)))
	if l, err := Load(cfg); err != nil || l.Known.Revision != 14 || exists(cfg, fileNew) {
		t.Errorf("Load after the next write = %d, %v; leftover: %v", l.Known.Revision, err, exists(cfg, fileNew))
	}
}

func FuzzRead(f *testing.F) {
	good := file(f, Header{Host: "h1"}, []record{{key: api.Key{Kind: api.KindTier, Name: "a"}, revision: 3, raw: []byte(`{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"a"},"spec":{}}`)}})
	old, err := os.ReadFile("testdata/format1.snapshot")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-sumBytes])
	f.Add(old[:len(old)-sumBytes])
	f.Add([]byte(magic + "\x00\x00\x00\x02{}"))
	f.Add([]byte(magic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		// With the right sum behind it, any body gets past the first gate.
		sum := sha256.Sum256(body)
		whole := append(bytes.Clone(body), sum[:]...)
		h, im, err := parse(whole)
		if err != nil {
			return
		}
		for batch := range im.events {
			for _, ev := range batch {
				if ev.Object == nil {
					t.Fatalf("object of %s is nil", ev.Key)
				}
			}
		}
		var again bytes.Buffer
		if err := encode(&again, h, im); err != nil {
			t.Fatal(err)
		}
		h.Format = formatVersion
		h2, im2, err := parse(again.Bytes())
		if err != nil || fmt.Sprint(h2) != fmt.Sprint(h) || im2.count() != im.count() {
			t.Fatalf("parse of what was encoded = %+v, %v; want %+v", h2, err, h)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	cfg := testConfig(b.TempDir())
	evs := []api.Event{event(clusterInformation("0123"), 1)}
	for i := range 10_000 {
		evs = append(evs, event(gns(fmt.Sprintf("set-%d", i), "10.0.0.0/8"), api.Revision(i+2)))
	}
	written(b, cfg, evs)
	for b.Loop() {
		if l, err := Load(cfg); err != nil || known(l) != len(evs) {
			b.Fatalf("Load = %d objects, %v", known(l), err)
		}
	}
}

// A value that cannot be read must not push out of the snapshot the version
// that is enforced in its place.
func TestWriter_KeepsTheLastVersionThatCouldBeRead(t *testing.T) {
	ctx := context.Background()
	cfg := testConfig(t.TempDir())
	broken := func(name string, rev api.Revision) api.Event {
		k := gns(name, "").Key()
		return api.Event{Key: k, Object: api.DecodeStored(k, []byte("{"), rev), Revision: rev}
	}
	check := func(when string, want map[string]api.Revision) {
		t.Helper()
		l, err := Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]api.Revision{}
		for _, ev := range events(l) {
			if _, bad := ev.Object.(*api.Unreadable); bad != (ev.Key.Name == "new") {
				t.Errorf("%s: %s unreadable: %v", when, ev.Key, bad)
			}
			got[ev.Key.Name] = ev.Revision
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: revisions, want -, got +:\n%s", when, diff)
		}
	}
	w := NewWriter(cfg, Loaded{})
	w.Phase(ctx, syncer.InSync)
	w.Events(ctx, []api.Event{event(gns("old", "10.0.0.0/8"), 13), broken("new", 14), broken("old", 15)})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	check("broken after good", map[string]api.Revision{"old": 13, "new": 14})

	l, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w = NewWriter(cfg, l)
	w.Phase(ctx, syncer.InSync)
	w.Events(ctx, []api.Event{broken("old", 15), broken("new", 16)})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	check("again after a restart", map[string]api.Revision{"old": 13, "new": 16})
}
