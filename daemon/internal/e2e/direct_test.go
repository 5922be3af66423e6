// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDirect_DatastoreOfTheEnvironmentIsUsed: with calicoctl's variables the
// CLI works on an etcd without a server that runs, checks what it writes as a
// server does, and leaves nothing behind.
func TestDirect_DatastoreOfTheEnvironmentIsUsed(t *testing.T) {
	s := startServer(t)
	tmp := shortDir(t)
	cli := func(stdin string, args ...string) (string, error) {
		cmd := exec.Command(binary(t, "ripstop"), args...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = []string{"PATH=/nowhere", "TMPDIR=" + tmp, "HOME=/dev/null", "DATASTORE_TYPE=etcdv3", "ETCD_ENDPOINTS=" + s.etcd(),
			"RIPSTOP_LISTEN=nonsense"} // of the server of the machine, not of this one
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	const set = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: direct}\nspec: {nets: [192.0.2.0/24]}\n"
	if out, err := cli(set, "apply", "-f", "-"); err != nil || out != "globalnetworkset/direct created" {
		t.Fatalf("apply: %v: %s", err, out)
	}
	if out, err := s.cli(t, "get", "gns", "-o", "name"); err != nil || out != "globalnetworkset/direct" {
		t.Errorf("the server does not see what was written: %v: %s", err, out)
	}
	const policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec: {tier: nowhere, selector: all()}\n"
	if out, err := cli(policy, "apply", "-f", "-"); err == nil || !strings.Contains(out, "there is no such tier") {
		t.Errorf("what a server refuses was written: %v: %s", err, out)
	}
	if out, err := cli("", "get", "gns", "--server", s.socket(), "-o", "name"); err != nil || out != "globalnetworkset/direct" {
		t.Errorf("--server goes before the environment: %v: %s", err, out)
	}
	if left, err := filepath.Glob(tmp + "/*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestDirect_NeedsTheServersProgram: the CLI alone says what is missing.
func TestDirect_NeedsTheServersProgram(t *testing.T) {
	alone := filepath.Join(t.TempDir(), "ripstop")
	data, err := os.ReadFile(binary(t, "ripstop"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(alone, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(alone, "get", "tiers")
	cmd.Env = []string{"PATH=/nowhere", "HOME=/dev/null", "ETCD_ENDPOINTS=http://127.0.0.1:1"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "ripstop-server must be installed on this machine") {
		t.Errorf("%v: %s", err, out)
	}
}
