// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// The test bed: client ── eth0 host eth1 ── server.
const (
	client4, host4 = "10.1.0.2", "10.1.0.1"
	client6, host6 = "fd01::2", "fd01::1"
	server4, back4 = "10.2.0.2", "10.2.0.1"
	server6, back6 = "fd02::2", "fd02::1"
)

type bed struct {
	*lane
	client, host, server *netnstest.NS
}

func newBed(t testing.TB) *bed { return newBedOn(t, filters["nftables"]) }

func newBedOn(t testing.TB, open func() (packetFilter, error)) *bed {
	t.Helper()
	b := &bed{client: netnstest.New(t), host: netnstest.New(t), server: netnstest.New(t)}
	netnstest.Veth(b.client, b.host, "c0", "eth0", []string{client4 + "/24", client6 + "/64"}, []string{host4 + "/24", host6 + "/64"})
	netnstest.Veth(b.server, b.host, "s0", "eth1", []string{server4 + "/24", server6 + "/64"}, []string{back4 + "/24", back6 + "/64"})
	b.host.Sysctl("net/ipv4/ip_forward", "1")
	b.host.Sysctl("net/ipv6/conf/all/forwarding", "1")
	for _, r := range [][]string{{"4", back4}, {"6", back6}} {
		b.server.Run("ip", "-"+r[0], "route", "add", "default", "via", r[1])
	}
	for _, r := range [][]string{{"4", host4}, {"6", host6}} {
		b.client.Run("ip", "-"+r[0], "route", "add", "default", "via", r[1])
	}
	b.lane = newLaneOn(t, b.host, open)
	return b
}

// serve answers everything with itself, TCP and UDP, on one address.
func serve(t testing.TB, ns *netnstest.NS, address string) {
	t.Helper()
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
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue
			}
			u.WriteToUDPAddrPort(b[:n], from)
		}
	}()
}

// flow is one established connection.
type flow struct {
	name string
	net.Conn
	n int
}

// dialFlow opens a connection and says something on it.
func dialFlow(t testing.TB, ns *netnstest.NS, network, address string) *flow {
	t.Helper()
	f := &flow{name: network + " " + address}
	ns.MustDo(func() (err error) {
		f.Conn, err = net.DialTimeout(network, address, 10*time.Second)
		return err
	})
	t.Cleanup(func() { f.Close() })
	if !f.says(5 * time.Second) {
		t.Fatalf("%s: no answer on a new connection", f.name)
	}
	return f
}

// says sends a line and reports whether it comes back. UDP is sent again and
// again, TCP does that itself.
func (f *flow) says(wait time.Duration) bool {
	f.n++
	want := fmt.Sprintf("line %d\n", f.n)
	got := ""
	b := make([]byte, 100)
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		if strings.HasPrefix(f.name, "udp") || got == "" && b[0] == 0 {
			if _, err := io.WriteString(f, want); err != nil && !strings.HasPrefix(f.name, "udp") {
				return false
			}
		}
		b[0] = 1
		f.SetReadDeadline(time.Now().Add(min(time.Until(deadline), 100*time.Millisecond)))
		n, err := f.Read(b)
		got += string(b[:n])
		if strings.HasSuffix(got, want) {
			return true
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !strings.HasPrefix(f.name, "udp") {
			return false
		}
	}
	return false
}

// expect checks that flows go on or are dead, and stay so.
func expect(t *testing.T, alive bool, flows ...*flow) {
	t.Helper()
	for _, f := range flows {
		wait := 5 * time.Second
		if !alive {
			wait = 700 * time.Millisecond // several times TCP's first pause
		}
		if got := f.says(wait); got != alive {
			t.Errorf("%s: goes on %v, want %v", f.name, got, alive)
		}
	}
}

// TestNetnsConntrack_DenyMeansNow: established flows that a new deny is for
// are cut, in both families and over TCP and UDP, and no other flow is; not
// even one between the same hosts.
func TestNetnsConntrack_DenyMeansNow(t *testing.T) {
	b := newBed(t)
	for _, at := range []string{host4 + ":80", host4 + ":443", "[" + host6 + "]:80", "[" + host6 + "]:443"} {
		serve(t, b.host, at)
	}
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), policy("in", &intent.Policy{Ingress: []intent.Rule{all}}))
	var cut, kept []*flow
	for _, network := range []string{"tcp", "udp"} {
		for _, host := range []string{host4, "[" + host6 + "]"} {
			cut = append(cut, dialFlow(t, b.client, network, host+":80"))
			kept = append(kept, dialFlow(t, b.client, network, host+":443"))
		}
	}
	b.client.Run("ping", "-c1", host4)
	b.client.Run("ping", "-c1", host6)
	before := b.entries()

	s := b.say(policy("in", &intent.Policy{Ingress: []intent.Rule{
		ports(api.Deny, protoTCP, 80), ports(api.Deny, 17, 80),
		{Action: api.Deny, Protocol: 1}, {Action: api.Deny, Protocol: 58}, all,
	}}))
	if s.LastCut != len(cut)+2 {
		t.Errorf("%d flows cut, want %d and two pings", s.LastCut, len(cut))
	}
	after := b.entries()
	for flow := range before {
		_, there := after[flow]
		if want := flow.dstPort == 443; there != want {
			t.Errorf("entry %+v: still there %v, want %v", flow, there, want)
		}
	}
	expect(t, false, cut...)
	expect(t, true, kept...)
	for _, f := range kept {
		id := func(m map[tuple]entry) string {
			for flow, e := range m {
				if a := f.LocalAddr().String(); strings.HasSuffix(a, fmt.Sprint(":", flow.srcPort)) && flow.dstPort == 443 {
					return fmt.Sprint(e.id)
				}
			}
			return ""
		}
		if now := b.entries(); id(now) != id(before) {
			t.Errorf("%s: the kernel has another entry than before", f.name)
		}
	}
}

// TestNetnsConntrack_ChangeThatTakesNothingAwayCutsNothing: a change that allows
// more, or the same in other words, cuts nothing.
func TestNetnsConntrack_ChangeThatTakesNothingAwayCutsNothing(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	serve(t, b.host, host4+":81")
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Allow, protoTCP, 80)}}))
	f := dialFlow(t, b.client, "tcp", host4+":80")
	for _, c := range [][]intent.Change{
		{policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Allow, protoTCP, 80, 81)}})},
		{policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, protoTCP, 81), from(api.Allow, "10.1.0.0/16")}})},
		{guard([]string{"other"}, nil), policy("other", &intent.Policy{Ingress: []intent.Rule{from(api.Allow, client4+"/32")}}), policy("in", nil)},
		{settings(intent.Settings{DenyReject: true})},
		{{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: api.AllInterfaces}}},
	} {
		if s := b.say(c...); s.LastCut != 0 || s.LastTime.IsZero() {
			t.Errorf("%v cut %d flows at %v, want none and a pass", c, s.LastCut, s.LastTime)
		}
	}
	expect(t, true, f)
}
