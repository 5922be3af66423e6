// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/selector"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// A policy whose selector has a slip in it is right by all rules and protects
// nothing. The writer hears of it in a Warning, with what was likely meant.

// Bounds of the advice: with more objects of a kind, or when the store is
// slow, none is given. The writer waits for it, and to list 5,000 endpoints
// takes a tenth of a second.
const (
	adviceObjects = 300
	adviceTime    = 2 * time.Second
)

// labelled is something that a selector can match.
type labelled struct {
	namespace string // empty: in none
	labels    map[string]string
}

// advise warns of selectors of a policy that match nothing there is. It never
// refuses.
func (s *Server) advise(ctx context.Context, r *request, o api.Object) {
	spec := api.PolicySpecOf(o)
	if spec == nil || r.attrs.Subresource != "" || !r.maySeeEndpoints() {
		return
	}
	asked := selectorsOf(spec)
	if len(asked) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, adviceTime)
	defer cancel()
	endpoints, ok := s.endpoints(ctx)
	if !ok || len(endpoints) == 0 {
		return // before there are hosts nothing can match
	}
	everything := endpoints
	if len(asked) > 1 || asked[0].path != "spec.selector" {
		sets, ok := s.networkSets(ctx)
		if !ok {
			return
		}
		everything = append(slices.Clone(endpoints), sets...)
	}
	for _, a := range asked {
		among, what := everything, "endpoint or network set"
		if a.path == "spec.selector" {
			among, what = endpoints, "endpoint"
		}
		if ns := o.Key().Namespace; ns != "" {
			among = slices.DeleteFunc(slices.Clone(among), func(l labelled) bool { return l.namespace != ns })
			what += " of namespace " + ns
		}
		if text := mismatch(a.text, among, what); text != "" {
			r.warn("%s: %s", a.path, text)
		}
	}
}

// maySeeEndpoints reports whether the writer may know the labels that the
// advice is made of.
func (r *request) maySeeEndpoints() bool {
	for _, kind := range []api.Kind{api.KindHostEndpoint, api.KindWorkloadEndpoint, api.KindGlobalNetworkSet, api.KindNetworkSet} {
		if !r.rules.Grant(authz.Query{Verb: "list", Kind: kind}).All() {
			return false
		}
	}
	return true
}

// placedSelector is a selector with its path in the policy.
type placedSelector struct{ path, text string }

// selectorsOf are the selectors of a policy that can be judged by labels
// alone: those without another selector beside them that narrows them.
func selectorsOf(spec *api.PolicySpec) []placedSelector {
	var out []placedSelector
	add := func(path, text string) {
		if text != "" {
			out = append(out, placedSelector{path, text})
		}
	}
	if spec.NamespaceSelector == "" && spec.ServiceAccountSelector == "" {
		add("spec.selector", spec.Selector)
	}
	for _, d := range []struct {
		name  string
		rules []api.Rule
	}{{"ingress", spec.Ingress}, {"egress", spec.Egress}} {
		for i, rule := range d.rules {
			for _, side := range []struct {
				name string
				e    api.EntityRule
			}{{"source", rule.Source}, {"destination", rule.Destination}} {
				if side.e.NamespaceSelector == "" && side.e.ServiceAccounts == nil && side.e.Services == nil {
					add(fmt.Sprintf("spec.%s[%d].%s.selector", d.name, i, side.name), side.e.Selector)
				}
			}
		}
	}
	return out
}

// endpoints are all endpoints with the labels that selectors see; ok is false
// if they are too many or cannot be read.
func (s *Server) endpoints(ctx context.Context) (_ []labelled, ok bool) {
	profiles, ok := s.listFew(ctx, api.KindProfile)
	if !ok {
		return nil, false
	}
	inherited := map[string]map[string]string{}
	for _, o := range profiles {
		if p, is := o.(*api.Profile); is {
			inherited[p.Name] = p.Spec.LabelsToApply
		}
	}
	var out []labelled
	add := func(m *api.Meta, profiles []string) {
		labels := map[string]string{}
		for _, p := range slices.Backward(profiles) { // the first that has a label wins
			maps.Copy(labels, inherited[p])
		}
		maps.Copy(labels, m.Labels)
		out = append(out, labelled{m.Namespace, labels})
	}
	for _, kind := range []api.Kind{api.KindHostEndpoint, api.KindWorkloadEndpoint} {
		objs, ok := s.listFew(ctx, kind)
		if !ok {
			return nil, false
		}
		for _, o := range objs {
			switch e := o.(type) {
			case *api.HostEndpoint:
				add(&e.Meta, e.Spec.Profiles)
			case *api.WorkloadEndpoint:
				add(&e.Meta, e.Spec.Profiles)
			}
		}
	}
	return out, true
}

// networkSets are all network sets, as endpoints.
func (s *Server) networkSets(ctx context.Context) (out []labelled, ok bool) {
	for _, kind := range []api.Kind{api.KindGlobalNetworkSet, api.KindNetworkSet} {
		objs, ok := s.listFew(ctx, kind)
		if !ok {
			return nil, false
		}
		for _, o := range objs {
			m := o.Metadata()
			labels := maps.Clone(m.Labels)
			if kind == api.KindNetworkSet {
				if labels == nil {
					labels = map[string]string{}
				}
				labels[api.LabelNamespace] = m.Namespace
			}
			out = append(out, labelled{m.Namespace, labels})
		}
	}
	return out, true
}

func (s *Server) listFew(ctx context.Context, kind api.Kind) ([]api.Object, bool) {
	objs, _, err := s.cfg.Store.List(ctx, kind, store.ListOptions{Limit: adviceObjects + 1})
	return objs, err == nil && len(objs) <= adviceObjects
}

// mismatch says that a selector matches none of objects, and what may have
// been meant; empty if it matches one.
func mismatch(text string, objects []labelled, what string) string {
	sel, err := selector.Parse(text)
	if err != nil {
		return ""
	}
	for _, o := range objects {
		if sel.Evaluate(selector.Map(o.labels)) {
			return ""
		}
	}
	values := map[string][]string{}
	for _, o := range objects {
		for k, v := range o.labels {
			if !slices.Contains(values[k], v) {
				values[k] = append(values[k], v)
			}
		}
	}
	keys := slices.Sorted(maps.Keys(values))
	var hints []string
	for _, need := range sel.Restrictions() {
		if need.Label == "" {
			hints = append(hints, "nothing can match it")
			continue
		}
		have, known := values[need.Label]
		switch {
		case !known:
			hint := "none has the label " + need.Label
			if near := api.Nearest(need.Label, keys); near != "" {
				hint += "; did you mean " + near + "?"
			}
			hints = append(hints, hint)
		case need.Values != nil && !slices.ContainsFunc(need.Values, func(v string) bool { return slices.Contains(have, v) }):
			slices.Sort(have)
			hint := "none has " + need.Label + " " + quotedList(need.Values)
			if near := api.Nearest(need.Values[0], have); near != "" {
				hint += "; did you mean " + strconv.Quote(near) + "?"
			} else {
				hint += "; there is " + quotedList(have)
			}
			hints = append(hints, hint)
		}
	}
	message := "matches no " + what + " that there is now"
	if len(hints) > 0 {
		message += ": " + strings.Join(hints, ", ")
	}
	return message
}

// quotedList is some values, quoted, joined by "or".
func quotedList(values []string) string {
	var out []string
	for i, v := range values {
		if i == 3 {
			out = append(out, "...")
			break
		}
		out = append(out, strconv.Quote(v))
	}
	return strings.Join(out, " or ")
}
