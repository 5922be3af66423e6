// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// writeTries bounds how often an unconditional write begins anew because
// somebody else wrote between its read and its write.
const writeTries = 50

// Put writes an object: read what is there, stamp, write if it is still
// there. Creating an object of a kind that has no legacy keys needs no read.
func (s *Store) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	k := o.Key()
	if err := store.CheckKey(k); err != nil {
		return 0, err
	}
	if _, bad := o.(*api.Unreadable); bad {
		return 0, fmt.Errorf("%s: a value that cannot be understood cannot be written", k)
	}
	if meta := cond.Read(); meta != nil {
		if rev, err := s.putOver(ctx, k, o, meta, cond); rev != 0 || err != nil {
			return rev, err
		}
	}
	for range writeTries {
		rev, err := s.put(ctx, k, o, cond)
		if rev != 0 || err != nil {
			return rev, err
		}
	}
	return 0, fmt.Errorf("%s: %w %d times in a row", k, store.ErrConflict, writeTries)
}

// putOver writes over what the writer has read, under its own key and with
// nothing under a legacy key, without reading it again. Both results zero: it
// is not so, and put finds out what is.
func (s *Store) putOver(ctx context.Context, k api.Key, o api.Object, meta *api.Meta, cond store.If) (api.Revision, error) {
	value, err := api.EncodeStored(store.Stamp(o, meta, s.cfg.Now()))
	if err != nil {
		return 0, fmt.Errorf("%s: encoding: %w", k, err)
	}
	path := Path(k)
	ifs := append(while(cond), clientv3.Compare(clientv3.ModRevision(path), "=", int64(cond.Revision())))
	if legacy, ok := store.LegacyKey(k); ok {
		ifs = append(ifs, clientv3.Compare(clientv3.Version(Path(legacy)), "=", 0))
	}
	var resp *clientv3.TxnResponse
	err = s.call(ctx, k, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.Txn(ctx).If(ifs...).Then(s.write(path, value)...).Commit()
		return err
	})
	if err != nil || !resp.Succeeded {
		return 0, err
	}
	return api.Revision(resp.Header.Revision), nil
}

// write puts a value and the digest beside it.
func (s *Store) write(path string, value []byte) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpPut(path, string(value))}
	if s.cfg.Checksums {
		ops = append(ops, clientv3.OpPut(SumKey(path), string(Sum(path, value))))
	}
	return ops
}

// put is one try of Put. Both results zero: somebody else was faster.
func (s *Store) put(ctx context.Context, k api.Key, o api.Object, cond store.If) (api.Revision, error) {
	f := found{path: Path(k)}
	if !cond.IsAbsent() || store.HasLegacyKeys(k.Kind) {
		err := s.call(ctx, k, func(ctx context.Context, c *clientv3.Client) (err error) {
			f, err = s.find(ctx, c, k)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	switch {
	case cond.IsAbsent() && f.kv != nil:
		return 0, fmt.Errorf("%s: %w", k, store.ErrExists)
	case cond.Revision() != 0 && f.kv == nil:
		return 0, fmt.Errorf("%s: %w", k, store.ErrNotFound)
	case cond.Revision() != 0 && api.Revision(f.rev()) != cond.Revision():
		return 0, fmt.Errorf("%s: %w", k, store.ErrConflict)
	}
	var meta *api.Meta
	if f.obj != nil {
		meta = f.obj.Metadata()
	}
	value, err := api.EncodeStored(store.Stamp(o, meta, s.cfg.Now()))
	if err != nil {
		return 0, fmt.Errorf("%s: encoding: %w", k, err)
	}
	is := clientv3.Compare(clientv3.ModRevision(f.path), "=", f.rev())
	if f.kv == nil {
		is = clientv3.Compare(clientv3.Version(f.path), "=", 0)
	}
	path := Path(k)
	ops := s.write(path, value)
	if f.path != path {
		// It was stored under its legacy key. What is written now holds its
		// own name and belongs under its own key.
		ops = append(ops, s.remove(f.path)...)
	}
	var resp *clientv3.TxnResponse
	err = s.call(ctx, k, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.Txn(ctx).If(append(append(f.others, is), while(cond)...)...).Then(ops...).Else(readOther(cond)...).Commit()
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case resp.Succeeded:
		return api.Revision(resp.Header.Revision), nil
	case otherMoved(cond, resp):
		k, _ := cond.Other()
		return 0, fmt.Errorf("%s: %w", k, store.ErrConflict)
	case cond.IsAbsent() && len(f.others) == 0:
		return 0, fmt.Errorf("%s: %w", k, store.ErrExists)
	}
	return 0, nil
}

// while is the comparison for the other resource that cond speaks of. That has
// no legacy key: it is compared under its own.
func while(cond store.If) []clientv3.Cmp {
	k, at := cond.Other()
	if k == (api.Key{}) {
		return nil
	}
	return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(Path(k)), "=", int64(at))}
}

// readOther reads that resource where a transaction did not come about.
func readOther(cond store.If) []clientv3.Op {
	k, _ := cond.Other()
	if k == (api.Key{}) {
		return nil
	}
	return []clientv3.Op{clientv3.OpGet(Path(k), clientv3.WithKeysOnly())}
}

// otherMoved tells whether a transaction did not come about because of the
// other resource, whose read is its last answer.
func otherMoved(cond store.If, resp *clientv3.TxnResponse) bool {
	k, at := cond.Other()
	if k == (api.Key{}) {
		return false
	}
	kvs := resp.Responses[len(resp.Responses)-1].GetResponseRange().Kvs
	return len(kvs) == 0 || kvs[0].ModRevision != int64(at)
}

// remove deletes a value and the digest beside it.
func (s *Store) remove(path string) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpDelete(path)}
	if s.cfg.Checksums {
		ops = append(ops, clientv3.OpDelete(SumKey(path)))
	}
	return ops
}

