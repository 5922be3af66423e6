// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// OIDCConfig says which tokens of an OpenID Connect issuer are accepted.
type OIDCConfig struct {
	// Issuer is the URL in the tokens' iss, to the letter.
	Issuer string
	// Audience must be among the tokens' aud.
	Audience string
	// Username is the claim that names the user, and Groups the one that lists
	// the groups; default sub and groups. An email counts only if the issuer
	// says email_verified.
	Username, Groups string
	// Keys are the issuer's.
	Keys KeySource
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// KeySource is where the keys of an issuer come from. FileKeys and URLKeys are
// ones.
type KeySource interface {
	// Keys are the issuer's. again asks for newer ones than those it gave,
	// since they lack one; it may give the same. Called from many goroutines.
	Keys(ctx context.Context, again bool) (*jose.JSONWebKeySet, error)
}

// leeway is by how much the issuer's clock may differ from ours.
const leeway = time.Minute

// algorithms are the signatures that are accepted: keys of the issuer only, so
// neither none nor one with a shared secret.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}

// leastRSABits is the size of an RSA key (NIST SP 800-131A).
const leastRSABits = 2048

// OIDC accepts tokens of one issuer. Its methods may be called from many
// goroutines.
type OIDC struct{ cfg OIDCConfig }

// NewOIDC is an OIDC; an error is a configuration that makes no sense.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	if cfg.Issuer == "" || cfg.Audience == "" || cfg.Keys == nil {
		return nil, errors.New("oidc: issuer, audience and keys go together")
	}
	if cfg.Username == "" {
		cfg.Username = "sub"
	}
	if cfg.Groups == "" {
		cfg.Groups = "groups"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &OIDC{cfg}, nil
}

// Identify is who a token (RFC 7519; OpenID Connect Core 1.0, 3.1.3.7) stands
// for. User and groups begin with OIDCPrefix. The error wraps ErrRefused.
func (o *OIDC) Identify(ctx context.Context, raw string) (Identity, error) {
	id, err := o.identify(ctx, raw)
	if err != nil {
		return Identity{}, fmt.Errorf("token of %s: %w: %w", o.cfg.Issuer, ErrRefused, err)
	}
	return id, nil
}

func (o *OIDC) identify(ctx context.Context, raw string) (Identity, error) {
	token, err := jwt.ParseSigned(raw, algorithms)
	if err != nil {
		return Identity{}, errors.New("not a token signed with RS256 or ES256")
	}
	var claims jwt.Claims
	var all map[string]any
	if err := o.verify(ctx, token, &claims, &all); err != nil {
		return Identity{}, err
	}
	if claims.Expiry == nil {
		return Identity{}, errors.New("it has no exp")
	}
	expected := jwt.Expected{Issuer: o.cfg.Issuer, AnyAudience: jwt.Audience{o.cfg.Audience}, Time: o.cfg.Now()}
	if err := claims.ValidateWithLeeway(expected, leeway); err != nil {
		return Identity{}, genuine{err} // the issuer has signed it
	}
	user, _ := all[o.cfg.Username].(string)
	if user == "" {
		return Identity{}, fmt.Errorf("it has no claim %s", o.cfg.Username)
	}
	if o.cfg.Username == "email" && all["email_verified"] != true {
		return Identity{}, errors.New("its email is not verified")
	}
	groups, err := groupsOf(all[o.cfg.Groups])
	if err != nil {
		return Identity{}, fmt.Errorf("its claim %s: %w", o.cfg.Groups, err)
	}
	return Identity{User: OIDCPrefix + user, Groups: append([]string{GroupAuthenticated}, groups...), Method: MethodOIDC,
		Credential: "sub:" + claims.Subject + " jti:" + claims.ID, Until: claims.Expiry.Time().Add(leeway)}, nil
}

// verify checks the signature with the issuer's keys and reads the claims.
func (o *OIDC) verify(ctx context.Context, token *jwt.JSONWebToken, claims ...any) error {
	head := token.Headers[0] // ParseSigned gives exactly one
	for _, again := range []bool{false, true} {
		keys, err := o.cfg.Keys.Keys(ctx, again)
		if err != nil {
			return fmt.Errorf("the issuer's keys are not known: %w", err)
		}
		for _, k := range keys.Keys {
			if head.KeyID != "" && k.KeyID != head.KeyID || !usable(k, head.Algorithm) {
				continue
			}
			if err := token.Claims(k.Key, claims...); err == nil {
				return nil
			}
		}
	}
	return errors.New("its signature is by no key of the issuer")
}

// usable reports whether a key may have made a signature of that algorithm.
func usable(k jose.JSONWebKey, algorithm string) bool {
	if !k.Valid() || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != algorithm {
		return false
	}
	if r, is := k.Key.(*rsa.PublicKey); is {
		return algorithm == string(jose.RS256) && r.N.BitLen() >= leastRSABits
	}
	e, is := k.Key.(*ecdsa.PublicKey)
	return is && algorithm == string(jose.ES256) && e.Curve == elliptic.P256()
}

// groupsOf are the groups of a claim: absent, one, or a list.
func groupsOf(claim any) ([]string, error) {
	var names []string
	switch c := claim.(type) {
	case nil:
	case string:
		names = []string{c}
	case []any:
		for _, v := range c {
			name, is := v.(string)
			if !is {
				return nil, errors.New("not a list of names")
			}
			names = append(names, name)
		}
	default:
		return nil, errors.New("not a list of names")
	}
	for i := range names {
		names[i] = OIDCPrefix + names[i]
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
