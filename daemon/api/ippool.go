// SPDX-License-Identifier: Apache-2.0

package api

import "encoding/json"

// IPPool is a prefix that workload addresses are taken from.
type IPPool struct {
	TypeMeta
	Meta   `json:"metadata"`
	Spec   IPPoolSpec    `json:"spec"`
	Status *IPPoolStatus `json:"status,omitempty"`
}

// Ways of encapsulation of IPIPMode and VXLANMode.
const (
	EncapNever       = "Never"
	EncapAlways      = "Always"
	EncapCrossSubnet = "CrossSubnet"
)

// Uses of a pool.
const (
	UseWorkload     = "Workload"
	UseTunnel       = "Tunnel"
	UseLoadBalancer = "LoadBalancer"
)

// IPPoolSpec is the spec of an IPPool.
type IPPoolSpec struct {
	// CIDR is the prefix, host bits zero; it cannot be changed.
	CIDR string `json:"cidr"`
	// VXLANMode and IPIPMode are Never (default), Always or CrossSubnet; not
	// both but Never.
	VXLANMode string `json:"vxlanMode,omitempty"`
	IPIPMode  string `json:"ipipMode,omitempty"`
	// NATOutgoing masquerades what goes from the pool to addresses outside
	// of all pools.
	NATOutgoing bool `json:"natOutgoing,omitempty"`
	// Disabled pools give no new addresses.
	Disabled bool `json:"disabled,omitempty"`
	// DisableBGPExport keeps the pool's routes from being announced.
	DisableBGPExport bool `json:"disableBGPExport,omitempty"`
	// BlockSize is the prefix length of blocks: 20 to 32 (default 26), in
	// IPv6 116 to 128 (default 122). It cannot be changed.
	BlockSize int `json:"blockSize,omitempty"`
	// NodeSelector chooses the hosts that may use the pool, by the labels of their
	// Node; empty means all.
	NodeSelector string `json:"nodeSelector,omitempty"`
	// AllowedUses are Workload, Tunnel and LoadBalancer; empty means Workload and
	// Tunnel.
	AllowedUses []string `json:"allowedUses,omitempty"`
	// NamespaceSelector chooses the namespaces that may use the pool; empty means
	// all.
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
	// AssignmentMode is Automatic (default) or Manual.
	AssignmentMode string `json:"assignmentMode,omitempty"`
}

// IPPoolStatus is kept as found.
type IPPoolStatus struct {
	// Conditions are what a controller found; kept as they are.
	Conditions json.RawMessage `json:"conditions,omitempty"`
}

// Key names the pool.
func (p *IPPool) Key() Key { return Key{Kind: KindIPPool, Name: p.Name} }
