// SPDX-License-Identifier: Apache-2.0

// Package embedded runs an etcd server of our own for one machine: Run is the
// server, in a process that does nothing else, and Supervisor is the parent
// that keeps that process alive.
//
//	ripstop-server ── Supervisor ──starts──► ripstop-server store ── Run ── etcd
//	       └──────────── etcd.Store ── unix socket, 0600 ──────────────────┘
//
// The process is apart because etcd ends the process it lives in when its disk
// is full or its files are damaged. It listens on the unix socket only: no TCP
// port, not even for peers, since it has none.
//
// What it adds to etcd, each because etcd was measured to lack it:
//
//   - the database file is checked before it is served (seal.go): etcd serves
//     flipped bits without a word;
//   - writes are refused while the disk is nearly full, and a reserve is kept
//     so that the server starts and reads on a full disk (guard.go): etcd
//     exits, and cannot start again;
//   - history is compacted, and a full quota is recovered from once there is
//     room (guard.go): etcd stays read-only until somebody intervenes.
//
// It is linked by ripstop-server only.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config says where and how the server runs. DataDir and ClientSocket are
// required.
type Config struct {
	// DataDir holds everything the server keeps; made with mode 0700.
	DataDir string
	// ClientSocket is the path of the unix socket, at most 100 bytes. Its
	// directory is made with mode 0700 if it is not there.
	ClientSocket string
	// QuotaBytes is the largest size of the database. Default 2 GiB.
	QuotaBytes int64
	// Retention is how long history is kept for watches that were away.
	// Default 1 h.
	Retention time.Duration
	// ReserveBytes is the free space below which writes are refused. Default
	// 64 MiB, but on a small file system an eighth of it (at least 16 MiB).
	ReserveBytes int64
	// AcceptDamage serves a database that does not match its seal instead of
	// refusing to start, and seals it as it is. For the person who has
	// looked at it and has no backup.
	AcceptDamage bool
	// Bookmarks is how often a silent watch gets a bookmark. Default 5 s.
	Bookmarks time.Duration
	// Log gets what the guard does. etcd itself logs warnings and errors to
	// standard error as JSON lines. Default: nothing is logged.
	Log *slog.Logger
}

// maxSocketPath is what fits in a sockaddr_un (108 bytes with the final
// zero), with room for the temporary names of libraries.
const maxSocketPath = 100

func (c Config) withDefaults() Config {
	if c.QuotaBytes <= 0 {
		c.QuotaBytes = 2 << 30
	}
	if c.Retention <= 0 {
		c.Retention = time.Hour
	}
	if c.Bookmarks <= 0 {
		c.Bookmarks = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Run runs the server until ctx ends (then it returns nil, after a clean
// stop) or it cannot go on. It is meant for a process of its own: it sets the
// umask, and etcd may end the process.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg = cfg.withDefaults()
	defer func() {
		if err != nil {
			err = fmt.Errorf("store %s: %w", cfg.DataDir, err)
		}
	}()
	// etcd makes its socket and files under this mask, so that there is no
	// moment at which others could get at them.
	syscall.Umask(0o077)
	unlock, err := prepare(cfg)
	if err != nil {
		return err
	}
	defer unlock()

	if err := errors.Join(noteFirst(cfg), beginAnew(cfg)); err != nil {
		return err
	}
	disk := newDisk(cfg)
	if err := disk.beforeStart(); err != nil {
		return err
	}
	if err := verifyDatabase(cfg); err != nil {
		return err
	}
	var stopping atomic.Bool
	e, err := embed.StartEtcd(etcdConfig(cfg, &stopping))
	if err != nil {
		return err
	}
	running := true
	stop := func() {
		if running {
			running = false
			stopping.Store(true)
			// Stopping the server first ends the watches, for which closing
			// would wait several seconds.
			e.Server.Stop()
			e.Close()
		}
	}
	defer stop()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return err
	case <-e.Server.StopNotify():
		return errors.New("etcd stopped while starting")
	case <-ctx.Done():
		return nil
	}
	if err := os.Chmod(cfg.ClientSocket, 0o600); err != nil {
		return err
	}

	g := &guard{cfg: cfg, disk: disk, server: e.Server, log: cfg.Log}
	guarded, unguard := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.run(guarded)
	}()
	defer func() {
		unguard()
		<-done
	}()
	cfg.Log.Info("Store is serving", "socket", cfg.ClientSocket, "dir", cfg.DataDir)
	select {
	case <-ctx.Done():
	case <-done:
		if g.damaged != nil {
			return g.damaged
		}
	case err := <-e.Err():
		return err
	case <-e.Server.StopNotify():
		return errors.New("etcd stopped")
	}
	unguard()
	<-done
	stop()
	return sealStopped(cfg)
}

