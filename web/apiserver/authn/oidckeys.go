// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Times and limits of the issuer's keys.
const (
	// keysFresh is how long keys are used before they are asked for again, and
	// so the longest time that a key which the issuer has withdrawn is good.
	keysFresh = 10 * time.Minute
	// keysLeast is the least time between two questions, so that tokens with
	// made-up keys cannot be used to flood the issuer.
	keysLeast = 10 * time.Second
	// keysTime is how long an answer may take.
	keysTime = 5 * time.Second
	maxKeys  = 1 << 20
)

// FileKeys are an issuer's keys in a file (JWK Set, RFC 7517), read anew when
// the file changes.
type FileKeys struct {
	path string
	mu   sync.Mutex // guards what follows
	at   stamp
	keys *jose.JSONWebKeySet
}

// NewFileKeys reads the file; an error is one that cannot be read.
func NewFileKeys(path string) (*FileKeys, error) {
	f := &FileKeys{path: path}
	_, err := f.Keys(context.Background(), false)
	return f, err
}

// Keys are the keys in the file. A file that has become unreadable gives none.
func (f *FileKeys) Keys(context.Context, bool) (*jose.JSONWebKeySet, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := stampOf(f.path)
	if err != nil {
		return nil, err
	}
	if now == f.at {
		return f.keys, nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	f.at, f.keys = now, keys
	return keys, nil
}

// parseKeys reads a JWK Set.
func parseKeys(data []byte) (*jose.JSONWebKeySet, error) {
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("not a JWK set: %w", err)
	}
	if len(keys.Keys) == 0 {
		return nil, errors.New("a JWK set without keys")
	}
	return &keys, nil
}

// URLKeys are an issuer's keys at a URL, asked for when they are needed and
// not too often. While the issuer does not answer, the last ones hold.
type URLKeys struct {
	issuer, url string
	http        *http.Client
	log         *slog.Logger
	now         func() time.Time

	asking sync.Mutex // held by the one who asks the issuer

	mu    sync.Mutex // guards what follows
	tried time.Time
	got   time.Time
	keys  *jose.JSONWebKeySet
}

// NewURLKeys is a URLKeys; it asks nobody yet. Without jwksURL the issuer is
// asked for it (OpenID Connect Discovery 1.0, 4). Both are https, or http on
// this machine. ca (PEM) is what the issuer's certificate must be signed by;
// empty: the system's. now is the clock, by default time.Now.
func NewURLKeys(issuer, jwksURL string, ca []byte, log *slog.Logger, now func() time.Time) (*URLKeys, error) {
	k := &URLKeys{issuer: issuer, url: jwksURL, log: log, now: now}
	if now == nil {
		k.now = time.Now
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("oidc: the issuer's CA has no certificate in it: want PEM")
		}
	}
	k.http = &http.Client{
		Timeout:   keysTime,
		Transport: &http.Transport{TLSClientConfig: t, ResponseHeaderTimeout: keysTime, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("too many redirects")
			}
			return safeURL(r.URL.String())
		},
	}
	if jwksURL == "" {
		jwksURL = issuer
	}
	return k, safeURL(jwksURL)
}

// safeURL refuses a URL whose answer somebody on the way could change.
func safeURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("oidc: %w", err)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" && u.Host != "" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("oidc: %q: want https: keys that somebody on the way can change are none", text)
}

// Keys are the issuer's keys, not older than keysFresh unless it does not
// answer.
func (k *URLKeys) Keys(ctx context.Context, again bool) (*jose.JSONWebKeySet, error) {
	if keys, good := k.known(again); good {
		return given(keys)
	}
	if !k.asking.TryLock() {
		// Somebody asks already. Who can do with what is known does.
		if keys, _ := k.known(false); keys != nil {
			return keys, nil
		}
		k.asking.Lock()
	}
	defer k.asking.Unlock()
	if keys, good := k.known(again); good {
		return given(keys)
	}
	keys, err := k.fetch(ctx)
	if err != nil {
		k.log.Warn("Keys of the OIDC issuer not read", "issuer", k.issuer, "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried = k.now()
	if err == nil {
		k.keys, k.got = keys, k.tried
	}
	return given(k.keys)
}

// given are keys, or that there are none.
func given(keys *jose.JSONWebKeySet) (*jose.JSONWebKeySet, error) {
	if keys == nil {
		return nil, errors.New("the issuer does not answer")
	}
	return keys, nil
}

// known are the keys at hand, or nil; good: they are not to be asked for now.
func (k *URLKeys) known(again bool) (keys *jose.JSONWebKeySet, good bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if !k.tried.IsZero() && now.Sub(k.tried) < keysLeast {
		return k.keys, true
	}
	return k.keys, k.keys != nil && !again && now.Sub(k.got) <= keysFresh
}

// fetch asks for the keys, and before that for where they are.
func (k *URLKeys) fetch(ctx context.Context) (*jose.JSONWebKeySet, error) {
	at := k.url
	if at == "" {
		data, err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, err
		}
		var doc struct {
			Issuer string `json:"issuer"`
			URL    string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			return nil, fmt.Errorf("openid-configuration: %w", err)
		}
		if doc.Issuer != k.issuer {
			return nil, fmt.Errorf("openid-configuration: is of issuer %q", doc.Issuer)
		}
		if err := safeURL(doc.URL); err != nil {
			return nil, err
		}
		at = doc.URL
	}
	data, err := k.get(ctx, at)
	if err != nil {
		return nil, err
	}
	return parseKeys(data)
}

func (k *URLKeys) get(ctx context.Context, at string) ([]byte, error) {
	// The keys are for everybody who waits: that one client goes is no reason
	// to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: answers %s", at, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	if err == nil && len(data) > maxKeys {
		err = fmt.Errorf("%s: more than %d bytes", at, maxKeys)
	}
	return data, err
}
