// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// The documents of discovery, as Kubernetes' meta/v1 has them.
type (
	apiVersions struct {
		Kind     string   `json:"kind"`
		Versions []string `json:"versions"`
		Servers  []any    `json:"serverAddressByClientCIDRs"`
	}
	groupVersion struct {
		GroupVersion string `json:"groupVersion"`
		Version      string `json:"version"`
	}
	apiGroup struct {
		Kind       string         `json:"kind,omitempty"`
		APIVersion string         `json:"apiVersion,omitempty"`
		Name       string         `json:"name"`
		Versions   []groupVersion `json:"versions"`
		Preferred  groupVersion   `json:"preferredVersion"`
	}
	apiGroupList struct {
		Kind       string     `json:"kind"`
		APIVersion string     `json:"apiVersion"`
		Groups     []apiGroup `json:"groups"`
	}
	apiResource struct {
		Name       string   `json:"name"`
		Singular   string   `json:"singularName"`
		Namespaced bool     `json:"namespaced"`
		Kind       api.Kind `json:"kind"`
		Verbs      []string `json:"verbs"`
		ShortNames []string `json:"shortNames,omitempty"`
		Categories []string `json:"categories,omitempty"`
	}
	apiResourceList struct {
		Kind         string        `json:"kind"`
		APIVersion   string        `json:"apiVersion"`
		GroupVersion string        `json:"groupVersion"`
		Resources    []apiResource `json:"resources"`
	}
	versionInfo struct {
		Major      string `json:"major"`
		Minor      string `json:"minor"`
		GitVersion string `json:"gitVersion"`
		GoVersion  string `json:"goVersion"`
		Compiler   string `json:"compiler"`
		Platform   string `json:"platform"`
	}
)

// conventions is the Kubernetes release whose API conventions are followed;
// clients compare it with their own.
const (
	conventionsMajor = "1"
	conventionsMinor = "35"
)

// getHealth says that the server runs.
func (s *Server) getHealth(*request) response { return ok(text("ok")) }

// getReady says whether the store answers.
func (s *Server) getReady(r *request) response {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if _, _, err := s.cfg.Store.List(ctx, api.KindClusterInformation, store.ListOptions{Limit: 1}); err != nil {
		return response{code: http.StatusServiceUnavailable, body: text("the datastore does not answer")}
	}
	return ok(text("ok"))
}

func (s *Server) getVersion(*request) response {
	return ok(versionInfo{
		Major:      conventionsMajor,
		Minor:      conventionsMinor,
		GitVersion: "v" + conventionsMajor + "." + conventionsMinor + ".0+ripstop." + s.cfg.Version,
		GoVersion:  runtime.Version(),
		Compiler:   runtime.Compiler,
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
	})
}

// getCoreVersions names no version of the core group: there is nothing in it,
// and kubectl takes an empty version for a fault.
func (s *Server) getCoreVersions(*request) response {
	return ok(apiVersions{Kind: "APIVersions", Versions: []string{}, Servers: []any{}})
}

func (s *Server) getCoreResources(*request) response {
	return ok(apiResourceList{Kind: "APIResourceList", APIVersion: "v1", GroupVersion: "v1", Resources: []apiResource{}})
}

func (s *Server) getGroups(*request) response {
	list := apiGroupList{Kind: "APIGroupList", APIVersion: "v1"}
	names, versions := s.catalog.groups()
	for _, name := range names {
		list.Groups = append(list.Groups, group(name, versions[name]))
	}
	return ok(list)
}

func group(name, version string) apiGroup {
	gv := groupVersion{GroupVersion: name + "/" + version, Version: version}
	return apiGroup{Name: name, Versions: []groupVersion{gv}, Preferred: gv}
}

func (s *Server) getGroup(r *request) response {
	_, versions := s.catalog.groups()
	version, found := versions[r.attrs.Group]
	if !found {
		return s.failed(r, notFoundPath(r))
	}
	g := group(r.attrs.Group, version)
	g.Kind, g.APIVersion = "APIGroup", "v1"
	return ok(g)
}

func (s *Server) getResources(r *request) response {
	list := apiResourceList{Kind: "APIResourceList", APIVersion: "v1", GroupVersion: r.attrs.Group + "/" + r.attrs.Version}
	for _, k := range s.catalog.kinds {
		if k.Group != r.attrs.Group || k.Version != r.attrs.Version {
			continue
		}
		list.Resources = append(list.Resources, apiResource{
			Name: k.Plural, Singular: k.Singular, Namespaced: k.Namespaced, Kind: k.Kind,
			Verbs: k.verbs(), ShortNames: k.ShortNames, Categories: []string{"ripstop"},
		})
	}
	if list.Resources == nil {
		return s.failed(r, notFoundPath(r))
	}
	return ok(list)
}
