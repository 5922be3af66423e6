// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/web/apiserver/authn"
)

// words splits a list; empty is none.
func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// rule is a rule of lists with commas.
func rule(verbs, kinds, names, namespaces, tiers string) api.RoleRule {
	return api.RoleRule{Verbs: words(verbs), Kinds: words(kinds), Names: words(names), Namespaces: words(namespaces), Tiers: words(tiers)}
}

func TestGrant_IsWhatARuleSays(t *testing.T) {
	const gnp = api.KindGlobalNetworkPolicy
	for _, c := range []struct {
		name string
		rule api.RoleRule
		q    Query
		want bool
	}{
		{"everything", rule("*", "*", "", "", ""), Query{Verb: "deletecollection", Kind: gnp}, true},
		{"everything, of no kind", rule("*", "*", "", "", ""), Query{Verb: "get"}, true},
		{"a kind, of no kind", rule("*", "Tier", "", "", ""), Query{Verb: "get"}, false},
		{"another verb", rule("get,list", "Tier", "", "", ""), Query{Verb: "watch", Kind: api.KindTier}, false},
		{"another kind", rule("*", "Tier", "", "", ""), Query{Verb: "get", Kind: gnp}, false},
		{"a status", rule("*", "Tier", "", "", ""), Query{Verb: "get", Kind: api.KindTier, Subresource: "status"}, false},
		{"a status by itself", rule("*", "Tier/status", "", "", ""), Query{Verb: "get", Kind: api.KindTier, Subresource: "status"}, true},
		{"a status by itself, of the whole", rule("*", "Tier/status", "", "", ""), Query{Verb: "get", Kind: api.KindTier}, false},
		{"all kinds, a status", rule("get", "*", "", "", ""), Query{Verb: "get", Kind: api.KindTier, Subresource: "status"}, true},
		{"a name", rule("*", "Tier", "a", "", ""), Query{Verb: "get", Kind: api.KindTier, Name: "a"}, true},
		{"another name", rule("*", "Tier", "a", "", ""), Query{Verb: "get", Kind: api.KindTier, Name: "b"}, false},
		{"a name, of all", rule("*", "Tier", "a", "", ""), Query{Verb: "list", Kind: api.KindTier}, false},
		{"a name, of one to come", rule("*", "Tier", "a", "", ""), Query{Verb: "create", Kind: api.KindTier, Later: true}, true},
		{"a namespace", rule("*", "NetworkSet", "", "n", ""), Query{Verb: "get", Kind: api.KindNetworkSet, Namespace: "n"}, true},
		{"another namespace", rule("*", "NetworkSet", "", "n", ""), Query{Verb: "get", Kind: api.KindNetworkSet, Namespace: "m"}, false},
		{"a namespace, of all", rule("*", "NetworkSet", "", "n", ""), Query{Verb: "list", Kind: api.KindNetworkSet}, false},
		{"a namespace, of what is in none", rule("*", "*", "", "n", ""), Query{Verb: "get", Kind: gnp}, false},
		{"a tier, of a policy", rule("*", "*", "", "", "t"), Query{Verb: "get", Kind: gnp}, true},
		{"a tier, of what has none", rule("*", "*", "", "", "t"), Query{Verb: "get", Kind: api.KindHostEndpoint}, false},
		{"a tier, of no kind", rule("*", "*", "", "", "t"), Query{Verb: "get"}, false},
		{"a tier, itself", rule("*", "*", "", "", "t"), Query{Verb: "get", Kind: api.KindTier, Name: "t"}, true},
		{"a tier, another", rule("*", "*", "", "", "t"), Query{Verb: "get", Kind: api.KindTier, Name: "u"}, false},
	} {
		if got := !(Rules{c.rule}).Grant(c.q).None(); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	if !(Rules)(nil).Grant(Query{Verb: "get"}).None() || !(Grant{}).None() {
		t.Error("no rules grant something")
	}
}

func TestCovers_AsksOneRuleForTierAndName(t *testing.T) {
	policy := func(name, tier string) api.Object {
		p := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: name}}
		p.Spec.Tier = tier
		return p
	}
	g := (Rules{rule("*", "*", "a", "", "sec"), rule("*", "*", "b", "", "app")}).Grant(Query{Verb: "create", Kind: api.KindGlobalNetworkPolicy, Later: true})
	for name, c := range map[string]struct {
		o    api.Object
		want bool
	}{
		"first rule": {policy("a", "sec"), true}, "second rule": {policy("b", "app"), true},
		"half of each": {policy("a", "app"), false}, "neither": {policy("c", "sec"), false}, "no tier": {policy("a", ""), false},
		"unreadable":  {&api.Unreadable{K: api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "a"}}, false},
		"read so far": {&api.Unreadable{K: api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "a"}, Salvaged: policy("a", "sec")}, true},
	} {
		if got := g.Covers(c.o); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	if g.All() || strings.Join(g.Tiers(), ",") != "app,sec" {
		t.Errorf("all %v, tiers %v", g.All(), g.Tiers())
	}
	def := (Rules{rule("get", "GlobalNetworkPolicy", "", "", "default")}).Grant(Query{Verb: "get", Kind: api.KindGlobalNetworkPolicy})
	if !def.Covers(policy("a", "")) || !def.Covers(policy("a", "default")) || def.Covers(policy("a", "x")) {
		t.Error("a policy without a tier is in tier default")
	}
}

