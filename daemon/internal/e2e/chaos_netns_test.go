// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/store"
)

var (
	kills         = flag.Int("kills", 100, "how often the agent is killed while policies change")
	killsIPTables = flag.Int("kills-iptables", 20, "the same for each variant of iptables")
	replacements  = flag.Int("replacements", 1000, "how many policy replacements the churn test makes")
)

// host is the head of the endpoint that the chaos tests protect.
const chaosEndpoint = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h, labels: {role: victim}}
spec: {node: h1, interfaceName: rstun0, expectedIPs: [10.1.0.1, "fd01::1"]}
`

// chaosPolicies are pictures that all allow UDP and TCP port 8000 and all
// deny port 9999, by different means. n varies the rest.
func chaosPolicies(n int) string {
	s := fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: peers, labels: {peers: "yes"}}
spec: {nets: [10.1.0.0/24, "fd01::/64", 203.0.113.%d, 198.51.%d.0/24]}
`, n%250, n%250)
	first := `{action: Allow, protocol: UDP, source: {selector: peers == 'yes'}, destination: {ports: [8000]}}`
	if n%2 == 1 {
		first = `{action: Allow, protocol: UDP, destination: {ports: ["7990:8010"]}}`
	}
	s += fmt.Sprintf(`---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: main}
spec:
  order: 100
  selector: role == 'victim'
  types: [Ingress, Egress]
  ingress:
    - {action: Deny, protocol: UDP, destination: {ports: [9999, %d]}}
    - {action: Deny, protocol: TCP, source: {nets: [192.0.2.%d/32]}}
    - %s
    - {action: Allow, protocol: TCP, destination: {ports: [8000, %d]}}
    - {action: Allow, protocol: UDP, destination: {ports: [8000]}}
  egress:
    - {action: Allow}
`, 10000+n%1000, n%250, first, 20000+n%1000)
	for i := range 3 + n%5 {
		s += fmt.Sprintf(`---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: filler-%d}
spec:
  order: %d
  selector: role == 'victim'
  ingress:
    - {action: Deny, protocol: UDP, source: {selector: "peers == 'yes'"}, destination: {ports: [%d]}}
    - {action: Pass, protocol: TCP, destination: {ports: [%d]}}
`, i, 50+i, 11000+(n+i)%1000, 12000+(n*i)%1000)
	}
	return s
}

// streams sends packets without a pause and counts wrong verdicts.
type streams struct {
	inj           *netnstest.Injector
	sent          int
	admitted, cut int
	firstWrong    string
	port          uint16
	remembers     bool // others depend on what connection tracking knows
}

// burst sends n rounds: denied and allowed packets of both families. The
// established flow keeps its ports, the new ones have fresh ports.
func (s *streams) burst(n int) {
	for range n {
		s.port++
		if s.port < 1024 {
			s.port = 1024
		}
		for _, f := range [][2]string{{"10.1.0.7", "10.1.0.1"}, {"fd01::7", "fd01::1"}} {
			p := netnstest.Packet{Src: addr(f[0]), Dst: addr(f[1]), Protocol: netnstest.UDP, SrcPort: s.port}
			p.DstPort = 9999
			if s.inj.In("rstun0", p) {
				s.wrong(&s.admitted, "admitted", p)
			}
			p.DstPort = 8000
			if !s.inj.In("rstun0", p) {
				s.wrong(&s.cut, "cut (new flow)", p)
			}
			p.SrcPort = 999
			if !s.inj.In("rstun0", p) {
				s.wrong(&s.cut, "cut (known flow)", p)
			}
			s.sent += 3
		}
		if s.port%8192 == 0 && !s.remembers {
			s.inj.FlushConntrack()
		}
	}
}

func (s *streams) wrong(n *int, what string, p netnstest.Packet) {
	*n++
	if s.firstWrong == "" {
		rules, err := s.inj.NS.Try("sh", "-c", rulesText()+"; nft list table inet ripstop")
		s.firstWrong = fmt.Sprintf("%s after %d packets: %+v\nthe kernel just after (%v):\n%s", what, s.sent, p, err, rules)
	}
}

func (s *streams) check(t *testing.T) {
	t.Helper()
	if s.admitted+s.cut > 0 {
		t.Errorf("%d packets: %d admitted that every picture denies, %d cut that every picture allows; first: %s", s.sent, s.admitted, s.cut, s.firstWrong)
	}
}

