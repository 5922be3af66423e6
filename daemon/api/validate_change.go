// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"strings"
	"time"
)

// How long a change may wait for its confirmation.
const (
	MinChangeTimeout = 10 * time.Second
	MaxChangeTimeout = 24 * time.Hour
)

// Bounds of a change.
const (
	maxMustReach      = 20
	maxChangedObjects = 1000
)

// Validate reports every fault of the change.
func (c *Change) Validate() error {
	var f faults
	checkMeta(&f, c)
	if t := c.Spec.Timeout.Duration; t < MinChangeTimeout || t > MaxChangeTimeout {
		f.add("spec.timeout", quoted(t.String()), "not between 10s and 24h", "write it as \"2m\"")
	}
	if c.Spec.At.IsZero() {
		f.add("spec.at", "", "missing", "")
	}
	if len(c.Spec.MustReach) > maxMustReach {
		f.add("spec.mustReach", "", "more than 20 addresses", "name those that matter most")
	}
	for i, m := range c.Spec.MustReach {
		if _, err := ParseMustReach(m); err != nil {
			f.add(at("spec.mustReach", i), quoted(m), err.Error(), "write it as \"tcp:192.0.2.1:443\" or \"tcp:[2001:db8::1]:443\"")
		}
	}
	if o := c.Spec.Operator; o != nil {
		for _, e := range []struct{ field, text string }{{"client", o.Client}, {"server", o.Server}} {
			if _, err := netip.ParseAddrPort(e.text); err != nil {
				f.add("spec.operator."+e.field, quoted(e.text), "not an address with a port", "write it as \"192.0.2.1:22\" or \"[2001:db8::1]:22\"")
			}
		}
	}
	checkChangedObjects(&f, c.Spec.Objects)
	switch c.Status.Phase {
	case "", ChangePending, ChangeRollingBack, ChangeRolledBack:
	default:
		f.add("status.phase", quoted(string(c.Status.Phase)), "unknown phase", "")
	}
	return f.err()
}

// Validate reports every fault of the revision.
func (r *RevisionRecord) Validate() error {
	var f faults
	checkMeta(&f, r)
	if r.Spec.Number < 1 {
		f.add("spec.number", "", "revisions count from 1", "")
	}
	checkChangedObjects(&f, r.Spec.Objects)
	return f.err()
}

// checkChangedObjects checks what a change or a revision is of.
func checkChangedObjects(f *faults, objs []ChangedObject) {
	if n := len(objs); n == 0 || n > maxChangedObjects {
		f.add("spec.objects", "", "not between 1 and 1000 objects", "")
	}
	seen := map[Key]bool{}
	for i, o := range objs {
		d, known := DescriptorOf(o.Kind)
		switch {
		case !known || o.Kind == KindChange || o.Kind == KindRevision || o.Kind == KindCredential:
			f.add(at("spec.objects", i)+".kind", quoted(string(o.Kind)), "not a kind that a change can be of", "")
		case d.Namespaced != (o.Namespace != "") || o.Name == "":
			f.add(at("spec.objects", i)+".name", quoted(o.Key().String()), "names no object", "")
		case seen[o.Key()]:
			f.add(at("spec.objects", i)+".name", quoted(o.Key().String()), "there twice", "")
		}
		seen[o.Key()] = true
	}
}

// ParseMustReach reads an entry of a change's mustReach: the address that TCP
// is to reach.
func ParseMustReach(text string) (netip.AddrPort, error) {
	rest, is := strings.CutPrefix(text, "tcp:")
	if !is {
		return netip.AddrPort{}, &FieldError{Message: "does not begin with \"tcp:\""}
	}
	a, err := netip.ParseAddrPort(rest)
	if err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		return netip.AddrPort{}, &FieldError{Message: "not an address with a port"}
	}
	return a, nil
}
