// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// credentialBook is what is known of the Credentials of the store.
type credentialBook struct {
	page atomic.Pointer[credentialPage]
}

// credentialPage is one state of the book.
type credentialPage struct {
	tokens       map[string]*api.Credential            // by name
	certificates map[[sha256.Size]byte]*api.Credential // by the hash of the certificate
}

// take makes the stored credentials the ones in force. One that cannot be
// understood lets nobody in.
func (b *credentialBook) take(all map[api.Key]api.Object) {
	page := &credentialPage{tokens: map[string]*api.Credential{}, certificates: map[[sha256.Size]byte]*api.Credential{}}
	for _, o := range all {
		c, is := o.(*api.Credential)
		if !is {
			continue
		}
		if c.Spec.TokenHash != "" {
			page.tokens[c.Name] = c
			continue
		}
		if block, _ := pem.Decode([]byte(c.Status.Certificate)); block != nil {
			page.certificates[sha256.Sum256(block.Bytes)] = c
		}
	}
	b.page.Store(page)
}

// token is who a token stands for.
func (b *credentialBook) token(token string, now time.Time) (Identity, error) {
	name, secret, ok := api.SplitToken(token)
	c, known := b.page.Load().tokens[name]
	want := api.HashToken("") // compared with in any case: the time tells nothing
	if known {
		want = c.Spec.TokenHash
	}
	right := subtle.ConstantTimeCompare([]byte(api.HashToken(secret)), []byte(want)) == 1
	if !ok || !known || !right {
		return Identity{}, fmt.Errorf("token: unknown or revoked: %w", ErrRefused)
	}
	return identity(c, MethodToken, now)
}

// certificate is who a certificate stands for that is signed by our CA.
func (b *credentialBook) certificate(cert *x509.Certificate, now time.Time) (Identity, error) {
	c, known := b.page.Load().certificates[sha256.Sum256(cert.Raw)]
	if !known {
		return Identity{}, genuine{fmt.Errorf("client certificate: unknown or revoked: %w", ErrRefused)}
	}
	if !now.Before(cert.NotAfter) {
		return Identity{}, genuine{fmt.Errorf("client certificate: expired at %s: %w", cert.NotAfter.UTC().Format(time.RFC3339), ErrRefused)}
	}
	return identity(c, MethodCertificate, now)
}

// identity is who a credential is for, unless it has expired.
func identity(c *api.Credential, m Method, now time.Time) (Identity, error) {
	if !now.Before(c.Spec.Expires.Time) {
		return Identity{}, genuine{fmt.Errorf("%s: expired at %s: %w", m, c.Spec.Expires.UTC().Format(time.RFC3339), ErrRefused)}
	}
	id := Identity{User: c.Spec.User, Method: m, Credential: c.Name, Until: c.Spec.Expires.Time}
	id.Groups = append([]string{GroupAuthenticated}, c.Spec.Groups...)
	return id, nil
}
