// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// stage is one host without its programs: calc, planner and packet filter as
// in the agent, in a namespace with eth0 (10.0.0.1/24, fd00::1/64), eth1
// (10.1.0.1/24, fd01::1/64) and the workloads' interfaces cali1 (10.2.0.1/24,
// fd02::1/64) and cali2 (10.3.0.1/24, fd03::1/64). Everything that changes goes through all three as a difference
// to what was before.
type stage struct {
	t       testing.TB
	inj     *netnstest.Injector
	filter  packetFilter
	graph   *calc.Graph
	planner *dataplane.Planner
	state   *ruleset.State // the same plan, for the interpreter
	objs    map[api.Key]api.Object
	ifaces  map[string][]netip.Addr
	port    uint16
}

// both passes a plan on to the kernel and to the interpreter.
type both struct {
	filter packetFilter
	state  *ruleset.State
}

func (b both) Want(id ruleset.ID, o ruleset.Object) { b.filter.Want(id, o); b.state.Want(id, o) }
func (b both) Unwant(id ruleset.ID)                 { b.filter.Unwant(id); b.state.Unwant(id) }

func newStage(t testing.TB) *stage { return newStageOf(t, nftables.Default()) }

func newStageOf(t testing.TB, c nftables.Config) *stage {
	t.Helper()
	s := &stage{t: t, objs: map[api.Key]api.Object{}, ifaces: map[string][]netip.Addr{}, port: 20000, state: ruleset.NewState()}
	s.inj = netnstest.NewInjector(t, netnstest.InjectorConfig{Interfaces: []netnstest.Interface{
		{Name: "eth0", Addrs: []string{"10.0.0.1/24", "fd00::1/64"}, Routes: []string{"203.0.113.0/24", "2001:db8::/64", "10.99.0.0/24", "fd99::/64"}},
		{Name: "eth1", Addrs: []string{"10.1.0.1/24", "fd01::1/64"}},
		{Name: "cali1", Addrs: []string{"10.2.0.1/24", "fd02::1/64"}},
		{Name: "cali2", Addrs: []string{"10.3.0.1/24", "fd03::1/64"}},
	}})
	s.inj.NS.MustDo(func() (err error) {
		s.filter, err = openFilter(c)
		return err
	})
	t.Cleanup(func() { s.filter.Close() })
	s.graph = calc.New(calc.Config{Host: here, Settings: intent.Settings{
		FailsafeInbound: failsafeIn, FailsafeOutbound: failsafeOut, WorkloadPrefixes: []string{"cali"}, LogPrefix: "calico-packet", LogBurst: 5, VXLANPort: 4789,
	}})
	s.planner = newPlanner(both{s.filter, s.state})
	s.setInterfaces(map[string][]netip.Addr{
		"lo":    {addr("127.0.0.1"), addr("::1")},
		"eth0":  {addr("10.0.0.1"), addr("fd00::1")},
		"eth1":  {addr("10.1.0.1"), addr("fd01::1")},
		"cali1": {addr("10.2.0.1"), addr("fd02::1")},
		"cali2": {addr("10.3.0.1"), addr("fd03::1")},
	})
	return s
}

// setInterfaces tells the planner which interfaces there are now.
func (s *stage) setInterfaces(now map[string][]netip.Addr) {
	for name := range s.ifaces {
		if _, ok := now[name]; !ok {
			s.planner.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}})
		}
	}
	for name, addrs := range now {
		s.planner.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}, Value: &intent.Interface{Addrs: addrs, Up: true}})
	}
	s.ifaces = maps.Clone(now)
}

// show makes the documents the whole picture, and the kernel what follows
// from it. Connections stay.
func (s *stage) show(documents string) {
	s.t.Helper()
	docs, err := api.DecodeAll([]byte(documents), "scenario")
	if err != nil {
		s.t.Fatalf("%v\n%s", err, documents)
	}
	now := map[api.Key]api.Object{}
	for _, d := range docs {
		d.Object.Default()
		if err := d.Object.Validate(); err != nil {
			s.t.Fatalf("%v\n%s", err, documents)
		}
		now[d.Object.Key()] = d.Object
	}
	for k := range s.objs {
		if now[k] == nil {
			s.graph.Note(api.Event{Key: k, Revision: 1})
		}
	}
	for k, o := range now {
		if !reflect.DeepEqual(s.objs[k], o) {
			s.graph.Note(api.Event{Key: k, Object: o, Revision: 1})
		}
	}
	s.objs = now
	s.graph.Flush(s.planner.Note)
	s.settle()
}

