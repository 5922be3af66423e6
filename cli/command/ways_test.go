// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

// shutting is a host, open to all, and then a policy that shuts its SSH.
const (
	openHost = `apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: []}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h}
spec: {node: h, interfaceName: '*', profiles: [projectcalico-default-allow]}
`
	shutting = `apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: shut}
spec: {selector: all(), types: [Ingress], ingress: [{action: Deny}]}
`
)

// TestAskFirst_OnATerminalTheUserDecides.
func TestAskFirst_OnATerminalTheUserDecides(t *testing.T) {
	dir := t.TempDir()
	srv := serve(t, filepath.Join(dir, "api.sock"))
	defer srv.stop()
	t.Setenv("RIPSTOP_SERVER", "unix://"+filepath.Join(dir, "api.sock"))
	t.Setenv("SSH_CONNECTION", "192.0.2.7 40000 198.51.100.1 22")
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if code, _, stderr := run(t, "", "apply", "-f", file("host.yaml", openHost)); code != 0 {
		t.Fatal(stderr)
	}
	policy := file("shut.yaml", shutting)
	// What is wrong with one document does not spare the question about others.
	faulty := file("faulty.yaml", `apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: gone, resourceVersion: "7"}
---
`+shutting)
	if code, _, stderr := run(t, "", "replace", "-f", faulty); code == 0 || strings.Contains(stderr, "shuts the way") {
		t.Errorf("replace of what is not there: %d %s", code, stderr)
	}
	if code, _, stderr := run(t, "", "apply", "-f", faulty); code == 0 || !strings.Contains(stderr, "nothing was written: this shuts the way into 1 host") {
		t.Errorf("a faulty document before the one that shuts: %d %s", code, stderr)
	}
	for _, c := range []struct {
		answer  string
		written bool
	}{{"n\n", false}, {"\n", false}, {"\x04", false}, {"yes\n", true}} {
		far, term := pty(t)
		if _, err := far.WriteString(c.answer); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		code := Main([]string{"apply", "-f", policy}, Streams{term, &out, term})
		said := seen(t, far)
		if !strings.Contains(said, "This shuts the way into 1 host:") || !strings.Contains(said, "tcp from 192.0.2.7 to :22, denied by GlobalNetworkPolicy(shut)") || !strings.Contains(said, "[y/N]") {
			t.Errorf("asked: %q", said)
		}
		_, err := srv.store.Get(t.Context(), api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "shut"})
		if (err == nil) != c.written || (code == 0) != c.written {
			t.Errorf("answered %q: exit code %d, written: %v", c.answer, code, err == nil)
		}
	}
	// It is there: nothing more is shut by it.
	if code, stdout, stderr := run(t, "", "apply", "-f", policy); code != 0 || !strings.Contains(stdout, "unchanged") {
		t.Errorf("again: %d %s %s", code, stdout, stderr)
	}
}
