// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var (
	changes = flag.Int("changes", 40, "changes of policy that the test of 500 flows makes")
	tracked = flag.Int("tracked", 0, "connections that are tracked beside those 500")
	seed    = flag.Uint64("seed", 0, "seed of the random tests; 0: by the clock")
)

func dialTimeout(ns *netnstest.NS, address string) (c net.Conn, err error) {
	err = ns.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", address, 500*time.Millisecond)
		return err
	})
	return c, err
}

// stream is one of the 500 flows.
type stream struct {
	*flow
	source string
	port   uint16
}

// goal is a client with several addresses and a host that listens on several
// ports, and one flow from each to each.
type goal struct {
	*bed
	t       *testing.T
	sources []string
	ports   []uint16
	streams []*stream
}

func (g *goal) dial(s *stream) {
	g.t.Helper()
	network, host := "tcp", host4
	if len(s.source) > 15 || s.source[0] == 'f' {
		host = "[" + host6 + "]"
	}
	if s.port%2 == 1 {
		network = "udp"
	}
	if s.flow != nil {
		s.Close()
	}
	address := fmt.Sprint(host, ":", s.port)
	s.flow = &flow{name: network + " " + address + " from " + s.source}
	var local net.Addr = &net.TCPAddr{IP: net.ParseIP(s.source)}
	if network == "udp" {
		local = &net.UDPAddr{IP: net.ParseIP(s.source)}
	}
	g.client.MustDo(func() (err error) {
		s.Conn, err = (&net.Dialer{LocalAddr: local, Timeout: 20 * time.Second}).Dial(network, address)
		return err
	})
	if !s.says(10 * time.Second) {
		g.t.Fatalf("%s: no answer on a new connection", s.name)
	}
}

// ids are the entries' ids by the flow's client side and port.
func (g *goal) ids() map[string]string {
	out := map[string]string{}
	for flow, e := range g.entries() {
		out[fmt.Sprint(flow.src, " ", flow.srcPort, " ", flow.dstPort, " ", flow.protocol)] = fmt.Sprintf("%x", e.id)
	}
	return out
}

func (s *stream) key() string {
	port, protocol := 0, 17
	switch a := s.LocalAddr().(type) {
	case *net.TCPAddr:
		port, protocol = a.Port, protoTCP
	case *net.UDPAddr:
		port = a.Port
	}
	return fmt.Sprint(s.source, " ", port, " ", s.port, " ", protocol)
}

