// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

// whyDownServer bounds how long the server is asked who changed the policies:
// at three in the morning it may be down too.
const whyDownServer = 2 * time.Second

func (a *app) whyDownCommand() *cobra.Command {
	var since time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "why-down",
		Short: "Show what this machine's policy has denied lately",
		Long: `why-down asks the agent on this machine which rules have denied packets in the
last 15 minutes (--since, at most 1h), how many, and when it was last, to within
15 seconds. Rules of the policy that was changed last come first, as far as the
server answers; without it, the rule that denied last. It works without the
datastore and without the network.

What is counted are packets that policy judges: of a connection in general the
first, and each time it is tried again. What was counted before the agent's
start is not told. Which packets they were is not known: ripstop explain says
what a given one meets, and a rule with the action Log tells of them all.

Where no rule has denied anything, what is down is down for another reason.`,
		Example: `  ripstop why-down
  ripstop why-down --since 1h
  ripstop why-down -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if since <= 0 || since > time.Hour {
				return usage(cmd, "why-down: --since %s: want how long ago, at most 1h", since)
			}
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, output, "", "json", "yaml"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.whyDown(cmd, since, output) },
	}
	cmd.Flags().DurationVar(&since, "since", 15*time.Minute, "how far back, at most 1h")
	_ = cmd.RegisterFlagCompletionFunc("since", cobra.FixedCompletions([]string{"5m", "15m", "1h"}, cobra.ShellCompDirectiveNoFileComp))
	addOutput(cmd, &output, "json", "yaml")
	return cmd
}

// lastChange is when an object was changed last, and by which manager of its
// fields, if that is known.
type lastChange struct {
	at  time.Time
	who string
}

func (a *app) whyDown(cmd *cobra.Command, since time.Duration, output string) error {
	data, err := a.askAgent(cmd.Context(), http.MethodGet, "/denials?since="+url.QueryEscape(since.String()))
	if err != nil {
		return err
	}
	var d api.Denials
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("agent %s: denials: %w", a.cfg.Agent, err)
	}
	if output != "" {
		return writeDocument(a.Out, output, d)
	}
	h, _, err := a.agentStatus(cmd.Context())
	if err != nil {
		return err
	}
	if p := h.Status.Paused; p != nil {
		fmt.Fprintf(a.Out, "PAUSED: nothing is filtered until %s; ripstop resume ends it.\n", p.Until.Format(time.RFC3339))
	}
	if len(d.Rules) == 0 {
		fmt.Fprintf(a.Out, "No rule on %s has denied anything since %s.\n", d.Host, d.Since.Format(time.RFC3339))
		return nil
	}
	changes, err := a.lastChanges(cmd, d.Rules)
	if err != nil {
		fmt.Fprintf(a.Err, "warning: who changed the policies is not known: %v\n", err)
	}
	slices.SortStableFunc(d.Rules, func(x, y api.Denial) int {
		return changes[objectOf(y.Rule)].at.Compare(changes[objectOf(x.Rule)].at)
	})
	fmt.Fprintf(a.Out, "Denied on %s since %s:\n\n", d.Host, d.Since.Format(time.RFC3339))
	t := newTable(a.Out)
	t.row("PACKETS", "BYTES", "LAST", "RULE", "POLICY CHANGED")
	for _, r := range d.Rules {
		changed := "-"
		if c, known := changes[objectOf(r.Rule)]; known {
			if changed = c.at.Format(time.RFC3339); c.who != "" {
				changed += " by " + c.who
			}
		}
		t.row(fmt.Sprint(r.Packets), fmt.Sprint(r.Bytes), r.Last.Format(time.RFC3339), r.Rule, changed)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "\nWhat a packet meets: ripstop explain tcp from ADDRESS to host/%s:PORT\n", d.Host)
	fmt.Fprintln(a.Out, "To filter nothing for a while: ripstop pause 30m")
	return nil
}

// objectOf is the policy or profile of a rule as counts name it; empty: it is
// of none.
func objectOf(rule string) string {
	name, _, _ := strings.Cut(rule, " ")
	if !strings.Contains(name, "/") {
		return ""
	}
	return name
}

// lastChanges asks the server about the policies and profiles of rules. Those
// that are not there any more are left out.
func (a *app) lastChanges(cmd *cobra.Command, rules []api.Denial) (map[string]lastChange, error) {
	wanted := map[string]bool{}
	for _, r := range rules {
		if o := objectOf(r.Rule); o != "" {
			wanted[o] = true
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	c, err := a.connect(cmd, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), whyDownServer)
	defer cancel()
	changes := map[string]lastChange{}
	for name := range wanted {
		key, ok := api.KeyOfCounts(name)
		if !ok {
			continue
		}
		o, err := c.Get(ctx, key)
		if gone(err) || ctx.Err() != nil {
			return changes, err
		}
		if err == nil {
			changes[name] = changeOf(o)
		}
	}
	return changes, nil
}

// changeOf is what an object's metadata say of its last change.
func changeOf(o api.Object) lastChange {
	m := o.Metadata()
	last := lastChange{at: m.CreationTimestamp.Time}
	var fields []struct {
		Manager     string    `json:"manager"`
		Subresource string    `json:"subresource"`
		Time        time.Time `json:"time"`
	}
	_ = json.Unmarshal(m.ManagedFields, &fields)
	for _, f := range fields {
		if f.Subresource == "" && !f.Time.Before(last.at) {
			last = lastChange{f.Time, f.Manager}
		}
	}
	return last
}
