// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// Socket is a TCP socket that listens, or a UDP socket that takes packets from
// anybody.
type Socket struct {
	Protocol uint8
	// Address is where it is bound; unspecified: all addresses of its family.
	// Dual: it is an IPv6 socket that takes IPv4 too.
	Address netip.AddrPort
	Dual    bool
	// Interface is the one it is bound to; empty: any.
	Interface string
	// Process and PID are zero if they could not be seen; Unit is the systemd
	// unit or scope.
	Process, Unit string
	PID           int
}

// Who reaches a port, where it is no group.
const (
	whoEveryone = "everyone"
	whoNobody   = "nobody"
	whoThisHost = "this host"
)

// Expose makes the report of ripstop exposure: objs are the resources to judge
// by, o what holds where they say nothing.
func Expose(f Facts, objs []api.Object, o policy.Options) api.ExposureReport {
	x := newExposer(f, objs, o)
	r := api.ExposureReport{Host: f.Host, Version: api.Version, Unseen: slices.Clone(f.Unseen), Exposed: []api.Exposed{}}
	r.Kind, r.APIVersion = api.KindExposureReport, api.VersionOurs
	taken := map[int]bool{} // sockets in front of which a port is published
	for _, p := range publishedPorts(f.Tables) {
		r.Exposed = append(r.Exposed, x.published(p, taken)...)
	}
	for i, s := range f.Sockets {
		if !taken[i] {
			r.Exposed = append(r.Exposed, x.socket(s))
		}
	}
	overIPv6(r.Exposed)
	if x.omitted > 0 {
		r.Unseen = append(r.Unseen, fmt.Sprintf("%d more groups of addresses than the %d that were asked about", x.omitted, mostClasses))
	}
	rank := []api.Danger{api.DangerCritical, api.DangerHigh, api.DangerMedium, api.DangerLow, api.DangerNone}
	slices.SortStableFunc(r.Exposed, func(a, b api.Exposed) int {
		return cmp.Or(slices.Index(rank, a.Danger)-slices.Index(rank, b.Danger), cmp.Compare(a.Port, b.Port),
			strings.Compare(a.Protocol, b.Protocol), strings.Compare(a.Address, b.Address))
	})
	return r
}

// exposer is one report being made.
type exposer struct {
	facts   Facts
	world   *policy.World
	objs    map[api.Key]api.Object
	host    policy.Host
	own     []netip.Addr
	classes map[int][]*class // by family
	omitted int
	rules   []*asked
	alike   map[string][]*class // see representatives
}

func newExposer(f Facts, objs []api.Object, o policy.Options) *exposer {
	x := &exposer{facts: f, objs: map[api.Key]api.Object{}, classes: map[int][]*class{}, alike: map[string][]*class{},
		host: policy.Host{Name: f.Host, Interfaces: map[string][]netip.Addr{}}}
	for _, obj := range objs {
		x.objs[obj.Key()] = obj
	}
	for _, i := range f.Interfaces {
		x.host.Interfaces[i.Name] = nil
		for _, a := range i.Addrs {
			x.host.Interfaces[i.Name] = append(x.host.Interfaces[i.Name], a.Addr())
			x.own = append(x.own, a.Addr())
		}
	}
	atlas := newAtlas(f.Host, objs, policy.NewWorld(settingsOf(objs), o).Settings(f.Host).FailsafeInbound, f.Tables)
	for _, family := range []int{4, 6} {
		list, omitted := atlas.classes(family, x.own)
		x.classes[family], x.omitted = list, x.omitted+omitted
	}
	x.world = policy.NewWorld(x.seenFrom(objs), o)
	x.rules = x.askedRules(objs)
	return x
}

// doors are the interfaces over which others reach the host.
func (x *exposer) doors() []Interface {
	return slices.DeleteFunc(slices.Clone(x.facts.Interfaces), func(i Interface) bool { return i.Loopback || i.Port || !i.Up })
}

