// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/cli/jsonpath"
	"github.com/ripstop/ripstop/daemon/api"
)

// form is a parsed -o of get.
type form struct {
	// name is table, wide, yaml, json, name, jsonpath, go-template or
	// custom-columns.
	name     string
	path     *jsonpath.Template
	template *template.Template
	columns  []formColumn
}

// formColumn is one of the custom columns: a path, or a heading of the kind's
// own table as calicoctl has it.
type formColumn struct {
	head string
	path *jsonpath.Path
}

// forms are the forms of get's output, as -o wants them.
var forms = []string{"wide", "yaml", "json", "name", "jsonpath=", "jsonpath-file=", "custom-columns=", "custom-columns-file=", "go-template=", "go-template-file="}

// parseForm reads a -o of get.
func parseForm(cmd *cobra.Command, output string) (form, error) {
	name, arg, has := strings.Cut(output, "=")
	switch name {
	case "", "ps":
		return form{name: "table"}, formless(cmd, has, name)
	case "yml":
		return form{name: "yaml"}, formless(cmd, has, name)
	case "wide", "yaml", "json", "name":
		return form{name: name}, formless(cmd, has, name)
	}
	if name, file := strings.CutSuffix(name, "-file"); file && has {
		text, err := os.ReadFile(arg)
		if err != nil {
			return form{}, usage(cmd, "%s: -o %s-file: %w", cmd.Name(), name, ofFile(arg, err))
		}
		return templateForm(cmd, name, string(text), output)
	}
	if !has {
		return templateForm(cmd, "", "", output)
	}
	return templateForm(cmd, name, arg, output)
}

// formless refuses an argument where none belongs.
func formless(cmd *cobra.Command, has bool, name string) error {
	if has {
		return usage(cmd, "%s: -o %s takes no argument", cmd.Name(), name)
	}
	return nil
}

func templateForm(cmd *cobra.Command, name, text, output string) (f form, err error) {
	f.name = name
	switch name {
	case "jsonpath":
		f.path, err = jsonpath.Parse(text)
	case "go-template":
		f.template, err = template.New("go-template").Parse(text)
	case "custom-columns":
		f.columns, err = parseColumns(text)
	default:
		return f, usage(cmd, "%s: output %q is not known; use -o %s", cmd.Name(), output, strings.Join(forms, ", "))
	}
	if err != nil {
		return f, usage(cmd, "%s: -o %s: %w", cmd.Name(), name, err)
	}
	return f, nil
}

// parseColumns reads HEADING:PATH,HEADING:PATH, or in a file a line of
// headings and one of paths. A heading alone is a column of the kind's table.
func parseColumns(text string) ([]formColumn, error) {
	var out []formColumn
	if heads, paths, file := strings.Cut(strings.TrimSpace(text), "\n"); file {
		h, p := strings.Fields(heads), strings.Fields(paths)
		if len(h) != len(p) {
			return nil, fmt.Errorf("%d headings and %d paths", len(h), len(p))
		}
		for i := range h {
			path, err := jsonpath.ParsePath(p[i])
			if err != nil {
				return nil, err
			}
			out = append(out, formColumn{h[i], path})
		}
		return out, nil
	}
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		head, path, has := strings.Cut(part, ":")
		if head == "" || has && path == "" {
			return nil, fmt.Errorf("%q: want HEADING:PATH, such as NAME:.metadata.name", part)
		}
		c := formColumn{head: head}
		if has {
			var err error
			if c.path, err = jsonpath.ParsePath(path); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// generic is v as encoding/json reads it into any, with numbers as they are
// written.
func generic(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var out any
	err = d.Decode(&out)
	return out, err
}

// plainNumbers is v with Go's numbers, as templates compare and print them.
func plainNumbers(v any) any {
	switch t := v.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n
		}
		if f, err := t.Float64(); err == nil {
			return f
		}
		return t.String()
	case []any:
		for i := range t {
			t[i] = plainNumbers(t[i])
		}
	case map[string]any:
		for k := range t {
			t[k] = plainNumbers(t[k])
		}
	}
	return v
}

// templates prints by jsonpath or go-template.
func (p *printer) templates() error {
	v, err := generic(p.document())
	if err != nil {
		return err
	}
	if p.form.path != nil {
		_, err = fmt.Fprint(p.Out, p.form.path.Execute(v))
		return err
	}
	var b bytes.Buffer
	if err := p.form.template.Execute(&b, plainNumbers(v)); err != nil {
		return fmt.Errorf("-o go-template: %w", err)
	}
	_, err = p.Out.Write(b.Bytes())
	return err
}

// custom is the heading and the cells of custom columns for a kind.
func (p *printer) custom(d api.Descriptor) (head []string, cells []func(api.Object) string, err error) {
	for _, c := range p.form.columns {
		head = append(head, c.head)
		if c.path != nil {
			cells = append(cells, func(o api.Object) string { return cellAt(o, c.path) })
			continue
		}
		own, err := columnNamed(d, c.head)
		if err != nil {
			return nil, nil, err
		}
		cells = append(cells, own)
	}
	return head, cells, nil
}

// columnNamed is a column of a kind's own table.
func columnNamed(d api.Descriptor, head string) (func(api.Object) string, error) {
	var valid []string
	for _, own := range d.Columns {
		if strings.EqualFold(own.Name, head) {
			return own.Value, nil
		}
		valid = append(valid, own.Name)
	}
	if strings.EqualFold(head, "NAMESPACE") && d.Namespaced {
		return func(o api.Object) string { return o.Key().Namespace }, nil
	}
	slices.Sort(valid)
	return nil, fmt.Errorf("unknown heading %s, valid values are: %s", head, strings.Join(valid, ", "))
}

// cellAt is what a path finds in an object, "<none>" if that is nothing.
func cellAt(o api.Object, path *jsonpath.Path) string {
	v, err := generic(o)
	if err != nil {
		return "<none>"
	}
	var texts []string
	for _, found := range path.Find(v) {
		texts = append(texts, jsonpath.Text(found))
	}
	if len(texts) == 0 {
		return "<none>"
	}
	return strings.Join(texts, ",")
}

// sortBy orders objects by what a path finds in them; those in which it finds
// nothing come first.
func sortBy(objs []api.Object, path *jsonpath.Path) error {
	type keyed struct {
		o   api.Object
		key any
	}
	all := make([]keyed, len(objs))
	var errs []error
	for i, o := range objs {
		v, err := generic(o)
		errs = append(errs, err)
		all[i].o = o
		if found := path.Find(v); len(found) > 0 {
			all[i].key = found[0]
		}
	}
	slices.SortStableFunc(all, func(x, y keyed) int {
		if (x.key == nil) != (y.key == nil) {
			if x.key == nil {
				return -1
			}
			return 1
		}
		return jsonpath.Compare(x.key, y.key)
	})
	for i := range all {
		objs[i] = all[i].o
	}
	return errors.Join(errs...)
}

// exported are objects without what belongs to one datastore: they can be
// applied to another.
func exported(objs []api.Object) {
	for i, o := range objs {
		if _, bad := o.(*api.Unreadable); bad {
			continue
		}
		o = api.Clone(o)
		m := o.Metadata()
		m.UID, m.ResourceVersion, m.CreationTimestamp, m.Generation, m.ManagedFields = "", "", api.Time{}, 0, nil
		objs[i] = o
	}
}
