// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

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
	limits        []string
	work          int // what is left of it
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

// class is endpoints of which no rule can tell one from another: all that
// holds for one holds for each.
type class struct {
	endpoints []endpoint
	// policies and profiles are those that select them, in either picture.
	policies []api.Key
	profiles []string
	// shapes are the tiers that judge them, before and after.
	shapes [2]string
	// whole: more than rules differs.
	whole bool
}

// endpoint is one that a change may matter to.
type endpoint struct {
	key   api.Key
	place place
	now   *picture // in which it is there
}

// affected are the endpoints that the change may matter to, by class, the
// largest first.
func (s *study) affected() []*class {
	// All selectors of policies, and what of them may judge otherwise.
	byNumber := [2][][]*enforced{}
	for i, p := range []*picture{s.before, s.after} {
		for _, k := range slices.SortedFunc(maps.Keys(p.policies), api.Key.Compare) {
			n := s.selectors.number(p.policies[k])
			for len(byNumber[i]) <= n {
				byNumber[i] = append(byNumber[i], nil)
			}
			byNumber[i][n] = append(byNumber[i][n], p.policies[k])
		}
	}
	settings := slices.ContainsFunc(slices.Collect(maps.Keys(s.objects)), func(k api.Key) bool {
		return k.Kind == api.KindNode || k.Kind == api.KindFelixConfiguration || k.Kind == api.KindHostStatus
	})
	hosts := map[string]bool{} // with an endpoint that differs
	for k := range s.objects {
		for _, p := range []*picture{s.before, s.after} {
			switch x := p.objects[k].(type) {
			case *api.HostEndpoint:
				hosts[x.Spec.Node] = true
			case *api.WorkloadEndpoint:
				hosts[x.Spec.Node] = true
			}
		}
	}
	sharing := s.sharing()
	classes := map[string]*class{}
	seats := map[[2]string]bool{}
	wild := s.wildcards(byNumber)
	held := map[string]string{} // the settings of hosts, in words
	keys := slices.Collect(maps.Keys(s.before.members))
	for k := range s.after.members {
		if _, there := s.before.members[k]; !there {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, api.Key.Compare)
	for _, k := range keys {
		if !isEndpoint(k.Kind) {
			continue
		}
		was, then := s.before.placeOf(k)
		is, now := s.after.placeOf(k)
		if !then && !now {
			continue
		}
		first := is
		if !now {
			first = was
		}
		// The endpoints for all interfaces that have a say, too, or where this
		// one is not there.
		moved := !then || !now || was.host != is.host || was.iface != is.iface
		var beside []*wildcard
		for _, host := range slices.Compact([]string{was.host, is.host}) {
			if w := wild[host]; w != nil && w.key != k && (w.forward || moved) {
				beside = append(beside, w)
			}
		}
		if !s.concerns(k, was, is, hosts[first.host], settings, first.host) &&
			!slices.ContainsFunc(beside, func(w *wildcard) bool { return w.forward && w.changed }) {
			continue
		}
		c := &class{}
		key := &strings.Builder{}
		s.selecting(k, byNumber, c, key)
		c.profiles = slices.Compact(slices.Concat(was.profiles, is.profiles))
		c.whole = s.objects[k] || s.members[k] || hosts[first.host] ||
			settings && !reflect.DeepEqual(s.before.world.Settings(first.host), s.after.world.Settings(first.host))
		words, ok := held[first.host]
		if !ok {
			words = fmt.Sprint(s.before.world.Settings(first.host), s.after.world.Settings(first.host))
			held[first.host] = words
		}
		fmt.Fprint(key, k.Kind, kindOf(was, then), kindOf(is, now), was.profiles, is.profiles, was.ports, is.ports, words, c.whole)
		for _, other := range slices.Concat(sharing[[2]string{was.host, was.iface}], sharing[[2]string{is.host, is.iface}]) {
			if other == k {
				continue
			}
			c.whole = true // which of them governs may differ
			fmt.Fprint(key, "shared with ", other)
			s.selecting(other, byNumber, c, key)
			for _, p := range []*picture{s.before, s.after} {
				at, _ := p.placeOf(other)
				c.profiles = append(c.profiles, at.profiles...)
			}
		}
		for _, w := range beside {
			fmt.Fprint(key, "beside ", w.text)
			c.policies = append(c.policies, w.policies...)
			c.profiles = append(c.profiles, w.profiles...)
			for i := range c.shapes {
				c.shapes[i] += " beside " + w.shapes[i]
			}
		}
		slices.SortFunc(c.policies, api.Key.Compare)
		c.policies = slices.Compact(c.policies)
		at := []endpoint{}
		if now {
			at = append(at, endpoint{k, is, s.after})
		}
		if then && moved {
			at = append(at, endpoint{k, was, s.before})
		}
		for _, e := range at {
			seat := [2]string{e.place.host, e.seat()}
			if seats[seat] {
				continue // an endpoint with an earlier name has it
			}
			seats[seat] = true
			of := key.String() + e.place.shape()
			if len(at) > 1 {
				of += fmt.Sprint(" moved, ", e.now == s.after)
			}
			known := classes[of]
			if known == nil {
				one := *c
				known = &one
				classes[of] = known
			}
			known.endpoints = append(known.endpoints, e)
		}
	}
	list := slices.Collect(maps.Values(classes))
	slices.SortFunc(list, func(a, b *class) int {
		return cmp.Or(cmp.Compare(len(b.endpoints), len(a.endpoints)), a.endpoints[0].key.Compare(b.endpoints[0].key),
			strings.Compare(a.endpoints[0].seat(), b.endpoints[0].seat()))
	})
	return list
}

// shape is what of a place the judgement depends on beside policy.
func (p place) shape() string {
	switch p.iface {
	case "", api.AllInterfaces, "lo":
		return "at " + p.iface
	}
	return "at an interface"
}

func kindOf(p place, there bool) string {
	if !there {
		return " absent "
	}
	return " " + p.shape() + " "
}

// seat is the interface that a host is asked about.
func (e endpoint) seat() string {
	switch e.place.iface {
	case api.AllInterfaces:
		return "" // one that no other endpoint is for
	case "":
		return "of " + e.key.Name // the one with its addresses
	}
	return e.place.iface
}

// concerns reports whether the change may matter to an endpoint: crowd tells
// that one of its host differs, settings that some host's may.
func (s *study) concerns(k api.Key, was, is place, crowd, settings bool, host string) bool {
	if crowd || s.objects[k] || s.members[k] {
		return true
	}
	if slices.ContainsFunc(slices.Concat(was.profiles, is.profiles), func(n string) bool { return s.profiles[n] }) {
		return true
	}
	for p := range s.policies {
		for _, in := range []*picture{s.before, s.after} {
			x := in.policies[p]
			if m, there := in.members[k]; x != nil && there && x.sel.Evaluate(m.Labels) {
				return true
			}
		}
	}
	return settings && !reflect.DeepEqual(s.before.world.Settings(host), s.after.world.Settings(host))
}

// selecting fills in the policies that select an endpoint in either picture.
func (s *study) selecting(k api.Key, byNumber [2][][]*enforced, c *class, key *strings.Builder) {
	var match []bool
	var matched selector.Map
	for i, p := range []*picture{s.before, s.after} {
		m, there := p.members[k]
		if !there {
			key.WriteString("none;")
			continue
		}
		if match == nil || !maps.Equal(matched, m.Labels) {
			match, matched = s.selectors.matching(m.Labels), m.Labels
		}
		var of []*enforced
		for n, policies := range byNumber[i] {
			if !match[n] || len(policies) == 0 {
				continue
			}
			key.WriteString(strconv.Itoa(n) + ",")
			for _, x := range policies {
				c.policies = append(c.policies, x.key)
				of = append(of, x)
			}
		}
		c.shapes[i] = shape(of)
		key.WriteString(";")
	}
}

// sharing are the endpoints of each interface that has several, in either
// picture.
func (s *study) sharing() map[[2]string][]api.Key {
	out := map[[2]string][]api.Key{}
	for _, p := range []*picture{s.before, s.after} {
		for k := range p.members {
			at, there := p.placeOf(k)
			seat := [2]string{at.host, at.iface}
			if there && at.iface != "" && !slices.Contains(out[seat], k) {
				out[seat] = append(out[seat], k)
			}
		}
	}
	for seat, keys := range out {
		if len(keys) == 1 {
			delete(out, seat)
		}
		slices.SortFunc(keys, api.Key.Compare)
	}
	return out
}

// wildcard is a host's endpoint for all interfaces, as others beside it see it.
type wildcard struct {
	class
	key  api.Key
	text string
	// forward: a policy of it judges what others get and send, too; changed:
	// one that may judge otherwise.
	forward, changed bool
}

// wildcards are those of all hosts that have other endpoints, too.
func (s *study) wildcards(byNumber [2][][]*enforced) map[string]*wildcard {
	crowded := map[string]bool{}
	for _, p := range []*picture{s.before, s.after} {
		seen := map[string]bool{}
		for k := range p.members {
			if at, there := p.placeOf(k); there {
				crowded[at.host] = crowded[at.host] || seen[at.host]
				seen[at.host] = true
			}
		}
	}
	out := map[string]*wildcard{}
	for _, p := range []*picture{s.before, s.after} {
		for _, k := range slices.SortedFunc(maps.Keys(p.members), api.Key.Compare) {
			at, there := p.placeOf(k)
			if !there || k.Kind != api.KindHostEndpoint || at.iface != api.AllInterfaces || !crowded[at.host] {
				continue
			}
			w := out[at.host]
			if w == nil {
				w = &wildcard{key: k}
				out[at.host] = w
			}
			text := &strings.Builder{}
			s.selecting(k, byNumber, &w.class, text)
			w.profiles = append(w.profiles, at.profiles...)
			for _, k := range w.policies {
				if x := p.policies[k]; x != nil && (x.spec.ApplyOnForward || x.spec.PreDNAT) {
					w.forward, w.changed = true, w.changed || s.policies[k]
				}
			}
			w.text += text.String() + fmt.Sprint(at.profiles)
		}
	}
	return out
}
