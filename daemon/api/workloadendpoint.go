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
	Orchestrator               string         `json:"orchestrator,omitempty"`
	Workload                   string         `json:"workload,omitempty"`
	Node                       string         `json:"node,omitempty"`
	ContainerID                string         `json:"containerID,omitempty"`
	Pod                        string         `json:"pod,omitempty"`
	Endpoint                   string         `json:"endpoint,omitempty"`
	ServiceAccountName         string         `json:"serviceAccountName,omitempty"`
	IPNetworks                 []string       `json:"ipNetworks,omitempty"`
	IPNATs                     []IPNAT        `json:"ipNATs,omitempty"`
	IPv4Gateway                string         `json:"ipv4Gateway,omitempty"`
	IPv6Gateway                string         `json:"ipv6Gateway,omitempty"`
	Profiles                   []string       `json:"profiles,omitempty"`
	InterfaceName              string         `json:"interfaceName,omitempty"`
	MAC                        string         `json:"mac,omitempty"`
	Ports                      []WorkloadPort `json:"ports,omitempty"`
	AllowSpoofedSourcePrefixes []string       `json:"allowSpoofedSourcePrefixes,omitempty"`
	QoSControls                *QoSControls   `json:"qosControls,omitempty"`
}

// IPNAT maps an external address to one of the endpoint's own.
type IPNAT struct {
	InternalIP string `json:"internalIP"`
	ExternalIP string `json:"externalIP"`
}

// WorkloadPort is a named port of a workload endpoint. HostPort and HostIP
// are always written.
type WorkloadPort struct {
	Name     string   `json:"name,omitempty"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
	HostPort uint16   `json:"hostPort"`
	HostIP   string   `json:"hostIP"`
}

// QoSControls limits a workload's traffic. Bandwidths are bits a second,
// bursts bits, minbursts bytes, packet rates packets a second. Zero: no limit.
type QoSControls struct {
	IngressBandwidth      int64 `json:"ingressBandwidth,omitempty"`
	EgressBandwidth       int64 `json:"egressBandwidth,omitempty"`
	IngressBurst          int64 `json:"ingressBurst,omitempty"`
	EgressBurst           int64 `json:"egressBurst,omitempty"`
	IngressPeakrate       int64 `json:"ingressPeakrate,omitempty"`
	EgressPeakrate        int64 `json:"egressPeakrate,omitempty"`
	IngressMinburst       int64 `json:"ingressMinburst,omitempty"`
	EgressMinburst        int64 `json:"egressMinburst,omitempty"`
	IngressPacketRate     int64 `json:"ingressPacketRate,omitempty"`
	EgressPacketRate      int64 `json:"egressPacketRate,omitempty"`
	IngressPacketBurst    int64 `json:"ingressPacketBurst,omitempty"`
	EgressPacketBurst     int64 `json:"egressPacketBurst,omitempty"`
	IngressMaxConnections int64 `json:"ingressMaxConnections,omitempty"`
	EgressMaxConnections  int64 `json:"egressMaxConnections,omitempty"`
	DSCP                  *DSCP `json:"dscp,omitempty"`
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
