// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// court is a kernel that judges probes: one namespace in which every address
// is the host's own (input) and one that routes everything to one interface
// (output, forward), each with the same rules, and with the same ports that
// another program publishes.
type court struct {
	t     testing.TB
	seats []*seat
	out   string           // where everything is routed to
	ports []netip.AddrPort // what port firstPublished and those after it lead to
}

// firstPublished is the first of the ports of TCP and UDP whose destination
// another program rewrites, whatever address is dialled.
const firstPublished = 30000

type seat struct {
	inj    *netnstest.Injector
	filter packetFilter
	have   *ruleset.State
	sent   int
}

// newCourt opens a court with the interfaces of the random pictures.
func newCourt(t testing.TB) *court {
	return newCourtOf(t, 2, append([]string{"eth0", "eth1"}, workloadInterfaces...)...)
}

// newCourtOf opens a court with the first n of the two namespaces; eth1 is
// among the interfaces.
func newCourtOf(t testing.TB, n int, names ...string) *court {
	t.Helper()
	c := &court{t: t}
	for i := range n {
		var devices []netnstest.Interface
		for _, name := range names {
			devices = append(devices, netnstest.Interface{Name: name})
		}
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{Interfaces: devices})
		if i == 0 {
			for _, d := range devices {
				inj.NS.Sysctl("net/ipv4/conf/"+d.Name+"/accept_local", "1")
			}
			inj.NS.Run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo")
			inj.NS.Run("ip", "-6", "route", "add", "local", "::/0", "dev", "lo")
		}
		s := &seat{inj: inj, have: ruleset.NewState()}
		inj.NS.MustDo(func() error {
			f, err := openFilter(nftables.Default())
			s.filter = f
			return err
		})
		t.Cleanup(func() { s.filter.Close() })
		c.seats = append(c.seats, s)
	}
	c.route("eth1")
	return c
}

// route sends everything that is not the host's own out by an interface.
func (c *court) route(out string) {
	c.t.Helper()
	if c.out == out {
		return
	}
	c.out = out
	ns := c.seats[len(c.seats)-1].inj.NS
	ns.Run("ip", "route", "replace", "default", "dev", out)
	_, _ = ns.Try("ip", "-6", "route", "flush", "default")
	ns.Run("ip", "-6", "route", "add", "default", "dev", out)
}

// publish is another program's destination NAT.
func (c *court) publish(ports []netip.AddrPort) {
	c.t.Helper()
	c.ports = ports
	var rules strings.Builder
	rules.WriteString("table inet published\ndelete table inet published\n" +
		"table inet published {\nchain pre {\ntype nat hook prerouting priority dstnat; policy accept;\n")
	for i, p := range ports {
		family, proto := "ipv4", "ip"
		if p.Addr().Is6() {
			family, proto = "ipv6", "ip6"
		}
		fmt.Fprintf(&rules, "meta nfproto %s meta l4proto { tcp, udp } th dport %d dnat %s to %s\n", family, firstPublished+i, proto, p)
	}
	rules.WriteString("}\n}\n")
	for _, s := range c.seats {
		s.inj.NS.MustDo(func() error {
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader(rules.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w\n%s\n%s", err, out, rules.String())
			}
			return nil
		})
	}
}

// dialled makes a probe whose destination is rewritten one that dials a
// published port; false: none leads to an address of its family.
func (c *court) dialled(p *probe) bool {
	for i, target := range c.ports {
		if target.Addr().Is4() == p.packet.Dst.Is4() && (i+int(p.packet.SrcPort))%3 > 0 {
			p.packet.Dst, p.packet.DstPort = target.Addr(), target.Port()
			p.dialled = netip.AddrPortFrom(p.dialled.Addr(), uint16(firstPublished+i))
			return p.dialled.Addr() != target.Addr() && p.packet.Src != target.Addr() && p.packet.Src != p.dialled.Addr()
		}
	}
	return false
}

// load makes the kernel's rules those planned for a picture: only differences
// to the picture before are sent, as in the agent.
func (c *court) load(objs []api.Object) *ruleset.State {
	c.t.Helper()
	want := planned(objs)
	for _, s := range c.seats {
		transfer(s.filter, s.have, want)
		s.have = want
		s.inj.NS.MustDo(func() error {
			_, err := s.filter.Reconcile(context.Background())
			return err
		})
		s.inj.FlushConntrack()
	}
	return want
}

