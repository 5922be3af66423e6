// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// trie is the members of one set of prefixes: what is wanted, and what the
// kernel has. The kernel takes no overlapping intervals, so of wanted members
// only those that no other covers (top) are to be there; when a cover goes,
// what it covered comes back. It is a path-compressed binary trie in one
// slice: 16 bytes a node for IPv4, 32 for IPv6.
//
// Nodes whose top and have may differ are queued; take hands the difference
// out and settle notes that the kernel has taken it.
type trie[K trieKey[K]] struct {
	nodes []node[K]
	root  int32 // index+1; 0: none
	free  int32 // list through kids[0], index+1
	queue []span[K]

	wants, tops, haves, wide int // wide: wanted, and shorter than an address
}

// trieKey is an address as bits, the first the most significant.
type trieKey[K any] interface {
	comparable
	bit(i uint8) int
	common(o K) uint8 // number of leading bits that are equal
	width() uint8
}

// span is a prefix.
type span[K any] struct {
	key  K
	bits uint8
}

type node[K any] struct {
	key   K
	bits  uint8
	flags uint8
	kids  [2]int32
}

const (
	fWant   = 1 << iota // is wanted
	fTop                // is wanted and not covered: shall be in the kernel
	fHave               // is in the kernel
	fSeen               // was seen in the listing under way
	fQueued             // is in queue
)

func (t *trie[K]) at(i int32) *node[K] { return &t.nodes[i-1] }

func (t *trie[K]) alloc(s span[K]) int32 {
	if i := t.free; i != 0 {
		n := t.at(i)
		t.free = n.kids[0]
		*n = node[K]{key: s.key, bits: s.bits}
		return i
	}
	t.nodes = append(t.nodes, node[K]{key: s.key, bits: s.bits})
	return int32(len(t.nodes))
}

// find returns s's node or 0, and whether a wanted ancestor covers it.
func (t *trie[K]) find(s span[K]) (i int32, covered bool) {
	for i = t.root; i != 0; {
		n := t.at(i)
		if n.bits > s.bits || n.key.common(s.key) < n.bits {
			return 0, covered
		}
		if n.bits == s.bits {
			return i, covered
		}
		covered = covered || n.flags&fWant != 0
		i = n.kids[s.key.bit(n.bits)]
	}
	return 0, covered
}

// make is find that makes the node.
func (t *trie[K]) make(s span[K]) (i int32, covered bool) {
	parent, side := int32(0), 0
	link := func(to int32) {
		if parent == 0 {
			t.root = to
		} else {
			t.at(parent).kids[side] = to
		}
	}
	for i = t.root; i != 0; {
		n := t.at(i)
		common := min(n.key.common(s.key), n.bits, s.bits)
		if common == n.bits {
			if n.bits == s.bits {
				n.key = s.key // a branch has the key of what was put below it
				return i, covered
			}
			covered = covered || n.flags&fWant != 0
			parent, side = i, s.key.bit(n.bits)
			i = n.kids[side]
			continue
		}
		oldSide := n.key.bit(common)
		if common == s.bits { // s is above n
			fresh := t.alloc(s)
			t.at(fresh).kids[oldSide] = i
			link(fresh)
			return fresh, covered
		}
		branch := t.alloc(span[K]{s.key, common})
		fresh := t.alloc(s)
		t.at(branch).kids[oldSide] = i
		t.at(branch).kids[1-oldSide] = fresh
		link(branch)
		return fresh, covered
	}
	fresh := t.alloc(s)
	link(fresh)
	return fresh, covered
}

// want adds a member.
func (t *trie[K]) want(s span[K]) {
	i, covered := t.make(s)
	n := t.at(i)
	if n.flags&fWant != 0 {
		return
	}
	n.flags |= fWant
	t.wants++
	if s.bits != s.key.width() {
		t.wide++
	}
	if covered {
		return
	}
	t.setTop(i, true)
	for _, k := range t.at(i).kids {
		t.flip(k, fTop, false)
	}
}

// unwant removes a member.
func (t *trie[K]) unwant(s span[K]) {
	i, _ := t.find(s)
	if i == 0 || t.at(i).flags&fWant == 0 {
		return
	}
	n := t.at(i)
	n.flags &^= fWant
	t.wants--
	if s.bits != s.key.width() {
		t.wide--
	}
	if n.flags&fTop != 0 {
		t.setTop(i, false)
		for _, k := range t.at(i).kids {
			t.flip(k, fWant, true)
		}
	}
	t.prune(s)
}

// flip makes the highest nodes with the flag under i top, or no longer top.
func (t *trie[K]) flip(i int32, flag uint8, top bool) {
	if i == 0 {
		return
	}
	if t.at(i).flags&flag != 0 {
		t.setTop(i, top)
		return
	}
	for _, k := range t.at(i).kids {
		t.flip(k, flag, top)
	}
}

func (t *trie[K]) setTop(i int32, top bool) {
	n := t.at(i)
	if top {
		n.flags |= fTop
		t.tops++
	} else {
		n.flags &^= fTop
		t.tops--
	}
	t.enqueue(n)
}

func (t *trie[K]) enqueue(n *node[K]) {
	if n.flags&fQueued == 0 {
		n.flags |= fQueued
		t.queue = append(t.queue, span[K]{n.key, n.bits})
	}
}

