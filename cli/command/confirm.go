// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// confirmFlags are the flags of a command whose writes may go back by
// themselves.
type confirmFlags struct {
	confirm   time.Duration
	mustReach []string
	yes       bool
}

func addConfirm(cmd *cobra.Command, f *confirmFlags) {
	cmd.Flags().DurationVar(&f.confirm, "confirm", 0, "everything goes back after this time (10s to 24h) unless ripstop confirm is given before")
	cmd.Flags().StringArrayVar(&f.mustReach, "must-reach", nil, "with --confirm: an address, as tcp:192.0.2.1:443, that every host must reach")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do it even if it shuts a way into a host, without asking")
	_ = cmd.RegisterFlagCompletionFunc("confirm", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("must-reach", cobra.NoFileCompletions)
}

func (f confirmFlags) checkConfirm(cmd *cobra.Command) error {
	given := cmd.Flags().Changed("confirm")
	switch {
	case given && (f.confirm < api.MinChangeTimeout || f.confirm > api.MaxChangeTimeout):
		return usage(cmd, "%s: --confirm %v: want a time from 10s to 24h", cmd.Name(), f.confirm)
	case len(f.mustReach) > 0 && !given:
		return usage(cmd, "%s: --must-reach goes with --confirm", cmd.Name())
	}
	return nil
}

// write has do make the writes of a command: each as it comes or, with
// --confirm, all of them as one change. What would shut a way into a host is
// asked about first.
func (a *app) write(cmd *cobra.Command, c *client.Client, w writeFlags, do func(c *client.Client) error) error {
	if w.confirm != 0 {
		return a.tryOut(cmd, c, w, do)
	}
	if w.test {
		if err := a.judgeFirst(cmd, c, do); err != nil {
			return err
		}
	}
	if !w.yes && (w.dryRun == "" || w.dryRun == "none") {
		if err := a.askFirst(cmd, c, do); err != nil {
			return err
		}
	}
	return do(c)
}

// tryOut has do write into a change, which goes back unless it is confirmed.
func (a *app) tryOut(cmd *cobra.Command, c *client.Client, f writeFlags, do func(c *client.Client) error) error {
	writes, err := a.wouldWrite(c, do) // what is done is told when it is done
	if err != nil || len(writes) == 0 {
		return err
	}
	_, operator := a.manager(cmd.Context())
	if f.yes {
		operator = nil // it may be shut
	}
	done, err := c.RequestChange(cmd.Context(), api.ChangeRequestSpec{
		Timeout: api.Duration{Duration: f.confirm}, MustReach: f.mustReach, Operator: operator, Test: f.test, How: "ripstop " + cmd.Name() + " --confirm", Writes: writes,
	})
	if shutsSession(err) {
		return fmt.Errorf("%s: nothing was written: %w\n  give --yes, too, if you mean it: it goes back after %v unless you confirm it over another way", cmd.Name(), err, f.confirm)
	}
	if err != nil {
		return fmt.Errorf("%s: nothing was written: %w", cmd.Name(), err)
	}
	if f.test {
		a.sayTested(done)
	}
	for _, w := range done.Writes {
		fmt.Fprintf(a.Out, "%s %s\n", nameOf(w.Key()), w.Done)
	}
	if done.Change == "" {
		fmt.Fprintln(a.Err, "nothing was to be changed, so there is nothing to confirm")
		return nil
	}
	if done.LostHosts > 0 {
		fmt.Fprintf(a.Err, "warning: %s\n", shutWays(done))
	}
	fmt.Fprintf(a.Err, "change %s goes back at %s UTC unless it is confirmed: ripstop confirm %s\n", done.Change, done.Until.UTC().Format("15:04:05"), done.Change)
	return nil
}

func (a *app) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm [CHANGE]",
		Short: "Let a change stay that would go back by itself",
		Long: `confirm lets a change stay that was made with --confirm. Without a name it is
the one that waits, if there is only one.

The exit code is 1 if the change cannot be confirmed: because it went back, or
there is none of this name.`,
		Example: `  ripstop apply -f policies/ --confirm 2m
  ripstop confirm
  ripstop get changes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "confirm: want one change, have %q", args)
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
			if _, err := c.Confirm(cmd.Context(), name); err != nil {
				return fmt.Errorf("confirm %s: %w", name, err)
			}
			fmt.Fprintf(a.Out, "change/%s confirmed\n", name)
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

// theOne is the change that a command names, or else the only one that waits.
func theOne(cmd *cobra.Command, c *client.Client, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	waiting, err := pending(cmd, c)
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd.Name(), err)
	}
	if len(waiting) != 1 {
		return "", fmt.Errorf("%s: %d changes wait; name the one that is meant: %s", cmd.Name(), len(waiting), strings.Join(waiting, ", "))
	}
	return waiting[0], nil
}

// pending are the names of the changes that wait.
func pending(cmd *cobra.Command, c *client.Client) ([]string, error) {
	objs, _, err := c.List(cmd.Context(), api.KindChange, store.ListOptions{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, o := range objs {
		if ch, is := o.(*api.Change); is && ch.Status.Phase == api.ChangePending {
			names = append(names, ch.Name)
		}
	}
	return names, nil
}
