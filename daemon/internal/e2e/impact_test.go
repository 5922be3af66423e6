// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/impact"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/policy"
)

// trackedFlow is a probe as a connection that the kernel tracks, as who cuts
// flows sees it and as the agent tells it; false: no such is tracked.
func (g generator) trackedFlow(p probe) (ruleset.Flow, api.Connection, bool) {
	k := p.packet
	f := ruleset.Flow{Protocol: k.Protocol, Src: k.Src, Dst: k.Dst, SrcPort: k.SrcPort, DstPort: k.DstPort, ICMPType: k.ICMPType, ICMPCode: k.ICMPCode}
	c := api.Connection{Protocol: k.Protocol, Source: k.Src, Destination: k.Dst, SourcePort: k.SrcPort, DestinationPort: k.DstPort, ICMPType: k.ICMPType, ICMPCode: k.ICMPCode}
	if p.dialled.IsValid() {
		f.DNATed, f.NewDst, f.NewDstPort = true, k.Dst, k.DstPort
		f.Dst, f.DstPort = p.dialled.Addr(), p.dialled.Port()
		c.Dialled = p.dialled
	}
	perhaps := func(iface string) []string {
		if other := []string{"eth0", "eth1", "cali1"}[g.IntN(3)]; g.IntN(4) == 0 && other != iface {
			return []string{iface, other}
		}
		return []string{iface}
	}
	if k.In == "lo" || k.Out == "lo" {
		if p.dialled.IsValid() {
			return f, c, false
		}
		f.Way, c.Way = ruleset.Looped, "local"
		return f, c, true
	}
	switch p.hook {
	case ruleset.HookInput:
		f.Way, c.Way = ruleset.ToHost, "inbound"
		f.In = perhaps(k.In)
	case ruleset.HookOutput:
		f.Way, c.Way = ruleset.FromHost, "outbound"
		f.Out = perhaps(k.Out)
	default:
		f.Way, c.Way = ruleset.Forwarded, "forwarded"
		f.In, f.Out = perhaps(k.In), perhaps(k.Out)
	}
	c.In, c.Out = f.In, f.Out
	return f, c, true
}

// annotated are objects of which some keep established flows.
func (g generator) annotated(objs []api.Object) []api.Object {
	var out []api.Object
	for _, o := range objs {
		_, felix := o.(*api.FelixConfiguration)
		if is := api.PolicySpecOf(o) != nil; is && g.IntN(3) == 0 || felix && g.IntN(6) == 0 {
			o = api.Clone(o)
			o.Metadata().Annotations = map[string]string{api.AnnotationEstablishedFlows: []string{"Keep", "keep", "Cut"}[g.IntN(3)]}
		}
		out = append(out, o)
	}
	return out
}

// TestImpact_CutIsWhatTheAgentCuts: of random changes and connections, those
// that are said to be cut are those that the planned rulesets make the agent
// cut.
func TestImpact_CutIsWhatTheAgentCuts(t *testing.T) {
	g := generator{Rand: newRand(t)}
	rounds, each := 500, 100
	if testing.Short() {
		rounds = 150
	}
	cut, kept := 0, 0
	for range rounds {
		objs, then := g.annotated(g.resources()), g.annotated(g.resources())
		// Half of what is new comes beside or in place of what is old.
		after := slices.DeleteFunc(slices.Clone(objs), func(api.Object) bool { return g.IntN(6) == 0 })
		for _, o := range then {
			if g.IntN(3) > 0 {
				continue
			}
			after = slices.DeleteFunc(after, func(x api.Object) bool { return x.Key() == o.Key() })
			after = append(after, o)
		}
		is, would := impact.Picture{Objects: objs, World: worldOf(objs)}, impact.Picture{Objects: after, World: worldOf(after)}
		before, now := planned(objs), planned(after)
		of := api.Connections{Host: here, Interfaces: interfaces}
		var flows []ruleset.Flow
		for range each {
			if f, c, ok := g.trackedFlow(g.probeOf(objs)); ok {
				flows, of.Connections = append(flows, f), append(of.Connections, c)
			}
		}
		// Each by itself, so that it is known which is meant.
		for i, f := range flows {
			one := of
			one.Connections = of.Connections[i : i+1]
			said := len(impact.Cut(is, would, one)) == 1
			if want := ruleset.Cuts(before, now, &f); said != want {
				w := worldOf(after)
				t.Fatalf("%+v: said to be cut: %v, and the agent does: %v\nbefore:\n%s\nafter:\n%s\n%v", one.Connections[0], said, want, text(objs), text(after),
					policyOf(w, one.Connections[0]))
			}
			if said {
				cut++
			} else {
				kept++
			}
		}
	}
	t.Logf("%d connections cut, %d not", cut, kept)
	if cut == 0 {
		t.Error("no connection is cut: the test tests nothing")
	}
}

// policyOf is how policy decides on a connection, for failures.
func policyOf(w *policy.World, c api.Connection) policy.Decision {
	f := policy.Flow{Host: policy.Host{Name: here, Interfaces: interfaces}, Source: c.Source, Destination: c.Destination, Protocol: c.Protocol,
		SourcePort: c.SourcePort, DestinationPort: c.DestinationPort, ICMPType: c.ICMPType, ICMPCode: c.ICMPCode, Dialled: c.Dialled}
	f.Direction = map[string]policy.Direction{"inbound": policy.Inbound, "outbound": policy.Outbound, "forwarded": policy.Forwarded, "local": policy.Inbound}[c.Way]
	if len(c.In) > 0 {
		f.InInterface = c.In[0]
	}
	if len(c.Out) > 0 {
		f.OutInterface = c.Out[0]
	}
	return w.Evaluate(f)
}
