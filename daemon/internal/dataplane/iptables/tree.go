// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"hash/fnv"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// A long list of rules is said as a tree, so that a packet passes those that
// cannot match it at a few comparisons. Neighbours in the list stand in a chain
// of their own, which only packets of their protocols and ports go to; many
// such chains stand in one again, and so on:
//
//	chain:  -p udp -m multiport --dports 53,5000:5099 -j group 1
//	        allowed? -j RETURN
//	        -p tcp -m multiport --dports 80,443 -j group 2
//	        allowed? -j RETURN
//	group 1:  -p udp -m multiport --dports 53 -j rs-pi-gnp/dns
//	          allowed? -j RETURN
//	          …
//
// A jump to a chain of two rules and more has such a guard in any case. The
// order of the rules stays, and so does what each does: into a group come only
// rules behind which the list goes on, or the packet is decided. Groups begin
// and end where the names of the rules say so, so that a rule that comes or
// goes changes its own group only.
const (
	// treeFan is how many members a group has on average.
	treeFan = 16
	// treeFrom is from how many rules in a row a tree pays.
	treeFrom = 2 * treeFan
)

// node is a rule, or a group of them.
type node struct {
	reach
	name string // for the group's name, and for where groups end
	rule *ruleset.Rule
	at   int // the rule's place
	kids []node
}

// leaf is a rule as a leaf of a tree; false: it must stand in the chain itself.
func (l *lowerer) leaf(r *ruleset.Rule, index int) (n node, ok bool) {
	n = node{rule: r, at: index, name: r.Comment, reach: reachOfMatch(&r.Match, l.at.family)}
	switch r.Action.Verb {
	case ruleset.Accept, ruleset.Drop, ruleset.Reject, ruleset.Log, ruleset.SetMark, ruleset.NoTrack:
	case ruleset.Jump:
		n.name += " " + r.Action.Target
		if n.all {
			n.reach = l.resolver.reach(r.Action.Target, l.at.family)
		}
	default: // what comes behind does not come back to the group's list
		return n, false
	}
	return n, !n.all
}

// tree renders rules in a row, each by say.
func (l *lowerer) tree(row []node, say func(*node)) {
	for level := 0; len(row) >= treeFrom; level++ {
		var groups []node
		for len(row) > 0 {
			n := groupEnd(row)
			g := node{name: row[0].name, kids: row[:n:n]}
			for i := range g.kids {
				g.reach = g.or(g.kids[i].reach)
			}
			row = row[n:]
			key := fmt.Sprintf("group %d %s", level, g.name)
			l.groups[key]++
			g.name = partName(l.name, fmt.Sprintf("%s %d", key, l.groups[key]))
			groups = append(groups, g)
		}
		row = groups
	}
	for i := range row {
		l.node(&row[i], say)
	}
}

// groupEnd is how many of the nodes are the first group.
func groupEnd(row []node) int {
	for n := treeFan / 2; n < min(len(row), 2*treeFan); n++ {
		h := fnv.New32a()
		h.Write([]byte(row[n].name))
		if h.Sum32()%(treeFan/2) == 0 {
			return n
		}
	}
	return min(len(row), 2*treeFan)
}

// node renders a node into the part being written.
func (l *lowerer) node(n *node, say func(*node)) {
	if n.rule != nil {
		say(n)
		return
	}
	last := len(l.parts) - 1
	above := l.parts[last]
	l.parts = append(l.parts[:last], part{name: n.name})
	for i := range n.kids {
		l.node(&n.kids[i], say)
	}
	l.parts = append(l.parts, above)
	for _, m := range n.matches() {
		l.emit(m, "-j "+n.name, "")
	}
	l.emit(markIs(markDone, markDone), "-j RETURN", "")
}
