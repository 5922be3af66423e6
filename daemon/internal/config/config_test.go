// SPDX-License-Identifier: Apache-2.0

package config

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/ripstop/ripstop/daemon/internal/intent"
)

func flagSet(t *testing.T, keys []Key, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(fs, keys)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

// file writes a configuration file and gives the flag that names it.
func file(t *testing.T, text string) (path, flag string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ripstopd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path, "--config=" + path
}

func secret(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func setting(c Config, key string) Setting {
	for _, s := range c.Effective() {
		if s.Key == key {
			return s
		}
	}
	return Setting{}
}

func TestLoadAgent_Defaults(t *testing.T) {
	_, empty := file(t, "")
	c, err := LoadAgent(flagSet(t, AgentKeys(), empty), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Role != Standalone || c.StateDir != "/var/lib/ripstop" || c.RunDir != "/run/ripstop" || c.Dataplane != "auto" || c.MetricsAddress != "127.0.0.1:9091" ||
		c.FailsafeDefaults != FailsafeRipstop || c.ResyncInterval != 60*time.Second || len(c.Etcd.Endpoints) != 0 || c.Log.Level != slog.LevelInfo || c.Log.JSON || c.Check || c.Cleanup {
		t.Errorf("defaults = %+v", c)
	}
	if c.Node == "" || c.Node != strings.ToLower(c.Node) || setting(c, "node").Value != c.Node {
		t.Errorf("node = %q, shown as %+v; want the host's name in lower case", c.Node, setting(c, "node"))
	}
}

func TestLoadAgent_FlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	path, f := file(t, "# comment\nrole: agent\nnode: from-file\nstate-dir: /from/file\netcd-endpoints:\n- https://10.0.0.1:2379\n- https://10.0.0.2:2379\n")
	env := []string{"RIPSTOP_NODE=from-env", "RIPSTOP_STATE_DIR=/from/env", "RIPSTOP_RUN_DIR=", "HOME=/root", "RIPSTOP_LOG_LEVEL=debug"}
	c, err := LoadAgent(flagSet(t, AgentKeys(), f, "--state-dir", "/from/flag"), env)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Setting{}
	for _, k := range []string{"state-dir", "node", "role", "run-dir", "etcd-endpoints", "log-level"} {
		got[k] = setting(c, k)
	}
	want := map[string]Setting{
		"state-dir":      {"state-dir", "/from/flag", FromFlag},
		"node":           {"node", "from-env", FromEnv + " RIPSTOP_NODE"},
		"role":           {"role", "agent", FromFile + Source(" "+path+":2")},
		"run-dir":        {"run-dir", "/run/ripstop", FromDefault},
		"etcd-endpoints": {"etcd-endpoints", "https://10.0.0.1:2379,https://10.0.0.2:2379", FromFile + Source(" "+path+":5")},
		"log-level":      {"log-level", "debug", FromEnv + " RIPSTOP_LOG_LEVEL"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("effective settings (-want +got):\n%s", diff)
	}
	if c.Role != Agent || c.Node != "from-env" || c.StateDir != "/from/flag" || len(c.Etcd.Endpoints) != 2 || c.Log.Level != slog.LevelDebug {
		t.Errorf("Config = %+v", c)
	}
}

func TestLoadAgent_FaultsSayWhatWhereAndHowToMend(t *testing.T) {
	loose := secret(t)
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, file string
		args, env  []string
		want       []string // all in the error text; FILE is the file's path
	}{
		{name: "misspelt key", file: "role: agent\n\nstate_dirr: /x\n", want: []string{"FILE:3: state_dirr: unknown key: did you mean state-dir?"}},
		{name: "unknown key", file: "colour: blue\n", want: []string{"FILE:1: colour: unknown key: known are dataplane, etcd-ca-file"}},
		{name: "key twice", file: "role: agent\nrole: standalone\n", want: []string{"FILE:2: role: is here for the second time: remove this line or line 1"}},
		{name: "secret", file: "etcd-password: hunter2\n", want: []string{"FILE:1: etcd-password: secrets do not belong into this file"}},
		{name: "private key", file: "etcd-key: x\n", want: []string{"etcd-key: secrets do not belong"}},
		{name: "flag in the file", file: "cleanup: true\n", want: []string{"FILE:1: cleanup: is a flag only: use --cleanup"}},
		{name: "nested", file: "etcd:\n  endpoints: x\n", want: []string{"FILE:1: etcd: unknown key"}},
		{name: "map as a value", file: "role: {a: b}\n", want: []string{"FILE:1: role: is not a plain value"}},
		{name: "not a map", file: "- role\n", want: []string{"FILE:1: the file must be lines of the form key: value"}},
		{name: "not YAML", file: "role: [\n", want: []string{"FILE:1: not YAML: "}},
		{name: "bad role", file: "role: server\n", want: []string{`FILE:1: role: "server" is not known: use one of standalone, agent`}},
		{name: "wrong case", file: "failsafe-defaults: ripstop\n", want: []string{`write "Ripstop"`}},
		{name: "bad duration", env: []string{"RIPSTOP_RESYNC_INTERVAL=90"}, want: []string{`environment variable RIPSTOP_RESYNC_INTERVAL: "90" is no duration: write a number with a unit`}},
		{name: "too short", args: []string{"--resync-interval=5ms"}, want: []string{`flag --resync-interval: "5ms" is too short`}},
		{name: "relative path", args: []string{"--state-dir=x"}, want: []string{`flag --state-dir: "x" is relative: write an absolute path`}},
		{name: "long socket path", args: []string{"--run-dir=/" + strings.Repeat("a", 100)}, want: []string{"too long for the name of a socket by 7 bytes"}},
		{name: "metrics for all", args: []string{"--metrics-address=0.0.0.0:9091"}, want: []string{"is not on loopback"}},
		{name: "metrics without port", args: []string{"--metrics-address=127.0.0.1"}, want: []string{"no address with a port"}},
		{name: "endpoint without scheme", args: []string{"--etcd-endpoints=10.0.0.1:2379"}, want: []string{`"10.0.0.1:2379" is no endpoint: write it like https://10.0.0.1:2379`}},
		{name: "endpoint without port", args: []string{"--etcd-endpoints=https://db.example"}, want: []string{"has no port: write it like https://db.example:2379"}},
		{name: "endpoint with password", args: []string{"--etcd-endpoints=https://u:hunter2@db:2379"}, want: []string{"use etcd-username and etcd-password-file"}},
		{name: "two bad endpoints", args: []string{"--etcd-endpoints=10.0.0.1:2379,https://db"}, want: []string{`"10.0.0.1:2379" is no endpoint`, `"https://db" has no port`}},
		{name: "argument", args: []string{"cleanup", "x"}, want: []string{`argument "cleanup" is not expected, only flags are: did you mean --cleanup?`, `argument "x" is not expected, only flags are`}},
		{name: "certificate alone", args: []string{"--etcd-endpoints=https://db:2379", "--etcd-cert-file=/x"}, want: []string{"etcd-cert-file and etcd-key-file go together"}},
		{name: "loose secret", args: []string{"--etcd-endpoints=https://db:2379", "--etcd-username=u", "--etcd-password-file=" + loose}, want: []string{"etcd-password-file: " + loose + ": file is readable by group or others (mode 0644): run chmod 600 " + loose}},
		{name: "password in the clear", args: []string{"--etcd-endpoints=http://10.0.0.1:2379", "--etcd-username=u", "--etcd-password-file=" + secret(t)}, want: []string{"in the clear to http://10.0.0.1:2379: use https"}},
		{name: "certificate for nothing", args: []string{"--etcd-ca-file=/x"}, want: []string{"set etcd-endpoints too"}},
		{name: "misspelt variable", env: []string{"RIPSTOP_ETCD_ENDPOINT=x", "RIPSTOP_SERVER=unix:///x"}, want: []string{"RIPSTOP_ETCD_ENDPOINT is unknown: did you mean RIPSTOP_ETCD_ENDPOINTS?"}},
		{name: "two modes", args: []string{"--check", "--cleanup"}, want: []string{"exclude each other"}},
		{name: "bad host name", args: []string{"--node=a/b"}, want: []string{`"a/b" is no host name`}},
		{name: "everything at once", file: "role: x\nfoo: y\n", args: []string{"--state-dir=z"}, want: []string{"role:", "foo:", "--state-dir"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path, f := file(t, tc.file)
			_, err := LoadAgent(flagSet(t, AgentKeys(), append(tc.args, f)...), tc.env)
			if err == nil {
				t.Fatalf("LoadAgent = no error, want %q", tc.want)
			}
			for _, w := range tc.want {
				if w = strings.ReplaceAll(w, "FILE", path); !strings.Contains(err.Error(), w) {
					t.Errorf("error:\n%v\nwant in it: %s", err, w)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in the error: %v", err)
			}
			if strings.Contains(err.Error(), "RIPSTOP_SERVER") {
				t.Errorf("another program's variable is complained about: %v", err)
			}
		})
	}
}

func TestLoadAgent_MissingFileMattersOnlyIfNamed(t *testing.T) {
	if _, err := LoadAgent(flagSet(t, AgentKeys(), "--config="+filepath.Join(t.TempDir(), "none.yaml")), nil); err == nil {
		t.Error("a file that was named and is missing is no error")
	}
	keys := AgentKeys()
	keys[0].Default = filepath.Join(t.TempDir(), "none.yaml")
	if _, err := load(keys, flagSet(t, keys), nil); err != nil {
		t.Errorf("a missing file that nobody named = %v, want no error", err)
	}
}

// TestShippedFiles_ShowEveryKeyWithItsDefault takes the comment marks away
// from each shipped file and compares it with the defaults.
func TestShippedFiles_ShowEveryKeyWithItsDefault(t *testing.T) {
	for name, keys := range map[string][]Key{"ripstopd.yaml": AgentKeys(), "ripstop-server.yaml": ServerKeys()} {
		b, err := os.ReadFile(filepath.Join("../../../etc/ripstop", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, lines, err := parseFile(name, b, keys); err != nil || len(lines) != 0 {
			t.Errorf("%s as shipped sets %v, %v; want nothing", name, lines, err)
		}
		bare := regexp.MustCompile(`(?m)^#([a-z-]+:)`).ReplaceAll(b, []byte("$1"))
		doc, _, err := parseFile(name, bare, keys)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{}
		for _, k := range keys {
			if !k.FlagOnly {
				want[k.Name] = k.Default
			}
		}
		if diff := cmp.Diff(want, doc); diff != "" {
			t.Errorf("%s with comment marks taken away (-defaults +file):\n%s", name, diff)
		}
	}
}

func TestLoadServer_ReadsItsOwnKeys(t *testing.T) {
	_, f := file(t, "quota: 512MiB\nlisten: 127.0.0.1:8443\n")
	c, err := LoadServer(flagSet(t, ServerKeys(), f), []string{"RIPSTOP_ROLE=agent"})
	if err != nil || c.QuotaBytes != 512<<20 || c.Listen != "127.0.0.1:8443" || c.RunDir != "/run/ripstop" {
		t.Errorf("LoadServer = %+v, %v", c, err)
	}
	for _, bad := range []string{"2", "0GiB", "-1GiB", "2GB", "x"} {
		_, f := file(t, "quota: "+bad+"\n")
		if _, err := LoadServer(flagSet(t, ServerKeys(), f), nil); err == nil || !strings.Contains(err.Error(), "is no size") {
			t.Errorf("quota %q = %v, want an error", bad, err)
		}
	}
}

func TestLoadServer_RefusesAccessThatMakesNoSense(t *testing.T) {
	for text, want := range map[string]string{
		"listen: :8443": "no address with a port", "listen: example.org:8443": "no address with a port", "listen: 10.0.0.1:0": "no address with a port",
		"tls-names: [Upper.example.org]": "lower case", "tls-names: [a b]": "neither a DNS name",
		"oidc-issuer: https://x": "go together", "oidc-audience: x": "go together", "oidc-jwks-url: https://x": "oidc-issuer is empty",
		"oidc-issuer: https://x\noidc-audience: a\noidc-jwks-file: /x\noidc-jwks-url: https://x": "have no effect",
	} {
		_, f := file(t, text+"\n")
		if _, err := LoadServer(flagSet(t, ServerKeys(), f), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
	_, f := file(t, "listen: '[::]:8443'\ntls-names: [a.example.org, 10.0.0.1, fd00::1]\noidc-issuer: https://x\noidc-audience: a\n")
	c, err := LoadServer(flagSet(t, ServerKeys(), f), nil)
	if err != nil || len(c.TLSNames) != 3 || c.OIDC.UsernameClaim != "sub" || c.OIDC.GroupsClaim != "groups" {
		t.Errorf("LoadServer = %+v, %v", c, err)
	}
}

func TestFailsafes(t *testing.T) {
	const tcp, udp = 6, 17
	c := Config{FailsafeDefaults: FailsafeRipstop, Etcd: Etcd{Endpoints: []string{
		"https://10.0.0.1:2379", "https://[fd00::1]:2380", "https://db.example:2379", "http://127.0.0.1:2379", "unix:///x", "https://10.0.0.1:2379"}}}
	in, out := c.Failsafes()
	if diff := cmp.Diff([]intent.Failsafe{{Protocol: tcp, Port: 22}, {Protocol: udp, Port: 68}, {Protocol: udp, Port: 546}}, in, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("inbound (-want +got):\n%s", diff)
	}
	want := []intent.Failsafe{{Protocol: udp, Port: 53}, {Protocol: tcp, Port: 53}, {Protocol: udp, Port: 67}, {Protocol: udp, Port: 547},
		{Protocol: tcp, Port: 2379, Net: netip.MustParsePrefix("10.0.0.1/32")}, {Protocol: tcp, Port: 2380, Net: netip.MustParsePrefix("fd00::1/128")}, {Protocol: tcp, Port: 2379}}
	if !slices.Equal(want, out) {
		t.Errorf("outbound = %v, want %v", out, want)
	}
	c.FailsafeDefaults = FailsafeCalico
	in, out = c.Failsafes()
	if len(in) != 9 || len(out) != 9 || in[0].Port != 22 || out[1] != (intent.Failsafe{Protocol: udp, Port: 67}) {
		t.Errorf("Calico's = %v and %v", in, out)
	}
}
