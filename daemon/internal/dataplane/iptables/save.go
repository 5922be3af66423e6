// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// ktable is what one table of one family holds.
type ktable struct {
	// chains are ours, by name: their rules in order, each the text behind
	// "-A CHAIN ".
	chains map[string][]string
	// hooks are the kernel's own chains, policies theirs; of the chains of
	// others only rules that go to a chain of ours are kept.
	hooks    map[string][]string
	policies map[string]string
	others   map[string][]string
	// counts are the counters of the rules of chains, if asked for.
	counts map[string][]ruleset.Count
}

// hookNames are the kernel's chains.
var hookNames = map[ruleset.Hook]string{
	ruleset.HookPrerouting: "PREROUTING", ruleset.HookInput: "INPUT", ruleset.HookForward: "FORWARD",
	ruleset.HookOutput: "OUTPUT", ruleset.HookPostrouting: "POSTROUTING",
}

// parseSave reads what iptables-save printed, of the three tables that we use.
func parseSave(out []byte) (map[table]*ktable, error) {
	tables := map[table]*ktable{}
	var t *ktable
	open := false // a table has begun and not ended
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(make([]byte, 64<<10), 16<<20)
	for s.Scan() {
		text := s.Text()
		switch {
		case strings.HasPrefix(text, "*"):
			t, open = nil, true
			for _, id := range []table{raw, mangle, filter} {
				if text[1:] == id.String() {
					t = &ktable{chains: map[string][]string{}, hooks: map[string][]string{}, policies: map[string]string{}, others: map[string][]string{}, counts: map[string][]ruleset.Count{}}
					tables[id] = t
				}
			}
		case text == "COMMIT":
			t, open = nil, false
		case t == nil || text == "" || text[0] == '#':
		case text[0] == ':':
			name, policy, _ := strings.Cut(text[1:], " ")
			if strings.HasPrefix(policy, "-") {
				if ours(name) {
					t.chains[name] = nil
				}
			} else {
				t.hooks[name] = nil
				t.policies[name], _, _ = strings.Cut(policy, " ")
			}
		case text[0] == '[' || text[0] == '-':
			if err := t.rule(text); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("line %q: unknown", text)
		}
	}
	if open && s.Err() == nil {
		return nil, fmt.Errorf("the last table has no end: %w", io.ErrUnexpectedEOF)
	}
	return tables, s.Err()
}

// rule reads one rule, with counters or without.
func (t *ktable) rule(text string) error {
	var count ruleset.Count
	if text[0] == '[' {
		end := strings.Index(text, "] ")
		if end < 0 {
			return fmt.Errorf("line %q: no end of counters", text)
		}
		if _, err := fmt.Sscanf(text[:end+1], "[%d:%d]", &count.Packets, &count.Bytes); err != nil {
			return fmt.Errorf("line %q: %w", text, err)
		}
		text = text[end+2:]
	}
	body, ok := strings.CutPrefix(text, "-A ")
	if !ok {
		return fmt.Errorf("line %q: no rule", text)
	}
	name, body, _ := strings.Cut(body, " ")
	if _, ok := t.chains[name]; ok {
		t.chains[name] = append(t.chains[name], canonical(body))
		t.counts[name] = append(t.counts[name], count)
		return nil
	}
	if _, ok := t.hooks[name]; ok {
		t.hooks[name] = append(t.hooks[name], body)
	} else if target := targetOf(body); ours(target) {
		t.others[name] = append(t.others[name], body)
	}
	return nil
}

// targetOf is the chain or target that a rule goes to.
func targetOf(body string) string {
	for _, option := range []string{"-j ", "-g "} {
		if i := strings.LastIndex(" "+body, " "+option); i >= 0 {
			target, _, _ := strings.Cut(body[i+len(option):], " ")
			return target
		}
	}
	return ""
}

// setsOf are the sets that a rule looks into.
func setsOf(body string) []string {
	const option = "--match-set "
	var out []string
	for {
		_, rest, ok := strings.Cut(body, option)
		if !ok {
			return out
		}
		name, _, _ := strings.Cut(rest, " ")
		out, body = append(out, name), rest
	}
}

// canonical is a rule as we write it. iptables prints rules as they were sent
// (measured on 1.8.9, both variants), except for protocols that have a name in
// /etc/protocols, and some IPv6 addresses.
func canonical(body string) string {
	if !strings.Contains(body, "-p ") && !strings.Contains(body, "::") {
		return body
	}
	words := strings.Split(body, " ")
	for i := 1; i < len(words); i++ {
		switch words[i-1] {
		case "-p":
			if n, ok := protocols()[words[i]]; ok {
				words[i] = protoName(n)
			}
		case "-s", "-d":
			if p, err := netip.ParsePrefix(words[i]); err == nil {
				words[i] = p.String()
			}
		case "-m":
			if words[i] == "comment" {
				return strings.Join(words, " ") // what follows is text
			}
		}
	}
	return strings.Join(words, " ")
}

// counterOf parts our comment: "rs:HASH TEXT".
func counterOf(body string) (text string) {
	_, rest, ok := strings.Cut(body, `--comment "rs:`)
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, `"`)
	_, text, _ = strings.Cut(rest, " ")
	return text
}

func atoi(s string) (uint8, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil
}
