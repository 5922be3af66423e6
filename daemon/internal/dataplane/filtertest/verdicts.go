// SPDX-License-Identifier: Apache-2.0

package filtertest

import (
	"fmt"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// randomVerdicts walks from state to state like randomStates, with chains that
// classify, and changes mostly what they are classified by.
func (s Suite) randomVerdicts(t *testing.T) {
	steps, packets := 250, 100
	if testing.Short() {
		steps = 20
	}
	for _, hook := range []ruleset.Hook{ruleset.HookInput, ruleset.HookOutput, ruleset.HookForward} {
		g := &generator{r: Rand(t), hooks: []ruleset.Hook{hook}, verdicts: true}
		b := s.bench(t, Options{Owner: true})
		g.start(b)
		for range steps {
			b.reconcile()
			g.probe(b, packets)
			if t.Failed() {
				return
			}
			for range 1 + g.r.IntN(6) {
				g.change(b)
			}
			if g.r.IntN(20) == 0 {
				b.be.Resync()
			}
		}
		t.Logf("%s: %d verdicts compared", hook, b.judge)
	}
}

// VerdictsID names a verdict map.
func VerdictsID(name string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindVerdicts, Name: name}
}

const nVerdictMaps = 2

func netVerdicts(f ruleset.Family, i int) string { return fmt.Sprintf("n%d-%d", f, i) }
func portVerdicts(i int) string                  { return fmt.Sprint("p", i) }

// verdictMaps wants all maps that rules may name: the first of each kind holds
// single addresses, or single ports, only, most of the time.
func (g *generator) verdictMaps(b *bench) {
	for i := range nVerdictMaps {
		for _, f := range families {
			b.Want(VerdictsID(netVerdicts(f, i)), &ruleset.Verdicts{Family: f, Type: ruleset.ByNet})
		}
		b.Want(VerdictsID(portVerdicts(i)), &ruleset.Verdicts{Type: ruleset.ByPort})
	}
	for range 30 {
		g.changeVerdicts(b)
	}
}

// classify is a random rule that classifies.
func (g *generator) classify() (ruleset.Match, ruleset.Action) {
	r := g.r
	i := r.IntN(nVerdictMaps)
	if r.IntN(2) == 0 {
		return ruleset.Match{Protocol: one(r, protos)}, ruleset.Action{Verb: ruleset.Classify, Field: ruleset.FieldDstPort, Target: portVerdicts(i)}
	}
	f := one(r, families)
	field := one(r, []ruleset.Field{ruleset.FieldSrc, ruleset.FieldDst})
	return ruleset.Match{Family: f}, ruleset.Action{Verb: ruleset.Classify, Field: field, Target: netVerdicts(f, i)}
}

// disjointPorts do not overlap, and some touch.
var disjointPorts = []ruleset.PortRange{{Min: 0, Max: 0}, {Min: 79, Max: 79}, {Min: 80, Max: 80}, {Min: 443, Max: 443}, {Min: 81, Max: 442}, {Min: 444, Max: 1023}, {Min: 8080, Max: 65535}}

// changeVerdicts wants or unwants one element.
func (g *generator) changeVerdicts(b *bench) {
	r := g.r
	i := r.IntN(nVerdictMaps)
	odd := i > 0 || r.IntN(25) == 0 // ranges come into a map of single ones, and leave it
	id := ruleset.ID{Kind: ruleset.KindVerdict}
	if r.IntN(3) > 0 {
		f := one(r, families)
		w := worlds[f]
		id.Name = netVerdicts(f, i)
		if odd {
			id.Elem.Net = one(r, w.nets)
		} else {
			a := one(r, append(append(w.near[:len(w.near):len(w.near)], w.host...), w.far...))
			id.Elem.Net, _ = a.Prefix(a.BitLen())
		}
	} else {
		id.Name, id.Range = portVerdicts(i), one(r, disjointPorts[:4])
		if odd {
			id.Range = one(r, disjointPorts)
		}
	}
	if r.IntN(3) == 0 {
		b.Unwant(id)
		return
	}
	b.Want(id, ruleset.Ruling{Chain: g.target(0)})
}
