// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/daemon/store"
)

func BenchmarkCreate(b *testing.B) {
	e := start(b, nil)
	for n := 0; b.Loop(); n++ {
		e.want(201, "POST", gnss, netset(fmt.Sprintf("s%d", n)))
	}
}

func BenchmarkList10000(b *testing.B) {
	e := start(b, nil)
	for i := range 10_000 {
		o := sample(b, api.KindGlobalNetworkPolicy)
		o.Metadata().Name = fmt.Sprintf("p%05d", i)
		if _, err := e.mem.Put(b.Context(), o, store.Absent()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		e.want(200, "GET", gnps, "")
	}
}

// BenchmarkFanOut is the time from one write until 1,000 watchers have it.
func BenchmarkFanOut(b *testing.B) {
	const watchers = 1000
	e := start(b, nil)
	e.want(201, "POST", gnss, netset("x"))
	rev := e.revision(gnss)
	var got sync.WaitGroup
	var all sync.WaitGroup
	for range watchers {
		req, err := http.NewRequestWithContext(b.Context(), "GET", "http://localhost"+gnss+"?watch=true&resourceVersion="+rev, nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := e.http.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer resp.Body.Close()
			buf := make([]byte, 4096)
			for {
				n, err := resp.Body.Read(buf)
				for _, c := range buf[:n] {
					if c == '\n' {
						got.Done()
					}
				}
				if err != nil {
					if err != io.EOF {
						b.Errorf("watch: %v", err)
					}
					return
				}
			}
		})
	}
	for n := 0; b.Loop(); n++ {
		got.Add(watchers)
		e.want(200, "PUT", gnss+"/x", netset("x", "n", fmt.Sprint(n)))
		got.Wait()
	}
	b.StopTimer()
	if err := e.stop(); err != nil {
		b.Fatal(err)
	}
	all.Wait()
}

// BenchmarkWritePolicy is a policy written over the socket to a real etcd: the
// number of endpoints, whose labels are looked at for advice, does not change
// what it costs.
func BenchmarkWritePolicy(b *testing.B) {
	for _, hosts := range []int{0, 300, 10_000} {
		b.Run(fmt.Sprintf("Hosts%d", hosts), func(b *testing.B) {
			st := clienttest.NewEtcd(b)
			var written errgroup.Group
			written.SetLimit(64)
			for i := range hosts {
				written.Go(func() error {
					o := sample(b, api.KindHostEndpoint)
					m := o.Metadata()
					m.Name = fmt.Sprintf("h%05d", i)
					m.Labels = map[string]string{"host": m.Name, "role": fmt.Sprint("r", i%100), "site": fmt.Sprint("s", i%7)}
					_, err := st.Put(b.Context(), o, store.Absent())
					return err
				})
			}
			if err := written.Wait(); err != nil {
				b.Fatal(err)
			}
			e := start(b, func(c *Config) { c.Store = st })
			for _, c := range []struct{ name, selector string }{
				{"Matches", "role == 'r42' && site == 's3'"},
				{"MatchesOne", "host == 'h00007'"},
				{"MatchesNothing", "role == 'wbe'"},
				{"MatchesNothingTogether", "role == 'r42' && !has(site)"},
			} {
				b.Run(c.name, func(b *testing.B) {
					name := strings.ToLower(c.name)
					for n := 0; b.Loop(); n++ {
						policy := strings.Replace(gnp(fmt.Sprintf("%s-%d-%d", name, b.N, n), "default"), "all()", c.selector, 1)
						e.want(201, "POST", gnps, policy)
					}
				})
			}
		})
	}
}
