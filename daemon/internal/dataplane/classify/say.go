// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"cmp"
	"slices"
)

// span is ports from lo to hi.
type span struct{ lo, hi uint16 }

// work is what a revision makes necessary.
type work struct {
	rev revision
	// fresh: of all that is said in the plane.
	fresh [ofPorts]bool
	// others: of what is said of other protocols. flips: a plane comes into use
	// or goes out of it, or others are named.
	others, flips bool
	// around are the ports at which a class that is around others may have
	// changed.
	around map[*class]*[ofPorts][]span
}

// spans are the ports at which a class may have changed in a plane: those of
// rules that it meets, and those at which the class around it may have.
func (w *work) spans(c *class, k int, proto uint8) []span {
	var out []span
	if around := w.around[c.parent]; around != nil {
		out = slices.Clone(around[k])
	}
	for _, list := range [...][]*rule{w.rev.removed, w.rev.added} {
		for _, r := range list {
			if !r.concerns(proto) || !c.meets(r.peer) {
				continue
			}
			if r.wide {
				return []span{{0, 1<<16 - 1}}
			}
			for _, x := range r.ports {
				out = append(out, span{x.Min, x.Max})
			}
		}
	}
	return out
}

func (s *space) forgetBase(pl *plane) {
	for i := range pl.pieces {
		s.program.targets.release(pl.pieces[i].base)
		pl.pieces[i].base = nowhere
	}
}

// reviseRoot works out what the rest of the world may meet otherwise.
func (s *space) reviseRoot(w *work) {
	w.around[s.root] = &[ofPorts][]span{}
	for k, pl := range s.planes {
		spans := w.spans(s.root, k, pl.proto)
		if w.fresh[k] {
			spans = []span{{0, 1<<16 - 1}}
		}
		w.around[s.root][k] = spans
		if pl.ported == 0 {
			s.forgetBase(pl)
			s.say(s.root, k, saying{})
			continue
		}
		for _, i := range pl.within(spans) {
			s.program.targets.release(pl.pieces[i].base)
			pl.pieces[i].base = nowhere
		}
		v := make([]target, len(pl.pieces))
		for i := range v {
			p := &pl.pieces[i]
			if p.base == nowhere {
				p.base = s.ask1(s.root, pl, i)
				s.program.targets.retain(p.base)
			}
			v[i] = p.base
		}
		most := s.mostOf(v)
		s.say(s.root, k, saying{def: most, leads: pl.leads(v, func(int) target { return most })})
	}
	if w.others {
		o := &s.others
		for _, to := range o.base {
			s.program.targets.release(to)
		}
		o.base = make([]target, len(o.protos))
		for i := range o.base {
			o.base[i] = s.askOther(s.root, i)
			s.program.targets.retain(o.base[i])
		}
		def := o.base[len(o.base)-1]
		s.say(s.root, ofPorts, saying{def: def, leads: o.leads(o.base, func(int) target { return def })})
	}
	s.aim(s.root)
}

// reviseClass works out what a class may say otherwise.
func (s *space) reviseClass(c *class, w *work) {
	var differ []*rule
	known := false
	differing := func() []*rule {
		if !known {
			differ, known = s.differing(c), true
		}
		return differ
	}
	var around *[ofPorts][]span
	if c.around {
		around = &[ofPorts][]span{}
		w.around[c] = around
	}
	for k, pl := range s.planes {
		if pl.ported == 0 {
			s.say(c, k, saying{})
			if around != nil && w.fresh[k] {
				around[k] = []span{{0, 1<<16 - 1}}
			}
			continue
		}
		spans := w.spans(c, k, pl.proto)
		if w.fresh[k] {
			spans = []span{{0, 1<<16 - 1}}
		}
		if around != nil {
			around[k] = spans
		}
		switch {
		case len(spans) == 0:
		case w.fresh[k]:
			s.sayFresh(c, k, differing())
		case c.says[k].all:
			s.sayAll(c, k)
		default:
			s.sayIn(c, k, c.says[k].leads, spans)
		}
	}
	if w.others {
		s.sayOthers(c, differing())
	}
	if _, retold := s.dirty[c.parent]; w.flips || retold && c.parent != s.root {
		s.dirty[c] = struct{}{} // its chain speaks of planes, and leads to the one around
	}
	if _, is := s.dirty[c]; is {
		s.aim(c)
	}
}

// compile works out what is different for a new class from the class around
// it.
func (s *space) compile(c *class) {
	differ := s.differing(c)
	for k := range s.planes {
		s.sayFresh(c, k, differ)
	}
	s.sayOthers(c, differ)
	s.aim(c)
}

