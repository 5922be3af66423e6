// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/policy"
)

// here is the host whose agent is under test.
const here = "h1"

// interfaces of the host, with their addresses.
var interfaces = map[string][]netip.Addr{
	"lo":   {addr("127.0.0.1"), addr("::1")},
	"eth0": {addr("10.0.0.1"), addr("fd00::1")},
	"eth1": {addr("10.1.0.1"), addr("fd01::1")},
}

func addr(s string) netip.Addr              { return netip.MustParseAddr(s) }
func ptr[T any](v T) *T                     { return &v }
func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }
func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

// generator makes resources out of a small world, so that rules overlap,
// touch, shadow and contradict one another.
type generator struct{ *rand.Rand }

var (
	nets4 = []string{"10.0.0.0/8", "10.0.0.0/24", "10.0.0.2/32", "10.1.0.0/16", "10.1.2.0/25", "192.168.0.0/31", "0.0.0.0/0", "128.0.0.0/1"}
	nets6 = []string{"fd00::/16", "fd00::/64", "fd00::2/128", "fd01::/17", "2001:db8::/127", "::/0", "8000::/1"}
)

func (g generator) labels() map[string]string {
	m := map[string]string{}
	for _, k := range []string{"a", "b"} {
		if chance(g.Rand, 70) {
			m[k] = pick(g.Rand, "x", "y", "z")
		}
	}
	return m
}

func (g generator) selector() string {
	atom := func() string {
		k := pick(g.Rand, "a", "b")
		v := pick(g.Rand, "x", "y", "z")
		return pick(g.Rand, k+" == '"+v+"'", k+" != '"+v+"'", "has("+k+")", "!has("+k+")", k+" in {'x','y'}", k+" not in {'z'}", "all()")
	}
	switch g.IntN(4) {
	case 0:
		return atom() + " && " + atom()
	case 1:
		return atom() + " || " + atom()
	}
	return atom()
}

