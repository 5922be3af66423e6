// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

var (
	coldHosts    = flag.Int("cold-hosts", 10_000, "host endpoints in the snapshot of BenchmarkSnapshot")
	coldPolicies = flag.Int("cold-policies", 1_000, "policies in it; a tenth of them is local")
)

// coldFleet is what the snapshot of a large installation holds: as the store
// has it, with all that servers write into an object's metadata.
func coldFleet(hosts, policies int) []api.Event {
	var evs []api.Event
	rev := api.Revision(1)
	put := func(o api.Object) {
		o.Default()
		rev++
		m := o.Metadata()
		m.UID = fmt.Sprintf("0c1a9c3e-1111-2222-3333-%012d", rev)
		m.CreationTimestamp = api.Time{Time: time.Unix(1_700_000_000, 0).UTC()}
		evs = append(evs, api.Event{Key: o.Key(), Object: o, Revision: rev})
	}
	order, ready := 1e6, true
	put(&api.ClusterInformation{Meta: api.Meta{Name: api.DefaultName}, Spec: api.ClusterInformationSpec{ClusterGUID: "0123456789abcdef0123456789abcdef", DatastoreReady: &ready}})
	put(&api.Tier{Meta: api.Meta{Name: "default"}, Spec: api.TierSpec{Order: &order, DefaultAction: api.Deny}})
	for i := range hosts {
		h := &api.HostEndpoint{
			Meta: api.Meta{Name: fmt.Sprintf("host-%05d-eth0", i), Labels: map[string]string{
				"role": fmt.Sprintf("r%d", i%100), "zone": fmt.Sprintf("z%d", i%7), "group": fmt.Sprintf("g%d", i%10),
			}},
			Spec: api.HostEndpointSpec{
				Node: fmt.Sprintf("host-%05d", i), InterfaceName: "eth0",
				ExpectedIPs: []string{fmt.Sprintf("172.%d.%d.%d", 16+i>>16, i>>8&255, i&255), fmt.Sprintf("fd50::%x", i+1)},
			},
		}
		if i == 0 {
			h.Labels = map[string]string{"bench": "local", "role": "none"}
			h.Spec.Node, h.Spec.ExpectedIPs = "h", []string{"10.1.0.1", "fd01::1"}
		}
		put(h)
	}
	for i := range policies {
		p := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: fmt.Sprintf("policy-%05d", i)}}
		o := float64(100 + i)
		p.Spec.Order, p.Spec.Selector, p.Spec.Types = &o, fmt.Sprintf("group == 'g%d'", i%10), []api.PolicyType{api.Ingress}
		if i < max(1, policies/10) {
			p.Spec.Selector = "bench == 'local'"
		}
		for r := range 5 {
			port := uint16(10000 + (5*i+r)%10000)
			p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{
				Action: api.Allow, Protocol: &api.Protocol{Name: "UDP"},
				Source:      api.EntityRule{Selector: fmt.Sprintf("role == 'r%d'", (i+r*7)%100)},
				Destination: api.EntityRule{Ports: []api.Port{api.SinglePort(port), api.SinglePort(port + 1)}},
			})
		}
		put(p)
	}
	return evs
}

// nowhere takes a plan and does nothing with it.
type nowhere struct{}

func (nowhere) Want(ruleset.ID, ruleset.Object) {}
func (nowhere) Unwant(ruleset.ID)               {}

// BenchmarkSnapshot is a cold start from the snapshot on disk, as far as the
// plan: what the agent does between its start and the first word to the
// kernel. It tells the processor time of each step, whatever else the machine
// does meanwhile, and what the agent goes on holding.
func BenchmarkSnapshot(b *testing.B) {
	cfg := snapshot.Config{Dir: b.TempDir(), Host: "h"}
	ctx := context.Background()
	w := snapshot.NewWriter(cfg, snapshot.Loaded{})
	for _, err := range []error{w.Phase(ctx, syncer.Resyncing), w.Events(ctx, coldFleet(*coldHosts, *coldPolicies)), w.Phase(ctx, syncer.InSync), w.Flush()} {
		if err != nil {
			b.Fatal(err)
		}
	}
	steps := map[string]time.Duration{}
	var began, last time.Duration
	step := func(name string) {
		now := processor(b)
		steps[name] += now - last
		last = now
	}
	var held, peak float64
	for b.Loop() {
		before := heap()
		began = processor(b)
		last = began
		known, err := snapshot.Load(cfg)
		if err != nil {
			b.Fatal(err)
		}
		step("load")
		writer := snapshot.NewWriter(cfg, known)
		watcher := syncer.New(syncer.Config{Kinds: kinds, Known: known.Known})
		buffer := syncer.NewBuffer()
		g := calc.New(calc.Default("h"))
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := known.Known.Replay(ctx, buffer); err != nil {
				b.Error(err)
			}
		})
		for synced := false; !synced; {
			batch, err := buffer.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			for _, ev := range batch.Events {
				g.Note(ev)
			}
			synced = batch.Synced
		}
		wg.Wait()
		known = snapshot.Loaded{}
		step("replay")
		var changes []intent.Change
		g.Flush(func(c intent.Change) { changes = append(changes, c) })
		step("calc")
		peak = max(peak, heapNow()-before)
		g.Pack()
		step("pack")
		p := dataplane.NewCompilingPlanner(nowhere{})
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: "eth0"}, Value: &intent.Interface{Up: true}})
		for _, c := range changes {
			p.Note(c)
		}
		changes = nil
		p.Flush()
		step("plan")
		steps["total"] += last - began
		held = heap() - before
		runtime.KeepAlive([]any{writer, watcher, buffer, g, p})
		for _, part := range []struct {
			name string
			drop func()
		}{
			{"planner", func() { p = nil }}, {"calc", func() { g = nil }}, {"watcher", func() { watcher = nil }}, {"writer", func() { writer = nil }},
		} {
			now := heap()
			part.drop()
			b.ReportMetric((now-heap())/1e6, part.name+"-MB")
		}
		runtime.KeepAlive([]any{writer, watcher, buffer, g, p})
	}
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		b.ReportMetric(float64(steps[name].Milliseconds())/float64(b.N), name+"-cpu-ms")
	}
	b.ReportMetric(held/1e6, "held-MB")
	b.ReportMetric(peak/1e6, "peak-MB")
}

// processor is the time that this process has used of all processors.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	return heapNow()
}

func heapNow() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
