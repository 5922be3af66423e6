// SPDX-License-Identifier: Apache-2.0

// Package change is the life of a change that undoes itself, as far as the
// store goes: it is begun, its objects are written, and then it is confirmed or
// rolled back.
//
//	          Begin          Write, each object
//	nothing ───────► Pending ─ ─ ─ ─ ─ ─ ─ ─ ─ ► Pending
//	                    │ Confirm                 │ Refuse: a probe failed, the time is over
//	                    ▼                         ▼
//	                 deleted                 RollingBack ─ ─ each object restored ─ ─► RolledBack
//
// The arrows are compare-and-set writes of the Change, so of Confirm and Refuse
// one comes about. Every write of an object is tied to the revision of its
// Change (store.If.While): a writer that was slow, or stood still, cannot write
// after the Change has gone on. So all functions may be called by several
// programs at once, again and again, and may be cut off anywhere: whoever calls
// RollBack next goes on.
//
// The server uses it for what people ask, and Keeper at the deadline; the agent
// rolls back by it when it must and the server has not. It is not the agent's
// part, which enforces the values from before whether the store answers or
// not.
package change

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Errors that callers decide on; ask with errors.Is.
var (
	// ErrOverlap: Begin of a change of objects that another change, not yet
	// confirmed, has changed.
	ErrOverlap = errors.New("is part of a change that is not confirmed yet")
	// ErrOver: Confirm of a change that is being rolled back or was, or Write
	// of an object of one.
	ErrOver = errors.New("the change is rolled back")
)

// tries bounds how often a compare-and-set is repeated because somebody else
// was faster.
const tries = 50

// Key names a change.
func Key(name string) api.Key { return api.Key{Kind: api.KindChange, Name: name} }

// Get reads a change; store.ErrNotFound: it was confirmed, or undone some time
// ago.
func Get(ctx context.Context, s store.Store, name string) (*api.Change, error) {
	o, err := s.Get(ctx, Key(name))
	if err != nil {
		return nil, err
	}
	return readable(o)
}

// readable is o as a Change.
func readable(o api.Object) (*api.Change, error) {
	c, is := o.(*api.Change)
	if !is {
		return nil, fmt.Errorf("%s: the stored value cannot be read: %w", o.Key(), o.Validate())
	}
	return c, nil
}

// revision is the revision at which an object was written.
func revision(o api.Object) api.Revision {
	n, err := strconv.ParseInt(o.Metadata().ResourceVersion, 10, 64)
	if err != nil {
		return -1 // matches nothing
	}
	return api.Revision(n)
}

// Begin stores a change, Pending, before any of its objects is written, and
// returns it as stored. ErrOverlap: another one is open for one of its objects;
// then nothing is left of it.
func Begin(ctx context.Context, s store.Store, c *api.Change) (*api.Change, error) {
	c = api.Clone(c).(*api.Change)
	c.Status = api.ChangeStatus{Phase: api.ChangePending}
	// Once before, so that one in the way is seen without a write; and once
	// after, when of two that begin at once the later one sees the earlier.
	if err := alone(ctx, s, c, 0); err != nil {
		return nil, err
	}
	rev, err := s.Put(ctx, c, store.Absent())
	if err != nil {
		return nil, err
	}
	c.ResourceVersion = strconv.FormatInt(int64(rev), 10)
	if err := alone(ctx, s, c, rev); err != nil {
		// No object is written yet. If this fails, the change runs out.
		return nil, errors.Join(err, s.Delete(ctx, c.Key(), store.At(rev)))
	}
	return c, nil
}

