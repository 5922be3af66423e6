// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// Prefix is the etcd key prefix of all resources of a kind, with its final
// slash. The kind is known.
func Prefix(kind api.Kind) string {
	d, _ := api.DescriptorOf(kind)
	root, group := "/ripstop", d.Group
	switch d.Group {
	case api.GroupCalico:
		root = "/calico"
	case api.GroupCore:
		group = "core"
	}
	return root + "/resources/" + d.Version + "/" + group + "/" + d.Plural + "/"
}

// Path is the etcd key of a resource. k has passed store.CheckKey.
func Path(k api.Key) string {
	if k.Namespace != "" {
		return Prefix(k.Kind) + k.Namespace + "/" + k.Name
	}
	return Prefix(k.Kind) + k.Name
}

// layout is how the keys of one kind look.
type layout struct {
	kind       api.Kind
	prefix     string
	namespaced bool
}

// layoutOf is the layout of a known kind.
func layoutOf(kind api.Kind) layout {
	d, _ := api.DescriptorOf(kind)
	return layout{kind, Prefix(kind), d.Namespaced}
}

// key is the resource that an etcd key under the prefix names. A key that has
// not the right number of segments keeps what is there as its name, so that it
// is seen rather than lost; ok is false only for the bare prefix.
func (l layout) key(path string) (k api.Key, ok bool) {
	rest := strings.TrimPrefix(path, l.prefix)
	k = api.Key{Kind: l.kind, Name: rest}
	if ns, name, found := strings.Cut(rest, "/"); l.namespaced && found && ns != "" && name != "" {
		k.Namespace, k.Name = ns, name
	}
	return k, rest != ""
}
