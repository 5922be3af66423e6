// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// ownRoot is the path of a Debian file system without a running systemd, which
// the test may change.
func ownRoot(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("./machine.sh", "template")
	cmd.Env = append(os.Environ(), "LAB=none")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("machine.sh template: %v\n%s", err, out)
	}
	dir := t.TempDir()
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	options := "lowerdir=/var/cache/ripstop-test/debian,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if out, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", options, root).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", root).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return root
}
