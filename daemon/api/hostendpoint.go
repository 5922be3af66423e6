// SPDX-License-Identifier: Apache-2.0

package api

// AllInterfaces as a HostEndpoint's interfaceName covers every interface of
// the host that no other endpoint covers.
const AllInterfaces = "*"

// HostEndpoint is one or all of a host's own interfaces.
type HostEndpoint struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec HostEndpointSpec `json:"spec"`
}

// HostEndpointSpec is the spec of a HostEndpoint. At least one of
// InterfaceName and ExpectedIPs is set.
type HostEndpointSpec struct {
	// Node is the name of the host, as the agent there calls itself.
	Node string `json:"node,omitempty"`
	// InterfaceName is an interface's name or AllInterfaces.
	InterfaceName string `json:"interfaceName,omitempty"`
	// ExpectedIPs are the endpoint's addresses. With no InterfaceName they
	// also choose the interfaces: those that hold one of them.
	ExpectedIPs []string `json:"expectedIPs,omitempty"`
	// Profiles are consulted in this order when no policy has decided.
	Profiles []string `json:"profiles,omitempty"`
	// Ports gives names to ports, for rules to use.
	Ports []EndpointPort `json:"ports,omitempty"`
}

// EndpointPort is a named port of an endpoint.
type EndpointPort struct {
	// Name is what rules call the port: 1 to 128 letters, digits, '_', '.' and
	// '-'.
	Name string `json:"name"`
	// Protocol is the port's protocol, such as TCP.
	Protocol Protocol `json:"protocol"`
	// Port is 1 to 65535.
	Port uint16 `json:"port"`
}

// Key names the endpoint.
func (h *HostEndpoint) Key() Key { return Key{Kind: KindHostEndpoint, Name: h.Name} }
