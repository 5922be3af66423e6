// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// listPage is a piece of a list as etcd gave it: values, and the digests
// beside them, both in the order of their keys.
type listPage struct {
	kvs, sums []*mvccpb.KeyValue
	more      bool
	// count is how many keys the whole list has from this page on.
	count int64
	rev   int64
}

// readPage reads at most limit values of the keys from to end, and their
// digests, at a revision (zero: now).
func (s *Store) readPage(ctx context.Context, c *clientv3.Client, from, end string, limit, rev int64) (listPage, error) {
	ops := []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(rev))}
	if s.cfg.Checksums {
		// Nearly always there is one digest for each value.
		ops = append(ops, clientv3.OpGet(SumKey(from), clientv3.WithRange(SumKey(end)), clientv3.WithLimit(limit), clientv3.WithRev(rev)))
	}
	resp, err := c.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return listPage{}, err
	}
	r := resp.Responses[0].GetResponseRange()
	p := listPage{kvs: r.Kvs, more: r.More, count: r.Count, rev: rev}
	if rev == 0 {
		p.rev = resp.Header.Revision
	}
	if !s.cfg.Checksums || len(p.kvs) == 0 {
		return p, nil
	}
	r = resp.Responses[1].GetResponseRange()
	p.sums = r.Kvs
	last := SumKey(string(p.kvs[len(p.kvs)-1].Key))
	if r.More && string(p.sums[len(p.sums)-1].Key) < last {
		rest, err := c.Get(ctx, string(p.sums[len(p.sums)-1].Key)+"\x00", clientv3.WithRange(last+"\x00"), clientv3.WithRev(p.rev))
		if err != nil {
			return listPage{}, err
		}
		p.sums = append(p.sums, rest.Kvs...)
	}
	if p.more {
		n, _ := slices.BinarySearchFunc(p.sums, last+"\x00", func(kv *mvccpb.KeyValue, k string) int { return strings.Compare(string(kv.Key), k) })
		p.sums = p.sums[:n]
	}
	return p, nil
}

// inOrder reports whether the values' keys are in order and inside of what
// was asked for, as keys are unless a bit of one has flipped.
func (p listPage) inOrder(from, end string) bool {
	for i, kv := range p.kvs {
		if k := string(kv.Key); k < from || k >= end || i > 0 && k <= string(p.kvs[i-1].Key) {
			return false
		}
	}
	return true
}

// join puts each digest to its value. The key of a value without a digest is
// what it says, unless there is a digest without a value that the same
// transaction wrote: then the two belong together, and the value's key is
// damaged.
func (p listPage) join() []stored {
	all := make([]stored, len(p.kvs))
	var alone []*mvccpb.KeyValue
	j := 0
	for i, kv := range p.kvs {
		all[i] = stored{path: string(kv.Key), kv: kv}
		for ; j < len(p.sums); j++ {
			order := strings.Compare(string(p.sums[j].Key[len(sumRoot):]), all[i].path)
			if order > 0 {
				break
			}
			if order == 0 {
				all[i].sum = p.sums[j]
				j++
				break
			}
			alone = append(alone, p.sums[j])
		}
	}
	alone = append(alone, p.sums[j:]...)
	for i := range all {
		for _, sum := range alone {
			if all[i].sum == nil && sum.ModRevision == all[i].kv.ModRevision {
				all[i].path, all[i].sum = string(sum.Key[len(sumRoot):]), sum
			}
		}
	}
	return all
}
