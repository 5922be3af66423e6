// SPDX-License-Identifier: Apache-2.0

package sysctl

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

// recordFile is the name of the file in the state directory.
const recordFile = "sysctls.json"

// maxRecordBytes is the size of the file above which it is not ours.
const maxRecordBytes = 64 << 20

// key names a sysctl: Name has "*" in place of the interface's name, Index is
// the interface's, zero for one of the whole host.
type key struct {
	Name  string `json:"name"`
	Index int    `json:"index,omitempty"`
}

// record is what a sysctl was before its first change, and what it was
// changed to.
type record struct {
	key
	// Interface is the name that the interface had, for people.
	Interface string `json:"interface,omitempty"`
	Found     string `json:"found"`
	Set       string `json:"set"`
	// With names the sysctl of the whole host that moves this one: it is put
	// back after that one, whatever its value is then.
	With string `json:"with,omitempty"`
	// Keep: not restored before a cleanup.
	Keep bool `json:"keep,omitempty"`
}

// document is the file. Records of an earlier boot mean nothing: the kernel
// began anew, and indexes are given out again.
type document struct {
	Boot    string   `json:"boot"`
	Records []record `json:"records"`
}

// loadRecords reads the file in dir. No file, or one of an earlier boot: no
// records. A file that cannot be understood is set aside and reported; there
// are no records then.
func loadRecords(dir, boot string) (map[key]record, error) {
	out := map[key]record{}
	b, err := host.ReadFileIn(dir, recordFile, maxRecordBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	var d document
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		path := filepath.Join(dir, recordFile)
		aside := path + ".damaged"
		if e := os.Rename(path, aside); e != nil {
			return nil, fmt.Errorf("records of sysctls: %w", errors.Join(err, e))
		}
		return out, fmt.Errorf("records of sysctls: %w: the file is now %s, what it holds is not restored", err, aside)
	}
	if d.Boot != boot {
		return out, nil
	}
	for _, r := range d.Records {
		out[r.key] = r
	}
	return out, nil
}

// saveRecords replaces the file, so that it is in full what it was or what it
// is to be, whatever happens. No records: no file.
func saveRecords(dir, boot string, records map[key]record) error {
	path := filepath.Join(dir, recordFile)
	if len(records) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	d := document{Boot: boot, Records: slices.SortedFunc(maps.Values(records), func(a, b record) int { return compareLeaders(a.key, b.key) })}
	return host.WriteFileAtomic(path, 0o600, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(d)
	})
}

// compareLeaders orders sysctls so that those that move others come first.
func compareLeaders(a, b key) int {
	first := func(k key) int {
		if leaders[k.Name] != "" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a.Index, b.Index), strings.Compare(a.Name, b.Name))
}
