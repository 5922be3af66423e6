// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/web/apiserver/authn"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// A request is judged three times. Before anything is read, by its path and
// method (admit): who has no right that could allow it is refused. Then by
// each object that is read or to be written (covers): a right may hold for a
// tier only, or for a name. And a watch, which lives on, every recheckTime: if
// the rights have changed, or what its client showed is no longer good, it
// ends.

// recheckTime is how often a running watch is judged anew.
const recheckTime = 500 * time.Millisecond

// admit asks whether the identity may take the route.
func (s *Server) admit(r *request, rt route) error {
	switch rt.access {
	case anybody, known:
		return nil
	case asked:
		s.judge(r)
		if r.grant.None() {
			return s.refuse(r, r.attrs.Verb, "")
		}
		return nil
	case nobody:
		return failure(http.StatusForbidden, api.ReasonForbidden, "%s %s: nobody may do this", r.Method, r.URL.Path)
	default:
		panic(fmt.Sprintf("apiserver: access %d of route %s", rt.access, rt.path))
	}
}

// judge finds what of the request its identity may do.
func (s *Server) judge(r *request) {
	r.rules = s.cfg.Rights.Of(r.id)
	r.grant = r.rules.Grant(s.asked(r))
}

// asked is what the request wants to do.
func (s *Server) asked(r *request) authz.Query {
	a := r.attrs
	q := authz.Query{Verb: a.Verb, Subresource: a.Subresource, Namespace: a.Namespace, Name: a.Name}
	if k := s.catalog.find(a.Group, a.Version, a.Plural); k != nil {
		q.Kind = k.Kind
	}
	switch a.Verb {
	case "create":
		q.Later = q.Name == ""
	case "list", "watch", "deletecollection":
		// One that is kept to a name is about that object, as in Kubernetes. A
		// selector that makes no sense is refused later.
		fields, _ := parseFieldSelector(r.query.Get("fieldSelector"))
		for _, t := range fields {
			if !t.namespace && !t.not {
				q.Name = t.value
			}
		}
	}
	return q
}

// covers refuses an object that the request's rights do not reach.
func (s *Server) covers(r *request, o api.Object) error {
	if r.grant.Covers(o) {
		return nil
	}
	return s.refuse(r, r.attrs.Verb, objectWords(o))
}

// coversNew refuses an object that a patch would make, which needs the right
// to create it.
func (s *Server) coversNew(r *request, o api.Object) error {
	q := s.asked(r)
	q.Verb = "create"
	if r.rules.Grant(q).Covers(o) {
		return nil
	}
	return s.refuse(r, "create", objectWords(o))
}

// objectWords name an object, with its tier where rights go by it.
func objectWords(o api.Object) string {
	words := " " + strconv.Quote(o.Key().Name)
	if tier, is := api.TierOf(o); is {
		words += " in tier " + tier
	}
	return words
}

// refuse is the Status for what the identity may not do, and says who could
// help.
func (s *Server) refuse(r *request, verb, object string) error {
	what := r.URL.Path
	if r.attrs.Plural != "" {
		what = resourceName(r.attrs.Plural, r.attrs.Group)
		if r.attrs.Subresource != "" {
			what += "/" + r.attrs.Subresource
		}
		if object == "" && r.attrs.Name != "" {
			object = " " + strconv.Quote(r.attrs.Name)
		}
		what += object
		if r.attrs.Namespace != "" {
			what += " in namespace " + r.attrs.Namespace
		}
	}
	if !s.cfg.Rights.Known() {
		return retryLater(failure(http.StatusServiceUnavailable, api.ReasonUnavailable, "the datastore has not told yet what user %q may do", r.id.User))
	}
	s.log.Warn("Request refused", "request_id", requestIDOf(r.Context()), "user", r.id.String(), "verb", verb, "path", r.attrs.Path)
	hint := ""
	if tiers := r.grant.Tiers(); len(tiers) > 0 {
		hint = "; in tier " + strings.Join(tiers, ", ") + " it may"
	}
	return failure(http.StatusForbidden, api.ReasonForbidden, "user %q may not %s %s%s", r.id.User, verb, what, hint)
}

// still reports whether a running watch is as it was allowed; if not, why.
func (s *Server) still(r *request) error {
	id := r.id
	var err error
	switch {
	case id.Method != authn.MethodOIDC:
		id, err = s.cfg.Authn.Identify(r.Request, r.peer)
	case !s.cfg.Now().Before(id.Until): // it cannot be revoked before
		err = fmt.Errorf("token: expired: %w", authn.ErrRefused)
	}
	if err != nil {
		return unauthorized(err)
	}
	if !reflect.DeepEqual(id, r.id) || !reflect.DeepEqual(s.cfg.Rights.Of(id).Grant(s.asked(r)), r.grant) {
		return failure(http.StatusForbidden, api.ReasonForbidden, "the rights of user %q have changed: watch again", r.id.User)
	}
	return nil
}