// alone refuses a change of objects that another open one has; at is the
// revision at which it was begun, or zero.
func alone(ctx context.Context, s store.Store, c *api.Change, at api.Revision) error {
	objs, _, err := s.List(ctx, api.KindChange, store.ListOptions{})
	if err != nil {
		return err
	}
	for _, o := range objs {
		other, is := o.(*api.Change)
		if !is || other.Name == c.Name || !Open(other) {
			continue
		}
		if at != 0 && other.Status.Phase == api.ChangePending && revision(other) > at {
			continue // begun later: it sees this one and gives way
		}
		for _, mine := range c.Spec.Objects {
			if slices.ContainsFunc(other.Spec.Objects, func(theirs api.ChangedObject) bool { return theirs.Key() == mine.Key() }) {
				return fmt.Errorf("%s: %w: %s", mine.Key(), ErrOverlap, other.Name)
			}
		}
	}
	return nil
}

// Open reports whether a change is neither confirmed nor undone.
func Open(c *api.Change) bool { return c.Status.Phase != api.ChangeRolledBack }

// Write writes the object with the index i of a change as it is to be, over
// what it was when the change was made: at is the revision that it then had,
// zero if there was none. c is as Begin returned it. It returns the object's
// new revision, zero for a deletion. store.ErrConflict, ErrExists or
// ErrNotFound: somebody else has written the object. ErrOver: the change is
// not Pending any more.
func Write(ctx context.Context, s store.Store, c *api.Change, i int, at api.Revision) (api.Revision, error) {
	o := c.Spec.Objects[i]
	cond := store.Absent()
	if at != 0 {
		cond = store.At(at)
	}
	rev, err := put(ctx, s, o.Key(), o.After, cond.While(c.Key(), revision(c)))
	if errors.Is(err, store.ErrConflict) {
		if now, gerr := Get(ctx, s, c.Name); gerr != nil || now.Status.Phase != api.ChangePending {
			return 0, fmt.Errorf("%s: %w", o.Key(), ErrOver)
		}
	}
	return rev, err
}

// put writes a value, or deletes where there is to be none.
func put(ctx context.Context, s store.Store, k api.Key, v api.ChangedValue, cond store.If) (api.Revision, error) {
	if v.Absent() {
		return 0, s.Delete(ctx, k, cond)
	}
	o, err := v.Object(k)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", k, err)
	}
	return s.Put(ctx, o, cond)
}

// Confirm lets a change stay: it is no longer one. ErrOver: it is too late.
// store.ErrNotFound: there is no such change, perhaps because it was confirmed
// before.
func Confirm(ctx context.Context, s store.Store, name string) (*api.Change, error) {
	for range tries {
		c, err := Get(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if c.Status.Phase != api.ChangePending {
			return c, fmt.Errorf("%s: %w: %s", c.Key(), ErrOver, c.Status.Reason)
		}
		err = s.Delete(ctx, c.Key(), store.At(revision(c)))
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		return c, err
	}
	return nil, fmt.Errorf("%s: %w %d times in a row", Key(name), store.ErrConflict, tries)
}

// Refuse ends the time of a change that is Pending: from now on it is rolled
// back, by whoever calls RollBack. Of a change that is no longer Pending it does
// nothing.
func Refuse(ctx context.Context, s store.Store, name, reason string) (*api.Change, error) {
	for range tries {
		c, err := Get(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if c.Status.Phase != api.ChangePending {
			return c, nil
		}
		c.Status.Phase, c.Status.Reason = api.ChangeRollingBack, reason
		rev, err := s.Put(ctx, c, store.At(revision(c)))
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.ResourceVersion = strconv.FormatInt(int64(rev), 10)
		return c, nil
	}
	return nil, fmt.Errorf("%s: %w %d times in a row", Key(name), store.ErrConflict, tries)
}

// RollBack refuses a change, if that is not done yet, and restores its objects,
// the last one first. An object that is no longer as the change made it, and
// not as it was before either, was written by somebody since: it is left, and
// the status says so. It returns the change as it is then. store.ErrNotFound:
// it was confirmed, or undone some time ago.
func RollBack(ctx context.Context, s store.Store, name, reason string) (*api.Change, error) {
	for range tries {
		c, err := Refuse(ctx, s, name, reason)
		if err != nil || c.Status.Phase == api.ChangeRolledBack {
			return c, err
		}
		err = restoreAll(ctx, s, c)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) {
			continue // somebody else is at it, or wrote an object meanwhile
		}
		return c, err
	}
	return nil, fmt.Errorf("%s: %w %d times in a row", Key(name), store.ErrConflict, tries)
}

// restoreAll restores the objects of a change that is RollingBack and makes it
// RolledBack. Somebody else who was faster: store.ErrConflict or ErrExists.
func restoreAll(ctx context.Context, s store.Store, c *api.Change) error {
	at := revision(c)
	results := make([]api.ChangeResult, len(c.Spec.Objects))
	for i := len(c.Spec.Objects) - 1; i >= 0; i-- {
		r, err := restore(ctx, s, c.Spec.Objects[i], store.Always().While(c.Key(), at))
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("%s: %w", c.Spec.Objects[i].Key(), store.ErrConflict) // it went in between
		}
		if err != nil {
			return err
		}
		results[i] = r
	}
	c.Status.Phase, c.Status.Objects = api.ChangeRolledBack, results
	rev, err := s.Put(ctx, c, store.At(at))
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%s: %w", c.Key(), store.ErrConflict)
	}
	if err == nil {
		c.ResourceVersion = strconv.FormatInt(int64(rev), 10)
	}
	return err
}

