// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"sync"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var pictures = flag.Int("flip-pictures", 400, "how many pictures TestNetnsFlip puts in force under packets")

// TestNetnsFlip_PacketsUnderWayAreJudgedByOneOfTwoPictures: pictures follow one
// another as fast as the packet filter takes them, while packets pass, so that
// many are under way when the kernel goes from one to the next.
func TestNetnsFlip_PacketsUnderWayAreJudgedByOneOfTwoPictures(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{Interfaces: trafficInterfaces})
	inj.NS.Run("sh", "-c", publishedBy(*filterFlag))
	inj.NS.Run("ip", "route", "add", "10.3.0.2", "dev", "cali1")
	inj.NS.Run("ip", "route", "add", "10.0.0.2", "dev", "cali2")
	inj.NS.Run("ip", "route", "add", "fd03::2", "dev", "cali1")
	inj.NS.Run("ip", "route", "add", "fd00::2", "dev", "cali2")
	var f packetFilter
	inj.NS.MustDo(func() (err error) { f, err = openFilter(nftables.Default()); return err })
	defer f.Close()
	g := calc.New(calc.Config{Host: here, Settings: intent.Settings{
		FailsafeInbound: failsafeIn, FailsafeOutbound: failsafeOut, WorkloadPrefixes: []string{"cali"},
	}})
	p := newPlanner(f)
	for _, i := range trafficInterfaces {
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: i.Name}, Value: &intent.Interface{Up: true}})
	}
	have := map[api.Key]bool{}
	show := func(text string) {
		docs, err := api.DecodeAll([]byte(text), "flip")
		if err != nil {
			t.Error(err)
			return
		}
		for k := range have {
			have[k] = false
		}
		for _, d := range docs {
			d.Object.Default()
			have[d.Object.Key()] = true
			g.Note(api.Event{Key: d.Object.Key(), Object: d.Object, Revision: 1})
		}
		for k, there := range have {
			if !there {
				g.Note(api.Event{Key: k, Revision: 1})
				delete(have, k)
			}
		}
		g.Flush(p.Note)
		p.Flush()
		if err := inj.NS.Do(func() error { _, err := f.Reconcile(context.Background()); return err }); err != nil {
			t.Error(err)
		}
	}
	picture := func(n int) string {
		return tierDefault + "---" + trafficEndpoints + "---\n" + chaosPolicies(n) + trafficPolicies(n)
	}
	show(picture(0))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for n := range *pictures {
			show(picture(n + 1))
		}
	})
	s, tr := &streams{inj: inj, remembers: true}, newTraffic(t, inj, rulesText())
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
			s.burst(8)
			tr.burst(2)
		}
	}
	wg.Wait()
	s.check(t)
	tr.check(t)
	t.Logf("%d pictures, %d packets of the host and %d others, %d wrong", *pictures, s.sent, tr.sent, s.admitted+s.cut+tr.admitted+tr.cut)
}
