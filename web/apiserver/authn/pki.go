// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Names of files in the PKI's directory.
const (
	caCert     = "ca.crt"
	caKey      = "ca.key"
	serverCert = "server.crt"
	serverKey  = "server.key"
)

// Times of certificates.
const (
	caLife     = 3650 * 24 * time.Hour
	caRenew    = 365 * 24 * time.Hour // before the end
	serverLife = 90 * 24 * time.Hour
	serverWarn = 30 * 24 * time.Hour // renewed, or warned of, this long before the end
	// backdate is by how much a new certificate is older than it is, for
	// clients whose clock is behind.
	backdate = 5 * time.Minute
	// lookEvery is how often is looked whether something is to be renewed.
	lookEvery = time.Hour
)

// PKIConfig says where a PKI is and what it is called by.
type PKIConfig struct {
	// Dir holds the files, mode 0700. It is made.
	Dir string
	// Names are the DNS names and addresses that the server's certificate is
	// for. It is asked again whenever is looked whether to renew.
	Names func() []string
	Log   *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// PKI are the certificates of the server, and the CA that signs them and those
// of clients:
//
//	ca.crt      the CA's certificate; below it, older ones that are still trusted
//	ca.key      its key (ECDSA P-256)
//	server.crt  the server's certificate, with what leads from it to its CA
//	server.key  its key
//
// What is missing is made, and what is ours is renewed before it ends: the
// server's certificate with a new key, the CA's with its old one, so that who
// trusts the old certificate trusts what the new one signs. A server's
// certificate that another CA has signed is used as it is. Files that are
// changed are in force at the next connection; while they make no sense the
// ones before are. Its methods may be called from many goroutines.
type PKI struct {
	cfg PKIConfig

	mu     sync.Mutex // guards what follows
	stamps [4]stamp
	cas    []*x509.Certificate // the first is the signer
	signer crypto.Signer
	pool   *x509.CertPool
	server *tls.Certificate
	broken string // the last complaint, so that it is said once
}

// OpenPKI reads the files, after it has made what is missing. It refuses a key
// that others may read, and never makes a CA where half of one is.
func OpenPKI(cfg PKIConfig) (*PKI, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &PKI{cfg: cfg}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if err := p.renew(); err != nil {
		return nil, fmt.Errorf("certificates in %s: %w", cfg.Dir, err)
	}
	return p, nil
}

// Run renews what ends, until ctx does.
func (p *PKI) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := p.renew(); err != nil {
				p.cfg.Log.Error("Certificates not renewed", "dir", p.cfg.Dir, "err", err)
			}
		}
	}
}

func (p *PKI) path(name string) string { return filepath.Join(p.cfg.Dir, name) }

// renew makes what is missing or ends, and reads all.
func (p *PKI) renew() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.renewCA(); err != nil {
		return err
	}
	if err := p.renewServer(); err != nil {
		return err
	}
	return p.readLocked()
}

// renewCA sees to it that there is a CA with some time left.
func (p *PKI) renewCA() error {
	certs, key, err := p.readCA()
	if errors.Is(err, fs.ErrNotExist) {
		_, noCert := os.Lstat(p.path(caCert))
		_, noKey := os.Lstat(p.path(caKey))
		switch {
		case noCert == nil:
			return fmt.Errorf("%s is there and %s is not: put it back, or remove both for a new CA (all client certificates are void then)", caCert, caKey)
		case noKey != nil: // neither is there
			if key, err = p.writeKey(caKey); err != nil {
				return err
			}
		default: // died between the two
			if key, err = p.parseKey(caKey); err != nil {
				return err
			}
		}
		p.cfg.Log.Info("CA made", "file", p.path(caCert))
		return p.writeCA(key, nil)
	}
	if err != nil {
		return err
	}
	if certs[0].NotAfter.Sub(p.cfg.Now()) < caRenew {
		p.cfg.Log.Info("CA certificate renewed", "file", p.path(caCert), "old_ends", certs[0].NotAfter)
		return p.writeCA(key, certs)
	}
	return nil
}

