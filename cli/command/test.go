// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/policytest"
	"github.com/ripstop/ripstop/daemon/store"
)

// testFlags are the flags of test.
type testFlags struct {
	input  input
	live   bool
	output string
}

// maxTestQuestions bounds what one ripstop test asks: with 1,000 policies that
// all look at each packet, minutes.
const maxTestQuestions = 100_000

func (a *app) testCommand() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test -f FILE",
		Short: "Judge whether policy does what policy tests say it has to",
		Long: `test judges the cases of all resources of kind PolicyTest in files: whether
policy allows and denies what they say. A case says from whom, to whom, by which
protocol and port, and whether that is expected to be allowed or denied.

Without --live it is judged by the resources in the files alone, and no server
is asked: hosts are those that the files have endpoints or nodes of. With --live
it is judged by the resources on the server, with those in the files over them,
as if the files were applied. Then the policy tests on the server are judged
too, and files need not be given.

The judgement is that of ripstop explain, of new connections. An end that is a
selector stands for each endpoint it selects, and all pairs are judged: at most
1,024 of a case, spread so that each endpoint is among them. A case fails if any
flow is not as expected, if a selector of it selects nothing, and if it cannot
be judged. It is told by file and line, with the flow and what decided.

The exit code is 0 if all cases passed, and 1 if one failed, if there is none,
or if files or server cannot be read.`,
		Example: `  ripstop test -R -f policies/
  ripstop test -f policies/ -o junit > report.xml
  ripstop test --live
  ripstop test --live -f change.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := noArgs(cmd, args); err != nil {
				return err
			}
			if !f.live {
				if err := f.input.given(cmd, "test"); err != nil {
					return err
				}
			}
			return checkOutput(cmd, f.output, "", "text", "json", "junit")
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.test(cmd, f) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addInput(cmd, &f.input)
	addOutput(cmd, &f.output, "text", "json", "junit")
	cmd.Flags().BoolVar(&f.live, "live", false, "judge by the resources on the server, with those in the files over them, and the tests on the server too")
	return cmd
}

func (a *app) test(cmd *cobra.Command, f testFlags) error {
	var docs []api.Document
	if len(f.input.files) > 0 {
		var err error
		if docs, err = f.input.read(a); err != nil {
			return fmt.Errorf("test: nothing was judged:\n%w", err)
		}
	}
	objs := defaulted(docs)
	if f.live {
		stored, err := a.storedTested(cmd)
		if err != nil {
			return fmt.Errorf("test: nothing was judged: %w", err)
		}
		objs = overlaid(stored, objs)
	} else {
		objs = append(objs, missingTiers(objs)...)
	}
	var tests []*api.PolicyTest
	for _, o := range objs {
		switch x := o.(type) {
		case *api.PolicyTest:
			tests = append(tests, x)
		case *api.Unreadable:
			if x.Key().Kind == api.KindPolicyTest {
				return fmt.Errorf("test: nothing was judged: %s cannot be read: %w", x.Key(), x.Err)
			}
		}
	}
	if len(tests) == 0 {
		return errors.New("test: there is nothing to judge: no resource is of kind PolicyTest")
	}
	report := newTestReport(policytest.Run(tests, policy.NewWorld(objs, policy.OptionsOf(objs)), maxTestQuestions), docs)
	if err := report.write(a.Out, f.output); err != nil {
		return err
	}
	if report.Failed > 0 {
		return &exit{code: exitError}
	}
	return nil
}

// storedTested is what the server has of resources that have a say, and of
// policy tests.
func (a *app) storedTested(cmd *cobra.Command) ([]api.Object, error) {
	c, err := a.connect(cmd, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	objs, err := a.listJudged(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	tests, _, err := c.List(cmd.Context(), api.KindPolicyTest, store.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", api.KindPolicyTest, err)
	}
	return append(objs, tests...), nil
}

// defaulted are the objects of documents, with their defaults.
func defaulted(docs []api.Document) []api.Object {
	var objs []api.Object
	for _, d := range docs {
		o := api.Clone(d.Object)
		o.Default()
		objs = append(objs, o)
	}
	return objs
}

// overlaid are resources as they are when others are written over them.
func overlaid(under, over []api.Object) []api.Object {
	written := map[api.Key]bool{}
	for _, o := range over {
		written[o.Key()] = true
	}
	return append(slices.DeleteFunc(under, func(o api.Object) bool { return written[o.Key()] }), over...)
}

// judgeFirst has the server judge all policy tests as everything would be after
// the writes of a command. Kinds of which no test can tell are left out.
func (a *app) judgeFirst(cmd *cobra.Command, c *client.Client, do func(c *client.Client) error) error {
	writes, err := a.wouldWrite(c, do)
	if err != nil {
		return err
	}
	writes = slices.DeleteFunc(writes, func(w api.ChangeWrite) bool { return !api.Testable(w.Kind) })
	if len(writes) == 0 {
		fmt.Fprintln(a.Err, "no policy test was judged: nothing is written that one could tell of")
		return nil
	}
	done, err := c.RequestChange(cmd.Context(), api.ChangeRequestSpec{DryRun: true, Test: true, Writes: writes})
	if err != nil {
		return fmt.Errorf("%s: nothing was written: %w", cmd.Name(), err)
	}
	a.sayTested(done)
	return nil
}

// sayTested says how many cases of policy tests have passed.
func (a *app) sayTested(done *api.ChangeRequestStatus) {
	if done.Tested == 0 {
		fmt.Fprintln(a.Err, "warning: no policy test was judged: there is none")
		return
	}
	fmt.Fprintf(a.Err, "%d cases of policy tests pass\n", done.Tested)
	if done.Unjudged > 0 {
		fmt.Fprintf(a.Err, "warning: %d more pairs of ends of them were not judged; ripstop test says of which\n", done.Unjudged)
	}
}
