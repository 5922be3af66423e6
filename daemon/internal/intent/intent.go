// SPDX-License-Identifier: Apache-2.0

// Package intent is what calc says and planners hear: plain keyed facts about
// one host. It is a closed list: Policy, Profile, Set, Member, HostEndpoint,
// WorkloadEndpoint, Settings, Interface, Pause. Values are not changed after they are handed on.
//
// Who says what: calc says all but Interface, which the link monitor says, and
// Pause, which the operator says.
// Planners must not depend on the order in which facts of one batch arrive,
// but calc promises that, at the end of every batch, whatever is named by a
// value (a set by a rule, a policy by an endpoint) has been said.
package intent

import (
	"net/netip"

	"github.com/ripstop/ripstop/daemon/api"
)

// Kind is the kind of a fact.
type Kind uint8

// The closed list of facts.
const (
	KindSettings Kind = iota + 1
	KindSet
	KindMember
	KindPolicy
	KindProfile
	KindHostEndpoint
	KindInterface
	KindWorkloadEndpoint
	KindPause
)

// Key names one fact.
type Key struct {
	Kind Kind
	// Name is the set's id, the profile's, host endpoint's or interface's
	// name, the workload endpoint's "namespace/name"; empty for Settings and
	// for policies.
	Name string
	// Policy names a policy; only for KindPolicy.
	Policy api.Key
	// Member is the element of the set Name; only for KindMember.
	Member Member
}

// Change says that a fact is now so. Value nil: it is no longer.
type Change struct {
	Key   Key
	Value Value
}

// Value is one of the types below.
type Value interface{ isIntent() }

// Family is an IP version.
type Family uint8

// Families. AnyFamily: both.
const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

// Settings is what FelixConfiguration (and the daemon's own configuration,
// for what the store does not say) has to say about the packet filter.
type Settings struct {
	FailsafeInbound  []Failsafe
	FailsafeOutbound []Failsafe
	// DenyReject answers a denied packet (ICMP error or TCP reset) instead
	// of dropping it.
	DenyReject bool
	// AllowInvalid leaves packets of conntrack state INVALID to policy.
	AllowInvalid bool
	// InterfaceExclude are interfaces that are never host interfaces: a
	// name, or a regular expression between slashes.
	InterfaceExclude []string
	// WorkloadPrefixes mark workload interfaces; a wildcard host endpoint
	// does not govern them.
	WorkloadPrefixes []string
	// LogPrefix is put before the text of Log actions, with %t %k %n %p %r.
	LogPrefix string
	// LogRate limits each log rule to LogRate packets per LogRateUnit
	// ("second", "minute", "hour", "day") with LogBurst; 0: no limit.
	LogRate     int
	LogRateUnit string
	LogBurst    int
	// MaxSetSize is the largest number of members of a set.
	MaxSetSize int
	// EndpointToHost is what becomes of traffic from a workload to this host
	// that the workload's egress policy allows.
	EndpointToHost ToHost
	// AllowVXLANFromWorkloads and AllowIPIPFromWorkloads let workloads send
	// encapsulated packets; VXLANPort is the UDP port of the former.
	AllowVXLANFromWorkloads bool
	AllowIPIPFromWorkloads  bool
	VXLANPort               uint16
	// RemoveExternalRoutes: routes of others on workload interfaces that
	// have an endpoint are removed.
	RemoveExternalRoutes bool
	// NoRoutes: no routes are programmed (routeSyncDisabled).
	NoRoutes bool
	// NoForwarding: the host's forwarding sysctls are left alone
	// (ipForwarding Disabled).
	NoForwarding bool
	// DeviceRouteSourceAddrs are the preferred sources of routes to
	// workloads, at most one of each family.
	DeviceRouteSourceAddrs []netip.Addr
	// AppendChains: where our rules stand in chains of the kernel that other
	// programs use too (iptables), they stand last and not first.
	AppendChains bool
	// KeepFlows: flows that a change no longer allows go on until they end,
	// as with Calico.
	KeepFlows bool
	// YieldFilter and YieldMangle: what policy allows is left to the rules of
	// other programs too (iptablesFilterAllowAction, iptablesMangleAllowAction
	// Return); the latter is about preDNAT policies.
	YieldFilter, YieldMangle bool
}

// Pause says that policy is out of force: nothing is filtered, and everything
// else stays as it is.
type Pause struct{}

// ToHost is what becomes of traffic from a workload to its host.
type ToHost uint8

// Choices of ToHost (defaultEndpointToHostAction). ToHostReturn leaves the
// packet to other programs' rules.
const (
	ToHostDrop ToHost = iota
	ToHostReturn
	ToHostAccept
)

// Failsafe is traffic that policy cannot take away. Port is the destination
// port. Net is the peer; the zero Prefix means anybody, both families.
type Failsafe struct {
	Protocol uint8
	Port     uint16
	Net      netip.Prefix
}

// SetType is what a set's members are.
type SetType uint8

// Set types. Nets: prefixes. NamedPorts: address, protocol and port.
const (
	Nets SetType = iota + 1
	NamedPorts
)

