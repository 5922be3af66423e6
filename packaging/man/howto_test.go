// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestHowTo_SaysAllThatThePageSays: printed, the manual page has every line of
// docs/how-to/emergency.md, without its marks, in the same order; and troff has
// nothing to say about it.
func TestHowTo_SaysAllThatThePageSays(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	markdown, err := os.ReadFile("../../docs/how-to/emergency.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := howTo("ripstop-emergency", "1.0.0", string(markdown))
	if err != nil {
		t.Fatal(err)
	}
	// On lines so long that none is broken.
	cmd := exec.Command(groff, "-man", "-Tascii", "-P-cbou", "-rLL=2000n", "-ww")
	cmd.Stdin = strings.NewReader(page)
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, warnings.String())
	}
	rest, lines := strings.Join(strings.Fields(string(out)), " "), 0
	for l := range strings.Lines(string(markdown)) {
		l = strings.TrimSpace(l)
		switch {
		case l == "" || strings.HasPrefix(l, "```") || l == "| --- | --- |" || strings.Contains(l, "what you "):
			continue
		case strings.HasPrefix(l, "# "):
			l = strings.ToLower(l[2:3]) + l[3:]
		case strings.HasPrefix(l, "## "):
			l = strings.ToUpper(l[3:])
		case strings.HasPrefix(l, "| "):
			text, command, _ := strings.Cut(strings.Trim(l, "| "), " | ")
			l = command + " " + text
		}
		l = strings.Join(strings.Fields(strings.NewReplacer("`", "", "**", "").Replace(l)), " ")
		before, after, found := strings.Cut(rest, l)
		if !found || strings.Count(before, " ") > 8 { // between two lines there is the head of the page at the most
			t.Fatalf("the page does not go on with %q; what is left of it:\n%s", l, rest)
		}
		rest = after
		lines++
	}
	if lines < 30 {
		t.Errorf("%d lines were looked for, want 30 at least", lines)
	}
}

// TestHowTo_WhatItCannotShowIsAnError, which names the line.
func TestHowTo_WhatItCannotShowIsAnError(t *testing.T) {
	for name, c := range map[string]struct{ markdown, want string }{
		"no title":                     {"text\n", "line 1"},
		"a list":                       {"# T\n\n- one\n", "line 3"},
		"a numbered list":              {"# T\n\n1. one\n", "line 3"},
		"a third level":                {"# T\n\n### H\n", "line 3"},
		"YAML":                         {"# T\n\n```yaml\na: b\n```\n", "line 3"},
		"three columns":                {"# T\n\n| a | b | c |\n| --- | --- | --- |\n| `x` | y | z |\n", "line 3"},
		"columns of code":              {"# T\n\n| a | b |\n| --- | --- |\n| `x` | `y` |\n", "line 5"},
		"columns of no code":           {"# T\n\n| a | b |\n| --- | --- |\n| `v` | w |\n| x | y |\n", "line 6"},
		"a quotation":                  {"# T\n\n> said\n", "line 3"},
		"a paragraph that is indented": {"# T\n\n  text\n", "line 3"},
	} {
		page, err := howTo("ripstop-emergency", "1.0.0", c.markdown)
		if err == nil || !strings.HasPrefix(err.Error(), c.want+":") {
			t.Errorf("%s: howTo(%q) = %q, %v, want an error of %s", name, c.markdown, page, err, c.want)
		}
	}
}

// TestHowTo_TextIsNoRequest: what troff would take for its own is printed.
func TestHowTo_TextIsNoRequest(t *testing.T) {
	page, err := howTo("ripstop-emergency", "1.0.0", "# T\n\n.so /etc/passwd\n\n`.so x` and \\fBy, **'z**, [a link](x.md)\n\n'w\n\n```text\n.so /etc/passwd\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n\\&.so /etc/passwd\n.PP\n", "\n\\fB.so x\\fP and \\efBy, \\fB'z\\fP, a link\n", "\n\\&'w\n", ".nf\n\\&.so /etc/passwd\n.fi\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("want %q in\n%s", want, page)
		}
	}
}
