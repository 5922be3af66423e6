// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var (
	outage      = flag.Duration("outage", time.Minute, "how long the datastore is away while the host is watched")
	compactions = flag.Int("compactions", 5, "how often the datastore's history is compacted behind an agent's back")
)

// guarded is a server, a host with the chaos endpoint and policies, and an
// agent that enforces them, perhaps through a valve.
type guarded struct {
	srv   *server
	inj   *netnstest.Injector
	agent *agent
	valve *valve
	s     *streams
	rev   api.Revision // of what was put at first
}

// newGuarded puts extra documents beside the chaos policies.
func newGuarded(t testing.TB, valved bool, extra string, args ...string) *guarded {
	t.Helper()
	g := &guarded{srv: startServer(t), inj: netnstest.NewInjector(t, netnstest.InjectorConfig{})}
	g.s = &streams{inj: g.inj}
	g.rev = g.srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0)+extra)
	url := g.srv.etcd()
	if valved {
		g.valve = newValve(t, url)
		url = g.valve.url()
	}
	g.agent = startAgent(t, g.inj.NS, url, args...)
	g.agent.applied(t, g.rev)
	return g
}

// reboot ends the agent and starts it in a fresh namespace, whose kernel has
// no rules: all that is enforced then comes from this start.
func (g *guarded) reboot(t testing.TB) {
	t.Helper()
	g.agent.kill()
	g.inj = netnstest.NewInjector(t, netnstest.InjectorConfig{})
	g.s = &streams{inj: g.inj}
	g.agent.ns = g.inj.NS
	g.agent.run(t)
}

// TestNetnsDatastoreAway_TheSnapshotIsEnforcedAndMissedDeletionsAreCaughtUp:
// the datastore dies, the host reboots without it, changes are made while only
// the datastore is there, and both meet again.
func TestNetnsDatastoreAway_TheSnapshotIsEnforcedAndMissedDeletionsAreCaughtUp(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	g.agent.saved(t, g.rev)
	old := map[uint16]bool{7000: true, 7001: false, 8000: true}
	wantPass(t, g.inj, "with a datastore", old)

	g.srv.kill()
	g.s.last(time.Second)
	g.s.check(t)
	wantPass(t, g.inj, "datastore dead", old)
	g.agent.until(t, "the status says that the datastore is away", func(hs *api.HostStatus) bool {
		c := condition(hs, "DatastoreInSync")
		return hs.Status.Datastore.Phase == "Waiting" && hs.Status.Datastore.Error != "" && c.Status == "False"
	})

	g.reboot(t)
	hs := g.agent.until(t, "the snapshot is enforced", fromSnapshot)
	if c := condition(hs, "Ready"); c.Status != "True" || c.Reason != "EnforcingSnapshot" {
		t.Errorf("condition Ready is %+v, want True for EnforcingSnapshot", c)
	}
	g.s.last(time.Second)
	g.s.check(t)
	wantPass(t, g.inj, "rebooted without a datastore", old)

	// The datastore is back while the agent is down: one deletion, one new
	// policy. Then again only the agent is there.
	g.agent.kill()
	g.srv.restart(t)
	g.srv.remove(t, gnpKey("early"))
	rev := g.srv.put(t, allowTCP("late", 7001))
	g.srv.kill()
	g.agent.run(t)
	g.agent.until(t, "the snapshot is enforced again", fromSnapshot)
	wantPass(t, g.inj, "not told of the deletion yet", old)
	g.srv.restart(t)
	g.agent.applied(t, rev)
	now := map[uint16]bool{7000: false, 7001: true, 8000: true}
	wantPass(t, g.inj, "caught up", now)
	g.s.last(time.Second)
	g.s.check(t)

	// What was caught up is in the snapshot too.
	g.agent.saved(t, rev)
	g.srv.kill()
	g.reboot(t)
	g.agent.until(t, "the newer snapshot is enforced", fromSnapshot)
	wantPass(t, g.inj, "rebooted on the newer snapshot", now)
	g.s.burst(1000)
	g.s.check(t)
}

