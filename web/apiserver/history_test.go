// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	changes "github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/store"
)

// netsNow are the nets of the sets that there are, by name.
func netsNow(t *testing.T, e *env) map[string]string {
	t.Helper()
	objs, _, err := e.mem.List(t.Context(), api.KindGlobalNetworkSet, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now := map[string]string{}
	for _, o := range objs {
		now[o.Key().Name] = o.(*api.GlobalNetworkSet).Spec.Nets[0]
	}
	return now
}

// TestHistory_EveryRevisionCanBeGoneBackTo: with writes of several programs
// across each other, changes that are confirmed or rolled back, and writes over
// them, the history says how everything was at each revision.
func TestHistory_EveryRevisionCanBeGoneBackTo(t *testing.T) {
	const path = "/apis/projectcalico.org/v3/globalnetworksets"
	e := start(t, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "c"}
	count := 0
	body := func(name string) string {
		count++
		return fmt.Sprintf(`{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":%q},"spec":{"nets":["2001:db8::%x"]}}`, name, count)
	}
	plain := func() {
		name, by := names[r.IntN(len(names))], fmt.Sprintf("program-%d", r.IntN(3))
		_, there := netsNow(t, e)[name]
		switch {
		case !there:
			e.want(201, "POST", path, body(name), "User-Agent", by)
		case r.IntN(3) == 0:
			e.want(200, "DELETE", path+"/"+name, "", "User-Agent", by)
		default:
			e.want(200, "PUT", path+"/"+name, body(name), "User-Agent", by)
		}
	}
	revisions := func() []*api.RevisionRecord {
		e.want(200, "GET", "/apis/ripstop.io/v1/revisions", "")
		all, err := changes.Revisions(t.Context(), e.mem)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	states := map[int64]map[string]string{}
	for range 60 {
		for range 1 + r.IntN(4) {
			plain()
		}
		if r.IntN(2) == 0 {
			name := names[r.IntN(len(names))]
			write := fmt.Sprintf(`{"verb":"create","kind":"GlobalNetworkSet","body":%s}`, body(name))
			if _, there := netsNow(t, e)[name]; there {
				write = fmt.Sprintf(`{"verb":"update","kind":"GlobalNetworkSet","name":%q,"body":%s}`, name, body(name))
			}
			var done api.ChangeRequest
			a := e.want(201, "POST", api.ChangeRequestPath, `{"apiVersion":"ripstop.io/v1","kind":"ChangeRequest","spec":{"timeout":"1m","writes":[`+write+`]}}`)
			if err := json.Unmarshal(a.body, &done); err != nil {
				t.Fatal(err)
			}
			for range r.IntN(3) {
				plain()
			}
			e.want(200, "POST", changesPath+"/"+done.Status.Change+"/"+[]string{"confirm", "rollback"}[r.IntN(2)], "{}")
		}
		all := revisions()
		states[all[len(all)-1].Spec.Number] = netsNow(t, e)
	}
	all := revisions()
	looked := 0
	for number, want := range states {
		objects, err := changes.Before(all, number)
		if err != nil {
			if number < all[0].Spec.Number-1 && strings.Contains(err.Error(), "not kept") {
				continue
			}
			t.Fatal(err)
		}
		looked++
		got := netsNow(t, e)
		for _, o := range objects {
			then, err := o.Before.Object(o.Key())
			if err != nil {
				t.Fatal(err)
			}
			delete(got, o.Name)
			if then != nil {
				got[o.Name] = then.(*api.GlobalNetworkSet).Spec.Nets[0]
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("revision %d: the history says %v, it was %v", number, got, want)
		}
	}
	if looked < 20 {
		t.Errorf("%d revisions were looked at, want 20 or more", looked)
	}
	if _, err := changes.Before(all, all[0].Spec.Number-2); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("before what is kept: %v", err)
	}
}

// TestHistory_WhatCouldNotBeReadIsNotTakenForNothing: whoever went back to
// before it was put right would delete it.
func TestHistory_WhatCouldNotBeReadIsNotTakenForNothing(t *testing.T) {
	const path = "/apis/projectcalico.org/v3/globalnetworksets"
	e := start(t, nil)
	e.want(201, "POST", path, `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"other"},"spec":{"nets":["10.0.0.0/8"]}}`)
	k := api.Key{Kind: api.KindGlobalNetworkSet, Name: "x"}
	if _, err := e.mem.PutBytes(t.Context(), k, []byte(`{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"x"},"spec":{"nets":7}}`)); err != nil {
		t.Fatal(err)
	}
	e.want(200, "PUT", path+"/x", `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{"nets":["fd00::/8"]}}`)
	var list struct{ Items []*api.RevisionRecord }
	if err := json.Unmarshal(e.want(200, "GET", "/apis/ripstop.io/v1/revisions", "").body, &list); err != nil {
		t.Fatal(err)
	}
	objs, err := changes.Before(list.Items, 0)
	if err == nil || !strings.Contains(err.Error(), "could not be read") {
		t.Errorf("before all: %+v, %v; want an error that says that a value could not be read", objs, err)
	}
}

// TestHistory_AfterAGapThereIsNoWayBack: what was written while the history
// could not be would be left as it is by whoever went back.
func TestHistory_AfterAGapThereIsNoWayBack(t *testing.T) {
	e := start(t, nil)
	h := newHistory(e.mem, slog.New(slog.DiscardHandler))
	record := func(ctx context.Context, name, change string) {
		rev := newRevision("u", "unix", "test", time.Now())
		rev.Spec.Change = change
		addObject(rev, api.Key{Kind: api.KindGlobalNetworkSet, Name: name}, nil, &api.GlobalNetworkSet{
			TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: name}})
		h.record(ctx, rev)
	}
	away, cancel := context.WithCancel(t.Context())
	cancel()
	record(away, "lost", "")
	record(t.Context(), "on trial", "c") // may be rolled back, and then does not count
	record(t.Context(), "next", "")
	record(t.Context(), "last", "")
	objs, _, err := e.mem.List(t.Context(), api.KindRevision, store.ListOptions{})
	if err != nil || len(objs) != 3 {
		t.Fatalf("revisions: %v, %v; want three", objs, err)
	}
	for i, want := range []bool{true, true, false} {
		if got := objs[i].(*api.RevisionRecord).Spec.WithoutValues; got != want {
			t.Errorf("revision %d is without values: %v, want %v", i+1, got, want)
		}
	}
}
