// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Whether flows that a change no longer allows are kept depends on who denies
// them now. A Deny rule keeps them if its policy does. The end of a tier does
// if all policies of the tier do that judge the endpoint in this direction;
// the end of the profiles if all policies of all tiers do. If the settings
// keep flows, every denial does.

// keeps reports whether a denial by all of these policies together keeps
// flows; by none, it is the settings that say so.
func (p *Planner) keeps(policies ...api.Key) bool {
	if p.settings.KeepFlows {
		return true
	}
	for _, k := range policies {
		if pol := p.policies[k]; pol == nil || !pol.KeepFlows {
			return false
		}
	}
	return len(policies) > 0
}

func keeping(r ruleset.Rule, keep bool) ruleset.Rule {
	r.KeepFlows = keep
	return r
}

// key is the policy that a list of rules comes from; of a profile, a key that
// no policy has.
func (o origin) key() api.Key {
	kind := map[string]api.Kind{"gnp": api.KindGlobalNetworkPolicy, "np": api.KindNetworkPolicy}[o.kind]
	return api.Key{Kind: kind, Namespace: o.namespace, Name: o.name}
}

// noteKeeping plans the endpoints that list a policy again if it has begun or
// ceased to keep flows, because the ends of their tiers depend on it.
func (p *Planner) noteKeeping(k api.Key, pol *intent.Policy) {
	is := pol != nil && pol.KeepFlows
	if p.keeping[k] == is {
		return
	}
	delete(p.keeping, k)
	if is {
		p.keeping[k] = true
	}
	for ep := range p.usedBy[k] {
		p.dirtyEndpoints[ep] = true
	}
}
