// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// keepRevisions is how many revisions are kept.
const keepRevisions = 100

// Outcomes of a revision.
const (
	OutcomeWritten   = "written"   // it was never to be confirmed
	OutcomePending   = "pending"   // it waits for its confirmation
	OutcomeConfirmed = "confirmed" // it stays
	// OutcomeRolledBack begins the outcome of a change that was undone; the
	// reason follows.
	OutcomeRolledBack = "rolled back"
)

// Record stores a revision under the next number and forgets the oldest ones.
// Its values are left out if they are too large.
func Record(ctx context.Context, s store.Store, r *api.RevisionRecord) error {
	r = api.Clone(r).(*api.RevisionRecord)
	api.TrimRevision(r)
	for range tries {
		all, err := Revisions(ctx, s)
		if err != nil {
			return err
		}
		last := int64(0)
		if n := len(all); n > 0 {
			last = all[n-1].Spec.Number
		}
		r.Spec.Number, r.Name = last+1, api.RevisionName(last+1)
		_, err = s.Put(ctx, r, store.Absent())
		if errors.Is(err, store.ErrExists) {
			continue
		}
		if err != nil {
			return err
		}
		for _, old := range all[:max(0, len(all)+1-keepRevisions)] {
			if err := s.Delete(ctx, old.Key(), store.Always()); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("history: %w %d times in a row", store.ErrExists, tries)
}

// Revisions are the revisions that are kept and can be read, the oldest first.
func Revisions(ctx context.Context, s store.Store) ([]*api.RevisionRecord, error) {
	objs, _, err := s.List(ctx, api.KindRevision, store.ListOptions{})
	if err != nil {
		return nil, err
	}
	var all []*api.RevisionRecord
	for _, o := range objs {
		if r, is := o.(*api.RevisionRecord); is {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(x, y *api.RevisionRecord) int { return int(x.Spec.Number - y.Spec.Number) })
	return all, nil
}

// SetOutcome says what became of the change of a revision, if there is one and
// it still waits.
func SetOutcome(ctx context.Context, s store.Store, changeName, outcome string) error {
	for range tries {
		all, err := Revisions(ctx, s)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(r *api.RevisionRecord) bool { return r.Spec.Change == changeName })
		if i < 0 || all[i].Spec.Outcome != OutcomePending {
			return nil
		}
		r := all[i]
		r.Spec.Outcome = outcome
		_, err = s.Put(ctx, r, store.At(revision(r)))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("history: %s: %w %d times in a row", changeName, store.ErrConflict, tries)
}

// Before is what the objects were that were written after the revision with
// number, as that left them: the values that the first of the later revisions
// found. A change that was rolled back counts too: what somebody else wrote
// over it was left, and is to go back to what was before both. An error: the
// number is none that is kept, or a later revision has no values.
func Before(all []*api.RevisionRecord, number int64) ([]api.ChangedObject, error) {
	at := slices.IndexFunc(all, func(r *api.RevisionRecord) bool { return r.Spec.Number == number })
	// Before the oldest one: number is the one that is no longer kept.
	if at < 0 && (len(all) == 0 || all[0].Spec.Number != number+1) {
		return nil, fmt.Errorf("revision %d: is not kept (see ripstop history)", number)
	}
	var out []api.ChangedObject
	for _, r := range all[at+1:] {
		if r.Spec.WithoutValues && undone(r) {
			continue
		}
		if r.Spec.WithoutValues {
			return nil, fmt.Errorf("revision %d: its values were not kept (they were too large, could not be read, or a write is missing): nothing before it can be restored", r.Spec.Number)
		}
		for _, o := range r.Spec.Objects {
			if !slices.ContainsFunc(out, func(have api.ChangedObject) bool { return have.Key() == o.Key() }) {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// OutcomeOf is the outcome of a change that goes back or went.
func OutcomeOf(c *api.Change) string {
	outcome := OutcomeRolledBack + ": " + c.Status.Reason
	for i, o := range c.Status.Objects {
		if o.Left != "" && i < len(c.Spec.Objects) {
			outcome += "; " + c.Spec.Objects[i].Key().String() + wasLeft + o.Left
		}
	}
	return outcome
}

// wasLeft stands in the outcome between an object and why it was not restored.
const wasLeft = " was left: "

// undone reports whether a revision is of a change of which nothing stays.
func undone(r *api.RevisionRecord) bool {
	return strings.HasPrefix(r.Spec.Outcome, OutcomeRolledBack) && !strings.Contains(r.Spec.Outcome, wasLeft)
}
