// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// listPage is how many objects are read from the store at a time when a list
// is filtered and limited.
const listPage = 500

// get answers one object.
func (s *Server) get(r *request) response {
	v, err := s.newView(r)
	if err != nil {
		return s.failed(r, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	if r.desc.Kind == api.KindRevision {
		s.history.settle(ctx)
	}
	o, err := s.read(ctx, s.cfg.Store, r.key(), v.stored)
	if err != nil {
		return s.failed(r, err)
	}
	if err := s.covers(r, o); err != nil {
		return s.failed(r, err)
	}
	if u, bad := o.(*api.Unreadable); bad && !v.stored {
		return s.failed(r, unreadable(r, u))
	}
	return ok(v.one(o))
}

// read gets one object, built-in ones included unless stored is set.
func (s *Server) read(ctx context.Context, st store.Store, k api.Key, stored bool) (api.Object, error) {
	o, err := st.Get(ctx, k)
	if b := builtin(k); b != nil && !stored && isNotFound(err) {
		return b, nil
	}
	return o, err
}

// unreadable is the Status for an object that the store holds in a form that
// cannot be understood.
func unreadable(r *request, u *api.Unreadable) *api.Status {
	return failure(http.StatusInternalServerError, api.ReasonInternalError,
		"%s: the stored value cannot be read: %v; replace it (PUT) or delete it", r.what(), u.Err)
}

// builtinOf is, by kind, the object that is shown though it may not be stored.
var builtinOf = map[api.Kind]func() api.Object{
	api.KindProfile:   builtinProfile,
	api.KindNamespace: builtinNamespace,
}

// builtin is the object k that is shown though it may not be stored, or nil.
func builtin(k api.Key) api.Object {
	if made := builtinOf[k.Kind]; made != nil {
		if o := made(); o.Key() == k {
			return o
		}
	}
	return nil
}

// builtinProfile is the profile that allows everything. It is never stored.
func builtinProfile() api.Object {
	return &api.Profile{
		TypeMeta: api.TypeMeta{Kind: api.KindProfile, APIVersion: api.VersionCalico},
		Meta:     api.Meta{Name: api.DefaultAllowProfile, ResourceVersion: "1"},
		Spec: api.ProfileSpec{
			Ingress: []api.Rule{{Action: api.Allow}},
			Egress:  []api.Rule{{Action: api.Allow}},
		},
	}
}

// builtinNamespace is the namespace of what names none. It is stored once
// somebody changes it.
func builtinNamespace() api.Object {
	n := &api.Namespace{
		TypeMeta: api.TypeMeta{Kind: api.KindNamespace, APIVersion: api.VersionCore},
		Meta:     api.Meta{Name: defaultNamespace, ResourceVersion: "1"},
	}
	n.Default()
	return n
}

// defaultNamespace is the namespace of what names none.
const defaultNamespace = "default"

// listOrWatch answers a list, or follows it when asked to.
func (s *Server) listOrWatch(r *request) response {
	v, err := s.newView(r)
	if err != nil {
		return s.failed(r, err)
	}
	f, err := newFilter(r)
	if err != nil {
		return s.failed(r, err)
	}
	if r.watch {
		return s.watch(r, v, f)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	if r.desc.Kind == api.KindRevision {
		s.history.settle(ctx)
	}
	objs, meta, err := s.list(ctx, r, f)
	if err != nil {
		return s.failed(r, err)
	}
	resp := ok(v.list(objs, meta))
	resp.warnings = damaged(objs)
	return resp
}

// damaged warns of objects that cannot be understood.
func damaged(objs []api.Object) (warnings []string) {
	for _, o := range objs {
		if u, bad := o.(*api.Unreadable); bad && len(warnings) < 10 {
			warnings = append(warnings, fmt.Sprintf("%s: the stored value cannot be read: %v", u.Key(), u.Err))
		}
	}
	return warnings
}

// filter keeps the objects that a list or watch is about.
type filter struct {
	namespace string
	labels    labelSelector
	fields    fieldSelector
	// grant is what may be seen; all tells whether that is everything.
	grant authz.Grant
	all   bool
}

func newFilter(r *request) (filter, error) {
	f := filter{namespace: r.attrs.Namespace, grant: r.grant, all: r.grant.All()}
	var err error
	if f.labels, err = parseLabelSelector(r.query.Get("labelSelector")); err != nil {
		return f, failure(http.StatusBadRequest, api.ReasonBadRequest, "labelSelector: %v", err)
	}
	if f.fields, err = parseFieldSelector(r.query.Get("fieldSelector")); err != nil {
		return f, failure(http.StatusBadRequest, api.ReasonBadRequest, "fieldSelector: %v", err)
	}
	return f, nil
}

// keeps reports whether o, which may be nil, passes.
func (f filter) keeps(o api.Object) bool {
	if o == nil {
		return false
	}
	k := o.Key()
	return (f.namespace == "" || k.Namespace == f.namespace) &&
		f.fields.Matches(k.Namespace, k.Name) && f.labels.Matches(o.Metadata().Labels) && f.maySee(o)
}

// maySee reports whether the client has the right to o.
func (f filter) maySee(o api.Object) bool { return f.all || f.grant.Covers(o) }

// everything reports whether nothing is filtered but by namespace.
func (f filter) everything() bool { return len(f.labels) == 0 && len(f.fields) == 0 && f.all }

// listQuery is the part of a list's parameters that says where to read.
type listQuery struct {
	limit    int
	after    api.Key
	stored   bool         // without built-in objects
	revision api.Revision // read at this one; zero: now
	least    api.Revision // refuse anything older
}

func (r *request) listQuery() (listQuery, error) {
	q := listQuery{stored: r.flag(ParamStored)}
	if text := r.query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return q, failure(http.StatusBadRequest, api.ReasonBadRequest, "limit %q: want a whole number from 0 on", text)
		}
		q.limit = n
	}
	rev, err := r.revision()
	if err != nil {
		return q, err
	}
	match := r.query.Get("resourceVersionMatch")
	if text := r.query.Get("continue"); text != "" {
		t, err := parseContinue(text)
		if err != nil {
			return q, failure(http.StatusBadRequest, api.ReasonBadRequest, "continue: %v", err)
		}
		if rev != 0 || match != "" {
			return q, failure(http.StatusBadRequest, api.ReasonBadRequest, "continue: cannot be combined with resourceVersion: the token says it")
		}
		q.after = api.Key{Kind: r.desc.Kind, Namespace: t.Namespace, Name: t.Name}
		q.revision = t.Revision
		return q, nil
	}
	if text := r.query.Get("after"); text != "" && q.stored {
		namespace, name, found := strings.Cut(text, "/")
		if !found {
			namespace, name = "", text
		}
		q.after = api.Key{Kind: r.desc.Kind, Namespace: namespace, Name: name}
	}
	switch match {
	case "", "NotOlderThan":
		q.least = rev
	case "Exact":
		if rev == 0 {
			return q, failure(http.StatusBadRequest, api.ReasonBadRequest, "resourceVersionMatch Exact: needs a resourceVersion that is not 0")
		}
		q.revision = rev
	default:
		return q, failure(http.StatusBadRequest, api.ReasonBadRequest, "resourceVersionMatch %q: want NotOlderThan or Exact", match)
	}
	return q, nil
}

// revision reads the resourceVersion parameter; absent is zero.
func (r *request) revision() (api.Revision, error) {
	text := r.query.Get("resourceVersion")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, failure(http.StatusBadRequest, api.ReasonBadRequest, "resourceVersion %q: want a whole number from 0 on", text)
	}
	return api.Revision(n), nil
}

