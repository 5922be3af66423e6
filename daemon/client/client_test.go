// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/internal/store/storetest"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver"
)

// notOverREST are the parts of the contract that the server behind the API
// does not keep on purpose: it validates what it writes, gives uids itself,
// does not write what changes nothing, takes DNS labels only for namespaces,
// and lets nobody write ClusterInformation.
var notOverREST = []string{
	"Write/UpdateNeedsTheRevision", "Write/UIDAndTimestampSurvive", "Read/EveryKind",
	"Delete/Conditions", "List/OrderAndNamespaces", "Legacy/PolicyNames", "Concurrent/Counter", "Initialise/.*",
}

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.skip").Value.String() == "" {
		var skip []string
		for _, name := range notOverREST {
			skip = append(skip, "^TestStore$/^"+strings.ReplaceAll(name, "/", "$/^")+"$")
		}
		if err := flag.Set("test.skip", strings.Join(skip, "|")); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

const patience = 20 * time.Second

// env is a client of a server in front of a store in memory.
type env struct {
	*client.Client
	*mem.Store // PutBytes and Compact
	socket     string
	stop       func()
}

// The client is the Store; the store in memory only lends its handles.
func (e env) Get(ctx context.Context, k api.Key) (api.Object, error) { return e.Client.Get(ctx, k) }
func (e env) List(ctx context.Context, k api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	return e.Client.List(ctx, k, o)
}
func (e env) Put(ctx context.Context, o api.Object, c store.If) (api.Revision, error) {
	return e.Client.Put(ctx, o, c)
}
func (e env) Delete(ctx context.Context, k api.Key, c store.If) error {
	return e.Client.Delete(ctx, k, c)
}
func (e env) Watch(ctx context.Context, k api.Kind, after api.Revision) (store.Watch, error) {
	return e.Client.Watch(ctx, k, after)
}

func open(t *testing.T, cfg client.Config) env {
	t.Helper()
	m := mem.New(mem.Config{BookmarkEvery: 500 * time.Millisecond})
	if err := store.Initialise(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := apiserver.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- apiserver.New(apiserver.Config{Store: m}).Serve(ctx, l) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	cfg.Server = "unix://" + path
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); stop() })
	return env{c, m, path, stop}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, client.Config{}) })
}

func set(name string, nets ...string) *api.GlobalNetworkSet {
	return &api.GlobalNetworkSet{
		TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico},
		Meta:     api.Meta{Name: name}, Spec: api.NetworkSetSpec{Nets: nets},
	}
}

func TestPut_RefusalHasAllFaults(t *testing.T) {
	e := open(t, client.Config{})
	_, err := e.Put(t.Context(), set("x", "nonsense", "10.0.0.0/33"), store.Always())
	var se *client.StatusError
	if !errors.As(err, &se) || se.Status.Code != 422 || len(se.Status.Details.Causes) != 2 {
		t.Fatalf("Put of an invalid object: %v", err)
	}
	var st *api.Status
	if !errors.As(err, &st) || !strings.Contains(err.Error(), "spec.nets[1]") {
		t.Errorf("error %v, want the server's words", err)
	}
}

func TestWrite_TheServerGivesTheName(t *testing.T) {
	e := open(t, client.Config{})
	o := set("")
	o.GenerateName = "made-"
	written, err := e.Write(t.Context(), o, store.Absent())
	if err != nil || !strings.HasPrefix(written.Key().Name, "made-") {
		t.Fatalf("Write of generateName: %v, %v, want a name that begins with made-", written, err)
	}
	if _, err := e.Write(t.Context(), o, store.Always()); err == nil {
		t.Error("Write of no name over anything: no error")
	}
}

func TestPut_UnchangedKeepsItsRevision(t *testing.T) {
	e := open(t, client.Config{})
	one, err := e.Put(t.Context(), set("x", "10.0.0.0/8"), store.Always())
	if err != nil {
		t.Fatal(err)
	}
	two, err := e.Put(t.Context(), set("x", "10.0.0.0/8"), store.Always())
	if err != nil || two != one {
		t.Errorf("Put of the same: revision %d, %v; want %d", two, err, one)
	}
	if _, err := e.Put(t.Context(), set("x"), store.At(one-1)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Put At an old revision: %v", err)
	}
	if err := e.Delete(t.Context(), set("x").Key(), store.At(one-1)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Delete At an old revision: %v", err)
	}
	if err := e.Delete(t.Context(), set("x").Key(), store.Absent()); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Delete Absent: %v", err)
	}
	if err := e.Delete(t.Context(), set("x").Key(), store.At(one)); err != nil {
		t.Errorf("Delete At: %v", err)
	}
	if err := e.Delete(t.Context(), set("x").Key(), store.Absent()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Delete Absent of nothing: %v", err)
	}
}

