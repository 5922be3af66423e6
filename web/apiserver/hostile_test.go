// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

var (
	hostileRequests = flag.Int("hostile", 10_000, "how many hostile requests are made")
	hostileSeed     = flag.Uint64("hostile-seed", 0, "seed of the hostile requests; 0: a new one")
)

// clean is a Store that complains of keys that no store should see.
type clean struct {
	store.Store
	t *testing.T
}

func (c clean) look(k api.Key) {
	if !isDNSName(k.Name) || k.Namespace != "" && !isDNSName(k.Namespace) {
		c.t.Errorf("the store is asked for the key %q", k)
	}
}

func (c clean) Get(ctx context.Context, k api.Key) (api.Object, error) {
	c.look(k)
	return c.Store.Get(ctx, k)
}

func (c clean) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	c.look(o.Key())
	return c.Store.Put(ctx, o, cond)
}

func (c clean) Delete(ctx context.Context, k api.Key, cond store.If) error {
	c.look(k)
	return c.Store.Delete(ctx, k, cond)
}

// siege is one run of hostile requests.
type siege struct {
	t      *testing.T
	log    *lineLog
	unix   func() net.Conn // as an admin
	tls    func() net.Conn // as a stranger, before the handshake
	codes  [600]atomic.Int64
	closed atomic.Int64 // connections that the server ended without a word
}

// lineLog keeps the lines about panics and failures.
type lineLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *lineLog) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("Panic")) || bytes.Contains(p, []byte("panic")) || bytes.Contains(p, []byte("level=ERROR")) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, string(p))
	}
	return len(p), nil
}

// TestHostileRequests_HarmNobody sends requests of every bad sort and holds
// that the server neither panics nor answers 5xx, that the store sees clean
// keys only, that memory, goroutines and descriptors come back to where they
// were, and that a client of good manners is served all the time.
func TestHostileRequests_HarmNobody(t *testing.T) {
	seed := *hostileSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	s := &siege{t: t, log: &lineLog{}}
	e := start(t, func(c *Config) {
		c.Store = clean{c.Store, t}
		c.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
		c.Limits = Limits{HeaderTime: 400 * time.Millisecond, BodyTime: 400 * time.Millisecond, IdleTime: time.Second, AnswerTime: 2 * time.Second, AdminRate: 1e6, Rate: 1e6, Burst: 1e6, Logins: 1e6, Requests: 400}
	})
	s.unix = e.dialer()
	s.tls = serveTLS(t, e)

	var left atomic.Int64
	done := make(chan struct{})
	var polite sync.WaitGroup
	var latencies []time.Duration
	e.want(201, "POST", gnss, netset("polite"))
	// What is made at first use is no growth.
	for warm := newHostile(t, rand.New(rand.NewPCG(seed, 99))); left.Add(1) <= 300; {
		s.one(warm)
	}
	before := measure()
	polite.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			began := time.Now()
			// A hostile client may delete all sets, as it may.
			// With the header net/http tries again when the server has just closed
			// a connection that was idle.
			if a := e.do("PUT", gnss+"/polite", netset("polite", "n", fmt.Sprint(n)), "Idempotency-Key", "polite"); a.code == 404 {
				e.want(201, "POST", gnss, netset("polite"))
			} else if a.code != 200 {
				t.Errorf("a polite client is answered %d: %s", a.code, a.body)
			}
			e.want(200, "GET", gnss+"?limit=1", "")
			latencies = append(latencies, time.Since(began)/2)
		}
	})
	left.Store(int64(*hostileRequests))
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			h := newHostile(t, rand.New(rand.NewPCG(seed, uint64(w))))
			for left.Add(-1) >= 0 && !t.Failed() {
				s.one(h)
			}
		})
	}
	workers.Wait()
	close(done)
	polite.Wait()

	for _, l := range s.log.lines {
		t.Errorf("log: %s", l)
	}
	var codes []string
	for code := range s.codes {
		if n := s.codes[code].Load(); n > 0 {
			codes = append(codes, fmt.Sprintf("%d: %d", code, n))
		}
	}
	slices.Sort(latencies)
	t.Logf("%d hostile requests with -hostile-seed=%d: %s, cut: %d; a polite client's %d requests took %v at the median, %v at p99",
		*hostileRequests, seed, strings.Join(codes, ", "), s.closed.Load(), 2*len(latencies), latencies[len(latencies)/2], latencies[len(latencies)*99/100])
	// What was made is cleared away, so that memory tells of leaks alone.
	for _, d := range api.Kinds() {
		objs, _, err := e.mem.List(t.Context(), d.Kind, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objs {
			if err := e.mem.Delete(t.Context(), o.Key(), store.Always()); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.http.CloseIdleConnections()
	var after measures
	deadline := time.Now().Add(patience)
	for {
		if after = measure(); after.goroutines <= before.goroutines+3 && after.files <= before.files && after.heap < before.heap+64<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it was %+v, and is %+v; want no more goroutines and descriptors, and less than 64 MiB more", before, after)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("before %+v, after %+v", before, after)
}

type measures struct {
	heap              uint64 // bytes in use after a collection
	goroutines, files int
}

func measure() measures {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd")
	return measures{m.HeapAlloc, runtime.NumGoroutine(), len(files)}
}

// dialer opens connections to the server's socket.
func (e *env) dialer() func() net.Conn {
	return func() net.Conn {
		c, err := e.http.Transport.(*http.Transport).DialContext(context.Background(), "", "")
		if err != nil {
			e.t.Errorf("dialling: %v", err)
			return nil
		}
		return c
	}
}

// serveTLS serves the API of e on TLS, HTTP/1.1 and HTTP/2, to strangers.
func serveTLS(t *testing.T, e *env) func() net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS() // it has a certificate
	certs.Close()
	srv := New(e.srv.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(ctx, tls.NewListener(l, &tls.Config{Certificates: certs.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}))
	}()
	t.Cleanup(func() { cancel(); <-served })
	return func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Errorf("dialling: %v", err)
			return nil
		}
		return c
	}
}