// TestNetnsConntrack_TighteningCutsWhatItDeniesAndNothingElse: 500 flows of
// both families, TCP and UDP; changes of rules, of sets and of the policies
// that an endpoint has. After each, the flows that it denies have no entry and
// all others the one they had. -changes says how many, -tracked how many other
// connections the table holds.
func TestNetnsConntrack_TighteningCutsWhatItDeniesAndNothingElse(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	random := rand.New(rand.NewPCG(s, 1))
	g := &goal{bed: newBed(t), t: t}
	for _, timeout := range []string{"udp_timeout", "udp_timeout_stream"} { // a UDP flow shall not end by itself
		g.host.Sysctl("net/netfilter/nf_conntrack_"+timeout, "86400")
	}
	for i := range 13 {
		g.sources = append(g.sources, fmt.Sprint("10.1.0.", 100+i))
		if i > 0 {
			g.sources = append(g.sources, fmt.Sprint("fd01::", 100+i))
		}
	}
	for _, a := range g.sources {
		if a[0] == 'f' {
			g.client.Run("ip", "addr", "add", a+"/64", "dev", "c0", "nodad")
		} else {
			g.client.Run("ip", "addr", "add", a+"/24", "dev", "c0")
		}
	}
	for i := range 20 {
		g.ports = append(g.ports, uint16(1000+i))
		serve(t, g.host, fmt.Sprint(host4, ":", 1000+i))
		serve(t, g.host, fmt.Sprint("[", host6, "]:", 1000+i))
	}
	allow := intent.Rule{Action: api.Allow, Source: intent.Entity{Set: "s"}}
	loose := []intent.Change{policy("in", &intent.Policy{Ingress: []intent.Rule{allow}}), policy("extra", &intent.Policy{}), guard([]string{"in"}, nil)}
	first := append([]intent.Change{settings(intent.Settings{}), open, set("s")}, loose...)
	for _, a := range g.sources {
		first = append(first, member("s", host(a), true))
	}
	g.say(first...)
	for _, a := range g.sources {
		for _, p := range g.ports {
			st := &stream{source: a, port: p}
			g.dial(st)
			g.streams = append(g.streams, st)
			defer func() { st.Close() }()
		}
	}
	g.host.MustDo(func() error { return put(g.part.c, many(*tracked)) })
	var took []time.Duration
	var longest string
	for i := range *changes {
		port, source := g.ports[random.IntN(len(g.ports))], g.sources[random.IntN(len(g.sources))]
		var tighten, loosen []intent.Change
		victim := func(st *stream) bool { return st.port == port }
		deny := []intent.Rule{ports(api.Deny, protoTCP, port), ports(api.Deny, 17, port)}
		switch i % 3 {
		case 0:
			tighten, loosen = []intent.Change{policy("in", &intent.Policy{Ingress: append(deny, allow)})}, loose
		case 1:
			victim = func(st *stream) bool { return st.source == source }
			tighten, loosen = []intent.Change{member("s", host(source), false)}, []intent.Change{member("s", host(source), true)}
		case 2:
			tighten, loosen = []intent.Change{policy("extra", &intent.Policy{Ingress: deny}), guard([]string{"extra", "in"}, nil)}, loose
		}
		before := g.ids()
		want := 0 // with those whose client has gone
		for flow := range g.entries() {
			if victim(&stream{source: flow.src.String(), port: flow.dstPort}) {
				want++
			}
		}
		began := time.Now()
		g.filtering = 0
		sum := g.say(tighten...)
		took = append(took, time.Since(began))
		if took[i] == slices.Max(took) {
			longest = fmt.Sprintf("%v, of which the filter %v, the pass %v", took[i], g.filtering, sum.LastTook)
		}
		after := g.ids()
		var victims, others []*stream
		for _, st := range g.streams {
			_, there := after[st.key()]
			switch {
			case victim(st):
				victims = append(victims, st)
				if there {
					t.Errorf("change %d: %s is denied and has an entry", i, st.name)
				}
			default:
				others = append(others, st)
				if before[st.key()] == "" || after[st.key()] != before[st.key()] {
					t.Errorf("change %d: %s is allowed; entry %q before, %q now", i, st.name, before[st.key()], after[st.key()])
				}
			}
		}
		if sum.LastCut != want || want < len(victims) {
			t.Errorf("change %d: %d flows cut, want %d", i, sum.LastCut, want)
		}
		for range 5 {
			if st := others[random.IntN(len(others))]; !st.says(5 * time.Second) {
				t.Errorf("change %d: %s is allowed and does not go on", i, st.name)
			}
		}
		if st := victims[random.IntN(len(victims))]; st.says(250 * time.Millisecond) {
			t.Errorf("change %d: %s is denied and goes on", i, st.name)
		}
		if sum := g.say(loosen...); sum.LastCut != 0 {
			t.Errorf("change %d taken back: %d flows cut, want none", i, sum.LastCut)
		}
		for _, st := range victims {
			g.dial(st)
		}
		if t.Failed() {
			return
		}
	}
	for _, st := range g.streams {
		if !st.says(5 * time.Second) {
			t.Errorf("in the end: %s does not go on", st.name)
		}
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))] }
	t.Logf("%d changes, %d flows and %d others: from the change of policy to the last cut p50 %v, p99 %v, longest %s",
		len(took), len(g.streams), *tracked, at(0.5), at(0.99), longest)
	if p := at(0.99); p > time.Second {
		t.Errorf("p99 %v, want at most 1 s", p)
	}
}

// host is an address as a prefix.
func host(a string) string {
	if a[0] == 'f' {
		return a + "/128"
	}
	return a + "/32"
}
