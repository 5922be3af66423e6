// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// kindInfo is a kind as the server serves it.
type kindInfo struct {
	api.Descriptor
}

// readOnly kinds are written by the programs, not through the API.
func (k *kindInfo) readOnly() bool { return k.Kind == api.KindClusterInformation }

// verbs are what discovery says can be done with the kind.
func (k *kindInfo) verbs() []string {
	if k.readOnly() {
		return []string{"get", "list", "watch"}
	}
	return []string{"create", "delete", "get", "list", "patch", "update", "watch"}
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

// groups are the groups that are served, sorted, with their one version.
func (c catalog) groups() (names []string, versions map[string]string) {
	versions = map[string]string{}
	for _, k := range c.kinds {
		versions[k.Group] = k.Version
	}
	for g := range versions {
		names = append(names, g)
	}
	slices.Sort(names)
	return names, versions
}
