// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// stage is what an endpoint judges at a place.
type stage uint8

const (
	stageNormal    stage = iota + 1 // traffic of the host, or of the workload
	stageForward                    // what the host forwards: applyOnForward policies
	stageUntracked                  // before connection tracking: doNotTrack policies
	stagePreDNAT                    // before destination NAT: preDNAT policies
	stageSource                     // whether a workload is who it says it is
)

// denies reports whether the end of a tier denies at a stage.
func (s stage) denies() bool { return s == stageNormal || s == stageForward }

// place is one of the places where endpoints judge packets.
type place struct {
	prefix    string // of the endpoints' chains
	direction api.PolicyType
	stage     stage
	dispatch  string // the map that leads there
}

const prefixSource = "wr-"

var (
	hostPlaces = []place{
		{"hui-", api.Ingress, stageUntracked, mapRawIn},
		{"huo-", api.Egress, stageUntracked, mapRawOut},
		{"hpi-", api.Ingress, stagePreDNAT, mapPreDNAT},
		{"hi-", api.Ingress, stageNormal, mapIn},
		{"ho-", api.Egress, stageNormal, mapOut},
		{"hfi-", api.Ingress, stageForward, mapForwardIn},
		{"hfo-", api.Egress, stageForward, mapForwardOut},
	}
	workloadPlaces = []place{
		{prefixSource, api.Egress, stageSource, mapRawIn},
		{"wo-", api.Egress, stageNormal, mapFromWorkload},
		{"wi-", api.Ingress, stageNormal, mapToWorkload},
	}
)

// subject is an endpoint in planning: one of the two.
type subject struct {
	host     *intent.HostEndpoint
	workload *intent.WorkloadEndpoint
}

// tiers are those that judge at a stage.
func (s *subject) tiers(st stage) []intent.Tier {
	switch {
	case s.workload != nil:
		return s.workload.Tiers
	case st == stageForward:
		return s.host.ForwardTiers
	case st == stageUntracked && s.host.Interface == api.AllInterfaces:
		return nil // not for wildcard endpoints
	case st == stageUntracked:
		return s.host.UntrackedTiers
	case st == stagePreDNAT:
		return s.host.PreDNATTiers
	}
	return s.host.Tiers
}

