// SPDX-License-Identifier: Apache-2.0

package api

// DefaultAllowProfile is the built-in profile that allows everything; it is
// never stored.
const DefaultAllowProfile = "projectcalico-default-allow"

// Profile is what endpoints that list it fall back on after policy, and what
// they inherit labels from.
type Profile struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec ProfileSpec `json:"spec"`
}

// ProfileSpec is the spec of a Profile.
type ProfileSpec struct {
	// Ingress are the rules for packets to the endpoint; the first that decides
	// counts.
	Ingress []Rule `json:"ingress,omitempty"`
	// Egress are the rules for packets from the endpoint; the first that decides
	// counts.
	Egress []Rule `json:"egress,omitempty"`
	// LabelsToApply are inherited by endpoints and network sets that list
	// the profile; their own labels win.
	LabelsToApply map[string]string `json:"labelsToApply,omitempty"`
}

// Key names the profile.
func (p *Profile) Key() Key { return Key{Kind: KindProfile, Name: p.Name} }
