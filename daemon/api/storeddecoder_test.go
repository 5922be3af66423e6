// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStoredDecoder_GivesWhatDecodeStoredGives: no value leaves anything to
// the ones after it, and no object changes when others are read.
func TestStoredDecoder_GivesWhatDecodeStoredGives(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	key := Key{Kind: KindGlobalNetworkPolicy, Name: "default.p"}
	value := func() []byte {
		rules := ""
		for i := range rng.IntN(20) {
			if i > 0 {
				rules += ","
			}
			rules += fmt.Sprintf(`{"action":"Allow","protocol":"TCP","source":{"nets":["10.%d.0.0/16"],"selector":"a == 'v%d'"},"destination":{"ports":[%d,"8000:%d"]}}`, i, rng.IntN(9), 1+rng.IntN(99), 8001+rng.IntN(99))
		}
		end := []string{"}", `,"order":12.5}`, `,"order":"x"}`, `,"unknown":{"a":[1,2,{"b":3}]}}`, `,"selector":"a b"}`, ``}[rng.IntN(6)]
		return []byte(`{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.p"},"spec":{"tier":"default","types":["Ingress"],"ingress":[` + rules + `]` + end + `}`)
	}
	text := func(o Object) string {
		if u, ok := o.(*Unreadable); ok {
			return fmt.Sprintf("%v %+v %+v", u.Err, u.Meta, u.Salvaged)
		}
		return ""
	}
	var d StoredDecoder
	var got, want []Object
	readable := 0
	for i := range 400 {
		v := value()
		got = append(got, d.Decode(key, v, Revision(i)))
		want = append(want, DecodeStored(key, v, Revision(i)))
	}
	for i := range got {
		_, bad := want[i].(*Unreadable)
		if !bad {
			readable++
		}
		if text(got[i]) != text(want[i]) || !bad && !cmp.Equal(got[i], want[i]) {
			t.Fatalf("value %d: decoded %+v, want %+v", i, got[i], want[i])
		}
	}
	if readable < 50 || readable > 350 {
		t.Errorf("%d of %d values can be understood; the test wants both sorts", readable, len(got))
	}
}
