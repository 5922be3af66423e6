// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// deleteFlags are the flags of delete.
type deleteFlags struct {
	writeFlags
	ignoreMissing bool
	all           bool   // of the kind
	selector      string // labels
	allNamespaces bool
}

func (a *app) deleteCommand() *cobra.Command {
	var in input
	var f deleteFlags
	cmd := &cobra.Command{
		Use:   "delete (KIND NAME... | KIND -l SELECTOR | KIND --all | -f FILE)",
		Short: "Delete resources",
		Long: `delete removes resources, by kind and name (also KIND/NAME), by labels, all of a
kind, or as files say. Of a document in a file only kind, name and namespace
count, and metadata.resourceVersion if it is there: then only exactly that
version is deleted.

The built-in tiers, and tiers with policies in them, cannot be deleted. With -l
and --all, namespaced kinds are looked for in the namespace of -n, with -A in
all.

With --confirm TIME all of it is one change, of which nothing is written with a
fault in any, and everything goes back after that time unless ripstop confirm is
given before.`,
		Example: `  ripstop delete globalnetworkpolicy allow-ssh
  ripstop delete gnp/allow-ssh gnp/allow-dns --ignore-not-found
  ripstop delete networkpolicies -A -l team=blue --dry-run=server
  ripstop delete -f policies/`,
		Args: func(cmd *cobra.Command, args []string) error {
			picked := f.all || f.selector != ""
			switch {
			case len(in.files) > 0 && (len(args) > 0 || picked):
				return usage(cmd, "delete: give a kind and names, or -f, not both")
			case f.all && f.selector != "":
				return usage(cmd, "delete: give --all or -l, not both")
			case picked && (len(args) != 1 || strings.Contains(args[0], "/")):
				return usage(cmd, "delete: --all and -l go with a kind alone")
			case picked && args[0] == "all":
				return usage(cmd, "delete: all is every kind there is; name those that are meant")
			case f.allNamespaces && !picked:
				return usage(cmd, "delete: -A goes with --all or -l")
			case len(in.files) == 0 && !picked && (len(args) == 0 || len(args) < 2 && !strings.Contains(args[0], "/")):
				return usage(cmd, "delete: what to delete is not said: KIND NAME..., KIND -l SELECTOR, KIND --all or -f FILE")
			}
			return f.check(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			targets, err := a.targets(cmd, c, &in, f, args)
			if err != nil {
				return err
			}
			return a.write(cmd, c, f.writeFlags, func(c *client.Client) error { return a.delete(cmd, c, targets, f) })
		},
		ValidArgsFunction: a.completeKindAndNames,
	}
	addInput(cmd, &in)
	addWrite(cmd, &f.writeFlags)
	addConfirm(cmd, &f.confirmFlags)
	cmd.Flags().BoolVar(&f.ignoreMissing, "ignore-not-found", false, "a resource that is not there counts as deleted")
	cmd.Flags().BoolVarP(&f.ignoreMissing, "skip-not-exists", "s", false, "the same, as calicoctl calls it")
	cmd.Flags().BoolVar(&f.all, "all", false, "delete all resources of the kind")
	cmd.Flags().StringVarP(&f.selector, "selector", "l", "", "delete what has these labels, such as team=blue,env!=test")
	cmd.Flags().BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "with --all or -l: look in all namespaces")
	_ = cmd.RegisterFlagCompletionFunc("selector", a.completeLabels)
	return cmd
}

// target is a resource to delete.
type target struct {
	key  api.Key
	cond store.If
}

// targets are what the command line names, what names others first.
func (a *app) targets(cmd *cobra.Command, c *client.Client, in *input, f deleteFlags, args []string) ([]target, error) {
	switch {
	case f.all || f.selector != "":
		return a.targetsOfKind(cmd, c, f, args[0])
	case len(in.files) == 0:
		keys, err := a.keysNamed(cmd, args)
		if err != nil {
			return nil, err
		}
		var out []target
		for _, k := range keys {
			out = append(out, target{k, store.Always()})
		}
		return out, nil
	}
	docs, err := in.read(a)
	if err != nil {
		return nil, fmt.Errorf("delete: nothing was deleted:\n%w", err)
	}
	inOrder(docs)
	slices.Reverse(docs)
	var out []target
	for _, d := range docs {
		cond := store.Always()
		if rv := d.Object.Metadata().ResourceVersion; rv != "" {
			n, err := strconv.ParseInt(rv, 10, 64)
			if err != nil {
				return nil, d.Locate(fmt.Errorf("metadata.resourceVersion: %q is not a number", rv))
			}
			cond = store.At(api.Revision(n))
		}
		out = append(out, target{d.Object.Key(), cond})
	}
	return out, nil
}

// targetsOfKind are all resources of a kind, or those with the labels. Each is
// deleted only as it was when it was found.
func (a *app) targetsOfKind(cmd *cobra.Command, c *client.Client, f deleteFlags, kinds string) ([]target, error) {
	descs, err := kindsNamed(cmd, kinds)
	if err != nil {
		return nil, err
	}
	slices.Reverse(descs)
	var out []target
	for _, d := range descs {
		m := client.Match{Labels: f.selector}
		if d.Namespaced && !f.allNamespaces {
			m.Namespace = a.cfg.namespace()
		}
		objs, _, err := c.ListMatching(cmd.Context(), d.Kind, m)
		if err != nil {
			return nil, fmt.Errorf("delete: nothing was deleted: %s: %w", d.Plural, err)
		}
		for _, o := range objs {
			if d.Kind == api.KindTier && slices.Contains([]string{api.DefaultTier, api.KubeAdminTier, api.KubeBaselineTier}, o.Key().Name) {
				fmt.Fprintf(a.Err, "%s stays: it is built in\n", nameOf(o.Key()))
				continue
			}
			out = append(out, target{o.Key(), store.Always()})
		}
		if len(objs) == 0 {
			a.sayNone(d, m.Namespace)
		}
	}
	return out, nil
}

func (a *app) delete(cmd *cobra.Command, c *client.Client, targets []target, f deleteFlags) error {
	p := a.progress("delete", len(targets))
	defer p.end()
	var errs []error
	for i, t := range targets {
		p.step(i)
		err := a.remove(cmd, c, t.key, t.cond, f.writeFlags)
		p.clear()
		switch {
		case err == nil:
			fmt.Fprintf(a.Out, "%s deleted%s\n", nameOf(t.key), f.suffix())
		case f.ignoreMissing && errors.Is(err, store.ErrNotFound):
			fmt.Fprintf(a.Out, "%s is not there\n", nameOf(t.key))
		default:
			errs = append(errs, fmt.Errorf("delete %s: %w", nameOf(t.key), err))
		}
		if gone(err) {
			break
		}
	}
	return errors.Join(errs...)
}

// remove deletes one resource, or goes as far as the dry run says.
func (a *app) remove(cmd *cobra.Command, c *client.Client, k api.Key, cond store.If, w writeFlags) error {
	if w.client() {
		_, err := c.Get(cmd.Context(), k)
		if unreadableThere(err) {
			return nil
		}
		return err
	}
	return c.Remove(cmd.Context(), k, cond, client.Options{DryRun: w.options().DryRun})
}
