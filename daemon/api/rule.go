// SPDX-License-Identifier: Apache-2.0

package api

// Action is what a rule does with a packet that it matches.
type Action string

// The actions. Log does not decide; Pass goes on with the next tier.
const (
	Allow Action = "Allow"
	Deny  Action = "Deny"
	Log   Action = "Log"
	Pass  Action = "Pass"
)

// Rule is one rule of a policy or profile. All that is set must match.
type Rule struct {
	// Action is what happens to a packet that matches: Allow, Deny, Log or Pass.
	Action Action `json:"action"`
	// IPVersion restricts the rule to one family: 4 or 6. Nil: both.
	IPVersion *int `json:"ipVersion,omitempty"`
	// Protocol is a name (TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite) or a number from
	// 1 to 255. Needed with ports.
	Protocol *Protocol `json:"protocol,omitempty"`
	// ICMP matches type and code; needs protocol ICMP or ICMPv6.
	ICMP *ICMPFields `json:"icmp,omitempty"`
	// NotProtocol matches every protocol but this one.
	NotProtocol *Protocol `json:"notProtocol,omitempty"`
	// NotICMP matches every ICMP packet but these.
	NotICMP *ICMPFields `json:"notICMP,omitempty"`
	// Source matches where the packet comes from.
	Source EntityRule `json:"source,omitzero"`
	// Destination matches where the packet goes to.
	Destination EntityRule `json:"destination,omitzero"`
	// HTTP matches requests; needs a proxy to be enforced.
	HTTP *HTTPMatch `json:"http,omitempty"`
	// Metadata is text of the author, carried along.
	Metadata *RuleMetadata `json:"metadata,omitempty"`
}

// RuleMetadata is free text of the author, carried along.
type RuleMetadata struct {
	// Annotations are names and values of the author's choice.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ICMPFields matches ICMP or ICMPv6. A nil Type matches every type, a nil
// Code every code; Code needs Type.
type ICMPFields struct {
	// Type is the ICMP type, 0 to 254.
	Type *int `json:"type,omitempty"`
	// Code is the ICMP code, 0 to 255; needs a type.
	Code *int `json:"code,omitempty"`
}

// HTTPMatch is an application-layer match; needs a proxy to be enforced.
type HTTPMatch struct {
	// Methods are the methods that match; empty means all.
	Methods []string `json:"methods,omitempty"`
	// Paths are the paths that match; empty means all.
	Paths []HTTPPath `json:"paths,omitempty"`
}

// HTTPPath is exactly one of Exact and Prefix.
type HTTPPath struct {
	// Exact is the whole path.
	Exact string `json:"exact,omitempty"`
	// Prefix is the beginning of the path.
	Prefix string `json:"prefix,omitempty"`
}

// EntityRule matches one side of a flow. Fields are ANDed, lists are ORed
// inside; a Not list means none of it. A nil list and an empty list are the
// same: no restriction. Validate refuses empty Nets and Ports that a user
// writes, since they match more than they seem to.
type EntityRule struct {
	// Nets are prefixes, all of one IP version; an address must be in one of them.
	Nets []string `json:"nets,omitempty"`
	// Selector picks endpoints and network sets by their labels; an address must
	// be of one of them.
	Selector string `json:"selector,omitempty"`
	// NamespaceSelector picks the namespaces in which Selector looks, by their
	// labels; global() means outside of all.
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
	// Services names a service whose addresses and ports match.
	Services *ServiceMatch `json:"services,omitempty"`
	// Ports are numbers, ranges such as "8000:8010" or names of endpoints' ports;
	// needs protocol TCP, UDP or SCTP.
	Ports []Port `json:"ports,omitempty"`
	// NotNets are prefixes; an address must be in none of them.
	NotNets []string `json:"notNets,omitempty"`
	// NotSelector picks endpoints and network sets; an address must be of none of
	// them.
	NotSelector string `json:"notSelector,omitempty"`
	// NotPorts are ports as in Ports; a packet's must be none of them.
	NotPorts []Port `json:"notPorts,omitempty"`
	// ServiceAccounts picks endpoints by the service account they run as.
	ServiceAccounts *ServiceAccountMatch `json:"serviceAccounts,omitempty"`
}

// ServiceMatch names a Kubernetes service.
type ServiceMatch struct {
	// Name is the service's name.
	Name string `json:"name,omitempty"`
	// Namespace is the service's namespace; empty means the policy's.
	Namespace string `json:"namespace,omitempty"`
}

// ServiceAccountMatch matches service accounts: any of Names and Selector.
type ServiceAccountMatch struct {
	// Names are the names that match.
	Names []string `json:"names,omitempty"`
	// Selector picks service accounts by their labels.
	Selector string `json:"selector,omitempty"`
}

// Port is a port, a range of ports or the name of an endpoint's port. In JSON:
// 80, "8000:8010" or "http".
//
// With Name set, Min and Max are zero.
type Port struct {
	Min, Max uint16
	Name     string
}

// Protocol is an IP protocol by name or number. In JSON: "TCP" or 6.
//
// By name: Name set, Num zero; by number: Num set. Number resolves both.
type Protocol struct {
	Name string
	Num  uint8
}

// protocolNumbers are IANA's numbers of the names Calico knows.
var protocolNumbers = map[string]uint8{"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}

// Number is the protocol's IANA number, or 0 if the name is not known.
func (p Protocol) Number() uint8 {
	if p.Name != "" {
		return protocolNumbers[p.Name]
	}
	return p.Num
}
