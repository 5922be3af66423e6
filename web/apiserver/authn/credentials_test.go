// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// credential is one that is good for an hour.
func credential(name, user string, c *clock) *api.Credential {
	o := &api.Credential{}
	o.Name, o.Spec.User, o.Spec.Groups = name, user, []string{"ops"}
	o.Spec.Expires = api.Time{Time: c.now().Add(time.Hour)}
	return o
}

// shown is a request with what somebody shows.
func shown(header string, cert *x509.Certificate) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	if cert != nil {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	}
	return r
}

func TestIdentify_WhatIsShownCountsOrIsRefused(t *testing.T) {
	c := newClock()
	p, _ := testPKI(t, t.TempDir(), c)
	req, _ := request(t, "x")
	sign := func() (string, *x509.Certificate) {
		text, err := p.Sign(req, "bob", []string{"ops"}, c.now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		certs, err := parseCertificates([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return text, certs[0]
	}
	text, cert := sign()
	_, revoked := sign() // signed, but there is no Credential of it
	token, broken, byCert := credential("t.1", "alice", c), credential("broken", "eve", c), credential("cert", "bob", c)
	token.Spec.TokenHash, broken.Spec.TokenHash = api.HashToken("secret"), api.HashToken("secret")
	byCert.Spec.Request, byCert.Status.Certificate = req, text
	a := New(nil, c.now)
	a.book.take(map[api.Key]api.Object{
		token.Key(): token, byCert.Key(): byCert,
		broken.Key(): &api.Unreadable{K: broken.Key(), Salvaged: broken},
	})
	good := "Bearer " + api.Token("t.1", "secret")
	peer := Identity{User: "root", Groups: []string{GroupAdmins}, Via: "unix", Method: MethodSocket}
	for _, tt := range []struct {
		name   string
		r      *http.Request
		want   string // empty: refused
		method Method
	}{
		{"nothing", shown("", nil), "root", MethodSocket},
		{"a token", shown(good, nil), "alice", MethodToken},
		{"in lower case", shown("bearer "+api.Token("t.1", "secret"), nil), "alice", MethodToken},
		{"a certificate", shown("", cert), "bob", MethodCertificate},
		{"both", shown(good, cert), "alice", MethodToken},
		{"a wrong token and a good certificate", shown("Bearer "+api.Token("t.1", "wrong"), cert), "", ""},
		{"a wrong secret", shown("Bearer "+api.Token("t.1", "wrong"), nil), "", ""},
		{"no secret", shown("Bearer "+api.TokenPrefix+"t.1", nil), "", ""},
		{"an empty secret", shown("Bearer "+api.TokenPrefix+"t.1.", nil), "", ""},
		{"the hash", shown("Bearer "+api.Token("t.1", api.HashToken("secret")), nil), "", ""},
		{"an unknown name", shown("Bearer "+api.Token("t.2", "secret"), nil), "", ""},
		{"a credential that cannot be read", shown("Bearer "+api.Token("broken", "secret"), nil), "", ""},
		{"a certificate's name as a token", shown("Bearer "+api.Token("cert", "secret"), nil), "", ""},
		{"a password", shown("Basic cm9vdDpyb290", nil), "", ""},
		{"no token", shown("Bearer ", nil), "", ""},
		{"a token of an issuer, without one", shown("Bearer a.b.c", nil), "", ""},
		{"a certificate that was revoked", shown("", revoked), "", ""},
	} {
		id, err := a.Identify(tt.r, peer)
		if id.User != tt.want || id.Method != tt.method || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %+v, %v; want %q", tt.name, id, err, tt.want)
		}
		if id.Via != "unix" {
			t.Errorf("%s: via %q", tt.name, id.Via)
		}
		if guess := tt.want == "" && tt.name != "a certificate that was revoked"; IsGuess(err) != guess {
			t.Errorf("%s: is a guess: %v, want %v", tt.name, !guess, guess)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells what was shown: %v", tt.name, err)
		}
	}
	id, _ := a.Identify(shown(good, nil), peer)
	if !slices.Equal(id.Groups, []string{GroupAuthenticated, "ops"}) || id.Credential != "t.1" || !id.Until.Equal(c.now().Add(time.Hour)) {
		t.Errorf("got %+v", id)
	}
	twice := shown(good, nil)
	twice.Header.Add("Authorization", good)
	unverified := shown("", cert)
	unverified.TLS.VerifiedChains = nil
	for name, r := range map[string]*http.Request{"two headers": twice, "a certificate that was not verified": unverified} {
		if id, err := a.Identify(r, peer); err == nil {
			t.Errorf("%s: let in as %q", name, id.User)
		}
	}
	c.move(time.Hour)
	for name, r := range map[string]*http.Request{"token": shown(good, nil), "certificate": shown("", cert)} {
		if id, err := a.Identify(r, peer); err == nil || !strings.Contains(err.Error(), "expired") || IsGuess(err) {
			t.Errorf("expired %s: %+v, %v", name, id, err)
		}
	}
}
