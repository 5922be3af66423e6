// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/selector"
)

// Labels that say to which namespace and service account an object belongs.
// They come from the object's own fields, and those with a prefix from its
// profiles; what a user writes under these names does not count.
const (
	labelNamespace       = "projectcalico.org/namespace"
	labelServiceAccount  = "projectcalico.org/serviceaccount"
	labelOrchestrator    = "projectcalico.org/orchestrator"
	prefixNamespace      = "pcns."
	prefixServiceAccount = "pcsa."
	// profileOfNamespace is the prefix of the profile that carries the
	// labels of a namespace.
	profileOfNamespace = "kns."
)

var (
	inNamespace   = selector.Has(labelNamespace)
	noNamespace   = selector.Not(inNamespace)
	inAccount     = selector.Has(labelServiceAccount)
	noRestriction = selector.All()
)

// reserved reports whether a label is not a user's to give.
func reserved(label string) bool {
	return label == labelNamespace || label == labelServiceAccount ||
		strings.HasPrefix(label, prefixNamespace) || strings.HasPrefix(label, prefixServiceAccount)
}

// namespaceSelector turns a selector on namespaces into one on endpoints.
func namespaceSelector(text string) (*selector.Selector, error) {
	s, err := selector.Parse(text)
	if err != nil {
		return nil, err
	}
	return s.PrefixLabels(prefixNamespace).Replace(inNamespace, noNamespace), nil
}

// accountSelector turns a selector on service accounts into one on endpoints.
func accountSelector(text string) (*selector.Selector, error) {
	s, err := selector.Parse(text)
	if err != nil {
		return nil, err
	}
	return s.PrefixLabels(prefixServiceAccount).Replace(inAccount, nil), nil
}

// policySelector is what a policy selects, on the labels that endpoints
// effectively have. In a global policy a namespaceSelector never selects what
// is in no namespace, whatever it says; so all() beside it means "all that is
// in a namespace". Beside a serviceAccountSelector, all() means "all that has
// a service account", wherever it stands: Calico replaces it in the text of
// both together.
func policySelector(namespace string, s *api.PolicySpec) (*selector.Selector, error) {
	var parts []*selector.Selector
	var faults []error
	add := func(field, text string, parse func(string) (*selector.Selector, error)) {
		if text == "" {
			return
		}
		p, err := parse(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("spec.%s: %w", field, err))
			return
		}
		parts = append(parts, p)
	}
	add("selector", s.Selector, selector.Parse)
	switch {
	case namespace != "":
		parts = append(parts, selector.Equal(labelNamespace, namespace))
	case s.NamespaceSelector != "":
		parts = append(parts, inNamespace)
		add("namespaceSelector", s.NamespaceSelector, namespaceSelector)
	}
	add("serviceAccountSelector", s.ServiceAccountSelector, accountSelector)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	all := selector.And(parts...)
	if namespace == "" && s.ServiceAccountSelector != "" && len(parts) > 1 {
		all = all.Replace(inAccount, nil)
	}
	return all, nil
}

// peerSelector is what one side of a rule selects, nil for no restriction, and
// whether it is what must not be selected. Of a rule in a namespace it selects
// only there, unless a namespaceSelector says otherwise. The parts that cannot
// be read are told to bad; then there is no selector.
func peerSelector(namespace string, e *api.EntityRule, bad func(field string, err error)) (sel *selector.Selector, negated bool) {
	var parts []*selector.Selector
	readable := true
	read := func(field, text string, parse func(string) (*selector.Selector, error)) *selector.Selector {
		if text == "" {
			return nil
		}
		s, err := parse(text)
		if err != nil {
			bad(field, err)
			readable = false
		}
		return s
	}
	add := func(s *selector.Selector) {
		if s != nil {
			parts = append(parts, s)
		}
	}
	accounts := e.ServiceAccounts
	if namespace != "" && e.NamespaceSelector == "" && (e.Selector != "" || e.NotSelector != "" || accounts != nil) {
		add(selector.Equal(labelNamespace, namespace))
	}
	add(read("namespaceSelector", e.NamespaceSelector, namespaceSelector))
	if accounts != nil {
		add(read("serviceAccounts.selector", accounts.Selector, accountSelector))
		if len(accounts.Names) > 0 {
			add(selector.In(labelServiceAccount, accounts.Names...))
		}
	}
	add(read("selector", e.Selector, selector.Parse))
	not := read("notSelector", e.NotSelector, selector.Parse)
	switch {
	case !readable:
		return nil, false
	case len(parts) == 0:
		return not, not != nil
	case not != nil:
		add(selector.Not(not))
	}
	return selector.And(parts...), false
}
