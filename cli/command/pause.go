// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

// Bounds of a pause. The agent has the same.
const (
	leastPause = time.Minute
	mostPause  = 24 * time.Hour
)

func (a *app) pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pause DURATION",
		Short: "Put policy out of force on this machine for a while",
		Long: `pause makes the agent on this machine filter nothing for so long (1m to 24h):
policy, failsafes, what is compiled of them and the routes to workloads stay
where they are, and the packet filter asks none of them. Other programs' rules
go on. Nothing is counted meanwhile, and the agent goes on following the
datastore.

When the time is over the agent puts policy in force again by itself, all of it
at once, and cuts the connections that it does not allow. ripstop resume does
it earlier; a second pause sets the time anew. A restart of the agent does not
end a pause, a reboot does. If the agent is dead when the time is over, policy
is back as soon as systemd has started it again.

Who paused and who resumed is in the record of the host (ripstop audit --dir
/var/lib/ripstop/agent/audit), in the journal, and in ripstop status.`,
		Example: `  ripstop pause 30m
  ripstop resume`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "pause: for how long? for example: ripstop pause 30m")
			}
			d, err := time.ParseDuration(args[0])
			if err != nil || d < leastPause || d > mostPause {
				return usage(cmd, "pause: %q: want a time from 1m to 24h, such as 30m or 2h", args[0])
			}
			return nil
		},
		ValidArgsFunction: cobra.FixedCompletions([]string{"10m", "30m", "1h", "4h"}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.askAgent(cmd.Context(), http.MethodPost, "/pause?for="+url.QueryEscape(args[0]))
			if err != nil {
				return err
			}
			var p api.Pause
			if err := json.Unmarshal(data, &p); err != nil {
				return fmt.Errorf("agent %s: pause: %w", a.cfg.Agent, err)
			}
			fmt.Fprintf(a.Out, "Paused: this machine is NOT filtered until %s. ripstop resume ends it now.\n", p.Until.Local().Format("2006-01-02 15:04:05 -0700"))
			return nil
		},
	}
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "Put policy in force again after a pause",
		Long: `resume ends a pause before its time: policy is in force on this machine again,
all of it at once, and connections that it does not allow are cut.`,
		Example: `  ripstop resume`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := a.askAgent(cmd.Context(), http.MethodPost, "/resume")
			if err != nil {
				return err
			}
			var answer struct {
				Paused bool `json:"paused"`
			}
			if err := json.Unmarshal(data, &answer); err != nil {
				return fmt.Errorf("agent %s: resume: %w", a.cfg.Agent, err)
			}
			if !answer.Paused {
				fmt.Fprintln(a.Out, "Policy was not paused.")
				return nil
			}
			fmt.Fprintln(a.Out, "Policy is in force again.")
			return nil
		},
	}
}
