// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
)

// Intervals of the guard.
const (
	diskEvery    = 200 * time.Millisecond
	sealEvery    = time.Second
	compactEvery = 10 * time.Minute // or a sixth of the retention, if less
	verifyEvery  = 10 * time.Minute
)

// revisionWindow is how many revisions' records are read at a time.
const revisionWindow = 2500

// guard looks after a running server: free space, quota, compaction, seal. All
// is done by one goroutine, so that the seal knows of each compaction.
type guard struct {
	cfg    Config
	disk   *disk
	server *etcdserver.EtcdServer
	log    *slog.Logger

	last seal // zero Revision: none since the start
	// past are revisions and when they were current, oldest first.
	past []revisionAt
	// alarmed is why writes are refused, or empty.
	alarmed string
	freed   revisionAt // when space was last made under a full quota
	warned  bool       // about the quota
	// damaged is what made run give up.
	damaged error
}

type revisionAt struct {
	at  time.Time
	rev int64
}

// run guards until ctx ends, or the database is found damaged.
func (g *guard) run(ctx context.Context) {
	g.space(ctx)
	g.seal()
	disk := time.NewTicker(diskEvery)
	defer disk.Stop()
	seal := time.NewTicker(sealEvery)
	defer seal.Stop()
	compact := time.NewTicker(max(min(compactEvery, g.cfg.Retention/6), time.Second))
	defer compact.Stop()
	verify := time.NewTicker(verifyEvery)
	defer verify.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-disk.C:
			g.space(ctx)
		case <-seal.C:
			g.seal()
		case <-compact.C:
			g.compactOld(ctx)
		case <-verify.C:
			if g.damaged = g.verify(); g.damaged != nil {
				return
			}
		}
	}
}

// space refuses writes while the disk is nearly full or the quota is used up,
// and allows them again when there is room.
func (g *guard) space(ctx context.Context) {
	low, err := g.disk.isLow()
	if err != nil {
		g.log.Warn("Free space cannot be read", "dir", g.cfg.DataDir, "err", err)
		return
	}
	raised := false
	for _, a := range g.server.Alarms() {
		raised = raised || a.Alarm == pb.AlarmType_NOSPACE
	}
	size, quota := g.server.Backend().Size(), g.cfg.QuotaBytes
	if nearly := size > quota/10*8; nearly != g.warned {
		g.warned = nearly
		if nearly {
			g.log.Warn("Database is above 80 % of its quota", "size_bytes", size, "quota_bytes", quota)
		}
	}
	switch {
	case low && !raised:
		g.alarm(ctx, pb.AlarmRequest_ACTIVATE, "disk is full")
	case !low && raised && g.alarmed != "disk is full":
		if g.makeRoom(ctx) {
			g.alarm(ctx, pb.AlarmRequest_DEACTIVATE, "")
		}
	case !low && raised:
		g.alarm(ctx, pb.AlarmRequest_DEACTIVATE, "")
	case low && g.alarmed == "":
		g.alarmed = "disk is full" // raised before the start
	}
}

// makeRoom frees what a full quota holds, by forgetting history and
// defragmenting, and reports whether there is room for writes.
func (g *guard) makeRoom(ctx context.Context) bool {
	be, quota := g.server.Backend(), g.cfg.QuotaBytes
	room := quota / 10 * 9
	if be.Size() < room {
		return true
	}
	rev := g.server.KV().Rev()
	if rev < 2 || rev == g.freed.rev && time.Since(g.freed.at) < time.Minute {
		return false // nothing was deleted since
	}
	g.freed = revisionAt{time.Now(), rev}
	g.compact(ctx, rev)
	be.ForceCommit()
	if be.SizeInUse() >= room {
		return false
	}
	if err := be.Defrag(); err != nil {
		g.log.Error("Database cannot be defragmented", "err", err)
		return false
	}
	return be.Size() < room
}

// alarm raises or clears etcd's NOSPACE alarm, under which it refuses writes
// but not reads and deletions.
func (g *guard) alarm(ctx context.Context, action pb.AlarmRequest_AlarmAction, why string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := g.server.Alarm(ctx, &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE, MemberID: uint64(g.server.MemberID())})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		g.log.Error("Alarm for lack of space cannot be changed", "err", err)
	case why == "":
		g.alarmed = ""
		g.log.Info("Writes are taken again", "dir", g.cfg.DataDir)
	default:
		g.alarmed = why
		g.log.Error("Writes are refused until there is room", "reason", why, "dir", g.cfg.DataDir, "free_bytes", g.disk.free())
	}
}

