// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// Evaluate judges one packet at one host.
func (w *World) Evaluate(f Flow) Decision {
	f.Source, f.Destination = plain(f.Source), plain(f.Destination)
	f.Dialled = netip.AddrPortFrom(plain(f.Dialled.Addr()), f.Dialled.Port())
	if f.Dialled.Addr() == f.Destination && (f.Dialled.Port() == f.DestinationPort || !hasPorts(f.Protocol)) {
		f.Dialled = netip.AddrPort{} // rewritten to what it was
	}
	e := &evaluation{w: w, f: f, set: w.Settings(f.Host.Name)}
	e.d.Reason, e.d.RuleIndex = ReasonNoEndpoint, -1
	switch f.Direction {
	case Inbound:
		e.inbound()
	case Outbound:
		e.outbound()
	case Forwarded:
		e.forwarded()
	}
	return e.d
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// evaluation is the work on one packet. at is where it stands: the phase, the
// endpoint, its interface and the direction of the rules, filled into each
// step.
type evaluation struct {
	w   *World
	f   Flow
	set Settings
	d   Decision
	at  Step
}

// inbound judges what is for a socket of the host.
func (e *evaluation) inbound() {
	in := e.w.seatOf(e.f.Host, e.set, e.f.InInterface)
	if !e.admitted(in) {
		return
	}
	early := e.early(in)
	switch {
	case early == Denies:
	case in.workload != nil:
		e.toHost(in)
	case early == Continues:
		h, why := in.normal()
		e.local(h, why, in.iface, api.Ingress)
	}
}

// outbound judges what a socket of the host sends. Nothing but doNotTrack
// policy of a host endpoint there judges what it sends to its own workloads.
func (e *evaluation) outbound() {
	first := e.w.seatOf(e.f.Host, e.set, e.f.firstOutInterface())
	h, why := first.own, first.whyOwn
	if h == nil {
		h, why = first.untracked()
	}
	translated := e.f
	e.f = e.f.beforeDNAT()
	if e.untracked(h, why, first.iface, api.Egress) != Continues {
		return
	}
	e.f = translated
	out := e.w.seatOf(e.f.Host, e.set, e.f.OutInterface)
	if x := out.workload; x != nil {
		e.at = Step{Phase: PhaseWorkload, Interface: out.iface, Direction: api.Ingress}
		e.step(Step{Stage: StageEnd, Matched: true, Outcome: Continues,
			Why: ifaceText(out.iface) + " is of " + x.key.String() + ", and a host may always reach its own workloads"})
		e.decide(NotGoverned, Decision{Reason: ReasonToWorkload, RuleIndex: -1})
		return
	}
	h, why = out.normal()
	e.local(h, why, out.iface, api.Egress)
}

// forwarded judges what goes through the host. Each that has a say must let it
// pass: the endpoints at the interface it comes in by, the workload it is
// from, the workload it is for, the endpoints at the interface it goes out by.
func (e *evaluation) forwarded() {
	in := e.w.seatOf(e.f.Host, e.set, e.f.InInterface)
	if !e.admitted(in) {
		return
	}
	rewritten := e.f.Dialled.IsValid()
	early := e.early(in)
	if rewritten && !e.f.Dialled.IsValid() && e.f.Host.has(e.f.Destination) {
		return // its destination is not rewritten after all: it is for the host
	}
	if early == Continues {
		h, why := in.passing()
		e.passing(h, why, in.iface, api.Ingress)
	}
	if in.workload != nil && e.d.Verdict != Deny {
		e.workload(in, api.Egress)
	}
	if e.d.Verdict == Deny {
		return
	}
	out := e.w.seatOf(e.f.Host, e.set, e.f.OutInterface)
	if out.unknown() {
		e.stopUnknown(out, api.Ingress)
		return
	}
	if out.workload != nil {
		e.workload(out, api.Ingress)
	}
	if e.d.Verdict != Deny {
		h, why := out.passing()
		e.passing(h, why, out.iface, api.Egress)
	}
}

// admitted stops, before any policy, what no packet may be that comes in
// there: of an unknown workload, with an address that is the loopback
// interface's, or from a workload with a source that is not its own.
func (e *evaluation) admitted(in seat) bool {
	if in.unknown() {
		return !e.stopUnknown(in, api.Egress)
	}
	reason, why := in.inadmissible(e.f.beforeDNAT())
	if reason == "" {
		return true
	}
	e.at = Step{Phase: PhaseAdmission, Interface: in.iface, Direction: api.Ingress}
	if h, _ := in.passing(); in.workload != nil {
		e.at.Endpoint, e.at.Direction = in.workload.key, api.Egress
	} else {
		e.at.Endpoint = h.key
	}
	e.step(Step{Stage: StageSource, Matched: true, Outcome: Denies, Why: why})
	return !e.decide(Deny, Decision{Reason: reason, RuleIndex: -1})
}

// inadmissible says why such a packet must not come in by the interface,
// whatever policy says; empty: it may.
func (s seat) inadmissible(f Flow) (Reason, string) {
	if s.iface != loopback && s.governed() {
		for _, side := range []string{source, destination} {
			if a := f.address(side); a.IsLoopback() {
				return ReasonLoopbackAddress, side + " " + a.String() + " is of the loopback interface, and this is " + ifaceText(s.iface)
			}
		}
	}
	if s.workload == nil {
		return "", ""
	}
	return s.workload.forgery(f)
}

// stopUnknown drops what comes from or goes to an unknown workload. It is true.
func (e *evaluation) stopUnknown(s seat, dir api.PolicyType) bool {
	why := "it has a workload's prefix, and no WorkloadEndpoint is for it"
	if s.whyAbsent != "" {
		why = "it has a workload's prefix, and " + s.whyAbsent
	}
	e.at = Step{Phase: PhaseAdmission, Interface: s.iface, Direction: dir}
	e.step(Step{Stage: StageEndpoint, Outcome: Denies, Why: why})
	return e.decide(Deny, Decision{Reason: ReasonUnknownInterface, RuleIndex: -1})
}

// local judges traffic of the host's own sockets by an endpoint; nil: none
// governs it.
func (e *evaluation) local(h *hostEndpoint, why, iface string, dir api.PolicyType) {
	if h == nil {
		e.arriveAt(api.Key{}, PhaseNormal, iface, dir, why)
		e.decide(NotGoverned, Decision{Reason: ReasonNoEndpoint, RuleIndex: -1})
		return
	}
	e.arriveAt(h.key, PhaseNormal, iface, dir, why)
	if e.untrackedMTU(h) || e.connection() || e.essential() || e.failsafe() || e.tiers(h.member) || e.profiles(h.spec.Profiles) {
		return
	}
	e.nothingAllows()
}

// passing judges forwarded traffic by the applyOnForward policies of an
// endpoint; nil: none governs it there.
func (e *evaluation) passing(h *hostEndpoint, why, iface string, dir api.PolicyType) {
	if h == nil {
		e.arriveAt(api.Key{}, PhaseForward, iface, dir, why)
		return
	}
	e.arriveAt(h.key, PhaseForward, iface, dir, why)
	// What belongs to no connection is stopped wherever an endpoint governs,
	// whether or not one of its policies judges what is forwarded.
	if e.untrackedMTU(h) || e.connection() {
		return
	}
	if len(e.w.tiersOf(h.member, dir, PhaseForward)) == 0 {
		e.step(Step{Stage: StageEnd, Matched: true, Outcome: Allows,
			Why: "no applyOnForward policy with a say in " + string(dir) + " selects the endpoint"})
		e.allowForward(ReasonNoForwardPolicy)
		return
	}
	if e.tiers(h.member) {
		return
	}
	e.step(Step{Stage: StageEnd, Matched: true, Outcome: Allows,
		Why: "no applyOnForward tier denied it, and profiles do not judge forwarded traffic"})
	e.allowForward(ReasonPassed)
}

// allowForward allows at this interface because nothing here objects. A rule
// that allowed elsewhere on the way stays the one that decided.
func (e *evaluation) allowForward(r Reason) {
	if !slices.Contains([]Reason{ReasonRule, ReasonProfile}, e.d.Reason) {
		e.decide(Allow, Decision{Reason: r, RuleIndex: -1})
	}
}

// arriveAt notes the endpoint that judges next; no key: none governs there.
func (e *evaluation) arriveAt(k api.Key, p Phase, iface string, dir api.PolicyType, why string) {
	e.at = Step{Phase: p, Interface: iface, Direction: dir, Endpoint: k}
	e.step(Step{Stage: StageEndpoint, Matched: k != api.Key{}, Outcome: Continues, Why: why})
}

// connection lets packets of known connections pass and stops those that
// belong to none.
func (e *evaluation) connection() bool {
	switch e.f.State {
	case Established, Related:
		e.step(Step{Stage: StageConnection, Matched: true, Outcome: Allows, Why: "the packet is " + e.f.State.String()})
		return e.decide(Allow, Decision{Reason: ReasonEstablished, RuleIndex: -1})
	case Invalid:
		if e.set.AllowInvalid {
			e.step(Step{Stage: StageConnection, Outcome: Continues,
				Why: "the packet is invalid, which disableConntrackInvalidCheck leaves to policy"})
			return false
		}
		e.step(Step{Stage: StageConnection, Matched: true, Outcome: Denies, Why: "the packet is invalid"})
		return e.decide(Deny, Decision{Reason: ReasonInvalid, RuleIndex: -1})
	case New, Untracked:
	}
	return false
}

func (e *evaluation) essential() bool {
	if !e.f.essential(e.at.Direction) {
		return false
	}
	e.step(Step{Stage: StageEssential, Matched: true, Outcome: Allows, Why: "IPv6 does not work without this ICMPv6 type"})
	return e.decide(Allow, Decision{Reason: ReasonEssential, RuleIndex: -1})
}

// failsafe lets failsafe ports pass.
func (e *evaluation) failsafe() bool {
	why := e.failsafeOf(e.at.Direction, false)
	if why == "" {
		return false
	}
	e.step(Step{Stage: StageFailsafe, Matched: true, Outcome: Allows, Why: why})
	return e.decide(Allow, Decision{Reason: ReasonFailsafe, RuleIndex: -1})
}

func (e *evaluation) nothingAllows() {
	e.step(Step{Stage: StageEnd, Matched: true, Outcome: Denies, Why: "no policy and no profile of the endpoint allows it"})
	e.decide(Deny, Decision{Reason: ReasonNothingAllows, RuleIndex: -1})
}

// step notes something that is not about a rule.
func (e *evaluation) step(s Step) {
	s.RuleIndex = -1
	e.steps(s)
}

func (e *evaluation) steps(s Step) {
	s.Phase, s.Interface, s.Endpoint, s.Direction = e.at.Phase, e.at.Interface, e.at.Endpoint, e.at.Direction
	e.d.Steps = append(e.d.Steps, s)
}

// decide sets the verdict and who gave it, and is true.
func (e *evaluation) decide(v Verdict, d Decision) bool {
	d.Verdict, d.Steps = v, e.d.Steps
	d.Phase, d.Endpoint, d.Direction = e.at.Phase, e.at.Endpoint, e.at.Direction
	e.d = d
	return true
}
