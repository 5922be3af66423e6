// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// TestNetnsFlows_AreThoseOfTheTable: every entry, with its way, and visiting
// ends with an error.
func TestNetnsFlows_AreThoseOfTheTable(t *testing.T) {
	b := newBed(t)
	const n = 5000
	b.host.MustDo(func() error { return put(b.part.c, many(n)) })
	got, ways := map[uint16]bool{}, map[ruleset.Way]int{}
	b.host.MustDo(func() error {
		return Flows(context.Background(), func(f *ruleset.Flow) error {
			if f.Protocol == 17 {
				ways[f.Way]++
				got[f.SrcPort] = true
				if f.Way == ruleset.ToHost && len(f.In) == 0 || f.Way == ruleset.Forwarded && len(f.Out) == 0 {
					t.Errorf("flow %+v has no interface", f)
				}
			}
			return nil
		})
	})
	t.Logf("ways %v", ways)
	if total := ways[ruleset.ToHost] + ways[ruleset.FromHost] + ways[ruleset.Forwarded] + ways[ruleset.Looped]; total != n {
		t.Errorf("%d flows, want the %d that were made", total, n)
	}
	enough := errors.New("enough")
	visits := 0
	b.host.MustDo(func() error {
		if err := Flows(context.Background(), func(*ruleset.Flow) error { visits++; return enough }); !errors.Is(err, enough) || visits != 1 {
			t.Errorf("Flows with a visit that fails: %v after %d visits, want its error after one", err, visits)
		}
		return nil
	})
}
