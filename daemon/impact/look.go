// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// look judges the classes that the change may matter to, as far as the bounds
// allow, and returns what was found.
func (s *study) look() []*finding {
	classes := s.affected()
	if len(classes) > mostClasses {
		for _, c := range classes[mostClasses:] {
			s.unseen = append(s.unseen, c.endpoints...)
		}
		classes = classes[:mostClasses]
	}
	found := newFindings()
	for i, c := range classes {
		s.work -= s.class(c, s.work/(len(classes)-i), found)
	}
	return found.list()
}

// class judges one class with so much work at the most, and returns how much
// it was.
func (s *study) class(c *class, most int, found *findings) (work int) {
	cuts := s.cutsOf(c)
	spansOf, n := 0, 1+len(cuts.source.list)+len(cuts.dest.list)
	for _, a := range slices.Concat(cuts.source.list, cuts.dest.list) {
		spansOf += len(a[v4]) + len(a[v6])
	}
	if spansOf*n > mostSpans {
		s.unseen = append(s.unseen, c.endpoints...)
		return 0
	}
	var source, dest [2][]atom[netip.Addr]
	var services [2][]*service
	for _, family := range []int{v4, v6} {
		source[family] = atomsOf(lines[family], cuts.source.line(family))
		dest[family] = atomsOf(lines[family], cuts.dest.line(family))
		services[family] = cuts.services[family].services(family)
	}
	partly := false
	only, filters := s.rulesOnly(c), s.filters(c)
	weight := s.weight(c)
	ways := passages(c.endpoints[0], cuts.forward)
	for i, way := range ways {
		for _, family := range []int{v4, v6} {
			peers, far, first := source[family], dest[family], cuts.source.list[:cuts.source.first]
			if way.peers == destSide {
				peers, far, first = dest[family], source[family], cuts.dest.list[:cuts.dest.first]
			}
			ends := []*ownEnd{{endpoints: c.endpoints, atoms: others(far)}}
			if way.own {
				ends = ownEnds(c, far, family)
			}
			for j, own := range ends {
				t := &table{family: family, far: own.atoms, peers: others(peers), services: services[family]}
				t.farWhole, t.looked = true, len(t.services)
				bounded := t.bound(mostCells, first)
				var r relevant
				if only && len(filters)*len(t.far)*len(t.peers)*t.looked <= mostSpans {
					r = relevantIn(t, way, filters)
				}
				share := max(0, most-work) / ((len(ways) - i) * 2 * (len(ends) - j)) / weight
				// The class' first endpoint may have no address of the family.
				stands := own.endpoints[0]
				judged := s.judge(t, stands, passages(stands, cuts.forward)[i], r, share)
				work += min(judged, share) * weight
				partly = partly || bounded || judged > share
				found.add(s, t, way, own, cuts)
			}
		}
	}
	if partly {
		s.partly = append(s.partly, c.endpoints...)
	}
	return work
}

// weight is about how many policies and rules are asked for one flow.
func (s *study) weight(c *class) int {
	n := 4
	for _, k := range c.policies {
		for _, p := range []*picture{s.before, s.after} {
			if x := p.policies[k]; x != nil {
				n += 3 + len(x.spec.Ingress) + len(x.spec.Egress)
			}
		}
	}
	return n
}

// limits says what was not looked at.
func (s *study) limits() (lines []string) {
	if len(s.unseen) > 0 {
		lines = append(lines, s.endpointNames(s.unseen))
	}
	if len(s.partly) > 0 {
		lines = append(lines, "some addresses and services of "+s.endpointNames(s.partly))
	}
	return lines
}

// others are atoms without addresses that never come from another host.
func others(atoms []atom[netip.Addr]) []atom[netip.Addr] {
	return slices.DeleteFunc(slices.Clone(atoms), func(a atom[netip.Addr]) bool { return a.one.IsLoopback() })
}

// bound keeps the table to so many cells, and to mostAtoms. What the policies
// that differ tell apart goes first. It reports whether anything was left out.
func (t *table) bound(cells int, first []addresses) bool {
	size := func() int { return len(t.peers) * t.looked * len(t.far) }
	whole := size()
	if whole <= cells && len(t.peers) <= mostAtoms && len(t.far) <= mostAtoms {
		return false
	}
	rank := func(a atom[netip.Addr]) int {
		if slices.ContainsFunc(first, func(x addresses) bool { return x.has(a.one) }) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(t.peers, func(a, b atom[netip.Addr]) int { return rank(a) - rank(b) })
	far := len(t.far)
	t.peers = t.peers[:min(len(t.peers), mostAtoms)]
	t.far = t.far[:min(len(t.far), mostAtoms)]
	for size() > cells && size() > 1 {
		switch {
		case len(t.far) > 1 && len(t.far) >= len(t.peers):
			t.far = t.far[:(len(t.far)+1)/2]
		case len(t.peers) > 1:
			t.peers = t.peers[:(len(t.peers)+1)/2]
		default:
			t.looked = (t.looked + 1) / 2
		}
	}
	t.farWhole = len(t.far) == far
	return size() < whole
}

// selectless are the policies among what differs that select no endpoint. As
// long as there is none, nothing is said.
func (s *study) selectless() (lines []string) {
	if !slices.ContainsFunc(slices.Collect(maps.Keys(s.after.members)), func(k api.Key) bool { return isEndpoint(k.Kind) }) {
		return nil
	}
	for k := range s.objects {
		o := s.after.objects[k]
		spec := api.PolicySpecOf(o)
		if spec == nil {
			continue
		}
		if !s.after.selectsAny(k, *spec) {
			text := policyName(k)
			if k.Namespace == "" && spec.NamespaceSelector == "" && spec.ServiceAccountSelector == "" && spec.Selector != "" {
				text += fmt.Sprintf(": no endpoint has %s", spec.Selector)
			}
			lines = append(lines, text)
		}
	}
	slices.Sort(lines)
	return lines
}
