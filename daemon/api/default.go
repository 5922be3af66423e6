// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"net/netip"
	"strings"
)

// Orders of the built-in tiers.
const (
	DefaultTierOrder      = 1_000_000
	KubeAdminTierOrder    = 1_000
	KubeBaselineTierOrder = 10_000_000
)

// Names of the built-in tiers besides DefaultTier.
const (
	KubeAdminTier    = "kube-admin"
	KubeBaselineTier = "kube-baseline"
)

// Default fills in the tier, the types and the tier label.
func (p *GlobalNetworkPolicy) Default() { p.Spec.fill(&p.Meta, false) }

// Default fills in the tier, the types and the tier label.
func (p *NetworkPolicy) Default() { p.Spec.fill(&p.Meta, false) }

// Default fills in the staged action, the tier, the types and the tier label.
func (p *StagedGlobalNetworkPolicy) Default() { p.Spec.fill(&p.Meta, true) }

// Default fills in the staged action, the tier, the types and the tier label.
func (p *StagedNetworkPolicy) Default() { p.Spec.fill(&p.Meta, true) }

func (s *PolicySpec) fill(m *Meta, staged bool) {
	if s.Tier == "" {
		s.Tier = DefaultTier
	}
	if staged && s.StagedAction == "" {
		s.StagedAction = StagedSet
	}
	// A staged deletion says nothing but what it deletes.
	if len(s.Types) == 0 && !(staged && s.StagedAction == StagedDelete) {
		s.Types = TypesOf(s.Ingress, s.Egress)
	}
	setLabel(m, LabelTier, s.Tier)
}

// TypesOf are the types that a policy gets when it is written without: the
// directions it has rules for, or Ingress if it has none.
func TypesOf(ingress, egress []Rule) []PolicyType {
	switch {
	case len(egress) == 0:
		return []PolicyType{Ingress}
	case len(ingress) == 0:
		return []PolicyType{Egress}
	}
	return []PolicyType{Ingress, Egress}
}

// setLabel sets one label; the map is replaced, not changed.
func setLabel(m *Meta, key, value string) {
	if v, ok := m.Labels[key]; ok && v == value {
		return
	}
	labels := maps.Clone(m.Labels)
	if labels == nil {
		labels = make(map[string]string, 1)
	}
	labels[key] = value
	m.Labels = labels
}

// Default fills in the default action and the order: 1,000,000 unless the
// tier is one of the built-in ones.
func (t *Tier) Default() {
	if t.Spec.DefaultAction == "" {
		t.Spec.DefaultAction = Deny
		if t.Name == KubeAdminTier || t.Name == KubeBaselineTier {
			t.Spec.DefaultAction = Pass
		}
	}
	if t.Spec.Order == nil {
		order := float64(DefaultTierOrder)
		if o, ok := builtInOrder(t.Name); ok {
			order = o
		}
		t.Spec.Order = &order
	}
}

// builtInOrder is the order a built-in tier must have.
func builtInOrder(tier string) (float64, bool) {
	switch tier {
	case DefaultTier:
		return DefaultTierOrder, true
	case KubeAdminTier:
		return KubeAdminTierOrder, true
	case KubeBaselineTier:
		return KubeBaselineTierOrder, true
	}
	return 0, false
}

// Default changes nothing: a set has no defaults.
func (s *GlobalNetworkSet) Default() {}

// Default changes nothing: a set has no defaults.
func (s *NetworkSet) Default() {}

// Default changes nothing: a host endpoint has no defaults.
func (h *HostEndpoint) Default() {}

// Default changes nothing: a profile has no defaults.
func (p *Profile) Default() {}

// Default changes nothing: a node has no defaults.
func (n *Node) Default() {}

// Default changes nothing: programs write all of it.
func (c *ClusterInformation) Default() {}

// Default changes nothing: agents write all of it.
func (h *HostStatus) Default() {}

// Default fills in the name if it is left out, and the labels that tell
// namespace and orchestrator.
func (w *WorkloadEndpoint) Default() {
	if w.Name == "" {
		w.Name = w.ComputedName()
	}
	if w.Namespace != "" {
		setLabel(&w.Meta, LabelNamespace, w.Namespace)
	}
	if w.Spec.Orchestrator != "" {
		setLabel(&w.Meta, LabelOrchestrator, w.Spec.Orchestrator)
	}
}

// Default fills in modes, block size, uses and selector.
func (p *IPPool) Default() {
	s := &p.Spec
	fillIn(&s.IPIPMode, EncapNever)
	fillIn(&s.VXLANMode, EncapNever)
	fillIn(&s.NodeSelector, "all()")
	fillIn(&s.AssignmentMode, "Automatic")
	if len(s.AllowedUses) == 0 {
		s.AllowedUses = []string{UseWorkload, UseTunnel}
	}
	if s.BlockSize == 0 {
		s.BlockSize = 26
		if n, err := netip.ParsePrefix(s.CIDR); err == nil && n.Addr().Is6() || err != nil && strings.Contains(s.CIDR, ":") {
			s.BlockSize = 122
		}
	}
}

// Default fills in what Calico writes into every FelixConfiguration.
func (f *FelixConfiguration) Default() {
	s := &f.Spec
	fillIn(&s.NftablesMode, "Auto")
	fillIn(&s.FloatingIPs, "Disabled")
	if b := s.BPFConnectTimeLoadBalancingEnabled; b != nil {
		s.BPFHostNetworkedNATWithoutCTLB = "Disabled"
		s.BPFConnectTimeLoadBalancing = "Disabled"
		if *b {
			s.BPFConnectTimeLoadBalancing = "Enabled"
		}
		return
	}
	fillIn(&s.BPFConnectTimeLoadBalancing, "TCP")
	fillIn(&s.BPFHostNetworkedNATWithoutCTLB, "Enabled")
}

// fillIn sets an empty string.
func fillIn(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// DefaultAllow is the built-in profile DefaultAllowProfile: it allows both
// directions. It is shown with resourceVersion "1" and never stored.
func DefaultAllow() *Profile {
	return &Profile{
		TypeMeta: TypeMeta{KindProfile, VersionCalico},
		Meta:     Meta{Name: DefaultAllowProfile, ResourceVersion: "1"},
		Spec:     ProfileSpec{Ingress: []Rule{{Action: Allow}}, Egress: []Rule{{Action: Allow}}},
	}
}
