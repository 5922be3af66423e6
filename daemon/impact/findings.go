// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/policy"
)

// finding is flows that pass in one picture and not in the other, all alike.
type finding struct {
	outcome
	way passage
	// service is a text that may leave out some, serviceKey one that does not.
	service, serviceKey string
	far                 addresses // of what the endpoint forwards, or some of its own
	farAll              bool
	who                 addresses
	names               []naming
	endpoints           []endpoint
	parts               []part
}

// part is what a finding is made of: all flows of one family between some
// addresses, for some services.
type part struct {
	far, peers addresses
	services   []*service
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
		return p.peers.has(peer) && (way.own && f.farAll || p.far.has(far)) && slices.ContainsFunc(p.services, func(s *service) bool { return s.has(flow) })
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
		blocks := t.blocks(i)
		key := fmt.Sprint(blocks)
		g := known[key]
		if g == nil {
			g = &same{blocks: blocks}
			known[key], groups = g, append(groups, g)
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
			p := part{far: far}
			for i, in := range b.peers {
				if in {
					p.peers[t.family] = append(p.peers[t.family], t.peers[i].all...)
				}
			}
			p.peers[t.family] = joined(p.peers[t.family])
			for i, in := range b.services {
				if in {
					p.services = append(p.services, t.services[i])
				}
			}
			fs.put(&finding{outcome: t.outcomes[b.outcome], way: way, far: far,
				service: serviceText(t.services, b.services, mostPorts), serviceKey: serviceText(t.services, b.services, 1<<16),
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
	if len(byPeer) < len(byService) {
		return byPeer
	}
	return byService
}

// grouped are the rows that have an outcome at the same columns, made one. The
// rows are called peers, the columns services.
func grouped(rows, columns int, at func(row, column int) uint16) []block {
	var list []block
	known := map[string]int{}
	key := make([]byte, columns)
	for r := range rows {
		seen := map[uint16]bool{0: true}
		for c := range columns {
			o := at(r, c)
			if seen[o] {
				continue
			}
			seen[o] = true
			columnsOf := make([]bool, columns)
			for d := range columns {
				key[d] = 0
				if columnsOf[d] = at(r, d) == o; columnsOf[d] {
					key[d] = 1
				}
			}
			k := fmt.Sprint(o, " ") + string(key)
			i, ok := known[k]
			if !ok {
				i = len(list)
				known[k] = i
				list = append(list, block{o, make([]bool, rows), columnsOf})
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
	if old := fs.of["of "+ends.String()+key]; old != nil { // the same endpoints, other addresses
		old.who, old.far = old.who.and(f.who), old.far.and(f.far)
		old.parts = append(old.parts, f.parts...)
		return
	}
	fs.of["of "+ends.String()+key] = f
	fs.order = append(fs.order, f)
}

// saying is all that a finding says but for who it is of and at which
// endpoints.
func (f *finding) saying() string {
	way := f.way
	way.in, way.out = seatWord(way.in), seatWord(way.out)
	key := fmt.Sprint(f.outcome, way, f.serviceKey, f.farAll)
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
		key := f.saying() + fmt.Sprint(f.who)
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
