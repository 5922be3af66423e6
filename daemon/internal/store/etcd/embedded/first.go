// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

// A server that is killed in its first start leaves a database without a log,
// or one in which nothing stands yet: what looks as if it were damaged. So it
// is noted, before etcd makes its first file, that there has been no complete
// start, until the first seal is written:
//
//	no log, or an empty one
//	                    ─► nothing can have been acknowledged: it begins anew
//	a log, and a database without its buckets
//	                    ─► etcd makes them, and replays its log, which has all

// errEmpty: nothing has been written into the database yet.
var errEmpty = fmt.Errorf("%w: its buckets are missing", ErrDamaged)

func unfinishedPath(cfg Config) string { return filepath.Join(cfg.DataDir, "unfinished") }

// noteFirst notes that a directory without a store gets one.
func noteFirst(cfg Config) error {
	for _, path := range []string{filepath.Join(cfg.DataDir, "member"), sealPath(cfg)} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return host.WriteFileAtomic(unfinishedPath(cfg), 0o600, func(io.Writer) error { return nil })
}

// unfinished reports whether no start has been complete yet.
func unfinished(cfg Config) bool {
	if _, err := os.Lstat(sealPath(cfg)); err == nil {
		return false
	}
	_, err := os.Lstat(unfinishedPath(cfg))
	return err == nil
}

// beginAnew puts aside what a first start has left that did not come as far as
// an entry in its log. With a log that is empty etcd would wait for ever for
// members that it does not know.
func beginAnew(cfg Config) error {
	member := filepath.Join(cfg.DataDir, "member")
	if _, err := os.Lstat(member); err != nil || !unfinished(cfg) {
		return nil
	}
	if wal.Exist(logPath(cfg)) {
		if last, err := lastLogIndex(cfg); err != nil || last > 0 {
			return nil
		}
	}
	aside := member + ".unfinished"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	cfg.Log.Warn("The first start was interrupted, it begins anew", "aside", aside)
	return os.Rename(member, aside)
}

// finished notes that a start has been complete.
func finished(cfg Config) error {
	if err := os.Remove(unfinishedPath(cfg)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
