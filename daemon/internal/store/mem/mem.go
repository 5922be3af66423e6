// SPDX-License-Identifier: Apache-2.0

// Package mem is a Store in memory, for tests and for trying things out. It
// keeps encoded values and a history, so that revisions, watches, compaction
// and values that cannot be understood behave as on etcd; both pass
// daemon/internal/store/storetest.
//
// It is not a cache and not a database: nothing survives the process, and a
// List costs as much as the store is large.
package mem

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Config is how a Store behaves. The zero value is usable.
type Config struct {
	// History is the number of past writes kept for watches and for lists of
	// the past; older ones are compacted away. Default 10,000.
	History int
	// BookmarkEvery is the time of silence after which a watch delivers a
	// bookmark. Default 5 s.
	BookmarkEvery time.Duration
	// Now tells the time for creationTimestamp. Default time.Now.
	Now func() time.Time
}

// Store is a store.Store in memory. It is safe for concurrent use.
type Store struct {
	cfg Config

	mu sync.Mutex // guards all below
	// rev is the revision of the last write; an empty store has 1, as etcd.
	rev api.Revision
	// compacted is the newest revision whose changes are forgotten.
	compacted api.Revision
	items     map[api.Key]item // by storage key: see store.LegacyKey
	log       []change         // in order of revision
	changed   chan struct{}    // closed and replaced by each write
}

var _ store.Store = (*Store)(nil)

// item is a stored value and the revision that wrote it. A zero rev: nothing
// is stored.
type item struct {
	value []byte
	rev   api.Revision
}

// change is one write: at revision rev, key went from old to value (nil: was
// deleted).
type change struct {
	key   api.Key
	rev   api.Revision
	value []byte
	old   item
	// as is the key the object goes by; hidden: it is the legacy twin of one
	// that was stored under its own key then (see store.LegacyKey).
	as     api.Key
	hidden bool
}

// New gives an empty Store.
func New(cfg Config) *Store {
	if cfg.History <= 0 {
		cfg.History = 10_000
	}
	if cfg.BookmarkEvery <= 0 {
		cfg.BookmarkEvery = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg, rev: 1, items: map[api.Key]item{}, changed: make(chan struct{})}
}

// Get reads one object.
func (s *Store) Get(ctx context.Context, k api.Key) (api.Object, error) {
	if err := ready(ctx, k); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, it := s.findLocked(k)
	if it.rev == 0 {
		return nil, fmt.Errorf("%s: %w", k, store.ErrNotFound)
	}
	return store.Decode(at, it.value, it.rev), nil
}

