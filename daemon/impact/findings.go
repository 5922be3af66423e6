// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/policy"
)

// finding is flows that pass in one picture and not in the other, all alike.
type finding struct {
	outcome
	way passage
	// others tells of what the flows are but for ICMP.
	others    string
	far       addresses // of what the endpoint forwards, or some of its own
	farAll    bool
	who       addresses
	names     []naming
	endpoints []endpoint
	parts     []part
}

// part is what a finding is made of, one for each family at the most: all flows
// between some addresses, for some services.
type part struct {
	family     int
	far, peers addresses
	services   []*service
	chosen     []bool // of the services
}

// has reports whether the part is of a flow's service.
func (p part) has(f policy.Flow) bool {
	for i, s := range p.services {
		if p.chosen[i] && s.has(f) {
			return true
		}
	}
	return false
}

// service names what the flows are, with so many ranges of ports at the most.
// What is said of ICMP is of IPv4 and what is said of ICMPv6 is of IPv6; all
// else is the same in both.
func (f *finding) service(most int) string {
	all, chosen := f.parts[0].services, f.parts[0].chosen
	for _, p := range f.parts[1:] {
		for i, s := range p.services {
			if s.protocol == icmp || s.protocol == icmpv6 {
				all, chosen = append(slices.Clone(all[:len(all)-1]), s, all[len(all)-1]), append(slices.Clone(chosen[:len(chosen)-1]), p.chosen[i], chosen[len(chosen)-1])
			}
		}
	}
	return serviceText(all, chosen, most)
}

// beside is the part's services without ICMP.
func (p part) beside() string {
	var all []*service
	var chosen []bool
	for i, s := range p.services {
		if s.protocol != icmp && s.protocol != icmpv6 {
			all, chosen = append(all, s), append(chosen, p.chosen[i])
		}
	}
	return serviceText(all, chosen, math.MaxInt)
}

// has reports whether a flow past an endpoint is one of the finding.
func (f *finding) has(e endpoint, way passage, flow policy.Flow) bool {
	way1, way2 := f.way, way
	way1.in, way1.out, way2.in, way2.out = seatWord(way1.in), seatWord(way1.out), seatWord(way2.in), seatWord(way2.out)
	if way1 != way2 || !slices.ContainsFunc(f.endpoints, func(x endpoint) bool { return x.place.host == e.place.host && x.seat() == e.seat() }) {
		return false
	}
	peer, far := flow.Source, flow.Destination
	if way.peers == destSide {
		peer, far = far, peer
	}
	return slices.ContainsFunc(f.parts, func(p part) bool {
		return p.peers.has(peer) && (way.own && f.farAll || p.far.has(far)) && p.has(flow)
	})
}

// seatWord tells the endpoint's own interface from others.
func seatWord(iface string) string {
	if iface == "" {
		return ""
	}
	return "its own"
}

// findings are those of all classes, those that say the same made one.
type findings struct {
	of    map[string]*finding
	order []*finding
}

func newFindings() *findings { return &findings{of: map[string]*finding{}} }

// block is a part of a table: each of some peers with each of some services,
// all with one outcome.
type block struct {
	outcome         uint16
	peers, services []bool
}

// add collects what a table says of the endpoints that it was made for.
func (fs *findings) add(s *study, t *table, way passage, own *ownEnd, c *cuts) {
	// Far ends of which the same is said.
	type same struct {
		blocks []block
		far    []int
	}
	var groups []*same
	known := map[string]*same{}
	for i := range t.far {
		row := t.cells[i*len(t.peers)*t.looked : (i+1)*len(t.peers)*t.looked]
		bytes := make([]byte, 0, 2*len(row))
		for _, cell := range row {
			bytes = append(bytes, byte(cell), byte(cell>>8))
		}
		g := known[string(bytes)]
		if g == nil {
			g = &same{blocks: t.blocks(i)}
			known[string(bytes)], groups = g, append(groups, g)
		}
		g.far = append(g.far, i)
	}
	for _, g := range groups {
		var far addresses
		for _, i := range g.far {
			far[t.family] = append(far[t.family], t.far[i].all...)
		}
		far[t.family] = joined(far[t.family])
		for _, b := range g.blocks {
			p := part{family: t.family, far: far, services: t.services, chosen: b.services}
			for i, in := range b.peers {
				if in {
					p.peers[t.family] = append(p.peers[t.family], t.peers[i].all...)
				}
			}
			p.peers[t.family] = joined(p.peers[t.family])
			fs.put(&finding{outcome: t.outcomes[b.outcome], way: way, far: far,
				others: p.beside(),
				farAll: t.farWhole && len(g.far) == len(t.far), who: p.peers, names: c.names, endpoints: own.endpoints, parts: []part{p}})
		}
	}
}

