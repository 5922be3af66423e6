// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/store"
)

// These benchmarks time the programs, not functions: each sets up a server, a
// host and its fleet, measures a fixed number of times (see the flags) and
// prints a table. Run them with -benchtime 1x; docs/reference/benchmarks.md
// tells how to read the tables.

// probePause is the time between two probes while one waits for a change: a
// probe that spins would take half of a small machine away from the programs.
const probePause = 100 * time.Microsecond

// probePolicy comes before all others and lets one UDP port in.
func probePolicy(port uint16) *api.GlobalNetworkPolicy {
	p := &api.GlobalNetworkPolicy{
		TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "probe"},
	}
	p.Spec.Order, p.Spec.Selector, p.Spec.Types = ptr(1.0), "bench == 'local'", []api.PolicyType{api.Ingress}
	p.Spec.Ingress = []api.Rule{{
		Action: api.Allow, Protocol: &api.Protocol{Name: "UDP"},
		Destination: api.EntityRule{Ports: []api.Port{api.SinglePort(port)}},
	}}
	p.Default()
	return p
}

// prober sends packets of new flows to this host.
type prober struct {
	inj  *netnstest.Injector
	port uint16
}

func (p *prober) admitted(to uint16) bool {
	p.port = max(p.port+1, 1024)
	return p.inj.In("rstun0", netnstest.Packet{
		Src: addr("10.1.0.7"), Dst: addr("10.1.0.1"), Protocol: netnstest.UDP, SrcPort: p.port, DstPort: to,
	})
}

// until probes until packets to a port fare as wanted, a minute at the most.
func (p *prober) until(b *testing.B, to uint16, want bool) {
	b.Helper()
	pause := unix.NsecToTimespec(int64(probePause)) // time.Sleep takes a millisecond at the least
	for deadline := time.Now().Add(time.Minute); p.admitted(to) != want; unix.Nanosleep(&pause, nil) {
		if b.Failed() {
			b.FailNow()
		}
		if time.Now().After(deadline) {
			b.Fatalf("packets to port %d: admitted=%v for a minute, want %v", to, !want, want)
		}
	}
}

// onFilter are the flags of an agent that is to use the packet filter of
// -filter. Of the variants of iptables an agent takes the one that is in use.
func onFilter(inj *netnstest.Injector) []string {
	if *filterFlag == "nftables" {
		return []string{"--dataplane", "nftables"}
	}
	inj.NS.Run("sh", "-c", publishedBy(*filterFlag))
	return []string{"--dataplane", "iptables"}
}

// BenchmarkNetnsIdle is the memory of a host with an endpoint and no policy.
func BenchmarkNetnsIdle(b *testing.B) {
	const name = "Memory of one host without policy"
	b.Run("nftables", func(b *testing.B) {
		inj := netnstest.NewInjector(b, netnstest.InjectorConfig{})
		srv := startServer(b)
		rev := srv.seed(b, size{hosts: 1}.objects())
		a := startAgent(b, inj.NS, srv.etcd(), onFilter(inj)...)
		a.applied(b, rev)
		for b.Loop() {
			time.Sleep(*benchSettle)
			reportMemory(b, name, "1 host, no policy", srv, a)
		}
	})
	table(b, name)
}

func reportMemory(b *testing.B, benchmark, kase string, srv *server, a *agent) {
	for _, p := range []struct {
		name string
		pid  int
	}{{"ripstopd", a.cmd.Process.Pid}, {"ripstop-server", srv.cmd.Process.Pid}, {"store", srv.storeProcess(b)}} {
		now, most := memory(b, p.pid)
		note(b, benchmark, kase, p.name, "MB", now)
		note(b, benchmark, kase, p.name+" peak", "MB", most)
	}
}

// BenchmarkNetnsFleet times, on each packet filter and for each size, cold
// starts, restarts and policy writes, and reads the programs' memory after
// that.
func BenchmarkNetnsFleet(b *testing.B) {
	const (
		starts = "From the start of ripstopd to enforcement"
		writes = "From a policy's write to the first packet that obeys"
		rss    = "Memory of a fleet's programs"
		maps   = "What policy is compiled to"
	)
	onFilters(b, func(b *testing.B) {
		sizes := *benchSizes
		if *filterFlag != "nftables" {
			sizes = *benchIPTables
		}
		for _, s := range parseSizes(b, sizes) {
			b.Run(fmt.Sprintf("hosts=%d/policies=%d", s.hosts, s.policies), func(b *testing.B) {
				inj := netnstest.NewInjector(b, netnstest.InjectorConfig{})
				srv := startServer(b)
				rev := srv.seed(b, append(s.objects(), probePolicy(1)))
				for b.Loop() {
					a := benchStartsOf(b, starts, s, srv, inj, rev)
					a.live(b)
					benchWritesOf(b, writes, s, srv, inj)
					time.Sleep(*benchSettle)
					reportMemory(b, rss, s.String(), srv, a)
					reportMaps(b, maps, s.String(), a)
					a.stop()
				}
			})
		}
	})
	for _, name := range []string{starts, writes, rss, maps} {
		table(b, name)
	}
}

