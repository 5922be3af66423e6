// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"
	"net/netip"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// members are the wanted members of one set, and what the kernel has of them.
type members interface {
	// want and unwant report whether e can be in such a set.
	want(e ruleset.Element) bool
	unwant(e ruleset.Element) bool
	each(visit func(ruleset.Element))
	// needed is how many elements the kernel needs for all.
	needed() int
	// wanted is the number of members, had that of elements in the kernel.
	wanted() int
	had() int
	// wide: not all are single addresses.
	wide() bool
	// take works out the next change, with room for limit elements.
	take(limit int) change
	// see notes that a listing holds keys lo to hi; false: no member can be
	// that. seenAll ends the listing and counts what differs from before.
	see(lo, hi []byte) bool
	seenAll() (missing, extra int)
}

// change is what is to be done to a set in the kernel.
type change interface {
	adds() int
	dels() int
	// eachAdd and eachDel visit the ranges; hi is nil when the range is one
	// key of a hash set. The slices are valid during the call.
	eachAdd(visit func(lo, hi []byte))
	eachDel(visit func(lo, hi []byte))
	// disturbs: done in place, a key that is in the set before and after may
	// for a moment not be found.
	disturbs() bool
	// settle notes that it was done.
	settle()
}

// newMembers makes the members for a set.
func newMembers(s *ruleset.Set) members {
	switch {
	case s.Type == ruleset.TypeAddrPort:
		return &portMembers{v4: s.Family == ruleset.IPv4, m: map[portKey]uint8{}}
	case s.Family == ruleset.IPv4:
		return &netMembers[k4]{span: span4, key: key4, unkey: unkey4, v4: true}
	}
	return &netMembers[k6]{span: span6, key: key6, unkey: unkey6}
}

// netMembers are prefixes of one family.
type netMembers[K trieKey[K]] struct {
	trie[K]
	v4    bool
	span  func(netip.Prefix) span[K]
	key   func(K, []byte) []byte // appends
	unkey func([]byte) K
}

func key4(k k4, b []byte) []byte { return binary.BigEndian.AppendUint32(b, uint32(k)) }
func unkey4(b []byte) k4         { return k4(binary.BigEndian.Uint32(b)) }
func key6(k k6, b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, k.hi), k.lo)
}
func unkey6(b []byte) k6 { return k6{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])} }

func (m *netMembers[K]) fits(e ruleset.Element) bool {
	return e.Net.IsValid() && e.Net.Addr().Is4() == m.v4 && e.Proto == 0 && e.Port == 0
}

func (m *netMembers[K]) want(e ruleset.Element) bool {
	if !m.fits(e) {
		return false
	}
	m.trie.want(m.span(e.Net))
	return true
}

func (m *netMembers[K]) unwant(e ruleset.Element) bool {
	if !m.fits(e) {
		return false
	}
	m.trie.unwant(m.span(e.Net))
	return true
}

func (m *netMembers[K]) each(visit func(ruleset.Element)) {
	m.trie.each(func(s span[K]) {
		a, _ := netip.AddrFromSlice(m.key(s.key, nil))
		visit(ruleset.Element{Net: netip.PrefixFrom(a, int(s.bits))})
	})
}

func (m *netMembers[K]) needed() int { return m.tops }
func (m *netMembers[K]) wanted() int { return m.wants }
func (m *netMembers[K]) had() int    { return m.haves }
func (m *netMembers[K]) wide() bool  { return m.trie.wide > 0 }

func (m *netMembers[K]) take(limit int) change {
	c := &netChange[K]{m: m}
	c.add, c.del = m.trie.take(limit)
	return c
}

func (m *netMembers[K]) see(lo, hi []byte) bool {
	n, ok := krange{string(lo), string(hi)}.prefix()
	if ok {
		m.trie.see(span[K]{m.unkey(lo), uint8(n)})
	}
	return ok
}

type netChange[K trieKey[K]] struct {
	m        *netMembers[K]
	add, del []span[K]
}

func (c *netChange[K]) adds() int { return len(c.add) }
func (c *netChange[K]) dels() int { return len(c.del) }
func (c *netChange[K]) disturbs() bool {
	return c.m.disturbs(c.del)
}
func (c *netChange[K]) settle() { c.m.settle(c.add, c.del) }

func (c *netChange[K]) eachAdd(visit func(lo, hi []byte)) { c.each(c.add, visit) }
func (c *netChange[K]) eachDel(visit func(lo, hi []byte)) { c.each(c.del, visit) }

func (c *netChange[K]) each(list []span[K], visit func(lo, hi []byte)) {
	var lo, hi []byte
	for _, s := range list {
		lo = c.m.key(s.key, lo[:0])
		hi = append(hi[:0], lo...)
		for i := int(s.bits); i < 8*len(hi); i++ {
			hi[i/8] |= 0x80 >> (i % 8)
		}
		visit(lo, hi)
	}
}

