// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// BenchmarkNetnsCutRule is what the rule that drops flows that were cut costs
// a packet of a known flow: the same packets with the rule and without it, by
// turns.
func BenchmarkNetnsCutRule(b *testing.B) {
	inj := netnstest.NewInjector(b, netnstest.InjectorConfig{})
	listenUDP(b, inj.NS)
	var f packetFilter
	inj.NS.MustDo(func() (err error) { f, err = openFilter(nftables.Default()); return err })
	defer f.Close()
	s := ruleset.NewState()
	for _, out := range []dataplane.Out{s, f} {
		p := newPlanner(out)
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindSettings}, Value: &intent.Settings{}})
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindProfile, Name: "open"},
			Value: &intent.Profile{Ingress: []intent.Rule{{Action: api.Allow}}, Egress: []intent.Rule{{Action: api.Allow}}}})
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"}, Value: &intent.HostEndpoint{Interface: api.AllInterfaces, Profiles: []string{"open"}}})
		p.Flush()
	}
	without := func(name string) *ruleset.Chain {
		c := *s.Chains[name]
		c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r ruleset.Rule) bool { return r.Match.Cut })
		return &c
	}
	var packets [][]byte
	for i := range flowBatch {
		p := netnstest.Packet{Src: addr("10.1.0.7"), Dst: addr("10.1.0.1"), Protocol: netnstest.UDP, SrcPort: uint16(2000 + i), DstPort: flowPort}
		packets = append(packets, p.Build(nil, uint64(i)))
	}
	var took [2][]time.Duration // without, with
	turn := func(with int) {
		for _, name := range []string{"pre-dnat", "output"} {
			c := s.Chains[name]
			if with == 0 {
				c = without(name)
			}
			f.Want(ruleset.ID{Kind: ruleset.KindChain, Name: name}, c)
		}
		inj.NS.MustDo(func() error { _, err := f.Reconcile(context.Background()); return err })
		for i := range flowBatch { // a packet and an answer make the flow a known one
			inj.Arrive("rstun0", packets[i])
			inj.Out("rstun0", netnstest.Packet{Src: addr("10.1.0.1"), Dst: addr("10.1.0.7"), Protocol: netnstest.UDP, SrcPort: flowPort, DstPort: uint16(2000 + i)})
		}
		for range 10 {
			began := time.Now()
			for _, p := range packets {
				inj.Arrive("rstun0", p)
			}
			took[with] = append(took[with], time.Since(began)/flowBatch)
			inj.Delivered(false, netnstest.UDP, func([]byte) {})
		}
	}
	for b.Loop() {
		turn(0)
		turn(1)
	}
	ns := func(l []time.Duration) float64 { return float64(percentile(l, 25).Nanoseconds()) }
	b.ReportMetric(ns(took[0]), "ns-without")
	b.ReportMetric(ns(took[1]), "ns-with")
	b.ReportMetric(ns(took[1])/ns(took[0]), "ratio")
}
