// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"fmt"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

func benchmarkBoth(b *testing.B, f func(b *testing.B, s *etcd.Store)) {
	for _, sums := range []bool{false, true} {
		b.Run(fmt.Sprintf("checksums=%v", sums), func(b *testing.B) {
			f(b, startServer(b).open(func(c *etcd.Config) { c.Checksums = sums }))
		})
	}
}

func BenchmarkPut(b *testing.B) {
	benchmarkBoth(b, func(b *testing.B, s *etcd.Store) {
		ctx := testContext(b)
		rev, err := s.Put(ctx, tier("a", 1), store.Always())
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if rev, err = s.Put(ctx, tier("a", 1), store.At(rev)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	benchmarkBoth(b, func(b *testing.B, s *etcd.Store) {
		ctx := testContext(b)
		if _, err := s.Put(ctx, tier("a", 1), store.Always()); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := s.Get(ctx, tier("a", 1).Key()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkList10000(b *testing.B) {
	benchmarkBoth(b, func(b *testing.B, s *etcd.Store) {
		ctx := testContext(b)
		for i := range 10_000 {
			o := &api.GlobalNetworkSet{}
			o.Kind, o.APIVersion, o.Name = api.KindGlobalNetworkSet, api.VersionCalico, fmt.Sprintf("set-%05d", i)
			o.Labels = map[string]string{"role": "web", "zone": fmt.Sprint("z", i%10)}
			o.Spec.Nets = []string{fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)}
			if _, err := s.Put(ctx, o, store.Absent()); err != nil {
				b.Fatal(err)
			}
		}
		for b.Loop() {
			objs, _, err := s.List(ctx, api.KindGlobalNetworkSet, store.ListOptions{})
			if err != nil || len(objs) != 10_000 {
				b.Fatal(len(objs), err)
			}
		}
	})
}

// BenchmarkWatch is the time from a write to its event.
func BenchmarkWatch(b *testing.B) {
	benchmarkBoth(b, func(b *testing.B, s *etcd.Store) {
		ctx := testContext(b)
		rev, err := s.Put(ctx, tier("a", 1), store.Always())
		if err != nil {
			b.Fatal(err)
		}
		w, err := s.Watch(ctx, api.KindTier, rev)
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		for b.Loop() {
			if rev, err = s.Put(ctx, tier("a", 1), store.At(rev)); err != nil {
				b.Fatal(err)
			}
			for seen := api.Revision(0); seen < rev; {
				evs, err := w.Next(ctx)
				if err != nil {
					b.Fatal(err)
				}
				seen = evs[len(evs)-1].Revision
			}
		}
	})
}
