// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
)

// Verdict is what becomes of a flow.
type Verdict uint8

// Verdicts. NotGoverned: no endpoint governs the flow, so it passes, as far as
// policy is concerned.
const (
	NotGoverned Verdict = iota
	Allow
	Deny
)

// String is the verdict's name.
func (v Verdict) String() string {
	switch v {
	case NotGoverned:
		return "NotGoverned"
	case Allow:
		return "Allow"
	case Deny:
		return "Deny"
	}
	return "Verdict(" + strconv.Itoa(int(v)) + ")"
}

// MarshalText makes a Verdict a word in JSON.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Passes tells whether the packet goes on.
func (v Verdict) Passes() bool { return v != Deny }

// Reason is why a flow has its verdict. It is part of the JSON output.
type Reason string

// Reasons of a verdict.
const (
	ReasonNoEndpoint      Reason = "NoEndpoint"      // nothing governs the interface
	ReasonEstablished     Reason = "Established"     // part of or related to an allowed connection
	ReasonInvalid         Reason = "Invalid"         // connection tracking cannot place it
	ReasonEssential       Reason = "Essential"       // see Essential
	ReasonFailsafe        Reason = "Failsafe"        // a failsafe port
	ReasonRule            Reason = "Rule"            // a rule of a policy
	ReasonEndOfTier       Reason = "EndOfTier"       // no rule of the tier decided
	ReasonProfile         Reason = "Profile"         // a rule of a profile
	ReasonMissingProfile  Reason = "MissingProfile"  // a profile that is not there
	ReasonNothingAllows   Reason = "NothingAllows"   // neither policy nor profile decided
	ReasonNoForwardPolicy Reason = "NoForwardPolicy" // no applyOnForward policy of the direction
	ReasonPassed          Reason = "Passed"          // all applyOnForward tiers were passed

	ReasonToWorkload       Reason = "ToWorkload"       // from the host to its own workload: not judged
	ReasonUnknownInterface Reason = "UnknownInterface" // a workload's interface without a workload endpoint
	ReasonLoopbackAddress  Reason = "LoopbackAddress"  // 127.0.0.0/8 or ::1 came in by another interface
	ReasonSpoofedSource    Reason = "SpoofedSource"    // a workload sent from an address not its own
	ReasonRouterMessage    Reason = "RouterMessage"    // a workload sent what only routers send
	ReasonEncapsulated     Reason = "Encapsulated"     // a workload sent VXLAN or IP in IP
	ReasonEndpointToHost   Reason = "EndpointToHost"   // defaultEndpointToHostAction is Drop
)

// Phase is the part of a packet's way through a host in which something is
// looked at: which kind of policy is asked. It is part of the JSON output.
type Phase string

// Phases, in the order in which a packet meets them; it does not meet all.
const (
	PhaseAdmission Phase = "admission" // who may send at all, and from which address
	PhaseUntracked Phase = "untracked" // doNotTrack policy of a host endpoint, before tracking and NAT
	PhasePreDNAT   Phase = "preDNAT"   // preDNAT policy of a host endpoint, before NAT
	PhaseNormal    Phase = "normal"    // policy of a host endpoint, on traffic of the host
	PhaseForward   Phase = "forward"   // applyOnForward policy of a host endpoint, on forwarded traffic
	PhaseWorkload  Phase = "workload"  // policy of a workload endpoint
)

// early tells whether the phase's policies decide by rules only, and leave to
// later phases what no rule decided. What they deny is never answered.
func (p Phase) early() bool { return p == PhaseUntracked || p == PhasePreDNAT }

// Decision is a verdict with its reasons.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	// Endpoint is the endpoint where it was decided; zero if none governs.
	Endpoint api.Key
	// Phase is where it was decided. What is denied in PhaseAdmission,
	// PhaseUntracked and PhasePreDNAT is dropped and never answered, whatever
	// the deny action is.
	Phase Phase
	// Direction is that of the rules at that endpoint.
	Direction api.PolicyType
	// Tier is set if a policy or the end of a tier decided.
	Tier string
	// Policy is the policy or profile whose rule decided.
	Policy api.Key
	// RuleIndex is the place of that rule in the list, from 0; -1: none.
	RuleIndex int
	// Steps are all that was looked at, in order.
	Steps []Step
}

