// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

// dump is all of an etcd but the digests.
func dump(t *testing.T, c *clientv3.Client, prefix string) []string {
	t.Helper()
	r, err := c.Get(testContext(t), prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, kv := range r.Kvs {
		all = append(all, string(kv.Key))
	}
	return all
}

// TestInitialise_WritesWhatCalicoWrites: keys, order and values of a fresh
// store, as observed of calicoctl v3.32.
func TestInitialise_WritesWhatCalicoWrites(t *testing.T) {
	srv := startServer(t)
	if err := store.Initialise(testContext(t), srv.open(nil)); err != nil {
		t.Fatal(err)
	}
	c := srv.raw()
	const root = "/calico/resources/v3/projectcalico.org/"
	want := []string{root + "clusterinformations/default", root + "tiers/default", root + "tiers/kube-admin", root + "tiers/kube-baseline"}
	if d := cmp.Diff(want, dump(t, c, "/calico")); d != "" {
		t.Errorf("keys in order of writing: -want +got\n%s", d)
	}
	r, err := c.Get(testContext(t), root, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		var v struct {
			Metadata struct{ UID, CreationTimestamp string }
			Spec     struct{ ClusterGUID string }
		}
		if err := json.Unmarshal(kv.Value, &v); err != nil {
			t.Fatal(err)
		}
		if _, err := time.Parse("2006-01-02T15:04:05Z", v.Metadata.CreationTimestamp); err != nil {
			t.Errorf("%s: creationTimestamp %q: %v", kv.Key, v.Metadata.CreationTimestamp, err)
		}
		got := strings.NewReplacer(v.Metadata.UID, "UID", v.Metadata.CreationTimestamp, "TIME").Replace(string(kv.Value))
		head := func(kind, name string) string {
			return fmt.Sprintf(`{"kind":"%s","apiVersion":"projectcalico.org/v3","metadata":{"name":"%s","uid":"UID","creationTimestamp":"TIME"},`, kind, name)
		}
		want := map[string]string{
			want[0]: head("ClusterInformation", "default") + `"spec":{"clusterGUID":"` + v.Spec.ClusterGUID + `","datastoreReady":true}}`,
			want[1]: head("Tier", "default") + `"spec":{"order":1000000,"defaultAction":"Deny"},"status":{}}`,
			want[2]: head("Tier", "kube-admin") + `"spec":{"order":1000,"defaultAction":"Pass"},"status":{}}`,
			want[3]: head("Tier", "kube-baseline") + `"spec":{"order":10000000,"defaultAction":"Pass"},"status":{}}`,
		}[string(kv.Key)]
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", kv.Key, d)
		}
	}
}

func TestPath_OfKinds(t *testing.T) {
	for _, c := range []struct {
		k    api.Key
		want string
	}{
		{api.Key{Kind: api.KindTier, Name: "sec"}, "/calico/resources/v3/projectcalico.org/tiers/sec"},
		{api.Key{Kind: api.KindNetworkPolicy, Namespace: "prod", Name: "db"}, "/calico/resources/v3/projectcalico.org/networkpolicies/prod/db"},
		{api.Key{Kind: api.KindStagedGlobalNetworkPolicy, Name: "x"}, "/calico/resources/v3/projectcalico.org/stagedglobalnetworkpolicies/x"},
		{api.Key{Kind: api.KindHostStatus, Name: "h1"}, "/ripstop/resources/v1/ripstop.io/hoststatuses/h1"},
	} {
		if got := etcd.Path(c.k); got != c.want {
			t.Errorf("Path(%s) = %s, want %s", c.k, got, c.want)
		}
	}
}

