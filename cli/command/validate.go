// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	var in input
	cmd := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Check files without a server",
		Long: `validate reads files as apply does and reports every fault of every document,
with its place in the file, without asking a server and without writing
anything. What only the server can know, such as whether a policy's tier
exists, is not checked.`,
		Example: `  ripstop validate -f allow-ssh.yaml
  ripstop validate -R -f policies/`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := in.given(cmd, "check"); err != nil {
				return err
			}
			docs, err := in.read(a)
			if err != nil {
				return fmt.Errorf("validate:\n%w", err)
			}
			if len(docs) == 1 {
				fmt.Fprintf(a.Out, "%s is valid\n", nameOf(docs[0].Object.Key()))
				return nil
			}
			fmt.Fprintf(a.Out, "%d resources are valid\n", len(docs))
			return nil
		},
	}
	addInput(cmd, &in)
	return cmd
}
