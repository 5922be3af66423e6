// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// Types of conditions of a HostStatus. All are good when True.
const (
	// Ready: rules made of a whole picture are in the kernel, were read back
	// from there, and nothing keeps them from being changed.
	Ready = "Ready"
	// DatastoreInSync: the datastore is followed live.
	DatastoreInSync = "DatastoreInSync"
	// PolicyApplied: all that was seen was read back from the kernel.
	PolicyApplied = "PolicyApplied"
	// DriftFree: nobody has changed our rules in the last ten minutes.
	DriftFree = "DriftFree"
	// SnapshotFresh: the snapshot on disk can be read and written.
	SnapshotFresh = "SnapshotFresh"
	// NoFaults: all objects are enforced as written.
	NoFaults = "NoFaults"
)

const (
	// driftRecent is how long a drift keeps DriftFree False.
	driftRecent = 10 * time.Minute
	// pendingMax is how long changes may be on their way before the host
	// counts as not ready.
	pendingMax = 30 * time.Second
)

// finding is a condition that has not been dated yet.
type finding struct {
	ok              bool
	reason, message string
}

func good(reason string) finding { return finding{ok: true, reason: reason} }

func bad(reason, format string, args ...any) finding {
	return finding{reason: reason, message: fmt.Sprintf(format, args...)}
}

// conditionsLocked judges the board and dates what has changed.
func (b *Board) conditionsLocked(now time.Time) []api.Condition {
	var out []api.Condition
	for _, c := range []struct {
		name string
		finding
	}{
		{Ready, b.readyLocked(now)},
		{DatastoreInSync, b.datastoreInSyncLocked()},
		{PolicyApplied, b.policyAppliedLocked()},
		{DriftFree, b.driftFreeLocked(now)},
		{SnapshotFresh, b.snapshotFreshLocked()},
		{NoFaults, b.noFaultsLocked()},
	} {
		old, had := b.published[c.name]
		n := api.Condition{Type: c.name, Status: "False", Reason: c.reason, Message: c.message, LastTransitionTime: old.LastTransitionTime}
		if c.ok {
			n.Status = "True"
		}
		if !had || old.Status != n.Status {
			n.LastTransitionTime = stamp(now)
		}
		b.published[c.name] = n
		out = append(out, n)
	}
	return out
}

// readyLocked never says yes while the kernel has not been read back, whatever
// else looks fine: an agent that has nothing to enforce because its datastore
// is not ready is not ready either.
func (b *Board) readyLocked(now time.Time) finding {
	switch failing := b.failingLocked(); {
	case b.paused != nil:
		return bad("Paused", "nothing is filtered until %s: %s has paused policy", b.paused.Until.Format(time.RFC3339), b.paused.By)
	case b.stepped != nil:
		return bad("SteppedBack", "earlier values of %d resources are enforced than the datastore has: %s has asked for it", b.stepped.Count, b.stepped.By)
	case !b.inSync && b.sync.Held != nil:
		return bad("Held", "nothing is enforced anew: %s", b.sync.Held)
	case !b.inSync:
		return bad("NoPicture", "neither the datastore nor a snapshot has given a whole picture yet; what was in the kernel stays")
	case b.dataplane.Error != "":
		return bad("DataplaneError", "%s", b.dataplane.Error)
	case len(failing) > 0:
		return bad("PartFailing", "%s", strings.Join(failing, "; "))
	case b.dataplane.LastVerified.IsZero():
		return bad("NotVerified", "the rules have not been read back from the kernel yet")
	case !b.seenSince.IsZero() && now.Sub(b.seenSince) > pendingMax:
		return bad("Pending", "revision %d was seen and %d is applied since %s", b.seen, b.dataplane.AppliedRevision, now.Sub(b.seenSince).Round(time.Second))
	case !b.sync.Live:
		return good("EnforcingSnapshot")
	default:
		return good("Enforcing")
	}
}

func (b *Board) datastoreInSyncLocked() finding {
	switch {
	case b.sync.Held != nil:
		return bad("Held", "%s", b.sync.Held)
	case b.sync.Phase == syncer.InSync && b.sync.Live:
		return good("InSync")
	case b.sync.Err != nil:
		return bad(b.sync.Phase.String(), "%v", b.sync.Err)
	default:
		return bad(b.sync.Phase.String(), "")
	}
}

func (b *Board) policyAppliedLocked() finding {
	switch {
	case b.dataplane.Error != "":
		return bad("DataplaneError", "%s", b.dataplane.Error)
	case b.dataplane.LastVerified.IsZero():
		return bad("NotVerified", "the rules have not been read back from the kernel yet")
	case b.dataplane.AppliedRevision < b.seen:
		return bad("Pending", "revision %d was seen, %d is applied", b.seen, b.dataplane.AppliedRevision)
	default:
		return good("Verified")
	}
}

func (b *Board) driftFreeLocked(now time.Time) finding {
	if len(b.drift) == 0 {
		return good("Untouched")
	}
	d := b.drift[len(b.drift)-1]
	if d.Repaired && now.Sub(d.Time.Time) > driftRecent {
		return good("Repaired")
	}
	what := "changed and not repaired yet"
	if d.Repaired {
		what = "changed and repaired"
	}
	return bad("Drift", "%s: %s (%d in all)", what, d.What, b.drifts)
}

func (b *Board) snapshotFreshLocked() finding {
	if b.snapshot != "" {
		return bad("Damaged", "%s", b.snapshot)
	}
	return good("Good")
}

func (b *Board) noFaultsLocked() finding {
	if f := b.faultsLocked(); len(f) > 0 {
		return bad("Faults", "%d, the first: %s: %s", len(f), f[0].Object, f[0].Message)
	}
	return good("None")
}

// failingLocked lists Parts that fail, in words. A first failure is retried in
// milliseconds and is not told.
func (b *Board) failingLocked() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b.parts)) {
		if p := b.parts[name]; p.err != "" && (p.failures > 1 || p.failures == 0) {
			out = append(out, fmt.Sprintf("%s: %s", name, p.err))
		}
	}
	return out
}

// ReadyReasons says why the host is not ready; nothing: it is.
func (b *Board) ReadyReasons() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.readyLocked(b.cfg.Clock.Now()); !f.ok {
		return []string{f.reason + ": " + f.message}
	}
	return nil
}

// LiveReasons says which pieces hang; nothing: none.
func (b *Board) LiveReasons() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b.cfg.Live)) {
		if err := b.cfg.Live[name](); err != nil {
			out = append(out, name+": "+err.Error())
		}
	}
	return out
}
