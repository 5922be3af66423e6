// SPDX-License-Identifier: Apache-2.0

package test

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

	"github.com/google/go-cmp/cmp"
)

var reboots = flag.Int("reboots", 1, "how often a machine reboots under packets from outside, without a datastore")

// labNetwork is the machine's own network, which waits for network-pre.target
// as every network manager does.
const labNetwork = `[Unit]
Description=Network of the laboratory
DefaultDependencies=no
Wants=network-pre.target network.target
After=network-pre.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip addr add 10.213.0.11/24 dev host0
ExecStart=ip addr add fd13::11/64 dev host0 nodad
ExecStart=ip link set host0 up
[Install]
WantedBy=sysinit.target
`

// onlyWeb lets UDP port 80 in, too, so that the window's packets need no
// answer; 68 is a failsafe port and shows that there are packets at all.
const onlyWeb = policy + `---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web-udp}
spec:
  selector: role == 'web'
  types: [Ingress]
  ingress: [{action: Allow, protocol: UDP, destination: {ports: [80]}}]
`

// pushText writes a file of the machine.
func (m *machine) pushText(text, dst string) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), filepath.Base(dst))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.push(file, dst)
}

// window counts the UDP packets that a machine lets in at its next start,
// while the other end of its cable sends without a pause.
type window struct {
	m               *machine
	got             map[int]*[2]atomic.Int64 // by port and family
	socks           []net.PacketConn
	readers, sender sync.WaitGroup
	stop            chan struct{}
	opened          chan error
}

var windowPorts = []int{68, 80, 81}

// inode is the identity of the machine's network namespace.
func (m *machine) inode() (os.FileInfo, error) { return os.Stat("/run/netns/" + m.lab + "-m") }

// openWindow begins to send, and listens in the machine's next namespace as
// soon as there is one.
func (m *machine) openWindow() *window {
	m.t.Helper()
	w := &window{m: m, got: map[int]*[2]atomic.Int64{}, stop: make(chan struct{}), opened: make(chan error, 1)}
	for _, port := range windowPorts {
		w.got[port] = new([2]atomic.Int64)
	}
	old, err := m.inode()
	if err != nil {
		m.t.Fatal(err)
	}
	go func() { w.opened <- w.listen(old) }()
	w.sender.Go(func() {
		_ = m.in("br", func() error {
			for {
				select {
				case <-w.stop:
					return nil
				case <-time.After(500 * time.Microsecond):
				}
				for _, to := range []string{"10.213.0.11", "fd13::11"} {
					c, err := net.ListenUDP("udp", nil)
					if err != nil {
						continue
					}
					for _, port := range windowPorts {
						_, _ = c.WriteToUDP([]byte("x"), &net.UDPAddr{IP: net.ParseIP(to), Port: port})
					}
					c.Close()
				}
			}
		})
	})
	m.t.Cleanup(w.close)
	return w
}

// listen waits for another namespace than the old one, and opens its sockets
// before its network is up.
func (w *window) listen(old os.FileInfo) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		now, err := w.m.inode()
		// The file is there before the namespace is mounted on it.
		if err == nil && !os.SameFile(old, now) && w.m.in("m", func() error { return nil }) == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the machine has no new network within a minute")
		}
	}
	return w.m.in("m", func() error {
		for _, port := range windowPorts {
			for family, network := range []string{"udp4", "udp6"} {
				c, err := net.ListenUDP(network, &net.UDPAddr{Port: port})
				if err != nil {
					return err
				}
				w.socks = append(w.socks, c)
				w.readers.Go(func() {
					for b := make([]byte, 16); ; w.got[port][family].Add(1) {
						if _, _, err := c.ReadFrom(b); err != nil {
							return
						}
					}
				})
			}
		}
		if i, err := net.InterfaceByName("host0"); err == nil && i.Flags&net.FlagUp != 0 {
			return fmt.Errorf("the network was up before anything listened")
		}
		return nil
	})
}

// close ends the window; the machine may reboot again after it.
func (w *window) close() {
	select {
	case <-w.stop:
		return
	default:
		close(w.stop)
	}
	w.sender.Wait()
	for _, c := range w.socks {
		c.Close()
	}
	w.readers.Wait()
}

// under waits until n more packets of each family have come.
func (w *window) under(n int64) {
	w.m.t.Helper()
	four, six := w.got[68][0].Load()+n, w.got[68][1].Load()+n
	w.m.eventually("packets come in at the failsafe port", func() error {
		if w.got[68][0].Load() < four || w.got[68][1].Load() < six {
			return fmt.Errorf("%d and %d of each family", w.got[68][0].Load(), w.got[68][1].Load())
		}
		return nil
	})
}

// want checks what was let in since the start of the machine.
func (w *window) want(when string, open map[int]bool) {
	w.m.t.Helper()
	for port, ok := range open {
		for family, name := range []string{"IPv4", "IPv6"} {
			if n := w.got[port][family].Load(); (n > 0) != ok {
				w.m.t.Errorf("%s: %d packets of %s to port %d were let in, want any: %v", when, n, name, port, ok)
			}
		}
	}
}

