// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strings"
)

// Descriptor is all that is known of a kind besides its fields: what REST
// paths, store keys, discovery, tables and commands are made of.
type Descriptor struct {
	Kind Kind
	// Group and Version are the parts of apiVersion.
	Group, Version string
	// Plural is in URLs and store keys, Singular in commands; lower case.
	Plural, Singular string
	// ShortNames are what kubectl accepts besides.
	ShortNames []string
	Namespaced bool
	// New makes an empty object with kind and apiVersion set.
	New func() Object
	// Columns are the columns of tables, in order; the name comes first
	// unless the column is wide.
	Columns []Column

	// aliases are more names that calicoctl's users type.
	aliases []string
}

// APIVersion is "group/version", as in a document; of the core group, which
// has no name, "version".
func (d Descriptor) APIVersion() string {
	if d.Group == GroupCore {
		return d.Version
	}
	return d.Group + "/" + d.Version
}

// Path is the URL path of the kind's objects in the REST API: of all of them,
// or with a namespace of those in it. Both are unescaped.
func (d Descriptor) Path(namespace string) string {
	p := "/apis/" + d.Group + "/" + d.Version
	if d.Group == GroupCore {
		p = "/api/" + d.Version
	}
	if namespace != "" {
		p += "/namespaces/" + namespace
	}
	return p + "/" + d.Plural
}

// Lacks reports whether objects of the kind do not have a field of spec that
// the type of their spec, which they share with other kinds, has. The name is
// that in JSON.
func (d Descriptor) Lacks(field string) bool { return slices.Contains(notOf[d.Kind], field) }

// calico makes the descriptor of a kind of group projectcalico.org/v3.
func calico(kind Kind, plural string, namespaced bool, made func(TypeMeta) Object, columns []Column, short []string, aliases ...string) Descriptor {
	return Descriptor{
		Kind: kind, Group: GroupCalico, Version: "v3",
		Plural: plural, Singular: strings.ToLower(string(kind)), ShortNames: short, Namespaced: namespaced,
		New:     func() Object { return made(TypeMeta{kind, VersionCalico}) },
		Columns: columns, aliases: aliases,
	}
}

// ours makes the descriptor of a kind of group ripstop.io/v1 that is in no
// namespace and has a regular plural.
func ours(kind Kind, made func(TypeMeta) Object, columns []Column, short ...string) Descriptor {
	singular := strings.ToLower(string(kind))
	return Descriptor{
		Kind: kind, Group: GroupRipstop, Version: "v1", Plural: singular + "s", Singular: singular, ShortNames: short,
		New:     func() Object { return made(TypeMeta{kind, VersionOurs}) },
		Columns: columns,
	}
}

