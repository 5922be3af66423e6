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

// resolve decides which endpoint governs which interface. A workload endpoint
// governs the interface it names, there or not yet there (the lowest name of
// several). A host endpoint claims the interface it names, likewise, or,
// naming none, those that hold one of its expectedIPs, bar loopback: an
// address of the host that is kept there is not reached by way of it. Of
// several claims the lowest name wins, and governs the interface unless a
// workload endpoint does; then only its untracked egress policy counts. A
// wildcard endpoint (the lowest name of several) takes the interfaces that
// nobody claims, bar loopback, excluded and workloads' interfaces.
func (p *Planner) resolve() {
	taken := map[string]string{}
	for name, ep := range p.workloads {
		if have, ok := taken[ep.Interface]; !ok || name < have {
			taken[ep.Interface] = name
		}
	}
	p.taken = taken
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

	beside := map[string]string{}
	for iface := range taken {
		if ep, ok := claims[iface]; ok {
			beside[iface] = ep
			delete(claims, iface)
		}
	}
	governed := map[string][]string{}
	for _, by := range []map[string]string{taken, claims} {
		for _, iface := range slices.Sorted(maps.Keys(by)) {
			governed[by[iface]] = append(governed[by[iface]], iface)
		}
	}
	exempt := map[string]bool{}
	if claims[loopback] == "" {
		exempt[loopback] = true
	}
	if wildcard != "" {
		governed[wildcard] = nil
		for _, iface := range slices.Sorted(maps.Keys(p.interfaces)) {
			switch {
			case claims[iface] != "" || iface == loopback || p.isWorkload(iface):
			case p.isExcluded(iface):
				exempt[iface] = true
			default:
				governed[wildcard] = append(governed[wildcard], iface)
			}
		}
	}
	for name := range p.endpoints {
		p.noteMoved(name, governed, beside)
	}
	for name := range p.workloads {
		p.noteMoved(name, governed, beside)
	}
	p.claims, p.beside, p.exempt, p.wildcard, p.governed = claims, beside, exempt, wildcard, governed
}

// noteMoved has an endpoint planned again that governs something for the first
// or no longer.
func (p *Planner) noteMoved(name string, governed map[string][]string, beside map[string]string) {
	_, was := p.governed[name]
	_, is := governed[name]
	if was != is || holds(p.beside, name) != holds(beside, name) {
		p.dirtyEndpoints[name] = true
	}
}

func holds(m map[string]string, value string) bool {
	for _, v := range m {
		if v == value {
			return true
		}
	}
	return false
}

func holdsOneOf(i *intent.Interface, addrs []netip.Addr) bool {
	for _, a := range addrs {
		if slices.Contains(i.Addrs, a) {
			return true
		}
	}
	return false
}

// isWorkload reports whether an interface is a workload's: a workload
// endpoint names it, or it has a workload's prefix.
func (p *Planner) isWorkload(iface string) bool {
	if p.taken[iface] != "" {
		return true
	}
	return iface != loopback && p.hasPrefix(iface)
}

func (p *Planner) hasPrefix(iface string) bool {
	return slices.ContainsFunc(p.settings.WorkloadPrefixes, func(prefix string) bool {
		return prefix != "" && strings.HasPrefix(iface, prefix)
	})
}

func (p *Planner) isExcluded(iface string) bool {
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

// The maps from interface to chain. The two of workloads serve two base
// chains each way or one; those of host endpoints are named in hostPlaces.
const (
	mapRawIn        = "raw-in"
	mapRawOut       = "raw-out"
	mapPreDNAT      = "pre-dnat"
	mapIn           = "in"
	mapOut          = "out"
	mapForwardIn    = "forward-in"
	mapForwardOut   = "forward-out"
	mapFromWorkload = "from-workload"
	mapToWorkload   = "to-workload"
)

// planMaps plans the maps. An interface that a host endpoint claims and that
// is not judged at a place has an entry all the same, so that the wildcard
// endpoint does not get its packets; so have exempt ones.
func (p *Planner) planMaps() {
	for i := range hostPlaces {
		pl := &hostPlaces[i]
		p.planMap(pl.dispatch, true, p.hostEntries(pl, ""))
		if pl.stage == stageNormal && pl.direction == api.Egress {
			var entries map[string]ruleset.Entry
			if p.natVariant() {
				entries = p.hostEntries(pl, natSuffix)
			}
			p.planMap(pl.dispatch+natSuffix, p.natVariant(), entries)
		}
	}
	for i := range workloadPlaces {
		pl := &workloadPlaces[i]
		if pl.stage == stageSource {
			continue // in the map of hostPlaces
		}
		entries := map[string]ruleset.Entry{}
		if p.exempt[loopback] { // whatever the prefixes say
			entries[loopback] = ruleset.Entry{}
		}
		for iface := range p.claims { // named like a workload's, and is the host's
			if p.isWorkload(iface) {
				entries[iface] = ruleset.Entry{}
			}
		}
		for iface, name := range p.taken {
			entries[iface] = ruleset.Entry{Chain: pl.prefix + name}
		}
		p.planMap(pl.dispatch, true, entries)
	}
}

// hostEntries is the map of one place of host endpoints, with what becomes of
// workloads there. Before connection tracking nothing that goes out is the
// wildcard endpoint's, and so needs no entry that keeps it away.
func (p *Planner) hostEntries(pl *place, suffix string) map[string]ruleset.Entry {
	entries := map[string]ruleset.Entry{}
	for iface := range p.exempt {
		entries[iface] = ruleset.Entry{}
	}
	for iface, ep := range p.claims {
		entries[iface] = ruleset.Entry{}
		if chain := pl.prefix + ep + suffix; p.hasChain(chain) {
			entries[iface] = ruleset.Entry{Chain: chain}
		}
	}
	for iface, name := range p.taken {
		switch pl.dispatch {
		case mapRawIn:
			entries[iface] = ruleset.Entry{Chain: prefixSource + name}
		case mapRawOut:
			if chain := pl.prefix + p.beside[iface]; p.hasChain(chain) {
				entries[iface] = ruleset.Entry{Chain: chain}
			}
		case mapIn:
			entries[iface] = ruleset.Entry{Chain: chainToHost}
		case mapOut: // the host may always reach its own workloads
			entries[iface] = ruleset.Entry{}
		default: // the wildcard endpoint's, if that is for it
			if p.isExcluded(iface) {
				entries[iface] = ruleset.Entry{}
			}
		}
	}
	if pl.dispatch == mapRawOut {
		maps.DeleteFunc(entries, func(_ string, e ruleset.Entry) bool { return e.Chain == "" })
	}
	return entries
}

func (p *Planner) planMap(name string, there bool, entries map[string]ruleset.Entry) {
	id := ruleset.ID{Kind: ruleset.KindDispatch, Name: name}
	if there {
		p.want(id, &ruleset.Dispatch{})
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

// natVariant reports whether the egress chains have a second rendering.
func (p *Planner) natVariant() bool { return len(p.variants(api.Egress)) > 1 }

func (p *Planner) hasChain(name string) bool {
	_, ok := p.planned[ruleset.ID{Kind: ruleset.KindChain, Name: name}]
	return ok
}
