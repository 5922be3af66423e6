// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// patience bounds every wait; what is waited for takes milliseconds.
const patience = 30 * time.Second

// site is a host in a namespace with the host lane running on it.
type site struct {
	t     *testing.T
	ns    *netnstest.NS
	cfg   config.Config
	board *status.Board
	lane  *lane
	stop  func()
	said  map[intent.Key]intent.Value
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, ns: netnstest.New(t), said: map[intent.Key]intent.Value{}}
	s.cfg = config.Config{Node: "h1", StateDir: t.TempDir(), ResyncInterval: time.Hour}
	if err := os.Mkdir(filepath.Join(s.cfg.StateDir, "agent"), 0o700); err != nil {
		t.Fatal(err)
	}
	// No waiting for duplicate addresses.
	s.ns.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	s.ns.Up("lo", "10.9.9.9/32") // what the host itself speaks as
	s.say(intent.Key{Kind: intent.KindSettings}, &intent.Settings{EndpointToHost: intent.ToHostAccept})
	all := []intent.Rule{{Action: api.Allow}}
	s.say(intent.Key{Kind: intent.KindProfile, Name: openProfile}, &intent.Profile{Ingress: all, Egress: all})
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return s
}

// openProfile lets workloads do everything: this is about their interfaces.
const openProfile = "open"

// start runs a lane until stop.
func (s *site) start() {
	s.t.Helper()
	s.ns.MustDo(func() (err error) {
		s.board = status.NewBoard(status.Config{Host: "h1"})
		s.lane, err = newLane(s.cfg, slog.New(slog.DiscardHandler), s.board)
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	l := s.lane
	running := []<-chan error{
		s.ns.Go(func() error { return l.loop.Run(ctx) }),
		s.ns.Go(func() error { return l.links.Run(ctx, l.noteLinks) }),
		s.ns.Go(func() error { return l.network.watch.Run(ctx, l.noteNetwork) }),
	}
	s.stop = func() {
		s.stop = nil
		cancel()
		for _, r := range running {
			if err := <-r; err != nil {
				s.t.Error(err)
			}
		}
		l.close()
	}
	s.picture()
}

// say notes a fact, for the next picture; nil takes it back.
func (s *site) say(k intent.Key, v intent.Value) { s.said[k] = v }

// picture tells the lane all that was said.
func (s *site) picture() {
	var changes []intent.Change
	for k, v := range s.said {
		changes = append(changes, intent.Change{Key: k, Value: v})
		if v == nil {
			delete(s.said, k)
		}
	}
	if s.stop != nil {
		s.lane.picture(changes, 1)
	}
}

func (s *site) settings(v intent.Settings) {
	v.EndpointToHost = intent.ToHostAccept
	s.say(intent.Key{Kind: intent.KindSettings}, &v)
	s.picture()
}

func (s *site) endpoint(name, iface string, addrs ...string) {
	ep := &intent.WorkloadEndpoint{Interface: iface, Profiles: []string{openProfile}}
	for _, a := range addrs {
		ep.Addrs = append(ep.Addrs, netip.MustParseAddr(a))
	}
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: name}, ep)
	s.picture()
}

func (s *site) noEndpoint(name string) {
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: name}, nil)
	s.picture()
}

// eventually waits until what is so, and fails the test with got's last words
// if it never is.
func eventually(t *testing.T, what string, got func() string, is func(string) bool) {
	t.Helper()
	began := time.Now()
	last := got()
	for !is(last) {
		if time.Since(began) > patience {
			t.Fatalf("%s: not so after %v; now:\n%s", what, patience, last)
		}
		time.Sleep(5 * time.Millisecond)
		last = got()
	}
	t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
}

func has(words ...string) func(string) bool {
	return func(s string) bool {
		for _, w := range words {
			if !strings.Contains(s, w) {
				return false
			}
		}
		return true
	}
}

func hasNot(word string) func(string) bool {
	return func(s string) bool { return !strings.Contains(s, word) }
}

// routes are the host's routes that are not the kernel's own.
func (s *site) routes() string {
	v4, _ := s.ns.Try("ip", "-4", "route", "show", "table", "all")
	v6, _ := s.ns.Try("ip", "-6", "route", "show", "table", "all")
	lines := slices.DeleteFunc(strings.Split(v4+v6, "\n"), func(l string) bool { return strings.Contains(l, "proto kernel") || l == "" })
	return strings.Join(lines, "\n")
}

func (s *site) neighbours() string { return s.ns.Run("ip", "neigh", "show", "nud", "permanent") }

// sysctls are all of the host's, by path.
func (s *site) sysctls() map[string]string {
	out := map[string]string{}
	for _, line := range strings.Split(s.ns.Run("sysctl", "-a", "--pattern", `^net\.`), "\n") {
		if k, v, ok := strings.Cut(line, " = "); ok && !strings.Contains(k, "nf_conntrack_count") {
			out[k] = v
		}
	}
	return out
}

func (s *site) sysctl(key string) func() string {
	return func() string { return strings.TrimSpace(s.ns.Run("sysctl", "-n", key)) }
}

func is(want string) func(string) bool { return func(s string) bool { return s == want } }

// noErrors waits until the lane has nothing to complain of.
func (s *site) noErrors() {
	s.t.Helper()
	eventually(s.t, "no part fails", func() string { return s.board.Status().Status.Dataplane.Error }, is(""))
}

// workload joins a namespace to the host, with the addresses, a gateway that
// is link-local in both families, and nothing else.
func (s *site) workload(iface string, addrs ...string) *netnstest.NS {
	s.t.Helper()
	w := netnstest.New(s.t)
	w.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	s.plug(w, iface, addrs...)
	return w
}

func (s *site) plug(w *netnstest.NS, iface string, addrs ...string) {
	s.t.Helper()
	var with []string
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		with = append(with, netip.PrefixFrom(ip, ip.BitLen()).String())
	}
	netnstest.Veth(s.ns, w, iface, "eth0", nil, with)
	w.Run("ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
	w.Run("ip", "route", "add", "default", "via", "169.254.1.1")
	var gateway string
	eventually(s.t, iface+" has a link-local address", func() string {
		gateway = ""
		for _, f := range strings.Fields(s.ns.Run("ip", "-6", "addr", "show", "dev", iface, "scope", "link")) {
			if strings.HasPrefix(f, "fe80:") {
				gateway = strings.TrimSuffix(f, "/64")
			}
		}
		return gateway
	}, has("fe80:"))
	w.Run("ip", "-6", "route", "add", "default", "via", gateway, "dev", "eth0")
}

func reaches(t *testing.T, from *netnstest.NS, to string) {
	t.Helper()
	eventually(t, "ping "+to, func() string {
		out, _ := from.Try("ping", "-c1", "-W1", to)
		return out
	}, has(" 0% packet loss"))
}
