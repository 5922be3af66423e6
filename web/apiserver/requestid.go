// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/rand"
)

// requestIDKey is under which guard puts the id of a request.
type requestIDKey struct{}

// newRequestID is a name for one request: 26 letters and digits. Clients
// cannot choose it, so that it names one request only; it goes back to them in
// the headers Audit-Id (as Kubernetes calls it) and X-Request-Id.
func newRequestID() string { return rand.Text() }

// requestIDOf is the id of a request, from its context; empty outside of one.
func requestIDOf(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
