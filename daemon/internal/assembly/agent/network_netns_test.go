// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestNetnsNetwork_WorkloadsReachEachOtherByTheirGateway: a host with no other
// route at all answers for the gateway, forwards in both families, and is
// itself reached; what a workload asks about its own address it is not told.
func TestNetnsNetwork_WorkloadsReachEachOtherByTheirGateway(t *testing.T) {
	s := newSite(t)
	s.start()
	w1 := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1") // after its interface
	s.endpoint("w2", "cali2", "10.65.0.2", "fd65::2") // before
	w2 := s.workload("cali2", "10.65.0.2", "fd65::2")
	eventually(t, "routes", s.routes, has(
		"10.65.0.1 dev cali1 proto 82 scope link metric 1024", "10.65.0.2 dev cali2 proto 82 scope link metric 1024",
		"fd65::1 dev cali1 proto 82 metric 1024", "fd65::2 dev cali2 proto 82 metric 1024",
		"local 169.254.1.1 dev lo table local proto 82",
	))
	for _, to := range []string{"10.65.0.2", "fd65::2", "169.254.1.1"} {
		reaches(t, w1, to)
	}
	reaches(t, w2, "10.65.0.1")
	reaches(t, w2, "fd65::1")
	if v := s.sysctl("net.ipv4.conf.cali1.route_localnet")(); v != "0" {
		t.Errorf("route_localnet is %s, want 0", v)
	}
	for key, want := range map[string]string{
		"net.ipv4.conf.cali1.proxy_arp": "1", "net.ipv4.neigh.cali1.proxy_delay": "0", "net.ipv4.conf.cali1.forwarding": "1",
		"net.ipv6.conf.cali1.proxy_ndp": "1", "net.ipv6.conf.cali1.forwarding": "1", "net.ipv6.conf.cali1.accept_ra": "0",
	} {
		eventually(t, key, s.sysctl(key), is(want))
	}
	s.noErrors()
}

// TestNetnsNetwork_OnlyTheGatewayAnswers: the host answers for the gateway,
// with and without a default route, by proxy for addresses that it has a
// route to, and never when a workload asks for its own address.
func TestNetnsNetwork_OnlyTheGatewayAnswers(t *testing.T) {
	s := newSite(t)
	s.ns.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	s.ns.Up("up1")
	s.ns.Up("up0", "192.168.9.1/24")
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "proxy ARP", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	answers := func(from, to string) bool {
		return w.Do(func() error { return arping("eth0", netip.MustParseAddr(from), netip.MustParseAddr(to)) }) == nil
	}
	for _, c := range []struct {
		from, to      string
		alone, routed bool // without and with a default route
	}{
		{"10.65.0.1", "169.254.1.1", true, true},
		{"0.0.0.0", "169.254.1.1", true, true}, // taken: nobody else may have it
		{"10.65.0.1", "10.65.0.1", false, false},
		{"0.0.0.0", "10.65.0.1", false, false},
		{"10.65.0.1", "10.65.0.77", false, true},
		{"10.65.0.1", "192.168.9.77", true, true},
	} {
		if got := answers(c.from, c.to); got != c.alone {
			t.Errorf("without a default route, %s asks for %s: answered %v, want %v", c.from, c.to, got, c.alone)
		}
	}
	s.ns.Run("ip", "route", "add", "default", "via", "192.168.9.2")
	if got := answers("10.65.0.1", "10.65.0.77"); !got {
		t.Errorf("with a default route, an address behind it is not answered for")
	}
	for _, from := range []string{"0.0.0.0", "10.65.0.1"} {
		if answers(from, "10.65.0.1") {
			t.Errorf("with a default route, the workload's own address is answered for when %s asks", from)
		}
	}
	// IPv6: asked for as by one who has not got it yet. What an operator has
	// the host answer for is answered.
	w.Run("ip", "-6", "addr", "del", "fd65::1/128", "dev", "eth0")
	s.ns.Run("ip", "-6", "neigh", "add", "proxy", "fd65::77", "dev", "cali1")
	for to, want := range map[string]bool{"fd65::1": false, "fd65::77": true} {
		w.Run("ip", "-6", "route", "add", to, "dev", "eth0")
		w.Try("ping", "-c1", "-W1", to)
		if got := w.Run("ip", "-6", "neigh", "show", to); strings.Contains(got, "lladdr") != want {
			t.Errorf("%s asked for: answered %v, want %v: %s", to, !want, want, got)
		}
	}
}