// seal brings the seal forward to the current revision.
func (g *guard) seal() {
	be := g.server.Backend()
	rev := g.server.KV().Rev()
	if n := len(g.past); n == 0 || g.past[n-1].rev != rev {
		g.past = append(g.past, revisionAt{time.Now(), rev})
	}
	if g.last.Revision == rev && g.last.Compacting == 0 {
		return
	}
	// Only what is on disk may be sealed: after a power cut the rest is not
	// in the database until etcd has replayed its log.
	be.ForceCommit()
	next, err := g.summary(be, g.last, rev)
	if err == nil && next.Compacting == 0 {
		if err = writeSeal(g.cfg, next); err == nil {
			err = finished(g.cfg)
		}
	}
	if err != nil {
		g.log.Warn("Database cannot be sealed", "err", err)
		return
	}
	if next.Compacting == 0 {
		g.last = next
	}
}

// summary adds the records after from up to rev to from; all of them if a
// compaction has happened since.
func (g *guard) summary(be backend.Backend, from seal, rev int64) (seal, error) {
	tx := be.ConcurrentReadTx()
	tx.RLock()
	defer tx.RUnlock()
	finished, _ := mvcc.UnsafeReadFinishedCompact(tx)
	scheduled, _ := mvcc.UnsafeReadScheduledCompact(tx)
	if from.Compacting != 0 || from.Compacted != finished {
		from = seal{}
	}
	next := seal{Revision: rev, Records: from.Records, Digest: from.Digest, Compacted: finished}
	if scheduled != finished {
		next.Compacting = scheduled
		return next, nil
	}
	next.Index, _ = schema.UnsafeReadConsistentIndex(tx)
	newest := from.Revision
	for lo := from.Revision + 1; lo <= rev; lo += revisionWindow {
		hi := min(lo+revisionWindow, rev+1)
		for k, v := range records(tx, lo, hi) {
			next.Digest.add(k, v)
			next.Records++
			newest = int64(binary.BigEndian.Uint64(k))
		}
	}
	// Some revisions leave no record; what is read back from the file is the
	// newest one that does.
	next.Revision = newest
	return next, nil
}

// records gives the records of the revisions from lo up to, not including, hi,
// in order and each once. etcd's range may give a record that has just been
// committed twice, from the file and from a buffer, and in the wrong order.
func records(tx backend.ReadTx, lo, hi int64) iter.Seq2[[]byte, []byte] {
	keys, values := tx.UnsafeRange(schema.Key,
		mvcc.RevToBytes(mvcc.Revision{Main: lo}, mvcc.NewRevBytes()),
		mvcc.RevToBytes(mvcc.Revision{Main: hi}, mvcc.NewRevBytes()), 0)
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	return func(yield func(k, v []byte) bool) {
		for n, i := range order {
			if n > 0 && bytes.Equal(keys[i], keys[order[n-1]]) {
				continue
			}
			if !yield(keys[i], values[i]) {
				return
			}
		}
	}
}

// verify reads the whole database again and compares it with the seal. A
// difference is a reason to stop serving: the next start looks at the file
// again and decides.
func (g *guard) verify() error {
	g.seal()
	if g.last.Revision == 0 || g.last.Compacting != 0 {
		return nil
	}
	again, err := g.summary(g.server.Backend(), seal{}, g.last.Revision)
	if err != nil || again.Compacting != 0 || again.Compacted != g.last.Compacted {
		return nil
	}
	if again.Digest != g.last.Digest || again.Records != g.last.Records {
		return fmt.Errorf("%w: it changed behind the server's back: %d records up to revision %d, sealed were %d", ErrDamaged, again.Records, g.last.Revision, g.last.Records)
	}
	return nil
}

// compactOld forgets history older than the retention.
func (g *guard) compactOld(ctx context.Context) {
	old := int64(0)
	for len(g.past) > 1 && time.Since(g.past[1].at) > g.cfg.Retention {
		g.past = g.past[1:]
		old = g.past[0].rev
	}
	if old > 1 {
		g.compact(ctx, old)
	}
}

// compact forgets history up to rev. The seal says so first: if the process
// dies half-way, nobody can tell which records should be left.
func (g *guard) compact(ctx context.Context, rev int64) {
	g.last.Compacting = rev
	if err := writeSeal(g.cfg, g.last); err != nil {
		g.log.Warn("Database cannot be sealed, not compacting", "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := g.server.Compact(ctx, &pb.CompactionRequest{Revision: rev, Physical: true})
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) && ctx.Err() == nil {
		g.log.Warn("History cannot be compacted", "revision", rev, "err", fmt.Errorf("compacting: %w", err))
	}
	g.seal()
}
