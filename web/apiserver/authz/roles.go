// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/web/apiserver/authn"
)

// The built-in roles. They are never stored and cannot be changed.
const (
	RoleViewer   = "viewer"
	RoleOperator = "operator"
	RoleAdmin    = "admin"
	RoleNode     = "node"
)

// reads are the verbs that change nothing.
var reads = []string{"get", "list", "watch"}

// operated are the kinds that an operator writes: what says which packets may
// pass, and where. The settings of the fleet, what agents say of themselves,
// and who may do what are the admin's.
var operated = []api.Kind{
	api.KindTier, api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy,
	api.KindGlobalNetworkSet, api.KindNetworkSet, api.KindProfile, api.KindHostEndpoint, api.KindWorkloadEndpoint,
	api.KindIPPool, api.KindNamespace, api.KindPolicyTest,
}

// enforced are the kinds that an agent has to know to enforce policy on its
// host: those of other hosts too, since selectors pick them as peers.
var enforced = []api.Kind{
	api.KindTier, api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy,
	api.KindGlobalNetworkSet, api.KindNetworkSet, api.KindProfile, api.KindHostEndpoint, api.KindWorkloadEndpoint,
	api.KindIPPool, api.KindNamespace, api.KindFelixConfiguration, api.KindClusterInformation,
	api.KindChange,
}

// names are kinds as rules name them.
func names(kinds []api.Kind) []string {
	var out []string
	for _, k := range kinds {
		out = append(out, string(k))
	}
	return out
}

// viewed are all kinds, and what is a part of them, but for credentials.
func viewed() []string {
	var out []string
	for _, d := range api.Kinds() {
		if d.Kind == api.KindCredential {
			continue
		}
		out = append(out, string(d.Kind))
		if api.HasStatus(d.Kind) {
			out = append(out, string(d.Kind)+"/status")
		}
	}
	return out
}

// builtin are the rules of a built-in role for somebody; nil if there is no
// such role.
func builtin(role string, id authn.Identity) Rules {
	switch role {
	case RoleViewer:
		return Rules{{Verbs: reads, Kinds: viewed()}}
	case RoleOperator:
		return Rules{{Verbs: reads, Kinds: viewed()}, {Verbs: []string{api.AllOfThem}, Kinds: names(operated)}}
	case RoleAdmin:
		return Rules{{Verbs: []string{api.AllOfThem}, Kinds: []string{api.AllOfThem}}}
	case RoleNode:
		return nodeRules(id)
	}
	return nil
}

// nodeRules are the rights of the agent of one host. It reads what it
// enforces, and of what hosts say of themselves it reads and writes its own.
// It does not write endpoints, not even its own: their labels and addresses
// decide what other hosts let in. They are empty for who is no host.
func nodeRules(id authn.Identity) Rules {
	host, is := strings.CutPrefix(id.User, authn.UserNodePrefix)
	if !is || host == "" {
		return nil
	}
	return Rules{
		{Verbs: reads, Kinds: names(enforced)},
		{
			Verbs: []string{"get", "list", "watch", "create", "update", "patch"},
			Kinds: []string{string(api.KindNode), string(api.KindNode) + "/status", string(api.KindHostStatus), string(api.KindHostStatus) + "/status"},
			Names: []string{host},
		},
	}
}

// given are the built-in roles that a group has without a binding.
func given(groups []string) []string {
	var roles []string
	if slices.Contains(groups, authn.GroupAdmins) {
		roles = append(roles, RoleAdmin)
	}
	if slices.Contains(groups, authn.GroupNodes) {
		roles = append(roles, RoleNode)
	}
	return roles
}
