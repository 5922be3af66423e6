// SPDX-License-Identifier: Apache-2.0

package api

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var seed = flag.Uint64("seed", 0, "seed of random tests; 0: by the clock")

// damage changes one thing in a tree: a value, a name, or it drops, doubles
// or moves something.
func damage(r *rand.Rand, t *tree) {
	if n := len(t.members) + len(t.list); n > 0 && r.IntN(25) > 0 {
		if i := r.IntN(n); i < len(t.members) {
			damage(r, &t.members[i].value)
		} else {
			damage(r, &t.list[i-len(t.members)])
		}
		return
	}
	values := []tree{
		{kind: treeNull, text: "null"}, {kind: treeBool, text: "true"}, {kind: treeNumber, text: "-1"},
		{kind: treeNumber, text: "1e400"}, {kind: treeNumber, text: "0"}, {kind: treeString}, {kind: treeString, text: "all()"},
		{kind: treeString, text: "0.0.0.0/0"}, {kind: treeString, text: "\x00"}, {kind: treeList}, {kind: treeObject},
		{kind: treeList, list: []tree{{kind: treeNull, text: "null"}}},
		{kind: treeObject, members: []member{{name: "x", value: tree{kind: treeNull, text: "null"}}}},
	}
	switch n := len(t.members); {
	case n == 0 || r.IntN(2) == 0:
		*t = values[r.IntN(len(values))]
	case r.IntN(3) == 0:
		t.members[r.IntN(n)].name = []string{"", "x", "spec", "Selector", "action"}[r.IntN(5)]
	case r.IntN(2) == 0:
		i := r.IntN(n)
		t.members = append(t.members[:i:i], t.members[i+1:]...)
	default:
		t.members = append(t.members[:n:n], t.members[r.IntN(n)])
	}
}

// TestDecodeStored_RandomDamage reads values of every kind with one to three
// things wrong: nothing may panic, what is read must be sound and be written
// and read back as it is, what is not must say why.
func TestDecodeStored_RandomDamage(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	r := rand.New(rand.NewPCG(s, 0))
	readable, salvaged, lost := 0, 0, 0
	for _, d := range Kinds() {
		o := sample(t, d.Kind)
		o.Default()
		value, err := EncodeStored(o)
		if err != nil {
			t.Fatal(err)
		}
		for range 400 {
			whole, err := parseJSON(value)
			if err != nil {
				t.Fatal(err)
			}
			for range 1 + r.IntN(3) {
				part := &whole
				if spec := whole.get("spec"); spec != nil && r.IntN(10) > 0 {
					part = spec // the head is simple, and all is lost with it
				}
				damage(r, part)
			}
			text := whole.appendJSON(nil)
			if r.IntN(10) == 0 {
				text[r.IntN(len(text))] ^= 1 << r.IntN(8)
			}
			switch got := DecodeStored(o.Key(), text, 5).(type) {
			case *Unreadable:
				if got.Err == nil {
					t.Fatalf("seed %d: no error: %s", s, text)
				}
				lost++
				if got.Salvaged != nil {
					salvaged++
					if f := storedFaults(got.Salvaged); f != nil {
						t.Fatalf("seed %d: salvaged is at fault: %v: %s", s, f.err(), text)
					}
				}
				for _, spec := range []*PolicySpec{PolicySpecOf(got.Salvaged)} {
					if spec == nil {
						continue
					}
					for _, rule := range append(spec.Ingress, spec.Egress...) {
						if diff := cmp.Diff(Rule{Action: Deny}, rule); diff != "" {
							t.Fatalf("seed %d: salvaged policy has another rule than deny: %s", s, diff)
						}
					}
				}
			default:
				readable++
				again, err := EncodeStored(got)
				if err != nil {
					t.Fatalf("seed %d: %v: %s", s, err, text)
				}
				if diff := cmp.Diff(got, DecodeStored(got.Key(), again, 5), equal); diff != "" {
					t.Fatalf("seed %d: %s\nwritten and read again (-before +after):\n%s", s, text, diff)
				}
			}
		}
	}
	if readable == 0 || salvaged == 0 || lost == salvaged {
		t.Errorf("got %d readable, %d unreadable, %d of them salvaged: the damage is not what it should be", readable, lost, salvaged)
	}
	t.Logf("%d readable, %d unreadable, %d of them salvaged", readable, lost, salvaged)
}
