// SPDX-License-Identifier: Apache-2.0

package status

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func newTestBoard() (*Board, *host.FakeClock) {
	c := host.NewFakeClock(start)
	return NewBoard(Config{Host: "h1", Role: "agent", Datastore: "etcd", Endpoints: []string{"https://db:2379"}, Clock: c}), c
}

// enforcing reports what a healthy agent reports.
func enforcing(b *Board, rev api.Revision) {
	b.SetSync(syncer.State{Phase: syncer.InSync, Live: true, Revision: rev, Since: start})
	b.SetBatch(syncer.Batch{Phase: syncer.InSync, Synced: true, Revision: rev})
	b.SetDataplane(api.DataplaneStatus{Backend: "nftables", AppliedRevision: rev, Chains: 5, Rules: 20, LastApplied: stamp(start), LastVerified: stamp(start)})
}

func condition(t *testing.T, b *Board, name string) api.Condition {
	t.Helper()
	for _, c := range b.Status().Status.Conditions {
		if c.Type == name {
			return c
		}
	}
	t.Fatalf("no condition %s", name)
	return api.Condition{}
}

func expect(t *testing.T, b *Board, name, status, reason string) {
	t.Helper()
	if c := condition(t, b, name); c.Status != status || c.Reason != reason {
		t.Errorf("condition %s = %s, %s (%s); want %s, %s", name, c.Status, c.Reason, c.Message, status, reason)
	}
}

func TestBoard_ReadyOnlyWithVerifiedRulesOfAWholePicture(t *testing.T) {
	b, _ := newTestBoard()
	expect(t, b, Ready, "False", "NoPicture")

	// A datastore that is there and not ready: nothing is programmed.
	b.SetSync(syncer.State{Phase: syncer.Resyncing, Since: start, Held: &syncer.Held{Reason: syncer.NotReady, Details: "not ready"}})
	expect(t, b, Ready, "False", "Held")
	b.SetDataplane(api.DataplaneStatus{LastVerified: stamp(start)}) // an empty kernel was read
	expect(t, b, Ready, "False", "Held")

	b, c := newTestBoard()
	b.SetSync(syncer.State{Phase: syncer.InSync, Live: true, Since: start})
	b.SetBatch(syncer.Batch{Synced: true, Revision: 10})
	expect(t, b, Ready, "False", "NotVerified")
	expect(t, b, PolicyApplied, "False", "NotVerified")
	enforcing(b, 10)
	expect(t, b, Ready, "True", "Enforcing")
	expect(t, b, PolicyApplied, "True", "Verified")
	expect(t, b, DatastoreInSync, "True", "InSync")
	if r := b.ReadyReasons(); r != nil {
		t.Errorf("ReadyReasons = %q, want none", r)
	}

	// Changes on their way do not make the host unready, unless they stay.
	b.SetBatch(syncer.Batch{Synced: true, Revision: 11})
	expect(t, b, PolicyApplied, "False", "Pending")
	expect(t, b, Ready, "True", "Enforcing")
	c.Advance(20 * time.Second)
	b.SetBatch(syncer.Batch{Synced: true, Revision: 12})
	c.Advance(11 * time.Second)
	expect(t, b, Ready, "False", "Pending")
	b.UpdateDataplane(func(d *api.DataplaneStatus) { d.AppliedRevision = 12 })
	expect(t, b, Ready, "True", "Enforcing")

	b.UpdateDataplane(func(d *api.DataplaneStatus) { d.Error = "no such device" })
	expect(t, b, Ready, "False", "DataplaneError")
}

func TestBoard_DatastoreAwayIsReadyFromTheSnapshot(t *testing.T) {
	b, _ := newTestBoard()
	b.SetBatch(syncer.Batch{Phase: syncer.InSync, Synced: true, Revision: 10})
	b.SetSync(syncer.State{Phase: syncer.Waiting, Err: errors.New("connection refused"), Since: start})
	b.SetDataplane(api.DataplaneStatus{AppliedRevision: 10, LastVerified: stamp(start)})
	expect(t, b, Ready, "True", "EnforcingSnapshot")
	expect(t, b, DatastoreInSync, "False", "Waiting")
	want := api.DatastoreStatus{Type: "etcd", Endpoints: []string{"https://db:2379"}, Phase: "Waiting", Source: "snapshot", SeenRevision: 10, Error: "connection refused", Since: stamp(start)}
	if diff := cmp.Diff(want, b.Status().Status.Datastore); diff != "" {
		t.Errorf("datastore (-want +got):\n%s", diff)
	}
	b.SetSync(syncer.State{Phase: syncer.Resyncing, Live: true, Held: &syncer.Held{Reason: syncer.Shrunk, Details: "5 of 9 known objects are gone"}, Since: start})
	expect(t, b, DatastoreInSync, "False", "Held")
	expect(t, b, Ready, "True", "Enforcing")
	if got := b.Status().Status.Datastore.Held; got != "Shrunk: 5 of 9 known objects are gone" {
		t.Errorf("held = %q", got)
	}
}

