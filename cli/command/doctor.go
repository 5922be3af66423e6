// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

func (a *app) doctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at every packet filter of this machine, and for what works against Ripstop",
		Long: `doctor asks the agent on this machine to look at it, and tells what to worry
about, the gravest first, with what to do: filters of others that drop what
policies allow, services that empty the packet filter, published ports that no
policy judges, two variants of iptables, connection tracking that fills up,
kernel settings. It changes nothing.

It lists every packet filter: tables of nftables and of legacy iptables with
their chains, hooks, priorities, policies and numbers of rules, and ipsets; to
whom they likely belong (firewalld, ufw, Docker, Podman, libvirt, fail2ban ...)
and by which sign; and for each hook the order in which a packet meets them.

The exit code is 0 if there is nothing to worry about (advice may be given), 3
if there is. If the agent does not run, ripstopd --doctor prints the same.`,
		Example: `  ripstop doctor
  ripstop doctor -o yaml
  ripstopd --doctor                   if the agent does not run`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, output, "", "json", "yaml"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r api.DoctorReport
			data, err := a.look(cmd.Context(), "doctor", &r)
			if err != nil {
				return err
			}
			if output != "" {
				err = writeDocument(a.Out, output, data)
			} else {
				_, err = fmt.Fprint(a.Out, r.String())
			}
			if err == nil && r.Worry() {
				return &exit{code: exitVerdict}
			}
			return err
		},
	}
	addOutput(cmd, &output, "json", "yaml")
	return cmd
}

// look asks the agent for a report and returns it as it came: a newer agent
// may say more than this program knows.
func (a *app) look(ctx context.Context, what string, into any) (json.RawMessage, error) {
	data, err := a.askAgent(ctx, http.MethodGet, "/"+what)
	var agent *agentError
	if errors.As(err, &agent) {
		agent.instead = "ripstopd --" + what
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("agent %s: %s: %w", a.cfg.Agent, what, err)
	}
	return data, nil
}