func (g generator) nets(family int, lax bool) []string {
	from := nets4
	if family == 6 {
		from = nets6
	}
	var out []string
	for range 1 + g.IntN(3) {
		n := pick(g.Rand, from...)
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if lax && chance(g.Rand, 30) {
		out = append(out, map[int]string{4: "10.0.0.9", 6: "fd00::9"}[family])
	}
	return out
}

func (g generator) ports(named bool) []api.Port {
	var out []api.Port
	for range 1 + g.IntN(3) {
		lo := pick[uint16](g.Rand, 1, 22, 79, 80, 81, 443, 1000, 65535)
		p := api.Port{Min: lo, Max: lo}
		if chance(g.Rand, 30) && lo < 65000 {
			p.Max = lo + uint16(g.IntN(20))
		}
		if named && chance(g.Rand, 30) {
			p = api.Port{Name: pick(g.Rand, "web", "dns", "none")}
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func (g generator) rule() api.Rule {
	r := api.Rule{Action: pick(g.Rand, api.Allow, api.Allow, api.Deny, api.Deny, api.Pass, api.Log)}
	family := pick(g.Rand, 0, 0, 4, 6)
	nets := family
	if nets == 0 {
		nets = pick(g.Rand, 4, 6)
	}
	if family != 0 && chance(g.Rand, 50) {
		r.IPVersion = ptr(family)
	}
	withPorts := false
	switch g.IntN(8) {
	case 0, 1:
		r.Protocol = &api.Protocol{Name: "TCP"}
		withPorts = true
	case 2:
		r.Protocol = &api.Protocol{Name: "UDP"}
		withPorts = true
	case 3:
		r.Protocol = &api.Protocol{Num: pick[uint8](g.Rand, 6, 17, 132, 47)}
		withPorts = r.Protocol.Num != 47
	case 4:
		if family != 6 && (nets == 4 || family == 0) {
			r.Protocol = &api.Protocol{Name: "ICMP"}
			nets = 4
			r.IPVersion = nil
			g.icmp(&r)
		}
	case 5:
		if family != 4 {
			r.Protocol = &api.Protocol{Name: "ICMPv6"}
			nets = 6
			r.IPVersion = nil
			g.icmp(&r)
		}
	case 6:
		r.NotProtocol = &api.Protocol{Name: pick(g.Rand, "TCP", "UDP", "ICMP")}
		if r.NotProtocol.Name == "ICMP" && (family == 6 || nets == 6) {
			r.NotProtocol.Name = "TCP"
		}
	}
	g.entity(&r.Source, nets, withPorts, r.Protocol == nil)
	g.entity(&r.Destination, nets, withPorts, r.Protocol == nil)
	return r
}

func (g generator) icmp(r *api.Rule) {
	f := func() *api.ICMPFields {
		f := &api.ICMPFields{Type: ptr(pick(g.Rand, 0, 3, 8, 128, 254))}
		if chance(g.Rand, 50) {
			f.Code = ptr(pick(g.Rand, 0, 1, 255))
		}
		return f
	}
	if chance(g.Rand, 60) {
		r.ICMP = f()
	}
	if chance(g.Rand, 30) {
		r.NotICMP = f()
	}
}

func (g generator) entity(e *api.EntityRule, family int, numericPorts, namedPorts bool) {
	if chance(g.Rand, 25) {
		e.Nets = g.nets(family, false)
	}
	if chance(g.Rand, 15) {
		e.NotNets = slices.DeleteFunc(g.nets(family, false), func(n string) bool { return strings.HasSuffix(n, "/0") })
	}
	if chance(g.Rand, 20) {
		e.Selector = g.selector()
	}
	if chance(g.Rand, 10) {
		e.NotSelector = g.selector()
	}
	if chance(g.Rand, 5) {
		e.NamespaceSelector = pick(g.Rand, "all()", "global()", "team == 'x'")
	}
	switch {
	case numericPorts && chance(g.Rand, 40):
		e.Ports = g.ports(true)
	case namedPorts && chance(g.Rand, 10):
		e.Ports = []api.Port{{Name: "web"}}
	}
	if numericPorts && chance(g.Rand, 15) {
		e.NotPorts = g.ports(true)
	}
}

func (g generator) rules() []api.Rule {
	var out []api.Rule
	for range g.IntN(4) {
		out = append(out, g.rule())
	}
	return out
}

func (g generator) policySpec() api.PolicySpec {
	s := api.PolicySpec{Selector: g.selector(), Tier: pick(g.Rand, "default", "default", "t1", "t2")}
	if chance(g.Rand, 70) {
		s.Order = ptr(float64(g.IntN(3)))
	}
	switch g.IntN(3) {
	case 0:
		s.Ingress = g.rules()
	case 1:
		s.Egress = g.rules()
	case 2:
		s.Ingress, s.Egress = g.rules(), g.rules()
	}
	if chance(g.Rand, 30) {
		s.Types = []api.PolicyType{api.Ingress, api.Egress}
	}
	return s
}

// resources makes a whole picture. Everything in it is valid and defaulted.
func (g generator) resources() []api.Object {
	var out []api.Object
	add := func(o api.Object) {
		o.Default()
		if o.Validate() == nil {
			out = append(out, o)
		}
	}
	head := func(k api.Kind) api.TypeMeta { return api.TypeMeta{Kind: k, APIVersion: api.VersionCalico} }
	for _, name := range []string{"default", "t1", "t2"} {
		t := &api.Tier{TypeMeta: head(api.KindTier), Meta: api.Meta{Name: name}}
		if name != "default" {
			t.Spec.Order = ptr(float64(g.IntN(3) * 1000000))
			t.Spec.DefaultAction = pick(g.Rand, api.Deny, api.Pass)
		}
		add(t)
	}
	for i := range 1 + g.IntN(3) {
		h := &api.HostEndpoint{TypeMeta: head(api.KindHostEndpoint), Meta: api.Meta{Name: fmt.Sprintf("hep%d", i), Labels: g.labels()}}
		h.Spec.Node = here
		h.Spec.InterfaceName = pick(g.Rand, "*", "eth0", "eth0", "eth1", "")
		if h.Spec.InterfaceName == "" || chance(g.Rand, 40) {
			h.Spec.ExpectedIPs = []string{pick(g.Rand, "10.0.0.1", "fd00::1", "10.1.0.1")}
		}
		h.Spec.Profiles = pick(g.Rand, nil, []string{"pr"}, []string{"pr", "projectcalico-default-allow"}, []string{"missing"})
		g.endpointPorts(&h.Spec.Ports)
		add(h)
	}
	for i := range g.IntN(3) {
		h := &api.HostEndpoint{TypeMeta: head(api.KindHostEndpoint), Meta: api.Meta{Name: fmt.Sprintf("far%d", i), Labels: g.labels()}}
		h.Spec.Node, h.Spec.InterfaceName = "h2", "*"
		h.Spec.ExpectedIPs = []string{"10.0.0.2", pick(g.Rand, "fd00::2", "192.168.0.1")}
		g.endpointPorts(&h.Spec.Ports)
		add(h)
	}
	for i := range g.IntN(3) {
		s := &api.GlobalNetworkSet{TypeMeta: head(api.KindGlobalNetworkSet), Meta: api.Meta{Name: fmt.Sprintf("gns%d", i), Labels: g.labels()}}
		s.Spec.Nets = append(g.nets(4, true), g.nets(6, true)...)
		add(s)
	}
	if chance(g.Rand, 40) {
		s := &api.NetworkSet{TypeMeta: head(api.KindNetworkSet), Meta: api.Meta{Name: "ns", Namespace: "prod", Labels: g.labels()}}
		s.Spec.Nets = g.nets(4, true)
		add(s)
		p := &api.Profile{TypeMeta: head(api.KindProfile), Meta: api.Meta{Name: "kns.prod"}}
		p.Spec.LabelsToApply = map[string]string{"pcns.team": pick(g.Rand, "x", "y")}
		add(p)
	}
	if chance(g.Rand, 80) {
		p := &api.Profile{TypeMeta: head(api.KindProfile), Meta: api.Meta{Name: "pr"}}
		p.Spec.Ingress, p.Spec.Egress = g.rules(), g.rules()
		if chance(g.Rand, 50) {
			p.Spec.LabelsToApply = g.labels()
		}
		add(p)
	}
	for i := range g.IntN(5) {
		p := &api.GlobalNetworkPolicy{TypeMeta: head(api.KindGlobalNetworkPolicy), Meta: api.Meta{Name: fmt.Sprintf("p%d", i)}, Spec: g.policySpec()}
		p.Spec.ApplyOnForward = chance(g.Rand, 40)
		add(p)
	}
	if chance(g.Rand, 20) {
		s := &api.StagedGlobalNetworkPolicy{TypeMeta: head(api.KindStagedGlobalNetworkPolicy), Meta: api.Meta{Name: "staged"}, Spec: g.policySpec()}
		add(s)
	}
	if chance(g.Rand, 50) {
		f := &api.FelixConfiguration{TypeMeta: head(api.KindFelixConfiguration), Meta: api.Meta{Name: "default"}}
		f.Spec.DisableConntrackInvalidCheck = ptr(chance(g.Rand, 50))
		if chance(g.Rand, 60) {
			f.Spec.FailsafeInboundHostPorts = &[]api.ProtoPort{{Protocol: "TCP", Port: 22}, {Protocol: "UDP", Port: 80, Net: pick(g.Rand, "10.0.0.0/24", "fd00::/64")}}
			f.Spec.FailsafeOutboundHostPorts = &[]api.ProtoPort{}
		}
		add(f)
	}
	return out
}

func (g generator) endpointPorts(out *[]api.EndpointPort) {
	for range g.IntN(3) {
		*out = append(*out, api.EndpointPort{
			Name: pick(g.Rand, "web", "dns"), Protocol: api.Protocol{Name: pick(g.Rand, "TCP", "UDP")}, Port: pick[uint16](g.Rand, 80, 1000, 53),
		})
	}
}

// probe is one packet at one hook, in the words of all three accounts.
type probe struct {
	hook   ruleset.Hook
	packet ruleset.Packet
}

func (p probe) flow() policy.Flow {
	f := policy.Flow{
		Host:        policy.Host{Name: here, Interfaces: interfaces},
		InInterface: p.packet.In, OutInterface: p.packet.Out,
		Source: p.packet.Src, Destination: p.packet.Dst, Protocol: p.packet.Protocol,
		SourcePort: p.packet.SrcPort, DestinationPort: p.packet.DstPort,
		ICMPType: p.packet.ICMPType, ICMPCode: p.packet.ICMPCode,
	}
	switch p.hook {
	case ruleset.HookInput:
		f.Direction = policy.Inbound
	case ruleset.HookOutput:
		f.Direction = policy.Outbound
	case ruleset.HookForward:
		f.Direction = policy.Forwarded
	}
	switch p.packet.State {
	case ruleset.CtEstablished:
		f.State = policy.Established
	case ruleset.CtRelated:
		f.State = policy.Related
	case ruleset.CtInvalid:
		f.State = policy.Invalid
	case ruleset.CtUntracked:
		f.State = policy.Untracked
	}
	return f
}

// borders are the addresses at, beside and between the borders of all nets
// that the generator uses; ports likewise.
var borders4, borders6 = func() (a, b []netip.Addr) {
	add := func(list *[]netip.Addr, x netip.Addr) {
		if x.IsValid() && !slices.Contains(*list, x) {
			*list = append(*list, x)
		}
	}
	for _, n := range append(append([]string{"10.0.0.9/32", "10.0.0.1/32", "fd00::9/128", "fd00::1/128"}, nets4...), nets6...) {
		p := netip.MustParsePrefix(n)
		list := &a
		if p.Addr().Is6() {
			list = &b
		}
		last := lastOf(p)
		for _, x := range []netip.Addr{p.Addr(), p.Addr().Prev(), last, last.Next()} {
			add(list, x)
		}
	}
	return a, b
}()

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

var borderPorts = []uint16{1, 2, 21, 22, 23, 52, 53, 54, 78, 79, 80, 81, 82, 99, 100, 101, 442, 443, 444, 999, 1000, 1001, 1019, 1020, 65534, 65535}

// probe makes a packet, mostly on borders.
func (g generator) probe() probe {
	p := probe{hook: pick(g.Rand, ruleset.HookInput, ruleset.HookInput, ruleset.HookOutput, ruleset.HookForward)}
	k := &p.packet
	k.Src, k.Dst = pick(g.Rand, borders4...), pick(g.Rand, borders4...)
	k.Protocol = pick[uint8](g.Rand, 6, 6, 17, 17, 1, 132, 136, 47, 255)
	if chance(g.Rand, 45) {
		k.Src, k.Dst = pick(g.Rand, borders6...), pick(g.Rand, borders6...)
		k.Protocol = pick[uint8](g.Rand, 6, 6, 17, 17, 58, 58, 132, 47)
	}
	if ruleset.HasPorts(k.Protocol) {
		k.SrcPort, k.DstPort = pick(g.Rand, borderPorts...), pick(g.Rand, borderPorts...)
	}
	if k.Protocol == 1 || k.Protocol == 58 {
		k.ICMPType = pick[uint8](g.Rand, 0, 3, 8, 128, 130, 133, 134, 135, 136, 137, 143, 253, 254)
		k.ICMPCode = pick[uint8](g.Rand, 0, 1, 2, 255)
	}
	if p.hook != ruleset.HookOutput {
		k.In = pick(g.Rand, "eth0", "eth0", "eth1", "lo", "cali1")
	}
	if p.hook != ruleset.HookInput {
		k.Out = pick(g.Rand, "eth0", "eth0", "eth1", "lo", "cali1")
	}
	if p.hook == ruleset.HookForward {
		k.In, k.Out = pick(g.Rand, "eth0", "eth1", "cali1"), pick(g.Rand, "eth0", "eth1", "cali1")
	}
	k.State = ruleset.CtNew
	if chance(g.Rand, 15) {
		k.State = pick(g.Rand, ruleset.CtEstablished, ruleset.CtRelated, ruleset.CtInvalid, ruleset.CtUntracked)
	}
	k.HopLimit = 255
	return p
}
