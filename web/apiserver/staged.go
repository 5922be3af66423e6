// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// staged is a Store that writes nothing: what is put into it or deleted lies
// over what is stored, and is seen by those who read through it. So several
// writes that belong together go through everything that a write goes through,
// each after those before it, and only then is one of them done. It is used by
// one goroutine.
type staged struct {
	store.Store
	writes []*stagedWrite // in the order of their first write
	// forTest: nothing of it will be written, it is there to be judged.
	forTest bool
}

// stagedWrite is a resource that was written.
type stagedWrite struct {
	key api.Key
	// before is what is stored, after what is to be; nil: nothing.
	before, after api.Object
}

// stagedVersion is the resourceVersion of what is not stored yet.
const stagedVersion = "1"

// find is the write of a resource, or nil.
func (s *staged) find(k api.Key) *stagedWrite {
	for _, w := range s.writes {
		if w.key == k {
			return w
		}
	}
	return nil
}

// Get reads a resource as it is to be.
func (s *staged) Get(ctx context.Context, k api.Key) (api.Object, error) {
	w := s.find(k)
	switch {
	case w == nil:
		return s.Store.Get(ctx, k)
	case w.after == nil:
		return nil, fmt.Errorf("%s: %w", k, store.ErrNotFound)
	}
	return api.Clone(w.after), nil
}

// List reads all resources of a kind as they are to be, without a limit.
func (s *staged) List(ctx context.Context, kind api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	o.Limit = 0
	objs, rev, err := s.Store.List(ctx, kind, o)
	if err != nil {
		return nil, 0, err
	}
	for _, w := range s.writes {
		if w.key.Kind != kind || o.Namespace != "" && w.key.Namespace != o.Namespace {
			continue
		}
		objs = slices.DeleteFunc(objs, func(o api.Object) bool { return o.Key() == w.key })
		if w.after != nil {
			objs = append(objs, api.Clone(w.after))
		}
	}
	slices.SortFunc(objs, func(x, y api.Object) int { return x.Key().Compare(y.Key()) })
	return objs, rev, nil
}

// Put keeps what is to be written. The revision is that of what is stored:
// nothing has a new one yet.
func (s *staged) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	w, err := s.write(ctx, o.Key(), cond)
	if err != nil {
		return 0, err
	}
	w.after = api.Clone(o)
	w.after.Metadata().ResourceVersion = stagedVersion
	if w.before != nil {
		w.after.Metadata().ResourceVersion = w.before.Metadata().ResourceVersion
	}
	return revisionOf(w.after)
}

// Delete keeps what is to be deleted.
func (s *staged) Delete(ctx context.Context, k api.Key, cond store.If) error {
	w, err := s.write(ctx, k, cond)
	if err == nil {
		w.after = nil
	}
	return err
}

// write is the write of a resource that cond allows.
func (s *staged) write(ctx context.Context, k api.Key, cond store.If) (*stagedWrite, error) {
	have, err := s.Get(ctx, k)
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	switch {
	case cond.IsAbsent() && err == nil:
		return nil, fmt.Errorf("%s: %w", k, store.ErrExists)
	case cond.Revision() != 0 && err != nil:
		return nil, err
	case cond.Revision() != 0:
		if at, err := revisionOf(have); err != nil || at != cond.Revision() {
			return nil, fmt.Errorf("%s: %w", k, store.ErrConflict)
		}
	}
	w := s.find(k)
	if w == nil {
		w = &stagedWrite{key: k, before: have}
		if err != nil {
			w.before = nil
		}
		s.writes = append(s.writes, w)
	}
	return w, nil
}

// revisionOf is the revision at which an object was last written.
func revisionOf(o api.Object) (api.Revision, error) {
	n, err := strconv.ParseInt(o.Metadata().ResourceVersion, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: resourceVersion: %w", o.Key(), err)
	}
	return api.Revision(n), nil
}

// sorted are the writes that change something, in an order in which each finds
// what it needs: what is named before what names it, and what goes after what
// named it.
func (s *staged) sorted() []*stagedWrite {
	rank := map[api.Kind]int{}
	for i, d := range api.Kinds() {
		rank[d.Kind] = i
	}
	var out []*stagedWrite
	for _, w := range s.writes {
		if w.before == nil && w.after == nil || w.before != nil && w.after != nil && same(w.before, w.after) {
			continue
		}
		out = append(out, w)
	}
	slices.SortStableFunc(out, func(x, y *stagedWrite) int {
		switch {
		case x.after == nil && y.after == nil:
			return rank[y.key.Kind] - rank[x.key.Kind]
		case x.after == nil:
			return 1
		case y.after == nil:
			return -1
		}
		if c := rank[x.key.Kind] - rank[y.key.Kind]; c != 0 {
			return c
		}
		return strings.Compare(x.key.String(), y.key.String())
	})
	return out
}