// take returns what is to be added to the kernel, no more than makes room
// for limit members, and what is to be deleted from it.
func (t *trie[K]) take(limit int) (add, del []span[K]) {
	for _, s := range t.queue {
		i, _ := t.find(s)
		switch n := t.at(i); {
		case n.flags&fTop == 0 && n.flags&fHave != 0:
			del = append(del, s)
		case n.flags&fTop != 0 && n.flags&fHave == 0:
			add = append(add, s)
		}
	}
	if room := max0(limit - t.haves + len(del)); len(add) > room {
		add = add[:room:room]
	}
	return add, del
}

// disturbs reports whether deleting del takes away, for a moment, addresses
// that are wanted before and after: a cover comes or goes.
func (t *trie[K]) disturbs(del []span[K]) bool {
	for _, s := range del {
		i, covered := t.find(s)
		if covered || t.anyTop(t.at(i).kids[0]) || t.anyTop(t.at(i).kids[1]) {
			return true
		}
	}
	return false
}

func (t *trie[K]) anyTop(i int32) bool {
	if i == 0 {
		return false
	}
	n := t.at(i)
	return n.flags&fTop != 0 || t.anyTop(n.kids[0]) || t.anyTop(n.kids[1])
}

func max0(n int) int { return max(n, 0) }

// settle notes that the kernel has taken what take said.
func (t *trie[K]) settle(add, del []span[K]) {
	for _, s := range add {
		i, _ := t.find(s)
		t.at(i).flags |= fHave
	}
	for _, s := range del {
		i, _ := t.find(s)
		t.at(i).flags &^= fHave
	}
	t.haves += len(add) - len(del)
	old := t.queue
	t.queue = nil
	for _, s := range old {
		i, _ := t.find(s)
		n := t.at(i)
		n.flags &^= fQueued
		if n.flags&fTop != 0 != (n.flags&fHave != 0) {
			t.enqueue(n) // no room
			continue
		}
		t.prune(s)
	}
}

// see notes that a listing holds s.
func (t *trie[K]) see(s span[K]) {
	i, _ := t.make(s)
	t.at(i).flags |= fSeen
}

// seenAll makes what was seen what the kernel has; missing and extra count
// the differences from what it was believed to have.
func (t *trie[K]) seenAll() (missing, extra int) {
	t.queue = nil
	t.haves = 0
	var walk func(i int32)
	walk = func(i int32) {
		if i == 0 {
			return
		}
		n := t.at(i)
		seen, had := n.flags&fSeen != 0, n.flags&fHave != 0
		switch {
		case had && !seen:
			missing++
		case seen && !had:
			extra++
		}
		n.flags &^= fSeen | fHave | fQueued
		if seen {
			n.flags |= fHave
			t.haves++
		}
		if seen != (n.flags&fTop != 0) {
			t.enqueue(n)
		}
		kids := n.kids
		walk(kids[0])
		walk(kids[1])
	}
	walk(t.root)
	return missing, extra
}

// prune removes s's node if it says nothing, and the branch it hung on.
func (t *trie[K]) prune(s span[K]) {
	var path [130]int32
	depth := 0
	i := t.root
	for i != 0 {
		n := t.at(i)
		if n.bits > s.bits || n.key.common(s.key) < n.bits {
			return
		}
		path[depth] = i
		depth++
		if n.bits == s.bits {
			break
		}
		i = n.kids[s.key.bit(n.bits)]
	}
	if i == 0 {
		return
	}
	for d := depth - 1; d >= 0 && d >= depth-2; d-- {
		n := t.at(path[d])
		if n.flags != 0 || n.kids[0] != 0 && n.kids[1] != 0 {
			return
		}
		child := n.kids[0] + n.kids[1]
		if d == 0 {
			t.root = child
		} else if p := t.at(path[d-1]); p.kids[0] == path[d] {
			p.kids[0] = child
		} else {
			p.kids[1] = child
		}
		*n = node[K]{kids: [2]int32{t.free, 0}}
		t.free = path[d]
	}
}

// each visits every wanted member.
func (t *trie[K]) each(visit func(span[K])) {
	var walk func(i int32)
	walk = func(i int32) {
		if i == 0 {
			return
		}
		n := t.at(i)
		if n.flags&fWant != 0 {
			visit(span[K]{n.key, n.bits})
		}
		walk(n.kids[0])
		walk(n.kids[1])
	}
	walk(t.root)
}

// k4 and k6 are addresses as trie keys.
type (
	k4 uint32
	k6 struct{ hi, lo uint64 }
)

func (k k4) bit(i uint8) int   { return int(k >> (31 - i) & 1) }
func (k k4) common(o k4) uint8 { return uint8(bits.LeadingZeros32(uint32(k ^ o))) }
func (k4) width() uint8        { return 32 }
func (k6) width() uint8        { return 128 }

func (k k6) bit(i uint8) int {
	if i < 64 {
		return int(k.hi >> (63 - i) & 1)
	}
	return int(k.lo >> (127 - i) & 1)
}

func (k k6) common(o k6) uint8 {
	if x := k.hi ^ o.hi; x != 0 {
		return uint8(bits.LeadingZeros64(x))
	}
	return 64 + uint8(bits.LeadingZeros64(k.lo^o.lo))
}

func span4(p netip.Prefix) span[k4] {
	a := p.Masked().Addr().As4()
	return span[k4]{k4(binary.BigEndian.Uint32(a[:])), uint8(p.Bits())}
}

func span6(p netip.Prefix) span[k6] {
	a := p.Masked().Addr().As16()
	return span[k6]{k6{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}, uint8(p.Bits())}
}
