// SPDX-License-Identifier: Apache-2.0

// Package store is the contract of a place that keeps resources: read, list,
// compare-and-swap, watch. It holds no implementation: see
// daemon/internal/store/etcd, daemon/internal/store/mem and daemon/client.
// Every implementation passes daemon/internal/store/storetest.
package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
)

// Errors that callers decide on; ask with errors.Is.
var (
	// ErrNotFound: Get, Put with At, Delete of a key that is not there.
	ErrNotFound = errors.New("resource does not exist")
	// ErrExists: Put with Absent of a key that is there.
	ErrExists = errors.New("resource already exists")
	// ErrConflict: Put or Delete with At another revision than the stored.
	ErrConflict = errors.New("update conflict")
	// ErrCompacted: Watch or List at a revision the store has forgotten.
	// List again and watch from there.
	ErrCompacted = errors.New("revision has been compacted")
	// ErrNoSpace: the store takes no writes because its disk or quota is
	// full. Reads go on.
	ErrNoSpace = errors.New("datastore is out of space")
	// ErrUnavailable: the store cannot be reached just now.
	ErrUnavailable = errors.New("datastore is not reachable")
)

// If is the condition of a write.
type If struct {
	absent  bool
	at      api.Revision
	read    *api.Meta
	other   api.Key
	otherAt api.Revision
}

// Always writes whatever is there.
func Always() If { return If{} }

// Absent writes only where nothing is.
func Absent() If { return If{absent: true} }

// At writes only over exactly this revision. At(0) matches nothing: it never
// turns into Always.
func At(r api.Revision) If {
	if r == 0 {
		r = -1
	}
	return If{at: r}
}

// Over is At the revision of an object that was read from the same Store. What
// a Store keeps of what was there (uid, creation time) it can take from that,
// instead of reading it again.
func Over(old api.Object) If {
	m := *old.Metadata()
	rev, err := strconv.ParseInt(m.ResourceVersion, 10, 64)
	if err != nil {
		return At(0)
	}
	i := At(api.Revision(rev))
	i.read = &m
	return i
}

// Read is what Over was given of the object that is to be replaced; nil: it
// was another condition.
func (i If) Read() *api.Meta { return i.read }

// IsAbsent reports whether the condition is Absent.
func (i If) IsAbsent() bool { return i.absent }

// Revision is the revision of an At condition (negative if that matches
// nothing), else zero.
func (i If) Revision() api.Revision { return i.at }

// While is the condition with one more: that another resource is at exactly
// this revision in the same moment. It ties what several writers do to the one
// resource by which they agree, so that none of them writes after it has gone
// on. If it does not hold, the write fails with ErrConflict and the error
// names that resource. A Store that cannot do it in one step refuses the write
// with an error that is errors.ErrUnsupported.
func (i If) While(other api.Key, at api.Revision) If {
	i.other, i.otherAt = other, At(at).at
	return i
}

// Other is the resource of While and the revision it has to be at; the zero
// Key: there is no such condition.
func (i If) Other() (api.Key, api.Revision) { return i.other, i.otherAt }

// ListOptions narrows a List. The zero value lists everything of a kind.
type ListOptions struct {
	// Namespace keeps to one namespace; empty means all.
	Namespace string
	// Limit is the largest number of objects to return; zero means all.
	Limit int
	// After is the key after which a limited list goes on, in key order.
	After api.Key
	// Revision reads the past; zero reads now.
	Revision api.Revision
}

// Store keeps resources. All methods may be called from many goroutines. A
// cancelled context ends a call with the context's error. What a call or a
// watch returns is the caller's, who may change it.
type Store interface {
	// Get reads one object; its Metadata().ResourceVersion is set. A value
	// that cannot be understood comes back as *api.Unreadable.
	Get(ctx context.Context, k api.Key) (api.Object, error)
	// List reads all objects of a kind, in key order, with the revision at
	// which the list was true. Values that cannot be understood are in it as
	// *api.Unreadable: one bad object never hides the others.
	List(ctx context.Context, kind api.Kind, o ListOptions) ([]api.Object, api.Revision, error)
	// Put writes an object and returns its new revision. The store sets uid
	// and creationTimestamp of a new object and keeps those of an existing
	// one. It neither defaults nor validates. o is not changed.
	Put(ctx context.Context, o api.Object, cond If) (api.Revision, error)
	// Delete removes an object. With Absent it fails with ErrConflict if
	// there is one.
	Delete(ctx context.Context, k api.Key, cond If) error
	// Watch streams what happens to a kind after a revision; after zero it
	// streams the whole history, which is mostly ErrCompacted.
	Watch(ctx context.Context, kind api.Kind, after api.Revision) (Watch, error)
}

// Watch is a running watch, used by one goroutine.
type Watch interface {
	// Next blocks until something has happened and returns it in order, or
	// returns an error (ErrCompacted, ErrUnavailable, the context's) after
	// which the watch is over. A bookmark is an Event with an empty name.
	Next(ctx context.Context) ([]api.Event, error)
	// Close ends the watch; it may be called more than once.
	Close()
}
