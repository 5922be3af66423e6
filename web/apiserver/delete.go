// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

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
	typ, err := r.mediaType()
	if err != nil {
		return o, err
	}
	switch typ {
	case typeJSON:
	case typeYAML, "text/yaml", "application/x-yaml":
		data, err = api.ToJSON(data)
	case typeProtobuf:
		data, err = deleteOptionsFromProtobuf(data)
	default:
		return o, failure(http.StatusUnsupportedMediaType, api.ReasonMediaType, "Content-Type %q: send DeleteOptions as application/json", typ)
	}
	if err != nil {
		return o, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
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

// deletion is what a DELETE asks for, from body and parameters, and whether
// it is only to be tried. How dependents are to go is checked and has no
// effect: nothing depends on other objects.
func (r *request) deletion() (o deleteOptions, dry bool, err error) {
	if dry, err = r.dryRun(); err != nil {
		return o, false, err
	}
	if o, err = r.deleteOptions(); err != nil {
		return o, false, err
	}
	for _, v := range o.DryRun {
		if v != "All" {
			return o, false, failure(http.StatusBadRequest, api.ReasonBadRequest, "dryRun %q: the only value is All", v)
		}
		dry, r.dry = true, true
	}
	policy := r.query.Get("propagationPolicy")
	if o.PropagationPolicy != nil {
		policy = *o.PropagationPolicy
	}
	switch policy {
	case "", "Orphan", "Background", "Foreground":
	default:
		return o, false, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "propagationPolicy %q: want Orphan, Background or Foreground", policy)
	}
	if policy != "" && o.OrphanDependents != nil {
		return o, false, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "propagationPolicy: cannot be given together with orphanDependents")
	}
	return o, dry, nil
}

// delete removes an object.
func (s *Server) delete(r *request) response {
	o, dry, err := r.deletion()
	if err != nil {
		return s.failed(r, err)
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
	old, err := s.storeOf(r).Get(ctx, r.key())
	if err != nil {
		return "", err
	}
	if err := s.covers(r, old); err != nil {
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
	at, err := revisionOf(old)
	if err != nil {
		return "", err
	}
	if err := s.intend(r, old, nil); err != nil {
		return "", err
	}
	if err := s.storeOf(r).Delete(ctx, r.key(), store.At(at)); err != nil {
		return "", err
	}
	s.wrote(r, old, nil, 0)
	return m.UID, nil
}
