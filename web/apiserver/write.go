// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"

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
	m.UID, m.CreationTimestamp, m.Generation, m.ManagedFields = "", api.Time{}, 0, nil
	generate := m.Name == "" && m.GenerateName != ""
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		if generate {
			m.Name = generatedName(m.GenerateName)
		}
		r.attrs.Name = m.Name
		out, err := s.createOne(ctx, r, o, dry)
		if generate && errors.Is(err, store.ErrExists) && attempt < tries {
			continue
		}
		if err != nil {
			return s.failed(r, err)
		}
		return response{code: http.StatusCreated, body: out}
	}
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

func (s *Server) createOne(ctx context.Context, r *request, o api.Object, dry bool) (api.Object, error) {
	o.Default()
	if err := o.Validate(); err != nil {
		return nil, invalidObject(r, o, err)
	}
	unlock, err := s.checkCreate(ctx, r, o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if dry {
		_, err := s.cfg.Store.Get(ctx, o.Key())
		if err == nil {
			return nil, store.ErrExists
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		return store.Stamp(o, nil, s.cfg.Now()), nil
	}
	o = store.Stamp(o, nil, s.cfg.Now())
	rev, err := s.cfg.Store.Put(ctx, o, store.Absent())
	if err != nil {
		return nil, err
	}
	s.wrote(r, o.Key(), rev)
	o.Metadata().ResourceVersion = revisionText(rev)
	return o, nil
}

// wrote logs a write that was done; rev is zero if it is not known.
func (s *Server) wrote(r *request, k api.Key, rev api.Revision) {
	args := []any{"verb", r.attrs.Verb, "key", k.String(), "user", r.id.String()}
	if rev != 0 {
		args = append(args, "revision", int64(rev))
	}
	s.log.Info("Resource written", args...)
}

// update replaces an object.
func (s *Server) update(r *request) response {
	body, err := decodeObject(r)
	if err != nil {
		return s.failed(r, err)
	}
	return s.change(r, body.Metadata().ResourceVersion, func(api.Object) (api.Object, error) {
		return api.Clone(body), nil
	})
}

// patch changes parts of an object by a JSON merge patch.
func (s *Server) patch(r *request) response {
	typ, err := r.mediaType()
	if err != nil {
		return s.failed(r, err)
	}
	if typ != "application/merge-patch+json" {
		return s.failed(r, failure(http.StatusUnsupportedMediaType, api.ReasonMediaType,
			"Content-Type %q: the only kind of patch is application/merge-patch+json", typ))
	}
	data, err := r.body()
	if err != nil {
		return s.failed(r, err)
	}
	tree, err := jsonTree(data)
	if err != nil {
		return s.failed(r, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err))
	}
	p, isObject := tree.(map[string]any)
	if !isObject {
		return s.failed(r, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: a merge patch is a JSON object"))
	}
	var want string
	if meta, ok := p["metadata"].(map[string]any); ok {
		want, _ = meta["resourceVersion"].(string)
	}
	return s.change(r, want, func(old api.Object) (api.Object, error) {
		if u, bad := old.(*api.Unreadable); bad {
			return nil, unreadable(r, u)
		}
		return patched(r, old, p)
	})
}

// patched is old with the patch applied, decoded as strictly as a whole body.
func patched(r *request, old api.Object, patch map[string]any) (api.Object, error) {
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	tree, err := jsonTree(before)
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(mergePatch(tree, patch))
	if err != nil {
		return nil, err
	}
	if len(after) > maxBody {
		return nil, failure(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the patched object is larger than %d bytes", maxBody)
	}
	o, err := api.Decode(after)
	if err != nil {
		return nil, invalidDocument(err)
	}
	return o, fits(r, o)
}

// change reads an object, lets next make the new one and writes that over
// exactly what was read. want is the resourceVersion that the client insists
// on; without it, a write that somebody came before is repeated.
func (s *Server) change(r *request, want string, next func(old api.Object) (api.Object, error)) response {
	dry, err := r.dryRun()
	if err != nil {
		return s.failed(r, err)
	}
	if err := s.mayWrite(r, r.key(), r.attrs.Verb); err != nil {
		return s.failed(r, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		o, err := s.changeOnce(ctx, r, want, dry, next)
		if errors.Is(err, store.ErrConflict) && want == "" && attempt < tries {
			continue
		}
		if err != nil {
			return s.failed(r, err)
		}
		return ok(o)
	}
}

func (s *Server) changeOnce(ctx context.Context, r *request, want string, dry bool, next func(api.Object) (api.Object, error)) (api.Object, error) {
	old, err := s.cfg.Store.Get(ctx, r.key())
	if err != nil {
		return nil, err
	}
	om := old.Metadata()
	if want != "" && want != om.ResourceVersion {
		return nil, failure(http.StatusConflict, api.ReasonConflict,
			"%s was changed since it was read (it is at resourceVersion %s, the request says %s): read it again and repeat the change", r.what(), om.ResourceVersion, want)
	}
	o, err := next(old)
	if err != nil {
		return nil, err
	}
	m := o.Metadata()
	if m.UID != "" && om.UID != "" && m.UID != om.UID {
		return nil, failure(http.StatusConflict, api.ReasonConflict,
			"%s: metadata.uid is %s, the request says %s: it was deleted and made anew since it was read", r.what(), om.UID, m.UID)
	}
	m.UID, m.CreationTimestamp, m.Generation, m.ManagedFields = om.UID, om.CreationTimestamp, om.Generation, om.ManagedFields
	m.GenerateName, m.ResourceVersion = om.GenerateName, om.ResourceVersion
	o.Default()
	if err := o.Validate(); err != nil {
		return nil, invalidObject(r, o, err)
	}
	unlock, err := s.checkUpdate(ctx, r, old, o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if dry || same(old, o) {
		return o, nil
	}
	at, err := strconv.ParseInt(om.ResourceVersion, 10, 64)
	if err != nil {
		return nil, err
	}
	rev, err := s.cfg.Store.Put(ctx, o, store.At(api.Revision(at)))
	if err != nil {
		return nil, err
	}
	s.wrote(r, o.Key(), rev)
	m.ResourceVersion = revisionText(rev)
	return o, nil
}

// same reports whether two objects read alike, so that writing the second
// over the first would change nothing.
func same(a, b api.Object) bool {
	if _, bad := a.(*api.Unreadable); bad {
		return false
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// deleteOptions is the body of a DELETE: Kubernetes' DeleteOptions. What is
// not listed is refused, so that no condition is overlooked.
type deleteOptions struct {
	Kind               string   `json:"kind"`
	APIVersion         string   `json:"apiVersion"`
	GracePeriodSeconds *int64   `json:"gracePeriodSeconds"`
	PropagationPolicy  *string  `json:"propagationPolicy"`
	OrphanDependents   *bool    `json:"orphanDependents"`
	DryRun             []string `json:"dryRun"`
	Preconditions      struct {
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"preconditions"`
}

func (r *request) deleteOptions() (deleteOptions, error) {
	var o deleteOptions
	data, err := r.body()
	if err != nil {
		return o, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return o, nil
	}
	if typ, err := r.mediaType(); err != nil {
		return o, err
	} else if typ != "application/json" {
		return o, failure(http.StatusUnsupportedMediaType, api.ReasonMediaType, "Content-Type %q: send DeleteOptions as application/json", typ)
	}
	if _, err := jsonTree(data); err != nil {
		return o, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: DeleteOptions: %v", err)
	}
	if o.Kind != "" && o.Kind != "DeleteOptions" {
		return o, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: kind %q: want DeleteOptions", o.Kind)
	}
	return o, nil
}

// delete removes an object.
func (s *Server) delete(r *request) response {
	dry, err := r.dryRun()
	if err != nil {
		return s.failed(r, err)
	}
	o, err := r.deleteOptions()
	if err != nil {
		return s.failed(r, err)
	}
	for _, v := range o.DryRun {
		if v != "All" {
			return s.failed(r, failure(http.StatusBadRequest, api.ReasonBadRequest, "dryRun %q: the only value is All", v))
		}
		dry = true
	}
	if err := s.mayWrite(r, r.key(), "delete"); err != nil {
		return s.failed(r, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		uid, err := s.deleteOnce(ctx, r, o, dry)
		if errors.Is(err, store.ErrConflict) && o.Preconditions.ResourceVersion == "" && attempt < tries {
			continue
		}
		if err != nil {
			return s.failed(r, err)
		}
		return ok(&api.Status{
			Kind: "Status", APIVersion: "v1", Status: api.StatusSuccess,
			Details: &api.StatusDetails{Name: r.attrs.Name, Group: r.attrs.Group, Kind: r.attrs.Plural, UID: uid},
		})
	}
}

func (s *Server) deleteOnce(ctx context.Context, r *request, o deleteOptions, dry bool) (uid string, err error) {
	old, err := s.cfg.Store.Get(ctx, r.key())
	if err != nil {
		return "", err
	}
	m := old.Metadata()
	if p := o.Preconditions.UID; p != "" && p != m.UID {
		return "", failure(http.StatusConflict, api.ReasonConflict, "%s: preconditions.uid is %s, the object's uid is %s", r.what(), p, m.UID)
	}
	if p := o.Preconditions.ResourceVersion; p != "" && p != m.ResourceVersion {
		return "", failure(http.StatusConflict, api.ReasonConflict,
			"%s: preconditions.resourceVersion is %s, the object is at %s", r.what(), p, m.ResourceVersion)
	}
	unlock, err := s.checkDelete(ctx, r)
	if err != nil {
		return "", err
	}
	defer unlock()
	if dry {
		return m.UID, nil
	}
	at, err := strconv.ParseInt(m.ResourceVersion, 10, 64)
	if err != nil {
		return "", err
	}
	if err := s.cfg.Store.Delete(ctx, r.key(), store.At(api.Revision(at))); err != nil {
		return "", err
	}
	s.wrote(r, r.key(), 0)
	return m.UID, nil
}