// TestNetnsNetwork_RemovedEndpointLeavesNothing: S175.
func TestNetnsNetwork_RemovedEndpointLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.workload("cali2", "10.65.0.2", "fd65::2")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w2", "cali2", "10.65.0.2", "fd65::2")
	reaches(t, w, "10.65.0.2")
	reaches(t, w, "fd65::2")
	s.ns.Run("ping", "-c1", "10.65.0.2")
	flows := func() string {
		v4, _ := s.ns.Try("conntrack", "-L")
		v6, _ := s.ns.Try("conntrack", "-L", "-f", "ipv6")
		return v4 + v6
	}
	if got := flows(); !has("src=10.65.0.1", "src=fd65::1", "src=10.9.9.9")(got) {
		t.Fatalf("flows lack those of the pings:\n%s", got)
	}
	s.noEndpoint("w1")
	eventually(t, "route gone", s.routes, hasNot("cali1"))
	eventually(t, "IPv4 flow gone", flows, hasNot("src=10.65.0.1"))
	eventually(t, "IPv6 flow gone", flows, hasNot("src=fd65::1"))
	if got := flows(); !strings.Contains(got, "src=10.9.9.9") {
		t.Errorf("a flow of another address is gone as well:\n%s", got)
	}
	if got := s.routes(); !strings.Contains(got, "cali2") {
		t.Errorf("the other endpoint's route is gone as well:\n%s", got)
	}
	// An interface that goes with its routes leaves no flows either.
	s.ns.Run("ip", "link", "del", "cali2")
	eventually(t, "flow to a removed interface gone", flows, hasNot("src=10.65.0.2"))
	s.noErrors()
}

