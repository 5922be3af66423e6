// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"encoding/binary"
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// plane is what the rules say of one protocol with ports, or of all others
// (proto 0), cut into columns: pieces that no rule tells apart.
type plane struct {
	proto uint8
	cols  []column
	// wide are rules that concern many columns: which ones is asked when it
	// is of interest. colsOf are the columns of the other rules.
	wide   []int32
	isWide map[int32]bool
	colsOf map[int32][]int32
	base   []string // per column, the chain for the rest of the world
}

// column is ports of equal treatment; in the plane of other protocols one
// protocol, or, last, all that no rule names.
type column struct {
	ranges []ruleset.PortRange
	proto  uint8
	rules  []int32 // those that are not wide, ascending
}

// portPlane cuts the ports of a protocol.
func portPlane(proto uint8, rules []rule) *plane {
	p := &plane{proto: proto, isWide: map[int32]bool{}, colsOf: map[int32][]int32{}}
	cuts := []int{0}
	for i := range rules {
		r := &rules[i]
		if !r.concerns(proto) {
			continue
		}
		for _, l := range [][]ruleset.PortRange{r.ports, r.notPorts} {
			for _, x := range l {
				cuts = append(cuts, int(x.Min), int(x.Max)+1)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	if cuts[len(cuts)-1] == 1<<16 {
		cuts = cuts[:len(cuts)-1]
	}
	pieces := make([][]int32, len(cuts)) // rules that are not wide
	for i := range rules {
		r := &rules[i]
		if !r.concerns(proto) {
			continue
		}
		var in []int32
		for _, x := range r.ports {
			at, _ := slices.BinarySearch(cuts, int(x.Min))
			for ; at < len(cuts) && cuts[at] <= int(x.Max); at++ {
				in = append(in, int32(at))
			}
		}
		if len(r.ports) == 0 || len(in) > 64 {
			p.wide = append(p.wide, int32(i))
			p.isWide[int32(i)] = true
			continue
		}
		slices.Sort(in)
		for _, at := range slices.Compact(in) {
			if r.portMatches(uint16(cuts[at])) {
				pieces[at] = append(pieces[at], int32(i))
			}
		}
	}
	var tested []int32 // wide ones that do not concern all columns
	for _, i := range p.wide {
		if len(rules[i].ports)+len(rules[i].notPorts) > 0 {
			tested = append(tested, i)
		}
	}
	byKey := map[string]int{}
	var key []byte
	for at, lo := range cuts {
		hi := 1<<16 - 1
		if at+1 < len(cuts) {
			hi = cuts[at+1] - 1
		}
		key = key[:0]
		for _, i := range pieces[at] {
			key = binary.AppendUvarint(key, uint64(i)+1)
		}
		key = append(key, 0)
		for _, i := range tested {
			b := byte(0)
			if rules[i].portMatches(uint16(lo)) {
				b = 1
			}
			key = append(key, b)
		}
		c, ok := byKey[string(key)]
		if !ok {
			c = len(p.cols)
			byKey[string(key)] = c
			p.cols = append(p.cols, column{proto: proto, rules: pieces[at]})
			for _, i := range pieces[at] {
				p.colsOf[i] = append(p.colsOf[i], int32(c))
			}
		}
		p.cols[c].ranges = append(p.cols[c].ranges, ruleset.PortRange{Min: uint16(lo), Max: uint16(hi)})
	}
	return p
}

// otherPlane has a column for each protocol that a rule names, and one for
// the rest. Packets whose ports cannot be read (later fragments) come here:
// rules with ports do not match them.
func otherPlane(rules []rule) *plane {
	p := &plane{isWide: map[int32]bool{}, colsOf: map[int32][]int32{}}
	named := map[uint8]bool{}
	for i := range rules {
		if rules[i].never {
			continue
		}
		for _, proto := range []uint8{rules[i].protocol, rules[i].notProtocol} {
			if proto != 0 {
				named[proto] = true
			}
		}
	}
	for proto := range 256 {
		if named[uint8(proto)] {
			p.cols = append(p.cols, column{proto: uint8(proto)})
		}
	}
	p.cols = append(p.cols, column{})
	for i := range rules {
		r := &rules[i]
		switch {
		case r.never || len(r.ports)+len(r.notPorts) > 0:
		case r.protocol == 0:
			p.wide = append(p.wide, int32(i))
			p.isWide[int32(i)] = true
		default:
			for c := range p.cols {
				if p.cols[c].proto == r.protocol {
					p.cols[c].rules = append(p.cols[c].rules, int32(i))
					p.colsOf[int32(i)] = append(p.colsOf[int32(i)], int32(c))
				}
			}
		}
	}
	return p
}

// concerns reports whether a rule can match packets of a protocol.
func (r *rule) concerns(proto uint8) bool {
	return !r.never && (r.protocol == 0 || r.protocol == proto) && r.notProtocol != proto
}

func (r *rule) portMatches(port uint16) bool {
	in := func(x ruleset.PortRange) bool { return x.Min <= port && port <= x.Max }
	return (len(r.ports) == 0 || slices.ContainsFunc(r.ports, in)) && !slices.ContainsFunc(r.notPorts, in)
}

// inColumn reports whether a wide rule concerns a column.
func (p *plane) inColumn(r *rule, c *column) bool {
	if p.proto == 0 {
		return c.proto == 0 || r.notProtocol != c.proto
	}
	return r.portMatches(c.ranges[0].Min)
}
