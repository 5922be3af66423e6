// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
)

// report is a text as people read it: headings, lines and tables.
type report struct{ strings.Builder }

func (r *report) line(format string, args ...any) {
	r.WriteString(strings.TrimRight(printable(fmt.Sprintf(format, args...)), " ") + "\n")
}

// head begins a section.
func (r *report) head(title string) { r.WriteString("\n" + title + "\n") }

// table writes rows with their columns aligned, two blanks in.
func (r *report) table(rows [][]string) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		clean := make([]string, len(row))
		for i, c := range row {
			clean[i] = printable(c)
		}
		fmt.Fprintln(w, strings.Join(clean, "\t"))
	}
	w.Flush() // a Builder does not fail
	for line := range strings.Lines(text.String()) {
		r.WriteString("  " + strings.TrimRight(line, " \n") + "\n")
	}
}

// printable is s without what would upset a terminal: names in the kernel are
// other people's.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
}

// String is the report as ripstop doctor shows it.
func (r *DoctorReport) String() string {
	t := &report{}
	t.line("Host     %s, ripstop %s", r.Host, r.Version)
	t.line("Result   %s", r.result())
	for _, f := range r.Findings {
		t.WriteString("\n")
		t.line("%s: %s", strings.ToUpper(string(f.Severity)), f.Title)
		if f.Detail != "" {
			t.line("  %s", f.Detail)
		}
		for _, e := range f.Evidence {
			t.line("  seen: %s", e)
		}
		if f.Do != "" {
			t.line("  do: %s", f.Do)
		}
	}
	r.writeFilters(t)
	r.writeOrder(t)
	if len(r.Sets) > 0 {
		t.head("IP sets")
		rows := [][]string{{"NAME", "TYPE", "MEMBERS", "USED BY", "LIKELY OF"}}
		for _, s := range r.Sets {
			rows = append(rows, []string{s.Name, s.Type, strconv.Itoa(s.Members), strconv.Itoa(s.References), s.Owner})
		}
		t.table(rows)
	}
	if len(r.Unseen) > 0 {
		t.head("Not seen")
		for _, u := range r.Unseen {
			t.line("  %s", u)
		}
	}
	return t.Builder.String()
}

// result counts the findings in words.
func (r *DoctorReport) result() string {
	n := map[Severity]int{}
	for _, f := range r.Findings {
		n[f.Severity]++
	}
	var parts []string
	for _, s := range []struct {
		of        Severity
		one, many string
	}{{SeverityCritical, "1 critical finding", "%d critical findings"}, {SeverityWarning, "1 warning", "%d warnings"}, {SeverityAdvice, "1 piece of advice", "%d pieces of advice"}} {
		switch n[s.of] {
		case 0:
		case 1:
			parts = append(parts, s.one)
		default:
			parts = append(parts, fmt.Sprintf(s.many, n[s.of]))
		}
	}
	if len(parts) == 0 {
		return "nothing to worry about"
	}
	return strings.Join(parts, ", ")
}

func (r *DoctorReport) writeFilters(t *report) {
	t.head("Packet filters")
	if len(r.Filters) == 0 {
		t.line("  none")
		return
	}
	rows := [][]string{{"TABLE", "CHAIN", "HOOK", "PRIORITY", "POLICY", "RULES", "DROPS", "LIKELY OF"}}
	for _, f := range r.Filters {
		var owners []string
		for _, o := range f.Owners {
			text := o.Name
			if o.Evidence != "" {
				text += " (" + o.Evidence + ")"
			}
			owners = append(owners, text)
		}
		name := f.Family + " " + f.Table
		if f.Facility == "xtables" {
			name += " (legacy)"
		}
		for _, flag := range f.Flags {
			name += " [" + flag + "]"
		}
		first := []string{name, "", "", "", "", "", "", strings.Join(owners, ", ")}
		if f.Unread {
			first[1] = "not read"
		}
		rows = append(rows, first)
		others, rules, drops := 0, 0, 0
		for _, c := range f.Chains {
			if c.Hook == "" {
				others, rules, drops = others+1, rules+c.Rules, drops+c.Drops
				continue
			}
			hook := c.Type + " " + c.Hook
			if c.Device != "" {
				hook += " " + c.Device
			}
			rows = append(rows, []string{"", c.Name, hook, strconv.Itoa(*c.Priority), c.Policy, strconv.Itoa(c.Rules), strconv.Itoa(c.Drops), ""})
		}
		if others > 0 {
			rows = append(rows, []string{"", "others: " + strconv.Itoa(others), "", "", "", strconv.Itoa(rules), strconv.Itoa(drops), ""})
		}
	}
	t.table(rows)
}

func (r *DoctorReport) writeOrder(t *report) {
	if len(r.Order) == 0 {
		return
	}
	t.head("What a packet meets, hook by hook, first to last (each must let it pass)")
	var rows [][]string
	for _, h := range r.Order {
		word := h.Hook
		for _, s := range h.Stations {
			name := s.Family + " " + s.Table + " " + s.Chain
			if s.Facility == "xtables" {
				name += " (legacy)"
			}
			if s.Device != "" {
				name += " on " + s.Device
			}
			rows = append(rows, []string{word, strconv.Itoa(s.Priority), name, s.Type, s.Policy, s.Owner})
			word = ""
		}
	}
	t.table(rows)
}
