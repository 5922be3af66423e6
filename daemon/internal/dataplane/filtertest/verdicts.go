// SPDX-License-Identifier: Apache-2.0

package filtertest

import (
	"fmt"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
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

// verdictState classifies by address, the single ones first, and by port.
func verdictState() *ruleset.State {
	s := ruleset.NewState()
	s.Want(VerdictsID("peers"), &ruleset.Verdicts{Family: ruleset.IPv4, Type: ruleset.ByNet})
	s.Want(RulingID("peers", "10.1.0.2/32"), ruleset.Ruling{Chain: "a"})
	s.Want(RulingID("peers", "10.1.0.4/32"), ruleset.Ruling{Chain: "b"})
	s.Want(VerdictsID("nets"), &ruleset.Verdicts{Family: ruleset.IPv4, Type: ruleset.ByNet})
	s.Want(RulingID("nets", "10.1.0.128/25"), ruleset.Ruling{Chain: "a"})
	s.Want(RulingID("nets", "10.1.0.192/26"), ruleset.Ruling{Chain: "b"})
	for _, m := range []string{"ports-a", "ports-b"} {
		s.Want(VerdictsID(m), &ruleset.Verdicts{Type: ruleset.ByPort})
		s.Want(portRuling(m, 80, 80), ruleset.Ruling{Chain: "ok"})
		s.Want(portRuling(m, 90, 99), ruleset.Ruling{Chain: "ok"})
	}
	byPort := func(m string) *ruleset.Chain {
		return &ruleset.Chain{Rules: []ruleset.Rule{
			{Match: ruleset.Match{Protocol: netnstest.TCP}, Action: ruleset.Action{Verb: ruleset.Classify, Field: ruleset.FieldDstPort, Target: m}}, {Action: drop},
		}}
	}
	s.Want(ChainID("a"), byPort("ports-a"))
	s.Want(ChainID("b"), byPort("ports-b"))
	s.Want(ChainID("ok"), &ruleset.Chain{Rules: []ruleset.Rule{{Action: accept, Counter: true, Comment: "allow"}}})
	s.Want(ChainID("ok2"), &ruleset.Chain{Rules: []ruleset.Rule{{Action: accept, Counter: true, Comment: "allow too"}}})
	bySource := func(m string) ruleset.Rule {
		return ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4}, Action: ruleset.Action{Verb: ruleset.Classify, Field: ruleset.FieldSrc, Target: m}}
	}
	s.Want(ChainID("in"), base(ruleset.HookInput, drop, bySource("peers"), bySource("nets")))
	return s
}

// RulingID names what a verdict map says of a prefix.
func RulingID(m, prefix string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindVerdict, Name: m, Elem: ruleset.Element{Net: pfx(prefix)}}
}

func portRuling(m string, lo, hi uint16) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindVerdict, Name: m, Range: ruleset.PortRange{Min: lo, Max: hi}}
}

var verdictProbes = []driftProbe{
	{"10.1.0.2", 80, true}, {"10.1.0.2", 81, false}, {"10.1.0.3", 80, false}, {"10.1.0.4", 95, true},
	{"10.1.0.254", 80, true}, {"10.1.0.128", 99, true}, {"10.1.0.128", 100, false}, {"10.1.0.127", 80, false},
}

// verdictDrift: what others change in verdict maps is found and repaired.
func (s Suite) verdictDrift(t *testing.T) {
	s.drift(t, s.TamperVerdicts, verdictState(), verdictProbes)
}

// verdictUpdates: while elements of verdict maps change, come and go, packets
// that fare the same before and after are never seen to fare otherwise.
func (s Suite) verdictUpdates(t *testing.T) {
	r := Rand(t)
	b := s.bench(t, Options{Owner: true})
	b.state = verdictState()
	wantAll(b.be, b.state, func(int, func(i, j int)) {})
	b.reconcile()
	rounds := 600
	if testing.Short() {
		rounds = 100
	}
	chains := []string{"a", "b"}
	oks := []string{"ok", "ok2"}
	change := func() {
		m := one(r, []string{"ports-a", "ports-b"})
		switch r.IntN(6) {
		case 0: // from one class to another, many at once
			to := ruleset.Ruling{Chain: one(r, chains)}
			b.be.Want(RulingID("peers", "10.1.0.2/32"), to)
			b.be.Want(RulingID("peers", "10.1.0.4/32"), to)
			for i := range 1000 {
				b.be.Want(RulingID("peers", fmt.Sprintf("10.9.%d.%d/32", i/250, i%250)), to)
			}
		case 1:
			b.be.Want(RulingID("nets", one(r, []string{"10.1.0.128/25", "10.1.0.192/26", "10.1.0.254/32", "10.1.0.252/30"})), ruleset.Ruling{Chain: one(r, chains)})
		case 2: // back to the class around
			b.be.Unwant(RulingID("nets", one(r, []string{"10.1.0.192/26", "10.1.0.254/32", "10.1.0.252/30"})))
		case 3: // another rule
			b.be.Want(portRuling(m, 80, 80), ruleset.Ruling{Chain: one(r, oks)})
			b.be.Want(portRuling(m, 90, 99), ruleset.Ruling{Chain: one(r, oks)})
		case 4: // peers and ports that the packets have not
			p := uint16(1000 + 2*r.IntN(200))
			b.be.Want(portRuling(m, p, p), ruleset.Ruling{Chain: one(r, oks)})
			b.be.Want(RulingID("peers", fmt.Sprintf("10.1.1.%d/32", r.IntN(250))), ruleset.Ruling{Chain: one(r, chains)})
		case 5:
			p := uint16(1000 + 2*r.IntN(200))
			b.be.Unwant(portRuling(m, p, p))
			b.be.Unwant(RulingID("peers", fmt.Sprintf("10.1.1.%d/32", r.IntN(250))))
		}
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for range rounds {
			for range 1 + r.IntN(4) {
				change()
			}
			if _, err = b.be.Reconcile(t.Context()); err != nil {
				break
			}
		}
		done <- err
	}()
	var tally Tally
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			running = false
		default:
		}
		for range 25 {
			tally.probe(b.inj, verdictProbes)
		}
	}
	t.Logf("%d updates: %v", rounds, &tally)
	if tally.Admitted+tally.Cut > 0 {
		t.Errorf("during %d updates: %v", rounds, &tally)
	}
}
