// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var boots = flag.Int("boots", 10, "how often a host is started under packets that policy denies")

// bootMost is what docs/how-to/install.md promises of ripstopd --boot.
const bootMost = 8 * time.Second

// Ports of the window: the newer state lets in 8000 and 7001, the older one
// 8000 and 7000, and none ever 9999. 68 is a failsafe port: whatever is in
// force, packets to it show that the window is under fire.
const (
	witnessPort = 68
	neverPort   = 9999
	alwaysPort  = 8000
	oldPort     = 7000
	newPort     = 7001
)

var windowPorts = []int{witnessPort, neverPort, alwaysPort, oldPort, newPort}

// windowPolicy protects eth0. One UDP port besides 8000 is let in.
func windowPolicy(port int) string {
	return fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h, labels: {role: victim}}
spec: {node: h1, interfaceName: eth0, expectedIPs: [10.9.0.1, "fd09::1"]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: window}
spec:
  selector: role == 'victim'
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: UDP, destination: {ports: [8000, %d]}}]
  egress: [{action: Allow}]
`, port)
}

// window is a host whose network is not up yet, and a peer that sends at all
// ports without a pause.
type window struct {
	host, peer *netnstest.NS
	got        map[int]*[2]atomic.Int64 // packets let in, by port and family
	stop       chan struct{}
	sender     sync.WaitGroup
	sent       atomic.Int64
}

// plug makes the cable, with addresses, and leaves the host's end down.
func (w *window) plug(t testing.TB) {
	t.Helper()
	const mac = "02:00:00:00:09:01"
	w.peer.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "address", mac, "netns", w.host.Path())
	for ns, n := range map[*netnstest.NS]string{w.host: "1", w.peer: "2"} {
		ns.Run("ip", "addr", "add", "10.9.0."+n+"/24", "dev", "eth0")
		ns.Run("ip", "addr", "add", "fd09::"+n+"/64", "dev", "eth0", "nodad")
	}
	// Nobody asks for the host's address first.
	w.peer.Run("ip", "link", "set", "eth0", "up")
	for _, a := range []string{"10.9.0.1", "fd09::1"} {
		w.peer.Run("ip", "neigh", "replace", a, "lladdr", mac, "dev", "eth0", "nud", "permanent")
	}
}

func newWindow(t testing.TB) *window {
	t.Helper()
	w := &window{host: netnstest.New(t), peer: netnstest.New(t), got: map[int]*[2]atomic.Int64{}, stop: make(chan struct{})}
	for _, port := range windowPorts {
		counts := new([2]atomic.Int64)
		w.got[port] = counts
		for family, network := range []string{"udp4", "udp6"} {
			var c *net.UDPConn
			w.host.MustDo(func() (err error) {
				c, err = net.ListenUDP(network, &net.UDPAddr{Port: port})
				return err
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for b := make([]byte, 16); ; counts[family].Add(1) {
					if _, _, err := c.ReadFromUDP(b); err != nil {
						return
					}
				}
			}()
			t.Cleanup(func() { c.Close(); <-done })
		}
	}
	return w
}

// fire sends from fresh ports until the window is closed. What the network
// does not take yet is not sent.
func (w *window) fire(t testing.TB) {
	w.sender.Go(func() {
		for {
			select {
			case <-w.stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			for _, to := range []string{"10.9.0.1", "fd09::1"} {
				var c *net.UDPConn
				if w.peer.Do(func() (err error) {
					c, err = net.ListenUDP("udp", nil)
					return err
				}) != nil {
					continue
				}
				for _, port := range windowPorts {
					if _, err := c.WriteToUDP([]byte("x"), &net.UDPAddr{IP: net.ParseIP(to), Port: port}); err == nil {
						w.sent.Add(1)
					}
				}
				c.Close()
			}
		}
	})
	t.Cleanup(w.close)
}

func (w *window) close() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.sender.Wait()
}

// in is how many packets to a port were let in.
func (w *window) in(port int) int64 { return w.got[port][0].Load() + w.got[port][1].Load() }

// under waits until n more packets of each family have reached the host.
func (w *window) under(t testing.TB, n int64) {
	t.Helper()
	counts := w.got[witnessPort]
	four, six := counts[0].Load()+n, counts[1].Load()+n
	eventually(t, "the host is under fire", func() error {
		if counts[0].Load() < four || counts[1].Load() < six {
			return fmt.Errorf("%d packets are missing", n)
		}
		return nil
	})
}

// want checks which ports have been let in at all so far.
func (w *window) want(t testing.TB, when string, open map[int]bool) {
	t.Helper()
	for port, ok := range open {
		for family, name := range []string{"IPv4", "IPv6"} {
			if n := w.got[port][family].Load(); (n > 0) != ok {
				t.Errorf("%s: %d packets of %s to port %d were let in, want any: %v", when, n, name, port, ok)
			}
		}
	}
}

// since checks that none of some ports is let in from now on.
func (w *window) since(t testing.TB, when string, ports ...int) {
	t.Helper()
	w.under(t, 50) // what was judged before has been counted
	before := map[int]int64{}
	for _, p := range ports {
		before[p] = w.in(p)
	}
	w.under(t, 100)
	for _, p := range ports {
		if n := w.in(p) - before[p]; n > 0 {
			t.Errorf("%s: %d packets to port %d were let in, want none", when, n, p)
		}
	}
}

// truncated and flipped are what a bad disk does to a file.
func truncated(b []byte) []byte { return b[:len(b)/2] }
func flipped(b []byte) []byte   { b[len(b)*2/3] ^= 4; return b }

// bootCase is what a host finds on its disk, and what it then lets in until
// the datastore answers.
type bootCase struct {
	name    string
	older   bool // the files are from before the last change
	damage  func([]byte) []byte
	files   []string // that are damaged
	printed string
	open    map[int]bool
}

func bootCases() []bootCase {
	const good, locked = "In force: the state of revision", "In force: a lockdown"
	now := map[int]bool{alwaysPort: true, newPort: true, oldPort: false, neverPort: false}
	before := map[int]bool{alwaysPort: true, newPort: false, oldPort: true, neverPort: false}
	none := map[int]bool{alwaysPort: false, newPort: false, oldPort: false, neverPort: false}
	last, both := []string{"snapshot"}, []string{"snapshot", "snapshot.1"}
	return []bootCase{
		{"good", false, nil, nil, good, now},
		{"old", true, nil, nil, good, before},
		{"truncated", false, truncated, both, locked, none},
		{"one bit flipped", false, flipped, both, locked, none},
		{"good, and the one before truncated", false, truncated, []string{"snapshot.1"}, good, now},
		{"truncated, and the one before good", false, truncated, last, good, before},
		{"one bit flipped, and the one before good", false, flipped, last, good, before},
	}
}

// lay puts a copy of the state that the case wants in the agent's directory.
func (c bootCase) lay(t testing.TB, a *agent, newer, older string) {
	t.Helper()
	if err := os.RemoveAll(a.dir + "/state"); err != nil {
		t.Fatal(err)
	}
	from := newer
	if c.older {
		from = older
	}
	copyTree(t, from, a.dir+"/state")
	for _, name := range c.files {
		path := filepath.Join(a.dir, "state/agent", name)
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, c.damage(b), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestNetnsBootWindow_NothingThatIsDeniedIsLetIn: packets are sent at a host
// from before its network is up until its agent is in sync, in the order of the
// units: ripstopd --boot, network, ripstopd; without a datastore, and then with
// one. Whatever is left on the disk, nothing that it denies is let in: the last
// state, else the one before it, else a lockdown is in force.
func TestNetnsBootWindow_NothingThatIsDeniedIsLetIn(t *testing.T) {
	srv := startServer(t)
	rev := srv.put(t, windowPolicy(oldPort))
	a := startAgent(t, netnstest.New(t), srv.etcd())
	a.saved(t, rev)
	a.stop()
	older, newer := shortDir(t)+"/state", shortDir(t)+"/state"
	copyTree(t, a.dir+"/state", older)
	rev = srv.put(t, windowPolicy(newPort))
	a.run(t)
	a.saved(t, rev)
	a.stop()
	copyTree(t, a.dir+"/state", newer)
	srv.kill()

	cases := bootCases()
	var packets int64
	var slowest time.Duration
	done := 0
	for n := range *boots {
		c := cases[n%len(cases)]
		// The turn of iptables, and of a network card that is found late,
		// comes to each case.
		filter, late := []string{"nftables", "nftables", "nftables", "iptables"}[n%4], n/len(cases)%2 == 1
		ok := t.Run(fmt.Sprintf("%d %s, %s", n, c.name, filter), func(t *testing.T) {
			c.lay(t, a, newer, older)
			w := newWindow(t)
			a.ns, a.args = w.host, []string{"--dataplane", filter}
			if !late {
				w.plug(t)
				w.fire(t)
			}
			out, code, took := a.boot(t)
			if code != 0 || !strings.Contains(out, c.printed) || took > bootMost {
				t.Errorf("ripstopd --boot: exit status %d after %v, printed %q, want 0 within %v and %q", code, took, out, bootMost, c.printed)
			}
			slowest = max(slowest, took)
			if late {
				w.plug(t)
				w.fire(t)
			}
			if n := w.in(witnessPort); n > 0 {
				t.Fatalf("%d packets came in before the network was up", n)
			}
			w.host.Run("ip", "link", "set", "eth0", "up")
			w.under(t, 100)
			w.want(t, "network is up, no agent yet", c.open)

			a.run(t)
			defer a.stop()
			a.until(t, "the agent runs without a datastore", func(hs *api.HostStatus) bool {
				return fromSnapshot(hs) || hs.Status.Datastore.Phase == "Waiting"
			})
			w.under(t, 200)
			w.want(t, "agent runs", c.open)

			srv.restart(t)
			defer srv.kill()
			a.applied(t, rev)
			w.since(t, "in sync with the datastore", neverPort, oldPort)
			w.want(t, "in sync with the datastore", map[int]bool{neverPort: false, alwaysPort: true, newPort: true})
			w.close()
			packets += w.sent.Load()
		})
		if done++; !ok {
			break
		}
	}
	t.Logf("%d boots under %d packets; ripstopd --boot took %v at the most, it may take %v",
		done, packets, slowest.Round(time.Millisecond), bootMost)
}

// TestNetnsBootWindow_WithoutTheBootUnitAHostWouldBeOpen shows that the test
// above sees a host that is open: packets that policy denies are let in where
// the network is up before anything is in force, and no more when the agent
// has the state on disk in force.
func TestNetnsBootWindow_WithoutTheBootUnitAHostWouldBeOpen(t *testing.T) {
	srv := startServer(t)
	rev := srv.put(t, windowPolicy(newPort))
	a := startAgent(t, netnstest.New(t), srv.etcd())
	a.saved(t, rev)
	a.stop()
	srv.kill()
	w := newWindow(t)
	a.ns = w.host
	w.plug(t)
	w.fire(t)
	w.host.Run("ip", "link", "set", "eth0", "up")
	w.under(t, 100)
	w.want(t, "no boot unit, no agent", map[int]bool{neverPort: true})
	a.run(t)
	a.until(t, "the agent enforces the snapshot", fromSnapshot)
	w.since(t, "the agent runs", neverPort, oldPort)
}
