// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"mime"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// Aggregated discovery (apidiscovery.k8s.io/v2, Kubernetes 1.30): all that
// can be done with all kinds in two documents, one of the core group and one
// of the others.
type (
	discoveryList struct {
		Kind       string            `json:"kind"`
		APIVersion string            `json:"apiVersion"`
		Metadata   struct{}          `json:"metadata"`
		Items      []discoveredGroup `json:"items"`
	}
	discoveredGroup struct {
		Metadata discoveredMeta      `json:"metadata"`
		Versions []discoveredVersion `json:"versions"`
	}
	discoveredMeta struct {
		Name string `json:"name,omitempty"`
	}
	discoveredVersion struct {
		Version   string           `json:"version"`
		Resources []discoveredKind `json:"resources"`
		Freshness string           `json:"freshness"`
	}
	discoveredKind struct {
		Resource     string           `json:"resource"`
		ResponseKind responseKind     `json:"responseKind"`
		Scope        string           `json:"scope"`
		Singular     string           `json:"singularResource"`
		Verbs        []string         `json:"verbs"`
		ShortNames   []string         `json:"shortNames,omitempty"`
		Categories   []string         `json:"categories,omitempty"`
		Subresources []discoveredPart `json:"subresources,omitempty"`
	}
	discoveredPart struct {
		Subresource  string       `json:"subresource"`
		ResponseKind responseKind `json:"responseKind"`
		Verbs        []string     `json:"verbs"`
	}
	responseKind struct {
		Group   string   `json:"group"`
		Version string   `json:"version"`
		Kind    api.Kind `json:"kind"`
	}
)

// aggregated is the document for a client that asks for this form before the
// plain one; is is false if it does not.
func (s *Server) aggregated(r *request, core bool) (resp response, is bool) {
	version := ""
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		typ, params, err := mime.ParseMediaType(part)
		if err != nil || typ != "application/json" {
			continue
		}
		if params["g"] == "apidiscovery.k8s.io" && params["as"] == "APIGroupDiscoveryList" {
			if v := params["v"]; v == "v2" || v == "v2beta1" { // the same documents
				version = v
				break
			}
			continue
		}
		return response{}, false
	}
	if version == "" {
		return response{}, false
	}
	list := discoveryList{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/" + version, Items: []discoveredGroup{}}
	for _, g := range s.catalog.groupVersions() {
		if (g.group == api.GroupCore) == core {
			list.Items = append(list.Items, discovered(g))
		}
	}
	resp = ok(list)
	resp.mediaType = "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList"
	return resp, true
}

func discovered(g served) discoveredGroup {
	v := discoveredVersion{Version: g.version, Freshness: "Current"}
	for _, k := range g.kinds {
		d := discoveredKind{
			Resource: k.Plural, ResponseKind: responseKind{k.Group, k.Version, k.Kind}, Scope: "Cluster",
			Singular: k.Singular, Verbs: k.verbs(), ShortNames: k.ShortNames, Categories: categories(k),
		}
		if k.Namespaced {
			d.Scope = "Namespaced"
		}
		if k.hasStatus() {
			d.Subresources = []discoveredPart{{"status", d.ResponseKind, k.statusVerbs()}}
		}
		v.Resources = append(v.Resources, d)
	}
	return discoveredGroup{Metadata: discoveredMeta{g.group}, Versions: []discoveredVersion{v}}
}
