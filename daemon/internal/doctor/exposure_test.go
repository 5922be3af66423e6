// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"flag"
	"fmt"
	"math/rand/v2"
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

// TestExpose_JoiningClassesChangesNothing: who gets through by the
// representatives is who gets through when every class is asked.
func TestExpose_JoiningClassesChangesNothing(t *testing.T) {
	b, err := os.ReadFile("testdata/exposure/guarded.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	text := string(b)
	for i := range 40 {
		text += fmt.Sprintf("---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: p%d, labels: {a: a%d, b: b%d}}\nspec: {node: p%d, interfaceName: eth0, expectedIPs: [10.0.%d.%d, \"2001:db8::%x\"]}\n",
			i, rnd.IntN(4), rnd.IntN(3), i, rnd.IntN(3), i+2, i+16)
		text += fmt.Sprintf("---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: r%d}\nspec: {order: %d, selector: role == 'web', types: [Ingress], ingress: [{action: %s, protocol: TCP, source: {selector: a == 'a%d' || b == 'b%d', notNets: [10.0.%d.0/24]}, destination: {ports: [%d]}}]}\n",
			i, rnd.IntN(9), []string{"Allow", "Deny"}[rnd.IntN(2)], rnd.IntN(4), rnd.IntN(3), rnd.IntN(3), []int{80, 9200, 7777, 2375}[rnd.IntN(4)])
	}
	x := newExposer(server(t), resources(t, text), noFailsafes())
	asked, joined := 0, 0
	for _, s := range x.facts.Sockets {
		for _, i := range x.doors() {
			for _, family := range []int{4, 6} {
				to, ok := x.addressAt(i, family)
				if !ok {
					continue
				}
				a := approach{family: family, in: i.Name, protocol: s.Protocol, dialled: netip.AddrPortFrom(to, s.Address.Port())}
				through := func(classes []*class) map[string]bool {
					out := map[string]bool{}
					for _, c := range classes {
						f := x.flow(a, c.example)
						pass := x.world.Evaluate(f).Verdict.Passes() && x.strangers(a, f).Passes
						out["anybody"] = out["anybody"] || c.anybody && pass
						for _, n := range c.nets {
							out[n.String()] = pass
						}
					}
					return out
				}
				reps := x.representatives(a)
				asked, joined = asked+len(x.classes[family]), joined+len(reps)
				if d := cmp.Diff(through(x.classes[family]), through(reps)); d != "" {
					t.Fatalf("%s port %d over %s, all -, joined +:\n%s", ProtocolName(a.protocol), a.dialled.Port(), a.in, d)
				}
			}
		}
	}
	if joined*2 > asked {
		t.Errorf("%d classes are joined to %d, want less than half", asked, joined)
	}
}

func TestPublished_PortsAreWhatAllConditionsAllow(t *testing.T) {
	p := Published{Match: Match{DestinationPorts: []Cond[Ports]{{Any: []Ports{{100, 200}, {300, 400}}}, {Not: true, Any: []Ports{{350, 500}, {150, 150}}}}}}
	if d := cmp.Diff([]Ports{{100, 149}, {151, 200}, {300, 349}}, p.ports()); d != "" {
		t.Errorf("ports, want -, got +:\n%s", d)
	}
	p.Match.DestinationPorts = append(p.Match.DestinationPorts, Cond[Ports]{Any: []Ports{{22, 22}}})
	if got := p.ports(); len(got) > 0 {
		t.Errorf("ports of conditions that exclude each other = %v, want none", got)
	}
}
