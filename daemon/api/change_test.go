// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestChangedValue_IsTheObjectItWasMadeOf(t *testing.T) {
	small := &GlobalNetworkSet{TypeMeta: TypeMeta{KindGlobalNetworkSet, VersionCalico}, Meta: Meta{Name: "a", UID: "u", ResourceVersion: "7"}}
	small.Spec.Nets = []string{"192.0.2.0/24", "2001:db8::/32"}
	large := Clone(small).(*GlobalNetworkSet)
	for range 500 {
		large.Spec.Nets = append(large.Spec.Nets, "198.51.100.0/24")
	}
	policy := &GlobalNetworkPolicy{TypeMeta: TypeMeta{KindGlobalNetworkPolicy, VersionCalico}, Meta: Meta{Name: "p", Labels: map[string]string{LabelTier: DefaultTier}}}
	policy.Spec.Tier, policy.Spec.Types = DefaultTier, []PolicyType{Ingress}
	for name, o := range map[string]Object{"small": small, "large": large, "policy": policy} {
		v, err := NewChangedValue(o)
		if err != nil || v.Absent() || (v.Packed != "") != (name == "large") {
			t.Errorf("%s: NewChangedValue: %+v, %v", name, v, err)
		}
		if n := len(v.Packed); name == "large" && n > 1000 {
			t.Errorf("a large set is packed into %d bytes", n)
		}
		got, err := v.Object(o.Key())
		want := Clone(o)
		want.Metadata().ResourceVersion = ""
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: Object: %v, -want +got\n%s", name, err, d)
		}
		if o != Object(policy) && o.Metadata().ResourceVersion != "7" {
			t.Errorf("%s: NewChangedValue changed its argument", name)
		}
	}
}

func TestChangedValue_OfNothingIsNothing(t *testing.T) {
	v, err := NewChangedValue(nil)
	o, oerr := v.Object(Key{Kind: KindTier, Name: "a"})
	if err != nil || oerr != nil || !v.Absent() || o != nil {
		t.Errorf("%+v, %v, %v, %v", v, err, o, oerr)
	}
	if _, err := NewChangedValue(&Unreadable{K: Key{Kind: KindTier, Name: "a"}}); err == nil {
		t.Error("what cannot be read became a value")
	}
}

func TestChangedValue_DamagedIsAnError(t *testing.T) {
	k := Key{Kind: KindTier, Name: "a"}
	for name, v := range map[string]ChangedValue{
		"no base64": {Packed: "%"}, "no gzip": {Packed: "AAAA"}, "cut": {Packed: "H4sIAAAAAAAA/6uu"},
		"no object": {Value: []byte("[]")}, "another object": {Value: []byte(`{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"b"}}`)},
	} {
		if o, err := v.Object(k); err == nil || o != nil {
			t.Errorf("%s: %v, %v", name, o, err)
		}
	}
}

func TestChange_ValidateSaysWhatIsWrong(t *testing.T) {
	good := func() *Change {
		c := &Change{TypeMeta: TypeMeta{KindChange, VersionOurs}, Meta: Meta{Name: "x"}}
		c.Spec.At, c.Spec.Timeout = Time{time.Unix(1e9, 0).UTC()}, Duration{time.Minute}
		c.Spec.Objects = []ChangedObject{{Kind: KindTier, Name: "a"}}
		return c
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Change){
		"spec.timeout":              func(c *Change) { c.Spec.Timeout.Duration = 9 * time.Second },
		"spec.timeout: \"24h":       func(c *Change) { c.Spec.Timeout.Duration = 24*time.Hour + 1 },
		"spec.at":                   func(c *Change) { c.Spec.At = Time{} },
		"spec.mustReach[0]":         func(c *Change) { c.Spec.MustReach = []string{"udp:192.0.2.1:53"} },
		"spec.mustReach[1]":         func(c *Change) { c.Spec.MustReach = []string{"tcp:[fd00::1]:53", "tcp:example.org:80"} },
		"spec.mustReach: more":      func(c *Change) { c.Spec.MustReach = strings.Split(strings.Repeat("tcp:192.0.2.1:1,", 21), ",")[:21] },
		"spec.operator.server":      func(c *Change) { c.Spec.Operator = &Operator{Client: "192.0.2.1:1", Server: "192.0.2.1"} },
		"spec.objects":              func(c *Change) { c.Spec.Objects = nil },
		"spec.objects[0].kind":      func(c *Change) { c.Spec.Objects[0].Kind = KindCredential },
		"spec.objects[0].name":      func(c *Change) { c.Spec.Objects[0].Namespace = "n" },
		"spec.objects[1].name":      func(c *Change) { c.Spec.Objects = append(c.Spec.Objects, c.Spec.Objects[0]) },
		"status.phase: \"Perhaps\"": func(c *Change) { c.Status.Phase = "Perhaps" },
	} {
		c := good()
		change(c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestTrimRevision_LeavesOutWhatIsTooLarge(t *testing.T) {
	r := &RevisionRecord{}
	r.Spec.Objects = []ChangedObject{{Kind: KindTier, Name: "a", Before: ChangedValue{Value: []byte("{}")}}}
	TrimRevision(r)
	if r.Spec.WithoutValues || r.Spec.Objects[0].Before.Absent() {
		t.Error("a small revision lost its values")
	}
	r.Spec.Objects[0].After.Value = make([]byte, maxRevision)
	TrimRevision(r)
	if o := r.Spec.Objects[0]; !r.Spec.WithoutValues || !o.Before.Absent() || !o.After.Absent() || o.Name != "a" {
		t.Errorf("a large one: %v", r.Spec.WithoutValues)
	}
}
