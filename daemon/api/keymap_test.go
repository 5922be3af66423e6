// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKeyMap_IsAMap: it holds what a plain map holds.
func TestKeyMap_IsAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var m KeyMap[int]
	model := map[Key]int{}
	for i := range 20_000 {
		k := Key{Kind: []Kind{KindTier, KindNetworkSet, KindGlobalNetworkSet}[rng.IntN(3)], Name: fmt.Sprint("n", rng.IntN(40))}
		if k.Kind == KindNetworkSet {
			k.Namespace = fmt.Sprint("s", rng.IntN(3))
		}
		if k.Kind == KindTier && rng.IntN(3) == 0 {
			k.Name = "s1/" + k.Name // as damage may make it
		}
		if rng.IntN(2) == 0 {
			m.Delete(k)
			delete(model, k)
		} else {
			m.Set(k, i)
			model[k] = i
		}
		v, ok := m.Get(k)
		if want, there := model[k]; ok != there || v != want || m.Len() != len(model) {
			t.Fatalf("Get(%s) = %d, %v of %d; want %d, %v of %d", k, v, ok, m.Len(), want, there, len(model))
		}
	}
	if diff := cmp.Diff(model, maps.Collect(m.All())); diff != "" {
		t.Errorf("All (-model +got):\n%s", diff)
	}
	n := 0
	for k := range model {
		if k.Kind == KindTier {
			n++
		}
	}
	if got := m.Count(KindTier); got != n {
		t.Errorf("Count = %d, want %d", got, n)
	}
}
