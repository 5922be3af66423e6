// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// approach is one way to a port: over an interface, to an address.
type approach struct {
	family   int
	in       string
	protocol uint8
	dialled  netip.AddrPort
	// to is where it leads if published is set.
	to        netip.AddrPort
	published *Published
}

// anyPort stands for the port of a client: the first of the ephemeral ones.
const anyPort = 49152

// outInterface is the interface behind which an address is.
func (x *exposer) outInterface(a netip.Addr) string {
	best, out := -1, ""
	for _, i := range x.facts.Interfaces {
		for _, p := range i.Addrs {
			if p.Masked().Contains(a) && p.Bits() > best {
				best, out = p.Bits(), i.Name
			}
		}
	}
	return out
}

// flow is what policy is asked about.
func (x *exposer) flow(a approach, source netip.Addr) policy.Flow {
	f := policy.Flow{Host: x.host, Direction: policy.Inbound, InInterface: a.in, Source: source, SourcePort: anyPort,
		Destination: a.dialled.Addr(), DestinationPort: a.dialled.Port(), Protocol: a.protocol}
	if a.published == nil {
		return f
	}
	f.Dialled = a.dialled
	f.Destination, f.DestinationPort = a.to.Addr(), a.to.Port()
	if !slices.Contains(x.own, f.Destination) {
		f.Direction, f.OutInterface = policy.Forwarded, x.outInterface(f.Destination)
	}
	return f
}

// strangers is what other people's rules make of it.
func (x *exposer) strangers(a approach, f policy.Flow) Fate {
	p := Packet{Protocol: a.protocol, In: a.in, Source: f.Source, Destination: a.dialled.Addr(), DestinationPort: a.dialled.Port(), Local: true}
	if a.published == nil {
		return Judge(x.facts.Tables, []string{"ingress", "prerouting", "input"}, p)
	}
	before := Judge(x.facts.Tables, []string{"ingress", "prerouting"}, p)
	if !before.Passes {
		return before
	}
	hook := "input"
	if f.Direction == policy.Forwarded {
		hook = "forward"
	}
	p.Out, p.Destination, p.DestinationPort, p.DNATed = f.OutInterface, f.Destination, f.DestinationPort, true
	p.Local = hook == "input"
	after := Judge(x.facts.Tables, []string{hook}, p)
	return Fate{Passes: after.Passes, Drops: before.Drops || after.Drops, By: orFirst(after.By, before.By)}
}

// answer is what becomes of one class.
type answer struct {
	*class
	decision policy.Decision
	fate     Fate
}

func (a answer) passes() bool { return a.decision.Verdict.Passes() && a.fate.Passes }

// by is what decides, in words.
func (a answer) by() string {
	if a.decision.Verdict.Passes() && !a.fate.Passes {
		return a.fate.By
	}
	return decidedBy(a.decision)
}

func decidedBy(d policy.Decision) string {
	rule := fmt.Sprintf("%s %s rule %d", d.Policy, strings.ToLower(string(d.Direction)), d.RuleIndex+1)
	switch d.Reason {
	case policy.ReasonRule:
		return rule + " in tier " + d.Tier
	case policy.ReasonProfile:
		return rule
	case policy.ReasonMissingProfile:
		return d.Policy.String() + " is missing"
	case policy.ReasonFailsafe:
		for _, s := range d.Steps {
			if s.Stage == policy.StageFailsafe && s.Matched {
				return s.Why
			}
		}
		return "a failsafe"
	case policy.ReasonNoEndpoint:
		return "no HostEndpoint governs the interface"
	case policy.ReasonEndOfTier:
		return "the end of tier " + d.Tier + " at " + d.Endpoint.String()
	case policy.ReasonNothingAllows:
		return "nothing allows it at " + d.Endpoint.String()
	case policy.ReasonNoForwardPolicy:
		return "no applyOnForward policy of " + d.Endpoint.String()
	case policy.ReasonPassed:
		return "the applyOnForward policies of " + d.Endpoint.String() + " pass it"
	}
	_, because, _ := strings.Cut(d.String(), ", ") // in explain's words
	return because
}

