// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

var update = flag.Bool("update", false, "rewrite the reports in testdata; read the difference")

func noFailsafes() policy.Options {
	return policy.Options{FailsafeInbound: []policy.Failsafe{}, FailsafeOutbound: []policy.Failsafe{}}
}

// resources of the files in testdata.
func resources(t *testing.T, text string) []api.Object {
	t.Helper()
	docs, err := api.DecodeAll([]byte(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	var objs []api.Object
	for _, d := range docs {
		d.Object.Default()
		if err := d.Object.Validate(); err != nil {
			t.Fatal(err)
		}
		objs = append(objs, d.Object)
	}
	return append(objs, &api.Tier{Meta: api.Meta{Name: api.DefaultTier}, Spec: api.TierSpec{DefaultAction: api.Deny}})
}

// server is a host with two links, Docker, and sockets of every kind.
func server(t *testing.T) Facts {
	prefix := netip.MustParsePrefix
	f := Facts{Host: "h1", Tables: append(saved(t, "docker.v4"), saved(t, "docker.v6")...), Interfaces: []Interface{
		{Name: "lo", Up: true, Loopback: true, Addrs: []netip.Prefix{prefix("127.0.0.1/8"), prefix("::1/128")}},
		{Name: "eth0", Up: true, Addrs: []netip.Prefix{prefix("192.0.2.1/24"), prefix("2001:db8::1/64"), prefix("fe80::1/64")}},
		{Name: "eth1", Up: true, Addrs: []netip.Prefix{prefix("10.0.0.1/24")}},
		{Name: "eth2", Addrs: []netip.Prefix{prefix("10.9.0.1/24")}}, // down
		{Name: "docker0", Up: true, Bridge: true, Addrs: []netip.Prefix{prefix("172.17.0.1/16"), prefix("fd00:d0c::1/64")}},
		{Name: "br-other", Up: true, Bridge: true, Addrs: []netip.Prefix{prefix("172.19.0.1/16")}},
		{Name: "veth1", Up: true, Port: true, Addrs: []netip.Prefix{prefix("fe80::2/64")}},
	}}
	for _, s := range []struct {
		protocol uint8
		address  string
		dual     bool
		process  string
	}{
		{6, "0.0.0.0:22", false, "sshd"}, {6, "[::]:80", true, "nginx"}, {6, "[::]:2375", true, "dockerd"}, {6, "[::]:3306", false, "mysqld"},
		{6, "127.0.0.1:5432", false, "docker-proxy"}, {6, "0.0.0.0:8080", false, "docker-proxy"}, {6, "[::]:8080", false, "docker-proxy"},
		{6, "10.0.0.1:9200", false, "java"}, {6, "127.0.0.1:631", false, "cupsd"}, {17, "0.0.0.0:53", false, "unbound"}, {6, "0.0.0.0:7777", false, ""},
	} {
		f.Sockets = append(f.Sockets, Socket{Protocol: s.protocol, Address: netip.MustParseAddrPort(s.address), Dual: s.dual, Process: s.process, PID: 1})
	}
	return f
}

func TestExpose_GivesTheReport(t *testing.T) {
	files, err := filepath.Glob("testdata/exposure/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases (%v)", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := noFailsafes()
		o.FailsafeInbound = append(o.FailsafeInbound, policy.Failsafe{Protocol: 6, Port: 22, Net: netip.MustParsePrefix("10.0.0.0/8")})
		r := Expose(server(t), resources(t, string(b)), o)
		got := r.Text(true)
		golden := strings.TrimSuffix(file, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
			t.Errorf("%s: want -, got +:\n%s", file, d)
		}
	}
}

func TestDangerOf(t *testing.T) {
	everyone, group, nobody := api.Reach{Who: whoEveryone, Everyone: true}, api.Reach{Who: "role == 'web'"}, api.Reach{Who: whoNobody}
	for _, c := range []struct {
		port  uint16
		reach []api.Reach
		want  api.Danger
	}{
		{6379, []api.Reach{nobody, everyone}, api.DangerCritical}, {6379, []api.Reach{group}, api.DangerMedium}, {6379, []api.Reach{nobody}, api.DangerNone},
		{80, []api.Reach{everyone}, api.DangerMedium}, {80, []api.Reach{group}, api.DangerLow},
		{7777, []api.Reach{everyone, group}, api.DangerHigh}, {7777, []api.Reach{group, nobody}, api.DangerLow}, {7777, []api.Reach{{Who: whoThisHost}}, api.DangerNone},
	} {
		if got := dangerOf(services[6][c.port], c.reach); got != c.want {
			t.Errorf("dangerOf(port %d, %v) = %s, want %s", c.port, c.reach, got, c.want)
		}
	}
}

// TestExpose_PublishedPortsGoByAllRulesOnTheWay: what leads to the rule that
// redirects counts as much as the rule itself, and what was redirected is known
// as such to other filters.
func TestExpose_PublishedPortsGoByAllRulesOnTheWay(t *testing.T) {
	nat, err := ParseSave("ip", `*nat
:PREROUTING ACCEPT [0:0]
:mine - [0:0]
-A PREROUTING -i eth1 -p tcp -m tcp --dport 1000:2000 -j mine
-A mine -d 10.0.0.1/32 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate DNAT -s 10.0.0.0/24 -j ACCEPT
COMMIT
`)
	if err != nil {
		t.Fatal(err)
	}
	f := server(t)
	f.Tables, f.Sockets = nat, nil
	r := Expose(f, resources(t, ""), noFailsafes())
	want := []api.Exposed{{Danger: api.DangerLow, Protocol: "tcp", Address: "10.0.0.1", Port: 1000, LastPort: 2000, Service: "http",
		Published: &api.PublishedTo{To: "172.17.0.2:80", By: "rules made with iptables-legacy", Rule: "table ip nat (legacy), chain mine"},
		Reach:     []api.Reach{{Interfaces: []string{"eth1"}, Families: []int{4}, Who: "10.0.0.0/24", By: "no HostEndpoint governs the interface"}}}}
	if d := cmp.Diff(want, r.Exposed); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}
