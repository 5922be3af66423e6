// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Firewall is a packet filter of somebody else, as far as it can be seen by
// reading /proc.
type Firewall struct {
	// Kind is the program that people know the facility by: iptables,
	// ip6tables or arptables.
	Kind string
	// Tables are the tables that are loaded, sorted.
	Tables []string
}

// legacyTables maps the kernel's list of loaded legacy tables to the program
// that people know it by.
var legacyTables = []struct{ kind, path string }{
	{"iptables", "net/ip_tables_names"},
	{"ip6tables", "net/ip6_tables_names"},
	{"arptables", "net/arp_tables_names"},
}

// LegacyFirewalls lists the legacy (not nft) tables that are loaded in this
// network namespace. It only reads; proc is "/proc", or a copy in tests. A
// table that is loaded may still be empty. Nothing found: no error.
func LegacyFirewalls(proc string) ([]Firewall, error) {
	var out []Firewall
	for _, l := range legacyTables {
		tables, err := readWords(filepath.Join(proc, l.path))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(tables) > 0 {
			out = append(out, Firewall{Kind: l.kind, Tables: tables})
		}
	}
	return out, nil
}

// readWords reads one word a line, sorted.
func readWords(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if w := strings.TrimSpace(s.Text()); w != "" {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out, s.Err()
}
