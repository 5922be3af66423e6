// SPDX-License-Identifier: Apache-2.0

package sysctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/reconcile/reconciletest"
)

// ground is a host in a namespace with a pair of interfaces, v0 and v1, up,
// and a directory for records.
type ground struct {
	*netnstest.NS
	t     *testing.T
	dir   string
	index map[string]int
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{NS: netnstest.New(t), t: t, dir: t.TempDir(), index: map[string]int{}}
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

// all are the values that may move, by path.
func (g *ground) all() string {
	out, _ := g.Try("sysctl", "-a", "--pattern", `forward|accept_ra |accept_redirects|proxy|rp_filter|route_localnet`)
	return out
}

func (g *ground) wantAll(p *Part) {
	whole := func(name string) {
		p.Want(kernel.ID{Kind: kernel.KindSysctl, Name: name}, kernel.Sysctl{Value: "1", Keep: true})
	}
	link := func(name, value, as string) {
		p.Want(kernel.ID{Kind: kernel.KindSysctl, Index: g.index["v0"], Name: name}, kernel.Sysctl{Iface: "v0", Value: value, SameAs: as})
	}
	whole("net/ipv4/ip_forward")
	whole("net/ipv6/conf/all/forwarding")
	link("net/ipv4/conf/*/forwarding", "1", "")
	link("net/ipv4/conf/*/proxy_arp", "1", "")
	link("net/ipv4/conf/*/rp_filter", "", "net/ipv4/conf/default/rp_filter")
	link("net/ipv4/neigh/*/proxy_delay", "0", "")
	link("net/ipv6/conf/*/accept_ra", "0", "")
	link("net/ipv6/conf/*/forwarding", "1", "")
}

// resetHere makes the values of a host as it comes, with some of its own. It
// runs on the namespace's thread.
func (g *ground) resetHere(t *testing.T) {
	for _, s := range []string{
		"net/ipv4/ip_forward=0", "net/ipv6/conf/all/forwarding=0", "net/ipv4/conf/all/accept_redirects=0", "net/ipv4/conf/v1/forwarding=1",
		"net/ipv4/conf/v0/proxy_arp=0", "net/ipv4/conf/v0/rp_filter=2", "net/ipv4/conf/default/rp_filter=1", "net/ipv4/neigh/v0/proxy_delay=80",
		"net/ipv6/conf/v0/accept_ra=1", "net/ipv6/conf/v1/accept_ra=1",
	} {
		k, v, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/"+k, []byte(v), 0); err != nil {
			t.Error(err)
		}
	}
	os.Remove(filepath.Join(g.dir, recordFile))
}

func (g *ground) reset() {
	g.t.Helper()
	g.do(func() error { g.resetHere(g.t); return nil })
}

// here reads a sysctl on the namespace's thread.
func here(t *testing.T, key string) string {
	b, err := os.ReadFile("/proc/sys/" + key)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(b))
}

func (g *ground) part(cfg Config) *Part {
	cfg.Dir = g.dir
	return New(cfg)
}

// do runs f where sysctls are the namespace's.
func (g *ground) do(f func() error) {
	g.t.Helper()
	g.MustDo(f)
}

func (g *ground) pass(p *Part) {
	g.t.Helper()
	g.do(func() error {
		_, err := p.Reconcile(g.t.Context())
		return err
	})
}

func (g *ground) expect(key, want string) {
	g.t.Helper()
	if got := strings.TrimSpace(g.Run("cat", "/proc/sys/"+key)); got != want {
		g.t.Errorf("%s is %s, want %s", key, got, want)
	}
}

// inside is a Part that runs on the namespace's thread.
type inside struct{ *Part }

// Reconcile does not ask for the look that it takes every second anyway.
func (i inside) Reconcile(ctx context.Context) (time.Duration, error) {
	_, err := i.Part.Reconcile(ctx)
	return 0, err
}

