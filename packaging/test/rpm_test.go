// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRPM_InARootOfItsOwn: both rpms install, upgrade and erase with their
// scriptlets in a root without a running systemd; what rpm verifies is as
// packaged, an edited configuration is kept, and nothing is left but that.
func TestRPM_InARootOfItsOwn(t *testing.T) {
	first, next := built(t, "1.0.0"), built(t, "1.1.0")
	root := ownRoot(t)
	// --nodeps: systemd is there, but not as an rpm.
	rpm := func(args ...string) string {
		t.Helper()
		// In a network namespace of its own: erasing cleans up the rules.
		cmd := exec.Command("unshare", append([]string{"-n", "rpm", "--root", root, "--dbpath", "/var/lib/rpm"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	rpm(append([]string{"-i", "--nodeps"}, files(t, first, "*.rpm")...)...)
	if out := rpm("-V", "--nodeps", "ripstop", "ripstop-server"); out != "" {
		t.Errorf("rpm -V after installation:\n%s", out)
	}
	group, err := os.ReadFile(root + "/etc/group")
	if err != nil || !strings.Contains(string(group), "\nripstop:x:") {
		t.Errorf("group ripstop was not made: %v", err)
	}
	stat := func(path string) string {
		out, err := exec.Command("stat", "-c", "%a %U %G", filepath.Join(root, path)).CombinedOutput()
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(out))
	}
	for path, want := range map[string]string{
		"/usr/sbin/ripstopd": "755 root root", "/usr/bin/ripstop": "755 root root", "/usr/sbin/ripstop-server": "755 root root",
		"/etc/ripstop/ripstopd.yaml": "640 root root", "/etc/ripstop/ripstop-server.yaml": "640 root root",
		"/usr/lib/systemd/system/ripstopd.service": "644 root root", "/usr/share/man/man1/ripstop.1.gz": "644 root root",
	} {
		if diff := cmp.Diff(want, stat(path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	config := root + "/etc/ripstop/ripstopd.yaml"
	edited, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	edited = append(edited, "log-level: debug\n"...)
	if err := os.WriteFile(config, edited, 0o640); err != nil {
		t.Fatal(err)
	}
	rpm(append([]string{"-U", "--nodeps"}, files(t, next, "*.rpm")...)...)
	if now, _ := os.ReadFile(config); string(now) != string(edited) {
		t.Errorf("an edited configuration was not kept by the upgrade:\n%s", now)
	}
	if out := rpm("-q", "ripstop", "ripstop-server"); strings.Count(out, "1.1.0") != 2 {
		t.Errorf("after the upgrade there is:\n%s", out)
	}
	rpm(append([]string{"-U", "--nodeps", "--oldpackage"}, files(t, first, "*.rpm")...)...)
	rpm("-e", "--nodeps", "ripstop", "ripstop-server")
	var left []string
	for _, d := range []string{"usr", "etc"} {
		filepath.WalkDir(filepath.Join(root, d), func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.Contains(filepath.Base(path), "ripstop") {
				left = append(left, strings.TrimPrefix(path, root))
			}
			return nil
		})
	}
	if diff := cmp.Diff([]string{"/etc/ripstop", "/etc/ripstop/ripstopd.yaml.rpmsave"}, left); diff != "" {
		t.Errorf("left after rpm -e (-want +got):\n%s", diff)
	}
}
