// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what says who may do what.
const (
	maxRules    = 100
	maxOfARule  = 100
	maxSubjects = 1000
	maxWho      = 253
	maxRequest  = 16 << 10
)

// builtinRoles are the names of the roles that are there without being
// stored.
var builtinRoles = []string{"viewer", "operator", "admin", "node"}

// IsBuiltinRole reports whether a role is there without being stored.
func IsBuiltinRole(name string) bool { return slices.Contains(builtinRoles, name) }

// Validate reports every fault of the role.
func (r *Role) Validate() error {
	var f faults
	checkMeta(&f, r)
	if IsBuiltinRole(r.Name) {
		f.add("metadata.name", quoted(r.Name), "this role is built in and cannot be written", "choose another name")
	}
	switch n := len(r.Spec.Rules); {
	case n == 0:
		f.add("spec.rules", "", "missing", "a role without rules gives nothing: write one, or delete the role")
	case n > maxRules:
		f.add("spec.rules", "", strconv.Itoa(n)+" rules, more than "+strconv.Itoa(maxRules), "make two roles of it")
	}
	for i := range r.Spec.Rules {
		checkRoleRule(&f, at("spec.rules", i), &r.Spec.Rules[i])
	}
	return f.err()
}

// checkRoleRule checks one rule. A list that is there and empty is refused:
// it looks as if nothing were allowed and would mean everything.
func checkRoleRule(f *faults, path string, r *RoleRule) {
	var tiered, namespaced bool
	for _, l := range []struct {
		field    string
		list     []string
		required bool
		check    func(path, v string)
	}{
		{"verbs", r.Verbs, true, func(path, v string) {
			if v != AllOfThem {
				checkWord(f, path, v, Verbs()...)
			}
		}},
		{"kinds", r.Kinds, true, func(path, v string) {
			kind, sub, isSub := strings.Cut(v, "/")
			d, known := DescriptorOf(Kind(kind))
			switch {
			case v == AllOfThem:
				tiered, namespaced = true, true
			case !known:
				f.add(path, quoted(v), "there is no such kind", didYouMean(kind, kindNames()))
			case isSub && (sub != "status" || !HasStatus(d.Kind)):
				f.add(path, quoted(v), "the only part of a kind that can be named is the status of one that has it by itself", "name one such as Tier/status")
			default:
				tiered, namespaced = tiered || HasTier(d.Kind), namespaced || d.Namespaced
			}
		}},
		{"names", r.Names, false, func(path, v string) {
			if !isSubdomain(v) {
				f.add(path, quoted(v), "no object can have this name", "")
			}
		}},
		{"namespaces", r.Namespaces, false, func(path, v string) {
			if !isDNSLabel(v) {
				f.add(path, quoted(v), nameFault(KindNamespace, v), "")
			}
		}},
		{"tiers", r.Tiers, false, func(path, v string) {
			if !isDNSLabel(v) {
				f.add(path, quoted(v), nameFault(KindTier, v), "")
			}
		}},
	} {
		p := path + "." + l.field
		switch {
		case l.required && len(l.list) == 0:
			f.add(p, "", "missing", "")
		case l.list != nil && len(l.list) == 0:
			f.add(p, "[]", "an empty list would not narrow the rule", "leave it out, or name what is meant")
		case len(l.list) > maxOfARule:
			f.add(p, "", strconv.Itoa(len(l.list))+" entries, more than "+strconv.Itoa(maxOfARule), "make two rules of it")
		}
		again := repeated(l.list)
		for i, v := range l.list {
			l.check(at(p, i), v)
			if again(i) {
				f.add(at(p, i), quoted(v), "there more than once", "remove it")
			}
		}
	}
	if len(r.Tiers) > 0 && !tiered {
		f.add(path+".tiers", "", "none of the kinds has a tier: the rule would allow nothing", "name a kind of policy, or Tier")
	}
	if len(r.Namespaces) > 0 && !namespaced {
		f.add(path+".namespaces", "", "none of the kinds is in a namespace: the rule would allow nothing", "remove it")
	}
}

