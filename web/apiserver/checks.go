// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// builtinTiers are there from the start and stay.
var builtinTiers = []string{api.DefaultTier, api.KubeAdminTier, api.KubeBaselineTier}

// policyKinds are the kinds that live in a tier.
var policyKinds = []api.Kind{
	api.KindGlobalNetworkPolicy, api.KindNetworkPolicy,
	api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy,
}

// mayWrite refuses what nobody may write through the API.
func (s *Server) mayWrite(r *request, k api.Key, verb string) error {
	switch {
	case k.Kind == api.KindChange:
		return byRequestOnly(verb)
	case r.desc.readOnly():
		return failure(http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed,
			"operation %s is not supported on %s: resource is readonly", verb, k.Kind)
	case k.Kind == api.KindNamespace && builtin(k) != nil && verb == "delete":
		return failure(http.StatusForbidden, api.ReasonForbidden, "namespaces %q is forbidden: this namespace may not be deleted", k.Name)
	case k.Kind == api.KindProfile && builtin(k) != nil:
		return failure(http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed,
			"operation %s is not supported on %s: the profile is built in", verb, k.Name)
	case verb == "delete" && k.Kind == api.KindTier && slices.Contains(builtinTiers, k.Name):
		return failure(http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed,
			"operation %s is not supported on %s: Cannot delete %s tier", verb, k.Name, k.Name)
	}
	return nil
}

// checkCreate checks a new object against what else is stored. The checks
// hold until unlock is called.
func (s *Server) checkCreate(ctx context.Context, r *request, o api.Object) (unlock func(), err error) {
	if tier, is := tierOf(o); is {
		return s.holdTier(ctx, r, o, tier)
	}
	if p, is := o.(*api.IPPool); is {
		unlock := r.hold(&s.pools)
		if err := s.checkOverlap(ctx, r, p); err != nil {
			unlock()
			return nil, err
		}
		return unlock, nil
	}
	return func() {}, nil
}

// holdTier checks that a policy's tier is there, and keeps it there until
// unlock is called.
func (s *Server) holdTier(ctx context.Context, r *request, o api.Object, tier string) (unlock func(), err error) {
	unlock = r.hold(s.tiers.RLocker())
	if _, err := s.storeOf(r).Get(ctx, api.Key{Kind: api.KindTier, Name: tier}); err != nil {
		unlock()
		return nil, missingTier(r, o, tier, err)
	}
	return unlock, nil
}

// hold takes a lock that a write of one resource needs. One that belongs to
// a change has it: see tryChange.
func (r *request) hold(l sync.Locker) (unlock func()) {
	if r.staged != nil {
		return func() {}
	}
	l.Lock()
	return l.Unlock
}

// tierOf is the tier of a policy; is reports whether o is a policy at all.
func tierOf(o api.Object) (tier string, is bool) {
	spec := api.PolicySpecOf(o)
	if spec == nil {
		return "", false
	}
	if spec.Tier == "" {
		return api.DefaultTier, true
	}
	return spec.Tier, true
}

// missingTier is the error for a policy whose tier could not be read.
func missingTier(r *request, o api.Object, tier string, err error) error {
	if !isNotFound(err) {
		return err
	}
	return invalidObject(r, o, &api.FieldError{
		Path: "spec.tier", Value: fmt.Sprintf("%q", tier),
		Message: "there is no such tier", Fix: "create the tier first, or name one that exists (ripstop get tiers)",
	})
}

// checkOverlap refuses a pool that shares addresses with another.
func (s *Server) checkOverlap(ctx context.Context, r *request, p *api.IPPool) error {
	mine, err := netip.ParsePrefix(p.Spec.CIDR)
	if err != nil {
		return invalidObject(r, p, &api.FieldError{Path: "spec.cidr", Value: fmt.Sprintf("%q", p.Spec.CIDR), Message: "not a prefix"})
	}
	objs, _, err := s.storeOf(r).List(ctx, api.KindIPPool, store.ListOptions{})
	if err != nil {
		return err
	}
	for _, o := range objs {
		other, is := o.(*api.IPPool)
		if !is || other.Name == p.Name {
			continue
		}
		theirs, err := netip.ParsePrefix(other.Spec.CIDR)
		if err == nil && theirs.Overlaps(mine) {
			return invalidObject(r, p, &api.FieldError{
				Path: "spec.cidr", Value: fmt.Sprintf("%q", p.Spec.CIDR),
				Message: fmt.Sprintf("overlaps IPPool %s (%s)", other.Name, other.Spec.CIDR), Fix: "choose a prefix of its own",
			})
		}
	}
	return nil
}

