// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

func createTwice(t *testing.T, s store.Store) {
	for _, o := range []api.Object{set("a", "10.0.0.0/8"), policy("p"), nsSet("n", "a")} {
		mustPut(t, s, o, store.Absent())
		_, err := s.Put(testContext(t), o, store.Absent())
		wantErr(t, "Put Absent of "+o.Key().String()+" again", err, store.ErrExists)
	}
}

func updateNeedsRevision(t *testing.T, s store.Store) {
	for _, o := range []api.Object{set("a"), policy("p")} {
		r1 := mustPut(t, s, o, store.Absent())
		r2 := mustPut(t, s, o, store.At(r1))
		if r2 <= r1 {
			t.Errorf("Put At(%d) = %d, want a higher revision", r1, r2)
		}
		_, err := s.Put(testContext(t), o, store.At(r1))
		wantErr(t, "Put At an old revision", err, store.ErrConflict)
		_, err = s.Put(testContext(t), o, store.At(r2+1000))
		wantErr(t, "Put At a revision to come", err, store.ErrConflict)
		if got := revisionOf(t, mustGet(t, s, o.Key())); got != r2 {
			t.Errorf("revision after refused writes = %d, want %d", got, r2)
		}
	}
}

// writtenOver is Put with the condition Over: what was read names the revision
// and what stays.
func writtenOver(t *testing.T, s store.Store) {
	for _, o := range []api.Object{set("a"), policy("p")} {
		mustPut(t, s, o, store.Absent())
		first := mustGet(t, s, o.Key())
		forged := api.Clone(o)
		forged.Metadata().UID = "11111111-1111-4111-8111-111111111111"
		forged.Metadata().CreationTimestamp = api.Time{Time: time.Unix(1, 0).UTC()}
		forged.Metadata().Labels = map[string]string{"k": "v"} // else there is nothing to write
		rev := mustPut(t, s, forged, store.Over(first))
		got := mustGet(t, s, o.Key())
		if a, b := first.Metadata(), got.Metadata(); a.UID != b.UID || !a.CreationTimestamp.Equal(b.CreationTimestamp.Time) || revisionOf(t, got) != rev {
			t.Errorf("%s: after Put Over: %s, %v at %s; want %s, %v at %d", o.Key(), b.UID, b.CreationTimestamp, b.ResourceVersion, a.UID, a.CreationTimestamp, rev)
		}
		_, err := s.Put(testContext(t), o, store.Over(first))
		wantErr(t, "Put Over what was replaced", err, store.ErrConflict)
		_, err = s.Put(testContext(t), o, store.Over(o)) // never stored, so of no revision
		wantErr(t, "Put Over what was not read", err, store.ErrConflict)
		mustDelete(t, s, o.Key())
		_, err = s.Put(testContext(t), o, store.Over(got))
		wantErr(t, "Put Over what is gone", err, store.ErrNotFound)
	}
	// The legacy key of one policy is the key of another.
	mustPut(t, s, policy("default.x"), store.Absent())
	mustPut(t, s, policy("x"), store.Absent())
	mustPut(t, s, policy("x"), store.Over(mustGet(t, s, policy("x").Key())))
	if got := revisionOf(t, mustGet(t, s, policy("default.x").Key())); got >= revisionOf(t, mustGet(t, s, policy("x").Key())) {
		t.Errorf("default.x is at revision %d, as if x had been written there", got)
	}
}

func updateOfNothing(t *testing.T, s store.Store) {
	_, err := s.Put(testContext(t), set("a"), store.At(1))
	wantErr(t, "Put At(1) of nothing", err, store.ErrNotFound)
	rev := mustPut(t, s, policy("p"), store.Absent())
	mustDelete(t, s, policy("p").Key())
	_, err = s.Put(testContext(t), policy("p"), store.At(rev))
	wantErr(t, "Put At of what is gone", err, store.ErrNotFound)
}

func atZero(t *testing.T, s store.Store) {
	_, err := s.Put(testContext(t), set("a"), store.At(0))
	wantErr(t, "Put At(0) of nothing", err, store.ErrNotFound)
	mustPut(t, s, set("a"), store.Absent())
	_, err = s.Put(testContext(t), set("a"), store.At(0))
	wantErr(t, "Put At(0)", err, store.ErrConflict)
	wantErr(t, "Delete At(0)", s.Delete(testContext(t), set("a").Key(), store.At(0)), store.ErrConflict)
}

