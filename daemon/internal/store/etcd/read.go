// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	d, _ := api.DescriptorOf(kind)
	from := Prefix(kind)
	if o.Namespace != "" {
		from += o.Namespace + "/"
	}
	end := clientv3.GetPrefixRangeEnd(from)
	limit := 0
	if (!d.Namespaced || o.Namespace != "") && !store.HasLegacyKeys(kind) {
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
		var kvs []*mvccpb.KeyValue
		var sums map[string]*mvccpb.KeyValue
		more := false
		err := s.call(ctx, what, func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(int64(ask)), clientv3.WithRev(rev))
			if err != nil {
				return err
			}
			if rev == 0 {
				rev = r.Header.Revision
			}
			if count < 0 {
				count = r.Count
			}
			kvs, more = r.Kvs, r.More
			if s.cfg.Checksums && len(kvs) > 0 {
				sums, err = s.readSums(ctx, c, string(kvs[0].Key), string(kvs[len(kvs)-1].Key), rev)
			}
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		size := 0
		for i, kv := range kvs {
			size += len(kv.Key) + len(kv.Value)
			if string(kv.Key) < from || string(kv.Key) >= end || i > 0 && string(kv.Key) <= string(kvs[i-1].Key) {
				return nil, 0, fmt.Errorf("%s: %w: key %q is out of order", what, ErrDamaged, kv.Key)
			}
			at := string(kv.Key)
			if _, has := sums[at]; !has {
				at = mate(kv, sums)
			}
			if k, ok := keyOf(kind, at); ok {
				all = append(all, stored{k, kv, sums[at]})
			}
			delete(sums, at)
		}
		read += len(kvs)
		if limit > 0 && len(all) >= limit {
			return all, rev, nil
		}
		if !more || len(kvs) == 0 {
			// The next page begins after the last key of this one; if a bit
			// of that was flipped, keys are missing.
			if int64(read) != count {
				return nil, 0, fmt.Errorf("%s: %w: %d of %d keys were read", what, ErrDamaged, read, count)
			}
			return all, rev, nil
		}
		from = string(kvs[len(kvs)-1].Key) + "\x00"
		page = min(max(pageBytes*len(kvs)/max(size, 1), minPage), maxPage)
	}
}

// mate is the key that a value without a digest was stored under. That is its
// key, unless there is a digest without a value that was written by the same
// transaction: then the two belong together, and the key is damaged.
func mate(kv *mvccpb.KeyValue, sums map[string]*mvccpb.KeyValue) string {
	for at, sum := range sums {
		if sum.ModRevision == kv.ModRevision {
			return at
		}
	}
	return string(kv.Key)
}

// readSums reads the digests of the values from first to last, by the value's
// key.
func (s *Store) readSums(ctx context.Context, c *clientv3.Client, first, last string, rev int64) (map[string]*mvccpb.KeyValue, error) {
	r, err := c.Get(ctx, SumKey(first), clientv3.WithRange(SumKey(last)+"\x00"), clientv3.WithRev(rev))
	if err != nil {
		return nil, err
	}
	sums := make(map[string]*mvccpb.KeyValue, len(r.Kvs))
	for _, kv := range r.Kvs {
		sums[strings.TrimPrefix(string(kv.Key), sumRoot)] = kv
	}
	return sums, nil
}
