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
	Action Action `json:"action"`
	// IPVersion restricts the rule to one family: 4 or 6. Nil: both.
	IPVersion   *int          `json:"ipVersion,omitempty"`
	Protocol    *Protocol     `json:"protocol,omitempty"`
	ICMP        *ICMPFields   `json:"icmp,omitempty"`
	NotProtocol *Protocol     `json:"notProtocol,omitempty"`
	NotICMP     *ICMPFields   `json:"notICMP,omitempty"`
	Source      EntityRule    `json:"source,omitzero"`
	Destination EntityRule    `json:"destination,omitzero"`
	HTTP        *HTTPMatch    `json:"http,omitempty"`
	Metadata    *RuleMetadata `json:"metadata,omitempty"`
}

// RuleMetadata is free text of the author, carried along.
type RuleMetadata struct {
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ICMPFields matches ICMP or ICMPv6. A nil Type matches every type, a nil
// Code every code; Code needs Type.
type ICMPFields struct {
	Type *int `json:"type,omitempty"`
	Code *int `json:"code,omitempty"`
}

// HTTPMatch is an application-layer match; needs a proxy to be enforced.
type HTTPMatch struct {
	Methods []string   `json:"methods,omitempty"`
	Paths   []HTTPPath `json:"paths,omitempty"`
}

// HTTPPath is exactly one of Exact and Prefix.
type HTTPPath struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// EntityRule matches one side of a flow. Fields are ANDed, lists are ORed
// inside; a Not list means none of it. A nil list and an empty list are the
// same: no restriction. Validate refuses empty Nets and Ports that a user
// writes, since they match more than they seem to.
type EntityRule struct {
	Nets              []string             `json:"nets,omitempty"`
	Selector          string               `json:"selector,omitempty"`
	NamespaceSelector string               `json:"namespaceSelector,omitempty"`
	Services          *ServiceMatch        `json:"services,omitempty"`
	Ports             []Port               `json:"ports,omitempty"`
	NotNets           []string             `json:"notNets,omitempty"`
	NotSelector       string               `json:"notSelector,omitempty"`
	NotPorts          []Port               `json:"notPorts,omitempty"`
	ServiceAccounts   *ServiceAccountMatch `json:"serviceAccounts,omitempty"`
}

// ServiceMatch names a Kubernetes service.
type ServiceMatch struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// ServiceAccountMatch matches service accounts: any of Names and Selector.
type ServiceAccountMatch struct {
	Names    []string `json:"names,omitempty"`
	Selector string   `json:"selector,omitempty"`
}

// Port is a port, a range of ports or the name of an endpoint's port. Name
// set: Min and Max are zero. In JSON: 80, "8000:8010" or "http".
type Port struct {
	Min, Max uint16
	Name     string
}

// Protocol is an IP protocol by name (Name set, Num zero) or number (Num
// set). In JSON: "TCP" or 6. Number resolves both.
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
