// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store COMMAND",
		Short: "Deal with the datastore as this machine sees it",
		Long: `store has commands about the datastore as the agent on this machine sees it.

The agent does not apply a picture that looks wrong: an older state than the
one it has seen, one of another cluster, or one that has suddenly shrunk. It
keeps what it has and says so in ripstop status.`,
		Example: `  ripstop store accept-rollback`,
		Args:    noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.acceptRollbackCommand())
	return cmd
}

func (a *app) acceptRollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "accept-rollback",
		Short: "Let the agent apply a picture that it holds back",
		Long: `accept-rollback tells the agent on this machine to apply what it received from
the datastore and holds back, for instance after a backup was restored on
purpose. It prints why the picture was held. See what would change first:
ripstop status shows what is enforced, ripstop get what the datastore has.

It is for this machine only; each host holds and accepts for itself.`,
		Example: `  ripstop store accept-rollback`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := a.askAgent(cmd.Context(), http.MethodPost, "/accept-held")
			if err != nil {
				return err
			}
			var answer struct {
				Held string `json:"held"`
			}
			if len(data) > 0 {
				if err := json.Unmarshal(data, &answer); err != nil {
					return fmt.Errorf("agent %s: accept-held: %w", a.cfg.Agent, err)
				}
			}
			if answer.Held == "" {
				fmt.Fprintln(a.Out, "nothing was held back")
				return nil
			}
			fmt.Fprintf(a.Out, "accepted; it was held back because: %s\n", oneLine(answer.Held))
			return nil
		},
	}
}
