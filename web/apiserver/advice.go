// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// A policy whose selector has a slip in it is right by all rules and protects
// nothing. The writer hears of it in a Warning, with what was likely meant.

// Bounds of the advice. The writer waits for it: to ask an object takes 50 ns,
// and what this server wrote last is known within milliseconds.
const (
	adviceTries = 10_000
	adviceTime  = time.Second
)

// advise warns of selectors of a policy that match nothing there is. It never
// refuses.
func (s *Server) advise(ctx context.Context, r *request, o api.Object) {
	spec := api.PolicySpecOf(o)
	if spec == nil || r.attrs.Subresource != "" || !r.maySeeEndpoints() {
		return
	}
	asked := selectorsOf(spec)
	if len(s.census.advice(asked, o.Key().Namespace)) == 0 {
		return
	}
	// Perhaps what they match was written a moment ago.
	ctx, cancel := context.WithTimeout(ctx, adviceTime)
	defer cancel()
	if !s.census.catchUp(ctx) {
		return
	}
	for _, text := range s.census.advice(asked, o.Key().Namespace) {
		r.warn("%s", text)
	}
}

// advice is what there is to say of the selectors of a policy in a namespace,
// or in none; nothing as long as not all is known.
func (c *census) advice(asked []placedSelector, namespace string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.knowsLocked() || len(c.endpoints.all) == 0 {
		return nil // before there are hosts nothing can match
	}
	tries := adviceTries
	var advice []string
	for _, a := range asked {
		among, what := []*population{c.endpoints.within(namespace)}, "endpoint"
		if a.path != "spec.selector" {
			among, what = append(among, c.sets.within(namespace)), "endpoint or network set"
		}
		if namespace != "" {
			what += " of namespace " + namespace
		}
		if text := mismatch(a.text, what, &tries, among...); text != "" {
			advice = append(advice, a.path+": "+text)
		}
	}
	return advice
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
