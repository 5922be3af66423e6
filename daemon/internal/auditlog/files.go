// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/audit"
)

func (l *Log) path(name string) string { return filepath.Join(l.cfg.Dir, name) }

// openLocked opens the current file and finds the end of the chain; if it
// cannot, f stays nil and err says why.
func (l *Log) openLocked() {
	if l.err = l.continueLocked(); l.err != nil {
		_ = l.troubleLocked(l.err)
	}
}

func (l *Log) continueLocked() error {
	names, err := l.files()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.path(audit.Current), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	e, err := ending(f)
	if err == nil {
		err = errors.Join(f.Chmod(0o600), syncDir(l.cfg.Dir))
	}
	if err == nil && e.last == nil { // the chain goes on from the file before
		e.last, e.head, err = l.before(names)
	}
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size, l.dirty = f, e.size, false
	l.opened++
	l.first, l.seq, l.head = e.first, 0, audit.First
	if e.last != nil {
		l.seq, l.head = e.last.Seq, e.head
	}
	if err := l.greetLocked(e); err != nil {
		f.Close()
		l.f = nil
		return err
	}
	return nil
}

// greetLocked writes the first line of this process, or the one that tells of
// torn bytes.
func (l *Log) greetLocked(e end) error {
	if e.unended {
		if _, err := l.f.WriteAt([]byte("\n"), l.size); err != nil {
			return err
		}
		l.size++
	}
	if len(e.torn) == 0 {
		return l.lineLocked(audit.Record{Stage: audit.Opened, Program: l.cfg.Program})
	}
	if e.torn[len(e.torn)-1] != '\n' {
		if _, err := l.f.WriteAt([]byte("\n"), l.size); err != nil {
			return err
		}
		e.torn = append(e.torn, '\n')
		l.size++
	}
	l.log.Warn("Audit log had a torn end, which a crash left; a line tells of it", "bytes", len(e.torn))
	return l.lineLocked(audit.Record{Stage: audit.Repaired, Program: l.cfg.Program,
		Torn: &audit.Torn{Bytes: len(e.torn), SHA256: audit.Hash(e.torn)}})
}

// files are the names of the log's files, oldest first.
func (l *Log) files() ([]string, error) {
	entries, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return audit.Files(names), nil
}

// before is the last line of the newest rotated file; nil: there is none.
func (l *Log) before(names []string) (*audit.Record, string, error) {
	for i := len(names) - 1; i >= 0; i-- {
		if names[i] == audit.Current {
			continue
		}
		f, err := os.OpenFile(l.path(names[i]), os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, "", err
		}
		e, err := ending(f)
		f.Close()
		if err != nil || e.last != nil {
			return e.last, e.head, err
		}
	}
	return nil, "", nil
}

// end is how a file ends.
type end struct {
	last *audit.Record // the last line that is one; nil: there is none
	head string        // its hash
	torn []byte        // what stands behind it
	// unended: the last line is whole but for its end.
	unended bool
	size    int64  // of the file
	first   uint64 // number of the first line; zero: unknown
}

// tailBytes is how much of a file is looked at for its last line: more than
// two lines of the greatest length.
const tailBytes = 3 * audit.MaxLine

// ending reads how f ends.
func ending(f *os.File) (end, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return end{}, err
	}
	from := max(0, size-tailBytes)
	for {
		data := make([]byte, size-from)
		if _, err := f.ReadAt(data, from); err != nil && !errors.Is(err, io.EOF) {
			return end{}, err
		}
		e := end{size: size}
		if i := bytes.IndexByte(data, '\n'); from == 0 && i >= 0 {
			if r, err := audit.Parse(data[:i]); err == nil {
				e.first = r.Seq
			}
		}
		// A whole line that lacks its end lacks nothing else: no part of a JSON
		// object is one.
		tail := data[bytes.LastIndexByte(data, '\n')+1:]
		if r, err := audit.Parse(tail); err == nil {
			e.last, e.head, e.unended = r, audit.Hash(tail), true
			return e, nil
		}
		// rest is data without what was looked at; it ends in an end of line.
		for rest := data[:bytes.LastIndexByte(data, '\n')+1]; len(rest) > 0; {
			start := bytes.LastIndexByte(rest[:len(rest)-1], '\n') + 1
			if start == 0 && from > 0 {
				break // this line begins before data
			}
			line := rest[start : len(rest)-1]
			if r, err := audit.Parse(line); err == nil {
				e.last, e.head, e.torn = r, audit.Hash(line), bytes.Clone(data[len(rest):])
				return e, nil
			}
			rest = rest[:start]
		}
		if from == 0 {
			e.torn = data
			return e, nil
		}
		from = 0
	}
}

// rotateLocked gives the full file its own name and begins a new one. If that
// fails, the full one goes on.
func (l *Log) rotateLocked() {
	if err := l.exchangeLocked(); err != nil {
		_ = l.troubleLocked(fmt.Errorf("rotating: %w", err))
	}
	names, err := l.files()
	if err != nil {
		return
	}
	for len(names) > l.cfg.Keep+1 { // the current one is the last
		if err := os.Remove(l.path(names[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			_ = l.troubleLocked(err)
			return
		}
		names = names[1:]
	}
}

func (l *Log) exchangeLocked() error {
	first := l.first
	if first == 0 { // the file is too large for its beginning to have been read
		head := make([]byte, audit.MaxLine)
		n, err := l.f.ReadAt(head, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		line, _, _ := bytes.Cut(head[:n], []byte("\n"))
		if r, err := audit.Parse(line); err == nil {
			first = r.Seq
		} else {
			first = l.seq
		}
	}
	fresh := l.path(audit.Current + ".new")
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	err = l.f.Sync() // lines may have come since
	if err == nil {
		err = os.Rename(l.path(audit.Current), l.path(audit.Rotated(first)))
	}
	if err == nil {
		err = os.Rename(fresh, l.path(audit.Current))
	}
	if err == nil {
		err = syncDir(l.cfg.Dir)
	}
	if err != nil {
		f.Close()
		return err
	}
	l.f.Close()
	l.f, l.size, l.first, l.synced = f, 0, 0, l.written
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
