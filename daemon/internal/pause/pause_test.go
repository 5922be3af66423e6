// SPDX-License-Identifier: Apache-2.0

package pause

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// machine is a host whose clock the test moves.
type machine struct {
	dir     string
	boot    string
	up      atomic.Int64
	records []string
	full    error // of the record's disk
}

func (m *machine) open() *Keeper {
	record := func(verb, by, _ string) error {
		if m.full == nil {
			m.records = append(m.records, verb+" "+by)
		}
		return m.full
	}
	return open(Config{Dir: m.dir, Record: record, Log: slog.New(slog.DiscardHandler)}, m.boot, func() time.Duration { return time.Duration(m.up.Load()) })
}

// TestKeeper_OutlivesTheAgentAndNotTheMachine.
func TestKeeper_OutlivesTheAgentAndNotTheMachine(t *testing.T) {
	for _, c := range []struct {
		name   string
		later  time.Duration
		boot   string
		damage string
		want   bool
	}{
		{name: "the agent starts anew", later: 29 * time.Minute, boot: "a", want: true},
		{name: "time is over", later: 30 * time.Minute, boot: "a"},
		{name: "the machine starts anew", boot: "b"},
		{name: "the clock of the start went back", later: -24 * time.Hour, boot: "a"},
		{name: "damaged", boot: "a", damage: "{\"boot\":\"a\""},
		{name: "empty", boot: "a", damage: " "},
	} {
		m := &machine{dir: t.TempDir(), boot: "a"}
		m.up.Store(int64(time.Hour))
		if _, err := m.open().Begin(30*time.Minute, "root"); err != nil {
			t.Fatal(err)
		}
		m.up.Add(int64(c.later))
		m.boot = c.boot
		file := filepath.Join(m.dir, fileName)
		if c.damage != "" {
			if err := os.WriteFile(file, []byte(c.damage), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p := m.open().Now()
		if (p != nil) != c.want || p != nil && p.By != "root" {
			t.Errorf("%s: got %+v, paused %v is wanted", c.name, p, c.want)
		}
		if _, err := os.Stat(file); (err == nil) != c.want {
			t.Errorf("%s: the file: %v", c.name, err)
		}
	}
}

// TestKeeper_EndsByItself.
func TestKeeper_EndsByItself(t *testing.T) {
	m := &machine{dir: t.TempDir(), boot: "a"}
	k := m.open()
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan *api.Pause), make(chan error)
	go func() { ended <- k.Run(ctx, func(p *api.Pause) { told <- p }) }()
	if _, err := k.Begin(time.Minute, "root"); err != nil {
		t.Fatal(err)
	}
	if p := <-told; p == nil {
		t.Fatal("told of a resume, want of a pause")
	}
	m.up.Store(int64(time.Minute))
	if p := <-told; p != nil || k.Now() != nil {
		t.Errorf("after its time: told %+v", p)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(m.records) != 2 {
		t.Errorf("on record: %q, want a pause and a resume", m.records)
	}
}

// TestKeeper_PausesNothingThatCannotBeRecorded, and resumes all the same.
func TestKeeper_PausesNothingThatCannotBeRecorded(t *testing.T) {
	m := &machine{dir: t.TempDir(), boot: "a", full: errors.New("disk full")}
	k := m.open()
	if _, err := k.Begin(time.Hour, "root"); !errors.Is(err, m.full) || k.Now() != nil {
		t.Errorf("got %v, %+v", err, k.Now())
	}
	m.full = nil
	for _, d := range []time.Duration{0, Least - 1, Most + 1, -time.Hour} {
		if _, err := k.Begin(d, "root"); err == nil {
			t.Errorf("a pause of %v was taken", d)
		}
	}
	if _, err := k.Begin(time.Hour, "root"); err != nil {
		t.Fatal(err)
	}
	m.full = errors.New("disk full")
	if was, err := k.End("root"); !was || !errors.Is(err, m.full) || k.Now() != nil {
		t.Errorf("got %v, %v, %+v; want that it has ended", was, err, k.Now())
	}
}
