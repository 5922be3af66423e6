// SPDX-License-Identifier: Apache-2.0

package command

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

// completeFlow completes the next word of a flow: what may stand there, with
// hosts, endpoints and workloads by their names on the server.
func (a *app) completeFlow(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	switch {
	case last == "":
		return []string{"tcp", "udp", "sctp", "udplite", "icmp", "icmpv6", "proto"}, cobra.ShellCompDirectiveNoFileComp
	case last == "from":
		return a.livePlaces(cmd), cobra.ShellCompDirectiveNoFileComp
	case last == "to": // a port may follow
		return a.livePlaces(cmd), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	case last == "through":
		return a.liveHosts(cmd), cobra.ShellCompDirectiveNoFileComp
	case last == "state":
		return []string{"new", "established", "related", "invalid", "untracked"}, cobra.ShellCompDirectiveNoFileComp
	case slices.Contains([]string{"proto", "type", "code", "sport", "at", "via", "in", "out", "dialled"}, last):
		return nil, cobra.ShellCompDirectiveNoFileComp // a number, an address, an interface
	}
	return nextFlowWords(args), cobra.ShellCompDirectiveNoFileComp
}

// nextFlowWords are the words that may follow a whole part of a flow.
func nextFlowWords(args []string) []string {
	has := func(word string) bool { return slices.Contains(args, word) }
	var words []string
	icmp := strings.HasPrefix(args[0], "icmp")
	switch {
	case !has("from") && icmp && !has("type"):
		return []string{"type", "from"}
	case !has("from") && icmp && !has("code"):
		return []string{"code", "from"}
	case !has("from"):
		return []string{"from"}
	case !has("to"):
		words = append(words, "to")
	}
	words = append(words, "at", "via") // of each end
	for _, once := range []string{"sport", "state", "dialled", "through"} {
		if !has(once) && !(icmp && once == "sport") {
			words = append(words, once)
		}
	}
	if has("through") {
		words = append(words, "in", "out")
	}
	return words
}

// livePlaces are the hosts, host endpoints and workloads on the server.
func (a *app) livePlaces(cmd *cobra.Command) []string {
	places := append(a.liveHosts(cmd), "this-host")
	for _, o := range a.liveObjects(cmd, api.KindHostEndpoint, "") {
		places = append(places, "hep/"+o.Key().Name)
	}
	for _, o := range a.liveObjects(cmd, api.KindWorkloadEndpoint, "") {
		places = append(places, "workload/"+o.Key().Namespace+"/"+o.Key().Name)
	}
	return places
}

// liveHosts are the hosts that a Node or an endpoint on the server is of.
func (a *app) liveHosts(cmd *cobra.Command) []string {
	var hosts []string
	for _, kind := range []api.Kind{api.KindNode, api.KindHostEndpoint, api.KindWorkloadEndpoint} {
		for _, obj := range a.liveObjects(cmd, kind, "") {
			switch o := obj.(type) {
			case *api.Node:
				hosts = append(hosts, "host/"+o.Name)
			case *api.HostEndpoint:
				hosts = append(hosts, "host/"+o.Spec.Node)
			case *api.WorkloadEndpoint:
				hosts = append(hosts, "host/"+o.Spec.Node)
			}
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
