// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
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