// transfer tells a back end the difference between two rulesets.
func transfer(out interface {
	Want(ruleset.ID, ruleset.Object)
	Unwant(ruleset.ID)
}, have, want *ruleset.State) {
	old, now := objects(have), objects(want)
	for id := range old {
		if _, ok := now[id]; !ok {
			out.Unwant(id)
		}
	}
	for id, o := range now {
		if before, ok := old[id]; !ok || fmt.Sprint(before) != fmt.Sprint(o) {
			out.Want(id, o)
		}
	}
}

func objects(s *ruleset.State) map[ruleset.ID]ruleset.Object {
	m := map[ruleset.ID]ruleset.Object{}
	for n, c := range s.Chains {
		m[ruleset.ID{Kind: ruleset.KindChain, Name: n}] = c
	}
	for n, x := range s.Sets {
		m[ruleset.ID{Kind: ruleset.KindSet, Name: n}] = x
	}
	for n, es := range s.Members {
		for e := range es {
			m[ruleset.ID{Kind: ruleset.KindMember, Name: n, Elem: e}] = ruleset.Member{}
		}
	}
	for n, v := range s.Verdicts {
		m[ruleset.ID{Kind: ruleset.KindVerdicts, Name: n}] = v.Def
		for k, r := range v.Of {
			m[ruleset.ID{Kind: ruleset.KindVerdict, Name: n, Elem: ruleset.Element{Net: k.Net}, Range: k.Range}] = r
		}
	}
	for n, d := range s.Dispatches {
		m[ruleset.ID{Kind: ruleset.KindDispatch, Name: n}] = d
	}
	for n, es := range s.Entries {
		for i, e := range es {
			m[ruleset.ID{Kind: ruleset.KindEntry, Name: n, Iface: i}] = e
		}
	}
	return m
}

// fit makes a probe one that a kernel can be asked: addresses that routing
// does not refuse by itself, interfaces that there are, and the connection
// state that the kernel will find.
func (c *court) fit(p probe) (probe, bool) {
	k := &p.packet
	k.Mark, p.before = 0, ""
	if k.DNATed = k.DNATed && p.hook != ruleset.HookOutput && (k.Protocol == 6 || k.Protocol == 17); !k.DNATed {
		p.dialled = netip.AddrPort{}
	}
	if k.DNATed && !c.dialled(&p) {
		return p, false
	}
	if published := k.DstPort >= firstPublished && int(k.DstPort) < firstPublished+len(c.ports); published && p.hook != ruleset.HookOutput {
		return p, false // would be rewritten
	}
	if k.Src == k.Dst || !routable(k.Src) || !routable(k.Dst) || p.dialled.IsValid() && !routable(p.dialled.Addr()) {
		return p, false
	}
	if k.Protocol == 255 || k.Src.Is4() && k.Protocol == 58 || k.Src.Is6() && k.Protocol == 1 {
		return p, false
	}
	switch p.hook {
	case ruleset.HookInput:
		if k.In == "lo" {
			return p, false
		}
	default:
		k.Out = c.out
		if p.hook == ruleset.HookForward && k.In == "lo" {
			return p, false
		}
	}
	k.State = ruleset.CtNew
	switch k.Protocol {
	case 1: // only requests begin a connection; the rest belongs to none
		if t := k.ICMPType; t != 8 && t != 13 && t != 15 && t != 17 {
			k.State = ruleset.CtInvalid
		}
	case 136:
		// Connection tracking checks the UDP-Lite checksums of packets that
		// come in as if the pseudo header said UDP, and so takes right ones
		// for invalid (net/netfilter/nf_conntrack_proto_udp.c, Linux 6.18).
		if p.hook != ruleset.HookOutput {
			k.State = ruleset.CtInvalid
		}
	case 58:
		switch t := k.ICMPType; {
		case t == 128 || t == 139:
		case t >= 130 && t <= 136 || t == 143:
			k.State = ruleset.CtUntracked
		default:
			k.State = ruleset.CtInvalid
		}
	}
	k.HopLimit = 64
	return p, true
}

// routable tells whether routing does not refuse packets with the address.
func routable(a netip.Addr) bool {
	b := a.AsSlice()
	switch {
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return false
	case a.Is4():
		return b[0] != 0 && b[0] != 127 && b[0] < 224
	}
	return b[0] != 0xff
}

