// SPDX-License-Identifier: Apache-2.0

package api

// NetworkSetSpec is the spec of both kinds of network set.
type NetworkSetSpec struct {
	// Nets are prefixes or addresses; host bits are allowed and masked when
	// the set is used.
	Nets []string `json:"nets,omitempty"`
}

// GlobalNetworkSet gives labels to addresses outside of any namespace.
type GlobalNetworkSet struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec NetworkSetSpec `json:"spec"`
}

// NetworkSet gives labels to addresses inside a namespace.
type NetworkSet struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec NetworkSetSpec `json:"spec"`
}

// Key names the set.
func (s *GlobalNetworkSet) Key() Key { return Key{Kind: KindGlobalNetworkSet, Name: s.Name} }

// Key names the set.
func (s *NetworkSet) Key() Key {
	return Key{Kind: KindNetworkSet, Namespace: s.Namespace, Name: s.Name}
}
