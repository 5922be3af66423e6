// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

func logPath(cfg Config) string { return filepath.Join(cfg.DataDir, "member", "wal") }

// lastLogIndex is the position of the last entry of the write-ahead log. The
// log's own checksums are checked on the way.
func lastLogIndex(cfg Config) (uint64, error) {
	damaged := func(err error) error { return fmt.Errorf("%w: its log %s: %w", ErrDamaged, logPath(cfg), err) }
	if !wal.Exist(logPath(cfg)) {
		return 0, damaged(errors.New("is gone"))
	}
	snaps, err := wal.ValidSnapshotEntries(zap.NewNop(), logPath(cfg))
	if err != nil {
		return 0, damaged(err)
	}
	if len(snaps) == 0 {
		return 0, damaged(errors.New("has no beginning"))
	}
	from := snaps[len(snaps)-1]
	w, err := wal.OpenForRead(zap.NewNop(), logPath(cfg), from)
	if err != nil {
		return 0, damaged(err)
	}
	defer w.Close()
	_, _, entries, err := w.ReadAll()
	if err != nil {
		return 0, damaged(err)
	}
	if n := len(entries); n > 0 {
		return entries[n-1].GetIndex(), nil
	}
	return from.GetIndex(), nil
}

// verifyDatabase checks the database before etcd opens it.
func verifyDatabase(cfg Config) error {
	if _, err := os.Stat(databasePath(cfg)); errors.Is(err, fs.ErrNotExist) {
		if _, err := readSeal(cfg); err == nil {
			err := fmt.Errorf("%w: %s is gone", ErrDamaged, databasePath(cfg))
			return accept(cfg, err)
		}
		return nil
	}
	begin := time.Now()
	s, err := readSeal(cfg)
	if err != nil && !errors.Is(err, errNoSeal) {
		return err
	}
	sealed := err == nil
	if err != nil {
		cfg.Log.Warn("Database is not sealed, its content is not verified", "err", err)
	}
	logged, err := lastLogIndex(cfg)
	if err != nil {
		return accept(cfg, err)
	}
	err = withDatabase(cfg, func(d database) error {
		if err := d.structure(); err != nil {
			return err
		}
		have, err := d.summary(s.upTo())
		if errors.Is(err, errEmpty) && unfinished(cfg) {
			return nil
		}
		if err != nil {
			return err
		}
		// etcd would take the entries up to the database's position for
		// applied already, and skip what is written next.
		if have.Index > logged || sealed && s.Clean && logged != s.LogIndex {
			return fmt.Errorf("%w: its log ends at %d, the database is at %d, sealed was %d", ErrDamaged, logged, have.Index, max(s.Index, s.LogIndex))
		}
		if !sealed {
			return nil
		}
		ok, err := d.compare(s, have)
		if !ok {
			cfg.Log.Warn("A compaction was interrupted, the database's content is not verified")
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err != nil {
		return accept(cfg, err)
	}
	cfg.Log.Info("Database verified", "records", s.Records, "revision", s.Revision, "took", time.Since(begin))
	return nil
}

// accept lets damage pass if the configuration says so and etcd can open the
// file at all.
func accept(cfg Config, err error) error {
	if errors.Is(err, errPages) {
		return fmt.Errorf("%w: nobody can serve it; restore a snapshot", err)
	}
	if cfg.AcceptDamage {
		cfg.Log.Error("Serving a damaged database, as configured", "err", err)
		return nil
	}
	return fmt.Errorf("%w: not serving it; restore a snapshot, or start once with damage accepted to serve it as it is", err)
}

// sealStopped seals the database after etcd has closed it.
func sealStopped(cfg Config) error {
	return withDatabase(cfg, func(d database) error {
		s, err := d.summary(math.MaxInt64)
		if err != nil {
			return err
		}
		s.Clean = true
		if s.LogIndex, err = lastLogIndex(cfg); err != nil {
			return err
		}
		return writeSeal(cfg, s)
	})
}