// TestNetnsDatastoreAway_OutageIsQuietAndReturnIsFast: while the datastore is
// away no packet is judged wrongly, the log is not flooded and the agent does
// next to nothing; what was written meanwhile is then in force soon.
func TestNetnsDatastoreAway_OutageIsQuietAndReturnIsFast(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, true, sets(0, 1000)+allowTCP("early", 7000))
	g.valve.shut()
	lines, cpu, began := g.agent.lines(), g.agent.cpu(t), time.Now()
	var rev api.Revision
	var wg sync.WaitGroup
	wg.Go(func() {
		rev = g.srv.put(t, sets(500, 999)+allowTCP("late", 7001))
		g.srv.remove(t, gnpKey("early"))
	})
	g.s.last(*outage)
	wg.Wait()
	took, used := time.Since(began), g.agent.cpu(t)-cpu
	g.s.check(t)
	wantPass(t, g.inj, "datastore away", map[uint16]bool{7000: true, 7001: false})
	if n, most := g.agent.lines()-lines, int(took/(10*time.Second))+1; n > most {
		t.Errorf("%d log lines in %v, want at most %d:\n%s", n, took, most, tail(g.agent.log.String(), 4000))
	}
	g.agent.until(t, "the status says that the datastore is away", func(hs *api.HostStatus) bool { return hs.Status.Datastore.Phase == "Waiting" })
	t.Logf("outage of %v: %d packets, %d wrong, the agent used %v of a processor (%.1f %%), %d log lines",
		took.Round(time.Millisecond), g.s.sent, g.s.admitted+g.s.cut, used, 100*float64(used)/float64(took), g.agent.lines()-lines)

	g.valve.open()
	began = time.Now()
	g.agent.applied(t, rev)
	t.Logf("1,000 changes were in force %v after the datastore's return", time.Since(began).Round(time.Millisecond))
	eventually(t, "the missed deletion is in force", func() error {
		if passes(t, g.inj, "rstun0", 7000) {
			return fmt.Errorf("TCP port 7000 passes")
		}
		return nil
	})
	wantPass(t, g.inj, "back", map[uint16]bool{7001: true})
	g.s.burst(100)
	g.s.check(t)
}

// TestNetnsDatastoreAway_CompactionMeansADifferenceNotADeletion: the history
// that the agent needs is gone when it comes back. It lists anew, and what
// both pictures allow or deny is never judged otherwise meanwhile.
func TestNetnsDatastoreAway_CompactionMeansADifferenceNotADeletion(t *testing.T) {
	g := newGuarded(t, true, sets(0, 300))
	raw := rawEtcd(t, g.srv.etcd())
	var worst time.Duration
	for n := range *compactions {
		lists := g.agent.metric(t, "felix_resyncs_started")
		name, before := fmt.Sprintf("allow-%d", n), fmt.Sprintf("allow-%d", n-1)
		g.valve.shut()
		rev := g.srv.put(t, chaosPolicies(n+1)+sets(n, 50)+allowTCP(name, 7000+n))
		if n > 0 {
			rev = g.srv.remove(t, gnpKey(before))
		}
		if err := raw.Compact(bounded(t), rev); err != nil {
			t.Fatal(err)
		}
		g.s.last(300 * time.Millisecond)
		g.valve.open()
		began := time.Now()
		g.s.gap(func() bool {
			hs, err := g.agent.status()
			return err == nil && hs.Status.Dataplane.AppliedRevision >= rev || time.Since(began) > patience
		})
		g.agent.applied(t, rev)
		worst = max(worst, time.Since(began))
		if got := g.agent.metric(t, "felix_resyncs_started"); got <= lists {
			t.Errorf("round %d: the datastore was listed %v times before and %v after, so the compaction did not matter", n, lists, got)
		}
		wantPass(t, g.inj, fmt.Sprintf("round %d", n), map[uint16]bool{uint16(7000 + n): true, uint16(7000 + n - 1): false})
		if g.s.check(t); t.Failed() {
			return
		}
	}
	t.Logf("%d compactions, %d packets, %d wrong; back within %v", *compactions, g.s.sent, g.s.admitted+g.s.cut, worst.Round(time.Millisecond))
}

// TestNetnsDatastore_IdleHostsAreQuiet: hosts on which nothing happens do not
// keep one another busy by writing their status.
func TestNetnsDatastore_IdleHostsAreQuiet(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, false, "")
	startAgent(t, netnstest.New(t), g.srv.etcd(), "--node", "h2").until(t, "the second agent is ready", verified)
	raw := rawEtcd(t, g.srv.etcd())
	revision := func() int64 {
		st, err := raw.Status(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		return st.Revision
	}
	// What is new is reported first, and a busy machine is news of its own.
	// Hosts that keep one another busy never have a quiet time.
	for window := 1; ; window++ {
		before, cpu, began := revision(), g.agent.cpu(t), time.Now()
		time.Sleep(20 * time.Second)
		n, used, took := revision()-before, g.agent.cpu(t)-cpu, time.Since(began)
		t.Logf("two idle hosts: %d writes in %v, %.1f %% of a processor each", n, took.Round(time.Second), 100*float64(used)/float64(took))
		// One report of each in half a minute, and Felix's keys as often.
		if n <= 8 {
			return
		}
		if window == 6 {
			t.Fatalf("two idle hosts wrote more than 8 times in 20 s, %d times one after the other", window)
		}
	}
}
