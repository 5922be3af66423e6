// SPDX-License-Identifier: Apache-2.0

// Package auditlog writes the record of package audit to disk: one line for
// each, in files that it rotates, chained by hash over rotation, restart and
// crash. It does not know what is recorded. The assembly hands it to the API
// server; readers use package audit.
//
//	Commit ─► write(2) ─► fsync, one for all that wait ─► return
//	Append ─► write(2)            └─ at the latest a second later
//
// What is on disk:
//
//	DIR (0700)/lock                             held by the writer
//	DIR/audit-00000000000000000001.jsonl (0600) full, oldest first
//	DIR/audit.jsonl (0600)                      written to
//
// A crash can leave bytes that are no whole line. They stay, and the next line
// tells of them (stage "repaired"): nothing is ever taken away from a file.
// While the disk is full or failing, Commit returns audit.ErrUnwritable; every
// call tries anew.
package auditlog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/audit"
)

// Config says where and how. Dir is required.
type Config struct {
	Dir string
	// MaxBytes is the size from which on a file is rotated; default 64 MiB.
	MaxBytes int64
	// Keep is how many rotated files are kept; default 16.
	Keep int
	// Program is named in the first line that this process writes.
	Program string
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Log gets what goes wrong; default: nothing is logged.
	Log *slog.Logger
	// Journal, if set, gets a copy of each line, from one goroutine. It may
	// block; lines that it is too slow for are left out, and that is logged.
	Journal func(r *audit.Record, line []byte) error
}

// Log is an open log. It is safe for concurrent use.
type Log struct {
	cfg     Config
	log     *slog.Logger
	lock    *os.File
	journal chan journalled
	done    chan struct{}
	wg      sync.WaitGroup

	syncMu sync.Mutex // held while the file is synced or exchanged; before mu

	mu      sync.Mutex // guards what follows
	f       *os.File   // nil: the log has to be opened, err says why
	err     error
	opened  int    // how often f was opened
	dirty   bool   // there may be bytes behind size
	first   uint64 // number of the file's first line; zero: it has none
	seq     uint64 // of the last line
	head    string // hash of the last line
	size    int64  // of the file, up to the end of the last line
	written int64  // bytes of all files since Open
	synced  int64  // of them on disk
	pending []audit.Record
	said    time.Time // when the last trouble was logged
	left    int       // lines that the journal did not get
}

// maxPending is how many lines wait for room on a full disk. Only requests
// that were under way when it filled up have one.
const maxPending = 4096

// Open opens the log in cfg.Dir, makes the directory if it is missing, and
// continues the chain. It fails only if the directory cannot be had or if
// another process writes the log; a log that cannot be written otherwise makes
// Commit fail.
func Open(cfg Config) (*Log, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.Keep == 0 {
		cfg.Keep = 16
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("audit log %s: another ripstop-server writes it: stop that, or choose another state-dir", cfg.Dir)
		}
		return nil, fmt.Errorf("audit log %s: locking: %w", cfg.Dir, err)
	}
	l := &Log{cfg: cfg, log: cfg.Log, lock: lock, done: make(chan struct{})}
	if cfg.Journal != nil {
		l.journal = make(chan journalled, 1024) // a second of a busy server
		l.wg.Go(l.tellJournal)
	}
	l.mu.Lock()
	l.openLocked()
	l.mu.Unlock()
	l.wg.Go(l.tend)
	return l, nil
}

// Commit writes a record, whose Seq, Prev and Time are filled in, and returns
// when it is on disk. Otherwise the error wraps audit.ErrUnwritable.
func (l *Log) Commit(r audit.Record) error {
	l.mu.Lock()
	err := l.writeLocked(r)
	end, opened := l.written, l.opened
	l.mu.Unlock()
	if err == nil {
		err = l.sync(end, opened)
	}
	if err == nil {
		return nil
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // clients need not know where the log is
	}
	return fmt.Errorf("%w: %w", audit.ErrUnwritable, err)
}

