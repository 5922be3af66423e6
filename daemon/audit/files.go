// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Current is the name of the file that is written to, inside of the log's
// directory.
const Current = "audit.jsonl"

// Rotated is the name of a full file whose first line has number first. Such
// names sort in the order of the lines.
func Rotated(first uint64) string { return fmt.Sprintf("audit-%020d.jsonl", first) }

// Files picks the log's files out of the names in its directory, oldest first.
func Files(names []string) []string {
	var files []string
	current := false
	for _, n := range names {
		digits, is := strings.CutPrefix(n, "audit-")
		digits, ends := strings.CutSuffix(digits, ".jsonl")
		switch {
		case n == Current:
			current = true
		case is && ends && len(digits) == 20 && strings.Trim(digits, "0123456789") == "":
			files = append(files, n)
		}
	}
	slices.Sort(files)
	if current {
		files = append(files, Current)
	}
	return files
}

// ErrUnwritable is wrapped by what a log returns when a record cannot be put
// on disk: the request that it is of must not be done.
var ErrUnwritable = errors.New("the audit log cannot be written")
