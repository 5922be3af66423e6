// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

func rng(t testing.TB) *rand.Rand {
	s := flag.Lookup("seed").Value.(flag.Getter).Get().(uint64) // filtertest's
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 2))
}

// randomPrefix is a prefix in a crowded corner of the address space.
func randomPrefix(r *rand.Rand, v6 bool) netip.Prefix {
	bits := r.IntN(9)
	if v6 {
		bits += []int{0, 60, 120}[r.IntN(3)]
		a := netip.AddrFrom16([16]byte{0: byte(r.IntN(4)) << 6, 7: byte(r.IntN(4)), 8: byte(r.IntN(2)) << 7, 15: byte(r.IntN(4))})
		return netip.PrefixFrom(a, bits).Masked()
	}
	bits += []int{0, 12, 24}[r.IntN(3)]
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(4)) << 6, byte(r.IntN(4)), byte(r.IntN(2)) << 7, byte(r.IntN(4))}), bits).Masked()
}

// uncovered is what a set of prefixes should have in the kernel.
func uncovered(want map[netip.Prefix]bool) []netip.Prefix {
	var out []netip.Prefix
	for p := range want {
		covered := false
		for bits := range p.Bits() {
			c, _ := p.Addr().Prefix(bits)
			covered = covered || want[c]
		}
		if !covered {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePrefix)
	return out
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// TestMembers_KernelHoldsExactlyTheUncovered runs random members through the
// trie with commits, failures, foreign changes and limits between, against a
// plain model.
func TestMembers_KernelHoldsExactlyTheUncovered(t *testing.T) {
	r := rng(t)
	for _, v6 := range []bool{false, true} {
		family := ruleset.IPv4
		if v6 {
			family = ruleset.IPv6
		}
		m := newMembers(&ruleset.Set{Family: family, Type: ruleset.TypeNet})
		want := map[netip.Prefix]bool{}
		kernel := map[netip.Prefix]bool{}
		for step := range 20000 {
			p := randomPrefix(r, v6)
			e := ruleset.Element{Net: p}
			if r.IntN(2) == 0 {
				m.want(e)
				want[p] = true
			} else {
				m.unwant(e)
				delete(want, p)
			}
			if r.IntN(4) > 0 {
				continue
			}
			limit := 1 << 20
			if r.IntN(5) == 0 {
				limit = r.IntN(20)
			}
			c := m.take(limit)
			before := uncoveredSet(kernel)
			next := map[netip.Prefix]bool{}
			for p := range kernel {
				next[p] = true
			}
			c.eachDel(func(lo, hi []byte) { delete(next, toPrefix(t, lo, hi)) })
			c.eachAdd(func(lo, hi []byte) { next[toPrefix(t, lo, hi)] = true })
			if r.IntN(6) == 0 {
				continue // the kernel refused: nothing changed
			}
			c.settle()
			kernel = next
			if len(kernel) != m.had() {
				t.Fatalf("step %d: had() = %d, the kernel has %d", step, m.had(), len(kernel))
			}
			if c.adds()+c.dels() > 0 && len(kernel) > limit && len(kernel) > len(before) {
				t.Fatalf("step %d: %d elements with a limit of %d", step, len(kernel), limit)
			}
			if limit == 1<<20 {
				got, exp := sortedPrefixes(kernel), uncovered(want)
				if !slices.Equal(got, exp) {
					t.Fatalf("step %d: kernel %v, want %v", step, got, exp)
				}
				if m.needed() != len(exp) || m.wanted() != len(want) {
					t.Fatalf("step %d: needed %d wanted %d, want %d %d", step, m.needed(), m.wanted(), len(exp), len(want))
				}
			}
			if r.IntN(10) == 0 { // somebody meddles, and the set is listed
				f := randomPrefix(r, v6)
				delete(kernel, f)
				for p := range kernel {
					if r.IntN(5) == 0 {
						delete(kernel, p)
					}
				}
				for p := range kernel {
					a := prefixRanges([]netip.Prefix{p})[0]
					if !m.see([]byte(a.lo), []byte(a.hi)) {
						t.Fatalf("see(%v) = false", p)
					}
				}
				m.seenAll()
			}
		}
		n := 0
		m.each(func(e ruleset.Element) {
			n++
			if !want[e.Net] {
				t.Errorf("each() has %v, which is not wanted", e.Net)
			}
		})
		if n != len(want) {
			t.Errorf("each() visited %d, want %d", n, len(want))
		}
		for p := range want {
			m.unwant(ruleset.Element{Net: p})
		}
		m.take(0).settle()
		if m.had() != 0 || m.wanted() != 0 || m.wide() {
			t.Errorf("after all went: had %d, wanted %d, wide %v", m.had(), m.wanted(), m.wide())
		}
	}
}

func uncoveredSet(m map[netip.Prefix]bool) []netip.Prefix { return sortedPrefixes(m) }

func sortedPrefixes(m map[netip.Prefix]bool) []netip.Prefix {
	var out []netip.Prefix
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, comparePrefix)
	return out
}

func toPrefix(t *testing.T, lo, hi []byte) netip.Prefix {
	n, ok := krange{string(lo), string(hi)}.prefix()
	if !ok {
		t.Fatalf("%x-%x is no prefix", lo, hi)
	}
	a, _ := netip.AddrFromSlice(lo)
	return netip.PrefixFrom(a, n)
}

func TestTrie_EmptiesItsNodes(t *testing.T) {
	r := rng(t)
	var tr trie[k4]
	var all []span[k4]
	for range 1000 {
		s := span4(randomPrefix(r, false))
		tr.want(s)
		all = append(all, s)
	}
	size := len(tr.nodes)
	for range 10 {
		for _, s := range all {
			tr.unwant(s)
		}
		add, del := tr.take(1 << 20)
		tr.settle(add, del)
		if tr.root != 0 {
			t.Fatal("an empty trie has a root")
		}
		for _, s := range all {
			tr.want(s)
		}
	}
	if len(tr.nodes) > size {
		t.Errorf("%d nodes after refilling, %d before: nodes are lost", len(tr.nodes), size)
	}
}

func TestMerge(t *testing.T) {
	in := func(s ...string) (out []netip.Prefix) {
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	cases := []struct {
		name string
		nets []netip.Prefix
		want int
	}{
		{"halves join", in("10.0.0.0/25", "10.0.0.128/25"), 1},
		{"nested vanish", in("10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32"), 1},
		{"apart stay", in("10.0.0.0/32", "10.0.0.2/32"), 2},
		{"all", in("0.0.0.0/0", "255.255.255.255/32"), 1},
		{"end of space", in("255.255.255.255/32", "128.0.0.0/1", "0.0.0.0/32"), 2},
	}
	for _, c := range cases {
		if got := merge(prefixRanges(c.nets)); len(got) != c.want {
			t.Errorf("%s: merge(%v) = %d ranges, want %d", c.name, c.nets, len(got), c.want)
		}
	}
}
