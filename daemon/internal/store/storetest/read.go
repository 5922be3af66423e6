// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

func isConflict(err error) bool { return errors.Is(err, store.ErrConflict) }
func isExists(err error) bool   { return errors.Is(err, store.ErrExists) }

func getRevision(t *testing.T, s store.Store) {
	_, err := s.Get(testContext(t), set("a").Key())
	wantErr(t, "Get of nothing", err, store.ErrNotFound)
	rev := mustPut(t, s, set("a", "10.0.0.0/8", "fd00::/8"), store.Absent())
	mustPut(t, s, set("b"), store.Absent())
	got := mustGet(t, s, set("a").Key()).(*api.GlobalNetworkSet)
	if r := revisionOf(t, got); r != rev {
		t.Errorf("Get: revision %d, want %d", r, rev)
	}
	want := set("a", "10.0.0.0/8", "fd00::/8")
	want.Meta = got.Meta
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Get: -want +got\n%s", d)
	}
}

// everyKind writes a nearly empty object of every kind and reads it back.
func everyKind(t *testing.T, s store.Store) {
	for _, d := range api.Kinds() {
		o := d.New()
		o.Metadata().Name = "x"
		if d.Namespaced {
			o.Metadata().Namespace = "n"
		}
		o.Default()
		rev := mustPut(t, s, o, store.Absent())
		objs, _ := mustList(t, s, d.Kind, store.ListOptions{})
		wantKeys(t, "List of "+string(d.Kind), objs, o.Key().String())
		if got := mustGet(t, s, o.Key()); got.Key() != o.Key() || revisionOf(t, got) != rev {
			t.Errorf("Get(%s) = %s at %s, want it at %d", o.Key(), got.Key(), got.Metadata().ResourceVersion, rev)
		}
		mustDelete(t, s, o.Key())
	}
}

func listOrder(t *testing.T, s store.Store) {
	objs, rev := mustList(t, s, api.KindNetworkSet, store.ListOptions{})
	wantKeys(t, "List of nothing", objs)
	if rev <= 0 {
		t.Errorf("List of nothing: revision %d, want a positive one", rev)
	}
	// In etcd's own order a-b/x stands before a/x.
	for _, k := range [][2]string{{"b", "x"}, {"a-b", "x"}, {"a", "y"}, {"a", "x"}, {"a.c", "x"}, {"ab", "x"}} {
		rev = mustPut(t, s, nsSet(k[0], k[1]), store.Absent())
	}
	objs, at := mustList(t, s, api.KindNetworkSet, store.ListOptions{})
	wantKeys(t, "List", objs, "NetworkSet(a/x)", "NetworkSet(a/y)", "NetworkSet(a-b/x)", "NetworkSet(a.c/x)", "NetworkSet(ab/x)", "NetworkSet(b/x)")
	if at < rev {
		t.Errorf("List: revision %d, want at least that of the last write, %d", at, rev)
	}
	objs, _ = mustList(t, s, api.KindNetworkSet, store.ListOptions{Namespace: "a"})
	wantKeys(t, "List of namespace a", objs, "NetworkSet(a/x)", "NetworkSet(a/y)")
	objs, _ = mustList(t, s, api.KindNetworkSet, store.ListOptions{Namespace: "none"})
	wantKeys(t, "List of an empty namespace", objs)
}

// pages lists page by page and gives all keys.
func pages(t *testing.T, s store.Store, kind api.Kind, ns string, limit int) []string {
	t.Helper()
	o := store.ListOptions{Namespace: ns, Limit: limit}
	var all []string
	for range 1000 {
		objs, rev := mustList(t, s, kind, o)
		if len(objs) > limit {
			t.Fatalf("List with limit %d: %d objects", limit, len(objs))
		}
		all = append(all, keys(objs)...)
		if len(objs) < limit {
			return all
		}
		o.After, o.Revision = objs[len(objs)-1].Key(), rev
	}
	t.Fatal("List: pages without end")
	return nil
}

func listPaging(t *testing.T, s store.Store) {
	for _, ns := range []string{"b", "a-b", "a"} {
		for i := range 7 {
			mustPut(t, s, nsSet(ns, fmt.Sprintf("s%d", i)), store.Absent())
		}
	}
	for i := range 5 {
		mustPut(t, s, set(fmt.Sprintf("s%d", i)), store.Absent())
	}
	for _, c := range []struct {
		kind api.Kind
		ns   string
	}{{api.KindNetworkSet, ""}, {api.KindNetworkSet, "a"}, {api.KindGlobalNetworkSet, ""}} {
		objs, _ := mustList(t, s, c.kind, store.ListOptions{Namespace: c.ns})
		for limit := 1; limit < 9; limit++ {
			if d := cmp.Diff(keys(objs), pages(t, s, c.kind, c.ns, limit)); d != "" {
				t.Errorf("List of %s in %q with limit %d: -whole +pages\n%s", c.kind, c.ns, limit, d)
			}
		}
	}
	// Pages are of one revision: what comes later is not in them.
	objs, rev := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{Limit: 2})
	mustPut(t, s, set("s9"), store.Absent())
	mustDelete(t, s, set("s4").Key())
	objs, _ = mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{After: objs[1].Key(), Revision: rev})
	wantKeys(t, "second page after writes", objs, "GlobalNetworkSet(s2)", "GlobalNetworkSet(s3)", "GlobalNetworkSet(s4)")
	// A key to go on after need not exist.
	objs, _ = mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{After: set("s2x").Key()})
	wantKeys(t, "List after a key that is not there", objs, "GlobalNetworkSet(s3)", "GlobalNetworkSet(s9)")
}

