// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// Kubernetes' questions about oneself: what may I do (kubectl auth can-i), all
// that I may do (can-i --list), who am I (auth whoami). They are answered by
// the rights that requests are judged by; nothing is stored.
type (
	accessReview struct {
		Kind       string            `json:"kind"`
		APIVersion string            `json:"apiVersion"`
		Metadata   struct{}          `json:"metadata"`
		Spec       accessReviewSpec  `json:"spec"`
		Status     accessReviewState `json:"status"`
	}
	accessReviewSpec struct {
		Resource    *resourceQuestion `json:"resourceAttributes,omitempty"`
		NonResource *pathQuestion     `json:"nonResourceAttributes,omitempty"`
	}
	resourceQuestion struct {
		Namespace   string `json:"namespace,omitempty"`
		Verb        string `json:"verb,omitempty"`
		Group       string `json:"group,omitempty"`
		Version     string `json:"version,omitempty"`
		Resource    string `json:"resource,omitempty"`
		Subresource string `json:"subresource,omitempty"`
		Name        string `json:"name,omitempty"`
	}
	pathQuestion struct {
		Path string `json:"path,omitempty"`
		Verb string `json:"verb,omitempty"`
	}
	accessReviewState struct {
		Allowed bool   `json:"allowed"`
		Denied  bool   `json:"denied,omitempty"`
		Reason  string `json:"reason,omitempty"`
	}

	rulesReview struct {
		Kind       string           `json:"kind"`
		APIVersion string           `json:"apiVersion"`
		Metadata   struct{}         `json:"metadata"`
		Spec       rulesReviewSpec  `json:"spec"`
		Status     rulesReviewState `json:"status"`
	}
	rulesReviewSpec struct {
		Namespace string `json:"namespace,omitempty"`
	}
	rulesReviewState struct {
		Resource    []resourceRule `json:"resourceRules"`
		NonResource []pathRule     `json:"nonResourceRules"`
		Incomplete  bool           `json:"incomplete"`
		Error       string         `json:"evaluationError,omitempty"`
	}
	resourceRule struct {
		Verbs     []string `json:"verbs"`
		Groups    []string `json:"apiGroups"`
		Resources []string `json:"resources"`
		Names     []string `json:"resourceNames,omitempty"`
	}
	pathRule struct {
		Verbs []string `json:"verbs"`
		Paths []string `json:"nonResourceURLs"`
	}

	selfReview struct {
		Kind       string   `json:"kind"`
		APIVersion string   `json:"apiVersion"`
		Metadata   struct{} `json:"metadata"`
		Status     struct {
			User userInfo `json:"userInfo"`
		} `json:"status"`
	}
	userInfo struct {
		Name   string              `json:"username"`
		Groups []string            `json:"groups"`
		Extra  map[string][]string `json:"extra,omitempty"`
	}
)

// reviewAccess answers a SelfSubjectAccessReview.
func (s *Server) reviewAccess(r *request) response {
	review := accessReview{}
	if err := reviewInto(r, "SelfSubjectAccessReview", &review, accessReviewFromProtobuf); err != nil {
		return s.failed(r, err)
	}
	q := review.Spec
	if (q.Resource == nil) == (q.NonResource == nil) {
		return s.failed(r, failure(http.StatusUnprocessableEntity, api.ReasonInvalid,
			"spec: exactly one of resourceAttributes and nonResourceAttributes must be there"))
	}
	rules := s.cfg.Rights.Of(r.id)
	if q.NonResource != nil {
		review.Status.Allowed = s.openPath(q.NonResource.Verb, q.NonResource.Path) || rules.Everything()
	} else {
		review.Status = s.answerAccess(r, rules, *q.Resource)
	}
	review.Kind, review.APIVersion = "SelfSubjectAccessReview", "authorization.k8s.io/v1"
	return response{code: http.StatusCreated, body: review}
}