// list reads what the filter keeps, in key order, up to the limit.
func (s *Server) list(ctx context.Context, r *request, f filter) ([]api.Object, api.ListMeta, error) {
	q, err := r.listQuery()
	if err != nil {
		return nil, api.ListMeta{}, err
	}
	var out []api.Object
	o := store.ListOptions{Namespace: f.namespace, After: q.after, Revision: q.revision}
	for more := true; more; {
		// One more than wanted tells whether there is more.
		if o.Limit = 0; q.limit > 0 {
			o.Limit = q.limit - len(out) + 1
			if !f.everything() {
				o.Limit = max(o.Limit, listPage)
			}
		}
		page, rev, err := s.listStore(ctx, r.desc, o, q.stored)
		if err != nil {
			return nil, api.ListMeta{}, err
		}
		if rev < q.least {
			return nil, api.ListMeta{}, retryLater(failure(http.StatusGatewayTimeout, api.ReasonTimeout,
				"resourceVersion %d lies in the future: the datastore is at %d", q.least, rev))
		}
		o.Revision = rev
		for _, obj := range page {
			if !f.keeps(obj) {
				continue
			}
			if q.limit > 0 && len(out) == q.limit {
				last := out[len(out)-1].Key()
				t := continueToken{Revision: rev, Namespace: last.Namespace, Name: last.Name}
				return out, api.ListMeta{ResourceVersion: revisionText(rev), Continue: t.String()}, nil
			}
			out = append(out, obj)
		}
		if more = o.Limit > 0 && len(page) == o.Limit; more {
			o.After = page[len(page)-1].Key()
		}
	}
	return out, api.ListMeta{ResourceVersion: revisionText(o.Revision)}, nil
}

// listStore is Store.List with the kind's built-in object put in its place,
// unless stored is set.
func (s *Server) listStore(ctx context.Context, k *kindInfo, o store.ListOptions, stored bool) ([]api.Object, api.Revision, error) {
	objs, rev, err := s.cfg.Store.List(ctx, k.Kind, o)
	made := builtinOf[k.Kind]
	if err != nil || stored || made == nil {
		return objs, rev, err
	}
	b := made()
	name := b.Key().Name
	if o.After.Name >= name {
		return objs, rev, nil
	}
	i := sort.Search(len(objs), func(i int) bool { return objs[i].Key().Name >= name })
	full := o.Limit > 0 && len(objs) == o.Limit
	if i == len(objs) && full {
		return objs, rev, nil // it comes on a later page
	}
	if i < len(objs) && objs[i].Key() == b.Key() {
		return objs, rev, nil // it is stored
	}
	merged := append(append(append([]api.Object{}, objs[:i]...), b), objs[i:]...)
	if full {
		merged = merged[:o.Limit]
	}
	return merged, rev, nil
}

func revisionText(r api.Revision) string { return strconv.FormatInt(int64(r), 10) }
