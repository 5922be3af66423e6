// SPDX-License-Identifier: Apache-2.0

package assembly

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryPackageHasAComment also holds that every source file names its
// licence in its first line.
func TestEveryPackageHasAComment(t *testing.T) {
	commented := map[string]bool{}
	for _, top := range []string{"daemon", "web", "cli"} {
		err := filepath.WalkDir(filepath.Join(root(t), top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(string(src), "// SPDX-License-Identifier: Apache-2.0\n") {
				t.Errorf("%s: the first line is not the SPDX line", path)
			}
			if strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				return err
			}
			dir := filepath.Dir(path)
			commented[dir] = commented[dir] || f.Doc != nil && len(f.Doc.Text()) > 40
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s: no package comment (what it is, what it is not, who uses it)", dir)
		}
	}
}