// answerAccess judges a question. Where a right is kept to tiers, an object
// that is there is judged by its tier; else the answer is yes, and says in
// which tiers.
func (s *Server) answerAccess(r *request, rules authz.Rules, q resourceQuestion) accessReviewState {
	if s.review(q.Group, q.Resource) {
		return accessReviewState{Allowed: q.Verb == "create" || rules.Everything()}
	}
	k := s.catalog.byPlural(q.Group, q.Resource)
	query := authz.Query{Verb: q.Verb, Namespace: q.Namespace, Name: q.Name, Subresource: q.Subresource}
	if k == nil {
		state := accessReviewState{Allowed: !rules.Grant(query).None()}
		if !state.Allowed {
			state.Reason = "there is no such resource"
		}
		return state
	}
	query.Kind = k.Kind
	if !k.Namespaced {
		query.Namespace = ""
	}
	g := rules.Grant(query)
	tiers := g.Tiers()
	if g.None() || tiers == nil {
		return accessReviewState{Allowed: !g.None()}
	}
	if q.Name != "" {
		if o, err := s.cfg.Store.Get(r.Context(), api.Key{Kind: k.Kind, Namespace: query.Namespace, Name: q.Name}); err == nil {
			return accessReviewState{Allowed: g.Covers(o)}
		}
	}
	return accessReviewState{Allowed: true, Reason: "in tier " + strings.Join(tiers, ", ") + " only"}
}

// reviewRules answers a SelfSubjectRulesReview.
func (s *Server) reviewRules(r *request) response {
	review := rulesReview{}
	if err := reviewInto(r, "SelfSubjectRulesReview", &review, rulesReviewFromProtobuf); err != nil {
		return s.failed(r, err)
	}
	review.Kind, review.APIVersion = "SelfSubjectRulesReview", "authorization.k8s.io/v1"
	st := &review.Status
	st.NonResource = []pathRule{{Verbs: []string{"get"}, Paths: openPaths}}
	var tiered []string
	for _, rule := range s.cfg.Rights.Of(r.id) {
		if len(rule.Namespaces) > 0 && !slices.Contains(rule.Namespaces, review.Spec.Namespace) {
			continue
		}
		if len(rule.Tiers) > 0 {
			tiered = append(tiered, strings.Join(rule.Kinds, ", ")+" in tier "+strings.Join(rule.Tiers, ", ")+" only")
		}
		st.Resource = append(st.Resource, s.resourceRules(rule)...)
		if (authz.Rules{rule}).Everything() {
			st.NonResource = append(st.NonResource, pathRule{Verbs: []string{"*"}, Paths: []string{"*"}})
		}
	}
	if st.Resource == nil {
		st.Resource = []resourceRule{}
	}
	st.Resource = append(st.Resource,
		resourceRule{Verbs: []string{"create"}, Groups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}},
		resourceRule{Verbs: []string{"create"}, Groups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}})
	if len(tiered) > 0 {
		st.Incomplete = true // else kubectl keeps it to itself
		st.Error = "some rights are kept to tiers, which this form cannot say: " + strings.Join(tiered, "; ")
	}
	return response{code: http.StatusCreated, body: review}
}

// resourceRules are a rule in Kubernetes' words: one for each group.
func (s *Server) resourceRules(rule api.RoleRule) []resourceRule {
	if slices.Contains(rule.Kinds, api.AllOfThem) {
		return []resourceRule{{Verbs: rule.Verbs, Groups: []string{"*"}, Resources: []string{"*"}, Names: rule.Names}}
	}
	var out []resourceRule
	for _, name := range rule.Kinds {
		kind, sub, isSub := strings.Cut(name, "/")
		d, known := api.DescriptorOf(api.Kind(kind))
		if !known {
			continue
		}
		resource := d.Plural
		if isSub {
			resource += "/" + sub
		}
		if n := len(out) - 1; n >= 0 && out[n].Groups[0] == d.Group {
			out[n].Resources = append(out[n].Resources, resource)
			continue
		}
		out = append(out, resourceRule{Verbs: rule.Verbs, Groups: []string{d.Group}, Resources: []string{resource}, Names: rule.Names})
	}
	return out
}

// reviewSelf answers a SelfSubjectReview.
func (s *Server) reviewSelf(r *request) response {
	var review selfReview
	if err := reviewInto(r, "SelfSubjectReview", &review, func([]byte, *selfReview) error { return nil }); err != nil {
		return s.failed(r, err)
	}
	review.Kind, review.APIVersion = "SelfSubjectReview", "authentication.k8s.io/v1"
	review.Status.User = userInfo{Name: r.id.User, Groups: r.id.Groups, Extra: map[string][]string{
		"ripstop.io/method": {string(r.id.Method)}, "ripstop.io/credential": {r.id.Credential},
	}}
	return response{code: http.StatusCreated, body: review}
}

// openPaths are what everybody may read whom the server knows.
var openPaths = []string{"/api", "/api/*", "/apis", "/apis/*", "/openapi/*", "/version", "/healthz", "/livez", "/readyz"}

// openPath reports whether a path outside of resources is one of them.
func (s *Server) openPath(verb, path string) bool {
	if verb != "get" {
		return false
	}
	return slices.ContainsFunc(s.routes, func(rt route) bool {
		return rt.method == http.MethodGet && (rt.access == known || rt.access == anybody) && rt.leadsTo(path)
	})
}