func TestBuiltins_AreShownOnRequestOnly(t *testing.T) {
	k := api.Key{Kind: api.KindProfile, Name: api.DefaultAllowProfile}
	plain := open(t, client.Config{})
	if _, err := plain.Get(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get: %v, want %v", err, store.ErrNotFound)
	}
	if objs, _, err := plain.List(t.Context(), k.Kind, store.ListOptions{}); err != nil || len(objs) != 0 {
		t.Errorf("List: %v, %v", objs, err)
	}
	shown := open(t, client.Config{Builtins: true})
	if _, err := shown.Get(t.Context(), k); err != nil {
		t.Errorf("Get with Builtins: %v", err)
	}
	if objs, _, err := shown.List(t.Context(), k.Kind, store.ListOptions{}); err != nil || len(objs) != 1 {
		t.Errorf("List with Builtins: %v, %v", objs, err)
	}
}

func TestUnreadable_ArrivesWithWhatIsEnforcedInstead(t *testing.T) {
	var warnings []string
	e := open(t, client.Config{})
	k := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "p"}
	value := `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"p","annotations":{"projectcalico.org/metadata":"{\"name\":\"p\"}"}},` +
		`"spec":{"tier":"default","selector":"all()","types":["Ingress"],"ingress":[{"action":"Perhaps"}]}}`
	if _, err := e.PutBytes(t.Context(), k, []byte(value)); err != nil {
		t.Fatal(err)
	}
	direct, err := e.Store.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	over, err := e.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	want, got := direct.(*api.Unreadable), over.(*api.Unreadable)
	if want.Salvaged == nil {
		t.Fatal("the test's value is not salvaged at all")
	}
	if diff := cmp.Diff(want.Salvaged, got.Salvaged); diff != "" || got.Err.Error() != want.Err.Error() || string(got.Raw) != value {
		t.Errorf("over REST: %v, raw %s, salvaged (-direct +REST):\n%s", got.Err, got.Raw, diff)
	}
	// For people it is shown with the reason.
	people, err := client.New(client.Config{Server: "unix://" + e.socket, Builtins: true, OnWarning: func(w string) { warnings = append(warnings, w) }})
	if err != nil {
		t.Fatal(err)
	}
	defer people.Close()
	objs, _, err := people.List(t.Context(), k.Kind, store.ListOptions{})
	if err != nil || len(objs) != 1 || len(warnings) != 1 || !strings.Contains(warnings[0], "Perhaps") {
		t.Fatalf("List for people: %v, %v, warnings %q", objs, err, warnings)
	}
	if u, ok := objs[0].(*api.Unreadable); !ok || u.Err == nil || u.Key() != k {
		t.Errorf("List for people: %#v", objs[0])
	}
}

// TestNewerServer: what this program does not understand is not taken for
// something it does.
func TestNewerServer_FieldIsNotIgnored(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.p","resourceVersion":"7"},`+
			`"spec":{"tier":"default","selector":"all()","types":["Ingress"],"ingress":[{"action":"Allow","onlyOnTuesdays":true}]}}`)
	}))
	defer srv.Close()
	c, err := client.New(client.Config{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o, err := c.Get(t.Context(), api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "default.p"})
	if err != nil {
		t.Fatal(err)
	}
	u, ok := o.(*api.Unreadable)
	if !ok || u.Key().Name != "default.p" || !strings.Contains(u.Err.Error(), "onlyOnTuesdays") || u.Salvaged == nil {
		t.Fatalf("got %#v", o)
	}
	if p := u.Salvaged.(*api.GlobalNetworkPolicy); len(p.Spec.Ingress) != 1 || p.Spec.Ingress[0].Action != api.Deny || p.Name != "default.p" {
		t.Errorf("salvaged: %+v", p)
	}
}

func TestServerAway_IsErrUnavailable(t *testing.T) {
	e := open(t, client.Config{})
	w, err := e.Watch(t.Context(), api.KindTier, mustRevision(t, e))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e.stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for err == nil {
		_, err = w.Next(ctx)
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Next after the server stopped: %v", err)
	}
	_, err = e.Get(ctx, api.Key{Kind: api.KindTier, Name: "default"})
	var conn *client.ConnError
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, os.ErrNotExist) || !errors.As(err, &conn) {
		t.Errorf("Get after the server stopped: %v", err)
	}
	if _, err := e.Watch(ctx, api.KindTier, 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Watch after the server stopped: %v", err)
	}
}