// List reads all objects of a kind.
func (s *Store) List(ctx context.Context, kind api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if _, ok := api.DescriptorOf(kind); !ok {
		return nil, 0, fmt.Errorf("list: %w: kind %q is unknown", store.ErrKey, kind)
	}
	s.mu.Lock()
	rev := s.rev
	if o.Revision != 0 {
		rev = o.Revision
	}
	if rev < s.compacted || rev > s.rev {
		s.mu.Unlock()
		return nil, 0, fmt.Errorf("list of %s at revision %d: %w (the store is at %d)", kind, rev, store.ErrCompacted, s.rev)
	}
	found := map[api.Key]item{}
	for k, it := range s.items {
		if k.Kind == kind {
			found[k] = it
		}
	}
	for i := len(s.log) - 1; i >= 0 && s.log[i].rev > rev; i-- {
		c := s.log[i]
		if c.key.Kind != kind {
			continue
		}
		found[c.key] = c.old
	}
	s.mu.Unlock()

	objs := make([]api.Object, 0, len(found))
	for k, it := range found {
		if it.rev == 0 || o.Namespace != "" && k.Namespace != o.Namespace {
			continue
		}
		obj := store.Decode(k, it.value, it.rev)
		if as := obj.Key(); as != k && found[as].rev != 0 {
			continue // a legacy twin of a policy that is stored under its own name
		}
		objs = append(objs, obj)
	}
	slices.SortFunc(objs, func(a, b api.Object) int { return a.Key().Compare(b.Key()) })
	if o.After.Name != "" {
		o.After.Kind = kind
		objs = slices.DeleteFunc(objs, func(x api.Object) bool { return x.Key().Compare(o.After) <= 0 })
	}
	if o.Limit > 0 && len(objs) > o.Limit {
		objs = objs[:o.Limit]
	}
	return objs, rev, nil
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	k := o.Key()
	if err := ready(ctx, k); err != nil {
		return 0, err
	}
	if _, bad := o.(*api.Unreadable); bad {
		return 0, fmt.Errorf("%s: a value that cannot be understood cannot be written", k)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, old := s.findLocked(k)
	if err := allow(k, old.rev, cond); err != nil {
		return 0, err
	}
	if err := s.otherLocked(cond); err != nil {
		return 0, err
	}
	var stored *api.Meta
	if old.rev != 0 {
		stored = store.Decode(at, old.value, old.rev).Metadata()
	}
	value, err := api.EncodeStored(store.Stamp(o, stored, s.cfg.Now()))
	if err != nil {
		return 0, fmt.Errorf("%s: encoding: %w", k, err)
	}
	rev := s.writeLocked(k, value)
	if at != k {
		// It was stored under its legacy key; what is written now belongs
		// under its own.
		s.writeLocked(at, nil)
	}
	return rev, nil
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, k api.Key, cond store.If) error {
	if err := ready(ctx, k); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, old := s.findLocked(k)
	if old.rev == 0 {
		return fmt.Errorf("%s: %w", k, store.ErrNotFound)
	}
	if cond.IsAbsent() || cond.Revision() != 0 && cond.Revision() != old.rev {
		return fmt.Errorf("%s: %w", k, store.ErrConflict)
	}
	if err := s.otherLocked(cond); err != nil {
		return err
	}
	s.writeLocked(at, nil)
	return nil
}

// PutBytes stores a value as it is under a storage key, as a foreign program
// would, and returns its revision. For tests.
func (s *Store) PutBytes(_ context.Context, k api.Key, value []byte) (api.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(k, append([]byte{}, value...)), nil
}

// Compact forgets the changes up to and including rev. For tests.
func (s *Store) Compact(_ context.Context, rev api.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compactLocked(rev)
	return nil
}

func ready(ctx context.Context, k api.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckKey(k)
}

// allow tells whether a write under cond may go over what has revision have
// (zero: nothing).
func allow(k api.Key, have api.Revision, cond store.If) error {
	switch {
	case cond.IsAbsent() && have != 0:
		return fmt.Errorf("%s: %w", k, store.ErrExists)
	case cond.Revision() != 0 && have == 0:
		return fmt.Errorf("%s: %w", k, store.ErrNotFound)
	case cond.Revision() != 0 && have != cond.Revision():
		return fmt.Errorf("%s: %w", k, store.ErrConflict)
	}
	return nil
}

// otherLocked tells whether the other resource that cond speaks of is as cond
// wants it.
func (s *Store) otherLocked(cond store.If) error {
	k, at := cond.Other()
	if k == (api.Key{}) {
		return nil
	}
	if _, it := s.findLocked(k); it.rev != at {
		return fmt.Errorf("%s: %w", k, store.ErrConflict)
	}
	return nil
}

// findLocked gives the storage key under which k is stored, and what is
// there. If k is not stored, the key is k.
func (s *Store) findLocked(k api.Key) (api.Key, item) {
	if it, ok := s.items[k]; ok {
		return k, it
	}
	if l, ok := store.LegacyKey(k); ok {
		if it, ok := s.items[l]; ok && store.Decode(l, it.value, it.rev).Key() == k {
			return l, it
		}
	}
	return k, item{}
}

// writeLocked sets or (value nil) deletes a storage key.
func (s *Store) writeLocked(k api.Key, value []byte) api.Revision {
	s.rev++
	c := change{key: k, rev: s.rev, value: value, old: s.items[k], as: k}
	switch {
	case value != nil:
		c.as = store.Decode(k, value, c.rev).Key()
	case c.old.rev != 0:
		c.as = store.Decode(k, c.old.value, c.old.rev).Key()
	}
	c.hidden = c.as != k && s.items[c.as].rev != 0
	s.log = append(s.log, c)
	if value == nil {
		delete(s.items, k)
	} else {
		s.items[k] = item{value: value, rev: s.rev}
	}
	if len(s.log) > s.cfg.History {
		s.compactLocked(s.log[len(s.log)-s.cfg.History].rev - 1)
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return s.rev
}

func (s *Store) compactLocked(rev api.Revision) {
	rev = min(rev, s.rev)
	if rev <= s.compacted {
		return
	}
	s.compacted = rev
	n, _ := slices.BinarySearchFunc(s.log, rev+1, func(c change, r api.Revision) int { return int(c.rev - r) })
	s.log = append([]change(nil), s.log[n:]...)
}
