// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/daemon/store"
)

// patience bounds every wait of the tests; nothing should ever take so long.
const patience = 20 * time.Second

// env is a server on a Unix socket with a client that speaks plain HTTP.
type env struct {
	t     testing.TB
	store *faulty
	mem   clienttest.Store
	srv   *Server
	http  *http.Client
	stop  func() error
}

// faulty is a Store in which a method can be made to fail.
type faulty struct {
	store.Store
	get, list, put, delete, watch error
}

func (f *faulty) Get(ctx context.Context, k api.Key) (api.Object, error) {
	if f.get != nil {
		return nil, f.get
	}
	return f.Store.Get(ctx, k)
}

func (f *faulty) List(ctx context.Context, k api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	if f.list != nil {
		return nil, 0, f.list
	}
	return f.Store.List(ctx, k, o)
}

func (f *faulty) Put(ctx context.Context, o api.Object, c store.If) (api.Revision, error) {
	if f.put != nil {
		return 0, f.put
	}
	return f.Store.Put(ctx, o, c)
}

func (f *faulty) Delete(ctx context.Context, k api.Key, c store.If) error {
	if f.delete != nil {
		return f.delete
	}
	return f.Store.Delete(ctx, k, c)
}

func (f *faulty) Watch(ctx context.Context, k api.Kind, r api.Revision) (store.Watch, error) {
	if f.watch != nil {
		return nil, f.watch
	}
	return f.Store.Watch(ctx, k, r)
}

// start runs a server until the test ends. change, if not nil, changes the
// Config.
func start(t testing.TB, change func(*Config)) *env {
	t.Helper()
	m := clienttest.NewStore(t, 0)
	e := &env{t: t, mem: m, store: &faulty{Store: m}}
	cfg := Config{Store: e.store}
	if change != nil {
		change(&cfg)
	}
	e.srv = New(cfg)
	path := filepath.Join(t.TempDir(), "run", "api.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.srv.Serve(ctx, l) }()
	// What counts labels has come to rest before a test makes a method fail.
	known, forget := context.WithTimeout(ctx, patience)
	e.srv.census.catchUp(known)
	forget()
	stopped := false
	e.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return fmt.Errorf("Serve did not return")
		}
	}
	e.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(func() {
		e.http.CloseIdleConnections()
		if err := e.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return e
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// status is the answer as a Status.
func (a answer) status(t testing.TB) *api.Status {
	t.Helper()
	var st api.Status
	if err := json.Unmarshal(a.body, &st); err != nil || st.Kind != "Status" {
		t.Fatalf("answer %d is not a Status: %s", a.code, a.body)
	}
	return &st
}

// decode is the answer as v.
func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("answer %d: %v: %s", a.code, err, a.body)
	}
}

// do makes a request. headers are pairs of name and value.
func (e *env) do(method, path, body string, headers ...string) answer {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := e.http.Do(req)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

// want makes a request whose answer must have a code.
func (e *env) want(code int, method, path, body string, headers ...string) answer {
	e.t.Helper()
	a := e.do(method, path, body, headers...)
	if a.code != code {
		e.t.Fatalf("%s %s: got %d, want %d: %s", method, path, a.code, code, a.body)
	}
	return a
}

// The place of resources of the tests.
const (
	tiers = "/apis/projectcalico.org/v3/tiers"
	gnps  = "/apis/projectcalico.org/v3/globalnetworkpolicies"
	gnss  = "/apis/projectcalico.org/v3/globalnetworksets"
	pools = "/apis/projectcalico.org/v3/ippools"
	profs = "/apis/projectcalico.org/v3/profiles"
)

// netset is a global network set as JSON; labels are pairs.
func netset(name string, labels ...string) string {
	m := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		m[labels[i]] = labels[i+1]
	}
	o := &api.GlobalNetworkSet{
		TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico},
		Meta:     api.Meta{Name: name, Labels: m}, Spec: api.NetworkSetSpec{Nets: []string{"10.0.0.0/8"}},
	}
	data, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// gnp is a policy in a tier as JSON.
func gnp(name, tier string) string {
	return fmt.Sprintf(`{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":%q},"spec":{"tier":%q,"selector":"all()"}}`, name, tier)
}

// sample is the sample of a kind in the tests of package api, as JSON.
func sample(t testing.TB, kind api.Kind) api.Object {
	t.Helper()
	path := filepath.Join("../../daemon/api/testdata", strings.ToLower(string(kind))+".yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := api.DecodeAll(data, path)
	if err != nil || len(docs) != 1 {
		t.Fatalf("%s: %d documents, %v", path, len(docs), err)
	}
	switch o := docs[0].Object.(type) {
	case *api.RoleBinding:
		o.Spec.Role = "viewer" // one that is there
	case *api.Credential:
		o.Spec.Expires = api.Time{Time: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	}
	return docs[0].Object
}

// encode is o as JSON.
func encode(t *testing.T, o any) string {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(data))
}
