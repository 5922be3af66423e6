// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Times of a Keeper.
const (
	// keepTime is how long a change that was undone is kept for people, and
	// for agents, to see.
	keepTime = 10 * time.Minute
	// callTime is how long one look at the store, or one rollback, may take.
	callTime = 15 * time.Second
	// retryTime is how long it waits when the store does not answer.
	retryTime = time.Second
	// lookTime is how long it waits at most before it looks again.
	lookTime = 30 * time.Second
)

// ReasonTimeout is the reason of a change that nobody confirmed.
const ReasonTimeout = "nobody confirmed it in time"

// Keeper rolls changes back whose time is over or that a host has refused, goes
// on with those that somebody was cut off in, and removes those that were
// undone some time ago. Several may run on one store.
type Keeper struct {
	Store store.Store
	Log   *slog.Logger
	// Now is the wall clock.
	Now func() time.Time
	// Over, if set, is told of each change that it sees undone, perhaps more
	// than once, from the goroutine of Run.
	Over func(ctx context.Context, c *api.Change)

	// seen is when a change was first seen, ended when it was first seen undone,
	// by a clock that nobody sets.
	seen, ended map[string]time.Time
}

// Run keeps until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	k.seen, k.ended = map[string]time.Time{}, map[string]time.Time{}
	failing := false
	for ctx.Err() == nil {
		due, rev, err := k.pass(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			k.Log.Warn("Changes cannot be looked after, it is tried again", "err", err)
		}
		failing = err != nil
		if failing {
			due, rev = retryTime, 0
		}
		k.wait(ctx, due, rev)
	}
}

// wait waits until due is over, or a change changes after rev, if that is not
// zero.
func (k *Keeper) wait(ctx context.Context, due time.Duration, rev api.Revision) {
	ctx, cancel := context.WithTimeout(ctx, due)
	defer cancel()
	if rev != 0 {
		w, err := k.Store.Watch(ctx, api.KindChange, rev)
		if err == nil {
			defer w.Close()
			for {
				evs, err := w.Next(ctx)
				if err != nil {
					break
				}
				for _, ev := range evs {
					if ev.Key.Name != "" {
						return
					}
				}
			}
		}
		// The watch broke, or is over: not at once again.
		if ctx.Err() == nil {
			pause, stop := context.WithTimeout(ctx, retryTime)
			defer stop()
			<-pause.Done()
		}
		return
	}
	<-ctx.Done()
}

// pass looks at all changes once. It returns after what time something is due,
// and the revision that it saw.
func (k *Keeper) pass(ctx context.Context) (due time.Duration, rev api.Revision, err error) {
	lctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	objs, rev, err := k.Store.List(lctx, api.KindChange, store.ListOptions{})
	if err != nil {
		return 0, 0, err
	}
	due = lookTime
	there := map[string]bool{}
	var errs []error
	for _, o := range objs {
		c, is := o.(*api.Change)
		if !is {
			continue // nobody knows what it says; no host acts on it
		}
		there[c.Name] = true
		if k.seen[c.Name].IsZero() {
			k.seen[c.Name] = time.Now()
		}
		in, err := k.keep(ctx, c)
		errs = append(errs, err)
		due = min(due, in)
	}
	for name := range k.seen {
		if !there[name] {
			delete(k.seen, name)
			delete(k.ended, name)
		}
	}
	return max(due, 10*time.Millisecond), rev, errors.Join(errs...)
}

// keep does what is due with a change, and returns after what time something
// will be.
func (k *Keeper) keep(ctx context.Context, c *api.Change) (time.Duration, error) {
	if c.Status.Phase == api.ChangeRolledBack {
		k.tell(ctx, c)
		if left := keepTime - time.Since(k.ended[c.Name]); left > 0 {
			return left, nil
		}
		dctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		err := k.Store.Delete(dctx, c.Key(), store.At(revision(c)))
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
			err = nil
		}
		return lookTime, err
	}
	if left := k.left(c); c.Status.Phase == api.ChangePending && left > 0 {
		return left, nil
	}
	rctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	done, err := RollBack(rctx, k.Store, c.Name, ReasonTimeout)
	if errors.Is(err, store.ErrNotFound) { // confirmed at the last moment
		return lookTime, nil
	}
	if err != nil {
		return retryTime, err
	}
	k.Log.Warn("Change rolled back", "change", c.Name, "user", c.Spec.User, "reason", done.Status.Reason)
	k.tell(ctx, done)
	return keepTime, nil
}

// left is how long a change may still be confirmed: by the wall clock from when
// it was made, and in no case longer than from when it was first seen, however
// the clock is set meanwhile.
func (k *Keeper) left(c *api.Change) time.Duration {
	timeout := c.Spec.Timeout.Duration
	byClock := c.Spec.At.Add(timeout).Sub(k.Now())
	return min(byClock, timeout-time.Since(k.seen[c.Name]))
}

// tell notes, and says once, that a change was undone.
func (k *Keeper) tell(ctx context.Context, c *api.Change) {
	if !k.ended[c.Name].IsZero() {
		return
	}
	k.ended[c.Name] = time.Now()
	if k.Over != nil {
		k.Over(ctx, c)
	}
}
