// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ripstop/ripstop/cli/command"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/web/apiserver/authn"
	"github.com/ripstop/ripstop/web/apiserver/authz"
	"github.com/ripstop/ripstop/web/apiserver/kubetest"
)

// TestKubectlAccess tells the stories of testdata/access: kubectl and ripstop
// against a server on a socket and on TLS, as ripstop-server runs it. Beside
// them they have
//
//	ripstop ARGS        run it on the socket, as root
//	clock DURATION      move the server's clock
//	rotate              put another server's certificate in place of the one there is
//	oidc file|url       start the server anew, with an issuer whose keys are there
//	idtoken VAR USER [GROUP...]   have the issuer make a token
//	awaitfile FILE PATTERN        wait until a line of a file matches
func TestKubectlAccess(t *testing.T) { accessStories(t, kubetest.Program(t, "kubectl")) }

// TestKubectlAccess_OfDebian tells them with one that is years old.
func TestKubectlAccess_OfDebian(t *testing.T) { accessStories(t, kubetest.DebianKubectl(t)) }

func accessStories(t *testing.T, kubectl string) {
	bin := t.TempDir()
	if err := os.Symlink(kubectl, filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/access",
		Setup: func(env *testscript.Env) error {
			s := &tlsServer{dir: env.WorkDir, store: clienttest.NewStore(t, 0)}
			if err := s.start(nil); err != nil {
				return err
			}
			env.Defer(s.close)
			env.Values["tls"] = s
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SERVER", "https://"+s.addr)
			env.Setenv("SERVER6", "https://"+s.addr6)
			return os.WriteFile(filepath.Join(env.WorkDir, "ca.crt"), []byte(s.pki.Authority()), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ripstop": ripstopCommand, "clock": clockCommand, "rotate": rotateCommand,
			"oidc": oidcCommand, "idtoken": idtokenCommand, "awaitfile": awaitCommand,
		},
	})
}

// tlsServer is a server on a socket and on TLS, over IPv4 and IPv6.
type tlsServer struct {
	dir         string
	store       clienttest.Store
	pki         *authn.PKI
	addr, addr6 string
	issuer      *webIssuer
	stop        func()

	mu    sync.Mutex // guards ahead
	ahead time.Duration
}

func (s *tlsServer) now() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return time.Now().Add(s.ahead) }

func (s *tlsServer) openPKI() (*authn.PKI, error) {
	return authn.OpenPKI(authn.PKIConfig{
		Dir: filepath.Join(s.dir, "pki"), Names: func() []string { return []string{"127.0.0.1", "::1"} },
		Log: slog.New(slog.DiscardHandler), Now: s.now,
	})
}

func (s *tlsServer) start(oidc *authn.OIDC) error {
	var err error
	if s.pki, err = s.openPKI(); err != nil {
		return err
	}
	socket, err := Listen(filepath.Join(s.dir, "run", "api.sock"))
	if err != nil {
		return err
	}
	listeners := []net.Listener{socket}
	for _, a := range []*string{&s.addr, &s.addr6} {
		at := *a
		if at == "" {
			at = map[bool]string{true: "127.0.0.1:0", false: "[::1]:0"}[a == &s.addr]
		}
		l, err := ListenTLS(at, s.pki)
		if err != nil {
			return err
		}
		*a = l.Addr().String()
		listeners = append(listeners, l)
	}
	known, rights := authn.New(oidc, s.now), authz.New()
	srv := New(Config{
		Store: s.store, Authn: known, Rights: rights, PKI: s.pki, Address: "https://" + s.addr, Now: s.now,
		Limits: Limits{Logins: 1e6}, Drain: time.Second,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	log := slog.New(slog.DiscardHandler)
	wg.Go(func() { known.Run(ctx, s.store, log) })
	wg.Go(func() { rights.Run(ctx, s.store, log) })
	wg.Go(func() { srv.Serve(ctx, listeners...) })
	s.stop = func() { cancel(); wg.Wait() }
	return nil
}

func (s *tlsServer) close() {
	s.stop()
	if s.issuer != nil {
		s.issuer.site.Close()
	}
}

// ripstopCommand runs ripstop on the server's socket. Names of files must be
// absolute.
func ripstopCommand(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value("tls").(*tlsServer)
	code := command.Main(append([]string{"--server", "unix://" + filepath.Join(s.dir, "run", "api.sock")}, args...),
		command.Streams{In: os.Stdin, Out: ts.Stdout(), Err: ts.Stderr()})
	if (code != 0) != neg {
		ts.Fatalf("ripstop %q: exit code %d", args, code)
	}
}

func clockCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: clock DURATION")
	}
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	s := ts.Value("tls").(*tlsServer)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

func rotateCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: rotate")
	}
	s := ts.Value("tls").(*tlsServer)
	for _, name := range []string{"server.crt", "server.key"} {
		ts.Check(os.Remove(filepath.Join(s.dir, "pki", name)))
	}
	_, err := s.openPKI()
	ts.Check(err)
}

// webIssuer is an OpenID Connect issuer with a web site.
type webIssuer struct {
	key  *ecdsa.PrivateKey
	site *httptest.Server
	keys []byte
}

func newWebIssuer() (*webIssuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	i := &webIssuer{key: key}
	i.keys, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig"}}})
	i.site = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			w.Write(i.keys)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"issuer": i.site.URL, "jwks_uri": i.site.URL + "/keys"})
	}))
	return i, err
}

func oidcCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: oidc file|url")
	}
	s := ts.Value("tls").(*tlsServer)
	if s.issuer == nil {
		i, err := newWebIssuer()
		ts.Check(err)
		s.issuer = i
	}
	cfg := authn.OIDCConfig{Issuer: s.issuer.site.URL, Audience: "ripstop", Now: s.now}
	switch args[0] {
	case "file":
		path := filepath.Join(s.dir, "jwks.json")
		ts.Check(os.WriteFile(path, s.issuer.keys, 0o644))
		keys, err := authn.NewFileKeys(path)
		ts.Check(err)
		cfg.Keys = keys
	case "url":
		keys, err := authn.NewURLKeys(cfg.Issuer, "", nil, slog.New(slog.DiscardHandler), s.now)
		ts.Check(err)
		cfg.Keys = keys
	default:
		ts.Check(errors.New("usage: oidc file|url"))
	}
	o, err := authn.NewOIDC(cfg)
	ts.Check(err)
	s.stop()
	// A program that another test is just starting may hold the lock file for
	// a moment.
	err = s.start(o)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err = s.start(o)
	}
	ts.Check(err)
}

// idtokenCommand makes a token that is good for an hour.
func idtokenCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: idtoken VAR USER [GROUP...]")
	}
	s := ts.Value("tls").(*tlsServer)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.issuer.key, KeyID: "k"}}, nil)
	ts.Check(err)
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": s.issuer.site.URL, "aud": "ripstop", "sub": args[1], "groups": args[2:],
		"iat": s.now().Unix(), "exp": s.now().Add(time.Hour).Unix(),
	}).Serialize()
	ts.Check(err)
	ts.Setenv(args[0], token)
}
