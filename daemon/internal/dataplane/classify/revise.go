// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// bulk is how many rules come and go before the pieces of ports are cut anew.
const bulk = 200

// revision is a change of the rules of a space.
type revision struct {
	removed, added []*rule
	at             []int // where added ones are, ascending
}

func (r *revision) any(is func(*rule) bool) bool {
	return slices.ContainsFunc(r.removed, is) || slices.ContainsFunc(r.added, is)
}

// align finds what of the rules before is in the rules now, in the same
// order: for each of now the index before, or -1.
func align(before, now []Rule) []int {
	same := func(a, b *Rule) bool {
		return a.Of == b.Of && a.Nth == b.Nth && a.Family == b.Family && a.Ends == b.Ends && a.Chain == b.Chain
	}
	out := make([]int, len(now))
	a := 0
	for a < len(now) && a < len(before) && same(&now[a], &before[a]) {
		out[a] = a
		a++
	}
	z := 0
	for z < len(now)-a && z < len(before)-a && same(&now[len(now)-1-z], &before[len(before)-1-z]) {
		out[len(now)-1-z] = len(before) - 1 - z
		z++
	}
	type key struct {
		of     Matcher
		family ruleset.Family
		nth    int
		chain  string
	}
	at := map[key]int{}
	for i := a; i < len(before)-z; i++ {
		at[key{before[i].Of, before[i].Family, before[i].Nth, before[i].Chain}] = i
	}
	// Of those that are there in both, the longest that are in order.
	var tails []int // by length, the index now of the least last one
	prev := map[int]int{}
	for i := a; i < len(now)-z; i++ {
		out[i] = -1
		j, ok := at[key{now[i].Of, now[i].Family, now[i].Nth, now[i].Chain}]
		if !ok || !same(&now[i], &before[j]) {
			continue
		}
		out[i] = j
		n, _ := slices.BinarySearchFunc(tails, j, func(t, j int) int { return out[t] - j })
		if n > 0 {
			prev[i] = tails[n-1]
		}
		if n == len(tails) {
			tails = append(tails, i)
		} else {
			tails[n] = i
		}
	}
	keep := map[int]bool{}
	if len(tails) > 0 {
		for i, ok := tails[len(tails)-1], true; ok; i, ok = prev[i] {
			keep[i] = true
		}
	}
	for i := a; i < len(now)-z; i++ {
		if !keep[i] {
			out[i] = -1
		}
	}
	return out
}

// take makes the rules of a space what they are to be. before is what they
// were, aligned which of those are there still.
func (s *space) take(before, now []Rule, aligned []int) (rev revision) {
	named := func(list []Rule, i int) bool { return !list[i].Ends && list[i].Next != i+1 }
	old := s.rules
	rules := make([]*rule, len(now))
	kept := make([]bool, len(before))
	for i := len(now) - 1; i >= 0; i-- { // what may follow a rule is behind it
		in, j := &now[i], aligned[i]
		if in.Family != ruleset.AnyFamily && in.Family != s.family {
			continue
		}
		var next *rule
		if named(now, i) {
			for k := in.Next; next == nil; k++ {
				next = rules[k]
			}
		}
		if j >= 0 && (next == nil && !named(before, j) || next != nil && old[j].next == next) {
			rules[i], kept[j] = old[j], true
			continue
		}
		rules[i] = s.newRule(in)
		rules[i].next = next
		rev.added, rev.at = append(rev.added, rules[i]), append(rev.at, i)
	}
	for j, r := range old {
		if r != nil && !kept[j] {
			rev.removed = append(rev.removed, r)
		}
	}
	slices.Reverse(rev.added)
	slices.Reverse(rev.at)
	s.rules = rules
	return rev
}

// gap is how far apart rules are placed.
const gap = 1 << 24

// number gives new rules places between those of before.
func (s *space) number(rev *revision) {
	for k := 0; k < len(rev.at); {
		i, before, after := rev.at[k], int64(0), int64(0)
		for j := i - 1; j >= 0 && before == 0; j-- {
			if s.rules[j] != nil {
				before = s.rules[j].place
			}
		}
		var run []*rule
		for ; i < len(s.rules) && after == 0; i++ {
			switch {
			case s.rules[i] == nil:
			case k < len(rev.at) && rev.at[k] == i:
				run = append(run, s.rules[i])
				k++
			default:
				after = s.rules[i].place
			}
		}
		n := int64(len(run))
		if after == 0 {
			after = before + (n+1)*gap
		}
		step := (after - before) / (n + 1)
		if step <= 0 {
			s.renumber()
			return
		}
		for _, r := range run {
			before += step
			r.place = before
		}
	}
}

