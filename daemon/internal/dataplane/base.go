// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"

// Priorities of the base chains. Before connection tracking (-200), before
// destination NAT (-100), and where filters stand. Base chains of one hook
// have different ones, so that their order is no accident.
const (
	priorityRaw     = -300
	priorityPreDNAT = -150
	priorityFilter  = 0
)

// The chains that packets of interfaces with a workload's prefix go to.
const (
	chainToThisHost  = "workloads-input"
	chainThroughFrom = "workloads-forward-from"
	chainThroughTo   = "workloads-forward-to"
)

// planBases plans the base chains. Each asks the endpoint of the packet's
// interface, then the wildcard endpoint, and accepts what is nobody's. The
// explicit drop at the end is never reached; it stands there so that nothing
// depends on the chain's policy. While the operator has paused policy they ask
// nobody, and leave everything to others.
func (p *Planner) planBases() {
	in := func(m string) ruleset.Rule {
		return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: m}}
	}
	out := func(m string) ruleset.Rule {
		return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.DispatchOut, Target: m}}
	}
	filter, mangle := p.settings.YieldFilter, p.settings.YieldMangle

	p.wantBase("raw-in", ruleset.Chain{Hook: ruleset.HookPrerouting, Priority: priorityRaw},
		one(clearMark(MarkAccept)), // a stranger's means nothing
		one(in(mapRawIn)), p.unknown(fromUnknown), p.toWildcard("hui-"))
	p.wantBase("raw-out", ruleset.Chain{Hook: ruleset.HookOutput, Priority: priorityRaw},
		one(clearMark(MarkAccept)), p.ifAsked(out(mapRawOut), nil))
	p.wantBase("pre-dnat", ruleset.Chain{Hook: ruleset.HookPrerouting, Priority: priorityPreDNAT, Yield: mangle},
		one(dropCut()), p.ifAsked(in(mapPreDNAT), p.toWildcard("hpi-")))

	// What a workload's policy lets through to the host goes on to input,
	// where EndpointToHost has the last word.
	p.wantBase("input-workload", ruleset.Chain{Hook: ruleset.HookInput, Priority: priorityFilter - 1, Yield: true},
		p.prefixed(chainToThisHost, fromUnknown, toEssential(chainEssentialWorkload), in(mapFromWorkload)))
	p.wantBase("input", ruleset.Chain{Hook: ruleset.HookInput, Priority: priorityFilter, Yield: filter},
		one(in(mapIn)), p.unknown(fromUnknown), p.toWildcard("hi-"))

	p.wantBase("forward-in", ruleset.Chain{Hook: ruleset.HookForward, Priority: priorityFilter, Yield: filter},
		p.ifAsked(in(mapForwardIn), p.toWildcard("hfi-")))
	p.wantBase("forward-from-workload", ruleset.Chain{Hook: ruleset.HookForward, Priority: priorityFilter + 1, Yield: filter},
		p.prefixed(chainThroughFrom, fromUnknown, in(mapFromWorkload)))
	p.wantBase("forward-to-workload", ruleset.Chain{Hook: ruleset.HookForward, Priority: priorityFilter + 2, Yield: filter},
		p.prefixed(chainThroughTo, toUnknown, out(mapToWorkload)))
	p.wantBase("forward-out", ruleset.Chain{Hook: ruleset.HookForward, Priority: priorityFilter + 3, Yield: filter},
		p.ifAsked(out(mapForwardOut), p.toWildcard("hfo-")))

	// A rewritten destination may leave by another interface than the one
	// that the hook output sees: judged in postrouting instead.
	// So may what another program's mark reroutes; whatever an untracked
	// policy has allowed where it was to go out first is not judged again.
	p.wantBase("output", ruleset.Chain{Hook: ruleset.HookOutput, Priority: priorityFilter, Yield: filter},
		one(dropCut()), one(yield(ruleset.Match{DNATed: true})), p.untrackedOut(), one(out(mapOut)), p.ownWorkloads(), p.toWildcard("ho-"))
	suffix := ""
	if p.natVariant() {
		suffix = natSuffix
	}
	rewritten := [][]ruleset.Rule{one(out(mapOut + suffix)), p.ownWorkloads(), p.toWildcardAs("ho-", suffix)}
	for _, part := range rewritten {
		for i := range part {
			part[i].Match.FromHost, part[i].Match.DNATed = true, true
		}
	}
	p.wantBase("output-nat", ruleset.Chain{Hook: ruleset.HookPostrouting, Priority: priorityFilter, Yield: true}, rewritten...)
}

