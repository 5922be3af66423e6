// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// TestComparison_AgreesWithTwoWholeRulesets: what a change ends, as told by one
// ruleset, the objects that were other before it, and flows judged by class, is
// what two rulesets and flows judged one by one tell.
func TestComparison_AgreesWithTwoWholeRulesets(t *testing.T) {
	g := generator{Rand: newRand(t)}
	total, cuts := 0, 0
	for range 150 {
		objs := g.resources()
		if chance(g.Rand, 50) { // a small change, or a large one
			objs = objs[:len(objs)-1]
		}
		before, now := planned(objs), planned(g.resources())
		if chance(g.Rand, 50) {
			now = planned(append(slices.Clone(objs), g.resources()[0]))
		}
		other := map[ruleset.ID]ruleset.Object{}
		was, is := objects(before), objects(now)
		for id, o := range was {
			if fmt.Sprint(is[id]) != fmt.Sprint(o) {
				other[id] = o
			}
		}
		for id := range is {
			if _, ok := was[id]; !ok {
				other[id] = nil
			}
		}
		view := now.With(other)
		c := ruleset.NewComparison(view, now)
		for range 1500 {
			f := flowOf(g.probeOf(objs))
			total++
			for _, in := range f.In {
				want, wantTrace := before.Judge(&f, in, f.Out[0])
				if got, trace := view.Judge(&f, in, f.Out[0]); got != want || trace.Comment != wantTrace.Comment {
					t.Fatalf("flow %+v by %s: the view says %s (%s), the ruleset %s (%s)", f, in, got, trace.Comment, want, wantTrace.Comment)
				}
			}
			want := ruleset.Cuts(before, now, &f)
			if got := c.Cuts(&f); got != want {
				t.Fatalf("flow %+v: cut by the comparison: %v, by the rulesets: %v\nbefore:\n%s\nnow:\n%s", f, got, want, before, now)
			}
			if want {
				cuts++
			}
		}
	}
	t.Logf("%d flows, %d cut", total, cuts)
	if cuts < total/100 {
		t.Errorf("%d of %d flows cut: the test says little", cuts, total)
	}
}

// flowOf is the flow of which a probe is the first packet, with a second
// interface that it may have used.
func flowOf(p probe) ruleset.Flow {
	k := p.packet
	f := ruleset.Flow{
		Way: ruleset.ToHost, Protocol: k.Protocol, Src: k.Src, Dst: k.Dst, SrcPort: k.SrcPort, DstPort: k.DstPort,
		ICMPType: k.ICMPType, ICMPCode: k.ICMPCode, In: []string{k.In, "eth1"}, Out: []string{k.Out, "cali2"},
	}
	switch p.hook {
	case ruleset.HookOutput:
		f.Way = ruleset.FromHost
	case ruleset.HookForward:
		f.Way = ruleset.Forwarded
	}
	if k.DNATed {
		f.DNATed, f.NewDst, f.NewDstPort = true, k.Dst, k.DstPort
		f.Dst, f.DstPort = p.dialled.Addr(), p.dialled.Port()
	}
	return f
}
