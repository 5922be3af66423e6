// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

var listAll = store.ListOptions{}

func TestStoreErrors_BecomeStatuses(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("x"))
	for _, c := range []struct {
		err    error
		code   int
		reason string
		retry  bool
	}{
		{store.ErrNotFound, 404, api.ReasonNotFound, false},
		{store.ErrConflict, 409, api.ReasonConflict, false},
		{store.ErrExists, 409, api.ReasonAlreadyExists, false},
		{store.ErrKey, 400, api.ReasonBadRequest, false},
		{store.ErrNoSpace, 507, reasonNoSpace, false},
		{store.ErrUnavailable, 503, api.ReasonUnavailable, true},
		{context.DeadlineExceeded, 504, api.ReasonTimeout, true},
		{errors.New("secret detail"), 500, api.ReasonInternalError, false},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			e.store.put = fmt.Errorf("wrapped: %w", c.err)
			defer func() { e.store.put = nil }()
			a := e.want(c.code, "PUT", gnss+"/x", netset("x", "a", "b"))
			st := a.status(t)
			if st.Reason != c.reason || (a.header.Get("Retry-After") != "") != c.retry {
				t.Errorf("reason %q, Retry-After %q; want %q, %v", st.Reason, a.header.Get("Retry-After"), c.reason, c.retry)
			}
			if strings.Contains(st.Message, "secret detail") {
				t.Errorf("message tells what is inside: %q", st.Message)
			}
		})
	}
}

func TestReadiness_FollowsTheStore(t *testing.T) {
	e := start(t, nil)
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		if a := e.want(200, "GET", path, ""); string(a.body) != "ok" {
			t.Errorf("%s: %q", path, a.body)
		}
	}
	e.store.list = store.ErrUnavailable
	e.want(200, "GET", "/livez", "")
	e.want(503, "GET", "/readyz", "")
	e.want(503, "GET", tiers, "")
}

func TestPaths_ThatLeadNowhere(t *testing.T) {
	e := start(t, nil)
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 404},
		{"GET", "/apis/projectcalico.org/v3/unknowns", 404},
		{"GET", "/apis/projectcalico.org/v4/tiers", 404},
		{"GET", "/apis/nobody.org", 404},
		{"GET", "/apis/projectcalico.org/v9", 404},
		{"GET", "/apis/projectcalico.org/v3/tiers/", 404},
		{"GET", "/apis/projectcalico.org/v3//tiers", 404},
		{"GET", "/apis/projectcalico.org/v3/tiers/..", 400},
		{"GET", "/apis/projectcalico.org/v3/tiers/%2e%2e", 400},
		{"GET", "/apis/projectcalico.org/v3/tiers/a%2fb", 400},
		{"GET", "/apis/projectcalico.org/v3/tiers/UPPER", 400},
		{"GET", "/apis/projectcalico.org/v3/tiers/a%00", 400},
		{"GET", "/apis/projectcalico.org/v3/namespaces/a.b/networksets", 400},
		{"DELETE", "/apis/projectcalico.org/v3/tiers", 405},
		{"POST", "/apis", 405},
		{"OPTIONS", tiers, 405},
		{"GET", "/" + strings.Repeat("a", maxURL), 414},
	} {
		if st := e.want(c.code, c.method, c.path, "").status(t); st.Code != c.code || st.Message == "" {
			t.Errorf("%s %s: %+v", c.method, c.path, st)
		}
	}
	// An escaped name is the name.
	e.want(200, "GET", "/apis/projectcalico.org/v3/tiers/%64efault", "")
}

func TestHeaders_TooLargeAreRefused(t *testing.T) {
	e := start(t, nil)
	e.want(200, "GET", "/healthz", "", "X-Long", strings.Repeat("a", 8<<10))
	if a := e.do("GET", "/healthz", "", "X-Long", strings.Repeat("a", 20<<10)); a.code != 431 {
		t.Errorf("20 KiB of headers: got %d, want 431", a.code)
	}
}

// panicking is a Store with a fault.
type panicking struct{ store.Store }

func (panicking) Get(context.Context, api.Key) (api.Object, error) { panic("planted") }

func TestPanic_IsA500AndTheServerGoesOn(t *testing.T) {
	e := start(t, func(c *Config) { c.Store = panicking{c.Store} })
	st := e.want(500, "GET", tiers+"/default", "").status(t)
	if st.Reason != api.ReasonInternalError || strings.Contains(st.Message, "planted") {
		t.Errorf("status %+v", st)
	}
	e.want(200, "GET", "/healthz", "")
}

