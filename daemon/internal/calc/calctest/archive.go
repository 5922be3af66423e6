// SPDX-License-Identifier: Apache-2.0

package calctest

import "strings"

// archive is a text file that holds several: sections begin with a line
// "-- name --". What stands before the first is the comment.
type archive struct {
	comment  string
	sections []section
}

type section struct{ name, text string }

func parseArchive(data string) *archive {
	a := &archive{}
	for _, line := range strings.SplitAfter(data, "\n") {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- ")
		if name, ok = cutEnd(name, ok); ok {
			a.sections = append(a.sections, section{name: name})
			continue
		}
		if len(a.sections) == 0 {
			a.comment += line
			continue
		}
		a.sections[len(a.sections)-1].text += line
	}
	return a
}

func cutEnd(s string, ok bool) (string, bool) {
	name, end := strings.CutSuffix(s, " --")
	return name, ok && end
}

func (a *archive) format() string {
	var b strings.Builder
	b.WriteString(a.comment)
	for _, s := range a.sections {
		b.WriteString("-- " + s.name + " --\n" + s.text)
		if s.text != "" && !strings.HasSuffix(s.text, "\n") {
			b.WriteString("\n")
		}
	}
	return b.String()
}
