// SPDX-License-Identifier: Apache-2.0

// Package authn says who makes a request of the REST API: the peer of a Unix
// socket by what the kernel knows of it, everybody else by a client
// certificate, a bearer token, or the token of an OpenID Connect issuer. It
// also holds the certificates of the server: see PKI.
//
//	connection ─► Peer ────────────┐
//	TLS ─► PKI ─► certificate ─────┼─► Identify ─► Identity
//	Authorization ─► token, OIDC ──┘       ▲
//	            store ─► follow ─► Credentials
//
// It gives no rights: package authz does. What is wrong with what somebody
// shows is an error, never a weaker identity.
package authn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/follow"
)

// ErrRefused is what is wrong with what somebody showed. Its text is for him
// and does not tell what would have been right.
var ErrRefused = errors.New("not accepted")

// genuine is why something is refused that can only come from who was given
// it: it has expired or was revoked, or is for something else.
type genuine struct{ error }

func (g genuine) Unwrap() error { return g.error }

// IsGuess reports whether a refusal is one of what anybody could have made up,
// and not of a credential that has expired or was revoked.
func IsGuess(err error) bool {
	var g genuine
	return errors.Is(err, ErrRefused) && !errors.As(err, &g)
}

// ErrNotYet is the answer to a certificate or token as long as the store has
// not told which are good.
var ErrNotYet = errors.New("the datastore has not told yet which credentials are good")

// Authenticator knows who somebody is. Its methods may be called from many
// goroutines.
type Authenticator struct {
	book credentialBook
	oidc *OIDC
	now  func() time.Time
	// waits from the beginning of Run until the store has told.
	waits    atomic.Bool
	progress follow.Progress
}

// New is an Authenticator that knows no credentials until Run. oidc may be nil;
// now is the clock, by default time.Now.
func New(oidc *OIDC, now func() time.Time) *Authenticator {
	if now == nil {
		now = time.Now
	}
	a := &Authenticator{oidc: oidc, now: now}
	a.book.take(nil)
	return a
}

// Run follows the Credentials of a store, and the keys of the issuer, until
// ctx ends. While the store is away the last known ones hold, as long as they
// have not expired.
func (a *Authenticator) Run(ctx context.Context, st store.Store, log *slog.Logger) {
	a.waits.Store(true)
	follow.Kind(ctx, st, api.KindCredential, log, &a.progress, func(all map[api.Key]api.Object) {
		a.book.take(all)
		a.waits.Store(false)
	})
}

// Await waits until a write of a Credential counts, see follow.Progress.
func (a *Authenticator) Await(ctx context.Context, key api.Key, rev api.Revision) {
	a.progress.Await(ctx, key, rev)
}

// Identify is who makes a request over a connection whose peer is known to be
// peer. A bearer token, if there is one, is what counts; else a client
// certificate; else the peer. The error wraps ErrRefused or ErrNotYet.
func (a *Authenticator) Identify(r *http.Request, peer Identity) (Identity, error) {
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		id, err := a.bearer(r.Context(), values)
		id.Via = peer.Via
		return id, err
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if len(r.TLS.VerifiedChains) == 0 {
			return Identity{Via: peer.Via}, fmt.Errorf("client certificate: %w", ErrRefused)
		}
		if a.waits.Load() {
			return Identity{Via: peer.Via}, ErrNotYet
		}
		id, err := a.book.certificate(r.TLS.PeerCertificates[0], a.now())
		id.Via = peer.Via
		return id, err
	}
	return peer, nil
}

// bearer is who a token of the Authorization header (RFC 6750, 2.1) stands for.
func (a *Authenticator) bearer(ctx context.Context, values []string) (Identity, error) {
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Identity{}, fmt.Errorf("header Authorization: want one, Bearer and the token: %w", ErrRefused)
	}
	if strings.HasPrefix(token, api.TokenPrefix) {
		if a.waits.Load() {
			return Identity{}, ErrNotYet
		}
		return a.book.token(token, a.now())
	}
	if a.oidc == nil {
		return Identity{}, fmt.Errorf("token: it is not one of this server: %w", ErrRefused)
	}
	return a.oidc.Identify(ctx, token)
}
