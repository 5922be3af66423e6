// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) deleteCommand() *cobra.Command {
	var in input
	var ignoreMissing bool
	cmd := &cobra.Command{
		Use:   "delete (KIND NAME... | -f FILE)",
		Short: "Delete resources",
		Long: `delete removes resources, by kind and name or as files say. Of a document in a
file only kind, name and namespace count, and metadata.resourceVersion if it is
there: then only exactly that version is deleted.

The built-in tiers, and tiers with policies in them, cannot be deleted.`,
		Example: `  ripstop delete globalnetworkpolicy allow-ssh
  ripstop delete gnp allow-ssh allow-dns --ignore-not-found
  ripstop delete -f policies/`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(in.files) > 0 && len(args) > 0:
				return usage(cmd, "delete: give a kind and names, or -f, not both")
			case len(in.files) == 0 && len(args) < 2:
				return usage(cmd, "delete: what to delete is not said: KIND NAME... or -f FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := a.targets(cmd, &in, args)
			if err != nil {
				return err
			}
			return a.delete(cmd, targets, ignoreMissing)
		},
		ValidArgsFunction: a.completeKindAndNames,
	}
	addInput(cmd, &in)
	cmd.Flags().BoolVar(&ignoreMissing, "ignore-not-found", false, "a resource that is not there counts as deleted")
	return cmd
}

// target is a resource to delete.
type target struct {
	key  api.Key
	cond store.If
}

// targets are what the command line names, what names others first.
func (a *app) targets(cmd *cobra.Command, in *input, args []string) ([]target, error) {
	if len(in.files) == 0 {
		d, err := kindNamed(cmd, args[0])
		if err != nil {
			return nil, err
		}
		var out []target
		for _, name := range args[1:] {
			out = append(out, target{a.keyOf(d, name), store.Always()})
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

func (a *app) delete(cmd *cobra.Command, targets []target, ignoreMissing bool) error {
	c, err := a.connect(cmd, true)
	if err != nil {
		return err
	}
	defer c.Close()
	var errs []error
	for _, t := range targets {
		err := c.Delete(cmd.Context(), t.key, t.cond)
		switch {
		case err == nil:
			fmt.Fprintf(a.Out, "%s deleted\n", nameOf(t.key))
		case ignoreMissing && errors.Is(err, store.ErrNotFound):
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
