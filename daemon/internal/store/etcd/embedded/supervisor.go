// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
)

// State is how the server process stands.
type State struct {
	// Running: it answers.
	Running bool
	// PID is its process id, zero if there is none.
	PID int
	// Restarts counts the starts after the first one.
	Restarts int
	// LastError is why it ended last, or does not answer; it stays after a
	// restart. Empty: it never did.
	LastError string
	// Since is when Running last changed.
	Since time.Time
}

// SupervisorConfig says what a Supervisor runs. Command, DataDir and
// ClientSocket are required.
type SupervisorConfig struct {
	// Command is the program and its arguments; it calls Run.
	Command []string
	// Env is its environment; nil: ours.
	Env []string
	// DataDir and ClientSocket are those of the Config that it runs with.
	DataDir, ClientSocket string
	// OnState is called after each change, one call at a time, and must not
	// block. May be nil.
	OnState func(State)
	// Log gets the process's own log lines and what happens to it. Default:
	// nothing is logged.
	Log *slog.Logger
	// StartTimeout is how long it may take to answer. Default 1 min.
	StartTimeout time.Duration
	// StopGrace is how long it may take to stop before it is killed. Default
	// 10 s.
	StopGrace time.Duration
	// RestartAfter is the least time between two starts when it keeps dying;
	// it doubles up to a minute. The first restart is at once, and so is each
	// after it has answered for that long. Default 5 s.
	RestartAfter time.Duration
}

// maxRestartAfter bounds the time between two starts.
const maxRestartAfter = time.Minute

// Supervisor starts the server process, restarts it when it dies, and stops
// it. Should the supervisor itself be killed, the kernel kills the process.
type Supervisor struct {
	cfg SupervisorConfig

	mu    sync.Mutex // guards state
	state State
}

// NewSupervisor gives a Supervisor; Run makes it work.
func NewSupervisor(cfg SupervisorConfig) *Supervisor {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&cfg.StartTimeout, time.Minute}, {&cfg.StopGrace, 10 * time.Second}, {&cfg.RestartAfter, 5 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnState == nil {
		cfg.OnState = func(State) {}
	}
	return &Supervisor{cfg: cfg, state: State{Since: time.Now()}}
}

// State is how the process stands now.
func (s *Supervisor) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// change alters the state and tells of it.
func (s *Supervisor) change(f func(st *State)) {
	s.mu.Lock()
	was := s.state.Running
	f(&s.state)
	if s.state.Running != was {
		s.state.Since = time.Now()
	}
	st := s.state
	s.mu.Unlock()
	s.cfg.OnState(st)
}

// Run keeps the process alive until ctx ends, then stops it and returns nil.
func (s *Supervisor) Run(ctx context.Context) error {
	if len(s.cfg.Command) == 0 {
		return errors.New("store: no command to start it with")
	}
	pace := pace{after: s.cfg.RestartAfter, quick: true}
	for first := true; ; first = false {
		timer := time.NewTimer(pace.wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		begin := time.Now()
		if !first {
			s.change(func(st *State) { st.Restarts++ })
		}
		answered, err := s.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		pace.ended(answered, time.Since(begin))
		s.cfg.Log.Error("Store ended, restarting it", "err", err, "after", time.Since(begin), "wait", pace.wait)
	}
}

// pace says how long to wait before a process that has ended is started again.
type pace struct {
	after time.Duration // SupervisorConfig.RestartAfter
	wait  time.Duration // before the next start
	quick bool          // one restart may be at once
}

// ended takes note of an end: whether the process had answered, and how long
// it ran. The next start is at once after a time of answering; but if that was
// not long, only once, then slower and slower.
func (p *pace) ended(answered bool, ran time.Duration) {
	switch {
	case answered && (p.quick || ran >= p.after):
		p.wait, p.quick = 0, ran >= p.after
	case p.wait == 0:
		p.wait = max(p.after-ran, 0)
	default:
		p.wait = min(max(p.wait, p.after)*2, maxRestartAfter)
	}
}

// once starts the process and waits for its end, or for ctx, upon which it
// stops it. answered tells whether it ever served.
func (s *Supervisor) once(ctx context.Context) (answered bool, err error) {
	tail := &tailWriter{log: s.cfg.Log}
	p, err := host.StartProcess(host.ProcessConfig{
		Path: s.cfg.Command[0], Args: s.cfg.Command[1:], Env: s.cfg.Env, Stdout: tail, Stderr: tail,
	})
	if err != nil {
		err = s.explain(err, tail)
		s.change(func(st *State) { st.Running, st.PID, st.LastError = false, 0, err.Error() })
		return false, err
	}
	s.change(func(st *State) { st.PID = p.PID() })

	probing, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	ready := make(chan error, 1)
	go func() { ready <- s.probe(probing) }()
	defer func() {
		cancel()
		if ready != nil {
			<-ready
		}
	}()
	for {
		select {
		case err := <-ready:
			ready = nil
			if err == nil {
				answered = true
				s.change(func(st *State) { st.Running = true })
				continue
			}
			if ctx.Err() == nil {
				tail.add(fmt.Sprintf("no answer on %s within %v: %v", s.cfg.ClientSocket, s.cfg.StartTimeout, err))
				p.Signal(syscall.SIGKILL)
			}
		case <-ctx.Done():
			if !p.Stop(s.cfg.StopGrace) {
				s.cfg.Log.Warn("Store did not stop in time and was killed", "grace", s.cfg.StopGrace)
			}
			s.change(func(st *State) { st.Running, st.PID = false, 0 })
			return answered, nil
		case <-p.Done():
			err := p.Err()
			if err == nil {
				err = errors.New("ended by itself")
			}
			err = s.explain(err, tail)
			s.change(func(st *State) { st.Running, st.PID, st.LastError = false, 0, err.Error() })
			return answered, err
		}
	}
}

// probe waits until the server answers.
func (s *Supervisor) probe(ctx context.Context) error {
	c, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + s.cfg.ClientSocket}, RequestTimeout: s.cfg.StartTimeout})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.ClusterID(ctx)
	return err
}

