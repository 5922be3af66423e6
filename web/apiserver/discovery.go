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

// getCoreVersions names the versions of the core group.
func (s *Server) getCoreVersions(r *request) response {
	if resp, is := s.aggregated(r, true); is {
		return resp
	}
	return ok(apiVersions{Kind: "APIVersions", Versions: []string{api.VersionCore}, Servers: []any{}})
}

func (s *Server) getGroups(r *request) response {
	if resp, is := s.aggregated(r, false); is {
		return resp
	}
	list := apiGroupList{Kind: "APIGroupList", APIVersion: "v1"}
	for _, g := range s.catalog.groupVersions() {
		if g.group != api.GroupCore {
			list.Groups = append(list.Groups, group(g))
		}
	}
	return ok(list)
}

func group(g served) apiGroup {
	gv := groupVersion{GroupVersion: g.group + "/" + g.version, Version: g.version}
	return apiGroup{Name: g.group, Versions: []groupVersion{gv}, Preferred: gv}
}

func (s *Server) getGroup(r *request) response {
	for _, g := range s.catalog.groupVersions() {
		if g.group == r.attrs.Group {
			doc := group(g)
			doc.Kind, doc.APIVersion = "APIGroup", "v1"
			return ok(doc)
		}
	}
	return s.failed(r, notFoundPath(r))
}

// getResources lists the kinds of a group; of the core group if the path
// names none.
func (s *Server) getResources(r *request) response {
	for _, g := range s.catalog.groupVersions() {
		if g.group != r.attrs.Group || g.version != r.attrs.Version {
			continue
		}
		list := apiResourceList{Kind: "APIResourceList", APIVersion: "v1", GroupVersion: g.kinds[0].APIVersion()}
		for _, k := range g.kinds {
			list.Resources = append(list.Resources, apiResource{
				Name: k.Plural, Singular: k.Singular, Namespaced: k.Namespaced, Kind: k.Kind,
				Verbs: k.verbs(), ShortNames: k.ShortNames, Categories: categories(k),
			})
			if k.hasStatus() {
				list.Resources = append(list.Resources, apiResource{
					Name: k.Plural + "/status", Namespaced: k.Namespaced, Kind: k.Kind, Verbs: k.statusVerbs(),
				})
			}
		}
		return ok(list)
	}
	return s.failed(r, notFoundPath(r))
}

// categories are the words for many kinds at once: kubectl get ripstop.
func categories(k *kindInfo) []string {
	if k.Group == api.GroupCore {
		return nil
	}
	return []string{"ripstop"}
}
