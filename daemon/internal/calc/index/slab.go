// SPDX-License-Identifier: Apache-2.0

package index

// A slab gives things small numbers that are used again once they are freed.
// Number 0 is nobody. A pointer to a thing is good until the next add.
//
// Numbers instead of pointers halve the memory of the index and leave the
// garbage collector little to follow.
type slab[T any] struct {
	all  []T
	free []uint32
}

func (s *slab[T]) add(v T) uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		s.all[i] = v
		return i
	}
	if len(s.all) == 0 {
		var nobody T
		s.all = append(s.all, nobody)
	}
	s.all = append(s.all, v)
	return uint32(len(s.all) - 1)
}

func (s *slab[T]) remove(i uint32) {
	var none T
	s.all[i] = none
	s.free = append(s.free, i)
}

func (s *slab[T]) len() int { return max(len(s.all)-1, 0) - len(s.free) }

// cut removes the element at pos in constant time by putting the last one
// there; moved is that one if it has a new place.
func cut(list []uint32, pos uint32) (rest []uint32, moved uint32, ok bool) {
	last := len(list) - 1
	moved = list[last]
	list[pos] = moved
	return list[:last], moved, int(pos) != last
}