// descriptors are all kinds, in the order in which they are best created:
// what is named before what names it.
var descriptors = []Descriptor{
	{
		Kind: KindNamespace, Group: GroupCore, Version: "v1",
		Plural: "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
		New:     func() Object { return &Namespace{TypeMeta: TypeMeta{KindNamespace, VersionCore}} },
		Columns: namespaceColumns,
	},
	calico(KindClusterInformation, "clusterinformations", false,
		func(t TypeMeta) Object { return &ClusterInformation{TypeMeta: t} }, clusterInformationColumns,
		[]string{"clusterinfo", "clusterinfos"}),
	calico(KindFelixConfiguration, "felixconfigurations", false,
		func(t TypeMeta) Object { return &FelixConfiguration{TypeMeta: t} }, nameColumns,
		nil, "felixconfig", "felixconfigs"),
	calico(KindNode, "nodes", false,
		func(t TypeMeta) Object { return &Node{TypeMeta: t} }, nodeColumns,
		nil, "no", "nos"),
	calico(KindIPPool, "ippools", false,
		func(t TypeMeta) Object { return &IPPool{TypeMeta: t} }, ipPoolColumns,
		nil, "ipp", "ipps", "pool", "pools"),
	calico(KindTier, "tiers", false,
		func(t TypeMeta) Object { return &Tier{TypeMeta: t} }, tierColumns,
		nil),
	calico(KindProfile, "profiles", false,
		func(t TypeMeta) Object { return &Profile{TypeMeta: t} }, profileColumns,
		nil, "pro", "pros"),
	calico(KindGlobalNetworkSet, "globalnetworksets", false,
		func(t TypeMeta) Object { return &GlobalNetworkSet{TypeMeta: t} }, setColumns,
		[]string{"gns"}, "gnetset", "gnetsets"),
	calico(KindNetworkSet, "networksets", true,
		func(t TypeMeta) Object { return &NetworkSet{TypeMeta: t} }, setColumns,
		nil, "netset", "netsets"),
	calico(KindGlobalNetworkPolicy, "globalnetworkpolicies", false,
		func(t TypeMeta) Object { return &GlobalNetworkPolicy{TypeMeta: t} }, policyColumns,
		[]string{"gnp", "cgnp"}, "gnps"),
	calico(KindNetworkPolicy, "networkpolicies", true,
		func(t TypeMeta) Object { return &NetworkPolicy{TypeMeta: t} }, policyColumns,
		[]string{"cnp", "caliconetworkpolicy"}, "np", "nps", "policy", "policies", "pol", "pols"),
	calico(KindStagedGlobalNetworkPolicy, "stagedglobalnetworkpolicies", false,
		func(t TypeMeta) Object { return &StagedGlobalNetworkPolicy{TypeMeta: t} }, policyColumns,
		[]string{"sgnp"}, "sgnps"),
	calico(KindStagedNetworkPolicy, "stagednetworkpolicies", true,
		func(t TypeMeta) Object { return &StagedNetworkPolicy{TypeMeta: t} }, policyColumns,
		[]string{"snp", "scnp"}, "snps", "stagedpolicy", "stagedpolicies", "spol", "spols"),
	calico(KindHostEndpoint, "hostendpoints", false,
		func(t TypeMeta) Object { return &HostEndpoint{TypeMeta: t} }, hostEndpointColumns,
		[]string{"hep", "heps"}),
	calico(KindWorkloadEndpoint, "workloadendpoints", true,
		func(t TypeMeta) Object { return &WorkloadEndpoint{TypeMeta: t} }, workloadEndpointColumns,
		nil, "wep", "weps"),
	{
		Kind: KindHostStatus, Group: GroupRipstop, Version: "v1",
		Plural: "hoststatuses", Singular: "hoststatus", ShortNames: []string{"hs"},
		New:     func() Object { return &HostStatus{TypeMeta: TypeMeta{KindHostStatus, VersionOurs}} },
		Columns: hostStatusColumns,
	},
	ours(KindPolicyTest, func(t TypeMeta) Object { return &PolicyTest{TypeMeta: t} }, policyTestColumns, "pt"),
	ours(KindRole, func(t TypeMeta) Object { return &Role{TypeMeta: t} }, roleColumns),
	ours(KindRoleBinding, func(t TypeMeta) Object { return &RoleBinding{TypeMeta: t} }, roleBindingColumns),
	ours(KindCredential, func(t TypeMeta) Object { return &Credential{TypeMeta: t} }, credentialColumns, "cred"),
	ours(KindChange, func(t TypeMeta) Object { return &Change{TypeMeta: t} }, changeColumns),
	ours(KindRevision, func(t TypeMeta) Object { return &RevisionRecord{TypeMeta: t} }, revisionColumns, "rev"),
}

// Kinds are the descriptors of all kinds, always in the same order: a kind
// comes after those it refers to. The slice is the caller's.
func Kinds() []Descriptor { return slices.Clone(descriptors) }

// DescriptorOf is the descriptor of a kind, and whether there is such a kind.
func DescriptorOf(kind Kind) (Descriptor, bool) {
	i, ok := byKind[kind]
	if !ok {
		return Descriptor{}, false
	}
	return descriptors[i], true
}

// DescriptorByName finds a kind by the name a person types: kind, plural,
// singular or short name, in any case, with or without ".group".
func DescriptorByName(name string) (Descriptor, bool) {
	name = strings.ToLower(name)
	for _, d := range descriptors {
		bare := name
		for _, suffix := range []string{"." + d.Version + "." + d.Group, "." + d.Group} {
			if s, ok := strings.CutSuffix(name, suffix); ok && d.Group != GroupCore {
				bare = s
				break
			}
		}
		if bare == d.Plural || bare == d.Singular || slices.Contains(d.ShortNames, bare) || slices.Contains(d.aliases, bare) {
			return d, true
		}
	}
	return Descriptor{}, false
}

// NearestKind is the kind a mistyped name most likely means, as its singular
// name, or "".
func NearestKind(name string) string {
	var known []string
	for _, d := range descriptors {
		known = append(known, d.Singular, d.Plural)
	}
	near := nearest(name, known)
	if d, ok := DescriptorByName(near); ok {
		return d.Singular
	}
	return ""
}

// byKind is where descriptors has a kind.
var byKind = func() map[Kind]int {
	m := make(map[Kind]int, len(descriptors))
	for i, d := range descriptors {
		m[d.Kind] = i
	}
	return m
}()

// kindNames are the names of all kinds.
func kindNames() []string {
	names := make([]string, len(descriptors))
	for i, d := range descriptors {
		names[i] = string(d.Kind)
	}
	return names
}
