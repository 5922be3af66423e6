// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/web/apiserver/kubetest"
)

// TestKubectl_SideBySide runs the commands of testdata/sidebyside.txtar with
// one kubectl against ripstop-server and against a real kube-apiserver that
// holds the same kinds as custom resources. What they print must be the same,
// but for names that are made up (uids, times, revisions) and where the
// script says why not.
func TestKubectl_SideBySide(t *testing.T) {
	kubectl := kubetest.Program(t, "kubectl")
	if testing.Short() {
		t.Skip("kube-apiserver takes ten seconds to start")
	}
	ours := startServer(t)
	theirs := startKubeAPIServer(t)
	theirs.define(t)

	a, err := txtar.ParseFile("testdata/sidebyside.txtar")
	if err != nil {
		t.Fatal(err)
	}
	us := newSide(t, kubectl, a, kubetest.Config(proxyTo(t, ours.dir+"/run/api.sock")))
	them := newSide(t, kubectl, a, theirs.kubeconfig())
	commands, same := 0, 0
	why := ""
	for i, line := range strings.Split(string(a.Comment), "\n") {
		line = strings.TrimSpace(line)
		if reason, differs := strings.CutPrefix(line, "# differs: "); differs {
			why = reason
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		commands++
		got, want := us.run(line), them.run(line)
		switch {
		case got == want && why != "":
			t.Errorf("line %d: %s: said to differ (%s), and does not: %s", i+1, line, why, got)
		case got == want:
			same++
		case why == "":
			t.Errorf("line %d: %s\nripstop-server:\n%s\nkube-apiserver:\n%s", i+1, line, got, want)
		}
		why = ""
	}
	t.Logf("%d commands, %d with the same output, the others with a reason", commands, same)
}

// side is one of the two, as a person at a terminal has it.
type side struct {
	t   *testing.T
	dir string
	env []string
}

func newSide(t *testing.T, kubectl string, a *txtar.Archive, config string) *side {
	s := &side{t: t, dir: t.TempDir()}
	for _, f := range a.Files {
		if err := os.WriteFile(filepath.Join(s.dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "kubeconfig"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(s.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kubectl, filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(), "HOME="+s.dir, "KUBECONFIG="+filepath.Join(s.dir, "kubeconfig"), "PATH="+bin+":"+os.Getenv("PATH"))
	return s
}

// madeUp is what differs between any two servers.
var madeUp = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9.]+(Z| [+-][0-9]{4})?(\s*UTC)?`), "TIME"},
	{regexp.MustCompile(`("?resourceVersion"?: )"[0-9]+"`), `$1"REVISION"`},
	{regexp.MustCompile(`(Resource Version: +)[0-9]+`), "${1}REVISION"},
	// Calico's objects in etcd have no generation, so ours have none.
	{regexp.MustCompile(`(?m)^\s*"?[gG]eneration"?: +[0-9]+,?\n`), ""},
	{regexp.MustCompile(`/tmp/[^ \t\n]+`), "FILE"},
}

// run is what a command prints, with its exit code; what it prints on
// standard error counts where it succeeds (warnings), but not how a refusal
// is worded.
func (s *side) run(line string) string {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.WaitDelay = time.Second // what the shell started may hold its output
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	code := 0
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if ctx.Err() != nil {
			return fmt.Sprintf("not done within 20 s: %s%s", out.String(), errs.String())
		}
		if !errors.As(err, &exit) {
			s.t.Fatalf("%s: %v", line, err)
		}
		code = exit.ExitCode()
	}
	text := out.String()
	if code == 0 {
		text += errs.String()
	} else if m := regexp.MustCompile(`Error from server( \([A-Za-z]+\))?`).FindString(errs.String()); m != "" {
		text += m + "\n"
	}
	for _, m := range madeUp {
		text = m.re.ReplaceAllString(text, m.to)
	}
	return fmt.Sprintf("%sexit code %d", text, code)
}

// proxyTo is a server on loopback that hands everything to a unix socket, so
// that kubectl, which speaks TCP, can reach it: with the rights of the test.
func proxyTo(t *testing.T, socket string) string {
	target, err := url.Parse("http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(target)
	p.FlushInterval = -1
	p.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	srv := httptest.NewServer(p)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// kubeAPIServer is a running kube-apiserver on an etcd of ours.
type kubeAPIServer struct {
	url, token string
	http       *http.Client
}

func startKubeAPIServer(t testing.TB) *kubeAPIServer {
	dir := shortDir(t)
	socket := dir + "/etcd.sock"
	start(t, nil, "ripstop-server", "store", "--data-dir", dir+"/etcd", "--socket", socket, "--quota-bytes", "1000000000")
	eventually(t, "etcd listens", func() error { _, err := os.Stat(socket); return err })
	return startKubeAPIServerOn(t, socket)
}

// startKubeAPIServerOn starts it on an etcd that listens at a socket.
func startKubeAPIServerOn(t testing.TB, socket string) *kubeAPIServer {
	program := kubetest.Program(t, "kube-apiserver")
	dir := shortDir(t)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	k := &kubeAPIServer{token: rand.Text(), http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it makes its own certificate at every start
	}}}
	for name, data := range map[string][]byte{
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"tokens.csv": []byte(k.token + ",root,1,system:masters\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	k.url = "https://" + addr.String()
	startCommand(t, nil, exec.Command(program,
		"--etcd-servers=unix://"+socket, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", addr.Port),
		"--cert-dir="+dir+"/certs", "--token-auth-file="+dir+"/tokens.csv", "--authorization-mode=AlwaysAllow",
		"--service-account-issuer=https://localhost", "--service-account-key-file="+dir+"/sa.key",
		"--service-account-signing-key-file="+dir+"/sa.key", "--service-cluster-ip-range=10.0.0.0/24",
		"--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none"))
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if _, err = k.do("GET", "/readyz", nil); err == nil {
			return k
		}
		if time.Now().After(deadline) {
			t.Fatalf("kube-apiserver is not ready within two minutes: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (k *kubeAPIServer) kubeconfig() string {
	return `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + k.url + `", insecure-skip-tls-verify: true}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: "` + k.token + `"}}]
current-context: c
`
}

func (k *kubeAPIServer) do(method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, k.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+k.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	return data, err
}

// define makes every kind of Calico's group a custom resource, with the schema
// that ripstop-server publishes.
func (k *kubeAPIServer) define(t testing.TB) {
	data, err := os.ReadFile(top + "/web/apiserver/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schemas map[string]any
	if err := json.Unmarshal(data, &schemas); err != nil {
		t.Fatal(err)
	}
	for _, d := range api.Kinds() {
		if d.Group != api.GroupCalico {
			continue
		}
		schema := inlined(schemas, schemas["org.projectcalico.v3."+string(d.Kind)]).(map[string]any)
		schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
		delete(schema, "x-kubernetes-group-version-kind")
		version := map[string]any{"name": d.Version, "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": schema}}
		if d.Kind == api.KindTier || d.Kind == api.KindIPPool {
			version["subresources"] = map[string]any{"status": map[string]any{}}
		}
		scope := "Cluster"
		if d.Namespaced {
			scope = "Namespaced"
		}
		crd, err := json.Marshal(map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": d.Plural + "." + d.Group},
			"spec": map[string]any{
				"group": d.Group, "scope": scope, "versions": []any{version},
				"names": map[string]any{"kind": d.Kind, "plural": d.Plural, "singular": d.Singular, "shortNames": d.ShortNames, "categories": []string{"ripstop"}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.do("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range api.Kinds() {
		if d.Group == api.GroupCalico {
			eventually(t, d.Plural+" are served", func() error { _, err := k.do("GET", d.Path(""), nil); return err })
		}
	}
	// The tiers that every datastore of ours begins with.
	for _, tier := range []string{
		`{"metadata":{"name":"default"},"spec":{"order":1000000,"defaultAction":"Deny"}}`,
		`{"metadata":{"name":"kube-admin"},"spec":{"order":1000,"defaultAction":"Pass"}}`,
		`{"metadata":{"name":"kube-baseline"},"spec":{"order":10000000,"defaultAction":"Pass"}}`,
	} {
		body := strings.Replace(tier, "{", `{"apiVersion":"projectcalico.org/v3","kind":"Tier",`, 1)
		if _, err := k.do("POST", "/apis/projectcalico.org/v3/tiers", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// inlined is a schema with what it refers to in its place, as definitions of
// custom resources want it.
func inlined(schemas map[string]any, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if all, ok := v["allOf"].([]any); ok {
			out := inlined(schemas, all[0]).(map[string]any)
			if d, ok := v["description"]; ok {
				out["description"] = d
			}
			return out
		}
		if ref, ok := v["$ref"].(string); ok {
			return inlined(schemas, schemas[strings.TrimPrefix(ref, "#/components/schemas/")])
		}
		out := map[string]any{}
		for k, e := range v {
			out[k] = inlined(schemas, e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = inlined(schemas, e)
		}
		return out
	}
	return v
}
