// SPDX-License-Identifier: Apache-2.0

package route

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/reconcile/reconciletest"
)

// ground is a host in a namespace with interfaces v0 to v3 (v0-v1 and v2-v3
// are pairs), up.
type ground struct {
	*netnstest.NS
	t     *testing.T
	index map[string]int
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{NS: netnstest.New(t), t: t, index: map[string]int{}}
	g.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	g.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	g.Run("ip", "link", "add", "v2", "type", "veth", "peer", "name", "v3")
	for _, name := range []string{"v0", "v1", "v2", "v3"} {
		g.Up(name)
		g.MustDo(func() error {
			i, err := net.InterfaceByName(name)
			if err == nil {
				g.index[name] = i.Index
			}
			return err
		})
	}
	return g
}

func (g *ground) open(cfg Config) *Part {
	g.t.Helper()
	var p *Part
	g.MustDo(func() (err error) {
		p, err = New(cfg)
		return err
	})
	g.t.Cleanup(p.Close)
	return p
}

func (g *ground) route(addr, iface string) (kernel.ID, kernel.Route) {
	return kernel.ID{Kind: kernel.KindRoute, Addr: netip.MustParseAddr(addr)}, kernel.Route{Index: g.index[iface], Iface: iface}
}

func (g *ground) guard(iface string) (kernel.ID, kernel.Guard) {
	return kernel.ID{Kind: kernel.KindGuard, Index: g.index[iface]}, kernel.Guard{Iface: iface}
}