// Stage is what a Step looked at. It is part of the JSON output.
type Stage string

// Stages of an evaluation.
const (
	StageEndpoint   Stage = "endpoint"
	StageConnection Stage = "connection"
	StageEssential  Stage = "essential"
	StageFailsafe   Stage = "failsafe"
	StageTier       Stage = "tier"
	StagePolicy     Stage = "policy"
	StageRule       Stage = "rule"
	StageProfile    Stage = "profile"
	StageEnd        Stage = "end"

	StageSource        Stage = "source"        // the packet's addresses
	StageEncapsulation Stage = "encapsulation" // packets inside packets
)

// Outcome is what a Step led to. It is part of the JSON output.
type Outcome string

// Outcomes of a step.
const (
	Continues Outcome = "continue" // the next step
	NextTier  Outcome = "nextTier" // the rest of the tier or profile is passed over
	Allows    Outcome = "allow"
	Denies    Outcome = "deny"
	// NextPhase: the rest of the phase is passed over.
	NextPhase Outcome = "nextPhase"
)

// Step is one thing that was looked at on the way to a decision.
type Step struct {
	Stage     Stage
	Phase     Phase
	Interface string
	Endpoint  api.Key
	Direction api.PolicyType
	Tier      string
	// Policy is the policy or profile.
	Policy api.Key
	// RuleIndex counts from 0; -1: not about a rule.
	RuleIndex int
	// Rule is the rule in words.
	Rule string
	// Matched tells whether what was looked at applied to the flow.
	Matched bool
	Outcome Outcome
	// Why says what made it apply or not.
	Why string
}

// jsonKey is a resource's key as it is written in JSON.
type jsonKey struct {
	Kind      api.Kind `json:"kind"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
}

func jsonKeyOf(k api.Key) *jsonKey {
	if k == (api.Key{}) {
		return nil
	}
	return &jsonKey{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}
}

func jsonIndex(i int) *int {
	if i < 0 {
		return nil
	}
	return &i
}

// MarshalJSON writes the decision with what does not apply left out, and with
// its sentences beside the steps.
func (d Decision) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Verdict   Verdict        `json:"verdict"`
		Reason    Reason         `json:"reason"`
		Phase     Phase          `json:"phase,omitempty"`
		Endpoint  *jsonKey       `json:"endpoint,omitempty"`
		Direction api.PolicyType `json:"direction,omitempty"`
		Tier      string         `json:"tier,omitempty"`
		Policy    *jsonKey       `json:"policy,omitempty"`
		RuleIndex *int           `json:"ruleIndex,omitempty"`
		Steps     []Step         `json:"steps"`
	}{d.Verdict, d.Reason, d.Phase, jsonKeyOf(d.Endpoint), d.Direction, d.Tier, jsonKeyOf(d.Policy), jsonIndex(d.RuleIndex), d.Steps})
}

// MarshalJSON writes the step with what does not apply left out, and as a
// sentence.
func (s Step) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Stage     Stage          `json:"stage"`
		Phase     Phase          `json:"phase,omitempty"`
		Interface string         `json:"interface,omitempty"`
		Endpoint  *jsonKey       `json:"endpoint,omitempty"`
		Direction api.PolicyType `json:"direction,omitempty"`
		Tier      string         `json:"tier,omitempty"`
		Policy    *jsonKey       `json:"policy,omitempty"`
		RuleIndex *int           `json:"ruleIndex,omitempty"`
		Rule      string         `json:"rule,omitempty"`
		Matched   bool           `json:"matched"`
		Outcome   Outcome        `json:"outcome"`
		Why       string         `json:"why,omitempty"`
		Sentence  string         `json:"sentence"`
	}{s.Stage, s.Phase, s.Interface, jsonKeyOf(s.Endpoint), s.Direction, s.Tier, jsonKeyOf(s.Policy), jsonIndex(s.RuleIndex),
		s.Rule, s.Matched, s.Outcome, s.Why, s.String()})
}
