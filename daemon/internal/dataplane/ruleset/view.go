// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"maps"
	"slices"
)

// With is the ruleset with some objects other than they are; nil: without
// them. It shares all else with s, so it costs no memory to speak of, is good
// until s changes, and can be evaluated and judged, but neither changed nor
// printed.
func (s *State) With(objects map[ID]Object) *State {
	v := &State{
		Chains: maps.Clone(s.Chains), Sets: maps.Clone(s.Sets), Members: s.Members,
		Dispatches: s.Dispatches, Entries: maps.Clone(s.Entries), Verdicts: maps.Clone(s.Verdicts),
		lookups: maps.Clone(s.lookups),
	}
	own := map[ID]bool{} // what is v's and no longer shared, by name and kind
	first := func(id ID) bool {
		key := ID{Kind: id.Kind, Name: id.Name}
		was := own[key]
		own[key] = true
		return !was
	}
	for id, o := range objects {
		switch id.Kind {
		case KindChain:
			delete(v.Chains, id.Name)
			if o != nil {
				v.Chains[id.Name] = o.(*Chain)
			}
		case KindSet:
			delete(v.Sets, id.Name)
			if o != nil {
				v.Sets[id.Name] = o.(*Set)
			}
		case KindMember:
			if first(id) {
				v.lookups[id.Name] = v.lookups[id.Name].view()
			}
			v.lookups[id.Name].differ(id.Elem, o != nil)
		case KindDispatch: // nothing is asked of it
		case KindEntry:
			if first(id) {
				v.Entries[id.Name] = cloned(v.Entries[id.Name])
			}
			delete(v.Entries[id.Name], id.Iface)
			if o != nil {
				v.Entries[id.Name][id.Iface] = o.(Entry)
			}
		case KindVerdicts, KindVerdict:
			if first(ID{Kind: KindVerdict, Name: id.Name}) {
				v.Verdicts[id.Name] = v.Verdicts[id.Name].view()
			}
			m := v.Verdicts[id.Name]
			if id.Kind == KindVerdicts {
				m.Def, _ = o.(*Verdicts)
				continue
			}
			m.differ(VerdictKey{Net: id.Elem.Net, Range: id.Range}, o)
		}
	}
	return v
}

func cloned[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}

// lookup is the members of a set, with the lengths of their prefixes, so that
// those that do not occur need not be tried.
type lookup struct {
	members map[Element]struct{}
	count   [129]int // of members by length
	lengths []uint8  // that occur, longest first
	// plus and minus are what differs, in a view.
	plus, minus map[Element]struct{}
}

func (l *lookup) has(e Element) bool {
	if _, ok := l.members[e]; ok {
		_, gone := l.minus[e]
		return !gone
	}
	_, ok := l.plus[e]
	return ok
}

// add counts a member that comes (1) or goes (-1).
func (l *lookup) add(e Element, n int) {
	bits := e.Net.Bits()
	l.count[bits] += n
	switch {
	case n > 0 && l.count[bits] == 1:
		i, _ := slices.BinarySearchFunc(l.lengths, uint8(bits), func(a, b uint8) int { return int(b) - int(a) })
		l.lengths = slices.Insert(l.lengths, i, uint8(bits))
	case l.count[bits] == 0:
		l.lengths = slices.DeleteFunc(l.lengths, func(b uint8) bool { return int(b) == bits })
	}
}

// view is a copy that shares the members; of nil: one without any.
func (l *lookup) view() *lookup {
	v := &lookup{plus: map[Element]struct{}{}, minus: map[Element]struct{}{}}
	if l != nil {
		v.members, v.count, v.lengths = l.members, l.count, slices.Clone(l.lengths)
	}
	return v
}

// differ makes e a member of a view, or none.
func (l *lookup) differ(e Element, in bool) {
	if l.has(e) == in {
		return
	}
	_, below := l.members[e]
	switch {
	case in && below:
		delete(l.minus, e)
	case in:
		l.plus[e] = struct{}{}
	case below:
		l.minus[e] = struct{}{}
	default:
		delete(l.plus, e)
	}
	if in {
		l.add(e, 1)
	} else {
		l.add(e, -1)
	}
}

// ruling is what a verdict map holds for a key.
func (m *VerdictMap) ruling(k VerdictKey) (Ruling, bool) {
	if r, ok := m.other[k]; ok {
		return r, r != Ruling{}
	}
	r, ok := m.Of[k]
	return r, ok
}

// view is a copy that shares the elements; of nil: one without any.
func (m *VerdictMap) view() *VerdictMap {
	v := &VerdictMap{other: map[VerdictKey]Ruling{}}
	if m != nil {
		v.Def, v.Of, v.lengths, v.wide = m.Def, m.Of, m.lengths, maps.Clone(m.wide)
	}
	return v
}

// differ makes a ruling of a view another; nil: none.
func (m *VerdictMap) differ(k VerdictKey, o Object) {
	_, was := m.ruling(k)
	r, is := o.(Ruling)
	m.other[k] = r // the zero value: none
	switch {
	case is && !was:
		m.count(k, 1)
	case was && !is:
		m.count(k, -1)
	}
}
