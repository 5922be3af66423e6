// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// connectionsAtOnce is how many connections are judged in one narrowed world.
const connectionsAtOnce = 1000

// Cut are those of a host's connections that an agent there would cut when the
// resources become others: each is judged as if it began now, and is cut if
// it was let in before by any of the interfaces that it may have, and then is
// by none; but not if what denies it keeps established flows
// (api.AnnotationEstablishedFlows).
func Cut(before, after Picture, of api.Connections) []api.Connection {
	host := policy.Host{Name: of.Host, Interfaces: of.Interfaces}
	then := pictureOf(after)
	var cut []api.Connection
	for list := of.Connections; len(list) > 0; {
		n := min(len(list), connectionsAtOnce)
		var addrs []netip.Addr
		for _, c := range list[:n] {
			addrs = append(addrs, c.Source, c.Destination)
			if c.Dialled.IsValid() {
				addrs = append(addrs, c.Dialled.Addr())
			}
		}
		was, is := before.World.Narrow(of.Host, addrs), after.World.Narrow(of.Host, addrs)
		passed := func(f policy.Flow) (passes, goesOn bool) {
			passes = was.Evaluate(f).Verdict.Passes()
			return passes, passes
		}
		goesOn := func(f policy.Flow) (passes, goesOn bool) {
			d := is.Evaluate(f)
			return d.Verdict.Passes(), d.Verdict.Passes() || then.keeps(of.Host, d)
		}
		for _, c := range list[:n] {
			if byAny(host, c, passed) && !byAny(host, c, goesOn) {
				cut = append(cut, c)
			}
		}
		list = list[n:]
	}
	return cut
}

// judge says whether a flow passes, and whether it goes on if it is established.
type judge func(policy.Flow) (passes, goesOn bool)

// byAny reports whether a connection goes on by any of the interfaces that it
// may have. One from the host to itself is judged as it goes out, and if it
// passes, as it comes in.
func byAny(host policy.Host, c api.Connection, is judge) bool {
	f := policy.Flow{
		Host: host, Source: c.Source, Destination: c.Destination, Protocol: c.Protocol,
		SourcePort: c.SourcePort, DestinationPort: c.DestinationPort, ICMPType: c.ICMPType, ICMPCode: c.ICMPCode, Dialled: c.Dialled,
	}
	unknown := []string{""} // and not asked
	const loopback = "lo"
	switch c.Way {
	case "local":
		out, in := f, f
		out.Direction, out.OutInterface = policy.Outbound, loopback
		in.Direction, in.InInterface = policy.Inbound, loopback
		passes, goesOn := is(out)
		if passes {
			_, goesOn = is(in)
		}
		return goesOn
	case "inbound":
		f.Direction = policy.Inbound
		return byEach(f, c.In, unknown, is)
	case "outbound":
		f.Direction = policy.Outbound
		return byEach(f, unknown, c.Out, is)
	case "forwarded":
		f.Direction = policy.Forwarded
		return byEach(f, c.In, c.Out, is)
	}
	return false
}

func byEach(f policy.Flow, ins, outs []string, is judge) bool {
	for _, f.InInterface = range ins {
		for _, f.OutInterface = range outs {
			if _, goesOn := is(f); goesOn {
				return true
			}
		}
	}
	return false
}

// keeps reports whether a host keeps established flows that a decision denies:
// all, by its settings; those that a rule of a policy denies which keeps them;
// those that no rule of a tier allows, if all policies of the tier that were
// asked keep them; and those that nothing allows, if all policies do.
func (p *picture) keeps(host string, d policy.Decision) bool {
	switch d.Reason {
	case policy.ReasonRule, policy.ReasonProfile, policy.ReasonEndOfTier, policy.ReasonNothingAllows, policy.ReasonMissingProfile:
	default:
		return false // no policy denies it
	}
	switch {
	case p.world.KeepsFlows(host):
		return true
	case d.Reason == policy.ReasonRule:
		return p.keepsFlows(d.Policy)
	case d.Reason == policy.ReasonProfile || d.Reason == policy.ReasonMissingProfile:
		return false
	}
	asked := 0
	for k, x := range p.policies {
		if d.Tier != "" && x.tier != d.Tier || !x.judges(d.Direction, d.Phase) || !x.sel.Evaluate(p.members[d.Endpoint].Labels) {
			continue
		}
		if asked++; !p.keepsFlows(k) {
			return false
		}
	}
	return asked > 0
}

// keepsFlows reports whether a policy keeps established flows that it denies.
func (p *picture) keepsFlows(k api.Key) bool {
	o := p.objects[k]
	return o != nil && strings.EqualFold(o.Metadata().Annotations[api.AnnotationEstablishedFlows], api.FlowsKeep)
}

// judges reports whether the policy has a say in a direction and phase that
// ends with the end of a tier.
func (x *enforced) judges(d api.PolicyType, ph policy.Phase) bool {
	if x.spec.DoNotTrack || x.spec.PreDNAT || len(x.spec.Types) > 0 && !slices.Contains(x.spec.Types, d) {
		return false
	}
	return ph != policy.PhaseForward || x.spec.ApplyOnForward
}

// mostCut is how many connections a line names.
const mostCut = 10

// CutLine says in one line which connections would be cut.
func CutLine(cut []api.Connection, more int) string {
	line := "would cut: no connection of this host"
	if len(cut) > 0 {
		line = "would cut: " + plural(len(cut), "connection") + " of this host: "
		for i, c := range cut {
			if i == mostCut {
				line += fmt.Sprintf(" and %d more", len(cut)-i)
				break
			}
			if i > 0 {
				line += ", "
			}
			line += connectionText(c)
		}
	}
	if more > 0 {
		line += fmt.Sprintf("; %d more connections were not looked at", more)
	}
	return line
}

// connectionText is "tcp 192.0.2.7:51000 -> 10.0.0.5:5432".
func connectionText(c api.Connection) string {
	end := func(a netip.Addr, port uint16) string {
		if hasPorts(c.Protocol) {
			return netip.AddrPortFrom(a, port).String()
		}
		return a.String()
	}
	text := protocolName(c.Protocol) + " " + end(c.Source, c.SourcePort) + " -> " + end(c.Destination, c.DestinationPort)
	if c.Dialled.IsValid() {
		text += " (dialled as " + end(c.Dialled.Addr(), c.Dialled.Port()) + ")"
	}
	return text
}
