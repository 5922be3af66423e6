// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"

	"github.com/ripstop/ripstop/daemon/api"
)

// openAPI are the documents of OpenAPI: one of version 3 for each group and
// version, by its path, and one of version 2 for everything. They are made
// when first asked for.
type openAPI struct {
	v3    map[string]document // by "api/v1", "apis/projectcalico.org/v3"
	index document            // of v3
	v2    document
	v2pb  document // v2 as protobuf, for kubectl up to 1.27
}

// document is a document as it is sent, with its hash.
type document struct {
	data []byte
	typ  string
	hash string
}

func newDocument(typ string, data []byte) document {
	sum := sha256.Sum256(data)
	return document{data: data, typ: typ, hash: strings.ToUpper(hex.EncodeToString(sum[:]))}
}

// typeProtobuf2 is the media type of OpenAPI 2 as protobuf; old clients know
// it with an at sign only, which is not one that can be parsed.
const (
	typeProtobuf2    = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	typeProtobuf2Old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
)

// newOpenAPI makes the documents.
func newOpenAPI(c catalog, version string) func() *openAPI {
	return sync.OnceValue(func() *openAPI {
		o := &openAPI{v3: map[string]document{}}
		info := node{"title": "Ripstop", "version": version}
		index := node{}
		for _, gv := range c.groupVersions() {
			paths := node{}
			for _, k := range gv.kinds {
				k.addPaths(paths, true)
			}
			d := newDocument("application/json", mustJSON(node{
				"openapi": "3.0.0", "info": info, "paths": paths,
				"components": node{"schemas": rawSchemas(metaPrefix, definitionPrefix(gv.kinds[0].Descriptor))},
			}))
			path := strings.TrimPrefix(gv.root(), "/")
			o.v3[path] = d
			index[path] = node{"serverRelativeURL": "/openapi/v3/" + path + "?hash=" + d.hash}
		}
		o.index = newDocument("application/json", mustJSON(node{"paths": index}))

		paths := node{}
		for _, k := range c.kinds {
			k.addPaths(paths, false)
		}
		v2 := mustJSON(node{"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions2()})
		o.v2 = newDocument("application/json", v2)
		parsed, err := openapi_v2.ParseDocument(v2)
		if err != nil {
			panic(fmt.Sprintf("apiserver: OpenAPI 2 of our own: %v", err))
		}
		pb, err := proto.Marshal(parsed)
		if err != nil {
			panic(fmt.Sprintf("apiserver: OpenAPI 2 as protobuf: %v", err))
		}
		o.v2pb = newDocument(typeProtobuf2, pb)
		return o
	})
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("apiserver: a document of our own: %v", err))
	}
	return data
}

// node is a JSON object of a document.
type node = map[string]any

// definitions2 are the schemas as OpenAPI 2 has them.
func definitions2() any {
	var tree any
	if err := json.Unmarshal(bytes.ReplaceAll(schemaJSON, []byte(refs3), []byte(refs2)), &tree); err != nil {
		panic(fmt.Sprintf("apiserver: schema.json: %v", err))
	}
	return flatRefs(tree)
}

// flatRefs puts references beside the description, where version 2 wants
// them; version 3 needs a list around them there.
func flatRefs(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if all, ok := v["allOf"].([]any); ok && len(all) == 1 {
			delete(v, "allOf")
			delete(v, "default")
			v["$ref"] = all[0].(map[string]any)["$ref"]
		}
		for k := range v {
			v[k] = flatRefs(v[k])
		}
	case []any:
		for i := range v {
			v[i] = flatRefs(v[i])
		}
	}
	return v
}

// parameter is one that an operation understands.
type parameter struct{ name, typ, description string }

