// SPDX-License-Identifier: Apache-2.0

// Package api holds the nouns of Ripstop: one file per kind, with its fields,
// defaults, limits and validation. The structs are used unchanged in the
// store, on the wire, in REST, in calc and in the CLI.
//
// It is not a client and does no I/O: decoding takes bytes, encoding gives
// bytes. Kinds of group projectcalico.org/v3 are wire-compatible with Calico
// v3.32; Ripstop's own kinds are in group ripstop.io/v1.
package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Kind is the name of a kind of resource, as in a document's "kind" field.
type Kind string

// The kinds Ripstop knows. descriptors.go has what else is known of each.
const (
	KindTier                      Kind = "Tier"
	KindGlobalNetworkPolicy       Kind = "GlobalNetworkPolicy"
	KindNetworkPolicy             Kind = "NetworkPolicy"
	KindStagedGlobalNetworkPolicy Kind = "StagedGlobalNetworkPolicy"
	KindStagedNetworkPolicy       Kind = "StagedNetworkPolicy"
	KindGlobalNetworkSet          Kind = "GlobalNetworkSet"
	KindNetworkSet                Kind = "NetworkSet"
	KindHostEndpoint              Kind = "HostEndpoint"
	KindWorkloadEndpoint          Kind = "WorkloadEndpoint"
	KindProfile                   Kind = "Profile"
	KindNode                      Kind = "Node"
	KindFelixConfiguration        Kind = "FelixConfiguration"
	KindClusterInformation        Kind = "ClusterInformation"
	KindIPPool                    Kind = "IPPool"
	KindHostStatus                Kind = "HostStatus"
	KindNamespace                 Kind = "Namespace"
	KindRole                      Kind = "Role"
	KindRoleBinding               Kind = "RoleBinding"
	KindCredential                Kind = "Credential"
	KindChange                    Kind = "Change"
	KindRevision                  Kind = "Revision"
	KindPolicyTest                Kind = "PolicyTest"
)

// Group versions, as in a document's "apiVersion" field.
const (
	GroupCalico   = "projectcalico.org"
	GroupRipstop  = "ripstop.io"
	GroupCore     = "" // Kubernetes' own, of Namespace
	VersionCalico = GroupCalico + "/v3"
	VersionOurs   = GroupRipstop + "/v1"
	VersionCore   = "v1"
)

// Key names one resource. Namespace is empty for cluster-scoped kinds.
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

// String is "Tier(sec)" or "NetworkPolicy(prod/db)".
func (k Key) String() string {
	if k.Namespace == "" {
		return string(k.Kind) + "(" + k.Name + ")"
	}
	return string(k.Kind) + "(" + k.Namespace + "/" + k.Name + ")"
}

// Compare orders keys by kind, namespace and name.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(string(k.Kind), string(o.Kind)); c != 0 {
		return c
	}
	if c := strings.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}

// Revision is a position in the store's history: etcd's ModRevision of a key,
// or the header revision of a read. Zero means none.
type Revision int64

// Object is one resource. Only this package's types implement it. An Object
// is not changed after it has been handed on; Clone gives a copy to change.
type Object interface {
	Key() Key
	// Metadata is the object's own metadata, to be read or (by whoever made
	// the object) filled in.
	Metadata() *Meta
	// Default fills in what the writer left out, as Calico does on create and
	// on update. It is idempotent.
	Default()
	// Validate reports every fault of the object, joined; each is a
	// *FieldError with its JSON path.
	Validate() error
}

// Event tells that a resource is now so. Object nil: it is gone. An Object of
// type *Unreadable: the store holds a value that cannot be understood. An
// empty Key.Name marks a bookmark: nothing changed up to Revision.
type Event struct {
	Key      Key
	Object   Object
	Revision Revision
}

// TypeMeta is the head of every document.
type TypeMeta struct {
	Kind       Kind   `json:"kind"`
	APIVersion string `json:"apiVersion"`
}

// Meta is Kubernetes' ObjectMeta, as far as Calico stores it.
type Meta struct {
	// Name is the object's name, unique among those of its kind in its namespace.
	// It cannot be changed.
	Name string `json:"name,omitempty"`
	// GenerateName is the beginning of a name that the server completes when Name
	// is not given.
	GenerateName string `json:"generateName,omitempty"`
	// Namespace is where the object stands; empty for kinds that are in none. It
	// cannot be changed.
	Namespace string `json:"namespace,omitempty"`
	// UID tells the object from others that had its name before. The server sets
	// it.
	UID string `json:"uid,omitempty"`
	// ResourceVersion is the revision of the datastore at which the object was
	// last written. A write that brings it fails if somebody wrote since.
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// Generation is a count of changes of the spec; kept as found.
	Generation int64 `json:"generation,omitempty"`
	// CreationTimestamp is when the object was made, in UTC. The server sets it.
	CreationTimestamp Time `json:"creationTimestamp,omitzero"`
	// Labels are what selectors ask for: names and values of up to 63 bytes.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations are data of other programs, 256 KiB in all.
	Annotations map[string]string `json:"annotations,omitempty"`
	// OwnerReferences name the objects that this one belongs to; kept, not acted
	// on.
	OwnerReferences []OwnerReference `json:"ownerReferences,omitempty"`
	// Finalizers are kept and not acted on: who deletes an object deletes it at
	// once.
	Finalizers []string `json:"finalizers,omitempty"`
	// ManagedFields tells who set which fields, for server-side apply. The server
	// keeps it.
	ManagedFields json.RawMessage `json:"managedFields,omitempty"`
}

// Metadata lets a kind that embeds Meta be an Object.
func (m *Meta) Metadata() *Meta { return m }

// OwnerReference is Kubernetes' OwnerReference; stored, not acted on.
type OwnerReference struct {
	// APIVersion is the owner's group and version.
	APIVersion string `json:"apiVersion"`
	// Kind is the owner's kind.
	Kind string `json:"kind"`
	// Name is the owner's name.
	Name string `json:"name"`
	// UID is the owner's uid.
	UID string `json:"uid"`
	// Controller tells whether the owner manages the object.
	Controller *bool `json:"controller,omitempty"`
	// BlockOwnerDeletion is kept and not acted on.
	BlockOwnerDeletion *bool `json:"blockOwnerDeletion,omitempty"`
}

// Time is a UTC time with a resolution of one second, written as RFC 3339
// with "Z". The zero value means "not set" and is null in JSON.
type Time struct{ time.Time }

// MarshalJSON writes RFC 3339 in UTC, or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC().Format(time.RFC3339))
}

// UnmarshalJSON reads RFC 3339 or null.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s is not a time; write it as \"2026-01-31T23:59:59Z\"", excerpt(string(b)))
	}
	if s == nil || *s == "" {
		*t = Time{}
		return nil
	}
	v, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		return fmt.Errorf("%q is not a time; write it as \"2026-01-31T23:59:59Z\"", excerpt(*s))
	}
	*t = Time{v.UTC()}
	return nil
}
