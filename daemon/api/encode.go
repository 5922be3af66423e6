// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"maps"
)

// storedRule is Rule as it is stored: both sides are always written.
type storedRule struct {
	Action      Action        `json:"action"`
	IPVersion   *int          `json:"ipVersion,omitempty"`
	Protocol    *Protocol     `json:"protocol,omitempty"`
	ICMP        *ICMPFields   `json:"icmp,omitempty"`
	NotProtocol *Protocol     `json:"notProtocol,omitempty"`
	NotICMP     *ICMPFields   `json:"notICMP,omitempty"`
	Source      EntityRule    `json:"source"`
	Destination EntityRule    `json:"destination"`
	HTTP        *HTTPMatch    `json:"http,omitempty"`
	Metadata    *RuleMetadata `json:"metadata,omitempty"`
}

func storedRules(rules []Rule) []storedRule {
	if rules == nil {
		return nil
	}
	s := make([]storedRule, len(rules))
	for i, r := range rules {
		s[i] = storedRule(r)
	}
	return s
}

// storedPolicy is PolicySpec with stored rules, field by field.
type storedPolicy struct {
	StagedAction           string       `json:"stagedAction,omitempty"`
	Tier                   string       `json:"tier,omitempty"`
	Order                  *float64     `json:"order,omitempty"`
	Ingress                []storedRule `json:"ingress,omitempty"`
	Egress                 []storedRule `json:"egress,omitempty"`
	Selector               string       `json:"selector,omitempty"`
	Types                  []PolicyType `json:"types,omitempty"`
	DoNotTrack             bool         `json:"doNotTrack,omitempty"`
	PreDNAT                bool         `json:"preDNAT,omitempty"`
	ApplyOnForward         bool         `json:"applyOnForward,omitempty"`
	ServiceAccountSelector string       `json:"serviceAccountSelector,omitempty"`
	NamespaceSelector      string       `json:"namespaceSelector,omitempty"`
	PerformanceHints       []string     `json:"performanceHints,omitempty"`
}

func storedPolicySpec(p *PolicySpec) storedPolicy {
	return storedPolicy{
		p.StagedAction, p.Tier, p.Order, storedRules(p.Ingress), storedRules(p.Egress), p.Selector, p.Types,
		p.DoNotTrack, p.PreDNAT, p.ApplyOnForward, p.ServiceAccountSelector, p.NamespaceSelector, p.PerformanceHints,
	}
}

// storedProfile is ProfileSpec with stored rules.
type storedProfile struct {
	Ingress       []storedRule      `json:"ingress,omitempty"`
	Egress        []storedRule      `json:"egress,omitempty"`
	LabelsToApply map[string]string `json:"labelsToApply,omitempty"`
}

// EncodeStored is the value that is stored for o, as Calico stores it: one
// line of JSON, both sides of every rule written even when empty, a policy's
// name in an annotation, no resourceVersion or generation. Unlike there,
// managedFields are stored: who applied what must outlive the program; other
// readers skip them, other writers drop them. o is not changed. An *Unreadable cannot be stored.
func EncodeStored(o Object) ([]byte, error) {
	if u, ok := o.(*Unreadable); ok {
		return nil, fmt.Errorf("%s: an unreadable object cannot be stored", u.K)
	}
	d, ok := DescriptorOf(o.Key().Kind)
	if !ok {
		return nil, fmt.Errorf("%s: not a kind that is stored", o.Key())
	}
	m := *o.Metadata()
	m.ResourceVersion, m.Generation = "", 0
	if string(m.ManagedFields) == "[]" {
		m.ManagedFields = nil
	}
	out := struct {
		TypeMeta
		Meta   `json:"metadata"`
		Spec   any `json:"spec,omitempty"`
		Status any `json:"status,omitempty"`
	}{TypeMeta: TypeMeta{d.Kind, d.APIVersion()}}
	if s := PolicySpecOf(o); s != nil {
		name, err := json.Marshal(struct {
			Name string `json:"name"`
		}{m.Name})
		if err != nil {
			return nil, err
		}
		if m.Annotations = maps.Clone(m.Annotations); m.Annotations == nil {
			m.Annotations = make(map[string]string, 1)
		}
		m.Annotations[AnnotationMetadata] = string(name)
		out.Spec = storedPolicySpec(s)
	}
	switch o := o.(type) {
	case *Profile:
		out.Spec = storedProfile{storedRules(o.Spec.Ingress), storedRules(o.Spec.Egress), o.Spec.LabelsToApply}
	case *Tier:
		out.Spec, out.Status = o.Spec, o.Status
	case *GlobalNetworkSet:
		out.Spec = o.Spec
	case *NetworkSet:
		out.Spec = o.Spec
	case *HostEndpoint:
		out.Spec = o.Spec
	case *WorkloadEndpoint:
		out.Spec = o.Spec
	case *Node:
		out.Spec, out.Status = o.Spec, o.Status
	case *FelixConfiguration:
		out.Spec = o.Spec
	case *ClusterInformation:
		out.Spec = o.Spec
	case *IPPool:
		out.Spec = o.Spec
		if o.Status != nil {
			out.Status = o.Status
		}
	case *HostStatus:
		out.Status = o.Status
	case *Namespace:
		out.Spec, out.Status = o.Spec, o.Status
	case *Role:
		out.Spec = o.Spec
	case *RoleBinding:
		out.Spec = o.Spec
	case *Credential:
		out.Spec, out.Status = o.Spec, o.Status
	case *Change:
		out.Spec, out.Status = o.Spec, o.Status
	case *RevisionRecord:
		out.Spec = o.Spec
	case *PolicyTest:
		out.Spec = o.Spec
	}
	out.Meta = m
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("%s: encoding: %w", o.Key(), err)
	}
	return b, nil
}