// sockets of both kinds, for who may come in.
func overTCP(t *testing.T, change func(*Config)) *httptest.Server {
	t.Helper()
	e := start(t, change)
	srv := httptest.NewServer(e.srv.Handler())
	t.Cleanup(srv.Close)
	return srv
}

func TestTCP_KnowsNobodyAndNoBrowser(t *testing.T) {
	srv := overTCP(t, nil)
	for _, c := range []struct {
		name, path, host string
		headers          []string
		code             int
	}{
		{"health", "/healthz", "", nil, 200},
		{"resources", tiers, "", nil, 401},
		{"version", "/version", "", nil, 401},
		{"nowhere", "/nowhere", "", nil, 401},
		{"bad name", tiers + "/UPPER", "", nil, 401},
		{"rebinding", "/healthz", "evil.example", nil, 403},
		{"rebinding with port", "/healthz", "evil.example:80", nil, 403},
		{"by address", "/healthz", "127.0.0.1:1", nil, 200},
		{"by IPv6 address", "/healthz", "[::1]:1", nil, 200},
		{"a page", "/healthz", "", []string{"Origin", "http://evil.example"}, 403},
		{"a page, other header", "/healthz", "", []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.host != "" {
				req.Host = c.host
			}
			for i := 0; i < len(c.headers); i += 2 {
				req.Header.Set(c.headers[i], c.headers[i+1])
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.code {
				t.Errorf("got %d, want %d", resp.StatusCode, c.code)
			}
		})
	}
}

// TestRoutes_AreGuarded asks every line of the table as everybody.
func TestRoutes_AreGuarded(t *testing.T) {
	e := start(t, nil)
	fill := strings.NewReplacer("{group}", "projectcalico.org", "{version}", "v3", "{plural}", "globalnetworksets", "{name}", "x", "{namespace}", "n")
	who := map[string]Identity{
		"anonymous": {Via: "unix"},
		"stranger":  {Via: "unix", User: "eve", Groups: []string{GroupAuthenticated}},
		"admin":     {Via: "unix", User: "root", Groups: []string{GroupAuthenticated, GroupAdmins}},
	}
	for _, rt := range append([]route{{method: "GET", path: "/no/such/path", access: asked}}, routes...) {
		for name, id := range who {
			req := httptest.NewRequestWithContext(context.WithValue(t.Context(), identityKey{}, id), rt.method, fill.Replace(rt.path), nil)
			rec := httptest.NewRecorder()
			e.srv.Handler().ServeHTTP(rec, req)
			want := map[string]string{"anonymous": "401", "stranger": "403", "admin": "in"}[name]
			if rt.access == anybody || rt.access == known && name != "anonymous" {
				want = "in"
			}
			got := fmt.Sprint(rec.Code)
			if rec.Code != 401 && rec.Code != 403 {
				got = "in"
			}
			if got != want {
				t.Errorf("%s %s as %s: got %s (%d), want %s", rt.method, rt.path, name, got, rec.Code, want)
			}
		}
		if rt.access == nobody {
			t.Errorf("%s %s: has no access", rt.method, rt.path)
		}
	}
}

func TestRoute_WithoutAccessIsRefused(t *testing.T) {
	e := start(t, nil)
	h := e.srv.enter(route{method: "GET", path: "/", handle: func(*Server, *request) response { return ok(text("in")) }})
	id := Identity{Via: "unix", User: "root", Groups: []string{GroupAdmins}}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(context.WithValue(t.Context(), identityKey{}, id), "GET", "/", nil))
	if rec.Code != 403 {
		t.Errorf("got %d, want 403", rec.Code)
	}
}

func TestImpersonation_IsRefused(t *testing.T) {
	e := start(t, nil)
	e.want(403, "GET", tiers, "", "Impersonate-User", "bob")
	e.want(403, "GET", tiers, "", "Impersonate-Group", "system:masters")
}

// TestBrokenRequests must not be answered by anything but an error.
func TestBrokenRequests(t *testing.T) {
	e := start(t, nil)
	for _, raw := range []string{
		"GET /apis HTTP/1.1\r\n\r\n",
		"POST " + gnss + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"NONSENSE\r\n\r\n",
	} {
		c, err := e.http.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(raw)); err != nil {
			t.Fatal(err)
		}
		if u, ok := c.(*net.UnixConn); ok {
			u.CloseWrite()
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && (resp.StatusCode < 400 || resp.StatusCode >= 500) {
			t.Errorf("%q: answered %s", raw, resp.Status)
		}
		c.Close()
	}
	e.want(200, "GET", "/healthz", "")
}
