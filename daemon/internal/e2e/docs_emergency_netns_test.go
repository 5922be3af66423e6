// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
)

// TestNetnsDocs_EmergencyRemovesRulesByHand types what the page on emergencies
// says of an agent that is dead and cannot be started: the rules go, those of
// others stay. While the agent runs the kernel refuses it.
func TestNetnsDocs_EmergencyRemovesRulesByHand(t *testing.T) {
	byHand := func(t *testing.T, word string) string {
		for _, b := range readDocument(t, "docs/how-to/emergency.md").blocks {
			if b.heading == "The agent is dead" && strings.Contains(b.text, word) {
				return b.text
			}
		}
		t.Fatalf("docs/how-to/emergency.md has no block with %q", word)
		return ""
	}
	policy := map[uint16]bool{7000: true, 7001: false, 4445: false}
	open := map[uint16]bool{7000: true, 7001: true, 4445: false}
	t.Run("nftables", func(t *testing.T) {
		g := newGuarded(t, false, allowTCP("one", 7000), "--dataplane", "nftables")
		load(t, g.inj.NS, "table inet theirs { chain in { type filter hook input priority 0; tcp dport 4445 drop; }; }")
		text := byHand(t, "nft delete table")
		hs, err := g.agent.status()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.inj.NS.Try("bash", "-ec", text); hs.Status.Dataplane.OwnerFlag && err == nil {
			t.Errorf("%q is not refused while the agent runs", text)
		}
		g.agent.kill()
		wantPass(t, g.inj, "the agent is dead", policy)
		g.inj.NS.Run("bash", "-ec", text)
		wantPass(t, g.inj, "the table is deleted", open)
	})
	t.Run("iptables", func(t *testing.T) {
		g := newGuarded(t, false, allowTCP("one", 7000), "--dataplane", "iptables")
		for _, program := range []string{"iptables", "ip6tables"} {
			g.inj.NS.Run(program, "-I", "INPUT", "-p", "tcp", "--dport", "4445", "-m", "comment", "--comment", "others rs-x", "-j", "DROP")
			g.inj.NS.Run(program, "-N", "users-chain")
		}
		g.agent.kill()
		wantPass(t, g.inj, "the agent is dead", policy)
		g.inj.NS.Run("bash", "-ec", "set -o pipefail; "+byHand(t, "iptables-save"))
		wantPass(t, g.inj, "the chains are deleted", open)
		for _, program := range []string{"iptables-save", "ip6tables-save"} {
			out := g.inj.NS.Run(program)
			if !strings.Contains(out, "others rs-x") || !strings.Contains(out, ":users-chain") || strings.Contains(out, ":rs-") {
				t.Errorf("%s says:\n%s", program, out)
			}
		}
	})
}
