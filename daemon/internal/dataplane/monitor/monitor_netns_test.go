// SPDX-License-Identifier: Apache-2.0

package monitor_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/monitor"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// patience bounds every wait; nothing here takes long.
const patience = 30 * time.Second

// watch runs a Monitor in ns until the test ends.
func watch(t *testing.T, ns *netnstest.NS, cfg monitor.Config) <-chan monitor.Event {
	t.Helper()
	events := make(chan monitor.Event, 10000)
	ctx, cancel := context.WithCancel(context.Background())
	done := ns.Go(func() error {
		return monitor.New(cfg).Run(ctx, func(e monitor.Event) { events <- e })
	})
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if e := next(t, events); !e.Lost {
		t.Fatalf("first event %+v, want one that says Lost", e)
	}
	return events
}

func next(t *testing.T, events <-chan monitor.Event) monitor.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(patience):
		t.Fatal("no event")
		panic("not reached")
	}
}

func TestNetnsMonitor_TellsWhoTouchedOurTable(t *testing.T) {
	ns := netnstest.New(t)
	events := watch(t, ns, monitor.Config{Tables: []monitor.Table{{Family: unix.NFPROTO_INET, Name: "ripstop"}}})
	steps := []struct {
		command string
		touched bool
	}{
		{"add table inet other", false},
		{"add table ip ripstop", false},
		{"add table inet ripstop", true},
		{"add chain inet ripstop c", true},
		{"add rule inet ripstop c accept", true},
		{"add set inet ripstop s { type ipv4_addr; }", true},
		{"add element inet ripstop s { 10.0.0.1 }", true},
		{"add chain inet other c; add rule inet other c accept", false},
		{"flush chain inet ripstop c", true},
		{"delete table inet ripstop", true},
		{"add table inet ripstop", true},
		{"flush ruleset", true},
	}
	last := uint32(0)
	for _, s := range steps {
		ns.Run("nft", s.command)
		e := next(t, events)
		if e.Touched != s.touched || e.Lost || !strings.HasPrefix(e.By, "nft[") {
			t.Errorf("after nft %q: event %+v, want touched %v by nft[pid]", s.command, e, s.touched)
		}
		if last != 0 && e.Generation != last+1 {
			t.Errorf("after nft %q: generation %d, want %d", s.command, e.Generation, last+1)
		}
		last = e.Generation
	}
}

// openFilter makes the contract's state in ns.
func openFilter(t *testing.T, ns *netnstest.NS, cfg nftables.Config) *nftables.Filter {
	t.Helper()
	var f *nftables.Filter
	ns.MustDo(func() (err error) {
		f, err = nftables.New(cfg)
		return err
	})
	t.Cleanup(func() { f.Close() })
	filtertest.WantAll(f, filtertest.DriftState())
	return f
}

func TestNetnsMonitor_IsSilentAboutOurOwn(t *testing.T) {
	ns := netnstest.New(t)
	f := openFilter(t, ns, nftables.Default())
	events := watch(t, ns, monitor.Config{Tables: []monitor.Table{{Family: unix.NFPROTO_INET, Name: "ripstop"}}, Own: f.Port()})
	if _, err := f.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	ns.Run("nft", "add table inet other")
	if e := next(t, events); e.Touched || !strings.HasPrefix(e.By, "nft[") {
		t.Errorf("first event after our own and a foreign change: %+v, want the foreign one", e)
	}
}

// TestNetnsMonitor_RepairsWithinASecond lets another tool damage an unguarded
// table and measures until packets are judged right again.
func TestNetnsMonitor_RepairsWithinASecond(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	var drifts []nftables.Drift
	cfg := nftables.Default()
	cfg.Owner = false
	cfg.OnDrift = func(d nftables.Drift) { drifts = append(drifts, d) }
	f := openFilter(t, inj.NS, cfg)
	if _, err := f.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := watch(t, inj.NS, monitor.Config{Tables: []monitor.Table{{Family: unix.NFPROTO_INET, Name: "ripstop"}}, Own: f.Port()})
	denied := netnstest.Packet{
		Src: netip.MustParseAddr("10.1.0.3"), Dst: netip.MustParseAddr("10.1.0.1"),
		Protocol: netnstest.TCP, SrcPort: 9, DstPort: 80,
	}
	var waits []time.Duration
	for i, damage := range []string{
		"flush ruleset", "delete table inet ripstop", "flush chain inet ripstop rs-in", "insert rule inet ripstop rs-in accept",
	} {
		inj.NS.Run("nft", damage)
		began := time.Now()
		e := next(t, events)
		f.Foreign(e.Generation, e.Touched, e.By)
		if _, err := f.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if inj.In("rstun0", denied) {
			t.Errorf("after nft %q and a repair: a denied packet is accepted", damage)
		}
		waits = append(waits, time.Since(began))
		if len(drifts) != i+1 || !drifts[i].Repaired || !strings.HasPrefix(drifts[i].By, "nft[") || len(drifts[i].What) == 0 {
			t.Fatalf("after nft %q: drifts %+v, want one more, repaired, by nft, with what was altered", damage, drifts)
		}
	}
	t.Logf("from the end of the damage to a right verdict: %v", waits)
}