func listPagingPolicies(t *testing.T, s store.Store) {
	for _, n := range []string{"b", "default.a", "a", "c", "default.z"} {
		mustPut(t, s, policy(n), store.Absent())
	}
	objs, _ := mustList(t, s, api.KindGlobalNetworkPolicy, store.ListOptions{})
	wantKeys(t, "List of policies", objs, "GlobalNetworkPolicy(a)", "GlobalNetworkPolicy(b)", "GlobalNetworkPolicy(c)", "GlobalNetworkPolicy(default.a)", "GlobalNetworkPolicy(default.z)")
	for limit := 1; limit < 7; limit++ {
		if d := cmp.Diff(keys(objs), pages(t, s, api.KindGlobalNetworkPolicy, "", limit)); d != "" {
			t.Errorf("limit %d: -whole +pages\n%s", limit, d)
		}
	}
}

func listPast(t *testing.T, s store.Store) {
	r1 := mustPut(t, s, set("a", "10.1.0.0/16"), store.Absent())
	r2 := mustPut(t, s, set("b"), store.Absent())
	mustPut(t, s, set("a", "10.2.0.0/16"), store.At(r1))
	mustDelete(t, s, set("b").Key())
	objs, rev := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{Revision: r2})
	wantKeys(t, "List at r2", objs, "GlobalNetworkSet(a)", "GlobalNetworkSet(b)")
	if rev != r2 {
		t.Errorf("List at %d: revision %d", r2, rev)
	}
	if nets := objs[0].(*api.GlobalNetworkSet).Spec.Nets; nets[0] != "10.1.0.0/16" {
		t.Errorf("List at %d: nets %v, want those of then", r2, nets)
	}
	objs, _ = mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{Revision: r1})
	wantKeys(t, "List at r1", objs, "GlobalNetworkSet(a)")
}

func listFuture(t *testing.T, s store.Store) {
	rev := mustPut(t, s, set("a"), store.Absent())
	_, _, err := s.List(testContext(t), api.KindGlobalNetworkSet, store.ListOptions{Revision: rev + 1000})
	wantErr(t, "List at a revision to come", err, store.ErrCompacted)
}