// ours are the routes of Ripstop, a line each, sorted.
func (g *ground) ours() string {
	out := g.Run("ip", "-4", "route", "show", "table", "all", "proto", "82") + g.Run("ip", "-6", "route", "show", "table", "all", "proto", "82")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(strings.Replace(lines[i], " pref medium", "", 1)), " ")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func pass(t *testing.T, p *Part) time.Duration {
	t.Helper()
	again, err := p.Reconcile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// TestNetnsRoute_RoutesOfOthersGoAfterTheGrace: S181, on a guarded interface
// and nowhere else.
func TestNetnsRoute_RoutesOfOthersGoAfterTheGrace(t *testing.T) {
	g := newGround(t)
	clock := host.NewFakeClock(time.Unix(1e9, 0))
	var drift []string
	p := g.open(Config{Clock: clock, OnDrift: func(what []string, _ string) { drift = append(drift, what...) }})
	g.Run("ip", "addr", "add", "192.0.2.1/24", "dev", "v0")
	for _, dev := range []string{"v0", "v2"} {
		g.Run("ip", "route", "add", "10.1.0.0/16", "dev", dev, "metric", "7"+dev[1:])
		g.Run("ip", "-6", "route", "add", "fd01::/64", "dev", dev, "metric", "7"+dev[1:])
	}
	g.Run("ip", "route", "add", "10.65.0.1/32", "dev", "v0", "metric", "1024") // in the way of ours
	g.Run("ip", "route", "add", "10.5.0.0/16", "via", "192.0.2.9", "tos", "0x10")
	before := func(dev string) string {
		return g.Run("ip", "route", "show", "dev", dev) + g.Run("ip", "-6", "route", "show", "dev", dev)
	}
	other := before("v2")
	p.Want(g.route("10.65.0.1", "v0"))
	p.Want(g.guard("v0"))
	if again := pass(t, p); again <= 0 || again > grace {
		t.Errorf("first pass wants another after %v, want within %v", again, grace)
	}
	if got := before("v0"); !strings.Contains(got, "10.1.0.0/16") {
		t.Errorf("within the grace a route of another is gone:\n%s", got)
	}
	clock.Advance(grace)
	if again := pass(t, p); again != 0 {
		t.Errorf("pass after the grace wants another after %v", again)
	}
	got := before("v0")
	for _, gone := range []string{"10.1.0.0/16", "fd01::/64", "10.5.0.0/16"} {
		if strings.Contains(got, gone) {
			t.Errorf("after the grace %s is left:\n%s", gone, got)
		}
	}
	for _, kept := range []string{"192.0.2.0/24", "fe80::/64", "10.65.0.1 proto 82 scope link metric 1024"} {
		if !strings.Contains(got, kept) {
			t.Errorf("after the grace %s is not there:\n%s", kept, got)
		}
	}
	if got := before("v2"); got != other {
		t.Errorf("routes of an unguarded interface:\n%s\nwant:\n%s", got, other)
	}
	if len(drift) != 4 {
		t.Errorf("told %q, want the four routes", drift)
	}
	// A newcomer goes at once, and not any more when the guard is gone.
	p.Noticed(kernel.Notice{Subject: kernel.RouteChanged, Index: g.index["v0"], Protocol: unix.RTPROT_BOOT})
	g.Run("ip", "route", "add", "10.2.0.0/16", "dev", "v0")
	p.Resync()
	pass(t, p)
	id, _ := g.guard("v0")
	p.Unwant(id)
	g.Run("ip", "route", "add", "10.3.0.0/16", "dev", "v0")
	p.Resync()
	pass(t, p)
	if got := before("v0"); strings.Contains(got, "10.2.0.0/16") || !strings.Contains(got, "10.3.0.0/16") {
		t.Errorf("a newcomer is left, or one that came after the guard is gone:\n%s", got)
	}
}

// TestNetnsRoute_KilledAtAnyWrite heals, and leaves strangers alone.
func TestNetnsRoute_KilledAtAnyWrite(t *testing.T) {
	g := newGround(t)
	const mine = `10.65.0.1 dev v0 scope link metric 1024
10.65.0.2 dev v2 scope link metric 1024
fd65::1 dev v0 metric 1024
local 169.254.1.1 dev lo table local scope host metric 1024`
	g.Run("ip", "route", "add", "10.1.0.0/16", "dev", "v0")
	kills := reconciletest.Crash(t, reconciletest.Subject[*ground]{
		World: func() *ground {
			g.Run("ip", "route", "flush", "table", "all", "proto", "82")
			g.Run("ip", "-6", "route", "flush", "table", "all", "proto", "82")
			for _, r := range []string{ // yesterday's
				"10.65.0.1/32 dev v2 scope link", "10.65.0.9/32 dev v0 scope link", "10.65.0.2/32 dev v2 scope link",
			} {
				g.Run("ip", append([]string{"route", "add"}, strings.Fields(r+" metric 1024 proto 82")...)...)
			}
			return g
		},
		Open: func(g *ground, k *reconciletest.Killer) reconcile.Part {
			var d *door
			g.MustDo(func() (err error) {
				d, err = open()
				return err
			})
			t.Cleanup(d.Close)
			p := with(Config{}, &watched{door: d, wrote: k.Write})
			p.Want(g.route("10.65.0.1", "v0"))
			p.Want(g.route("10.65.0.2", "v2"))
			p.Want(g.route("fd65::1", "v0"))
			p.Want(kernel.ID{Kind: kernel.KindLocal, Addr: kernel.Gateway}, kernel.Local{})
			return p
		},
		Check: func(g *ground) error {
			if got := g.ours(); got != mine {
				return fmt.Errorf("routes:\n%s\nwant:\n%s", got, mine)
			}
			return nil
		},
		Safe: func(g *ground) error {
			if out := g.Run("ip", "route"); !strings.Contains(out, "10.1.0.0/16") {
				return errors.New("a stranger's route is gone")
			}
			if out := g.Run("ip", "route", "get", "10.65.0.2"); !strings.Contains(out, "dev v2") {
				return errors.New("a route that is wanted before and after is gone")
			}
			return nil
		},
	})
	if kills < 5 {
		t.Errorf("killed %d times, want at least at each of 2 deletions and 3 additions", kills)
	}
}

// watched is a door that tells of each write.
type watched struct {
	*door
	wrote func()
}

func (w *watched) add(e entry) error { return w.then(w.door.add(e)) }
func (w *watched) del(e entry) error { return w.then(w.door.del(e)) }
func (w *watched) then(err error) error {
	if err == nil {
		w.wrote()
	}
	return err
}

// TestNetnsRoute_AnyHistoryEndsAsWanted tells the Part stories of every kind.
func TestNetnsRoute_AnyHistoryEndsAsWanted(t *testing.T) {
	g := newGround(t)
	keys := []kernel.ID{}
	for _, a := range []string{"10.65.0.1", "10.65.0.2", "fd65::1", "fd65::2"} {
		keys = append(keys, kernel.ID{Kind: kernel.KindRoute, Addr: netip.MustParseAddr(a)})
	}
	var values []kernel.Object
	for _, dev := range []string{"v0", "v1", "v2"} {
		values = append(values, kernel.Route{Index: g.index[dev], Iface: dev})
	}
	for seed := range uint64(20) {
		var last *Part
		reconciletest.Orders(t, rand.New(rand.NewPCG(seed, 1)), 60, keys, values,
			func() reconciletest.Wanted[kernel.ID, kernel.Object] {
				if last != nil {
					last.Close()
				}
				g.MustDo(func() (err error) {
					last, err = New(Config{})
					return err
				})
				return last
			},
			func(final map[kernel.ID]kernel.Object) error {
				var want []string
				for id, o := range final {
					dev := o.(kernel.Route).Iface
					line := fmt.Sprintf("%s dev %s scope link metric 1024", id.Addr, dev)
					if id.Addr.Is6() {
						line = strings.Replace(line, " scope link", "", 1)
					}
					want = append(want, line)
				}
				slices.Sort(want)
				if diff := cmp.Diff(strings.Join(want, "\n"), g.ours()); diff != "" {
					return fmt.Errorf("seed %d: routes (-want +got):\n%s", seed, diff)
				}
				return nil
			})
		last.Close()
	}
}

// TestNetnsRoute_FlapThatNobodyElseHasSeen: the kernel removes the routes of an
// interface that goes down and does not say so for IPv4. They are back, and it
// is nobody's meddling.
func TestNetnsRoute_FlapThatNobodyElseHasSeen(t *testing.T) {
	g := newGround(t)
	var drift []string
	p := g.open(Config{OnDrift: func(what []string, _ string) { drift = append(drift, what...) }})
	p.Want(g.route("10.65.0.1", "v0"))
	p.Want(g.route("fd65::1", "v0"))
	pass(t, p)
	want := g.ours()
	for _, n := range []kernel.Notice{
		{Subject: kernel.LinkChanged, Index: g.index["v0"], Down: true},
		{Subject: kernel.RouteChanged, Index: g.index["v0"], Protocol: kernel.Protocol, Itself: true},
	} {
		g.Run("ip", "link", "set", "v0", "down")
		g.Run("ip", "link", "set", "v0", "up")
		if !p.Noticed(n) {
			t.Errorf("%+v does not concern the part", n)
		}
		p.Resync()
		pass(t, p)
		if got := g.ours(); got != want {
			t.Errorf("routes after a flap:\n%s\nwant:\n%s", got, want)
		}
	}
	if len(drift) > 0 {
		t.Errorf("told as somebody's doing: %q", drift)
	}
	if p.Noticed(kernel.Notice{Subject: kernel.LinkChanged, Index: g.index["v2"], Down: true}) {
		t.Error("an interface without a route of ours concerns the part")
	}
	g.Run("ip", "link", "set", "v0", "down")
	p.Resync()
	if again := pass(t, p); again != downRetry {
		t.Errorf("interface is down: another pass after %v, want %v", again, downRetry)
	}
}

// TestPart_NoticesMayComeAfterTheRepair: what another notice made us see first
// is told when it is known whose doing it was.
func TestPart_NoticesMayComeAfterTheRepair(t *testing.T) {
	k := &fake{have: map[entry]struct{}{}}
	var drift []string
	p := with(Config{OnDrift: func(what []string, by string) { drift = append(drift, append(what, by)...) }}, k)
	p.Want(kernel.ID{Kind: kernel.KindRoute, Addr: netip.MustParseAddr("10.65.0.1")}, kernel.Route{Index: 5, Iface: "v0"})
	pass(t, p)
	for _, c := range []struct {
		n    kernel.Notice
		want int
	}{
		{kernel.Notice{Subject: kernel.LinkChanged, Index: 5, Down: true}, 0},
		{kernel.Notice{Subject: kernel.RouteChanged, Index: 5, Protocol: kernel.Protocol, Itself: true}, 0},
		{kernel.Notice{Subject: kernel.RouteChanged, Index: 5, Protocol: kernel.Protocol, By: "ip[7]"}, 2},
	} {
		clear(k.have)
		p.Resync()
		pass(t, p)
		if len(k.have) != 1 || len(drift) > 0 {
			t.Errorf("before the notice: %d routes, told %q; want 1, and nothing", len(k.have), drift)
		}
		p.Noticed(c.n)
		p.Resync()
		pass(t, p)
		// What is settled is not told when somebody does something later.
		p.Noticed(kernel.Notice{Subject: kernel.RouteChanged, Index: 5, Protocol: kernel.Protocol})
		p.Resync()
		pass(t, p)
		if len(drift) != c.want {
			t.Errorf("after %+v: told %q, want %d texts", c.n, drift, c.want)
		}
	}
}

// TestNetnsRoute_PreferredSource: a route waits, with an error that says why,
// until the host has the address, and follows it when it goes and comes.
func TestNetnsRoute_PreferredSource(t *testing.T) {
	g := newGround(t)
	p := g.open(Config{})
	for addr, source := range map[string]string{"10.65.0.1": "192.0.2.1", "fd65::1": "2001:db8::1"} {
		id, r := g.route(addr, "v0")
		r.Source = netip.MustParseAddr(source)
		p.Want(id, r)
	}
	missing := func() {
		t.Helper()
		if _, err := p.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "no address 192.0.2.1") || !strings.Contains(err.Error(), "no address 2001:db8::1") {
			t.Errorf("the host has not the addresses: error %v", err)
		}
	}
	missing()
	for range 2 {
		g.Up("v2", "192.0.2.1/24", "2001:db8::1/64")
		for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
			if !p.Noticed(kernel.Notice{Subject: kernel.AddressChanged, Addr: netip.MustParseAddr(a)}) {
				t.Errorf("a change of the source %s does not concern the part", a)
			}
		}
		p.Resync()
		pass(t, p)
		if got := g.ours(); !strings.Contains(got, "10.65.0.1 dev v0 scope link src 192.0.2.1") || !strings.Contains(got, "fd65::1 dev v0 src 2001:db8::1") {
			t.Errorf("routes:\n%s", got)
		}
		pass(t, p)
		g.Run("ip", "addr", "flush", "dev", "v2")
		p.Resync()
		missing()
	}
}

