// SPDX-License-Identifier: Apache-2.0

package api

import "encoding/json"

// Tier is a group of policies that is evaluated as a whole.
type Tier struct {
	TypeMeta
	Meta   `json:"metadata"`
	Spec   TierSpec   `json:"spec"`
	Status TierStatus `json:"status"`
}

// TierSpec is the spec of a Tier.
type TierSpec struct {
	// Order places the tier, lowest first; nil is stored as 1000000.
	Order *float64 `json:"order,omitempty"`
	// DefaultAction is what happens to traffic that the tier's policies
	// select but do not decide: Deny (default) or Pass.
	DefaultAction Action `json:"defaultAction,omitempty"`
}

// TierStatus is kept as found.
type TierStatus struct {
	// Conditions are what a controller found; kept as they are.
	Conditions json.RawMessage `json:"conditions,omitempty"`
}

// Key names the tier.
func (t *Tier) Key() Key { return Key{Kind: KindTier, Name: t.Name} }