// portMembers are (address, protocol, port).
type portMembers struct {
	v4    bool
	m     map[portKey]uint8 // trie's flags; top is the same as want
	queue []portKey
	wants int
	haves int
}

type portKey struct {
	addr  [16]byte
	proto uint8
	port  uint16
}

func (m *portMembers) keyOf(e ruleset.Element) (portKey, bool) {
	if !e.Net.IsValid() || e.Net.Addr().Is4() != m.v4 || !e.Net.IsSingleIP() {
		return portKey{}, false
	}
	k := portKey{proto: e.Proto, port: e.Port}
	copy(k.addr[:], e.Net.Addr().AsSlice())
	return k, true
}

func (m *portMembers) size() int {
	if m.v4 {
		return 4
	}
	return 16
}

// bytes is the key as the kernel's registers hold it.
func (m *portMembers) bytes(k portKey, b []byte) []byte {
	b = append(b, k.addr[:m.size()]...)
	return append(b, k.proto, 0, 0, 0, byte(k.port>>8), byte(k.port), 0, 0)
}

func (m *portMembers) set(k portKey, on, off uint8) {
	v := m.m[k]&^off | on
	if v&fWant != 0 != (v&fHave != 0) && v&fQueued == 0 {
		v |= fQueued
		m.queue = append(m.queue, k)
	}
	if v == 0 {
		delete(m.m, k)
		return
	}
	m.m[k] = v
}

func (m *portMembers) want(e ruleset.Element) bool {
	k, ok := m.keyOf(e)
	if ok && m.m[k]&fWant == 0 {
		m.wants++
		m.set(k, fWant, 0)
	}
	return ok
}

func (m *portMembers) unwant(e ruleset.Element) bool {
	k, ok := m.keyOf(e)
	if ok && m.m[k]&fWant != 0 {
		m.wants--
		m.set(k, 0, fWant)
	}
	return ok
}

func (m *portMembers) each(visit func(ruleset.Element)) {
	for k, v := range m.m {
		if v&fWant != 0 {
			a, _ := netip.AddrFromSlice(k.addr[:m.size()])
			visit(ruleset.Element{Net: netip.PrefixFrom(a, a.BitLen()), Proto: k.proto, Port: k.port})
		}
	}
}

func (m *portMembers) needed() int { return m.wants }
func (m *portMembers) wanted() int { return m.wants }
func (m *portMembers) had() int    { return m.haves }
func (m *portMembers) wide() bool  { return false }

func (m *portMembers) take(limit int) change {
	c := &portChange{m: m}
	for _, k := range m.queue {
		switch m.m[k] & (fWant | fHave) {
		case fWant:
			c.add = append(c.add, k)
		case fHave:
			c.del = append(c.del, k)
		}
	}
	if room := max0(limit - m.haves + len(c.del)); len(c.add) > room {
		c.add = c.add[:room:room]
	}
	return c
}

func (m *portMembers) see(lo, _ []byte) bool {
	n := m.size()
	k := portKey{proto: lo[n], port: binary.BigEndian.Uint16(lo[n+4:])}
	copy(k.addr[:], lo[:n])
	if string(m.bytes(k, nil)) != string(lo) {
		return false
	}
	m.m[k] |= fSeen
	return true
}

func (m *portMembers) seenAll() (missing, extra int) {
	m.queue, m.haves = nil, 0
	for k, v := range m.m {
		switch v & (fHave | fSeen) {
		case fHave:
			missing++
		case fSeen:
			extra++
		}
		if v&fSeen != 0 {
			m.haves++
			m.set(k, fHave, fSeen|fQueued)
		} else {
			m.set(k, 0, fHave|fQueued)
		}
	}
	return missing, extra
}

type portChange struct {
	m        *portMembers
	add, del []portKey
}

func (c *portChange) adds() int { return len(c.add) }
func (c *portChange) dels() int { return len(c.del) }

func (c *portChange) disturbs() bool { return false }

func (c *portChange) eachAdd(visit func(lo, hi []byte)) { c.each(c.add, visit) }
func (c *portChange) eachDel(visit func(lo, hi []byte)) { c.each(c.del, visit) }

func (c *portChange) each(list []portKey, visit func(lo, hi []byte)) {
	var b []byte
	for _, k := range list {
		b = c.m.bytes(k, b[:0])
		visit(b, nil)
	}
}

func (c *portChange) settle() {
	old := c.m.queue
	c.m.queue = nil
	for _, k := range c.add {
		c.m.m[k] |= fHave
	}
	for _, k := range c.del {
		c.m.m[k] &^= fHave
	}
	c.m.haves += len(c.add) - len(c.del)
	for _, k := range old {
		c.m.set(k, 0, fQueued)
	}
}
