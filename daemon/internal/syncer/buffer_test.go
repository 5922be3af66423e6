// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
)

func TestBuffer_KeepsTheLastEventOfAKey(t *testing.T) {
	b, ctx := NewBuffer(), context.Background()
	a1, a2, x := gns("a", "10.0.0.0/8"), gns("a", "11.0.0.0/8"), gns("x", "10.0.0.0/8")
	b.Phase(ctx, Resyncing)
	b.Events(ctx, []api.Event{{Key: a1.Key(), Object: a1, Revision: 1}, {Key: x.Key(), Object: x, Revision: 2}})
	b.Events(ctx, []api.Event{{Key: a1.Key(), Object: a2, Revision: 3}, {Key: x.Key(), Revision: 4}})
	b.Phase(ctx, InSync)
	b.Phase(ctx, Waiting)
	b.Events(ctx, []api.Event{{Key: api.Key{Kind: api.KindTier}, Revision: 9}})
	got, err := b.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := Batch{Events: []api.Event{{Key: a1.Key(), Object: a2, Revision: 3}, {Key: x.Key(), Revision: 4}}, Phase: Waiting, Synced: true, Revision: 9}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Next (-want +got):\n%s", diff)
	}
	b.Events(ctx, []api.Event{{Key: api.Key{Kind: api.KindTier}, Revision: 5}})
	if got, _ = b.Next(ctx); got.Revision != 5 || len(got.Events) != 0 || !got.Synced {
		t.Errorf("Next after a bookmark that goes back = %+v, want revision 5, no events, synced", got)
	}
}

func TestBuffer_NextWaitsAndIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBuffer()
		ctx, cancel := context.WithCancel(context.Background())
		got := make(chan Batch)
		errs := make(chan error)
		go func() {
			for {
				batch, err := b.Next(ctx)
				if err != nil {
					errs <- err
					return
				}
				got <- batch
			}
		}()
		synctest.Wait()
		o := gns("a", "10.0.0.0/8")
		b.Events(ctx, []api.Event{{Key: o.Key(), Object: o, Revision: 1}})
		if batch := <-got; len(batch.Events) != 1 || batch.Synced {
			t.Errorf("Next = %+v, want one event, not synced", batch)
		}
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("Next = %v, want context.Canceled", err)
		}
	})
}

func TestTee_PassesOnAndStopsAtTheFirstError(t *testing.T) {
	a, b, want := newRecorder(), newRecorder(), errors.New("full")
	o := gns("a", "10.0.0.0/8")
	evs := []api.Event{{Key: o.Key(), Object: o, Revision: 1}}
	ctx := context.Background()
	if err := (Tee{a, b}).Events(ctx, evs); err != nil || a.size() != 1 || b.size() != 1 {
		t.Errorf("Events = %v; sinks have %d and %d objects, want 1 each", err, a.size(), b.size())
	}
	if err := (Tee{failing{events: want}, a}).Events(ctx, evs); err != want || a.puts != 1 {
		t.Errorf("Events = %v with %d events at the second, want the first's error and none", err, a.puts-1)
	}
	if err := (Tee{a, failing{phase: want}}).Phase(ctx, InSync); err != want || a.phase() != InSync {
		t.Errorf("Phase = %v, first sink in %v", err, a.phase())
	}
}
