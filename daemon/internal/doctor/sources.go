// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// class is addresses that no rule tells apart: they are in the same nets of
// rules, and in the same endpoints and sets as far as selectors see these.
// One address stands for all.
type class struct {
	example netip.Addr
	nets    []netip.Prefix
	// names are what the class is called where no rule has a word for it.
	names []string
	// anybody: whoever is in no net and no set that anything names.
	anybody bool
	// beside is what else than rules of policies tells the class apart.
	beside string
}

// mostClasses bounds the work: beyond it classes are left out, and it is said.
const mostClasses = 2048

// atlas is everything that tells addresses apart.
type atlas struct {
	// marks are what an address is marked with by being in a prefix.
	marks map[netip.Prefix][]string
	names map[netip.Prefix][]string
	spans []Addrs                 // of other people's rules
	fixed map[netip.Prefix]string // failsafes and workloads of this host
	bits  []int                   // lengths of prefixes, once each
}

func newAtlas(host string, objs []api.Object, failsafes []policy.Failsafe, tables []Table) *atlas {
	a := &atlas{marks: map[netip.Prefix][]string{}, names: map[netip.Prefix][]string{}, fixed: map[netip.Prefix]string{}}
	for _, o := range objs {
		if u, bad := o.(*api.Unreadable); bad {
			o = u.Salvaged
		}
		switch x := o.(type) {
		case *api.GlobalNetworkSet:
			a.member(x.Key(), x.Labels, nil, "", x.Spec.Nets)
		case *api.NetworkSet:
			a.member(x.Key(), x.Labels, nil, x.Namespace, x.Spec.Nets)
		case *api.HostEndpoint:
			a.member(x.Key(), x.Labels, x.Spec.Profiles, "", x.Spec.ExpectedIPs)
		case *api.WorkloadEndpoint:
			a.member(x.Key(), x.Labels, x.Spec.Profiles, x.Namespace+"/"+x.Spec.Orchestrator+"/"+x.Spec.ServiceAccountName, x.Spec.IPNetworks)
			for _, n := range x.Spec.IPNetworks {
				if p, ok := parsePrefix(n); ok && x.Spec.Node == host {
					a.add(p, "here "+x.Spec.InterfaceName, x.Key().String())
					a.fixed[p] += "here " + x.Spec.InterfaceName + " "
				}
			}
		}
		for _, r := range rulesOf(o) {
			for _, n := range slices.Concat(r.Source.Nets, r.Source.NotNets) {
				if p, ok := parsePrefix(n); ok {
					a.add(p, "net "+p.String(), p.String())
				}
			}
		}
	}
	for _, f := range failsafes {
		if f.Net.IsValid() {
			a.add(f.Net, "net "+f.Net.String(), f.Net.String())
			a.fixed[f.Net] = "failsafe "
		}
	}
	a.strangers(tables)
	for p := range a.marks {
		if !slices.Contains(a.bits, p.Bits()) {
			a.bits = append(a.bits, p.Bits())
		}
	}
	return a
}

// rulesOf are the rules of a policy or profile, both directions.
func rulesOf(o api.Object) []api.Rule {
	switch x := o.(type) {
	case *api.GlobalNetworkPolicy:
		return slices.Concat(x.Spec.Ingress, x.Spec.Egress)
	case *api.NetworkPolicy:
		return slices.Concat(x.Spec.Ingress, x.Spec.Egress)
	case *api.Profile:
		return slices.Concat(x.Spec.Ingress, x.Spec.Egress)
	}
	return nil
}

func parsePrefix(text string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), true
	}
	x, err := netip.ParseAddr(text)
	if err != nil || x.Zone() != "" {
		return netip.Prefix{}, false
	}
	x = x.Unmap()
	return netip.PrefixFrom(x, x.BitLen()), true
}

// member marks the addresses of an endpoint or set by all that selectors see
// of it, so that members alike are one class.
func (a *atlas) member(k api.Key, labels map[string]string, profiles []string, more string, nets []string) {
	mark := string(k.Kind) + " " + more + " " + strings.Join(profiles, ",")
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		mark += " " + strconv.Quote(l) + "=" + strconv.Quote(labels[l])
	}
	for _, n := range nets {
		if p, ok := parsePrefix(n); ok {
			a.add(p, mark, k.String())
		}
	}
}

func (a *atlas) add(p netip.Prefix, mark, name string) {
	if p.Bits() == 0 {
		return // everybody is in it
	}
	if !slices.Contains(a.marks[p], mark) {
		a.marks[p] = append(a.marks[p], mark)
	}
	if !slices.Contains(a.names[p], name) {
		a.names[p] = append(a.names[p], name)
	}
}

// mostSpans bounds how many source addresses of other people's rules are told
// apart.
const mostSpans = 128

// strangers marks the source addresses of other people's rules.
func (a *atlas) strangers(tables []Table) {
	for _, t := range tables {
		if t.ours() {
			continue
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				for _, cond := range r.Match.Source {
					for _, s := range cond.Any {
						if len(a.spans) < mostSpans && !slices.Contains(a.spans, s) && r.Action != SNATs && r.Action != Goes {
							a.spans = append(a.spans, s)
						}
					}
				}
			}
		}
	}
}

