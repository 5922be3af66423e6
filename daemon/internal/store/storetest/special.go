// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

var seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0 chooses one")

// seed is the seed of a random test, which is printed.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return s
}

func watchCancel(t *testing.T, s store.Store) {
	w := watch(t, s, api.KindProfile, mustPut(t, s, set("a"), store.Absent()))
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		_, err := w.w.Next(ctx)
		cancel()
		if err == nil {
			continue // a bookmark
		}
		wantErr(t, "Next", err, context.DeadlineExceeded)
		break
	}
	// A cancelled Next is not the end of the watch.
	p := &api.Profile{}
	p.Kind, p.APIVersion, p.Name = api.KindProfile, api.VersionCalico, "p"
	mustPut(t, s, p, store.Absent())
	if d := cmp.Diff([]string{"Profile(p) there"}, describe(w.next(1))); d != "" {
		t.Errorf("events after a cancelled Next: -want +got\n%s", d)
	}
}

func watchCloseTwice(t *testing.T, s store.Store) {
	w := watch(t, s, api.KindTier, mustPut(t, s, set("a"), store.Absent()))
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := w.w.Next(context.Background()); err != nil {
				done <- err
				return
			}
		}
	}()
	w.w.Close()
	w.w.Close()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Next did not return after Close")
	}
}

func compaction(t *testing.T, s store.Store) {
	c, ok := s.(Compacter)
	if !ok {
		t.Skip("store cannot be made to compact")
	}
	r1 := mustPut(t, s, set("a"), store.Absent())
	r2 := mustPut(t, s, set("a", "10.0.0.0/8"), store.At(r1))
	r3 := mustPut(t, s, set("b"), store.Absent())
	if err := c.Compact(testContext(t), r2); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(testContext(t), api.KindGlobalNetworkSet, r1-1)
	if err == nil {
		for err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			var evs []api.Event
			evs, err = w.Next(ctx)
			cancel()
			if len(evs) > 0 && evs[0].Key.Name != "" {
				t.Fatalf("Next after compaction: %v, want an error", describe(evs))
			}
		}
		if _, again := w.Next(testContext(t)); !errors.Is(again, store.ErrCompacted) {
			t.Errorf("Next again: error %v, want the same", again)
		}
		w.Close()
	}
	wantErr(t, "Watch from a compacted revision", err, store.ErrCompacted)
	_, _, err = s.List(testContext(t), api.KindGlobalNetworkSet, store.ListOptions{Revision: r1})
	wantErr(t, "List at a compacted revision", err, store.ErrCompacted)
	evs := watch(t, s, api.KindGlobalNetworkSet, r2).next(1)
	if evs[0].Revision != r3 {
		t.Errorf("first event after %d: revision %d, want %d", r2, evs[0].Revision, r3)
	}
	objs, _ := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	wantKeys(t, "List after compaction", objs, "GlobalNetworkSet(a)", "GlobalNetworkSet(b)")
}

