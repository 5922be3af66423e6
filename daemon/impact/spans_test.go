// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// on are the points of a line from 0 to 39 that spans have.
func on(s spans[number]) (points []bool) {
	for n := range number(40) {
		points = append(points, s.has(n))
	}
	return points
}

func TestSpans_AreSetsOfPoints(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	random := func() (spans[number], []bool) {
		var s spans[number]
		points := make([]bool, 40)
		for range r.IntN(5) {
			first := number(r.IntN(38))
			last := first + number(r.IntN(min(8, int(39-first))))
			s = append(s, span[number]{first, last})
			for n := first; n <= last; n++ {
				points[n] = true
			}
		}
		return joined(s), points
	}
	for range 3000 {
		a, inA := random()
		b, inB := random()
		if got := on(a); !slices.Equal(got, inA) {
			t.Fatalf("joined: %v has %v, want %v", a, got, inA)
		}
		for i := 1; i < len(a); i++ {
			if a[i].first <= a[i-1].last+1 {
				t.Fatalf("joined: %v touch", a)
			}
		}
		less, covered := slices.Clone(inA), true
		for i := range less {
			less[i] = less[i] && !inB[i]
			covered = covered && !(inB[i] && !inA[i])
		}
		if got := on(a.minus(b)); !slices.Equal(got, less) {
			t.Fatalf("%v minus %v: %v", a, b, a.minus(b))
		}
		if got := a.covers(b); got != covered {
			t.Fatalf("%v covers %v: %v", a, b, got)
		}
		atoms := atomsOf(span[number]{0, 39}, []spans[number]{a, b})
		for n := range number(40) {
			var in []string
			for _, x := range atoms {
				if x.all.has(n) {
					in = append(in, fmt.Sprint(a.has(x.one), b.has(x.one)))
				}
			}
			if len(in) != 1 || in[0] != fmt.Sprint(a.has(n), b.has(n)) {
				t.Fatalf("cuts %v and %v: %d is of atoms that are %v", a, b, n, in)
			}
		}
		if len(atoms) > 4 {
			t.Fatalf("two cuts make %d atoms", len(atoms))
		}
	}
}

func TestAddresses_ArePrefixesAgain(t *testing.T) {
	nets := func(texts ...string) (list []netip.Prefix) {
		for _, x := range texts {
			list = append(list, netip.MustParsePrefix(x))
		}
		return list
	}
	for _, c := range []struct {
		is   addresses
		want []netip.Prefix
	}{
		{addressesOf(nets("10.0.0.0/25", "10.0.0.128/25", "10.0.1.0/32")), nets("10.0.0.0/24", "10.0.1.0/32")},
		{addressesOf(nets("0.0.0.0/0", "::/0")), nets("0.0.0.0/0", "::/0")},
		{addressesOf(nets("10.0.0.0/30")).minus(addressesOf(nets("10.0.0.1/32"))), nets("10.0.0.0/32", "10.0.0.2/31")},
		{addressesOf(nets("128.0.0.0/1", "fd00::1/128")), nets("128.0.0.0/1", "fd00::1/128")},
		{addresses{}, nil},
	} {
		got, count := c.is.prefixes(10)
		if !slices.Equal(got, c.want) || count != len(c.want) {
			t.Errorf("prefixes of %v: %v, %d; want %v", c.is, got, count, c.want)
		}
	}
}
