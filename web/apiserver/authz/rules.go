// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// Query is what somebody wants to do, as far as the request's path and method
// tell it.
type Query struct {
	// Verb is one of api.Verbs; outside of kinds the HTTP method.
	Verb string
	// Kind is empty for a path that leads to no kind.
	Kind api.Kind
	// Subresource is status or empty.
	Subresource string
	// Namespace is empty for kinds that are in none, and for all namespaces at
	// once. Name is empty for all objects.
	Namespace, Name string
	// Later: the name is not known yet, the object will tell it.
	Later bool
}

// Rules are all rights of somebody.
type Rules []api.RoleRule

// Grant is what of a Query is allowed: some objects, all, or none. The zero
// value is none.
type Grant struct{ rules Rules }

// Grant is what of a query the rules allow.
func (rs Rules) Grant(q Query) Grant {
	var g Grant
	for _, r := range rs {
		if allows(r, q) {
			g.rules = append(g.rules, r)
		}
	}
	return g
}

// allows reports whether a rule allows a query, as far as can be said without
// the object: that its tier is right is not asked.
func allows(r api.RoleRule, q Query) bool {
	if !contains(r.Verbs, q.Verb) || !ofKind(r.Kinds, q.Kind, q.Subresource) {
		return false
	}
	if len(r.Tiers) > 0 && !api.HasTier(q.Kind) {
		return false
	}
	if len(r.Tiers) > 0 && q.Kind == api.KindTier && q.Name != "" && !slices.Contains(r.Tiers, q.Name) {
		return false
	}
	if len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, q.Namespace) {
		return false
	}
	return len(r.Names) == 0 || slices.Contains(r.Names, q.Name) || q.Name == "" && q.Later
}

// contains reports whether a list has a word, or the word for everything.
func contains(list []string, word string) bool {
	return slices.Contains(list, api.AllOfThem) || slices.Contains(list, word)
}

// ofKind reports whether a rule's kinds have a kind or a part of it. What is
// no kind is in nothing but everything.
func ofKind(kinds []string, kind api.Kind, subresource string) bool {
	if slices.Contains(kinds, api.AllOfThem) {
		return true
	}
	name := string(kind)
	if subresource != "" {
		name += "/" + subresource
	}
	return kind != "" && slices.Contains(kinds, name)
}

// None reports whether nothing is allowed, whatever the object is.
func (g Grant) None() bool { return len(g.rules) == 0 }

// All reports whether everything is allowed, whatever the object is.
func (g Grant) All() bool {
	return slices.ContainsFunc(g.rules, func(r api.RoleRule) bool { return len(r.Tiers) == 0 && len(r.Names) == 0 })
}

// Tiers are the tiers to which what is allowed is kept; nil if it is not.
func (g Grant) Tiers() []string {
	var tiers []string
	for _, r := range g.rules {
		if len(r.Tiers) == 0 {
			return nil
		}
		tiers = append(tiers, r.Tiers...)
	}
	slices.Sort(tiers)
	return slices.Compact(tiers)
}

// Covers reports whether what is allowed is allowed with this object. Of a
// value that cannot be understood the tier is what could be read of it; where
// that says nothing, no rule that asks for a tier covers it.
func (g Grant) Covers(o api.Object) bool {
	name := o.Key().Name
	if u, bad := o.(*api.Unreadable); bad && u.Salvaged != nil {
		o = u.Salvaged
	}
	tier, tiered := api.TierOf(o)
	return slices.ContainsFunc(g.rules, func(r api.RoleRule) bool {
		return (len(r.Tiers) == 0 || tiered && slices.Contains(r.Tiers, tier)) &&
			(len(r.Names) == 0 || slices.Contains(r.Names, name))
	})
}

// Everything reports whether the rules allow all there is.
func (rs Rules) Everything() bool {
	return slices.ContainsFunc(rs, func(r api.RoleRule) bool {
		return slices.Contains(r.Verbs, api.AllOfThem) && slices.Contains(r.Kinds, api.AllOfThem) &&
			len(r.Names) == 0 && len(r.Namespaces) == 0 && len(r.Tiers) == 0
	})
}

// mostRights is how many single rights are compared one by one.
const mostRights = 100_000

// Lacks is the first right in wanted that the rules do not have, in words; ""
// if they have all. A right that two rules only have together counts as not
// had.
func (rs Rules) Lacks(wanted []api.RoleRule) string {
	if rs.Everything() {
		return ""
	}
	any := func(list []string) []string {
		if len(list) == 0 {
			return []string{""}
		}
		return list
	}
	n := 0
	for _, w := range wanted {
		for _, verb := range w.Verbs {
			for _, kind := range w.Kinds {
				for _, name := range any(w.Names) {
					for _, namespace := range any(w.Namespaces) {
						for _, tier := range any(w.Tiers) {
							if n++; n > mostRights {
								return fmt.Sprintf("more than %d single rights: make several roles of it", mostRights)
							}
							one := right{verb, kind, name, namespace, tier}
							if !slices.ContainsFunc(rs, one.in) {
								return one.String()
							}
						}
					}
				}
			}
		}
	}
	return ""
}

// right is a single right; an empty name, namespace or tier is all of them.
type right struct{ verb, kind, name, namespace, tier string }

// in reports whether a rule has the right.
func (x right) in(r api.RoleRule) bool {
	wide := func(list []string, word string) bool {
		return len(list) == 0 || word != "" && slices.Contains(list, word)
	}
	return contains(r.Verbs, x.verb) && contains(r.Kinds, x.kind) &&
		wide(r.Names, x.name) && wide(r.Namespaces, x.namespace) && wide(r.Tiers, x.tier)
}

// String is "update GlobalNetworkPolicy in tier sec".
func (x right) String() string {
	words := []string{x.verb, x.kind}
	for _, w := range []struct{ text, value string }{{"named", x.name}, {"in namespace", x.namespace}, {"in tier", x.tier}} {
		if w.value != "" {
			words = append(words, w.text, w.value)
		}
	}
	return strings.Join(words, " ")
}