// Validate reports every fault of the binding. That the role is there is the
// server's to say.
func (b *RoleBinding) Validate() error {
	var f faults
	checkMeta(&f, b)
	switch {
	case b.Spec.Role == "":
		f.add("spec.role", "", "missing", "")
	case nameFault(KindRole, b.Spec.Role) != "":
		f.add("spec.role", quoted(b.Spec.Role), "no role can have this name", "")
	}
	switch n := len(b.Spec.Subjects); {
	case n == 0:
		f.add("spec.subjects", "", "missing", "a binding without subjects gives the role to nobody: write one, or delete the binding")
	case n > maxSubjects:
		f.add("spec.subjects", "", strconv.Itoa(n)+" subjects, more than "+strconv.Itoa(maxSubjects), "name a group, or make two bindings of it")
	}
	again := repeated(b.Spec.Subjects)
	for i, s := range b.Spec.Subjects {
		path := at("spec.subjects", i)
		if s.Kind == "" {
			f.add(path+".kind", "", "missing", "write User or Group")
		}
		checkWord(&f, path+".kind", string(s.Kind), string(SubjectUser), string(SubjectGroup))
		checkWho(&f, path+".name", s.Name)
		if again(i) {
			f.add(path, quoted(s.Name), "there more than once", "remove it")
		}
	}
	return f.err()
}

// Validate reports every fault of the credential, but for what needs a clock
// or cryptography: the server looks at those.
func (c *Credential) Validate() error {
	var f faults
	checkMeta(&f, c)
	s := &c.Spec
	checkWho(&f, "spec.user", s.User)
	if len(s.Groups) > maxOfARule {
		f.add("spec.groups", "", strconv.Itoa(len(s.Groups))+" groups, more than "+strconv.Itoa(maxOfARule), "")
	}
	again := repeated(s.Groups)
	for i, g := range s.Groups {
		checkWho(&f, at("spec.groups", i), g)
		if again(i) {
			f.add(at("spec.groups", i), quoted(g), "there more than once", "remove it")
		}
	}
	if s.Expires.IsZero() {
		f.add("spec.expires", "", "missing", "every credential ends: write a time such as \"2027-01-31T00:00:00Z\"")
	}
	switch {
	case s.TokenHash == "" && s.Request == "":
		f.add("spec", "", "neither tokenHash nor request", "ripstop token create and ripstop kubeconfig make them")
	case s.TokenHash != "" && s.Request != "":
		f.add("spec.request", "", "together with tokenHash", "a credential is a token or a certificate: make two")
	}
	if s.TokenHash != "" && !isTokenHash(s.TokenHash) {
		f.add("spec.tokenHash", "", "not \"sha256:\" and 64 digits of lower-case hexadecimal", "")
	}
	if s.Request != "" && (len(s.Request) > maxRequest || !strings.HasPrefix(strings.TrimSpace(s.Request), "-----BEGIN CERTIFICATE REQUEST-----")) {
		f.add("spec.request", "", "not a certificate signing request in PEM of at most 16 KiB", "openssl req -new makes one")
	}
	return f.err()
}

// isTokenHash reports whether s is "sha256:" and 64 hexadecimal digits.
func isTokenHash(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// checkWho checks the name of a user or group: text that can be printed and
// does not begin or end with a blank.
func checkWho(f *faults, path, name string) {
	switch {
	case name == "":
		f.add(path, "", "missing", "")
	case len(name) > maxWho:
		f.add(path, quoted(name), "longer than "+strconv.Itoa(maxWho)+" bytes", "")
	case !utf8.ValidString(name), strings.TrimSpace(name) != name, strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		f.add(path, quoted(name), "has something that cannot be printed, or a blank at an end", "")
	}
}
