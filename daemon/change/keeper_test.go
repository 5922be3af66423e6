// SPDX-License-Identifier: Apache-2.0

package change_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/store"
)

// keep runs a Keeper until the test ends.
func keep(t *testing.T, s store.Store, now func() time.Time) (over chan string) {
	over = make(chan string, 10)
	k := &change.Keeper{Store: s, Log: slog.New(slog.DiscardHandler), Now: now, Over: func(_ context.Context, c *api.Change) { over <- c.Status.Reason }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return over
}

// keeping is a store with plan "c" written, and a Keeper.
func keeping(t *testing.T, now func() time.Time) (*mem.Store, chan string) {
	s, at := before(t)
	if err := do(t.Context(), s, plan(t, "c"), at); err != nil {
		t.Fatal(err)
	}
	return s, keep(t, s, now)
}

func TestKeeper_RollsBackWhenTheTimeIsOverAndForgetsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, over := keeping(t, time.Now)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := objects(t, s); got != "aaa" {
			t.Errorf("before its time is over: %s, want aaa", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := objects(t, s); got != "bbb" {
			t.Errorf("when its time is over: %s, want bbb", got)
		}
		if got := <-over; got != change.ReasonTimeout {
			t.Errorf("reason %q", got)
		}
		time.Sleep(9 * time.Minute)
		if _, err := change.Get(t.Context(), s, "c"); err != nil {
			t.Errorf("ten minutes are not over: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := change.Get(t.Context(), s, "c"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("later: %v, want it forgotten", err)
		}
	})
}

func TestKeeper_RollsBackAtOnceWhatAHostHasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, over := keeping(t, time.Now)
		synctest.Wait()
		if _, err := change.Refuse(t.Context(), s, "c", "host h1: no answer"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := objects(t, s); got != "bbb" {
			t.Errorf("got %s, want bbb", got)
		}
		if got := <-over; got != "host h1: no answer" {
			t.Errorf("reason %q", got)
		}
	})
}

func TestKeeper_LeavesAConfirmedChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := keeping(t, time.Now)
		if _, err := change.Confirm(t.Context(), s, "c"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := objects(t, s); got != "aaa" {
			t.Errorf("got %s, want aaa", got)
		}
	})
}

func TestKeeper_AClockThatStandsStillDoesNotKeepAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s, _ := keeping(t, func() time.Time { return began.Add(-time.Hour) })
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if got := objects(t, s); got != "bbb" {
			t.Errorf("got %s, want bbb", got)
		}
	})
}

func TestKeeper_GoesOnWhenTheStoreWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, at := before(t)
		if err := do(t.Context(), s, plan(t, "c"), at); err != nil {
			t.Fatal(err)
		}
		keep(t, &away{Store: s, until: time.Now().Add(5 * time.Minute)}, time.Now)
		time.Sleep(5*time.Minute + 3*time.Second)
		synctest.Wait()
		if got := objects(t, s); got != "bbb" {
			t.Errorf("got %s, want bbb", got)
		}
	})
}

// away is a Store that does not list before a time.
type away struct {
	store.Store
	until time.Time
}

func (a *away) List(ctx context.Context, k api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	if time.Now().Before(a.until) {
		return nil, 0, store.ErrUnavailable
	}
	return a.Store.List(ctx, k, o)
}

func TestRecord_NumbersAndForgets(t *testing.T) {
	s := mem.New(mem.Config{})
	for i := range 103 {
		r := &api.RevisionRecord{TypeMeta: api.TypeMeta{Kind: api.KindRevision, APIVersion: api.VersionOurs}}
		r.Spec.User, r.Spec.Outcome = "u", change.OutcomeWritten
		net := []string{"10.0.0.0/8", "fd00::/8"}[i%2]
		r.Spec.Objects = []api.ChangedObject{{Kind: api.KindGlobalNetworkSet, Name: "aa", Before: value(t, set("aa", net))}}
		if i == 102 {
			r.Spec.Change, r.Spec.Outcome = "c", change.OutcomePending
		}
		if err := change.Record(t.Context(), s, r); err != nil {
			t.Fatal(err)
		}
	}
	all, err := change.Revisions(t.Context(), s)
	if err != nil || len(all) != 100 || all[0].Spec.Number != 4 || all[99].Spec.Number != 103 {
		t.Fatalf("%d revisions, %v", len(all), err)
	}
	// The last one waits, so the one before it says how things were at 101.
	back, err := change.Before(all, 101)
	if err != nil || len(back) != 1 || string(back[0].Before.Value) != string(value(t, set("aa", "fd00::/8")).Value) {
		t.Errorf("before: %+v, %v", back, err)
	}
	for _, number := range []int64{2, 104} {
		if _, err := change.Before(all, number); err == nil {
			t.Errorf("revision %d is not kept, and Before knows it", number)
		}
	}
	if err := change.SetOutcome(t.Context(), s, "c", change.OutcomeConfirmed); err != nil {
		t.Fatal(err)
	}
	if err := change.SetOutcome(t.Context(), s, "c", "rolled back: late"); err != nil {
		t.Fatal(err)
	}
	all, _ = change.Revisions(t.Context(), s)
	if got := all[99].Spec.Outcome; got != change.OutcomeConfirmed {
		t.Errorf("outcome %q, want confirmed", got)
	}
	all[99].Spec.WithoutValues = true
	if _, err := change.Before(all, 101); err == nil {
		t.Error("a revision without values was used")
	}
}
