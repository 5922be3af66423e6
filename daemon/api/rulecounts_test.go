// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRuleCounts_OfAnObjectAreItsOwnInOrder(t *testing.T) {
	c := RuleCounts{Rules: []RuleCount{
		{"gnp/web egress 0", 1, 10}, {"gnp/web ingress 10", 2, 20}, {"gnp/web ingress 2", 3, 30}, {"gnp/web2 ingress 0", 4, 40},
		{"np/prod/web ingress 0", 5, 50}, {"np/web ingress 1", 6, 60}, {"pro/web ingress 0", 7, 70}, {"tier default default", 8, 80},
	}}
	for _, tc := range []struct {
		key  Key
		want []RuleCount
	}{
		{Key{Kind: KindGlobalNetworkPolicy, Name: "web"}, []RuleCount{{"ingress 2", 3, 30}, {"ingress 10", 2, 20}, {"egress 0", 1, 10}}},
		{Key{Kind: KindNetworkPolicy, Namespace: "prod", Name: "web"}, []RuleCount{{"ingress 0", 5, 50}}},
		{Key{Kind: KindProfile, Name: "web"}, []RuleCount{{"ingress 0", 7, 70}}},
		{Key{Kind: KindGlobalNetworkPolicy, Name: "none"}, nil},
		{Key{Kind: KindTier, Name: "default"}, nil},
	} {
		if diff := cmp.Diff(tc.want, c.ByObject()[ObjectName(tc.key)]); diff != "" {
			t.Errorf("ByObject of %s (-want +got):\n%s", tc.key, diff)
		}
		if key, ok := KeyOfCounts(ObjectName(tc.key)); tc.want != nil && (!ok || key != tc.key) {
			t.Errorf("KeyOfCounts of %s: got %s, %v", tc.key, key, ok)
		}
	}
}

func TestKeyOfCounts_RefusesWhatIsNoObject(t *testing.T) {
	for _, name := range []string{"", "gnp", "gnp/a/b", "np/a", "np/a/b/c", "tier/default", "x/y"} {
		if k, ok := KeyOfCounts(name); ok {
			t.Errorf("%q is taken for %s", name, k)
		}
	}
}