// differing are the rules that a class and the one around it meet otherwise.
func (s *space) differing(c *class) []*rule {
	var rules []*rule
	add := func(a int32) {
		for _, r := range s.atoms[a].rules {
			if c.meets(r.peer) != c.parent.meets(r.peer) {
				rules = append(rules, r)
			}
		}
	}
	for _, a := range c.atoms {
		if !c.parent.holds(a) {
			add(a)
		}
	}
	for _, a := range c.parent.atoms {
		if !c.holds(a) {
			add(a)
		}
	}
	s.program.work += len(rules)
	return rules
}

// sayFresh works out all that a class says in a plane of ports.
func (s *space) sayFresh(c *class, k int, differ []*rule) {
	pl := s.planes[k]
	if pl.ported == 0 {
		s.say(c, k, saying{})
		return
	}
	var spans []span
	for _, r := range differ {
		if !r.concerns(pl.proto) {
			continue
		}
		if r.wide {
			s.sayAll(c, k)
			return
		}
		for _, x := range r.ports {
			spans = append(spans, span{x.Min, x.Max})
		}
	}
	s.sayIn(c, k, nil, spans)
}

// sayIn works out what a class says of some ports; what it said of others
// stays.
func (s *space) sayIn(c *class, k int, old []lead, spans []span) {
	pl := s.planes[k]
	var cut []span
	var fresh []lead
	for _, i := range pl.within(spans) {
		lo, hi := pl.pieces[i].lo, pl.hi(i)
		cut = append(cut, span{lo, hi})
		if !slices.ContainsFunc(pl.pieces[i].rules, func(r *rule) bool { return c.meets(r.peer) != c.parent.meets(r.peer) }) {
			continue
		}
		if to := s.ask1(c, pl, i); to != s.verdictOf(c.parent, k, lo) {
			fresh = append(fresh, lead{lo, hi, to})
		}
	}
	s.say(c, k, saying{leads: patched(old, cut, fresh)})
}

// sayAll is for a class to which a wide rule matters: it says what is
// different, or all, whichever is shorter.
func (s *space) sayAll(c *class, k int) {
	pl := s.planes[k]
	v, around := make([]target, len(pl.pieces)), make([]target, len(pl.pieces))
	for i := range v {
		v[i] = s.ask1(c, pl, i)
		around[i] = s.verdictOf(c.parent, k, pl.pieces[i].lo)
	}
	most := s.mostOf(v)
	own := saying{all: true, leads: pl.leads(v, func(i int) target { return around[i] })}
	if whole := pl.leads(v, func(int) target { return most }); len(whole) < len(own.leads) {
		own.def, own.leads = most, whole
	}
	s.say(c, k, own)
}

// sayOthers works out what a class says of other protocols.
func (s *space) sayOthers(c *class, differ []*rule) {
	o := &s.others
	own := saying{}
	if slices.ContainsFunc(differ, func(r *rule) bool { return !r.ported() }) {
		own.all = slices.ContainsFunc(differ, func(r *rule) bool { return !r.ported() && r.protocol == 0 })
		v, around := make([]target, len(o.protos)), make([]target, len(o.protos))
		for i, proto := range o.protos {
			v[i] = s.askOther(c, i)
			around[i] = s.verdictOf(c.parent, ofPorts, uint16(proto))
		}
		most := v[len(v)-1] // where protocols lead that no rule names
		own.leads = o.leads(v, func(i int) target { return around[i] })
		if whole := o.leads(v, func(int) target { return most }); own.all && len(whole) < len(own.leads) {
			own.def, own.leads = most, whole
		}
	}
	s.say(c, ofPorts, own)
}

// say makes a saying a class's own.
func (s *space) say(c *class, k int, own saying) {
	old := c.says[k]
	c.says[k].all = own.all
	if own.def == old.def && slices.Equal(own.leads, old.leads) {
		return
	}
	t := &s.program.targets
	t.retain(own.def)
	for _, l := range own.leads {
		t.retain(l.to)
	}
	s.silence(&old)
	s.program.entries += len(own.leads)
	c.says[k] = own
	s.dirty[c] = struct{}{}
}

func (s *space) silence(old *saying) {
	s.program.targets.release(old.def)
	for _, l := range old.leads {
		s.program.targets.release(l.to)
	}
	s.program.entries -= len(old.leads)
}

// aim finds where packets of a class go.
func (s *space) aim(c *class) {
	t := &s.program.targets
	to := nowhere
	switch same, uniform := s.sameness(c); {
	case c == s.root:
		to = t.chain(c.name)
	case same:
		to = c.parent.target
	case uniform != nowhere:
		to = uniform
	default:
		to = t.chain(s.nameOf(c))
	}
	if to != c.target {
		t.retain(to)
		t.release(c.target)
		c.target = to
		s.dirty[c] = struct{}{}
	}
}

