// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/doctor"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/policy"
)

// strangers is where the rules of other programs are, as they made them
// themselves on Debian 12: firewalld 1.3.3, ufw 0.36.2, Docker 20.10.24,
// Podman 4.3.1 with netavark 1.4.0, fail2ban 1.0.2.
const strangers = "../testdata/strangers"

// loadStranger loads the rules of one program, through the variant of iptables
// if they are iptables'.
func loadStranger(t *testing.T, ns *netnstest.NS, name, variant string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(strangers, name+".*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules of %s (%v)", name, err)
	}
	for _, f := range files {
		program, args := "nft", []string{"-f", f}
		switch filepath.Ext(f) {
		case ".v4":
			program, args = "iptables-"+variant+"-restore", []string{"--noflush", f}
		case ".v6":
			program, args = "ip6tables-"+variant+"-restore", []string{"--noflush", f}
		}
		ns.Run(program, args...)
	}
}

// look looks at a namespace.
func look(t *testing.T, ns *netnstest.NS) doctor.Facts {
	t.Helper()
	var f doctor.Facts
	ns.MustDo(func() error {
		f = Look(context.Background(), Config{Host: "h1", NFTables: nftables.Survey, Run: host.RealRunner{}, Root: "/"})
		return nil
	})
	if len(f.Unseen) > 0 {
		t.Errorf("not seen: %q", f.Unseen)
	}
	return f
}

// TestNetnsSurvey_JudgesAsTheKernelDoes: what doctor.Judge says of packets by
// the rules that were read is what the kernel does with them, for each
// program's rules, through both variants of iptables.
func TestNetnsSurvey_JudgesAsTheKernelDoes(t *testing.T) {
	for _, c := range []struct {
		name, variant, owner string
		unknown              int // the most verdicts that may be left open
	}{
		{"firewalld", "nft", "firewalld", 0},
		{"ufw", "nft", "ufw", 61}, {"ufw", "legacy", "ufw", 10},
		{"docker", "nft", "Docker", 0}, {"docker", "legacy", "Docker", 0},
		{"podman", "nft", "Podman", 0}, {"podman", "legacy", "Podman", 0},
		{"fail2ban", "nft", "fail2ban", 0}, {"fail2ban", "legacy", "fail2ban", 0},
		{"handmade", "nft", "unknown", 22},
		{"handmade2", "nft", "rules made with iptables-nft", 126}, {"handmade2", "legacy", "rules made with iptables-legacy", 126},
	} {
		t.Run(c.name+" by "+c.variant, func(t *testing.T) {
			inj := netnstest.NewInjector(t, netnstest.InjectorConfig{Interfaces: []netnstest.Interface{
				{Name: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}, Routes: []string{"198.51.100.0/24", "2001:db8:bad::/64"}},
				{Name: "docker0", Addrs: []string{"172.17.0.1/16", "fd00:d0c::1/64"}},
			}})
			if _, err := exec.LookPath("iptables-" + c.variant); err != nil {
				t.Skip(err)
			}
			loadStranger(t, inj.NS, c.name, c.variant)
			facts := look(t, inj.NS)
			found := false
			for _, f := range doctor.Examine(facts, doctor.Settings{}).Filters {
				found = found || f.Owners[0].Name == c.owner
			}
			if !found {
				t.Errorf("no table is said to be of %s:\n%v", c.owner, doctor.Examine(facts, doctor.Settings{}).Filters)
			}
			compare(t, inj, facts, c.unknown)
		})
	}
}

// compare sends packets in and through, and asks the kernel and Judge.
func compare(t *testing.T, inj *netnstest.Injector, facts doctor.Facts, mayBeOpen int) {
	t.Helper()
	sources := []string{"192.0.2.7", "198.51.100.66", "198.51.100.77", "2001:db8::7", "2001:db8:bad::1", "2001:db8:bad::2"}
	port := uint16(20000)
	asked, open, dropped := 0, 0, 0
	for _, protocol := range []uint8{netnstest.TCP, netnstest.UDP} {
		for _, src := range sources {
			for _, dst := range []uint16{22, 23, 53, 80, 137, 443, 546, 2222, 4444, 5353, 6000, 6379, 8000, 8080, 8443, 9000, 60000} {
				for _, forwarded := range []bool{false, true} {
					port++
					asked++
					s := netip.MustParseAddr(src)
					p := netnstest.Packet{Src: s, Protocol: protocol, SrcPort: port, DstPort: dst}
					q := doctor.Packet{Protocol: protocol, In: "eth0", Source: s, DestinationPort: dst, Local: !forwarded}
					var passed bool
					hooks := []string{"prerouting", "input"}
					switch {
					case forwarded:
						if p.Dst = netip.MustParseAddr("172.17.0.2"); s.Is6() {
							p.Dst = netip.MustParseAddr("fd00:d0c::2")
						}
						q.Out, hooks = "docker0", []string{"prerouting", "forward"}
						passed = inj.Forward(p, "eth0", "docker0")
					default:
						if p.Dst = netip.MustParseAddr("192.0.2.1"); s.Is6() {
							p.Dst = netip.MustParseAddr("2001:db8::1")
						}
						if redirected(facts, p) {
							continue
						}
						passed = inj.In("eth0", p)
					}
					q.Destination = p.Dst
					f := doctor.Judge(facts.Tables, hooks, q)
					if !passed {
						dropped++
					}
					switch {
					case f.Passes && f.Drops:
						open++
						if open > mayBeOpen && open < mayBeOpen+10 {
							t.Logf("%s %s to %s:%d: %+v", doctor.ProtocolName(protocol), s, p.Dst, dst, f)
						}
					case f.Passes != passed:
						t.Errorf("%s %s to %s:%d: passes: %v, and Judge says %+v", doctor.ProtocolName(protocol), s, p.Dst, dst, passed, f)
					}
				}
			}
		}
	}
	t.Logf("%d packets, %d dropped, %d verdicts left open", asked, dropped, open)
	if open > mayBeOpen {
		t.Errorf("%d verdicts are left open, want %d at the most", open, mayBeOpen)
	}
}