// TestReboot_NothingIsLetInBeforeTheAgentIsAndAChangeGoesBack: a machine that
// brings its own network up is rebooted, under packets from outside and with
// the datastore away, with a good and with a truncated state on disk. Then a
// change that denies everything waits for a confirmation over a reboot.
func TestReboot_NothingIsLetInBeforeTheAgentIsAndAChangeGoesBack(t *testing.T) {
	dir := built(t, "1.0.0")
	m := boot(t)
	m.install(dir)
	m.settled()
	m.pushText(onlyWeb, "/root/policy.yaml")
	m.run("ripstop", "apply", "-f", "/root/policy.yaml")
	m.settled()
	m.pushText(labNetwork, "/etc/systemd/system/lab-network.service")
	m.run("systemctl", "enable", "lab-network.service")
	m.run("systemctl", "disable", "ripstop-server") // the datastore stays away
	protected := map[int]bool{80: true, 81: false}
	for n := range *reboots {
		name, open, said := "good state", protected, "In force: the state of revision"
		if n%2 == 1 {
			name, open, said = "truncated state", map[int]bool{80: false, 81: false}, "In force: a lockdown"
			m.run("sh", "-c", "systemctl stop ripstopd && cd /var/lib/ripstop/agent && for f in snapshot snapshot.[0-9]; do [ ! -e $f ] || truncate -s -20 $f; done")
		}
		w := m.openWindow()
		m.reboot("")
		if err := <-w.opened; err != nil {
			t.Fatal(err)
		}
		w.under(100)
		w.want(name+", without a datastore", open)
		log := m.run("journalctl", "--no-pager", "-b", "-o", "cat")
		force, network := strings.Index(log, said), strings.Index(log, "Starting lab-network.service")
		if force < 0 || network < 0 || force > network {
			t.Errorf("%s: %q was not said before the network was brought up (at %d, %d) in:\n%s", name, said, force, network, log)
		}
		if state := strings.TrimSpace(m.run("systemctl", "is-active", "ripstopd")); state != "active" {
			t.Errorf("%s: the agent is %s", name, state)
		}
		m.run("systemctl", "start", "ripstop-server")
		m.settled()
		w.under(100)
		w.want(name+", with a datastore", protected)
		t.Logf("%s: packets let in at the failsafe port %d and %d, at the denied one %d and %d; %s", name,
			w.got[68][0].Load(), w.got[68][1].Load(), w.got[81][0].Load(), w.got[81][1].Load(), m.bootTime())
		w.close()
	}
	m.run("systemctl", "enable", "ripstop-server")
	m.goesBack()
}

// bootTime is how long the boot unit took, as systemd tells it.
func (m *machine) bootTime() string {
	m.t.Helper()
	for line := range strings.Lines(m.run("systemd-analyze", "blame", "--no-pager")) {
		if strings.Contains(line, "ripstop-boot.service") {
			return strings.TrimSpace(line)
		}
	}
	m.t.Error("systemd-analyze blame does not name ripstop-boot.service")
	return ""
}

const lockedOut = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: nobody}
spec:
  order: 1
  selector: role == 'web'
  types: [Ingress]
  ingress: [{action: Deny}]
`

// goesBack applies a deny-everything that nobody confirms and reboots the
// machine at once: the operator gets in again, and the resources are the old
// ones, within the time of the change and five seconds.
func (m *machine) goesBack() {
	m.t.Helper()
	const wait, late = 30 * time.Second, 5 * time.Second
	m.settled()
	m.listen(80)
	before := m.run("ripstop", "get", "gnp", "-o", "yaml")
	m.want("before the change", map[int]bool{80: true})
	m.pushText(lockedOut, "/root/nobody.yaml")
	m.run("ripstop", "apply", "-f", "/root/nobody.yaml", "--confirm", wait.String())
	began := time.Now()
	m.eventually("the change locks its operator out", func() error {
		if m.opens(80) == nil {
			return fmt.Errorf("port 80 is open")
		}
		return nil
	})
	m.reboot("")
	up := time.Since(began)
	m.listen(80)
	for m.opens(80) != nil || time.Since(began) < wait {
		if time.Since(began) > wait+late {
			m.t.Fatalf("port 80 is still closed %v after the change, which was to go back after %v", time.Since(began), wait)
		}
		time.Sleep(20 * time.Millisecond)
	}
	in := time.Since(began)
	m.eventually("the resources are the old ones", func() error {
		if diff := cmp.Diff(before, m.run("ripstop", "get", "gnp", "-o", "yaml")); diff != "" {
			return fmt.Errorf("before (-) and after (+):\n%s", diff)
		}
		return nil
	})
	if took := time.Since(began); took > wait+late {
		m.t.Errorf("the resources were the old ones %v after the change, want at most %v", took, wait+late)
	}
	m.t.Logf("locked out for %v, the machine was up again after %v, the operator in after %v", wait, up.Round(time.Millisecond), in.Round(time.Millisecond))
}
