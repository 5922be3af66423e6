// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

// authority signs certificates for a test.
type authority struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{dir: dir, file: filepath.Join(dir, "ca.pem"), cert: cert, key: key}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue makes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "EC PRIVATE KEY", k)
	return certFile, keyFile
}

// tlsServer is an external etcd on loopback that wants client certificates
// and a user.
func tlsServer(t *testing.T, ca *authority) (endpoint string) {
	t.Helper()
	cert, key := ca.issue(t, "server")
	c := embed.NewConfig()
	c.Name, c.Dir = "tls", t.TempDir()
	u := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.InitialCluster = "tls=http://127.0.0.1:0"
	c.TickMs, c.ElectionMs = 20, 100
	c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = cert, key
	c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = ca.file, true
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Server.Stop()
		e.Close()
	})
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(20 * time.Second):
		t.Fatal("etcd with TLS did not start")
	}
	return "https://" + e.Clients[0].Addr().String()
}

func TestStore_TLSAndPassword(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, "client")
	cfg := etcd.Config{
		Endpoints: []string{tlsServer(t, ca)}, CAFile: ca.file, CertFile: cert, KeyFile: key,
		RequestTimeout: 3 * time.Second,
	}
	ctx := testContext(t)
	if err := store.Initialise(ctx, openStore(t, cfg, nil)); err != nil {
		t.Fatalf("with a certificate, before users: %v", err)
	}

	// Turn on etcd's own users: one for everything, one that may only read.
	admin, err := clientv3.New(clientv3.Config{Endpoints: cfg.Endpoints, TLS: clientTLS(t, ca, cert, key), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	steps := []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "geheim"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "root"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.UserAdd(ctx, "reader", "auch"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "reader"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "reader", "/", "0", clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := admin.UserGrantRole(ctx, "reader", "reader"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}

	root := openStore(t, cfg, func(c *etcd.Config) { c.Username, c.Password = "root", "geheim" })
	w, err := root.Watch(ctx, tier("", 0).Key().Kind, 1)
	if err != nil {
		t.Fatalf("Watch as root: %v", err)
	}
	defer w.Close()
	if _, err := root.Put(ctx, tier("mine", 5), store.Absent()); err != nil {
		t.Errorf("Put as root: %v", err)
	}
	for found := false; !found; {
		evs, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("Next as root: %v", err)
		}
		for _, ev := range evs {
			found = found || ev.Key.Name == "mine"
		}
	}
	if st, err := root.Status(ctx); err != nil || !st.HasLeader {
		t.Errorf("Status as root = %+v, %v", st, err)
	}

	reader := openStore(t, cfg, func(c *etcd.Config) { c.Username, c.Password = "reader", "auch" })
	if _, err := reader.Get(ctx, tier("mine", 0).Key()); err != nil {
		t.Errorf("Get as reader: %v", err)
	}
	if _, err := reader.Put(ctx, tier("other", 5), store.Absent()); err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Put as reader: error %v, want permission denied", err)
	}
	for _, c := range []struct {
		name string
		// timeout is short where no answer comes, else beside the point.
		timeout time.Duration
		change  func(c *etcd.Config)
		want    string
	}{
		{"wrong password", 30 * time.Second, func(c *etcd.Config) { c.Username, c.Password = "root", "falsch" }, "authentication failed"},
		{"a user by certificate who is not there", 30 * time.Second, func(*etcd.Config) {}, "permission denied"},
		{"no certificate", time.Second, func(c *etcd.Config) { c.CertFile, c.KeyFile = "", "" }, "not reachable"},
		{"wrong authority", 2 * time.Second, func(c *etcd.Config) { c.CAFile = newAuthority(t, t.TempDir()).file }, "unknown authority"},
	} {
		s := openStore(t, cfg, func(cfg *etcd.Config) {
			cfg.RequestTimeout, cfg.DialTimeout = c.timeout, c.timeout
			c.change(cfg)
		})
		_, err := s.Get(context.Background(), tier("mine", 0).Key())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Get with %s: error %v, want %q in it", c.name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "falsch") || strings.Contains(err.Error(), "geheim")) {
			t.Errorf("Get with %s: error %v shows a password", c.name, err)
		}
	}
}
