// SPDX-License-Identifier: Apache-2.0

// Package pause keeps whether a host's policy is out of force for a while, at
// the will of its operator: on disk, so that a restart of the agent does not
// end it, and by the clock that counts from the machine's start
// (clock_gettime(2), CLOCK_BOOTTIME), so that nobody lengthens it by setting
// the time. A reboot ends it, and so does a file that cannot be read.
package pause

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// Least and Most bound how long a pause may be asked for.
const (
	Least = time.Minute
	Most  = 24 * time.Hour
)

const fileName = "pause.json"

// state is what stands in the file.
type state struct {
	// Boot is the id of the machine's start (random(4), boot_id).
	Boot string `json:"boot"`
	// Ends is when the pause ends, in nanoseconds since the machine's start.
	Ends int64 `json:"ends"`
	api.Pause
}

// Keeper keeps the pause of one host. Its methods may be called from many
// goroutines.
type Keeper struct {
	dir    string
	log    *slog.Logger
	record func(verb, by, message string) error
	boot   string
	uptime func() time.Duration
	news   chan struct{} // has room for one: the state has changed

	mu  sync.Mutex // guards all below
	now *state     // nil: policy is in force
}

// Config says where a pause is kept and who is told of it.
type Config struct {
	// Dir is the agent's directory.
	Dir string
	// Record puts on disk that somebody pauses or resumes; without that
	// nothing is paused.
	Record func(verb, by, message string) error
	Log    *slog.Logger
}

// Open reads what was left by the agent before. It never fails: whatever is
// wrong, policy is in force.
func Open(c Config) *Keeper {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		c.Log.Warn("A restart of the agent will end a pause: the start of the machine cannot be told from others", "err", err)
		boot = []byte(rand.Text())
	}
	return open(c, strings.TrimSpace(string(boot)), uptime)
}

func open(c Config, boot string, uptime func() time.Duration) *Keeper {
	k := &Keeper{dir: c.Dir, log: c.Log, record: c.Record, boot: boot, uptime: uptime, news: make(chan struct{}, 1)}
	data, err := host.ReadFileIn(c.Dir, fileName, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return k
	}
	var s *state
	if err == nil {
		s, err = k.read(data)
	}
	if err != nil {
		k.log.Warn("The pause has ended: what is on disk does not hold", "err", err)
		if err := k.remove(); err != nil {
			k.log.Error("The file of the pause cannot be removed", "err", err)
		}
		return k
	}
	k.now = s
	return k
}

// read takes a file's word only if all of it is in order.
func (k *Keeper) read(data []byte) (*state, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	switch left := time.Duration(s.Ends) - k.uptime(); {
	case s.Boot != k.boot:
		return nil, errors.New("the machine was started anew")
	case left <= 0:
		return nil, errors.New("its time is over")
	case left > Most:
		return nil, fmt.Errorf("it would last %s", left.Round(time.Second))
	}
	return &s, nil
}

// uptime is how long the machine runs, sleep included.
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 1<<63 - 1 // a pause that nobody can time is over
	}
	return time.Duration(t.Nano())
}

// Begin puts policy out of force for so long, Least to Most. by says who
// wants it.
func (k *Keeper) Begin(d time.Duration, by string) (api.Pause, error) {
	if d < Least || d > Most {
		return api.Pause{}, fmt.Errorf("pause: %s: want %s to %s", d, Least, Most)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Second)
	s := state{Boot: k.boot, Ends: int64(k.uptime() + d), Pause: api.Pause{Since: api.Time{Time: now}, Until: api.Time{Time: now.Add(d)}, By: by}}
	if k.now != nil {
		s.Since = k.now.Since
	}
	if err := k.record("pause", by, fmt.Sprintf("policy is out of force until %s", s.Until.Format(time.RFC3339))); err != nil {
		return api.Pause{}, fmt.Errorf("pause: nothing was paused, for it cannot be recorded: %w", err)
	}
	err := host.WriteFileAtomic(filepath.Join(k.dir, fileName), 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(s) })
	if err != nil {
		return api.Pause{}, fmt.Errorf("pause: nothing was paused: %w", err)
	}
	k.now = &s
	k.log.Warn("Policy is paused: nothing is filtered", "by", by, "until", s.Until.Format(time.RFC3339))
	k.tell()
	return s.Pause, nil
}

// End puts policy in force again, and reports whether it was paused. It is
// done even if it cannot be recorded.
func (k *Keeper) End(by string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == nil {
		return false, nil
	}
	k.now = nil
	k.log.Warn("Policy is in force again", "by", by)
	k.tell()
	return true, errors.Join(k.remove(), k.record("resume", by, "policy is in force again"))
}

// Now is the pause that holds, or nil.
func (k *Keeper) Now() *api.Pause {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == nil {
		return nil
	}
	p := k.now.Pause
	return &p
}

// look is how often the clock is looked at while policy is paused: timers do
// not count the time that a machine sleeps.
const look = 5 * time.Second

// Run tells each change, and ends a pause when its time is over, until ctx
// ends.
func (k *Keeper) Run(ctx context.Context, changed func(*api.Pause)) error {
	for {
		k.mu.Lock()
		wait := time.Duration(1<<63 - 1)
		if k.now != nil {
			wait = min(look, time.Duration(k.now.Ends)-k.uptime())
		}
		k.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-k.news:
			changed(k.Now())
		case <-t.C:
			k.expire()
		}
		t.Stop()
	}
}

func (k *Keeper) expire() {
	k.mu.Lock()
	over := k.now != nil && time.Duration(k.now.Ends) <= k.uptime()
	k.mu.Unlock()
	if !over {
		return
	}
	if _, err := k.End("ripstopd, for the time is over"); err != nil {
		k.log.Error("The end of the pause is not on disk", "err", err)
	}
}

func (k *Keeper) tell() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// remove takes the file away, for good.
func (k *Keeper) remove() error {
	err := os.Remove(filepath.Join(k.dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, host.SyncDir(k.dir))
}