// TestNetnsSysctl_KilledAtAnyWrite: between record and change, between changes,
// between restoring and dropping the record. A new start heals, and whatever
// happens, a cleanup afterwards leaves what was there before.
func TestNetnsSysctl_KilledAtAnyWrite(t *testing.T) {
	g := newGround(t)
	g.reset()
	before := g.all()
	var wanted string
	kills := 0
	g.do(func() error {
		kills = reconciletest.Crash(t, reconciletest.Subject[*ground]{
			World: func() *ground { g.resetHere(t); return g },
			Open: func(g *ground, k *reconciletest.Killer) reconcile.Part {
				p := g.part(Config{wrote: k.Write})
				g.wantAll(p)
				return inside{p}
			},
			Check: func(g *ground) error {
				if here(t, "net/ipv4/ip_forward") != "1" || here(t, "net/ipv6/conf/v1/accept_ra") != "2" || here(t, "net/ipv4/conf/v0/rp_filter") != "1" {
					return errors.New("not as wanted")
				}
				if _, err := g.part(Config{}).Cleanup(); err != nil {
					return err
				}
				for key, want := range map[string]string{
					"net/ipv4/ip_forward": "0", "net/ipv4/conf/v1/forwarding": "1", "net/ipv4/conf/all/accept_redirects": "0",
					"net/ipv4/conf/v0/rp_filter": "2", "net/ipv6/conf/v1/accept_ra": "1", "net/ipv6/conf/v0/accept_ra": "1",
					"net/ipv4/neigh/v0/proxy_delay": "80", "net/ipv6/conf/all/forwarding": "0", "net/ipv6/conf/v0/forwarding": "0",
				} {
					if got := here(t, key); got != want {
						return fmt.Errorf("after cleanup %s is %s, want %s", key, got, want)
					}
				}
				// As it was before the check.
				p := g.part(Config{})
				g.wantAll(p)
				_, err := inside{p}.Reconcile(t.Context())
				return err
			},
			// IPv6 forwarding on, and an interface that would no longer listen
			// to its router, must never be.
			Safe: func(g *ground) error {
				if here(t, "net/ipv6/conf/all/forwarding") == "1" && here(t, "net/ipv6/conf/v1/accept_ra") != "2" {
					return errors.New("the host does not listen to its router any more")
				}
				return nil
			},
		})
		return nil
	})
	if kills < 8 {
		t.Errorf("killed %d times, want at least at 1 record and 7 changes", kills)
	}
	wanted = g.all()
	if wanted == before {
		t.Error("nothing has been changed")
	}
	g.do(func() error {
		_, err := g.part(Config{}).Cleanup()
		return err
	})
	if got := g.all(); got != before {
		t.Errorf("after cleanup:\n%s\nbefore:\n%s", got, before)
	}
}

// TestNetnsSysctl_RestoringKilledAtAnyWrite ends as it was before all the same.
func TestNetnsSysctl_RestoringKilledAtAnyWrite(t *testing.T) {
	g := newGround(t)
	g.reset()
	before := g.all()
	for at := 1; ; at++ {
		g.reset()
		p := g.part(Config{})
		g.wantAll(p)
		g.pass(p)
		writes, killed := 0, false
		cleanup := func() (err error) {
			defer func() {
				if v := recover(); v != nil {
					killed = true
				}
			}()
			_, err = g.part(Config{wrote: func() {
				if writes++; writes == at {
					panic("killed")
				}
			}}).Cleanup()
			return err
		}
		g.do(cleanup)
		if !killed {
			if at < 8 {
				t.Errorf("a cleanup is %d writes, want more", at)
			}
			return
		}
		g.do(func() error {
			_, err := g.part(Config{}).Cleanup()
			return err
		})
		if got := g.all(); got != before {
			t.Fatalf("killed at write %d of the cleanup, and cleaned again:\n%s\nbefore:\n%s", at, got, before)
		}
	}
}

// TestNetnsSysctl_WhatSomebodyElseHasDecidedStays: a value that is no longer
// the one we set is not put back to what we found.
func TestNetnsSysctl_WhatSomebodyElseHasDecidedStays(t *testing.T) {
	g := newGround(t)
	g.reset()
	p := g.part(Config{})
	g.wantAll(p)
	g.pass(p)
	g.Sysctl("net/ipv4/neigh/v0/proxy_delay", "40")
	g.Sysctl("net/ipv4/conf/v0/rp_filter", "0")
	g.do(func() error {
		_, err := g.part(Config{}).Cleanup()
		return err
	})
	g.expect("net/ipv4/neigh/v0/proxy_delay", "40")
	g.expect("net/ipv4/conf/v0/rp_filter", "0")
	g.expect("net/ipv4/conf/v0/proxy_arp", "0")
}

// TestNetnsSysctl_WhatWasFoundFirstIsRestored, whatever others have made of it
// since, if it was put back.
func TestNetnsSysctl_WhatWasFoundFirstIsRestored(t *testing.T) {
	g := newGround(t)
	g.reset()
	var drift []string
	p := g.part(Config{OnDrift: func(what []string, _ string) { drift = append(drift, what...) }})
	g.wantAll(p)
	g.pass(p)
	g.Sysctl("net/ipv4/neigh/v0/proxy_delay", "40")
	g.pass(p)
	g.expect("net/ipv4/neigh/v0/proxy_delay", "0")
	if len(drift) != 1 || drift[0] != "sysctl net/ipv4/neigh/v0/proxy_delay: was 40, is 0 again" {
		t.Errorf("told %q, want the one sysctl", drift)
	}
	p = g.part(Config{}) // another agent
	g.wantAll(p)
	g.Sysctl("net/ipv4/conf/v0/rp_filter", "0")
	g.pass(p)
	g.do(func() error {
		_, err := g.part(Config{}).Cleanup()
		return err
	})
	g.expect("net/ipv4/neigh/v0/proxy_delay", "80")
	g.expect("net/ipv4/conf/v0/rp_filter", "2")
}

