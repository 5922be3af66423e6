// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
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
	"lo":   {addr("127.0.0.1"), addr("::1"), addr("10.255.0.1")},
	"eth0": {addr("10.0.0.1"), addr("fd00::1")},
	"eth1": {addr("10.1.0.1"), addr("fd01::1")},
}

func addr(s string) netip.Addr              { return netip.MustParseAddr(s) }
func ptr[T any](v T) *T                     { return &v }
func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }
func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

// generator makes resources out of a small world, so that rules overlap,
// touch, shadow and contradict one another. broken: validation is left out,
// and some rules are such that it would have refused them.
type generator struct {
	*rand.Rand
	broken bool
}

var (
	// Some contain one another, some touch (10.1.2.0/25 and 10.1.2.128/25,
	// the two halves of everything).
	nets4 = []string{"10.0.0.0/8", "10.0.0.0/24", "10.0.0.2/32", "10.1.0.0/16", "10.1.2.0/25", "10.1.2.128/25", "192.168.0.0/31", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"}
	nets6 = []string{"fd00::/16", "fd00::/64", "fd00::2/128", "fd01::/17", "2001:db8::/127", "2001:db8::2/127", "::/0", "::/1", "8000::/1"}
)

// named is a protocol by its name.
func named(p string) *api.Protocol { return &api.Protocol{Name: p} }

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
		if chance(g.Rand, 5) { // those that are dialled before a rewrite
			p = pick(g.Rand, api.Port{Min: 30000, Max: 30000}, api.Port{Min: 30001, Max: 30002}, api.Port{Min: 20000, Max: 30000})
		}
		if chance(g.Rand, 5) { // all of them, or a range that ends where another begins
			p = pick(g.Rand, api.Port{Min: 1, Max: 65535}, api.Port{Min: 1, Max: 79}, api.Port{Min: 82, Max: 65535})
		}
		if named && chance(g.Rand, 40) {
			p = api.Port{Name: pick(g.Rand, "web", "dns", "none")}
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func (g generator) rule(ingress bool) api.Rule {
	r := api.Rule{Action: pick(g.Rand, api.Allow, api.Allow, api.Deny, api.Deny, api.Pass, api.Pass, api.Log)}
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
		r.Protocol = &api.Protocol{Num: pick[uint8](g.Rand, 6, 17, 132, 136, 47)}
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
	case 7:
		r.NotProtocol = &api.Protocol{Num: pick[uint8](g.Rand, 132, 47, 6)}
	}
	g.entity(&r.Source, nets, withPorts, r.Protocol == nil)
	g.entity(&r.Destination, nets, withPorts, r.Protocol == nil)
	if chance(g.Rand, 3) { // what nobody here can enforce
		if ingress && r.Action == api.Allow && r.Protocol != nil && r.Protocol.Number() == 6 {
			r.HTTP = &api.HTTPMatch{Methods: []string{"GET"}}
		} else if e := map[bool]*api.EntityRule{true: &r.Source, false: &r.Destination}[ingress]; len(e.Ports)+len(e.NotPorts) == 0 {
			*e = api.EntityRule{Services: &api.ServiceMatch{Name: "s", Namespace: "prod"}}
		}
	}
	if g.broken && chance(g.Rand, 40) {
		g.breakRule(&r)
	}
	return r
}

// breakRule puts something into a rule that validation refuses, but that may
// stand in a store all the same: what is to become of it is laid down too.
func (g generator) breakRule(r *api.Rule) {
	e := pick(g.Rand, &r.Source, &r.Destination)
	switch g.IntN(14) {
	case 0:
		e.Nets = append(e.Nets, pick(g.Rand, "10.0.0.0/33", "nonsense", "fd00::/129", ""), pick(g.Rand, nets4...))
	case 1:
		e.Nets = []string{"10.0.0.300"}
	case 2:
		e.NotNets = append(e.NotNets, "10.0.0.1/8/8")
	case 3:
		e.NotNets = append(e.NotNets, pick(g.Rand, "0.0.0.0/0", "::/0"))
	case 4: // nets of both families in one rule
		e.Nets = append(g.nets(4, false), g.nets(6, false)...)
	case 5:
		e.NotNets = append(g.nets(4, false), g.nets(6, false)...)
	case 6:
		*pick(g.Rand, &e.Selector, &e.NotSelector, &e.NamespaceSelector) = "a == "
	case 7:
		r.Protocol = pick(g.Rand, named("TPC"), &api.Protocol{})
	case 8:
		r.Protocol, r.NotProtocol = nil, named("nonsense")
	case 9:
		e.Ports = []api.Port{{Min: 90, Max: 80}, {Min: 443, Max: 443}}
	case 10:
		r.Protocol, e.Ports = pick(g.Rand, nil, &api.Protocol{Num: 47}), g.ports(true)
	case 11:
		r.IPVersion = ptr(pick(g.Rand, 0, 5))
	case 12:
		r.Action = "Maybe"
	case 13:
		r.Protocol = pick(g.Rand, nil, named("ICMP"), named("TCP"))
		f := pick(g.Rand, &api.ICMPFields{Code: ptr(1)}, &api.ICMPFields{Type: ptr(256)}, &api.ICMPFields{Type: ptr(8), Code: ptr(-1)}, &api.ICMPFields{Type: ptr(8)})
		*pick(g.Rand, &r.ICMP, &r.NotICMP) = f
	}
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
	if chance(g.Rand, 4) {
		e.ServiceAccounts = pick(g.Rand, &api.ServiceAccountMatch{Names: []string{"sa"}}, &api.ServiceAccountMatch{Selector: "a == 'x'"}, &api.ServiceAccountMatch{Selector: "!has(a)"})
	}
	switch {
	case numericPorts && chance(g.Rand, 40):
		e.Ports = g.ports(true)
	case namedPorts && chance(g.Rand, 15):
		e.Ports = []api.Port{{Name: pick(g.Rand, "web", "dns")}}
	}
	if numericPorts && chance(g.Rand, 15) {
		e.NotPorts = g.ports(true)
	}
	if (numericPorts || namedPorts) && chance(g.Rand, 5) { // of some endpoints, not of all that have it
		e.Selector, e.Ports, e.NotPorts = g.selector(), []api.Port{{Name: pick(g.Rand, "web", "dns")}}, nil
	}
}

func (g generator) rules(ingress bool) []api.Rule {
	var out []api.Rule
	for range g.IntN(4) {
		out = append(out, g.rule(ingress))
	}
	return out
}

// policySpec makes a policy of a tier; "t3" is one that does not exist.
func (g generator) policySpec(namespaced bool) api.PolicySpec {
	s := api.PolicySpec{Selector: g.selector(), Tier: pick(g.Rand, "default", "default", "default", "t1", "t1", "nat", "t3")}
	if chance(g.Rand, 70) {
		s.Order = ptr(float64(g.IntN(2)))
	}
	switch g.IntN(4) {
	case 0:
		s.Ingress = g.rules(true)
	case 1:
		s.Egress = g.rules(false)
	default:
		s.Ingress, s.Egress = g.rules(true), g.rules(false)
	}
	switch g.IntN(8) {
	case 0, 1:
		s.Types = []api.PolicyType{api.Ingress, api.Egress}
	case 2: // types without rules: the tier's default decides
		s.Types, s.Ingress, s.Egress = []api.PolicyType{pick(g.Rand, api.Ingress, api.Egress)}, nil, nil
	case 3: // rules without their type are not there
		s.Types = []api.PolicyType{pick(g.Rand, api.Ingress, api.Egress)}
	}
	if namespaced {
		return s
	}
	if chance(g.Rand, 5) {
		s.NamespaceSelector = pick(g.Rand, "all()", "!has(team)")
	}
	if chance(g.Rand, 5) {
		s.ServiceAccountSelector = pick(g.Rand, "all()", "!has(a)", "a == 'x'")
		s.Selector = pick(g.Rand, "", "all()", s.Selector)
	}
	return s
}

func head(k api.Kind) api.TypeMeta { return api.TypeMeta{Kind: k, APIVersion: api.VersionCalico} }

// resources makes a whole picture, defaulted and, unless it is a broken one,
// valid.
func (g generator) resources() []api.Object {
	g.broken = chance(g.Rand, 30)
	var out []api.Object
	add := func(o api.Object) {
		o.Default()
		if g.broken || o.Validate() == nil {
			out = append(out, o)
		}
	}
	for _, name := range []string{"default", "t1", "nat"} {
		t := &api.Tier{TypeMeta: head(api.KindTier), Meta: api.Meta{Name: name}}
		if name != "default" {
			t.Spec.Order = ptr(float64(g.IntN(3) * 1000000))
			t.Spec.DefaultAction = pick(g.Rand, api.Deny, api.Pass)
		}
		add(t)
	}
	g.hostEndpoints(add)
	g.sets(add)
	if chance(g.Rand, 80) {
		p := &api.Profile{TypeMeta: head(api.KindProfile), Meta: api.Meta{Name: "pr"}}
		p.Spec.Ingress, p.Spec.Egress = g.rules(true), g.rules(false)
		if chance(g.Rand, 50) {
			p.Spec.LabelsToApply = g.labels()
		}
		add(p)
	}
	for i := range g.IntN(7) {
		p := &api.GlobalNetworkPolicy{TypeMeta: head(api.KindGlobalNetworkPolicy), Meta: api.Meta{Name: fmt.Sprintf("p%d", i)}, Spec: g.policySpec(false)}
		p.Spec.ApplyOnForward = chance(g.Rand, 40)
		switch g.IntN(8) {
		case 0:
			p.Spec.ApplyOnForward, p.Spec.DoNotTrack = true, true
		case 1:
			p.Spec.ApplyOnForward, p.Spec.PreDNAT, p.Spec.Egress, p.Spec.Types = true, true, nil, []api.PolicyType{api.Ingress}
		}
		if g.broken && chance(g.Rand, 20) {
			out = append(out, g.unreadable(p))
			continue
		}
		add(p)
	}
	for _, ns := range []string{"prod", "dev"} { // has no host endpoint in its namespace to govern
		if chance(g.Rand, 35) {
			add(&api.NetworkPolicy{TypeMeta: head(api.KindNetworkPolicy), Meta: api.Meta{Name: "np", Namespace: ns}, Spec: g.policySpec(true)})
		}
	}
	if chance(g.Rand, 25) {
		s := &api.StagedGlobalNetworkPolicy{TypeMeta: head(api.KindStagedGlobalNetworkPolicy), Meta: api.Meta{Name: "staged"}, Spec: g.policySpec(false)}
		s.Spec.ApplyOnForward = chance(g.Rand, 40)
		s.Spec.StagedAction = pick(g.Rand, "", api.StagedSet, api.StagedDelete)
		add(s)
	}
	g.configuration(add)
	return out
}

// unreadable is a stored policy of which only so much could be read that what
// it selects is denied, or nothing.
func (g generator) unreadable(p *api.GlobalNetworkPolicy) api.Object {
	u := &api.Unreadable{K: p.Key(), Err: errors.New("the value is damaged")}
	if chance(g.Rand, 70) {
		p.Default()
		if p.Spec.Ingress != nil {
			p.Spec.Ingress = []api.Rule{{Action: api.Deny}}
		}
		if p.Spec.Egress != nil {
			p.Spec.Egress = []api.Rule{{Action: api.Deny}}
		}
		u.Salvaged = p
	}
	return u
}

func (g generator) hostEndpoints(add func(api.Object)) {
	for i := range 1 + g.IntN(4) {
		h := &api.HostEndpoint{TypeMeta: head(api.KindHostEndpoint), Meta: api.Meta{Name: fmt.Sprintf("hep%d", i), Labels: g.labels()}}
		h.Spec.Node = here
		h.Spec.InterfaceName = pick(g.Rand, "*", "*", "*", "eth0", "eth0", "eth0", "eth1", "eth1", "", "", "lo", "cali1", "cali2")
		if h.Spec.InterfaceName == "" || chance(g.Rand, 40) {
			h.Spec.ExpectedIPs = []string{pick(g.Rand, "10.0.0.1", "fd00::1", "10.1.0.1", "10.255.0.1", "127.0.0.1")}
			if chance(g.Rand, 20) {
				h.Spec.ExpectedIPs = append(h.Spec.ExpectedIPs, "192.0.2.1", "fd01::1")
			}
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
	g.workloads(add)
}

func (g generator) sets(add func(api.Object)) {
	for i := range g.IntN(3) {
		s := &api.GlobalNetworkSet{TypeMeta: head(api.KindGlobalNetworkSet), Meta: api.Meta{Name: fmt.Sprintf("gns%d", i), Labels: g.labels()}}
		s.Spec.Nets = append(g.nets(4, true), g.nets(6, true)...)
		if chance(g.Rand, 15) {
			s.Spec.Nets = nil
		}
		if g.broken && chance(g.Rand, 30) {
			s.Spec.Nets = append(s.Spec.Nets, "10.0.0.0/40")
		}
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
}

func (g generator) configuration(add func(api.Object)) {
	if chance(g.Rand, 50) {
		f := &api.FelixConfiguration{TypeMeta: head(api.KindFelixConfiguration), Meta: api.Meta{Name: "default"}}
		f.Spec.DisableConntrackInvalidCheck = ptr(chance(g.Rand, 50))
		if chance(g.Rand, 60) {
			f.Spec.FailsafeInboundHostPorts = &[]api.ProtoPort{{Protocol: "TCP", Port: 22}, {Protocol: "UDP", Port: 80, Net: pick(g.Rand, "10.0.0.0/24", "fd00::/64")}}
			f.Spec.FailsafeOutboundHostPorts = pick(g.Rand, &[]api.ProtoPort{}, &[]api.ProtoPort{{Protocol: "TCP", Port: 443, Net: pick(g.Rand, "10.1.0.0/16", "fd00::/16")}})
		}
		f.Spec.NftablesFilterDenyAction = pick(g.Rand, "", "", "Reject", "Drop")
		f.Spec.InterfaceExclude = pick(g.Rand, "", "", "", "eth1", "/^eth/,x", "none", "cali1,tap1")
		f.Spec.InterfacePrefix = pick(g.Rand, "", "", "", "cali,eth1", "tap", "tap,cali")
		g.settingsOfWorkloads(&f.Spec)
		if g.broken {
			f.Spec.InterfaceExclude = pick(g.Rand, "/(/", "//", "eth1,a b", "eth1,", "/eth1/")
			f.Spec.InterfacePrefix = pick(g.Rand, "none", "eth1,a b", "eth1,", "eth")
			f.Spec.NftablesFilterDenyAction = pick(g.Rand, "Maybe", "reject", "Reject")
			f.Spec.FailsafeInboundHostPorts = &[]api.ProtoPort{{Protocol: "TCP", Port: 443}, pick(g.Rand, api.ProtoPort{Protocol: "SCTP", Port: 80}, api.ProtoPort{Port: 80, Net: "10.0.0.0/33"}, api.ProtoPort{Port: 80})}
		}
		add(f)
	}
	if chance(g.Rand, 15) { // one for this host, one for another
		f := &api.FelixConfiguration{TypeMeta: head(api.KindFelixConfiguration), Meta: api.Meta{Name: "node." + pick(g.Rand, here, "h2")}}
		f.Spec.DisableConntrackInvalidCheck = ptr(chance(g.Rand, 50))
		f.Spec.FailsafeInboundHostPorts = &[]api.ProtoPort{{Protocol: "TCP", Port: 443}}
		add(f)
	}
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
	// before is where a DNATed packet of the host's seemed to go out when it
	// passed the hook output: routing looks again after that.
	before string
	// dialled is the destination of a DNATed packet before that.
	dialled netip.AddrPort
}

func (p probe) flow() policy.Flow {
	f := policy.Flow{
		Host:        policy.Host{Name: here, Interfaces: interfaces},
		InInterface: p.packet.In, OutInterface: p.packet.Out,
		Source: p.packet.Src, Destination: p.packet.Dst, Protocol: p.packet.Protocol,
		SourcePort: p.packet.SrcPort, DestinationPort: p.packet.DstPort,
		ICMPType: p.packet.ICMPType, ICMPCode: p.packet.ICMPCode,
		Dialled: p.dialled, DialledInterface: p.before,
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
	k.Protocol = pick[uint8](g.Rand, 6, 6, 6, 17, 17, 17, 1, 1, 132, 136, 47, 255, 58)
	if chance(g.Rand, 45) {
		k.Src, k.Dst = pick(g.Rand, borders6...), pick(g.Rand, borders6...)
		k.Protocol = pick[uint8](g.Rand, 6, 6, 6, 17, 17, 17, 58, 58, 58, 132, 47, 1)
	}
	if ruleset.HasPorts(k.Protocol) {
		k.SrcPort, k.DstPort = pick(g.Rand, borderPorts...), pick(g.Rand, borderPorts...)
	}
	if k.Protocol == 1 || k.Protocol == 58 {
		k.ICMPType = pick[uint8](g.Rand, 0, 2, 2, 3, 3, 8, 128, 130, 133, 134, 135, 136, 137, 143, 253, 254)
		k.ICMPCode = pick[uint8](g.Rand, 0, 1, 2, 4, 4, 255)
	}
	if p.hook != ruleset.HookOutput {
		k.In = pick(g.Rand, "eth0", "eth0", "eth0", "eth1", "eth1", "lo", "cali1", "cali1", "cali2", "tap1")
	}
	if p.hook != ruleset.HookInput {
		k.Out = pick(g.Rand, "eth0", "eth0", "eth0", "eth1", "eth1", "lo", "cali1", "cali2", "tap1")
	}
	if p.hook == ruleset.HookForward {
		through := []string{"eth0", "eth1", "cali1", "cali1", "cali2", "tap1"}
		k.In, k.Out = pick(g.Rand, through...), pick(g.Rand, through...)
	}
	k.State = ruleset.CtNew
	if chance(g.Rand, 15) {
		k.State = pick(g.Rand, ruleset.CtEstablished, ruleset.CtRelated, ruleset.CtInvalid, ruleset.CtUntracked)
	}
	if chance(g.Rand, 25) && k.State != ruleset.CtInvalid && k.State != ruleset.CtUntracked {
		k.DNATed = true // its addresses are those behind the NAT
		if p.hook == ruleset.HookOutput {
			p.before = pick(g.Rand, "eth0", "eth1", "lo", "cali1")
		}
	}
	// The mark that a packet comes with says nothing to us.
	k.Mark = pick[uint32](g.Rand, 0, 0, 0, 0x20000, 0x10000, 0xffffffff, 0xfffcffff)
	k.HopLimit = 255
	return p
}
