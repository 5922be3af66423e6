// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// statusFlags are the flags of status.
type statusFlags struct {
	host   string
	all    bool
	output string
}

func (a *app) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is enforced on this machine, or on others",
		Long: `status asks the agent on this machine what it enforces: where it reads policy
from and since when, which revision of the datastore it has seen and which one
the kernel holds (read back from the kernel, not from what was sent), the
endpoints of this machine with the policies on each, the ports that policy
cannot close, parameters that have no effect, objects that cannot be enforced
as written, and changes by other programs that were undone.

If the agent does not answer, the last report that it left in the datastore is
shown. --host shows the report of another host, -A a line for each host.`,
		Example: `  ripstop status
  ripstop status --host web-3
  ripstop status -A
  ripstop status -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.host != "" && f.all {
				return usage(cmd, "status: give --host or --all-hosts, not both")
			}
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, f.output, "", "json", "yaml"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd, f) },
	}
	cmd.Flags().StringVar(&f.host, "host", "", "show the report of this host, from the datastore")
	cmd.Flags().BoolVarP(&f.all, "all-hosts", "A", false, "show a line for each host, from the datastore")
	addOutput(cmd, &f.output, "json", "yaml")
	_ = cmd.RegisterFlagCompletionFunc("host", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		d, _ := api.DescriptorOf(api.KindHostStatus)
		return a.liveNames(cmd, d), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (a *app) status(cmd *cobra.Command, f statusFlags) error {
	switch {
	case f.all:
		return a.statusOfAll(cmd, f.output)
	case f.host != "":
		h, err := a.statusFromStore(cmd, f.host)
		if err != nil {
			return err
		}
		return a.showStatus(h, nil, f.output)
	}
	h, data, err := a.agentStatus(cmd.Context())
	if err == nil {
		return a.showStatus(h, data, f.output)
	}
	var agent *agentError
	if !errors.As(err, &agent) {
		return err
	}
	name := systemName()
	if name == "" {
		return err
	}
	h, storeErr := a.statusFromStore(cmd, name)
	if storeErr != nil {
		if errors.Is(storeErr, store.ErrNotFound) {
			storeErr = fmt.Errorf("the datastore has no report of host %s; ripstop status -A lists the hosts that have one", name)
		}
		// The agent's error comes first: it is the one to mend.
		return errors.Join(err, storeErr)
	}
	fmt.Fprintf(a.Err, "warning: %v; this is the last report it left in the datastore\n", err)
	return a.showStatus(h, nil, f.output)
}

// statusFromStore is the report of a host that it left in the datastore.
func (a *app) statusFromStore(cmd *cobra.Command, host string) (*api.HostStatus, error) {
	c, err := a.connect(cmd, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	o, err := c.Get(cmd.Context(), api.Key{Kind: api.KindHostStatus, Name: host})
	if err != nil {
		return nil, fmt.Errorf("status of host %s: %w", host, err)
	}
	h, ok := o.(*api.HostStatus)
	if !ok {
		return nil, fmt.Errorf("status of host %s: cannot be read: %w", host, o.Validate())
	}
	return h, nil
}

// statusOfAll is a line for each host.
func (a *app) statusOfAll(cmd *cobra.Command, output string) error {
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	d, _ := api.DescriptorOf(api.KindHostStatus)
	objs, _, err := c.List(cmd.Context(), d.Kind, store.ListOptions{})
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	p := printer{app: a, form: form{name: output}}
	if output == "" {
		p.form.name = "wide"
		if len(objs) == 0 {
			fmt.Fprintln(a.Err, "no host has reported yet")
		}
	}
	p.add(d, objs)
	return p.flush()
}

// showStatus prints a report. data are the bytes it came in, if the agent
// sent it: a newer agent may say more than this program knows.
func (a *app) showStatus(h *api.HostStatus, data []byte, output string) error {
	if output == "" {
		return writeStatus(a.Out, h, a.now())
	}
	if data == nil {
		return writeDocument(a.Out, output, h)
	}
	return writeDocument(a.Out, output, json.RawMessage(data))
}

// thisHost is the name of this machine as its agent calls itself, or as the
// system does.
func (a *app) thisHost(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	if h, _, err := a.agentStatus(ctx); err == nil && h.Name != "" {
		return h.Name
	}
	return systemName()
}

// systemName is the system's name for this machine as the agent takes it: in
// lower case; empty if there is none.
func systemName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(name))
}