// TestStore_PolicyAsCalicoStoresIt: the observed value of a policy.
func TestStore_PolicyAsCalicoStoresIt(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(nil), srv.raw()
	p := &api.GlobalNetworkPolicy{}
	p.Kind, p.APIVersion, p.Name = api.KindGlobalNetworkPolicy, api.VersionCalico, "t1"
	p.UID = "7c1f1a52-9d35-4a4b-8f0e-3c5f0f6f2a11"
	p.CreationTimestamp = api.Time{Time: time.Date(2026, 11, 20, 17, 44, 35, 0, time.UTC)}
	p.Spec.Ingress = []api.Rule{{Action: api.Allow}}
	p.Default()
	rev, err := s.Put(testContext(t), p, store.Absent())
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Get(testContext(t), "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/t1")
	if err != nil || len(r.Kvs) != 1 {
		t.Fatalf("%d keys, %v", len(r.Kvs), err)
	}
	want := `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"t1","uid":"7c1f1a52-9d35-4a4b-8f0e-3c5f0f6f2a11",` +
		`"creationTimestamp":"2026-11-20T17:44:35Z","labels":{"projectcalico.org/tier":"default"},"annotations":{"projectcalico.org/metadata":"{\"name\":\"t1\"}"}},` +
		`"spec":{"tier":"default","ingress":[{"action":"Allow","source":{},"destination":{}}],"types":["Ingress"]}}`
	if d := cmp.Diff(want, string(r.Kvs[0].Value)); d != "" {
		t.Errorf("value: -want +got\n%s", d)
	}
	if api.Revision(r.Kvs[0].ModRevision) != rev {
		t.Errorf("Put = revision %d, etcd says %d", rev, r.Kvs[0].ModRevision)
	}
}

// TestStore_Checksums: our own values are checked, others' are not, and
// neither is harmed by the other.
func TestStore_Checksums(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(nil), srv.raw()
	ctx := testContext(t)
	k := tier("a", 1).Key()
	get := func() error {
		t.Helper()
		o, err := s.Get(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		objs, _, err := s.List(ctx, k.Kind, store.ListOptions{})
		if err != nil || len(objs) != 1 {
			t.Fatalf("List: %d objects, %v", len(objs), err)
		}
		_, one := o.(*api.Unreadable)
		_, all := objs[0].(*api.Unreadable)
		if one != all {
			t.Errorf("Get gives %T, List %T", o, objs[0])
		}
		if one {
			return o.Validate()
		}
		return nil
	}
	if _, err := s.Put(ctx, tier("a", 1), store.Absent()); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("after Put: %v", err)
	}
	value, err := c.Get(ctx, etcd.Path(k))
	if err != nil {
		t.Fatal(err)
	}
	// What a flipped bit looks like: both keys of one revision, not matching.
	flipped := bytes.Replace(value.Kvs[0].Value, []byte("Deny"), []byte("Pass"), 1)
	if _, err := c.Txn(ctx).Then(clientv3.OpPut(etcd.Path(k), string(flipped)), clientv3.OpPut(etcd.SumKey(etcd.Path(k)), string(etcd.Sum(etcd.Path(k), value.Kvs[0].Value)))).Commit(); err != nil {
		t.Fatal(err)
	}
	if err := get(); !errors.Is(err, etcd.ErrDamaged) {
		t.Errorf("of a value that does not match: %v, want %v", err, etcd.ErrDamaged)
	}
	// Written again by us, it is good again and keeps its uid.
	if _, err := s.Put(ctx, tier("a", 2), store.Always()); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("after Put over a damaged value: %v", err)
	}
	// Another program writes: not checked.
	if _, err := c.Put(ctx, etcd.Path(k), string(flipped)); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("after another program's write: %v", err)
	}
	// The digest is newer than the value: an old value has come back.
	if _, err := c.Put(ctx, etcd.SumKey(etcd.Path(k)), string(etcd.Sum(etcd.Path(k), flipped))); err != nil {
		t.Fatal(err)
	}
	if err := get(); !errors.Is(err, etcd.ErrDamaged) {
		t.Errorf("of a value older than its digest: %v, want %v", err, etcd.ErrDamaged)
	}
	// A Store without checksums takes it as it is.
	if o, err := srv.open(func(c *etcd.Config) { c.Checksums = false }).Get(ctx, k); err != nil {
		t.Error(err)
	} else if _, bad := o.(*api.Unreadable); bad {
		t.Error("Get without checksums: unreadable")
	}
	// Delete takes the digest along; another program's delete leaves it.
	if err := s.Delete(ctx, k, store.Always()); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, c, "/ripstop/sum"); len(got) != 0 {
		t.Errorf("digests after Delete: %v", got)
	}
	if _, err := s.Put(ctx, tier("a", 1), store.Absent()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(ctx, etcd.Path(k)); err != nil {
		t.Fatal(err)
	}
	if objs, _, err := s.List(ctx, k.Kind, store.ListOptions{}); err != nil || len(objs) != 0 {
		t.Errorf("List after another program's delete: %d objects, %v", len(objs), err)
	}
	if _, err := s.Put(ctx, tier("a", 1), store.Absent()); err != nil {
		t.Errorf("Put after another program's delete: %v", err)
	}
}

