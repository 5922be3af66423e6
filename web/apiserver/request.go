// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/ripstop/ripstop/daemon/api"
)

// request is one request, taken apart and checked.
type request struct {
	*http.Request
	id    Identity
	query url.Values
	attrs Attributes
	// desc is the kind that the path names; only for routes with access
	// asked, after resolve.
	desc  *kindInfo
	watch bool
	// warnings are what the client is to be told besides the answer.
	warnings []string
}

// key is what the path names.
func (r *request) key() api.Key {
	return api.Key{Kind: r.desc.Kind, Namespace: r.attrs.Namespace, Name: r.attrs.Name}
}

// newRequest unescapes and checks path and query. The request it returns is
// never nil.
func (s *Server) newRequest(hr *http.Request, rt route) (*request, error) {
	r := &request{Request: hr, id: IdentityOf(hr.Context())}
	r.attrs = Attributes{Verb: rt.verb, Path: hr.URL.Path}
	var err error
	if r.query, err = url.ParseQuery(hr.URL.RawQuery); err != nil {
		return r, failure(http.StatusBadRequest, api.ReasonBadRequest, "query: %v", err)
	}
	if r.watch = r.flag("watch") && rt.verb == "list"; r.watch {
		r.attrs.Verb = "watch"
	}
	for name, raw := range mux.Vars(hr) {
		v, err := url.PathUnescape(raw)
		if err != nil {
			return r, failure(http.StatusBadRequest, api.ReasonBadRequest, "path: %v", err)
		}
		if !isDNSName(v) {
			return r, failure(http.StatusBadRequest, api.ReasonBadRequest,
				"path: %s %q: a name is lower-case letters, digits, '-' and '.', starts and ends with a letter or digit, and has 253 bytes at most", name, v)
		}
		switch name {
		case "group":
			r.attrs.Group = v
		case "version":
			r.attrs.Version = v
		case "namespace":
			r.attrs.Namespace = v
		case "plural":
			r.attrs.Plural = v
		case "name":
			r.attrs.Name = v
		case "subresource":
			r.attrs.Subresource = v
		}
	}
	return r, nil
}

// flag reads a boolean parameter: "", "0" and "false" are no.
func (r *request) flag(name string) bool {
	if !r.query.Has(name) {
		return false
	}
	switch strings.ToLower(r.query.Get(name)) {
	case "0", "f", "false":
		return false
	}
	return true
}

// dryRun reads the dryRun parameter: absent or All.
func (r *request) dryRun() (bool, error) {
	for _, v := range r.query["dryRun"] {
		if v != "All" {
			return false, failure(http.StatusBadRequest, api.ReasonBadRequest, "dryRun %q: the only value is All", v)
		}
	}
	return r.query.Has("dryRun"), nil
}

// identify refuses whom the server does not know, before it says anything
// else about the request.
func (s *Server) identify(r *request, rt route) error {
	if rt.access == anybody {
		return nil
	}
	if !r.id.Known() {
		return failure(http.StatusUnauthorized, api.ReasonUnauthorized,
			"the server does not know who you are: on TCP nobody is known by address alone; use the Unix socket as root or as a member of group %s", s.cfg.AdminGroup)
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			return failure(http.StatusForbidden, api.ReasonForbidden, "header %s: impersonation is not allowed", name)
		}
	}
	return nil
}

// admit asks whether the identity may take the route.
func (s *Server) admit(r *request, rt route) error {
	switch rt.access {
	case anybody:
		return nil
	case known:
		// Outside of resources Authorise is asked with the path alone.
		r.attrs.Verb = strings.ToLower(r.Method)
		return s.authorise(r)
	case asked:
		return s.authorise(r)
	case nobody:
		return failure(http.StatusForbidden, api.ReasonForbidden, "%s %s: nobody may do this", r.Method, r.URL.Path)
	default:
		panic(fmt.Sprintf("apiserver: access %d of route %s", rt.access, rt.path))
	}
}

func (s *Server) authorise(r *request) error {
	err := s.cfg.Authorise(r.Context(), r.id, r.attrs)
	if err == nil {
		return nil
	}
	s.log.Warn("Request refused", "request_id", requestIDOf(r.Context()), "user", r.id.String(), "verb", r.attrs.Verb, "path", r.attrs.Path, "err", err)
	return failure(http.StatusForbidden, api.ReasonForbidden, "%s may not %s %s: %v", r.id, r.attrs.Verb, r.attrs.Path, err)
}

// resolve finds the kind that the path names.
func (s *Server) resolve(r *request) error {
	k := s.catalog.find(r.attrs.Group, r.attrs.Version, r.attrs.Plural)
	if k == nil {
		return notFoundPath(r)
	}
	item := r.attrs.Name != ""
	switch {
	case r.attrs.Subresource != "" && !k.hasStatus():
		return notFoundPath(r)
	case k.Namespaced && r.attrs.Namespace == "" && (item || (r.attrs.Verb == "create" || r.attrs.Verb == "deletecollection")):
		return failure(http.StatusNotFound, api.ReasonNotFound,
			"%s is namespaced: use %s", k.Plural, k.Path("NAMESPACE"))
	case !k.Namespaced && r.attrs.Namespace != "":
		return failure(http.StatusNotFound, api.ReasonNotFound,
			"%s is not namespaced: use %s", k.Plural, k.Path(""))
	case r.attrs.Namespace != "" && (!isDNSLabel(r.attrs.Namespace) || len(r.attrs.Namespace) > 63):
		return failure(http.StatusBadRequest, api.ReasonBadRequest, "namespace %q: want one DNS label of 63 bytes at most", r.attrs.Namespace)
	}
	r.desc = k
	return nil
}

