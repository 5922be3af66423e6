// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ballastBytes is the size of a file that holds space for the day on which
// the disk is full: it is given up so that the server can start and serve
// reads.
const ballastBytes = 24 << 20

// disk watches the free space under the data directory.
type disk struct {
	dir     string
	ballast string
	// reserve is the configured one, zero: by the size of the disk.
	reserve int64
	low     bool
}

func newDisk(cfg Config) *disk {
	return &disk{dir: cfg.DataDir, ballast: filepath.Join(cfg.DataDir, "ballast"), reserve: cfg.ReserveBytes}
}

// space is what a file system has.
type space struct{ free, total int64 }

// freeSpace reads how much an ordinary user may still write under dir.
func freeSpace(dir string) (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return space{free: int64(st.Bavail) * st.Bsize, total: int64(st.Blocks) * st.Bsize}, nil
}

// free is the free space for a log line, zero if it cannot be read.
func (d *disk) free() int64 {
	s, _ := freeSpace(d.dir)
	return s.free
}

// mark is the free space below which the disk is low.
func (d *disk) mark(s space) int64 {
	if d.reserve > 0 {
		return d.reserve
	}
	return min(64<<20, max(s.total/8, 16<<20))
}

// hasBallast reports whether the ballast is in place.
func (d *disk) hasBallast() bool {
	fi, err := os.Stat(d.ballast)
	return err == nil && fi.Size() == ballastBytes
}

// beforeStart gives up the ballast if the disk is low, because a server needs
// some space to start, and lays it down if there is plenty.
func (d *disk) beforeStart() error {
	if _, err := d.isLow(); err != nil {
		return err
	}
	if !d.low {
		return nil
	}
	if err := os.Remove(d.ballast); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// isLow reports whether the disk is low. Once low, it stays so until there is
// room for the ballast and a quarter of the mark more.
func (d *disk) isLow() (bool, error) {
	s, err := freeSpace(d.dir)
	if err != nil {
		return false, err
	}
	mark := d.mark(s)
	if s.free < mark {
		d.low = true
		return true, nil
	}
	if d.hasBallast() {
		if d.low && s.free < mark+mark/4 {
			return true, nil
		}
		d.low = false
		return false, nil
	}
	if s.free < mark+mark/4+ballastBytes {
		return d.low, nil // no room for the ballast yet
	}
	d.low = d.layBallast() != nil
	return d.low, nil
}

// layBallast makes the ballast file, with its blocks.
func (d *disk) layBallast() error {
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, ballastBytes); err != nil {
		os.Remove(d.ballast)
		return err
	}
	return nil
}
