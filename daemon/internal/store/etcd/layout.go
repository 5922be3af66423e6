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
	root := "/calico"
	if d.Group == api.GroupRipstop {
		root = "/ripstop"
	}
	return root + "/resources/" + d.Version + "/" + d.Group + "/" + d.Plural + "/"
}

// Path is the etcd key of a resource. k has passed store.CheckKey.
func Path(k api.Key) string {
	if k.Namespace != "" {
		return Prefix(k.Kind) + k.Namespace + "/" + k.Name
	}
	return Prefix(k.Kind) + k.Name
}

// keyOf is the resource that an etcd key under Prefix(kind) names. A key that
// has not the right number of segments keeps what is there as its name, so
// that it is seen rather than lost; ok is false only for the bare prefix.
func keyOf(kind api.Kind, path string) (k api.Key, ok bool) {
	rest := strings.TrimPrefix(path, Prefix(kind))
	k = api.Key{Kind: kind, Name: rest}
	d, _ := api.DescriptorOf(kind)
	if ns, name, found := strings.Cut(rest, "/"); d.Namespaced && found && ns != "" && name != "" {
		k.Namespace, k.Name = ns, name
	}
	return k, rest != ""
}
