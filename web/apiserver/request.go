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
	"github.com/ripstop/ripstop/web/apiserver/authn"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// request is one request, taken apart and checked.
type request struct {
	*http.Request
	// peer is who is at the other end of the connection, id who makes the
	// request.
	peer, id Identity
	query    url.Values
	attrs    Attributes
	// rules are all rights of id, grant what of the request they allow; only
	// for routes with access asked.
	rules authz.Rules
	grant authz.Grant
	// desc is the kind that the path names; only for routes with access
	// asked, after resolve.
	desc  *kindInfo
	watch bool
	// dry: it is only to be tried. recorded: the audit log has its end.
	// unwritten: the audit log could not take its intent; guess: it shows a
	// credential that anybody could have made up.
	dry, recorded, unwritten, guess bool
	// writes: it is a write though its route is not of a resource.
	writes bool
	// change names the change that the request is a part of.
	change string
	// staged is what lies over the Store for a request that is a part of a
	// change.
	staged *staged
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
	r := &request{Request: hr, peer: IdentityOf(hr.Context()), id: IdentityOf(hr.Context())}
	r.attrs = Attributes{Verb: rt.verb, Path: hr.URL.Path}
	if rt.verb == "" {
		r.attrs.Verb = strings.ToLower(hr.Method)
	}
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
	r.dry = r.query.Has("dryRun")
	return r.dry, nil
}

// authenticate finds out who makes the request. What is wrong with what he
// shows is told to him, and not looked at again for a while if it happens
// often.
func (s *Server) authenticate(r *request) error {
	if err := s.limiter.struck(r); err != nil {
		return err
	}
	id, err := s.cfg.Authn.Identify(r.Request, r.peer)
	r.id = id
	r.Request = r.Request.WithContext(context.WithValue(r.Request.Context(), identityKey{}, id))
	if err != nil {
		r.guess = authn.IsGuess(err)
		s.log.Warn("Credentials not accepted", "request_id", requestIDOf(r.Context()), "from", r.RemoteAddr, "path", r.URL.Path, "err", err)
		return unauthorized(err)
	}
	return nil
}

// identify refuses whom the server does not know, before it says anything
// else about the request.
func (s *Server) identify(r *request, rt route) error {
	if rt.access == anybody {
		return nil
	}
	if !r.id.Known() {
		return failure(http.StatusUnauthorized, api.ReasonUnauthorized,
			"the server does not know who you are: show a client certificate or a token (ripstop kubeconfig makes them), or use the Unix socket as root or as a member of group %s", s.cfg.AdminGroup)
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			return failure(http.StatusForbidden, api.ReasonForbidden, "header %s: impersonation is not allowed", name)
		}
	}
	return nil
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
		requestID := newRequestID()
		hr = hr.WithContext(context.WithValue(hr.Context(), requestIDKey{}, requestID))
		w.Header().Set("Audit-Id", requestID)
		w.Header().Set("X-Request-Id", requestID)
		r := &request{Request: hr, id: IdentityOf(hr.Context())}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p) // net/http cuts the connection
			}
			s.log.Error("Panic in a request", "request_id", requestID, "method", hr.Method, "path", hr.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
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
	if !slices.Contains(s.cfg.Hosts, strings.ToLower(host)) && (s.cfg.PKI == nil || !s.cfg.PKI.Serves(host)) {
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
