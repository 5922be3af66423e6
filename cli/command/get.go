// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/cli/jsonpath"
	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// getFlags are the flags of get.
type getFlags struct {
	output    string
	all       bool // all namespaces
	labels    string
	fields    string
	sortBy    string
	watch     bool
	export    bool
	missing   bool // is no error
	noHeaders bool
	showLabel bool

	form form
	sort *jsonpath.Path
}

func (a *app) getCommand() *cobra.Command {
	var f getFlags
	var in input
	cmd := &cobra.Command{
		Use:   "get (KIND[,KIND...] [NAME...] | KIND/NAME... | -f FILE)",
		Short: "Show resources",
		Long: `get shows resources as a table, or with -o in another form. KIND is a kind, its
plural or a short name, in any case; several are separated by commas, and all
stands for every kind. Namespaced kinds are looked for in the namespace of -n
(default "default"), with -A in all. -f shows what is on the server of the
resources that a file names.

Forms of output (-o):
  wide                  a table with more columns; of policies and profiles on
                        a machine with an agent also the packets and bytes that
                        their rules have judged on this machine
  yaml, json            documents that apply reads back
  name                  KIND/NAME, as other commands take it
  jsonpath=TEMPLATE     '{range .items[*]}{.metadata.name}{"\n"}{end}'
  custom-columns=LIST   NAME:.metadata.name,ORDER:.spec.order, or headings of
                        the kind's own table
  go-template=TEMPLATE  '{{range .items}}{{.metadata.name}} {{end}}'
jsonpath-file, custom-columns-file and go-template-file read it from a file.

With -w, get goes on after the table and shows what changes, until it is
interrupted.

Kinds: ` + wrapped(kindList(), 7),
		Example: `  ripstop get hostendpoints
  ripstop get gnp allow-ssh -o yaml
  ripstop get networkpolicies,networksets -A -o wide
  ripstop get gnp -l team=blue --sort-by=.spec.order
  ripstop get gnp -w
  ripstop get hep -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}'
  ripstop get all -o name`,
		Args: func(cmd *cobra.Command, args []string) (err error) {
			switch {
			case len(args) == 0 && len(in.files) == 0:
				return usage(cmd, "get: what to show is not said: a kind, or all")
			case len(args) > 0 && len(in.files) > 0:
				return usage(cmd, "get: give a kind and names, or -f, not both")
			}
			if f.form, err = parseForm(cmd, f.output); err != nil {
				return err
			}
			if f.sortBy != "" {
				if f.sort, err = jsonpath.ParsePath(f.sortBy); err != nil {
					return usage(cmd, "get: --sort-by: %w", err)
				}
			}
			if f.watch && (f.sort != nil || len(in.files) > 0) {
				return usage(cmd, "get: -w goes neither with --sort-by nor with -f")
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.get(cmd, f, &in, args) },
		ValidArgsFunction: a.completeKindAndNames,
	}
	addInput(cmd, &in)
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "form of the output: "+strings.Join(forms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	cmd.Flags().BoolVarP(&f.all, "all-namespaces", "A", false, "look in all namespaces")
	cmd.Flags().StringVarP(&f.labels, "selector", "l", "", "only what has these labels, such as team=blue,env!=test")
	cmd.Flags().StringVar(&f.fields, "field-selector", "", "only what has these fields: metadata.name=NAME, metadata.namespace=NAMESPACE")
	cmd.Flags().StringVar(&f.sortBy, "sort-by", "", "order by what this path finds, such as .spec.order")
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "go on and show what changes")
	cmd.Flags().BoolVar(&f.export, "export", false, "leave out what belongs to this datastore: uid, version, time of creation")
	cmd.Flags().BoolVar(&f.missing, "ignore-not-found", false, "a name that is not there is no error")
	cmd.Flags().BoolVar(&f.noHeaders, "no-headers", false, "tables without headings")
	cmd.Flags().BoolVar(&f.showLabel, "show-labels", false, "tables with a column of labels")
	_ = cmd.RegisterFlagCompletionFunc("selector", a.completeLabels)
	_ = cmd.RegisterFlagCompletionFunc("field-selector", cobra.FixedCompletions([]string{"metadata.name=", "metadata.namespace="}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	_ = cmd.RegisterFlagCompletionFunc("sort-by", cobra.FixedCompletions([]string{".metadata.name", ".metadata.creationTimestamp", ".spec.order"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// kindList is the plurals of all kinds, for help.
func kindList() string {
	var names []string
	for _, d := range api.Kinds() {
		names = append(names, d.Plural)
	}
	return strings.Join(names, ", ")
}

// wrapped is a list in words broken into lines of 80, all but the first behind
// indent blanks.
func wrapped(list string, indent int) string {
	var b strings.Builder
	at := indent
	for i, word := range strings.Fields(list) {
		switch {
		case i == 0:
		case at+1+len(word) > 80:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}

// kindNamed is the kind of a name that a person typed.
func kindNamed(cmd *cobra.Command, name string) (api.Descriptor, error) {
	d, ok := api.DescriptorByName(name)
	if !ok {
		if near := api.NearestKind(name); near != "" {
			return d, usage(cmd, "%s: there is no kind %q; did you mean %s?", cmd.Name(), name, near)
		}
		return d, usage(cmd, "%s: there is no kind %q; there are %s", cmd.Name(), name, kindList())
	}
	return d, nil
}

// keyOf is the key of a resource of a kind by its name.
func (a *app) keyOf(d api.Descriptor, name string) api.Key {
	k := api.Key{Kind: d.Kind, Name: name}
	if d.Namespaced {
		k.Namespace = a.cfg.namespace()
	}
	return k
}

// keysNamed are the resources that a command line names: KIND NAME..., or
// KIND/NAME and KIND/NAMESPACE/NAME, as commands print them.
func (a *app) keysNamed(cmd *cobra.Command, args []string) ([]api.Key, error) {
	if !strings.Contains(args[0], "/") {
		d, err := kindNamed(cmd, args[0])
		if err != nil {
			return nil, err
		}
		var keys []api.Key
		for _, name := range args[1:] {
			keys = append(keys, a.keyOf(d, name))
		}
		return keys, nil
	}
	var keys []api.Key
	for _, arg := range args {
		parts := strings.Split(arg, "/")
		if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
			return nil, usage(cmd, "%s: %q: want KIND/NAME or KIND/NAMESPACE/NAME", cmd.Name(), arg)
		}
		d, err := kindNamed(cmd, parts[0])
		if err != nil {
			return nil, err
		}
		k := a.keyOf(d, parts[len(parts)-1])
		if len(parts) == 3 {
			switch {
			case !d.Namespaced:
				return nil, usage(cmd, "%s: %q: %s have no namespace", cmd.Name(), arg, d.Plural)
			case a.cfg.Namespace != "" && a.cfg.Namespace != parts[1]:
				return nil, usage(cmd, "%s: %q: the command line says --namespace %s", cmd.Name(), arg, a.cfg.Namespace)
			}
			k.Namespace = parts[1]
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (a *app) get(cmd *cobra.Command, f getFlags, in *input, args []string) error {
	keys, kinds, err := a.asked(cmd, f, in, args)
	if err != nil {
		return err
	}
	c, err := a.connect(cmd, true)
	if err != nil {
		return err
	}
	defer c.Close()
	p := printer{app: a, form: f.form, namespaces: f.all, several: len(kinds) > 1, noHeaders: f.noHeaders, labels: f.showLabel}
	if wantsCounts(f.form, kinds) {
		p.counts = a.countsHere(cmd.Context())
	}
	if f.watch {
		return a.follow(cmd, c, f, p, keys, kinds)
	}
	if len(keys) > 0 {
		return a.getNames(cmd.Context(), c, f, p, keys)
	}
	for _, d := range kinds {
		m := client.Match{Labels: f.labels, Fields: f.fields}
		if d.Namespaced && !f.all {
			m.Namespace = a.cfg.namespace()
		}
		objs, _, err := c.ListMatching(cmd.Context(), d.Kind, m)
		if err != nil {
			return fmt.Errorf("get %s: %w", d.Plural, err)
		}
		if err := f.arrange(d, objs); err != nil {
			return err
		}
		if len(objs) == 0 && len(kinds) == 1 && f.form.tabular() {
			a.sayNone(d, m.Namespace)
		}
		p.add(d, objs)
	}
	return p.flush()
}

// asked is what a command line of get asks for: resources by name, or kinds.
func (a *app) asked(cmd *cobra.Command, f getFlags, in *input, args []string) (keys []api.Key, kinds []api.Descriptor, err error) {
	selects := f.labels != "" || f.fields != ""
	switch {
	case len(in.files) > 0:
		docs, err := in.read(a)
		if err != nil {
			return nil, nil, fmt.Errorf("get:\n%w", err)
		}
		for _, d := range docs {
			keys = append(keys, d.Object.Key())
		}
	case len(args) == 1 && !strings.Contains(args[0], "/"):
		kinds, err = kindsNamed(cmd, args[0])
		if err == nil && f.watch && len(kinds) > 1 {
			return nil, nil, usage(cmd, "get: -w follows a single kind, %q are several", args[0])
		}
		return nil, kinds, err
	case strings.Contains(args[0], ","):
		return nil, nil, usage(cmd, "get: names need a single kind, %q are several", args[0])
	default:
		if keys, err = a.keysNamed(cmd, args); err != nil {
			return nil, nil, err
		}
	}
	if selects {
		return nil, nil, usage(cmd, "get: a name and a selector are two ways to ask; give one")
	}
	for _, k := range keys {
		if f.all && k.Namespace != "" && !strings.Contains(args[0], "/") {
			return nil, nil, usage(cmd, "get: a name in all namespaces is not one resource; use -n NAMESPACE")
		}
		d, _ := api.DescriptorOf(k.Kind)
		if !slices.ContainsFunc(kinds, func(have api.Descriptor) bool { return have.Kind == d.Kind }) {
			kinds = append(kinds, d)
		}
	}
	if f.watch && len(keys) > 1 {
		return nil, nil, usage(cmd, "get: -w follows a kind or a single resource")
	}
	return keys, kinds, nil
}

// arrange brings objects into the order, and the shape, that is asked for.
func (f getFlags) arrange(d api.Descriptor, objs []api.Object) error {
	if f.export {
		exported(objs)
	}
	if f.sort != nil {
		return sortBy(objs, f.sort)
	}
	if d.Kind == api.KindTier {
		slices.SortStableFunc(objs, byTierOrder)
	}
	return nil
}

// kindsNamed are the kinds in a comma-separated list; all is every kind but
// those that tell of what was.
func kindsNamed(cmd *cobra.Command, list string) ([]api.Descriptor, error) {
	if list == "all" {
		return slices.DeleteFunc(api.Kinds(), func(d api.Descriptor) bool {
			return d.Kind == api.KindChange || d.Kind == api.KindRevision
		}), nil
	}
	var out []api.Descriptor
	for name := range strings.SplitSeq(list, ",") {
		d, err := kindNamed(cmd, name)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// getNames shows resources by name; those that are found come with the errors
// of those that are not.
func (a *app) getNames(ctx context.Context, c *client.Client, f getFlags, p printer, keys []api.Key) error {
	byKind := map[api.Kind][]api.Object{}
	var order []api.Kind
	var errs []error
	for _, k := range keys {
		o, err := c.Get(ctx, k)
		if f.missing && errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("get %s: %w", nameOf(k), err))
			if gone(err) {
				break
			}
			continue
		}
		if byKind[k.Kind] == nil {
			order = append(order, k.Kind)
		}
		byKind[k.Kind] = append(byKind[k.Kind], o)
	}
	p.single = len(keys) == 1
	for _, kind := range order {
		d, _ := api.DescriptorOf(kind)
		if err := f.arrange(d, byKind[kind]); err != nil {
			return err
		}
		p.add(d, byKind[kind])
	}
	if len(order) > 0 {
		errs = append([]error{p.flush()}, errs...)
	}
	return errors.Join(errs...)
}

// sayNone says that a list is empty, where the reader may have looked in the
// wrong place.
func (a *app) sayNone(d api.Descriptor, namespace string) {
	if namespace != "" {
		fmt.Fprintf(a.Err, "no %s in namespace %s; -A looks in all namespaces\n", d.Plural, namespace)
		return
	}
	fmt.Fprintf(a.Err, "no %s\n", d.Plural)
}

// byTierOrder is the order in which tiers are evaluated.
func byTierOrder(x, y api.Object) int {
	order := func(o api.Object) float64 {
		if t, ok := o.(*api.Tier); ok && t.Spec.Order != nil {
			return *t.Spec.Order
		}
		return api.DefaultTierOrder
	}
	return cmp.Or(cmp.Compare(order(x), order(y)), strings.Compare(x.Key().Name, y.Key().Name))
}
