// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// TestMatches_SayWhatTheRuleSays: what is easily lost when a rule becomes
// conjunctions.
func TestMatches_SayWhatTheRuleSays(t *testing.T) {
	net4, net6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")
	for _, c := range []struct {
		name string
		rule intent.Rule
		want []ruleset.Match
	}{
		{"a protocol and not that protocol is no packet's", intent.Rule{Protocol: 6, NotProtocol: 6}, nil},
		{"a protocol and not another is the one", intent.Rule{Protocol: 6, NotProtocol: 17}, []ruleset.Match{{Protocol: 6}}},
		{"nets of one family are none of the other", intent.Rule{Source: intent.Entity{Nets: []netip.Prefix{net4}}},
			[]ruleset.Match{{Family: ruleset.IPv4, Src: []netip.Prefix{net4}}}},
		{"nets of different families at both ends are no packet's", intent.Rule{
			Source: intent.Entity{Nets: []netip.Prefix{net4}}, Destination: intent.Entity{Nets: []netip.Prefix{net6}}}, nil},
		{"excepted named ports of both ends", intent.Rule{Family: intent.IPv4, Protocol: 6,
			Source: intent.Entity{NotNamedPorts: []string{"a"}}, Destination: intent.Entity{NotNamedPorts: []string{"b"}}},
			[]ruleset.Match{{Family: ruleset.IPv4, Protocol: 6, NotSrcPortSets: []string{"a-4"}, NotDstPortSets: []string{"b-4"}}}},
		{"ports by number and by name are alternatives", intent.Rule{Family: intent.IPv6, Protocol: 17,
			Source: intent.Entity{Ports: []intent.PortRange{{Min: 1, Max: 2}}, NamedPorts: []string{"a"}}},
			[]ruleset.Match{
				{Family: ruleset.IPv6, Protocol: 17, SrcPorts: []ruleset.PortRange{{Min: 1, Max: 2}}},
				{Family: ruleset.IPv6, Protocol: 17, SrcPortSets: []string{"a-6"}},
			}},
	} {
		got := matches(&c.rule)
		opts := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
		if diff := cmp.Diff(c.want, got, opts); diff != "" {
			t.Errorf("%s: matches(%+v): want -, got +\n%s", c.name, c.rule, diff)
		}
	}
}