// checkUpdate checks a changed object: a policy that moves must find its new
// tier, and what cannot be changed must be as it was. The checks hold until
// unlock is called.
func (s *Server) checkUpdate(ctx context.Context, r *request, old, o api.Object) (unlock func(), err error) {
	if tier, is := tierOf(o); is {
		if before, same := tierOf(old); !same || before != tier {
			return s.holdTier(ctx, r, o, tier)
		}
	}
	return func() {}, checkPool(r, old, o)
}

// checkPool refuses changes of what cannot be changed in a pool.
func checkPool(r *request, old, o api.Object) error {
	was, wasPool := old.(*api.IPPool)
	is, isPool := o.(*api.IPPool)
	if !wasPool || !isPool {
		return nil
	}
	fixed := func(path, from, to string) error {
		return invalidObject(r, o, &api.FieldError{
			Path: path, Value: fmt.Sprintf("%q", to),
			Message: fmt.Sprintf("cannot be changed (it is %s)", from), Fix: "create another pool",
		})
	}
	switch {
	case was.Spec.CIDR != is.Spec.CIDR:
		return fixed("spec.cidr", was.Spec.CIDR, is.Spec.CIDR)
	case was.Spec.BlockSize != is.Spec.BlockSize:
		return fixed("spec.blockSize", fmt.Sprint(was.Spec.BlockSize), fmt.Sprint(is.Spec.BlockSize))
	case slices.Contains(was.Spec.AllowedUses, api.UseLoadBalancer) && !slices.Contains(is.Spec.AllowedUses, api.UseLoadBalancer):
		return fixed("spec.allowedUses", api.UseLoadBalancer, fmt.Sprint(is.Spec.AllowedUses))
	}
	return nil
}

// checkDelete refuses to delete a tier with policies in it. The check holds
// until unlock is called.
func (s *Server) checkDelete(ctx context.Context, r *request) (unlock func(), err error) {
	switch r.desc.Kind {
	case api.KindTier:
	case api.KindNamespace:
		return func() {}, s.checkNamespaceEmpty(ctx, r)
	default:
		return func() {}, nil
	}
	unlock = r.hold(&s.tiers)
	inside, err := s.policiesIn(ctx, r, r.attrs.Name)
	if err == nil && len(inside) > 0 {
		st := failure(http.StatusConflict, api.ReasonConflict,
			"operation delete is not supported on %s: Cannot delete a non-empty tier (%d policies are in it, the first is %s)", r.attrs.Name, len(inside), inside[0])
		for _, k := range inside[:min(len(inside), 20)] {
			st.Details = &api.StatusDetails{Causes: append(causesOf(st), api.StatusCause{Reason: "TierNotEmpty", Message: k.String()})}
		}
		err = st
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// checkNamespaceEmpty refuses to delete a namespace with something in it:
// Kubernetes would delete that too, and with it the protection of hosts.
// What is put in later stays, in a namespace without a Namespace.
func (s *Server) checkNamespaceEmpty(ctx context.Context, r *request) error {
	for _, k := range s.catalog.kinds {
		if !k.Namespaced {
			continue
		}
		objs, _, err := s.storeOf(r).List(ctx, k.Kind, store.ListOptions{Namespace: r.attrs.Name, Limit: 1})
		if err != nil {
			return err
		}
		if len(objs) > 0 {
			return failure(http.StatusConflict, api.ReasonConflict,
				"namespace %q is not empty: %s is in it; a namespace is not deleted with what it holds: delete that first", r.attrs.Name, objs[0].Key())
		}
	}
	return nil
}

func causesOf(st *api.Status) []api.StatusCause {
	if st.Details == nil {
		return nil
	}
	return st.Details.Causes
}

// policiesIn are the policies of a tier. A policy that cannot be read may be
// in any tier, so it counts unless what could be read of it says otherwise.
func (s *Server) policiesIn(ctx context.Context, r *request, tier string) ([]api.Key, error) {
	var inside []api.Key
	for _, kind := range policyKinds {
		objs, _, err := s.storeOf(r).List(ctx, kind, store.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, o := range objs {
			if u, bad := o.(*api.Unreadable); bad {
				if u.Salvaged == nil {
					inside = append(inside, u.Key())
					continue
				}
				o = u.Salvaged
			}
			if t, is := tierOf(o); is && t == tier {
				inside = append(inside, o.Key())
			}
		}
	}
	return inside, nil
}
