// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	changes "github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// A change that undoes itself comes as one request with all of its writes:
//
//	each write ─► judged, checked, staged ─► all of them ─► audit log ─► Change ─► each object
//	               by its own handler, over the ones before it            Pending
//
// With a fault in any write nothing is written. Package change does the rest;
// the Keeper in the assembly ends what nobody confirms.

// maxChangeWrites is how many writes a change may have.
const maxChangeWrites = 1000

// requestChange makes a Change out of a ChangeRequest: 201, or 200 if nothing
// was to be changed or it is a dry run.
func (s *Server) requestChange(r *request) response {
	r.attrs.Group, r.attrs.Version, r.attrs.Plural = api.GroupRipstop, "v1", "changes"
	s.judge(r)
	r.writes = true
	req := &api.ChangeRequest{}
	if err := reviewInto(r, string(api.KindChangeRequest), req, func([]byte, *api.ChangeRequest) error {
		return errors.New("a ChangeRequest has no form in protobuf")
	}); err != nil {
		return s.failed(r, err)
	}
	r.dry = req.Spec.DryRun
	req.TypeMeta = api.TypeMeta{Kind: api.KindChangeRequest, APIVersion: api.VersionOurs}
	req.Status = api.ChangeRequestStatus{}
	if n := len(req.Spec.Writes); n == 0 || n > maxChangeWrites {
		return s.failed(r, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "spec.writes: %d of them; a change has 1 to %d", n, maxChangeWrites))
	}
	// No policy comes into a tier, and no pool beside another, between the
	// checks and the writes.
	s.tiers.Lock()
	defer s.tiers.Unlock()
	s.pools.Lock()
	defer s.pools.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	parts, st, err := s.stage(ctx, r, req.Spec)
	if err != nil {
		return s.failed(r, err)
	}
	if err := s.lostWays(ctx, req, st); err != nil {
		return s.failed(r, err)
	}
	if req.Spec.Test {
		if err := s.judgeTests(ctx, r, req, st); err != nil {
			return s.failed(r, err)
		}
		// Judging may have taken long: the writes have their own time.
		ctx, cancel = context.WithTimeout(r.Context(), storeTime)
		defer cancel()
	}
	todo := st.sorted()
	if !req.Spec.DryRun && len(todo) > 0 {
		if err := s.doChange(ctx, r, req, parts, todo); err != nil {
			return s.failed(r, err)
		}
	}
	for _, p := range parts {
		req.Status.Writes = append(req.Status.Writes, p.told(st, todo))
	}
	req.Spec.Writes = nil // the client knows them
	if req.Status.Change == "" {
		return ok(req)
	}
	return response{code: http.StatusCreated, body: req}
}

// changePart is one write of a change: a request of its own.
type changePart struct {
	*request
	key api.Key
}

// stage puts the writes of a change over the store, each by the handler that
// does it by itself. All that is wrong with any is told.
func (s *Server) stage(ctx context.Context, r *request, spec api.ChangeRequestSpec) ([]*changePart, *staged, error) {
	st := &staged{Store: s.cfg.Store, forTest: spec.Test && spec.DryRun}
	var parts []*changePart
	var faults []*api.Status
	for i, w := range spec.Writes {
		p, err := s.changePart(ctx, r, w, st)
		if err == nil {
			err = s.stageOne(p, w.Verb)
		}
		if err != nil {
			fault := s.status(r, err)
			at := fmt.Sprintf("spec.writes[%d]", i)
			fault.Message = at + ": " + fault.Message
			fault = locate(fault, at)
			faults = append(faults, fault)
			continue
		}
		parts = append(parts, p)
	}
	if len(faults) == 0 {
		return parts, st, nil
	}
	first := faults[0]
	for _, f := range faults[1:] {
		first.Message += "\n" + f.Message
		first.Details.Causes = append(first.Details.Causes, f.Details.Causes...)
	}
	return nil, nil, first
}

// locate makes the causes of a fault be of the write at a path.
func locate(fault *api.Status, at string) *api.Status {
	d := api.StatusDetails{}
	if fault.Details != nil {
		d = *fault.Details
	}
	if len(d.Causes) == 0 {
		d.Causes = []api.StatusCause{{Message: fault.Message}}
	}
	d.Causes = slices.Clone(d.Causes)
	for i, c := range d.Causes {
		d.Causes[i].Field = strings.TrimSuffix(at+"."+c.Field, ".")
	}
	fault.Details = &d
	return fault
}

