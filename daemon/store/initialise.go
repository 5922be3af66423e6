// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
)

// initialiseTries bounds the read-modify-write rounds of Initialise.
const initialiseTries = 10

// Initialise makes sure that a store holds what every cluster has: the
// ClusterInformation "default" with an id and the ready flag, and the tiers
// default, kube-admin and kube-baseline. What is there already is kept; only a
// missing id or ready flag is filled in. calicoVersion is left alone, because
// calicoctl refuses to work with another version than its own.
//
// It may be called any number of times and by several processes at once. It
// goes on after an object that it cannot set right and returns all errors.
func Initialise(ctx context.Context, s Store) error {
	errs := []error{ensureClusterInformation(ctx, s)}
	for _, t := range []struct {
		name   string
		order  float64
		action api.Action
	}{
		{"default", 1_000_000, api.Deny},
		{"kube-admin", 1_000, api.Pass},
		{"kube-baseline", 10_000_000, api.Pass},
	} {
		o := &api.Tier{}
		o.Kind, o.APIVersion, o.Name = api.KindTier, api.VersionCalico, t.name
		o.Spec.Order, o.Spec.DefaultAction = &t.order, t.action
		if _, err := s.Put(ctx, o, Absent()); err != nil && !errors.Is(err, ErrExists) {
			errs = append(errs, fmt.Errorf("initialising: %w", err))
		}
	}
	return errors.Join(errs...)
}

func ensureClusterInformation(ctx context.Context, s Store) error {
	k := api.Key{Kind: api.KindClusterInformation, Name: "default"}
	ready := true
	for range initialiseTries {
		old, err := s.Get(ctx, k)
		var cond If
		var ci *api.ClusterInformation
		switch {
		case errors.Is(err, ErrNotFound):
			ci = &api.ClusterInformation{}
			ci.Kind, ci.APIVersion, ci.Name = k.Kind, api.VersionCalico, k.Name
			cond = Absent()
		case err != nil:
			return fmt.Errorf("initialising: %w", err)
		default:
			have, ok := old.(*api.ClusterInformation)
			if !ok {
				return fmt.Errorf("initialising: %s: stored value cannot be understood: %w", k, old.Validate())
			}
			if have.Spec.ClusterGUID != "" && have.Spec.DatastoreReady != nil {
				return nil
			}
			rev, err := strconv.ParseInt(have.ResourceVersion, 10, 64)
			if err != nil {
				return fmt.Errorf("initialising: %s: resource version: %w", k, err)
			}
			ci = api.Clone(have).(*api.ClusterInformation)
			cond = At(api.Revision(rev))
		}
		if ci.Spec.ClusterGUID == "" {
			ci.Spec.ClusterGUID = newGUID()
		}
		if ci.Spec.DatastoreReady == nil {
			ci.Spec.DatastoreReady = &ready
		}
		_, err = s.Put(ctx, ci, cond)
		if errors.Is(err, ErrExists) || errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("initialising: %w", err)
		}
		return nil
	}
	return fmt.Errorf("initialising: %s: %w after %d tries", k, ErrConflict, initialiseTries)
}
