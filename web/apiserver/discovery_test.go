// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

func TestDiscovery_NamesEveryKind(t *testing.T) {
	e := start(t, nil)
	var groups apiGroupList
	e.want(200, "GET", "/apis", "").decode(t, &groups)
	paths := []string{"/api/v1"}
	for _, g := range groups.Groups {
		var one apiGroup
		e.want(200, "GET", "/apis/"+g.Name, "").decode(t, &one)
		if one.Kind != "APIGroup" || one.Name != g.Name {
			t.Errorf("group %s: %+v", g.Name, one)
		}
		paths = append(paths, "/apis/"+g.Preferred.GroupVersion)
	}
	seen := map[api.Kind]bool{}
	for _, p := range paths {
		var l apiResourceList
		e.want(200, "GET", p, "").decode(t, &l)
		for _, r := range l.Resources {
			seen[r.Kind] = true
			if !strings.Contains(r.Name, "/") {
				e.want(200, "GET", p+"/"+r.Name, "")
			}
		}
	}
	for _, d := range api.Kinds() {
		if !seen[d.Kind] {
			t.Errorf("discovery lacks %s", d.Kind)
		}
	}
	var v versionInfo
	e.want(200, "GET", "/version", "").decode(t, &v)
	if want := "v1.35.0+ripstop." + api.Version; v.GitVersion != want {
		t.Errorf("gitVersion %q, want %q", v.GitVersion, want)
	}
	var core apiVersions
	e.want(200, "GET", "/api", "").decode(t, &core)
	if !slices.Equal(core.Versions, []string{"v1"}) {
		t.Errorf("versions of the core group: %v", core.Versions)
	}
}

// What the aggregated documents say is what the plain ones say.
func TestDiscovery_AggregatedSaysTheSame(t *testing.T) {
	e := start(t, nil)
	for _, version := range []string{"v2", "v2beta1"} {
		kinds := 0
		for _, path := range []string{"/api", "/apis"} {
			want := "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList"
			a := e.want(200, "GET", path, "", "Accept", want+",application/json")
			if got := a.header.Get("Content-Type"); got != want {
				t.Errorf("%s: Content-Type %q, want %q", path, got, want)
			}
			var list discoveryList
			a.decode(t, &list)
			for _, g := range list.Items {
				for _, v := range g.Versions {
					plain := "/apis/" + g.Metadata.Name + "/" + v.Version
					if g.Metadata.Name == "" {
						plain = "/api/" + v.Version
					}
					var l apiResourceList
					e.want(200, "GET", plain, "").decode(t, &l)
					for _, k := range v.Resources {
						kinds++
						i := slices.IndexFunc(l.Resources, func(r apiResource) bool { return r.Name == k.Resource })
						if i < 0 {
							t.Errorf("%s lacks %s", plain, k.Resource)
							continue
						}
						r := l.Resources[i]
						if !slices.Equal(r.Verbs, k.Verbs) || r.Kind != k.ResponseKind.Kind || r.Singular != k.Singular || r.Namespaced != (k.Scope == "Namespaced") {
							t.Errorf("%s: %+v, aggregated %+v", plain, r, k)
						}
						status := slices.ContainsFunc(l.Resources, func(r apiResource) bool { return r.Name == k.Resource+"/status" })
						if status != (len(k.Subresources) == 1) {
							t.Errorf("%s %s: status %v, aggregated %v", plain, k.Resource, status, k.Subresources)
						}
					}
				}
			}
		}
		if kinds != len(api.Kinds()) {
			t.Errorf("aggregated discovery %s: %d kinds, want %d", version, kinds, len(api.Kinds()))
		}
	}
	// A client that prefers the plain form gets it.
	if a := e.want(200, "GET", "/apis", "", "Accept", "application/json,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"); a.header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q", a.header.Get("Content-Type"))
	}
}

func TestOpenAPI_HasEveryKind(t *testing.T) {
	e := start(t, nil)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	e.want(200, "GET", "/openapi/v3", "").decode(t, &index)
	for _, d := range api.Kinds() {
		path := strings.TrimPrefix(strings.TrimSuffix(d.Path(""), "/"+d.Plural), "/")
		a := e.want(200, "GET", index.Paths[path].ServerRelativeURL, "")
		if tag := a.header.Get("ETag"); tag == "" || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: ETag %q, Cache-Control %q", path, tag, a.header.Get("Cache-Control"))
		} else if a := e.want(304, "GET", "/openapi/v3/"+path, "", "If-None-Match", tag); len(a.body) > 0 {
			t.Errorf("%s: 304 with a body", path)
		}
		var doc struct {
			Paths      map[string]map[string]json.RawMessage
			Components struct{ Schemas map[string]json.RawMessage }
		}
		a.decode(t, &doc)
		if _, ok := doc.Components.Schemas[definitionPrefix(d)+string(d.Kind)]; !ok {
			t.Errorf("%s: no schema of %s", path, d.Kind)
		}
		namespace := ""
		if d.Namespaced {
			namespace = "{namespace}"
		}
		patch := string(doc.Paths[d.Path(namespace)+"/{name}"]["patch"])
		if !(&kindInfo{Descriptor: d}).readOnly() && (!strings.Contains(patch, `"fieldValidation"`) || !strings.Contains(patch, `"dryRun"`)) {
			t.Errorf("%s: PATCH of %s has not the parameters that kubectl looks for: %s", path, d.Kind, patch)
		}
		for name := range doc.Components.Schemas {
			if bytesContain(a.body, "#/definitions/") {
				t.Fatalf("%s: %s has a reference of OpenAPI 2", path, name)
			}
		}
	}
	e.want(404, "GET", "/openapi/v3/apis/projectcalico.org/v9", "")
	json2 := e.want(200, "GET", "/openapi/v2", "")
	if bytesContain(json2.body, refs3) || !bytesContain(json2.body, `"swagger":"2.0"`) {
		t.Errorf("OpenAPI 2 is not that: %.200s", json2.body)
	}
	pb := e.want(200, "GET", "/openapi/v2", "", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	if got := pb.header.Get("Content-Type"); got != typeProtobuf2 || len(pb.body) < 10000 {
		t.Errorf("OpenAPI 2 as protobuf: %q, %d bytes", got, len(pb.body))
	}
}

func bytesContain(b []byte, s string) bool { return strings.Contains(string(b), s) }
