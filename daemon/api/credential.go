// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Credential lets somebody in at the REST API: by a token, or by a certificate
// that the server has signed. While it is there and not expired it is good;
// whoever deletes it revokes it within a second. Its spec cannot be changed.
// What is secret is not in it: of a token the hash, of a certificate the
// public key.
type Credential struct {
	TypeMeta
	Meta   `json:"metadata"`
	Spec   CredentialSpec   `json:"spec"`
	Status CredentialStatus `json:"status,omitzero"`
}

// CredentialSpec is the spec of a Credential.
type CredentialSpec struct {
	// User is the name under which its holder is known.
	User string `json:"user"`
	// Groups are the groups that its holder is in.
	Groups []string `json:"groups,omitempty"`
	// Expires is when it is no longer good: at most 366 days after it is made.
	Expires Time `json:"expires"`
	// TokenHash is "sha256:" and the SHA-256 in hexadecimal of a token's secret,
	// which is at least 32 random bytes. It makes the credential a token.
	TokenHash string `json:"tokenHash,omitempty" secret:"true"`
	// Request is a certificate signing request (PKCS #10, PEM). Only its public
	// key is taken; name and groups are those of this spec. It makes the
	// credential a certificate.
	Request string `json:"request,omitempty"`
}

// CredentialStatus is what the server adds when the credential is made.
type CredentialStatus struct {
	// Certificate is the signed certificate (PEM); empty for a token.
	Certificate string `json:"certificate,omitempty"`
	// Authority are the certificates (PEM) that the server's own is signed by;
	// empty if the server is on its socket alone.
	Authority string `json:"authority,omitempty"`
	// Address is the URL of the server; empty if it is on its socket alone.
	Address string `json:"address,omitempty"`
}

// Type is "token" or "certificate".
func (c *Credential) Type() string {
	if c.Spec.Request != "" {
		return "certificate"
	}
	return "token"
}

// Key names the credential.
func (c *Credential) Key() Key { return Key{Kind: KindCredential, Name: c.Name} }

// Default changes nothing: who is let in is never filled in.
func (c *Credential) Default() {}

// TokenPrefix begins every token of a Credential, so that one that has got
// loose can be found by it.
const TokenPrefix = "rst_"

// Token is the bearer token of the Credential of that name: TokenPrefix, the
// name, a dot and the secret.
func Token(name, secret string) string { return TokenPrefix + name + "." + secret }

// SplitToken takes a bearer token apart; ok is false if it is none of a
// Credential's.
func SplitToken(token string) (name, secret string, ok bool) {
	rest, ok := strings.CutPrefix(token, TokenPrefix)
	i := strings.LastIndexByte(rest, '.')
	if !ok || i < 1 || i == len(rest)-1 {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

// HashToken is what CredentialSpec.TokenHash keeps of a secret.
func HashToken(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}
