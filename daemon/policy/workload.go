// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
)

// workloadEndpoint is a member that governs the interface of a container or
// virtual machine on its host.
type workloadEndpoint struct {
	*member
	spec api.WorkloadEndpointSpec
	// sources are its addresses; more what it may send from beside them.
	sources []netip.Addr
	more    []netip.Prefix
	// absent says why it counts as absent; empty: it does not.
	absent string
}

// newWorkload reads an endpoint. An entry of ipNetworks that is more than one
// address is none; without any address the endpoint counts as absent.
func newWorkload(x *api.WorkloadEndpoint, inherited map[string]map[string]string) *workloadEndpoint {
	e := &workloadEndpoint{member: workloadMember(x, inherited), spec: x.Spec, more: lenientNets(x.Spec.AllowSpoofedSourcePrefixes)}
	for _, n := range e.nets {
		if n.IsSingleIP() {
			e.sources = append(e.sources, n.Addr())
		}
	}
	if len(e.sources) == 0 {
		e.absent = "has no ipNetworks, and so counts as absent"
	}
	return e
}

// workloadMember is what selectors see of a workload endpoint.
func workloadMember(x *api.WorkloadEndpoint, inherited map[string]map[string]string) *member {
	m := &member{key: x.Key(), labels: ownLabels(x.Labels), nets: lenientNets(x.Spec.IPNetworks)}
	m.nets = slices.DeleteFunc(m.nets, func(n netip.Prefix) bool { return !n.IsSingleIP() })
	m.labels[api.LabelNamespace] = x.Namespace
	if x.Spec.Orchestrator != "" {
		m.labels[api.LabelOrchestrator] = x.Spec.Orchestrator
	}
	if x.Spec.ServiceAccountName != "" {
		m.labels[api.LabelServiceAccount] = x.Spec.ServiceAccountName
	}
	for _, p := range x.Spec.Ports {
		if p.Name != "" {
			m.ports = append(m.ports, api.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
		}
	}
	inherit(m.labels, inherited, x.Spec.Profiles)
	return m
}

// refuse makes endpoints that ask for what their own host does not grant
// absent, for interfaces and for selectors: with allowSpoofedSourcePrefixes
// where workloadSourceSpoofing is not Any.
func (w *World) refuse() {
	for _, x := range w.workloads {
		if len(x.spec.AllowSpoofedSourcePrefixes) > 0 && !w.Settings(x.spec.Node).SourceSpoofing {
			x.absent = "has allowSpoofedSourcePrefixes, for which workloadSourceSpoofing must be Any, and so counts as absent"
		}
		if x.absent == "" {
			w.members = append(w.members, x.member)
		}
	}
}

// ToHost is what becomes of a workload's traffic to its own host that its
// egress policy allows.
type ToHost string

// Choices of ToHost, as defaultEndpointToHostAction has them. After
// ToHostReturn other programs' rules may still object.
const (
	ToHostDrop   ToHost = "Drop"
	ToHostReturn ToHost = "Return"
	ToHostAccept ToHost = "Accept"
)

// toHost judges what a workload sends to its own host: its egress policy does,
// and the host's settings. Host endpoints and failsafes have no say.
func (e *evaluation) toHost(s seat) {
	if e.f.essentialToHost() {
		e.arriveAt(s.workload.key, PhaseWorkload, s.iface, api.Egress, "it is the workload's interface")
		e.step(Step{Stage: StageEssential, Matched: true, Outcome: Allows, Why: "IPv6 does not work without this ICMPv6 type"})
		e.decide(Allow, Decision{Reason: ReasonEssential, RuleIndex: -1})
		return
	}
	e.workload(s, api.Egress)
	if e.d.Verdict != Allow || e.d.Reason == ReasonEstablished {
		return
	}
	why := "defaultEndpointToHostAction is " + string(e.set.EndpointToHost)
	if e.set.EndpointToHost == ToHostDrop {
		e.step(Step{Stage: StageEnd, Matched: true, Outcome: Denies, Why: why})
		e.decide(Deny, Decision{Reason: ReasonEndpointToHost, RuleIndex: -1})
		return
	}
	e.step(Step{Stage: StageEnd, Matched: true, Outcome: Allows, Why: why})
}

// workload judges what a workload sends (egress) or gets (ingress).
func (e *evaluation) workload(s seat, dir api.PolicyType) {
	x := s.workload
	e.arriveAt(x.key, PhaseWorkload, s.iface, dir, "it is the workload's interface")
	if e.connection() || dir == api.Egress && e.encapsulated() || e.tiers(x.member) || e.profiles(x.spec.Profiles) {
		return
	}
	e.nothingAllows()
}

// ipInIP is IANA's number of IPv4 in IP (RFC 2003).
const ipInIP = 4

// encapsulated stops packets inside which a workload could send what policy
// would never see.
func (e *evaluation) encapsulated() bool {
	var what, setting string
	switch {
	case e.f.Protocol == protoUDP && e.f.DestinationPort == e.set.VXLANPort && !e.set.VXLANFromWorkloads:
		what, setting = "VXLAN (UDP port "+strconv.Itoa(int(e.set.VXLANPort))+")", "allowVXLANPacketsFromWorkloads"
	case e.f.Protocol == ipInIP && !e.set.IPIPFromWorkloads:
		what, setting = "IP in IP", "allowIPIPPacketsFromWorkloads"
	default:
		return false
	}
	e.step(Step{Stage: StageEncapsulation, Matched: true, Outcome: Denies, Why: "a workload sends " + what + ", which only " + setting + " lets it"})
	return e.decide(Deny, Decision{Reason: ReasonEncapsulated, RuleIndex: -1})
}

// forgery says why a packet must not come from the workload, whatever policy
// says; empty: it may.
func (x *workloadEndpoint) forgery(f Flow) (Reason, string) {
	if f.Protocol == protoICMPv6 && f.family() == 6 {
		switch f.ICMPType {
		case routerAdvertisement:
			return ReasonRouterMessage, "a workload sends a router advertisement"
		case redirect:
			return ReasonRouterMessage, "a workload sends a redirect"
		}
	}
	switch {
	case slices.Contains(x.sources, f.Source), inAny(x.more, f.Source):
		return "", ""
	case f.Source.Is6() && f.Source.IsLinkLocalUnicast():
		return "", ""
	case f.Source == netip.IPv6Unspecified() && f.Protocol == protoICMPv6 && slices.Contains(unaddressed, f.ICMPType):
		return "", ""
	case f.Source == netip.IPv4Unspecified() && f.Protocol == protoUDP && f.SourcePort == 68 && f.DestinationPort == 67:
		return "", "" // DHCP: it asks for an address (RFC 2131, 4.1)
	}
	return ReasonSpoofedSource, "source " + f.Source.String() + " is not an address of the workload"
}
