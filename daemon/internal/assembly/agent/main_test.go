// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

func TestMain_RefusesACommandLineThatMakesNoSense(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.yaml")
	for _, c := range []struct{ args, want string }{
		{"cleanup", "did you mean --cleanup?"},
		{"--check --cleanup", "exclude each other"},
		{"--no-such-flag", "unknown flag: --no-such-flag"},
		{"--check --config " + none, none},
		{"--cleanup now", `argument "now" is not expected`},
	} {
		var out, err bytes.Buffer
		if code := Main(strings.Fields(c.args), nil, &out, &err); code != 2 || !strings.Contains(err.String(), c.want) {
			t.Errorf("ripstopd %s: exit status %d, want 2, and %q in: %s", c.args, code, c.want, err.String())
		}
	}
}

func TestCheck_OfAHostOnWhichNothingHasRunLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{Role: config.Standalone, Node: "h1", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state")}
	var out bytes.Buffer
	if err := check(context.Background(), cfg, slog.New(slog.DiscardHandler), &out); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "# 0 objects from nowhere") || !strings.Contains(text, "chain input") {
		t.Errorf("printed:\n%s\nwant the plan of no objects", text)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("check left %v, %v, want nothing", left, err)
	}
}

// The agent does not end because its server cannot be started, and starts it
// as soon as it can be.
func TestServe_OutlivesAServerThatIsNotThere(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	program := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n: >"+ran+"\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(ctx, config.Config{RunDir: "/x", StateDir: "/y"}, slog.New(slog.DiscardHandler), func() (string, error) {
			if asked++; asked == 1 {
				return "", os.ErrNotExist
			}
			return program, nil
		})
	}()
	for range 1000 {
		if _, err := os.Stat(ran); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-done
	if _, err := os.Stat(ran); err != nil {
		t.Errorf("the server was not started at the second try: %v", err)
	}
}

func TestLockState_KeepsASecondAgentOut(t *testing.T) {
	cfg := config.Config{StateDir: filepath.Join(t.TempDir(), "state")}
	lock, err := lockState(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{cfg.StateDir, filepath.Join(cfg.StateDir, "agent")} {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("mode of %s: %v, %v, want 0700", d, st.Mode(), err)
		}
	}
	if _, err := lockState(cfg); err == nil || !strings.Contains(err.Error(), "another ripstopd is using it") {
		t.Errorf("a second lock: %v, want a refusal", err)
	}
	lock.Close()
	if lock, err = lockState(cfg); err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

func TestListenMetrics_OnAnAddressInUseIsAFaultOnly(t *testing.T) {
	board := status.NewBoard(status.Config{Host: "h1"})
	log := slog.New(slog.DiscardHandler)
	first := listenMetrics(config.Config{MetricsAddress: "127.0.0.1:0"}, log, board)
	if first == nil {
		t.Fatal("listenMetrics of a free address: nil")
	}
	defer first.Close()
	used := first.Addr().String()
	if l := listenMetrics(config.Config{MetricsAddress: used}, log, board); l != nil {
		t.Fatalf("listenMetrics of %s twice: a listener", used)
	}
	faults := board.Status().Status.Faults
	if len(faults) != 1 || faults[0].Object != "metrics-address "+used || faults[0].Effect == "" {
		t.Errorf("faults %+v, want one of %s", faults, used)
	}
}

// TestFindings_TellSystemdNothingToType: there is nobody at its terminal.
func TestFindings_TellSystemdNothingToType(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	var out bytes.Buffer
	f := findings{cfg: config.Config{Role: config.Agent, RunDir: "/run/ripstop"}}
	if f.advise(&out); out.Len() > 0 {
		t.Errorf("under systemd the agent says what to type:\n%s", out.String())
	}
}

func TestFindings_TellWhatToTypeNext(t *testing.T) {
	for _, c := range []struct {
		name string
		f    findings
		want []string
		not  []string
	}{
		{"usual places", findings{cfg: config.Config{Role: config.Standalone, Node: "h1", RunDir: "/run/ripstop"}},
			[]string{`protects host "h1"`, "nothing is filtered until", "ripstop status "}, []string{"export "}},
		{"other places", findings{cfg: config.Config{Role: config.Standalone, RunDir: "/x"}, rules: true, firewalls: []string{"nftables, table ip nat"}},
			[]string{"export RIPSTOP_AGENT=unix:///x/agent.sock RIPSTOP_SERVER=unix:///x/api.sock", "those of a run before", "table ip nat"}, []string{"nothing is filtered"}},
		{"no server here", findings{cfg: config.Config{Role: config.Agent, RunDir: "/x"}},
			[]string{"export RIPSTOP_AGENT=unix:///x/agent.sock\n"}, []string{"RIPSTOP_SERVER"}},
	} {
		var out bytes.Buffer
		c.f.print(&out)
		c.f.advise(&out)
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: no %q in:\n%s", c.name, w, out.String())
			}
		}
		for _, w := range c.not {
			if strings.Contains(out.String(), w) {
				t.Errorf("%s: %q in:\n%s", c.name, w, out.String())
			}
		}
	}
}