func alwaysPut(t *testing.T, s store.Store) {
	r1 := mustPut(t, s, set("a", "10.0.0.0/8"), store.Always())
	r2 := mustPut(t, s, set("a", "10.1.0.0/16"), store.Always())
	if r2 <= r1 {
		t.Errorf("Put Always again = %d, want more than %d", r2, r1)
	}
	got := mustGet(t, s, set("a").Key()).(*api.GlobalNetworkSet)
	if d := cmp.Diff([]string{"10.1.0.0/16"}, got.Spec.Nets); d != "" {
		t.Errorf("Get after Put Always: -want +got\n%s", d)
	}
}

var uid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func identitySurvives(t *testing.T, s store.Store) {
	before := time.Now().Add(-time.Second)
	rev := mustPut(t, s, set("a"), store.Absent())
	first := *mustGet(t, s, set("a").Key()).Metadata()
	if !uid4.MatchString(first.UID) {
		t.Errorf("uid of a new object = %q, want a random version 4 UUID", first.UID)
	}
	if ts := first.CreationTimestamp.Time; ts.Before(before) || ts.After(time.Now()) || ts.Nanosecond() != 0 {
		t.Errorf("creation timestamp of a new object = %v, want now in whole seconds", ts)
	}
	forged := set("a", "10.0.0.0/8")
	forged.UID = "11111111-1111-4111-8111-111111111111"
	forged.CreationTimestamp = api.Time{Time: time.Unix(1, 0).UTC()}
	forged.Labels = map[string]string{"k": "v"}
	mustPut(t, s, forged, store.At(rev))
	check := func(after string) {
		t.Helper()
		got := mustGet(t, s, set("a").Key()).Metadata()
		if got.UID != first.UID || !got.CreationTimestamp.Equal(first.CreationTimestamp.Time) {
			t.Errorf("after %s: uid %s, created %v; want %s, %v", after, got.UID, got.CreationTimestamp, first.UID, first.CreationTimestamp)
		}
	}
	check("an update with another uid")
	if got := mustGet(t, s, set("a").Key()).Metadata().Labels["k"]; got != "v" {
		t.Errorf("label after update = %q, want v", got)
	}
	mustPut(t, s, forged, store.Always())
	check("Put Always")
	mustPut(t, s, set("a"), store.Always())
	check("Put Always without uid")
	if got := mustGet(t, s, set("a").Key()).Metadata().Labels; len(got) != 0 {
		t.Errorf("labels after an update without = %v, want none: they are replaced as a whole", got)
	}
	// A new object keeps what its writer says: a restored backup.
	kept := set("b")
	kept.UID, kept.CreationTimestamp = forged.UID, forged.CreationTimestamp
	mustPut(t, s, kept, store.Absent())
	if got := mustGet(t, s, kept.Key()).Metadata(); got.UID != kept.UID || !got.CreationTimestamp.Equal(kept.CreationTimestamp.Time) {
		t.Errorf("created with uid %s, time %v: stored %s, %v", kept.UID, kept.CreationTimestamp, got.UID, got.CreationTimestamp)
	}
}

func objectNotChanged(t *testing.T, s store.Store) {
	o := policy("p")
	o.ResourceVersion = "7"
	o.Labels = map[string]string{"a": "b"}
	want := api.Clone(o)
	mustPut(t, s, o, store.Absent())
	mustPut(t, s, o, store.Always())
	if d := cmp.Diff(want, api.Object(o)); d != "" {
		t.Errorf("object after Put: -before +after\n%s", d)
	}
	got := mustGet(t, s, o.Key())
	got.Metadata().Labels["a"] = "changed"
	if again := mustGet(t, s, o.Key()); again.Metadata().Labels["a"] != "b" {
		t.Errorf("Get after changing an earlier result: label %q, want b", again.Metadata().Labels["a"])
	}
}

