// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"slices"
	"strings"
)

// salvage is what is to be enforced instead of a stored object with faults,
// or nil; see DecodeStored. typed are faults of types and names: what they
// name was not read. checked are those of Validate: what they name was read
// and is wrong. o is used up.
func salvage(o Object, t *tree, typed, checked faults) Object {
	all := slices.Concat(typed, checked)
	for _, f := range typed {
		switch f.Path {
		case "kind", "apiVersion", "metadata", "metadata.namespace", "spec":
			return nil // whatever it is, it is not what the key says
		}
	}
	switch o := o.(type) {
	case *GlobalNetworkPolicy:
		if salvagePolicy(&o.Spec, t, all) {
			return o
		}
	case *NetworkPolicy:
		if salvagePolicy(&o.Spec, t, all) {
			return o
		}
	case *Profile:
		o.Spec.Ingress, o.Spec.Egress = denyAll(), denyAll()
		if touched(all, "spec.labelsToApply") {
			o.Spec.LabelsToApply = nil
		}
		return o
	case *GlobalNetworkSet:
		if salvageSet(&o.Spec, &o.Meta, typed) {
			return o
		}
	case *NetworkSet:
		if salvageSet(&o.Spec, &o.Meta, typed) {
			return o
		}
	case *HostEndpoint:
		if salvageHostEndpoint(o, typed, all) {
			return o
		}
	case *Tier:
		if touched(all, "spec.order") {
			return nil
		}
		if touched(all, "spec.defaultAction") {
			o.Spec.DefaultAction = Deny
		}
		return o
	case *FelixConfiguration:
		if touched(typed, "spec.nodeSelector") {
			return nil // it would hold for other hosts
		}
		for _, f := range typed {
			if name, ok := strings.CutPrefix(f.Path, "spec."); ok {
				if end := strings.IndexAny(name, ".["); end >= 0 {
					name = name[:end]
				}
				o.Spec.Unset(name)
			}
		}
		return o
	}
	return nil
}

// touched reports whether a fault is at path or below.
func touched(found faults, path string) bool {
	return slices.ContainsFunc(found, func(f *FieldError) bool {
		rest, ok := strings.CutPrefix(f.Path, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func denyAll() []Rule { return []Rule{{Action: Deny}} }

// salvagePolicy makes the policy deny all that it selects. It reports whether
// what the policy selects, and when, is known.
func salvagePolicy(s *PolicySpec, t *tree, all faults) bool {
	for _, path := range []string{"spec.selector", "spec.namespaceSelector", "spec.serviceAccountSelector", "spec.tier", "spec.order"} {
		if touched(all, path) {
			return false
		}
	}
	// A field of the spec that is not known may be what narrows the policy:
	// a selector, misspelt. With a selector read, that one counts.
	if s.Selector == "" && s.NamespaceSelector == "" && s.ServiceAccountSelector == "" {
		spec := t.get("spec")
		for _, f := range all {
			name, ok := strings.CutPrefix(f.Path, "spec.")
			if ok && !strings.ContainsAny(name, ".[") && f.Message == unknownField && spec != nil && spec.get(name) != nil {
				return false
			}
		}
	}
	if touched(all, "spec.doNotTrack") || touched(all, "spec.preDNAT") || touched(all, "spec.applyOnForward") {
		s.DoNotTrack, s.PreDNAT = false, false
	}
	if touched(all, "spec.applyOnForward") {
		s.ApplyOnForward = true // not known: rather deny too much
	}
	if touched(all, "spec.types") || len(s.Types) == 0 {
		s.Types = []PolicyType{Ingress, Egress}
		if s.PreDNAT {
			s.Types = []PolicyType{Ingress}
		}
	}
	s.Ingress, s.Egress = nil, nil
	if slices.Contains(s.Types, Ingress) {
		s.Ingress = denyAll()
	}
	if slices.Contains(s.Types, Egress) {
		s.Egress = denyAll()
	}
	s.PerformanceHints = nil
	return true
}

// salvageSet keeps the nets that are valid. It reports whether the set's
// labels are known.
func salvageSet(s *NetworkSetSpec, m *Meta, typed faults) bool {
	if touched(typed, "metadata.labels") {
		return false
	}
	dropReserved(m)
	s.Nets = slices.DeleteFunc(s.Nets, func(n string) bool { return laxCIDR(n) != nil })
	return true
}

// salvageHostEndpoint keeps what names the endpoint's interfaces, and of the
// rest what is valid. It reports whether the endpoint's host and interfaces
// are known.
func salvageHostEndpoint(h *HostEndpoint, typed, all faults) bool {
	if touched(typed, "metadata.labels") || touched(all, "spec.node") || touched(all, "spec.interfaceName") {
		return false
	}
	dropReserved(&h.Meta)
	if touched(all, "spec.ports") {
		h.Spec.Ports = nil
	}
	if touched(typed, "spec.profiles") {
		h.Spec.Profiles = nil
	}
	h.Spec.ExpectedIPs = slices.DeleteFunc(h.Spec.ExpectedIPs, func(ip string) bool { return plainIP(ip) != nil })
	return h.Spec.InterfaceName != "" || len(h.Spec.ExpectedIPs) > 0
}

// dropReserved removes labels that only the system may write.
func dropReserved(m *Meta) {
	m.Labels = maps.Clone(m.Labels)
	maps.DeleteFunc(m.Labels, func(k, _ string) bool { return IsReservedLabel(k) })
}