func (s *stage) settle() {
	s.t.Helper()
	s.planner.Flush()
	s.inj.NS.MustDo(func() error {
		if _, err := s.filter.Reconcile(context.Background()); err != nil {
			return err
		}
		return s.filter.Verify(context.Background())
	})
}

// packet reads "in eth0 tcp 10.0.0.2 10.0.0.1 80 ok": hook, interfaces (two
// for fwd), protocol, source (with @port, else one that was not used yet),
// destination, its port if the protocol has ports, verdict. Before the verdict
// may stand what was dialled before another program rewrote the destination:
// "dialled 10.0.0.1 30000".
func (s *stage) packet(line string) (probe, bool) {
	s.t.Helper()
	f := strings.Fields(line)
	bad := func() { s.t.Helper(); s.t.Fatalf("scenario line %q cannot be read", line) }
	next := func() string {
		if len(f) == 0 {
			bad()
		}
		w := f[0]
		f = f[1:]
		return w
	}
	var p probe
	k := &p.packet
	switch next() {
	case "in":
		p.hook, k.In = ruleset.HookInput, next()
	case "out":
		p.hook, k.Out = ruleset.HookOutput, next()
	case "fwd":
		p.hook, k.In, k.Out = ruleset.HookForward, next(), next()
	default:
		bad()
	}
	words := strings.Split(next(), "/")
	number := func(text string) uint64 {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			bad()
		}
		return n
	}
	known := map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmpv6": 58}
	if k.Protocol = known[words[0]]; k.Protocol == 0 {
		k.Protocol = uint8(number(words[0]))
	}
	if len(words) == 3 {
		k.ICMPType, k.ICMPCode = uint8(number(words[1])), uint8(number(words[2]))
	}
	from, port, given := strings.Cut(next(), "@")
	k.Src, k.Dst = addr(from), addr(next())
	if ruleset.HasPorts(k.Protocol) {
		s.port++
		k.SrcPort, k.DstPort = s.port, uint16(number(next()))
		if given {
			k.SrcPort = uint16(number(port))
		}
	}
	verdict := next()
	if verdict == "dialled" {
		a := addr(next())
		p.dialled, k.DNATed = netip.AddrPortFrom(a, uint16(number(next()))), true
		verdict = next()
	}
	if verdict != "ok" && verdict != "blocked" || len(f) != 0 {
		bad()
	}
	return p, verdict == "ok"
}

// expect sends the packet of a line and compares what package policy, the
// plan and the kernel make of it with what the line says.
func (s *stage) expect(line string) {
	s.t.Helper()
	p, want := s.packet(line)
	dialled := p.dialled
	p.packet.DNATed = false
	p, ok := (&court{out: p.packet.Out}).fit(p)
	p.dialled, p.packet.DNATed = dialled, dialled.IsValid()
	if !ok {
		s.t.Fatalf("%q: the kernel cannot be asked that", line)
	}
	if p.packet.State == ruleset.CtUntracked {
		p.packet.HopLimit = 255
	}
	var objs []api.Object
	for _, o := range s.objs {
		objs = append(objs, o)
	}
	f := p.flow()
	f.Host.Interfaces = s.ifaces
	d := worldOf(objs).Evaluate(f)
	if got := d.Verdict.Passes(); got != want {
		s.t.Errorf("%s: policy says passes=%v:\n  %s", line, got, strings.Join(d.Sentences(), "\n  "))
	}
	if got, trace := allowedByEval(s.state, p); got != want {
		s.t.Errorf("%s: the plan says passes=%v at chain %s (%s)\n%s", line, got, trace.Chain, trace.Comment, s.state)
	}
	if got := s.send(p); got != want {
		s.t.Errorf("%s: the kernel says passes=%v\n%s", line, got, s.inj.NS.Run("sh", "-c", rulesText()))
	}
}

