// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/store"
)

// explainFlags are the flags of explain.
type explainFlags struct {
	input  input
	output string
	failOn string
}

func (a *app) explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain FLOW",
		Short: "Say what becomes of a packet, and why",
		Long: `explain takes a flow in words, judges it by the resources on the server (or in
files, with -f), and tells in sentences which endpoint, tier, policy and rule
decide, and what was passed on the way there.

A flow is: PROTOCOL from PLACE to PLACE. PROTOCOL is tcp, udp, sctp, udplite,
icmp or icmpv6 (with type and code) or proto NUMBER. PLACE is an address,
host/NAME for a host, hep/NAME for a host endpoint, workload/NAMESPACE/NAME for
a container or virtual machine (its endpoint's name, or that of its pod or
workload), or this-host, with :PORT behind it. Behind a place may stand: at
ADDRESS and via INTERFACE (which one of a host; of a workload, the interface
between its host and the other end), sport PORT, state
new|established|related|invalid|untracked, dialled ADDRESS:PORT (the destination
before destination NAT, such as a published port), and for traffic that a host
forwards: through host/NAME in INTERFACE out INTERFACE.

A host's own traffic, what it forwards and what its workloads send and get are
judged in all phases: doNotTrack and preDNAT policy, the policy of host
endpoints and of workload endpoints.

explain judges what the resources say. It does not ask the hosts whether they
have applied them: ripstop status does. The exit code is 0 whatever the
verdict is; with --fail-on deny it is 3 if the flow is denied (in any of the
cases, if there are several), with --fail-on allow if it is not.`,
		Example: `  ripstop explain tcp from 10.0.0.2 to host/h1:8080
  ripstop explain udp from host/h1 to 192.0.2.53:53
  ripstop explain icmp type 8 from 10.0.0.2 to this-host
  ripstop explain tcp from workload/prod/web to workload/prod/db:5432
  ripstop explain tcp from 10.0.0.2 to workload/prod/web:8080 dialled 10.0.0.1:80
  ripstop explain -f policies/ --fail-on allow tcp from 203.0.113.9 to host/db:5432`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "explain: nothing is asked; write: ripstop explain tcp from 10.0.0.2 to host/NAME:80")
			}
			switch f.failOn {
			case "", "deny", "allow":
			default:
				return usage(cmd, "explain: --fail-on %q is not known; it is deny or allow", f.failOn)
			}
			return checkOutput(cmd, f.output, "", "text", "json", "yaml")
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.explain(cmd, f, strings.Join(args, " ")) },
		ValidArgsFunction: a.completeFlow,
	}
	addInput(cmd, &f.input)
	addOutput(cmd, &f.output, "text", "json", "yaml")
	cmd.Flags().StringVar(&f.failOn, "fail-on", "", "deny or allow: exit with 3 on this verdict")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"deny", "allow"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) explain(cmd *cobra.Command, f explainFlags, text string) error {
	q, err := policy.ParseFlow(text)
	if err != nil {
		return usage(cmd, "explain: %w", err)
	}
	objs, err := a.world(cmd, &f.input)
	if err != nil {
		return err
	}
	w := policy.NewWorld(objs, policy.OptionsOf(objs))
	answer, err := w.Explain(q, a.known(cmd.Context()))
	if err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	if f.output == "json" || f.output == "yaml" {
		err = writeDocument(a.Out, f.output, answer)
	} else {
		_, err = fmt.Fprint(a.Out, answer.String())
	}
	if err != nil {
		return err
	}
	for _, c := range answer.Cases {
		if f.failOn == "deny" && !c.Verdict.Passes() || f.failOn == "allow" && c.Verdict.Passes() {
			return &exit{code: exitVerdict}
		}
	}
	return nil
}

// world is all resources to judge by: those of files, or the server's.
func (a *app) world(cmd *cobra.Command, in *input) ([]api.Object, error) {
	if len(in.files) > 0 {
		docs, err := in.read(a)
		if err != nil {
			return nil, fmt.Errorf("explain: nothing was judged:\n%w", err)
		}
		objs := defaulted(docs)
		return append(objs, missingTiers(objs)...), nil
	}
	c, err := a.connect(cmd, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	objs, err := a.listJudged(cmd.Context(), c)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	return objs, nil
}

func (a *app) listJudged(ctx context.Context, c *client.Client) ([]api.Object, error) {
	var all []api.Object
	for _, kind := range policy.Kinds() {
		objs, _, err := c.List(ctx, kind, store.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", kind, err)
		}
		for _, o := range objs {
			if u, bad := o.(*api.Unreadable); bad {
				by := "as if it were not there"
				if u.Salvaged != nil {
					by = "by what can be made of it"
				}
				fmt.Fprintf(a.Err, "warning: %s cannot be read; judged %s, though hosts that have read it before keep that version (see ripstop status): %v\n", u.Key(), by, u.Err)
			}
		}
		all = append(all, objs...)
	}
	return all, nil
}

// missingTiers are the built-in tiers that files do not have: every datastore
// does.
func missingTiers(objs []api.Object) []api.Object {
	have := map[string]bool{}
	for _, o := range objs {
		if t, ok := o.(*api.Tier); ok {
			have[t.Name] = true
		}
	}
	var missing []api.Object
	for _, t := range []struct {
		name   string
		order  float64
		action api.Action
	}{
		{api.DefaultTier, api.DefaultTierOrder, api.Deny},
		{api.KubeAdminTier, api.KubeAdminTierOrder, api.Pass},
		{api.KubeBaselineTier, api.KubeBaselineTierOrder, api.Pass},
	} {
		if have[t.name] {
			continue
		}
		missing = append(missing, &api.Tier{
			TypeMeta: api.TypeMeta{Kind: api.KindTier, APIVersion: api.VersionCalico},
			Meta:     api.Meta{Name: t.name},
			Spec:     api.TierSpec{Order: &t.order, DefaultAction: t.action},
		})
	}
	return missing
}

// known is what this machine knows of itself.
func (a *app) known(ctx context.Context) policy.Known {
	name := a.thisHost(ctx)
	if name == "" {
		return policy.Known{}
	}
	k := policy.Known{ThisHost: name}
	if a.elsewhere {
		return k
	}
	ifaces, err := interfaces()
	if err != nil {
		fmt.Fprintf(a.Err, "warning: the interfaces of this machine cannot be read: %v\n", err)
		return k
	}
	k.Hosts = map[string]policy.Host{name: {Name: name, Interfaces: ifaces}}
	return k
}

// interfaces are the interfaces of this machine with their addresses.
func interfaces() (map[string][]netip.Addr, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := map[string][]netip.Addr{}
	for _, i := range list {
		addrs, err := i.Addrs()
		if errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		out[i.Name] = nil
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out[i.Name] = append(out[i.Name], p.Addr().Unmap())
			}
		}
	}
	return out, nil
}