// blocks are the outcomes at one far end, in as few blocks as come of grouping
// the services by peers, or the peers by services.
func (t *table) blocks(far int) []block {
	at := func(peer, service int) uint16 {
		if service >= t.looked {
			return 0
		}
		return t.cells[(far*len(t.peers)+peer)*t.looked+service]
	}
	byService := grouped(len(t.services), len(t.peers), func(service, peer int) uint16 { return at(peer, service) })
	for i := range byService {
		byService[i].peers, byService[i].services = byService[i].services, byService[i].peers
	}
	byPeer := grouped(len(t.peers), len(t.services), at)
	if len(byPeer) <= len(byService) {
		return byPeer
	}
	return byService
}

// grouped are the rows that have an outcome at the same columns, made one. The
// rows are called peers, the columns services.
func grouped(rows, columns int, at func(row, column int) uint16) []block {
	var list []block
	known := map[string]int{}
	for r := range rows {
		having := map[uint16][]int{} // columns by outcome
		var order []uint16
		for c := range columns {
			o := at(r, c)
			if o == 0 {
				continue
			}
			if having[o] == nil {
				order = append(order, o)
			}
			having[o] = append(having[o], c)
		}
		for _, o := range order {
			key := binary.BigEndian.AppendUint16(nil, o)
			for _, c := range having[o] {
				key = binary.BigEndian.AppendUint32(key, uint32(c))
			}
			i, ok := known[string(key)]
			if !ok {
				i = len(list)
				known[string(key)] = i
				b := block{o, make([]bool, rows), make([]bool, columns)}
				for _, c := range having[o] {
					b.services[c] = true
				}
				list = append(list, b)
			}
			list[i].peers[r] = true
		}
	}
	return list
}

// put adds a finding to one that says the same of the other family, or of
// other endpoints.
func (fs *findings) put(f *finding) {
	key := f.saying()
	ends := &strings.Builder{}
	for _, e := range f.endpoints {
		fmt.Fprint(ends, e.key, e.seat(), ",")
	}
	key += "of " + ends.String()
	if old := fs.of[key]; old != nil && len(old.parts) == 1 && old.parts[0].family != f.parts[0].family {
		old.who, old.far = old.who.and(f.who), old.far.and(f.far)
		old.parts = append(old.parts, f.parts...)
		return
	}
	fs.of[key] = f
	fs.order = append(fs.order, f)
}

// saying is all that a finding says but for who it is of and at which
// endpoints.
func (f *finding) saying() string {
	way := f.way
	way.in, way.out = seatWord(way.in), seatWord(way.out)
	key := fmt.Sprint(f.outcome, way, f.others, f.farAll)
	if !f.farAll {
		key += fmt.Sprint(f.far)
	}
	return key
}

// list are all findings: gains, then losses, those of many endpoints first.
// What is the same of different endpoints is one.
func (fs *findings) list() []*finding {
	var list []*finding
	known := map[string]*finding{}
	for _, f := range fs.order {
		key := f.saying() + fmt.Sprint(f.who, f.service(math.MaxInt))
		if old := known[key]; old != nil {
			old.endpoints = append(slices.Clone(old.endpoints), f.endpoints...)
			continue
		}
		known[key] = f
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b *finding) int {
		if a.gain != b.gain {
			return map[bool]int{true: -1, false: 1}[a.gain]
		}
		return cmp.Compare(len(b.endpoints), len(a.endpoints))
	})
	return list
}
