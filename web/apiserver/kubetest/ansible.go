// SPDX-License-Identifier: Apache-2.0

package kubetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// AnsibleCollections is a directory with Ansible's collection kubernetes.core,
// taken out of Debian's package ansible, which is not installed. ansible-core
// and Python's client of Kubernetes are installed if they are missing.
func AnsibleCollections(t testing.TB) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	run := func(dir, line string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("no Ansible: %s: %v\n%s", line, err, out)
		}
	}
	_, missing := exec.LookPath("ansible-playbook")
	if _, err := os.Stat("/usr/lib/python3/dist-packages/kubernetes"); missing != nil || err != nil {
		run("/", "apt-get install -y -qq --no-install-recommends ansible-core python3-kubernetes")
	}
	dir := filepath.Join(cacheDir(t), "ansible-collections")
	core := filepath.Join(dir, "ansible_collections", "kubernetes", "core")
	if _, err := os.Stat(core); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(core), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	run(tmp, "apt-get download ansible")
	run(tmp, "dpkg --fsys-tarfile ansible_*.deb | tar -x ./usr/lib/python3/dist-packages/ansible_collections/kubernetes/core")
	run(tmp, "mv usr/lib/python3/dist-packages/ansible_collections/kubernetes/core "+core)
	return dir
}
