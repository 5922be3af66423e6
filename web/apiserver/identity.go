// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"github.com/ripstop/ripstop/web/apiserver/authn"
)

// Identity is who makes a request; package authn knows how.
type Identity = authn.Identity

// Groups with a meaning of their own.
const (
	GroupAdmins        = authn.GroupAdmins
	GroupAuthenticated = authn.GroupAuthenticated
)

// Attributes are what a request is about to do.
type Attributes struct {
	// Verb is get, list, watch, create, update, patch, delete or
	// deletecollection; outside of resources the method.
	Verb string
	// Group, Version, Plural, Namespace and Name say to what, as the client
	// wrote them in the path; all empty for Path outside of resources.
	Group, Version, Plural, Namespace, Name string
	// Subresource is status or empty.
	Subresource string
	Path        string
}

// identityKey is under which a context carries an Identity: that of a
// connection the peer, that of a request, once it is known, who makes it.
type identityKey struct{}

// IdentityOf is who makes a request, from the request's context. Handlers have
// it as request.id.
func IdentityOf(ctx context.Context) Identity {
	if id, ok := ctx.Value(identityKey{}).(Identity); ok {
		return id
	}
	return Identity{Via: "tcp"}
}
