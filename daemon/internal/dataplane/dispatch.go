// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// loopback is never governed by a wildcard endpoint: what a host says to
// itself is nobody else's business, and cutting it locks the host out of its
// own datastore.
const loopback = "lo"

// resolve decides which endpoint governs which interface. An endpoint claims
// the interface it names, there or not yet there, or, naming none, those that
// hold one of its expectedIPs, bar loopback: an address of the host that is
// kept there is not reached by way of it. Of several claims the lowest name wins. A
// wildcard endpoint (the lowest name of several) takes the interfaces that
// nobody claims, bar loopback, excluded and workload interfaces.
func (p *Planner) resolve() {
	claims := map[string]string{}
	claim := func(iface, endpoint string) {
		if have, ok := claims[iface]; !ok || endpoint < have {
			claims[iface] = endpoint
		}
	}
	wildcard := ""
	for name, ep := range p.endpoints {
		switch ep.Interface {
		case api.AllInterfaces:
			if wildcard == "" || name < wildcard {
				wildcard = name
			}
		case "":
			for iface, i := range p.interfaces {
				if iface != loopback && holdsOneOf(i, ep.ExpectedIPs) {
					claim(iface, name)
				}
			}
		default:
			claim(ep.Interface, name)
		}
	}

	governed := map[string][]string{}
	for _, iface := range slices.Sorted(maps.Keys(claims)) {
		governed[claims[iface]] = append(governed[claims[iface]], iface)
	}
	exempt := map[string]bool{}
	if wildcard != "" {
		governed[wildcard] = nil
		exempt[loopback] = true
		for _, iface := range slices.Sorted(maps.Keys(p.interfaces)) {
			switch {
			case claims[iface] != "":
			case p.isExempt(iface):
				exempt[iface] = true
			default:
				governed[wildcard] = append(governed[wildcard], iface)
			}
		}
	}
	for name := range p.endpoints {
		_, was := p.governed[name]
		if _, is := governed[name]; was != is {
			p.dirtyEndpoints[name] = true
		}
	}
	p.claims, p.exempt, p.wildcard, p.governed = claims, exempt, wildcard, governed
}

func holdsOneOf(i *intent.Interface, addrs []netip.Addr) bool {
	for _, a := range addrs {
		if slices.Contains(i.Addrs, a) {
			return true
		}
	}
	return false
}

func (p *Planner) isExempt(iface string) bool {
	if iface == loopback {
		return true
	}
	for _, prefix := range p.settings.WorkloadPrefixes {
		if prefix != "" && strings.HasPrefix(iface, prefix) {
			return true
		}
	}
	for _, pattern := range p.settings.InterfaceExclude {
		if pattern == iface {
			return true
		}
		if len(pattern) > 2 && pattern[0] == '/' && pattern[len(pattern)-1] == '/' {
			if re, err := regexp.Compile(pattern[1 : len(pattern)-1]); err == nil && re.MatchString(iface) {
				return true
			}
		}
	}
	return false
}

// The dispatch maps, one for each kind of endpoint chain.
var dispatchMaps = map[string]string{"hi-": "in", "ho-": "out", "hfi-": "forward-in", "hfo-": "forward-out"}

// planDispatch plans the maps from interface to chain and the base chains,
// whose last but one rule is the wildcard endpoint's.
func (p *Planner) planDispatch() {
	for _, h := range hookings {
		p.planMap(h)
	}
	p.wantBase("input", ruleset.HookInput, 0, ruleset.DispatchIn, hookings[0], ruleset.Match{}, nil)
	p.wantBase("output", ruleset.HookOutput, 0, ruleset.DispatchOut, hookings[1], ruleset.Match{}, []ruleset.Rule{
		// A rewritten destination may leave by another interface than the
		// one this hook sees: judged in postrouting instead.
		{Match: ruleset.Match{DNATed: true}, Action: ruleset.Action{Verb: ruleset.Accept}},
	})
	p.wantBase("output-nat", ruleset.HookPostrouting, 0, ruleset.DispatchOut, hookings[1],
		ruleset.Match{FromHost: true, DNATed: true}, nil)
	p.wantBase("forward-in", ruleset.HookForward, 0, ruleset.DispatchIn, hookings[2], ruleset.Match{}, nil)
	p.wantBase("forward-out", ruleset.HookForward, 1, ruleset.DispatchOut, hookings[3], ruleset.Match{}, nil)
}

func (p *Planner) planMap(h hooking) {
	for _, suffix := range []string{"", natSuffix} {
		name := dispatchMaps[h.prefix] + suffix
		id := ruleset.ID{Kind: ruleset.KindDispatch, Name: name}
		entries := map[string]ruleset.Entry{}
		if suffix == "" || p.natVariant(h) {
			p.want(id, &ruleset.Dispatch{})
			for iface, ep := range p.claims {
				if chain := h.prefix + ep + suffix; p.hasChain(chain) {
					entries[iface] = ruleset.Entry{Chain: chain}
				} else { // governed, but not judged here
					entries[iface] = ruleset.Entry{}
				}
			}
			for iface := range p.exempt {
				if _, claimed := entries[iface]; !claimed {
					entries[iface] = ruleset.Entry{}
				}
			}
		} else {
			p.unwant(id)
		}
		for iface := range p.entries[name] {
			if _, ok := entries[iface]; !ok {
				p.unwant(ruleset.ID{Kind: ruleset.KindEntry, Name: name, Iface: iface})
			}
		}
		for iface, e := range entries {
			p.want(ruleset.ID{Kind: ruleset.KindEntry, Name: name, Iface: iface}, e)
		}
		p.entries[name] = entries
	}
}

// natVariant reports whether the egress chains have a second rendering.
func (p *Planner) natVariant(h hooking) bool {
	return !h.forward && len(p.variants(h.direction)) > 1
}

func (p *Planner) hasChain(name string) bool {
	_, ok := p.planned[ruleset.ID{Kind: ruleset.KindChain, Name: name}]
	return ok
}

// wantBase plans a base chain. Known connections come first, then dispatch of
// the packets that only matches, then the wildcard endpoint or acceptance of
// what no endpoint governs. The explicit drop at the end is never reached; it
// stands there so that nothing depends on the chain's policy.
func (p *Planner) wantBase(name string, hook ruleset.Hook, priority int, dispatch ruleset.Verb, h hooking, only ruleset.Match, first []ruleset.Rule) {
	suffix := ""
	if hook == ruleset.HookPostrouting && p.natVariant(h) {
		suffix = natSuffix
	}
	rules := []ruleset.Rule{{
		Match:  ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated},
		Action: ruleset.Action{Verb: ruleset.Accept},
	}}
	rules = append(rules, first...)
	rules = append(rules, ruleset.Rule{
		Match:  only,
		Action: ruleset.Action{Verb: dispatch, Target: dispatchMaps[h.prefix] + suffix},
	})
	last := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Accept}}
	if chain := h.prefix + p.wildcard + suffix; p.wildcard != "" && p.hasChain(chain) {
		toWildcard := ruleset.Rule{Match: only, Action: ruleset.Action{Verb: ruleset.Goto, Target: chain}}
		if hook == ruleset.HookPostrouting {
			rules = append(rules, toWildcard)
		} else {
			last = toWildcard
		}
	}
	rules = append(rules, last, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})
	p.wantChain(name, &ruleset.Chain{Hook: hook, Priority: priority, Rules: rules})
}
