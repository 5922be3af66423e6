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
	"github.com/ripstop/ripstop/daemon/selector"
)

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
	// also are the addresses of others at its interface, in either picture:
	// which of them governs may differ.
	also []netip.Addr
}

// addresses are those that what goes past its interface comes from or goes to.
func (e endpoint) addresses() []netip.Addr {
	return append(slices.Clone(e.now.addressesOf(e.key, e.place)), e.also...)
}

// affected are the endpoints that the change may matter to, by class, the
// largest first.
func (s *study) affected() []*class {
	r := newRoll(s)
	keys := slices.Collect(maps.Keys(s.before.members))
	for k := range s.after.members {
		if _, there := s.before.members[k]; !there {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, api.Key.Compare)
	for _, k := range keys {
		if isEndpoint(k.Kind) {
			r.add(k)
		}
	}
	list := slices.Collect(maps.Values(r.classes))
	slices.SortFunc(list, func(a, b *class) int {
		return cmp.Or(cmp.Compare(len(b.endpoints), len(a.endpoints)), a.endpoints[0].key.Compare(b.endpoints[0].key),
			strings.Compare(a.endpoints[0].seat(), b.endpoints[0].seat()))
	})
	return list
}

// roll is where endpoints are entered by class.
type roll struct {
	*study
	policies [2][][]*enforced // before and after, by the number of their selector
	settings bool             // of some hosts may differ
	hosts    map[string]bool  // with an endpoint that differs
	sharing  map[[2]string][]api.Key
	wild     map[string]*wildcard
	words    map[string]string  // for the settings of hosts
	seats    map[[2]string]bool // that are entered
	classes  map[string]*class
	// selections are those known, by the numbers of their selectors.
	selections map[string]*selection
}

func newRoll(s *study) *roll {
	r := &roll{study: s, hosts: map[string]bool{}, words: map[string]string{}, seats: map[[2]string]bool{}, classes: map[string]*class{}, selections: map[string]*selection{}}
	for i, p := range []*picture{s.before, s.after} {
		for _, k := range slices.SortedFunc(maps.Keys(p.policies), api.Key.Compare) {
			n := s.selectors.number(p.policies[k])
			for len(r.policies[i]) <= n {
				r.policies[i] = append(r.policies[i], nil)
			}
			r.policies[i][n] = append(r.policies[i][n], p.policies[k])
		}
	}
	for k := range s.objects {
		switch k.Kind {
		case api.KindNode, api.KindFelixConfiguration, api.KindHostStatus:
			r.settings = true
		}
		for _, p := range []*picture{s.before, s.after} {
			switch x := p.objects[k].(type) {
			case *api.HostEndpoint:
				r.hosts[x.Spec.Node] = true
			case *api.WorkloadEndpoint:
				r.hosts[x.Spec.Node] = true
			}
		}
	}
	r.sharing, r.wild = s.sharing(), r.wildcards()
	return r
}

// entry is an endpoint as it was and as it is then.
type entry struct {
	key       api.Key
	was, is   place
	then, now bool // it was, it is there
	moved     bool // it is not where it was
}

// host is where it is, or was.
func (e *entry) host() string {
	if e.now {
		return e.is.host
	}
	return e.was.host
}

// add enters an endpoint, if the change may matter to it.
func (r *roll) add(k api.Key) {
	e := &entry{key: k}
	e.was, e.then = r.before.placeOf(k)
	e.is, e.now = r.after.placeOf(k)
	if !e.then && !e.now {
		return
	}
	e.moved = !e.then || !e.now || e.was.host != e.is.host || e.was.iface != e.is.iface
	// The endpoints for all interfaces that have a say, too, or where this one
	// is not there.
	var beside []*wildcard
	for _, host := range slices.Compact([]string{e.was.host, e.is.host}) {
		if w := r.wild[host]; w != nil && w.key != k && (w.forward || e.moved) {
			beside = append(beside, w)
		}
	}
	whole := r.objects[k] || r.members[k] || r.hosts[e.host()] || r.settings && !r.sameSettings(e.host())
	if !whole && !r.concerns(e) && !slices.ContainsFunc(beside, func(w *wildcard) bool { return w.forward && w.changed }) {
		return
	}
	c := &class{whole: whole}
	key := &strings.Builder{}
	c.and(r.selecting(k, key))
	c.profiles = slices.Concat(e.was.profiles, e.is.profiles)
	fmt.Fprint(key, k.Kind, kindOf(e.was, e.then), kindOf(e.is, e.now), e.was.profiles, e.is.profiles, e.was.ports, e.is.ports, r.settingsOf(e.host()), c.whole)
	var also []netip.Addr
	for _, other := range slices.Concat(r.sharing[[2]string{e.was.host, e.was.iface}], r.sharing[[2]string{e.is.host, e.is.iface}]) {
		if other != k {
			also = append(also, r.share(other, c, key)...)
		}
	}
	for _, w := range beside {
		fmt.Fprint(key, "beside ", w.text)
		c.and(&selection{w.policies, w.shapes})
		c.profiles = append(c.profiles, w.profiles...)
	}
	if e.now {
		r.enter(endpoint{k, e.is, r.after, also}, c, key.String(), e)
	}
	if e.then && e.moved {
		r.enter(endpoint{k, e.was, r.before, also}, c, key.String(), e)
	}
}

// share adds what is said of another endpoint at the same interface, and
// returns its addresses.
func (r *roll) share(other api.Key, c *class, key *strings.Builder) (addrs []netip.Addr) {
	c.whole = true // which of them governs may differ
	fmt.Fprint(key, "shared with ", other)
	c.and(r.selecting(other, key))
	for _, p := range []*picture{r.before, r.after} {
		at, there := p.placeOf(other)
		c.profiles = append(c.profiles, at.profiles...)
		if there {
			addrs = append(addrs, p.addressesOf(other, at)...)
		}
	}
	return addrs
}

// enter adds an endpoint to the class of that key, unless one with an earlier
// name has its interface.
func (r *roll) enter(x endpoint, c *class, key string, e *entry) {
	seat := [2]string{x.place.host, x.seat()}
	if r.seats[seat] {
		return
	}
	r.seats[seat] = true
	key += x.place.shape()
	if e.then && e.now && e.moved {
		key += fmt.Sprint(" moved, ", x.now == r.after)
	}
	known := r.classes[key]
	if known == nil {
		one := *c
		known = &one
		r.classes[key] = known
	}
	known.endpoints = append(known.endpoints, x)
}

func (r *roll) sameSettings(host string) bool {
	return reflect.DeepEqual(r.before.world.Settings(host), r.after.world.Settings(host))
}

// settingsOf is a host's settings before and after, in words.
func (r *roll) settingsOf(host string) string {
	words, ok := r.words[host]
	if !ok {
		words = fmt.Sprint(r.before.world.Settings(host), r.after.world.Settings(host))
		r.words[host] = words
	}
	return words
}

// concerns reports whether policies or profiles that may judge otherwise are
// an endpoint's.
func (r *roll) concerns(e *entry) bool {
	if slices.ContainsFunc(slices.Concat(e.was.profiles, e.is.profiles), func(n string) bool { return r.study.profiles[n] }) {
		return true
	}
	for p := range r.study.policies {
		for _, in := range []*picture{r.before, r.after} {
			x := in.policies[p]
			if m, there := in.members[e.key]; x != nil && there && x.sel.Evaluate(m.Labels) {
				return true
			}
		}
	}
	return false
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

// selection is policies that select an endpoint, in either picture, in order,
// and the tiers that they are in.
type selection struct {
	policies []api.Key
	shapes   [2]string
}

// selecting finds the policies that select an endpoint, and writes which they
// are. What is returned is not to be changed.
func (r *roll) selecting(k api.Key, key *strings.Builder) *selection {
	var match []bool
	var matched selector.Map
	var text []byte
	var numbers [2][]int
	for i, p := range []*picture{r.before, r.after} {
		m, there := p.members[k]
		if !there {
			text = append(text, "none;"...)
			continue
		}
		if match == nil || !maps.Equal(matched, m.Labels) {
			match, matched = r.selectors.matching(m.Labels), m.Labels
		}
		for n, policies := range r.policies[i] {
			if match[n] && len(policies) > 0 {
				numbers[i] = append(numbers[i], n)
				text = append(strconv.AppendInt(text, int64(n), 10), ',')
			}
		}
		text = append(text, ';')
	}
	key.Write(text)
	s := r.selections[string(text)]
	if s == nil {
		s = &selection{}
		for i := range numbers {
			var of []*enforced
			for _, n := range numbers[i] {
				for _, x := range r.policies[i][n] {
					s.policies, of = append(s.policies, x.key), append(of, x)
				}
			}
			s.shapes[i] = shape(of)
		}
		slices.SortFunc(s.policies, api.Key.Compare)
		s.policies = slices.Compact(s.policies)
		r.selections[string(text)] = s
	}
	return s
}

// and adds a selection to the class.
func (c *class) and(s *selection) {
	if len(c.policies) == 0 {
		c.policies = s.policies[:len(s.policies):len(s.policies)]
	} else {
		c.policies = append(c.policies, s.policies...)
		slices.SortFunc(c.policies, api.Key.Compare)
		c.policies = slices.Compact(c.policies)
	}
	for i := range c.shapes {
		c.shapes[i] += s.shapes[i] + ";"
	}
}
