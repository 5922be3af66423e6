// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// beforeAfter: what is let in before and after the picture in question.
type beforeAfter struct{ before, after map[uint16]bool }

// heldThenAccepted checks that the agent holds the store's picture for a
// reason and says so everywhere, that packets are judged as before, that this
// stays so over a restart, and that accept-rollback lets the picture through.
func (g *guarded) heldThenAccepted(t *testing.T, reason string, ports beforeAfter) {
	t.Helper()
	g.heldAndToldEverywhere(t, reason)
	wantPass(t, g.inj, "held", ports.before)
	g.s.last(500 * time.Millisecond)
	g.s.check(t)

	g.agent.kill()
	g.s.burst(100)
	g.agent.run(t)
	g.agent.until(t, "held after a restart of the agent", held(reason))
	wantPass(t, g.inj, "held after a restart", ports.before)
	g.s.last(200 * time.Millisecond)
	g.s.check(t)

	g.accept(t, reason)
	wantPass(t, g.inj, "accepted", ports.after)
}

// heldAndToldEverywhere: in the status, its conditions and the metrics.
func (g *guarded) heldAndToldEverywhere(t *testing.T, reason string) {
	t.Helper()
	hs := g.agent.until(t, "held for "+reason, held(reason))
	if c := condition(hs, "DatastoreInSync"); c.Status != "False" || c.Reason != "Held" || !strings.HasPrefix(c.Message, reason) {
		t.Errorf("condition DatastoreInSync is %+v, want False for Held with %s", c, reason)
	}
	if v := g.agent.metric(t, `ripstop_sync_state{state="Held"}`); v != 1 {
		t.Errorf("metric ripstop_sync_state of Held is %v, want 1", v)
	}
	out, err := g.srv.cli(t, "status", "--agent", "unix://"+g.agent.dir+"/run/agent.sock")
	if err != nil || !strings.Contains(out, reason) {
		t.Errorf("ripstop status: %v\n%s\nwant %s in it", err, out, reason)
	}
}

// accept lets the held picture through by the CLI and waits until it is in
// force.
func (g *guarded) accept(t *testing.T, reason string) {
	t.Helper()
	out, err := g.srv.cli(t, "store", "accept-rollback", "--agent", "unix://"+g.agent.dir+"/run/agent.sock")
	if err != nil || !strings.Contains(out, reason) {
		t.Fatalf("ripstop store accept-rollback: %v: %s; want %s in it", err, out, reason)
	}
	g.agent.until(t, "the accepted picture is in force", func(hs *api.HostStatus) bool {
		d := hs.Status.Datastore
		return d.Held == "" && d.Source == "live" && d.Phase == "InSync" && hs.Status.Dataplane.AppliedRevision == d.SeenRevision
	})
	if out, err := g.srv.cli(t, "store", "accept-rollback", "--agent", "unix://"+g.agent.dir+"/run/agent.sock"); err == nil && !strings.Contains(out, "nothing") {
		t.Errorf("ripstop store accept-rollback with nothing held: %s", out)
	}
}

// copyTree copies a directory with its modes, holes left out.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copying %s: %v: %s", from, err, out)
	}
}

// TestNetnsGuard_RestoredStoreIsHeld: the datastore's files are replaced by an
// older copy while the agent runs.
func TestNetnsGuard_RestoredStoreIsHeld(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000)+allowTCP("changed", 7100))
	data, backup := g.srv.dir+"/state/etcd", filepath.Join(g.srv.dir, "backup")
	g.srv.stop()
	copyTree(t, data, backup)
	g.srv.restart(t)
	g.srv.put(t, allowTCP("late", 7001)+allowTCP("changed", 7101))
	g.srv.remove(t, gnpKey("early"))
	rev := g.srv.put(t, sets(0, 20)) // so that there is something to climb
	g.agent.applied(t, rev)
	g.agent.saved(t, rev)
	now := map[uint16]bool{7000: false, 7001: true, 7100: false, 7101: true, 8000: true}
	wantPass(t, g.inj, "before the restore", now)

	g.srv.kill()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, data); err != nil {
		t.Fatal(err)
	}
	g.srv.restart(t)
	g.agent.until(t, "held", held("OlderRevision"))
	// The restored store is written to until its revision is above all that
	// was seen: that must not let it through.
	for n := 0; g.srv.put(t, sets(1000+n, 20)) < rev+50; n += 20 {
	}
	g.s.last(2 * time.Second)
	g.heldThenAccepted(t, "OlderRevision", beforeAfter{now, map[uint16]bool{7000: true, 7001: false, 7100: true, 7101: false, 8000: true}})

	// And the stream goes on.
	g.agent.applied(t, g.srv.put(t, allowTCP("late", 7002)))
	wantPass(t, g.inj, "a change after the restore", map[uint16]bool{7002: true})
}

