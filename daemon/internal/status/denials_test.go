// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// TestDenials_TellsWhatWasDeniedLately: only of rules that deny, only what came
// after the first look, of a rule that was made anew from zero.
func TestDenials_TellsWhatWasDeniedLately(t *testing.T) {
	counts := map[string]ruleset.Count{}
	var broken error
	d := NewDenials(func(context.Context) (map[string]ruleset.Count, error) { return counts, broken },
		func(rule string) bool { return !strings.HasPrefix(rule, "allow") })
	now := time.Now().Add(-50 * time.Minute)
	look := func(later time.Duration, now1 map[string]uint64) {
		t.Helper()
		counts = map[string]ruleset.Count{}
		for rule, n := range now1 {
			counts[rule] = ruleset.Count{Packets: n, Bytes: 60 * n}
		}
		now = now.Add(later)
		if err := d.look(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	told := func(before time.Duration) string {
		t.Helper()
		got, err := d.Since(t.Context(), "h1", before)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, r := range got.Rules {
			fmt.Fprintf(&b, "%s %d %d; ", r.Rule, r.Packets, r.Bytes)
		}
		return strings.TrimSuffix(b.String(), "; ")
	}
	look(0, map[string]uint64{"old": 1000, "quiet": 5, "allow": 7})
	look(time.Minute, map[string]uint64{"old": 1003, "quiet": 5, "allow": 9, "new": 2})
	look(time.Minute, map[string]uint64{"old": 1003, "quiet": 5, "allow": 9, "new": 5})
	if got, want := told(DenialsKept), "new 5 300; old 3 180"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	look(30*time.Minute, map[string]uint64{"old": 4, "quiet": 5, "new": 5}) // old was made anew
	if got, want := told(30*time.Minute), "old 4 240"; got != want {
		t.Errorf("of the last half hour: got %q, want %q", got, want)
	}
	broken = errors.New("the kernel does not answer")
	if _, err := d.Since(t.Context(), "h1", time.Hour); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	broken = nil
	many := map[string]uint64{}
	for i := range 3 * denialsRules {
		many[fmt.Sprintf("r%d", i)] = 1
	}
	look(time.Minute, many)
	if len(d.rules) > denialsRules {
		t.Errorf("%d rules are remembered, at most %d are wanted", len(d.rules), denialsRules)
	}
	look(3*time.Hour, map[string]uint64{})
	if len(d.rules) != 0 {
		t.Errorf("after three hours %d rules are remembered", len(d.rules))
	}
}
