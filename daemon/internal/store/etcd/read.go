// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// A list is read in pages so that no message becomes large: firstPage keys,
// then as many as make about pageBytes, within the other two bounds.
const (
	firstPage = 500
	minPage   = 20
	maxPage   = 2000
	pageBytes = 1 << 20
)

// listTries is how often a list of now begins anew when its revision is
// compacted away between two pages.
const listTries = 3

// found is what is stored of one resource.
type found struct {
	path string
	kv   *mvccpb.KeyValue // nil: nothing is stored
	obj  api.Object       // nil: nothing is stored
	// others are the etcd keys that were looked at besides path, with their
	// revisions: a write is only right while they stay as they are.
	others []clientv3.Cmp
}

// find reads what is stored of k.
func (s *Store) find(ctx context.Context, c *clientv3.Client, k api.Key) (found, error) {
	keys := []api.Key{k}
	if l, ok := store.LegacyKey(k); ok {
		keys = append(keys, l)
	}
	var ops []clientv3.Op
	for _, k := range keys {
		ops = append(ops, clientv3.OpGet(Path(k)))
		if s.cfg.Checksums {
			ops = append(ops, clientv3.OpGet(SumKey(Path(k))))
		}
	}
	resp, err := c.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return found{}, err
	}
	next := func() *mvccpb.KeyValue {
		kvs := resp.Responses[0].GetResponseRange().Kvs
		resp.Responses = resp.Responses[1:]
		if len(kvs) == 0 {
			return nil
		}
		return kvs[0]
	}
	f := found{path: Path(k)}
	for i, at := range keys {
		kv := next()
		var sum *mvccpb.KeyValue
		if s.cfg.Checksums {
			sum = next()
		}
		if kv != nil && f.kv == nil {
			if string(kv.Key) != Path(at) {
				return found{}, fmt.Errorf("%w: asked for %s, etcd answers with %q", ErrDamaged, Path(at), kv.Key)
			}
			if obj := decode(at, kv, sum); i == 0 || obj.Key() == k {
				f.path, f.kv, f.obj = Path(at), kv, obj
				continue
			}
		}
		if i > 0 {
			var rev int64
			if kv != nil {
				rev = kv.ModRevision
			}
			f.others = append(f.others, clientv3.Compare(clientv3.ModRevision(Path(at)), "=", rev))
		}
	}
	if f.path != Path(k) {
		f.others = append(f.others, clientv3.Compare(clientv3.ModRevision(Path(k)), "=", 0))
	}
	return f, nil
}

// rev is the revision of what is stored, zero if nothing is.
func (f found) rev() int64 {
	if f.kv == nil {
		return 0
	}
	return f.kv.ModRevision
}

