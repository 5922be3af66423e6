// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuild_TheSameSourceGivesTheSameBytes, for both kinds of package and for
// the bills of materials, and the packages are what lintian wants.
func TestBuild_TheSameSourceGivesTheSameBytes(t *testing.T) {
	one, two := built(t, "1.0.0"), t.TempDir()
	build(t, "1.0.0", two)
	sums := func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if a, b := sums(one), sums(two); a != b || strings.Count(a, "\n") != 6 {
		t.Errorf("checksums of two builds, want two times the same six:\n%s\n%s", a, b)
	}
	out, err := exec.Command("lintian", append([]string{"--pedantic", "-E", "--tag-display-limit", "0", "--fail-on", "error,warning"}, files(t, one, "*.deb")...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "root privileges") {
			t.Errorf("lintian: %s (%v)", line, err)
		}
	}
	for _, f := range files(t, one, "*.cdx.json") {
		var bom struct {
			BOMFormat  string
			Components []struct{ Name, Version, PURL string }
		}
		b, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(b, &bom)
		}
		if err != nil || bom.BOMFormat != "CycloneDX" || len(bom.Components) < 10 {
			t.Errorf("%s: %v, %d components, want a CycloneDX bill of many", f, err, len(bom.Components))
		}
		for _, c := range bom.Components {
			if c.Name == "" || c.Version == "" || !strings.HasPrefix(c.PURL, "pkg:golang/") {
				t.Errorf("%s: component %+v is not named whole", f, c)
			}
		}
	}
}