// writePictures rewrites the policies until done is closed.
func writePictures(t *testing.T, s *server, pictures func(n int) string, done <-chan struct{}, written *atomic.Int64) {
	for n := 0; ; n++ {
		docs, err := api.DecodeAll([]byte(pictures(n)), "chaos")
		if err != nil {
			t.Error(err)
			return
		}
		for _, d := range docs {
			select {
			case <-done:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := s.store.Put(ctx, d.Object, store.Always())
			cancel()
			if err != nil {
				t.Errorf("writing %s: %v", d.Object.Key(), err)
				return
			}
			written.Add(1)
		}
	}
}

// TestNetnsChaos_KilledAgentNeverOpensAndNeverCuts: the agent is killed with
// SIGKILL at random moments while policies are rewritten; packets that all
// pictures deny are never admitted, packets that all allow never cut: of the
// host, forwarded, of workloads, with a destination that another program
// rewrites, and not tracked; through each packet filter.
func TestNetnsChaos_KilledAgentNeverOpensAndNeverCuts(t *testing.T) {
	for filter, n := range map[string]int{"nftables": *kills, "legacy": *killsIPTables, "nf_tables": *killsIPTables} {
		t.Run(filter, func(t *testing.T) { killStorm(t, filter, n) })
	}
}

func killStorm(t *testing.T, filter string, kills int) {
	r := newRand(t)
	srv := startServer(t)
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{Interfaces: trafficInterfaces})
	inj.NS.Run("sh", "-c", publishedBy(filter)) // and so the agent finds which variant is in use
	srv.put(t, trafficEndpoints)
	pictures := func(n int) string { return chaosPolicies(n) + trafficPolicies(n) }
	rev := srv.put(t, pictures(0))
	dataplane := "nftables"
	if filter != dataplane {
		dataplane = "iptables"
	}
	a := startAgent(t, inj.NS, srv.etcd(), "--dataplane", dataplane)
	hs := a.applied(t, rev)
	if d := hs.Status.Dataplane; !strings.Contains(d.Backend+" "+d.Why, filter) {
		t.Fatalf("the packet filter is %s: %s", d.Backend, d.Why)
	}

	done := make(chan struct{})
	var written atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { writePictures(t, srv, pictures, done, &written) })
	defer func() { close(done); wg.Wait() }()

	s, tr := &streams{inj: inj, remembers: true}, newTraffic(t, inj, rulesTextOf(filter))
	burst := func(n int) { s.burst(n); tr.burst(n / 4) }
	for range kills {
		until := time.Now().Add(time.Duration(r.IntN(300)) * time.Millisecond)
		for time.Now().Before(until) {
			burst(20)
		}
		a.alive(t)
		a.cmd.Process.Kill()
		burst(50)
		<-a.done
		burst(50)
		a.run(t)
		burst(50)
		if s.admitted+s.cut+tr.admitted+tr.cut > 0 {
			break
		}
	}
	s.check(t)
	tr.check(t)
	t.Logf("%d kills, %d objects written, %d packets of the host and %d others, %d wrong", kills, written.Load(), s.sent, tr.sent, s.admitted+s.cut+tr.admitted+tr.cut)

	// And it still works: the last word is obeyed.
	close(done)
	wg.Wait()
	done = make(chan struct{})
	a.applied(t, srv.put(t, pictures(1)))
}

// TestNetnsChaos_ReplacementsAreNeverSeenHalfDone: meaning-preserving
// replacements without kills.
func TestNetnsChaos_ReplacementsAreNeverSeenHalfDone(t *testing.T) {
	srv := startServer(t)
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	srv.put(t, chaosEndpoint)
	a := startAgent(t, inj.NS, srv.etcd())
	a.applied(t, srv.put(t, chaosPolicies(0)))

	done := make(chan struct{})
	var written atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { writePictures(t, srv, chaosPolicies, done, &written) })
	s := &streams{inj: inj}
	for written.Load() < int64(*replacements) && s.admitted+s.cut == 0 && !t.Failed() {
		s.burst(100)
	}
	close(done)
	wg.Wait()
	s.check(t)
	hs := a.applied(t, srv.put(t, chaosPolicies(1)))
	t.Logf("%d objects written, %d packets, %d wrong, %d rules in the kernel", written.Load(), s.sent, s.admitted+s.cut, hs.Status.Dataplane.Rules)
}