// leadsTo reports whether a path is the route's.
func (rt route) leadsTo(path string) bool {
	have, want := strings.Split(path, "/"), strings.Split(rt.path, "/")
	return len(have) == len(want) && !slices.ContainsFunc(want, func(w string) bool {
		h := have[0]
		have = have[1:]
		return h != w && !(strings.HasPrefix(w, "{") && h != "")
	})
}

// review reports whether a resource is one of the reviews.
func (s *Server) review(group, plural string) bool {
	return slices.ContainsFunc(s.routes, func(rt route) bool {
		return rt.method == http.MethodPost && rt.path == "/apis/"+group+"/v1/"+plural
	})
}

// byPlural is the kind of a plural in a group, whatever the version; nil if
// there is none. The group "*" is any.
func (c catalog) byPlural(group, plural string) *kindInfo {
	for _, k := range c.kinds {
		if k.Plural == plural && (k.Group == group || group == "*") {
			return k
		}
	}
	return nil
}

// reviewInto reads the body of a review: JSON, YAML, or Kubernetes' protobuf,
// which kubectl sends since 1.32. What is not known in it is left out, as the
// question may be of a newer Kubernetes; what it would narrow is not allowed
// here by it.
func reviewInto[T any](r *request, kind string, into *T, fromProtobuf func([]byte, *T) error) error {
	typ, err := r.mediaType()
	if err != nil {
		return err
	}
	data, err := r.body()
	if err != nil {
		return err
	}
	switch typ {
	case typeProtobuf:
		raw, err := protobufBody(data, kind)
		if err == nil {
			err = fromProtobuf(raw, into)
		}
		if err != nil {
			return invalidDocument(err)
		}
		return nil
	case typeJSON:
	case typeYAML, "text/yaml", "application/x-yaml":
		if data, err = api.ToJSON(data); err != nil {
			return invalidDocument(err)
		}
	default:
		return failure(http.StatusUnsupportedMediaType, api.ReasonMediaType, "Content-Type %q: send application/json or application/yaml", typ)
	}
	if _, err := jsonTree(data); err != nil { // the same member twice, too deep
		return failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
	}
	var head api.TypeMeta
	if err := json.Unmarshal(data, &head); err != nil || head.Kind != "" && string(head.Kind) != kind {
		return failure(http.StatusBadRequest, api.ReasonBadRequest, "body: kind %q: want %s", head.Kind, kind)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return invalidDocument(err)
	}
	return nil
}

// protoFields calls field with each field of a message that has a length:
// texts and messages.
func protoFields(data []byte, field func(number protowire.Number, value []byte) error) error {
	for len(data) > 0 {
		number, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, typ, data); n < 0 {
				return protowire.ParseError(n)
			}
			data = data[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := field(number, value); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// accessReviewFromProtobuf reads the spec of authorization.k8s.io/v1
// SelfSubjectAccessReview (generated.proto, Kubernetes 1.35).
func accessReviewFromProtobuf(data []byte, review *accessReview) error {
	return protoFields(data, func(number protowire.Number, spec []byte) error {
		if number != 2 {
			return nil
		}
		return protoFields(spec, func(number protowire.Number, question []byte) error {
			switch number {
			case 1:
				q := &resourceQuestion{}
				review.Spec.Resource = q
				return texts(question, map[protowire.Number]*string{
					1: &q.Namespace, 2: &q.Verb, 3: &q.Group, 4: &q.Version, 5: &q.Resource, 6: &q.Subresource, 7: &q.Name,
				})
			case 2:
				q := &pathQuestion{}
				review.Spec.NonResource = q
				return texts(question, map[protowire.Number]*string{1: &q.Path, 2: &q.Verb})
			}
			return nil
		})
	})
}

// rulesReviewFromProtobuf reads the spec of authorization.k8s.io/v1
// SelfSubjectRulesReview.
func rulesReviewFromProtobuf(data []byte, review *rulesReview) error {
	return protoFields(data, func(number protowire.Number, spec []byte) error {
		if number != 2 {
			return nil
		}
		return texts(spec, map[protowire.Number]*string{1: &review.Spec.Namespace})
	})
}

// texts reads the text fields of a message.
func texts(data []byte, into map[protowire.Number]*string) error {
	return protoFields(data, func(number protowire.Number, value []byte) error {
		if to := into[number]; to != nil {
			*to = string(value)
		}
		return nil
	})
}
