// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// TokenPrefix begins every token of this server, so that one that has got
// loose can be found by it: TokenPrefix, the Credential's name, ".", and 32
// random bytes in base64 (RFC 4648, 5).
const TokenPrefix = "rst_"

// secretBytes is how many random bytes a token has.
const secretBytes = 32

// NewToken makes a token for a Credential of that name, and what the
// Credential keeps of it.
func NewToken(name string) (token, hash string) {
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // never fails; Go 1.24
	text := base64.RawURLEncoding.EncodeToString(secret)
	return TokenPrefix + name + "." + text, hashOf(text)
}

// hashOf is what is kept of a token's secret.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

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
	name, secret := "", ""
	if i := strings.LastIndexByte(token, '.'); i > len(TokenPrefix) {
		name, secret = token[len(TokenPrefix):i], token[i+1:]
	}
	c, known := b.page.Load().tokens[name]
	want := hashOf("") // compared with in any case: the time tells nothing
	if known {
		want = c.Spec.TokenHash
	}
	right := subtle.ConstantTimeCompare([]byte(hashOf(secret)), []byte(want)) == 1
	if !known || !right || secret == "" {
		return Identity{}, fmt.Errorf("token: unknown or revoked: %w", ErrRefused)
	}
	return identity(c, MethodToken, now)
}

// certificate is who a certificate stands for that is signed by our CA.
func (b *credentialBook) certificate(cert *x509.Certificate, now time.Time) (Identity, error) {
	c, known := b.page.Load().certificates[sha256.Sum256(cert.Raw)]
	if !known {
		return Identity{}, fmt.Errorf("client certificate: unknown or revoked: %w", ErrRefused)
	}
	if !now.Before(cert.NotAfter) {
		return Identity{}, fmt.Errorf("client certificate: expired at %s: %w", cert.NotAfter.UTC().Format(time.RFC3339), ErrRefused)
	}
	return identity(c, MethodCertificate, now)
}

// identity is who a credential is for, unless it has expired.
func identity(c *api.Credential, m Method, now time.Time) (Identity, error) {
	if !now.Before(c.Spec.Expires.Time) {
		return Identity{}, fmt.Errorf("%s: expired at %s: %w", m, c.Spec.Expires.UTC().Format(time.RFC3339), ErrRefused)
	}
	id := Identity{User: c.Spec.User, Method: m, Credential: c.Name, Until: c.Spec.Expires.Time}
	id.Groups = append([]string{GroupAuthenticated}, c.Spec.Groups...)
	return id, nil
}
