// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// parseFormat1 reads the records of a file of format 1: each is a uint32
// length of the rest, int64 revision, kind, namespace, name (each uint16 length
// and bytes), then the object's JSON.
func parseFormat1(c *cursor) (image, error) {
	var all []record
	var d api.StoredDecoder
	for i := 0; len(c.b) > 0; i++ {
		r := cursor{b: c.take(int(c.uint32()))}
		rec := record{revision: api.Revision(r.uint64()), key: r.key()}
		rec.raw = r.b
		if c.bad || r.bad || rec.key.Name == "" {
			return nil, fmt.Errorf("record %d", i)
		}
		// The format does not say which values cannot be understood.
		rec.unreadable = unreadable(rec.object(&d))
		all = append(all, rec)
	}
	slices.SortStableFunc(all, func(a, b record) int { return a.key.Compare(b.key) })
	var p packer
	for _, r := range all {
		if err := p.add(r); err != nil {
			return nil, err
		}
	}
	return p.done(), nil
}
