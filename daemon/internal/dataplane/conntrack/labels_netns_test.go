// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// labelled counts the entries that were cut and are still there.
func (b *bed) labelled() (n int) {
	b.t.Helper()
	b.host.MustDo(func() error {
		table, err := list(unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		defer table.close()
		for done := false; !done; {
			if done, err = table.next(func(e *entry) error {
				if e.labelled {
					n++
				}
				return nil
			}); err != nil && !errors.Is(err, errNotYet) {
				return err
			}
		}
		return nil
	})
	return n
}

// pusher goes on sending to whoever has spoken to it, over TCP and UDP, and
// counts the datagrams that it gets.
func (b *bed) pusher(ns *netnstest.NS, address string) (heard *atomic.Int64) {
	b.t.Helper()
	heard = &atomic.Int64{}
	var l net.Listener
	var u *net.UDPConn
	ns.MustDo(func() (err error) {
		if l, err = net.Listen("tcp", address); err != nil {
			return err
		}
		a, err := net.ResolveUDPAddr("udp", address)
		if err == nil {
			u, err = net.ListenUDP("udp", a)
		}
		return err
	})
	b.t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for err == nil {
					_, err = c.Write([]byte("push\n"))
					time.Sleep(5 * time.Millisecond)
				}
			}()
		}
	}()
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			heard.Add(1)
			go func() {
				for err := error(nil); !errors.Is(err, net.ErrClosed); { // it is told when a rule drops what it sends
					_, err = u.WriteToUDPAddrPort([]byte("push\n"), from)
					time.Sleep(5 * time.Millisecond)
				}
			}()
		}
	}()
	return heard
}

// pushed is a connection on which only the far end speaks.
func (b *bed) pushed(network, address string) *flow {
	b.t.Helper()
	f := &flow{name: network + " " + address}
	b.client.MustDo(func() (err error) {
		f.Conn, err = net.DialTimeout(network, address, 10*time.Second)
		return err
	})
	b.t.Cleanup(func() { f.Close() })
	f.Write([]byte("go on\n"))
	if !f.hears(5 * time.Second) {
		b.t.Fatalf("%s: nothing comes on a new connection", f.name)
	}
	return f
}

// hears reports whether anything comes within wait, after what came before.
func (f *flow) hears(wait time.Duration) bool {
	buf := make([]byte, 64<<10)
	for began := time.Now(); time.Since(began) < time.Second/2; {
		f.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // many times the far end's pause
		if _, err := f.Read(buf); err != nil {
			f.SetReadDeadline(time.Now().Add(wait))
			_, err = f.Read(buf)
			return err == nil
		}
	}
	return true // it does not end
}

// TestNetnsConntrack_FlowThatTheFarEndPushesIsEnded: TCP and UDP through this
// host, both families, with and without a rewritten destination, and UDP to it;
// policy denies only the
// direction in which the flows began, and lets the far end begin others. Allowed
// again, the same flows go on.
func TestNetnsConntrack_FlowThatTheFarEndPushesIsEnded(t *testing.T) {
	for name, open := range filters {
		t.Run(name, func(t *testing.T) { endPushed(t, open) })
	}
}

