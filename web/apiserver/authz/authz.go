// SPDX-License-Identifier: Apache-2.0

// Package authz says what an identity may do with which objects of the REST
// API: by the built-in roles, and by the Roles and RoleBindings of the store.
//
//	store ─► follow ─► Rights ─► Of(identity) ─► Rules ─► Grant(query) ─► Covers(object)
//
// Rights only add up, and what nobody gave is refused. A Query is judged
// before anything is read; what only the object tells (a policy's tier, the
// name of one to be made) is judged by the Grant, of the object before and of
// the object after. It does not know who somebody is (package authn does), and
// refuses nothing itself: package apiserver asks it in every request.
package authz

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/authn"
	"github.com/ripstop/ripstop/web/apiserver/follow"
)

// Rights are the rights of everybody. Without Run, or before the store has
// answered it, there are those of the groups with built-in rights only. Its
// methods may be called from many goroutines.
type Rights struct {
	roles    atomic.Pointer[map[string]Rules]
	bindings atomic.Pointer[map[api.Subject][]string] // to names of roles, sorted
	// waits counts what the store has not told yet, from the beginning of Run.
	waits atomic.Int32
	// How far the two followers have come.
	rolesProgress, bindingsProgress follow.Progress
}

// New is Rights of which nothing is known yet.
func New() *Rights {
	r := &Rights{}
	r.roles.Store(&map[string]Rules{})
	r.bindings.Store(&map[api.Subject][]string{})
	return r
}

// Run follows the Roles and RoleBindings of a store until ctx ends. While the
// store is away the last known ones hold.
func (r *Rights) Run(ctx context.Context, st store.Store, log *slog.Logger) {
	r.waits.Store(2)
	var wg sync.WaitGroup
	for kind, f := range map[api.Kind]struct {
		take     func(map[api.Key]api.Object)
		progress *follow.Progress
	}{
		api.KindRole:        {r.takeRoles, &r.rolesProgress},
		api.KindRoleBinding: {r.takeBindings, &r.bindingsProgress},
	} {
		var told sync.Once
		wg.Go(func() {
			follow.Kind(ctx, st, kind, log, f.progress, func(all map[api.Key]api.Object) {
				f.take(all)
				told.Do(func() { r.waits.Add(-1) })
			})
		})
	}
	wg.Wait()
}

// Await waits until a write of a Role or RoleBinding counts, see
// follow.Progress.
func (r *Rights) Await(ctx context.Context, key api.Key, rev api.Revision) {
	switch key.Kind {
	case api.KindRole:
		r.rolesProgress.Await(ctx, key, rev)
	case api.KindRoleBinding:
		r.bindingsProgress.Await(ctx, key, rev)
	}
}

// Known reports whether the rights are all there are; false as long as Run has
// not been told yet.
func (r *Rights) Known() bool { return r.waits.Load() == 0 }

// takeRoles makes the stored roles the ones in force. One that cannot be
// understood gives nothing.
func (r *Rights) takeRoles(all map[api.Key]api.Object) {
	roles := make(map[string]Rules, len(all))
	for k, o := range all {
		if role, is := o.(*api.Role); is && !api.IsBuiltinRole(k.Name) {
			roles[k.Name] = role.Spec.Rules
		}
	}
	r.roles.Store(&roles)
}

// takeBindings makes the stored bindings the ones in force. One that cannot
// be understood gives nothing.
func (r *Rights) takeBindings(all map[api.Key]api.Object) {
	bindings := map[api.Subject][]string{}
	for _, o := range all {
		if b, is := o.(*api.RoleBinding); is {
			for _, s := range b.Spec.Subjects {
				bindings[s] = append(bindings[s], b.Spec.Role)
			}
		}
	}
	for _, roles := range bindings {
		slices.Sort(roles) // the map has no order
	}
	r.bindings.Store(&bindings)
}

// Of are the rights of an identity. Nobody has none.
func (r *Rights) Of(id authn.Identity) Rules {
	if !id.Known() {
		return nil
	}
	bindings := *r.bindings.Load()
	roles := append(given(id.Groups), bindings[api.Subject{Kind: api.SubjectUser, Name: id.User}]...)
	for _, g := range id.Groups {
		roles = append(roles, bindings[api.Subject{Kind: api.SubjectGroup, Name: g}]...)
	}
	var rules Rules
	for i, name := range roles {
		if slices.Contains(roles[:i], name) {
			continue
		}
		rules = append(rules, r.role(name, id)...)
	}
	return rules
}

// role are the rules of a role, in the hands of somebody.
func (r *Rights) role(name string, id authn.Identity) Rules {
	if api.IsBuiltinRole(name) {
		return builtin(name, id)
	}
	return (*r.roles.Load())[name]
}

// RulesOf are the rules of a built-in role as somebody gets them who binds it
// to others. The role node is different in every hand, so only who may do
// everything may bind it: it comes with the right to everything here.
func RulesOf(builtinRole string) Rules {
	if builtinRole == RoleNode {
		return builtin(RoleAdmin, authn.Identity{})
	}
	return builtin(builtinRole, authn.Identity{})
}
