// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
)

// Credentials are how a server on https is known, and how it knows the
// program: by a certificate, by a token, or by both, where the token counts.
// They do not print what is secret.
type Credentials struct {
	// CA are the certificates (PEM) that the server's own must be signed by;
	// empty: the system's.
	CA []byte
	// ServerName is the name that the server's certificate must have; empty:
	// the host in Config.Server.
	ServerName string
	// Certificate and Key (PEM) are set together or not at all.
	Certificate, Key []byte
	// Token is a bearer token. It is refused where it would go over a network
	// in the clear.
	Token string
}

// String says which there are.
func (c Credentials) String() string {
	var have []string
	for _, h := range []struct {
		name string
		is   bool
	}{{"CA", len(c.CA) > 0}, {"certificate", len(c.Certificate) > 0}, {"token", c.Token != ""}} {
		if h.is {
			have = append(have, h.name)
		}
	}
	return "credentials(" + strings.Join(have, ", ") + ")"
}

// GoString is String, so that %#v does not print what is secret.
func (c Credentials) GoString() string { return c.String() }

// LogValue is String.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// tls is what a connection to u needs; nil if it is not https.
func (c Credentials) tls(server string, u *url.URL) (*tls.Config, error) {
	if u.Scheme != "https" {
		if c.Token != "" && !strings.HasPrefix(server, "unix:") && !loopback(u.Hostname()) {
			return nil, fmt.Errorf("server %q: the token would go over the network in the clear: use https", server)
		}
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if len(c.CA) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(c.CA) {
			return nil, errors.New("CA: has no certificate in it: want PEM")
		}
	}
	if len(c.Certificate) == 0 && len(c.Key) == 0 {
		return t, nil
	}
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}

// loopback reports whether host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
