// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/audit"
)

// wantWitness checks that the journal has every line of the record of what was
// done through the API, with the hash that it has in the file.
func wantWitness(t testing.TB, m *machine) {
	t.Helper()
	m.eventually("the journal has every audit line", func() error {
		told := map[uint64]string{}
		journal := bufio.NewScanner(strings.NewReader(m.run("journalctl", "--no-pager", "-o", "json", "-t", "ripstop-audit")))
		journal.Buffer(nil, 1<<20)
		for journal.Scan() {
			var entry struct {
				Seq  string `json:"RIPSTOP_AUDIT_SEQ"`
				Hash string `json:"RIPSTOP_AUDIT_HASH"`
			}
			if err := json.Unmarshal(journal.Bytes(), &entry); err != nil {
				return fmt.Errorf("%w: %s", err, journal.Bytes())
			}
			seq, err := strconv.ParseUint(entry.Seq, 10, 64)
			if err != nil {
				return err
			}
			told[seq] = entry.Hash
		}
		lines := strings.Split(strings.TrimSpace(m.run("sh", "-c", "cat /var/lib/ripstop/audit/*.jsonl")), "\n")
		for _, line := range lines {
			var rec audit.Record
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				return fmt.Errorf("%w: %s", err, line)
			}
			if want := audit.Hash([]byte(line)); told[rec.Seq] != want {
				return fmt.Errorf("of line %d, with hash %s, the journal has %q", rec.Seq, want, told[rec.Seq])
			}
		}
		if len(lines) < 2 {
			return fmt.Errorf("the file has %d lines", len(lines))
		}
		t.Logf("%d audit lines, each with its hash in the journal", len(lines))
		return nil
	})
	if out := m.run("ripstop", "audit", "verify"); !strings.Contains(out, "whole") {
		t.Errorf("ripstop audit verify: %s", out)
	}
}