// TestNetnsRoute_NoIPv6OnTheInterface is told in words, and IPv4 is served.
func TestNetnsRoute_NoIPv6OnTheInterface(t *testing.T) {
	g := newGround(t)
	g.Sysctl("net/ipv6/conf/v0/disable_ipv6", "1")
	p := g.open(Config{})
	p.Want(g.route("10.65.0.1", "v0"))
	p.Want(g.route("fd65::1", "v0"))
	if _, err := p.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "IPv6 is turned off") {
		t.Errorf("error %v", err)
	}
	if got := g.ours(); got != "10.65.0.1 dev v0 scope link metric 1024" {
		t.Errorf("routes:\n%s", got)
	}
}

// fake is a kernel whose flows cannot be deleted.
type fake struct {
	have map[entry]struct{}
	fail error
	did  []string
}

func (f *fake) list(family int, table uint32, protocol uint8, each func(entry)) error {
	for e := range maps.Clone(f.have) {
		if e.dst.Addr().Is4() == (family == unix.AF_INET) && (table == 0 || table == e.table) && (protocol == 0 || protocol == e.protocol) {
			each(e)
		}
	}
	return nil
}

func (f *fake) add(e entry) error {
	f.did = append(f.did, "add "+e.dst.Addr().String())
	f.have[e] = struct{}{}
	return nil
}

