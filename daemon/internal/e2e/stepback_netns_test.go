// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

// TestNetnsStepBack_TheHostGoesBackByItself: somebody deletes the policy that
// let port 7000 in, and then the server and its datastore are gone. The host
// goes back at its operator's word, and stays so over the agent's death, a
// reboot and the server's return, until the word is taken back or the policy is
// written anew.
func TestNetnsStepBack_TheHostGoesBackByItself(t *testing.T) {
	g := newGuarded(t, false, allowTCP("one", 7000))
	before := map[uint16]bool{22: true, 7000: true, 7001: false}
	after := map[uint16]bool{22: true, 7000: false, 7001: false}
	wantPass(t, g.inj, "before", before)
	eventually(t, "the state is on disk", func() error {
		_, err := os.Stat(g.agent.dir + "/state/agent/snapshot")
		return err
	})
	g.rev = g.srv.remove(t, api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "one"})
	g.eventuallyPass(t, "the policy is deleted", after)

	for _, pid := range g.srv.children(t) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	g.srv.kill()
	out := g.agentCLI(t, "rollback", "--here")
	if !strings.Contains(out, "of 1 resources:\n  GlobalNetworkPolicy(one)\n") {
		t.Errorf("rollback --here printed %q", out)
	}
	g.eventuallyPass(t, "back", before)
	if out := g.agentCLI(t, "status"); !strings.Contains(out, "STEPPED BACK") || !strings.Contains(out, "False (SteppedBack)") {
		t.Errorf("status does not say that it has gone back:\n%s", out)
	}
	g.agent.kill()
	wantPass(t, g.inj, "the agent is dead", before)
	g.agent.run(t)
	g.steppedBack(t, true)
	wantPass(t, g.inj, "the agent is back", before)

	g.agent.kill()
	g.fresh(t)
	g.boot(t)
	wantPass(t, g.inj, "the machine was started anew", before)
	g.agent.run(t)
	g.steppedBack(t, true)
	wantPass(t, g.inj, "and its agent", before)

	g.srv.run(t)
	g.agent.until(t, "live", func(hs *api.HostStatus) bool { return hs.Status.Datastore.Source == "live" })
	g.steppedBack(t, true)
	wantPass(t, g.inj, "the datastore is back", before)

	if out := g.agentCLI(t, "rollback", "--here", "--undo"); out != "This machine enforces what the datastore has.\n" {
		t.Errorf("--undo printed %q", out)
	}
	g.eventuallyPass(t, "taken back", after)
	g.steppedBack(t, false)
	g.agentCLI(t, "rollback", "--here")
	g.eventuallyPass(t, "back again", before)
	g.rev = g.srv.put(t, allowTCP("one", 7001))
	g.eventuallyPass(t, "a repair gets through", map[uint16]bool{22: true, 7000: false, 7001: true})
	g.steppedBack(t, false)

	record := g.agentCLI(t, "audit", "--dir", g.agent.dir+"/state/agent/audit")
	for _, want := range []string{"rollback", "rollback-undo"} {
		if !strings.Contains(record, want) {
			t.Errorf("%q is not on record:\n%s", want, record)
		}
	}
}

// steppedBack waits until the agent says that it holds earlier values, or none,
// and that the kernel is as it wants it.
func (g *guarded) steppedBack(t testing.TB, want bool) {
	t.Helper()
	g.agent.until(t, "stepped back", func(hs *api.HostStatus) bool {
		d := hs.Status.Dataplane
		return (hs.Status.SteppedBack != nil) == want && d.Error == "" && !d.LastVerified.IsZero()
	})
}
