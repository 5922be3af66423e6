// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is one that tests move.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) move(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

// testPKI is one in a directory of its own.
func testPKI(t *testing.T, dir string, c *clock) (*PKI, *bytes.Buffer) {
	t.Helper()
	p, log, err := openTestPKI(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	return p, log
}

func openTestPKI(dir string, c *clock) (*PKI, *bytes.Buffer, error) {
	var log bytes.Buffer
	p, err := OpenPKI(PKIConfig{
		Dir: dir, Names: func() []string { return []string{"ripstop.test", "127.0.0.1", "::1"} },
		Log: slog.New(slog.NewTextHandler(&log, nil)), Now: c.now,
	})
	return p, &log, err
}

// leaf is the server's certificate in force.
func (p *PKI) leaf() *x509.Certificate { p.mu.Lock(); defer p.mu.Unlock(); return p.server.Leaf }

// trusts reports whether who trusts roots (PEM) knows the certificate.
func trusts(roots string, c *x509.Certificate, at time.Time) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, DNSName: "ripstop.test"})
	return err
}

func TestPKI_MakesWhatIsMissing(t *testing.T) {
	c, dir := newClock(), filepath.Join(t.TempDir(), "state", "pki")
	p, _ := testPKI(t, dir, c)
	for name, mode := range map[string]fs.FileMode{"": 0o700, caCert: 0o644, caKey: 0o600, serverCert: 0o644, serverKey: 0o600} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", name, fi.Mode().Perm(), err, mode)
		}
	}
	leaf := p.leaf()
	if err := trusts(p.Authority(), leaf, c.now()); err != nil {
		t.Errorf("the CA does not vouch for the server: %v", err)
	}
	for _, n := range []string{"ripstop.test", "127.0.0.1", "::1", "[::1]"} {
		if !p.Serves(n) {
			t.Errorf("not for %s", n)
		}
	}
	if p.Serves("evil.test") {
		t.Error("is for evil.test")
	}
	if k, is := leaf.PublicKey.(*ecdsa.PublicKey); !is || k.Curve != elliptic.P256() || leaf.IsCA || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("key %T, CA %v, usage %v", leaf.PublicKey, leaf.IsCA, leaf.ExtKeyUsage)
	}
	again, _ := testPKI(t, dir, c)
	if !again.leaf().Equal(leaf) {
		t.Error("a second start makes another certificate")
	}
}

func TestPKI_RefusesWhatIsNotSafe(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(dir string) error
		want string
	}{
		"CA key for all":         {func(d string) error { return os.Chmod(filepath.Join(d, caKey), 0o644) }, "chmod 600"},
		"server key for a group": {func(d string) error { return os.Chmod(filepath.Join(d, serverKey), 0o640) }, "chmod 600"},
		"CA without key":         {func(d string) error { return os.Remove(filepath.Join(d, caKey)) }, "put it back"},
		"CA of nonsense":         {func(d string) error { return os.WriteFile(filepath.Join(d, caCert), []byte("x"), 0o644) }, "no certificate"},
		"CA with another key": {func(d string) error {
			key, err := os.ReadFile(filepath.Join(d, serverKey))
			return errors.Join(err, os.WriteFile(filepath.Join(d, caKey), key, 0o600))
		}, "is not the key"},
		"CA that is none": {func(d string) error {
			cert, err1 := os.ReadFile(filepath.Join(d, serverCert))
			key, err2 := os.ReadFile(filepath.Join(d, serverKey))
			return errors.Join(err1, err2, os.WriteFile(filepath.Join(d, caCert), cert, 0o644), os.WriteFile(filepath.Join(d, caKey), key, 0o600))
		}, "no CA"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, c2 := t.TempDir(), newClock()
			testPKI(t, dir, c2)
			before, _ := os.ReadFile(filepath.Join(dir, caCert))
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			if _, _, err := openTestPKI(dir, c2); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			if after, _ := os.ReadFile(filepath.Join(dir, caCert)); name == "CA without key" && !bytes.Equal(before, after) {
				t.Error("the CA's certificate was replaced")
			}
		})
	}
}

