// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNetnsDocs_FlatExampleIsTrue: what docs/explanation/flat.md shows of the
// kernel is what becomes of the policies that it shows.
func TestNetnsDocs_FlatExampleIsTrue(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(top, "docs/explanation/flat.md"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), "```")
	var objects string
	var shown []string
	for i := 1; i < len(parts); i += 2 {
		switch kind, body, _ := strings.Cut(parts[i], "\n"); kind {
		case "yaml":
			objects += body
		case "text":
			if !strings.HasPrefix(body, "-A ") { // iptables has other rules
				shown = append(shown, body)
			}
		}
	}
	s := newStage(t)
	s.show(strings.ReplaceAll(objects, "node: h1", "node: "+here))
	list, err := s.inj.NS.Try("nft", "list", "table", "inet", "ripstop")
	if err != nil {
		t.Fatalf("nft list: %v\n%s", err, list)
	}
	var lines []string
	for l := range strings.Lines(list) {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			lines = append(lines, l)
		}
	}
	kernel := strings.Join(lines, "\n")
	if len(shown) < 4 {
		t.Errorf("%d excerpts in the document, want at least 4", len(shown))
	}
	for _, x := range shown {
		if !strings.Contains(kernel, strings.TrimSpace(x)) {
			t.Errorf("the kernel has not\n%s\nbut\n%s", x, kernel)
		}
	}
}

// TestNetnsCounters_AreOfEachRule: what compiled rules decide, log and pass on
// is counted for each of them.
func TestNetnsCounters_AreOfEachRule(t *testing.T) {
	s := newStage(t)
	s.show(tierDefault + tier("first", "1", "Deny") + hep("h", "eth0", "") + gns("a", "zone: a", "10.0.0.2/32") +
		gnp("first.p", "tier: first, ingress: [{action: Log, protocol: TCP, destination: {ports: [80]}}, {action: Pass, source: {selector: zone == 'a'}}]") +
		gnp("q", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Deny, protocol: TCP}]"))
	for _, line := range []string{
		"in eth0 tcp 10.0.0.2 10.0.0.1 80 ok", "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok", "in eth0 tcp 10.0.0.2 10.0.0.1 81 blocked",
		"in eth0 tcp 10.0.0.3 10.0.0.1 80 blocked", "in eth0 tcp 10.0.0.3 10.0.0.1 80 blocked", "in eth0 tcp 10.0.0.3 10.0.0.1 80 blocked",
	} {
		s.expect(line)
	}
	list, err := s.inj.NS.Try("nft", "list", "table", "inet", "ripstop")
	if err != nil {
		t.Fatal(err)
	}
	for rule, packets := range map[string]string{
		"gnp/first.p ingress 0": "5", "gnp/first.p ingress 1": "3", "gnp/q ingress 0": "2", "gnp/q ingress 1": "1", "tier first default": "3",
	} {
		found := false
		for l := range strings.Lines(list) {
			found = found || strings.Contains(l, `comment "`+rule+`"`) && strings.Contains(l, "packets "+packets+" ")
		}
		if !found {
			t.Errorf("rule %s: not counted %s packets\n%s", rule, packets, list)
		}
	}
}
