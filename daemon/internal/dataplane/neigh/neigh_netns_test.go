// SPDX-License-Identifier: Apache-2.0

package neigh

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/reconcile/reconciletest"
)

// ground is a host in a namespace with a pair of interfaces, v0 and v1, up.
type ground struct {
	*netnstest.NS
	index map[string]int
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{NS: netnstest.New(t), index: map[string]int{}}
	g.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	for _, name := range []string{"v0", "v1"} {
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

func (g *ground) id(addr, iface string) kernel.ID {
	return kernel.ID{Kind: kernel.KindNeighbour, Addr: netip.MustParseAddr(addr), Index: g.index[iface]}
}

func (g *ground) permanent() string {
	lines := strings.Split(strings.TrimSpace(g.Run("ip", "neigh", "show", "nud", "permanent")), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func mac(last byte) kernel.Neighbour { return kernel.Neighbour{MAC: [6]byte{2, 0, 0, 0, 0, last}} }

// watched is a door that tells of each write.
type watched struct {
	*door
	wrote func()
}

func (w *watched) put(p place, m [6]byte, protocol uint8) error {
	return w.then(w.door.put(p, m, protocol))
}
func (w *watched) del(p place) error { return w.then(w.door.del(p)) }
func (w *watched) then(err error) error {
	if err == nil {
		w.wrote()
	}
	return err
}

func (g *ground) open(t *testing.T, wrote func()) *Part {
	var d *door
	g.MustDo(func() (err error) {
		d, err = open()
		return err
	})
	t.Cleanup(d.Close)
	return with(Config{}, &watched{d, wrote})
}

// TestNetnsNeigh_KilledAtAnyWrite heals; yesterday's entries go, and those of
// others stay.
func TestNetnsNeigh_KilledAtAnyWrite(t *testing.T) {
	g := newGround(t)
	const want = `10.65.0.1 dev v0 lladdr 02:00:00:00:00:01 PERMANENT proto 82
10.9.9.9 dev v0 lladdr 02:00:00:00:00:99 PERMANENT
fd65::1 dev v0 lladdr 02:00:00:00:00:01 PERMANENT proto 82`
	kills := reconciletest.Crash(t, reconciletest.Subject[*ground]{
		World: func() *ground {
			g.Run("ip", "neigh", "flush", "all", "nud", "permanent")
			g.Run("ip", "neigh", "add", "10.9.9.9", "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "v0")
			g.Run("ip", "neigh", "add", "10.65.0.8", "lladdr", "02:00:00:00:00:08", "nud", "permanent", "dev", "v0", "protocol", "82")
			g.Run("ip", "neigh", "add", "10.65.0.1", "lladdr", "02:00:00:00:00:07", "nud", "permanent", "dev", "v0", "protocol", "82")
			return g
		},
		Open: func(g *ground, k *reconciletest.Killer) reconcile.Part {
			p := g.open(t, k.Write)
			p.Want(g.id("10.65.0.1", "v0"), mac(1))
			p.Want(g.id("fd65::1", "v0"), mac(1))
			return p
		},
		Check: func(g *ground) error {
			if got := g.permanent(); got != want {
				return fmt.Errorf("entries:\n%s\nwant:\n%s", got, want)
			}
			return nil
		},
	})
	if kills != 3 {
		t.Errorf("killed %d times, want at each of 3 writes", kills)
	}
	p := g.open(t, func() {})
	if n, err := p.Cleanup(); n != 2 || err != nil {
		t.Errorf("cleanup removed %d entries (%v), want 2", n, err)
	}
	if got := g.permanent(); got != "10.9.9.9 dev v0 lladdr 02:00:00:00:00:99 PERMANENT" {
		t.Errorf("after cleanup:\n%s", got)
	}
}

// TestNetnsNeigh_AnyHistoryEndsAsWanted tells the Part stories of every kind.
func TestNetnsNeigh_AnyHistoryEndsAsWanted(t *testing.T) {
	g := newGround(t)
	keys := []kernel.ID{g.id("10.65.0.1", "v0"), g.id("10.65.0.1", "v1"), g.id("fd65::1", "v0"), g.id("fd65::2", "v1")}
	values := []kernel.Object{mac(1), mac(2)}
	for seed := range uint64(20) {
		reconciletest.Orders(t, rand.New(rand.NewPCG(seed, 1)), 60, keys, values,
			func() reconciletest.Wanted[kernel.ID, kernel.Object] { return g.open(t, func() {}) },
			func(final map[kernel.ID]kernel.Object) error {
				var want []string
				for id, o := range final {
					dev := "v0"
					if id.Index == g.index["v1"] {
						dev = "v1"
					}
					m := o.(kernel.Neighbour).MAC
					want = append(want, fmt.Sprintf("%s dev %s lladdr %s PERMANENT proto 82", id.Addr, dev, net.HardwareAddr(m[:])))
				}
				slices.Sort(want)
				if got := g.permanent(); got != strings.Join(want, "\n") {
					return fmt.Errorf("seed %d: entries:\n%s\nwant:\n%s", seed, got, strings.Join(want, "\n"))
				}
				return nil
			})
	}
}

// TestNetnsNeigh_FlapThatNobodyElseHasSeen: the kernel empties the table of an
// interface that goes down. The entries are back, and it is nobody's meddling;
// what is somebody's is told.
func TestNetnsNeigh_FlapThatNobodyElseHasSeen(t *testing.T) {
	g := newGround(t)
	var drift []string
	p := g.open(t, func() {})
	p.cfg.OnDrift = func(what []string, by string) { drift = append(drift, append(what, by)...) }
	n := mac(1)
	n.Iface = "v0"
	p.Want(g.id("10.65.0.1", "v0"), n)
	pass := func() {
		t.Helper()
		p.Resync()
		if _, err := p.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := g.permanent(); !strings.Contains(got, "10.65.0.1 dev v0 lladdr 02:00:00:00:00:01") {
			t.Errorf("entries:\n%s", got)
		}
	}
	pass()
	g.Run("ip", "link", "set", "v0", "down")
	g.Run("ip", "link", "set", "v0", "up")
	if !p.Noticed(kernel.Notice{Subject: kernel.LinkChanged, Index: g.index["v0"], Down: true}) {
		t.Error("a flap does not concern the part")
	}
	pass()
	p.Noticed(kernel.Notice{Subject: kernel.NeighbourChanged, Index: g.index["v0"]}) // of something else
	pass()
	if len(drift) > 0 {
		t.Errorf("a flap is told as somebody's doing: %q", drift)
	}
	g.Run("ip", "neigh", "del", "10.65.0.1", "dev", "v0")
	p.Noticed(kernel.Notice{Subject: kernel.NeighbourChanged, Index: g.index["v0"], Protocol: kernel.Protocol, By: "ip[7]"})
	pass()
	if len(drift) != 2 || drift[1] != "ip[7]" {
		t.Errorf("a removed entry is told as %q, want one line, by ip[7]", drift)
	}
}