func TestPKI_HealsWhenItDiedBetweenTwoFiles(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	testPKI(t, dir, c)
	ca, _ := os.ReadFile(filepath.Join(dir, caCert))
	// The new key is there, the certificate is the old one.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	if err := os.WriteFile(filepath.Join(dir, serverKey), pemOf("PRIVATE KEY", der), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := testPKI(t, dir, c)
	if err := trusts(string(ca), p.leaf(), c.now()); err != nil {
		t.Errorf("after a new server key: %v", err)
	}
	// The CA's key is there, its certificate is not.
	if err := os.Remove(filepath.Join(dir, caCert)); err != nil {
		t.Fatal(err)
	}
	p, _ = testPKI(t, dir, c)
	if err := trusts(p.Authority(), p.leaf(), c.now()); err != nil {
		t.Errorf("after the CA's certificate was missing: %v", err)
	}
}

func TestPKI_RenewsBeforeTheEnd(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	p, _ := testPKI(t, dir, c)
	first, firstCA := p.leaf(), p.Authority()
	c.move(59 * 24 * time.Hour)
	if err := p.renew(); err != nil || !p.leaf().Equal(first) {
		t.Errorf("after 59 days: %v, renewed already", err)
	}
	c.move(2 * 24 * time.Hour)
	if err := p.renew(); err != nil || p.leaf().Equal(first) || samePublic(p.leaf().PublicKey, first.PublicKey) {
		t.Errorf("after 61 days: %v, not renewed with a new key", err)
	}
	if p.Authority() != firstCA {
		t.Error("the CA changed with the server's certificate")
	}
	// Nine years on: the CA too, with its old key.
	c.move(9*365*24*time.Hour - 61*24*time.Hour + 10*24*time.Hour)
	if err := p.renew(); err != nil || p.Authority() == firstCA {
		t.Fatalf("after nine years: %v, the CA is the old one", err)
	}
	if err := trusts(firstCA, p.leaf(), c.now()); err != nil {
		t.Errorf("who trusts the old CA does not know the new server: %v", err)
	}
	if n := strings.Count(p.Authority(), "BEGIN"); n != 2 {
		t.Errorf("%d CA certificates, want the new and the old one", n)
	}
	// When the old one has ended it is no longer kept.
	c.move(2 * 365 * 24 * time.Hour)
	if err := p.renew(); err != nil {
		t.Fatal(err)
	}
	if err := trusts(p.Authority(), p.leaf(), c.now()); err != nil {
		t.Errorf("after eleven years: %v", err)
	}
}

