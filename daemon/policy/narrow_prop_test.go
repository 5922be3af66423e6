// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNarrow_DecidesAsTheWholeWorld(t *testing.T) {
	smaller := false
	forSeeds(t, 300, func(t *testing.T, g *generator) {
		w := NewWorld(g.objects(), Options{})
		for range flowsPerWorld {
			f := g.flow()
			addrs := []netip.Addr{f.Source, f.Destination}
			if f.Dialled.IsValid() {
				addrs = append(addrs, f.Dialled.Addr())
			}
			n := w.Narrow(f.Host.Name, addrs)
			smaller = smaller || len(n.members) < len(w.members)
			if diff := cmp.Diff(w.Evaluate(f), n.Evaluate(f)); diff != "" {
				t.Fatalf("Evaluate(%s), narrowed:\n%s", f, diff)
			}
		}
	})
	if !smaller {
		t.Error("no world became smaller: the test tests nothing")
	}
}
