// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"net/http"
	"strings"

	"golang.org/x/time/rate"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/audit"
)

// What is recorded, and when:
//
//	a write       an intent for each object, on disk before the store is asked;
//	              one line at the end, before the answer
//	a refusal     one line: 401 with a credential or for a write, 403 of any kind
//	a dry run     nothing, unless it is refused
//	a read, 429   nothing
//
// A write whose intent cannot be put on disk is not done.

// Recorder keeps the record of what is done through the API. It is called from
// many goroutines.
type Recorder interface {
	// Commit returns when the record is on disk; otherwise with an error that
	// wraps audit.ErrUnwritable.
	Commit(audit.Record) error
	// Append takes a record that is put on disk soon.
	Append(audit.Record)
}

// Refusals that are recorded: refusalRate a second, refusalBurst at once. The
// next line tells how many had none. So strangers cannot push the past out of
// the log.
const (
	refusalRate  = 20
	refusalBurst = 200
)

// recorder is what a Server keeps of its record.
type recorder struct {
	to       Recorder
	refusals *rate.Limiter
	missing  chan int // one number: how many refusals have no line
}

func newRecorder(to Recorder) *recorder {
	rc := &recorder{to: to, refusals: rate.NewLimiter(refusalRate, refusalBurst), missing: make(chan int, 1)}
	rc.missing <- 0
	return rc
}

// writes are the verbs that are recorded.
var writes = map[string]bool{"create": true, "update": true, "patch": true, "delete": true, "deletecollection": true}

// intend records what is about to be written: before is nil for a new object,
// after for one that goes. An error is a reason not to do it.
func (s *Server) intend(r *request, before, after api.Object) error {
	if s.recorder.to == nil || r.staged != nil {
		return nil
	}
	rec := r.line(audit.Intent)
	o := after
	if o == nil {
		o = before
	}
	rec.Namespace, rec.Name = o.Key().Namespace, o.Key().Name
	rec.Before, rec.After = audit.Object(before), audit.Object(after)
	err := s.recorder.to.Commit(rec)
	if err == nil {
		return nil
	}
	r.unwritten = errors.Is(err, audit.ErrUnwritable)
	return failure(http.StatusInsufficientStorage, reasonNoSpace,
		"%v, so nothing is written (reads and enforcement go on): make room on the disk with the state directory of ripstop-server; its log has the details", err)
}

// record records how a request ended, if that is to be recorded.
func (s *Server) record(r *request, rt route, resp response) {
	if s.recorder.to == nil || r.recorded {
		return
	}
	r.recorded = true
	write := rt.access == asked && writes[rt.verb] || r.writes
	var stage audit.Stage
	switch {
	case resp.code == http.StatusForbidden, resp.code == http.StatusUnauthorized && (write || shownCredential(r.Request)):
		stage = audit.Refused
	case !write, r.dry, r.unwritten, resp.code == http.StatusTooManyRequests, resp.code == http.StatusUnauthorized:
		return
	case resp.code >= 400:
		stage = audit.Failed
	default:
		stage = audit.Done
	}
	rec := r.line(stage)
	if rt.verb == "deletecollection" {
		rec.Name = "" // the intents say which
	}
	rec.Code = resp.code
	if st, is := resp.body.(*api.Status); is && resp.code >= 400 {
		rec.Reason, rec.Message = st.Reason, st.Message
		if r.desc != nil && audit.Secretive(r.desc.New()) {
			rec.Message = fields(st) // a message can cite a value
		}
	}
	if stage == audit.Refused {
		missing := <-s.recorder.missing
		if !s.recorder.refusals.AllowN(s.cfg.Now(), 1) {
			s.recorder.missing <- missing + 1
			return
		}
		s.recorder.missing <- 0
		rec.Missing = missing
	}
	s.recorder.to.Append(rec)
}

// fields are the places of the faults that a Status tells of.
func fields(st *api.Status) string {
	var paths []string
	for _, c := range causesOf(st) {
		paths = append(paths, c.Field)
	}
	return strings.Join(paths, ", ")
}

// line is a record of a request, without what is special to its stage.
func (r *request) line(stage audit.Stage) audit.Record {
	rec := audit.Record{
		Stage: stage, Request: requestIDOf(r.Context()), Verb: r.attrs.Verb,
		Namespace: r.attrs.Namespace, Name: r.attrs.Name, Subresource: r.attrs.Subresource,
		Who: &audit.Who{
			User: r.id.User, Groups: r.id.Groups, Method: string(r.id.Method), Credential: r.id.Credential, From: r.id.Via,
			Agent: clip(r.UserAgent(), 256), Command: clip(r.Header.Get("Kubectl-Command"), 128),
		},
	}
	if r.id.Via != "unix" {
		rec.Who.From = r.RemoteAddr
	}
	if r.attrs.Plural != "" {
		rec.Resource = resourceName(r.attrs.Plural, r.attrs.Group)
	} else {
		rec.Path = clip(r.URL.Path, 256)
	}
	return rec
}

// clip is at most n bytes of s.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
