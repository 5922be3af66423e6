// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

func gns(name, net string) api.Object {
	o := &api.GlobalNetworkSet{}
	o.Kind, o.APIVersion, o.Name = api.KindGlobalNetworkSet, api.VersionCalico, name
	o.Spec.Nets = []string{net}
	return o
}

func clusterInformation(guid string) api.Object {
	ready := true
	o := &api.ClusterInformation{}
	o.Kind, o.APIVersion, o.Name = api.KindClusterInformation, api.VersionCalico, api.DefaultName
	o.Spec.ClusterGUID, o.Spec.DatastoreReady = guid, &ready
	return o
}

func event(o api.Object, rev api.Revision) api.Event {
	return api.Event{Key: o.Key(), Object: o, Revision: rev}
}

func bookmark(rev api.Revision) api.Event {
	return api.Event{Key: api.Key{Kind: api.KindTier}, Revision: rev}
}

// sample is a small picture with a policy, whose stored name lies in an
// annotation, and a value that cannot be understood.
func sample() []api.Event {
	p := &api.GlobalNetworkPolicy{}
	p.Kind, p.APIVersion, p.Name = api.KindGlobalNetworkPolicy, api.VersionCalico, "default.allow"
	p.Spec.Selector, p.Spec.Tier = "all()", "default"
	p.Labels = map[string]string{"projectcalico.org/tier": "default"} // as every stored policy has
	p.Spec.Types = []api.PolicyType{api.Ingress}
	k := api.Key{Kind: api.KindTier, Name: "broken"}
	return []api.Event{
		event(clusterInformation("0123456789abcdef0123456789abcdef"), 2), event(p, 7), event(gns("a", "10.0.0.0/8"), 8),
		event(api.DecodeStored(k, []byte(`{"kind":"Tier","metadata":{"name":"broken"},"spec":{"order":"x"}}`), 9), 9), bookmark(12),
	}
}

func testConfig(dir string) Config { return Config{Dir: filepath.Join(dir, "agent"), Host: "h1"} }

