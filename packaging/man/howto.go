// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"strings"
)

// seeAlso is what a page of docs/ does not say, for each that is made into a
// manual page.
var seeAlso = map[string]string{
	"ripstop-emergency": "ripstop(1), ripstop-status(1), ripstop-why-down(1), ripstop-rollback(1), ripstop-pause(1), ripstopd(8), bootparam(7)",
}

// howTo writes a how-to page, which is Markdown, as a manual page in section 7.
// It knows what such a page is made of: one title, headings of the second
// level, paragraphs of one line, tables of two columns of which one is code,
// and fenced blocks; in a line, code, bold words and links. Anything else is an
// error, with its line: it would be printed as it stands.
func howTo(name, version, markdown string) (string, error) {
	var b strings.Builder
	lines := strings.Split(strings.TrimSuffix(markdown, "\n"), "\n")
	title, is := strings.CutPrefix(lines[0], "# ")
	if !is {
		return "", fmt.Errorf("line 1: %q: want a title", lines[0])
	}
	fmt.Fprintf(&b, ".TH %s 7 \"\" \"Ripstop %s\" \"Ripstop\"\n", strings.ToUpper(escape(name)), version)
	b.WriteString(".nh\n.ad l\n") // commands are typed as they stand there
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH DESCRIPTION\n", escape(name), escape(strings.ToLower(title[:1])+title[1:]))
	for i := 1; i < len(lines); i++ {
		var err error
		switch l := lines[i]; {
		case l == "":
		case strings.HasPrefix(l, "## "):
			fmt.Fprintf(&b, ".SH %s\n", escape(strings.ToUpper(strings.TrimPrefix(l, "## "))))
		case l == "```text" || l == "```sh":
			b.WriteString(".PP\n.RS 4\n.nf\n")
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				fmt.Fprintln(&b, escape(lines[i]))
			}
			b.WriteString(".fi\n.RE\n")
		case strings.HasPrefix(l, "| ") && i+1 < len(lines) && lines[i+1] == "| --- | --- |":
			for i += 2; i < len(lines) && strings.HasPrefix(lines[i], "| ") && err == nil; i++ {
				err = row(&b, lines[i])
			}
			i--
		case other.MatchString(l):
			err = fmt.Errorf("%q: a manual page cannot show this", l)
		default:
			fmt.Fprintf(&b, ".PP\n%s\n", inline(l))
		}
		if err != nil {
			return "", fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", escape(seeAlso[name]))
	return b.String(), nil
}

var (
	// other is how a line begins that is neither a paragraph nor known: a
	// title, a list, a quotation, a table of another form, a picture, HTML.
	other = regexp.MustCompile("^(#|[-*+] |[0-9]+\\. |>|\\||```|!\\[|<|[ \t])")
	code  = regexp.MustCompile("^`[^`]+`$")
	spans = regexp.MustCompile("`([^`]+)`|\\*\\*([^*]+)\\*\\*|\\[([^\\]]+)\\]\\([^)]+\\)")
)

// row writes a line of a table: what is code is the tag, and what it is for
// the text.
func row(b *strings.Builder, line string) error {
	cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | ")
	if len(cells) != 2 || code.MatchString(cells[0]) == code.MatchString(cells[1]) {
		return fmt.Errorf("%q: want two columns, of which one is code", line)
	}
	tag, text := cells[0], cells[1]
	if code.MatchString(text) {
		tag, text = text, tag
	}
	fmt.Fprintf(b, ".TP\n%s\n%s\n", inline(tag), inline(text))
	return nil
}

// inline writes what is in a line: code and bold words in bold, links as their
// text, which a manual page cannot follow.
func inline(s string) string {
	var b strings.Builder
	end := 0
	for _, m := range spans.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(raw(s[end:m[0]]))
		switch end = m[1]; {
		case m[2] >= 0:
			b.WriteString(`\fB` + raw(s[m[2]:m[3]]) + `\fP`)
		case m[4] >= 0:
			b.WriteString(`\fB` + raw(s[m[4]:m[5]]) + `\fP`)
		default:
			b.WriteString(raw(s[m[6]:m[7]]))
		}
	}
	b.WriteString(raw(s[end:]))
	return lead(b.String())
}
