// SPDX-License-Identifier: Apache-2.0

package api

import "fmt"

// RevisionRecord is a resource of kind Revision: an entry of the history that
// people see, of what somebody changed, when, and how it was before. Group
// ripstop.io/v1; the server writes it. What one user writes in a row is one
// revision, and so is a Change. It serves to look and to go back; the record
// that counts is the audit log. Its name is RevisionName of its number.
type RevisionRecord struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec RevisionSpec `json:"spec"`
}

// RevisionSpec is the spec of a Revision.
type RevisionSpec struct {
	// Number counts revisions from 1.
	Number int64 `json:"number"`
	// User is who wrote, as the server knows him, and From where from: "unix" or
	// an address with a port.
	User string `json:"user"`
	From string `json:"from,omitempty"`
	// At is when he wrote first, by the server's clock.
	At Time `json:"at"`
	// How is by what he wrote, as that says itself.
	How string `json:"how,omitempty"`
	// Change names the Change that it is of; empty: it is of none.
	Change string `json:"change,omitempty"`
	// Outcome is what became of it: written, of a Change pending, confirmed, or
	// "rolled back: " and the reason.
	Outcome string `json:"outcome"`
	// WithoutValues: the values of Objects were too large to be kept, or what was
	// before could not be read, or a write before is in no revision.
	WithoutValues bool `json:"withoutValues,omitempty"`
	// Objects are what was written.
	Objects []ChangedObject `json:"objects"`
}

// maxRevision is the most bytes of values that a revision keeps.
const maxRevision = 256 << 10

// RevisionName is the name of the revision with a number; names sort as numbers
// do.
func RevisionName(number int64) string { return fmt.Sprintf("%010d", number) }

// TrimRevision leaves the values of a revision out if they are too large.
func TrimRevision(r *RevisionRecord) {
	n := 0
	for _, o := range r.Spec.Objects {
		n += len(o.Before.Value) + len(o.Before.Packed) + len(o.After.Value) + len(o.After.Packed)
	}
	if n <= maxRevision && !r.Spec.WithoutValues {
		return
	}
	r.Spec.WithoutValues = true
	for i := range r.Spec.Objects {
		r.Spec.Objects[i].Before, r.Spec.Objects[i].After = ChangedValue{}, ChangedValue{}
	}
}

// Key names the revision.
func (r *RevisionRecord) Key() Key { return Key{Kind: KindRevision, Name: r.Name} }

// Default changes nothing.
func (r *RevisionRecord) Default() {}
