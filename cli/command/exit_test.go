// SPDX-License-Identifier: Apache-2.0

package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain_ExitCodes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("RIPSTOP_SERVER", "unix://"+filepath.Join(dir, "none.sock"))
	t.Setenv("RIPSTOP_AGENT", "unix://"+filepath.Join(dir, "none-either.sock"))
	open := filepath.Join(dir, "open.yaml")
	if err := os.WriteFile(open, []byte("apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: e}\nspec: {node: h, interfaceName: eth0, expectedIPs: [10.0.0.1]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
	}{
		{"", exitOK}, {"help", exitOK}, {"version --client", exitOK}, {"get --help", exitOK}, {"completion bash", exitOK},
		{"validate -f " + open, exitOK},
		{"explain -f " + open + " tcp from 10.0.0.2 to host/h:80", exitOK},
		{"explain -f " + open + " --fail-on deny tcp from 10.0.0.2 to host/h:80", exitVerdict},
		{"explain -f " + open + " --fail-on allow tcp from 10.0.0.2 to host/h:80", exitOK},
		{"explain -f " + open + " --fail-on allow tcp from 10.0.0.2 to host/h:22", exitVerdict}, // a failsafe
		{"get tiers", exitError}, {"apply -f none.yaml", exitError}, {"status", exitError}, {"version", exitError},
		{"store accept-rollback", exitError}, {"delete tier x", exitError},
		{"create -f none.yaml", exitError}, {"replace -f " + open, exitError}, {"patch tier x -p {}", exitError}, {"label tier x a=b", exitError},
		{"edit tier x", exitError}, {"convert -f none.yaml", exitError}, {"describe tiers", exitError},
		{"diff -f " + open, exitUsage}, {"diff", exitUsage}, {"create", exitUsage}, {"replace", exitUsage}, {"patch tier x", exitUsage},
		{"label tier", exitUsage}, {"annotate tier", exitUsage}, {"edit tier", exitUsage}, {"describe", exitUsage}, {"convert", exitUsage},
		{"nonsense", exitUsage}, {"get", exitUsage}, {"get nonsense", exitUsage}, {"get tiers -o x", exitUsage}, {"get --nonsense", exitUsage},
		{"apply", exitUsage}, {"apply x", exitUsage}, {"delete tier", exitUsage}, {"validate", exitUsage}, {"explain", exitUsage}, {"explain x", exitUsage},
		{"status -o x", exitUsage}, {"status x", exitUsage}, {"completion", exitUsage}, {"store nonsense", exitUsage},
		{"--server x get tiers", exitUsage}, {"--agent x store accept-rollback", exitUsage},
	} {
		code, stdout, stderr := run(t, "", strings.Fields(c.args)...)
		if code != c.code {
			t.Errorf("ripstop %s: exit code %d, want %d\n%s%s", c.args, code, c.code, stdout, stderr)
		}
		if said := stderr != ""; said != (code == exitError || code == exitUsage) {
			t.Errorf("ripstop %s: exit code %d, standard error %q", c.args, code, stderr)
		}
	}
}

func TestConfig_FlagBeforeEnvironmentBeforeDefault(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("RIPSTOP_AGENT", "")
	for _, c := range []struct{ env, flag, want string }{
		{"", "", "/run/ripstop/api.sock"},
		{"unix://" + dir + "/env", "", dir + "/env"},
		{"unix://" + dir + "/env", "unix://" + dir + "/flag", dir + "/flag"},
	} {
		t.Setenv("RIPSTOP_SERVER", c.env)
		a := &app{}
		root := a.root()
		if c.flag != "" {
			if err := root.PersistentFlags().Set("server", c.flag); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.loadConfig(root); err != nil {
			t.Fatal(err)
		}
		if a.cfg.Server != "unix://"+c.want {
			t.Errorf("environment %q, flag %q: server %q, want %q", c.env, c.flag, a.cfg.Server, "unix://"+c.want)
		}
		if a.cfg.Agent != defaultAgent {
			t.Errorf("an empty variable: agent %q, want %q", a.cfg.Agent, defaultAgent)
		}
	}
}

func TestDiff_ExitCodeTellsDifferenceFromError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	s := serve(t, path)
	defer s.stop()
	t.Setenv("RIPSTOP_SERVER", "unix://"+path)
	const doc = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s}\nspec: {nets: [10.0.0.0/8]}\n"
	want := func(code int, stdin string, args ...string) {
		t.Helper()
		if got, out, err := run(t, stdin, args...); got != code {
			t.Errorf("ripstop %v: exit code %d, want %d\n%s%s", args, got, code, out, err)
		}
	}
	want(exitDifference, doc, "diff", "-f", "-")
	want(exitOK, doc, "apply", "-f", "-")
	want(exitOK, doc, "diff", "-f", "-")
	want(exitUsage, strings.Replace(doc, "nets", "nests", 1), "diff", "-f", "-")
	s.stop()
	want(exitUsage, doc, "diff", "-f", "-")
}