// writeCA signs the CA's certificate and keeps older ones below it that have
// not ended.
func (p *PKI) writeCA(key crypto.Signer, older []*x509.Certificate) error {
	now := p.cfg.Now()
	t := &x509.Certificate{
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	t.Subject.CommonName = "Ripstop CA"
	if len(older) > 0 {
		// The same name and key: either certificate vouches for what the
		// other has signed.
		t.Subject, t.SubjectKeyId = older[0].Subject, older[0].SubjectKeyId
	}
	der, err := signCertificate(t, t, key.Public(), key)
	if err != nil {
		return err
	}
	out := pemOf("CERTIFICATE", der)
	for _, c := range older {
		if now.Before(c.NotAfter) {
			out = append(out, pemOf("CERTIFICATE", c.Raw)...)
		}
	}
	return writeFile(p.path(caCert), out, 0o644)
}

// readCA reads the CA's certificates and its key, which must be of the first.
func (p *PKI) readCA() ([]*x509.Certificate, crypto.Signer, error) {
	data, err := os.ReadFile(p.path(caCert))
	if err != nil {
		return nil, nil, err
	}
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", caCert, err)
	}
	key, err := p.parseKey(caKey)
	if err != nil {
		return nil, nil, err
	}
	if !samePublic(certs[0].PublicKey, key.Public()) {
		return nil, nil, fmt.Errorf("%s: is not the key of the first certificate in %s", caKey, caCert)
	}
	for _, c := range certs {
		if !c.IsCA {
			return nil, nil, fmt.Errorf("%s: %q is no CA's certificate", caCert, c.Subject)
		}
	}
	return certs, key, nil
}

// renewServer sees to it that there is a server's certificate. One that
// another CA has signed is left as it is.
func (p *PKI) renewServer() error {
	certs, key, err := p.readCA()
	if err != nil {
		return err
	}
	why := ""
	old, err := p.readServer()
	switch now := p.cfg.Now(); {
	case errors.Is(err, fs.ErrNotExist):
		why = "missing"
	case errors.Is(err, errOtherKey):
		// Died between the two files, unless somebody brought them.
		if data, rerr := os.ReadFile(p.path(serverCert)); rerr != nil || !ours(data, certs) {
			return err
		}
		why = "without its key"
	case err != nil:
		return err
	case !signedBy(old.Leaf, certs):
		if left := old.Leaf.NotAfter.Sub(now); left < serverWarn {
			p.cfg.Log.Warn("Server certificate ends soon and is not Ripstop's to renew", "file", p.path(serverCert), "ends", old.Leaf.NotAfter)
		}
		return nil
	case old.Leaf.NotAfter.Sub(now) < serverWarn:
		why = "ends soon"
	case !hasNames(old.Leaf, p.cfg.Names()):
		why = "lacks a name"
	}
	if why == "" {
		return nil
	}
	return p.writeServer(certs[0], key, why)
}

