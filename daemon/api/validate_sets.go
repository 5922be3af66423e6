// SPDX-License-Identifier: Apache-2.0

package api

import "strconv"

// Validate reports every fault of the tier.
func (t *Tier) Validate() error {
	var f faults
	checkMeta(&f, t)
	checkWord(&f, "spec.defaultAction", string(t.Spec.DefaultAction), string(Deny), string(Pass))
	order, builtIn := builtInOrder(t.Name)
	if !builtIn {
		return f.err()
	}
	if o := t.Spec.Order; o != nil && *o != order {
		f.add("spec.order", formatOrder(*o), "the order of tier "+t.Name+" is fixed", "write "+formatOrder(order))
	}
	want := Pass
	if t.Name == DefaultTier {
		want = Deny
	}
	if a := t.Spec.DefaultAction; a != "" && a != want {
		f.add("spec.defaultAction", quoted(string(a)), "the default action of tier "+t.Name+" is fixed", "write "+string(want))
	}
	return f.err()
}

// formatOrder prints an order without exponent.
func formatOrder(o float64) string { return strconv.FormatFloat(o, 'f', -1, 64) }

// Validate reports every fault of the set.
func (s *GlobalNetworkSet) Validate() error { return validateSet(s, &s.Spec) }

// Validate reports every fault of the set.
func (s *NetworkSet) Validate() error { return validateSet(s, &s.Spec) }

func validateSet(o Object, s *NetworkSetSpec) error {
	var f faults
	checkMeta(&f, o)
	checkReserved(&f, o.Metadata(), nil)
	again := repeated(s.Nets)
	for i, n := range s.Nets {
		if err := laxCIDR(n); err != nil {
			f.add(at("spec.nets", i), quoted(n), err.Error(), "")
		} else if again(i) {
			f.add(at("spec.nets", i), quoted(n), "there more than once", "remove it").soft = true
		}
	}
	return f.err()
}

// Validate reports every fault of the profile.
func (p *Profile) Validate() error {
	var f faults
	checkMeta(&f, p)
	if p.Name == DefaultAllowProfile {
		f.add("metadata.name", quoted(p.Name), "this profile is built in and cannot be written", "")
	}
	checkLabels(&f, "spec.labelsToApply", p.Spec.LabelsToApply)
	for i := range p.Spec.Ingress {
		r := ruleChecker{faults: &f, path: at("spec.ingress", i), direction: Ingress}
		r.check(&p.Spec.Ingress[i])
	}
	for i := range p.Spec.Egress {
		r := ruleChecker{faults: &f, path: at("spec.egress", i), direction: Egress}
		r.check(&p.Spec.Egress[i])
	}
	return f.err()
}

// Validate checks the name only: agents write the rest.
func (h *HostStatus) Validate() error {
	var f faults
	checkMeta(&f, h)
	return f.err()
}

// Validate checks the name only: programs write the rest.
func (c *ClusterInformation) Validate() error {
	var f faults
	checkMeta(&f, c)
	if c.Name != "" && c.Name != DefaultName {
		f.add("metadata.name", quoted(c.Name), "there is only one ClusterInformation", "write "+quoted(DefaultName))
	}
	return f.err()
}