// TestNetnsGuard_EmptiedStoreIsHeld: the datastore's directory is deleted, so
// another cluster, with nothing in it, answers.
func TestNetnsGuard_EmptiedStoreIsHeld(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	g.agent.saved(t, g.rev)
	g.srv.kill()
	if err := os.RemoveAll(g.srv.dir + "/state/etcd"); err != nil {
		t.Fatal(err)
	}
	g.srv.restart(t)
	// Nothing is left to guard the interface once it is accepted.
	all := map[uint16]bool{7000: true, 7001: true, 9999: true}
	g.heldThenAccepted(t, "OtherCluster", beforeAfter{map[uint16]bool{7000: true, 7001: false, 9999: false}, all})
}

// TestNetnsGuard_ShrunkStoreIsHeld: half of the objects are gone when the
// agent comes back.
func TestNetnsGuard_ShrunkStoreIsHeld(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	g.agent.saved(t, g.rev)
	g.agent.kill()
	for _, kind := range []api.Kind{api.KindGlobalNetworkPolicy, api.KindGlobalNetworkSet, api.KindHostEndpoint} {
		objs, _, err := g.srv.store.List(bounded(t), kind, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objs {
			g.srv.remove(t, o.Key())
		}
	}
	g.agent.run(t)
	g.heldThenAccepted(t, "Shrunk", beforeAfter{map[uint16]bool{7000: true, 7001: false, 9999: false}, map[uint16]bool{7000: true, 7001: true, 9999: true}})
}

// TestNetnsGuard_OtherClusterIsHeld: the cluster's identity changes under a
// running agent. Nothing that comes after it is applied.
func TestNetnsGuard_OtherClusterIsHeld(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	g.agent.saved(t, g.rev)
	setGUID := func(guid string) {
		t.Helper()
		o, err := g.srv.store.Get(bounded(t), api.Key{Kind: api.KindClusterInformation, Name: "default"})
		if err != nil {
			t.Fatal(err)
		}
		ci := api.Clone(o).(*api.ClusterInformation)
		ci.Spec.ClusterGUID = guid
		raw := rawEtcd(t, g.srv.etcd())
		if _, err := raw.Put(bounded(t), ci, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	setGUID(strings.Repeat("f", 32))
	g.agent.until(t, "held", held("OtherCluster"))
	g.srv.put(t, allowTCP("early", 7001))
	g.heldThenAccepted(t, "OtherCluster", beforeAfter{map[uint16]bool{7000: true, 7001: false}, map[uint16]bool{7000: false, 7001: true}})
}

// TestNetnsGuard_StoreThatIsNotReadyIsHeldUntilItIs: nobody can accept it, and
// nobody needs to.
func TestNetnsGuard_StoreThatIsNotReadyIsHeldUntilItIs(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	raw := rawEtcd(t, g.srv.etcd())
	setReady := func(ready bool) {
		t.Helper()
		o, err := raw.Get(bounded(t), api.Key{Kind: api.KindClusterInformation, Name: "default"})
		if err != nil {
			t.Fatal(err)
		}
		ci := api.Clone(o).(*api.ClusterInformation)
		ci.Spec.DatastoreReady = &ready
		if _, err := raw.Put(bounded(t), ci, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	setReady(false)
	g.heldAndToldEverywhere(t, "NotReady")
	rev := g.srv.put(t, allowTCP("early", 7001))
	g.s.last(500 * time.Millisecond)
	wantPass(t, g.inj, "not ready", map[uint16]bool{7000: true, 7001: false})
	if out, err := g.srv.cli(t, "store", "accept-rollback", "--agent", "unix://"+g.agent.dir+"/run/agent.sock"); err == nil {
		t.Errorf("ripstop store accept-rollback of a store that is not ready: %s, want an error", out)
	}
	g.s.last(500 * time.Millisecond)
	setReady(true)
	g.agent.applied(t, rev)
	eventually(t, "the change is in force", func() error {
		if !passes(t, g.inj, "rstun0", 7001) {
			return fmt.Errorf("TCP port 7001 does not pass")
		}
		return nil
	})
	g.s.check(t)
}
