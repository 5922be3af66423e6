// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// Reason is why a picture is held.
type Reason string

// Reasons for holding a picture, the gravest first.
const (
	// NotReady: ClusterInformation is missing, cannot be read, or does not
	// say that the datastore is ready. Waiting is the only cure: Accept does
	// not let such a picture through.
	NotReady Reason = "NotReady"
	// OtherCluster: the cluster's GUID is not the one that was seen before.
	OtherCluster Reason = "OtherCluster"
	// OlderRevision: the store is at an older revision than was seen before,
	// as after a restore from a backup.
	OlderRevision Reason = "OlderRevision"
	// Empty: nothing is left of what was known (or, when what was known has
	// been lost, there is nothing that anybody wrote).
	Empty Reason = "Empty"
	// Shrunk: half or more of what was known (and at least three objects)
	// is gone.
	Shrunk Reason = "Shrunk"
)

// shrunkAtLeast is the number of objects that have to be gone for a picture
// to count as Shrunk: single deletions in a small store are normal.
const shrunkAtLeast = 3

// Held tells that a picture was received and is not applied.
type Held struct {
	// Reason is the gravest reason, Details all of them in words.
	Reason  Reason
	Details string
	// Since is when the first picture was held for this Reason.
	Since time.Time
}

// String is the reason and the details, for people.
func (h *Held) String() string { return string(h.Reason) + ": " + h.Details }

// Known is what was enforced before: the picture of the last snapshot.
type Known struct {
	// Objects are all objects, each with the revision that it was stored at.
	// The Watcher that gets them takes the map over; nil: there are none.
	Objects *api.KeyMap[api.Revision]
	// Events gives the same objects themselves, in batches; nil: there are
	// none. It can be called more than once, and keeps nothing of what it
	// gives.
	Events iter.Seq[[]api.Event]
	// Revision is the highest revision ever seen.
	Revision api.Revision
	// ClusterGUID is the cluster's, empty if it was not known.
	ClusterGUID string
	// Lost: there was a picture and it cannot be read any more. A picture
	// with nothing in it that anybody wrote is then held.
	Lost bool
}

// picture is a listing of all kinds, or what is left to remember of one.
type picture struct {
	objects  *api.KeyMap[api.Revision]
	revision api.Revision
	guid     string
	// ready is what ClusterInformation says.
	ready bool
	// lost is Known.Lost.
	lost bool
}

// verdict is what the guard found. No reason: the picture may pass.
type verdict struct {
	reasons []Reason
	details []string
}

func (v *verdict) add(r Reason, format string, args ...any) {
	v.reasons = append(v.reasons, r)
	v.details = append(v.details, fmt.Sprintf(format, args...))
}

// judge compares a listing with what was known. was is why the listing before
// is held, if it is.
func judge(known, got *picture, was Reason) verdict {
	var v verdict
	if !got.ready {
		v.add(NotReady, "the datastore is not ready: ClusterInformation(default) does not say datastoreReady: true")
	}
	if known.guid != "" && got.guid != known.guid {
		v.add(OtherCluster, "the cluster's GUID is %s, it was %s", got.guid, known.guid)
	}
	// A store that was put back to an older state does not stay older: agents
	// alone write their status every few seconds.
	switch older := olderObjects(known, got); {
	case got.revision < known.revision:
		v.add(OlderRevision, "the store is at revision %d, revision %d was seen before", got.revision, known.revision)
	case older > 0:
		v.add(OlderRevision, "%d objects are at older revisions than were seen before: the store went back in time and has been written to since", older)
	case was == OlderRevision && !continues(known, got):
		v.add(OlderRevision, "the store was at an older revision and has not come back to what was known at revision %d", known.revision)
	}
	if known.lost && !anybodys(got.objects) {
		v.add(Empty, "the store holds no policy and no endpoint, and what was known before is lost")
	}
	gone := 0
	for k := range known.objects.All() {
		if _, ok := got.objects.Get(k); !ok {
			gone++
		}
	}
	switch n := known.objects.Len(); {
	case n > 0 && got.objects.Len() == 0:
		v.add(Empty, "the store is empty, %d objects were known", n)
	case gone >= shrunkAtLeast && gone*2 >= n:
		v.add(Shrunk, "%d of %d known objects are gone", gone, n)
	}
	return v
}

// olderObjects counts objects whose revision is lower than the one known. In
// one history of a store that cannot be.
func olderObjects(known, got *picture) (n int) {
	for k, rev := range known.objects.All() {
		if now, ok := got.objects.Get(k); ok && now < rev && now != 0 {
			n++
		}
	}
	return n
}

// continues tells whether got can be the store that was known before it went
// back: all that was known is there, and nothing that should have been known.
func continues(known, got *picture) bool {
	for k := range known.objects.All() {
		if _, ok := got.objects.Get(k); !ok {
			return false
		}
	}
	for k, rev := range got.objects.All() {
		if _, ok := known.objects.Get(k); !ok && rev <= known.revision {
			return false
		}
	}
	return true
}

func (v verdict) held(since time.Time) *Held {
	return &Held{Reason: v.reasons[0], Details: strings.Join(v.details, "; "), Since: since}
}

// written tells whether somebody must have written the object, as against
// those that a store is initialised with or that agents write of themselves.
func written(k api.Key) bool {
	switch k.Kind {
	case api.KindClusterInformation, api.KindNode, api.KindHostStatus:
		return false
	case api.KindTier:
		return k.Name != "default" && k.Name != "kube-admin" && k.Name != "kube-baseline"
	default:
		return true
	}
}

// anybodys tells whether any of the objects was written by somebody.
func anybodys(objects *api.KeyMap[api.Revision]) bool {
	for k := range objects.All() {
		if written(k) {
			return true
		}
	}
	return false
}
