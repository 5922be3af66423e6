// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuer is an OpenID Connect issuer of the tests.
type issuer struct {
	t    *testing.T
	rsa  *rsa.PrivateKey
	ec   *ecdsa.PrivateKey
	weak *rsa.PrivateKey
	p384 *ecdsa.PrivateKey
	url  string
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t, url: "https://issuer.test"}
	var errs [4]error
	i.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	i.weak, errs[1] = rsa.GenerateKey(rand.Reader, 1024)
	i.ec, errs[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	i.p384, errs[3] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return i
}

// set is the issuer's JWK set.
func (i *issuer) set() []byte {
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: i.rsa.Public(), KeyID: "rsa", Use: "sig"}, {Key: i.ec.Public(), KeyID: "ec", Algorithm: "ES256"},
		{Key: i.rsa.Public(), KeyID: "enc", Use: "enc"}, {Key: i.weak.Public(), KeyID: "weak"}, {Key: i.p384.Public(), KeyID: "p384"},
		{Key: []byte("a shared secret that is long enough"), KeyID: "shared"},
	}})
	if err != nil {
		i.t.Fatal(err)
	}
	return data
}

// Keys lets the issuer be a KeySource.
func (i *issuer) Keys(context.Context, bool) (*jose.JSONWebKeySet, error) { return parseKeys(i.set()) }

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// raw makes a token by hand, so that it can be wrong in every way.
func (i *issuer) raw(head, claims map[string]any, sign func(input []byte) []byte) string {
	h, err1 := json.Marshal(head)
	c, err2 := json.Marshal(claims)
	if err := errors.Join(err1, err2); err != nil {
		i.t.Fatal(err)
	}
	input := b64(h) + "." + b64(c)
	return input + "." + b64(sign([]byte(input)))
}

func (i *issuer) signRSA(key *rsa.PrivateKey) func([]byte) []byte {
	return func(input []byte) []byte {
		sum := sha256.Sum256(input)
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			i.t.Fatal(err)
		}
		return sig
	}
}

func (i *issuer) signEC(key *ecdsa.PrivateKey) func([]byte) []byte {
	return func(input []byte) []byte {
		sum := sha256.Sum256(input)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			i.t.Fatal(err)
		}
		n := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...)
	}
}

// claims are good ones, changed by pairs of name and value; nil removes.
func (i *issuer) claims(now time.Time, change ...any) map[string]any {
	c := map[string]any{
		"iss": i.url, "aud": "ripstop", "sub": "alice", "groups": []string{"ops", "dev"}, "jti": "1",
		"exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
	}
	for n := 0; n < len(change); n += 2 {
		if change[n+1] == nil {
			delete(c, change[n].(string))
			continue
		}
		c[change[n].(string)] = change[n+1]
	}
	return c
}