// TestStore_FlippedKey: a value that comes back under another key than it was
// stored under is found under its own, as damaged.
func TestStore_FlippedKey(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(nil), srv.raw()
	ctx := testContext(t)
	for _, n := range []string{"a", "c", "e"} {
		if _, err := s.Put(ctx, tier(n, 1), store.Absent()); err != nil {
			t.Fatal(err)
		}
	}
	for _, wrong := range []string{"0", "b", "d", "f"} {
		r, err := c.Get(ctx, etcd.Path(tier("c", 1).Key()))
		if err != nil {
			t.Fatal(err)
		}
		value := string(r.Kvs[0].Value)
		path, bad := etcd.Path(tier("c", 1).Key()), etcd.Path(tier(wrong, 1).Key())
		if _, err := c.Txn(ctx).Then(clientv3.OpDelete(path), clientv3.OpPut(bad, value), clientv3.OpPut(etcd.SumKey(path), string(etcd.Sum(path, []byte(value))))).Commit(); err != nil {
			t.Fatal(err)
		}
		objs, _, err := s.List(ctx, api.KindTier, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range objs {
			_, is := o.(*api.Unreadable)
			got = append(got, fmt.Sprint(o.Key().Name, is))
		}
		if d := cmp.Diff([]string{"afalse", "ctrue", "efalse"}, got); d != "" {
			t.Errorf("List with c stored as %s: -want +got\n%s", wrong, d)
		}
		if _, err := c.Txn(ctx).Then(clientv3.OpDelete(bad), clientv3.OpPut(path, value)).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStore_DamagedPolicyDenies: what cannot be trusted is not enforced as it
// reads, but as a denial of what it selects.
func TestStore_DamagedPolicyDenies(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(nil), srv.raw()
	ctx := testContext(t)
	p := &api.GlobalNetworkPolicy{}
	p.Kind, p.APIVersion, p.Name = api.KindGlobalNetworkPolicy, api.VersionCalico, "p"
	p.Spec.Tier, p.Spec.Selector, p.Spec.Types = "default", "app == 'db'", []api.PolicyType{api.Ingress}
	p.Spec.Ingress = []api.Rule{{Action: api.Allow}}
	if _, err := s.Put(ctx, p, store.Absent()); err != nil {
		t.Fatal(err)
	}
	path := etcd.Path(p.Key())
	value, err := c.Get(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(value.Kvs[0].Value, []byte("'db'"), []byte("'dc'"), 1)
	if _, err := c.Txn(ctx).Then(clientv3.OpPut(path, string(flipped)), clientv3.OpPut(etcd.SumKey(path), string(etcd.Sum(path, value.Kvs[0].Value)))).Commit(); err != nil {
		t.Fatal(err)
	}
	o, err := s.Get(ctx, p.Key())
	if err != nil {
		t.Fatal(err)
	}
	u, ok := o.(*api.Unreadable)
	if !ok || u.Salvaged == nil {
		t.Fatalf("Get = %T, want *api.Unreadable with something salvaged", o)
	}
	spec := api.PolicySpecOf(u.Salvaged)
	if len(spec.Ingress) != 1 || spec.Ingress[0].Action != api.Deny || len(spec.Egress) != 0 {
		t.Errorf("salvaged: ingress %v, egress %v; want one denial of ingress", spec.Ingress, spec.Egress)
	}
}

// TestStore_StrangeKeysAreSeen: what stands where it should not shows up as
// unreadable instead of being lost.
func TestStore_StrangeKeysAreSeen(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(nil), srv.raw()
	ctx := testContext(t)
	for _, path := range []string{
		etcd.Prefix(api.KindTier) + "a/b",
		etcd.Prefix(api.KindNetworkSet) + "nons",
		etcd.Prefix(api.KindTier), // nothing that has a name
	} {
		if _, err := c.Put(ctx, path, "{}"); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []api.Kind{api.KindTier, api.KindNetworkSet} {
		objs, _, err := s.List(ctx, kind, store.ListOptions{})
		if err != nil || len(objs) != 1 {
			t.Fatalf("List(%s): %d objects, %v; want one", kind, len(objs), err)
		}
		if _, ok := objs[0].(*api.Unreadable); !ok {
			t.Errorf("List(%s) = %T, want *api.Unreadable", kind, objs[0])
		}
	}
}

func TestStore_RawKeysAndLeases(t *testing.T) {
	srv := startServer(t)
	s, c := srv.open(nil), srv.raw()
	ctx := testContext(t)
	const host = "/calico/felix/v2/no-region/host/h1/"
	if err := s.PutRaw(ctx, host+"status", []byte("a"), 90*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := s.PutRaw(ctx, host+"last_reported_status", []byte("b"), 0); err != nil {
		t.Fatal(err)
	}
	lease := func(key string) int64 {
		t.Helper()
		r, err := c.Get(ctx, key)
		if err != nil || len(r.Kvs) != 1 {
			t.Fatalf("%s: %d keys, %v", key, len(r.Kvs), err)
		}
		return r.Kvs[0].Lease
	}
	first := lease(host + "status")
	if ttl, err := c.TimeToLive(ctx, clientv3.LeaseID(first)); err != nil || ttl.GrantedTTL != 90 {
		t.Errorf("lease of %d s, %v; want 90", ttl.GrantedTTL, err)
	}
	if err := s.PutRaw(ctx, host+"status", []byte("c"), 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if second := lease(host + "status"); second == first || second == 0 {
		t.Errorf("lease after another write = %x, before %x; want a new one", second, first)
	}
	if l := lease(host + "last_reported_status"); l != 0 {
		t.Errorf("lease of a key without ttl = %x", l)
	}
	got, err := s.ListRaw(ctx, "/calico/felix/")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{host + "status": []byte("c"), host + "last_reported_status": []byte("b")}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ListRaw: -want +got\n%s", d)
	}
	if err := s.DeleteRaw(ctx, host+"last_reported_status"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteRaw(ctx, host+"last_reported_status"); err != nil {
		t.Errorf("DeleteRaw of nothing: %v", err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got, err := s.ListRaw(ctx, "/calico/felix/")
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still there long after the ttl: %v", got)
		}
	}
	if _, err := s.ListRaw(ctx, ""); !errors.Is(err, store.ErrKey) {
		t.Errorf("ListRaw of everything: error %v, want %v", err, store.ErrKey)
	}
	for i := range 1100 {
		if err := s.PutRaw(ctx, fmt.Sprintf("/calico/felix/v1/host/h%04d", i), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.ListRaw(ctx, "/calico/felix/v1/"); err != nil || len(got) != 1100 {
		t.Errorf("ListRaw of 1,100 keys: %d, %v", len(got), err)
	}
}

func TestStore_StatusAndClusterID(t *testing.T) {
	srv := startServer(t)
	s := srv.open(nil)
	ctx := testContext(t)
	rev, err := s.Put(ctx, tier("a", 1), store.Absent())
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.ClusterID(ctx)
	if err != nil || id == 0 {
		t.Errorf("ClusterID() = %x, %v", id, err)
	}
	st, err := s.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.ClusterID != id || st.Revision != int64(rev) || !st.HasLeader || !st.IsLeader || st.DBSizeBytes == 0 || !strings.HasPrefix(st.Version, "3.") || len(st.Alarms) != 0 || st.Endpoint != srv.url() {
		t.Errorf("Status() = %+v, want cluster %x, revision %d, a leader, no alarms", st, id, rev)
	}
}