func (p *PKI) writeServer(ca *x509.Certificate, caKey crypto.Signer, why string) error {
	key, err := p.writeKey(serverKey)
	if err != nil {
		return err
	}
	now := p.cfg.Now()
	t := &x509.Certificate{
		NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	names := p.cfg.Names()
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	t.Subject.CommonName = "ripstop-server"
	der, err := signCertificate(t, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	p.cfg.Log.Info("Server certificate made", "file", p.path(serverCert), "why", why, "names", strings.Join(names, ","), "ends", t.NotAfter)
	return writeFile(p.path(serverCert), pemOf("CERTIFICATE", der), 0o644)
}

// errOtherKey: a certificate and a key that do not belong together.
var errOtherKey = errors.New("certificate and key do not belong together")

// readServer reads the server's certificate and key.
func (p *PKI) readServer() (*tls.Certificate, error) {
	cert, err := os.ReadFile(p.path(serverCert))
	if err != nil {
		return nil, err
	}
	if _, err := parseCertificates(cert); err != nil {
		return nil, fmt.Errorf("%s: %w", serverCert, err)
	}
	key, err := readKey(p.path(serverKey))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w: %w", serverCert, serverKey, errOtherKey, err)
	}
	return &pair, nil
}

// readLocked reads all files and puts them in force.
func (p *PKI) readLocked() error {
	stamps, err := p.look()
	if err != nil {
		return err
	}
	cas, signer, err := p.readCA()
	if err != nil {
		return err
	}
	server, err := p.readServer()
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	for _, c := range cas {
		pool.AddCert(c)
	}
	p.stamps, p.cas, p.signer, p.pool, p.server = stamps, cas, signer, pool, server
	return nil
}

// look is the state of all files.
func (p *PKI) look() (s [4]stamp, err error) {
	for i, name := range []string{caCert, caKey, serverCert, serverKey} {
		if s[i], err = stampOf(p.path(name)); err != nil {
			return s, err
		}
	}
	return s, nil
}

// currentLocked puts files in force that were changed. What cannot be read
// changes nothing, and is said once.
func (p *PKI) currentLocked() {
	now, err := p.look()
	if err == nil && now == p.stamps {
		return
	}
	if err == nil {
		if err = p.readLocked(); err == nil {
			p.broken = ""
			p.cfg.Log.Info("Certificates read anew", "dir", p.cfg.Dir, "server_ends", p.server.Leaf.NotAfter)
			return
		}
	}
	if text := err.Error(); text != p.broken {
		p.broken = text
		p.cfg.Log.Error("Changed certificates cannot be used, the ones before stay in force", "dir", p.cfg.Dir, "err", err)
	}
}

// TLS is how the server speaks TLS: 1.2 or later, with the ciphers of 1.2 that
// have forward secrecy and are authenticated. A client may show a certificate
// of the CA; one of another ends the connection. The files are looked at for
// each connection.
func (p *PKI) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.currentLocked()
			return &tls.Config{
				MinVersion:   tls.VersionTLS12,
				NextProtos:   []string{"h2", "http/1.1"},
				Certificates: []tls.Certificate{*p.server},
				ClientAuth:   tls.VerifyClientCertIfGiven,
				ClientCAs:    p.pool,
				Time:         p.cfg.Now,
				// A ticket would bring back a client whose CA is no longer
				// trusted.
				SessionTicketsDisabled: true,
				CipherSuites: []uint16{
					tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
					tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
					tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
				},
			}, nil
		},
	}
}

// Serves reports whether the server's certificate is for a name or address.
func (p *PKI) Serves(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.Leaf.VerifyHostname(host) == nil
}

// Authority is what clients must trust to know the server (PEM): the CA's
// certificates, or where another CA has signed the server's, what stands with
// that.
func (p *PKI) Authority() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.currentLocked()
	var out []byte
	if signedBy(p.server.Leaf, p.cas) {
		for _, c := range p.cas {
			out = append(out, pemOf("CERTIFICATE", c.Raw)...)
		}
		return string(out)
	}
	for _, der := range p.server.Certificate[1:] {
		out = append(out, pemOf("CERTIFICATE", der)...)
	}
	return string(out)
}

func pemOf(typ string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
}

// parseCertificates reads one certificate or more.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("has no certificate in PEM")
	}
	return out, nil
}

// writeKey makes a private key and keeps it.
func (p *PKI) writeKey(name string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(p.path(name), pemOf("PRIVATE KEY", der), 0o600)
}

// parseKey reads a private key (PKCS #8, or SEC 1 as openssl ecparam makes).
func (p *PKI) parseKey(name string) (crypto.Signer, error) {
	data, err := readKey(p.path(name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	for block != nil && strings.HasSuffix(block.Type, "PARAMETERS") {
		_, data, _ = bytes.Cut(data, []byte("-----END "+block.Type+"-----"))
		block, _ = pem.Decode(data)
	}
	if block == nil {
		return nil, fmt.Errorf("%s: has no private key in PEM", name)
	}
	var key any
	if block.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, is := key.(crypto.Signer)
	if err != nil || !is {
		return nil, fmt.Errorf("%s: not a private key (PKCS #8 or SEC 1): %w", name, err)
	}
	return signer, nil
}

func samePublic(a, b any) bool {
	k, is := a.(interface{ Equal(crypto.PublicKey) bool })
	return is && k.Equal(b)
}

// signedBy reports whether one of the CA's certificates vouches for c.
func signedBy(c *x509.Certificate, cas []*x509.Certificate) bool {
	for _, ca := range cas {
		if c.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// ours reports whether the certificate in data is signed by the CA.
func ours(data []byte, cas []*x509.Certificate) bool {
	certs, err := parseCertificates(data)
	return err == nil && signedBy(certs[0], cas)
}

// hasNames reports whether a certificate is for all names.
func hasNames(c *x509.Certificate, names []string) bool {
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}
