// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
)

// way is the hosts that a flow passes from one end to the other, in order.
type way struct {
	hops    []Hop
	assumed []string
}

// then is the way, extended by a host, once for each interface it may pass it
// by.
func (x way) then(f Flow, sides []end, set func(*Flow, string)) []way {
	var ways []way
	for _, s := range sides {
		set(&f, s.iface)
		ways = append(ways, way{
			hops:    append(slices.Clone(x.hops), Hop{Flow: f}),
			assumed: slices.Concat(x.assumed, s.assumed),
		})
	}
	return ways
}

func inBy(f *Flow, iface string)  { f.InInterface = iface }
func outBy(f *Flow, iface string) { f.OutInterface = iface }

// routes are the hops between two ends, in each way the question leaves open.
func (w *World) routes(q Query, p pair, k Known) []Case {
	base := Flow{
		Source: p.from.addr, Destination: p.to.addr, Protocol: q.Protocol, SourcePort: q.SourcePort,
		DestinationPort: q.To.Port, State: q.State,
	}
	if isICMP(q.Protocol) {
		base.ICMPType, base.ICMPCode = *q.ICMPType, *q.ICMPCode
	}
	ways := []way{{assumed: append(slices.Clone(p.from.assumed), p.to.assumed...)}}
	if at := w.within(base, p); q.Through == "" && at != nil {
		ways = []way{*at}
	} else {
		ways = w.leaving(ways, base, p.from)
		ways = w.through(ways, base, q, k)
		ways = w.arriving(ways, base, p.to)
	}
	var cases []Case
	for _, x := range ways {
		if note := w.rewrite(x.hops, q.Dialled, k); note != "" {
			x.assumed = append(x.assumed, note)
		}
		cases = append(cases, Case{Assumed: x.assumed, Hops: x.hops})
	}
	return cases
}

// within is the way between two ends that are both at one host; nil: they are
// not.
func (w *World) within(f Flow, p pair) *way {
	self := p.from.host.Name
	itself := p.from.workload == nil && p.to.host.Name == "" && (p.to.addr.IsLoopback() || p.from.host.has(p.to.addr))
	if self == "" || p.to.host.Name != self && !itself {
		return nil
	}
	f.Host = p.from.host
	from, to := p.from.workload, p.to.workload
	switch {
	case from != nil && to != nil:
		f.Direction, f.InInterface, f.OutInterface = Forwarded, p.from.iface, p.to.iface
		return &way{hops: []Hop{{Flow: f}}}
	case from != nil:
		f.Direction, f.InInterface = Inbound, p.from.iface
		return &way{hops: []Hop{{Flow: f}}}
	case to != nil:
		f.Direction, f.OutInterface = Outbound, p.to.iface
		return &way{hops: []Hop{{Flow: f}}}
	}
	// A host reaches itself over the loopback interface.
	out, in := f, f
	out.Direction, out.OutInterface = Outbound, loopback
	in.Direction, in.InInterface = Inbound, loopback
	return &way{hops: []Hop{{Flow: out}, {Flow: in}}, assumed: []string{"host/" + self + " reaches its own address over " + loopback}}
}

// leaving adds the source's host.
func (w *World) leaving(ways []way, f Flow, from end) []way {
	if from.host.Name == "" {
		return ways
	}
	f.Host, f.Direction = from.host, Outbound
	sides := []end{{iface: from.iface}}
	if from.workload != nil {
		f.Direction, f.InInterface = Forwarded, from.iface
		sides = w.side(from.host, from.via, "the interface by which host/"+from.host.Name+" sends it on")
	}
	return ways[0].then(f, sides, outBy)
}

// through adds the host that forwards.
func (w *World) through(ways []way, f Flow, q Query, k Known) []way {
	if q.Through == "" {
		return ways
	}
	f.Host, _ = w.picture(q.Through, k)
	f.Direction = Forwarded
	var list []way
	for _, x := range ways {
		for _, i := range w.side(f.Host, q.In, "the interface it comes in by") {
			f.InInterface = i.iface
			y := x
			y.assumed = slices.Concat(x.assumed, i.assumed)
			list = append(list, y.then(f, w.side(f.Host, q.Out, "the interface it goes out by"), outBy)...)
		}
	}
	return list
}

// arriving adds the destination's host.
func (w *World) arriving(ways []way, f Flow, to end) []way {
	if to.host.Name == "" {
		return ways
	}
	f.Host, f.Direction = to.host, Inbound
	sides := []end{{iface: to.iface}}
	if to.workload != nil {
		f.Direction, f.OutInterface = Forwarded, to.iface
		sides = w.side(to.host, to.via, "the interface by which it reaches host/"+to.host.Name)
	}
	var list []way
	for _, x := range ways {
		list = append(list, x.then(f, sides, inBy)...)
	}
	return list
}

// side is one interface of a host, or all it may be.
func (w *World) side(host Host, iface, what string) []end {
	if iface != "" {
		return []end{{host: host, iface: iface}}
	}
	return w.anyInterface(end{host: host}, what)
}

// rewrite makes the hops as they are when one of the hosts rewrites the
// destination that was dialled: the first that has the dialled address, or the
// first of all. Before it the packet is for what was dialled. It says so.
func (w *World) rewrite(hops []Hop, dialled netip.AddrPort, k Known) string {
	if !dialled.IsValid() || len(hops) == 0 {
		return ""
	}
	by := max(0, slices.IndexFunc(hops, func(h Hop) bool {
		_, loose := w.picture(h.Flow.Host.Name, k)
		return h.Flow.Host.has(dialled.Addr()) || slices.Contains(loose, dialled.Addr())
	}))
	hops[by].Flow.Dialled = dialled
	for i := range hops[:by] {
		hops[i].Flow.Destination, hops[i].Flow.DestinationPort = dialled.Addr(), dialled.Port()
	}
	f := hops[by].Flow
	return "host/" + f.Host.Name + " rewrites the destination " + f.endText(dialled) + " to " + f.endText(netip.AddrPortFrom(f.Destination, f.DestinationPort))
}