func TestPKI_LeavesACertificateOfAnotherCAAsItIs(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	p, log := testPKI(t, dir, c)
	theirs, _ := testPKI(t, t.TempDir(), c)
	for _, name := range []string{serverCert, serverKey} {
		data, err := os.ReadFile(theirs.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.path(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.move(61 * 24 * time.Hour)
	if err := p.renew(); err != nil || !p.leaf().Equal(theirs.leaf()) || !strings.Contains(log.String(), "not Ripstop's to renew") {
		t.Errorf("%v; certificate of %s; log:\n%s", err, p.leaf().Issuer, log)
	}
}

// request is a certificate request for a new key.
func request(t *testing.T, name string) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name, Organization: []string{GroupAdmins}}, DNSNames: []string{"ripstop.test"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pemOf("CERTIFICATE REQUEST", der)), key
}

func TestSign_TakesTheKeyOnly(t *testing.T) {
	c := newClock()
	p, _ := testPKI(t, t.TempDir(), c)
	req, key := request(t, "mallory")
	text, err := p.Sign(req, "alice", []string{"ops"}, c.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parseCertificates([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := certs[0]
	if got.Subject.CommonName != "alice" || len(got.Subject.Organization) != 1 || got.Subject.Organization[0] != "ops" ||
		len(got.DNSNames) > 0 || got.IsCA || !samePublic(got.PublicKey, key.Public()) || !got.NotAfter.Equal(c.now().Add(time.Hour)) {
		t.Errorf("subject %v, names %v, CA %v, ends %v", got.Subject, got.DNSNames, got.IsCA, got.NotAfter)
	}
	if len(got.ExtKeyUsage) != 1 || got.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("usage %v: it could be used as a server's", got.ExtKeyUsage)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(req))
	block.Bytes[len(block.Bytes)-1] ^= 1
	for name, bad := range map[string]string{
		"weak key": string(pemOf("CERTIFICATE REQUEST", der)), "broken signature": string(pem.EncodeToMemory(block)),
		"a certificate": text, "nonsense": "x", "nothing": "",
	} {
		if _, err := p.Sign(bad, "alice", nil, c.now().Add(time.Hour)); err == nil {
			t.Errorf("%s: was signed", name)
		}
	}
}

// speak makes one connection and tells what the server saw.
func speak(t *testing.T, p *PKI, client *tls.Config) (server *x509.Certificate, peer string, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	saw := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			saw <- ""
			return
		}
		defer c.Close()
		s := tls.Server(c, p.TLS())
		if err := s.Handshake(); err != nil {
			saw <- ""
			return
		}
		name := "nobody"
		if chains := s.ConnectionState().VerifiedChains; len(chains) > 0 {
			name = chains[0][0].Subject.CommonName
		}
		saw <- name
		_, _ = io.WriteString(s, "hello") // the client may have gone
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		return nil, "", err
	}
	return c.ConnectionState().PeerCertificates[0], <-saw, nil
}

func TestTLS_AcceptsClientsOfTheCAOnlyAndReadsChangedFiles(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	p, log := testPKI(t, dir, c)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(p.Authority()))
	with := func(signer *PKI) *tls.Config {
		cfg := &tls.Config{RootCAs: roots, ServerName: "ripstop.test", Time: c.now}
		if signer == nil {
			return cfg
		}
		req, key := request(t, "x")
		text, err := signer.Sign(req, "alice", nil, c.now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(text))
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, nil
		}
		return cfg
	}
	first, peer, err := speak(t, p, with(nil))
	if err != nil || peer != "nobody" {
		t.Errorf("without a certificate: %q, %v", peer, err)
	}
	if _, peer, err := speak(t, p, with(p)); err != nil || peer != "alice" {
		t.Errorf("with one of the CA: %q, %v", peer, err)
	}
	stranger, _ := testPKI(t, t.TempDir(), c)
	if _, peer, err := speak(t, p, with(stranger)); err == nil {
		t.Errorf("with one of another CA: let in as %q", peer)
	}
	old := with(nil)
	old.MaxVersion = tls.VersionTLS11
	if _, _, err := speak(t, p, old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	cbc := with(nil)
	cbc.MaxVersion, cbc.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	if _, _, err := speak(t, p, cbc); err == nil {
		t.Error("a cipher without authentication is spoken")
	}

	// Another certificate of the same CA, put there by hand.
	other, _ := testPKI(t, dir, c)
	c.move(70 * 24 * time.Hour)
	if err := other.renew(); err != nil {
		t.Fatal(err)
	}
	second, _, err := speak(t, p, with(nil))
	if err != nil || second.Equal(first) {
		t.Errorf("after the files were changed: %v, the certificate is the old one", err)
	}
	// Nonsense changes nothing, and is said once.
	if err := os.WriteFile(filepath.Join(dir, serverCert), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if third, _, err := speak(t, p, with(nil)); err != nil || !third.Equal(second) {
			t.Errorf("after a file was spoilt: %v", err)
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, log)
	}
}
