// SPDX-License-Identifier: Apache-2.0

package follow_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/follow"
)

const patience = 20 * time.Second

// away is a store that can be away; what watches it has then ended.
type away struct {
	store.Store
	is  atomic.Bool
	end atomic.Pointer[context.CancelFunc]
}

func (a *away) List(ctx context.Context, k api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	if a.is.Load() {
		return nil, 0, errors.New("away")
	}
	return a.Store.List(ctx, k, o)
}

func (a *away) Watch(ctx context.Context, k api.Kind, r api.Revision) (store.Watch, error) {
	if a.is.Load() {
		return nil, errors.New("away")
	}
	w, err := a.Store.Watch(ctx, k, r)
	if err != nil {
		return nil, err
	}
	wctx, cancel := context.WithCancel(context.Background())
	a.end.Store(&cancel)
	return &cutWatch{w, wctx}, nil
}

// cutWatch is a watch that can be cut.
type cutWatch struct {
	store.Watch
	cut context.Context
}

func (w *cutWatch) Next(ctx context.Context) ([]api.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.cut, cancel)()
	evs, err := w.Watch.Next(ctx)
	if w.cut.Err() != nil {
		return nil, errors.New("cut")
	}
	return evs, err
}

func TestKind_FollowsThroughAnOutage(t *testing.T) {
	st := &away{Store: clienttest.NewStore(t, 0)}
	put := func(name string) {
		t.Helper()
		b := &api.RoleBinding{TypeMeta: api.TypeMeta{Kind: api.KindRoleBinding, APIVersion: api.VersionOurs}, Meta: api.Meta{Name: name}}
		b.Spec = api.RoleBindingSpec{Role: "viewer", Subjects: []api.Subject{{Kind: api.SubjectUser, Name: "u"}}}
		if _, err := st.Put(t.Context(), b, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := st.Delete(t.Context(), api.Key{Kind: api.KindRoleBinding, Name: name}, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	var state atomic.Pointer[string]
	var progress follow.Progress
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		follow.Kind(ctx, st, api.KindRoleBinding, slog.New(slog.DiscardHandler), &progress, func(all map[api.Key]api.Object) {
			var names []string
			for k := range all {
				names = append(names, k.Name)
			}
			slices.Sort(names)
			text := strings.Join(names, " ")
			state.Store(&text)
		})
	}()
	defer func() { cancel(); <-done }()
	await := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			if got := state.Load(); got != nil && *got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not %q within %v", want, patience)
			}
		}
	}
	await("")
	put("a")
	await("a")
	put("b")
	await("a b")
	remove("a")
	await("b")

	st.is.Store(true)
	(*st.end.Load())()
	put("c")
	remove("b")
	if got := *state.Load(); got != "b" {
		t.Errorf("while the store is away: %q, want the last known b", got)
	}
	st.is.Store(false)
	await("c") // what was deleted meanwhile is gone
	put("d")
	await("c d")
}

// TestProgress_AWriteCountsWhenAwaitReturns: what was written is in force
// then, and what was deleted is not; a follower that does not run keeps
// nobody.
func TestProgress_AWriteCountsWhenAwaitReturns(t *testing.T) {
	st := clienttest.NewStore(t, 0)
	key := api.Key{Kind: api.KindRoleBinding, Name: "a"}
	var known atomic.Bool
	var progress follow.Progress
	progress.Await(t.Context(), key, 1<<40) // does not run yet: does not wait
	ctx, cancel := context.WithCancel(context.Background())
	done, began := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		first := true
		follow.Kind(ctx, st, api.KindRoleBinding, slog.New(slog.DiscardHandler), &progress, func(all map[api.Key]api.Object) {
			known.Store(all[key] != nil)
			if first {
				close(began)
				first = false
			}
		})
	}()
	<-began
	for i := range 50 {
		b := &api.RoleBinding{TypeMeta: api.TypeMeta{Kind: api.KindRoleBinding, APIVersion: api.VersionOurs}, Meta: api.Meta{Name: "a"}}
		b.Spec = api.RoleBindingSpec{Role: "viewer", Subjects: []api.Subject{{Kind: api.SubjectUser, Name: "u"}}}
		rev, err := st.Put(t.Context(), b, store.Always())
		if err != nil {
			t.Fatal(err)
		}
		if progress.Await(t.Context(), key, rev); !known.Load() {
			t.Fatalf("round %d: written and awaited, and not in force", i)
		}
		if err := st.Delete(t.Context(), key, store.Always()); err != nil {
			t.Fatal(err)
		}
		if progress.Await(t.Context(), key, 0); known.Load() {
			t.Fatalf("round %d: deleted and awaited, and in force", i)
		}
	}
	cancel()
	<-done
	progress.Await(t.Context(), key, 1<<40) // runs no more: does not wait
}