// judge asks the kernel.
func (c *court) judge(p probe) bool {
	k := p.packet
	pkt := netnstest.Packet{
		Src: k.Src, Dst: k.Dst, Protocol: k.Protocol, SrcPort: k.SrcPort, DstPort: k.DstPort,
		ICMPType: k.ICMPType, ICMPCode: k.ICMPCode, HopLimit: k.HopLimit,
	}
	if p.dialled.IsValid() {
		pkt.Dst, pkt.DstPort = p.dialled.Addr(), p.dialled.Port()
	}
	s := c.seats[len(c.seats)-1] // the last one routes
	if p.hook == ruleset.HookInput {
		s = c.seats[0]
	}
	s.sent++
	switch p.hook {
	case ruleset.HookInput:
		return s.inj.In(k.In, pkt)
	case ruleset.HookOutput:
		return s.inj.Out(k.Out, pkt)
	default:
		return s.inj.Forward(pkt, k.In, k.Out)
	}
}

// tuples are what connection tracking takes for one connection, either way,
// before and behind a rewrite.
func (p probe) tuples() []string {
	k := p.packet
	if k.Protocol == 1 || k.Protocol == 58 {
		k.ICMPCode = 0
	}
	if k.Protocol == 1 && k.ICMPType == 0 || k.Protocol == 58 && k.ICMPType == 129 {
		// An echo reply is of the request's connection.
		k.ICMPType = map[uint8]uint8{1: 8, 58: 128}[k.Protocol]
	}
	seat := p.hook == ruleset.HookInput
	both := func(dst netip.Addr, port uint16) []string {
		return []string{
			fmt.Sprint(seat, k.Protocol, k.Src, k.SrcPort, dst, port, k.ICMPType, k.ICMPCode),
			fmt.Sprint(seat, k.Protocol, dst, port, k.Src, k.SrcPort, k.ICMPType, k.ICMPCode),
		}
	}
	all := both(k.Dst, k.DstPort)
	if p.dialled.IsValid() {
		all = append(all, both(p.dialled.Addr(), p.dialled.Port())...)
	}
	return all
}

// TestNetnsDifferential_PolicyPlanAndKernelAgree: package policy, the plan's
// interpreter and the kernel say the same of random pictures and packets on
// borders. -packets says how many packets the kernel judges at the least.
func TestNetnsDifferential_PolicyPlanAndKernelAgree(t *testing.T) {
	g := generator{Rand: newRand(t)}
	c := newCourt(t)
	total, allowed, pictures := 0, 0, 0
	covered := coverage{}
	for total < *packets {
		objs := g.resources()
		c.route(pick(g.Rand, "eth1", "eth0", "cali1", "cali1", "cali2", "tap1"))
		c.publish(g.published(objs))
		w, s := worldOf(objs), c.load(objs)
		pictures++
		seen := map[string]bool{}
		for range 600 {
			p, ok := c.fit(g.probeOf(objs))
			if !ok {
				continue
			}
			tuples := p.tuples()
			if slices.ContainsFunc(tuples, func(tu string) bool { return seen[tu] }) {
				continue
			}
			for _, tu := range tuples {
				seen[tu] = true
			}
			want, d := allowedByPolicy(w, p)
			covered.note(p, d)
			eval, _ := allowedByEval(s, p)
			kernel := c.judge(p)
			total++
			if want {
				allowed++
			}
			if want != eval || want != kernel {
				c.reportSmallest(objs, p)
				return
			}
		}
	}
	t.Logf("%d packets over %d pictures: %d allowed, %d denied; policy = plan = kernel\n%s", total, pictures, allowed, total-allowed, covered)
}

func (c *court) reportSmallest(objs []api.Object, p probe) {
	c.t.Helper()
	differ := func(objs []api.Object) (bool, bool, bool) {
		w, s := worldOf(objs), c.load(objs)
		a, _ := allowedByPolicy(w, p)
		b, _ := allowedByEval(s, p)
		return a, b, c.judge(p)
	}
	objs = shrink(objs, func(objs []api.Object) bool {
		a, b, k := differ(objs)
		return a != b || a != k
	})
	a, b, k := differ(objs)
	_, d := allowedByPolicy(worldOf(objs), p)
	c.t.Errorf("hook %s packet %+v dialled %s\npolicy: allowed=%v, plan: allowed=%v, kernel: allowed=%v\n  %s\nsmallest picture:\n%s\nplan:\n%s",
		p.hook, p.packet, p.dialled, a, b, k, strings.Join(d.Sentences(), "\n  "), text(objs), planned(objs))
}