// body reads the whole body and tells whether it is YAML. Nothing is used of a
// body that is too large.
func (r *request) body() ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, failure(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the body is larger than %d bytes", large.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, failure(http.StatusRequestTimeout, api.ReasonTimeout, "the body did not arrive in time")
	case err != nil:
		return nil, failure(http.StatusBadRequest, api.ReasonBadRequest, "reading the body: %v", err)
	}
	return data, nil
}

// mediaType is the type of the body; a missing Content-Type is JSON.
func (r *request) mediaType() (string, error) {
	ct := r.Header.Get("Content-Type")
	if ct == "" {
		return "application/json", nil
	}
	typ, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return "", failure(http.StatusUnsupportedMediaType, api.ReasonMediaType, "Content-Type %q: %v", ct, err)
	}
	return typ, nil
}

// fits checks that an object is the one that the path names, and fills in
// what it leaves to the path.
func fits(r *request, obj api.Object) error {
	k := obj.Key()
	if k.Kind != r.desc.Kind {
		return failure(http.StatusBadRequest, api.ReasonBadRequest, "kind: the body is a %s, the path names %s", k.Kind, r.desc.Plural)
	}
	m := obj.Metadata()
	if m.Namespace == "" {
		m.Namespace = r.attrs.Namespace
	}
	if m.Namespace != r.attrs.Namespace {
		return failure(http.StatusBadRequest, api.ReasonBadRequest,
			"metadata.namespace: the body says %q, the path %q", m.Namespace, r.attrs.Namespace)
	}
	if r.attrs.Name != "" && m.Name == "" {
		m.Name = r.attrs.Name
	}
	if r.attrs.Name != "" && m.Name != r.attrs.Name {
		return failure(http.StatusBadRequest, api.ReasonBadRequest,
			"metadata.name: the body says %q, the path %q", m.Name, r.attrs.Name)
	}
	if _, marked := m.Annotations[api.AnnotationUnreadable]; marked {
		return failure(http.StatusUnprocessableEntity, api.ReasonInvalid,
			"metadata.annotations[%s]: marks what the server could not read; it is not the object: write the object anew", api.AnnotationUnreadable)
	}
	return nil
}

// guard is what every request passes before it is routed: limits, a look at
// who calls by what name, and the net that catches a panic.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		id := newRequestID()
		hr = hr.WithContext(context.WithValue(hr.Context(), requestIDKey{}, id))
		w.Header().Set("Audit-Id", id)
		w.Header().Set("X-Request-Id", id)
		r := &request{Request: hr, id: IdentityOf(hr.Context())}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p) // net/http cuts the connection
			}
			s.log.Error("Panic in a request", "request_id", id, "method", hr.Method, "path", hr.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			s.answer(w, r, s.failed(r, failure(http.StatusInternalServerError, api.ReasonInternalError,
				"the server has a fault and gave this request up; its log has the details")))
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if len(hr.RequestURI) > maxURL {
			s.answer(w, r, s.failed(r, failure(http.StatusRequestURITooLong, api.ReasonTooLarge, "the URL is longer than %d bytes", maxURL)))
			return
		}
		if err := s.checkCaller(hr, r.id); err != nil {
			s.answer(w, r, s.failed(r, err))
			return
		}
		if enc := hr.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
			// What is small on the wire stays small.
			s.answer(w, r, s.failed(r, failure(http.StatusUnsupportedMediaType, api.ReasonMediaType, "Content-Encoding %q: send the body as it is", enc)))
			return
		}
		rc := http.NewResponseController(w)
		// A recorder in a test has no deadlines; a connection has.
		_ = rc.SetWriteDeadline(time.Now().Add(s.cfg.Limits.AnswerTime))
		if hr.Body != http.NoBody {
			_ = rc.SetReadDeadline(time.Now().Add(s.cfg.Limits.BodyTime))
			hr.Body = &timedBody{ReadCloser: http.MaxBytesReader(w, hr.Body, maxBody), rc: rc}
		}
		next.ServeHTTP(w, hr)
	})
}

// timedBody is a body that must arrive in time. When it has, the time is off:
// net/http goes on reading, to see whether the client is still there, and
// would take the end of the time for the client's going.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// checkCaller keeps browsers on this machine from being used against it: on
// TCP the Host must be one of ours, and a page from elsewhere is refused.
func (s *Server) checkCaller(hr *http.Request, id Identity) error {
	if id.Via != "tcp" {
		return nil
	}
	host := hr.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if !slices.Contains(s.cfg.Hosts, strings.ToLower(host)) {
		return failure(http.StatusForbidden, api.ReasonForbidden, "host %q: the server is not called by this name", hr.Host)
	}
	if o := hr.Header.Get("Origin"); o != "" {
		return failure(http.StatusForbidden, api.ReasonForbidden, "origin %q: pages in a browser may not use this API", o)
	}
	if site := hr.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		return failure(http.StatusForbidden, api.ReasonForbidden, "sec-fetch-site %q: pages in a browser may not use this API", site)
	}
	return nil
}
