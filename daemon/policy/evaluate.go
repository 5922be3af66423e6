// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"

	"github.com/ripstop/ripstop/daemon/api"
)

// Evaluate judges one packet at one host.
func (w *World) Evaluate(f Flow) Decision {
	f.Source, f.Destination = plain(f.Source), plain(f.Destination)
	e := &evaluation{w: w, f: f, set: w.Settings(f.Host.Name)}
	e.d.RuleIndex = -1
	switch f.Direction {
	case Inbound:
		e.local(f.InInterface, api.Ingress)
	case Outbound:
		e.local(f.OutInterface, api.Egress)
	case Forwarded:
		e.forwarded()
	}
	return e.d
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// evaluation is the work on one packet. at is where it stands: the endpoint,
// its interface and the direction of the rules, filled into each step.
type evaluation struct {
	w   *World
	f   Flow
	set Settings
	d   Decision
	at  Step
}

// local judges traffic of the host's own sockets.
func (e *evaluation) local(iface string, dir api.PolicyType) {
	h := e.arrive(iface, dir)
	if h == nil {
		e.decide(NotGoverned, Decision{Reason: ReasonNoEndpoint, RuleIndex: -1})
		return
	}
	if e.connection() || e.essential() || e.failsafe() || e.tiers(h, false) || e.profiles(h) {
		return
	}
	e.step(Step{Stage: StageEnd, Matched: true, Outcome: Denies, Why: "no policy and no profile of the endpoint allows it"})
	e.decide(Deny, Decision{Reason: ReasonNothingAllows, RuleIndex: -1})
}

// forwarded judges traffic that goes through the host: first at the interface
// it comes in by, then at the one it goes out by. Each must let it pass.
func (e *evaluation) forwarded() {
	e.decide(NotGoverned, Decision{Reason: ReasonNoEndpoint, RuleIndex: -1})
	e.forwardedAt(e.f.InInterface, api.Ingress)
	if e.d.Verdict != Deny {
		e.forwardedAt(e.f.OutInterface, api.Egress)
	}
}

func (e *evaluation) forwardedAt(iface string, dir api.PolicyType) {
	h := e.arrive(iface, dir)
	// What belongs to no connection is stopped wherever an endpoint governs,
	// whether or not one of its policies judges what is forwarded.
	if h == nil || e.connection() {
		return
	}
	if len(e.w.tiersOf(h, dir, true)) == 0 {
		e.step(Step{Stage: StageEnd, Matched: true, Outcome: Allows,
			Why: "no applyOnForward policy with a say in " + string(dir) + " selects the endpoint"})
		e.allowForward(ReasonNoForwardPolicy)
		return
	}
	if e.tiers(h, true) {
		return
	}
	e.step(Step{Stage: StageEnd, Matched: true, Outcome: Allows,
		Why: "no applyOnForward tier denied it, and profiles do not judge forwarded traffic"})
	e.allowForward(ReasonPassed)
}

// allowForward allows at this interface because nothing here objects. A rule
// that allowed at the other interface stays the one that decided.
func (e *evaluation) allowForward(r Reason) {
	if e.d.Reason != ReasonRule {
		e.decide(Allow, Decision{Reason: r, RuleIndex: -1})
	}
}

// arrive finds the endpoint that governs the interface; nil: none.
func (e *evaluation) arrive(iface string, dir api.PolicyType) *hostEndpoint {
	h, why := e.w.govern(e.f.Host, e.set, iface)
	e.at = Step{Interface: iface, Direction: dir}
	if h != nil {
		e.at.Endpoint = h.key
	}
	e.step(Step{Stage: StageEndpoint, Matched: h != nil, Outcome: Continues, Why: why})
	return h
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
	if !e.f.essential() {
		return false
	}
	e.step(Step{Stage: StageEssential, Matched: true, Outcome: Allows, Why: "IPv6 does not work without this ICMPv6 type"})
	return e.decide(Allow, Decision{Reason: ReasonEssential, RuleIndex: -1})
}

// failsafe lets failsafe ports pass: by destination port, and by the peer's
// net if the failsafe has one.
func (e *evaluation) failsafe() bool {
	list, peer := e.set.FailsafeInbound, e.f.Source
	if e.f.Direction == Outbound {
		list, peer = e.set.FailsafeOutbound, e.f.Destination
	}
	for _, s := range list {
		if s.Protocol == e.f.Protocol && hasPorts(s.Protocol) && s.Port == e.f.DestinationPort &&
			(!s.Net.IsValid() || s.Net.Contains(peer)) {
			e.step(Step{Stage: StageFailsafe, Matched: true, Outcome: Allows, Why: "failsafe " + s.String()})
			return e.decide(Allow, Decision{Reason: ReasonFailsafe, RuleIndex: -1})
		}
	}
	return false
}

// tiers asks the tiers that have a say, in order; true: one decided.
func (e *evaluation) tiers(h *hostEndpoint, forward bool) bool {
	e.notEnforced(h, forward)
	for _, t := range e.w.tiersOf(h, e.at.Direction, forward) {
		outcome := Continues
		for _, p := range e.w.policiesOf(t, h, e.at.Direction, forward) {
			if outcome = e.policy(t, p); outcome != Continues {
				break
			}
		}
		switch {
		case outcome == Allows || outcome == Denies:
			return true
		case outcome == NextTier:
			continue
		case t.defaultPass:
			e.step(Step{Stage: StageTier, Tier: t.name, Matched: true, Outcome: NextTier,
				Why: "no rule decided, and the tier's default action is Pass"})
			continue
		}
		why := "no rule decided, and the tier's default action is Deny"
		if t.missing {
			why = "no rule decided, and there is no such tier, so its default action is Deny"
		}
		e.step(Step{Stage: StageTier, Tier: t.name, Matched: true, Outcome: Denies, Why: why})
		return e.decide(Deny, Decision{Reason: ReasonEndOfTier, Tier: t.name, RuleIndex: -1})
	}
	return false
}

// notEnforced notes the policies that select the endpoint to no effect.
func (e *evaluation) notEnforced(h *hostEndpoint, forward bool) {
	for _, t := range e.w.tiers {
		for _, p := range t.policies {
			if !p.speaksFor(e.at.Direction) || !p.selector.Evaluate(h.labels) {
				continue
			}
			why := p.outOfScope
			if p.staged {
				why = "it is staged"
			} else if why == "" && forward && !p.applyOnForward {
				why = "it has no applyOnForward"
			}
			if why != "" {
				e.step(Step{Stage: StagePolicy, Tier: t.name, Policy: p.key, Outcome: Continues, Why: why})
			}
		}
	}
}

// policy asks the rules of one policy, in order.
func (e *evaluation) policy(t *tier, p *policy) Outcome {
	rules := p.rules[e.at.Direction]
	if len(rules) == 0 {
		e.step(Step{Stage: StagePolicy, Tier: t.name, Policy: p.key, Outcome: Continues, Why: "it has no rule of this direction"})
	}
	return e.rules(rules, Step{Tier: t.name, Policy: p.key}, ReasonRule)
}

// rules asks rules in order; where is what they belong to.
func (e *evaluation) rules(rules []*rule, where Step, reason Reason) Outcome {
	for i, r := range rules {
		s := where
		s.Stage, s.RuleIndex, s.Rule, s.Outcome = StageRule, i, r.text, Continues
		s.Matched, s.Why = r.match(e.w, e.f)
		if s.Matched {
			s.Outcome = map[api.Action]Outcome{api.Allow: Allows, api.Deny: Denies, api.Pass: NextTier, api.Log: Continues}[r.action]
		}
		e.steps(s)
		decided := Decision{Reason: reason, Tier: where.Tier, Policy: where.Policy, RuleIndex: i}
		switch s.Outcome {
		case Allows:
			e.decide(Allow, decided)
			return Allows
		case Denies:
			e.decide(Deny, decided)
			return Denies
		case NextTier:
			return NextTier
		case Continues:
		}
	}
	return Continues
}

// profiles asks the endpoint's profiles, in order; true: one decided.
func (e *evaluation) profiles(h *hostEndpoint) bool {
	for _, name := range h.spec.Profiles {
		key := api.Key{Kind: api.KindProfile, Name: name}
		p := e.w.profiles[name]
		if p == nil {
			e.step(Step{Stage: StageProfile, Policy: key, Matched: true, Outcome: Denies, Why: "there is no such profile, which denies all"})
			return e.decide(Deny, Decision{Reason: ReasonMissingProfile, Policy: key, RuleIndex: -1})
		}
		switch e.rules(p.rules[e.at.Direction], Step{Policy: key}, ReasonProfile) {
		case Allows, Denies:
			return true
		case Continues, NextTier: // a profile's Pass leads to the next profile
		}
	}
	return false
}

// tiersOf are the tiers with an enforced policy that has a say about the
// endpoint in this direction.
func (w *World) tiersOf(h *hostEndpoint, dir api.PolicyType, forward bool) []*tier {
	var tiers []*tier
	for _, t := range w.tiers {
		if len(w.policiesOf(t, h, dir, forward)) > 0 {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// policiesOf are a tier's enforced policies that have such a say.
func (w *World) policiesOf(t *tier, h *hostEndpoint, dir api.PolicyType, forward bool) []*policy {
	var policies []*policy
	for _, p := range t.policies {
		if !p.staged && p.outOfScope == "" && p.speaksFor(dir) && (p.applyOnForward || !forward) && p.selector.Evaluate(h.labels) {
			policies = append(policies, p)
		}
	}
	return policies
}

// step notes something that is not about a rule.
func (e *evaluation) step(s Step) {
	s.RuleIndex = -1
	e.steps(s)
}

func (e *evaluation) steps(s Step) {
	s.Interface, s.Endpoint, s.Direction = e.at.Interface, e.at.Endpoint, e.at.Direction
	e.d.Steps = append(e.d.Steps, s)
}

// decide sets the verdict and who gave it, and is true.
func (e *evaluation) decide(v Verdict, d Decision) bool {
	d.Verdict, d.Steps = v, e.d.Steps
	d.Endpoint, d.Direction = e.at.Endpoint, e.at.Direction
	e.d = d
	return true
}