func (s *space) renumber() {
	place := int64(0)
	for _, r := range s.rules {
		if r != nil {
			place += gap
			r.place = place
		}
	}
}

// revise works out again what the rules of a revision are about.
func (s *space) revise(rev revision) {
	if len(rev.removed)+len(rev.added) == 0 {
		return
	}
	asked := s.ask(rev)
	anew := len(rev.removed)+len(rev.added) > bulk
	var was [ofPorts]bool
	for k, pl := range s.planes {
		was[k] = pl.ported > 0
		if !anew {
			for _, r := range rev.removed {
				pl.remove(r)
			}
		}
	}
	s.number(&rev)
	rules := func() []*rule {
		return slices.DeleteFunc(slices.Clone(s.rules), func(r *rule) bool { return r == nil })
	}
	w := work{rev: rev, around: map[*class]*[ofPorts][]span{}}
	for k, pl := range s.planes {
		if anew {
			s.forgetBase(pl)
			pl.build(rules())
		} else {
			for _, r := range rev.added {
				pl.add(r)
			}
		}
		flips := was[k] != (pl.ported > 0)
		w.flips = w.flips || flips
		w.fresh[k] = anew || flips || rev.any(func(r *rule) bool { return r.wide && r.concerns(pl.proto) })
	}
	if w.others = rev.any(func(r *rule) bool { return !r.ported() }); w.others {
		named := s.others.protos
		s.others.build(rules())
		w.flips = w.flips || !slices.Equal(named, s.others.protos)
	}
	s.reviseRoot(&w)
	for depth := 1; depth <= nesting+1; depth++ { // the class around comes first
		for _, c := range s.classes {
			if c.depth == depth {
				s.reviseClass(c, &w)
			}
		}
	}
	for _, r := range rev.removed {
		s.program.targets.release(r.chain)
	}
	s.changedAtoms(asked)
}

// ask notes which rules ask for which atoms, and returns the atoms that
// rules of the revision ask, or asked, for.
func (s *space) ask(rev revision) map[int32]bool {
	asked := map[int32]bool{}
	for _, r := range rev.removed {
		for _, x := range r.peer {
			list := s.atoms[x.atom].rules
			if i := slices.Index(list, r); i >= 0 {
				list[i] = list[len(list)-1]
				s.atoms[x.atom].rules = list[:len(list)-1]
			}
			asked[x.atom] = true
		}
	}
	for _, r := range rev.added {
		s.program.targets.retain(r.chain)
		for _, x := range r.peer {
			s.atoms[x.atom].rules = append(s.atoms[x.atom].rules, r)
			asked[x.atom] = true
		}
	}
	return asked
}

// changedAtoms gives atoms that rules ask for now, and did not before, their
// members, and takes those of the others away.
func (s *space) changedAtoms(asked map[int32]bool) {
	gone := map[int32]bool{}
	for i := range asked {
		a := &s.atoms[i]
		switch is := len(a.rules) > 0; {
		case is && !a.held:
			a.held = true
			s.membersOf(a, func(n netip.Prefix) {
				s.holdOne(n, i, true)
				s.affected[n] = struct{}{}
			})
		case !is:
			gone[i] = true
		}
	}
	if len(gone) == 0 {
		return
	}
	less := map[*holder]*holder{}
	for _, h := range s.holders {
		if left := slices.DeleteFunc(slices.Clone(h.atoms), func(a int32) bool { return gone[a] }); len(left) < len(h.atoms) {
			less[h] = nil
			if len(left) > 0 {
				less[h] = &holder{atoms: left}
			}
		}
	}
	if len(less) > 0 {
		for n, p := range s.peers {
			if to, is := less[p.own]; is && p.own != nil {
				if to != nil {
					to = s.holder(to.atoms)
				}
				s.hold(n, to)
				s.affected[n] = struct{}{}
			}
		}
	}
	for i := range gone { // classes still say so until peers are placed
		delete(s.atomOf, s.atoms[i].name)
		s.atoms[i].held, s.atoms[i].rules, s.atoms[i].nets = false, nil, nil
		s.ended = append(s.ended, i)
	}
}
