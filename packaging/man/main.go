// SPDX-License-Identifier: Apache-2.0

// Command man prints the manual page of a daemon, in section 8, from what the
// daemon's --help says, so that the two cannot differ.
//
//	man PROGRAM VERSION < WHAT-HELP-PRINTS
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// about is what --help does not say, for each daemon.
var about = map[string]struct{ summary, files, seeAlso string }{
	"ripstopd": {
		"host protection agent",
		"/etc/ripstop/ripstopd.yaml\tsettings, each with its default\n" +
			"/var/lib/ripstop/agent/\tthe last state, enforced at boot and while the datastore is away\n" +
			"/run/ripstop/agent.sock\twhere ripstop status asks",
		"ripstop(1), ripstop-server(8), nft(8)",
	},
	"ripstop-server": {
		"API and datastore of host protection",
		"/etc/ripstop/ripstop-server.yaml\tsettings, each with its default\n" +
			"/var/lib/ripstop/etcd/\tthe built-in datastore\n" +
			"/run/ripstop/api.sock\twhere ripstop and kubectl ask",
		"ripstop(1), ripstopd(8)",
	},
}

func main() {
	if len(os.Args) != 3 || about[os.Args[1]].summary == "" {
		fmt.Fprintln(os.Stderr, "usage: man ripstopd|ripstop-server VERSION < WHAT-HELP-PRINTS")
		os.Exit(2)
	}
	help, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintf(os.Stderr, "man: %v\n", err)
		os.Exit(1)
	}
	fmt.Print(page(os.Args[1], os.Args[2], string(help)))
}

// page writes troff with the man macros, see man(7). What --help prints is
// paragraphs, "Usage:" with indented lines, and "Flags:" as pflag prints them.
func page(program, version, help string) string {
	a := about[program]
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 8 \"\" \"Ripstop %s\" \"Ripstop\"\n", strings.ToUpper(program), version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", program, a.summary)
	text, rest, _ := strings.Cut(help, "\nUsage:\n")
	lines, flags, _ := strings.Cut(rest, "\nFlags:\n")
	fmt.Fprint(&b, ".SH SYNOPSIS\n.nf\n")
	for l := range strings.Lines(lines) {
		fmt.Fprintln(&b, escape(strings.TrimSpace(l)))
	}
	fmt.Fprintf(&b, ".fi\n.SH DESCRIPTION\n%s\n.SH OPTIONS\n", escape(strings.TrimSpace(text)))
	for l := range strings.Lines(flags) {
		flag, what, ok := strings.Cut(strings.TrimSpace(l), "   ")
		if !ok {
			continue
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escape(flag), escape(strings.TrimSpace(what)))
	}
	fmt.Fprint(&b, ".PP\nEach setting can stand in the file without its dashes, and in the environment\nas RIPSTOP_ and its name in capitals with \"_\" for \"\\-\".\n.SH FILES\n")
	for l := range strings.Lines(a.files) {
		file, what, _ := strings.Cut(strings.TrimSpace(l), "\t")
		fmt.Fprintf(&b, ".TP\n.I %s\n%s\n", escape(file), escape(what))
	}
	fmt.Fprintf(&b, ".SH EXIT STATUS\n0 after a clean stop, 1 on an error, 2 on a wrong command line or configuration.\n.SH SEE ALSO\n%s\n", a.seeAlso)
	return b.String()
}

// escape keeps troff from reading what is text: the backslash, the dash of a
// flag, and a point or an apostrophe at the beginning of a line.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
