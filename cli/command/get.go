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

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// getFlags are the flags of get.
type getFlags struct {
	output string
	all    bool // all namespaces
}

func (a *app) getCommand() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use:   "get KIND[,KIND...] [NAME...]",
		Short: "Show resources",
		Long: `get shows resources as a table, or with -o as documents that apply reads back.
KIND is a kind, its plural or a short name, in any case; several are separated
by commas, and all stands for every kind. Namespaced kinds are looked for in
the namespace of -n (default "default"), with -A in all.

Kinds: ` + wrapped(kindList(), 7),
		Example: `  ripstop get hostendpoints
  ripstop get gnp allow-ssh -o yaml
  ripstop get networkpolicies,networksets -A -o wide
  ripstop get all -o name`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "get: what to show is not said: a kind, or all")
			}
			return checkOutput(cmd, f.output, "", "wide", "yaml", "json", "name")
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.get(cmd, f, args) },
		ValidArgsFunction: a.completeKindAndNames,
	}
	addOutput(cmd, &f.output, "wide", "yaml", "json", "name")
	cmd.Flags().BoolVarP(&f.all, "all-namespaces", "A", false, "look in all namespaces")
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

func (a *app) get(cmd *cobra.Command, f getFlags, args []string) error {
	kinds, err := kindsNamed(cmd, args[0])
	if err != nil {
		return err
	}
	names := args[1:]
	if len(names) > 0 && len(kinds) > 1 {
		return usage(cmd, "get: names need a single kind, %q are several", args[0])
	}
	if len(names) > 0 && f.all && kinds[0].Namespaced {
		return usage(cmd, "get: a name in all namespaces is not one resource; use -n NAMESPACE")
	}
	c, err := a.connect(cmd, true)
	if err != nil {
		return err
	}
	defer c.Close()
	p := printer{app: a, output: f.output, namespaces: f.all, several: len(kinds) > 1}
	if len(names) > 0 {
		objs, err := a.getNames(cmd.Context(), c, kinds[0], names)
		p.single = len(names) == 1
		if len(objs) > 0 {
			p.add(kinds[0], objs)
			err = errors.Join(p.flush(), err)
		}
		return err
	}
	for _, d := range kinds {
		o := store.ListOptions{}
		if d.Namespaced && !f.all {
			o.Namespace = a.cfg.namespace()
		}
		objs, _, err := c.List(cmd.Context(), d.Kind, o)
		if err != nil {
			return fmt.Errorf("get %s: %w", d.Plural, err)
		}
		if d.Kind == api.KindTier {
			slices.SortStableFunc(objs, byTierOrder)
		}
		if len(objs) == 0 && len(kinds) == 1 && (f.output == "" || f.output == "wide") {
			a.sayNone(d, o.Namespace)
		}
		p.add(d, objs)
	}
	return p.flush()
}

// kindsNamed are the kinds in a comma-separated list; all is every kind.
func kindsNamed(cmd *cobra.Command, list string) ([]api.Descriptor, error) {
	if list == "all" {
		return api.Kinds(), nil
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

// getNames reads resources by name; those that are found come with the errors
// of those that are not.
func (a *app) getNames(ctx context.Context, c *client.Client, d api.Descriptor, names []string) ([]api.Object, error) {
	var objs []api.Object
	var errs []error
	for _, name := range names {
		o, err := c.Get(ctx, a.keyOf(d, name))
		if err != nil {
			errs = append(errs, fmt.Errorf("get %s: %w", nameOf(a.keyOf(d, name)), err))
			if gone(err) {
				break
			}
			continue
		}
		objs = append(objs, o)
	}
	return objs, errors.Join(errs...)
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