func unreadableValues(t *testing.T, s store.Store) {
	in, ok := s.(Injector)
	if !ok {
		t.Skip("store takes no raw values")
	}
	ctx := testContext(t)
	mustPut(t, s, set("good"), store.Absent())
	_, rev := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	w := watch(t, s, api.KindGlobalNetworkSet, rev)
	bad := map[string]string{
		"a-empty": "", "b-json": `{"kind":`, "c-list": "[]", "d-kind": `{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"d-kind"},"spec":{}}`,
		"e-utf8": "\xff\xfe", "f-type": `{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"f-type"},"spec":{"nets":7}}`,
	}
	for name, v := range bad {
		if _, err := in.PutBytes(ctx, set(name).Key(), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	for _, ev := range w.next(len(bad)) {
		if u, ok := ev.Object.(*api.Unreadable); !ok || u.Err == nil {
			t.Errorf("event of %s: %T, want *api.Unreadable with a reason", ev.Key, ev.Object)
		}
	}
	objs, _ := mustList(t, s, api.KindGlobalNetworkSet, store.ListOptions{})
	if len(objs) != len(bad)+1 {
		t.Fatalf("List = %v, want %d objects", keys(objs), len(bad)+1)
	}
	for _, o := range objs {
		_, is := o.(*api.Unreadable)
		if want := o.Key().Name != "good"; is != want {
			t.Errorf("List: %s is unreadable %v, want %v", o.Key(), is, want)
		}
		if is && (o.Validate() == nil || o.Metadata().ResourceVersion == "") {
			t.Errorf("List: %s has no reason or revision: %v, %q", o.Key(), o.Validate(), o.Metadata().ResourceVersion)
		}
	}
	for name, v := range bad {
		u, ok := mustGet(t, s, set(name).Key()).(*api.Unreadable)
		if !ok || string(u.Raw) != v {
			t.Errorf("Get(%s) = %+v, want *api.Unreadable holding the value", name, u)
			continue
		}
		// It can be put right, and deleted.
		if name < "d" {
			mustPut(t, s, set(name), store.At(revisionOf(t, u)))
			if got := mustGet(t, s, set(name).Key()); got.Metadata().UID == "" {
				t.Errorf("%s put right: no uid", name)
			}
		} else {
			mustDelete(t, s, set(name).Key())
		}
	}
}

// legacyPolicy is a policy as Calico up to v3.31 stored it.
func legacyPolicy(name string) (api.Key, []byte) {
	k := policy("default." + name).Key()
	return k, fmt.Appendf(nil, `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.%s",`+
		`"uid":"7c1f1a52-9d35-4a4b-8f0e-3c5f0f6f2a11","creationTimestamp":"2024-01-02T03:04:05Z"},"spec":{"tier":"default","selector":"all()","types":["Ingress"]}}`, name)
}

func legacyNames(t *testing.T, s store.Store) {
	in, ok := s.(Injector)
	if !ok {
		t.Skip("store takes no raw values")
	}
	ctx := testContext(t)
	k, value := legacyPolicy("old")
	rev, err := in.PutBytes(ctx, k, value)
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, s, api.KindGlobalNetworkPolicy, rev)
	old := policy("old")
	objs, _ := mustList(t, s, api.KindGlobalNetworkPolicy, store.ListOptions{})
	wantKeys(t, "List", objs, "GlobalNetworkPolicy(old)")
	got := mustGet(t, s, old.Key())
	if got.Key() != old.Key() {
		t.Errorf("Get(old) = %s", got.Key())
	}
	_, err = s.Put(ctx, old, store.Absent())
	wantErr(t, "Put Absent over a legacy policy", err, store.ErrExists)
	rev = mustPut(t, s, old, store.Over(got))
	objs, _ = mustList(t, s, api.KindGlobalNetworkPolicy, store.ListOptions{})
	wantKeys(t, "List after an update", objs, "GlobalNetworkPolicy(old)")
	if uid := objs[0].Metadata().UID; uid != got.Metadata().UID {
		t.Errorf("uid after an update = %s, want %s", uid, got.Metadata().UID)
	}
	if err := s.Delete(ctx, old.Key(), store.At(rev)); err != nil {
		t.Errorf("Delete of a legacy policy: %v", err)
	}
	objs, _ = mustList(t, s, api.KindGlobalNetworkPolicy, store.ListOptions{})
	wantKeys(t, "List after Delete", objs)
	if d := cmp.Diff([]string{"GlobalNetworkPolicy(old) there", "GlobalNetworkPolicy(old) gone"}, describe(w.next(2))); d != "" {
		t.Errorf("events: -want +got\n%s", d)
	}
	// A policy that is really called default.x is another one than x.
	mustPut(t, s, policy("default.x"), store.Absent())
	mustPut(t, s, policy("x"), store.Absent())
	objs, _ = mustList(t, s, api.KindGlobalNetworkPolicy, store.ListOptions{})
	wantKeys(t, "List", objs, "GlobalNetworkPolicy(default.x)", "GlobalNetworkPolicy(x)")
	mustDelete(t, s, policy("x").Key())
	_, err = s.Get(ctx, policy("x").Key())
	wantErr(t, "Get of x", err, store.ErrNotFound)
	mustGet(t, s, policy("default.x").Key())
}

// legacyMigration does what Calico's migration of policy names does: write
// under the new key, delete the old one. To a watcher the policy never ends.
func legacyMigration(t *testing.T, s store.Store) {
	in, ok := s.(Injector)
	if !ok {
		t.Skip("store takes no raw values")
	}
	ctx := testContext(t)
	k, value := legacyPolicy("old")
	rev, err := in.PutBytes(ctx, k, value)
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, s, api.KindGlobalNetworkPolicy, rev)
	renamed, err := api.EncodeStored(mustGet(t, s, policy("old").Key()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.PutBytes(ctx, policy("old").Key(), renamed); err != nil {
		t.Fatal(err)
	}
	objs, _ := mustList(t, s, api.KindGlobalNetworkPolicy, store.ListOptions{})
	wantKeys(t, "List in the middle of a migration", objs, "GlobalNetworkPolicy(old)")
	// Stored twice: the one under its own name counts, and the other can
	// still be got at by the key it has.
	if err := s.Delete(ctx, k, store.Always()); err != nil {
		t.Fatalf("Delete(%s): %v", k, err)
	}
	mustGet(t, s, policy("old").Key())
	mustPut(t, s, policy("end"), store.Absent())
	for _, ev := range w.next(2) {
		if ev.Object == nil {
			t.Errorf("event: %s is gone, want no such event", ev.Key)
		}
	}
}

var guid = regexp.MustCompile(`^[0-9a-f]{32}$`)

func clusterKey() api.Key { return api.Key{Kind: api.KindClusterInformation, Name: "default"} }

func initialise(t *testing.T, s store.Store) {
	ctx := testContext(t)
	if err := store.Initialise(ctx, s); err != nil {
		t.Fatal(err)
	}
	ci := mustGet(t, s, clusterKey()).(*api.ClusterInformation)
	if !guid.MatchString(ci.Spec.ClusterGUID) || ci.Spec.DatastoreReady == nil || !*ci.Spec.DatastoreReady || ci.Spec.CalicoVersion != "" {
		t.Errorf("ClusterInformation = %+v, want an id of 32 digits, ready, no version", ci.Spec)
	}
	tiers, rev := mustList(t, s, api.KindTier, store.ListOptions{})
	got := map[string]string{}
	for _, o := range tiers {
		o := o.(*api.Tier)
		got[o.Name] = fmt.Sprintf("%.0f %s", *o.Spec.Order, o.Spec.DefaultAction)
	}
	want := map[string]string{"default": "1000000 Deny", "kube-admin": "1000 Pass", "kube-baseline": "10000000 Pass"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("tiers: -want +got\n%s", d)
	}
	if err := store.Initialise(ctx, s); err != nil {
		t.Errorf("Initialise again: %v", err)
	}
	if _, again := mustList(t, s, api.KindTier, store.ListOptions{}); again != rev {
		t.Errorf("Initialise again wrote: revision %d, was %d", again, rev)
	}
}

func initialiseFillsIn(t *testing.T, s store.Store) {
	no := false
	ci := &api.ClusterInformation{}
	ci.Kind, ci.APIVersion, ci.Name = api.KindClusterInformation, api.VersionCalico, "default"
	ci.Spec.DatastoreReady, ci.Spec.ClusterType, ci.Spec.CalicoVersion = &no, "bgp", "v3.30.0"
	mustPut(t, s, ci, store.Absent())
	mustPut(t, s, tier("default", 5), store.Absent())
	if err := store.Initialise(testContext(t), s); err != nil {
		t.Fatal(err)
	}
	got := mustGet(t, s, clusterKey()).(*api.ClusterInformation)
	if got.Spec.ClusterGUID == "" || *got.Spec.DatastoreReady || got.Spec.ClusterType != "bgp" || got.Spec.CalicoVersion != "v3.30.0" {
		t.Errorf("ClusterInformation = %+v, want only the id filled in: a locked store stays locked", got.Spec)
	}
	if o := mustGet(t, s, tier("default", 0).Key()).(*api.Tier); *o.Spec.Order != 5 {
		t.Errorf("order of tier default = %v, want 5 as it was", *o.Spec.Order)
	}
}

func initialiseTogether(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := store.Initialise(testContext(t), s); err != nil {
				t.Errorf("Initialise: %v", err)
			}
		})
	}
	wg.Wait()
	if tiers, _ := mustList(t, s, api.KindTier, store.ListOptions{}); len(tiers) != 3 {
		t.Errorf("tiers = %v, want three", keys(tiers))
	}
}
