// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

// What untracked policy denies stays denied, whatever connection the packet is
// of and whatever all other policy says; and what is not admitted is not
// admitted in any state.
func TestEvaluate_PropEarlyDenyIsFinal(t *testing.T) {
	denied := map[Phase]int{}
	forSeeds(t, 1000, func(t *testing.T, g *generator) {
		objs := g.objects()
		plain, open := NewWorld(objs, Options{}), NewWorld(append(objs, firstTier(api.Allow)...), Options{})
		for range flowsPerWorld {
			f := g.flow()
			d := plain.Evaluate(f)
			if d.Verdict != Deny || d.Phase != PhaseUntracked && d.Phase != PhaseAdmission || d.Reason == ReasonUnknownInterface && len(d.Steps) > 1 {
				continue
			}
			denied[d.Phase]++
			for _, w := range []*World{plain, open} {
				for s := New; s <= Untracked; s++ {
					f.State = s
					if again := w.Evaluate(f); again.Verdict != Deny || again.Phase != d.Phase || again.Reason != d.Reason {
						t.Fatalf("Evaluate(%s) = %s, want %s\n%v", f, short(again), short(d), again.Sentences())
					}
				}
			}
		}
	})
	if *seedFlag == 0 && (denied[PhaseUntracked] == 0 || denied[PhaseAdmission] == 0) {
		t.Errorf("denials in each phase: %v: the test tests nothing", denied)
	}
}

// What early policy does not decide is as if there were no early policy.
func TestEvaluate_PropEarlyPolicyWithoutAWordChangesNothing(t *testing.T) {
	silent := 0
	forSeeds(t, 1000, func(t *testing.T, g *generator) {
		objs := g.objects()
		later := slices.DeleteFunc(slices.Clone(objs), func(o api.Object) bool {
			p, ok := o.(*api.GlobalNetworkPolicy)
			return ok && (p.Spec.DoNotTrack || p.Spec.PreDNAT)
		})
		a, b := NewWorld(objs, Options{}), NewWorld(later, Options{})
		for range flowsPerWorld {
			f := g.flow()
			x, y := a.Evaluate(f), b.Evaluate(f)
			early, decided := false, false
			for _, s := range x.Steps {
				early = early || s.Phase.early()
				decided = decided || s.Phase.early() && (s.Outcome == Allows || s.Outcome == Denies)
			}
			if decided {
				continue
			}
			if early {
				silent++
			}
			if short(x) != short(y) {
				t.Fatalf("Evaluate(%s) = %s, without early policy %s\n%v\n%v", f, short(x), short(y), x.Sentences(), y.Sentences())
			}
		}
	})
	if *seedFlag == 0 && silent == 0 {
		t.Error("no early policy was silent: the test tests nothing")
	}
}

// A failsafe reaches the host wherever a host endpoint governs, whatever policy
// says; but not from the loopback interface's addresses, and not if it is of
// no connection.
func TestEvaluate_PropFailsafesReachTheHost(t *testing.T) {
	reached := 0
	forSeeds(t, 1000, func(t *testing.T, g *generator) {
		w := NewWorld(append(g.objects(), firstTier(api.Deny)...), Options{})
		for range flowsPerWorld {
			f := g.flow()
			f.Direction, f.Protocol, f.DestinationPort, f.Dialled = Inbound, protoTCP, 22, netip.AddrPort{}
			d := w.Evaluate(f)
			if d.Endpoint.Kind != api.KindHostEndpoint || d.Reason == ReasonInvalid || d.Reason == ReasonLoopbackAddress || f.InInterface == "cali1" || f.InInterface == "cali2" {
				continue
			}
			reached++
			if d.Verdict != Allow {
				t.Fatalf("Evaluate(%s) = %s, want Allow\n%v", f, short(d), d.Sentences())
			}
		}
	})
	if *seedFlag == 0 && reached == 0 {
		t.Error("no flow met a host endpoint: the test tests nothing")
	}
}
