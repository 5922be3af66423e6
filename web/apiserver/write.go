// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// tries is how often an unconditional write is repeated when somebody else
// wrote in between.
const tries = 5

// create makes a new object: 201, or 409 if it is there.
func (s *Server) create(r *request) response {
	dry, err := r.dryRun()
	if err != nil {
		return s.failed(r, err)
	}
	o, err := decodeObject(r)
	if err != nil {
		return s.failed(r, err)
	}
	if err := s.mayWrite(r, o.Key(), "create"); err != nil {
		return s.failed(r, err)
	}
	m := o.Metadata()
	if m.ResourceVersion != "" {
		return s.failed(r, failure(http.StatusBadRequest, api.ReasonBadRequest, "metadata.resourceVersion: must not be set on an object to be created"))
	}
	// The server's own: whoever writes cannot choose them.
	m.UID, m.CreationTimestamp, m.Generation = "", api.Time{}, 0
	generate := m.Name == "" && m.GenerateName != ""
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		if generate {
			m.Name = generatedName(m.GenerateName)
		}
		r.attrs.Name = m.Name
		out, err := s.createOne(ctx, r, api.Clone(o), dry, false)
		if generate && errors.Is(err, store.ErrExists) && attempt < tries {
			continue
		}
		if err != nil {
			return s.failed(r, err)
		}
		return s.written(r, http.StatusCreated, out)
	}
}

// written is the answer to a write: the object in the form that the client
// accepts.
func (s *Server) written(r *request, code int, o api.Object) response {
	v, err := s.newView(r)
	if err != nil {
		// It is done; that the client cannot read it is no reason to say no.
		return response{code: code, body: o}
	}
	return response{code: code, body: v.one(o)}
}

// generatedName adds five letters to a prefix, as generateName asks for.
func generatedName(prefix string) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	name := []byte(prefix)
	for range 5 {
		name = append(name, letters[rand.IntN(len(letters))])
	}
	return string(name)
}

