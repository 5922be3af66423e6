// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"github.com/ripstop/ripstop/daemon/api"
)

// judges tells whether the policy is one that the phase asks. A doNotTrack or
// preDNAT policy has a say in its own phase only, whatever else it has set.
func (p *policy) judges(ph Phase) bool {
	switch ph {
	case PhaseUntracked:
		return p.untracked
	case PhasePreDNAT:
		return p.preDNAT && !p.untracked
	case PhaseNormal, PhaseWorkload:
		return !p.untracked && !p.preDNAT
	case PhaseForward:
		return p.applyOnForward && !p.untracked && !p.preDNAT
	case PhaseAdmission:
	}
	return false
}

// tiers asks the tiers that have a say in this phase, in order; true: one
// decided. Early policy decides by rules only, not by the end of a tier.
func (e *evaluation) tiers(m *member) bool {
	e.notEnforced(m)
	for _, t := range e.w.tiersOf(m, e.at.Direction, e.at.Phase) {
		outcome := Continues
		for _, p := range e.w.policiesOf(t, m, e.at.Direction, e.at.Phase) {
			if outcome = e.policy(t, p); outcome != Continues {
				break
			}
		}
		switch {
		case outcome == Allows || outcome == Denies:
			return true
		case outcome == NextTier || e.at.Phase.early():
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
func (e *evaluation) notEnforced(m *member) {
	for _, t := range e.w.tiers {
		for _, p := range t.policies {
			if !p.speaksFor(e.at.Direction) || !p.selector.Evaluate(m.labels) {
				continue
			}
			if why := p.idle(e.at.Phase); why != "" {
				e.step(Step{Stage: StagePolicy, Tier: t.name, Policy: p.key, Outcome: Continues, Why: why})
			}
		}
	}
}

// idle says why a policy has no effect on an endpoint that it selects, in a
// phase that one might expect it in; empty: it has, or none is expected.
func (p *policy) idle(ph Phase) string {
	switch {
	case ph == PhaseWorkload && p.untracked:
		return "it is doNotTrack, which workloads do not have"
	case ph == PhaseWorkload && p.preDNAT:
		return "it is preDNAT, which workloads do not have"
	case p.staged && (p.judges(ph) || ph == PhaseForward && p.judges(PhaseNormal)):
		return "it is staged"
	case ph == PhaseForward && p.judges(PhaseNormal) && !p.judges(ph):
		return "it has no applyOnForward"
	}
	return ""
}

// ignored notes an endpoint's policies of a phase that it does not have.
func (e *evaluation) ignored(m *member, ph Phase, why string) {
	for _, t := range e.w.tiersOf(m, e.at.Direction, ph) {
		for _, p := range e.w.policiesOf(t, m, e.at.Direction, ph) {
			e.step(Step{Stage: StagePolicy, Tier: t.name, Policy: p.key, Outcome: Continues, Why: why})
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
		case Continues, NextPhase:
		}
	}
	return Continues
}

// profiles asks the endpoint's profiles, in order; true: one decided.
func (e *evaluation) profiles(names []string) bool {
	for _, name := range names {
		key := api.Key{Kind: api.KindProfile, Name: name}
		p := e.w.profiles[name]
		if p == nil {
			e.step(Step{Stage: StageProfile, Policy: key, Matched: true, Outcome: Denies, Why: "there is no such profile, which denies all"})
			return e.decide(Deny, Decision{Reason: ReasonMissingProfile, Policy: key, RuleIndex: -1})
		}
		switch e.rules(p.rules[e.at.Direction], Step{Policy: key}, ReasonProfile) {
		case Allows, Denies:
			return true
		case Continues, NextTier, NextPhase: // a profile's Pass leads to the next profile
		}
	}
	return false
}

// tiersOf are the tiers with an enforced policy that has a say about the
// endpoint in this direction and phase.
func (w *World) tiersOf(m *member, dir api.PolicyType, ph Phase) []*tier {
	var tiers []*tier
	for _, t := range w.tiers {
		if len(w.policiesOf(t, m, dir, ph)) > 0 {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// policiesOf are a tier's enforced policies that have such a say.
func (w *World) policiesOf(t *tier, m *member, dir api.PolicyType, ph Phase) []*policy {
	var policies []*policy
	for _, p := range t.policies {
		if !p.staged && p.judges(ph) && p.speaksFor(dir) && p.selector.Evaluate(m.labels) {
			policies = append(policies, p)
		}
	}
	return policies
}
