// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manDir is where the manual pages are kept, one for each command.
const manDir = "../../docs/man"

// roff is text as roff prints it: backslashes, hyphens that are minus signs,
// and lines that begin like a request.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// manName is the name of a command's page.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is the page of a command, out of what its --help is made of.
func manPage(c *cobra.Command) string {
	var b strings.Builder
	section := func(name string) { fmt.Fprintf(&b, ".SH %s\n", name) }
	literal := func(text string) { fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(strings.TrimRight(text, "\n"))) }
	b.WriteString(".\\\" Made from the text of --help by `make man`. Do not edit.\n")
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"\" \"Ripstop\" \"Ripstop's commands\"\n", strings.ToUpper(roff(manName(c))))
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(manName(c)), roff(c.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, ".B %s\n", roff(c.UseLine()))
	section("DESCRIPTION")
	for i, para := range strings.Split(strings.TrimSpace(c.Long), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.Contains(para, "\n  ") { // a list with its columns
			literal(para)
			continue
		}
		b.WriteString(roff(para) + "\n")
	}
	options := func(name string, flags *pflag.FlagSet) {
		if !flags.HasAvailableFlags() {
			return
		}
		section(name)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" {
				return
			}
			text := "--" + f.Name
			if f.Shorthand != "" {
				text = "-" + f.Shorthand + ", " + text
			}
			if kind, _ := pflag.UnquoteUsage(f); kind != "" {
				text += "=" + strings.ToUpper(kind)
			}
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(text), roff(f.Usage))
		})
	}
	options("OPTIONS", c.LocalNonPersistentFlags())
	if c.HasParent() {
		options("OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	} else {
		options("OPTIONS OF ALL COMMANDS", c.PersistentFlags())
	}
	section("EXAMPLES")
	literal(c.Example)
	section("SEE ALSO")
	var see []string
	if c.HasParent() {
		see = append(see, manName(c.Parent()))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			see = append(see, manName(sub))
		}
	}
	slices.Sort(see)
	for i, s := range see {
		see[i] = fmt.Sprintf(".BR %s (1)", roff(s))
	}
	if !c.HasParent() {
		see = append(see, ".BR ripstop\\-emergency (7)", ".BR ripstopd (8)")
	}
	b.WriteString(strings.Join(see, ",\n") + "\n")
	return b.String()
}

// TestMan_PagesAreWhatHelpSays: docs/man has a page for each command, as it is
// now. make man writes them.
func TestMan_PagesAreWhatHelpSays(t *testing.T) {
	want := map[string]string{}
	for _, c := range commands() {
		c.InitDefaultHelpFlag()
		want[manName(c)+".1"] = manPage(c)
	}
	if *update {
		if err := os.RemoveAll(manDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(manDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(manDir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	files, err := filepath.Glob(manDir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if want[filepath.Base(f)] == "" {
			t.Errorf("%s: there is no such command; make man", f)
		}
	}
	for name, text := range want {
		have, err := os.ReadFile(filepath.Join(manDir, name))
		if err != nil {
			t.Errorf("%v; make man", err)
			continue
		}
		if diff := cmp.Diff(string(have), text); diff != "" {
			t.Errorf("%s is not what --help says; make man\n%s", name, diff)
		}
	}
}

// TestMan_PagesAreGoodRoff: groff has nothing to say about the pages.
func TestMan_PagesAreGoodRoff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	files, err := filepath.Glob(manDir + "/*.1")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages in %s (%v)", manDir, err)
	}
	out, err := exec.Command(groff, append([]string{"-man", "-Tutf8", "-ww", "-z"}, files...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
