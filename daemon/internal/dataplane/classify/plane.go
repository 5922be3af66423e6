// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// portProtocols are those whose ports are looked at, in the order of planes.
var portProtocols = [...]uint8{6, 17, 132, 136}

// ofPorts is how many planes of ports there are; the plane behind them is of
// all other protocols.
const ofPorts = len(portProtocols)

// plane is what the rules say of the ports of one protocol: pieces that no
// rule cuts.
type plane struct {
	proto  uint8
	pieces []piece // by their first port; the first begins at 0
	// cuts count the rules that begin a piece at a port.
	cuts map[uint16]int32
	// wide are the rules that are not listed by pieces, in order: which ports
	// they concern is asked when it is of interest.
	wide []*rule
	// ported is how many rules with ports concern the plane. Without any it
	// is out of use: the protocol is one of the others.
	ported int
}

// piece is ports of equal treatment, up to the next piece.
type piece struct {
	lo    uint16
	rules []*rule // those that are not wide, in order
	base  target  // where packets of the rest of the world go; nowhere: not known
}

// manyPorts makes a rule wide.
const manyPorts = 4096

// isWide reports whether a rule with these ports concerns (almost) all pieces.
func isWide(ports []ruleset.PortRange) bool {
	n := 0
	for _, x := range ports {
		n += int(x.Max) - int(x.Min) + 1
	}
	return len(ports) == 0 || n > manyPorts
}

func newPlane(proto uint8) *plane {
	return &plane{proto: proto, pieces: []piece{{}}, cuts: map[uint16]int32{}}
}

// hi is the last port of a piece.
func (p *plane) hi(i int) uint16 {
	if i+1 < len(p.pieces) {
		return p.pieces[i+1].lo - 1
	}
	return 1<<16 - 1
}

// at is the piece that holds a port.
func (p *plane) at(port uint16) int {
	lo, hi := 0, len(p.pieces)
	for hi-lo > 1 {
		if m := (lo + hi) / 2; p.pieces[m].lo <= port {
			lo = m
		} else {
			hi = m
		}
	}
	return lo
}

// bounds visits the ports at which a rule begins a piece.
func (r *rule) bounds(visit func(port uint16)) {
	for _, l := range [...][]ruleset.PortRange{r.ports, r.notPorts} {
		for _, x := range l {
			if x.Min > 0 {
				visit(x.Min)
			}
			if x.Max < 1<<16-1 {
				visit(x.Max + 1)
			}
		}
	}
}

// build makes the pieces of all rules at once; what is known of the rest of
// the world is lost.
func (p *plane) build(rules []*rule) {
	*p = *newPlane(p.proto)
	var ports []uint16
	for _, r := range rules {
		if !r.concerns(p.proto) {
			continue
		}
		if r.ported() {
			p.ported++
		}
		r.bounds(func(port uint16) {
			ports = append(ports, port)
			p.cuts[port]++
		})
	}
	slices.Sort(ports)
	for _, port := range slices.Compact(ports) {
		p.pieces = append(p.pieces, piece{lo: port})
	}
	for _, r := range rules {
		if !r.concerns(p.proto) {
			continue
		}
		if r.wide {
			p.wide = append(p.wide, r)
			continue
		}
		p.list(r, func(list []*rule) []*rule { return append(list, r) })
	}
}

// list changes the lists of the pieces that a rule concerns.
func (p *plane) list(r *rule, change func([]*rule) []*rule) {
	for k, x := range r.ports {
		for i := p.at(x.Min); i < len(p.pieces) && p.pieces[i].lo <= x.Max; i++ {
			// A piece is in a range or beside it; in two ranges it counts once.
			if lo := p.pieces[i].lo; r.portMatches(lo) && !within(r.ports[:k], lo) {
				p.pieces[i].rules = change(p.pieces[i].rules)
			}
		}
	}
}

func within(ranges []ruleset.PortRange, port uint16) bool {
	return slices.ContainsFunc(ranges, func(x ruleset.PortRange) bool { return x.Min <= port && port <= x.Max })
}

// add takes a rule in.
func (p *plane) add(r *rule) {
	if !r.concerns(p.proto) {
		return
	}
	if r.ported() {
		p.ported++
	}
	r.bounds(func(port uint16) {
		if p.cuts[port]++; p.cuts[port] > 1 {
			return
		}
		i := p.at(port)
		p.pieces = slices.Insert(p.pieces, i+1, piece{lo: port, rules: slices.Clone(p.pieces[i].rules), base: p.pieces[i].base})
		r.space.program.targets.retain(p.pieces[i].base)
	})
	if r.wide {
		p.wide = inOrder(p.wide, r)
		return
	}
	p.list(r, func(list []*rule) []*rule { return inOrder(list, r) })
}

// remove gives a rule up. It must have its place in the order still.
func (p *plane) remove(r *rule) {
	if !r.concerns(p.proto) {
		return
	}
	if r.ported() {
		p.ported--
	}
	without := func(list []*rule) []*rule {
		if i := slices.Index(list, r); i >= 0 {
			return slices.Delete(list, i, i+1)
		}
		return list
	}
	if r.wide {
		p.wide = without(p.wide)
	} else {
		p.list(r, without)
	}
	r.bounds(func(port uint16) {
		if p.cuts[port]--; p.cuts[port] > 0 {
			return
		}
		delete(p.cuts, port)
		// The piece before is alike now, when all rules that are to go are gone;
		// until then it may not be, and another rule may cut it again.
		i := p.at(port)
		for _, x := range [...]*piece{&p.pieces[i-1], &p.pieces[i]} {
			r.space.program.targets.release(x.base)
			x.base = nowhere
		}
		p.pieces = slices.Delete(p.pieces, i, i+1)
	})
}

// inOrder inserts a rule by its place.
func inOrder(list []*rule, r *rule) []*rule { return slices.Insert(list, from(list, r.place), r) }

// from is the index of the first rule that has a place or a later one.
func from(list []*rule, place int64) int {
	lo, hi := 0, len(list)
	for lo < hi {
		if m := (lo + hi) / 2; list[m].place < place {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// concerns reports whether a rule can match packets of a protocol.
func (r *rule) concerns(proto uint8) bool {
	return (r.protocol == 0 || r.protocol == proto) && r.notProtocol != proto
}

// ported reports whether a rule looks at ports.
func (r *rule) ported() bool { return len(r.ports)+len(r.notPorts) > 0 }

func (r *rule) portMatches(port uint16) bool {
	return (len(r.ports) == 0 || within(r.ports, port)) && !within(r.notPorts, port)
}

// others is what the rules without ports say of protocols: a column for each
// that one of them names, and the last for the rest (protocol 0). Packets
// whose ports cannot be read (later fragments) come here, too: rules with
// ports do not match them.
type others struct {
	protos []uint8 // ascending, but for the last
	rules  []*rule // without ports, in order
	base   []target
}

func (o *others) build(rules []*rule) {
	o.rules, o.protos = nil, nil
	for _, r := range rules {
		if r.ported() {
			continue
		}
		o.rules = append(o.rules, r)
		for _, proto := range [...]uint8{r.protocol, r.notProtocol} {
			if proto != 0 {
				o.protos = append(o.protos, proto)
			}
		}
	}
	slices.Sort(o.protos)
	o.protos = append(slices.Compact(o.protos), 0)
}

// matches reports whether a rule without ports is about a column.
func (o *others) matches(r *rule, proto uint8) bool {
	if proto == 0 { // one that no rule names
		return r.protocol == 0
	}
	return r.concerns(proto)
}