// restore makes one object as it was before, unless somebody has written it
// since. while is the condition that the change is still RollingBack.
func restore(ctx context.Context, s store.Store, o api.ChangedObject, while store.If) (api.ChangeResult, error) {
	k := o.Key()
	var res api.ChangeResult
	live, err := s.Get(ctx, k)
	if errors.Is(err, store.ErrNotFound) {
		live, err = nil, nil
	}
	if err != nil {
		return res, err
	}
	if is, err := Same(live, k, o.Before); is || err != nil {
		if live != nil {
			res.Revision = revision(live)
		}
		return res, err
	}
	is, err := Same(live, k, o.After)
	switch {
	case err != nil:
		return res, err
	case !is:
		res.Left = "somebody has changed it since"
		return res, nil
	}
	if o.Before.Absent() && k.Kind == api.KindTier {
		if inside, err := policyIn(ctx, s, k.Name); inside != "" || err != nil {
			res.Left = "a policy is in it by now: " + inside
			return res, err
		}
	}
	cond := store.Absent()
	if live != nil {
		cond = store.At(revision(live))
	}
	other, at := while.Other()
	res.Revision, err = put(ctx, s, k, o.Before, cond.While(other, at))
	return res, err
}

// policyIn is a policy of a tier, or "". Without its tier it would be enforced
// after all others.
func policyIn(ctx context.Context, s store.Store, tier string) (string, error) {
	for _, kind := range []api.Kind{api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy} {
		objs, _, err := s.List(ctx, kind, store.ListOptions{})
		if err != nil {
			return "", err
		}
		for _, o := range objs {
			if t, is := api.TierOf(o); is && t == tier {
				return o.Key().String(), nil
			}
		}
	}
	return "", nil
}

// Same reports whether an object, nil for none, says what a value of a change
// says: all that people write, but neither who set which field nor a status.
func Same(o api.Object, k api.Key, v api.ChangedValue) (bool, error) {
	if o == nil || v.Absent() {
		return o == nil && v.Absent(), nil
	}
	if _, bad := o.(*api.Unreadable); bad {
		return false, nil
	}
	want, err := v.Object(k)
	if err != nil {
		return false, fmt.Errorf("%s: %w", k, err)
	}
	a, err := said(o)
	if err != nil {
		return false, err
	}
	b, err := said(want)
	return bytes.Equal(a, b), err
}

// said is an object as JSON, without what the server and the programs add.
func said(o api.Object) ([]byte, error) {
	o = api.Clone(o)
	m := o.Metadata()
	m.ResourceVersion, m.Generation, m.ManagedFields = "", 0, nil
	switch o := o.(type) {
	case *api.Tier:
		o.Status = api.TierStatus{}
	case *api.IPPool:
		o.Status = nil
	}
	return json.Marshal(o)
}
