// SPDX-License-Identifier: Apache-2.0

package delta_test

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/delta"
)

func TestOf_NamesWhatIsMissingWrongAndTooMuch(t *testing.T) {
	want := map[string]int{"same": 1, "wrong": 2, "missing": 3}
	have := map[string]int{"same": 1, "wrong": 9, "extra": 4}
	got := delta.Of(want, have)
	if diff := cmp.Diff(delta.Diff[string, int]{
		Put:  map[string]int{"wrong": 2, "missing": 3},
		Drop: map[string]int{"extra": 4},
	}, got); diff != "" {
		t.Errorf("Of(%v, %v) (-want +got):\n%s", want, have, diff)
	}
}

// What is there becomes what is wanted, whatever the two are.
func TestOf_AppliedGivesWhatIsWanted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() map[int]int {
		m := map[int]int{}
		for range r.IntN(10) {
			m[r.IntN(10)] = r.IntN(3)
		}
		return m
	}
	for range 1000 {
		want, have := random(), random()
		d := delta.Of(want, have)
		got := maps.Clone(have)
		for k := range d.Drop {
			delete(got, k)
		}
		maps.Copy(got, d.Put)
		if !maps.Equal(got, want) {
			t.Fatalf("have %v, want %v: applied %+v gives %v", have, want, d, got)
		}
	}
}
