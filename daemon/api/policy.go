// SPDX-License-Identifier: Apache-2.0

package api

// PolicyType is a direction that a policy has a say in.
type PolicyType string

// The two directions, seen from the selected endpoint.
const (
	Ingress PolicyType = "Ingress"
	Egress  PolicyType = "Egress"
)

// DefaultTier is the tier of a policy that names none.
const DefaultTier = "default"

// Staged actions: what applying a staged policy would do. StagedLearn is kept
// for Calico; it is like StagedIgnore.
const (
	StagedSet    = "Set"
	StagedDelete = "Delete"
	StagedLearn  = "Learn"
	StagedIgnore = "Ignore"
)

// PolicySpec is the spec of all four kinds of Calico policy. Each kind
// accepts a subset: the namespaced kinds lack NamespaceSelector,
// ApplyOnForward, DoNotTrack and PreDNAT, the enforced kinds StagedAction.
type PolicySpec struct {
	// StagedAction is Set (default), Delete, Learn or Ignore; staged kinds only.
	StagedAction string `json:"stagedAction,omitempty"`
	// Tier is the policy's tier; empty means DefaultTier.
	Tier string `json:"tier,omitempty"`
	// Order places the policy in its tier, lowest first; nil comes last.
	Order *float64 `json:"order,omitempty"`
	// Ingress are the rules for packets to the selected endpoints; the first that
	// decides counts.
	Ingress []Rule `json:"ingress,omitempty"`
	// Egress are the rules for packets from the selected endpoints; the first that
	// decides counts.
	Egress []Rule `json:"egress,omitempty"`
	// Selector picks endpoints; empty picks everything in scope.
	Selector string `json:"selector,omitempty"`
	// Types lists the directions; empty is computed from the rules on write.
	Types []PolicyType `json:"types,omitempty"`
	// DoNotTrack policies run before connection tracking.
	DoNotTrack bool `json:"doNotTrack,omitempty"`
	// PreDNAT policies run before destination NAT.
	PreDNAT bool `json:"preDNAT,omitempty"`
	// ApplyOnForward policies also judge forwarded traffic of host endpoints.
	ApplyOnForward bool `json:"applyOnForward,omitempty"`
	// ServiceAccountSelector keeps to endpoints of service accounts with these
	// labels; empty means all.
	ServiceAccountSelector string `json:"serviceAccountSelector,omitempty"`
	// NamespaceSelector keeps to endpoints in namespaces with these labels; empty
	// means all, and endpoints in none.
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
	// PerformanceHints are hints to the agents; the only one is
	// AssumeNeededOnEveryNode.
	PerformanceHints []string `json:"performanceHints,omitempty"`
}

// GlobalNetworkPolicy is a policy on endpoints of all namespaces and hosts.
type GlobalNetworkPolicy struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec PolicySpec `json:"spec"`
}

// NetworkPolicy is a policy on workload endpoints of its namespace.
type NetworkPolicy struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec PolicySpec `json:"spec"`
}

// StagedGlobalNetworkPolicy is a GlobalNetworkPolicy that is never enforced.
type StagedGlobalNetworkPolicy struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec PolicySpec `json:"spec"`
}

// StagedNetworkPolicy is a NetworkPolicy that is never enforced.
type StagedNetworkPolicy struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec PolicySpec `json:"spec"`
}

// Key names the policy.
func (p *GlobalNetworkPolicy) Key() Key { return Key{Kind: KindGlobalNetworkPolicy, Name: p.Name} }

// Key names the policy.
func (p *NetworkPolicy) Key() Key {
	return Key{Kind: KindNetworkPolicy, Namespace: p.Namespace, Name: p.Name}
}

// Key names the policy.
func (p *StagedGlobalNetworkPolicy) Key() Key {
	return Key{Kind: KindStagedGlobalNetworkPolicy, Name: p.Name}
}

// Key names the policy.
func (p *StagedNetworkPolicy) Key() Key {
	return Key{Kind: KindStagedNetworkPolicy, Namespace: p.Namespace, Name: p.Name}
}