// Parameters of reads, of writes and of both.
var (
	parametersOfWrites = []parameter{
		{"dryRun", "string", "All: go through with everything but the write itself."},
		{"fieldManager", "string", "Who writes, for managedFields; at most 128 bytes."},
		{"fieldValidation", "string", "Strict (the default), Warn or Ignore: what becomes of fields that are unknown or there twice. In the spec of what says which packets may pass they are always refused."},
	}
	parametersOfApply = append([]parameter{{"force", "boolean", "Take over fields that others manage; server-side apply only."}}, parametersOfWrites...)
	parametersOfLists = []parameter{
		{"labelSelector", "string", "Only objects with these labels."},
		{"fieldSelector", "string", "Only objects with this metadata.name or metadata.namespace."},
		{"limit", "integer", "At most so many objects."},
		{"continue", "string", "Where a limited list goes on."},
		{"resourceVersion", "string", "Not older than this; of a watch: what comes after it."},
		{"resourceVersionMatch", "string", "NotOlderThan or Exact."},
		{"watch", "boolean", "Stream the changes."},
		{"allowWatchBookmarks", "boolean", "Tell in a watch how far it has come."},
		{"sendInitialEvents", "boolean", "Begin a watch with what there is."},
		{"timeoutSeconds", "integer", "When a watch ends."},
	}
	parametersOfDeletes = []parameter{
		{"dryRun", "string", "All: go through with everything but the write itself."},
		{"gracePeriodSeconds", "integer", "Accepted; objects are gone at once."},
		{"propagationPolicy", "string", "Orphan, Background or Foreground: accepted; nothing depends on other objects."},
	}
)

// operation is one of a path, in words that both versions are made of.
type operation struct {
	method, action string
	parameters     []parameter
	takes, gives   string // names of schemas; "" is none
	media          []string
}

// addPaths adds the operations on a kind, as version 3 or 2 has them.
func (k *kindInfo) addPaths(paths node, v3 bool) {
	write := operation2
	if v3 {
		write = operation3
	}
	one := definitionPrefix(k.Descriptor) + string(k.Kind)
	objects := []string{"application/json", "application/yaml"}
	patches := []string{typeJSONPatch, typeMergePatch, typeApplyPatch}
	collection := []operation{
		{"get", "list", parametersOfLists, "", one + "List", nil},
		{"post", "post", parametersOfWrites, one, one, objects},
		{"delete", "deletecollection", append(parametersOfDeletes, parametersOfLists[:2]...), "", "", nil},
	}
	item := []operation{
		{"get", "get", nil, "", one, nil},
		{"put", "put", parametersOfWrites, one, one, objects},
		{"patch", "patch", parametersOfApply, "", one, patches},
		{"delete", "delete", parametersOfDeletes, "", "", nil},
	}
	if k.readOnly() {
		collection, item = collection[:1], item[:1]
	}
	add := func(path string, namespaced bool, ops []operation, what string) {
		at := node{}
		if namespaced {
			what = "Namespaced" + what
		}
		for _, op := range ops {
			at[op.method] = write(k, op.action+gvName(k.Descriptor)+what, op)
		}
		var params []node
		for _, name := range []string{"name", "namespace"} {
			if strings.Contains(path, "{"+name+"}") {
				p := node{"name": name, "in": "path", "required": true, "description": "The object's " + name + "."}
				if v3 {
					p["schema"] = node{"type": "string"}
				} else {
					p["type"] = "string"
				}
				params = append(params, p)
			}
		}
		if params != nil {
			at["parameters"] = params
		}
		paths[path] = at
	}
	namespace := ""
	if k.Namespaced {
		namespace = "{namespace}"
		add(k.Path(""), false, collection[:1], string(k.Kind)+"ForAllNamespaces")
	}
	add(k.Path(namespace), k.Namespaced, collection, string(k.Kind))
	add(k.Path(namespace)+"/{name}", k.Namespaced, item, string(k.Kind))
	if k.hasStatus() {
		add(k.Path(namespace)+"/{name}/status", k.Namespaced, item[:3], string(k.Kind)+"Status")
	}
}

