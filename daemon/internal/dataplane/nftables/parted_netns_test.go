// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// inverted wants one of two ways to say that ports 80 and 81 are accepted and all else
// dropped: by what a map has, or by what it leaves out.
func inverted(f *Filter, other bool) {
	ports := map[ruleset.PortRange]string{{Min: 80, Max: 81}: "yes"}
	rest := "no"
	keys := []ruleset.PortRange{{Min: 80, Max: 81}, {Min: 1, Max: 79}, {Min: 82, Max: 65535}}
	if other {
		ports, rest = map[ruleset.PortRange]string{keys[1]: "no", keys[2]: "no"}, "yes"
	}
	f.Want(chain("yes"), &ruleset.Chain{Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Accept}}}})
	f.Want(chain("no"), &ruleset.Chain{Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Drop}}}})
	f.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: "m"}, &ruleset.Verdicts{Type: ruleset.ByPort})
	for _, r := range keys {
		id := ruleset.ID{Kind: ruleset.KindVerdict, Name: "m", Range: r}
		if to := ports[r]; to != "" {
			f.Want(id, ruleset.Ruling{Chain: to})
		} else {
			f.Unwant(id)
		}
	}
	f.Want(chain("input"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
		{Match: ruleset.Match{Protocol: netnstest.UDP}, Action: ruleset.Action{Verb: ruleset.Jump, Target: "ports"}},
		{Action: ruleset.Action{Verb: ruleset.Accept}},
	}})
	f.Want(chain("ports"), &ruleset.Chain{Rules: []ruleset.Rule{
		{Match: ruleset.Match{Protocol: netnstest.UDP}, Action: ruleset.Action{Verb: ruleset.Classify, Target: "m", Field: ruleset.FieldDstPort}},
		{Action: ruleset.Action{Verb: ruleset.Goto, Target: rest}},
	}})
}

// TestNetnsFilter_MapIsMadeAnewWithTheRulesThatLookIntoIt: if a map's keys come
// and go together with what becomes of other keys, packets under way never
// meet the old rules and the new map.
func TestNetnsFilter_MapIsMadeAnewWithTheRulesThatLookIntoIt(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	f := open(t, inj.NS, Default())
	inverted(f, false)
	reconcile(t, f)
	was := f.verdicts["m"].kname
	inverted(f, true)
	reconcile(t, f)
	if f.verdicts["m"].kname == was {
		t.Errorf("the map was changed in place")
	}

	done := make(chan error)
	go func() {
		for i := range 400 {
			inverted(f, i%2 == 0)
			if _, err := f.Reconcile(t.Context()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	sent, wrong := 0, 0
	for {
		select {
		case err := <-done:
			t.Logf("%d packets, %d wrong", sent, wrong)
			if err != nil || wrong > 0 {
				t.Errorf("%d of %d packets were judged by a mixture; updates: %v", wrong, sent, err)
			}
			return
		default:
		}
		for _, p := range []uint16{79, 80, 82} {
			ok := inj.In("rstun0", netnstest.Packet{Src: netip.MustParseAddr("10.1.0.7"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: netnstest.UDP, SrcPort: uint16(sent), DstPort: p})
			if sent++; ok != (p == 80) {
				wrong++
			}
		}
	}
}
