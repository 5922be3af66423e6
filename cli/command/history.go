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
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) historyCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "history [REV]",
		Short: "Show who changed what, newest first",
		Long: `history shows the last 100 revisions of policy, sets, tiers, profiles, host
endpoints, settings and roles: when, who, with what, which resources, and what
became of a change that had to be confirmed. What one user writes within two
seconds is one revision, and so is a change made with --confirm.

With the number of a revision, what that one changed is shown as a unified diff
of YAML. ripstop diff REV compares a revision with what is there now, and
ripstop rollback REV goes back to it.

-o yaml and -o json have the values from before and after. The record that
counts is the audit log: ripstop audit.`,
		Example: `  ripstop history
  ripstop history 12
  ripstop history -o yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1 || len(args) == 1 && revisionNumber(args[0]) < 0:
				return usage(cmd, "history: want the number of one revision, have %q", args)
			case len(args) == 1 && output != "":
				return usage(cmd, "history: -o is of the whole history; one revision is shown as a diff")
			}
			return checkOutput(cmd, output, "", "json", "yaml")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			if len(args) == 1 {
				return a.showRevision(cmd, c, revisionNumber(args[0]))
			}
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
	cmd.ValidArgsFunction = a.completeRevisions
	return cmd
}

// showRevision prints what one revision changed.
func (a *app) showRevision(cmd *cobra.Command, c *client.Client, number int64) error {
	o, err := c.Get(cmd.Context(), api.Key{Kind: api.KindRevision, Name: api.RevisionName(number)})
	if err != nil {
		return fmt.Errorf("history: revision %d: %w", number, err)
	}
	r, is := o.(*api.RevisionRecord)
	if !is {
		return fmt.Errorf("history: revision %d cannot be read: %w", number, o.Validate())
	}
	if r.Spec.WithoutValues {
		return fmt.Errorf("history: the values of revision %d were not kept (they were too large, could not be read, or a write before is missing); it wrote %s", number, touched(r.Spec.Objects))
	}
	var errs []error
	for _, o := range r.Spec.Objects {
		before, errBefore := o.Before.Object(o.Key())
		after, errAfter := o.After.Object(o.Key())
		if err := errors.Join(errBefore, errAfter); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", nameOf(o.Key()), err))
			continue
		}
		_, err := a.compare("before/", before, "after/", after)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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