// prepare makes the directories, checks who may enter them, and takes the
// lock that keeps a second server out.
func prepare(cfg Config) (unlock func(), err error) {
	if len(cfg.ClientSocket) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: path is %d bytes long, at most %d work", cfg.ClientSocket, len(cfg.ClientSocket), maxSocketPath)
	}
	if !filepath.IsAbs(cfg.ClientSocket) || !filepath.IsAbs(cfg.DataDir) {
		return nil, fmt.Errorf("socket %s: paths must be absolute", cfg.ClientSocket)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	dir := filepath.Dir(cfg.ClientSocket)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(dir); err != nil {
		return nil, err
	} else if m := fi.Mode(); m&0o002 != 0 && m&fs.ModeSticky == 0 {
		return nil, fmt.Errorf("socket directory %s: mode %04o lets everybody replace the socket", dir, m.Perm())
	}
	lock, err := os.OpenFile(filepath.Join(cfg.DataDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another store is running on this directory: %w", err)
	}
	// What is left of a server that was killed.
	if err := os.Remove(cfg.ClientSocket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		lock.Close()
		return nil, err
	}
	return func() { lock.Close() }, nil
}

// walSegmentBytes is how much the write-ahead log takes at a time, on disk and
// in advance: two segments. etcd's own 64 MB are meant for other loads.
const walSegmentBytes = 8 << 20

// etcdConfig is the configuration of a lone, small, local etcd. Once stopping
// is set it does not log any more.
func etcdConfig(cfg Config, stopping *atomic.Bool) *embed.Config {
	wal.SegmentSizeBytes = walSegmentBytes
	c := embed.NewConfig()
	c.Name = "ripstop"
	c.Dir = cfg.DataDir
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Path: cfg.ClientSocket}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	// There are no peers, so nothing listens for them. The member needs an
	// address all the same; port 0 cannot be connected to.
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.InitialCluster = c.Name + "=" + c.AdvertisePeerUrls[0].String()
	// The cluster's identity is made of this when it is new, so that no two
	// stores can be taken for each other. Later starts do not look at it.
	c.InitialClusterToken = rand.Text()
	c.StrictReconfigCheck = true
	// Alone, it elects itself: a short timeout only makes starting faster.
	c.TickMs, c.ElectionMs = 50, 250
	c.QuotaBackendBytes = cfg.QuotaBytes
	// The guard compacts, because it has to know when.
	c.AutoCompactionRetention = "0"
	// Raft keeps this many entries in memory for followers that there are not.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 2000, 100
	c.MaxSnapFiles, c.MaxWalFiles = 2, 2
	c.BackendFreelistType = "map"
	c.WatchProgressNotifyInterval = cfg.Bookmarks
	c.EnablePprof = false
	c.EnableGRPCGateway = false
	c.Metrics = "basic"
	c.Logger, c.LogLevel = "zap", "warn"
	c.LogOutputs = []string{"stderr"}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdLogger(stopping))
	return c
}

// etcdLogger writes warnings and worse to standard error as JSON lines, each
// message at most once in ten seconds.
func etcdLogger(stopping *atomic.Bool) *zap.Logger {
	enc := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "msg",
		EncodeTime: zapcore.RFC3339TimeEncoder, EncodeLevel: zapcore.CapitalLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(os.Stderr), zapcore.WarnLevel)
	// On a slow disk every request would be worth a warning.
	core = zapcore.NewSamplerWithOptions(core, 10*time.Second, 1, 0)
	return zap.New(quietCore{core, stopping})
}

// usual are warnings of every start.
var usual = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	// Of a database without an entry yet; tried again soon.
	"Failed to detect schema version",
	"failed to update storage version",
}

// quietCore drops what etcd says at every start, and the errors it reports of
// listeners that are closed because it stops.
type quietCore struct {
	zapcore.Core
	stopping *atomic.Bool
}

// With keeps the core quiet for derived loggers.
func (q quietCore) With(f []zapcore.Field) zapcore.Core { return quietCore{q.Core.With(f), q.stopping} }

// Check is asked for each message.
func (q quietCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if slices.Contains(usual, e.Message) || q.stopping.Load() && e.Level <= zapcore.ErrorLevel {
		return ce
	}
	return q.Core.Check(e, ce)
}