// live waits until the agent has the store's picture from the store.
func (a *agent) live(b *testing.B) {
	b.Helper()
	eventually(b, "the agent is live", func() error {
		hs, err := a.status()
		if err == nil && (hs.Status.Datastore.Phase != "InSync" || hs.Status.Datastore.Source != "live") {
			err = fmt.Errorf("%s from %s", hs.Status.Datastore.Phase, hs.Status.Datastore.Source)
		}
		return err
	})
}

// reportMaps notes what the kernel holds for this host's policy: rules and
// members of sets, and where policy is compiled, how large the programs are
// that its endpoints share.
func reportMaps(b *testing.B, benchmark, kase string, a *agent) {
	hs, err := a.status()
	if err != nil {
		b.Fatal(err)
	}
	d := hs.Status.Dataplane
	note(b, benchmark, kase, "rules", "", float64(d.Rules))
	note(b, benchmark, kase, "members of sets", "", float64(d.Members))
	var all api.Enforced
	seen := map[string]bool{}
	for _, e := range hs.Status.Endpoints {
		for _, u := range e.Enforced {
			if u.Why != "" {
				b.Logf("%s: %s is not compiled: %s", kase, u.Chain, u.Why)
			}
			if u.Program == "" || seen[u.Program] {
				continue
			}
			seen[u.Program] = true
			all.Classes, all.Peers, all.Lists, all.Entries, all.Bytes = all.Classes+u.Classes, all.Peers+u.Peers, all.Lists+u.Lists, all.Entries+u.Entries, all.Bytes+u.Bytes
		}
	}
	if len(seen) == 0 {
		return
	}
	note(b, benchmark, kase, "classes", "", float64(all.Classes))
	note(b, benchmark, kase, "peers", "", float64(all.Peers))
	note(b, benchmark, kase, "chains of rules", "", float64(all.Lists))
	note(b, benchmark, kase, "entries of ports", "", float64(all.Entries))
	note(b, benchmark, kase, "maps", "MB", float64(all.Bytes)/1e6)
}

// benchStartsOf starts agents on a bare host and on one that has rules and a
// snapshot, and leaves the last one running.
func benchStartsOf(b *testing.B, name string, s size, srv *server, inj *netnstest.Injector, rev api.Revision) *agent {
	const closed = 9
	p := &prober{inj: inj}
	var enforced, applied, restarted []time.Duration
	var a *agent
	for i := range *benchStarts {
		if i > 0 {
			a.stop()
			inj.NS.Run(binary(b, "ripstopd"), "--cleanup", "--node", here, "--run-dir", a.dir+"/run", "--state-dir", a.dir+"/state", "--metrics-address", "")
			inj.FlushConntrack()
		}
		p.until(b, closed, true)
		a = &agent{dir: shortDir(b), ns: inj.NS, etcd: srv.etcd(), args: onFilter(inj)}
		began := time.Now()
		a.run(b)
		p.until(b, closed, false)
		enforced = append(enforced, time.Since(began))
		a.applied(b, rev)
		applied = append(applied, time.Since(began))
	}
	for range *benchStarts {
		a.stop()
		began := time.Now()
		a.run(b)
		a.applied(b, rev)
		restarted = append(restarted, time.Since(began))
	}
	note(b, name, s.String(), "first packet obeys p50", "ms", ms(percentile(enforced, 50)))
	note(b, name, s.String(), "worst", "ms", ms(percentile(enforced, 100)))
	note(b, name, s.String(), "revision applied p50", "ms", ms(percentile(applied, 50)))
	note(b, name, s.String(), "restart to applied p50", "ms", ms(percentile(restarted, 50)))
	return a
}

// benchWritesOf changes one policy again and again, through the REST API, and
// waits each time for a packet that the new version lets in.
func benchWritesOf(b *testing.B, name string, s size, srv *server, inj *netnstest.Injector) {
	p := &prober{inj: inj}
	var answered, obeyed []time.Duration
	for n := range *benchWrites {
		port := uint16(20000 + n%2000)
		policy := probePolicy(port)
		var took time.Duration
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if _, err := srv.store.Put(ctx, policy, store.Always()); err != nil {
				b.Errorf("writing %s: %v", policy.Key(), err)
			}
			took = time.Since(began)
		})
		p.until(b, port, true)
		obeyed = append(obeyed, time.Since(began))
		wg.Wait()
		answered = append(answered, took)
		if n%20 == 0 {
			inj.FlushConntrack()
		}
	}
	note(b, name, s.String(), "answered p50", "ms", ms(percentile(answered, 50)))
	note(b, name, s.String(), "obeyed p50", "ms", ms(percentile(obeyed, 50)))
	note(b, name, s.String(), "obeyed p99", "ms", ms(percentile(obeyed, 99)))
	note(b, name, s.String(), "worst", "ms", ms(percentile(obeyed, 100)))
}