// Get reads one object.
func (s *Store) Get(ctx context.Context, k api.Key) (api.Object, error) {
	if err := store.CheckKey(k); err != nil {
		return nil, err
	}
	var f found
	err := s.call(ctx, k, func(ctx context.Context, c *clientv3.Client) (err error) {
		f, err = s.find(ctx, c, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	if f.obj == nil {
		return nil, fmt.Errorf("%s: %w", k, store.ErrNotFound)
	}
	return f.obj, nil
}

// stored is one value of a list, not decoded yet.
type stored struct {
	path    string // the etcd key it was stored under
	key     api.Key
	kv, sum *mvccpb.KeyValue
}

// List reads all objects of a kind at one revision.
func (s *Store) List(ctx context.Context, kind api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	if _, ok := api.DescriptorOf(kind); !ok {
		return nil, 0, fmt.Errorf("list: %w: kind %q is unknown", store.ErrKey, kind)
	}
	o.After.Kind = kind
	var raw []stored
	var rev int64
	var err error
	for range listTries {
		raw, rev, err = s.listRaw(ctx, kind, o)
		if o.Revision != 0 || !errors.Is(err, store.ErrCompacted) {
			break
		}
	}
	if err != nil {
		return nil, 0, err
	}
	if store.HasLegacyKeys(kind) {
		return cut(listLegacy(raw), o), api.Revision(rev), nil
	}
	// Keys sort by namespace and name, which is not quite etcd's order: there
	// "a-b/x" stands before "a/x".
	slices.SortFunc(raw, func(a, b stored) int { return a.key.Compare(b.key) })
	if o.After.Name != "" {
		n, found := slices.BinarySearchFunc(raw, o.After, func(s stored, k api.Key) int { return s.key.Compare(k) })
		if found {
			n++
		}
		raw = raw[n:]
	}
	if o.Limit > 0 && len(raw) > o.Limit {
		raw = raw[:o.Limit]
	}
	objs := make([]api.Object, len(raw))
	for i, r := range raw {
		objs[i] = decode(r.key, r.kv, r.sum)
	}
	return objs, api.Revision(rev), nil
}

// listLegacy decodes a list of a kind whose objects may be stored under a
// second key, which shows only when they are decoded, and sorts it.
func listLegacy(raw []stored) []api.Object {
	own := make(map[api.Key]bool, len(raw))
	for _, r := range raw {
		own[r.key] = true
	}
	objs := make([]api.Object, 0, len(raw))
	for _, r := range raw {
		if obj := decode(r.key, r.kv, r.sum); obj.Key() == r.key || !own[obj.Key()] {
			objs = append(objs, obj)
		}
	}
	slices.SortFunc(objs, func(a, b api.Object) int { return a.Key().Compare(b.Key()) })
	return objs
}

// cut keeps the objects after o.After, at most o.Limit.
func cut(objs []api.Object, o store.ListOptions) []api.Object {
	if o.After.Name != "" {
		objs = slices.DeleteFunc(objs, func(x api.Object) bool { return x.Key().Compare(o.After) <= 0 })
	}
	if o.Limit > 0 && len(objs) > o.Limit {
		objs = objs[:o.Limit]
	}
	return objs
}

// listRaw reads the values of a list, page by page, all at one revision. Where
// etcd's order is that of the keys it skips what is before o.After and stops
// after o.Limit.
func (s *Store) listRaw(ctx context.Context, kind api.Kind, o store.ListOptions) ([]stored, int64, error) {
	lay := layoutOf(kind)
	from := lay.prefix
	if o.Namespace != "" {
		from += o.Namespace + "/"
	}
	end := clientv3.GetPrefixRangeEnd(from)
	limit := 0
	if (!lay.namespaced || o.Namespace != "") && !store.HasLegacyKeys(kind) {
		limit = o.Limit
		if o.After.Name != "" && o.After.Namespace == o.Namespace {
			from = max(from, Path(o.After)+"\x00")
		}
	}
	what := op("list of " + string(kind))
	rev := int64(o.Revision)
	page := firstPage
	var all []stored
	read, count := 0, int64(-1)
	for {
		ask := page
		if limit > 0 {
			ask = min(ask, limit-len(all))
		}
		var p listPage
		err := s.call(ctx, what, func(ctx context.Context, c *clientv3.Client) (err error) {
			p, err = s.readPage(ctx, c, from, end, int64(ask), rev)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		rev = p.rev
		if count < 0 {
			count = p.count
		}
		if !p.inOrder(from, end) {
			return nil, 0, fmt.Errorf("%s: %w: keys are out of order", what, ErrDamaged)
		}
		size := 0
		for _, v := range p.join() {
			size += len(v.kv.Key) + len(v.kv.Value)
			var ok bool
			if v.key, ok = lay.key(v.path); ok {
				all = append(all, v)
			}
		}
		read += len(p.kvs)
		if limit > 0 && len(all) >= limit {
			return all, rev, nil
		}
		if !p.more || len(p.kvs) == 0 {
			// The next page begins after the last key of this one; if a bit
			// of that was flipped, keys are missing.
			if int64(read) != count {
				return nil, 0, fmt.Errorf("%s: %w: %d of %d keys were read", what, ErrDamaged, read, count)
			}
			return all, rev, nil
		}
		from = string(p.kvs[len(p.kvs)-1].Key) + "\x00"
		page = min(max(pageBytes*len(p.kvs)/max(size, 1), minPage), maxPage)
	}
}
