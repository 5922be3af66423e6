// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/selector"
)

// study is the work on one change.
type study struct {
	before, after *picture
	objects       map[api.Key]bool // that differ
	members       map[api.Key]bool // that differ
	policies      map[api.Key]bool // that may judge otherwise
	profiles      map[string]bool  // that may judge otherwise
	selectors     selectors
	owners        map[netip.Addr]api.Key // who has an address
	// unseen were not looked at, partly not at all that their rules tell apart.
	unseen, partly []endpoint
	work           int // what is left of it
}

// selectors are the different selectors of policies, numbered.
type selectors struct {
	list []*selector.Selector
	of   map[string]int
}

func (s *selectors) number(p *enforced) int {
	n, ok := s.of[p.text]
	if !ok {
		n = len(s.list)
		s.of[p.text], s.list = n, append(s.list, p.sel)
	}
	return n
}

// matching tells for each selector whether it matches.
func (s *selectors) matching(labels selector.Map) []bool {
	out := make([]bool, len(s.list))
	for i, sel := range s.list {
		out[i] = sel.Evaluate(labels)
	}
	return out
}

// mostMembers is how many endpoints and sets are compared with each rule; if
// more differ, all rules with selectors count as changed.
const mostMembers = 500

func newStudy(before, after Picture) *study {
	s := &study{before: pictureOf(before), after: pictureOf(after), policies: map[api.Key]bool{}, profiles: map[string]bool{},
		selectors: selectors{of: map[string]int{}}, work: mostWork}
	s.objects, s.members = differing(s.before, s.after), differingMembers(s.before, s.after)
	if s.before.labels, s.after.labels = "before", "after"; len(s.members) == 0 {
		s.after.labels, s.after.known = s.before.labels, s.before.known
	}
	for _, p := range []*picture{s.before, s.after} {
		for k, x := range p.policies {
			if s.objects[k] || s.objects[api.Key{Kind: api.KindTier, Name: x.tier}] || s.touched(k, x.spec.Ingress, x.spec.Egress) {
				s.policies[k] = true
			}
		}
		for k := range p.objects {
			if k.Kind != api.KindProfile {
				continue
			}
			if x := p.profile(k.Name); x != nil && (s.objects[k] || s.touched(k, x.Ingress, x.Egress)) {
				s.profiles[k.Name] = true
			}
		}
	}
	for k := range s.objects { // one that is there in one picture only
		if k.Kind == api.KindProfile {
			s.profiles[k.Name] = true
		}
	}
	return s
}

// touched reports whether rules ask for endpoints or sets that differ.
func (s *study) touched(of api.Key, rules ...[]api.Rule) bool {
	if len(s.members) == 0 {
		return false
	}
	for _, list := range rules {
		for _, r := range list {
			for _, e := range []api.EntityRule{r.Source, r.Destination} {
				positive, negative, err := policy.PeerSelectors(of, e)
				if err != nil {
					continue
				}
				sel := positive
				if sel == nil {
					sel = negative
				}
				byName := slices.ContainsFunc(slices.Concat(e.Ports, e.NotPorts), func(p api.Port) bool { return p.Name != "" })
				switch {
				case sel == nil && !byName:
					continue
				case sel == nil || len(s.members) > mostMembers:
					return true
				}
				for k := range s.members {
					m, was := s.before.members[k]
					n, is := s.after.members[k]
					if was && sel.Evaluate(m.Labels) || is && sel.Evaluate(n.Labels) {
						return true
					}
				}
			}
		}
	}
	return false
}