// explain adds to how the process ended why, as far as can be told.
func (s *Supervisor) explain(err error, tail *tailWriter) error {
	last := tail.last()
	sp, statErr := freeSpace(s.cfg.DataDir)
	full := strings.Contains(strings.ToLower(strings.Join(last, "\n")), "no space left on device")
	if full || statErr == nil && sp.free < 1<<20 {
		return fmt.Errorf("store: disk is full: %s has %d bytes free; make room there (%w)", s.cfg.DataDir, sp.free, err)
	}
	if strings.HasPrefix(strings.Join(last, "\n"), "unexpected fault address") {
		return fmt.Errorf("store: %w: reading %s ended in a memory fault (%w)", ErrDamaged, s.cfg.DataDir, err)
	}
	// Whoever was killed did not write why.
	if len(last) == 0 || strings.HasPrefix(err.Error(), "signal:") {
		return fmt.Errorf("store: %w", err)
	}
	return fmt.Errorf("store: %w: %s", err, last[len(last)-1])
}

// tailLines is how many of the last lines of a process are kept.
const tailLines = 20

// tailWriter hands the lines a process prints on to a log, and keeps the last
// ones that tell of trouble.
type tailWriter struct {
	log *slog.Logger

	mu    sync.Mutex // guards all below
	part  []byte
	lines []string
	// tracing: a Go crash is being printed; its first line says it all.
	tracing bool
}

// Write takes output in pieces of any size.
func (t *tailWriter) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, b...)
	for {
		i := bytes.IndexByte(t.part, '\n')
		if i < 0 && len(t.part) > 64<<10 {
			i = len(t.part) - 1
		}
		if i < 0 {
			return len(b), nil
		}
		t.lineLocked(bytes.TrimSpace(t.part[:i]))
		t.part = t.part[i+1:]
	}
}

// lineLocked takes one line: JSON with level and msg, or plain text.
func (t *tailWriter) lineLocked(line []byte) {
	if len(line) == 0 || t.tracing {
		return
	}
	var fields map[string]any
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if dec.Decode(&fields) != nil {
		t.tracing = bytes.HasPrefix(line, []byte("panic:")) || bytes.HasPrefix(line, []byte("fatal error:")) || bytes.HasPrefix(line, []byte("unexpected fault"))
		t.log.Warn("Store printed", "line", string(line))
		t.addLocked(string(line))
		return
	}
	text, _ := fields["msg"].(string)
	level, _ := fields["level"].(string)
	var attrs []any
	for _, k := range []string{"err", "error", "reason", "dir", "free_bytes"} {
		if v, ok := fields[k]; ok {
			attrs = append(attrs, k, v)
		}
	}
	var l slog.Level
	if l.UnmarshalText([]byte(level)) != nil {
		l = slog.LevelError // etcd's DPANIC, PANIC, FATAL
	}
	if l >= slog.LevelError {
		for i := 1; i < len(attrs); i += 2 {
			text += fmt.Sprintf(": %v", attrs[i])
		}
		t.addLocked(text)
	}
	t.log.Log(context.Background(), l, "Store logged", append([]any{"msg_store", text}, attrs...)...)
}

func (t *tailWriter) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(line)
}

func (t *tailWriter) addLocked(line string) {
	t.lines = append(t.lines, line)
	if n := len(t.lines); n > tailLines {
		t.lines = t.lines[n-tailLines:]
	}
}

// last are the kept lines, newest last.
func (t *tailWriter) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines...)
}