// addressAt is an address of a family by which the host is reached over an
// interface: one of the interface's own, else any of the host's.
func (x *exposer) addressAt(i Interface, family int) (netip.Addr, bool) {
	var linkLocal netip.Addr
	for _, a := range i.Addrs {
		switch {
		case a.Addr().Is4() != (family == 4):
		case a.Addr().IsLinkLocalUnicast():
			linkLocal = a.Addr()
		default:
			return a.Addr(), true
		}
	}
	if linkLocal.IsValid() {
		return linkLocal, true
	}
	for _, a := range x.own {
		if a.Is4() == (family == 4) && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// socket judges a listening socket.
func (x *exposer) socket(s Socket) api.Exposed {
	e := api.Exposed{Protocol: ProtocolName(s.Protocol), Port: s.Address.Port(), Process: s.Process, PID: s.PID, Unit: s.Unit}
	if !s.Dual {
		e.Address = s.Address.Addr().String()
	}
	families := []int{4, 6}
	if !s.Dual {
		families = []int{map[bool]int{true: 4, false: 6}[s.Address.Addr().Is4()]}
	}
	var reach []api.Reach
	if !s.Address.Addr().IsLoopback() {
		for _, family := range families {
			for _, i := range x.doors() {
				if s.Interface != "" && s.Interface != i.Name {
					continue
				}
				to, ok := s.Address.Addr(), true
				if to.IsUnspecified() {
					to, ok = x.addressAt(i, family)
				} else if to.IsLinkLocalUnicast() {
					ok = slices.Contains(x.host.Interfaces[i.Name], to)
				}
				if ok {
					reach = append(reach, x.ask(approach{family: family, in: i.Name, protocol: s.Protocol, dialled: netip.AddrPortFrom(to, s.Address.Port())})...)
				}
			}
		}
	}
	x.finish(&e, s.Protocol, reach)
	return e
}

// published judges a port that is redirected, for each protocol and range of
// ports that the rule names. Sockets behind which nothing from outside arrives
// any more, such as docker-proxy's, are taken.
func (x *exposer) published(p Published, taken map[int]bool) []api.Exposed {
	var out []api.Exposed
	for _, protocol := range p.Protocols() {
		for _, ports := range p.ports() {
			out = append(out, x.publishedRange(p, protocol, ports, taken))
		}
	}
	return out
}

func (x *exposer) publishedRange(p Published, protocol uint8, ports Ports, taken map[int]bool) api.Exposed {
	e := api.Exposed{Protocol: ProtocolName(protocol), Port: ports.First,
		Published: &api.PublishedTo{To: p.to(ports), By: p.Owner, Rule: "table " + p.Table + ", chain " + p.Chain}}
	if ports.Last != ports.First {
		e.LastPort = ports.Last
	}
	for _, c := range p.Match.Destination {
		if !c.Not && len(c.Any) == 1 && c.Any[0].First == c.Any[0].Last {
			e.Address = c.Any[0].First.String()
		}
	}
	families := []int{4, 6}
	switch to := p.To.Addr(); {
	case p.Match.Family != 0:
		families = []int{p.Match.Family}
	case to.IsValid() && to.Is4():
		families = []int{4}
	case to.IsValid():
		families = []int{6}
	}
	if e.Address == "" && len(families) == 1 {
		e.Address = map[int]string{4: "0.0.0.0", 6: "::"}[families[0]]
	}
	var reach []api.Reach
	for _, family := range families {
		for _, i := range x.doors() {
			if p.ToMap != "" { // to be on the safe side
				reach = append(reach, api.Reach{Interfaces: []string{i.Name}, Families: []int{family}, Who: whoEveryone, Everyone: true,
					By: "where it leads is up to map @" + p.ToMap + ", so policy was not asked"})
				continue
			}
			if a, ok := x.dial(p, i, family, protocol, ports.First); ok {
				reach = append(reach, x.ask(a)...)
			}
		}
	}
	for i, s := range x.facts.Sockets {
		if s.Protocol != protocol || s.Address.Port() < ports.First || s.Address.Port() > ports.Last {
			continue
		}
		same := e.Address == s.Address.Addr().String() || e.Address == "" || s.Dual && (e.Address == "0.0.0.0" || e.Address == "::")
		if same && (s.Process == "docker-proxy" || s.Process == "conmon" || s.Process == "rootlessport") {
			taken[i] = true
			e.Process, e.PID, e.Unit = s.Process, s.PID, s.Unit
		}
	}
	x.finish(&e, protocol, reach)
	return e
}

// to is where a published port leads, as text.
func (p Published) to(ports Ports) string {
	if p.ToMap != "" {
		return "@" + p.ToMap
	}
	port := cmp.Or(p.To.Port(), ports.First)
	if !p.To.Addr().IsValid() {
		return fmt.Sprintf("this host:%d", port)
	}
	return netip.AddrPortFrom(p.To.Addr(), port).String()
}

// dial finds an address of the host that, dialled over an interface, is
// redirected by the rule.
func (x *exposer) dial(p Published, i Interface, family int, protocol uint8, port uint16) (approach, bool) {
	own := x.own
	if a, ok := x.addressAt(i, family); ok {
		own = append([]netip.Addr{a}, own...)
	}
	source := netip.IPv4Unspecified()
	if family == 6 {
		source = netip.IPv6Unspecified()
	}
	if len(x.classes[family]) > 0 {
		source = x.classes[family][0].example
	}
	for _, a := range own {
		if a.Is4() != (family == 4) || a.IsLoopback() || p.To.Addr().IsValid() && p.To.Addr().Is4() != a.Is4() {
			continue
		}
		q := Packet{Protocol: protocol, In: i.Name, Source: source, Destination: a, DestinationPort: port, Local: true}
		if p.Match.matches(q) == no {
			continue
		}
		to := netip.AddrPortFrom(p.To.Addr(), cmp.Or(p.To.Port(), port))
		if !p.To.Addr().IsValid() {
			to = netip.AddrPortFrom(a, to.Port())
		}
		return approach{family: family, in: i.Name, protocol: protocol, dialled: netip.AddrPortFrom(a, port), to: to, published: &p}, true
	}
	return approach{}, false
}

// finish fills in what follows from who reaches it.
func (x *exposer) finish(e *api.Exposed, protocol uint8, reach []api.Reach) {
	s := services[protocol][e.Port]
	e.Service = s.name
	e.Reach = merge(reach)
	if len(e.Reach) == 0 {
		e.Reach = []api.Reach{{Who: whoThisHost, By: "it is reached over the loopback interface only"}}
	}
	// What is dialled is served behind it.
	if e.Published != nil {
		if ap, err := netip.ParseAddrPort(e.Published.To); err == nil {
			if behind := services[protocol][ap.Port()]; behind.name != "" {
				s, e.Service = behind, behind.name
			}
		}
	}
	e.Danger = dangerOf(s, e.Reach)
}

// overIPv6 notes the ports that everyone reaches over IPv6 and not over IPv4,
// on one and the same interface: that is easily overlooked.
func overIPv6(all []api.Exposed) {
	type door struct {
		protocol string
		port     uint16
		iface    string
		family   int
		there    bool // asks whether it is there, else whether it is open to everyone
	}
	seen := map[door]bool{}
	each := func(e api.Exposed, visit func(r api.Reach, iface string, family int)) {
		for _, r := range e.Reach {
			for _, i := range r.Interfaces {
				for _, f := range r.Families {
					visit(r, i, f)
				}
			}
		}
	}
	for _, e := range all {
		each(e, func(r api.Reach, iface string, family int) {
			seen[door{e.Protocol, e.Port, iface, family, true}] = true
			seen[door{e.Protocol, e.Port, iface, family, false}] = seen[door{e.Protocol, e.Port, iface, family, false}] || r.Everyone
		})
	}
	for i := range all {
		e := &all[i]
		var wider []string
		four := false
		each(*e, func(r api.Reach, iface string, family int) {
			if family == 6 && r.Everyone && !seen[door{e.Protocol, e.Port, iface, 4, false}] {
				wider = append(wider, iface)
				four = four || seen[door{e.Protocol, e.Port, iface, 4, true}]
			}
		})
		switch {
		case len(wider) == 0:
		case four:
			e.Notes = append(e.Notes, "open to everyone over IPv6, and not over IPv4, on "+listed(wider))
		default:
			e.Notes = append(e.Notes, "IPv6 only, and open to everyone there")
		}
	}
}

// merge joins what is the same over several interfaces, and then over both
// families.
func merge(reach []api.Reach) []api.Reach {
	join := func(list []api.Reach, same func(a, b api.Reach) bool, with func(into *api.Reach, r api.Reach)) []api.Reach {
		var out []api.Reach
		for _, r := range list {
			if i := slices.IndexFunc(out, func(o api.Reach) bool {
				return o.Who == r.Who && o.By == r.By && o.Unless == r.Unless && same(o, r)
			}); i >= 0 {
				with(&out[i], r)
			} else {
				out = append(out, r)
			}
		}
		return out
	}
	out := join(reach, func(a, b api.Reach) bool { return slices.Equal(a.Families, b.Families) },
		func(into *api.Reach, r api.Reach) {
			into.Interfaces = append(slices.Clone(into.Interfaces), r.Interfaces...)
		})
	out = join(out, func(a, b api.Reach) bool { return slices.Equal(a.Interfaces, b.Interfaces) },
		func(into *api.Reach, r api.Reach) { into.Families = append(slices.Clone(into.Families), r.Families...) })
	slices.SortStableFunc(out, func(a, b api.Reach) int {
		rank := func(r api.Reach) int {
			switch {
			case r.Everyone:
				return 0
			case r.Who == whoNobody:
				return 2
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	return out
}