func badKeys(t *testing.T, s store.Store) {
	ctx := testContext(t)
	for _, k := range []api.Key{
		{Kind: api.KindTier, Name: ""},
		{Kind: api.KindTier, Name: "a/b"},
		{Kind: api.KindTier, Name: "a\x00b"},
		{Kind: api.KindTier, Namespace: "n", Name: "a"},
		{Kind: api.KindNetworkSet, Name: "a"},
		{Kind: api.KindNetworkSet, Namespace: "n/m", Name: "a"},
		{Kind: "Nonsense", Name: "a"},
	} {
		_, err := s.Get(ctx, k)
		wantErr(t, fmt.Sprintf("Get(%q)", k), err, store.ErrKey)
		wantErr(t, fmt.Sprintf("Delete(%q)", k), s.Delete(ctx, k, store.Always()), store.ErrKey)
	}
	_, err := s.Put(ctx, set("a/b"), store.Always())
	wantErr(t, "Put of a name with a slash", err, store.ErrKey)
	_, err = s.Put(ctx, nsSet("", "a"), store.Always())
	wantErr(t, "Put without a namespace", err, store.ErrKey)
	_, _, err = s.List(ctx, "Nonsense", store.ListOptions{})
	wantErr(t, "List of a kind that is not", err, store.ErrKey)
	_, err = s.Watch(ctx, "Nonsense", 1)
	wantErr(t, "Watch of a kind that is not", err, store.ErrKey)
}

func unreadableRefused(t *testing.T, s store.Store) {
	u := &api.Unreadable{K: set("a").Key(), Err: context.Canceled}
	if _, err := s.Put(testContext(t), u, store.Always()); err == nil {
		t.Error("Put of an Unreadable: no error")
	}
	if _, err := s.Get(testContext(t), u.K); err == nil {
		t.Error("Get after Put of an Unreadable: it was stored")
	}
}

func deleteConditions(t *testing.T, s store.Store) {
	ctx := testContext(t)
	for _, o := range []api.Object{set("a"), policy("p"), nsSet("n", "a")} {
		k := o.Key()
		wantErr(t, "Delete of nothing", s.Delete(ctx, k, store.Always()), store.ErrNotFound)
		wantErr(t, "Delete At of nothing", s.Delete(ctx, k, store.At(1)), store.ErrNotFound)
		wantErr(t, "Delete Absent of nothing", s.Delete(ctx, k, store.Absent()), store.ErrNotFound)
		r1 := mustPut(t, s, o, store.Absent())
		r2 := mustPut(t, s, o, store.At(r1))
		wantErr(t, "Delete At an old revision", s.Delete(ctx, k, store.At(r1)), store.ErrConflict)
		wantErr(t, "Delete Absent", s.Delete(ctx, k, store.Absent()), store.ErrConflict)
		if err := s.Delete(ctx, k, store.At(r2)); err != nil {
			t.Errorf("Delete At(%d): %v", r2, err)
		}
		_, err := s.Get(ctx, k)
		wantErr(t, "Get after Delete", err, store.ErrNotFound)
	}
}

// whileAnother writes and deletes under the condition that another resource is
// at a revision.
func whileAnother(t *testing.T, s store.Store) {
	ctx := testContext(t)
	k := set("agreed").Key()
	r1 := mustPut(t, s, set("agreed"), store.Absent())
	if _, err := s.Put(ctx, set("try"), store.Absent().While(k, r1)); errors.Is(err, errors.ErrUnsupported) {
		_, err := s.Get(ctx, set("try").Key())
		wantErr(t, "Get after a write that is not supported", err, store.ErrNotFound)
		err = s.Delete(ctx, k, store.Always().While(k, r1))
		wantErr(t, "Delete While, where Put While is not supported", err, errors.ErrUnsupported)
		t.Skip("the Store has no such condition")
	}
	for _, o := range []api.Object{set("a"), policy("p"), nsSet("n", "a")} {
		at := mustPut(t, s, o, store.Absent().While(k, r1))
		mustPut(t, s, o, store.At(at).While(k, r1))
		mustPut(t, s, o, store.Always().While(k, r1))
		at = revisionOf(t, mustGet(t, s, o.Key()))
		r2 := mustPut(t, s, set("agreed"), store.At(r1))
		for _, wrong := range []api.Revision{r1, r2 + 1000, 0} {
			_, err := s.Put(ctx, o, store.At(at).While(k, wrong))
			wantErr(t, "Put At While another is elsewhere", err, store.ErrConflict)
			_, err = s.Put(ctx, o, store.Always().While(k, wrong))
			wantErr(t, "Put Always While another is elsewhere", err, store.ErrConflict)
			wantErr(t, "Delete At While another is elsewhere", s.Delete(ctx, o.Key(), store.At(at).While(k, wrong)), store.ErrConflict)
			wantErr(t, "Delete Always While another is elsewhere", s.Delete(ctx, o.Key(), store.Always().While(k, wrong)), store.ErrConflict)
		}
		_, err := s.Put(ctx, o, store.Always().While(set("missing").Key(), r2))
		wantErr(t, "Put While what is not there", err, store.ErrConflict)
		if got := revisionOf(t, mustGet(t, s, o.Key())); got != at {
			t.Errorf("%s: revision after refused writes = %d, want %d", o.Key(), got, at)
		}
		if err := s.Delete(ctx, o.Key(), store.At(at).While(k, r2)); err != nil {
			t.Errorf("Delete of %s While another is as it was: %v", o.Key(), err)
		}
		_, err = s.Put(ctx, o, store.Absent().While(k, r1))
		wantErr(t, "Put Absent While another is elsewhere", err, store.ErrConflict)
		_, err = s.Put(ctx, o, store.At(at).While(k, r2))
		wantErr(t, "Put At of what is gone, While another is as it was", err, store.ErrNotFound)
		r1 = r2
	}
}