func TestNetnsMonitor_SaysThatNoticesWereLost(t *testing.T) {
	ns := netnstest.New(t)
	events := make(chan monitor.Event, 100000)
	gate := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := true
	done := ns.Go(func() error {
		return monitor.New(monitor.Config{Tables: []monitor.Table{{Family: unix.NFPROTO_INET, Name: "ripstop"}}}).Run(ctx, func(e monitor.Event) {
			if first {
				first = false
				events <- e
				<-gate // a listener that is slow
				return
			}
			events <- e
		})
	})
	next(t, events)
	f := openFilter(t, ns, nftables.Default()) // its changes count as foreign here
	for i := range 300_000 {
		a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		f.Want(ruleset.ID{Kind: ruleset.KindMember, Name: "s", Elem: ruleset.Element{Net: netip.PrefixFrom(a, 32)}}, ruleset.Member{})
	}
	if _, err := f.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(gate)
	lost := false
	for end := time.After(patience); !lost; {
		select {
		case e := <-events:
			lost = e.Lost && e.Touched
		case <-end:
			t.Fatal("300,000 notices went to a listener that did not listen, and none was reported lost")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNetnsLinks_FollowsInterfaces(t *testing.T) {
	ns := netnstest.New(t)
	pictures := make(chan map[string]intent.Interface, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := ns.Go(func() error {
		return monitor.NewLinks(monitor.LinksConfig{}).Run(ctx, func(m map[string]intent.Interface) { pictures <- m })
	})
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	var last map[string]intent.Interface
	await := func(what string, ok func(m map[string]intent.Interface) bool) {
		t.Helper()
		for end := time.After(patience); ; {
			select {
			case last = <-pictures:
				if ok(last) {
					return
				}
			case <-end:
				t.Fatalf("%s: never told; last %+v", what, last)
			}
		}
	}
	has := func(name, addr string, up bool) func(map[string]intent.Interface) bool {
		return func(m map[string]intent.Interface) bool {
			i, ok := m[name]
			return ok && i.Up == up && (addr == "" || slices.Contains(i.Addrs, netip.MustParseAddr(addr)))
		}
	}
	await("loopback at the start", has("lo", "127.0.0.1", true))
	ns.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	await("a new interface", has("va", "", false))
	ns.Run("ip", "addr", "add", "10.3.0.1/24", "dev", "va")
	await("an address", has("va", "10.3.0.1", false))
	ns.Run("ip", "link", "set", "va", "up")
	await("up", has("va", "10.3.0.1", true))
	ns.Run("ip", "addr", "add", "fd03::1/64", "dev", "va", "nodad")
	await("an IPv6 address", has("va", "fd03::1", true))
	ns.Run("ip", "link", "set", "va", "down")
	await("down", has("va", "", false))
	ns.Run("ip", "link", "set", "va", "name", "vc")
	await("renamed", func(m map[string]intent.Interface) bool {
		_, old := m["va"]
		return !old && has("vc", "", false)(m)
	})
	ns.Run("ip", "link", "del", "vb")
	await("gone", func(m map[string]intent.Interface) bool { return len(m) == 1 })
	for i := range 100 { // a burst
		ns.Run("ip", "link", "add", fmt.Sprintf("x%d", i), "type", "veth", "peer", "name", fmt.Sprintf("y%d", i))
	}
	await("a burst", func(m map[string]intent.Interface) bool { return len(m) == 201 })
}