// listLarge makes a list that no store reads in one piece.
func listLarge(t *testing.T, s store.Store) {
	const n = 2500
	ctx := testContext(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < n; i += 4 {
				if _, err := s.Put(ctx, set(fmt.Sprintf("s%05d", i), "fd00:1234:5678:9abc::/64"), store.Absent()); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	objs, _ := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	if len(objs) != n {
		t.Fatalf("List: %d objects, want %d", len(objs), n)
	}
	for i, o := range objs {
		if want := fmt.Sprintf("s%05d", i); o.Key().Name != want {
			t.Fatalf("List: object %d is %s, want %s", i, o.Key(), want)
		}
	}
	if got := len(pages(t, s, api.KindGlobalNetworkSet, "", 700)); got != n {
		t.Errorf("List in pages of 700: %d objects, want %d", got, n)
	}
}

func kindsDoNotMix(t *testing.T, s store.Store) {
	mustPut(t, s, policy("x"), store.Absent())
	staged := &api.StagedGlobalNetworkPolicy{}
	staged.Kind, staged.APIVersion, staged.Name = api.KindStagedGlobalNetworkPolicy, api.VersionCalico, "x"
	staged.Spec.Tier = "default"
	mustPut(t, s, staged, store.Absent())
	mustPut(t, s, set("x"), store.Absent())
	mustPut(t, s, nsSet("x", "x"), store.Absent())
	for _, k := range []api.Kind{api.KindGlobalNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindGlobalNetworkSet, api.KindNetworkSet} {
		if objs, _ := mustList(t, s, k, store.ListOptions{}); len(objs) != 1 || objs[0].Key().Kind != k {
			t.Errorf("List(%s) = %v, want one of its kind", k, keys(objs))
		}
	}
	mustDelete(t, s, staged.Key())
	mustGet(t, s, policy("x").Key())
}

func watchFrom(t *testing.T, s store.Store) {
	mustPut(t, s, set("before"), store.Absent())
	_, rev := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	w := watch(t, s, api.KindGlobalNetworkSet, rev)
	r1 := mustPut(t, s, set("a", "10.1.0.0/16"), store.Absent())
	r2 := mustPut(t, s, set("a", "10.2.0.0/16"), store.At(r1))
	mustDelete(t, s, set("a").Key())
	r4 := mustPut(t, s, set("b"), store.Absent())
	evs := w.next(4)
	want := []string{"GlobalNetworkSet(a) [10.1.0.0/16]", "GlobalNetworkSet(a) [10.2.0.0/16]", "GlobalNetworkSet(a) gone", "GlobalNetworkSet(b) []"}
	if d := cmp.Diff(want, describe(evs)); d != "" {
		t.Errorf("events: -want +got\n%s", d)
	}
	for i, r := range []api.Revision{r1, r2, 0, r4} {
		if r == 0 {
			if evs[i].Revision <= r2 || evs[i].Revision >= r4 {
				t.Errorf("revision of the deletion = %d, want between %d and %d", evs[i].Revision, r2, r4)
			}
			continue
		}
		if evs[i].Revision != r || revisionOf(t, evs[i].Object) != r {
			t.Errorf("event %d: revision %d, object %s, want %d", i, evs[i].Revision, evs[i].Object.Metadata().ResourceVersion, r)
		}
	}
	// From the middle: only what came after.
	late := watch(t, s, api.KindGlobalNetworkSet, r2)
	if d := cmp.Diff(want[2:], describe(late.next(2))); d != "" {
		t.Errorf("events after %d: -want +got\n%s", r2, d)
	}
}

// callersOwn spoils what one caller was given and looks what the next gets.
func callersOwn(t *testing.T, s store.Store) {
	_, rev := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	w, other := watch(t, s, api.KindGlobalNetworkSet, rev), watch(t, s, api.KindGlobalNetworkSet, rev)
	o := set("a", "10.0.0.0/8")
	o.Annotations = map[string]string{"note": "stays"}
	mustPut(t, s, o, store.Absent())
	for i := range 2 {
		listed, _ := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
		got := []api.Object{mustGet(t, s, o.Key()), listed[0]}
		if i == 0 {
			got = append(got, w.next(1)[0].Object, other.next(1)[0].Object)
		}
		for i, o := range got {
			if m := o.Metadata(); m.Annotations["note"] != "stays" || m.Name != "a" || o.(*api.GlobalNetworkSet).Spec.Nets[0] != "10.0.0.0/8" {
				t.Errorf("reading %d gives %+v, what another reader has made of it", i, o)
			}
			m := o.Metadata()
			delete(m.Annotations, "note")
			m.Name = "spoilt"
			o.(*api.GlobalNetworkSet).Spec.Nets[0] = "0.0.0.0/0"
		}
	}
}

func watchOnlyKind(t *testing.T, s store.Store) {
	_, rev := mustList(t, s, api.KindTier, store.ListOptions{})
	w := watch(t, s, api.KindTier, rev)
	mustPut(t, s, set("a"), store.Absent())
	mustPut(t, s, tier("t", 1), store.Absent())
	if d := cmp.Diff([]string{"Tier(t) there"}, describe(w.next(1))); d != "" {
		t.Errorf("events: -want +got\n%s", d)
	}
}

func watchBookmark(t *testing.T, s store.Store) {
	w := watch(t, s, api.KindTier, mustPut(t, s, tier("t", 1), store.Absent()))
	rev := mustPut(t, s, set("other"), store.Absent())
	w.bookmark(rev)
	mustPut(t, s, tier("u", 1), store.Absent())
	if d := cmp.Diff([]string{"Tier(u) there"}, describe(w.next(1))); d != "" {
		t.Errorf("events after a bookmark: -want +got\n%s", d)
	}
}

// watchMatchesLists makes random writes and checks that whoever starts from a
// list and follows a watch sees what a list shows.
func watchMatchesLists(t *testing.T, s store.Store) {
	seed := seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	ctx := testContext(t)
	picture := map[api.Key]api.Revision{}
	objs, rev := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	for _, o := range objs {
		picture[o.Key()] = revisionOf(t, o)
	}
	w := watch(t, s, api.KindGlobalNetworkSet, rev)
	for range 300 {
		name := fmt.Sprint("s", rng.IntN(12))
		if rng.IntN(3) == 0 {
			if err := s.Delete(ctx, set(name).Key(), store.Always()); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			continue
		}
		mustPut(t, s, set(name), store.Always())
	}
	end := mustPut(t, s, set("end"), store.Absent())
	var last api.Revision
	for last < end {
		evs, err := w.w.Next(ctx)
		if err != nil {
			t.Fatalf("Next: %v (seed %d)", err, seed)
		}
		for _, ev := range evs {
			if ev.Revision < last {
				t.Fatalf("event of revision %d after one of %d (seed %d)", ev.Revision, last, seed)
			}
			last = ev.Revision
			switch {
			case ev.Key.Name == "":
			case ev.Object == nil:
				delete(picture, ev.Key)
			default:
				picture[ev.Key] = ev.Revision
			}
		}
	}
	objs, _ = mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	want := map[api.Key]api.Revision{}
	for _, o := range objs {
		want[o.Key()] = revisionOf(t, o)
	}
	if d := cmp.Diff(want, picture); d != "" {
		t.Errorf("picture from list and watch (seed %d): -list +picture\n%s", seed, d)
	}
	if !slices.ContainsFunc(objs, func(o api.Object) bool { return o.Key().Name == "end" }) {
		t.Error("List lacks the last write")
	}
}
