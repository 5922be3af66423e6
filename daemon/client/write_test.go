// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"errors"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

func TestOptions_DryRunWritesNothing(t *testing.T) {
	e, dry := open(t, client.Config{}), client.Options{DryRun: true}
	if o, err := e.Create(t.Context(), set("x", "10.0.0.0/8"), dry); err != nil || o.Key().Name != "x" {
		t.Fatalf("Create: %v, %v", o, err)
	}
	if _, err := e.Get(t.Context(), set("x").Key()); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a dry create has created: %v", err)
	}
	first, err := e.Create(t.Context(), set("x", "10.0.0.0/8"), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func() error{
		"replace": func() error { _, err := e.Replace(t.Context(), set("x", "10.1.0.0/16"), dry); return err },
		"patch": func() error {
			_, err := e.Client.Patch(t.Context(), set("x").Key(), client.MergePatch, []byte(`{"spec":{"nets":["10.2.0.0/16"]}}`), dry)
			return err
		},
		"remove": func() error { return e.Remove(t.Context(), set("x").Key(), store.Always(), dry) },
	} {
		if err := write(); err != nil {
			t.Errorf("dry %s: %v", name, err)
		}
		if o, err := e.Get(t.Context(), set("x").Key()); err != nil || o.Metadata().ResourceVersion != first.Metadata().ResourceVersion {
			t.Errorf("a dry %s has written: %v, %v", name, o, err)
		}
	}
}

func TestReplace_KeepsToTheVersionAndNeverCreates(t *testing.T) {
	e := open(t, client.Config{})
	if _, err := e.Replace(t.Context(), set("x"), client.Options{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Replace of nothing: %v, want ErrNotFound", err)
	}
	old, err := e.Create(t.Context(), set("x", "10.0.0.0/8"), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Replace(t.Context(), set("x", "10.1.0.0/16"), client.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Replace(t.Context(), old, client.Options{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Replace over a newer version: %v, want ErrConflict", err)
	}
	if _, err := e.Create(t.Context(), old, client.Options{}); !errors.Is(err, store.ErrExists) {
		t.Errorf("Create of what is there: %v, want ErrExists", err)
	}
}

func TestPatch_AppliedFieldsBelongToTheirManager(t *testing.T) {
	e := open(t, client.Config{})
	body := func(net string) []byte {
		return []byte(`{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{"nets":["` + net + `"]}}`)
	}
	apply := func(net string, opt client.Options) error {
		_, err := e.Client.Patch(t.Context(), set("x").Key(), client.ApplyPatch, body(net), opt)
		return err
	}
	if err := apply("10.0.0.0/8", client.Options{Manager: "one"}); err != nil {
		t.Fatal(err)
	}
	if err := apply("10.1.0.0/16", client.Options{Manager: "two"}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("another manager's field was taken: %v", err)
	}
	if err := apply("10.1.0.0/16", client.Options{Manager: "two", Force: true}); err != nil {
		t.Errorf("with force: %v", err)
	}
	if _, err := e.Client.Patch(t.Context(), set("x").Key(), client.JSONPatch, []byte(`[{"op":"add","path":"/spec/nets/-","value":"10.2.0.0/16"}]`), client.Options{}); err != nil {
		t.Error(err)
	}
	o, err := e.Get(t.Context(), set("x").Key())
	if err != nil || len(o.(*api.GlobalNetworkSet).Spec.Nets) != 2 {
		t.Errorf("after a JSON patch: %+v, %v", o, err)
	}
}

func TestMatching_ListAndWatchSeeOnlyWhatMatches(t *testing.T) {
	e := open(t, client.Config{})
	for name, team := range map[string]string{"a": "blue", "b": "red"} {
		o := set(name)
		o.Labels = map[string]string{"team": team}
		if _, err := e.Create(t.Context(), o, client.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	blue := client.Match{Labels: "team=blue"}
	objs, rev, err := e.ListMatching(t.Context(), api.KindGlobalNetworkSet, blue)
	if err != nil || len(objs) != 1 || objs[0].Key().Name != "a" {
		t.Fatalf("list of team=blue: %v, %v", objs, err)
	}
	if objs, _, err := e.ListMatching(t.Context(), api.KindGlobalNetworkSet, client.Match{Fields: "metadata.name=b"}); err != nil || len(objs) != 1 || objs[0].Key().Name != "b" {
		t.Errorf("list of metadata.name=b: %v, %v", objs, err)
	}
	w, err := e.WatchMatching(t.Context(), api.KindGlobalNetworkSet, blue, rev)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, patch := range []struct{ name, team string }{{"b", "green"}, {"a", "red"}} { // the first is not ours, the second leaves
		if _, err := e.Client.Patch(t.Context(), set(patch.name).Key(), client.MergePatch, []byte(`{"metadata":{"labels":{"team":"`+patch.team+`"}}}`), client.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		evs, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range evs {
			switch {
			case ev.Key.Name == "":
			case ev.Key.Name == "a" && ev.Object == nil:
				return
			default:
				t.Fatalf("event of %s (object %v)", ev.Key, ev.Object)
			}
		}
	}
}