// gvName is a group and version as part of an operation's name.
func gvName(d api.Descriptor) string {
	name := ""
	for part := range strings.SplitSeq(d.Group+"."+d.Version, ".") {
		if part != "" {
			name += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	return name
}

// common is what both versions say of an operation.
func common(k *kindInfo, id string, op operation) node {
	return node{
		"operationId":                     id,
		"x-kubernetes-action":             op.action,
		"x-kubernetes-group-version-kind": node{"group": k.Group, "version": k.Version, "kind": string(k.Kind)},
	}
}

// operation3 writes an operation as version 3 has it.
func operation3(k *kindInfo, id string, op operation) node {
	n := common(k, id, op)
	var params []node
	for _, p := range op.parameters {
		params = append(params, node{"name": p.name, "in": "query", "description": p.description, "schema": node{"type": p.typ, "uniqueItems": true}})
	}
	if params != nil {
		n["parameters"] = params
	}
	ok := node{"description": "OK"}
	if op.gives != "" {
		ok["content"] = node{"application/json": node{"schema": node{"$ref": refs3 + op.gives}}}
	}
	n["responses"] = node{"200": ok}
	if op.media != nil {
		content := node{}
		for _, m := range op.media {
			body := node{"type": "object"}
			if op.takes != "" {
				body = node{"$ref": refs3 + op.takes}
			}
			content[m] = node{"schema": body}
		}
		n["requestBody"] = node{"content": content, "required": true}
	}
	return n
}

// operation2 writes an operation as version 2 has it.
func operation2(k *kindInfo, id string, op operation) node {
	n := common(k, id, op)
	var params []node
	for _, p := range op.parameters {
		params = append(params, node{"name": p.name, "in": "query", "description": p.description, "type": p.typ, "uniqueItems": true})
	}
	if op.media != nil {
		body := node{"type": "object"}
		if op.takes != "" {
			body = node{"$ref": refs2 + op.takes}
		}
		params = append(params, node{"name": "body", "in": "body", "required": true, "schema": body})
		n["consumes"] = op.media
	}
	if params != nil {
		n["parameters"] = params
	}
	ok := node{"description": "OK"}
	if op.gives != "" {
		ok["schema"] = node{"$ref": refs2 + op.gives}
	}
	n["produces"] = []string{"application/json"}
	n["responses"] = node{"200": ok}
	return n
}

// getOpenAPI3 is the list of the documents of version 3.
func (s *Server) getOpenAPI3(r *request) response { return s.openAPI().index.response(r) }

// getOpenAPI3Of is the document of a group and version.
func (s *Server) getOpenAPI3Of(r *request) response {
	path := strings.TrimPrefix(r.URL.Path, "/openapi/v3/")
	d, found := s.openAPI().v3[path]
	if !found {
		return s.failed(r, notFoundPath(r))
	}
	return d.response(r)
}

// getOpenAPI2 is the document of version 2: as protobuf for clients that
// accept nothing else.
func (s *Server) getOpenAPI2(r *request) response {
	accept := strings.ReplaceAll(r.Header.Get("Accept"), typeProtobuf2Old, typeProtobuf2)
	if accept == typeProtobuf2 {
		return s.openAPI().v2pb.response(r)
	}
	return s.openAPI().v2.response(r)
}

// response is the document, or nothing if the client has it already. A
// document asked for by its hash never changes.
func (d document) response(r *request) response {
	tag := `"` + d.hash + `"`
	return response{code: http.StatusOK, raw: func(w http.ResponseWriter) {
		h := w.Header()
		h.Set("ETag", tag)
		h.Set("Content-Type", d.typ)
		h.Add("Vary", "Accept")
		h.Set("Cache-Control", "no-cache, private")
		if r.query.Get("hash") == d.hash {
			h.Set("Cache-Control", "public, immutable, max-age=31536000")
		}
		if strings.Contains(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(d.data) // the client may be gone; there is nobody left to tell
	}}
}
