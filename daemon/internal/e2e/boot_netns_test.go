// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// boot runs ripstopd --boot in the host's namespace and returns what it prints
// and its exit status.
func (g *guarded) boot(t testing.TB) (string, int) {
	t.Helper()
	out, code, took := g.agent.boot(t)
	t.Logf("ripstopd --boot: exit status %d after %v: %s", code, took.Round(time.Millisecond), strings.TrimSpace(out))
	return out, code
}

// boot is ripstopd --boot with the agent's directories, and how long it took.
func (a *agent) boot(t testing.TB) (printed string, code int, took time.Duration) {
	t.Helper()
	cmd := exec.Command(binary(t, "ripstopd"), append([]string{"--boot", "--node", here, "--role", "agent",
		"--run-dir", a.dir + "/run", "--state-dir", a.dir + "/state"}, a.args...)...)
	var out []byte
	began := time.Now()
	a.ns.MustDo(func() (err error) {
		out, err = cmd.CombinedOutput()
		if _, ended := err.(*exec.ExitError); ended {
			err = nil
		}
		return err
	})
	return string(out), cmd.ProcessState.ExitCode(), time.Since(began)
}

// fresh gives the host a kernel without rules, as a start of the machine does,
// while no agent runs.
func (g *guarded) fresh(t testing.TB) {
	t.Helper()
	g.inj = netnstest.NewInjector(t, netnstest.InjectorConfig{})
	g.s = &streams{inj: g.inj}
	g.agent.ns = g.inj.NS
}

// damage changes both snapshots of the host and gives back how they were.
func (g *guarded) damage(t testing.TB, change func([]byte) []byte) (undo func()) {
	t.Helper()
	dir := g.agent.dir + "/state/agent/"
	before := map[string][]byte{}
	for _, name := range []string{"snapshot", "snapshot.1"} {
		b, err := os.ReadFile(dir + name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		before[name] = b
		if err := os.WriteFile(dir+name, change(append([]byte(nil), b...)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(before) == 0 {
		t.Fatal("there is no snapshot to damage")
	}
	return func() {
		aside, _ := filepath.Glob(dir + "snapshot*")
		for _, f := range aside {
			os.Remove(f)
		}
		for name, b := range before {
			if err := os.WriteFile(dir+name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestNetnsBoot_TheLastStateIsInForceBeforeTheAgentRuns: with the datastore
// dead and a kernel without rules, ripstopd --boot enforces what is on disk
// and ends. What it cannot read becomes a lockdown, never an open host; the
// agent that comes after it takes over without a packet judged wrongly.
func TestNetnsBoot_TheLastStateIsInForceBeforeTheAgentRuns(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	g.agent.saved(t, g.rev)
	g.agent.kill()
	g.srv.kill()
	policy := map[uint16]bool{22: true, 7000: true, 7001: false, 8000: true}
	locked := map[uint16]bool{22: true, 7000: false, 7001: false, 8000: false}

	g.fresh(t)
	if out, code := g.boot(t); code != 0 || !strings.Contains(out, "In force: the state of revision") {
		t.Errorf("exit status %d, printed %q, want 0 and the revision", code, out)
	}
	wantPass(t, g.inj, "booted from a good snapshot", policy)
	g.s.burst(200)
	g.agent.run(t)
	g.agent.until(t, "the agent enforces the snapshot", fromSnapshot)
	g.s.last(time.Second)
	g.s.check(t)
	wantPass(t, g.inj, "agent took over", policy)
	g.agent.kill()

	for _, c := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"truncated", func(b []byte) []byte { return b[:len(b)/2] }},
		{"empty", func([]byte) []byte { return nil }},
		{"one bit flipped", func(b []byte) []byte { b[len(b)*2/3] ^= 4; return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.fresh(t)
			undo := g.damage(t, c.change)
			defer undo()
			if out, code := g.boot(t); code != 0 || !strings.Contains(out, "In force: a lockdown") {
				t.Errorf("exit status %d, printed %q, want 0 and a lockdown", code, out)
			}
			wantPass(t, g.inj, "booted from a damaged snapshot", locked)
			through := netnstest.Packet{Src: addr("10.1.0.9"), Dst: addr("10.2.0.9"), Protocol: netnstest.TCP, SrcPort: 40001, DstPort: 80}
			if g.inj.Forward(through, "rstun0", "rstun1") {
				t.Error("a host in lockdown forwards")
			}
			// Again, as when the unit is restarted: the rules stay.
			if out, code := g.boot(t); code != 0 || !strings.Contains(out, "rules in the kernel stay") {
				t.Errorf("second time: exit status %d, printed %q, want 0 and that rules stay", code, out)
			}
			wantPass(t, g.inj, "booted twice", locked)
		})
	}

	// The datastore comes back: an agent on a locked host enforces policy.
	g.fresh(t)
	g.damage(t, func(b []byte) []byte { return b[:len(b)/3] })
	g.boot(t)
	g.agent.run(t)
	wantPass(t, g.inj, "locked, agent without datastore", locked)
	g.srv.restart(t)
	g.agent.applied(t, g.rev)
	wantPass(t, g.inj, "datastore is back", policy)
	g.s.burst(200)
	g.s.check(t)
}

// TestNetnsBoot_OfAHostWithoutPolicyFiltersNothing.
func TestNetnsBoot_OfAHostWithoutPolicyFiltersNothing(t *testing.T) {
	g := &guarded{agent: &agent{dir: shortDir(t)}}
	g.inj = netnstest.NewInjector(t, netnstest.InjectorConfig{})
	g.agent.ns = g.inj.NS
	if out, code := g.boot(t); code != 0 || !strings.Contains(out, "Nothing has been enforced") {
		t.Errorf("exit status %d, printed %q, want 0 and that there is nothing", code, out)
	}
	if rules := g.inj.NS.Run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules after boot of a host without policy:\n%s", rules)
	}
}

// TestNetnsBoot_WhatANewerVersionWroteIsNotOpened: after a downgrade the
// datastore, and the state on disk, have a policy with a field that this
// version does not know. It is enforced by the side that lets less through, by
// the agent and at the next start without a datastore.
func TestNetnsBoot_WhatANewerVersionWroteIsNotOpened(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	corrupt(t, g, gnpKey("newer"), storedPolicy("newer", `{"order":1,"selector":"role == 'victim'","types":["Ingress"],"ingress":[{"action":"Allow","onlyAtNight":true,"protocol":"TCP"}]}`))
	hs := g.agent.until(t, "the unknown field is a fault", func(hs *api.HostStatus) bool {
		return len(hs.Status.Faults) == 1 && strings.Contains(hs.Status.Faults[0].Message, "onlyAtNight")
	})
	g.agent.applied(t, hs.Status.Datastore.SeenRevision)
	closed := map[uint16]bool{22: true, 7000: false, 7001: false, 8000: false}
	wantPass(t, g.inj, "the agent of a downgraded host", closed)
	g.agent.stop()
	g.srv.kill()

	g.fresh(t)
	if out, code := g.boot(t); code != 0 || !strings.Contains(out, "In force: the state of revision") {
		t.Errorf("exit status %d, printed %q, want 0 and the revision", code, out)
	}
	wantPass(t, g.inj, "start of a downgraded host", closed)
	g.agent.run(t)
	g.agent.until(t, "the agent enforces the snapshot", fromSnapshot)
	wantPass(t, g.inj, "downgraded host without a datastore", closed)
}
