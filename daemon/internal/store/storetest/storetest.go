// SPDX-License-Identifier: Apache-2.0

// Package storetest is the contract of store.Store as tests. Every
// implementation runs it; it holds nothing about any one of them, and no code
// but tests imports it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Injector is what a Store may offer so that values can be tested that it
// would not write itself: PutBytes stores a value as it is.
type Injector interface {
	PutBytes(ctx context.Context, k api.Key, value []byte) (api.Revision, error)
}

// Compacter is what a Store may offer so that compaction can be tested.
type Compacter interface {
	Compact(ctx context.Context, rev api.Revision) error
}

// patience bounds every wait of the suite.
const patience = 30 * time.Second

// Run runs the suite. open gives an empty Store, whose watches give a
// bookmark at the latest after a second of silence; it cleans up with
// t.Cleanup. Tests that need an Injector or a Compacter are skipped where the
// Store is none.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"Write/CreateTwiceIsErrExists", createTwice},
		{"Write/UpdateNeedsTheRevision", updateNeedsRevision},
		{"Write/OverWhatWasRead", writtenOver},
		{"Write/UpdateOfNothingIsErrNotFound", updateOfNothing},
		{"Write/AtZeroMatchesNothing", atZero},
		{"Write/AlwaysCreatesAndReplaces", alwaysPut},
		{"Write/UIDAndTimestampSurvive", identitySurvives},
		{"Write/ObjectIsNotChanged", objectNotChanged},
		{"Write/BadKeysAreRefused", badKeys},
		{"Write/UnreadableIsRefused", unreadableRefused},
		{"Write/WhileAnotherIsAsItWas", whileAnother},
		{"Delete/Conditions", deleteConditions},
		{"Delete/CreateAgainIsNew", createAgain},
		{"Read/GetGivesRevision", getRevision},
		{"Read/EveryKind", everyKind},
		{"List/OrderAndNamespaces", listOrder},
		{"List/Paging", listPaging},
		{"List/PagingOfPolicies", listPagingPolicies},
		{"List/PastRevision", listPast},
		{"List/FutureRevisionIsErrCompacted", listFuture},
		{"List/Large", listLarge},
		{"List/KindsDoNotMix", kindsDoNotMix},
		{"Read/WhatIsReturnedIsTheCallers", callersOwn},
		{"Watch/FromRevision", watchFrom},
		{"Watch/OnlyItsKind", watchOnlyKind},
		{"Watch/Bookmark", watchBookmark},
		{"Watch/Cancel", watchCancel},
		{"Watch/CloseTwice", watchCloseTwice},
		{"Watch/MatchesLists", watchMatchesLists},
		{"Compaction/WatchAndList", compaction},
		{"Unreadable/OneDoesNotHideOthers", unreadableValues},
		{"Legacy/PolicyNames", legacyNames},
		{"Legacy/MigrationDoesNotDelete", legacyMigration},
		{"Concurrent/Counter", counter},
		{"Concurrent/CreateOnce", createOnce},
		{"Context/Cancelled", cancelled},
		{"Initialise/FreshAndTwice", initialise},
		{"Initialise/FillsInOnly", initialiseFillsIn},
		{"Initialise/AtTheSameTime", initialiseTogether},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// ---- objects ----

func set(name string, nets ...string) *api.GlobalNetworkSet {
	o := &api.GlobalNetworkSet{}
	o.Kind, o.APIVersion, o.Name, o.Spec.Nets = api.KindGlobalNetworkSet, api.VersionCalico, name, nets
	return o
}

func nsSet(ns, name string) *api.NetworkSet {
	o := &api.NetworkSet{}
	o.Kind, o.APIVersion, o.Namespace, o.Name = api.KindNetworkSet, api.VersionCalico, ns, name
	return o
}

func policy(name string) *api.GlobalNetworkPolicy {
	o := &api.GlobalNetworkPolicy{}
	o.Kind, o.APIVersion, o.Name = api.KindGlobalNetworkPolicy, api.VersionCalico, name
	o.Spec.Tier, o.Spec.Selector, o.Spec.Types = "default", "all()", []api.PolicyType{api.Ingress}
	return o
}

