// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestContext_CredentialsGoToItsServerAlone: the token of a context is never
// shown to a server that a flag or the environment names.
func TestContext_CredentialsGoToItsServerAlone(t *testing.T) {
	var got string
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		fmt.Fprint(w, `{"kind":"TierList","apiVersion":"projectcalico.org/v3","metadata":{"resourceVersion":"1"},"items":[]}`)
	})
	known := httptest.NewTLSServer(answer)
	defer known.Close()
	stranger := httptest.NewServer(answer)
	defer stranger.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"token": "planted\n", "ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: known.Certificate().Raw})),
		"config.yaml": "current-context: k\ncontexts: [{name: k, server: " + known.URL + ", certificate-authority: ca.crt, token-file: token}]\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("RIPSTOP_CONFIG", filepath.Join(dir, "config.yaml"))
	t.Setenv("RIPSTOP_SERVER", "")
	if code, _, stderr := run(t, "", "get", "tiers"); code != 0 || got != "Bearer planted" {
		t.Fatalf("get tiers: code %d, Authorization %q\n%s", code, got, stderr)
	}
	for _, how := range []struct {
		env  string
		args []string
	}{{stranger.URL, nil}, {"", []string{"--server", stranger.URL}}} {
		got = "nobody asked"
		t.Setenv("RIPSTOP_SERVER", how.env)
		if code, _, stderr := run(t, "", append([]string{"get", "tiers"}, how.args...)...); code != 0 || got != "" {
			t.Errorf("get tiers of another server: code %d, Authorization %q\n%s", code, got, stderr)
		}
	}
}

func TestEtcdFromEnvironment_IsCalicoctls(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		used bool
		fail bool
	}{
		{"nothing", nil, false, false},
		{"endpoints alone", map[string]string{"ETCD_ENDPOINTS": "http://x:1"}, true, false},
		{"with the prefix", map[string]string{"CALICO_ETCD_ENDPOINTS": "http://x:1", "CALICO_DATASTORE_TYPE": "etcdv3"}, true, false},
		{"kubernetes", map[string]string{"DATASTORE_TYPE": "kubernetes", "ETCD_ENDPOINTS": "http://x:1"}, false, false},
		{"no endpoints", map[string]string{"DATASTORE_TYPE": "etcdv3"}, false, true},
		{"by DNS", map[string]string{"DATASTORE_TYPE": "etcdv3", "ETCD_DISCOVERY_SRV": "x"}, false, true},
		{"another type", map[string]string{"DATASTORE_TYPE": "foo"}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if e, err := etcdFromEnvironment(); e.used() != c.used && err == nil || (err != nil) != c.fail {
				t.Errorf("used %v, error %v; want %v, %v", e.used(), err, c.used, c.fail)
			}
		})
	}
}

func TestConfig_FileOfCalicoctlLeadsToEtcd(t *testing.T) {
	t.Setenv("RIPSTOP_SERVER", "")
	for _, c := range []struct{ spec, endpoints, fault string }{
		{"{datastoreType: etcdv3, etcdEndpoints: 'https://db:2379', etcdKeyFile: /k, etcdCertFile: /c, etcdCACertFile: /ca}", "https://db:2379", ""},
		{"{etcdEndpoints: 'https://db:2379'}", "https://db:2379", ""},
		{"{datastoreType: kubernetes, kubeconfig: /k}", "", "unknown field"},
		{"{datastoreType: kubernetes}", "", "want etcdv3"},
		{"{etcdEndpoints: 'https://db:2379', etcdKey: PEM}", "", "certificates in files"},
	} {
		path := filepath.Join(t.TempDir(), "calicoctl.cfg")
		if err := os.WriteFile(path, []byte("apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec: "+c.spec+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a := &app{}
		root := a.root()
		if err := root.PersistentFlags().Set("config", path); err != nil {
			t.Fatal(err)
		}
		err := a.loadConfig(root)
		if a.cfg.Etcd.Endpoints != c.endpoints || (err != nil) != (c.fault != "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: endpoints %q, error %v; want %q, %q", c.spec, a.cfg.Etcd.Endpoints, err, c.endpoints, c.fault)
		}
	}
}
