// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) historyCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show who changed what, newest first",
		Long: `history shows the last 100 revisions of policy, sets, tiers, profiles, host
endpoints, settings and roles: when, who, with what, which resources, and what
became of a change that had to be confirmed. What one user writes within two
seconds is one revision, and so is a change made with --confirm.

-o yaml and -o json have the values from before and after. The record that
counts is the audit log: ripstop audit.`,
		Example: `  ripstop history
  ripstop history -o yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, output, "", "json", "yaml"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			objs, rev, err := c.List(cmd.Context(), api.KindRevision, store.ListOptions{})
			if err != nil {
				return fmt.Errorf("history: %w", err)
			}
			slices.Reverse(objs) // names sort as numbers do
			if output != "" {
				l := api.List[api.Object]{Kind: string(api.KindRevision) + "List", APIVersion: api.VersionOurs, Items: objs}
				l.Metadata.ResourceVersion = fmt.Sprint(rev)
				return writeDocument(a.Out, output, l)
			}
			if len(objs) == 0 {
				fmt.Fprintln(a.Err, "nothing has been written yet")
				return nil
			}
			t := newTable(a.Out)
			t.row("REV", "WHEN", "WHO", "WHAT", "HOW", "OUTCOME")
			for _, o := range objs {
				r, is := o.(*api.RevisionRecord)
				if !is {
					continue
				}
				t.row(fmt.Sprint(r.Spec.Number), r.Spec.At.UTC().Format(time.RFC3339), r.Spec.User, touched(r.Spec.Objects), orNone(r.Spec.How, "-"), r.Spec.Outcome)
			}
			return t.flush()
		},
	}
	addOutput(cmd, &output, "json", "yaml")
	return cmd
}

// mostTouched is how many resources a row of the history names.
const mostTouched = 3

// touched names the resources of a revision.
func touched(objects []api.ChangedObject) string {
	var names []string
	for i, o := range objects {
		if i == mostTouched {
			names = append(names, fmt.Sprintf("and %d more", len(objects)-i))
			break
		}
		names = append(names, nameOf(o.Key()))
	}
	return strings.Join(names, ", ")
}

func (a *app) rollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rollback [CHANGE]",
		Short: "Undo a change that waits for its confirmation",
		Long: `rollback undoes a change that was made with --confirm, before its time is over:
its resources are restored on the server, and every host goes back. Without a
name it is the one that waits, if there is only one. A resource that somebody
else has changed since is left as it is, and named.

Nobody has to do this: what is not confirmed goes back by itself. A change that
was confirmed is not undone by it; ripstop history shows what was before.`,
		Example: `  ripstop rollback
  ripstop get changes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "rollback: want one change, have %q", args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			name, err := theOne(cmd, c, args)
			if err != nil {
				return err
			}
			done, err := c.RollBack(cmd.Context(), name)
			if err != nil {
				return fmt.Errorf("rollback %s: %w", name, err)
			}
			fmt.Fprintf(a.Out, "change/%s rolled back\n", name)
			for i, o := range done.Status.Objects {
				if o.Left != "" && i < len(done.Spec.Objects) {
					fmt.Fprintf(a.Err, "warning: %s is left as it is: %s\n", nameOf(done.Spec.Objects[i].Key()), o.Left)
				}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}