// redirected tells whether a packet is sent elsewhere, so that it does not come
// in.
func redirected(facts doctor.Facts, p netnstest.Packet) bool {
	for _, t := range facts.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if r.Action == doctor.DNATs && strings.Contains(r.Match.String(), fmt.Sprintf("to port %d", p.DstPort)) {
					return true
				}
			}
		}
	}
	return false
}

// TestNetnsSurvey_PublishedPortsAreTheSameByBothVariants of iptables, with where
// they lead.
func TestNetnsSurvey_PublishedPortsAreTheSameByBothVariants(t *testing.T) {
	for name, want := range map[string][]string{
		"docker": {"172.17.0.2:5432", "172.17.0.2:80", "172.19.0.2:53", "172.19.0.2:6379", "[fd00:d0c::242:ac11:2]:80"},
		"podman": {"10.88.0.2:80", "10.88.0.2:9200"},
	} {
		for _, variant := range []string{"nft", "legacy"} {
			ns := netnstest.New(t)
			loadStranger(t, ns, name, variant)
			var got []string
			for _, e := range doctor.Expose(look(t, ns), nil, policy.Options{}).Exposed {
				if e.Published != nil {
					got = append(got, e.Published.To)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s by %s: published ports lead to %q, want %q", name, variant, got, want)
			}
		}
	}
	// By nft itself: to an address, to a port of this host, and by a map.
	ns := netnstest.New(t)
	loadStranger(t, ns, "published", "nft")
	var got []string
	for _, e := range doctor.Expose(look(t, ns), nil, policy.Options{}).Exposed {
		got = append(got, e.Endpoint()+" "+e.Published.To)
	}
	slices.Sort(got)
	want := []string{"tcp *:8000-8100 @there", "tcp *:8443 this host:443", "tcp 0.0.0.0:81 192.0.2.9:80", "udp [::]:54 [2001:db8::9]:53"}
	if !slices.Equal(got, want) {
		t.Errorf("published by nft: %q, want %q", got, want)
	}
}

func TestNetnsSurvey_FindsSocketsWithTheirProcess(t *testing.T) {
	ns := netnstest.New(t)
	listen := func(network, address string) {
		t.Helper()
		ns.MustDo(func() error { return listenFor(t, network, address) })
	}
	listen("tcp4", "0.0.0.0:7001")
	listen("tcp6", "[::]:7002")
	listen("tcp", "[::]:7003")
	ns.MustDo(func() error { return dialFor(t, "127.0.0.1:7001") }) // is connected: not listed
	listen("udp4", "127.0.0.1:7004")
	listen("udp6", "[::1]:7005")
	got := map[string]doctor.Socket{}
	for _, s := range look(t, ns).Sockets {
		got[fmt.Sprintf("%s %s dual %v", doctor.ProtocolName(s.Protocol), s.Address, s.Dual)] = s
	}
	for _, want := range []string{"tcp 0.0.0.0:7001 dual false", "tcp [::]:7002 dual false", "tcp [::]:7003 dual true", "udp 127.0.0.1:7004 dual false", "udp [::1]:7005 dual false"} {
		if s, ok := got[want]; !ok || s.PID != os.Getpid() || s.Process == "" {
			t.Errorf("%s: %+v (there: %v), want it with this process", want, s, ok)
		}
	}
	all := look(t, ns).Sockets
	if len(all) != 5 {
		t.Errorf("sockets: %v, want the five", all)
	}
}

func TestNetnsSurvey_FindsSetsAndSysctls(t *testing.T) {
	ns := netnstest.New(t)
	if _, err := exec.LookPath("ipset"); err != nil {
		t.Skip(err)
	}
	ns.Run("ipset", "create", "f2b-sshd", "hash:ip", "family", "inet6")
	ns.Run("ipset", "add", "f2b-sshd", "2001:db8::66")
	ns.Run("ipset", "create", "nets", "hash:net")
	ns.Sysctl("net/ipv4/conf/lo/route_localnet", "1")
	f := look(t, ns)
	want := []doctor.IPSet{{Name: "f2b-sshd", Type: "hash:ip", Members: 1}, {Name: "nets", Type: "hash:net"}}
	if fmt.Sprint(f.Sets) != fmt.Sprint(want) {
		t.Errorf("sets: %+v, want %+v", f.Sets, want)
	}
	if got := f.Sysctls["net.ipv4.conf.lo.route_localnet"]; got != "1" {
		t.Errorf("route_localnet of lo: %q, want 1", got)
	}
}

// TestNetnsSurvey_ChangesNothing: looking loads no table and leaves the rules.
func TestNetnsSurvey_ChangesNothing(t *testing.T) {
	ns := netnstest.New(t)
	loadStranger(t, ns, "podman", "legacy")
	before := ns.Run("nft", "-a", "list", "ruleset") + ns.Run("iptables-legacy-save") + ns.Run("cat", "/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names")
	look(t, ns)
	if after := ns.Run("nft", "-a", "list", "ruleset") + ns.Run("iptables-legacy-save") + ns.Run("cat", "/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"); withoutComments(after) != withoutComments(before) {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// withoutComments drops the lines with the time of printing.
func withoutComments(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