func (f *fake) del(e entry) error {
	f.did = append(f.did, "del "+e.dst.Addr().String())
	delete(f.have, e)
	return nil
}

func (f *fake) cut(addrs map[netip.Addr]bool) (uint, error) {
	var list []string
	for a := range addrs {
		list = append(list, a.String())
	}
	slices.Sort(list)
	f.did = append(f.did, "cut "+strings.Join(list, " "))
	return 0, f.fail
}

// TestPart_AddressWithOldFlowsIsLedNowhere: while flows of the address that
// has moved cannot be deleted, it has no route; others are served.
func TestPart_AddressWithOldFlowsIsLedNowhere(t *testing.T) {
	k := &fake{have: map[entry]struct{}{}}
	p := with(Config{}, k)
	a := kernel.ID{Kind: kernel.KindRoute, Addr: netip.MustParseAddr("10.65.0.1")}
	steps := func(want ...string) {
		t.Helper()
		_, err := p.Reconcile(context.Background())
		if (err == nil) != (k.fail == nil) {
			t.Errorf("pass: error %v, want one if flows cannot be deleted (%v)", err, k.fail)
		}
		if diff := cmp.Diff(want, k.did); diff != "" {
			t.Errorf("pass (-want +got):\n%s", diff)
		}
		k.did = nil
	}
	p.Want(a, kernel.Route{Index: 5})
	steps("cut 10.65.0.1", "add 10.65.0.1")
	k.fail = errors.New("no memory")
	p.Want(a, kernel.Route{Index: 6})
	steps("del 10.65.0.1", "cut 10.65.0.1")
	steps("cut 10.65.0.1")
	k.fail = nil
	steps("cut 10.65.0.1", "add 10.65.0.1")
	steps()
	p.Want(a, kernel.Route{Index: 6, Iface: "renamed"})
	steps()
	clear(k.have) // with its interface, or by somebody: no flow is cut
	p.Resync()
	steps("add 10.65.0.1")
	clear(k.have) // with its interface, before the endpoint goes
	p.Unwant(a)
	p.Resync()
	steps("cut 10.65.0.1")
	steps()
}

