// SPDX-License-Identifier: Apache-2.0

package mutation

// classifyFaults are in package classify, which turns rules into look-ups.
var classifyFaults = []mutation{
	{file: "daemon/internal/dataplane/classify/space.go", old: `if c.holds(x.atom) != x.is {`, now: `if !c.holds(x.atom) {`, damage: "what a peer must not be is read as what it must be"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `case a < len(col.rules) && (b >= len(p.wide) || col.rules[a] < p.wide[b]):`, now: `case a < len(col.rules):`, damage: "rules for a port come before those for all"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `if s.program.in.Egress {`, now: `if !s.program.in.Egress {`, damage: "the peer is looked for at the wrong end"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `out.peer = append(out.peer, condition{s.netAtom(*notNets), false})`, now: `_ = notNets`, damage: "excepted nets do not count"},
	{file: "daemon/internal/dataplane/classify/lists.go", old: `		case r.rest == nil || r.Next == int(i)+1:`, now: `		case true:`, damage: "a Pass with more conditions than peer and port goes on to the next rule"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `cuts = append(cuts, int(x.Min), int(x.Max)+1)`, now: `cuts = append(cuts, int(x.Min), int(x.Max))`, damage: "what follows a range of ports is in it"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `slices.ContainsFunc(r.ports, in)) && !slices.ContainsFunc(r.notPorts, in)`, now: `slices.ContainsFunc(r.ports, in))`, damage: "notPorts does not count"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `return c.proto == 0 || r.notProtocol != c.proto`, now: `return true`, damage: "notProtocol does not count for protocols without ports"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `(r.protocol == 0 || r.protocol == proto) && r.notProtocol != proto`, now: `(r.protocol == 0 || r.protocol == proto)`, damage: "notProtocol does not count for protocols with ports"},
	{file: "daemon/internal/dataplane/classify/plane.go", old: `case r.never || len(r.ports)+len(r.notPorts) > 0:`, now: `case r.never:`, damage: "rules with ports concern protocols without"},
	{file: "daemon/internal/dataplane/classify/render.go", old: `guard := c != s.root && (ofOthers.def != "" || len(ofOthers.to) > 0)`, now: `guard := c != s.root && len(s.planes) == 0`, damage: "what is said of protocols without ports holds for those with"},
	{file: "daemon/internal/dataplane/classify/render.go", old: `joined[n-1].to == l.to && int(joined[n-1].Max)+1 == int(l.Min) {`, now: `joined[n-1].to == l.to {`, damage: "ranges that lead to one place are joined across what is between"},
	{file: "daemon/internal/dataplane/classify/render.go", old: `return c.meets(r.peer) == c.parent.meets(r.peer)`, now: `return c.meets(r.peer) || c.parent.meets(r.peer)`, damage: "where a class differs from the one around is not seen"},
	{file: "daemon/internal/dataplane/classify/render.go", old: `		if p.isWide[i] {
			return nil, true`, now: `		if p.isWide[i] && len(cols) > 0 {
			return nil, true`, damage: "what a rule for all ports says of a class is forgotten"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `case !n.IsSingleIP() || c.target != c.parent.target:`, now: `case c.target != c.parent.target:`, damage: "a net inside another, with the rest of the world's rules, gets those of the other"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `if m.IsSingleIP() == singles && m.Bits() > n.Bits() && n.Contains(m.Addr()) {`, now: `if m.IsSingleIP() == singles && m.IsSingleIP() && n.Contains(m.Addr()) {`,
		damage: "nets inside of a member that comes do not hear of it"},
	{file: "daemon/internal/dataplane/classify/space.go", old: `			for _, a := range s.own[m] {
				atoms = insert(atoms, a)
			}`, now: `			if bits == n.Bits() {
				for _, a := range s.own[m] {
					atoms = insert(atoms, a)
				}
			}`, damage: "an address is not in the nets around the smallest"},
	{file: "daemon/internal/dataplane/classify/adopt.go", old: `if c.target != before || moved[around] {`, now: `if c.target != before && moved[around] {`, damage: "classes that lead elsewhere now are not pointed there"},
	{file: "daemon/internal/dataplane/classify/adopt.go", old: `		case !asked && held:
			gone[int32(a)] = true`, now: `		case !asked && held:`, damage: "sets that no rule asks for any more still count"},
	{file: "daemon/internal/dataplane/classify/adopt.go", old: `		case asked && !held:
			for n`, now: `		case asked && !held && a%2 == 0:
			for n`, damage: "of sets that rules ask for anew only some are filled"},
}
