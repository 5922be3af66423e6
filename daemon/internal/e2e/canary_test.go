// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// canaries are secrets by the name of their place.
type canaries map[string]string

// keys adds the private keys of PEM files below a directory: each line of one
// gives it away.
func (c canaries) keys(t *testing.T, dir string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, key, private := bytes.Cut(data, []byte("PRIVATE KEY-----\n"))
		if !private {
			return nil
		}
		found++
		key, _, _ = bytes.Cut(key, []byte("-----END"))
		for i, line := range strings.Fields(string(key)) {
			if len(line) >= 16 {
				c[fmt.Sprintf("line %d of the key %s", i+1, path)] = line
			}
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Fatalf("%d private keys below %s: %v", found, dir, err)
	}
}

// absent fails the test for each secret that is in a text.
func (c canaries) absent(t *testing.T, where string, text []byte) {
	t.Helper()
	for place, secret := range c {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprintf("%x", secret)} {
			if bytes.Contains(text, []byte(form)) {
				t.Errorf("%s: %s is in it", where, place)
			}
		}
	}
}

// TestSecrets_AreInNoLogBundleMetricOrAnswer: strings are planted wherever a
// secret may be, everything that takes one is used well and badly, and then
// nothing that the programs have written has one of them.
func TestSecrets_AreInNoLogBundleMetricOrAnswer(t *testing.T) {
	secret := func(name string) string { return "canary-" + name + "-4f1c77e09b" }
	c := canaries{}
	for _, name := range []string{"password", "bearer", "basic", "jwt", "url"} {
		c[name] = secret(name)
	}

	// It speaks TLS, and is no etcd: the agent that goes astray shows it its password.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	srv := &server{dir: shortDir(t)}
	srv.process = start(t, nil, "ripstop-server", "--run-dir", srv.dir+"/run", "--state-dir", srv.dir+"/state",
		"--listen", address, "--log-level", "debug", "--oidc-issuer", "http://127.0.0.1:1/", "--oidc-audience", "ripstop")
	if srv.store, err = client.New(client.Config{Server: srv.socket()}); err != nil {
		t.Fatal(err)
	}
	srv.ready(t)
	c.keys(t, srv.dir+"/state")

	password := filepath.Join(srv.dir, "password")
	if err := os.WriteFile(password, []byte(c["password"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	etc := filepath.Join(srv.dir, "etc")
	if err := os.Mkdir(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	// What people write into files that no program of ours would take.
	if err := os.WriteFile(filepath.Join(etc, "ripstop.yaml"), []byte("etcd-endpoints: https://root:"+c["url"]+"@127.0.0.1:2379\netcd-password: "+c["password"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "etcd.key"), []byte(c["password"]), 0o600); err != nil {
		t.Fatal(err)
	}
	ns := netnstest.New(t)
	ca := filepath.Join(srv.dir, "state/pki/ca.crt")
	a := startAgent(t, ns, srv.etcd(), "--log-level", "debug")
	astray := &agent{dir: shortDir(t), ns: nil, etcd: "https://" + address, args: []string{"--log-level", "debug", "--etcd-username", "root",
		"--etcd-password-file", password, "--etcd-ca-file", ca}}
	astray.ns = netnstest.New(t)
	astray.run(t)

	var said bytes.Buffer
	cli := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(binary(t, "ripstop"), args...)
		cmd.Env = append(os.Environ(), "RIPSTOP_SERVER="+srv.socket(), "RIPSTOP_AGENT=unix://"+a.dir+"/run/agent.sock", "HOME="+srv.dir)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ripstop %q: %v", args, err)
		}
		return string(out)
	}
	// Tokens and kubeconfigs are shown to who asks for them, once.
	token := strings.TrimSpace(cli("token", "create", "--user", "ci", "--name", "ci"))
	if len(token) < 30 {
		t.Fatalf("token create printed %q", token)
	}
	c["token"] = token
	config := filepath.Join(srv.dir, "kube", "config")
	if err := os.Mkdir(filepath.Dir(config), 0o700); err != nil {
		t.Fatal(err)
	}
	cli("kubeconfig", "--user", "alice", "--file", config)
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(data), "client-key-data: ")
	key, _, _ = strings.Cut(key, "\n")
	if len(key) < 100 {
		t.Fatalf("no key in %s", data)
	}
	c["key of the kubeconfig"] = key[40:80]
	pemKey, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	c["key of the kubeconfig, as PEM"] = strings.Fields(string(pemKey))[4]

	http1 := &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}} // the test's own server
	ask := func(method, path, authorization, body string) int {
		t.Helper()
		r, err := http.NewRequest(method, "https://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http1.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if err := answer.Header.Write(&said); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&said, answer.Body); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode
	}
	const tiers = "/apis/projectcalico.org/v3/tiers"
	if got := ask("GET", tiers, "Bearer "+token, ""); got != http.StatusForbidden {
		t.Errorf("the token of somebody without a role: got %d, want 403", got)
	}
	if got := ask("POST", tiers, "Bearer "+token, `{"metadata":{"name":"x"}}`); got != http.StatusForbidden {
		t.Errorf("a write of somebody without a role: got %d, want 403", got)
	}
	jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"1"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"http://127.0.0.1:1/","aud":"ripstop","sub":"`+c["jwt"]+`","exp":9999999999}`)) + ".c2lnbmVk"
	c["the token of an issuer"] = jwt[30:90]
	delete(c, "jwt")
	for _, authorization := range []string{"Bearer " + c["bearer"], "Basic " + base64.StdEncoding.EncodeToString([]byte("root:"+c["basic"])), "Bearer " + jwt} {
		if got := ask("GET", tiers, authorization, ""); got != http.StatusUnauthorized {
			t.Errorf("%s: got %d, want 401", authorization, got)
		}
	}
	for _, args := range [][]string{{"get", "credentials", "-o", "yaml"}, {"describe", "credential", "ci"}, {"get", "hoststatuses", "-o", "yaml"},
		{"audit", "--dir", srv.dir + "/state/audit", "-o", "json"}, {"status", "-o", "json"}} {
		cmd := exec.Command(binary(t, "ripstop"), args...)
		cmd.Env = append(os.Environ(), "RIPSTOP_SERVER="+srv.socket(), "RIPSTOP_AGENT=unix://"+a.dir+"/run/agent.sock")
		out, _ := cmd.CombinedOutput()
		c.absent(t, fmt.Sprintf("ripstop %q", args), out)
	}
	c.absent(t, "the answers of the API", said.Bytes())

	for _, at := range []*agent{a, astray} {
		for _, path := range []string{"/metrics", "/status", "/config", "/doctor"} {
			eventually(t, path, func() error {
				r, err := at.http().Get("http://agent" + path)
				if err != nil {
					return err
				}
				defer r.Body.Close()
				body, err := io.ReadAll(r.Body)
				if r.StatusCode != http.StatusOK {
					return errors.New(r.Status)
				}
				c.absent(t, "the agent's "+path, body)
				return err
			})
		}
	}

	bundle := filepath.Join(srv.dir, "diags.tar.gz")
	c.absent(t, "what diags prints", []byte(cli("node", "diags", "--output", bundle, "--config-dir", etc)))
	for name, data := range unpack(t, bundle) {
		c.absent(t, "the bundle's "+name, data)
	}
	err = filepath.WalkDir(srv.dir+"/state/audit", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		c.absent(t, path, data)
		return err
	})
	if err != nil {
		t.Error(err)
	}

	// The last words of a program that somebody ends to see where it hangs.
	for name, p := range map[string]*process{"ripstop-server": srv.process, "ripstopd": a.process, "ripstopd astray": astray.process} {
		if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
			t.Error(err)
		}
		<-p.done
		text := p.log.String()
		if p != astray.process && !strings.Contains(text, "level=DEBUG") || !strings.Contains(text, "goroutine ") {
			t.Errorf("%s wrote no debug log or no goroutines: %s", name, tail(text, 1000))
		}
		c.absent(t, "the log of "+name, []byte(text))
	}
}

// unpack reads a tar archive packed with gzip.
func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
