// SPDX-License-Identifier: Apache-2.0

package index

import "iter"

// Members counts who is in which set, and for how many reasons: an address that
// two endpoints of a set have is in it once, and stays until both are gone. It
// is not safe for concurrent use.
type Members[S, M comparable] struct {
	changed func(set S, member M, present bool)
	sets    map[S]map[M]uint32
}

// NewMembers makes an empty one. It calls changed when a member gets its first
// reason to be in a set (present true) and when it loses its last (false),
// during the call that brought it about. changed must not call Add or Remove.
func NewMembers[S, M comparable](changed func(set S, member M, present bool)) *Members[S, M] {
	return &Members[S, M]{changed: changed, sets: map[S]map[M]uint32{}}
}

// Add gives a member one more reason to be in a set.
func (m *Members[S, M]) Add(set S, member M) {
	counts := m.sets[set]
	if counts == nil {
		counts = map[M]uint32{}
		m.sets[set] = counts
	}
	counts[member]++
	if counts[member] == 1 {
		m.changed(set, member, true)
	}
}

// Remove takes one reason away. It reports whether there was one; if not,
// nothing changes and the caller has lost count.
func (m *Members[S, M]) Remove(set S, member M) bool {
	counts := m.sets[set]
	switch n := counts[member]; n {
	case 0:
		return false
	case 1:
		delete(counts, member)
		if len(counts) == 0 {
			delete(m.sets, set)
		}
		m.changed(set, member, false)
	default:
		counts[member] = n - 1
	}
	return true
}

// Len is the number of members of a set, each counted once.
func (m *Members[S, M]) Len(set S) int { return len(m.sets[set]) }

// All yields the members of a set, each once, in no particular order. There
// must be no Add or Remove meanwhile.
func (m *Members[S, M]) All(set S) iter.Seq[M] {
	return func(yield func(M) bool) {
		for member := range m.sets[set] {
			if !yield(member) {
				return
			}
		}
	}
}