// Set is a set of addresses that a selector stands for. Members are facts of
// their own. Both families are in one set.
type Set struct {
	Type SetType
	// Selector is the canonical text, for people.
	Selector string
}

// Member is one member of a set. Protocol and Port are zero in Nets.
type Member struct {
	Net      netip.Prefix // masked; a single address for NamedPorts
	Protocol uint8
	Port     uint16
}

// IsMember is the value of a member that is there.
type IsMember struct{}

// Policy is a policy that governs an endpoint of this host, or is Kept.
type Policy struct {
	Tier           string
	Ingress        []Rule
	Egress         []Rule
	ApplyOnForward bool
	// Untracked: doNotTrack. PreDNAT: preDNAT. At most one of them is set,
	// and such a policy is listed only in the tiers of its own kind.
	Untracked, PreDNAT bool
	// Kept: it is said though no endpoint may list it (performanceHints
	// AssumeNeededOnEveryNode).
	Kept bool
	// KeepFlows: established flows that this policy denies are not cut.
	KeepFlows bool
}

// Profile is a profile that an endpoint of this host lists.
type Profile struct {
	Ingress []Rule
	Egress  []Rule
}

// Rule is a rule whose selectors have become sets. All that is set must match.
type Rule struct {
	Action api.Action
	// Family is set when ipVersion, an ICMP protocol or the nets bind the
	// rule to one family.
	Family      Family
	Protocol    uint8 // 0: any
	NotProtocol uint8 // 0: none
	ICMP        *ICMP
	NotICMP     *ICMP
	Source      Entity
	Destination Entity
	// Never: the rule cannot be enforced and so matches nothing (an Allow
	// with an HTTP match, a service without endpoints).
	Never bool
	// Index is the rule's place in the list the author wrote, from 0.
	Index int
}

// ICMP is a type with an optional code.
type ICMP struct {
	Type    uint8
	Code    uint8
	HasCode bool
}

// Entity is one side of a rule. Lists are ORed inside, fields are ANDed.
// Ports and NamedPorts are ORed together; so are, negated, NotPorts and
// NotNamedPorts.
type Entity struct {
	Nets, NotNets []netip.Prefix
	// Set and NotSet are ids of Nets sets; empty: no restriction.
	Set, NotSet string
	Ports       []PortRange
	NotPorts    []PortRange
	// NamedPorts and NotNamedPorts are ids of NamedPorts sets.
	NamedPorts    []string
	NotNamedPorts []string
}

// PortRange is Min to Max, both included.
type PortRange struct{ Min, Max uint16 }

// HostEndpoint is an endpoint of this host with what governs it.
type HostEndpoint struct {
	// Interface is a name, api.AllInterfaces, or empty: then the interfaces
	// that hold one of ExpectedIPs.
	Interface   string
	ExpectedIPs []netip.Addr
	Profiles    []string
	// Tiers judge traffic of the host itself, in order. A tier is listed if
	// it has an enforced or staged policy here, in whatever direction.
	Tiers []Tier
	// ForwardTiers judge forwarded traffic: applyOnForward policies only.
	ForwardTiers []Tier
	// UntrackedTiers judge every packet before connection tracking:
	// doNotTrack policies only.
	UntrackedTiers []Tier
	// PreDNATTiers judge what comes in, before its destination is rewritten:
	// preDNAT policies only; no egress.
	PreDNATTiers []Tier
}

// WorkloadEndpoint is the host's side of the interface of a container or a
// virtual machine of this host, with what governs it.
type WorkloadEndpoint struct {
	// Interface is the name of the interface on this host.
	Interface string
	// Addrs are the workload's addresses, its only sources unless
	// AllowedSources says more; at least one.
	Addrs []netip.Addr
	// AllowedSources are further prefixes that it may send from.
	AllowedSources []netip.Prefix
	// MAC is the workload's link address; zero: not known.
	MAC      [6]byte
	Profiles []string
	// Tiers judge traffic of the workload, in order. Untracked and preDNAT
	// policies have no say here.
	Tiers []Tier
}

// Tier is a tier as it looks from one endpoint: only the policies that govern
// the endpoint, in order, per direction. Staged policies are not listed.
type Tier struct {
	Name string
	// DefaultPass: traffic that no policy of the tier decides goes on to the
	// next tier; else it is denied (if a policy of the direction is here).
	DefaultPass bool
	Ingress     []api.Key
	Egress      []api.Key
}

// Interface is an interface of this host, as it is now.
type Interface struct {
	// Index is the kernel's number, above zero: an interface made anew under
	// the same name has another.
	Index int
	Addrs []netip.Addr
	// Up: it was set up (IFF_UP). Running: it has a carrier as well
	// (IFF_RUNNING).
	Up, Running bool
}

func (*Settings) isIntent()         {}
func (*Set) isIntent()              {}
func (IsMember) isIntent()          {}
func (*Policy) isIntent()           {}
func (*Profile) isIntent()          {}
func (*HostEndpoint) isIntent()     {}
func (*WorkloadEndpoint) isIntent() {}
func (*Interface) isIntent()        {}
func (*Pause) isIntent()            {}