// unauthorized is the Status for credentials that are not accepted, or cannot
// be judged yet.
func unauthorized(err error) *api.Status {
	if errors.Is(err, authn.ErrNotYet) {
		return retryLater(failure(http.StatusServiceUnavailable, api.ReasonUnavailable, "%v", err))
	}
	return failure(http.StatusUnauthorized, api.ReasonUnauthorized, "%v", err)
}

// checkGiving refuses to give others what the giver does not have: by a role,
// a binding or a credential. It gives away nothing of the store's but whether
// a role is there.
func (s *Server) checkGiving(ctx context.Context, r *request, old, o api.Object) error {
	switch o := o.(type) {
	case *api.Role:
		return s.hasAll(r, "give", o.Spec.Rules)
	case *api.RoleBinding:
		rules := authz.RulesOf(o.Spec.Role)
		if !api.IsBuiltinRole(o.Spec.Role) {
			stored, err := s.storeOf(r).Get(ctx, api.Key{Kind: api.KindRole, Name: o.Spec.Role})
			role, readable := stored.(*api.Role)
			if isNotFound(err) || err == nil && !readable {
				return invalidObject(r, o, &api.FieldError{
					Path: "spec.role", Value: strconv.Quote(o.Spec.Role),
					Message: "there is no such role", Fix: "create it first, or name viewer, operator, admin or node",
				})
			}
			if err != nil {
				return err
			}
			rules = role.Spec.Rules
		}
		return s.hasAll(r, "give", rules)
	case *api.Credential:
		if was, is := old.(*api.Credential); is {
			if !reflect.DeepEqual(was.Spec, o.Spec) {
				return invalidObject(r, o, &api.FieldError{Path: "spec", Message: "cannot be changed", Fix: "delete the credential and make another"})
			}
			return nil
		}
		return s.checkCredential(r, o)
	}
	return nil
}

// hasAll refuses rights that the writer does not have.
func (s *Server) hasAll(r *request, verb string, wanted []api.RoleRule) error {
	if lacks := r.rules.Lacks(wanted); lacks != "" {
		s.log.Warn("Request refused", "request_id", requestIDOf(r.Context()), "user", r.id.String(), "verb", r.attrs.Verb, "path", r.attrs.Path, "lacks", lacks)
		return failure(http.StatusForbidden, api.ReasonForbidden,
			"user %q may not %s the right to %s: nobody gives what he does not have", r.id.User, verb, lacks)
	}
	return nil
}

// longestCredential is the longest life of a Credential.
const longestCredential = 366 * 24 * time.Hour

// checkCredential refuses a credential for somebody else by who may not do
// everything, and one that lives too long or not at all.
func (s *Server) checkCredential(r *request, c *api.Credential) error {
	if !r.rules.Everything() {
		if c.Spec.User != r.id.User {
			return failure(http.StatusForbidden, api.ReasonForbidden,
				"user %q may make credentials for himself only, not for user %q", r.id.User, c.Spec.User)
		}
		for _, g := range c.Spec.Groups {
			if !slices.Contains(r.id.Groups, g) || g == GroupAdmins {
				return failure(http.StatusForbidden, api.ReasonForbidden, "user %q is not in group %q and may not give it", r.id.User, g)
			}
		}
	}
	now := s.cfg.Now()
	fault := func(message, fix string) error {
		return invalidObject(r, c, &api.FieldError{Path: "spec.expires", Value: c.Spec.Expires.UTC().Format(time.RFC3339), Message: message, Fix: fix})
	}
	switch {
	case !now.Before(c.Spec.Expires.Time):
		return fault("has passed", "")
	case c.Spec.Expires.Sub(now) > longestCredential:
		return fault("more than 366 days from now", "write "+strconv.Quote(now.Add(longestCredential).UTC().Format(time.RFC3339))+" or earlier")
	case c.Spec.Request != "" && s.cfg.PKI == nil:
		return invalidObject(r, c, &api.FieldError{Path: "spec.request", Message: "this server has no CA: it is on its socket alone", Fix: "set listen in its configuration"})
	}
	return nil
}

// issue adds to a new credential what its holder needs: a certificate, if it
// is to be one, and where and how to know the server.
func (s *Server) issue(r *request, c *api.Credential) error {
	if s.cfg.PKI == nil {
		return nil
	}
	c.Status.Authority, c.Status.Address = s.cfg.PKI.Authority(), s.cfg.Address
	if c.Spec.Request == "" {
		return nil
	}
	cert, err := s.cfg.PKI.Sign(c.Spec.Request, c.Spec.User, c.Spec.Groups, c.Spec.Expires.Time)
	if err != nil {
		return invalidObject(r, c, &api.FieldError{Path: "spec.request", Message: err.Error()})
	}
	c.Status.Certificate = cert
	return nil
}
