// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// Sentences tell the decision and how it came about in plain English, one
// step a line, the verdict last.
func (d Decision) Sentences() []string {
	var lines []string
	for _, s := range d.Steps {
		lines = append(lines, s.String())
	}
	return append(lines, d.String())
}

// String is the verdict in one sentence.
func (d Decision) String() string {
	switch d.Verdict {
	case Allow:
		return "verdict: allowed, " + d.because()
	case Deny:
		return "verdict: denied, " + d.because()
	case NotGoverned:
		if d.Reason == ReasonToWorkload {
			return "verdict: passes, since a host may always reach its own workloads"
		}
	}
	return "verdict: passes, since no endpoint governs this traffic"
}

func (d Decision) because() string {
	at := " at " + d.Endpoint.String()
	if d.Phase.early() {
		at += ", " + d.Phase.when()
	}
	switch d.Reason {
	case ReasonRule:
		return "by " + ruleName(d.Policy, d.Direction, d.RuleIndex) + " in tier " + d.Tier + at
	case ReasonProfile:
		return "by " + ruleName(d.Policy, d.Direction, d.RuleIndex) + at
	case ReasonMissingProfile:
		return "because " + d.Policy.String() + " is missing," + at
	case ReasonEndOfTier:
		return "by the end of tier " + d.Tier + at
	case ReasonEstablished:
		return "as part of a known connection" + at
	case ReasonInvalid:
		return "as part of no connection" + at
	case ReasonEssential:
		return "as essential to IPv6" + at
	case ReasonFailsafe:
		return "as a failsafe" + at
	case ReasonNothingAllows:
		return "because nothing allows it" + at
	case ReasonNoForwardPolicy:
		return "because no policy judges what is forwarded" + at
	case ReasonPassed:
		return "because no forward policy denies it" + at
	case ReasonUnknownInterface:
		return "because the interface is of an unknown workload"
	case ReasonLoopbackAddress:
		return "because of an address that only the loopback interface has," + at
	case ReasonSpoofedSource:
		return "because its source is not the workload's," + at
	case ReasonRouterMessage:
		return "because only routers may say this," + at
	case ReasonEncapsulated:
		return "because it hides packets from policy," + at
	case ReasonEndpointToHost:
		return "because workloads may not reach their host," + at
	case ReasonNoEndpoint, ReasonToWorkload:
	}
	return string(d.Reason) + at
}

// String is the step in one sentence. Rules are counted from 1 here.
func (s Step) String() string {
	switch s.Stage {
	case StageEndpoint:
		iface := ifaceText(s.Interface)
		switch {
		case s.Outcome == Denies:
			return iface + " is of an unknown workload: " + s.Why + ": " + outcomeText(s.Outcome)
		case s.Endpoint == (api.Key{}):
			return iface + " is not governed: " + s.Why
		}
		direction := strings.ToLower(string(s.Direction))
		if s.Phase.early() {
			direction += ", " + s.Phase.when()
		}
		return s.Endpoint.String() + " governs " + iface + " (" + direction + "): " + s.Why
	case StageRule:
		where := ruleName(s.Policy, s.Direction, s.RuleIndex) + " (" + s.Rule + ")"
		if s.Tier != "" {
			where = "tier " + s.Tier + ": policy " + where
		}
		if !s.Matched {
			return where + " does not match: " + s.Why
		}
		return where + " matched" + aside(s.Why) + ": " + outcomeText(s.Outcome)
	case StagePolicy:
		return "tier " + s.Tier + ": policy " + s.Policy.String() + " does not decide: " + s.Why
	case StageTier:
		return "tier " + s.Tier + ": " + s.Why + ": " + outcomeText(s.Outcome)
	case StageProfile:
		return s.Policy.String() + ": " + s.Why + ": " + outcomeText(s.Outcome)
	case StageConnection, StageEssential, StageFailsafe, StageEnd, StageSource, StageEncapsulation:
	}
	return s.Why + ": " + outcomeText(s.Outcome)
}

