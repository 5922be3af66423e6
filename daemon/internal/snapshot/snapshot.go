// SPDX-License-Identifier: Apache-2.0

// Package snapshot keeps the last state of the store, as this host's agent let
// it through, on local disk, and gives it back: at boot, at restart, and while
// the store is away, the same code path enforces it as enforces the live
// state.
//
//	<state-dir>/agent/            0700
//	    snapshot                  0600, the last one
//	    snapshot.1                the one before
//	    snapshot.damaged-<time>   set aside, at most three
//
// A Writer is a Sink. Load reads the file for syncer.Known.Replay and syncer.New;
// Source replays it without anything live. A snapshot does not expire, by
// whatever clock: old rules are safer than none. A damaged one is set aside
// and said loudly; the one before takes its place, and if that is damaged too,
// the agent keeps what the kernel has and waits for the store. It never opens.
//
// The package judges no picture: what is held by the guard of package syncer
// never gets here.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// Errors of Load and Source; ask with errors.Is.
var (
	// ErrNone: no snapshot has been written on this host yet.
	ErrNone = errors.New("there is no snapshot")
	// ErrDamaged: there was a snapshot, and neither it nor the one before
	// can be read. Keep what the kernel has and wait for the store.
	ErrDamaged = errors.New("snapshot is damaged")
	// ErrOtherHost: the snapshot was written by another host's agent, as
	// after a machine was cloned or renamed.
	ErrOtherHost = errors.New("snapshot is of another host")
)

// Names of files in Config.Dir.
const (
	fileLast     = "snapshot"
	fileBefore   = "snapshot.1"
	fileNew      = "snapshot.new"
	damagedStart = "snapshot.damaged-"
	damagedKept  = 3
)

// Config says where a snapshot is and whose.
type Config struct {
	// Dir is <state-dir>/agent. A Writer makes it, for root only.
	Dir string
	// Host is this host's name.
	Host string
	// Log is told of damage and of failed writes.
	Log *slog.Logger
	// Fault, if not nil, is told what is wrong with the snapshot, for status;
	// empty text: nothing is wrong any more.
	Fault func(text string)
	// Delay is how long a Writer waits for more before it writes; zero: 1 s.
	Delay time.Duration
	// Every is the least time between two writes; zero: 10 s.
	Every time.Duration
	// Clock is the machine's if nil.
	Clock host.Clock
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Fault == nil {
		c.Fault = func(string) {}
	}
	if c.Delay == 0 {
		c.Delay = time.Second
	}
	if c.Every == 0 {
		c.Every = 10 * time.Second
	}
	if c.Clock == nil {
		c.Clock = host.RealClock{}
	}
	return c
}

// Loaded is a snapshot read from disk.
type Loaded struct {
	// Known is what to replay and what syncer.New wants. Known.Lost is set if
	// there was a snapshot that cannot be read.
	Known syncer.Known
	// Header is the head of the file, File its name ("" if none was read).
	Header Header
	File   string

	image   image
	faulted bool // Config.Fault was told of something
}

// Load reads the last good snapshot. Even with an error the Loaded is to be
// used: with ErrDamaged it says that something was lost. A damaged file is
// set aside, so Load changes the directory.
func Load(cfg Config) (Loaded, error) {
	cfg = cfg.withDefaults()
	var errs []error
	var faults []string
	for _, name := range []string{fileLast, fileBefore} {
		l, err := load(cfg, name)
		if err == nil {
			if len(faults) > 0 {
				faults = append(faults, fmt.Sprintf("%s is used instead (revision %d, written %s)", name, l.Header.Revision, l.Header.Created.Format(time.RFC3339)))
				cfg.Log.Error("snapshot: the one before is used", "file", filepath.Join(cfg.Dir, name), "revision", l.Header.Revision, "created", l.Header.Created)
				cfg.Fault(strings.Join(faults, "; "))
				l.faulted = true
			}
			return l, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		text := fmt.Sprintf("%s: %v", filepath.Join(cfg.Dir, name), err)
		if errors.Is(err, ErrDamaged) {
			aside, moveErr := setAside(cfg, name)
			if moveErr != nil {
				err = errors.Join(err, moveErr)
			} else {
				text += ", set aside as " + aside
			}
		}
		cfg.Log.Error("snapshot: cannot be used", "file", filepath.Join(cfg.Dir, name), "err", err)
		faults = append(faults, text)
		errs = append(errs, fmt.Errorf("%s: %w", filepath.Join(cfg.Dir, name), err))
	}
	if len(errs) == 0 {
		aside, _ := filepath.Glob(filepath.Join(cfg.Dir, damagedStart+"*"))
		if len(aside) == 0 {
			return Loaded{}, ErrNone
		}
		// Nothing good has been written since.
		err := fmt.Errorf("%w: it was set aside as %s at an earlier start", ErrDamaged, slices.Max(aside))
		cfg.Fault(err.Error())
		return Loaded{Known: syncer.Known{Lost: true}, faulted: true}, err
	}
	cfg.Fault(strings.Join(faults, "; "))
	err := errors.Join(errs...)
	if errors.Is(err, ErrOtherHost) {
		return Loaded{faulted: true}, err
	}
	// Whatever kept it from being read, there was one, and it is lost to us.
	return Loaded{Known: syncer.Known{Lost: true}, faulted: true}, err
}

// load reads one file.
func load(cfg Config, name string) (Loaded, error) {
	b, err := host.ReadFileIn(cfg.Dir, name, maxBytes)
	if errors.Is(err, host.ErrTooLarge) {
		return Loaded{}, errors.Join(ErrDamaged, err)
	}
	if err != nil {
		return Loaded{}, err
	}
	h, im, err := parse(b)
	if err != nil {
		return Loaded{}, err
	}
	if h.Host != cfg.Host {
		return Loaded{}, fmt.Errorf("%w: it is of %q, this is %q", ErrOtherHost, h.Host, cfg.Host)
	}
	l := Loaded{Header: h, File: name, image: im}
	l.Known = syncer.Known{Revision: h.Revision, ClusterGUID: h.ClusterGUID, Objects: im.revisions()}
	if len(im) > 0 {
		l.Known.Events = im.events
	}
	return l, nil
}

// setAside renames a damaged file and keeps the newest few of its like.
func setAside(cfg Config, name string) (string, error) {
	base := damagedStart + cfg.Clock.Now().UTC().Format("20060102T150405.000000000Z")
	aside := base
	for i := 1; ; i++ {
		if _, err := os.Lstat(filepath.Join(cfg.Dir, aside)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s-%d", base, i)
	}
	if err := os.Rename(filepath.Join(cfg.Dir, name), filepath.Join(cfg.Dir, aside)); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return aside, err
	}
	var old []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), damagedStart) {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for _, n := range old[:max(0, len(old)-damagedKept)] {
		if err := os.Remove(filepath.Join(cfg.Dir, n)); err != nil {
			return aside, err
		}
	}
	return aside, host.SyncDir(cfg.Dir)
}

// Source replays the snapshot and then stands still until ctx ends. It is for
// programs that enforce without a store, such as the one that runs before the
// network is up.
type Source struct{ Config Config }

// Run sends the picture and InSync. It returns ErrNone, ErrDamaged or
// ErrOtherHost (wrapped) before it has sent anything, or nil when ctx ends.
func (s Source) Run(ctx context.Context, sink syncer.Sink) error {
	l, err := Load(s.Config)
	if err != nil {
		return err
	}
	if err := l.Known.Replay(ctx, sink); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
