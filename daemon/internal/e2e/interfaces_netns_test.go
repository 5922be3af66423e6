// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	bin "encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var (
	appearances  = flag.Int("appearances", 50, "how often a guarded interface appears and vanishes")
	flowRestarts = flag.Int("flowrestarts", 20, "how often the agent is killed under an established connection")
)

// TestNetnsNewInterface_IsGuardedBeforeItAppears: an interface that an
// endpoint names is created, set up and sent through at once, again and again.
func TestNetnsNewInterface_IsGuardedBeforeItAppears(t *testing.T) {
	srv, inj := startServer(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	rev := srv.put(t, strings.Replace(chaosEndpoint, "rstun0", "eth7", 1)+"---\n"+chaosPolicies(0))
	a := startAgent(t, inj.NS, srv.etcd())
	a.applied(t, rev)
	var fd int
	admitted, cut := 0, 0
	inj.Delivered(false, netnstest.UDP, func([]byte) {})
	for n := range *appearances {
		inj.NS.MustDo(func() (err error) {
			if fd, err = newTUN("eth7"); err != nil {
				return err
			}
			link, err := netlink.LinkByName("eth7")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(link)
		})
		for i := range 20 {
			for _, dst := range []uint16{9999, 8000} {
				p := netnstest.Packet{Src: addr("10.1.0.7"), Dst: addr("10.1.0.1"), Protocol: netnstest.UDP, SrcPort: uint16(1024 + (n*20+i)%60000), DstPort: dst}
				if _, err := unix.Write(fd, p.Build(nil, uint64(dst))); err != nil {
					t.Fatal(err)
				}
				seen := false
				inj.Delivered(false, netnstest.UDP, func(b []byte) { seen = seen || bin.BigEndian.Uint64(b[len(b)-8:]) == uint64(dst) })
				if dst == 9999 && seen {
					admitted++
				}
				if dst == 8000 && !seen {
					cut++
				}
			}
		}
		unix.Close(fd)
		inj.FlushConntrack()
	}
	if admitted+cut > 0 {
		t.Errorf("%d appearances: %d packets admitted that policy denies, %d cut that it allows", *appearances, admitted, cut)
	}
	t.Logf("%d appearances, %d packets, %d wrong", *appearances, *appearances*40, admitted+cut)
	hs, err := a.status()
	if err != nil || len(hs.Status.Endpoints) != 1 {
		t.Fatalf("status: %+v, %v", hs, err)
	}
	a.until(t, "the endpoint's interface is missing again", func(hs *api.HostStatus) bool {
		e := hs.Status.Endpoints
		return len(e) == 1 && e[0].Status == "error" && strings.Contains(e[0].Message, "guarded already")
	})
}

// newTUN makes a TUN device in the namespace of the calling thread; it goes
// when its descriptor is closed.
func newTUN(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// listen serves an echo at an address inside a namespace.
func listen(t testing.TB, ns *netnstest.NS, address string) {
	t.Helper()
	var l net.Listener
	ns.MustDo(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
}

// dial connects from inside a namespace.
func dial(ns *netnstest.NS, address string, timeout time.Duration) (c net.Conn, err error) {
	err = ns.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", address, timeout)
		return err
	})
	return c, err
}

// echo says whether one byte comes back.
func echo(ns *netnstest.NS, address string, timeout time.Duration) error {
	c, err := dial(ns, address, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// pair is a protected host and a neighbour of it, joined by a cable.
type pair struct{ host, peer *netnstest.NS }

func newPair(t testing.TB) pair {
	t.Helper()
	p := pair{netnstest.New(t), netnstest.New(t)}
	netnstest.Veth(p.host, p.peer, "eth0", "eth0", []string{"10.9.0.1/24", "fd09::1/64"}, []string{"10.9.0.2/24", "fd09::2/64"})
	return p
}

// TestNetnsWildcard_LeavesLoopbackAndNeighboursAlone: an endpoint of all
// interfaces, on which a policy denies everything, in both directions.
func TestNetnsWildcard_LeavesLoopbackAndNeighboursAlone(t *testing.T) {
	for _, iface := range []string{"*", "eth0"} {
		srv, p := startServer(t), newPair(t)
		for _, port := range []string{"22", "23", "8000"} {
			listen(t, p.host, ":"+port)
		}
		if err := echo(p.peer, "[fd09::1]:23", patience); err != nil {
			t.Fatalf("before there is a policy: %v", err)
		}
		a := startAgent(t, p.host, srv.etcd())
		a.applied(t, srv.put(t, fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: all, labels: {role: victim}}
spec: {node: h1, interfaceName: %q}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: deny}
spec: {selector: role == 'victim', types: [Ingress, Egress], ingress: [{action: Deny}], egress: [{action: Deny}]}
`, iface)))
		for range 3 {
			p.host.Run("ip", "-6", "neigh", "flush", "dev", "eth0")
			p.peer.Run("ip", "-6", "neigh", "flush", "dev", "eth0")
			for _, address := range []string{"[fd09::1]:22", "10.9.0.1:22"} {
				if err := echo(p.peer, address, patience); err != nil {
					t.Errorf("interface %s: ssh to %s: %v", iface, address, err)
				}
			}
		}
		for _, address := range []string{"[fd09::1]:23", "10.9.0.1:23"} {
			if err := echo(p.peer, address, 300*time.Millisecond); err == nil {
				t.Errorf("interface %s: TCP to %s passes", iface, address)
			}
		}
		for _, address := range []string{"127.0.0.1:8000", "[::1]:8000", "10.9.0.1:8000", "[fd09::1]:8000"} {
			if err := echo(p.host, address, patience); err != nil {
				t.Errorf("interface %s: the host to itself at %s: %v", iface, address, err)
			}
		}
		a.stop()
	}
}

// TestNetnsEstablished_ConnectionOutlivesKillsAndRewrites: a connection that
// all pictures allow is spoken over without a pause while the agent is killed
// and the policies are rewritten.
func TestNetnsEstablished_ConnectionOutlivesKillsAndRewrites(t *testing.T) {
	r := newRand(t)
	srv, p := startServer(t), newPair(t)
	listen(t, p.host, ":8000")
	rev := srv.put(t, strings.Replace(strings.Replace(chaosEndpoint, "rstun0", "eth0", 1), `[10.1.0.1, "fd01::1"]`, `[10.9.0.1, "fd09::1"]`, 1)+"---\n"+chaosPolicies(0))
	a := startAgent(t, p.host, srv.etcd())
	a.applied(t, rev)

	var rounds atomic.Int64
	var slowest atomic.Int64
	stop := make(chan struct{})
	broken := make(chan error, 2)
	talk := func(address string) {
		broken <- func() error {
			c, err := dial(p.peer, address, patience)
			if err != nil {
				return err
			}
			defer c.Close()
			b := make([]byte, 64)
			for n := uint64(0); ; n++ {
				select {
				case <-stop:
					return nil
				default:
				}
				began := time.Now()
				c.SetDeadline(began.Add(patience / 2))
				bin.BigEndian.PutUint64(b, n)
				if _, err := c.Write(b); err != nil {
					return fmt.Errorf("%s, round %d: %w", address, n, err)
				}
				if _, err := io.ReadFull(c, b); err != nil {
					return fmt.Errorf("%s, round %d: %w", address, n, err)
				}
				if got := bin.BigEndian.Uint64(b); got != n {
					return fmt.Errorf("%s, round %d: %d came back", address, n, got)
				}
				rounds.Add(1)
				if d := int64(time.Since(began)); d > slowest.Load() {
					slowest.Store(d)
				}
				time.Sleep(200 * time.Microsecond)
			}
		}()
	}
	go talk("10.9.0.1:8000")
	go talk("[fd09::1]:8000")
	ended := false
	for n := range *flowRestarts {
		srv.put(t, chaosPolicies(n+1))
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		a.kill()
		srv.put(t, chaosPolicies(n+2))
		a.run(t)
		if n%4 == 3 {
			a.until(t, "verified", verified)
		}
		select {
		case err := <-broken:
			t.Errorf("after %d kills: %v", n+1, err)
			ended = true
		default:
		}
	}
	a.applied(t, srv.put(t, chaosPolicies(1)))
	close(stop)
	for range 2 {
		if ended {
			ended = false
			continue
		}
		if err := <-broken; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d kills, %d answers, the slowest after %v", *flowRestarts, rounds.Load(), time.Duration(slowest.Load()).Round(time.Microsecond))
}