// createOne writes a new object, which is changed. applied: its managed
// fields are right already.
func (s *Server) createOne(ctx context.Context, r *request, o api.Object, dry, applied bool) (api.Object, error) {
	o = r.part(nil, o)
	if !applied {
		if err := r.track(nil, o); err != nil {
			return nil, err
		}
	}
	o.Default()
	if err := s.coversNew(r, o); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, invalidObject(r, o, err)
	}
	if err := s.checkGiving(ctx, r, nil, o); err != nil {
		return nil, err
	}
	unlock, err := s.checkCreate(ctx, r, o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s.advise(ctx, r, o)
	if dry {
		_, err := s.storeOf(r).Get(ctx, o.Key())
		if err == nil {
			return nil, store.ErrExists
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		return store.Stamp(o, nil, s.cfg.Now()), nil
	}
	o = store.Stamp(o, nil, s.cfg.Now())
	if c, is := o.(*api.Credential); is {
		if err := s.issue(r, c); err != nil {
			return nil, err
		}
	}
	if err := s.intend(r, nil, o); err != nil {
		return nil, err
	}
	rev, err := s.storeOf(r).Put(ctx, o, store.Absent())
	if err != nil {
		return nil, err
	}
	s.wrote(r, nil, o, rev)
	o.Metadata().ResourceVersion = revisionText(rev)
	return o, nil
}

// storeOf is where a request reads and writes: the Store, or what lies over it
// as long as the request is a part of a change that is not done yet.
func (s *Server) storeOf(r *request) store.Store {
	if r.staged != nil {
		return r.staged
	}
	return s.cfg.Store
}

// wrote notes a write that was done: before is nil for a new object, after for
// one that is gone, whose revision is zero.
func (s *Server) wrote(r *request, before, after api.Object, rev api.Revision) {
	if r.staged != nil {
		return
	}
	o := after
	if o == nil {
		o = before
	}
	k := o.Key()
	args := []any{"request_id", requestIDOf(r.Context()), "verb", r.attrs.Verb, "key", k.String(), "user", r.id.String()}
	if rev != 0 {
		s.census.wrote(k.Kind, rev)
		args = append(args, "revision", int64(rev))
	}
	s.log.Info("Resource written", args...)
	s.history.note(r, before, after, s.cfg.Now())
	// What decides who may do what counts before the answer goes out.
	if k.Kind == api.KindCredential {
		s.cfg.Authn.Await(r.Context(), k, rev)
	}
	s.cfg.Rights.Await(r.Context(), k, rev)
}

// update replaces an object.
func (s *Server) update(r *request) response {
	body, err := decodeObject(r)
	if err != nil {
		return s.failed(r, err)
	}
	return s.change(r, changing{
		want: body.Metadata().ResourceVersion,
		next: func(api.Object) (api.Object, error) { return api.Clone(body), nil },
	})
}

// changing is a change of one object.
type changing struct {
	// want is the resourceVersion that the client insists on; without it, a
	// write that somebody came before is repeated.
	want string
	// next makes the new object out of the old one.
	next func(old api.Object) (api.Object, error)
	// applied: next also keeps the managed fields; and where there is no
	// object it is asked with nil for a new one.
	applied bool
}

// change reads an object, makes the new one and writes that over exactly what
// was read.
func (s *Server) change(r *request, c changing) response {
	dry, err := r.dryRun()
	if err != nil {
		return s.failed(r, err)
	}
	if _, err := r.validation(); err != nil {
		return s.failed(r, err)
	}
	if err := s.mayWrite(r, r.key(), r.attrs.Verb); err != nil {
		return s.failed(r, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		r.warnings = nil
		o, code, err := s.changeOnce(ctx, r, c, dry)
		again := errors.Is(err, store.ErrConflict) || c.applied && errors.Is(err, store.ErrExists)
		if again && c.want == "" && attempt < tries {
			continue
		}
		if err != nil {
			return s.failed(r, err)
		}
		return s.written(r, code, o)
	}
}

func (s *Server) changeOnce(ctx context.Context, r *request, c changing, dry bool) (_ api.Object, code int, err error) {
	old, err := s.read(ctx, s.storeOf(r), r.key(), false)
	if errors.Is(err, store.ErrNotFound) && c.applied && c.want == "" && r.attrs.Subresource == "" {
		o, err := c.next(nil)
		if err != nil {
			return nil, 0, err
		}
		m := o.Metadata()
		m.UID, m.CreationTimestamp, m.Generation = "", api.Time{}, 0
		o, err = s.createOne(ctx, r, o, dry, true)
		return o, http.StatusCreated, err
	}
	if err != nil {
		return nil, 0, err
	}
	if err := s.covers(r, old); err != nil {
		return nil, 0, err
	}
	om := old.Metadata()
	if c.want != "" && c.want != om.ResourceVersion {
		return nil, 0, failure(http.StatusConflict, api.ReasonConflict,
			"%s was changed since it was read (it is at resourceVersion %s, the request says %s): read it again and repeat the change", r.what(), om.ResourceVersion, c.want)
	}
	if u, bad := old.(*api.Unreadable); bad && r.attrs.Subresource != "" {
		return nil, 0, unreadable(r, u)
	}
	o, err := c.next(old)
	if err != nil {
		return nil, 0, err
	}
	o = r.part(old, o)
	m := o.Metadata()
	if m.UID != "" && om.UID != "" && m.UID != om.UID {
		return nil, 0, failure(http.StatusConflict, api.ReasonConflict,
			"%s: metadata.uid is %s, the request says %s: it was deleted and made anew since it was read", r.what(), om.UID, m.UID)
	}
	m.UID, m.CreationTimestamp, m.Generation = om.UID, om.CreationTimestamp, om.Generation
	m.GenerateName, m.ResourceVersion = om.GenerateName, om.ResourceVersion
	if !c.applied {
		if err := r.track(old, o); err != nil {
			return nil, 0, err
		}
	}
	o.Default()
	if err := s.covers(r, o); err != nil {
		return nil, 0, err
	}
	if err := o.Validate(); err != nil {
		return nil, 0, invalidObject(r, o, err)
	}
	if err := s.checkGiving(ctx, r, old, o); err != nil {
		return nil, 0, err
	}
	unlock, err := s.checkUpdate(ctx, r, old, o)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	s.advise(ctx, r, o)
	if same(old, o) {
		return old, http.StatusOK, nil
	}
	if dry {
		return o, http.StatusOK, nil
	}
	cond := store.Over(old)
	if b := builtin(r.key()); b != nil && om.UID == "" { // shown, not stored
		o, cond = store.Stamp(o, nil, s.cfg.Now()), store.Absent()
		m = o.Metadata()
	}
	if err := s.intend(r, old, o); err != nil {
		return nil, 0, err
	}
	rev, err := s.storeOf(r).Put(ctx, o, cond)
	if err != nil {
		return nil, 0, err
	}
	s.wrote(r, old, o, rev)
	m.ResourceVersion = revisionText(rev)
	return o, http.StatusOK, nil
}

// same reports whether two objects read alike, but for the times in their
// managed fields, so that writing the second over the first would change
// nothing.
func same(a, b api.Object) bool {
	if _, bad := a.(*api.Unreadable); bad {
		return false
	}
	bare := func(o api.Object) ([]byte, error) {
		m := o.Metadata()
		managed := m.ManagedFields
		m.ManagedFields = nil
		defer func() { m.ManagedFields = managed }()
		return json.Marshal(o)
	}
	if !sameManaged(a.Metadata().ManagedFields, b.Metadata().ManagedFields) {
		return false
	}
	x, errX := bare(api.Clone(a))
	y, errY := bare(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
