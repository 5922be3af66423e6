// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"net/http"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/ripstop/ripstop/daemon/api"
)

// maxOperations is how many operations a JSON patch may have.
const maxOperations = 1000

// patch changes parts of an object, in the way that the body's media type
// names.
func (s *Server) patch(r *request) response {
	typ, err := r.mediaType()
	if err != nil {
		return s.failed(r, err)
	}
	var c changing
	switch typ {
	case typeMergePatch:
		c, err = r.mergePatch()
	case typeJSONPatch:
		c, err = r.jsonPatch()
	case typeApplyPatch:
		c, err = r.applyPatch()
	default:
		err = failure(http.StatusUnsupportedMediaType, api.ReasonMediaType,
			"Content-Type %q: the kinds of patch are %s, %s and %s", typ, typeJSONPatch, typeMergePatch, typeApplyPatch)
	}
	if err != nil {
		return s.failed(r, err)
	}
	if typ != typeApplyPatch && r.query.Has("force") {
		return s.failed(r, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "force: only for server-side apply (%s)", typeApplyPatch))
	}
	return s.change(r, c)
}

// mergePatch reads a JSON merge patch (RFC 7396).
func (r *request) mergePatch() (changing, error) {
	data, err := r.body()
	if err != nil {
		return changing{}, err
	}
	tree, err := jsonTree(data)
	if err != nil {
		return changing{}, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
	}
	p, isObject := tree.(map[string]any)
	if !isObject {
		return changing{}, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: a merge patch is a JSON object")
	}
	var want string
	if meta, ok := p["metadata"].(map[string]any); ok {
		want, _ = meta["resourceVersion"].(string)
	}
	return changing{want: want, next: r.onDocument(func(doc []byte) ([]byte, error) {
		tree, err := jsonTree(doc)
		if err != nil {
			return nil, err
		}
		return json.Marshal(mergePatch(tree, p))
	})}, nil
}

// jsonPatch reads a JSON patch (RFC 6902).
func (r *request) jsonPatch() (changing, error) {
	data, err := r.body()
	if err != nil {
		return changing{}, err
	}
	bad := func(err error) error {
		return failure(http.StatusBadRequest, api.ReasonBadRequest, "body: JSON patch: %v", err)
	}
	if _, err := jsonTree(data); err != nil {
		return changing{}, bad(err)
	}
	p, err := jsonpatch.DecodePatch(data)
	if err != nil {
		return changing{}, bad(err)
	}
	if len(p) > maxOperations {
		return changing{}, failure(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "body: JSON patch of %d operations, at most %d are done", len(p), maxOperations)
	}
	o := jsonpatch.NewApplyOptions()
	o.SupportNegativeIndices = false // RFC 6901 has none
	o.AccumulatedCopySizeLimit = maxBody
	return changing{next: r.onDocument(func(doc []byte) ([]byte, error) {
		out, err := p.ApplyWithOptions(doc, o)
		if err != nil {
			return nil, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "%s: the patch does not fit: %v", r.what(), err)
		}
		return out, nil
	})}, nil
}

// onDocument makes the next object of a change by changing the JSON of the
// old one. The result is decoded as a whole body is.
func (r *request) onDocument(edit func(doc []byte) ([]byte, error)) func(api.Object) (api.Object, error) {
	return func(old api.Object) (api.Object, error) {
		if u, bad := old.(*api.Unreadable); bad {
			return nil, unreadable(r, u)
		}
		before, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		after, err := edit(before)
		if err != nil {
			return nil, err
		}
		if len(after) > maxBody {
			return nil, failure(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the patched object is larger than %d bytes", maxBody)
		}
		o, err := r.decode(after)
		if err != nil {
			return nil, err
		}
		return o, fits(r, o)
	}
}

// applyPatch reads what one manager wants of an object (server-side apply):
// the fields it names are set and are its own from then on, those it no
// longer names and that nobody else wants go.
func (r *request) applyPatch() (changing, error) {
	if r.query.Get("fieldManager") == "" {
		return changing{}, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "fieldManager: server-side apply needs it: the name of the program or person that applies")
	}
	force := r.flag("force")
	data, err := r.body()
	if err != nil {
		return changing{}, err
	}
	if data, err = api.ToJSON(data); err != nil {
		return changing{}, invalidDocument(err)
	}
	if _, err := jsonTree(data); err != nil { // the same member twice, too deep
		return changing{}, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
	}
	patch, err := parseTree(data)
	if err != nil {
		return changing{}, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
	}
	if k, v := patch.GetKind(), patch.GetAPIVersion(); k != string(r.desc.Kind) || v != r.desc.APIVersion() {
		return changing{}, failure(http.StatusBadRequest, api.ReasonBadRequest,
			"body: kind %q, apiVersion %q: the path names %s, apiVersion %q", k, v, r.desc.Kind, r.desc.APIVersion())
	}
	for _, c := range []struct{ field, body, path string }{
		{"metadata.name", patch.GetName(), r.attrs.Name}, {"metadata.namespace", patch.GetNamespace(), r.attrs.Namespace},
	} {
		if c.body != "" && c.body != c.path {
			return changing{}, failure(http.StatusBadRequest, api.ReasonBadRequest, "%s: the body says %q, the path %q", c.field, c.body, c.path)
		}
	}
	want := patch.GetResourceVersion()
	patch.SetName(r.attrs.Name)
	if r.desc.Namespaced {
		patch.SetNamespace(r.attrs.Namespace)
	}
	return changing{want: want, applied: true, next: func(old api.Object) (api.Object, error) {
		return r.merged(old, patch, force)
	}}, nil
}