// key is all marks of an address.
func (a *atlas) key(x netip.Addr) string {
	var marks []string
	for _, b := range a.bits {
		if p, err := x.Prefix(b); err == nil {
			marks = append(marks, a.marks[p]...)
		}
	}
	for i, s := range a.spans {
		if s.Holds(x) {
			marks = append(marks, "span "+strconv.Itoa(i))
		}
	}
	slices.Sort(marks)
	return strings.Join(slices.Compact(marks), "\n")
}

// beside is what else than rules of policies marks an address.
func (a *atlas) beside(x netip.Addr) string {
	s := ""
	for _, b := range a.bits {
		if p, err := x.Prefix(b); err == nil && a.fixed[p] != "" {
			s += p.String() + " " + a.fixed[p]
		}
	}
	for i, r := range a.spans {
		if r.Holds(x) {
			s += strconv.Itoa(i) + " "
		}
	}
	return s
}

// classes are those of one family, anybody first; own addresses of the host
// are left out. Omitted: how many classes there would be more.
func (a *atlas) classes(family int, own []netip.Addr) (list []*class, omitted int) {
	byKey := map[string]*class{}
	add := func(x netip.Addr, p netip.Prefix, names []string, anybody bool) {
		k := a.key(x)
		c := byKey[k]
		if c == nil {
			if len(list) == mostClasses {
				omitted++
				return
			}
			c = &class{example: x, anybody: anybody, beside: a.beside(x)}
			byKey[k] = c
			list = append(list, c)
		}
		if p.IsValid() {
			c.nets = append(c.nets, p)
		}
		for _, n := range names {
			if !slices.Contains(c.names, n) {
				c.names = append(c.names, n)
			}
		}
	}
	if x, ok := a.anybody(family); ok {
		add(x, netip.Prefix{}, nil, true)
	}
	prefixes := slices.SortedFunc(maps.Keys(a.marks), func(x, y netip.Prefix) int {
		if c := x.Addr().Compare(y.Addr()); c != 0 {
			return c
		}
		return x.Bits() - y.Bits()
	})
	prefixes = slices.DeleteFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() != (family == 4) })
	for i, p := range prefixes {
		if p.IsSingleIP() && slices.Contains(own, p.Addr()) {
			continue
		}
		if x, ok := a.inside(AddrsOf(p), prefixes[i+1:]); ok {
			add(x, p, a.names[p], false)
		}
	}
	for _, s := range a.spans {
		if s.First.Is4() != (family == 4) {
			continue
		}
		if x, ok := a.inside(s, prefixes); ok {
			add(x, netip.Prefix{}, []string{s.String()}, false)
		}
	}
	return list, omitted
}

// inside is an address of a range that is in none of the narrower prefixes
// (which are in order) inside of it.
func (a *atlas) inside(r Addrs, narrower []netip.Prefix) (netip.Addr, bool) {
	x := r.First
	for _, p := range narrower {
		in := AddrsOf(p)
		if in == r || in.Holds(r.First) && in.Holds(r.Last) {
			continue // wider, or the same
		}
		if r.Last.Less(in.First) || x.Less(in.First) {
			break
		}
		if in.Holds(x) {
			if x = in.Last.Next(); !x.IsValid() || !r.Holds(x) {
				return netip.Addr{}, false
			}
		}
	}
	return x, true
}

// anybody is an address that nothing names.
func (a *atlas) anybody(family int) (netip.Addr, bool) {
	seeds := []string{"203.0.113.77", "9.9.9.9", "151.101.1.1", "45.57.3.3"}
	if family == 6 {
		seeds = []string{"2620:fe::fe", "2a04:4e42::1", "2001:500:88::1", "3fff::1"}
	}
	for _, s := range seeds {
		if x := netip.MustParseAddr(s); a.key(x) == "" {
			return x, true
		}
	}
	// All of these are named: the first address behind a named prefix that is
	// not.
	for p := range a.marks {
		if x := AddrsOf(p).Last.Next(); p.Addr().Is4() == (family == 4) && x.IsValid() && !x.IsMulticast() && a.key(x) == "" {
			return x, true
		}
	}
	return netip.Addr{}, false
}

// counted is how many addresses and nets, in words.
func counted(nets []netip.Prefix) (addresses, ranges int, text string) {
	for _, n := range nets {
		if n.IsSingleIP() {
			addresses++
		} else {
			ranges++
		}
	}
	var parts []string
	for _, x := range []struct {
		n         int
		one, many string
	}{{addresses, "address", "addresses"}, {ranges, "net", "nets"}} {
		switch {
		case x.n == 1:
			parts = append(parts, "1 "+x.one)
		case x.n > 1:
			parts = append(parts, strconv.Itoa(x.n)+" "+x.many)
		}
	}
	return addresses, ranges, strings.Join(parts, ", ")
}
