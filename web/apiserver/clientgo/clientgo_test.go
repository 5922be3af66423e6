// SPDX-License-Identifier: Apache-2.0

// Package clientgo has tests of Kubernetes' client libraries, unmodified,
// against a server whose address is in RIPSTOP_TEST_SERVER. A POST to
// RIPSTOP_TEST_CONTROL + "/restart", "/compact" or "/delete?name=" restarts
// the server, forgets the store's history, or deletes a set behind its back
// while it is down.
package clientgo

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const patience = 60 * time.Second

var sets = schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: "globalnetworksets"}

func config(t *testing.T) *rest.Config {
	url := os.Getenv("RIPSTOP_TEST_SERVER")
	if url == "" {
		t.Skip("RIPSTOP_TEST_SERVER is not set: run TestClientGo of web/apiserver")
	}
	return &rest.Config{Host: url}
}

func control(t *testing.T, what string) {
	t.Helper()
	resp, err := http.Post(os.Getenv("RIPSTOP_TEST_CONTROL")+"/"+what, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s", what, resp.Status)
	}
}

func set(name, net string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"nets": []any{net}},
	}}
}

// eventually waits until check is nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}

// TestDynamicInformer_FollowsChangesCompactionAndRestart.
func TestDynamicInformer_FollowsChangesCompactionAndRestart(t *testing.T) {
	dyn, err := dynamic.NewForConfig(config(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory := dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0)
	informer := factory.ForResource(sets)
	var mu sync.Mutex
	seen := map[string]int{}
	note := func(what string) func(any) {
		return func(o any) {
			if d, is := o.(toolscache.DeletedFinalStateUnknown); is {
				o = d.Obj
			}
			mu.Lock()
			defer mu.Unlock()
			seen[what+" "+o.(*unstructured.Unstructured).GetName()]++
		}
	}
	if _, err := informer.Informer().AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: note("add"), UpdateFunc: func(_, o any) { note("update")(o) }, DeleteFunc: note("delete"),
	}); err != nil {
		t.Fatal(err)
	}
	saw := func(what string) {
		t.Helper()
		eventually(t, what, func() error {
			mu.Lock()
			defer mu.Unlock()
			if seen[what] == 0 {
				return fmt.Errorf("seen %v", seen)
			}
			return nil
		})
	}
	create := func(name string) {
		t.Helper()
		eventually(t, "creating "+name, func() error {
			_, err := dyn.Resource(sets).Create(ctx, set(name, "10.0.0.0/8"), metav1.CreateOptions{})
			return err
		})
	}
	create("early")
	factory.Start(ctx.Done())
	if !toolscache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		t.Fatal("the cache is not in sync")
	}
	saw("add early")
	create("inf-a")
	create("inf-b")
	saw("add inf-a")
	if _, err := dyn.Resource(sets).Patch(ctx, "inf-a", types.MergePatchType, []byte(`{"spec":{"nets":["10.1.0.0/16"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	saw("update inf-a")
	if _, err := dyn.Resource(sets).Apply(ctx, "inf-c", set("inf-c", "10.2.0.0/16"), metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
		t.Fatal(err)
	}
	saw("add inf-c")

	// While the server is away a set is deleted and history is forgotten.
	control(t, "delete?name=inf-b")
	control(t, "compact")
	saw("delete inf-b")
	control(t, "restart")
	create("inf-d")
	saw("add inf-d")
	if err := dyn.Resource(sets).Delete(ctx, "inf-a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	saw("delete inf-a")
	eventually(t, "the lister has what the server has", func() error {
		list, err := dyn.Resource(sets).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		n := len(list.Items)
		for list.GetContinue() != "" {
			if list, err = dyn.Resource(sets).List(ctx, metav1.ListOptions{Limit: 1, Continue: list.GetContinue()}); err != nil {
				return err
			}
			n += len(list.Items)
		}
		if have := len(informer.Informer().GetStore().ListKeys()); have != n {
			return fmt.Errorf("the lister has %d, the server %d", have, n)
		}
		return nil
	})
}

// TestControllerRuntimeCache_ReadsWhatAClientWrites: discovery, REST mapping,
// cache and client of controller-runtime.
func TestControllerRuntimeCache_ReadsWhatAClientWrites(t *testing.T) {
	cfg := config(t)
	ctx, cancel := context.WithCancel(t.Context())
	scheme := runtime.NewScheme()
	reads, err := cache.New(cfg, cache.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := reads.Start(ctx); err != nil {
			t.Errorf("cache: %v", err)
		}
	})
	defer running.Wait()
	defer cancel()
	writes, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) (*unstructured.Unstructured, error) {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(sets.GroupVersion().WithKind("GlobalNetworkSet"))
		return o, reads.Get(ctx, client.ObjectKey{Name: name}, o)
	}
	if err := writes.Create(ctx, set("cr-a", "10.0.0.0/8")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "cr-a is in the cache", func() error { _, err := read("cr-a"); return err })
	control(t, "compact")
	control(t, "restart")
	eventually(t, "a write after the restart", func() error {
		o, err := read("cr-a")
		if err != nil {
			return err
		}
		o = o.DeepCopy()
		o.SetLabels(map[string]string{"a": "b"})
		return writes.Update(ctx, o)
	})
	eventually(t, "the cache has the label", func() error {
		o, err := read("cr-a")
		if err == nil && o.GetLabels()["a"] != "b" {
			err = fmt.Errorf("labels %v", o.GetLabels())
		}
		return err
	})
	// Two writers in conflict: the second one is told.
	stale, err := read("cr-a")
	if err != nil {
		t.Fatal(err)
	}
	stale = stale.DeepCopy()
	stale.SetResourceVersion("1")
	if err := writes.Update(ctx, stale); client.IgnoreNotFound(err) == nil {
		t.Errorf("an update from resourceVersion 1: %v, want a conflict", err)
	}
	if err := writes.Delete(ctx, set("cr-a", "")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "cr-a is out of the cache", func() error {
		if _, err := read("cr-a"); client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Errorf("got %v, want not found", err)
		}
		return nil
	})
}
