// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// labelSet is the label that names the set a resource was applied with.
const labelSet = "ripstop.io/set"

// pruneFlags are the flags of apply about what is no longer in the files.
type pruneFlags struct {
	prune    bool
	set      string
	selector string
}

func (f *pruneFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.prune, "prune", false, "delete what --set or -l finds and the files no longer have")
	cmd.Flags().StringVar(&f.set, "set", "", "put the resources into a set of this name (label "+labelSet+")")
	cmd.Flags().StringVarP(&f.selector, "selector", "l", "", "with --prune: a label selector, such as team=blue,env!=test")
	_ = cmd.RegisterFlagCompletionFunc("set", cobra.NoFileCompletions)
}

func (f *pruneFlags) checkPrune(cmd *cobra.Command) error {
	switch {
	case f.prune && f.set == "" && f.selector == "":
		return usage(cmd, "apply: --prune needs to know what was applied before: --set NAME, or -l SELECTOR")
	case f.set != "" && f.selector != "":
		return usage(cmd, "apply: give --set or -l, not both")
	case f.selector != "" && !f.prune:
		return usage(cmd, "apply: -l goes with --prune")
	}
	return nil
}

// mark puts documents into their set.
func (f *pruneFlags) mark(docs []api.Document) {
	if f.set == "" {
		return
	}
	for _, d := range docs {
		m := d.Object.Metadata()
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[labelSet] = f.set
	}
}

// pruned are the kinds that pruning looks at: what people apply. What hosts
// report themselves is theirs to delete, namespaces may hold what others made,
// credentials are revoked by name, and changes and the history are the server's.
func pruned() []api.Descriptor {
	return slices.DeleteFunc(api.Kinds(), func(d api.Descriptor) bool {
		return slices.Contains([]api.Kind{api.KindNamespace, api.KindClusterInformation, api.KindHostStatus, api.KindCredential, api.KindChange, api.KindRevision}, d.Kind)
	})
}

// prune deletes what belongs to the set, or has the labels, and is not among
// the documents. It returns what is deleted, or would be.
func (a *app) prune(cmd *cobra.Command, c *client.Client, docs []api.Document, f applyFlags) (deleted []api.Key, err error) {
	m := client.Match{Labels: f.selector}
	if f.set != "" {
		m.Labels = labelSet + "=" + f.set
	}
	keep := map[api.Key]bool{}
	for _, d := range docs {
		keep[d.Object.Key()] = true
	}
	kinds := pruned()
	slices.Reverse(kinds) // policies before their tiers
	var errs []error
	gone := map[string]bool{}
	for _, d := range kinds {
		m.Namespace = ""
		if d.Namespaced {
			m.Namespace = a.cfg.Namespace
		}
		objs, _, err := c.ListMatching(cmd.Context(), d.Kind, m)
		if err != nil {
			return deleted, fmt.Errorf("apply: everything was written, but not all was pruned: %s: %w", d.Plural, err)
		}
		for _, o := range objs {
			if keep[o.Key()] {
				continue
			}
			err := a.remove(cmd, c, o.Key(), store.Always(), f.writeFlags)
			if err != nil && !errors.Is(err, store.ErrNotFound) && !(f.options().DryRun && emptied(err, gone)) {
				errs = append(errs, fmt.Errorf("%s: %w", nameOf(o.Key()), err))
				continue
			}
			gone[o.Key().String()] = true
			deleted = append(deleted, o.Key())
			fmt.Fprintf(a.Out, "%s pruned%s\n", nameOf(o.Key()), f.suffix())
		}
	}
	if len(errs) > 0 {
		return deleted, fmt.Errorf("apply: everything was written, but not all was pruned:\n%w", errors.Join(errs...))
	}
	return deleted, nil
}

// emptied reports whether a tier was refused only for policies that would be
// gone by then: in a dry run they are still there. Of a tier with 20 policies
// or more the server does not name all.
func emptied(err error, gone map[string]bool) bool {
	var st *client.StatusError
	if !errors.As(err, &st) || st.Status.Details == nil || len(st.Status.Details.Causes) == 0 || len(st.Status.Details.Causes) >= 20 {
		return false
	}
	for _, c := range st.Status.Details.Causes {
		if c.Reason != "TierNotEmpty" || !gone[c.Message] {
			return false
		}
	}
	return true
}
