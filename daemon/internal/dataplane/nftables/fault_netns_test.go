// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// faultyWire fails at random: a request is not sent, it is sent and its
// answer is lost, an answer is cut short, the kernel says no.
type faultyWire struct {
	wire
	r      *rand.Rand
	on     bool
	faults int
	lose   bool // the answers to what was sent
}

func (w *faultyWire) hit(n int) bool {
	if !w.on || w.r.IntN(n) != 0 {
		return false
	}
	w.faults++
	return true
}

var errnos = []unix.Errno{unix.ENOBUFS, unix.EBUSY, unix.EPERM, unix.EINTR, unix.ENOMEM, unix.EAGAIN, unix.EIO}

func (w *faultyWire) send(b []byte) error {
	w.lose = false
	if w.hit(30) {
		return errnos[w.r.IntN(len(errnos))]
	}
	if w.hit(30) {
		w.lose = true
	}
	return w.wire.send(b)
}

func (w *faultyWire) recv(b []byte, wait int) (int, error) {
	n, err := w.wire.recv(b, wait)
	switch {
	case err != nil:
		return n, err
	case w.lose:
		for err == nil {
			_, err = w.wire.recv(b, 0)
		}
		return 0, []unix.Errno{unix.ENOBUFS, unix.EAGAIN}[w.r.IntN(2)]
	case w.hit(40):
		return 0, unix.ENOBUFS
	case w.hit(60) && n > 20: // a short dump
		binary.NativeEndian.PutUint32(b, uint32(w.r.IntN(64)))
		return n, nil
	}
	return n, nil
}

// TestNetnsFilter_SurvivesFaults changes wishes while one in about fifteen
// requests fails. What the wishes never allow is never let through, nothing is
// taken for the doing of others, and without faults one pass heals all.
func TestNetnsFilter_SurvivesFaults(t *testing.T) {
	for _, owner := range []bool{true, false} {
		r := rng(t)
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		w := &faultyWire{r: r}
		first := true
		cfg := Default()
		cfg.Owner = owner
		cfg.open = func() (wire, error) {
			s, err := openSocket()
			if !first || err != nil {
				return s, err
			}
			first = false
			w.wire = s
			return w, nil
		}
		cfg.OnDrift = func(d Drift) { t.Errorf("drift reported though nobody else changed anything: %+v", d) }
		f := open(t, inj.NS, cfg)
		sample(f)
		reconcile(t, f)
		rounds, failed, packets := 2000, 0, 0
		if testing.Short() {
			rounds = 200
		}
		w.on = true
		for i := range rounds {
			p := uint16(300 + r.IntN(100))
			ep := *f.chains["ep"].want
			ep.Rules = append([]ruleset.Rule{{
				Match:  ruleset.Match{Protocol: 6, DstPorts: []ruleset.PortRange{{Min: p, Max: p}, {Min: p + 2, Max: p + 3}}},
				Action: ruleset.Action{Verb: ruleset.Accept},
			}}, ep.Rules[max(0, len(ep.Rules)-7):]...)
			f.Want(chain("ep"), &ep)
			f.Want(member("s4", fmt.Sprintf("10.5.%d.0/%d", i%9, 24+r.IntN(9))), ruleset.Member{})
			f.Unwant(member("s4", fmt.Sprintf("10.5.%d.0/24", r.IntN(9))))
			if r.IntN(50) == 0 {
				f.Resync()
			}
			if _, err := f.Reconcile(t.Context()); err != nil {
				failed++
			}
			packets++
			denied := netnstest.Packet{Src: inj4("10.1.0.9"), Dst: inj4("10.1.0.1"), Protocol: 6, SrcPort: uint16(i), DstPort: 250}
			if inj.In("rstun0", denied) {
				t.Fatalf("round %d: a packet that was denied all the time is accepted", i)
			}
		}
		w.on = false
		f.forgive()
		began := time.Now()
		reconcile(t, f)
		if err := f.Verify(t.Context()); err != nil {
			t.Error(err)
		}
		took := time.Since(began).Round(time.Millisecond)
		f.Resync()
		g := generation(t, f)
		reconcile(t, f)
		if got := generation(t, f); got != g {
			t.Error("what was believed to be there was not")
		}
		t.Logf("owner %v: %d faults, %d of %d passes failed, %d packets; whole again after %v", owner, w.faults, failed, rounds, packets, took)
	}
}

func inj4(s string) netip.Addr { return netip.MustParseAddr(s) }
