// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// kindInfo is a kind as the server serves it.
type kindInfo struct {
	api.Descriptor
}

// readOnly kinds are written by the programs, not through the API.
// A Change is made and ended in a way of its own.
func (k *kindInfo) readOnly() bool {
	switch k.Kind {
	case api.KindClusterInformation, api.KindChange, api.KindRevision:
		return true
	}
	return false
}

// verbs are what discovery says can be done with the kind.
func (k *kindInfo) verbs() []string {
	if k.readOnly() {
		return []string{"get", "list", "watch"}
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// hasStatus reports whether the kind is served with a status subresource.
func (k *kindInfo) hasStatus() bool { return api.HasStatus(k.Kind) }

// statusApart reports whether the status is written through the subresource
// only. Hosts and what agents report are written whole by the programs that
// make them.
func (k *kindInfo) statusApart() bool {
	return k.hasStatus() && k.Kind != api.KindNode && k.Kind != api.KindHostStatus
}

// statusVerbs are what discovery says can be done with the subresource.
func (k *kindInfo) statusVerbs() []string {
	if k.readOnly() {
		return []string{"get"}
	}
	return []string{"get", "patch", "update"}
}

// resourceName is a kind as errors name it, as Kubernetes does: tiers.group.
func resourceName(plural, group string) string {
	if group == api.GroupCore {
		return plural
	}
	return plural + "." + group
}

// head is the TypeMeta of a resource of the kind.
func (k *kindInfo) head() api.TypeMeta {
	return api.TypeMeta{Kind: k.Kind, APIVersion: k.APIVersion()}
}

// catalog is every kind by its place in the URL.
type catalog struct {
	kinds []*kindInfo // in the order of api.Kinds
	paths map[[3]string]*kindInfo
}

func newCatalog() catalog {
	c := catalog{paths: map[[3]string]*kindInfo{}}
	for _, d := range api.Kinds() {
		k := &kindInfo{Descriptor: d}
		c.kinds = append(c.kinds, k)
		c.paths[[3]string{k.Group, k.Version, k.Plural}] = k
	}
	return c
}

// find is the kind at a place in the URL, or nil.
func (c catalog) find(group, version, plural string) *kindInfo {
	return c.paths[[3]string{group, version, plural}]
}

// served is a group with its one version and its kinds.
type served struct {
	group, version string
	kinds          []*kindInfo
}

// root is the path below which the kinds are.
func (g served) root() string {
	if g.group == api.GroupCore {
		return "/api/" + g.version
	}
	return "/apis/" + g.group + "/" + g.version
}

// groupVersions are the groups that are served, sorted.
func (c catalog) groupVersions() []served {
	var all []served
	for _, k := range c.kinds {
		i := slices.IndexFunc(all, func(g served) bool { return g.group == k.Group })
		if i < 0 {
			i = len(all)
			all = append(all, served{group: k.Group, version: k.Version})
		}
		all[i].kinds = append(all[i].kinds, k)
	}
	slices.SortFunc(all, func(x, y served) int { return strings.Compare(x.group, y.group) })
	return all
}
