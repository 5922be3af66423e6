// SPDX-License-Identifier: Apache-2.0

// Command man prints manual pages whose text is somewhere else, so that the two
// cannot differ: of a daemon, in section 8, from what its --help says, and in
// section 7 from a page of docs/.
//
//	man PROGRAM VERSION < WHAT-HELP-PRINTS
//	man ripstop-emergency VERSION < docs/how-to/emergency.md
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
		"ripstop(1), ripstop-emergency(7), ripstop-server(8), nft(8)",
	},
	"ripstop-server": {
		"API and datastore of host protection",
		"/etc/ripstop/ripstop-server.yaml\tsettings, each with its default\n" +
			"/var/lib/ripstop/etcd/\tthe built-in datastore\n" +
			"/run/ripstop/api.sock\twhere ripstop and kubectl ask",
		"ripstop(1), ripstop-emergency(7), ripstopd(8)",
	},
}

func main() {
	if len(os.Args) != 3 || about[os.Args[1]].summary == "" && seeAlso[os.Args[1]] == "" {
		fmt.Fprintln(os.Stderr, "usage: man ripstopd|ripstop-server VERSION < WHAT-HELP-PRINTS\n       man ripstop-emergency VERSION < docs/how-to/emergency.md")
		os.Exit(2)
	}
	name, version := os.Args[1], os.Args[2]
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintf(os.Stderr, "man: %v\n", err)
		os.Exit(1)
	}
	if seeAlso[name] == "" {
		fmt.Print(page(name, version, string(text)))
		return
	}
	out, err := howTo(name, version, string(text))
	if err != nil {
		fmt.Fprintf(os.Stderr, "man: %s: %v\n", name, err)
		os.Exit(1)
	}
	fmt.Print(out)
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

// escape keeps troff from reading what is text.
func escape(s string) string {
	lines := strings.Split(raw(s), "\n")
	for i, l := range lines {
		lines[i] = lead(l)
	}
	return strings.Join(lines, "\n")
}

// raw writes the backslash, and the dash of a flag, as troff prints them.
func raw(s string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s) }

// lead keeps a line from being a request, which begins with a point or an
// apostrophe.
func lead(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}
