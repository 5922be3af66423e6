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
	"github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// rollbackFlags are the flags of rollback.
type rollbackFlags struct {
	manager    string
	here, undo bool
	confirmFlags
}

func (a *app) rollbackCommand() *cobra.Command {
	var f rollbackFlags
	cmd := &cobra.Command{
		Use:   "rollback [CHANGE | REV]",
		Short: "Undo a change, or go back to a revision",
		Long: `rollback undoes a change that was made with --confirm, before its time is over:
its resources are restored on the server, and every host goes back. Without a
name it is the one that waits, if there is only one. A resource that somebody
else has changed since is left as it is, and named. Nobody has to do this: what
is not confirmed goes back by itself.

With the number of a revision, as ripstop history shows it, everything that was
written after it is undone: resources are again as that revision left them,
those that were made since are deleted, and those that were deleted are made
anew. ripstop diff REV shows it before. What goes back is a revision of its own,
and with --confirm a change that has to be confirmed.

With --here this machine alone goes back, without the server, the datastore or
the network: the agent enforces what was before the last change of policy that
reached it, and given again, before the one before that (up to 32). The
datastore stays as it is. It holds over restarts and reboots; a resource that
somebody writes anew is enforced as it is written. With --here --undo what the
datastore has counts again. ripstop status shows it, and the record of the host
says who did it.`,
		Example: `  ripstop rollback
  ripstop rollback --here
  ripstop diff 12
  ripstop rollback 12 --confirm 2m`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usage(cmd, "rollback: want one change or revision, have %q", args)
			case f.undo && !f.here:
				return usage(cmd, "rollback: --undo goes with --here")
			case f.here && (len(args) > 0 || f.confirm != 0 || f.yes):
				return usage(cmd, "rollback: --here goes back before the last change, and asks nobody: it goes with --undo alone")
			case f.confirm != 0 && (len(args) == 0 || revisionNumber(args[0]) < 0):
				return usage(cmd, "rollback: --confirm goes with the number of a revision")
			}
			return f.checkConfirm(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.here && f.undo:
				return a.stepForward(cmd)
			case f.here:
				return a.stepBack(cmd)
			}
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			if len(args) == 1 && revisionNumber(args[0]) >= 0 {
				return a.toRevision(cmd, c, revisionNumber(args[0]), f)
			}
			err = a.undoChange(cmd, c, args)
			var conn *client.ConnError
			if errors.As(err, &conn) {
				err = fmt.Errorf("%w\n  this machine alone goes back without it: ripstop rollback --here", err)
			}
			return err
		},
		ValidArgsFunction: a.completeRevisions,
	}
	addConfirm(cmd, &f.confirmFlags)
	cmd.Flags().BoolVar(&f.here, "here", false, "this machine alone goes back before the last change, by its agent, without the server")
	cmd.Flags().BoolVar(&f.undo, "undo", false, "with --here: what the datastore has is enforced again")
	cmd.Flags().StringVar(&f.manager, "field-manager", "ripstop", "name under which the server remembers who set which field")
	_ = cmd.RegisterFlagCompletionFunc("field-manager", cobra.NoFileCompletions)
	return cmd
}

