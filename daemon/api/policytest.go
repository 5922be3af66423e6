// SPDX-License-Identifier: Apache-2.0

package api

// PolicyTest says what policy has to allow and to deny, so that a change of
// policy that breaks it is found before it is in force. Group ripstop.io/v1. It
// changes nothing on any host: ripstop test judges it, and the server when a
// change asks for it.
type PolicyTest struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec PolicyTestSpec `json:"spec"`
}

// PolicyTestSpec is the spec of a PolicyTest.
type PolicyTestSpec struct {
	// Cases are what has to be so, each by itself: 1 to 1,000.
	Cases []PolicyTestCase `json:"cases"`
}

// PolicyTestCase says what has to become of a new connection, or a packet, in
// each IP version that both ends have, whichever of the endpoints that an end
// stands for are at it.
type PolicyTestCase struct {
	// Name says in a few words what is so; no other case of the test has it.
	Name string `json:"name"`
	// From is who sends the first packet, To whom it is for.
	From PolicyTestEnd `json:"from"`
	To   PolicyTestEnd `json:"to"`
	// Protocol is TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to
	// 255.
	Protocol Protocol `json:"protocol"`
	// Port is the destination's: 1 to 65535, or the name that the endpoints of
	// To have for one. Protocols with ports need it, others have none.
	Port *Port `json:"port,omitempty"`
	// ICMPType and ICMPCode are of the protocols ICMP and ICMPv6, 0 to 255;
	// without a type it is an echo request, without a code 0.
	ICMPType *int `json:"icmpType,omitempty"`
	ICMPCode *int `json:"icmpCode,omitempty"`
	// Expect is Allow (it passes) or Deny.
	Expect Action `json:"expect"`
	// Why says for people what it is good for; it is told when the case fails.
	Why string `json:"why,omitempty"`
}

// PolicyTestEnd is one end of a case. Exactly one of Selector, Host, Endpoint
// and IP is set.
type PolicyTestEnd struct {
	// Selector stands for every endpoint, of hosts and of workloads, that it
	// selects. If it selects none the case fails.
	Selector string `json:"selector,omitempty"`
	// NamespaceSelector, beside Selector, keeps to endpoints in the namespaces it
	// selects; global() to those in none.
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
	// Host is the name of a host: its own traffic.
	Host string `json:"host,omitempty"`
	// Endpoint is "hep/NAME", a host endpoint, or "workload/NAMESPACE/NAME", a
	// workload endpoint by its own name or by that of its pod or workload.
	Endpoint string `json:"endpoint,omitempty"`
	// IP is an address, or a prefix in CIDR form, of which the first address, the
	// last and one in the middle are judged.
	IP string `json:"ip,omitempty"`
}

// Key names the test.
func (t *PolicyTest) Key() Key { return Key{Kind: KindPolicyTest, Name: t.Name} }

// Default changes nothing.
func (t *PolicyTest) Default() {}
