// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// completionTime is how long a shell waits for live names.
const completionTime = 200 * time.Millisecond

func (a *app) completionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command, io.Writer) error{
		"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes commands in a shell",
		Long: `completion prints a script for a shell. With it loaded, the shell completes
commands, flags, kinds, and the names of resources that are on the server.`,
		Example: `  source <(ripstop completion bash)
  ripstop completion bash > /etc/bash_completion.d/ripstop
  ripstop completion zsh > "${fpath[1]}/_ripstop"
  ripstop completion fish > ~/.config/fish/completions/ripstop.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || shells[args[0]] == nil {
				return usage(cmd, "completion: want one shell: bash, zsh or fish")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd.Root(), a.Out) },
	}
}

// completeKindAndNames completes a kind, then names of resources of the kind.
func (a *app) completeKindAndNames(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if kind, _, slash := strings.Cut(typed, "/"); slash {
		return a.completeSlash(cmd, kind), cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) == 0 {
		return completeKinds(cmd, typed), cobra.ShellCompDirectiveNoFileComp
	}
	d, ok := api.DescriptorByName(args[0])
	if !ok {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := a.liveNames(cmd, d)
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args[1:], n) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSlash completes KIND/NAME and KIND/NAMESPACE/NAME.
func (a *app) completeSlash(cmd *cobra.Command, kind string) []string {
	d, ok := api.DescriptorByName(kind)
	if !ok {
		return nil
	}
	var out []string
	for _, o := range a.liveObjects(cmd, d.Kind, "") {
		k := o.Key()
		if d.Namespaced {
			out = append(out, kind+"/"+k.Namespace+"/"+k.Name)
			continue
		}
		out = append(out, kind+"/"+k.Name)
	}
	return out
}

// completeKindAndName is completeKindAndNames for a single name.
func (a *app) completeKindAndName(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeKindAndNames(cmd, args, typed)
}

// completeKinds completes the last of comma-separated kinds.
func completeKinds(cmd *cobra.Command, typed string) []string {
	done := ""
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		done = typed[:i+1]
	}
	var out []string
	for _, d := range api.Kinds() {
		out = append(out, done+d.Plural)
	}
	if done == "" && cmd.Name() == "get" {
		out = append(out, "all")
	}
	return out
}

// liveNames are the names of the resources of a kind on the server, or none
// if it does not answer at once.
func (a *app) liveNames(cmd *cobra.Command, d api.Descriptor) []string {
	namespace := ""
	if d.Namespaced && a.loadConfig(cmd) == nil {
		namespace = a.cfg.namespace()
	}
	var names []string
	for _, obj := range a.liveObjects(cmd, d.Kind, namespace) {
		names = append(names, obj.Key().Name)
	}
	return names
}

// liveObjects are the resources of a kind on the server, of one namespace or,
// if that is empty, of all; none if it does not answer at once.
func (a *app) liveObjects(cmd *cobra.Command, kind api.Kind, namespace string) []api.Object {
	if err := a.loadConfig(cmd); err != nil {
		return nil
	}
	creds, err := a.cfg.credentials()
	if err != nil || a.cfg.Etcd.used() { // to start a server takes too long
		return nil
	}
	c, err := client.New(client.Config{Server: a.cfg.Server, Credentials: creds, Timeout: completionTime})
	if err != nil {
		return nil
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	objs, _, err := c.List(ctx, kind, store.ListOptions{Namespace: namespace})
	if err != nil {
		return nil
	}
	return objs
}

// completeNamespace completes a namespace: of the Namespaces there are, and of
// what is in others.
func (a *app) completeNamespace(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := []string{"default"}
	for _, kind := range []api.Kind{api.KindNamespace, api.KindNetworkPolicy, api.KindNetworkSet, api.KindWorkloadEndpoint} {
		for _, o := range a.liveObjects(cmd, kind, "") {
			if kind == api.KindNamespace {
				names = append(names, o.Key().Name)
			} else {
				names = append(names, o.Key().Namespace)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// completeLabels completes a label selector by the labels of the resources of
// the kind that the command line names.
func (a *app) completeLabels(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	const how = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	if len(args) == 0 {
		return nil, how
	}
	done := ""
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		done = typed[:i+1]
	}
	d, ok := api.DescriptorByName(args[0])
	if !ok {
		return nil, how
	}
	var out []string
	for _, o := range a.liveObjects(cmd, d.Kind, "") {
		for k, v := range o.Metadata().Labels {
			out = append(out, done+k+"="+v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), how
}
