// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"

	"github.com/ripstop/ripstop/daemon/api"
)

// Media types of bodies.
const (
	typeJSON       = "application/json"
	typeYAML       = "application/yaml"
	typeProtobuf   = "application/vnd.kubernetes.protobuf"
	typeJSONPatch  = "application/json-patch+json"
	typeMergePatch = "application/merge-patch+json"
	typeApplyPatch = "application/apply-patch+yaml"
)

// validation says what becomes of fields that are unknown or there twice.
type validation uint8

// Strict refuses them; Warn leaves them out and tells; Ignore leaves them
// out. What says which packets may pass is always strict: see
// api.DecodeLenient.
const (
	validateStrict validation = iota
	validateWarn
	validateIgnore
)

// validation reads the fieldValidation parameter. Without it the answer is
// Strict: where Kubernetes warns, a firewall refuses.
func (r *request) validation() (validation, error) {
	switch v := r.query.Get("fieldValidation"); v {
	case "", "Strict":
		return validateStrict, nil
	case "Warn":
		return validateWarn, nil
	case "Ignore":
		return validateIgnore, nil
	default:
		return 0, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "fieldValidation %q: want Strict, Warn or Ignore", v)
	}
}

// decode reads one object as JSON, as strictly as the request asks for.
func (r *request) decode(data []byte) (api.Object, error) {
	mode, err := r.validation()
	if err != nil {
		return nil, err
	}
	if mode == validateStrict {
		o, err := api.Decode(data)
		if err != nil {
			return nil, invalidDocument(err)
		}
		return o, nil
	}
	o, skipped, err := api.DecodeLenient(data)
	if err != nil {
		return nil, invalidDocument(err)
	}
	for _, f := range skipped {
		if mode == validateWarn {
			r.warn("%v: left out", f)
		}
	}
	return o, nil
}

// warn adds a warning to the answer, at most maxWarnings of them, each once.
func (r *request) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, w := range r.warnings {
		if w == text {
			return
		}
	}
	if len(r.warnings) < maxWarnings {
		r.warnings = append(r.warnings, text)
	}
}

// maxWarnings is how many warnings go with an answer, so that headers stay
// small.
const maxWarnings = 10

// decodeObject reads the body: one object of the path's kind.
func decodeObject(r *request) (api.Object, error) {
	typ, err := r.mediaType()
	if err != nil {
		return nil, err
	}
	data, err := r.body()
	if err != nil {
		return nil, err
	}
	mode, err := r.validation()
	if err != nil {
		return nil, err
	}
	switch typ {
	case typeJSON:
	case typeYAML, "text/yaml", "application/x-yaml":
		if mode == validateStrict {
			return decodeYAML(r, data)
		}
		if data, err = api.ToJSON(data); err != nil {
			return nil, invalidDocument(err)
		}
	case typeProtobuf:
		if r.desc.Kind != api.KindNamespace {
			return nil, failure(http.StatusUnsupportedMediaType, api.ReasonMediaType,
				"Content-Type %q: only objects of Kubernetes' own kinds have this form; send application/json or application/yaml", typ)
		}
		o, err := namespaceFromProtobuf(data)
		if err != nil {
			return nil, invalidDocument(err)
		}
		return o, fits(r, o)
	default:
		return nil, failure(http.StatusUnsupportedMediaType, api.ReasonMediaType,
			"Content-Type %q: send application/json or application/yaml", typ)
	}
	o, err := r.decode(data)
	if err != nil {
		return nil, err
	}
	return o, fits(r, o)
}

// decodeYAML is strict, and tells the lines of faults.
func decodeYAML(r *request, data []byte) (api.Object, error) {
	docs, err := api.DecodeAll(data, "")
	if err != nil {
		return nil, invalidDocument(err)
	}
	if len(docs) != 1 {
		return nil, failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %d objects; send one", len(docs))
	}
	return docs[0].Object, fits(r, docs[0].Object)
}