func TestOIDC_AcceptsWhatTheIssuerSignedForUs(t *testing.T) {
	i, c := newIssuer(t), newClock()
	now := c.now()
	rs, es := map[string]any{"alg": "RS256", "kid": "rsa"}, map[string]any{"alg": "ES256", "kid": "ec"}
	pub, err := x509.MarshalPKIXPublicKey(i.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	hs := func(secret []byte) func([]byte) []byte {
		return func(input []byte) []byte { m := hmac.New(sha256.New, secret); m.Write(input); return m.Sum(nil) }
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := func(change ...any) string { return i.raw(rs, i.claims(now, change...), i.signRSA(i.rsa)) }
	signed := good()
	parts := strings.Split(signed, ".")
	o, err := NewOIDC(OIDCConfig{Issuer: i.url, Audience: "ripstop", Keys: i, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, token string
		want        string // the user; empty: refused
	}{
		{"RS256", signed, "oidc:alice"},
		{"ES256", i.raw(es, i.claims(now), i.signEC(i.ec)), "oidc:alice"},
		{"without kid", i.raw(map[string]any{"alg": "RS256"}, i.claims(now), i.signRSA(i.rsa)), "oidc:alice"},
		{"one of several audiences", good("aud", []string{"x", "ripstop"}), "oidc:alice"},
		{"just expired", good("exp", now.Add(-30*time.Second).Unix()), "oidc:alice"},
		{"from a clock ahead", good("iat", now.Add(30*time.Second).Unix(), "nbf", now.Add(30*time.Second).Unix()), "oidc:alice"},
		{"without groups", good("groups", nil), "oidc:alice"},
		{"one group", good("groups", "ops"), "oidc:alice"},

		{"alg none", i.raw(map[string]any{"alg": "none"}, i.claims(now), func([]byte) []byte { return nil }), ""},
		{"HS256 with the public key", i.raw(map[string]any{"alg": "HS256", "kid": "rsa"}, i.claims(now), hs(pub)), ""},
		{"HS256 with a key of the set", i.raw(map[string]any{"alg": "HS256", "kid": "shared"}, i.claims(now), hs([]byte("a shared secret that is long enough"))), ""},
		{"RS512", i.raw(map[string]any{"alg": "RS512", "kid": "rsa"}, i.claims(now), i.signRSA(i.rsa)), ""},
		{"signed by somebody else", i.raw(rs, i.claims(now), i.signRSA(other)), ""},
		{"unknown kid", i.raw(map[string]any{"alg": "RS256", "kid": "new"}, i.claims(now), i.signRSA(i.rsa)), ""},
		{"key for encryption", i.raw(map[string]any{"alg": "RS256", "kid": "enc"}, i.claims(now), i.signRSA(i.rsa)), ""},
		{"weak key", i.raw(map[string]any{"alg": "RS256", "kid": "weak"}, i.claims(now), i.signRSA(i.weak)), ""},
		{"another curve", i.raw(map[string]any{"alg": "ES256", "kid": "p384"}, i.claims(now), i.signEC(i.p384)), ""},
		{"key that it brings", i.raw(map[string]any{"alg": "RS256", "jwk": jose.JSONWebKey{Key: other.Public()}}, i.claims(now), i.signRSA(other)), ""},
		{"other claims", parts[0] + "." + b64([]byte(`{"iss":"https://issuer.test","aud":"ripstop","sub":"root","exp":9999999999}`)) + "." + parts[2], ""},
		{"expired", good("exp", now.Add(-2*time.Minute).Unix()), ""},
		{"without exp", good("exp", nil), ""},
		{"not yet good", good("nbf", now.Add(2*time.Minute).Unix()), ""},
		{"made in the future", good("iat", now.Add(2*time.Minute).Unix()), ""},
		{"another issuer", good("iss", "https://issuer.test/"), ""},
		{"without issuer", good("iss", nil), ""},
		{"for another audience", good("aud", "kubernetes"), ""},
		{"without audience", good("aud", nil), ""},
		{"without subject", good("sub", nil), ""},
		{"groups of numbers", good("groups", []any{1}), ""},
		{"groups that are none", good("groups", map[string]any{}), ""},
		{"nonsense", "a.b.c", ""},
		{"two parts", parts[0] + "." + parts[1], ""},
		{"nothing", "", ""},
	} {
		id, err := o.Identify(t.Context(), tt.token)
		if id.User != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %q, %v; want %q", tt.name, id.User, err, tt.want)
		}
		if (tt.name == "expired" || tt.name == "signed by somebody else") && IsGuess(err) != (tt.name != "expired") {
			t.Errorf("%s: is a guess: %v", tt.name, IsGuess(err))
		}
	}
	id, err := o.Identify(t.Context(), signed)
	if err != nil || !slices.Equal(id.Groups, []string{GroupAuthenticated, "oidc:dev", "oidc:ops"}) || id.Method != MethodOIDC ||
		!id.Until.Equal(now.Add(time.Hour+leeway)) || id.Credential != "sub:alice jti:1" {
		t.Errorf("got %+v, %v", id, err)
	}
	// Who calls himself an admin there is none here.
	id, err = o.Identify(t.Context(), good("groups", GroupAdmins, "sub", "node:h1"))
	if err != nil || slices.Contains(id.Groups, GroupAdmins) || strings.HasPrefix(id.User, UserNodePrefix) {
		t.Errorf("got %+v, %v", id, err)
	}

	byMail, err := NewOIDC(OIDCConfig{Issuer: i.url, Audience: "ripstop", Username: "email", Keys: i, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	for verified, want := range map[any]string{true: "oidc:a@x", false: "", "true": ""} {
		if id, _ := byMail.Identify(t.Context(), good("email", "a@x", "email_verified", verified)); id.User != want {
			t.Errorf("email_verified %v: got %q, want %q", verified, id.User, want)
		}
	}
	if _, err := NewOIDC(OIDCConfig{Issuer: i.url, Keys: i}); err == nil {
		t.Error("an issuer without audience is accepted")
	}
}

func TestUsable_IsAKeyOfTheRightKindAndSize(t *testing.T) {
	i := newIssuer(t)
	for name, c := range map[string]struct {
		key  jose.JSONWebKey
		alg  string
		want bool
	}{
		"RSA":                  {jose.JSONWebKey{Key: i.rsa.Public()}, "RS256", true},
		"RSA for ES256":        {jose.JSONWebKey{Key: i.rsa.Public()}, "ES256", false},
		"RSA of 1024 bits":     {jose.JSONWebKey{Key: i.weak.Public()}, "RS256", false},
		"P-256":                {jose.JSONWebKey{Key: i.ec.Public()}, "ES256", true},
		"P-256 for RS256":      {jose.JSONWebKey{Key: i.ec.Public()}, "RS256", false},
		"P-384":                {jose.JSONWebKey{Key: i.p384.Public()}, "ES256", false},
		"a private key":        {jose.JSONWebKey{Key: i.rsa}, "RS256", false},
		"a shared secret":      {jose.JSONWebKey{Key: []byte("secret")}, "HS256", false},
		"for encryption":       {jose.JSONWebKey{Key: i.rsa.Public(), Use: "enc"}, "RS256", false},
		"of another algorithm": {jose.JSONWebKey{Key: i.rsa.Public(), Algorithm: "PS256"}, "RS256", false},
	} {
		if got := usable(c.key, c.alg); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestFileKeys_AreReadAnewWhenTheFileChanges(t *testing.T) {
	i, c := newIssuer(t), newClock()
	path := filepath.Join(t.TempDir(), "jwks")
	if _, err := NewFileKeys(path); err == nil {
		t.Error("a missing file is accepted")
	}
	write := func(data []byte) {
		t.Helper()
		if err := writeFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(i.set())
	keys, err := NewFileKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOIDC(OIDCConfig{Issuer: i.url, Audience: "ripstop", Keys: keys, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	token := i.raw(map[string]any{"alg": "RS256", "kid": "rsa"}, i.claims(c.now()), i.signRSA(i.rsa))
	if _, err := o.Identify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	write(newIssuer(t).set()) // the old keys are withdrawn
	if _, err := o.Identify(t.Context(), token); err == nil {
		t.Error("a key that is no longer in the file is good")
	}
	write(i.set())
	if _, err := o.Identify(t.Context(), token); err != nil {
		t.Errorf("put back: %v", err)
	}
	write([]byte("nonsense"))
	if _, err := o.Identify(t.Context(), token); err == nil {
		t.Error("a spoilt file is good")
	}
}

// site is an issuer's web site.
type site struct {
	*httptest.Server
	mu    sync.Mutex // guards what follows
	set   []byte
	asked int
	down  bool
}

func newSite(t *testing.T, i *issuer) *site {
	s := &site{set: i.set()}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.down:
			http.Error(w, "down", http.StatusInternalServerError)
		case r.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.URL, s.URL+"/keys")
		case r.URL.Path == "/keys":
			s.asked++
			w.Write(s.set)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	i.url = s.URL
	return s
}

func (s *site) change(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

func TestURLKeys_AreFoundKeptAndRenewed(t *testing.T) {
	i, c := newIssuer(t), newClock()
	s := newSite(t, i)
	keys, err := NewURLKeys(s.URL, "", nil, slog.New(slog.DiscardHandler), c.now)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOIDC(OIDCConfig{Issuer: s.URL, Audience: "ripstop", Keys: keys, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	token := func(kid string, key *rsa.PrivateKey) string {
		return i.raw(map[string]any{"alg": "RS256", "kid": kid}, i.claims(c.now()), i.signRSA(key))
	}
	for range 5 {
		if _, err := o.Identify(t.Context(), token("rsa", i.rsa)); err != nil {
			t.Fatal(err)
		}
	}
	if s.asked != 1 {
		t.Errorf("asked %d times for five tokens, want once", s.asked)
	}
	// Keys that do not exist do not flood the issuer.
	for range 20 {
		if _, err := o.Identify(t.Context(), token("made-up", i.rsa)); err == nil {
			t.Fatal("a made-up key is good")
		}
	}
	if s.asked > 2 {
		t.Errorf("asked %d times, want twice at most", s.asked)
	}
	// A new key is found when it is first met.
	c.move(keysLeast)
	old := *i
	next, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.rsa = next
	s.change(func() { s.set = i.set() })
	if _, err := o.Identify(t.Context(), token("rsa", next)); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if _, err := o.Identify(t.Context(), token("rsa", old.rsa)); err == nil {
		t.Error("the key that was withdrawn is good")
	}
	// While the issuer is away, the last ones hold.
	s.change(func() { s.down = true })
	c.move(2 * keysFresh)
	if _, err := o.Identify(t.Context(), token("rsa", next)); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
	// Who never knew any has none.
	blank, err := NewURLKeys(s.URL, s.URL+"/keys", nil, slog.New(slog.DiscardHandler), c.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blank.Keys(t.Context(), false); err == nil {
		t.Error("keys of an issuer that never answered")
	}
	s.change(func() { s.down = false })
	if _, err := blank.Keys(t.Context(), false); err == nil {
		t.Error("the issuer is asked again at once")
	}
	c.move(keysLeast)
	if _, err := blank.Keys(t.Context(), false); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

func TestURLKeys_ComeOverASafeWayOnly(t *testing.T) {
	for url, good := range map[string]bool{
		"https://issuer.test": true, "http://127.0.0.1:1": true, "http://[::1]:1": true, "http://localhost": true,
		"http://issuer.test": false, "ftp://issuer.test": false, "issuer.test": false, "https://": false, "": false,
	} {
		if _, err := NewURLKeys(url, "", nil, nil, nil); (err == nil) != good {
			t.Errorf("%q: %v, want good: %v", url, err, good)
		}
	}
	i := newIssuer(t)
	s := newSite(t, i)
	for name, doc := range map[string]string{
		"of another issuer": `{"issuer":"https://other.test","jwks_uri":"` + s.URL + `/keys"}`,
		"in the clear":      `{"issuer":"ISSUER","jwks_uri":"http://issuer.test/keys"}`,
		"nonsense":          `no`,
	} {
		var evil *httptest.Server
		evil = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, strings.Replace(doc, "ISSUER", evil.URL, 1))
		}))
		keys, err := NewURLKeys(evil.URL, "", nil, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Keys(t.Context(), false); err == nil {
			t.Errorf("a configuration %s is followed", name)
		}
		evil.Close()
	}
}
