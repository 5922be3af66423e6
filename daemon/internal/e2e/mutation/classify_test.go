// SPDX-License-Identifier: Apache-2.0

package mutation

// classifyFaults are in package classify, which turns rules into look-ups.
var classifyFaults = []mutation{
	{file: "daemon/internal/dataplane/classify/space.go", old: `return a.Bits() - b.Bits() })`, now: `return b.Bits() - a.Bits() })`, damage: "prefixes are placed before those around them"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `depth: parent.depth + 1,`, now: `depth: parent.depth,`, damage: "classes do not know how deep they are inside of others"},
	{file: "daemon/internal/dataplane/classify/revise.go", old: `if c.depth == depth {`, now: `if c.depth == nesting+2-depth {`, damage: "classes are revised before those around them"},
	{file: "daemon/internal/dataplane/classify/revise.go", old: `depth <= nesting+1; depth++`, now: `depth <= nesting; depth++`, damage: "the deepest classes are not revised"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `if c.holds(x.atom) != x.is {`, now: `if !c.holds(x.atom) {`, damage: "what a peer must not be is read as what it must be"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `if c.parent != nil && c.target == c.parent.target {`, now: `if c.parent != nil {`, damage: "single addresses fare as what is around them"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `			if n.Bits() < m.Bits() && n.Contains(m.Addr()) {`, now: `			if n.Bits() > m.Bits() && n.Contains(m.Addr()) {`, damage: "what lies in a member that comes or goes does not hear of it"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `		atoms = slices.Delete(slices.Clone(atoms), i, i+1)`, now: `		atoms = slices.Delete(slices.Clone(atoms), 0, 1)`, damage: "a member that goes leaves the wrong set"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `case a < len(q.listed) && (b >= len(q.wide) || q.listed[a].place < q.wide[b].place):`, now: `case a < len(q.listed):`, damage: "rules for a port come before those for all"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `if s.program.in.Egress {`, now: `if !s.program.in.Egress {`, damage: "the peer is looked for at the wrong end"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `out.peer = append(out.peer, condition{s.netAtom(*notNets), false})`, now: `_ = notNets`, damage: "excepted nets do not count"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `out.peer = append(out.peer, condition{s.setAtom(name), false})`, now: `out.peer = append(out.peer, condition{s.setAtom(name), true})`, damage: "a set that the peer must not be in is one that it must be in"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `		case r.rest == nil || r.next == nil:`, now: `		case r.ends == r.ends:`, damage: "a Pass with more conditions than peer and port goes on to the next rule"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `	if !isZero(&bare) {`, now: `	if !isZero(&bare) && m.ICMP == nil {`, damage: "the ICMP type does not count"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `				visit(x.Max + 1)`, now: `				visit(x.Max)`, damage: "what follows a range of ports is in it, and its end is not"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `within(r.ports, port)) && !within(r.notPorts, port)`, now: `within(r.ports, port))`, damage: "notPorts does not count"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `(r.protocol == 0 || r.protocol == proto) && r.notProtocol != proto`, now: `(r.protocol == 0 || r.protocol == proto)`, damage: "notProtocol does not count"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `		return r.protocol == 0
	}
	return r.concerns(proto)`, now: `		return r.protocol != 1
	}
	return r.concerns(proto)`, damage: "rules for one protocol concern those that none names"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `		if r.ported() {
			continue
		}
		o.rules`, now: `		if r.ported() && len(r.notPorts) == 0 {
			continue
		}
		o.rules`, damage: "rules with notPorts concern protocols without ports"},
	{file: "daemon/internal/dataplane/classify/revise.go", old: `		case !is:
			gone[i] = true`, now: `		case !is && !a.held:
			gone[i] = true`, damage: "sets that no rule asks for any more still count"},
	{file: "daemon/internal/dataplane/classify/revise.go", old: `		case is && !a.held:
			a.held = true`, now: `		case is && !a.held && i%2 == 0:
			a.held = true`, damage: "of sets that rules ask for anew only some are filled"},
}