// ask asks for every class whether it gets through.
func (x *exposer) ask(a approach) []api.Reach {
	var all []answer
	for _, c := range x.representatives(a) {
		f := x.flow(a, c.example)
		n := answer{class: c, decision: x.world.Evaluate(f), fate: Fate{Passes: true}}
		if n.decision.Verdict.Passes() {
			n.fate = x.strangers(a, f)
		}
		all = append(all, n)
	}
	r := api.Reach{Interfaces: []string{a.in}, Families: []int{a.family}, Who: whoNobody}
	if len(all) == 0 {
		return nil
	}
	if first := all[0]; first.anybody && first.passes() {
		r.Who, r.Everyone, r.By = whoEveryone, true, first.by()
		if first.fate.Drops {
			r.Unless = first.fate.By
		}
		if but := x.exceptions(all); but != "" {
			r.Who += " but " + but
		}
		return []api.Reach{r}
	}
	groups := x.groups(all, r)
	if len(groups) == 0 {
		r.By = all[0].by()
		return []api.Reach{r}
	}
	return groups
}

// exceptions names those who do not get through though everyone does.
func (x *exposer) exceptions(all []answer) string {
	var names []string
	for _, n := range all {
		if !n.passes() {
			names = append(names, x.who(n))
		}
	}
	slices.Sort(names)
	return listed(slices.Compact(names))
}

// groups joins the classes that get through by what lets them.
func (x *exposer) groups(all []answer, r api.Reach) []api.Reach {
	var out []api.Reach
	nets := map[string][]netip.Prefix{}
	for _, n := range all {
		if !n.passes() {
			continue
		}
		g := r
		g.Who, g.By = x.who(n), n.by()
		if n.fate.Drops {
			g.Unless = n.fate.By
		}
		id := g.Who + "\n" + g.By + "\n" + g.Unless
		if nets[id] == nil {
			out = append(out, g)
		}
		nets[id] = append(nets[id], n.nets...)
		if nets[id] == nil {
			nets[id] = []netip.Prefix{}
		}
	}
	for i := range out {
		g := &out[i]
		var text string
		g.Addresses, g.Nets, text = counted(nets[g.Who+"\n"+g.By+"\n"+g.Unless])
		if _, plain := parsePrefix(g.Who); text != "" && !plain {
			g.Who += " (" + text + ")"
		}
	}
	return out
}

// who is what a class is called: by the rule that decides about it, else by
// its own names.
func (x *exposer) who(n answer) string {
	d := n.decision
	if r, ok := x.rule(d); ok && (d.Reason == policy.ReasonRule || d.Reason == policy.ReasonProfile) {
		side := r.Source
		side.Ports, side.NotPorts = nil, nil
		if text := policy.EntityText(side); text != "" && (n.fate.Passes || !d.Verdict.Passes()) {
			return text
		}
	}
	if f, err := policy.ParseFailsafe(strings.TrimPrefix(decidedBy(d), "failsafe ")); err == nil && f.Net.IsValid() && n.fate.Passes {
		return f.Net.String()
	}
	if n.anybody {
		return "the rest"
	}
	return listed(n.names)
}

// rule is the rule that decided.
func (x *exposer) rule(d policy.Decision) (api.Rule, bool) {
	var in, out []api.Rule
	o := x.objs[d.Policy]
	if u, bad := o.(*api.Unreadable); bad {
		o = u.Salvaged
	}
	switch p := o.(type) {
	case *api.GlobalNetworkPolicy:
		in, out = p.Spec.Ingress, p.Spec.Egress
	case *api.NetworkPolicy:
		in, out = p.Spec.Ingress, p.Spec.Egress
	case *api.Profile:
		in, out = p.Spec.Ingress, p.Spec.Egress
	}
	if d.Direction == api.Egress {
		in = out
	}
	if d.RuleIndex < 0 || d.RuleIndex >= len(in) {
		return api.Rule{}, false
	}
	return in[d.RuleIndex], true
}