// one makes one request of some sort.
func (s *siege) one(h *hostile) {
	switch n := h.r.IntN(100); {
	case n < 55:
		s.resource(h)
	case n < 70:
		s.raw(h, s.unix)
	case n < 80:
		s.slow(h)
	case n < 95:
		s.handshake(h)
	default:
		s.resets(h)
	}
}

// resource is a request that is HTTP and means a resource.
func (s *siege) resource(h *hostile) {
	d := pick(h, h.kinds...)
	name := h.name()
	namespace := ""
	if d.Namespaced != h.chance(10) {
		namespace = pick(h, "default", "a", "default", url1(pick(h, junk...)))
	}
	path := d.Path(namespace)
	method := pick(h, "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
	if method != "POST" && !h.chance(8) {
		path += "/" + pick(h, url1(name), name) + pick(h, "", "", "", "/status", "/scale", "/")
	}
	typ, body := typeJSON, ""
	switch method {
	case "POST", "PUT":
		body = h.document(d, name)
		typ = pick(h, typeJSON, typeJSON, typeJSON, typeJSON, typeJSON, typeYAML, typeYAML, typeProtobuf, "text/plain", ";;")
	case "PATCH":
		typ = pick(h, typeMergePatch, typeApplyPatch, typeJSONPatch, "application/strategic-merge-patch+json", "")
		if body = h.document(d, name); typ == typeJSONPatch {
			body = h.jsonPatch()
		}
	case "DELETE":
		body = pick(h, "", "", `{"kind":"DeleteOptions","preconditions":{"uid":"x"}}`, h.wrong(0))
	}
	head := method + " " + sendable(path+h.query()) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	head += "Accept: " + pick(h, "application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "*/*", "text/html", "application/json;as=;;", "application/yaml") + "\r\n"
	head += "Content-Type: " + typ + "\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n"
	s.say(s.unix(), head+body, true)
}

// url1 escapes one part of a path.
func url1(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

// sendable takes out what would end the request line.
func sendable(s string) string { return strings.NewReplacer(" ", "", "\r", "", "\n", "").Replace(s) }

// raw is a request that is hardly HTTP.
func (s *siege) raw(h *hostile, dial func() net.Conn) {
	head := pick(h, "POST ", "PUT ", "GET ") + gnss + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	s.say(dial(), pick(h,
		head+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /apis HTTP/1.1\r\nHost: x\r\n\r\n",
		head+"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		head+"Transfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		head+"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
		head+"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
		head+"Transfer-Encoding: chunked\r\n\r\n5;"+strings.Repeat("x", 9000)+"\r\nhello\r\n0\r\n\r\n",
		head+"Content-Length: -1\r\n\r\n", head+"Content-Length: 99999999999999999999\r\n\r\n",
		head+"Content-Length: "+fmt.Sprint(maxBody+1)+"\r\n\r\n{",
		head+strings.Repeat("X-A: b\r\n", h.r.IntN(100_000))+"\r\n",
		head+"X-A: "+strings.Repeat("b", h.r.IntN(40_000))+"\r\n\r\n",
		head+"X A: b\r\n\r\n", head+" folded\r\n\r\n", head+"X-A\x00: b\r\n\r\n", head+"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
		head+"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", head+"Expect: the worst\r\n\r\n", head+"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
		"GET http://evil.example/apis HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /apis HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /apis HTTP/9.9\r\nHost: a\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "TRACE /apis HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /"+strings.Repeat("a", h.r.IntN(40_000))+" HTTP/1.1\r\nHost: a\r\n\r\n", "GET "+strings.Repeat("/..", 2000)+" HTTP/1.1\r\nHost: a\r\n\r\n",
		strings.Repeat("\r\n", 5000), "\x00\x01\x02\x03", "GET", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
		head+"Impersonate-User: root\r\n\r\n", head+"Authorization: Bearer "+strings.Repeat("a", 9000)+"\r\n\r\n"), false)
}

// say sends a request and looks at the answer. proper: it is HTTP, so there
// must be one.
func (s *siege) say(c net.Conn, request string, proper bool) {
	if c == nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	go func() { // the server may answer before it has read all
		_, _ = io.WriteString(c, request)
		if u, ok := c.(interface{ CloseWrite() error }); ok && !proper {
			_ = u.CloseWrite()
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		// Who answers without reading all that is too long, and closes, may have
		// his answer overtaken by the reset.
		overtaken := errors.Is(err, syscall.ECONNRESET) && len(request) > maxURL
		if errors.Is(err, os.ErrDeadlineExceeded) || proper && !overtaken {
			s.t.Errorf("%.300q: no answer: %v", request, err)
		}
		s.closed.Add(1)
		return
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	s.codes[resp.StatusCode].Add(1)
	// A client can bring about 504 for a revision that is not there yet, and
	// where it does not speak HTTP/1.1 what RFC 9110 and 9112 say: 501, 505.
	// Whoever closes his end while he waits counts as gone.
	meant := bytes.Contains(body, []byte("lies in the future")) ||
		!proper && (resp.StatusCode == 501 || resp.StatusCode == 505 || bytes.Contains(body, []byte("given up before it was done")))
	if resp.StatusCode >= 500 && !meant {
		s.t.Errorf("%.2000q: answered %s: %.300s", request, resp.Status, body)
	}
	// net/http itself answers 400 and 431, before there is a request.
	early := resp.StatusCode == 400 || resp.StatusCode == 431 || strings.HasPrefix(request, "HEAD")
	if proper && resp.StatusCode >= 400 && !early && !bytes.Contains(body, []byte(`"kind":"Status"`)) {
		s.t.Errorf("%.300q: answered %s without a Status: %.300s", request, resp.Status, body)
	}
}

// slow sends a part and then nothing, or a byte now and then.
func (s *siege) slow(h *hostile) {
	c := s.unix()
	if c == nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	part := pick(h, "", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-", "POST "+gnss+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		"POST "+gnss+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
	_, _ = io.WriteString(c, part)
	if h.chance(2) {
		return // reset at once
	}
	go func() {
		for range 20 {
			if _, err := c.Write([]byte("a")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("%q and then slowly: the server holds the connection", part)
	}
	s.closed.Add(1)
}

// handshake is TLS that is wrong, or right with a credential that is not.
func (s *siege) handshake(h *hostile) {
	c := s.tls()
	if c == nil {
		return
	}
	switch h.r.IntN(4) {
	case 0:
		s.raw(h, func() net.Conn { return c }) // not TLS at all
	case 1: // a ClientHello that ends early, or goes wrong
		defer c.Close()
		hello := []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		for range h.r.IntN(400) {
			hello = append(hello, byte(h.r.Uint32()))
		}
		_, _ = c.Write(hello)
		s.closed.Add(1)
	default:
		conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: pick(h, uint16(tls.VersionTLS12), tls.VersionTLS13, tls.VersionTLS11)}
		tc := tls.Client(c, conf)
		_ = tc.SetDeadline(time.Now().Add(patience))
		if err := tc.Handshake(); err != nil {
			c.Close()
			s.closed.Add(1)
			return
		}
		s.say(tc, "GET "+gnss+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "+pick(h, "replayed.token.here", "a", "....", "eyJhbGciOiJub25lIn0.e30.")+"\r\n\r\n", false)
	}
}

// resets opens HTTP/2 streams and resets each at once (CVE-2023-44487).
func (s *siege) resets(h *hostile) {
	raw := s.tls()
	if raw == nil {
		return
	}
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		s.closed.Add(1)
		return
	}
	f := http2.NewFramer(c, c)
	go func() { _, _ = io.Copy(io.Discard, c) }()
	_ = f.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := range uint32(500) {
		block.Reset()
		for _, p := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", gnss + "?watch=true"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]})
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
			break
		}
		if err := f.WriteRSTStream(2*i+1, http2.ErrCodeCancel); err != nil {
			break
		}
	}
	s.closed.Add(1)
}
