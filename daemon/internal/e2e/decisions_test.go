// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocs_DecisionsAreNumberedAndSayWhatWasRejected: the records of
// docs/decisions have the numbers 1, 2, 3 … and the same headings.
func TestDocs_DecisionsAreNumberedAndSayWhatWasRejected(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(top, "docs/decisions/[0-9]*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("docs/decisions has %d records (%v), want some", len(files), err)
	}
	for i, f := range files {
		d := readDocument(t, "docs/decisions/"+filepath.Base(f))
		number := fmt.Sprintf("%04d", i+1)
		if !strings.HasPrefix(filepath.Base(f), number+"-") || !strings.HasPrefix(d.text, "# "+number+" ") {
			t.Errorf("%s: file and title want the number %s", f, number)
		}
		for _, h := range []string{"decided", "rejected", "why"} {
			if !slices.Contains(d.anchors(), h) {
				t.Errorf("%s: has no heading %q", d.path, h)
			}
		}
	}
}

// TestDocs_EveryDependencyHasAReason: each module whose packages the project
// imports itself is in the record of dependencies, and no other is.
func TestDocs_EveryDependencyHasAReason(t *testing.T) {
	record := readDocument(t, "docs/decisions/0008-dependencies.md")
	listed := map[string]bool{}
	for _, line := range record.prose() {
		if m := regexp.MustCompile("^\\| `([^`]+)`").FindStringSubmatch(line); m != nil {
			listed[m[1]] = true
		}
	}
	imports := map[string]bool{}
	out := runIn(t, top, "go", "list", "-f", `{{join .Imports "\n"}}{{"\n"}}{{join .TestImports "\n"}}{{"\n"}}{{join .XTestImports "\n"}}`, "./...")
	for _, p := range strings.Fields(out) {
		if first, _, _ := strings.Cut(p, "/"); strings.Contains(first, ".") && !strings.HasPrefix(p, "github.com/ripstop/") {
			imports[p] = true
		}
	}
	args := []string{"list", "-f", "{{with .Module}}{{.Path}}{{end}}"}
	for p := range imports {
		args = append(args, p)
	}
	used := map[string]bool{}
	for _, m := range strings.Fields(runIn(t, top, "go", args...)) {
		used[m] = true
		if !listed[m] {
			t.Errorf("%s: module %s is imported and has no line", record.path, m)
		}
	}
	for m := range listed {
		if !used[m] {
			t.Errorf("%s: module %s has a line and is not imported", record.path, m)
		}
	}
}

// run runs a program and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return runIn(t, "", name, args...)
}

func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return string(out)
}