// Append writes a record, which is on disk within a second. If it cannot be
// written it waits, and comes before the next one.
func (l *Log) Append(r audit.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Time = l.cfg.Now().UTC()
	if l.writeLocked(r) == nil {
		return
	}
	if len(l.pending) < maxPending {
		l.pending = append(l.pending, r)
	} else {
		l.log.Error("Audit line lost, the disk has no room", "request", r.Request, "stage", string(r.Stage))
	}
}

// Close puts everything on disk and ends the log.
func (l *Log) Close() error {
	close(l.done)
	l.wg.Wait()
	l.mu.Lock()
	_ = l.flushLocked() // what does not fit has been logged
	end, opened := l.written, l.opened
	l.mu.Unlock()
	err := l.sync(end, opened)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		err = errors.Join(err, l.f.Close())
	}
	return errors.Join(err, l.lock.Close())
}

// tend syncs what Append wrote, and tries again what could not be written.
func (l *Log) tend() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		_ = l.flushLocked()
		end, opened := l.written, l.opened
		l.mu.Unlock()
		_ = l.sync(end, opened) // it is logged, and the next Commit tells
	}
}

// writeLocked writes what is pending, and then r.
func (l *Log) writeLocked(r audit.Record) error {
	if err := l.flushLocked(); err != nil {
		return err
	}
	return l.lineLocked(r)
}

// flushLocked opens the log if it has to be, and writes what is pending.
func (l *Log) flushLocked() error {
	if l.f == nil {
		l.openLocked()
	}
	if l.f == nil {
		return l.err
	}
	for len(l.pending) > 0 {
		if err := l.lineLocked(l.pending[0]); err != nil {
			return err
		}
		l.pending = l.pending[1:]
	}
	return nil
}

// lineLocked writes one line at the end of the last one.
func (l *Log) lineLocked(r audit.Record) error {
	r.Seq, r.Prev = l.seq+1, l.head
	if r.Time.IsZero() {
		r.Time = l.cfg.Now().UTC()
	}
	line, err := r.Line()
	if err == nil && len(line) > audit.MaxLine {
		r.Before, r.After = nil, nil
		line, err = r.Line()
	}
	if err != nil {
		return err
	}
	if l.dirty {
		if err := l.f.Truncate(l.size); err != nil {
			return l.troubleLocked(err)
		}
		l.dirty = false
	}
	if _, err := l.f.WriteAt(append(line, '\n'), l.size); err != nil {
		// The half line is our own and nobody was promised it.
		l.dirty = l.f.Truncate(l.size) != nil
		return l.troubleLocked(err)
	}
	if l.size == 0 {
		l.first = r.Seq
	}
	l.seq, l.head = r.Seq, audit.Hash(line)
	l.size += int64(len(line)) + 1
	l.written += int64(len(line)) + 1
	l.tell(&r, line)
	return nil
}

// troubleLocked logs an error, not more than once in ten seconds, and returns
// it.
func (l *Log) troubleLocked(err error) error {
	if now := l.cfg.Now(); now.Sub(l.said) > 10*time.Second {
		l.said = now
		l.log.Error("Audit log cannot be written: writes through the API are refused until it can", "dir", l.cfg.Dir, "err", err)
	}
	return err
}

// sync puts on disk what was written up to end, while the file was opened for
// the opened-th time. Of those who wait, one does it for all.
func (l *Log) sync(end int64, opened int) error {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.Lock()
	f, upTo, err := l.f, l.written, l.err
	have, same := l.synced >= end, l.opened == opened
	l.mu.Unlock()
	switch {
	case have:
		return nil
	case f == nil:
		return err
	case !same:
		// After a sync that failed another may say yes and mean nothing.
		return errors.New("a sync of the log has failed")
	}
	err = f.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		// What is on disk is not known any more: read it again (fsync(2)).
		l.f.Close()
		l.f, l.err = nil, err
		return l.troubleLocked(err)
	}
	l.synced = max(l.synced, upTo)
	if l.size >= l.cfg.MaxBytes {
		l.rotateLocked()
	}
	return nil
}
