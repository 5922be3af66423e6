// SPDX-License-Identifier: Apache-2.0

// Package survey looks at the host for package doctor: legacy packet filters,
// ipsets, interfaces, sockets with their processes, sysctls, services. It
// reads and changes nothing; what it may not read it says. It is used by the
// agent's assembly, which hands it the reader of nf_tables: one hand does not
// reach into another.
//
// Everything is read in the network namespace of the calling thread.
package survey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/doctor"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// Config says how to look.
type Config struct {
	// Host is the host's name.
	Host string
	// NFTables reads the tables of nf_tables.
	NFTables func() ([]doctor.Table, error)
	// Run runs iptables-legacy-save, where it is installed.
	Run host.Runner
	// Root is "/", or a copy of the files in tests: proc and etc below it are
	// read.
	Root string
}

// Look gathers the facts. It does not fail: what cannot be read is in
// Facts.Unseen.
func Look(ctx context.Context, c Config) doctor.Facts {
	l := &looker{Config: c, ctx: ctx, facts: doctor.Facts{Host: c.Host, Sysctls: map[string]string{}}}
	l.nftables()
	l.legacy()
	l.ipsets()
	l.interfaces()
	l.sysctls()
	l.flushers()
	l.sockets()
	return l.facts
}

// looker is one look.
type looker struct {
	Config
	ctx   context.Context // of this look alone
	facts doctor.Facts
}

func (l *looker) unseen(format string, args ...any) {
	l.facts.Unseen = append(l.facts.Unseen, fmt.Sprintf(format, args...))
}

// proc is a file below /proc of the calling thread: /proc/net alone is that of
// the process's first thread.
func (l *looker) proc(path string) string {
	if rest, ok := strings.CutPrefix(path, "net/"); ok {
		path = "thread-self/net/" + rest
	}
	return filepath.Join(l.Root, "proc", path)
}

func (l *looker) nftables() {
	tables, err := l.NFTables()
	switch {
	case errors.Is(err, unix.EPERM):
		l.unseen("tables of nf_tables: the kernel shows them to root only; run it as root")
	case err != nil:
		l.unseen("tables of nf_tables: %v", err)
	}
	l.facts.Tables = tables
}

// legacyKinds are the legacy facilities: the kernel's list of loaded tables,
// their family and the program that prints them.
var legacyKinds = []struct{ names, family, program string }{
	{"net/ip_tables_names", "ip", "iptables-legacy-save"},
	{"net/ip6_tables_names", "ip6", "ip6tables-legacy-save"},
	{"net/arp_tables_names", "arp", ""},
}

// legacy reads the legacy tables. Only those are asked for that are loaded:
// asking for another would load it.
func (l *looker) legacy() {
	for _, k := range legacyKinds {
		b, err := os.ReadFile(l.proc(k.names))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, fs.ErrPermission):
			l.unseen("legacy tables of family %s: the kernel names them to root only; run it as root", k.family)
			continue
		case err != nil:
			l.unseen("legacy tables of family %s: %v", k.family, err)
			continue
		}
		names := strings.Fields(string(b))
		slices.Sort(names)
		if len(names) == 0 {
			continue
		}
		tables, err := l.save(k.family, k.program)
		if err != nil {
			l.unseen("rules of the legacy tables %s of family %s: %v", strings.Join(names, ", "), k.family, err)
		}
		for _, n := range names {
			i := slices.IndexFunc(tables, func(t doctor.Table) bool { return t.Name == n })
			if i < 0 {
				tables = append(tables, doctor.Table{Family: k.family, Name: n, Legacy: true, Unread: true})
			}
		}
		l.facts.Tables = append(l.facts.Tables, tables...)
	}
}

// save has the tables of a family printed and reads that.
func (l *looker) save(family, program string) ([]doctor.Table, error) {
	if program == "" {
		return nil, errors.New("no program is known that prints them with their order; see arptables-legacy -L")
	}
	path := ""
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			path = filepath.Join(dir, program)
			break
		}
	}
	if path == "" {
		return nil, fmt.Errorf("%s is not installed; the package is iptables", program)
	}
	out, err := l.Run.Run(l.ctx, host.Cmd{Path: path, Args: []string{"-c"}})
	if err != nil {
		return nil, err
	}
	return doctor.ParseSave(family, string(out))
}

// flushers looks for services that empty the packet filter.
func (l *looker) flushers() {
	enabled := func(unit string) bool {
		links, _ := filepath.Glob(filepath.Join(l.Root, "etc/systemd/system/*.wants", unit))
		return len(links) > 0
	}
	if enabled("nftables.service") {
		for _, name := range []string{"etc/nftables.conf", "etc/sysconfig/nftables.conf"} {
			b, err := os.ReadFile(filepath.Join(l.Root, name))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				if strings.HasPrefix(strings.Join(strings.Fields(line), " "), "flush ruleset") {
					l.facts.Flushers = append(l.facts.Flushers, doctor.Flusher{Unit: "nftables.service", Evidence: "/" + name + " has the line: " + strings.TrimSpace(line)})
					break
				}
			}
		}
	}
}