func TestLacks_ComparesRightByRight(t *testing.T) {
	have := Rules{
		rule("get,list", "*", "", "", ""),
		rule("*", "GlobalNetworkPolicy", "", "", "sec,app"),
		rule("*", "NetworkSet", "x", "n,m", ""),
	}
	for _, c := range []struct {
		wanted api.RoleRule
		want   string
	}{
		{rule("get", "*", "", "", ""), ""},
		{rule("get,list", "Tier,HostEndpoint", "a", "", "t"), ""},
		{rule("watch", "*", "", "", ""), "watch *"},
		{rule("*", "GlobalNetworkPolicy", "", "", "sec"), ""},
		{rule("*", "GlobalNetworkPolicy", "a,b", "", "sec,app"), ""},
		{rule("update", "GlobalNetworkPolicy", "", "", "sec,other"), "update GlobalNetworkPolicy in tier other"},
		{rule("update", "GlobalNetworkPolicy", "", "", ""), "update GlobalNetworkPolicy"},
		{rule("update", "NetworkSet", "x", "n", ""), ""},
		{rule("update", "NetworkSet", "x", "", ""), "update NetworkSet named x"},
		{rule("update", "NetworkSet", "y", "n", ""), "update NetworkSet named y in namespace n"},
		{rule("update", "NetworkSet", "", "n", ""), "update NetworkSet in namespace n"},
		{rule("*", "*", "", "", ""), "* *"},
	} {
		if got := have.Lacks([]api.RoleRule{c.wanted}); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.wanted, got, c.want)
		}
	}
	if got := builtin(RoleAdmin, authn.Identity{}).Lacks([]api.RoleRule{rule("*", "*", "", "", "")}); got != "" {
		t.Errorf("an admin lacks %q", got)
	}
	var many []string
	for i := range 100 {
		many = append(many, strings.Repeat("a", i+1))
	}
	large := api.RoleRule{Verbs: []string{"get"}, Kinds: []string{"*"}, Names: many, Namespaces: many, Tiers: many}
	if got := have.Lacks([]api.RoleRule{large}); !strings.Contains(got, "more than") {
		t.Errorf("a million rights: got %q, want a refusal", got)
	}
}

func TestBuiltinRoles_HoldEachOther(t *testing.T) {
	viewer, operator, admin := RulesOf(RoleViewer), RulesOf(RoleOperator), RulesOf(RoleAdmin)
	if l := operator.Lacks(viewer); l != "" {
		t.Errorf("an operator lacks a viewer's right to %s", l)
	}
	for name, c := range map[string]struct{ have, wanted Rules }{
		"a viewer what an operator may": {viewer, operator}, "an operator what an admin may": {operator, admin}, "an operator what a host may": {operator, RulesOf(RoleNode)},
	} {
		if c.have.Lacks(c.wanted) == "" {
			t.Errorf("%s: has it", name)
		}
	}
	for _, name := range []string{RoleViewer, RoleOperator, RoleAdmin, RoleNode} {
		if !api.IsBuiltinRole(name) || RulesOf(name) == nil {
			t.Errorf("role %s is not built in", name)
		}
	}
	if RulesOf("other") != nil {
		t.Error("there is a role other")
	}
}

func TestRights_OnlyAddUp(t *testing.T) {
	r := New()
	role := &api.Role{Meta: api.Meta{Name: "r"}, Spec: api.RoleSpec{Rules: []api.RoleRule{rule("get", "Tier", "", "", "")}}}
	fake := &api.Role{Meta: api.Meta{Name: "viewer"}, Spec: api.RoleSpec{Rules: []api.RoleRule{rule("*", "*", "", "", "")}}}
	r.takeRoles(map[api.Key]api.Object{role.Key(): role, fake.Key(): fake, {Kind: api.KindRole, Name: "bad"}: &api.Unreadable{Salvaged: fake}})
	b := &api.RoleBinding{Meta: api.Meta{Name: "b"}, Spec: api.RoleBindingSpec{Role: "r", Subjects: []api.Subject{{Kind: api.SubjectGroup, Name: "g"}, {Kind: api.SubjectUser, Name: "u"}}}}
	v := &api.RoleBinding{Meta: api.Meta{Name: "v"}, Spec: api.RoleBindingSpec{Role: "viewer", Subjects: []api.Subject{{Kind: api.SubjectUser, Name: "g"}}}}
	none := &api.RoleBinding{Meta: api.Meta{Name: "n"}, Spec: api.RoleBindingSpec{Role: "nosuch", Subjects: []api.Subject{{Kind: api.SubjectUser, Name: "u"}}}}
	r.takeBindings(map[api.Key]api.Object{b.Key(): b, v.Key(): v, none.Key(): none})
	for _, c := range []struct {
		id   authn.Identity
		want int // rules
	}{
		{authn.Identity{}, 0},
		{authn.Identity{Groups: []string{authn.GroupAdmins}}, 0}, // a group without a name is nobody
		{authn.Identity{User: "x"}, 0},
		{authn.Identity{User: "u"}, 1},
		{authn.Identity{User: "x", Groups: []string{"g"}}, 1},
		{authn.Identity{User: "u", Groups: []string{"g"}}, 1},
		{authn.Identity{User: "x", Groups: []string{"u"}}, 0}, // a group is no user
		{authn.Identity{User: "g"}, 1},                        // the built-in viewer, not the stored one
		{authn.Identity{User: "x", Groups: []string{authn.GroupAdmins}}, 1},
		{authn.Identity{User: "x", Groups: []string{authn.GroupNodes}}, 0},
		{authn.Identity{User: "node:h", Groups: []string{authn.GroupNodes}}, 2},
		{authn.Identity{User: "node:", Groups: []string{authn.GroupNodes}}, 0},
	} {
		if got := r.Of(c.id); len(got) != c.want {
			t.Errorf("%+v: got %d rules %v, want %d", c.id, len(got), got, c.want)
		}
	}
	if r.Of(authn.Identity{User: "g"}).Everything() {
		t.Error("a stored role took the place of a built-in one")
	}
}
