// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// VerdictType is what a verdict map is asked for.
type VerdictType uint8

// Verdict types: prefixes of one family, of which the longest that covers the
// address counts; ranges of ports that do not overlap.
const (
	ByNet VerdictType = iota + 1
	ByPort
)

// Verdicts is a map from addresses or ports to chains. It takes the place of
// a list of rules: a look-up costs the same however much there is in it.
type Verdicts struct {
	Family Family // of ByNet
	Type   VerdictType
}

// Ruling is the object of a verdict map's element: the packet continues in
// the chain, without coming back.
type Ruling struct{ Chain string }

func (*Verdicts) isObject() {}
func (Ruling) isObject()    {}

// Field is a part of a packet that Classify looks up.
type Field uint8

// Fields. FieldSrc and FieldDst need a rule of the map's family, FieldDstPort
// one of a protocol that has ports.
const (
	FieldSrc Field = iota + 1
	FieldDst
	FieldDstPort
)

// String is the field's name.
func (f Field) String() string { return [...]string{"none", "src", "dst", "dport"}[f] }

// VerdictKey is what an element of a verdict map covers: Net in a map of
// ByNet, Range in one of ByPort.
type VerdictKey struct {
	Net   netip.Prefix
	Range PortRange
}

// VerdictMap is a verdict map in a State.
type VerdictMap struct {
	Def *Verdicts // nil: elements of a map that is not wanted
	Of  map[VerdictKey]Ruling

	wide    map[PortRange]struct{} // of several ports
	lengths [129]int               // how many prefixes are so long
	// other is what differs in a view (State.With); the zero Ruling: none.
	other map[VerdictKey]Ruling
}

func (m *VerdictMap) put(k VerdictKey, r Ruling) {
	if _, there := m.Of[k]; !there {
		m.count(k, 1)
	}
	m.Of[k] = r
}

func (m *VerdictMap) drop(k VerdictKey) {
	if _, there := m.Of[k]; there {
		m.count(k, -1)
	}
	delete(m.Of, k)
}

func (m *VerdictMap) count(k VerdictKey, n int) {
	switch {
	case k.Net.IsValid():
		m.lengths[k.Net.Bits()] += n
	case k.Range.Min == k.Range.Max:
	case n > 0:
		if m.wide == nil {
			m.wide = map[PortRange]struct{}{}
		}
		m.wide[k.Range] = struct{}{}
	default:
		delete(m.wide, k.Range)
	}
}

func (s *State) verdictMap(name string) *VerdictMap {
	m := s.Verdicts[name]
	if m == nil {
		m = &VerdictMap{Of: map[VerdictKey]Ruling{}}
		s.Verdicts[name] = m
	}
	return m
}

func (s *State) dropEmpty(name string) {
	if m := s.Verdicts[name]; m != nil && m.Def == nil && len(m.Of) == 0 {
		delete(s.Verdicts, name)
	}
}

// classify finds the chain for the packet.
func (e *evaluation) classify(a *Action) (string, bool) {
	m := e.state.Verdicts[a.Target]
	if m == nil || m.Def == nil {
		panic("ruleset: no verdict map " + a.Target)
	}
	p := e.packet
	switch a.Field {
	case FieldSrc, FieldDst:
		addr := p.Src
		if a.Field == FieldDst {
			addr = p.Dst
		}
		for bits := addr.BitLen(); bits >= 0; bits-- {
			if m.lengths[bits] == 0 {
				continue
			}
			net, _ := addr.Prefix(bits)
			if r, ok := m.ruling(VerdictKey{Net: net}); ok {
				return r.Chain, true
			}
		}
	case FieldDstPort:
		if !HasPorts(p.Protocol) {
			return "", false
		}
		if r, ok := m.ruling(VerdictKey{Range: PortRange{p.DstPort, p.DstPort}}); ok {
			return r.Chain, true
		}
		for k := range m.wide {
			if k.Min <= p.DstPort && p.DstPort <= k.Max {
				r, _ := m.ruling(VerdictKey{Range: k})
				return r.Chain, true
			}
		}
	default:
		panic(fmt.Sprintf("ruleset: field %d", a.Field))
	}
	return "", false
}

// verdictText appends the canonical text of verdict maps.
func (s *State) verdictText(b *strings.Builder) {
	for _, name := range slices.Sorted(maps.Keys(s.Verdicts)) {
		m := s.Verdicts[name]
		fmt.Fprintf(b, "verdicts %s %s\n", name, m.Def)
		for _, k := range slices.SortedFunc(maps.Keys(m.Of), CompareVerdictKeys) {
			fmt.Fprintf(b, "  %s: goto %s\n", k, m.Of[k].Chain)
		}
	}
}

// String is what the map is asked for.
func (v *Verdicts) String() string {
	switch {
	case v == nil:
		return "of nobody"
	case v.Type == ByNet:
		return fmt.Sprintf("by ipv%d net", v.Family)
	}
	return "by port"
}

// String is the prefix or the range.
func (k VerdictKey) String() string {
	if k.Net.IsValid() {
		return k.Net.String()
	}
	return k.Range.String()
}

// CompareVerdictKeys orders keys by address, length and range.
func CompareVerdictKeys(a, b VerdictKey) int {
	return cmp.Or(a.Net.Addr().Compare(b.Net.Addr()), cmp.Compare(a.Net.Bits(), b.Net.Bits()),
		cmp.Compare(a.Range.Min, b.Range.Min), cmp.Compare(a.Range.Max, b.Range.Max))
}
