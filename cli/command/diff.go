// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) diffCommand() *cobra.Command {
	var in input
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "diff (-f FILE | REV)",
		Short: "Show what apply, or going back, would change",
		Long: `diff shows, as a unified diff of YAML, how what is on the server would change if
the files were applied. The server goes through everything but the write, so
defaults are in it, and what it refuses is told.

Behind the differences it says in words what they mean: who gains and who loses
access (as far as the policies of each single endpoint go: the other end's host
may have a say of its own), which policies select nothing, and which of the
connections of this machine the agent here would cut. Connections of other
hosts are not looked at. A very large change is not looked at as a whole, and
then it says what was left out. A warning on standard error says if the SSH
session that you work in on this machine would be denied, and by which rule.

With the number of a revision, as ripstop history shows it, it is shown how what
is on the server would change if ripstop rollback REV went back to it.

The exit code is 0 if nothing would change, 1 if something would, 2 on an
error.`,
		Example: `  ripstop diff -f allow-ssh.yaml
  ripstop diff 12
  ripstop diff -R -f policies/ --server-side --field-manager=ci`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return in.given(cmd, "compare")
			case len(args) > 1 || revisionNumber(args[0]) < 0:
				return usage(cmd, "diff: want -f FILE or the number of one revision, have %q", args)
			case len(in.files) > 0 || f.serverSide:
				return usage(cmd, "diff: give files or a revision, not both")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.force && !f.serverSide {
				return usage(cmd, "diff: --force-conflicts goes with --server-side")
			}
			var differ bool
			var err error
			if len(args) == 1 {
				differ, err = a.diffRevision(cmd, revisionNumber(args[0]))
			} else {
				differ, err = a.diff(cmd, &in, f)
			}
			switch {
			case err != nil:
				return &exit{exitUsage, err}
			case differ:
				return &exit{code: exitDifference}
			}
			return nil
		},
	}
	addInput(cmd, &in)
	cmd.Flags().BoolVar(&f.serverSide, "server-side", false, "as apply --server-side would change it")
	cmd.Flags().BoolVar(&f.force, "force-conflicts", false, "with --server-side: as if fields of other managers were taken over")
	cmd.Flags().StringVar(&f.manager, "field-manager", "ripstop", "with --server-side: the manager of the fields")
	_ = cmd.RegisterFlagCompletionFunc("field-manager", cobra.NoFileCompletions)
	cmd.ValidArgsFunction = a.completeRevisions
	return cmd
}

// diff prints the differences and reports whether there are any.
func (a *app) diff(cmd *cobra.Command, in *input, f applyFlags) (differ bool, err error) {
	f.dryRun = "server"
	docs, err := in.read(a)
	if err != nil {
		return false, fmt.Errorf("diff: nothing was compared:\n%w", err)
	}
	f.tiers = tiersIn(docs)
	c, err := a.connect(cmd, false)
	if err != nil {
		return false, err
	}
	defer c.Close()
	inOrder(docs)
	var errs []error
	var changed []api.Object
	for _, d := range docs {
		old, wanted, err := a.wouldBe(cmd, c, d, f)
		if err != nil {
			errs = append(errs, &api.DocumentError{Source: d.Source, Line: d.Line, Object: d.Object.Key().String(), Err: err})
			if gone(err) {
				break
			}
			continue
		}
		different, err := a.compare("live/", old, "applied/", wanted)
		errs = append(errs, err)
		if different {
			differ = true
			changed = append(changed, wanted)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return differ, fmt.Errorf("diff: not everything was compared:\n%w", err)
	}
	a.tellImpact(cmd.Context(), c, changed, nil)
	return differ, nil
}

// compare prints how two objects, nil for none, of one name differ, and reports
// whether they do. The words stand before the name.
func (a *app) compare(is string, x api.Object, as string, y api.Object) (bool, error) {
	before, errX := comparison(x)
	after, errY := comparison(y)
	if err := errors.Join(errX, errY); err != nil || bytes.Equal(before, after) {
		return false, err
	}
	name := ""
	for _, o := range []api.Object{x, y} {
		if o != nil {
			name = nameOf(o.Key())
		}
	}
	a.printDiff(diff.Diff(is+name, before, as+name, after))
	return true, nil
}

// wouldBe is a resource as it is, nil if it is not there, and as it would be.
func (a *app) wouldBe(cmd *cobra.Command, c *client.Client, d api.Document, f applyFlags) (old, wanted api.Object, err error) {
	old, err = c.Get(cmd.Context(), d.Object.Key())
	if errors.Is(err, store.ErrNotFound) {
		old, err = nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	_, wanted, err = applyOne(cmd.Context(), c, d, f)
	return old, wanted, err
}

// comparison is an object as YAML, without what changes with every write.
func comparison(o api.Object) ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	if u, bad := o.(*api.Unreadable); bad {
		return append(bytes.TrimRight(u.Raw, "\n"), '\n'), nil
	}
	one := []api.Object{o}
	exported(one)
	var b bytes.Buffer
	err := writeDocument(&b, "yaml", one[0])
	return b.Bytes(), err
}

// printDiff prints a unified diff, on terminals in colours.
func (a *app) printDiff(text []byte) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "@@"):
			line = paint(a.Out, cyan, line)
		case strings.HasPrefix(line, "+"):
			line = paint(a.Out, green, line)
		case strings.HasPrefix(line, "-"):
			line = paint(a.Out, red, line)
		}
		fmt.Fprintln(a.Out, line)
	}
}
