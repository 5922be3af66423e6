// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"net/netip"
	"slices"
	"sort"
)

// point is a place on a line: an address among those of its family, or a
// number.
type point[T any] interface {
	comparable
	Compare(T) int
	Next() T
	Prev() T
}

// number is a port or an ICMP type.
type number int32

// Compare, Next and Prev make it a point.
func (n number) Compare(m number) int { return int(n - m) }

// Next is the number behind it.
func (n number) Next() number { return n + 1 }

// Prev is the number before it.
func (n number) Prev() number { return n - 1 }

// span is all points from the first to the last.
type span[T point[T]] struct{ first, last T }

// spans are parts of a line, in order, with gaps between them.
type spans[T point[T]] []span[T]

// joined are the spans of a list in any order, those that touch made one.
func joined[T point[T]](list spans[T]) spans[T] {
	slices.SortFunc(list, func(a, b span[T]) int { return a.first.Compare(b.first) })
	var out spans[T]
	for _, s := range list {
		if n := len(out); n > 0 && (s.first.Compare(out[n-1].last) <= 0 || s.first.Prev() == out[n-1].last) {
			if s.last.Compare(out[n-1].last) > 0 {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// has reports whether a point is in one of the spans.
func (s spans[T]) has(p T) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].last.Compare(p) >= 0 })
	return i < len(s) && s[i].first.Compare(p) <= 0
}

// minus is what is left of the spans without those of t.
func (s spans[T]) minus(t spans[T]) spans[T] {
	var out spans[T]
	for _, x := range s {
		i := sort.Search(len(t), func(i int) bool { return t[i].last.Compare(x.first) >= 0 })
		whole := true
		for ; i < len(t) && t[i].first.Compare(x.last) <= 0 && whole; i++ {
			if x.first.Compare(t[i].first) < 0 {
				out = append(out, span[T]{x.first, t[i].first.Prev()})
			}
			if whole = t[i].last.Compare(x.last) < 0; whole {
				x.first = t[i].last.Next()
			}
		}
		if whole {
			out = append(out, x)
		}
	}
	return out
}

// covers reports whether all of t is in s.
func (s spans[T]) covers(t spans[T]) bool { return len(t.minus(s)) == 0 }

// atom is what a list of cuts does not tell apart.
type atom[T point[T]] struct {
	one T // the first of them
	all spans[T]
}

// atomsOf parts a line by cuts: two points are of the same atom if each of the
// cuts has both or neither. The atoms are in order of their first points.
func atomsOf[T point[T]](whole span[T], cuts []spans[T]) []atom[T] {
	starts := []T{whole.first}
	for _, c := range cuts {
		for _, s := range c {
			starts = append(starts, s.first)
			if s.last.Compare(whole.last) < 0 {
				starts = append(starts, s.last.Next())
			}
		}
	}
	slices.SortFunc(starts, T.Compare)
	starts = slices.Compact(starts)
	var atoms []atom[T]
	known := map[string]int{}
	at := make([]int, len(cuts)) // the first span of each cut that is not over yet
	mark := make([]byte, len(cuts))
	for i, first := range starts {
		last := whole.last
		if i+1 < len(starts) {
			last = starts[i+1].Prev()
		}
		for j, c := range cuts {
			for at[j] < len(c) && c[at[j]].last.Compare(first) < 0 {
				at[j]++
			}
			mark[j] = 0
			if at[j] < len(c) && c[at[j]].first.Compare(first) <= 0 {
				mark[j] = 1
			}
		}
		k, ok := known[string(mark)]
		if !ok {
			k = len(atoms)
			known[string(mark)] = k
			atoms = append(atoms, atom[T]{one: first})
		}
		atoms[k].all = append(atoms[k].all, span[T]{first, last})
	}
	return atoms
}

// addresses are parts of the IPv4 line and of the IPv6 line.
type addresses [2]spans[netip.Addr]

const (
	v4 = 0
	v6 = 1
)

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return v4
	}
	return v6
}

// lines are all addresses of each family.
var lines = [2]span[netip.Addr]{
	{netip.AddrFrom4([4]byte{}), netip.AddrFrom4([4]byte{255, 255, 255, 255})},
	{netip.AddrFrom16([16]byte{}), lastOf(netip.PrefixFrom(netip.IPv6Unspecified(), 0))},
}

// loopbacks are addresses that come from no other host.
var loopbacks = addressesOf([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")})

// everywhere are all addresses that others may have, of each family.
var everywhere = addresses{spans[netip.Addr]{lines[v4]}.minus(loopbacks[v4]), spans[netip.Addr]{lines[v6]}.minus(loopbacks[v6])}

// addressesOf are the addresses of prefixes.
func addressesOf(nets []netip.Prefix) addresses {
	var out addresses
	for _, n := range nets {
		n = n.Masked()
		f := familyOf(n.Addr())
		out[f] = append(out[f], span[netip.Addr]{n.Addr(), lastOf(n)})
	}
	return addresses{joined(out[v4]), joined(out[v6])}
}

// lastOf is the last address of a prefix.
func lastOf(n netip.Prefix) netip.Addr {
	b := n.Addr().AsSlice()
	for i := n.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (a addresses) minus(b addresses) addresses {
	return addresses{a[v4].minus(b[v4]), a[v6].minus(b[v6])}
}

func (a addresses) and(b addresses) addresses {
	return addresses{joined(slices.Concat(a[v4], b[v4])), joined(slices.Concat(a[v6], b[v6]))}
}

func (a addresses) covers(b addresses) bool { return a[v4].covers(b[v4]) && a[v6].covers(b[v6]) }

func (a addresses) empty() bool { return len(a[v4])+len(a[v6]) == 0 }

func (a addresses) has(p netip.Addr) bool { return a[familyOf(p)].has(p) }

// prefixes are the fewest prefixes that have these addresses and no others,
// but no more than the most, and how many there are.
func (a addresses) prefixes(most int) (list []netip.Prefix, count int) {
	for _, line := range a {
		for _, s := range line {
			for first, over := s.first, false; !over; {
				p := netip.PrefixFrom(first, first.BitLen())
				for p.Bits() > 0 {
					wider, _ := first.Prefix(p.Bits() - 1)
					if wider.Addr() != first || lastOf(wider).Compare(s.last) > 0 {
						break
					}
					p = wider
				}
				if count++; len(list) < most {
					list = append(list, p)
				}
				over = lastOf(p) == s.last
				first = lastOf(p).Next()
			}
		}
	}
	return list, count
}