// sameness reports whether a class says nothing of its own, or, if all its
// packets go the same way, which.
func (s *space) sameness(c *class) (same bool, uniform target) {
	same = true
	all := true
	for k := range c.says {
		own := &c.says[k]
		same = same && own.def == nowhere && len(own.leads) == 0
		if k < ofPorts && s.planes[k].ported == 0 {
			continue
		}
		if own.def == nowhere || len(own.leads) > 0 || uniform != nowhere && own.def != uniform {
			all = false
		}
		uniform = own.def
	}
	if !all {
		uniform = nowhere
	}
	return same, uniform
}

// ask1 is where packets of a class to the ports of a piece go.
func (s *space) ask1(c *class, pl *plane, i int) target {
	port := pl.pieces[i].lo
	return s.decide(c, &question{listed: pl.pieces[i].rules, wide: pl.wide, ask: func(r *rule) bool { return r.portMatches(port) }}, 0, nowhere)
}

// askOther is where packets of a class go by the i-th column of others.
func (s *space) askOther(c *class, i int) target {
	o := &s.others
	return s.decide(c, &question{wide: o.rules, ask: func(r *rule) bool { return o.matches(r, o.protos[i]) }}, 0, nowhere)
}

// verdictOf is where packets of a class to a port, or of a protocol, go.
func (s *space) verdictOf(c *class, k int, key uint16) target {
	for ; c != nil; c = c.parent {
		own := &c.says[k]
		i, there := slices.BinarySearchFunc(own.leads, key, func(l lead, key uint16) int {
			switch {
			case l.hi < key:
				return -1
			case l.lo > key:
				return 1
			}
			return 0
		})
		if there {
			return own.leads[i].to
		}
		if own.def != nowhere {
			return own.def
		}
	}
	panic("classify: nothing is said of the rest of the world")
}

// within are the pieces that hold some of the ports.
func (p *plane) within(spans []span) []int {
	var out []int
	for _, x := range spans {
		for i := p.at(x.lo); i < len(p.pieces) && p.pieces[i].lo <= x.hi; i++ {
			out = append(out, i)
		}
	}
	if len(spans) > 1 {
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out
}

// leads are the pieces that lead elsewhere than besides.
func (p *plane) leads(v []target, besides func(i int) target) []lead {
	var out []lead
	for i, to := range v {
		if to != besides(i) {
			out = joined(out, lead{p.pieces[i].lo, p.hi(i), to})
		}
	}
	return slices.Clip(out)
}

// leads are the protocols that lead elsewhere than besides, the rest first.
func (o *others) leads(v []target, besides func(i int) target) []lead {
	var out []lead
	for n := range v {
		i := (n + len(v) - 1) % len(v)
		if v[i] != besides(i) {
			out = append(out, lead{uint16(o.protos[i]), uint16(o.protos[i]), v[i]})
		}
	}
	return out
}

// joined appends a lead to those before, one with what it continues.
func joined(list []lead, l lead) []lead {
	if n := len(list); n > 0 && list[n-1].to == l.to && int(list[n-1].hi)+1 == int(l.lo) {
		list[n-1].hi = l.hi
		return list
	}
	return append(list, l)
}

// patched is old, except that fresh takes the place of what is in cut; both
// are in order.
func patched(old []lead, cut []span, fresh []lead) []lead {
	var parts []lead
	i := 0
	for _, l := range old {
		for i < len(cut) && cut[i].hi < l.lo {
			i++
		}
		lo, whole := int(l.lo), true
		for j := i; j < len(cut) && cut[j].lo <= l.hi; j++ {
			if int(cut[j].lo) > lo {
				parts = append(parts, lead{uint16(lo), cut[j].lo - 1, l.to})
			}
			lo = int(cut[j].hi) + 1
			whole = lo <= int(l.hi)
		}
		if whole {
			parts = append(parts, lead{uint16(lo), l.hi, l.to})
		}
	}
	parts = append(parts, fresh...)
	slices.SortFunc(parts, func(a, b lead) int { return cmp.Compare(a.lo, b.lo) })
	var out []lead
	for _, l := range parts {
		out = joined(out, l)
	}
	return slices.Clip(out)
}

// mostOf is the chain that most stretches of pieces lead to; of equals the
// first by name. How rules that make no difference cut the pieces is no matter.
func (s *space) mostOf(v []target) target {
	n := make([]int32, len(s.program.targets.all))
	best := v[0]
	for i, to := range v {
		if i == 0 || to != v[i-1] {
			n[to]++
		}
	}
	for _, to := range v {
		if n[to] > n[best] || n[to] == n[best] && to != best && s.program.targets.name(to) < s.program.targets.name(best) {
			best = to
		}
	}
	return best
}
