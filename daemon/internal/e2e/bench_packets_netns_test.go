// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// flowBatch is how many packets are sent between two forgettings of all
// connections; flowBatches is how many batches there are.
const (
	flowBatch   = 2000
	flowBatches = 25
	flowPort    = 7
)

// BenchmarkNetnsNewFlow is the cost of one packet's whole way through the
// kernel, as the first of its flow and as a later one; at the end each is
// compared with no firewall, and with the first number of policies.
func BenchmarkNetnsNewFlow(b *testing.B) {
	const name = "Cost of one packet that comes in"
	b.Run("packets", func(b *testing.B) {
		inj := netnstest.NewInjector(b, netnstest.InjectorConfig{})
		listenUDP(b, inj.NS)
		for b.Loop() {
			was := *filterFlag
			*filterFlag = "none"
			packetCost(b, name, "no firewall", inj)
			inj.NS.Run("nft", "add table inet tracking; add chain inet tracking in { type filter hook input priority 0; }; add rule inet tracking in ct state established accept")
			packetCost(b, name, "connection tracking alone", inj)
			*filterFlag = was
		}
	})
	onFilters(b, func(b *testing.B) {
		inj := netnstest.NewInjector(b, netnstest.InjectorConfig{})
		listenUDP(b, inj.NS)
		srv := startServer(b)
		for b.Loop() {
			rev := srv.seed(b, append(size{hosts: 1000}.objects(), lastPolicy()))
			a := startAgent(b, inj.NS, srv.etcd(), onFilter(inj)...)
			a.applied(b, rev)
			var objs []api.Object
			for _, text := range strings.Split(*benchLocal, ",") {
				n, err := strconv.Atoi(text)
				if err != nil {
					b.Fatalf("-bench-local %q: want numbers", *benchLocal)
				}
				for len(objs) < n {
					objs = append(objs, benchPolicy(len(objs), "bench == 'local'"))
				}
				a.applied(b, srv.seed(b, objs))
				packetCost(b, name, fmt.Sprintf("%d policies of 5 rules", n), inj)
			}
			a.stop()
		}
	})
	ratios(name, "IPv4 new flow")
	ratios(name, "IPv6 new flow")
	table(b, name)
}

// ratios adds to each case of a benchmark how many times as long a figure is
// as the very first, and as the first of the same packet filter.
func ratios(benchmark, name string) {
	var first figure
	of := map[string]figure{}
	for _, f := range figures { // not those that are added
		if f.Benchmark != benchmark || f.Name != name {
			continue
		}
		if first.Name == "" {
			first = f
		}
		if of[f.Filter].Name == "" {
			of[f.Filter] = f
		}
		word, _, _ := strings.Cut(name, " ")
		figures = append(figures,
			figure{f.Filter, benchmark, f.Case, word + " new flow to no firewall", "times", f.Value / first.Value},
			figure{f.Filter, benchmark, f.Case, word + " new flow to the fewest policies", "times", f.Value / of[f.Filter].Value})
	}
}

// lastPolicy comes after all others and lets the benchmark's packets in.
func lastPolicy() *api.GlobalNetworkPolicy {
	p := probePolicy(flowPort)
	p.Name, p.Spec.Order = "last", ptr(1e5)
	return p
}

// listenUDP makes the host swallow the packets, instead of answering each
// that its port is closed.
func listenUDP(b *testing.B, ns *netnstest.NS) {
	b.Helper()
	ns.MustDo(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		b.Cleanup(func() { unix.Close(fd) })
		return unix.Bind(fd, &unix.SockaddrInet6{Port: flowPort})
	})
}

// packetCost sends packets into the TUN: write(2) returns when the kernel has
// done with the packet.
func packetCost(b *testing.B, name, kase string, inj *netnstest.Injector) {
	b.Helper()
	for _, f := range [][3]string{{"IPv4", "10.1.0.7", "10.1.0.1"}, {"IPv6", "fd01::7", "fd01::1"}} {
		var packets [][]byte
		for i := range flowBatch {
			p := netnstest.Packet{Src: addr(f[1]), Dst: addr(f[2]), Protocol: netnstest.UDP, SrcPort: uint16(2000 + i), DstPort: flowPort}
			packets = append(packets, p.Build(nil, uint64(i)))
		}
		var fresh, known []time.Duration
		send := func() time.Duration {
			began := time.Now()
			for _, p := range packets {
				inj.Arrive("rstun0", p)
			}
			took := time.Since(began) / flowBatch
			inj.Delivered(f[0] == "IPv6", netnstest.UDP, func([]byte) {})
			return took
		}
		for range flowBatches {
			inj.FlushConntrack()
			fresh = append(fresh, send())
			for i := range flowBatch { // an answer makes the flow a known one
				inj.Out("rstun0", netnstest.Packet{Src: addr(f[2]), Dst: addr(f[1]), Protocol: netnstest.UDP, SrcPort: flowPort, DstPort: uint16(2000 + i)})
			}
			known = append(known, send())
		}
		note(b, name, kase, f[0]+" new flow", "ns", float64(percentile(fresh, 50)))
		note(b, name, kase, f[0]+" known flow", "ns", float64(percentile(known, 50)))
	}
	inj.FlushConntrack()
}