func TestBoard_FailingPartIsNotReadyAfterItsSecondFailure(t *testing.T) {
	b, _ := newTestBoard()
	enforcing(b, 1)
	report := func(err error, failures int) {
		b.LoopReport(reconcile.Report{Loop: "host", Parts: []reconcile.PartReport{{Part: "filter", Err: err, Failures: failures}}})
	}
	report(errors.New("busy"), 1)
	expect(t, b, Ready, "True", "Enforcing")
	report(errors.New("busy"), 2)
	expect(t, b, Ready, "False", "PartFailing")
	if r := b.ReadyReasons(); len(r) != 1 || r[0] != "PartFailing: host/filter: busy" {
		t.Errorf("ReadyReasons = %q", r)
	}
	report(nil, 0)
	expect(t, b, Ready, "True", "Enforcing")
	b.LoopReport(reconcile.Report{Loop: "host", Before: &reconcile.PanicError{Value: "bad plan"}})
	expect(t, b, Ready, "False", "PartFailing")
}

func TestBoard_DriftIsKeptAndForgotten(t *testing.T) {
	b, c := newTestBoard()
	expect(t, b, DriftFree, "True", "Untouched")
	for i := range 60 {
		b.AddDrift(api.Drift{What: fmt.Sprintf("rule %d removed", i), By: "nft[12]", Repaired: true})
	}
	s := b.Status().Status
	if len(s.Drift) != 50 || s.DriftTotal != 60 || s.Drift[0].What != "rule 10 removed" || s.Drift[49].Time != stamp(start) {
		t.Errorf("%d drifts of %d, the first %+v; want the last 50 of 60", len(s.Drift), s.DriftTotal, s.Drift[0])
	}
	expect(t, b, DriftFree, "False", "Drift")
	c.Advance(11 * time.Minute)
	expect(t, b, DriftFree, "True", "Repaired")
	b.AddDrift(api.Drift{What: "table removed"})
	c.Advance(time.Hour)
	expect(t, b, DriftFree, "False", "Drift")
}

func TestBoard_FaultsOfAllReportersAreShown(t *testing.T) {
	b, _ := newTestBoard()
	b.SetFaults("calc", []api.Fault{{Object: "Tier(x)", Message: "order is no number"}})
	b.SetFaults("nftables", []api.Fault{{Object: "Set(y)", Message: "too large"}})
	b.SetSnapshotFault("checksum does not match")
	expect(t, b, NoFaults, "False", "Faults")
	expect(t, b, SnapshotFresh, "False", "Damaged")
	if f := b.Status().Status.Faults; len(f) != 3 || f[0].Object != "Tier(x)" || f[2].Object != "snapshot" {
		t.Errorf("faults = %+v", f)
	}
	b.SetFaults("calc", nil)
	b.SetFaults("nftables", nil)
	b.SetSnapshotFault("")
	expect(t, b, NoFaults, "True", "None")
	expect(t, b, SnapshotFresh, "True", "Good")
}

func TestBoard_ConditionsKeepTheTimeOfTheirLastTransition(t *testing.T) {
	b, c := newTestBoard()
	b.Status()
	c.Advance(time.Minute)
	if got := condition(t, b, Ready).LastTransitionTime; got != stamp(start) {
		t.Errorf("transition of an unchanged condition = %v, want %v", got, start)
	}
	enforcing(b, 1)
	if got := condition(t, b, Ready).LastTransitionTime; got != stamp(start.Add(time.Minute)) {
		t.Errorf("transition of a changed condition = %v, want a minute later", got)
	}
}

func TestBoard_StatusIsACopy(t *testing.T) {
	b, _ := newTestBoard()
	b.SetEndpoints([]api.EndpointState{{Name: "e"}})
	b.SetFailsafes([]string{"tcp:22"}, []string{"udp:53"})
	b.SetNoEffect([]string{"bpfEnabled"})
	s := b.Status()
	s.Status.Endpoints[0].Name = "x"
	s.Status.FailsafesInbound[0] = "x"
	if again := b.Status().Status; again.Endpoints[0].Name != "e" || again.FailsafesInbound[0] != "tcp:22" || again.NoEffect[0] != "bpfEnabled" || again.FailsafesOutbound[0] != "udp:53" {
		t.Errorf("Status = %+v after its copy was changed", again)
	}
	if s.Key().String() != "HostStatus(h1)" || s.APIVersion != "ripstop.io/v1" || !strings.Contains(api.Version, ".") {
		t.Errorf("object is %s of %s", s.Key(), s.APIVersion)
	}
}