func mustRevision(t *testing.T, e env) api.Revision {
	t.Helper()
	_, rev, err := e.List(t.Context(), api.KindTier, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// TestWatch_GoesOnAfterAnOrderlyEnd: servers end watches now and then.
func TestWatch_GoesOnAfterAnOrderlyEnd(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rv := r.URL.Query().Get("resourceVersion")
		asked = append(asked, rv)
		switch len(asked) {
		case 1:
			fmt.Fprint(w, `{"type":"ADDED","object":{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"a","resourceVersion":"7"},"spec":{}}}`+"\n")
			fmt.Fprint(w, `{"type":"BOOKMARK","object":{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"resourceVersion":"9"}}}`+"\n")
		case 2:
			fmt.Fprint(w, `{"type":"DELETED","object":{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"a","resourceVersion":"11"},"spec":{}}}`+"\n")
		case 3:
			fmt.Fprintln(w, `{"type":"ERROR","object":`+encode(api.Failure(410, api.ReasonExpired, "gone"))+`}`)
		}
	}))
	defer srv.Close()
	c, err := client.New(client.Config{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := c.Watch(t.Context(), api.KindGlobalNetworkSet, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []string
	for err == nil {
		var evs []api.Event
		evs, err = w.Next(ctx)
		for _, ev := range evs {
			got = append(got, fmt.Sprintf("%s %d %v", ev.Key.Name, ev.Revision, ev.Object != nil))
		}
	}
	if diff := cmp.Diff([]string{"a 7 true", " 9 false", "a 11 false"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"5", "9", "11"}, asked); diff != "" {
		t.Errorf("revisions asked for (-want +got):\n%s", diff)
	}
	if !errors.Is(err, store.ErrCompacted) {
		t.Errorf("at the end: %v, want %v", err, store.ErrCompacted)
	}
}

func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func TestStatuses_BecomeStoreErrors(t *testing.T) {
	var answer *api.Status
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer == nil {
			http.Error(w, "<html>", http.StatusBadGateway)
			return
		}
		w.WriteHeader(answer.Code)
		fmt.Fprint(w, encode(answer))
	}))
	defer srv.Close()
	c, err := client.New(client.Config{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := api.Key{Kind: api.KindTier, Name: "x"}
	details := &api.StatusDetails{Name: "x", Kind: "tiers"}
	all := []error{store.ErrNotFound, store.ErrExists, store.ErrConflict, store.ErrCompacted, store.ErrNoSpace, store.ErrUnavailable}
	for _, c2 := range []struct {
		code    int
		reason  string
		details *api.StatusDetails
		want    error
	}{
		{404, api.ReasonNotFound, details, store.ErrNotFound}, {404, api.ReasonNotFound, nil, nil},
		{409, api.ReasonAlreadyExists, details, store.ErrExists}, {409, api.ReasonConflict, details, store.ErrConflict},
		{410, api.ReasonExpired, nil, store.ErrCompacted}, {507, "InsufficientStorage", nil, store.ErrNoSpace},
		{503, api.ReasonUnavailable, nil, store.ErrUnavailable}, {504, api.ReasonTimeout, nil, store.ErrUnavailable},
		{429, api.ReasonTooManyRequests, nil, store.ErrUnavailable}, {403, api.ReasonForbidden, nil, nil},
		{401, api.ReasonUnauthorized, nil, nil}, {422, api.ReasonInvalid, details, nil}, {500, api.ReasonInternalError, nil, nil},
	} {
		answer = api.Failure(c2.code, c2.reason, "the server's words")
		answer.Details = c2.details
		_, err := c.Get(t.Context(), k)
		if err == nil || err.Error() != "the server's words" {
			t.Errorf("%d: error %v, want the server's words", c2.code, err)
		}
		for _, e := range all {
			if errors.Is(err, e) != (e == c2.want) {
				t.Errorf("%d %s: errors.Is(%v) = %v", c2.code, c2.reason, e, errors.Is(err, e))
			}
		}
	}
	answer = nil
	if _, err := c.Get(t.Context(), k); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("an answer that is no Status: %v", err)
	}
}

func TestNew_RefusesBadServers(t *testing.T) {
	for _, s := range []string{"unix:relative", "unix://host/path", "unix://", "ftp://x", "x", "http://", "http://%zz", "127.0.0.1:80"} {
		if _, err := client.New(client.Config{Server: s}); err == nil {
			t.Errorf("New(%q): no error", s)
		}
	}
}

func TestContext_CutsASilentServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := client.New(client.Config{Server: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, call := range map[string]func(context.Context) error{
		"Get": func(ctx context.Context) error {
			_, err := c.Get(ctx, api.Key{Kind: api.KindTier, Name: "x"})
			return err
		},
		"Watch": func(ctx context.Context) error { _, err := c.Watch(ctx, api.KindTier, 1); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want %v", name, err, context.DeadlineExceeded)
		}
		cancel()
	}
}

func TestServerVersion(t *testing.T) {
	e := open(t, client.Config{})
	if v, err := e.ServerVersion(t.Context()); err != nil || v != api.Version {
		t.Errorf("ServerVersion: %q, %v, want %q", v, err, api.Version)
	}
}
