// SPDX-License-Identifier: Apache-2.0

// Package calc turns resources into intents, for one host: it knows which
// policies govern the host's endpoints and in which order, which addresses a
// selector in them stands for, and what the agents' configuration says here.
//
//	Note(event)
//	   │  intake: last good version of what cannot be read
//	   ▼  settings   FelixConfiguration, Node
//	   ▼  workloads  which workload endpoints of this host are in force
//	   ▼  policies   which select an endpoint of this host ─► rules
//	   ▼  profiles   which are listed by an endpoint here  ─► rules
//	   ▼  sets       addresses and named ports of what rules select
//	   ▼  rules      policies and profiles, translated
//	   ▼  endpoints  tiers and policies of each, in order
//	Flush(emit)
//
// What it is not: it takes no list of a store, knows no interfaces and no
// kernel, has no clock, and judges no packet. The agent's assembly feeds it
// from a syncer, once in sync, and hands what it emits to the planners.
//
// A Graph promises that after each Flush the facts said so far are whole: a
// policy that an endpoint lists has been said, and so has every set and
// profile. Nothing is said that has not changed, and nothing twice. The facts
// depend on the resources only and not on the order in which they came, with
// one exception: of an object that can no longer be read the last version that
// could be read stays in force.
//
// Costs: a change of a remote endpoint's labels touches only the sets whose
// selectors ask for one of its labels; a change of a policy touches the policy
// and the endpoints it selects.
package calc

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Config is what calc must be told about the host.
type Config struct {
	// Host is the host's name, as in a HostEndpoint's spec.node.
	Host string
	// Settings holds where no FelixConfiguration says otherwise. Its slices
	// are not changed.
	Settings intent.Settings
	// Reporting holds where no FelixConfiguration says otherwise.
	Reporting Reporting
}

// Graph works out the intents of one host. Make one with New. It is used by
// one goroutine.
type Graph struct {
	intake    intake
	settings  *settings
	workloads *workloads
	policies  *policies
	profiles  *profiles
	sets      *sets
	rules     *rules
	endpoints *endpoints
	steps     []step // in the order in which they are flushed
}

// step is a part of the graph. Events are noted, then all steps are flushed
// in order, then swept in the opposite order.
type step interface {
	// note takes an event of any kind; those of other kinds are ignored.
	note(ev api.Event)
	// flush says what is new or different.
	flush(emit func(intent.Change))
	// sweep takes back what is no longer so. Nothing that was said names it.
	sweep(emit func(intent.Change))
}

// New makes a graph in which there are no resources.
func New(c Config) *Graph {
	g := &Graph{
		intake:   newIntake(),
		settings: newSettings(c),
		sets:     newSets(c.Host),
	}
	g.rules = newRules(g.sets)
	g.profiles = newProfiles(g.rules)
	g.policies = newPolicies(c.Host, g.rules)
	g.endpoints = newEndpoints(c.Host, g.policies, g.profiles)
	g.workloads = newWorkloads(c, g)
	g.steps = []step{g.settings, g.workloads, g.policies, g.profiles, g.sets, g.rules, g.endpoints}
	return g
}

// Note takes one event. A bookmark is ignored. Of several events of one key
// between two flushes the last one counts. What does not matter to this host is
// not kept, so that a picture of any size can be noted piece by piece.
func (g *Graph) Note(ev api.Event) {
	if ev.Key.Name == "" {
		return
	}
	ev.Key = g.intake.own(ev.Key)
	ev, ok := g.intake.take(ev)
	if !ok {
		return
	}
	for _, s := range g.steps {
		s.note(ev)
	}
}

// Flush tells emit what has changed since the last Flush, each key at most
// once and only if it is really different. The first Flush says the settings
// even if there are no resources. The graph must not be used inside of emit.
func (g *Graph) Flush(emit func(intent.Change)) {
	for _, s := range g.steps {
		s.flush(emit)
	}
	for _, s := range slices.Backward(g.steps) {
		s.sweep(emit)
	}
}

// Pack makes what is kept for later smaller. Call it after a Flush, when
// nobody waits: it changes nothing but the memory that is needed.
func (g *Graph) Pack() { g.policies.pack() }