// send asks the kernel.
func (s *stage) send(p probe) bool {
	k := p.packet
	pkt := netnstest.Packet{
		Src: k.Src, Dst: k.Dst, Protocol: k.Protocol, SrcPort: k.SrcPort, DstPort: k.DstPort,
		ICMPType: k.ICMPType, ICMPCode: k.ICMPCode, HopLimit: k.HopLimit,
	}
	s.port++
	pkt.ICMPID = s.port // a connection of its own
	if p.dialled.IsValid() {
		pkt.Dst, pkt.DstPort = p.dialled.Addr(), p.dialled.Port()
	}
	switch p.hook {
	case ruleset.HookInput:
		return s.inj.In(k.In, pkt)
	case ruleset.HookOutput:
		return s.inj.Out(k.Out, pkt)
	default:
		return s.inj.Forward(pkt, k.In, k.Out)
	}
}

// Documents of scenarios, short.

func doc(kind, name, spec string) string {
	return fmt.Sprintf("---\n{apiVersion: projectcalico.org/v3, kind: %s, metadata: {name: %s}, spec: {%s}}\n", kind, name, spec)
}

func labelled(kind, name, labels, spec string) string {
	return fmt.Sprintf("---\n{apiVersion: projectcalico.org/v3, kind: %s, metadata: {name: %s, labels: {%s}}, spec: {%s}}\n", kind, name, labels, spec)
}

func inNamespace(kind, namespace, name, labels, spec string) string {
	return fmt.Sprintf("---\n{apiVersion: projectcalico.org/v3, kind: %s, metadata: {namespace: %s, name: %s, labels: {%s}}, spec: {%s}}\n", kind, namespace, name, labels, spec)
}

// hep is an endpoint of this host with label role: h.
func hep(name, iface, more string) string {
	return labelled("HostEndpoint", name, "role: h", "node: "+here+", interfaceName: '"+iface+"'"+more)
}

// remote is an endpoint of another host.
func remote(name, labels, ip, more string) string {
	return labelled("HostEndpoint", name, labels, "node: other, interfaceName: eth0, expectedIPs: ['"+ip+"']"+more)
}

func gnp(name, spec string) string { return doc("GlobalNetworkPolicy", name, spec) }

func gns(name, labels, nets string) string {
	return labelled("GlobalNetworkSet", name, labels, "nets: ["+nets+"]")
}

const (
	tierDefault = "---\n{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 1000000, defaultAction: Deny}}\n"
	allowAll    = "ingress: [{action: Allow}], egress: [{action: Allow}]"
)

func tier(name, order, action string) string {
	return doc("Tier", name, "order: "+order+", defaultAction: "+action)
}

func felix(spec string) string { return doc("FelixConfiguration", "default", spec) }

// twin is the IPv6 twin of a scenario's text.
func twin(text string) string {
	return strings.NewReplacer(
		"10.0.0.0/25", "fd00::/121", "10.0.0.128/25", "fd00::80/121", "10.0.0.0/24", "fd00::/64", "10.1.0.0/24", "fd01::/64", "10.0.0.0/8", "fd00::/8",
		"203.0.113.0/24", "2001:db8::/64", "0.0.0.0/0", "'::/0'",
		"10.0.0.127", "fd00::7f", "10.0.0.128", "fd00::80", "10.0.0.129", "fd00::81", "10.0.0.200", "fd00::c8",
		"10.0.0.", "fd00::", "10.1.0.", "fd01::", "10.2.0.", "fd02::", "10.3.0.", "fd03::", "10.99.0.", "fd99::", "203.0.113.", "2001:db8::",
		"/32", "/128", "ipVersion: 4", "ipVersion: 6", "protocol: ICMP,", "protocol: ICMPv6,", "protocol: ICMP}", "protocol: ICMPv6}",
		"icmp/8/", "icmpv6/128/", "icmp/3/", "icmpv6/1/", "icmp/0/", "icmpv6/129/", "type: 8", "type: 128",
	).Replace(text)
}