func createAgain(t *testing.T, s store.Store) {
	mustPut(t, s, set("a"), store.Absent())
	first := mustGet(t, s, set("a").Key()).Metadata().UID
	mustDelete(t, s, set("a").Key())
	mustPut(t, s, set("a"), store.Absent())
	if again := mustGet(t, s, set("a").Key()).Metadata().UID; again == first {
		t.Errorf("uid after delete and create = %s, the same as before", again)
	}
}

// counter has many writers add to one number by compare-and-swap.
func counter(t *testing.T, s store.Store) {
	const writers, rounds = 8, 25
	mustPut(t, s, set("counter"), store.Absent())
	ctx := testContext(t)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for n := 0; n < rounds; {
				o, err := s.Get(ctx, set("counter").Key())
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				m := o.Metadata()
				next := set("counter")
				v, _ := strconv.Atoi(m.Labels["n"])
				next.Labels = map[string]string{"n": strconv.Itoa(v + 1)}
				rev, _ := strconv.ParseInt(m.ResourceVersion, 10, 64)
				_, err = s.Put(ctx, next, store.At(api.Revision(rev)))
				switch {
				case err == nil:
					n++
				case !isConflict(err):
					t.Errorf("Put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := mustGet(t, s, set("counter").Key()).Metadata().Labels["n"]; got != strconv.Itoa(writers*rounds) {
		t.Errorf("counter = %s, want %d: updates were lost", got, writers*rounds)
	}
}

// createOnce has many writers create the same objects; each is made once.
func createOnce(t *testing.T, s store.Store) {
	const writers, objects = 8, 20
	ctx := testContext(t)
	var mu sync.Mutex
	made := map[string]int{}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range objects {
				for _, o := range []api.Object{set(fmt.Sprint("s", i)), policy(fmt.Sprint("p", i))} {
					if _, err := s.Put(ctx, o, store.Absent()); err == nil {
						mu.Lock()
						made[o.Key().String()]++
						mu.Unlock()
					} else if !isExists(err) {
						t.Errorf("Put Absent: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	for k, n := range made {
		if n != 1 {
			t.Errorf("%s was created %d times", k, n)
		}
	}
	if len(made) != 2*objects {
		t.Errorf("%d objects were created, want %d", len(made), 2*objects)
	}
}

func cancelled(t *testing.T, s store.Store) {
	mustPut(t, s, set("a"), store.Absent())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Get(ctx, set("a").Key())
	wantErr(t, "Get", err, context.Canceled)
	_, _, err = s.List(ctx, api.KindGlobalNetworkSet, store.ListOptions{})
	wantErr(t, "List", err, context.Canceled)
	_, err = s.Put(ctx, set("b"), store.Absent())
	wantErr(t, "Put", err, context.Canceled)
	wantErr(t, "Delete", s.Delete(ctx, set("a").Key(), store.Always()), context.Canceled)
	_, err = s.Watch(ctx, api.KindGlobalNetworkSet, 1)
	wantErr(t, "Watch", err, context.Canceled)
	mustGet(t, s, set("a").Key())
}