func tier(name string, order float64) *api.Tier {
	o := &api.Tier{}
	o.Kind, o.APIVersion, o.Name, o.Spec.Order, o.Spec.DefaultAction = api.KindTier, api.VersionCalico, name, &order, api.Deny
	return o
}

// ---- helpers ----

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	t.Cleanup(cancel)
	return ctx
}

func mustPut(t *testing.T, s store.Store, o api.Object, cond store.If) api.Revision {
	t.Helper()
	rev, err := s.Put(testContext(t), o, cond)
	if err != nil {
		t.Fatalf("Put(%s): %v", o.Key(), err)
	}
	if rev <= 0 {
		t.Fatalf("Put(%s) = revision %d, want a positive one", o.Key(), rev)
	}
	return rev
}

func mustGet(t *testing.T, s store.Store, k api.Key) api.Object {
	t.Helper()
	o, err := s.Get(testContext(t), k)
	if err != nil {
		t.Fatalf("Get(%s): %v", k, err)
	}
	return o
}

func mustDelete(t *testing.T, s store.Store, k api.Key) {
	t.Helper()
	if err := s.Delete(testContext(t), k, store.Always()); err != nil {
		t.Fatalf("Delete(%s): %v", k, err)
	}
}

func mustList(t *testing.T, s store.Store, kind api.Kind, o store.ListOptions) ([]api.Object, api.Revision) {
	t.Helper()
	objs, rev, err := s.List(testContext(t), kind, o)
	if err != nil {
		t.Fatalf("List(%s, %+v): %v", kind, o, err)
	}
	return objs, rev
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func keys(objs []api.Object) []string {
	out := []string{}
	for _, o := range objs {
		out = append(out, o.Key().String())
	}
	return out
}

func wantKeys(t *testing.T, what string, objs []api.Object, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if d := cmp.Diff(want, keys(objs)); d != "" {
		t.Errorf("%s: -want +got\n%s", what, d)
	}
}

func revisionOf(t *testing.T, o api.Object) api.Revision {
	t.Helper()
	r, err := strconv.ParseInt(o.Metadata().ResourceVersion, 10, 64)
	if err != nil {
		t.Fatalf("%s: resource version %q: %v", o.Key(), o.Metadata().ResourceVersion, err)
	}
	return api.Revision(r)
}

// follow is a watch read by the test.
type follow struct {
	t *testing.T
	w store.Watch
}

func watch(t *testing.T, s store.Store, kind api.Kind, after api.Revision) follow {
	t.Helper()
	w, err := s.Watch(testContext(t), kind, after)
	if err != nil {
		t.Fatalf("Watch(%s, %d): %v", kind, after, err)
	}
	t.Cleanup(w.Close)
	return follow{t, w}
}

// next gives the next n events that are no bookmarks.
func (f follow) next(n int) []api.Event {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []api.Event
	for len(all) < n {
		evs, err := f.w.Next(ctx)
		if err != nil {
			f.t.Fatalf("Next after %d of %d events: %v", len(all), n, err)
		}
		for _, ev := range evs {
			if ev.Key.Name != "" {
				all = append(all, ev)
			}
		}
	}
	if len(all) > n {
		f.t.Fatalf("Next: %d events, want %d: %v", len(all), n, describe(all))
	}
	return all
}

// bookmark waits for a bookmark at rev or later; an event before it is an
// error.
func (f follow) bookmark(rev api.Revision) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		evs, err := f.w.Next(ctx)
		if err != nil {
			f.t.Fatalf("Next, waiting for a bookmark at %d: %v", rev, err)
		}
		for _, ev := range evs {
			if ev.Key.Name != "" {
				f.t.Fatalf("Next: %v, want no more events", describe(evs))
			}
			if ev.Object != nil {
				f.t.Fatalf("bookmark holds an object: %v", ev)
			}
			if ev.Revision >= rev {
				return
			}
		}
	}
}

func describe(evs []api.Event) []string {
	var out []string
	for _, ev := range evs {
		what := "gone"
		switch o := ev.Object.(type) {
		case nil:
		case *api.Unreadable:
			what = "unreadable"
		case *api.GlobalNetworkSet:
			what = fmt.Sprint(o.Spec.Nets)
		default:
			what = "there"
		}
		out = append(out, ev.Key.String()+" "+what)
	}
	return out
}
