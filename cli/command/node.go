// SPDX-License-Identifier: Apache-2.0

package command

import (
	"github.com/spf13/cobra"
)

func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node COMMAND",
		Short: "Look at this machine",
		Long: `node has commands about this machine, by the names that calicoctl has for them.
ripstop doctor and ripstop exposure tell more.`,
		Example: `  ripstop node status
  ripstop node checksystem
  ripstop node diags`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	status := a.statusCommand()
	status.Example = `  ripstop node status
  ripstop node status -o json`
	status.Long = "status is what ripstop status is.\n\n" + status.Long
	cmd.AddCommand(status, a.checkSystemCommand(), a.diagsCommand())
	return cmd
}