// dropCut drops what belongs to connections that were ended. It stands where
// every tracked packet comes by, of both directions and on whatever interface:
// once as it comes in, once as this host sends it.
func dropCut() ruleset.Rule {
	return ruleset.Rule{Match: ruleset.Match{Cut: true}, Action: ruleset.Action{Verb: ruleset.Drop}, Counter: true, Comment: "flow that was cut"}
}

// ifAsked looks an interface up in a map, then asks the wildcard endpoint; if
// there is no chain that either could lead to, it is left out, and the packet
// passes.
func (p *Planner) ifAsked(lookUp ruleset.Rule, wildcard []ruleset.Rule) []ruleset.Rule {
	for _, e := range p.entries[lookUp.Action.Target] {
		if e.Chain != "" {
			return append(one(lookUp), wildcard...)
		}
	}
	if len(wildcard) > 0 {
		return append(one(lookUp), wildcard...)
	}
	return nil
}

// prefixed are the rules for packets of workloads' interfaces, and behind
// them what drops those of unknown ones. If all workloads' interfaces have a
// workload's prefix, the rules stand in a chain of their own, and other packets
// need not go through them.
func (p *Planner) prefixed(chain string, match func(prefix string) ruleset.Match, rules ...ruleset.Rule) []ruleset.Rule {
	for iface := range p.taken {
		if !p.hasPrefix(iface) {
			p.unwantChain(chain)
			return append(rules, p.unknown(match)...)
		}
	}
	p.wantChain(chain, &ruleset.Chain{Rules: append(rules, dropUnknown(ruleset.Match{}))})
	var out []ruleset.Rule
	for _, prefix := range p.settings.WorkloadPrefixes {
		if prefix != "" {
			out = append(out, ruleset.Rule{Match: match(prefix), Action: ruleset.Action{Verb: ruleset.Goto, Target: chain}})
		}
	}
	return out
}

// untrackedOut lets pass what an untracked egress policy has allowed, if there
// is any such policy: else the mark is a stranger's.
func (p *Planner) untrackedOut() []ruleset.Rule {
	if len(p.entries[mapRawOut]) == 0 {
		return nil
	}
	return one(toAccepted())
}

func (p *Planner) wantBase(name string, c ruleset.Chain, parts ...[]ruleset.Rule) {
	for _, part := range parts {
		if p.paused {
			break // what is behind them stays: to resume is one small change
		}
		c.Rules = append(c.Rules, part...)
	}
	c.Rules = append(c.Rules, yield(ruleset.Match{}), ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})
	p.wantChain(name, &c)
}

func one(r ruleset.Rule) []ruleset.Rule { return []ruleset.Rule{r} }

// yield accepts what we have nothing against, and leaves it to others.
func yield(m ruleset.Match) ruleset.Rule {
	return ruleset.Rule{Match: m, Action: ruleset.Action{Verb: ruleset.Accept, Yield: true}}
}

// Ways of packets that have to do with a workload's interface.
func fromUnknown(prefix string) ruleset.Match { return ruleset.Match{InPrefix: prefix} }
func toUnknown(prefix string) ruleset.Match   { return ruleset.Match{OutPrefix: prefix} }

// unknown drops what comes from or goes to an interface with a workload's
// prefix that no endpoint is for. It stands behind the look-up in the map.
func (p *Planner) unknown(match func(prefix string) ruleset.Match) []ruleset.Rule {
	var rules []ruleset.Rule
	for _, prefix := range p.settings.WorkloadPrefixes {
		if prefix != "" {
			rules = append(rules, dropUnknown(match(prefix)))
		}
	}
	return rules
}

func dropUnknown(m ruleset.Match) ruleset.Rule {
	return ruleset.Rule{Match: m, Action: ruleset.Action{Verb: ruleset.Drop}, Counter: true, Comment: "unknown workload interface"}
}

// ownWorkloads accepts what the host sends to interfaces with a workload's
// prefix: a host may always reach its own workloads.
func (p *Planner) ownWorkloads() []ruleset.Rule {
	var rules []ruleset.Rule
	for _, prefix := range p.settings.WorkloadPrefixes {
		if prefix != "" {
			rules = append(rules, yield(ruleset.Match{OutPrefix: prefix}))
		}
	}
	return rules
}

// toWildcard hands what no other endpoint governs to the wildcard endpoint,
// if it judges at that place.
func (p *Planner) toWildcard(prefix string) []ruleset.Rule { return p.toWildcardAs(prefix, "") }

func (p *Planner) toWildcardAs(prefix, suffix string) []ruleset.Rule {
	chain := prefix + p.wildcard + suffix
	if p.wildcard == "" || !p.hasChain(chain) {
		return nil
	}
	return one(ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Goto, Target: chain}})
}
