// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ripstop/ripstop/daemon/api"
)

// addOutput adds the flag -o with its choices to a command.
func addOutput(cmd *cobra.Command, output *string, choices ...string) {
	cmd.Flags().StringVarP(output, "output", "o", "", "form of the output: "+strings.Join(choices, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
}

// checkOutput refuses a form of output that is none of the choices.
func checkOutput(cmd *cobra.Command, output string, choices ...string) error {
	if slices.Contains(choices, output) {
		return nil
	}
	return usage(cmd, "%s: output %q is not known; use -o %s", cmd.Name(), output,
		strings.Join(slices.DeleteFunc(choices, func(c string) bool { return c == "" }), ", "))
}

// printer collects resources and prints them in one of the forms of get.
type printer struct {
	*app
	form       form
	namespaces bool                       // tables show the namespace
	several    bool                       // of several kinds
	single     bool                       // one resource was asked for by name
	noHeaders  bool                       // tables without headings
	labels     bool                       // tables show labels
	counts     map[string][]api.RuleCount // of this machine, by object, for wide tables; nil: not known

	groups []group
}

// group is resources of one kind.
type group struct {
	desc api.Descriptor
	objs []api.Object
}

// add takes resources of one kind and warns of those that cannot be read.
func (p *printer) add(d api.Descriptor, objs []api.Object) {
	p.groups = append(p.groups, group{d, objs})
	for _, o := range objs {
		if u, bad := o.(*api.Unreadable); bad {
			fmt.Fprintf(p.Err, "warning: %s cannot be read and is not enforced as written: %v\n", u.Key(), u.Err)
		}
	}
}

// flush prints everything.
func (p *printer) flush() error {
	switch p.form.name {
	case "jsonpath", "go-template":
		return p.templates()
	case "name":
		for _, g := range p.groups {
			for _, o := range g.objs {
				fmt.Fprintln(p.Out, nameOf(o.Key()))
			}
		}
		return nil
	case "json", "yaml":
		return writeDocument(p.Out, p.form.name, p.document())
	default:
		return p.tables()
	}
}

// document is the resource itself, or a list.
func (p *printer) document() any {
	if p.single {
		return p.groups[0].objs[0]
	}
	l := api.List[api.Object]{Kind: "List", APIVersion: "v1", Items: []api.Object{}}
	if len(p.groups) == 1 {
		l.Kind, l.APIVersion = string(p.groups[0].desc.Kind)+"List", p.groups[0].desc.APIVersion()
	}
	for _, g := range p.groups {
		l.Items = append(l.Items, g.objs...)
	}
	return l
}

// writeDocument writes v as indented JSON or as YAML.
func writeDocument(w io.Writer, form string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if form == "yaml" {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// tables prints a table for each kind that has resources.
func (p *printer) tables() error {
	first := true
	for _, g := range p.groups {
		if len(g.objs) == 0 {
			continue
		}
		if !first {
			fmt.Fprintln(p.Out)
		}
		first = false
		if err := p.table(g); err != nil {
			return err
		}
	}
	return nil
}

// tabular reports whether a form is a table of the kind's own columns.
func (f form) tabular() bool { return f.name == "table" || f.name == "wide" }

// columns are the headings of a table of a kind, and what makes its cells.
func (p *printer) columns(d api.Descriptor) (head []string, cells []func(api.Object) string, err error) {
	if p.form.name == "custom-columns" {
		return p.custom(d)
	}
	if p.namespaces && d.Namespaced {
		head = append(head, "NAMESPACE")
		cells = append(cells, func(o api.Object) string { return o.Key().Namespace })
	}
	for _, c := range d.Columns {
		if c.Wide && p.form.name != "wide" {
			continue
		}
		value := c.Value
		if c.Name == "NAME" && p.several {
			value = func(o api.Object) string { return d.Singular + "/" + o.Key().Name }
		}
		head = append(head, c.Name)
		cells = append(cells, value)
	}
	if p.counts != nil && p.form.name == "wide" && api.Counted(d.Kind) {
		head = append(head, "PACKETS", "BYTES", "RULES")
		cells = append(cells, p.counted(func(list []api.RuleCount) string {
			return total(list, func(c api.RuleCount) uint64 { return c.Packets })
		}),
			p.counted(func(list []api.RuleCount) string { return total(list, func(c api.RuleCount) uint64 { return c.Bytes }) }), p.counted(ruleHits))
	}
	if p.labels {
		head = append(head, "LABELS")
		cells = append(cells, func(o api.Object) string { return orNone(pairs(o.Metadata().Labels), "<none>") })
	}
	return head, cells, nil
}

// pairs is labels as a selector has them.
func pairs(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func (p *printer) table(g group) error {
	head, cells, err := p.columns(g.desc)
	if err != nil {
		return err
	}
	t := newTable(p.Out)
	if !p.noHeaders {
		t.row(head...)
	}
	for _, o := range g.objs {
		t.row(rowOf(cells, o)...)
	}
	return t.flush()
}

// rowOf are the cells of an object.
func rowOf(cells []func(api.Object) string, o api.Object) []string {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = cell(o)
	}
	return row
}

// textTable aligns columns with three blanks between them.
type textTable struct {
	out  io.Writer
	text bytes.Buffer
	tabs *tabwriter.Writer
}

func newTable(w io.Writer) *textTable {
	t := &textTable{out: w}
	t.tabs = tabwriter.NewWriter(&t.text, 0, 8, 3, ' ', 0)
	return t
}

// row adds a row. What would upset the table or the terminal is replaced.
func (t *textTable) row(cells ...string) {
	clean := make([]string, len(cells))
	for i, c := range cells {
		clean[i] = oneLine(c)
	}
	fmt.Fprintln(t.tabs, strings.Join(clean, "\t"))
}

// flush writes the table, without blanks at the ends of lines.
func (t *textTable) flush() error {
	if err := t.tabs.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(t.text.String()) {
		if _, err := fmt.Fprintln(t.out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// oneLine is s without control characters.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