func aside(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

func ifaceText(iface string) string {
	if iface == "" {
		return "an interface without an endpoint of its own"
	}
	return "interface " + iface
}

// words are the policies of a phase.
func (p Phase) words() string {
	switch p {
	case PhaseUntracked:
		return "doNotTrack policy"
	case PhasePreDNAT:
		return "preDNAT policy"
	case PhaseForward:
		return "applyOnForward policy"
	case PhaseNormal, PhaseWorkload, PhaseAdmission:
	}
	return "policy"
}

// when is the place of an early phase on a packet's way.
func (p Phase) when() string {
	if p == PhaseUntracked {
		return "before connection tracking"
	}
	return "before destination NAT"
}

func outcomeText(o Outcome) string {
	switch o {
	case Allows:
		return "allowed"
	case Denies:
		return "denied"
	case NextTier, NextPhase:
		return "on to what comes next"
	case Continues:
	}
	return "goes on"
}

func ruleName(of api.Key, dir api.PolicyType, index int) string {
	return of.String() + " " + strings.ToLower(string(dir)) + " rule " + strconv.Itoa(index+1)
}

// ruleText is a rule in words: "Deny TCP from role == 'web' to port 80, 443".
func ruleText(r api.Rule) string {
	s := string(r.Action)
	if s == "" {
		s = "no action"
	}
	if r.IPVersion != nil {
		s += " IPv" + strconv.Itoa(*r.IPVersion)
	}
	if r.Protocol != nil {
		s += " " + protocolText(*r.Protocol)
	}
	if r.NotProtocol != nil {
		s += " not " + protocolText(*r.NotProtocol)
	}
	if r.ICMP != nil {
		s += " " + icmpText(*r.ICMP)
	}
	if r.NotICMP != nil {
		s += " not " + icmpText(*r.NotICMP)
	}
	from, to := entityText(r.Source), entityText(r.Destination)
	if from != "" {
		s += " from " + from
	}
	if to != "" {
		s += " to " + to
	}
	if r.HTTP != nil {
		s += " with an HTTP match"
	}
	return s
}

func protocolText(p api.Protocol) string {
	if p.Name != "" {
		return p.Name
	}
	return protocolName(p.Num)
}

func icmpText(f api.ICMPFields) string {
	var parts []string
	if f.Type != nil {
		parts = append(parts, "type "+strconv.Itoa(*f.Type))
	}
	if f.Code != nil {
		parts = append(parts, "code "+strconv.Itoa(*f.Code))
	}
	return strings.Join(parts, " ")
}

// entityText is one side of a rule in words; empty: anything.
func entityText(e api.EntityRule) string {
	var parts []string
	if t := selectorText(e); t != "" {
		parts = append(parts, t)
	}
	if e.Services != nil {
		parts = append(parts, "service "+e.Services.Namespace+"/"+e.Services.Name)
	}
	if len(e.Nets) > 0 {
		parts = append(parts, strings.Join(e.Nets, ", "))
	}
	if len(e.NotNets) > 0 {
		parts = append(parts, "not "+strings.Join(e.NotNets, ", "))
	}
	if len(e.Ports) > 0 {
		parts = append(parts, "port "+portsText(e.Ports))
	}
	if len(e.NotPorts) > 0 {
		parts = append(parts, "not port "+portsText(e.NotPorts))
	}
	return strings.Join(parts, " and ")
}

// selectorText is what a side selects by labels, in words.
func selectorText(e api.EntityRule) string {
	var parts []string
	if e.Selector != "" {
		parts = append(parts, e.Selector)
	}
	if e.NotSelector != "" {
		parts = append(parts, "not ("+e.NotSelector+")")
	}
	if e.NamespaceSelector != "" {
		parts = append(parts, "namespace "+e.NamespaceSelector)
	}
	if a := e.ServiceAccounts; a != nil {
		if len(a.Names) > 0 {
			parts = append(parts, "service account "+strings.Join(a.Names, ", "))
		}
		if a.Selector != "" {
			parts = append(parts, "service account "+a.Selector)
		}
	}
	return strings.Join(parts, " and ")
}

func portsText(ports []api.Port) string {
	var parts []string
	for _, p := range ports {
		switch {
		case p.Name != "":
			parts = append(parts, p.Name)
		case p.Min == p.Max:
			parts = append(parts, strconv.Itoa(int(p.Min)))
		default:
			parts = append(parts, strconv.Itoa(int(p.Min))+"-"+strconv.Itoa(int(p.Max)))
		}
	}
	return strings.Join(parts, ", ")
}
