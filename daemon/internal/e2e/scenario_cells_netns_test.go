// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
)

// Endpoints that allow everything by their profile, and policies of one kind
// each that deny everything.
var (
	openHosts = tierDefault + hep("h", "eth0", openProfile) + hep("g", "eth1", openProfile) + w1 + w2
	openAll   = tierDefault + hep("w", "*", openProfile) + w1 + w2
	denyU     = gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]")
	denyUOut  = gnp("u", onHosts+"doNotTrack: true, applyOnForward: true, types: [Egress], egress: [{action: Deny}]")
	denyD     = gnp("d", onHosts+"preDNAT: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]")
	denyN     = gnp("n", onHosts+"ingress: [{action: Deny}], egress: [{action: Deny}]")
	denyFIn   = gnp("f", onHosts+"applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]")
	denyFOut  = gnp("f", onHosts+"applyOnForward: true, types: [Egress], egress: [{action: Deny}]")
	denyWIn   = gnp("x", "selector: has(app), types: [Ingress], ingress: [{action: Deny}]")
	denyWOut  = gnp("x", "selector: has(app), types: [Egress], egress: [{action: Deny}]")
	acceptTo  = felix("defaultEndpointToHostAction: Accept")
)

// cellScenarios say of each traffic class which kinds of policy have a say in
// it, and which have none: one kind at a time denies everything.
var cellScenarios = []scenario{
	{name: "C1 from outside to the host", steps: []step{
		{openHosts, "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok"},
		{openHosts + denyU, "in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked"},
		{openHosts + denyUOut, "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok"},
		{openHosts + denyD, "in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked"},
		{openHosts + denyN, "in eth0 tcp 10.0.0.2 10.0.0.1 80 blocked"},
		{openHosts + denyFOut, "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok"},
		{openHosts + denyWIn, "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok"},
		{openHosts + denyWOut, "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok"}}},
	{name: "C2 from the host to outside", steps: []step{
		{openHosts, "out eth0 tcp 10.0.0.1 10.0.0.2 80 ok"},
		{openHosts + denyU, "out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked"},
		{openHosts + denyD, "out eth0 tcp 10.0.0.1 10.0.0.2 80 ok"},
		{openHosts + denyN, "out eth0 tcp 10.0.0.1 10.0.0.2 80 blocked"},
		{openHosts + denyFIn, "out eth0 tcp 10.0.0.1 10.0.0.2 80 ok"},
		{openHosts + denyWIn, "out eth0 tcp 10.0.0.1 10.0.0.2 80 ok"},
		{openHosts + denyWOut, "out eth0 tcp 10.0.0.1 10.0.0.2 80 ok"}}},
	{name: "C3 through the host", steps: []step{
		{openHosts, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok"},
		{openHosts + denyU, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked"},
		{openHosts + denyUOut, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok"},
		{openHosts + denyD, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked"},
		{openHosts + denyN, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok"},
		{openHosts + denyFIn, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked"},
		{openHosts + denyFOut, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 blocked"},
		{openHosts + denyWIn, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok"},
		{openHosts + denyWOut, "fwd eth0 eth1 tcp 10.0.0.2 10.1.0.2 80 ok"}}},
	{name: "C4 from outside to a workload", steps: []step{
		{openHosts, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok"},
		{openHosts + denyU, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked"},
		{openHosts + denyD, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked"},
		{openHosts + denyN, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok"},
		{openHosts + denyFIn, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked"},
		{openHosts + denyFOut, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok"},
		{openAll + denyFOut, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked"},
		{openHosts + denyWIn, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 blocked"},
		{openHosts + denyWOut, "fwd eth0 cali1 tcp 10.0.0.2 10.2.0.2 80 ok"}}},
	{name: "C5 from a workload to outside", steps: []step{
		{openHosts, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok"},
		{openHosts, "fwd cali1 eth0 tcp 10.2.0.3 10.0.0.2 80 blocked"},
		{openHosts + denyU, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok"},
		{openHosts + denyD, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok"},
		{openAll + denyD, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked"},
		{openAll + denyN, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok"},
		{openHosts + denyFIn, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok"},
		{openAll + denyFIn, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked"},
		{openHosts + denyFOut, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked"},
		{openHosts + denyWIn, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 ok"},
		{openHosts + denyWOut, "fwd cali1 eth0 tcp 10.2.0.2 10.0.0.2 80 blocked"}}},
	{name: "C6 from a workload to a workload", steps: []step{
		{openAll, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok"},
		{openAll, "fwd cali1 cali2 tcp 10.2.0.3 10.3.0.2 80 blocked"},
		{openAll + denyU, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok"},
		{openAll + denyD, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked"},
		{openAll + denyN, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 ok"},
		{openAll + denyFIn, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked"},
		{openAll + denyFOut, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked"},
		{openAll + denyWIn, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked"},
		{openAll + denyWOut, "fwd cali1 cali2 tcp 10.2.0.2 10.3.0.2 80 blocked"}}},
	{name: "C7 from a workload to the host", steps: []step{
		{openAll + acceptTo, "in cali1 tcp 10.2.0.2 10.2.0.1 80 ok"},
		{openAll + acceptTo, "in cali1 tcp 10.2.0.3 10.2.0.1 80 blocked"},
		{openAll, "in cali1 tcp 10.2.0.2 10.2.0.1 80 blocked"},
		{openAll + acceptTo + denyU, "in cali1 tcp 10.2.0.2 10.2.0.1 80 ok"},
		{openAll + acceptTo + denyD, "in cali1 tcp 10.2.0.2 10.2.0.1 80 blocked"},
		{openAll + acceptTo + denyN, "in cali1 tcp 10.2.0.2 10.2.0.1 80 ok"},
		{openAll + acceptTo + denyFIn, "in cali1 tcp 10.2.0.2 10.2.0.1 80 ok"},
		{openAll + acceptTo + denyWIn, "in cali1 tcp 10.2.0.2 10.2.0.1 80 ok"},
		{openAll + acceptTo + denyWOut, "in cali1 tcp 10.2.0.2 10.2.0.1 80 blocked"}}},
	{name: "C8 from the host to its own workload", steps: []step{
		{openAll, "out cali1 tcp 10.2.0.1 10.2.0.2 80 ok"},
		{openAll + denyU, "out cali1 tcp 10.2.0.1 10.2.0.2 80 ok"},
		{openAll + hep("c", "cali1", "") + denyUOut, "out cali1 tcp 10.2.0.1 10.2.0.2 80 blocked"},
		{openAll + denyD, "out cali1 tcp 10.2.0.1 10.2.0.2 80 ok"},
		{openAll + denyN, "out cali1 tcp 10.2.0.1 10.2.0.2 80 ok"},
		{openAll + denyFOut, "out cali1 tcp 10.2.0.1 10.2.0.2 80 ok"},
		{openAll + denyWIn, "out cali1 tcp 10.2.0.1 10.2.0.2 80 ok"},
		{openAll + denyWOut, "out cali1 tcp 10.2.0.1 10.2.0.2 80 ok"}}},
}

// TestNetnsScenario_OnIptables: scenarios on both variants of iptables, which
// are slower, a part of them each day. With -filter, TestNetnsScenario has them
// all.
func TestNetnsScenario_OnIptables(t *testing.T) {
	was := *filterFlag
	if was != "nftables" {
		t.Skip("-filter is given")
	}
	defer func() { *filterFlag = was }()
	for _, c := range []struct {
		variant iptables.Variant
		one, in int
	}{{iptables.Legacy, today() % 2, 2}, {iptables.NFT, today() % 8, 8}} {
		*filterFlag = string(c.variant)
		t.Run(string(c.variant), func(t *testing.T) { runScenarios(t, c.one, c.in) })
	}
}

// TestDocs_ScenariosNamedExist: where a document names scenarios, there are
// such; and in the table of what shows what policy means each cell names some.
func TestDocs_ScenariosNamedExist(t *testing.T) {
	known := map[string]bool{}
	for _, group := range scenarios() {
		for _, sc := range group {
			number, _, _ := strings.Cut(sc.name, " ")
			known[number] = true
		}
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../assembly/agent/network_scenario_netns_test.go")
	for _, f := range files { // those with a test of their own
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`func TestNetns\w+?_([SB]\d+)_`).FindAllStringSubmatch(string(b), -1) {
			known[m[1]] = true
		}
	}
	number := regexp.MustCompile(`\b[SBC][0-9]+\b`)
	for _, path := range []string{"docs/reference/policy-semantics.md", "docs/reference/scenarios.md", "docs/reference/weak-points.md"} {
		named, table := 0, false
		for i, line := range readDocument(t, path).prose() {
			for _, n := range number.FindAllString(line, -1) {
				named++
				if !known[n] {
					t.Errorf("%s:%d: there is no scenario %s", path, i+1, n)
				}
			}
			if table = strings.HasPrefix(line, "|") && (table || strings.Contains(line, "| shown on the kernel |")); table {
				cells := strings.Split(strings.Trim(line, "|"), "|")
				if last := cells[len(cells)-1]; !strings.Contains(line, "---") && !strings.Contains(last, "shown on") && !number.MatchString(last) && !strings.Contains(last, "[Test") {
					t.Errorf("%s:%d: no kernel test is named: %s", path, i+1, line)
				}
			}
		}
		if named < 10 {
			t.Errorf("%s names %d scenarios: are they still found?", path, named)
		}
	}
}