// judges reports whether any policy of a stage speaks for a direction.
func (s *subject) judges(st stage, d api.PolicyType) bool {
	tiers := s.tiers(st)
	for i := range tiers {
		if len(tierPolicies(&tiers[i], d)) > 0 {
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

// listed are all tiers of an endpoint.
func (s *subject) listed() [][]intent.Tier {
	if s.workload != nil {
		return [][]intent.Tier{s.workload.Tiers}
	}
	return [][]intent.Tier{s.host.Tiers, s.host.ForwardTiers, s.host.UntrackedTiers, s.host.PreDNATTiers}
}

// subject is the endpoint of a name; nil: there is none.
func (p *Planner) subject(name string) *subject {
	if ep := p.workloads[name]; ep != nil {
		return &subject{workload: ep}
	}
	if ep := p.endpoints[name]; ep != nil {
		return &subject{host: ep}
	}
	return nil
}

// planEndpoints plans the chains of endpoints that have changed. An endpoint
// that governs nothing (another one won its interface) has no chains.
func (p *Planner) planEndpoints() {
	if p.dirtyAll {
		for name := range p.endpoints {
			p.dirtyEndpoints[name] = true
		}
		for name := range p.workloads {
			p.dirtyEndpoints[name] = true
		}
	}
	for name := range p.dirtyEndpoints {
		s := p.subject(name)
		p.noteLists(name, s)
		_, governs := p.governed[name]
		for i := range hostPlaces {
			pl := &hostPlaces[i]
			there := governs || pl.dispatch == mapRawOut && holds(p.beside, name)
			p.planEndpoint(name, s, pl, s != nil && s.host != nil && there)
		}
		for i := range workloadPlaces {
			p.planEndpoint(name, s, &workloadPlaces[i], s != nil && s.workload != nil && governs)
		}
	}
	clear(p.dirtyEndpoints)
}

// noteLists keeps usedBy true.
func (p *Planner) noteLists(name string, s *subject) {
	for k := range p.lists[name] {
		delete(p.usedBy[k], name)
		if len(p.usedBy[k]) == 0 {
			delete(p.usedBy, k)
		}
	}
	delete(p.lists, name)
	if s == nil {
		return
	}
	all := map[api.Key]bool{}
	for _, tiers := range s.listed() {
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

func (p *Planner) planEndpoint(name string, s *subject, pl *place, has bool) {
	base := pl.prefix + name
	var vs []variant
	if has {
		vs = p.placeVariants(s, pl)
	}
	if p.compiler != nil && pl.stage != stageSource {
		plain := pl.stage != stageNormal && has && !s.judges(pl.stage, pl.direction) // nothing to compile
		units := vs
		if plain {
			units = nil
		}
		p.compiler.setUnits(base, name, s, pl, units)
		was := p.compiler.plain[base]
		delete(p.compiler.plain, base)
		if !plain {
			if was && len(vs) == 0 {
				p.setChains(base, nil)
			}
			return
		}
		p.compiler.plain[base] = true
	}
	chains := map[string]*ruleset.Chain{}
	for _, v := range vs {
		maps.Copy(chains, p.endpointChains(base, s, pl, v))
	}
	p.setChains(base, chains)
}

// setChains wants the chains of one thing, and no others that it had.
func (p *Planner) setChains(of string, chains map[string]*ruleset.Chain) {
	for _, chain := range p.chainsOf[of] {
		if chains[chain] == nil {
			p.unwantChain(chain)
		}
	}
	for chain, c := range chains {
		p.wantChain(chain, c)
	}
	p.chainsOf[of] = slices.Collect(maps.Keys(chains))
	if len(chains) == 0 {
		delete(p.chainsOf, of)
	}
}

// placeVariants are the renderings of an endpoint's chain at a place; none:
// it does not judge there.
func (p *Planner) placeVariants(s *subject, pl *place) []variant {
	switch pl.stage {
	case stageUntracked:
		if pl.direction == api.Ingress || s.judges(pl.stage, pl.direction) {
			return []variant{untrackedVariant}
		}
		return nil
	case stagePreDNAT:
		if s.judges(pl.stage, pl.direction) {
			return []variant{preDNATVariant}
		}
		return nil
	case stageNormal:
		if s.host != nil {
			return p.variants(pl.direction)
		}
	}
	return p.variants(pl.direction)[:1]
}

// endpointChains renders the chain of one endpoint at one place, with the
// chains of those of its tiers that need one.
func (p *Planner) endpointChains(base string, s *subject, pl *place, v variant) map[string]*ruleset.Chain {
	out := map[string]*ruleset.Chain{}
	if pl.stage == stageSource {
		out[base] = &ruleset.Chain{Rules: sourceRules(s.workload)}
		return out
	}
	rules := p.head(s, pl)
	denies := pl.stage.denies()
	denied := false
	tiers := s.tiers(pl.stage)
	var said []api.Key // policies of this direction so far
	for i := range tiers {
		t := &tiers[i]
		list := tierPolicies(t, pl.direction)
		if len(list) == 0 {
			continue
		}
		said = append(said, list...)
		own, chained := p.tierRules(list, pl, v)
		last := denies && !t.DefaultPass // nothing gets past this tier, but by Pass
		if last {
			own = append(own, keeping(deny(v, "tier "+t.Name+" default"), p.keeps(list...)))
		}
		if !chained {
			rules = append(rules, own...)
			if last {
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
	case pl.stage == stageNormal:
		profiles := s.profiles()
		for _, profile := range profiles {
			rules = append(rules, jump(profileChain(profile, pl.direction)+v.suffix))
		}
		rules = append(rules, keeping(deny(v, "no policy or profile allows it"), p.keeps(said...)))
	default: // nobody has said anything
		rules = append(rules, yield(ruleset.Match{}))
	}
	out[base+v.suffix] = &ruleset.Chain{Rules: rules}
	return out
}

func (s *subject) profiles() []string {
	if s.workload != nil {
		return s.workload.Profiles
	}
	return s.host.Profiles
}

func deny(v variant, comment string) ruleset.Rule {
	return ruleset.Rule{Action: ruleset.Action{Verb: v.deny}, Counter: true, Comment: comment}
}

func jump(target string) ruleset.Rule {
	return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: target}}
}

// head is what comes before the tiers of an endpoint.
func (p *Planner) head(s *subject, pl *place) []ruleset.Rule {
	var rules []ruleset.Rule
	judges := s.judges(pl.stage, pl.direction)
	add := func(r ...ruleset.Rule) { rules = append(rules, r...) }
	established := ruleset.Rule{
		Match:  ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated},
		Action: ruleset.Action{Verb: ruleset.Accept},
	}
	invalid := func() {
		match := ruleset.Match{CtState: ruleset.CtInvalid}
		if !p.settings.AllowInvalid {
			add(refuse(match, "invalid connection state"))
			return
		}
		add(ruleset.Rule{Match: match, Action: ruleset.Action{Verb: ruleset.Jump, Target: chainNoPorts}})
	}
	essential, failsafe, rawFailsafe := chainEssentialIn, chainFailsafeIn, chainFailsafeRawIn
	if pl.direction == api.Egress {
		essential, failsafe, rawFailsafe = chainEssentialOut, chainFailsafeOut, chainFailsafeRawOut
	}
	switch pl.stage {
	case stageUntracked:
		if pl.direction == api.Ingress && s.host.Interface != loopback {
			add(jump(chainLoopbackGuard))
		}
		if judges {
			add(s.untrackedMTU()...)
			add(toEssential(essential), jump(rawFailsafe))
		}
	case stagePreDNAT:
		if s.judges(stageUntracked, pl.direction) { // accepted already
			add(ruleset.Rule{Match: marked(MarkAccept), Action: ruleset.Action{Verb: ruleset.Accept}})
		}
		add(established)
		add(s.untrackedMTU()...)
		invalid()
		add(toEssential(essential), jump(failsafe))
	case stageForward:
		add(s.accepted(pl.direction)...)
		if judges {
			add(established)
		}
		add(s.untrackedMTU()...)
		invalid()
	case stageNormal:
		if s.host != nil {
			add(s.accepted(pl.direction)...)
		}
		add(established)
		add(s.untrackedMTU()...)
		invalid()
		switch {
		case s.host != nil:
			add(toEssential(essential), jump(failsafe))
		case pl.direction == api.Egress:
			add(p.encapsulated()...)
		}
	}
	return rules
}

// accepted lets pass what an earlier stage of the endpoint has accepted as it
// came in. (What goes out is looked at in the base chain.)
func (s *subject) accepted(d api.PolicyType) []ruleset.Rule {
	if d == api.Egress || !s.judges(stageUntracked, d) && !s.judges(stagePreDNAT, d) {
		return nil
	}
	return one(toAccepted())
}

func toAccepted() ruleset.Rule {
	return ruleset.Rule{Match: marked(MarkAccept), Action: ruleset.Action{Verb: ruleset.Goto, Target: chainAccepted}}
}

// tierRules jumps to the policies of a tier in order. If one of them can
// pass, the rules need a chain of their own, which Pass leaves.
func (p *Planner) tierRules(list []api.Key, pl *place, v variant) (rules []ruleset.Rule, chained bool) {
	for _, k := range list {
		rules = append(rules, jump(policyChain(k, pl.direction, v)))
		if p.passes[k][pl.direction] {
			chained = true
			rules = append(rules, ruleset.Rule{
				Match: marked(MarkPass), Action: ruleset.Action{Verb: ruleset.Goto, Target: chainPassDone},
			})
		}
	}
	if chained { // another program may have left the bit set
		rules = append(one(clearMark(MarkPass)), rules...)
	}
	return rules, chained
}
