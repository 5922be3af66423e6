// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

func (a *app) exposureCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "exposure",
		Short: "Show who can reach the sockets and published ports of this machine",
		Long: `exposure lists every TCP and UDP port of this machine that listens, over IPv4
and IPv6, and every port that Docker, Podman or another program publishes (what
a client dials, and where it goes), each with who can reach it over which
interface: everyone, what a policy's rule selects, or nobody. The most
dangerous come first: a database, an API without a password or the like that
everyone reaches. -o wide also tells the process, its unit, and the policy,
rule, failsafe or filter of others that decides.

It is judged by the policies that the agent enforces, and by the rules of
others as far as they go by interface, address, protocol, port and connection;
where a rule asks for more, both outcomes are taken to be possible and it is
said so. Nobody is sent a packet.

If the agent does not run, ripstopd --exposure prints the same as -o wide.`,
		Example: `  ripstop exposure
  ripstop exposure -o wide
  ripstop exposure -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, output, "", "wide", "json", "yaml"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r api.ExposureReport
			data, err := a.look(cmd.Context(), "exposure", &r)
			if err != nil {
				return err
			}
			if output == "json" || output == "yaml" {
				return writeDocument(a.Out, output, data)
			}
			_, err = fmt.Fprint(a.Out, r.Text(output == "wide"))
			return err
		},
	}
	addOutput(cmd, &output, "wide", "json", "yaml")
	return cmd
}
