// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// verdictMap is a verdict map. elems are the chains, by the ruleset's names,
// that it shall lead to, by the kernel's key: of an interval map the first and
// last key of a range, one behind the other.
type verdictMap struct {
	name  string
	want  *ruleset.Verdicts // nil: not wanted
	kname string
	elems map[string]string
	// wide are prefixes that are no single addresses. As long as there are
	// some, elems is made anew from nets and wide when anything changes.
	wide    map[netip.Prefix]string
	nets    map[netip.Prefix]string // single addresses, while there are wide ones
	stale   bool
	dirty   map[string]struct{}
	refused error
	// hopeless: the kernel refuses what stands in for the elements, too.
	hopeless bool
}

// spec is the kernel's set for m.
func (m *verdictMap) spec() setSpec {
	s := setSpec{flags: unix.NFT_SET_MAP | unix.NFT_SET_INTERVAL, keyType: typeService, keyLen: 2, dataType: typeVerdict}
	if m.want.Type == ruleset.ByNet {
		s.keyType, s.keyLen = netType(m.want.Family), addrLen(m.want.Family)
	}
	if m.single() {
		s.flags = unix.NFT_SET_MAP
	}
	return s
}

// single reports whether a hash map will do.
func (m *verdictMap) single() bool {
	if m.want.Type == ruleset.ByNet {
		return len(m.wide) == 0
	}
	for key := range m.elems {
		if key[:2] != key[2:] {
			return false
		}
	}
	return true
}

// kernelKey is the key in the form of the map's spec.
func kernelKey(key string, spec setSpec) string {
	if !spec.interval() {
		return key[:spec.keyLen]
	}
	return key
}

func (f *Filter) verdictMap(name string) *verdictMap {
	m := f.verdicts[name]
	if m == nil {
		m = &verdictMap{name: name, elems: map[string]string{}, dirty: map[string]struct{}{}}
		f.verdicts[name] = m
	}
	f.dirtyVerdicts[m] = struct{}{}
	m.refused, m.hopeless = nil, false
	return m
}

func (f *Filter) wantVerdicts(id ruleset.ID, o ruleset.Object) {
	m := f.verdictMap(id.Name)
	switch v := o.(type) {
	case *ruleset.Verdicts:
		m.want = v
	case ruleset.Ruling:
		n := id.Elem.Net
		switch {
		case n.IsValid() && !n.IsSingleIP():
			if m.wide == nil {
				m.wide = map[netip.Prefix]string{}
			}
			m.wide[n], m.stale = v.Chain, true
		case n.IsValid() && m.nets != nil:
			m.nets[n], m.stale = v.Chain, true
		default:
			key := rulingKey(id)
			m.elems[key] = v.Chain
			m.dirty[key] = struct{}{}
		}
	}
}

func (f *Filter) unwantVerdicts(id ruleset.ID) {
	if f.verdicts[id.Name] == nil {
		return
	}
	m := f.verdictMap(id.Name)
	n := id.Elem.Net
	switch {
	case id.Kind == ruleset.KindVerdicts:
		m.want = nil
	case n.IsValid() && !n.IsSingleIP():
		delete(m.wide, n)
		m.stale = true
	case n.IsValid() && m.nets != nil:
		delete(m.nets, n)
		m.stale = true
	default:
		key := rulingKey(id)
		delete(m.elems, key)
		m.dirty[key] = struct{}{}
	}
}

func (m *verdictMap) allDirty() {
	for key := range m.elems {
		m.dirty[key] = struct{}{}
	}
}

// rulingKey is the key of a single address or of a range of ports.
func rulingKey(id ruleset.ID) string {
	if id.Elem.Net.IsValid() {
		return string(id.Elem.Net.Addr().AsSlice())
	}
	return string(net16(id.Range.Min)) + string(net16(id.Range.Max))
}

