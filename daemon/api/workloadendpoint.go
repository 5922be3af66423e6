// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// WorkloadEndpoint is the interface of a container or virtual machine.
type WorkloadEndpoint struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec WorkloadEndpointSpec `json:"spec"`
}

// WorkloadEndpointSpec is the spec of a WorkloadEndpoint.
type WorkloadEndpointSpec struct {
	// Orchestrator is what made the endpoint: k8s, cni, libnetwork or another
	// word.
	Orchestrator string `json:"orchestrator,omitempty"`
	// Workload is the workload's name; part of the endpoint's name unless the
	// orchestrator has another.
	Workload string `json:"workload,omitempty"`
	// Node is the name of the host that the endpoint is on.
	Node string `json:"node,omitempty"`
	// ContainerID is the container's id; part of the endpoint's name with
	// orchestrator cni.
	ContainerID string `json:"containerID,omitempty"`
	// Pod is the pod's name; part of the endpoint's name with orchestrator k8s.
	Pod string `json:"pod,omitempty"`
	// Endpoint tells the workload's interfaces apart, such as eth0; part of the
	// endpoint's name.
	Endpoint string `json:"endpoint,omitempty"`
	// ServiceAccountName is the service account that the workload runs as.
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// IPNetworks are the endpoint's addresses, as prefixes of /32 or /128.
	IPNetworks []string `json:"ipNetworks,omitempty"`
	// IPNATs maps external addresses to the endpoint's own.
	IPNATs []IPNAT `json:"ipNATs,omitempty"`
	// IPv4Gateway is the workload's gateway in IPv4.
	IPv4Gateway string `json:"ipv4Gateway,omitempty"`
	// IPv6Gateway is the workload's gateway in IPv6.
	IPv6Gateway string `json:"ipv6Gateway,omitempty"`
	// Profiles are consulted in this order when no policy has decided.
	Profiles []string `json:"profiles,omitempty"`
	// InterfaceName is the host's end of the workload's interface: at most 15
	// bytes.
	InterfaceName string `json:"interfaceName,omitempty"`
	// MAC is the MAC address of the workload's interface.
	MAC string `json:"mac,omitempty"`
	// Ports gives names to ports, for rules to use.
	Ports []WorkloadPort `json:"ports,omitempty"`
	// AllowSpoofedSourcePrefixes are source addresses besides its own that the
	// workload may use.
	AllowSpoofedSourcePrefixes []string `json:"allowSpoofedSourcePrefixes,omitempty"`
	// QoSControls limits the workload's traffic.
	QoSControls *QoSControls `json:"qosControls,omitempty"`
}

// IPNAT maps an external address to one of the endpoint's own.
type IPNAT struct {
	// InternalIP is one of the endpoint's addresses.
	InternalIP string `json:"internalIP"`
	// ExternalIP is the address by which others reach it.
	ExternalIP string `json:"externalIP"`
}

// WorkloadPort is a named port of a workload endpoint. HostPort and HostIP
// are always written.
type WorkloadPort struct {
	// Name is what rules call the port.
	Name string `json:"name,omitempty"`
	// Protocol is the port's protocol, such as TCP.
	Protocol Protocol `json:"protocol"`
	// Port is 1 to 65535.
	Port uint16 `json:"port"`
	// HostPort is the port of the host that leads to it; 0: none.
	HostPort uint16 `json:"hostPort"`
	// HostIP is the address of the host that HostPort is on; empty means all.
	HostIP string `json:"hostIP"`
}

// QoSControls limits a workload's traffic. Bandwidths are bits a second,
// bursts bits, minbursts bytes, packet rates packets a second. Zero: no limit.
type QoSControls struct {
	// IngressBandwidth is the most that goes to the workload, in bits a second.
	IngressBandwidth int64 `json:"ingressBandwidth,omitempty"`
	// EgressBandwidth is the most that comes from the workload, in bits a second.
	EgressBandwidth int64 `json:"egressBandwidth,omitempty"`
	// IngressBurst is how much above the bandwidth may go at once, in bits.
	IngressBurst int64 `json:"ingressBurst,omitempty"`
	// EgressBurst is how much above the bandwidth may come at once, in bits.
	EgressBurst int64 `json:"egressBurst,omitempty"`
	// IngressPeakrate is the rate inside of a burst, in bits a second.
	IngressPeakrate int64 `json:"ingressPeakrate,omitempty"`
	// EgressPeakrate is the rate inside of a burst, in bits a second.
	EgressPeakrate int64 `json:"egressPeakrate,omitempty"`
	// IngressMinburst is the bucket of the peak rate, in bytes.
	IngressMinburst int64 `json:"ingressMinburst,omitempty"`
	// EgressMinburst is the bucket of the peak rate, in bytes.
	EgressMinburst int64 `json:"egressMinburst,omitempty"`
	// IngressPacketRate is the most packets to the workload a second.
	IngressPacketRate int64 `json:"ingressPacketRate,omitempty"`
	// EgressPacketRate is the most packets from the workload a second.
	EgressPacketRate int64 `json:"egressPacketRate,omitempty"`
	// IngressPacketBurst is how many packets above the rate may go at once.
	IngressPacketBurst int64 `json:"ingressPacketBurst,omitempty"`
	// EgressPacketBurst is how many packets above the rate may come at once.
	EgressPacketBurst int64 `json:"egressPacketBurst,omitempty"`
	// IngressMaxConnections is the most connections to the workload at a time.
	IngressMaxConnections int64 `json:"ingressMaxConnections,omitempty"`
	// EgressMaxConnections is the most connections from the workload at a time.
	EgressMaxConnections int64 `json:"egressMaxConnections,omitempty"`
	// DSCP is the code point that packets from the workload get.
	DSCP *DSCP `json:"dscp,omitempty"`
}

// Key names the endpoint.
func (w *WorkloadEndpoint) Key() Key {
	return Key{Kind: KindWorkloadEndpoint, Namespace: w.Namespace, Name: w.Name}
}

// Orchestrators whose workload endpoints are named in a way of their own.
const (
	OrchestratorKubernetes = "k8s"
	OrchestratorCNI        = "cni"
	OrchestratorLibnetwork = "libnetwork"
)

// workloadPart is the part of the endpoint's name that names the workload.
func (w *WorkloadEndpoint) workloadPart() string {
	switch w.Spec.Orchestrator {
	case OrchestratorKubernetes:
		return w.Spec.Pod
	case OrchestratorCNI:
		return w.Spec.ContainerID
	case OrchestratorLibnetwork:
		return OrchestratorLibnetwork
	}
	return w.Spec.Workload
}

// ComputedName is the name the endpoint must have: node, orchestrator,
// workload and endpoint joined by "-", with every "-" inside them doubled.
// Empty if one of them is missing.
func (w *WorkloadEndpoint) ComputedName() string {
	parts := []string{w.Spec.Node, w.Spec.Orchestrator, w.workloadPart(), w.Spec.Endpoint}
	for i, p := range parts {
		if p == "" {
			return ""
		}
		parts[i] = strings.ReplaceAll(p, "-", "--")
	}
	return strings.Join(parts, "-")
}