// TestPart_FightsSlowly: who keeps deleting a route is not answered faster
// than once a second after five times.
func TestPart_FightsSlowly(t *testing.T) {
	k := &fake{have: map[entry]struct{}{}}
	clock := host.NewFakeClock(time.Unix(1e9, 0))
	told := 0
	p := with(Config{Clock: clock, OnDrift: func([]string, string) { told++ }}, k)
	p.Want(kernel.ID{Kind: kernel.KindRoute, Addr: netip.MustParseAddr("10.65.0.1")}, kernel.Route{Index: 5})
	pass(t, p)
	meddle := kernel.Notice{Subject: kernel.RouteChanged, Index: 5, Protocol: kernel.Protocol}
	for range 100 {
		clear(k.have)
		p.Noticed(meddle)
		p.Resync()
		pass(t, p)
	}
	if told != 5 {
		t.Errorf("repaired %d times at once, want 5", told)
	}
	clear(k.have)
	p.Noticed(meddle)
	p.Resync()
	if again := pass(t, p); again <= 0 || again > time.Second {
		t.Errorf("asks for another pass after %v, want within a second", again)
	}
	clock.Advance(time.Second)
	pass(t, p) // it has seen all that there is to see
	p.Noticed(meddle)
	p.Resync()
	pass(t, p)
	if told != 6 || len(k.have) != 1 {
		t.Errorf("a second later repaired %d times, %d routes there, want 6 and 1", told, len(k.have))
	}
}
