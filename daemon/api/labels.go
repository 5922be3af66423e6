// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// Labels and annotations with a meaning.
const (
	// LabelTier is on every policy: the name of its tier.
	LabelTier = "projectcalico.org/tier"
	// LabelNamespace, LabelOrchestrator and LabelServiceAccount are on
	// workload endpoints; the system writes them.
	LabelNamespace      = "projectcalico.org/namespace"
	LabelOrchestrator   = "projectcalico.org/orchestrator"
	LabelServiceAccount = "projectcalico.org/serviceaccount"
	// AnnotationMetadata holds a policy's name in the store.
	AnnotationMetadata = "projectcalico.org/metadata"
	// AnnotationConfigPrefix, followed by a parameter's name, overrides the
	// parameter in a FelixConfiguration.
	AnnotationConfigPrefix = "config.projectcalico.org/"
	// AnnotationEstablishedFlows says what becomes of flows that a change of
	// policy no longer allows: FlowsCut, which is the default, or FlowsKeep.
	// On a policy it speaks for flows that the policy denies, on a
	// FelixConfiguration for all.
	AnnotationEstablishedFlows = "ripstop.io/established-flows"
)

// Values of AnnotationEstablishedFlows.
const (
	FlowsCut  = "Cut"
	FlowsKeep = "Keep"
)

// Prefixes of labels that endpoints get from their namespace's and their
// service account's profile.
const (
	PrefixNamespaceLabel      = "pcns."
	PrefixServiceAccountLabel = "pcsa."
)

// IsReservedLabel reports whether an endpoint's or network set's label says
// who it is: only the system may write it, never a user.
func IsReservedLabel(key string) bool {
	switch key {
	case LabelNamespace, LabelOrchestrator, LabelServiceAccount:
		return true
	}
	return strings.HasPrefix(key, PrefixNamespaceLabel) || strings.HasPrefix(key, PrefixServiceAccountLabel)
}
