// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// asking is a request as the limiter sees it.
func asking(id Identity, remote string, watch bool, headers ...string) *request {
	hr := httptest.NewRequest("GET", "/", nil)
	hr.RemoteAddr = remote
	for i := 0; i < len(headers); i += 2 {
		hr.Header.Set(headers[i], headers[i+1])
	}
	return &request{Request: hr, id: id, watch: watch}
}

// newTestLimiter is a limiter whose clock stands until it is moved.
func newTestLimiter(l Limits) (*limiter, *time.Time) {
	now := time.Unix(1_000_000, 0)
	return newLimiter(l.withDefaults(), func() time.Time { return now }), &now
}

func retryAfter(t *testing.T, err error) int {
	t.Helper()
	st, is := err.(*api.Status)
	if !is || st.Code != 429 || st.Reason != api.ReasonTooManyRequests || st.Details == nil {
		t.Fatalf("got %v, want a Status 429 with details", err)
	}
	return st.Details.RetryAfterSeconds
}

func TestLimiter_OneIdentityThatIsTooFastStopsNobodyElse(t *testing.T) {
	l, now := newTestLimiter(Limits{Rate: 2, Burst: 3})
	eve, bob := Identity{User: "eve", Via: "tcp"}, Identity{User: "bob", Via: "tcp"}
	pass := func(id Identity, remote string) error {
		done, err := l.admit(asking(id, remote, false))
		if err == nil {
			done()
		}
		return err
	}
	for i := range 3 {
		if err := pass(eve, "192.0.2.1:1"); err != nil {
			t.Fatalf("request %d of the burst: %v", i, err)
		}
	}
	// From wherever she comes.
	if s := retryAfter(t, pass(eve, "192.0.2.2:1")); s != 1 {
		t.Errorf("Retry-After %d, want 1", s)
	}
	if err := pass(bob, "192.0.2.1:1"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	if err := pass(Identity{Via: "tcp"}, "192.0.2.1:1"); err != nil {
		t.Errorf("somebody unknown: %v", err)
	}
	*now = now.Add(500 * time.Millisecond)
	if err := pass(eve, "192.0.2.1:1"); err != nil {
		t.Errorf("half a second later: %v", err)
	}
}

func TestLimiter_StrangersAreCountedByAddress(t *testing.T) {
	l, _ := newTestLimiter(Limits{Rate: 1, Burst: 1})
	for _, c := range []struct {
		remote string
		ok     bool
	}{
		{"192.0.2.1:1", true}, {"192.0.2.1:2", false}, {"[::ffff:192.0.2.1]:3", false}, {"192.0.2.2:1", true},
		{"[2001:db8::1]:1", true}, {"[2001:db8::2]:1", false}, {"[2001:db8:0:1::1]:1", true}, {"[::1]:1", true},
	} {
		if _, err := l.admit(asking(Identity{Via: "tcp"}, c.remote, false)); (err == nil) != c.ok {
			t.Errorf("%s: %v, want in: %v", c.remote, err, c.ok)
		}
	}
}

func TestLimiter_BoundsWhatIsUnderWay(t *testing.T) {
	l, _ := newTestLimiter(Limits{Requests: 2, AllRequests: 3, Watches: 1, AdminWatches: 2})
	eve, bob := Identity{User: "eve", Via: "tcp"}, Identity{User: "bob", Via: "tcp"}
	admin := Identity{User: "root", Via: "unix", Groups: []string{GroupAdmins}}
	var ends []func()
	try := func(id Identity, watch, want bool) {
		t.Helper()
		done, err := l.admit(asking(id, "192.0.2.1:1", watch))
		if (err == nil) != want {
			t.Errorf("%s, watch %v: %v, want in: %v", id, watch, err, want)
		}
		if err == nil {
			ends = append(ends, done)
		}
	}
	try(eve, false, true)
	try(eve, false, true)
	try(eve, false, false) // her own limit
	try(bob, false, true)
	try(bob, false, false) // that of all
	try(bob, true, true)   // watches are not counted there
	try(bob, true, false)
	try(admin, true, true)
	try(admin, true, true)
	try(admin, true, false)
	for _, end := range ends {
		end()
	}
	try(eve, false, true)
	try(bob, true, true)
	if l.running != 1 {
		t.Errorf("%d requests are counted, want 1", l.running)
	}
}

func TestLimiter_FailedLoginsLockTheAddressForAWhile(t *testing.T) {
	l, now := newTestLimiter(Limits{})
	const there = "192.0.2.1:1"
	guess := func() error {
		r := asking(Identity{Via: "tcp"}, there, false, "Authorization", "Bearer guess")
		err := l.struck(r)
		if err == nil {
			l.refused(r)
		}
		return err
	}
	for i := range 6 {
		if err := guess(); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if s := retryAfter(t, guess()); s != 12 {
		t.Errorf("Retry-After %d, want 12", s)
	}
	for _, c := range []struct {
		name, remote string
		headers      []string
	}{
		{"without a credential", there, nil}, {"from elsewhere", "192.0.2.2:1", []string{"Authorization", "Bearer right"}},
	} {
		if err := l.struck(asking(Identity{Via: "tcp"}, c.remote, false, c.headers...)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	longestSeen := 0
	for range 12 {
		*now = now.Add(time.Duration(retryAfter(t, guess())) * time.Second)
		for guess() == nil { // as fast as it may
		}
		longestSeen = max(longestSeen, retryAfter(t, guess()))
	}
	if longestSeen != int(longest.Seconds()) {
		t.Errorf("longest wait %d s, want %v", longestSeen, longest)
	}
	*now = now.Add(3 * longest)
	for range 6 {
		if err := guess(); err != nil {
			t.Fatalf("after a long quiet time: %v", err)
		}
	}
	if s := retryAfter(t, guess()); s != 12 {
		t.Errorf("after a long quiet time Retry-After is %d, want 12 as at first", s)
	}
}

func TestLimiter_HoldsBoundedMemory(t *testing.T) {
	l, _ := newTestLimiter(Limits{})
	for i := range 3 * maxAccounts {
		r := asking(Identity{Via: "tcp"}, fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), false, "Authorization", "Bearer guess")
		if _, err := l.admit(r); err != nil { // never ended
			if i < maxAccounts {
				t.Fatalf("address %d: %v", i, err)
			}
			break
		}
		l.refused(r)
		l.running = 0
	}
	if len(l.accounts) > maxAccounts+1 || len(l.failures) > maxAccounts {
		t.Errorf("%d accounts, %d failures; want at most %d", len(l.accounts), len(l.failures), maxAccounts)
	}
}

func TestTooManyRequests_AreToldWhenToComeAgain(t *testing.T) {
	e := start(t, func(c *Config) { c.Limits = Limits{AdminRate: 0.001, AdminBurst: 1} })
	e.want(200, "GET", tiers, "")
	a := e.want(429, "GET", tiers, "")
	if st := a.status(t); st.Reason != api.ReasonTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("status %+v, Retry-After %q", st, a.header.Get("Retry-After"))
	}
}

func TestRequestID_GoesBackAndIntoTheLog(t *testing.T) {
	var log bytes.Buffer
	e := start(t, func(c *Config) { c.Log = testLog(&log) })
	a := e.want(201, "POST", gnss, netset("x"), "X-Request-Id", "mine", "Audit-Id", "mine")
	id := a.header.Get("Audit-Id")
	if len(id) != 26 || a.header.Get("X-Request-Id") != id {
		t.Errorf("Audit-Id %q, X-Request-Id %q; want one id of 26 letters", id, a.header.Get("X-Request-Id"))
	}
	if b := e.want(404, "GET", gnss+"/y", ""); b.header.Get("Audit-Id") == id {
		t.Error("two requests have one id")
	}
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, "Resource written") || strings.Count(text, "request_id="+id) != 2 {
		t.Errorf("log:\n%s\nwant the id %s on two lines", text, id)
	}
}

func TestContentEncoding_IsRefused(t *testing.T) {
	e := start(t, nil)
	a := e.want(415, "POST", gnss, "\x1f\x8b\x08", "Content-Encoding", "gzip")
	if st := a.status(t); st.Reason != api.ReasonMediaType {
		t.Errorf("status %+v", st)
	}
	e.want(201, "POST", gnss, netset("x"), "Content-Encoding", "identity")
}

func TestBody_ThatIsTooLargeIsRefusedWhole(t *testing.T) {
	e := start(t, nil)
	body := netset("x")
	body = body[:len(body)-1] + strings.Repeat(" ", maxBody) + "}"
	for _, m := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		path := gnss
		if m != "POST" {
			path += "/x"
		}
		typ := typeJSON
		if m == "PATCH" {
			typ = typeMergePatch
		}
		if st := e.want(413, m, path, body, "Content-Type", typ).status(t); st.Reason != api.ReasonTooLarge {
			t.Errorf("%s: status %+v", m, st)
		}
	}
	e.want(404, "GET", gnss+"/x", "")
}