// file is a file with these records, which are sorted.
func file(t testing.TB, h Header, recs []record) []byte {
	t.Helper()
	var p packer
	for _, r := range recs {
		if err := p.add(r); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := encode(&out, h, p.done()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// records are those of an image.
func records(im image) (all []record) {
	var u unpacker
	for _, b := range im {
		must(u.each(b, func(r record) error {
			r.raw = bytes.Clone(r.raw)
			all = append(all, r)
			return nil
		}))
	}
	return all
}

// events are those of a snapshot.
func events(l Loaded) (all []api.Event) {
	if l.Known.Events == nil {
		return nil
	}
	for batch := range l.Known.Events {
		all = append(all, batch...)
	}
	return all
}

// known is how many objects a snapshot has.
func known(l Loaded) int {
	if l.Known.Objects == nil {
		return 0
	}
	return l.Known.Objects.Len()
}

// written makes a directory with a snapshot of evs.
func written(t testing.TB, cfg Config, evs []api.Event) {
	t.Helper()
	l, err := Load(cfg)
	if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	w := NewWriter(cfg, l)
	feed(t, w, evs)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

func feed(t testing.TB, s syncer.Sink, evs []api.Event) {
	t.Helper()
	ctx := context.Background()
	if err := errors.Join(s.Phase(ctx, syncer.Resyncing), s.Events(ctx, evs), s.Phase(ctx, syncer.InSync)); err != nil {
		t.Fatal(err)
	}
}

func exists(cfg Config, name string) bool {
	_, err := os.Lstat(filepath.Join(cfg.Dir, name))
	return !errors.Is(err, fs.ErrNotExist)
}

func damagedFiles(t testing.TB, cfg Config) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(cfg.Dir, damagedStart+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func flip(t testing.TB, cfg Config, name string) {
	t.Helper()
	path := filepath.Join(cfg.Dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshot_GivesBackWhatWasWritten(t *testing.T) {
	cfg := testConfig(t.TempDir())
	evs := sample()
	written(t, cfg, evs)
	l, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if l.Known.Revision != 12 || l.Known.ClusterGUID != "0123456789abcdef0123456789abcdef" || l.Known.Lost {
		t.Errorf("Load: revision %d, GUID %q, lost %v; want 12, the cluster's, false", l.Known.Revision, l.Known.ClusterGUID, l.Known.Lost)
	}
	got := map[api.Key]api.Event{}
	for _, ev := range events(l) {
		got[ev.Key] = ev
	}
	if len(got) != 4 {
		t.Fatalf("Load gave %d objects, want 4: %v", len(got), got)
	}
	for _, ev := range evs[:4] {
		if u, ok := ev.Object.(*api.Unreadable); ok {
			v, ok := got[ev.Key].Object.(*api.Unreadable)
			if !ok || !bytes.Equal(u.Raw, v.Raw) || got[ev.Key].Revision != 9 {
				t.Errorf("value that cannot be understood came back as %#v", got[ev.Key])
			}
			continue
		}
		want := api.Clone(ev.Object)
		want.Metadata().ResourceVersion = fmt.Sprint(ev.Revision)
		if diff := cmp.Diff(want, got[ev.Key].Object); diff != "" || got[ev.Key].Revision != ev.Revision {
			t.Errorf("%s at %d came back at %d (-want +got):\n%s", ev.Key, ev.Revision, got[ev.Key].Revision, diff)
		}
	}
	st, err := os.Stat(filepath.Join(cfg.Dir, fileLast))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the snapshot = %v, %v, want 0600", st.Mode(), err)
	}
	if st, err = os.Stat(cfg.Dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory = %v, %v, want 0700", st.Mode(), err)
	}
}

func TestSnapshot_NoneIsNotDamage(t *testing.T) {
	l, err := Load(testConfig(t.TempDir()))
	if !errors.Is(err, ErrNone) || l.Known.Lost {
		t.Errorf("Load of nothing = lost %v, %v, want ErrNone and nothing lost", l.Known.Lost, err)
	}
}

func TestSnapshot_EveryFlippedBitAndEveryTruncationIsFound(t *testing.T) {
	recs := []record{{key: api.Key{Kind: api.KindNetworkSet, Namespace: "n", Name: "b"}, revision: 4, raw: []byte("{}")}, {key: api.Key{Kind: api.KindTier, Name: "a"}, revision: 3, raw: []byte(`{"kind":"Tier"}`)}}
	good := file(t, Header{Host: "h1", Revision: 4, Created: time.Unix(0, 0).UTC()}, recs)
	if h, im, err := parse(good); err != nil || h.Count != 2 || h.Revision != 4 || !cmp.Equal(records(im), recs, cmp.AllowUnexported(record{})) {
		t.Fatalf("parse of the good file = %+v, %v, %v", h, records(im), err)
	}
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, _, err := parse(b); !errors.Is(err, ErrDamaged) {
				t.Fatalf("parse with bit %d of byte %d flipped = %v, want ErrDamaged", bit, i, err)
			}
		}
		if _, _, err := parse(good[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("parse of the first %d of %d bytes = %v, want ErrDamaged", i, len(good), err)
		}
		if _, _, err := parse(append(bytes.Clone(good), good[:i+1]...)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("parse with %d bytes more = %v, want ErrDamaged", i+1, err)
		}
	}
	t.Logf("%d flips and %d truncations found", len(good)*8, len(good))
}

func TestSnapshot_DamagedOneIsSetAsideAndTheOneBeforeIsUsed(t *testing.T) {
	cfg := testConfig(t.TempDir())
	var log bytes.Buffer
	var faults []string
	cfg.Log, cfg.Fault = slog.New(slog.NewTextHandler(&log, nil)), func(s string) { faults = append(faults, s) }
	written(t, cfg, sample())
	written(t, cfg, append(sample(), event(gns("late", "10.0.0.0/8"), 13)))
	flip(t, cfg, fileLast)
	l, err := Load(cfg)
	if err != nil || l.File != fileBefore || known(l) != 4 {
		t.Fatalf("Load = %s with %d objects, %v; want snapshot.1 with 4", l.File, known(l), err)
	}
	if exists(cfg, fileLast) || len(damagedFiles(t, cfg)) != 1 {
		t.Errorf("damaged file is still there, or not set aside: %v", damagedFiles(t, cfg))
	}
	if len(faults) != 1 || !strings.Contains(faults[0], "checksum") || !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("it was said like this: faults %q, log %q", faults, log.String())
	}
}

func TestSnapshot_BothDamagedIsLostNotNone(t *testing.T) {
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	written(t, cfg, append(sample(), event(gns("late", "10.0.0.0/8"), 13)))
	flip(t, cfg, fileLast)
	flip(t, cfg, fileBefore)
	r := &sink{}
	if err := (Source{cfg}).Run(context.Background(), r); !errors.Is(err, ErrDamaged) || r.events != 0 || len(r.phases) != 0 {
		t.Errorf("Run = %v after %d events and phases %v, want ErrDamaged and nothing sent", err, r.events, r.phases)
	}
	if l, err := Load(cfg); !errors.Is(err, ErrDamaged) || !l.Known.Lost {
		t.Errorf("Load once both are set aside = %+v, %v, want ErrDamaged and Lost still", l, err)
	}
	written(t, cfg, sample())
	written(t, cfg, append(sample(), event(gns("late", "10.0.0.0/8"), 13)))
	for range 5 {
		b, _ := os.ReadFile(filepath.Join(cfg.Dir, fileBefore))
		os.WriteFile(filepath.Join(cfg.Dir, fileLast), b[:20], 0o600)
		if l, err := Load(cfg); err != nil || l.File != fileBefore {
			t.Fatalf("Load = %s, %v", l.File, err)
		}
	}
	if n := len(damagedFiles(t, cfg)); n != damagedKept {
		t.Errorf("%d damaged files kept, want %d", n, damagedKept)
	}
}

func TestSnapshot_BothDamagedTellsTheGuard(t *testing.T) {
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	flip(t, cfg, fileLast)
	l, err := Load(cfg)
	if !errors.Is(err, ErrDamaged) || !l.Known.Lost || known(l) != 0 {
		t.Errorf("Load = %+v, %v, want Lost and ErrDamaged", l.Known, err)
	}
}

func TestSnapshot_OfAnotherHostIsRefusedAndLeftAlone(t *testing.T) {
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	cfg.Host = "h2"
	l, err := Load(cfg)
	if !errors.Is(err, ErrOtherHost) || known(l) != 0 || l.Known.Lost {
		t.Errorf("Load = %+v, %v, want ErrOtherHost and nothing", l.Known, err)
	}
	if !exists(cfg, fileLast) {
		t.Error("the other host's snapshot was removed")
	}
}

func TestSnapshot_SymbolicLinkIsNotFollowed(t *testing.T) {
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	path := filepath.Join(cfg.Dir, fileLast)
	if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
		t.Fatal(err)
	}
	if l, err := Load(cfg); err == nil || known(l) != 0 {
		t.Errorf("Load through a symbolic link = %d objects, %v, want an error", known(l), err)
	}
}

func TestSnapshot_NewerFormatIsNotSetAside(t *testing.T) {
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	path := filepath.Join(cfg.Dir, fileLast)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(`"format":2`), []byte(`"format":3`), 1)
	if err := os.WriteFile(path, resum(b), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(cfg)
	if err == nil || errors.Is(err, ErrDamaged) || !l.Known.Lost || !exists(cfg, fileLast) {
		t.Errorf("Load of a newer format = %+v, %v, want an error, Lost, and the file in place", l.Known, err)
	}
}

// TestSnapshot_OfFormat1IsRead: an agent that was upgraded enforces what the
// one before wrote, and goes on in the new format.
func TestSnapshot_OfFormat1IsRead(t *testing.T) {
	cfg := testConfig(t.TempDir())
	old, err := os.ReadFile("testdata/format1.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o700), os.WriteFile(filepath.Join(cfg.Dir, fileLast), old, 0o600)); err != nil {
		t.Fatal(err)
	}
	before, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	fresh := testConfig(t.TempDir())
	written(t, fresh, sample())
	want, err := Load(fresh)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(records(want.image), records(before.image), cmp.AllowUnexported(record{})); diff != "" || before.Header.Format != 1 || known(before) != 4 {
		t.Errorf("format %d, objects %v; of the same in format 2 (-) it differs in:\n%s", before.Header.Format, before.Known.Objects, diff)
	}
	w := NewWriter(cfg, before)
	feed(t, w, []api.Event{event(gns("late", "10.0.0.0/8"), 13)})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if h := header(t, cfg, fileLast); h.Format != formatVersion || h.Count != 5 {
		t.Errorf("the next file is %+v, want 5 objects in format %d", h, formatVersion)
	}
	for i := range old {
		b := bytes.Clone(old)
		b[i] ^= 1
		if _, _, err := parse(b); !errors.Is(err, ErrDamaged) {
			t.Fatalf("parse of format 1 with byte %d altered = %v, want ErrDamaged", i, err)
		}
	}
}

// sink counts.
type sink struct {
	events int
	phases []syncer.Phase
}

func (s *sink) Phase(_ context.Context, p syncer.Phase) error {
	s.phases = append(s.phases, p)
	return nil
}

func (s *sink) Events(_ context.Context, evs []api.Event) error {
	s.events += len(evs)
	return nil
}

func TestSource_ReplaysAndStandsStill(t *testing.T) {
	cfg := testConfig(t.TempDir())
	written(t, cfg, sample())
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		s := &sink{}
		done := make(chan error, 1)
		go func() { done <- Source{cfg}.Run(ctx, s) }()
		synctest.Wait()
		if s.events != 5 || s.phases[len(s.phases)-1] != syncer.InSync {
			t.Errorf("replayed %d events in phases %v, want 5 (one a bookmark) and InSync", s.events, s.phases)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}
