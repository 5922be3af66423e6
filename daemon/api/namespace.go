// SPDX-License-Identifier: Apache-2.0

package api

// LabelNamespaceName is the label by which a Namespace carries its own name,
// as Kubernetes writes it since 1.21.
const LabelNamespaceName = "kubernetes.io/metadata.name"

// NamespaceActive is the phase of every Namespace: one that is deleted is
// gone at once.
const NamespaceActive = "Active"

// Namespace is Kubernetes' v1 Namespace, as far as it means something without
// Kubernetes: a name that namespaced objects stand under, with labels and
// annotations. It says nothing to the agents. An object may stand in a
// namespace that has no Namespace, since other programs that write to the
// datastore know of none.
type Namespace struct {
	TypeMeta
	Meta   `json:"metadata"`
	Spec   NamespaceSpec   `json:"spec"`
	Status NamespaceStatus `json:"status"`
}

// NamespaceSpec is the spec of a Namespace.
type NamespaceSpec struct {
	// Finalizers is kept as written and not acted on.
	Finalizers []string `json:"finalizers,omitempty"`
}

// NamespaceStatus is the status of a Namespace.
type NamespaceStatus struct {
	// Phase is Active.
	Phase string `json:"phase,omitempty"`
}

// Key names the namespace.
func (n *Namespace) Key() Key { return Key{Kind: KindNamespace, Name: n.Name} }

// Default fills in the phase and the label with the name.
func (n *Namespace) Default() {
	n.Status.Phase = NamespaceActive
	if n.Name != "" {
		setLabel(&n.Meta, LabelNamespaceName, n.Name)
	}
}

// Validate reports every fault of the namespace.
func (n *Namespace) Validate() error {
	var f faults
	checkMeta(&f, n)
	return f.err()
}
