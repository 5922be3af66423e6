// SPDX-License-Identifier: Apache-2.0

package index

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/ripstop/ripstop/daemon/selector"
)

var benchSizes = []struct{ items, selectors int }{{10_000, 1_000}, {10_000, 10_000}, {50_000, 1_000}, {50_000, 10_000}}

var envs = []string{"prod", "stage", "test", "dev"}

const roles = 1000

// benchItem is an item with 10 labels, one of them its own alone.
func benchItem(i int) map[string]string {
	return map[string]string{
		"role":                   fmt.Sprint("r", i%roles),
		"env":                    envs[i/roles%len(envs)],
		"name":                   fmt.Sprint("host-", i),
		"zone":                   fmt.Sprint("zone-", i%5),
		"rack":                   fmt.Sprint("rack-", i/40),
		"app.example.com/team":   fmt.Sprint("team-", i%60),
		"app.example.com/part":   fmt.Sprint("part-", i%300),
		"app.example.com/rev":    fmt.Sprint("rev-", i%17),
		"os":                     "debian",
		"projectcalico.org/site": "main",
	}
}

func benchParents(i int) []string { return []string{fmt.Sprint("kns.", i%100)} }

func benchSelector(t testing.TB, s int) *selector.Selector {
	return parse(t, fmt.Sprintf("role == 'r%d' && env == '%s'", s%roles, envs[s/roles%len(envs)]))
}

type benchData struct {
	labels    []map[string]string
	parents   [][]string
	selectors []*selector.Selector
}

func newBenchData(t testing.TB, items, selectors int) benchData {
	var d benchData
	for i := range items {
		d.labels = append(d.labels, benchItem(i))
		d.parents = append(d.parents, benchParents(i))
	}
	for s := range selectors {
		d.selectors = append(d.selectors, benchSelector(t, s))
	}
	return d
}

func (d benchData) build(told *int) *Index[int, int] {
	x := New(func(int, int, bool) { *told++ })
	for p := range 100 {
		x.SetParent(fmt.Sprint("kns.", p), map[string]string{
			"pcns.projectcalico.org/name": fmt.Sprint(p), "pcns.team": fmt.Sprint(p % 9),
		})
	}
	for i := range d.labels {
		x.SetItem(i, d.labels[i], d.parents[i])
	}
	for s := range d.selectors {
		x.SetSelector(s, d.selectors[s])
	}
	return x
}

func forSizes(b *testing.B, f func(b *testing.B, d benchData)) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("items=%d/selectors=%d", n.items, n.selectors), func(b *testing.B) {
			f(b, newBenchData(b, n.items, n.selectors))
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkColdBuild(b *testing.B) {
	forSizes(b, func(b *testing.B, d benchData) {
		b.ReportAllocs()
		told := 0
		for b.Loop() {
			d.build(&told)
		}
		b.ReportMetric(float64(told)/float64(b.N), "matches/op")
	})
}

// BenchmarkMemory holds labels whose strings nobody else has.
func BenchmarkMemory(b *testing.B) {
	forSizes(b, func(b *testing.B, d benchData) {
		items, told := d, 0
		items.selectors = nil
		for b.Loop() {
			before := heap()
			x := items.build(&told)
			after := heap()
			for s := range d.selectors {
				x.SetSelector(s, d.selectors[s])
			}
			both := heap()
			b.ReportMetric(float64(after-before)/float64(len(d.labels)), "bytes/item")
			b.ReportMetric(float64(both-after)/float64(len(d.selectors)), "bytes/selector")
			runtime.KeepAlive(x)
		}
		runtime.KeepAlive(d)
	})
}

func BenchmarkChangeLabel(b *testing.B) {
	for _, label := range []string{"role", "env", "os"} {
		b.Run(label, func(b *testing.B) {
			forSizes(b, func(b *testing.B, d benchData) {
				told, n := 0, 0
				x := d.build(&told)
				var changed []map[string]string
				for i := range 1000 {
					l := benchItem(i)
					l[label] = map[string]string{"role": fmt.Sprint("r", (i+1)%roles), "env": "stage", "os": "other"}[label]
					changed = append(changed, l)
				}
				told = 0
				before := x.Stats().Evaluations
				b.ReportAllocs()
				for b.Loop() {
					i := n / 2 % 1000
					if n%2 == 0 {
						x.SetItem(i, changed[i], d.parents[i])
					} else {
						x.SetItem(i, d.labels[i], d.parents[i])
					}
					n++
				}
				b.ReportMetric(float64(x.Stats().Evaluations-before)/float64(n), "tried/op")
				b.ReportMetric(float64(told)/float64(n), "told/op")
			})
		})
	}
}

func BenchmarkSameItemAgain(b *testing.B) {
	told := 0
	d := newBenchData(b, 10_000, 1_000)
	x := d.build(&told)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		x.SetItem(n%10_000, d.labels[n%10_000], d.parents[n%10_000])
	}
}

func BenchmarkAddAndDeleteSelector(b *testing.B) {
	forSizes(b, func(b *testing.B, d benchData) {
		told, n := 0, 0
		x := d.build(&told)
		extra := make([]*selector.Selector, 100)
		for i := range extra {
			extra[i] = parse(b, fmt.Sprintf("role == 'r%d' && env == 'prod' && os == 'debian'", i))
		}
		b.ReportAllocs()
		for b.Loop() {
			x.SetSelector(-1, extra[n%len(extra)])
			x.DeleteSelector(-1)
			n++
		}
	})
}

func BenchmarkChangeParentOf500(b *testing.B) {
	told, n := 0, 0
	d := newBenchData(b, 50_000, 10_000)
	x := d.build(&told)
	x.SetSelector(-1, parse(b, "pcns.team == 'x' && env == 'prod'"))
	b.ReportAllocs()
	for b.Loop() {
		x.SetParent("kns.7", map[string]string{"pcns.team": []string{"x", "y"}[n%2]})
		n++
	}
}