func endPushed(t *testing.T, on func() (packetFilter, error)) {
	b := newBedOn(t, on)
	pushers := []*atomic.Int64{b.pusher(b.server, server4+":80"), b.pusher(b.server, "["+server6+"]:80"),
		b.pusher(b.host, host4+":80"), b.pusher(b.host, "["+host6+"]:80")}
	serve(t, b.server, server4+":81")
	b.host.Run("sh", "-c", "nft add table inet n; nft 'add chain inet n pre { type nat hook prerouting priority -100; }';"+
		"for p in tcp udp; do nft add rule inet n pre ip daddr "+host4+" $p dport 8080 dnat ip to "+server4+":80;"+
		"nft add rule inet n pre ip6 daddr "+host6+" $p dport 8080 dnat ip6 to '["+server6+"]:80'; done")
	tier := intent.Tier{Name: "default", Ingress: []api.Key{gnp("in")}}
	ep := intent.Change{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"},
		Value: &intent.HostEndpoint{Interface: "eth0", ForwardTiers: []intent.Tier{tier}, Tiers: []intent.Tier{tier}, Profiles: []string{"open"}}}
	in := func(rules ...intent.Rule) intent.Change {
		return policy("in", &intent.Policy{ApplyOnForward: true, Ingress: rules})
	}
	b.say(settings(intent.Settings{}), open, ep, in(all))
	var cut []*flow
	for _, network := range []string{"tcp", "udp"} {
		for _, at := range []string{server4 + ":80", "[" + server6 + "]:80", host4 + ":8080", "[" + host6 + "]:8080"} {
			cut = append(cut, b.pushed(network, at))
		}
	}
	// And what ends at this host itself, where no socket can be closed.
	cut = append(cut, b.pushed("udp", host4+":80"), b.pushed("udp", "["+host6+"]:80"))
	kept := dialFlow(t, b.client, "tcp", server4+":81")
	deny := in(ports(api.Deny, protoTCP, 80), ports(api.Deny, 17, 80), all)
	if s := b.say(deny); s.LastCut != len(cut) || b.labelled() != len(cut) {
		t.Errorf("%d flows cut, %d of them labelled; want %d", s.LastCut, b.labelled(), len(cut))
	}
	time.Sleep(300 * time.Millisecond)
	for _, f := range cut {
		if f.hears(300 * time.Millisecond) {
			t.Errorf("%s: still hears its far end", f.name)
		}
	}
	// Nor does the far end, or this host, hear what is said on them.
	var before []int64
	for _, p := range pushers {
		before = append(before, p.Load())
	}
	for range 10 {
		for _, f := range cut {
			if strings.HasPrefix(f.name, "udp") {
				_, _ = f.Write([]byte("go on\n")) // it may be told that nobody is there
			}
		}
	}
	time.Sleep(300 * time.Millisecond)
	for i, p := range pushers {
		if n := p.Load() - before[i]; n != 0 {
			t.Errorf("far end %d hears %d datagrams of flows that are cut", i, n)
		}
	}
	expect(t, true, kept)
	// Another agent finds them as this one left them.
	b.filter.Close()
	b.lane = newLaneOn(t, b.host, on)
	b.say(settings(intent.Settings{}), open, ep, deny)
	if n := b.labelled(); n < len(cut)/2 {
		t.Errorf("%d flows labelled under another agent that denies them, want those that did not end since", n)
	}
	b.say(in(all))
	if n := b.labelled(); n != 0 {
		t.Errorf("allowed again: %d flows still labelled", n)
	}
	for _, f := range cut {
		if !f.hears(10 * time.Second) {
			t.Errorf("%s: does not go on when it is allowed again", f.name)
		}
	}
}

// TestNetnsConntrack_WithoutRoomForLabelsFlowsAreDeleted: the kernel gives a
// connection room when it begins. Those of before there were our rules have
// none, and are deleted as ever.
func TestNetnsConntrack_WithoutRoomForLabelsFlowsAreDeleted(t *testing.T) {
	b := newBed(t)
	serve(t, b.server, server4+":80")
	b.host.Run("sh", "-c", "nft add table inet t; nft 'add chain inet t c { type filter hook forward priority 0; }'; nft add rule inet t c ct state established accept")
	f := dialFlow(t, b.client, "udp", server4+":80")
	tier := intent.Tier{Name: "default", Ingress: []api.Key{gnp("in")}}
	ep := intent.Change{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"},
		Value: &intent.HostEndpoint{Interface: "eth0", ForwardTiers: []intent.Tier{tier}, Profiles: []string{"open"}}}
	b.say(settings(intent.Settings{}), open)
	if s := b.say(ep, policy("in", &intent.Policy{ApplyOnForward: true})); s.LastCut != 1 || b.labelled() != 0 {
		t.Errorf("%d flows cut, %d labelled; want 1 and none", s.LastCut, b.labelled())
	}
	expect(t, false, f)
	for flow := range b.entries() {
		if strings.HasPrefix(flow.src.String(), "10.1.") {
			t.Errorf("left: %+v", flow)
		}
	}
}