// TestRequest_ThatTakesLongIsNotTakenForGone: the time for the body is over
// when the body has arrived.
func TestRequest_ThatTakesLongIsNotTakenForGone(t *testing.T) {
	e := start(t, func(c *Config) {
		c.Limits = Limits{BodyTime: 50 * time.Millisecond}
		c.Store = slowStore{c.Store}
	})
	e.want(201, "POST", gnss, netset("x"))
	e.want(200, "GET", gnss+"/x", "")
}

// slowStore takes its time, unless nobody waits any more.
type slowStore struct{ store.Store }

func (s slowStore) Get(ctx context.Context, k api.Key) (api.Object, error) {
	if err := pause(ctx); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, k)
}

func (s slowStore) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	if err := pause(ctx); err != nil {
		return 0, err
	}
	return s.Store.Put(ctx, o, cond)
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(200 * time.Millisecond):
		return nil
	}
}

func TestCORS_IsOff(t *testing.T) {
	e := start(t, nil)
	for _, m := range []string{"GET", "OPTIONS"} {
		a := e.do(m, tiers, "", "Access-Control-Request-Method", "POST")
		for name := range a.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: header %s: %s", m, name, a.header.Get(name))
			}
		}
	}
	e.want(405, "OPTIONS", tiers, "")
}

