// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/store"
)

var storeKills = flag.Int("storekills", 20, "how often the embedded etcd is killed under load")

// ledger is what one writer has been promised: for each name the last value
// that was acknowledged, and the last one that was tried.
type ledger struct{ acked, tried map[string]int }

// write writes through the REST API until ctx ends. It counts up, so that a
// stored value tells which write it is of.
func (l *ledger) write(ctx context.Context, s store.Store, writer int, beat func()) {
	for i := 1; ctx.Err() == nil; i++ {
		o := &api.GlobalNetworkSet{}
		o.Kind, o.APIVersion = api.KindGlobalNetworkSet, "projectcalico.org/v3"
		o.Name = fmt.Sprintf("w%d-%d", writer, i%40)
		o.Spec.Nets = []string{netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}).String() + "/32"}
		l.tried[o.Name] = i
		call, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := s.Put(call, o, store.Always())
		cancel()
		if err == nil {
			l.acked[o.Name] = i
			beat()
			continue
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// check compares the store with the promises.
func (l *ledger) check(t *testing.T, s store.Store) (acked int) {
	t.Helper()
	for name, i := range l.acked {
		acked++
		o, err := s.Get(bounded(t), api.Key{Kind: api.KindGlobalNetworkSet, Name: name})
		if err != nil {
			t.Errorf("%s was acknowledged as number %d: %v", name, i, err)
			continue
		}
		a := netip.MustParsePrefix(o.(*api.GlobalNetworkSet).Spec.Nets[0]).Addr().As4()
		if got := int(a[1])<<16 | int(a[2])<<8 | int(a[3]); got < i || got > l.tried[name] {
			t.Errorf("%s is number %d, acknowledged was %d, tried were %d", name, got, i, l.tried[name])
		}
	}
	return acked
}

// TestNetnsStoreKilled_AcknowledgedWritesStay: the embedded etcd is killed
// under load, now alone, now with the server beside it.
func TestNetnsStoreKilled_AcknowledgedWritesStay(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	g := newGuarded(t, false, "")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var lastBeat time.Time
	beats := 0
	beat := func() {
		mu.Lock()
		lastBeat = time.Now()
		beats++
		mu.Unlock()
	}
	var writers sync.WaitGroup
	var ledgers []*ledger
	for w := range 3 {
		l := &ledger{map[string]int{}, map[string]int{}}
		ledgers = append(ledgers, l)
		c, err := client.New(client.Config{Server: g.srv.socket()})
		if err != nil {
			t.Fatal(err)
		}
		writers.Go(func() { l.write(ctx, c, w, beat) })
	}
	child := func() int {
		t.Helper()
		var pid int
		eventually(t, "the server has a child", func() error {
			if c := g.srv.children(t); len(c) == 1 {
				pid = c[0]
				return nil
			}
			return fmt.Errorf("children are %v", g.srv.children(t))
		})
		return pid
	}
	var ready []time.Duration
	for n := range *storeKills {
		alone := n%5 == 4
		if alone { // a process that dies soon after its start is not started again at once
			g.s.last(5200 * time.Millisecond)
		} else {
			g.s.last(time.Duration(100+r.IntN(300)) * time.Millisecond)
		}
		killed := child()
		unix.Kill(killed, syscall.SIGKILL)
		if !alone {
			g.srv.kill()
			g.srv.run(t)
		}
		at := time.Now()
		eventually(t, "writes are taken again", func() error {
			g.s.burst(2)
			mu.Lock()
			defer mu.Unlock()
			if !lastBeat.After(at.Add(5 * time.Millisecond)) {
				return fmt.Errorf("none was acknowledged since")
			}
			return nil
		})
		ready = append(ready, time.Since(at))
		if pid := child(); pid == killed {
			t.Fatalf("etcd has the same process id %d as the one that was killed", pid)
		}
	}
	cancel()
	writers.Wait()
	acked := 0
	for _, l := range ledgers {
		acked += l.check(t, g.srv.store)
	}
	g.s.check(t)
	g.agent.applied(t, g.srv.put(t, chaosPolicies(1)))
	slices.Sort(ready)
	t.Logf("%d kills, %d writes acknowledged (%d names compared), ready again after %v (median), %v (worst); %d packets, %d wrong",
		*storeKills, beats, acked, ready[len(ready)/2].Round(time.Millisecond), ready[len(ready)-1].Round(time.Millisecond), g.s.sent, g.s.admitted+g.s.cut)
}

// TestNetnsDiskFull_ReadsAndEnforcementGoOn: the state directory of server and
// agent is on a file system that fills up.
func TestNetnsDiskFull_ReadsAndEnforcementGoOn(t *testing.T) {
	srv, inj := newSmallDisk(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	g := &guarded{srv: srv.server, inj: inj, s: &streams{inj: inj}}
	g.rev = srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0)+allowTCP("early", 7000))
	g.agent = srv.agentBeside(t, inj.NS)
	g.agent.applied(t, g.rev)

	srv.fill(t, 8<<20)
	began := time.Now()
	eventually(t, "writes are refused", func() error {
		g.s.burst(2)
		if _, err := srv.tryPut("refused"); err == nil {
			return fmt.Errorf("a write was taken with 8 MiB left")
		}
		return nil
	})
	t.Logf("8 MiB left: writes are refused after %v", time.Since(began).Round(time.Millisecond))
	srv.refuses(t)
	srv.fill(t, 0)
	srv.refuses(t)
	g.s.last(2 * time.Second)
	g.s.check(t)
	if _, err := srv.store.Get(bounded(t), gnpKey("early")); err != nil {
		t.Errorf("reading with a full disk: %v", err)
	}
	out, err := srv.cli(t, "get", "globalnetworkpolicies")
	if err != nil || !strings.Contains(out, "filler-2") {
		t.Errorf("ripstop get with a full disk: %v: %s", err, out)
	}

	// The store starts on a full disk, and serves what there is.
	for _, pid := range srv.children(t) {
		unix.Kill(pid, syscall.SIGKILL)
	}
	g.s.last(time.Second)
	srv.ready(t)
	srv.refuses(t)
	// The agent too.
	g.agent.kill()
	g.s.burst(50)
	g.agent.process = srv.agentBeside(t, inj.NS).process
	g.agent.until(t, "the agent is live on a full disk", func(hs *api.HostStatus) bool {
		return verified(hs) && hs.Status.Datastore.Source == "live"
	})
	wantPass(t, inj, "disk full", map[uint16]bool{7000: true, 7001: false})

	srv.room(t)
	began = time.Now()
	var rev api.Revision
	eventually(t, "writes are taken again", func() (err error) {
		g.s.burst(2)
		rev, err = srv.tryPut("taken")
		return err
	})
	t.Logf("writes are taken %v after room was made", time.Since(began).Round(time.Millisecond))
	rev = max(rev, srv.put(t, allowTCP("late", 7001)))
	g.agent.applied(t, rev)
	wantPass(t, inj, "room again", map[uint16]bool{7000: true, 7001: true})
	g.agent.until(t, "the snapshot is good", func(hs *api.HostStatus) bool { return condition(hs, "SnapshotFresh").Status == "True" })
	g.s.check(t)
}
