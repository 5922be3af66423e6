// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// Writer is a Sink that keeps the stream's picture and writes it down, from
// the goroutine that runs Run. Its memory is the stored JSON of every object.
// The Sink's methods never block on the disk.
type Writer struct {
	cfg  Config
	news chan struct{} // has room for one: there is something to write
	// damaged: a fault of the file that was loaded has been told. Flush's.
	damaged bool

	mu       sync.Mutex // guards all below
	entries  map[api.Key]entry
	guid     string
	revision api.Revision
	phase    syncer.Phase
	synced   bool // was InSync once
	partial  bool // events came in and InSync has not followed yet
	dirty    bool
}

// entry is one object: as JSON, or as object until it is written next.
type entry struct {
	revision api.Revision
	raw      []byte
	object   api.Object
	// unreadable: the object is an *api.Unreadable.
	unreadable bool
}

func unreadable(o api.Object) bool {
	_, is := o.(*api.Unreadable)
	return is
}

// NewWriter gives a Writer that starts from what Load gave, so that replaying
// the same does not write it again.
func NewWriter(cfg Config, l Loaded) *Writer {
	w := &Writer{cfg: cfg.withDefaults(), news: make(chan struct{}, 1), entries: make(map[api.Key]entry, len(l.records)),
		guid: l.Known.ClusterGUID, revision: l.Known.Revision, damaged: l.faulted}
	for i, r := range l.records {
		w.entries[r.key] = entry{revision: r.revision, raw: r.raw, unreadable: unreadable(l.Known.Events[i].Object)}
	}
	return w
}

// Phase takes note of the stream's phase.
func (w *Writer) Phase(_ context.Context, p syncer.Phase) error {
	w.mu.Lock()
	w.phase = p
	if p == syncer.InSync {
		w.synced, w.partial = true, false
	}
	w.wakeLocked()
	w.mu.Unlock()
	return nil
}

// Events takes note of what has changed.
func (w *Writer) Events(_ context.Context, evs []api.Event) error {
	w.mu.Lock()
	w.partial = w.partial || w.phase == syncer.Resyncing
	for _, ev := range evs {
		w.noteLocked(ev)
	}
	w.wakeLocked()
	w.mu.Unlock()
	return nil
}

func (w *Writer) noteLocked(ev api.Event) {
	switch old, had := w.entries[ev.Key]; {
	case ev.Key.Name == "": // a bookmark counts, but is not worth a write of its own unless history began anew
		w.dirty = w.dirty || ev.Revision < w.revision
		w.revision = ev.Revision
		return
	case ev.Object == nil:
		w.dirty = w.dirty || had
		delete(w.entries, ev.Key)
	case had && old.revision == ev.Revision && ev.Revision != 0 && old.raw != nil:
	case had && !old.unreadable && unreadable(ev.Object):
		// The last version that could be read is what is enforced, and what
		// has to be enforced after a restart; the store, once it answers, will
		// show again that it has another revision.
	default:
		w.dirty = true
		w.entries[ev.Key] = entry{revision: ev.Revision, object: ev.Object, unreadable: unreadable(ev.Object)}
	}
	w.revision = max(w.revision, ev.Revision)
	if ci, ok := ev.Object.(*api.ClusterInformation); ok && ci.Name == api.DefaultName && ci.Spec.ClusterGUID != w.guid {
		w.guid, w.dirty = ci.Spec.ClusterGUID, true
	}
}

func (w *Writer) wakeLocked() {
	if !w.dirty || !w.synced || w.partial {
		return
	}
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// Run writes what is new, Config.Delay after it came and at most once in
// Config.Every, until ctx ends; then it writes what is left and returns nil.
// A write that fails is told and tried again: the old file stays good.
func (w *Writer) Run(ctx context.Context) error {
	failing := false
	for {
		select {
		case <-ctx.Done():
			w.tell(&failing, w.Flush())
			return nil
		case <-w.news:
		}
		if !w.wait(ctx, w.cfg.Delay) {
			continue
		}
		err := w.Flush()
		w.tell(&failing, err)
		if err != nil {
			w.mu.Lock()
			w.wakeLocked()
			w.mu.Unlock()
		}
		w.wait(ctx, w.cfg.Every-w.cfg.Delay)
	}
}

// wait reports false if ctx ended first.
func (w *Writer) wait(ctx context.Context, d time.Duration) bool {
	t := w.cfg.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return true
	}
}

// tell logs the first of a row of failures and the end of the row.
func (w *Writer) tell(failing *bool, err error) {
	switch {
	case err != nil && !*failing:
		w.cfg.Log.Error("snapshot: not written, the old one stays", "err", err)
		w.cfg.Fault(fmt.Sprintf("snapshot is not written: %v", err))
	case err == nil && *failing:
		w.cfg.Log.Info("snapshot: written again")
		w.cfg.Fault("")
	}
	*failing = err != nil
}

// Flush writes now what is to be written, if anything. Call it when Run does
// not run.
func (w *Writer) Flush() error {
	h, records, err := w.take()
	if err != nil || records == nil {
		return err
	}
	if err := w.write(h, records); err != nil {
		w.mu.Lock()
		w.dirty = true
		w.mu.Unlock()
		return err
	}
	if w.damaged { // it is another file now
		w.damaged = false
		w.cfg.Fault("")
	}
	return nil
}

// take gives the picture as it is to be written; nil if nothing is. Objects
// are encoded without holding the stream up.
func (w *Writer) take() (Header, []record, error) {
	w.mu.Lock()
	if !w.dirty || !w.synced || w.partial {
		w.mu.Unlock()
		return Header{}, nil, nil
	}
	h := Header{Host: w.cfg.Host, ClusterGUID: w.guid, Revision: w.revision, Created: w.cfg.Clock.Now().UTC().Truncate(time.Second), Version: api.Version}
	records := make([]record, 0, len(w.entries))
	objects := map[int]api.Object{} // place in records
	for k, e := range w.entries {
		if e.raw == nil {
			objects[len(records)] = e.object
		}
		records = append(records, record{key: k, revision: e.revision, raw: e.raw})
	}
	w.dirty = false
	w.mu.Unlock()

	var err error
	for i, o := range objects {
		if records[i].raw, err = encodeObject(o); err != nil {
			err = fmt.Errorf("%s: %w", records[i].key, err)
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.dirty = true
		return Header{}, nil, err
	}
	for i, o := range objects {
		if e, ok := w.entries[records[i].key]; ok && e.object == o {
			w.entries[records[i].key] = entry{revision: e.revision, raw: records[i].raw, unreadable: e.unreadable}
		}
	}
	slices.SortFunc(records, func(a, b record) int { return a.key.Compare(b.key) })
	return h, records, nil
}

// write replaces the file and keeps the one before.
func (w *Writer) write(h Header, records []record) error {
	if err := host.MkdirPrivate(w.cfg.Dir); err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(w.cfg.Dir, name) }
	if err := host.WriteFileAtomic(path(fileNew), 0o600, func(out io.Writer) error { return encode(out, h, records) }); err != nil {
		return err
	}
	// From here on each step leaves at least one good file under a name that
	// Load looks at.
	if err := os.Rename(path(fileLast), path(fileBefore)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(path(fileNew), path(fileLast)); err != nil {
		return err
	}
	return host.SyncDir(w.cfg.Dir)
}
