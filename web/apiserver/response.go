// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// response is what a handler returns. It is written by answer, outside of the
// handler, so that a handler can be tested without a server.
type response struct {
	code int
	// body is written as JSON; json.RawMessage and text are written as is.
	body any
	// warnings become Warning headers.
	warnings []string
	// stream, if set, writes the body itself, after the header.
	stream func(ctx context.Context, w http.ResponseWriter)
	// mediaType is the type of a body that is JSON of a special kind; empty
	// is application/json.
	mediaType string
	// raw, if set, writes header and body itself.
	raw func(w http.ResponseWriter)
}

// text is a body that is not JSON.
type text string

func ok(body any) response { return response{code: http.StatusOK, body: body} }

// answer writes a response.
func (s *Server) answer(w http.ResponseWriter, r *request, resp response) {
	h := w.Header()
	for _, warning := range append(r.warnings, resp.warnings...) {
		h.Add("Warning", "299 - "+strconv.QuoteToASCII(warning))
	}
	if resp.raw != nil {
		resp.raw(w)
		return
	}
	if t, ok := resp.body.(text); ok {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(resp.code)
		fmt.Fprint(w, string(t))
		return
	}
	h.Set("Content-Type", "application/json")
	if resp.mediaType != "" {
		h.Set("Content-Type", resp.mediaType)
	}
	h.Add("Vary", "Accept")
	if resp.stream != nil {
		w.WriteHeader(resp.code)
		defer s.cutOnPanic(r)
		resp.stream(r.Context(), w)
		return
	}
	data, err := json.Marshal(resp.body)
	if err != nil {
		s.log.Error("Answer cannot be encoded", "path", r.URL.Path, "err", err)
		resp.code = http.StatusInternalServerError
		data, _ = json.Marshal(api.Failure(resp.code, api.ReasonInternalError, "the answer cannot be written as JSON; the server's log has the details"))
	}
	if st, ok := resp.body.(*api.Status); ok && st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		h.Set("Retry-After", strconv.Itoa(st.Details.RetryAfterSeconds))
	}
	w.WriteHeader(resp.code)
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write(append(data, '\n'))
}

// cutOnPanic ends a stream that has a fault by cutting the connection: what
// was sent already cannot be taken back.
func (s *Server) cutOnPanic(r *request) {
	if p := recover(); p != nil {
		s.log.Error("Panic in a stream", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		panic(http.ErrAbortHandler)
	}
}

// reasonNoSpace is the reason of a Status when the store is full.
const reasonNoSpace = "InsufficientStorage"

// failure is a Status with a formatted message.
func failure(code int, reason, format string, args ...any) *api.Status {
	return api.Failure(code, reason, fmt.Sprintf(format, args...))
}

// failed turns an error into the response that tells it.
func (s *Server) failed(r *request, err error) response {
	st := s.status(r, err)
	return response{code: st.Code, body: st}
}

// status is the Status for an error. What callers may know of is told in
// full; anything else goes to the log.
func (s *Server) status(r *request, err error) *api.Status {
	var st *api.Status
	if errors.As(err, &st) {
		return details(st, r)
	}
	what := r.what()
	switch {
	case errors.Is(err, store.ErrNotFound):
		st = failure(http.StatusNotFound, api.ReasonNotFound, "%s not found", what)
	case errors.Is(err, store.ErrKey):
		st = failure(http.StatusBadRequest, api.ReasonBadRequest, "%v", err)
	case errors.Is(err, store.ErrExists):
		st = failure(http.StatusConflict, api.ReasonAlreadyExists, "%s already exists", what)
	case errors.Is(err, store.ErrConflict):
		st = failure(http.StatusConflict, api.ReasonConflict, "%s was changed since it was read: read it again and repeat the change", what)
	case errors.Is(err, store.ErrCompacted):
		st = failure(http.StatusGone, api.ReasonExpired, "%s: the datastore has forgotten this resourceVersion: list again without it", what)
	case errors.Is(err, store.ErrNoSpace):
		st = failure(http.StatusInsufficientStorage, reasonNoSpace, "the datastore is full and takes no writes (reads and enforcement go on): make room on its disk or delete objects; %v", err)
	case errors.Is(err, store.ErrUnavailable):
		st = retryLater(failure(http.StatusServiceUnavailable, api.ReasonUnavailable, "the datastore is not reachable (enforcement on the hosts goes on): %v", err))
	case errors.Is(err, context.DeadlineExceeded):
		st = retryLater(failure(http.StatusGatewayTimeout, api.ReasonTimeout, "the datastore did not answer within %v", storeTime))
	case errors.Is(err, context.Canceled):
		st = retryLater(failure(http.StatusServiceUnavailable, api.ReasonUnavailable, "the request was given up before it was done"))
	default:
		s.log.Error("Request failed", "request_id", requestIDOf(r.Context()), "method", r.Method, "path", r.URL.Path, "err", err)
		st = failure(http.StatusInternalServerError, api.ReasonInternalError, "%s: the server could not do this; its log has the details", what)
	}
	return details(st, r)
}

func retryLater(st *api.Status) *api.Status {
	st.Details = &api.StatusDetails{RetryAfterSeconds: 1}
	return st
}

// what names the resource of the path as Kubernetes does: tiers.group "name".
func (r *request) what() string {
	if r.attrs.Plural == "" {
		return r.URL.Path
	}
	w := resourceName(r.attrs.Plural, r.attrs.Group)
	if r.attrs.Name != "" {
		w += " " + strconv.Quote(r.attrs.Name)
	}
	return w
}

// details fills in what a Status is about.
func details(st *api.Status, r *request) *api.Status {
	if r.attrs.Plural == "" || st.Code == http.StatusUnprocessableEntity && st.Details == nil {
		return st // of what is invalid without details, kubectl shows the message
	}
	if st.Details == nil {
		st.Details = &api.StatusDetails{}
	}
	if st.Details.Kind == "" {
		st.Details.Kind, st.Details.Group = r.attrs.Plural, r.attrs.Group
		if st.Details.Name == "" {
			st.Details.Name = r.attrs.Name
		}
	}
	return st
}

// invalidDocument is the Status for a body that cannot be decoded: 400 with a
// cause per fault.
func invalidDocument(err error) *api.Status {
	st := failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
	st.Details = &api.StatusDetails{Causes: api.Causes(err)}
	return st
}

// invalidObject is the Status for an object that breaks a rule of its kind:
// 422 with a cause per fault.
func invalidObject(r *request, o api.Object, err error) *api.Status {
	m := o.Metadata()
	st := failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "%s %q is invalid: %v", r.desc.Kind, m.Name, err)
	st.Details = &api.StatusDetails{Name: m.Name, Group: r.attrs.Group, Kind: string(r.desc.Kind), Causes: api.Causes(err)}
	return st
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// notFoundPath is the Status for a path that leads nowhere. It names no
// object, so that clients do not take it for a missing one.
func notFoundPath(r *request) *api.Status {
	st := failure(http.StatusNotFound, api.ReasonNotFound, "%s: there is no such path; GET /apis lists the groups, GET /apis/GROUP/VERSION the resources", r.URL.Path)
	st.Details = &api.StatusDetails{Kind: r.attrs.Plural, Group: r.attrs.Group}
	return st
}

func (s *Server) noSuchPath(r *request) response { return s.failed(r, notFoundPath(r)) }

func (s *Server) noSuchMethod(r *request) response {
	return s.failed(r, failure(http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed, "%s is not possible on %s", r.Method, r.URL.Path))
}
