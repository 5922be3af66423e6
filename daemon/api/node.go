// SPDX-License-Identifier: Apache-2.0

package api

// Node is a host, as routing and the node selectors see it.
type Node struct {
	TypeMeta
	Meta   `json:"metadata"`
	Spec   NodeSpec   `json:"spec"`
	Status NodeStatus `json:"status"`
}

// NodeSpec is the spec of a Node. All of it is optional.
type NodeSpec struct {
	// BGP is nil on a host that does not speak BGP; it may not be empty.
	BGP *NodeBGPSpec `json:"bgp,omitempty"`
	// IPv4VXLANTunnelAddr is the address of the host's VXLAN device of IPv4.
	IPv4VXLANTunnelAddr string `json:"ipv4VXLANTunnelAddr,omitempty"`
	// VXLANTunnelMACAddr is the MAC address of the host's VXLAN device of IPv4.
	VXLANTunnelMACAddr string `json:"vxlanTunnelMACAddr,omitempty"`
	// IPv6VXLANTunnelAddr is the address of the host's VXLAN device of IPv6.
	IPv6VXLANTunnelAddr string `json:"ipv6VXLANTunnelAddr,omitempty"`
	// VXLANTunnelMACAddrV6 is the MAC address of the host's VXLAN device of IPv6.
	VXLANTunnelMACAddrV6 string `json:"vxlanTunnelMACAddrV6,omitempty"`
	// OrchRefs name the host in orchestrators.
	OrchRefs []OrchRef `json:"orchRefs,omitempty"`
	// Wireguard has the addresses of the host's WireGuard devices.
	Wireguard *NodeWireguardSpec `json:"wireguard,omitempty"`
	// Addresses are the host's addresses.
	Addresses []NodeAddress `json:"addresses,omitempty"`
	// Interfaces are the host's interfaces with their addresses.
	Interfaces []NodeInterface `json:"interfaces,omitempty"`
}

// NodeBGPSpec is what a Node says of BGP.
type NodeBGPSpec struct {
	// ASNumber is the host's AS; nil: as BGPConfiguration says.
	ASNumber *ASNumber `json:"asNumber,omitempty"`
	// IPv4Address and IPv6Address are the addresses BGP uses; a prefix
	// length tells the host's subnet.
	IPv4Address string `json:"ipv4Address,omitempty"`
	IPv6Address string `json:"ipv6Address,omitempty"`
	// IPv4IPIPTunnelAddr is the address of the host's IPIP device.
	IPv4IPIPTunnelAddr string `json:"ipv4IPIPTunnelAddr,omitempty"`
	// RouteReflectorClusterID makes the host a route reflector of that
	// cluster; in the form of an IPv4 address.
	RouteReflectorClusterID string `json:"routeReflectorClusterID,omitempty"`
}

// OrchRef names the host in an orchestrator.
type OrchRef struct {
	// NodeName is the host's name in the orchestrator.
	NodeName string `json:"nodeName,omitempty"`
	// Orchestrator is the orchestrator's name, such as k8s.
	Orchestrator string `json:"orchestrator"`
}

// NodeWireguardSpec has the addresses of the host's WireGuard devices.
type NodeWireguardSpec struct {
	// InterfaceIPv4Address is the address of the WireGuard device of IPv4.
	InterfaceIPv4Address string `json:"interfaceIPv4Address,omitempty"`
	// InterfaceIPv6Address is the address of the WireGuard device of IPv6.
	InterfaceIPv6Address string `json:"interfaceIPv6Address,omitempty"`
}

// NodeAddress is one address of a host. Type is CalicoNodeIP, InternalIP or
// ExternalIP, or empty.
type NodeAddress struct {
	// Address is an IPv4 or IPv6 address.
	Address string `json:"address"`
	// Type is CalicoNodeIP, InternalIP or ExternalIP, or empty.
	Type string `json:"type,omitempty"`
}

// NodeInterface is an interface of a host with its addresses.
type NodeInterface struct {
	// Name is the interface's name.
	Name string `json:"name,omitempty"`
	// Addresses are the interface's addresses.
	Addresses []string `json:"addresses,omitempty"`
}

// NodeStatus is the status of a Node. The keys are base64 of 32 bytes.
type NodeStatus struct {
	// WireguardPublicKey is the public key of IPv4's device: base64 of 32 bytes.
	WireguardPublicKey string `json:"wireguardPublicKey,omitempty"`
	// WireguardPublicKeyV6 is the public key of IPv6's device: base64 of 32 bytes.
	WireguardPublicKeyV6 string `json:"wireguardPublicKeyV6,omitempty"`
	// PodCIDRs are the prefixes that Kubernetes gave the host.
	PodCIDRs []string `json:"podCIDRs,omitempty"`
}

// Key names the host.
func (n *Node) Key() Key { return Key{Kind: KindNode, Name: n.Name} }