// changePart makes a request out of a write, as if it had come by itself.
func (s *Server) changePart(ctx context.Context, r *request, w api.ChangeWrite, st *staged) (*changePart, error) {
	d, known := api.DescriptorOf(w.Kind)
	if !known || !api.Changeable(w.Kind) && !(st.forTest && api.Testable(w.Kind)) {
		return nil, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "kind %q: cannot be part of a change that undoes itself", w.Kind)
	}
	method := map[string]string{"create": http.MethodPost, "update": http.MethodPut, "patch": http.MethodPatch, "delete": http.MethodDelete}[w.Verb]
	if method == "" {
		return nil, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "verb %q: want create, update, patch or delete", w.Verb)
	}
	for _, name := range []string{w.Namespace, w.Name} {
		if name != "" && !isDNSName(name) {
			return nil, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "name %q: a name is lower-case letters, digits, '-' and '.'", name)
		}
	}
	if (w.Verb == "create") != (w.Name == "") {
		return nil, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "name %q: what is created has its name in the body, all else here", w.Name)
	}
	path := d.Path(w.Namespace)
	if w.Name != "" {
		path += "/" + w.Name
	}
	hr, err := http.NewRequestWithContext(ctx, method, path, io.NopCloser(bytes.NewReader(w.Body)))
	if err != nil {
		return nil, err
	}
	hr.RemoteAddr = r.RemoteAddr
	hr.Header.Set("User-Agent", r.UserAgent())
	hr.Header.Set("Content-Type", typeJSON)
	if w.MediaType != "" {
		hr.Header.Set("Content-Type", w.MediaType)
	}
	q := url.Values{}
	if w.Manager != "" {
		q.Set("fieldManager", w.Manager)
	}
	if w.Force {
		q.Set("force", "true")
	}
	p := &changePart{request: &request{Request: hr, peer: r.peer, id: r.id, query: q, staged: st}}
	p.attrs = Attributes{
		Verb: w.Verb, Group: d.Group, Version: d.Version, Plural: d.Plural, Namespace: w.Namespace, Name: w.Name, Path: path,
	}
	s.judge(p.request)
	if p.grant.None() {
		return nil, s.refuse(p.request, w.Verb, "")
	}
	if err := s.resolve(p.request); err != nil {
		return nil, err
	}
	return p, nil
}

// stageOne has the handler of a write put it over the store.
func (s *Server) stageOne(p *changePart, verb string) error {
	handle := map[string]func(*request) response{"create": s.create, "update": s.update, "patch": s.patch, "delete": s.delete}[verb]
	resp := handle(p.request)
	if st, is := resp.body.(*api.Status); is && resp.code >= 400 {
		return st
	}
	p.key = p.request.key() // a created object has its name by now
	w := p.staged.find(p.key)
	if w == nil {
		return nil // it is as it was
	}
	if _, bad := w.before.(*api.Unreadable); bad {
		return failure(http.StatusUnprocessableEntity, api.ReasonInvalid,
			"%s: its stored value cannot be read, so it could not be put back: write it without asking for a confirmation", p.what())
	}
	return nil
}

// told is what a write did, or would do.
func (p *changePart) told(st *staged, todo []*stagedWrite) api.ChangeWritten {
	out := api.ChangeWritten{Kind: p.key.Kind, Namespace: p.key.Namespace, Name: p.key.Name, Done: api.DoneUnchanged}
	w := st.find(p.key)
	if w == nil || !slices.Contains(todo, w) {
		return out
	}
	switch {
	case w.after == nil:
		out.Done = api.DoneDeleted
		return out
	case w.before == nil:
		out.Done = api.DoneCreated
	default:
		out.Done = api.DoneConfigured
	}
	if data, err := json.Marshal(w.after); err == nil {
		out.Object = data
	}
	return out
}

// doChange makes the Change and writes its objects.
func (s *Server) doChange(ctx context.Context, r *request, req *api.ChangeRequest, parts []*changePart, todo []*stagedWrite) error {
	c := &api.Change{TypeMeta: api.TypeMeta{Kind: api.KindChange, APIVersion: api.VersionOurs}}
	c.Name = changeName(s.cfg.Now())
	r.attrs.Name = c.Name
	c.Spec = api.ChangeSpec{
		User: r.id.User, From: r.from(), At: api.Time{Time: s.cfg.Now().UTC().Truncate(time.Second)},
		Timeout: req.Spec.Timeout, MustReach: req.Spec.MustReach, Operator: req.Spec.Operator,
	}
	for _, w := range todo {
		o := api.ChangedObject{Kind: w.key.Kind, Namespace: w.key.Namespace, Name: w.key.Name}
		var err error
		if o.Before, err = api.NewChangedValue(w.before); err == nil {
			o.After, err = api.NewChangedValue(w.after)
		}
		if err != nil {
			return failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "%s: %v", w.key, err)
		}
		c.Spec.Objects = append(c.Spec.Objects, o)
	}
	c.Default()
	if err := c.Validate(); err != nil {
		st := failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "the change is invalid: %v", err)
		st.Details = &api.StatusDetails{Causes: api.Causes(err)}
		return st
	}
	data, err := api.EncodeStored(c)
	if err != nil {
		return err
	}
	if n := len(data); n > api.MaxChange {
		return failure(http.StatusRequestEntityTooLarge, api.ReasonTooLarge,
			"the change needs %d bytes with what was before, a change that undoes itself has %d at most: divide it, or write it without asking for a confirmation", n, api.MaxChange)
	}
	by := map[api.Key]*request{}
	for _, p := range parts {
		p.staged, p.change = nil, c.Name
		by[p.key] = p.request
	}
	for _, w := range todo {
		if err := s.intend(by[w.key], w.before, w.after); err != nil {
			r.unwritten = true
			return err
		}
	}
	began, err := changes.Begin(ctx, s.cfg.Store, store.Stamp(c, nil, s.cfg.Now()).(*api.Change))
	if errors.Is(err, changes.ErrOverlap) {
		return failure(http.StatusConflict, api.ReasonConflict, "%v: confirm that one, or roll it back, first", err)
	}
	if err != nil {
		return err
	}
	s.log.Info("Change begun", "request_id", requestIDOf(r.Context()), "change", began.Name, "user", r.id.String(), "resources", len(todo), "timeout", began.Spec.Timeout.Duration)
	s.history.begun(ctx, began, req.Spec.How, todo)
	for i, w := range todo {
		if err := s.writePart(ctx, began, i, w, by[w.key]); err != nil {
			return s.undo(r, began, w.key, err)
		}
	}
	req.Status.Change = began.Name
	req.Status.Until = api.Time{Time: began.Spec.At.Add(began.Spec.Timeout.Duration)}
	return nil
}

