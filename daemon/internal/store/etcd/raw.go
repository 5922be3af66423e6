// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// PutRaw writes a value that is not a resource, such as Felix's status keys.
// With a ttl the key vanishes that long after the last write: each write is
// put under a fresh lease, as Felix does, and the lease before is left to
// expire. Leases are counted in whole seconds; ttl is rounded up.
func (s *Store) PutRaw(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.call(ctx, op(key), func(ctx context.Context, c *clientv3.Client) error {
		var opts []clientv3.OpOption
		if ttl > 0 {
			l, err := c.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
			if err != nil {
				return err
			}
			opts = append(opts, clientv3.WithLease(l.ID))
		}
		_, err := c.Put(ctx, key, string(value), opts...)
		return err
	})
}

// DeleteRaw deletes a key that is not a resource; of a key that is not there:
// no error.
func (s *Store) DeleteRaw(ctx context.Context, key string) error {
	return s.call(ctx, op(key), func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Delete(ctx, key)
		return err
	})
}

// ListRaw reads all keys that begin with prefix, which is not empty, at one
// revision.
func (s *Store) ListRaw(ctx context.Context, prefix string) (map[string][]byte, error) {
	if prefix == "" {
		return nil, fmt.Errorf("list of raw keys: %w: prefix is empty", store.ErrKey)
	}
	all := map[string][]byte{}
	from, end, rev := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
	for {
		var r *clientv3.GetResponse
		err := s.call(ctx, op("list of "+prefix), func(ctx context.Context, c *clientv3.Client) (err error) {
			r, err = c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(firstPage), clientv3.WithRev(rev))
			return err
		})
		if err != nil {
			return nil, err
		}
		rev = max(rev, r.Header.Revision)
		for _, kv := range r.Kvs {
			all[string(kv.Key)] = kv.Value
		}
		if !r.More || len(r.Kvs) == 0 {
			return all, nil
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// ClusterID is the identity of the etcd cluster that answers.
func (s *Store) ClusterID(ctx context.Context) (uint64, error) {
	var id uint64
	err := s.call(ctx, op("cluster id"), func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.Get(ctx, probeKey, clientv3.WithCountOnly())
		if err == nil {
			id = r.Header.ClusterId
		}
		return err
	})
	return id, err
}

// Status is how an etcd server stands.
type Status struct {
	// Endpoint is the one that answered.
	Endpoint string
	Version  string
	// ClusterID and MemberID are etcd's identities.
	ClusterID, MemberID uint64
	// Revision is the newest one of the store.
	Revision int64
	// DBSizeBytes is the size of the database file, DBInUseBytes the part of
	// it that holds data, QuotaBytes the limit (zero: the server is older
	// than 3.6 and does not tell).
	DBSizeBytes, DBInUseBytes, QuotaBytes int64
	// HasLeader tells whether the cluster can take writes; IsLeader whether
	// this member leads it.
	HasLeader, IsLeader bool
	// Alarms are raised alarms, such as NOSPACE and CORRUPT.
	Alarms []string
}

// Status asks the endpoints in order until one answers.
func (s *Store) Status(ctx context.Context) (Status, error) {
	var st Status
	err := s.call(ctx, op("status"), func(ctx context.Context, c *clientv3.Client) error {
		var last error
		for i, ep := range s.cfg.Endpoints {
			one, cancel := ctx, context.CancelFunc(func() {})
			if i < len(s.cfg.Endpoints)-1 {
				one, cancel = context.WithTimeout(ctx, s.cfg.RequestTimeout/time.Duration(len(s.cfg.Endpoints)))
			}
			r, err := c.Status(one, ep)
			cancel()
			if err != nil {
				last = err
				continue
			}
			st = Status{
				Endpoint: ep, Version: r.Version,
				ClusterID: r.Header.ClusterId, MemberID: r.Header.MemberId, Revision: r.Header.Revision,
				DBSizeBytes: r.DbSize, DBInUseBytes: r.DbSizeInUse, QuotaBytes: r.DbSizeQuota,
				HasLeader: r.Leader != 0, IsLeader: r.Leader == r.Header.MemberId,
			}
			alarms, err := c.AlarmList(ctx)
			if err != nil {
				return err
			}
			for _, a := range alarms.Alarms {
				st.Alarms = append(st.Alarms, a.Alarm.String())
			}
			return nil
		}
		return last
	})
	return st, err
}

// Compact forgets all history up to and including a revision, as etcd's own
// command does. Nothing in the daemons calls it on a shared cluster.
func (s *Store) Compact(ctx context.Context, rev api.Revision) error {
	return s.call(ctx, op("compaction"), func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Compact(ctx, int64(rev), clientv3.WithCompactPhysical())
		return err
	})
}
