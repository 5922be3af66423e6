// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"runtime"
	"sync"

	"github.com/ripstop/ripstop/daemon/api"
)

// revisions tells of each record at which revision it was stored.
func (im image) revisions() *api.KeyMap[api.Revision] {
	all := &api.KeyMap[api.Revision]{}
	var u unpacker
	for _, b := range im {
		must(u.each(b, func(r record) error {
			all.Set(r.key, r.revision)
			return nil
		}))
	}
	return all
}

// events gives the records as objects, a block at a time, and keeps none. The
// processors share the work: reading the objects is the longest step of a cold
// start.
func (im image) events(yield func([]api.Event) bool) {
	workers := runtime.GOMAXPROCS(0)
	unpackers, decoders := make([]unpacker, workers), make([]api.StoredDecoder, workers)
	for len(im) > 0 {
		n := min(workers, len(im))
		batches := make([][]api.Event, n)
		var wg sync.WaitGroup
		for i, b := range im[:n] {
			wg.Go(func() {
				batch := make([]api.Event, 0, b.count)
				must(unpackers[i].each(b, func(r record) error {
					batch = append(batch, api.Event{Key: r.key, Object: r.object(&decoders[i]), Revision: r.revision})
					return nil
				}))
				batches[i] = batch
			})
		}
		wg.Wait()
		for _, batch := range batches {
			if !yield(batch) {
				return
			}
		}
		im = im[n:]
	}
}

// must is for images that have been looked through once.
func must(err error) {
	if err != nil {
		panic("snapshot: a block that could be read can no longer be: " + err.Error())
	}
}
