// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"slices"
)

// Validate reports every fault of the policy.
func (p *GlobalNetworkPolicy) Validate() error { return validatePolicy(p, &p.Spec) }

// Validate reports every fault of the policy.
func (p *NetworkPolicy) Validate() error { return validatePolicy(p, &p.Spec) }

// Validate reports every fault of the policy.
func (p *StagedGlobalNetworkPolicy) Validate() error { return validatePolicy(p, &p.Spec) }

// Validate reports every fault of the policy.
func (p *StagedNetworkPolicy) Validate() error { return validatePolicy(p, &p.Spec) }

// AssumeNeededOnEveryNode is the one performance hint there is.
const AssumeNeededOnEveryNode = "AssumeNeededOnEveryNode"

// validatePolicy checks a policy of any kind. Types may be empty: Default or
// the reader fills them in.
func validatePolicy(o Object, s *PolicySpec) error {
	var f faults
	checkMeta(&f, o)
	kind := o.Key().Kind
	staged := kind == KindStagedGlobalNetworkPolicy || kind == KindStagedNetworkPolicy
	namespaced := kind == KindNetworkPolicy || kind == KindStagedNetworkPolicy
	checkKindFields(&f, kind, s)
	if s.Tier != "" && !isDNSLabel(s.Tier) {
		f.add("spec.tier", quoted(s.Tier), nameFault(KindTier, s.Tier), lowerCased(s.Tier, isDNSLabel))
	}
	if staged {
		checkWord(&f, "spec.stagedAction", s.StagedAction, StagedSet, StagedDelete, StagedLearn, StagedIgnore)
		if s.StagedAction == StagedDelete {
			checkStagedDelete(&f, s)
			return f.err()
		}
	}
	checkSelector(&f, "spec.selector", s.Selector, false)
	checkSelector(&f, "spec.namespaceSelector", s.NamespaceSelector, false)
	checkSelector(&f, "spec.serviceAccountSelector", s.ServiceAccountSelector, false)
	again := repeated(s.Types)
	for i, t := range s.Types {
		path := at("spec.types", i)
		if checkWord(&f, path, string(t), string(Ingress), string(Egress)) && again(i) {
			f.add(path, quoted(string(t)), "there more than once", "remove it").soft = true
		}
	}
	hinted := repeated(s.PerformanceHints)
	for i, h := range s.PerformanceHints {
		path := at("spec.performanceHints", i)
		if h != AssumeNeededOnEveryNode {
			f.add(path, quoted(h), "expected "+quoted(AssumeNeededOnEveryNode), "").soft = true
		} else if hinted(i) {
			f.add(path, quoted(h), "there more than once", "remove it").soft = true
		}
	}
	checkStages(&f, s)
	for i := range s.Ingress {
		r := ruleChecker{faults: &f, path: at("spec.ingress", i), direction: Ingress, namespaced: namespaced}
		r.check(&s.Ingress[i])
	}
	for i := range s.Egress {
		r := ruleChecker{faults: &f, path: at("spec.egress", i), direction: Egress, namespaced: namespaced}
		r.check(&s.Egress[i])
	}
	return f.err()
}

// checkStages checks the fields that move a policy out of the normal place.
func checkStages(f *faults, s *PolicySpec) {
	if s.DoNotTrack && s.PreDNAT {
		f.add("spec.preDNAT", "true", "a policy cannot be both preDNAT and doNotTrack", "")
	}
	if s.DoNotTrack && !s.ApplyOnForward {
		f.add("spec.doNotTrack", "true", "needs applyOnForward: true", "")
	}
	if s.PreDNAT && !s.ApplyOnForward {
		f.add("spec.preDNAT", "true", "needs applyOnForward: true", "")
	}
	if s.PreDNAT && len(s.Egress) > 0 {
		f.add("spec.egress", "", "a preDNAT policy has no egress rules", "")
	}
	if i := slices.Index(s.Types, Egress); s.PreDNAT && i >= 0 {
		f.add(at("spec.types", i), quoted(string(Egress)), "a preDNAT policy has type Ingress only", "")
	}
}

// checkKindFields refuses fields that a kind does not have, in objects that
// were not decoded.
func checkKindFields(f *faults, kind Kind, s *PolicySpec) {
	set := map[string]bool{
		"stagedAction":      s.StagedAction != "",
		"doNotTrack":        s.DoNotTrack,
		"preDNAT":           s.PreDNAT,
		"applyOnForward":    s.ApplyOnForward,
		"namespaceSelector": s.NamespaceSelector != "",
	}
	for _, name := range notOf[kind] {
		if set[name] {
			f.add("spec."+name, "", "not a field of "+string(kind), "")
		}
	}
}

// checkStagedDelete checks that a staged deletion says nothing else.
func checkStagedDelete(f *faults, s *PolicySpec) {
	for _, c := range []struct {
		name string
		set  bool
	}{
		{"order", s.Order != nil}, {"ingress", len(s.Ingress) > 0}, {"egress", len(s.Egress) > 0},
		{"selector", s.Selector != ""}, {"types", len(s.Types) > 0}, {"doNotTrack", s.DoNotTrack},
		{"preDNAT", s.PreDNAT}, {"applyOnForward", s.ApplyOnForward},
		{"serviceAccountSelector", s.ServiceAccountSelector != ""},
		{"namespaceSelector", s.NamespaceSelector != ""}, {"performanceHints", len(s.PerformanceHints) > 0},
	} {
		if c.set {
			f.add("spec."+c.name, "", "a staged deletion has no field but tier", "remove it")
		}
	}
}

// checkWord checks that a word, unless it is empty, is one of known, in exact
// case. It reports whether it is.
func checkWord(f *faults, path, word string, known ...string) bool {
	if word == "" || slices.Contains(known, word) {
		return word != ""
	}
	f.add(path, quoted(word), "expected "+oneOf(known), didYouMean(word, known))
	return false
}

// oneOf lists words: "A", "B" or "C".
func oneOf(words []string) string {
	text := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			text += " or "
		default:
			text += ", "
		}
		text += fmt.Sprintf("%q", w)
	}
	return text
}
