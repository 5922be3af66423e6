// SPDX-License-Identifier: Apache-2.0

// Package dataplane plans: it turns intents into the wanted packet filter
// (package ruleset), and touches nothing. The packages below it act.
//
// What is planned, for IPv4 and IPv6 alike (docs/architecture.md has the
// picture): base chains at every hook, maps that lead from an interface to the
// chain of its endpoint, and in such a chain the endpoint's tiers, profiles
// and the denial of the rest.
//
//	hui- huo-  host endpoint, untracked policies, in and out (base.go)
//	hpi-       host endpoint, preDNAT policies
//	hi- ho-    host endpoint, traffic of the host
//	hfi- hfo-  host endpoint, forwarded traffic
//	wr-        workload endpoint, its source addresses
//	wo- wi-    workload endpoint, what it sends and what it gets
//
// The parts of forwarded traffic are base chains of their own at one hook, so
// that an Allow of one ends only that part. Chains of policies (pi-, po-;
// ui-, uo- untracked; di- preDNAT) and profiles (pri-, pro-) are shared by all
// endpoints.
//
// The planner remembers what it has planned and passes on differences only.
// It is used by one goroutine, the lane's.
package dataplane

import (
	"fmt"
	"reflect"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// The two bits of the packet mark that the plan uses; both lie in Calico's
// default nftablesMarkMask, and both are clear when a packet leaves the last
// of our chains that look at them.
const (
	// MarkAccept says, to the later stages of the same host endpoint, that an
	// untracked or preDNAT policy has allowed the packet. It is cleared
	// before the first of our chains that could set it, and by the stage
	// that it was meant for.
	MarkAccept = 0x10000
	// MarkPass carries "Pass" from a policy's chain to its tier's.
	MarkPass = 0x20000
)

// Out takes the plan; a packet-filter back end or a ruleset.State.
type Out interface {
	Want(ruleset.ID, ruleset.Object)
	Unwant(ruleset.ID)
}

// Planner turns intents into a ruleset. Make one with NewPlanner.
type Planner struct {
	out Out

	settings   *intent.Settings
	sets       map[string]*intent.Set
	policies   map[api.Key]*intent.Policy
	profiles   map[string]*intent.Profile
	endpoints  map[string]*intent.HostEndpoint
	workloads  map[string]*intent.WorkloadEndpoint
	interfaces map[string]*intent.Interface

	dirtyPolicies  map[api.Key]bool
	dirtyProfiles  map[string]bool
	dirtyEndpoints map[string]bool
	dirtyAll       bool // settings changed: plan everything again
	dirtyDispatch  bool // which endpoint governs which interface

	taken    map[string]string                   // interface → workload endpoint that governs it
	claims   map[string]string                   // interface → host endpoint that governs it
	beside   map[string]string                   // the same of those that are taken
	exempt   map[string]bool                     // other interfaces no wildcard governs
	wildcard string                              // the wildcard endpoint, if any
	paused   bool                                // the base chains ask nobody
	entries  map[string]map[string]ruleset.Entry // dispatch map → its entries
	governed map[string][]string                 // endpoint → its interfaces
	chainsOf map[string][]string                 // chain of an endpoint → with those of its tiers
	planned  map[ruleset.ID]ruleset.Object       // chains and entries passed on
	usedBy   map[api.Key]map[string]bool         // policy → endpoints listing it
	lists    map[string]map[api.Key]bool         // endpoint → policies it lists
	passes   map[api.Key]map[api.PolicyType]bool // policy directions with a Pass
	keeping  map[api.Key]bool                    // policies with KeepFlows

	compiler *compiler // nil: rules are enforced one after the other
}

// NewPlanner makes a planner that passes its plan on to out. Nothing is
// planned before the first Flush.
func NewPlanner(out Out) *Planner {
	return &Planner{
		out:            out,
		settings:       &intent.Settings{},
		sets:           map[string]*intent.Set{},
		policies:       map[api.Key]*intent.Policy{},
		profiles:       map[string]*intent.Profile{},
		endpoints:      map[string]*intent.HostEndpoint{},
		workloads:      map[string]*intent.WorkloadEndpoint{},
		interfaces:     map[string]*intent.Interface{},
		dirtyPolicies:  map[api.Key]bool{},
		dirtyProfiles:  map[string]bool{},
		dirtyEndpoints: map[string]bool{},
		dirtyAll:       true,
		taken:          map[string]string{},
		claims:         map[string]string{},
		beside:         map[string]string{},
		exempt:         map[string]bool{},
		entries:        map[string]map[string]ruleset.Entry{},
		governed:       map[string][]string{},
		chainsOf:       map[string][]string{},
		planned:        map[ruleset.ID]ruleset.Object{},
		usedBy:         map[api.Key]map[string]bool{},
		lists:          map[string]map[api.Key]bool{},
		passes:         map[api.Key]map[api.PolicyType]bool{},
		keeping:        map[api.Key]bool{},
	}
}

// Note takes one change. Sets and members are passed on at once; the rest is
// planned by Flush.
func (p *Planner) Note(c intent.Change) {
	switch c.Key.Kind {
	case intent.KindSettings:
		size := p.settings.MaxSetSize
		p.settings = &intent.Settings{}
		if c.Value != nil {
			p.settings = c.Value.(*intent.Settings)
		}
		p.dirtyAll = true
		if p.settings.MaxSetSize != size {
			for name, s := range p.sets {
				p.noteSet(intent.Change{Key: intent.Key{Kind: intent.KindSet, Name: name}, Value: s})
			}
		}
	case intent.KindSet:
		p.noteSet(c)
	case intent.KindMember:
		p.noteMember(c)
	case intent.KindPolicy:
		k := c.Key.Policy
		note(p.policies, k, c.Value)
		p.dirtyPolicies[k] = true
	case intent.KindProfile:
		note(p.profiles, c.Key.Name, c.Value)
		p.dirtyProfiles[c.Key.Name] = true
	case intent.KindHostEndpoint:
		note(p.endpoints, c.Key.Name, c.Value)
		p.dirtyEndpoints[c.Key.Name] = true
		p.dirtyDispatch = true
	case intent.KindWorkloadEndpoint:
		note(p.workloads, c.Key.Name, c.Value)
		p.dirtyEndpoints[c.Key.Name] = true
		p.dirtyDispatch = true
	case intent.KindInterface:
		note(p.interfaces, c.Key.Name, c.Value)
		p.dirtyDispatch = true
	case intent.KindPause:
		p.paused = c.Value != nil
		p.dirtyDispatch = true
	default:
		panic(fmt.Sprintf("dataplane: intent of kind %d", c.Key.Kind))
	}
}

func note[K comparable, V intent.Value](m map[K]V, k K, v intent.Value) {
	if v == nil {
		delete(m, k)
		return
	}
	m[k] = v.(V)
}

// Governed is which interfaces each endpoint governs now, by the last Flush;
// workload endpoints are called "namespace/name". A wildcard endpoint lists
// the interfaces that exist.
func (p *Planner) Governed() map[string][]string { return p.governed }

// Flush plans what has changed and passes the differences on.
func (p *Planner) Flush() {
	for k := range p.dirtyPolicies {
		p.notePasses(k, p.policies[k])
		p.noteKeeping(k, p.policies[k])
	}
	if p.dirtyAll {
		p.planFixed()
		for k := range p.policies {
			p.dirtyPolicies[k] = true
		}
		for k := range p.profiles {
			p.dirtyProfiles[k] = true
		}
		p.dirtyDispatch = true
	}
	if p.dirtyDispatch || p.dirtyAll {
		p.resolve()
	}
	if p.compiler != nil {
		p.markUnits()
	}
	p.planEndpoints()
	if p.compiler != nil {
		p.planPrograms()
	}
	p.planPolicies()
	p.planProfiles()
	if p.dirtyDispatch || p.dirtyAll {
		p.planMaps()
		p.planBases()
	}
	p.dirtyAll, p.dirtyDispatch = false, false
	if p.compiler != nil {
		p.planSets()
	}
}

// want passes an object on if it differs from what was passed on before.
func (p *Planner) want(id ruleset.ID, o ruleset.Object) {
	if old, ok := p.planned[id]; ok && reflect.DeepEqual(old, o) {
		return
	}
	p.planned[id] = o
	p.out.Want(id, o)
	if p.compiler != nil {
		p.compiler.refer(id, o)
	}
}

func (p *Planner) unwant(id ruleset.ID) {
	if _, ok := p.planned[id]; !ok {
		return
	}
	delete(p.planned, id)
	p.out.Unwant(id)
	if p.compiler != nil {
		p.compiler.refer(id, nil)
	}
}

func (p *Planner) wantChain(name string, c *ruleset.Chain) {
	p.want(ruleset.ID{Kind: ruleset.KindChain, Name: name}, c)
}

func (p *Planner) unwantChain(name string) {
	p.unwant(ruleset.ID{Kind: ruleset.KindChain, Name: name})
}