// Delete removes an object and the digest beside it.
func (s *Store) Delete(ctx context.Context, k api.Key, cond store.If) error {
	if err := store.CheckKey(k); err != nil {
		return err
	}
	for range writeTries {
		done, err := s.delete(ctx, k, cond)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w %d times in a row", k, store.ErrConflict, writeTries)
}

// delete is one try of Delete; not done without an error: somebody else was
// faster.
func (s *Store) delete(ctx context.Context, k api.Key, cond store.If) (done bool, err error) {
	f := found{path: Path(k)}
	var ifs []clientv3.Cmp
	if at := cond.Revision(); at != 0 {
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(f.path), "=", int64(at)))
	}
	if store.HasLegacyKeys(k.Kind) || cond.IsAbsent() {
		err := s.call(ctx, k, func(ctx context.Context, c *clientv3.Client) (err error) {
			f, err = s.find(ctx, c, k)
			return err
		})
		switch {
		case err != nil:
			return false, err
		case f.kv == nil:
			return false, fmt.Errorf("%s: %w", k, store.ErrNotFound)
		case cond.IsAbsent(), cond.Revision() != 0 && api.Revision(f.rev()) != cond.Revision():
			return false, fmt.Errorf("%s: %w", k, store.ErrConflict)
		}
		ifs = append(f.others, clientv3.Compare(clientv3.ModRevision(f.path), "=", f.rev()))
	}
	var resp *clientv3.TxnResponse
	err = s.call(ctx, k, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.Txn(ctx).If(append(ifs, while(cond)...)...).Then(s.remove(f.path)...).
			Else(append([]clientv3.Op{clientv3.OpGet(f.path, clientv3.WithKeysOnly())}, readOther(cond)...)...).Commit()
		return err
	})
	switch {
	case err != nil:
		return false, err
	case resp.Succeeded && resp.Responses[0].GetResponseDeleteRange().Deleted == 0:
		return false, fmt.Errorf("%s: %w", k, store.ErrNotFound)
	case resp.Succeeded:
		return true, nil
	case otherMoved(cond, resp):
		k, _ := cond.Other()
		return false, fmt.Errorf("%s: %w", k, store.ErrConflict)
	case f.kv != nil:
		return false, nil
	case len(resp.Responses[0].GetResponseRange().Kvs) == 0:
		return false, fmt.Errorf("%s: %w", k, store.ErrNotFound)
	}
	return false, fmt.Errorf("%s: %w", k, store.ErrConflict)
}
