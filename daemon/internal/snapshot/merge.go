// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// change is what has become of one object since an image was made.
type change struct {
	key      api.Key
	revision api.Revision
	object   api.Object // nil: it is gone
	// anew: it was gone in between, so the image's record of it does not count.
	anew bool
}

// then is the change that a and b, one after the other, come to.
func (a change) then(b change) change {
	switch {
	case a.object == nil && b.object != nil:
		b.anew = true
	case b.object != nil && unreadable(b.object) && !unreadable(a.object):
		return a // as in replaces
	default:
		b.anew = a.anew
	}
	return b
}

// replaces reports whether the image has to be told of the change.
func (c change) replaces(r *record) bool {
	switch {
	case r == nil:
		return c.object != nil
	case c.object == nil, c.anew:
		return true
	case c.revision == r.revision && c.revision != 0:
		return false
	}
	// Of what cannot be understood the last version that could be read is what
	// is enforced, and what has to be enforced after a restart; the store, once
	// it answers, will show again that it has another revision.
	return r.unreadable || !unreadable(c.object)
}

// record is the change as an image has it.
func (c change) record() (record, error) {
	r := record{key: c.key, revision: c.revision, unreadable: unreadable(c.object)}
	var err error
	if r.raw, err = encodeObject(c.object); err != nil {
		return r, fmt.Errorf("%s: %w", c.key, err)
	}
	return r, nil
}

// encodeObject gives the JSON that a store holds for o. What cannot be
// understood is kept as it came.
func encodeObject(o api.Object) ([]byte, error) {
	if u, ok := o.(*api.Unreadable); ok {
		return u.Raw, nil
	}
	return api.EncodeStored(o)
}

func unreadable(o api.Object) bool {
	_, is := o.(*api.Unreadable)
	return is
}

// merge gives the image with the changes, at most one of a key, and whether
// that is another one. The blocks that no change is about are shared.
func (im image) merge(changes []change) (image, bool, error) {
	slices.SortFunc(changes, func(a, b change) int { return a.key.Compare(b.key) })
	var p packer
	var u unpacker
	differs := false
	put := func(c change, over *record) error {
		if !c.replaces(over) {
			if over != nil {
				return p.add(*over)
			}
			return nil
		}
		differs = true
		if c.object == nil {
			return nil
		}
		r, err := c.record()
		if err != nil {
			return err
		}
		return p.add(r)
	}
	for i, b := range im {
		n := len(changes)
		if i+1 < len(im) {
			next := im[i+1].first
			n, _ = slices.BinarySearchFunc(changes, next, func(c change, k api.Key) int { return c.key.Compare(k) })
		}
		mine := changes[:n]
		changes = changes[n:]
		if len(mine) == 0 {
			p.keep(b)
			continue
		}
		err := u.each(b, func(r record) error {
			for len(mine) > 0 && mine[0].key.Compare(r.key) < 0 {
				if err := put(mine[0], nil); err != nil {
					return err
				}
				mine = mine[1:]
			}
			if len(mine) > 0 && mine[0].key == r.key {
				c := mine[0]
				mine = mine[1:]
				return put(c, &r)
			}
			return p.add(r)
		})
		if err != nil {
			return nil, false, err
		}
		for _, c := range mine {
			if err := put(c, nil); err != nil {
				return nil, false, err
			}
		}
		p.close()
	}
	for _, c := range changes { // there was no block
		if err := put(c, nil); err != nil {
			return nil, false, err
		}
	}
	if !differs {
		return im, false, nil
	}
	return p.done(), true, nil
}
