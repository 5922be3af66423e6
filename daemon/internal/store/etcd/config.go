// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says which etcd to use and how. Only Endpoints is required.
type Config struct {
	// Endpoints are URLs: http://host:port, https://host:port or
	// unix:///path. All are of one cluster and of one scheme.
	Endpoints []string
	// CAFile holds the PEM certificates of the authorities that may sign the
	// server's certificate. Empty: those of the operating system.
	CAFile string
	// CertFile and KeyFile are this client's certificate and private key, in
	// PEM; both or neither. They are read again for each connection, so they
	// may be replaced while running. The key must not be accessible to
	// others than owner and group.
	CertFile, KeyFile string
	// Username and Password log in to etcd's own user database; both or
	// neither.
	Username string
	Password Secret
	// DialTimeout bounds one attempt to connect to one endpoint. Default 5 s.
	DialTimeout time.Duration
	// RequestTimeout bounds each request whose context has no deadline.
	// Default 5 s.
	RequestTimeout time.Duration
	// ProbeAfter is the time of silence after which a watch asks whether the
	// store is still there. Default 5 s.
	ProbeAfter time.Duration
	// Checksums keeps a digest of every value beside it (see sum.go) and
	// checks it when the value is read. It costs a second key per object;
	// other programs that write to the same etcd need not know of it.
	Checksums bool
	// Now tells the time for creationTimestamp. Default time.Now.
	Now func() time.Time
	// Log gets what heals itself. Default: nothing is logged.
	Log *slog.Logger
}

// Secret is a text that never shows: every way of printing it gives ***.
type Secret string

// Format prints *** for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "***") }

// String is ***.
func (Secret) String() string { return "***" }

// LogValue is ***.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText is ***, so that JSON and YAML do not show the text either.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Reveal is the text itself.
func (s Secret) Reveal() string { return string(s) }

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.DialTimeout, 5 * time.Second}, {&c.RequestTimeout, 5 * time.Second}, {&c.ProbeAfter, 5 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports all faults of the configuration, joined. It reads the
// files but does not connect.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("etcd: "+format, a...)) }
	if len(c.Endpoints) == 0 {
		bad("no endpoints")
	}
	scheme := ""
	for _, ep := range c.Endpoints {
		u, err := url.Parse(ep)
		if err != nil {
			bad("endpoint %q: not a URL; want http://host:port, https://host:port or unix:///path", redact(ep))
			continue
		}
		if u.User != nil {
			bad("endpoint %q: a URL must not hold a user or password; use username and password", redact(ep))
			continue
		}
		switch {
		case u.Scheme == "unix" && u.Host == "" && len(u.Path) > 1:
		case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Path == "" || u.Path == "/"):
		default:
			bad("endpoint %q: want http://host:port, https://host:port or unix:///path", ep)
			continue
		}
		if scheme != "" && u.Scheme != scheme {
			bad("endpoint %q: all endpoints must be %s as the first one is", ep, scheme)
		}
		scheme = u.Scheme
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("a certificate and its key must be given together (certificate %q, key %q)", c.CertFile, c.KeyFile)
	}
	if (c.Username == "") != (c.Password == "") {
		bad("username and password must be given together")
	}
	if scheme != "https" && scheme != "" && c.CAFile+c.CertFile+c.KeyFile != "" {
		bad("certificates are given but the endpoints are %s:// and would not use them", scheme)
	}
	if _, err := c.tls(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// redact hides what stands before an @ in a URL.
func redact(ep string) string {
	if !strings.Contains(ep, "@") {
		return ep
	}
	u, err := url.Parse(ep)
	if err != nil {
		return "(not shown)"
	}
	if u.User != nil {
		u.User = url.User("***")
	}
	return u.String()
}

// tls builds the TLS configuration from the files; nil if the endpoints are
// not https.
func (c Config) tls() (*tls.Config, error) {
	if len(c.Endpoints) == 0 || !strings.HasPrefix(c.Endpoints[0], "https://") {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("etcd: CA file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd: CA file %s: no PEM certificate in it", c.CAFile)
		}
	}
	if c.CertFile != "" && c.KeyFile != "" {
		load := func() (*tls.Certificate, error) {
			if err := checkKeyMode(c.KeyFile); err != nil {
				return nil, err
			}
			cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("etcd: client certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
			}
			return &cert, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return t, nil
}

// checkKeyMode refuses a private key that everybody on the host may touch.
func checkKeyMode(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("etcd: key file: %w", err)
	}
	if m := fi.Mode().Perm(); m&0o007 != 0 {
		return fmt.Errorf("etcd: key file %s: mode %04o lets everybody on this host at it; chmod 0600 it", path, m)
	}
	return nil
}