// writePart writes one object of a change.
func (s *Server) writePart(ctx context.Context, c *api.Change, i int, w *stagedWrite, r *request) error {
	var at api.Revision
	if w.before != nil {
		var err error
		if at, err = revisionOf(w.before); err != nil {
			return err
		}
	}
	rev, err := changes.Write(ctx, s.cfg.Store, c, i, at)
	if err != nil {
		return err
	}
	s.wrote(r, w.before, w.after, rev)
	if w.after != nil {
		w.after.Metadata().ResourceVersion = revisionText(rev)
	}
	return nil
}

// undo rolls a change back of which an object could not be written, and says
// so.
func (s *Server) undo(r *request, c *api.Change, k api.Key, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTime)
	defer cancel()
	reason := k.String() + " could not be written"
	done, err := changes.RollBack(ctx, s.restoringFor(r), c.Name, reason)
	if err != nil {
		s.log.Error("Change not rolled back yet, it will be", "change", c.Name, "err", err)
		return failure(http.StatusServiceUnavailable, api.ReasonUnavailable,
			"%s could not be written: %v; what was written of change %s goes back by itself", k, why, c.Name)
	}
	s.history.over(ctx, done)
	return failure(http.StatusConflict, api.ReasonConflict, "%s could not be written: %v; nothing of the change stays", k, why)
}

// changeName is a name for a change: names sort by time.
func changeName(now time.Time) string {
	return generatedName(now.UTC().Format("20060102-150405") + "-")
}

// confirmChange lets a change stay.
func (s *Server) confirmChange(r *request) response {
	return s.endChange(r, "confirm", func(ctx context.Context, c *api.Change) (*api.Change, error) {
		done, err := changes.Confirm(ctx, s.cfg.Store, c.Name)
		if err == nil {
			s.history.confirmed(ctx, c)
		}
		return done, err
	})
}

// refuseChange rolls a change back before its time.
func (s *Server) refuseChange(r *request) response {
	return s.endChange(r, "rollback", func(ctx context.Context, c *api.Change) (*api.Change, error) {
		done, err := changes.RollBack(ctx, s.restoringFor(r), c.Name, "by user "+r.id.User)
		if err == nil {
			s.history.over(ctx, done)
		}
		return done, err
	})
}

// endChange ends a change: whose it is, or who may update changes, may do it.
func (s *Server) endChange(r *request, what string, end func(context.Context, *api.Change) (*api.Change, error)) response {
	r.attrs.Group, r.attrs.Version, r.attrs.Plural, r.attrs.Verb, r.attrs.Subresource = api.GroupRipstop, "v1", "changes", "update", what
	r.writes = true
	r.rules = s.cfg.Rights.Of(r.id)
	r.grant = r.rules.Grant(authz.Query{Verb: "update", Kind: api.KindChange, Name: r.attrs.Name})
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	c, err := changes.Get(ctx, s.cfg.Store, r.attrs.Name)
	if err != nil {
		return s.failed(r, err)
	}
	if c.Spec.User != r.id.User && !r.grant.Covers(c) {
		return s.failed(r, s.refuse(r, what, ""))
	}
	if err := s.intend(r, c, nil); err != nil {
		return s.failed(r, err)
	}
	done, err := end(ctx, c)
	switch {
	case errors.Is(err, changes.ErrOver):
		return s.failed(r, failure(http.StatusConflict, api.ReasonConflict, "change %s cannot be confirmed any more: it was rolled back: %s", c.Name, done.Status.Reason))
	case err != nil:
		return s.failed(r, err)
	}
	s.log.Info("Change ended", "request_id", requestIDOf(r.Context()), "change", c.Name, "user", r.id.String(), "verb", what)
	return ok(done)
}

// from is where a request comes from: "unix", or address and port.
func (r *request) from() string {
	if r.id.Via == "unix" {
		return "unix"
	}
	return r.RemoteAddr
}

// byRequestOnly refuses to write a Change by itself.
func byRequestOnly(verb string) error {
	return failure(http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed,
		"operation %s is not supported on Change: a change is made together with what it changes, by ripstop apply --confirm (POST %s), and ended by ripstop confirm or ripstop rollback", verb, api.ChangeRequestPath)
}
