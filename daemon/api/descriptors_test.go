// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKinds_AreWhole(t *testing.T) {
	names := map[string]Kind{}
	for _, d := range Kinds() {
		o := d.New()
		if o.Key().Kind != d.Kind || typeOf(o).Kind != d.Kind || typeOf(o).APIVersion != d.APIVersion() {
			t.Errorf("%s: New gives kind %s, %+v", d.Kind, o.Key().Kind, *typeOf(o))
		}
		if d.New() == o {
			t.Errorf("%s: New gives the same object twice", d.Kind)
		}
		if len(d.Columns) == 0 {
			t.Errorf("%s has no columns", d.Kind)
		}
		for _, c := range d.Columns {
			c.Value(o)
			c.Value(sample(t, d.Kind))
			if got := c.Value(&Unreadable{K: Key{Name: "u"}}); got != "" && got != "u" && got != "<nil>" {
				t.Errorf("%s, column %s of an Unreadable: got %q", d.Kind, c.Name, got)
			}
		}
		for _, n := range append(append([]string{d.Plural, d.Singular, string(d.Kind), d.Plural + "." + d.Group}, d.ShortNames...), d.aliases...) {
			n = strings.ToLower(n)
			if k, taken := names[n]; taken && k != d.Kind {
				t.Errorf("name %q is of %s and of %s", n, k, d.Kind)
			}
			names[n] = d.Kind
		}
		if _, ok := DescriptorOf(d.Kind); !ok {
			t.Errorf("DescriptorOf(%s): not found", d.Kind)
		}
	}
	if len(Kinds()) != 22 {
		t.Errorf("Kinds: got %d, want 22", len(Kinds()))
	}
	if _, ok := DescriptorOf("Nothing"); ok {
		t.Error("DescriptorOf(Nothing): found")
	}
}

func TestKinds_TheSliceIsTheCallers(t *testing.T) {
	Kinds()[0].Plural = "broken"
	if Kinds()[0].Plural == "broken" {
		t.Error("Kinds gives away its own table")
	}
}

func TestDescriptorByName(t *testing.T) {
	for name, want := range map[string]Kind{
		"GlobalNetworkPolicy": KindGlobalNetworkPolicy, "gnp": KindGlobalNetworkPolicy, "GNP": KindGlobalNetworkPolicy,
		"globalnetworkpolicies.projectcalico.org":    KindGlobalNetworkPolicy,
		"globalnetworkpolicies.v3.projectcalico.org": KindGlobalNetworkPolicy,
		"np": KindNetworkPolicy, "policy": KindNetworkPolicy, "pol": KindNetworkPolicy, "networkpolicies": KindNetworkPolicy,
		"sgnp": KindStagedGlobalNetworkPolicy, "snp": KindStagedNetworkPolicy, "spol": KindStagedNetworkPolicy,
		"gnetset": KindGlobalNetworkSet, "gns": KindGlobalNetworkSet, "netset": KindNetworkSet,
		"hep": KindHostEndpoint, "heps": KindHostEndpoint, "wep": KindWorkloadEndpoint, "profile": KindProfile, "pro": KindProfile,
		"node": KindNode, "no": KindNode, "pool": KindIPPool, "ipp": KindIPPool, "felixconfig": KindFelixConfiguration,
		"clusterinfo": KindClusterInformation, "tier": KindTier, "tiers": KindTier, "hs": KindHostStatus, "ns": KindNamespace, "namespace": KindNamespace, "hoststatuses.ripstop.io": KindHostStatus,
		"roles.ripstop.io": KindRole, "rolebinding": KindRoleBinding, "cred": KindCredential, "credentials": KindCredential,
	} {
		if d, ok := DescriptorByName(name); !ok || d.Kind != want {
			t.Errorf("DescriptorByName(%s): got %s, %t, want %s", name, d.Kind, ok, want)
		}
	}
	for _, name := range []string{"", "foo", "tiers.ripstop.io", "hoststatuses.projectcalico.org", "namespaces."} {
		if d, ok := DescriptorByName(name); ok {
			t.Errorf("DescriptorByName(%q): got %s", name, d.Kind)
		}
	}
	if got := NearestKind("globalnetworkpolcy"); got != "globalnetworkpolicy" {
		t.Errorf("NearestKind: got %q", got)
	}
	if got := NearestKind("zzz"); got != "" {
		t.Errorf("NearestKind(zzz): got %q", got)
	}
}

func TestColumns_AsCalicoctl(t *testing.T) {
	headings := func(d Descriptor, wide bool) string {
		var names []string
		for _, c := range d.Columns {
			if wide || !c.Wide {
				names = append(names, c.Name)
			}
		}
		return strings.Join(names, " ")
	}
	for kind, want := range map[Kind][2]string{
		KindClusterInformation:        {"NAME CLUSTERGUID CLUSTERTYPE CALICOVERSION DATASTOREREADY", "NAME CLUSTERGUID CLUSTERTYPE CALICOVERSION DATASTOREREADY"},
		KindFelixConfiguration:        {"NAME", "NAME"},
		KindGlobalNetworkPolicy:       {"NAME TIER", "NAME TIER ORDER SELECTOR"},
		KindNetworkPolicy:             {"NAME TIER", "NAME TIER ORDER SELECTOR"},
		KindStagedGlobalNetworkPolicy: {"NAME TIER", "NAME TIER ORDER SELECTOR"},
		KindGlobalNetworkSet:          {"NAME", "NAME NETS"},
		KindHostEndpoint:              {"NAME NODE", "NAME NODE INTERFACE IPS PROFILES"},
		KindIPPool:                    {"NAME CIDR SELECTOR", "NAME CIDR NAT IPIPMODE VXLANMODE DISABLED DISABLEBGPEXPORT SELECTOR ASSIGNMENTMODE"},
		KindNode:                      {"NAME", "NAME ASN IPV4 IPV6"},
		KindProfile:                   {"NAME", "NAME LABELS"},
		KindTier:                      {"NAME ORDER", "NAME ORDER"},
		KindWorkloadEndpoint:          {"WORKLOAD NODE NETWORKS INTERFACE", "NAME WORKLOAD NODE NETWORKS INTERFACE PROFILES NATS"},
	} {
		d, _ := DescriptorOf(kind)
		if got := [2]string{headings(d, false), headings(d, true)}; got != want {
			t.Errorf("%s: got %q, want %q", kind, got, want)
		}
	}
	cells := func(o Object) map[string]string {
		d, _ := DescriptorOf(o.Key().Kind)
		m := map[string]string{}
		for _, c := range d.Columns {
			m[c.Name] = c.Value(o)
		}
		return m
	}
	million := 1e6
	if diff := cmp.Diff(map[string]string{"NAME": "a", "ORDER": "1e+06"}, cells(&Tier{Meta: Meta{Name: "a"}, Spec: TierSpec{Order: &million}})); diff != "" {
		t.Errorf("tier (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"NAME": "a", "TIER": "default", "ORDER": "<nil>", "SELECTOR": ""}, cells(&GlobalNetworkPolicy{Meta: Meta{Name: "a"}})); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	long := &NetworkSet{Spec: NetworkSetSpec{Nets: []string{strings.Repeat("a", 50), strings.Repeat("b", 50)}}}
	if got := cells(long)["NETS"]; len(got) != 80 || !strings.HasSuffix(got, "...") {
		t.Errorf("NETS: got %q", got)
	}
}
