// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

// agentCLI runs a command of ripstop about the agent of this host.
func (g *guarded) agentCLI(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary(t, "ripstop"), args...)
	cmd.Env = append(os.Environ(), "RIPSTOP_AGENT=unix://"+g.agent.dir+"/run/agent.sock")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ripstop %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// paused waits until the agent says that the host is paused, or is not, and
// that the kernel is as it wants it.
func (g *guarded) paused(t testing.TB, want bool) {
	t.Helper()
	g.agent.until(t, fmt.Sprintf("paused: %v", want), func(hs *api.HostStatus) bool {
		d := hs.Status.Dataplane
		return (hs.Status.Paused != nil) == want && d.AppliedRevision >= g.rev && d.Error == "" && !d.LastVerified.IsZero()
	})
}

// TestNetnsPause_FiltersNothingUntilItEnds: a paused host lets everything
// pass, also after the agent was killed; it says so; and when it is over all
// of policy is in force again. A reboot ends a pause, and so does a file that
// says nonsense. Every step is on record.
func TestNetnsPause_FiltersNothingUntilItEnds(t *testing.T) {
	for _, filter := range []string{"nftables", "iptables"} {
		t.Run(filter, func(t *testing.T) {
			g := newGuarded(t, false, allowTCP("one", 7000), "--dataplane", filter)
			policy := map[uint16]bool{22: true, 7000: true, 7001: false, 8000: true}
			open := map[uint16]bool{22: true, 7000: true, 7001: true, 8000: true}
			file := filepath.Join(g.agent.dir, "state/agent/pause.json")

			wantPass(t, g.inj, "before", policy)
			if out := g.agentCLI(t, "why-down"); !strings.Contains(out, " tier default default ") {
				t.Errorf("why-down does not tell of the packet to port 7001:\n%s", out)
			}
			if out := g.agentCLI(t, "pause", "30m"); !strings.Contains(out, "NOT filtered until") {
				t.Errorf("pause printed %q", out)
			}
			g.eventuallyPass(t, "paused", open)
			if out := g.agentCLI(t, "status"); !strings.Contains(out, "NOTHING IS FILTERED until") || !strings.Contains(out, "Ready") || !strings.Contains(out, "False (Paused)") {
				t.Errorf("status does not say that it is paused:\n%s", out)
			}
			g.agent.kill()
			wantPass(t, g.inj, "paused, the agent is dead", open)
			g.agent.run(t)
			g.paused(t, true)
			wantPass(t, g.inj, "paused, the agent is back", open)

			if out := g.agentCLI(t, "resume"); out != "Policy is in force again.\n" {
				t.Errorf("resume printed %q", out)
			}
			g.eventuallyPass(t, "resumed", policy)
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", file, err)
			}
			if out := g.agentCLI(t, "resume"); out != "Policy was not paused.\n" {
				t.Errorf("a second resume printed %q", out)
			}

			for name, content := range map[string]string{
				"damaged":             "{",
				"of another start":    `{"boot":"11111111-1111-1111-1111-111111111111","ends":9000000000000000000,"since":"2026-01-01T00:00:00Z","until":"2099-01-01T00:00:00Z","by":"x"}`,
				"that takes too long": fmt.Sprintf(`{"boot":%q,"ends":9000000000000000000,"since":"2026-01-01T00:00:00Z","until":"2099-01-01T00:00:00Z","by":"x"}`, bootID(t)),
			} {
				g.agent.kill()
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				g.agent.run(t)
				g.paused(t, false)
				wantPass(t, g.inj, "a pause "+name, policy)
			}
			out := g.agentCLI(t, "audit", "--dir", g.agent.dir+"/state/agent/audit")
			for _, want := range []string{"pause", "resume"} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not on record:\n%s", want, out)
				}
			}
		})
	}
}

func bootID(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// eventuallyPass waits until packets to ports pass or not as wanted.
func (g *guarded) eventuallyPass(t testing.TB, what string, want map[uint16]bool) {
	t.Helper()
	eventually(t, what, func() error {
		for port, pass := range want {
			if four, six := passesEach(g.inj, "rstun0", port); four != pass || six != pass {
				return fmt.Errorf("port %d passes: IPv4 %v, IPv6 %v, want %v", port, four, six, pass)
			}
		}
		return nil
	})
}

// TestNetnsPause_WithoutARecordTheHostIsProtectedAllTheSame: what cannot be
// put on record is not done, and keeps nothing else from being done.
func TestNetnsPause_WithoutARecordTheHostIsProtectedAllTheSame(t *testing.T) {
	g := newGuarded(t, false, allowTCP("one", 7000))
	g.agent.kill()
	record := filepath.Join(g.agent.dir, "state/agent/audit")
	if err := os.RemoveAll(record); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.agent.run(t)
	rev := g.srv.put(t, allowTCP("two", 7001))
	g.agent.applied(t, rev)
	cmd := exec.Command(binary(t, "ripstop"), "pause", "30m")
	cmd.Env = append(os.Environ(), "RIPSTOP_AGENT=unix://"+g.agent.dir+"/run/agent.sock")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "cannot be recorded") {
		t.Errorf("pause: %v: %s", err, out)
	}
	wantPass(t, g.inj, "without a record", map[uint16]bool{22: true, 7000: true, 7001: true, 7002: false})
}
