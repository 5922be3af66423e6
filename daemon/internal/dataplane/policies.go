// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// sort is what a policy is about. Its chains are named for it, so that one
// that turns into another sort is never met in the wrong place.
type sort uint8

const (
	sortNormal sort = iota
	sortUntracked
	sortPreDNAT
)

func sortOf(p *intent.Policy) sort {
	switch {
	case p.Untracked:
		return sortUntracked
	case p.PreDNAT:
		return sortPreDNAT
	}
	return sortNormal
}

// policyChain is the name of a policy's chain in one rendering: "pi-gnp/web".
func policyChain(k api.Key, d api.PolicyType, v variant) string {
	return map[sort]string{sortNormal: "p", sortUntracked: "u", sortPreDNAT: "d"}[v.sort] + policyName(k, d) + v.suffix
}

func policyName(k api.Key, d api.PolicyType) string {
	o := policyOrigin(k, "", d)
	name := o.kind + "/" + o.name
	if o.namespace != "" {
		name = o.kind + "/" + o.namespace + "/" + o.name
	}
	if d == api.Ingress {
		return "i-" + name
	}
	return "o-" + name
}

func profileChain(name string, d api.PolicyType) string {
	if d == api.Ingress {
		return "pri-" + name
	}
	return "pro-" + name
}

func (p *Planner) planPolicies() {
	for k := range p.dirtyPolicies {
		pol := p.policies[k]
		for _, d := range []api.PolicyType{api.Ingress, api.Egress} {
			wanted, single := map[string]bool{}, map[string]bool{}
			if pol != nil {
				list := pol.Ingress
				if d == api.Egress {
					list = pol.Egress
				}
				for _, v := range p.sortVariants(sortOf(pol), d) {
					name := policyChain(k, d, v)
					o := policyOrigin(k, pol.Tier, d)
					if p.compiler != nil {
						single[name] = true
						p.wantRuleChains(name, list, o, v)
						if !p.compiler.oneByOne[k] {
							continue
						}
					}
					wanted[name] = true
					p.wantChain(name, &ruleset.Chain{Rules: p.policyRules(list, o, v)})
				}
			}
			for _, v := range everyVariant {
				name := policyChain(k, d, v)
				if !wanted[name] {
					p.unwantChain(name)
				}
				if p.compiler != nil && !single[name] {
					p.wantRuleChains(name, nil, origin{}, v)
				}
			}
		}
	}
	clear(p.dirtyPolicies)
}

// notePasses remembers in which directions a policy has a Pass. When that
// changes, the endpoints that list the policy are planned again, because
// their tiers check for Pass only behind policies that can pass.
func (p *Planner) notePasses(k api.Key, pol *intent.Policy) {
	was := p.passes[k]
	var is map[api.PolicyType]bool
	if pol != nil {
		is = map[api.PolicyType]bool{api.Ingress: hasPass(pol.Ingress), api.Egress: hasPass(pol.Egress)}
	}
	if was[api.Ingress] != is[api.Ingress] || was[api.Egress] != is[api.Egress] {
		for ep := range p.usedBy[k] {
			p.dirtyEndpoints[ep] = true
		}
	}
	if is == nil {
		delete(p.passes, k)
		return
	}
	p.passes[k] = is
}

func hasPass(list []intent.Rule) bool {
	for i := range list {
		if list[i].Action == api.Pass && !list[i].Never {
			return true
		}
	}
	return false
}

func (p *Planner) planProfiles() {
	for name := range p.dirtyProfiles {
		pro := p.profiles[name]
		for _, d := range []api.PolicyType{api.Ingress, api.Egress} {
			chain := profileChain(name, d)
			if pro == nil {
				p.unwantChain(chain)
				p.unwantChain(chain + natSuffix)
				if p.compiler != nil {
					p.wantRuleChains(chain, nil, origin{}, variant{})
					p.wantRuleChains(chain+natSuffix, nil, origin{}, variant{})
				}
				continue
			}
			list := pro.Ingress
			if d == api.Egress {
				list = pro.Egress
			}
			p.wantVariants(chain, list, origin{kind: kindProfile, name: name, direction: d}, d)
		}
	}
	clear(p.dirtyProfiles)
}

// wantVariants plans one chain of a profile in every rendering that is needed.
func (p *Planner) wantVariants(name string, list []intent.Rule, o origin, d api.PolicyType) {
	vs := p.variants(d)
	for _, v := range vs {
		if p.compiler != nil {
			p.wantRuleChains(name+v.suffix, list, o, v)
			if !p.compiler.profileOneByOne[o.name] {
				p.unwantChain(name + v.suffix)
				continue
			}
		}
		p.wantChain(name+v.suffix, &ruleset.Chain{Rules: p.policyRules(list, o, v)})
	}
	if len(vs) == 1 {
		p.unwantChain(name + natSuffix)
		if p.compiler != nil {
			p.wantRuleChains(name+natSuffix, nil, o, variant{})
		}
	}
}
