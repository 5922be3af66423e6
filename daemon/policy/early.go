// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// early judges what comes in before it is tracked and before its destination
// is rewritten: doNotTrack policy, then preDNAT policy. In these two a Deny is
// final, and what no rule decides goes on: there is no end of a tier, and
// there are no profiles.
//
// Allows: the packet is spared preDNAT policy if a doNotTrack policy allowed
// it, and in both cases what a host endpoint would say of it as it comes in.
// A packet that a doNotTrack policy allowed is untracked from here on: its
// destination is not rewritten.
func (e *evaluation) early(s seat) Outcome {
	translated := e.f
	e.f = e.f.beforeDNAT()
	h, why := s.untracked()
	outcome := e.untracked(h, why, s.iface, api.Ingress)
	if outcome == Allows {
		e.f.State, e.f.Dialled = Untracked, netip.AddrPort{}
		return Allows
	}
	if outcome == Continues {
		h, why = s.passing()
		outcome = e.preDNAT(h, why, s.iface)
	}
	e.f = translated
	return outcome
}

// untracked asks an endpoint's doNotTrack policies. They judge each packet by
// itself, whatever connection it is of.
func (e *evaluation) untracked(h *hostEndpoint, why, iface string, dir api.PolicyType) Outcome {
	if h == nil || len(e.w.tiersOf(h.member, dir, PhaseUntracked)) == 0 {
		return Continues
	}
	e.arriveAt(h.key, PhaseUntracked, iface, dir, why)
	if h.spec.InterfaceName == api.AllInterfaces {
		e.ignored(h.member, PhaseUntracked, "a wildcard endpoint has no doNotTrack policy")
		return Continues
	}
	if e.aboutMTU(h) || e.exempt(dir, true) {
		return Continues
	}
	return e.earlyTiers(h)
}

// preDNAT asks an endpoint's preDNAT policies, which have only ingress rules.
func (e *evaluation) preDNAT(h *hostEndpoint, why, iface string) Outcome {
	if h == nil || len(e.w.tiersOf(h.member, api.Ingress, PhasePreDNAT)) == 0 {
		return Continues
	}
	e.arriveAt(h.key, PhasePreDNAT, iface, api.Ingress, why)
	if e.f.State == Established || e.f.State == Related {
		e.step(Step{Stage: StageConnection, Matched: true, Outcome: NextPhase, Why: "the packet is " + e.f.State.String()})
		return Continues
	}
	if e.aboutMTU(h) {
		return Continues
	}
	if e.connection() {
		return Denies
	}
	if e.exempt(api.Ingress, false) {
		return Continues
	}
	return e.earlyTiers(h)
}

// exempt tells whether early policy has no say in the packet, which then goes
// on as if there were none.
func (e *evaluation) exempt(dir api.PolicyType, mirrored bool) bool {
	stage, why := StageEssential, "IPv6 does not work without this ICMPv6 type"
	if !e.f.essential(dir) {
		if stage, why = StageFailsafe, e.failsafeOf(dir, mirrored); why == "" {
			return false
		}
	}
	e.step(Step{Stage: stage, Matched: true, Outcome: NextPhase, Why: why})
	return true
}

// aboutMTU is exempt for messages about the path's MTU.
func (e *evaluation) aboutMTU(h *hostEndpoint) bool {
	if !e.f.pathMTU() || !e.w.untracks(h) {
		return false
	}
	e.step(Step{Stage: StageEssential, Matched: true, Outcome: NextPhase, Why: whyMTU})
	return true
}

func (e *evaluation) earlyTiers(h *hostEndpoint) Outcome {
	switch {
	case !e.tiers(h.member):
		e.step(Step{Stage: StageEnd, Matched: true, Outcome: NextPhase, Why: "no rule of " + e.at.Phase.words() + " decided"})
		return Continues
	case e.d.Verdict == Deny:
		return Denies
	}
	return Allows
}

// failsafeOf names the failsafe that the packet is; empty: none. A failsafe is
// known by the destination port and, if it has a net, the peer. Where packets
// are judged one by one, what answers a failsafe of the other direction,
// mirrored, is one too.
func (e *evaluation) failsafeOf(dir api.PolicyType, mirrored bool) string {
	asked, answered, peer := e.set.FailsafeInbound, e.set.FailsafeOutbound, e.f.Source
	if dir == api.Egress {
		asked, answered, peer = answered, asked, e.f.Destination
	}
	is := func(port uint16) func(Failsafe) bool {
		return func(s Failsafe) bool {
			return s.Protocol == e.f.Protocol && hasPorts(s.Protocol) && s.Port == port && (!s.Net.IsValid() || s.Net.Contains(peer))
		}
	}
	if i := slices.IndexFunc(asked, is(e.f.DestinationPort)); i >= 0 {
		return "failsafe " + asked[i].String()
	}
	if i := slices.IndexFunc(answered, is(e.f.SourcePort)); mirrored && i >= 0 {
		return "an answer to failsafe " + answered[i].String()
	}
	return ""
}