// TestNetnsNetwork_FlappingInterfaceEndsConnected: S176, bounded.
func TestNetnsNetwork_FlappingInterfaceEndsConnected(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	reaches(t, w, "169.254.1.1")
	for i := range 100 {
		s.ns.Run("ip", "link", "set", "cali1", "down")
		if i%3 == 0 {
			time.Sleep(3 * time.Millisecond)
		}
		s.ns.Run("ip", "link", "set", "cali1", "up")
	}
	w.Run("ip", "-6", "route", "replace", "default", "via", linkLocal(s.ns, "cali1"), "dev", "eth0")
	reaches(t, w, "169.254.1.1")
	eventually(t, "routes are back", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	reaches(t, s.ns, "10.65.0.1")
	s.noErrors()
	for _, d := range s.board.Status().Status.Drift {
		t.Errorf("reported as somebody's doing: %+v", d)
	}
}

func linkLocal(ns *netnstest.NS, iface string) string {
	for range 1000 {
		for _, f := range strings.Fields(ns.Run("ip", "-6", "addr", "show", "dev", iface, "scope", "link")) {
			if strings.HasPrefix(f, "fe80:") {
				return strings.TrimSuffix(f, "/64")
			}
		}
		time.Sleep(time.Millisecond)
	}
	return ""
}

// TestNetnsNetwork_OneAddressOnTwoInterfaces: S178. The higher index has it;
// when that one is down or gone the other takes over, and gives it back.
func TestNetnsNetwork_OneAddressOnTwoInterfaces(t *testing.T) {
	s := newSite(t)
	s.start()
	s.workload("cali1", "10.65.0.1")
	w2 := s.workload("cali2", "10.65.0.1")
	s.endpoint("a", "cali2", "10.65.0.1")
	s.endpoint("b", "cali1", "10.65.0.1")
	on := func(iface string) { eventually(t, "on "+iface, s.routes, has("10.65.0.1 dev "+iface)) }
	on("cali2")
	eventually(t, "no proxy ARP for who lost", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("0"))
	s.ns.Run("ip", "link", "set", "cali2", "down")
	on("cali1")
	eventually(t, "proxy ARP for who won", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	s.ns.Run("ip", "link", "set", "cali2", "up")
	on("cali2")
	w2.Run("ip", "link", "set", "eth0", "down") // no carrier
	on("cali1")
	w2.Run("ip", "link", "set", "eth0", "up")
	on("cali2")
	s.ns.Run("ip", "link", "del", "cali2")
	on("cali1")
	s.noEndpoint("a") // the loser, by now
	s.noErrors()
	on("cali1")
}

// TestNetnsNetwork_NoRoutes: S182.
func TestNetnsNetwork_NoRoutes(t *testing.T) {
	s := newSite(t)
	s.start()
	s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "routes", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1", "169.254.1.1"))
	s.ns.Run("ip", "route", "add", "10.77.0.0/16", "dev", "cali1")
	s.settings(intent.Settings{NoRoutes: true, RemoveExternalRoutes: true})
	eventually(t, "no route is ours", s.routes, hasNot("proto 82"))
	if !strings.Contains(s.routes(), "10.77.0.0/16") {
		t.Errorf("another's route is gone:\n%s", s.routes())
	}
	if out := s.ns.Run("nft", "list", "tables"); !strings.Contains(out, "ripstop") {
		t.Errorf("policy is not enforced: tables %s", out)
	}
	s.settings(intent.Settings{})
	eventually(t, "routes are back", s.routes, has("10.65.0.1 dev cali1"))
}

// TestNetnsNetwork_NeighbourAndNewAddress: S184, S185.
func TestNetnsNetwork_NeighbourAndNewAddress(t *testing.T) {
	s := newSite(t)
	s.start()
	s.workload("cali1", "10.65.0.1", "fd65::1")
	ep := &intent.WorkloadEndpoint{
		Interface: "cali1", Profiles: []string{openProfile}, MAC: [6]byte{0xee, 0xee, 0xee, 0xee, 0xee, 1},
		Addrs: []netip.Addr{netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd65::1")},
	}
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w1"}, ep)
	s.picture()
	eventually(t, "permanent neighbours", s.neighbours, has(
		"10.65.0.1 dev cali1 lladdr ee:ee:ee:ee:ee:01", "fd65::1 dev cali1 lladdr ee:ee:ee:ee:ee:01",
	))
	moved := *ep
	moved.Addrs = []netip.Addr{netip.MustParseAddr("10.65.0.5"), netip.MustParseAddr("fd65::5")}
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w1"}, &moved)
	s.picture()
	eventually(t, "neighbours of the new address", s.neighbours, has("10.65.0.5 dev cali1", "fd65::5 dev cali1"))
	eventually(t, "none of the old", s.neighbours, func(n string) bool { return !strings.Contains(n, "10.65.0.1 ") && !strings.Contains(n, "fd65::1 ") })
	eventually(t, "routes of the new address", s.routes, has("10.65.0.5 dev cali1", "fd65::5 dev cali1"))
	if r := s.routes(); strings.Contains(r, "10.65.0.1 ") || strings.Contains(r, "fd65::1 ") {
		t.Errorf("routes of the old address are left:\n%s", r)
	}
	// A neighbour that somebody alters is put right, and told.
	s.ns.Run("ip", "neigh", "replace", "10.65.0.5", "lladdr", "66:66:66:66:66:66", "nud", "permanent", "dev", "cali1")
	eventually(t, "altered neighbour is right again", s.neighbours, hasNot("66:66"))
	s.ns.Run("ip", "neigh", "del", "10.65.0.5", "dev", "cali1")
	eventually(t, "removed neighbour is back", s.neighbours, has("10.65.0.5 dev cali1"))
	s.ns.Run("ip", "link", "set", "cali1", "down")
	s.ns.Run("ip", "link", "set", "cali1", "up")
	eventually(t, "neighbours outlive a flap", s.neighbours, has("10.65.0.5 dev cali1", "fd65::5 dev cali1"))
	s.drift("neighbour 10.65.0.5 lladdr ee:ee:ee:ee:ee:01 dev cali1: removed or altered")
}

// drift waits until a drift of that text is on the board, repaired.
func (s *site) drift(text string) {
	s.t.Helper()
	eventually(s.t, "drift told", func() string {
		var b strings.Builder
		for _, d := range s.board.Status().Status.Drift {
			for _, what := range strings.Split(d.What, "; ") {
				fmt.Fprintf(&b, "%s (repaired %v)\n", what, d.Repaired)
			}
		}
		return b.String()
	}, has(text+" (repaired true)"))
}

// TestNetnsNetwork_InterfaceMadeAnew: the same name, another interface; and
// one that is renamed away and back.
func TestNetnsNetwork_InterfaceMadeAnew(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	reaches(t, w, "169.254.1.1")
	for range 5 {
		s.ns.Run("ip", "link", "del", "cali1")
		s.plug(w, "cali1", "10.65.0.1", "fd65::1")
	}
	eventually(t, "routes", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	for _, key := range []string{"net.ipv4.conf.cali1.proxy_arp", "net.ipv6.conf.cali1.proxy_ndp"} {
		eventually(t, key, s.sysctl(key), is("1"))
	}
	reaches(t, w, "169.254.1.1")
	reaches(t, s.ns, "fd65::1")
	s.ns.Run("ip", "link", "set", "cali1", "down")
	s.ns.Run("ip", "link", "set", "cali1", "name", "other")
	s.ns.Run("ip", "link", "set", "other", "up")
	eventually(t, "no route under another name", s.routes, hasNot("10.65.0.1"))
	eventually(t, "sysctl is as before under another name", s.sysctl("net.ipv4.conf.other.proxy_arp"), is("0"))
	s.ns.Run("ip", "link", "set", "other", "down")
	s.ns.Run("ip", "link", "set", "other", "name", "cali1")
	s.ns.Run("ip", "link", "set", "cali1", "up")
	eventually(t, "routes are back", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	eventually(t, "sysctl", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	s.noErrors()
	if r, err := os.ReadFile(filepath.Join(s.cfg.StateDir, "agent", "sysctls.json")); err != nil || strings.Count(string(r), "proxy_delay") > 1 {
		t.Errorf("records of interfaces that are gone are left (%v):\n%s", err, r)
	}
}

// TestNetnsNetwork_WhatOthersDamageIsRepaired: routes, the gateway and
// sysctls, each put right and told.
func TestNetnsNetwork_WhatOthersDamageIsRepaired(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	reaches(t, w, "169.254.1.1")
	s.ns.Run("ping", "-c1", "10.65.0.1")
	s.noErrors()
	s.ns.Run("ip", "route", "flush", "proto", "82") // as a restart of systemd-networkd may
	eventually(t, "IPv4 route", s.routes, has("10.65.0.1 dev cali1"))
	s.drift("route to 10.65.0.1 dev cali1: removed")
	if out, _ := s.ns.Try("conntrack", "-L"); !strings.Contains(out, "src=10.65.0.1") {
		t.Errorf("a repair has cut flows:\n%s", out)
	}
	s.ns.Run("ip", "-6", "route", "flush", "proto", "82")
	eventually(t, "IPv6 route", s.routes, has("fd65::1 dev cali1"))
	s.ns.Run("ip", "route", "flush", "table", "local", "proto", "82")
	eventually(t, "gateway", s.routes, has("local 169.254.1.1"))
	s.ns.Run("ip", "route", "add", "10.99.0.1/32", "dev", "cali1", "proto", "82")
	eventually(t, "a route under our number goes", s.routes, hasNot("10.99.0.1"))
	for key, bad := range map[string]string{
		"net.ipv4.conf.cali1.proxy_arp": "0", "net.ipv4.conf.cali1.rp_filter": "2", "net.ipv6.conf.cali1.accept_ra": "2",
		"net.ipv4.neigh.cali1.proxy_delay": "50", "net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0",
	} {
		was := s.sysctl(key)()
		s.ns.Sysctl(strings.ReplaceAll(key, ".", "/"), bad)
		eventually(t, key, s.sysctl(key), is(was))
		s.drift(fmt.Sprintf("sysctl %s: was %s, is %s again", strings.ReplaceAll(key, ".", "/"), bad, was))
	}
	reaches(t, w, "169.254.1.1")
	s.noErrors()
}

// TestNetnsNetwork_StrangersAreLeftAlone: interfaces without an endpoint, even
// of a workload's prefix, and routes of others.
func TestNetnsNetwork_StrangersAreLeftAlone(t *testing.T) {
	s := newSite(t)
	s.ns.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	s.ns.Up("up1")
	s.ns.Up("up0", "192.168.9.1/24", "fd99::1/64")
	s.workload("cali9", "10.65.0.9")
	s.workload("cali1", "10.65.0.1", "fd65::1")
	for _, r := range [][]string{
		{"10.1.0.0/16", "via", "192.168.9.2"}, {"10.65.0.1/32", "via", "192.168.9.2", "metric", "50"},
		{"10.65.0.7/32", "dev", "up0", "metric", "1024"}, {"10.2.0.0/16", "dev", "cali9"}, {"10.3.0.0/16", "dev", "cali1"},
	} {
		s.ns.Run("ip", append([]string{"route", "add"}, r...)...)
	}
	theirs := s.routes()
	before := s.sysctls()
	s.start()
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "routes", s.routes, has("10.65.0.1 dev cali1", "fd65::1 dev cali1"))
	eventually(t, "IPv6 forwarding", s.sysctl("net.ipv6.conf.all.forwarding"), is("1"))
	s.noErrors()
	for _, line := range strings.Split(theirs, "\n") {
		if !strings.Contains(s.routes(), line) {
			t.Errorf("another's route is gone: %s", line)
		}
	}
	for k, v := range s.sysctls() {
		own := strings.Contains(k, ".cali1.") || strings.HasSuffix(k, ".forwarding") || strings.HasSuffix(k, ".accept_ra") ||
			k == "net.ipv4.ip_forward" || k == "net.ipv4.conf.all.accept_redirects" || strings.Contains(k, "conntrack")
		if !own && before[k] != v {
			t.Errorf("sysctl %s was %q, is %q", k, before[k], v)
		}
	}
	// The same destination and metric on another's interface: told, not taken.
	s.endpoint("w7", "cali9", "10.65.0.7")
	eventually(t, "conflict told", func() string { return s.board.Status().Status.Dataplane.Error }, has("10.65.0.7", "another program"))
	if !strings.Contains(s.routes(), "10.65.0.7 dev up0") {
		t.Errorf("another's route is gone:\n%s", s.routes())
	}
	s.ns.Run("ip", "route", "del", "10.65.0.7/32", "dev", "up0")
	eventually(t, "conflict over", s.routes, has("10.65.0.7 dev cali9"))
	s.noErrors()
}

// TestNetnsNetwork_CleanupLeavesTheHostAsItWas: sysctls, routes and neighbours
// are equal, also those that moved with others, were not the default, or
// belong to a host that gets its way out from its router.
func TestNetnsNetwork_CleanupLeavesTheHostAsItWas(t *testing.T) {
	s := newSite(t)
	s.ns.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	s.ns.Up("up1")
	s.ns.Up("up0", "192.168.9.1/24")
	s.ns.Sysctl("net/ipv6/conf/up0/accept_ra", "1")
	s.workload("cali1", "10.65.0.1", "fd65::1")
	s.workload("cali2", "10.65.0.2")
	s.ns.Sysctl("net/ipv4/conf/up1/forwarding", "1")
	s.ns.Sysctl("net/ipv4/conf/default/rp_filter", "1")
	s.ns.Sysctl("net/ipv4/conf/cali1/rp_filter", "2")
	s.ns.Sysctl("net/ipv4/conf/all/accept_redirects", "1")
	s.ns.Run("nft", "add table inet mine; add chain inet mine c { type filter hook input priority 0; }; add rule inet mine c ct state new accept")
	before, routes, neighbours := s.sysctls(), s.routes(), s.neighbours()
	s.start()
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	s.say(intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w2"}, &intent.WorkloadEndpoint{
		Interface: "cali2", Profiles: []string{openProfile}, MAC: [6]byte{2, 0, 0, 0, 0, 1}, Addrs: []netip.Addr{netip.MustParseAddr("10.65.0.2")},
		AllowedSources: []netip.Prefix{netip.MustParsePrefix("10.66.0.0/24")},
	})
	s.picture()
	eventually(t, "neighbour", s.neighbours, has("10.65.0.2"))
	eventually(t, "rp_filter as the default", s.sysctl("net.ipv4.conf.cali1.rp_filter"), is("1"))
	eventually(t, "router, and listens to its own", s.sysctl("net.ipv6.conf.up0.accept_ra"), is("2"))
	eventually(t, "a workload's interface does not", s.sysctl("net.ipv6.conf.cali1.accept_ra"), is("0"))
	s.noErrors()

	// An endpoint that goes leaves its interface as it was, bar forwarding.
	s.noEndpoint("w1")
	eventually(t, "rp_filter as before", s.sysctl("net.ipv4.conf.cali1.rp_filter"), is("2"))
	eventually(t, "proxy ARP as before", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("0"))
	if v := s.sysctl("net.ipv4.ip_forward")(); v != "1" {
		t.Errorf("ip_forward is %s after an endpoint went, want 1: others may rely on it", v)
	}
	s.noEndpoint("w2")
	eventually(t, "no neighbour", s.neighbours, hasNot("10.65.0.2"))
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	eventually(t, "proxy ARP", s.sysctl("net.ipv4.conf.cali1.proxy_arp"), is("1"))
	s.stop()

	var out bytes.Buffer
	s.ns.MustDo(func() error { return cleanup(t.Context(), s.cfg, slog.New(slog.DiscardHandler), &out) })
	if diff := cmp.Diff(before, s.sysctls()); diff != "" {
		t.Errorf("sysctls after cleanup (-before +after):\n%s", diff)
	}
	if got := s.routes(); got != routes {
		t.Errorf("routes after cleanup:\n%s\nbefore:\n%s", got, routes)
	}
	if got := s.neighbours(); got != neighbours {
		t.Errorf("neighbours after cleanup:\n%s\nbefore:\n%s", got, neighbours)
	}
	if !has("net/ipv4/ip_forward = 0", "Removed 3 routes")(out.String()) {
		t.Errorf("cleanup says:\n%s", out.String())
	}
	left, _ := filepath.Glob(filepath.Join(s.cfg.StateDir, "agent", "sysctls*"))
	if len(left) > 0 {
		t.Errorf("records are left: %v", left)
	}
	t.Logf("%s", out.String())
}

// TestNetnsNetwork_RestartChangesNothing: a new agent takes over what it
// finds, cuts no flow, and removes only what nobody wants any more, once the
// picture is whole.
func TestNetnsNetwork_RestartChangesNothing(t *testing.T) {
	s := newSite(t)
	s.start()
	w := s.workload("cali1", "10.65.0.1", "fd65::1")
	s.workload("cali2", "10.65.0.2")
	s.endpoint("w1", "cali1", "10.65.0.1", "fd65::1")
	s.endpoint("w2", "cali2", "10.65.0.2")
	reaches(t, w, "10.65.0.2")
	s.noErrors()
	before := s.routes()
	said := maps.Clone(s.said)
	s.stop()
	s.said = map[intent.Key]intent.Value{} // the picture is not whole yet
	s.ns.MustDo(func() (err error) {
		s.board = status.NewBoard(status.Config{Host: "h1"})
		s.lane, err = newLane(s.cfg, slog.New(slog.DiscardHandler), s.board)
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := s.ns.Go(func() error { return s.lane.loop.Run(ctx) })
	links := s.ns.Go(func() error { return s.lane.links.Run(ctx, s.lane.noteLinks) })
	time.Sleep(50 * time.Millisecond)
	if got := s.routes(); got != before {
		t.Errorf("routes before the picture is whole:\n%s\nwant:\n%s", got, before)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-links; err != nil {
		t.Error(err)
	}
	s.lane.close()
	delete(said, intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "w2"})
	s.said = said
	s.start()
	eventually(t, "what nobody wants goes", s.routes, hasNot("cali2"))
	s.noErrors()
	for _, line := range strings.Split(before, "\n") {
		if !strings.Contains(line, "cali2") && !strings.Contains(s.routes(), line) {
			t.Errorf("a route that is wanted is gone: %s", line)
		}
	}
	if d := s.board.Status().Status.Drift; len(d) > 0 {
		t.Errorf("a restart is told as drift: %+v", d)
	}
}
