// SPDX-License-Identifier: Apache-2.0

package api

// DefaultName is the name of objects of which there is one, such as
// ClusterInformation, or of which one holds for all hosts.
const DefaultName = "default"

// ClusterInformation says what a datastore belongs to. There is one, named
// DefaultName; it is written by the programs, not by users.
type ClusterInformation struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec ClusterInformationSpec `json:"spec"`
}

// ClusterInformationSpec is the spec of a ClusterInformation.
type ClusterInformationSpec struct {
	// ClusterGUID tells clusters apart: 32 hexadecimal digits, never changed.
	ClusterGUID string `json:"clusterGUID,omitempty"`
	// ClusterType is a comma-separated set of words.
	ClusterType string `json:"clusterType,omitempty"`
	// CalicoVersion is compared by calicoctl with its own version.
	CalicoVersion string `json:"calicoVersion,omitempty"`
	// DatastoreReady false or nil holds all agents: they keep what they have.
	DatastoreReady *bool `json:"datastoreReady,omitempty"`
	// Variant is the product that wrote the object: Calico.
	Variant string `json:"variant,omitempty"`
}

// Key names the object.
func (c *ClusterInformation) Key() Key { return Key{Kind: KindClusterInformation, Name: c.Name} }