// derive makes elems from prefixes: ranges that do not overlap, each of the
// longest prefix that covers it.
func (m *verdictMap) derive() {
	if !m.stale {
		return
	}
	m.stale = false
	m.allDirty()
	if m.nets == nil { // the first wide one: single addresses move
		m.nets = map[netip.Prefix]string{}
		for key, chain := range m.elems {
			if a, ok := netip.AddrFromSlice([]byte(key)); ok {
				m.nets[netip.PrefixFrom(a, a.BitLen())] = chain
			}
		}
	}
	elems := map[string]string{}
	if len(m.wide) == 0 { // the last one is gone
		for n, chain := range m.nets {
			elems[string(n.Addr().AsSlice())] = chain
		}
		m.nets = nil
	} else {
		for _, r := range disjoint(m.nets, m.wide) {
			elems[r.lo+r.hi] = r.chain
		}
	}
	m.elems = elems
	m.allDirty()
}

type chainRange struct {
	lo, hi string
	chain  string
}

// disjoint cuts nested prefixes into ranges, each of the longest prefix that
// covers it. Neighbours stay apart: one that goes takes no other along.
func disjoint(lists ...map[netip.Prefix]string) []chainRange {
	var nets []netip.Prefix
	for _, l := range lists {
		nets = append(nets, slices.Collect(maps.Keys(l))...)
	}
	slices.SortFunc(nets, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	chain := func(n netip.Prefix) string {
		for _, l := range lists {
			if c, ok := l[n]; ok {
				return c
			}
		}
		return ""
	}
	var out []chainRange
	type open struct {
		krange
		chain string
	}
	var stack []open
	at := ""                     // everything below is cut
	closeTo := func(lo string) { // closes what ends before lo; all if empty
		for len(stack) > 0 && (lo == "" || stack[len(stack)-1].hi < lo) {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if at != "" && at <= top.hi {
				out = append(out, chainRange{at, top.hi, top.chain})
			}
			next, ok := succ(top.hi)
			if !ok {
				at = ""
				stack = nil
				return
			}
			at = max(at, next)
		}
	}
	for _, n := range nets {
		r := prefixRanges([]netip.Prefix{n})[0]
		closeTo(r.lo)
		if len(stack) > 0 && at != "" && at < r.lo {
			out = append(out, chainRange{at, before(r.lo), stack[len(stack)-1].chain})
		}
		at = r.lo
		stack = append(stack, open{r, chain(n)})
	}
	closeTo("")
	return out
}

// before is the key before k.
func before(k string) string {
	b := []byte(k)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	return string(b)
}

// entries are the elements of a map as read, by key.
func (r *records) entries(spec setSpec) map[string]verdict {
	out := make(map[string]verdict, r.Len())
	r.each(spec, func(i int, lo, hi []byte) {
		key := string(lo)
		if spec.interval() {
			key += string(hi)
		}
		out[key] = r.verdicts[i]
	})
	return out
}

// classify renders a Classify.
func (l *lowerer) classify(r *ruleset.Rule) ([]ending, error) {
	kname, def, err := l.verdictsOf(r.Action.Target)
	if err != nil {
		return nil, err
	}
	m := &r.Match
	byPort := r.Action.Field == ruleset.FieldDstPort
	switch {
	case byPort != (def.Type == ruleset.ByPort), !byPort && (m.Family == ruleset.AnyFamily || m.Family != def.Family):
		return nil, fmt.Errorf("classify %s by %s: another type or family than the rule's", r.Action.Field, r.Action.Target)
	case byPort && !ruleset.HasPorts(m.Protocol):
		return nil, fmt.Errorf("classify by port with protocol %d", m.Protocol)
	}
	load := func(p *prog) { p.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, reg1) }
	if !byPort {
		s := sides(m)[r.Action.Field-ruleset.FieldSrc]
		load = s.load(m.Family, addrLen(m.Family), reg1)
	}
	return []ending{{when: []step{load}, do: func(p *prog) { p.vmap(kname) }}}, nil
}