// dial opens a connection to the server of e.
func (e *env) dial() net.Conn {
	e.t.Helper()
	c, err := e.http.Transport.(*http.Transport).DialContext(context.Background(), "", "")
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	return c
}

func TestSlowClients_AreCut(t *testing.T) {
	e := start(t, func(c *Config) {
		c.Limits = Limits{HeaderTime: 200 * time.Millisecond, BodyTime: 200 * time.Millisecond, IdleTime: 200 * time.Millisecond, AnswerTime: 500 * time.Millisecond}
	})
	head := "POST " + gnss + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	for _, c := range []struct{ name, send, want string }{
		{"says nothing", "", ""},
		{"half a header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b", ""},
		{"half a body", head + "Content-Length: 100\r\n\r\n{", "408"},
		{"half a chunk", head + "Transfer-Encoding: chunked\r\n\r\n10\r\n{", "408"},
		{"then nothing more", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := e.dial()
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn) // until the server ends it
			if err != nil {
				t.Fatalf("the server keeps the connection: %v; it said %q", err, got)
			}
			if !strings.HasPrefix(string(got), strings.TrimSpace("HTTP/1.1 "+c.want)) && c.want != "" {
				t.Errorf("answer %q, want %s", got, c.want)
			}
		})
	}
}

// TestWatch_IsCutOnlyForAClientThatDoesNotRead: a quiet watch outlives every
// time limit; one that is not read does not hold the server's memory.
func TestWatch_IsCutOnlyForAClientThatDoesNotRead(t *testing.T) {
	e := start(t, func(c *Config) {
		c.Limits = Limits{BodyTime: 100 * time.Millisecond, AnswerTime: 300 * time.Millisecond}
		c.WatchBuffer = 100_000
	})
	e.want(201, "POST", gnss, netset("x"))
	quiet := e.follow(gnss + "?watch=true&resourceVersion=" + e.revision(gnss))
	deaf := e.dial()
	if _, err := fmt.Fprintf(deaf, "GET %s?watch=true HTTP/1.1\r\nHost: x\r\n\r\n", gnss); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for cut := false; !cut; {
		if time.Now().After(deadline) {
			t.Fatal("a watch that nobody reads goes on")
		}
		e.want(200, "PUT", gnss+"/x", netset("x", "n", fmt.Sprint(time.Now().UnixNano()), "pad", strings.Repeat("a", 60)))
		quiet.next() // it is not cut, though all its limits have passed
		e.srv.limiter.mu.Lock()
		cut = true
		for _, a := range e.srv.limiter.accounts {
			cut = cut && a.watches == 1
		}
		e.srv.limiter.mu.Unlock()
	}
}

// testLog writes all lines to b, which is read when the server has stopped.
func testLog(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestConnections_AreBoundedByAddress(t *testing.T) {
	e := start(t, func(c *Config) { c.Limits = Limits{Connections: 3, ConnectionsPerAddress: 2} })
	srv := New(e.srv.cfg)
	var listeners []net.Listener
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, listeners...) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	// open reports whether a new connection is served.
	open := func(l net.Listener, from string) (net.Conn, bool) {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		n, _ := c.Read(make([]byte, 1))
		return c, n == 1
	}
	first, ok := open(listeners[0], "127.0.0.1")
	if !ok {
		t.Fatal("the first connection is not served")
	}
	for _, c := range []struct {
		listener int
		from     string
		want     bool
	}{{0, "127.0.0.1", true}, {0, "127.0.0.1", false}, {1, "::1", true}, {0, "127.0.0.2", false}} {
		if _, ok := open(listeners[c.listener], c.from); ok != c.want {
			t.Errorf("a connection from %s: served %v, want %v", c.from, ok, c.want)
		}
	}
	first.Close()
	deadline := time.Now().Add(patience)
	for ok = false; !ok; _, ok = open(listeners[0], "127.0.0.2") {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection makes no room")
		}
	}
}
