// SPDX-License-Identifier: Apache-2.0

package api

// Role is a set of rights: what may be done through the REST API with which
// objects. A RoleBinding gives it to people and programs. Rights only ever
// add up; nothing takes one away.
type Role struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec RoleSpec `json:"spec"`
}

// RoleSpec is the spec of a Role.
type RoleSpec struct {
	// Rules are the rights; each is whole by itself.
	Rules []RoleRule `json:"rules"`
}

// RoleRule lets do all of its verbs with all objects that it covers. A list
// that is left out does not narrow; one that is there does.
type RoleRule struct {
	// Verbs are get, list, watch, create, update, patch, delete and
	// deletecollection, or "*" for all.
	Verbs []string `json:"verbs"`
	// Kinds are kinds as in documents (GlobalNetworkPolicy), a status by itself
	// (Tier/status), or "*" for everything.
	Kinds []string `json:"kinds"`
	// Names keep to objects with these names.
	Names []string `json:"names,omitempty"`
	// Namespaces keep to objects in these namespaces, so to kinds that are in one.
	Namespaces []string `json:"namespaces,omitempty"`
	// Tiers keep to policies in these tiers and to these tiers themselves. A
	// policy that moves needs the right in both tiers.
	Tiers []string `json:"tiers,omitempty"`
}

// RoleBinding gives a role to people and programs. It can be changed; what is
// taken away is out of force within a second.
type RoleBinding struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec RoleBindingSpec `json:"spec"`
}

// RoleBindingSpec is the spec of a RoleBinding.
type RoleBindingSpec struct {
	// Role is the name of a Role, or of a built-in one: viewer, operator, admin or
	// node.
	Role string `json:"role"`
	// Subjects are who get it.
	Subjects []Subject `json:"subjects"`
}

// SubjectKind says what a Subject's name names.
type SubjectKind string

// The kinds of subjects.
const (
	SubjectUser  SubjectKind = "User"
	SubjectGroup SubjectKind = "Group"
)

// Subject is a person, a program, or a group of them.
type Subject struct {
	// Kind is User or Group.
	Kind SubjectKind `json:"kind"`
	// Name is the user's or the group's name as the server knows it.
	Name string `json:"name"`
}

// Verbs are all verbs that rights are about, in the order in which they are
// told.
func Verbs() []string {
	return []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
}

// AllOfThem is the word for everything in a RoleRule's Verbs and Kinds.
const AllOfThem = "*"

// TierOf is the tier that rights on an object go by: of a policy its tier, of
// a Tier its name; is reports whether the kind has one at all.
func TierOf(o Object) (tier string, is bool) {
	if t, isTier := o.(*Tier); isTier {
		return t.Name, true
	}
	spec := PolicySpecOf(o)
	switch {
	case spec == nil:
		return "", false
	case spec.Tier == "":
		return DefaultTier, true
	default:
		return spec.Tier, true
	}
}

// HasTier reports whether objects of a kind have a tier that rights go by.
func HasTier(kind Kind) bool {
	switch kind {
	case KindTier, KindGlobalNetworkPolicy, KindNetworkPolicy, KindStagedGlobalNetworkPolicy, KindStagedNetworkPolicy:
		return true
	}
	return false
}

// HasStatus reports whether the status of a kind is a part by itself in the
// REST API, with rights of its own.
func HasStatus(kind Kind) bool {
	switch kind {
	case KindTier, KindIPPool, KindNode, KindHostStatus, KindNamespace, KindChange:
		return true
	}
	return false
}

// Key names the role.
func (r *Role) Key() Key { return Key{Kind: KindRole, Name: r.Name} }

// Key names the binding.
func (b *RoleBinding) Key() Key { return Key{Kind: KindRoleBinding, Name: b.Name} }

// Default changes nothing: a right is never filled in.
func (r *Role) Default() {}

// Default changes nothing: a right is never filled in.
func (b *RoleBinding) Default() {}
