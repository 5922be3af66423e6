// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"net/http"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// deleteCollection removes what a list with the same selectors shows, one by
// one: 200 with the list of what was removed. It ends at the first that
// cannot be removed; what went before stays removed. An object that was
// changed since the list no longer is what the selectors said, and counts as
// such.
func (s *Server) deleteCollection(r *request) response {
	o, dry, err := r.deletion()
	if err != nil {
		return s.failed(r, err)
	}
	if o.Preconditions.UID != "" || o.Preconditions.ResourceVersion != "" {
		return s.failed(r, failure(http.StatusBadRequest, api.ReasonBadRequest, "preconditions: they are of one object; delete it by its name"))
	}
	v, err := s.newView(r)
	if err != nil {
		return s.failed(r, err)
	}
	f, err := newFilter(r)
	if err != nil {
		return s.failed(r, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	objs, meta, err := s.list(ctx, r, f)
	if err != nil {
		return s.failed(r, err)
	}
	var gone []api.Object
	for _, obj := range objs {
		k := obj.Key()
		r.attrs.Namespace, r.attrs.Name = k.Namespace, k.Name
		if builtin(k) != nil && s.mayWrite(r, k, "delete") != nil {
			continue // it is shown with the others and stays
		}
		err := s.mayWrite(r, k, "delete")
		if err == nil {
			one := o
			one.Preconditions.UID, one.Preconditions.ResourceVersion = obj.Metadata().UID, obj.Metadata().ResourceVersion
			_, err = s.deleteOnce(ctx, r, one, dry)
		}
		if errors.Is(err, store.ErrNotFound) {
			continue // somebody else did it
		}
		if err != nil {
			return s.failed(r, err)
		}
		gone = append(gone, obj)
	}
	return ok(v.list(gone, meta))
}
