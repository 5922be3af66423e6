// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
// the goroutine that runs Run. It keeps the picture packed (see image), and as
// objects only what has changed since it last wrote. The Sink's methods never
// block on the disk.
type Writer struct {
	cfg  Config
	news chan struct{} // has room for one: there is something to write
	// Flush's: whether a fault of the file that was loaded has been told.
	damaged bool

	mu sync.Mutex // guards all below
	// image is what was last written or loaded, taken what Flush is about to
	// put into it, changes what came after.
	image    image
	taken    map[api.Key]change
	changes  map[api.Key]change
	guid     string
	revision api.Revision
	phase    syncer.Phase
	synced   bool // was InSync once
	partial  bool // events came in and InSync has not followed yet
	dirty    bool // to be written even if nothing in changes differs
}

// NewWriter gives a Writer that starts from what Load gave. That need not be
// replayed into it; if it is, it is not written again.
func NewWriter(cfg Config, l Loaded) *Writer {
	return &Writer{cfg: cfg.withDefaults(), news: make(chan struct{}, 1), changes: map[api.Key]change{},
		image: l.image, guid: l.Known.ClusterGUID, revision: l.Known.Revision, damaged: l.faulted}
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
	if ev.Key.Name == "" { // a bookmark counts, but is not worth a write of its own unless history began anew
		w.dirty = w.dirty || ev.Revision < w.revision
		w.revision = ev.Revision
		return
	}
	c := change{key: ev.Key, revision: ev.Revision, object: ev.Object}
	if before, ok := w.changes[ev.Key]; ok {
		c = before.then(c)
	}
	w.changes[ev.Key] = c
	w.revision = max(w.revision, ev.Revision)
	if ci, ok := ev.Object.(*api.ClusterInformation); ok && ci.Name == api.DefaultName && ci.Spec.ClusterGUID != w.guid {
		w.guid, w.dirty = ci.Spec.ClusterGUID, true
	}
}

func (w *Writer) wakeLocked() {
	if w.idleLocked() {
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

// idleLocked reports whether there is nothing to write, or nothing that may be
// written: half a listing is no picture.
func (w *Writer) idleLocked() bool {
	return !w.dirty && len(w.changes) == 0 || !w.synced || w.partial
}

// Flush writes now what is to be written, if anything. Call it when Run does
// not run.
func (w *Writer) Flush() error {
	w.mu.Lock()
	if w.idleLocked() {
		w.mu.Unlock()
		return nil
	}
	h := Header{Host: w.cfg.Host, ClusterGUID: w.guid, Revision: w.revision, Created: w.cfg.Clock.Now().UTC().Truncate(time.Second), Version: api.Version}
	dirty, taken := w.dirty, w.changes
	w.dirty, w.changes, w.taken = false, map[api.Key]change{}, taken
	old := w.image
	w.mu.Unlock()

	im, differs, err := old.merge(slices.Collect(maps.Values(taken)))
	if err != nil {
		w.mu.Lock()
		w.taken = nil
		for k, c := range w.changes { // what came since comes after what was taken
			if before, ok := taken[k]; ok {
				c = before.then(c)
			}
			taken[k] = c
		}
		w.changes, w.dirty = taken, w.dirty || dirty
		w.mu.Unlock()
		return err
	}
	w.mu.Lock()
	w.image, w.taken = im, nil
	w.mu.Unlock()
	if !differs && !dirty {
		return nil
	}
	if err := w.write(h); err != nil {
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

// write replaces the file and keeps the one before.
func (w *Writer) write(h Header) error {
	if err := host.MkdirPrivate(w.cfg.Dir); err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(w.cfg.Dir, name) }
	if err := host.WriteFileAtomic(path(fileNew), 0o600, func(out io.Writer) error { return encode(out, h, w.image) }); err != nil {
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
