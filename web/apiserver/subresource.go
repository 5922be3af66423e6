// SPDX-License-Identifier: Apache-2.0

package apiserver

import "github.com/ripstop/ripstop/daemon/api"

// withStatusOf gives o, which is changed, the status of from; of nil an empty
// one. Both are of one kind that has a status.
func withStatusOf(o, from api.Object) {
	switch o := o.(type) {
	case *api.Tier:
		o.Status = api.TierStatus{}
		if f, ok := from.(*api.Tier); ok {
			o.Status = f.Status
		}
	case *api.IPPool:
		o.Status = nil
		if f, ok := from.(*api.IPPool); ok {
			o.Status = f.Status
		}
	case *api.Node:
		o.Status = api.NodeStatus{}
		if f, ok := from.(*api.Node); ok {
			o.Status = f.Status
		}
	case *api.HostStatus:
		o.Status = api.HostStatusStatus{}
		if f, ok := from.(*api.HostStatus); ok {
			o.Status = f.Status
		}
	case *api.Namespace:
		o.Status = api.NamespaceStatus{}
		if f, ok := from.(*api.Namespace); ok {
			o.Status = f.Status
		}
	}
}

// part keeps o to what the path writes: without a subresource everything but
// a status that stands apart, with it the status alone. old is nil if o is
// new.
func (r *request) part(old, o api.Object) api.Object {
	if r.attrs.Subresource == "" {
		if r.desc.statusApart() {
			withStatusOf(o, old)
		}
		if c, is := o.(*api.Credential); is { // the server's own
			c.Status = api.CredentialStatus{}
			if was, is := old.(*api.Credential); is {
				c.Status = was.Status
			}
		}
		return o
	}
	whole := api.Clone(old)
	withStatusOf(whole, o)
	whole.Metadata().ManagedFields = o.Metadata().ManagedFields
	return whole
}