// TestNetnsSysctl_RestoresTheInterfaceNotTheName: of an interface that was
// renamed its own, of one made anew under the name nothing.
func TestNetnsSysctl_RestoresTheInterfaceNotTheName(t *testing.T) {
	g := newGround(t)
	g.reset()
	p := g.part(Config{})
	g.wantAll(p)
	g.pass(p)
	g.Run("ip", "link", "set", "v0", "down")
	g.Run("ip", "link", "set", "v0", "name", "w0")
	g.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "x0")
	g.Sysctl("net/ipv4/conf/v0/proxy_arp", "1") // somebody's
	g.do(func() error {
		_, err := g.part(Config{}).Cleanup()
		return err
	})
	g.expect("net/ipv4/conf/w0/proxy_arp", "0")
	g.expect("net/ipv4/conf/w0/rp_filter", "2")
	g.expect("net/ipv4/conf/v0/proxy_arp", "1")
}

// TestNetnsSysctl_RenamedMeanwhile: between the look for an interface's name
// and the use of it. What is restored is found; what is set waits.
func TestNetnsSysctl_RenamedMeanwhile(t *testing.T) {
	g := newGround(t)
	g.reset()
	p := g.part(Config{})
	g.wantAll(p)
	g.pass(p)
	arp := key{"net/ipv4/conf/*/proxy_arp", g.index["v0"]}
	g.Run("ip", "link", "set", "v0", "down")
	g.Run("ip", "link", "set", "v0", "name", "w0")
	g.do(func() error {
		back, err := p.restoreOne(p.records[arp], map[int]string{g.index["v0"]: "v0"}, map[string]bool{})
		if len(back) != 1 || err != nil {
			t.Errorf("restoring by the old name: %q, %v, want one line", back, err)
		}
		return nil
	})
	g.expect("net/ipv4/conf/w0/proxy_arp", "0")
	g.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "x0") // it has taken the name
	p.Resync()
	g.pass(p)
	g.expect("net/ipv4/conf/v0/proxy_arp", "0")
}

// TestNetnsSysctl_RecordsThatMeanNothing: of an earlier boot, or damaged.
func TestNetnsSysctl_RecordsThatMeanNothing(t *testing.T) {
	g := newGround(t)
	g.reset()
	p := g.part(Config{})
	g.wantAll(p)
	g.pass(p)
	path := filepath.Join(g.dir, recordFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Replace(string(b), p.boot, "00000000-0000-0000-0000-000000000000", 1)
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	cleanup := func() {
		g.do(func() error {
			_, err := g.part(Config{}).Cleanup()
			return err
		})
	}
	cleanup()
	g.expect("net/ipv4/conf/v0/proxy_arp", "1")
	if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	cleanup()
	g.expect("net/ipv4/conf/v0/proxy_arp", "1")
	if aside, err := os.ReadFile(path + ".damaged"); err != nil || len(aside) != len(b)/2 {
		t.Errorf("the damaged file is not kept aside: %d bytes, %v", len(aside), err)
	}
}

// TestPart_WritesOnlyWhatIsListed, and route_localnet is not.
func TestPart_WritesOnlyWhatIsListed(t *testing.T) {
	for name := range settable {
		if strings.Contains(name, "localnet") {
			t.Errorf("%s may be set", name)
		}
	}
	root, dir := t.TempDir(), t.TempDir()
	path := filepath.Join(root, "net/ipv4/conf/lo/route_localnet")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("0\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p := New(Config{Root: root, Dir: dir})
	p.Want(kernel.ID{Kind: kernel.KindSysctl, Index: 1, Name: "net/ipv4/conf/*/route_localnet"}, kernel.Sysctl{Iface: "lo", Value: "1"})
	if _, err := p.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "not one that Ripstop sets") {
		t.Errorf("wanting route_localnet: error %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "0\n" {
		t.Errorf("route_localnet is %s", b)
	}
}

// TestPart_NothingIsChangedThatCannotBeRecorded: a full disk.
func TestPart_NothingIsChangedThatCannotBeRecorded(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "net/ipv4/conf/lo/proxy_arp")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("0\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p := New(Config{Root: root, Dir: filepath.Join(root, "missing"), Clock: host.NewFakeClock(time.Unix(0, 0))})
	p.Want(kernel.ID{Kind: kernel.KindSysctl, Index: 1, Name: "net/ipv4/conf/*/proxy_arp"}, kernel.Sysctl{Iface: "lo", Value: "1"})
	if _, err := p.Reconcile(t.Context()); err == nil {
		t.Error("no error where records cannot be written")
	}
	if b, _ := os.ReadFile(path); string(b) != "0\n" {
		t.Errorf("changed to %s without a record", b)
	}
}
