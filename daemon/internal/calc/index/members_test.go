// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMembers_CountsReasons(t *testing.T) {
	var said []string
	m := NewMembers(func(set, member string, present bool) {
		said = append(said, map[bool]string{true: "+", false: "-"}[present]+set+":"+member)
	})
	expect := func(after string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("%s: told (-want +got):\n%s", after, diff)
		}
		said = nil
	}
	m.Add("s", "10.0.0.1")
	expect("first reason", "+s:10.0.0.1")
	m.Add("s", "10.0.0.1")
	expect("second reason")
	m.Add("t", "10.0.0.1")
	expect("other set", "+t:10.0.0.1")
	m.Add("s", "10.0.0.2")
	expect("other member", "+s:10.0.0.2")
	if diff := cmp.Diff([]string{"10.0.0.1", "10.0.0.2"}, slices.Sorted(m.All("s"))); diff != "" || m.Len("s") != 2 || m.Len("none") != 0 {
		t.Errorf("All(s) (-want +got):\n%s\nLen: got %d and %d, want 2 and 0", diff, m.Len("s"), m.Len("none"))
	}
	if !m.Remove("s", "10.0.0.1") {
		t.Errorf("Remove of one of two reasons: got false, want true")
	}
	expect("one of two reasons gone")
	m.Remove("s", "10.0.0.1")
	expect("last reason gone", "-s:10.0.0.1")
	if m.Remove("s", "10.0.0.1") || m.Remove("none", "x") {
		t.Errorf("Remove of what is not there: got true, want false")
	}
	expect("nothing removed")
	m.Add("s", "10.0.0.1")
	expect("back again", "+s:10.0.0.1")
}

func TestMembers_AgreesWithModel(t *testing.T) {
	r := newRand(t)
	type in struct{ set, member int }
	got := map[in]bool{}
	m := NewMembers(func(set, member int, present bool) {
		if got[in{set, member}] == present {
			t.Fatalf("told %d %d %v again", set, member, present)
		}
		got[in{set, member}] = present
	})
	counts := map[in]int{}
	for range 20_000 {
		k := in{r.IntN(3), r.IntN(6)}
		if r.IntN(2) == 0 {
			counts[k]++
			m.Add(k.set, k.member)
		} else if had := m.Remove(k.set, k.member); had != (counts[k] > 0) {
			t.Fatalf("Remove(%v): got %v with %d reasons", k, had, counts[k])
		} else if had {
			counts[k]--
		}
		if got[k] != (counts[k] > 0) {
			t.Fatalf("%v: present %v with %d reasons", k, got[k], counts[k])
		}
	}
	for k, n := range counts {
		for range n {
			m.Remove(k.set, k.member)
		}
	}
	if len(m.sets) != 0 {
		t.Errorf("after everything was removed: %d sets left", len(m.sets))
	}
}
