// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"time"
)

// Sign makes a client certificate (PEM) for the public key of a request
// (PKCS #10, PEM), good until ends. User becomes its common name, groups its
// organizations; what the request says of those is not looked at.
func (p *PKI) Sign(request, user string, groups []string, ends time.Time) (string, error) {
	block, _ := pem.Decode([]byte(request))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return "", errors.New("not a certificate request in PEM")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", err
	}
	if err := req.CheckSignature(); err != nil {
		return "", err
	}
	switch k := req.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if k.N.BitLen() < leastRSABits {
			return "", errors.New("an RSA key needs 2048 bits; better use ECDSA P-256")
		}
	default:
		return "", errors.New("a key of a kind that is not known; use ECDSA P-256")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.currentLocked()
	if ends.After(p.cas[0].NotAfter) {
		ends = p.cas[0].NotAfter
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: user, Organization: groups},
		NotBefore: p.cfg.Now().Add(-backdate), NotAfter: ends, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := signCertificate(t, p.cas[0], req.PublicKey, p.signer)
	if err != nil {
		return "", err
	}
	return string(pemOf("CERTIFICATE", der)), nil
}

// signCertificate signs t, which gets a random serial number of 127 bits
// (RFC 5280, 4.1.2.2), with the CA's key.
func signCertificate(t, ca *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial.Add(serial, big.NewInt(1))
	return x509.CreateCertificate(rand.Reader, t, ca, public, key)
}
