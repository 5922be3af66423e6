// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"encoding/binary"
	"math"
)

// tableOf reads the table of elements of a page that ends at a byte.
func (p *pages) tableOf(h header, at, end int64) ([]byte, error) {
	n := int64(h.count) * elementBytes
	if at+headerBytes+n > end {
		return nil, p.fault(at+10, "%d elements do not fit into it", h.count)
	}
	table := grow(&p.table, int(n))
	return table, p.read(table, at+headerBytes)
}

// within checks that what an element names begins where that of the one before
// ends, or behind the table, and is in the page. It tells where the key is.
func (p *pages) within(h header, at, end int64, i int, pos, key, value uint32) (keyAt, error) {
	element := at + headerBytes + int64(i)*elementBytes
	if i == 0 {
		p.filled = element + int64(h.count)*elementBytes
	}
	begin := element + int64(pos)
	p.filled += int64(key) + int64(value)
	if begin != p.filled-int64(key)-int64(value) || p.filled > end {
		return keyAt{}, p.fault(element, "element %d of %d: %d and %d bytes, %d bytes behind it, are not what fits there", i, h.count, key, value, pos)
	}
	if key > maxKeyBytes {
		return keyAt{}, p.fault(element, "element %d of %d: a key of %d bytes", i, h.count, key)
	}
	return keyAt{begin, key}, nil
}

// order checks that a key is above the one before, which for the first one is
// the lowest that it may be, and below the end of what the page may hold.
func (p *pages) order(i int, k keyAt, s subtree) error {
	key := grow(&p.key, int(k.n))
	if err := p.read(key, k.at); err != nil {
		return err
	}
	lowest := 1
	if i == 0 {
		lowest = 0
		if err := p.read(grow(&p.before, int(s.first.n)), s.first.at); err != nil {
			return err
		}
		if err := p.read(grow(&p.bound, int(s.next.n)), s.next.at); err != nil {
			return err
		}
	}
	if bytes.Compare(key, p.before) < lowest || s.next.at != 0 && bytes.Compare(key, p.bound) >= 0 {
		return p.fault(k.at, "key %d is not in order", i)
	}
	p.key, p.before = p.before, key
	return nil
}

func (p *pages) branch(h header, at, end int64, s subtree) error {
	if h.count == 0 {
		return p.fault(at+10, "a branch that leads nowhere")
	}
	table, err := p.tableOf(h, at, end)
	if err != nil {
		return err
	}
	for i := range int(h.count) {
		e := table[i*elementBytes:]
		key, err := p.within(h, at, end, i, binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:]), 0)
		if err == nil {
			err = p.order(i, key, s)
		}
		if err != nil {
			return err
		}
		if i > 0 {
			p.todo[len(p.todo)-1].next = key
		}
		to := subtree{binary.NativeEndian.Uint64(e[8:]), key, s.next}
		if err := p.lead(to, at+headerBytes+int64(i)*elementBytes+8); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) leaf(h header, at, end int64, s subtree) error {
	table, err := p.tableOf(h, at, end)
	if err != nil {
		return err
	}
	var inPlace []int64 // where buckets with a leaf in place begin and end, by turns
	for i := range int(h.count) {
		e := table[i*elementBytes:]
		flags, pos := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:])
		keyBytes, value := binary.NativeEndian.Uint32(e[8:]), binary.NativeEndian.Uint32(e[12:])
		key, err := p.within(h, at, end, i, pos, keyBytes, value)
		if err == nil {
			err = p.order(i, key, s)
		}
		if err != nil {
			return err
		}
		element := at + headerBytes + int64(i)*elementBytes
		if flags == 0 {
			continue
		}
		if flags != flagBucket || at%p.page != 0 {
			// A bucket in place has none in it.
			return p.fault(element, "element %d of %d: flags %#x", i, h.count, flags)
		}
		if value < bucketBytes {
			return p.fault(element+12, "element %d of %d: a bucket of %d bytes", i, h.count, value)
		}
		bucket := key.at + int64(key.n)
		var root [8]byte
		if err := p.read(root[:], bucket); err != nil {
			return err
		}
		switch id := binary.NativeEndian.Uint64(root[:]); {
		case id == 0:
			inPlace = append(inPlace, bucket+bucketBytes, bucket+int64(value))
		case value != bucketBytes:
			return p.fault(element+12, "element %d of %d: a bucket of %d bytes with a page of its own", i, h.count, value)
		default:
			if err := p.lead(subtree{id: id}, bucket); err != nil {
				return err
			}
		}
	}
	// Last, because they use the table.
	for i := 0; i < len(inPlace); i += 2 {
		if err := p.inPlace(inPlace[i], inPlace[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// inPlace checks the leaf that stands in place of a small bucket's page.
func (p *pages) inPlace(at, end int64) error {
	if end-at < headerBytes {
		return p.fault(at, "a bucket in place of %d bytes", end-at)
	}
	h, err := p.headerAt(at)
	if err != nil {
		return err
	}
	if h.id != 0 || h.flags != flagLeaf || h.overflow != 0 {
		return p.fault(at, "a bucket in place says that it is page %d, flags %#x, and goes on for %d pages", h.id, h.flags, h.overflow)
	}
	return p.leaf(h, at, end, subtree{})
}

// freelist checks a free list: none of its pages is used, or free twice.
func (p *pages) freelist(id uint64) error {
	h, at, end, err := p.open(id)
	if err != nil {
		return err
	}
	if h.flags != flagFreelist {
		return p.fault(at+8, "flags %#x, not of a free list", h.flags)
	}
	from, n := at+headerBytes, uint64(h.count)
	if n == math.MaxUint16 {
		// More than that many: the number is the first entry.
		var b [8]byte
		if err := p.read(b[:], from); err != nil {
			return err
		}
		from, n = from+8, binary.NativeEndian.Uint64(b[:])
	}
	if n > uint64(end-from)/8 {
		return p.fault(at+10, "%d free pages do not fit into it", n)
	}
	buf := make([]byte, 8*512)
	for at := from; n > 0; {
		part := buf[:8*min(n, 512)]
		if err := p.read(part, at); err != nil {
			return err
		}
		for i := 0; i < len(part); i += 8 {
			id := binary.NativeEndian.Uint64(part[i:])
			if id < 2 || id >= p.high || !p.seen.add(id) {
				return p.fault(at+int64(i), "page %d is no free page", id)
			}
		}
		at, n = at+int64(len(part)), n-uint64(len(part)/8)
	}
	return nil
}