// revisionNumber is the number that text is; -1: it is none. 0 is what was
// before the first revision.
func revisionNumber(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// undoChange undoes the change that args name, or the only one that waits.
func (a *app) undoChange(cmd *cobra.Command, c *client.Client, args []string) error {
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
}

// goingBack is a resource that would be restored.
type goingBack struct {
	key api.Key
	// now is how it is, then as it was; nil: it is, or was, not there.
	now, then api.Object
	// unreadable: it is there, and the server cannot read it.
	unreadable bool
}

// since are the resources that are not as a revision left them, in the order
// in which they can be written; those that are to be deleted come last.
func (a *app) since(cmd *cobra.Command, c *client.Client, number int64) ([]goingBack, error) {
	all, err := change.Revisions(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	objects, err := change.Before(all, number)
	if err != nil {
		return nil, err
	}
	waiting, err := pending(cmd, c)
	if err != nil {
		return nil, err
	}
	if len(waiting) > 0 {
		return nil, fmt.Errorf("a change waits: end it first with ripstop confirm or ripstop rollback: %s", strings.Join(waiting, ", "))
	}
	var out []goingBack
	var errs []error
	for _, o := range objects {
		g := goingBack{key: o.Key()}
		g.then, err = o.Before.Object(g.key)
		errs = append(errs, err)
		g.now, err = c.Get(cmd.Context(), g.key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			g.now = nil
		case unreadableThere(err):
			g.now, g.unreadable = nil, true
		case err != nil:
			errs = append(errs, err)
		}
		if g.now == nil && g.then == nil && !g.unreadable || g.now != nil && g.then != nil && sameDocument(g.now, g.then) {
			continue
		}
		out = append(out, g)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	rank := map[api.Kind]int{}
	for i, d := range api.Kinds() {
		rank[d.Kind] = i + 1
	}
	place := func(g goingBack) int {
		if g.then == nil {
			return 2*len(rank) - rank[g.key.Kind] // what needs others goes first
		}
		return rank[g.key.Kind]
	}
	slices.SortStableFunc(out, func(x, y goingBack) int { return place(x) - place(y) })
	return out, nil
}

// toRevision makes resources be as a revision left them.
func (a *app) toRevision(cmd *cobra.Command, c *client.Client, number int64, f rollbackFlags) error {
	todo, err := a.since(cmd, c, number)
	if err != nil {
		return fmt.Errorf("rollback %d: nothing was written: %w", number, err)
	}
	if len(todo) == 0 {
		fmt.Fprintf(a.Err, "everything is as revision %d left it\n", number)
		return nil
	}
	return a.write(cmd, c, writeFlags{confirmFlags: f.confirmFlags}, func(c *client.Client) error {
		p := a.progress("rollback", len(todo))
		defer p.end()
		var errs []error
		for i, g := range todo {
			p.step(i)
			done, err := goBack(cmd, c, g, f.manager)
			p.clear()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", nameOf(g.key), err))
				if gone(err) {
					break
				}
				continue
			}
			fmt.Fprintf(a.Out, "%s %s\n", nameOf(g.key), done)
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("rollback %d: not everything went back; it can be given again:\n%w", number, err)
		}
		return nil
	})
}

// goBack restores one resource, over exactly what it was seen to be.
func goBack(cmd *cobra.Command, c *client.Client, g goingBack, manager string) (done string, err error) {
	opt := client.Options{Manager: manager}
	switch {
	case g.then == nil && g.unreadable:
		return "deleted", c.Remove(cmd.Context(), g.key, store.Always(), opt)
	case g.then == nil:
		rev, err := strconv.ParseInt(g.now.Metadata().ResourceVersion, 10, 64)
		if err != nil {
			return "", err
		}
		return "deleted", c.Remove(cmd.Context(), g.key, store.At(api.Revision(rev)), opt)
	}
	one := []api.Object{g.then}
	exported(one)
	if g.now == nil && !g.unreadable {
		_, err = c.Create(cmd.Context(), one[0], opt)
		return "created", err
	}
	if g.now != nil {
		one[0].Metadata().ResourceVersion = g.now.Metadata().ResourceVersion
	}
	_, err = c.Replace(cmd.Context(), one[0], opt)
	return "configured", err
}

// diffRevision prints what going back to a revision would change, and reports
// whether anything would.
func (a *app) diffRevision(cmd *cobra.Command, number int64) (bool, error) {
	c, err := a.connect(cmd, false)
	if err != nil {
		return false, err
	}
	defer c.Close()
	todo, err := a.since(cmd, c, number)
	if err != nil {
		return false, fmt.Errorf("diff %d: %w", number, err)
	}
	differ := false
	var errs []error
	var wanted []api.Object
	var gone []api.Key
	for _, g := range todo {
		if g.then != nil {
			wanted = append(wanted, g.then)
		} else { // what cannot be read may be enforced as it was
			gone = append(gone, g.key)
		}
		different, err := a.compare("live/", g.now, fmt.Sprintf("revision-%d/", number), g.then)
		differ = differ || different
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || !differ {
		return differ, err
	}
	a.tellImpact(cmd.Context(), c, wanted, gone)
	return differ, nil
}

// completeRevisions completes the numbers of revisions, the newest first.
func (a *app) completeRevisions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, o := range slices.Backward(a.liveObjects(cmd, api.KindRevision, "")) {
		if r, is := o.(*api.RevisionRecord); is {
			out = append(out, cobra.CompletionWithDesc(strconv.FormatInt(r.Spec.Number, 10), r.Spec.User+": "+touched(r.Spec.Objects)))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
