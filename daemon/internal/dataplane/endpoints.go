// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// hooking is one of the four places where an endpoint judges packets.
type hooking struct {
	prefix    string // of the endpoint's chain
	direction api.PolicyType
	forward   bool
}

var hookings = []hooking{
	{prefix: "hi-", direction: api.Ingress},
	{prefix: "ho-", direction: api.Egress},
	{prefix: "hfi-", direction: api.Ingress, forward: true},
	{prefix: "hfo-", direction: api.Egress, forward: true},
}

// planEndpoints plans the chains of endpoints that have changed. An endpoint
// that governs nothing (another one won its interface) has no chains.
func (p *Planner) planEndpoints() {
	if p.dirtyAll {
		for name := range p.endpoints {
			p.dirtyEndpoints[name] = true
		}
	}
	for name := range p.dirtyEndpoints {
		p.noteLists(name)
		ep := p.endpoints[name]
		if _, ok := p.governed[name]; !ok {
			ep = nil
		}
		for _, h := range hookings {
			p.planEndpoint(name, ep, h)
		}
	}
	clear(p.dirtyEndpoints)
}

// noteLists keeps usedBy true.
func (p *Planner) noteLists(name string) {
	for k := range p.lists[name] {
		delete(p.usedBy[k], name)
		if len(p.usedBy[k]) == 0 {
			delete(p.usedBy, k)
		}
	}
	delete(p.lists, name)
	ep := p.endpoints[name]
	if ep == nil {
		return
	}
	all := map[api.Key]bool{}
	for _, tiers := range [][]intent.Tier{ep.Tiers, ep.ForwardTiers} {
		for _, t := range tiers {
			for _, k := range append(append([]api.Key(nil), t.Ingress...), t.Egress...) {
				all[k] = true
				if p.usedBy[k] == nil {
					p.usedBy[k] = map[string]bool{}
				}
				p.usedBy[k][name] = true
			}
		}
	}
	p.lists[name] = all
}

func (p *Planner) planEndpoint(name string, ep *intent.HostEndpoint, h hooking) {
	wanted := map[string]bool{}
	if ep != nil && (!h.forward || judgesForward(ep, h.direction) || !p.settings.AllowInvalid) {
		for _, v := range p.variants(h.direction) {
			if h.forward && v.suffix != "" {
				continue
			}
			for chain, c := range p.endpointChains(h.prefix+name, ep, h, v) {
				wanted[chain] = true
				p.wantChain(chain, c)
			}
		}
	}
	for _, chain := range p.chainsOf[h.prefix+name] {
		if !wanted[chain] {
			p.unwantChain(chain)
		}
	}
	p.chainsOf[h.prefix+name] = p.chainsOf[h.prefix+name][:0]
	for chain := range wanted {
		p.chainsOf[h.prefix+name] = append(p.chainsOf[h.prefix+name], chain)
	}
	if len(wanted) == 0 {
		delete(p.chainsOf, h.prefix+name)
	}
}

// judgesForward reports whether any applyOnForward policy of this direction
// governs the endpoint; if none does, forwarded traffic is accepted here, bar
// packets that belong to no connection.
func judgesForward(ep *intent.HostEndpoint, d api.PolicyType) bool {
	for i := range ep.ForwardTiers {
		if len(tierPolicies(&ep.ForwardTiers[i], d)) > 0 {
			return true
		}
	}
	return false
}

func tierPolicies(t *intent.Tier, d api.PolicyType) []api.Key {
	if d == api.Ingress {
		return t.Ingress
	}
	return t.Egress
}

// endpointChains renders the chain of one endpoint at one place, with the
// chains of those of its tiers that need one.
func (p *Planner) endpointChains(base string, ep *intent.HostEndpoint, h hooking, v variant) map[string]*ruleset.Chain {
	out := map[string]*ruleset.Chain{}
	deny := func(comment string) ruleset.Rule {
		return ruleset.Rule{Action: ruleset.Action{Verb: v.deny}, Counter: true, Comment: comment}
	}
	jump := func(target string) ruleset.Rule {
		return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: target}}
	}

	var rules []ruleset.Rule
	if !p.settings.AllowInvalid {
		rules = append(rules, ruleset.Rule{
			Match:   ruleset.Match{CtState: ruleset.CtInvalid},
			Action:  ruleset.Action{Verb: ruleset.Drop},
			Counter: true, Comment: "invalid connection state",
		})
	}
	tiers := ep.ForwardTiers
	if !h.forward {
		tiers = ep.Tiers
		essential, failsafe := chainEssentialIn, chainFailsafeIn
		if h.direction == api.Egress {
			essential, failsafe = chainEssentialOut, chainFailsafeOut
		}
		toEssential := jump(essential)
		toEssential.Match = ruleset.Match{Family: ruleset.IPv6, Protocol: protoICMPv6}
		rules = append(rules, toEssential, jump(failsafe))
	}

	denied := false
	var said []api.Key // policies of this direction so far
	for i := range tiers {
		t := &tiers[i]
		list := tierPolicies(t, h.direction)
		if len(list) == 0 {
			continue
		}
		said = append(said, list...)
		own, chained := p.tierRules(list, h.direction, v)
		if !t.DefaultPass {
			own = append(own, keeping(deny("tier "+t.Name+" default"), p.keeps(list...)))
		}
		if !chained {
			rules = append(rules, own...)
			if !t.DefaultPass { // nothing gets past this tier
				denied = true
				break
			}
			continue
		}
		name := fmt.Sprintf("%s%s/%s", base, v.suffix, t.Name)
		out[name] = &ruleset.Chain{Rules: own}
		rules = append(rules, jump(name))
	}
	switch {
	case denied:
	case h.forward: // every tier passed the packet on
		rules = append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Accept}})
	default:
		for _, profile := range ep.Profiles {
			rules = append(rules, jump(profileChain(profile, h.direction)+v.suffix))
		}
		rules = append(rules, keeping(deny("no policy or profile allows it"), p.keeps(said...)))
	}
	out[base+v.suffix] = &ruleset.Chain{Rules: rules}
	return out
}

// tierRules jumps to the policies of a tier in order. If one of them can
// pass, the rules need a chain of their own, which Pass leaves.
func (p *Planner) tierRules(list []api.Key, d api.PolicyType, v variant) (rules []ruleset.Rule, chained bool) {
	for _, k := range list {
		rules = append(rules, ruleset.Rule{
			Action: ruleset.Action{Verb: ruleset.Jump, Target: policyChain(k, d) + v.suffix},
		})
		if p.passes[k][d] {
			chained = true
			rules = append(rules, ruleset.Rule{
				Match:  ruleset.Match{Mark: MarkPass, MarkMask: MarkPass},
				Action: ruleset.Action{Verb: ruleset.Goto, Target: chainPassDone},
			})
		}
	}
	if chained { // another program may have left the bit set
		rules = append([]ruleset.Rule{clearPass()}, rules...)
	}
	return rules, chained
}
