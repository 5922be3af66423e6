// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/web/apiserver/kubetest"
)

// TestKubectl tells every story of testdata/kubectl with the current kubectl.
func TestKubectl(t *testing.T) { kubectlStories(t, kubetest.Program(t, "kubectl"), "new") }

// TestKubectl_OfDebian tells them with one that is years old.
func TestKubectl_OfDebian(t *testing.T) { kubectlStories(t, kubetest.DebianKubectl(t), "old") }

func kubectlStories(t *testing.T, kubectl, age string) {
	bin := t.TempDir()
	if err := os.Symlink(kubectl, filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/kubectl",
		Setup: func(env *testscript.Env) error {
			k := newKubeServer(t)
			env.Defer(k.close)
			env.Values["server"] = k
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("KUBECONFIG", filepath.Join(env.WorkDir, "kubeconfig"))
			env.Setenv("SERVER", k.url())
			return os.WriteFile(filepath.Join(env.WorkDir, "kubeconfig"), []byte(kubetest.Config(k.url())), 0o600)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "old" && cond != "new" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return cond == age, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": serverCommand,
			"await":  awaitCommand,
		},
	})
}

// kubeServer is a server on a port of loopback, which only tests open: whoever
// comes is the admin. It can be stopped and started over the same store.
type kubeServer struct {
	store clienttest.Store
	addr  string     // written by the first start only
	mu    sync.Mutex // guards what follows
	srv   *Server
	http  *httptest.Server
}

func newKubeServer(t testing.TB) *kubeServer {
	k := &kubeServer{store: clienttest.NewStore(t, 0)}
	if err := k.start(); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *kubeServer) url() string { return "http://" + k.addr }

func (k *kubeServer) start() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	addr := k.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if k.addr == "" { // for good: whoever asks for url need not wait for a start
		k.addr = l.Addr().String()
	}
	k.srv = New(Config{Store: k.store})
	admin := Identity{User: "root", Groups: []string{GroupAuthenticated, GroupAdmins}, Via: "unix"}
	h := k.srv.Handler()
	k.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, admin)))
	}))
	k.http.Listener.Close()
	k.http.Listener = l
	k.http.Start()
	return nil
}

func (k *kubeServer) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.srv.Close()
	k.http.CloseClientConnections()
	k.http.Close()
}

// watches is how many clients watch a kind.
func (k *kubeServer) watches(kind api.Kind) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.srv.feeds.mu.Lock()
	defer k.srv.feeds.mu.Unlock()
	fd := k.srv.feeds.kinds[kind]
	if fd == nil {
		return 0
	}
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return len(fd.subs)
}

// serverCommand is "server restart", "server compact" or "server watched
// KIND", which waits until somebody watches the kind.
func serverCommand(ts *testscript.TestScript, neg bool, args []string) {
	k := ts.Value("server").(*kubeServer)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: server restart|compact|watched KIND")
	}
	switch args[0] {
	case "restart":
		k.close()
		ts.Check(k.start())
	case "compact":
		_, rev, err := k.store.List(context.Background(), "Tier", listAll)
		ts.Check(err)
		ts.Check(k.store.Compact(context.Background(), rev))
	case "watched":
		for deadline := time.Now().Add(patience); k.watches(api.Kind(args[1])) == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				ts.Fatalf("nobody watches %s within %v", args[1], patience)
			}
		}
	default:
		ts.Fatalf("usage: server restart|compact|watched KIND")
	}
}

// awaitCommand is "await FILE PATTERN": it waits until a line of a file that a
// program in the background writes matches.
func awaitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE PATTERN")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		f, err := os.Open(path)
		if err == nil {
			for s := bufio.NewScanner(f); s.Scan(); {
				if re.MatchString(s.Text()) {
					f.Close()
					return
				}
			}
			f.Close()
		}
		if time.Now().After(deadline) {
			data, _ := os.ReadFile(path)
			ts.Fatalf("await: no line of %s matches %s within %v; it has:\n%s", args[0], args[1], patience, data)
		}
	}
}
