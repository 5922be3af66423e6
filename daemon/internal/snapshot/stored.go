// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// Stored remembers how a Writer has an object at this moment. What it returns
// looks it up, whatever was written since: nil means that there is no such
// object. To remember costs nothing, to look it up a block's unpacking.
func (w *Writer) Stored(k api.Key) func() api.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, later := range []map[api.Key]change{w.changes, w.taken} {
		if c, is := later[k]; is {
			return func() api.Object { return c.object }
		}
	}
	im := w.image
	return func() api.Object { return im.find(k) }
}

// find is an object of the image, or nil.
func (im image) find(k api.Key) (found api.Object) {
	i, exact := slices.BinarySearchFunc(im, k, func(b block, k api.Key) int { return b.first.Compare(k) })
	if !exact {
		i--
	}
	if i < 0 {
		return nil
	}
	var u unpacker
	var d api.StoredDecoder
	must(u.each(im[i], func(r record) error {
		if r.key == k {
			r.raw = slices.Clone(r.raw)
			found = r.object(&d)
		}
		return nil
	}))
	return found
}
