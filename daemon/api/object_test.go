// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pointers collects all memory that a value reaches and that can be changed.
func pointers(v reflect.Value, into map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			if v.Elem().Type().Size() > 0 {
				into[v.Pointer()] = true
			}
			pointers(v.Elem(), into)
		}
	case reflect.Slice:
		if v.Cap() > 0 {
			into[v.Pointer()] = true
		}
		for i := range v.Len() {
			pointers(v.Index(i), into)
		}
	case reflect.Map:
		if !v.IsNil() {
			into[v.Pointer()] = true
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Time]() {
			return
		}
		for i := range v.NumField() {
			pointers(v.Field(i), into)
		}
	}
}

func TestClone_SharesNothing(t *testing.T) {
	for _, d := range Kinds() {
		o := sample(t, d.Kind)
		c := Clone(o)
		if diff := cmp.Diff(o, c); diff != "" {
			t.Errorf("%s: Clone differs:\n%s", d.Kind, diff)
		}
		ours, theirs := map[uintptr]bool{}, map[uintptr]bool{}
		pointers(reflect.ValueOf(o), ours)
		pointers(reflect.ValueOf(c), theirs)
		if len(ours) == 0 || len(ours) != len(theirs) {
			t.Errorf("%s: %d pieces of memory became %d", d.Kind, len(ours), len(theirs))
		}
		for p := range theirs {
			if ours[p] {
				t.Errorf("%s: Clone shares memory with the original", d.Kind)
			}
		}
	}
	if Clone(nil) != nil {
		t.Error("Clone(nil): got something")
	}
	u := &Unreadable{K: Key{Kind: KindTier}, Raw: []byte("x"), Err: errors.New("e"), Salvaged: &Tier{Meta: Meta{Name: "t"}}}
	c := Clone(u).(*Unreadable)
	if c.Salvaged == u.Salvaged || c.Err != u.Err || &c.Raw[0] == &u.Raw[0] {
		t.Errorf("Clone of an Unreadable: got %+v", c)
	}
}

func TestKey(t *testing.T) {
	keys := []Key{{KindTier, "", "a"}, {KindNetworkPolicy, "b", "a"}, {KindNetworkPolicy, "a", "b"}, {KindNetworkPolicy, "a", "a"}}
	slices.SortFunc(keys, Key.Compare)
	want := "[NetworkPolicy(a/a) NetworkPolicy(a/b) NetworkPolicy(b/a) Tier(a)]"
	if got := fmt.Sprint(keys); got != want {
		t.Errorf("sorted keys: got %s, want %s", got, want)
	}
}

func TestFaults_FindsAllInOrder(t *testing.T) {
	a, b, c := &FieldError{Path: "a"}, &FieldError{Path: "b"}, &FieldError{Path: "c"}
	err := errors.Join(a, fmt.Errorf("wrapped: %w", errors.Join(b, &DocumentError{Err: c})), errors.New("other"))
	if got := Faults(err); len(got) != 3 || got[0] != a || got[1] != b || got[2] != c {
		t.Errorf("Faults: got %v", got)
	}
	if got := Faults(nil); got != nil {
		t.Errorf("Faults(nil): got %v", got)
	}
}

func TestFieldError_Text(t *testing.T) {
	for want, e := range map[string]error{
		"a.b: \"x\": bad; fix it": &FieldError{Path: "a.b", Value: `"x"`, Message: "bad", Fix: "fix it"},
		"a.b: bad":                &FieldError{Path: "a.b", Message: "bad"},
		"bad":                     &FieldError{Message: "bad"},
		"f:3: Tier(x): a: bad":    &DocumentError{"f", 3, "Tier(x)", &FieldError{Path: "a", Message: "bad"}},
		"line 3: Tier(x): a: bad": &DocumentError{"", 3, "Tier(x)", &FieldError{Path: "a", Message: "bad"}},
		"f: bad":                  &DocumentError{"f", 0, "", &FieldError{Message: "bad"}},
	} {
		if got := e.Error(); got != want {
			t.Errorf("Error: got %q, want %q", got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"ingress", "egress", "selector", "namespaceSelector", "order", "types", "tier"}
	for in, want := range map[string]string{
		"ingres": "ingress", "Ingress": "ingress", "slector": "selector", "selectors": "selector",
		"namespaceselector": "namespaceSelector", "oder": "order", "type": "types", "teir": "tier", "xyz": "", "": "",
	} {
		if got := nearest(in, known); got != want {
			t.Errorf("nearest(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestStatus_JSON(t *testing.T) {
	s := Failure(404, ReasonNotFound, `tiers.projectcalico.org "x" not found`)
	s.Details = &StatusDetails{Name: "x", Group: GroupCalico, Kind: "tiers"}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"tiers.projectcalico.org \"x\" not found","reason":"NotFound","details":{"name":"x","group":"projectcalico.org","kind":"tiers"},"code":404}`
	if string(b) != want {
		t.Errorf("Marshal: got %s, want %s", b, want)
	}
	var err2 error = s
	if err2.Error() != s.Message || (&Status{Reason: ReasonTimeout, Code: 504}).Error() != "Timeout (504)" {
		t.Errorf("Error: got %q", err2)
	}
	got := Causes(errors.Join(&FieldError{Path: "spec.a", Value: "1", Message: "bad"}, errors.New("x")))
	if diff := cmp.Diff([]StatusCause{{"FieldValueInvalid", "1: bad", "spec.a"}}, got); diff != "" {
		t.Errorf("Causes (-want +got):\n%s", diff)
	}
	l, err := json.Marshal(List[*Tier]{Kind: "TierList", APIVersion: VersionCalico, Metadata: ListMeta{ResourceVersion: "5"}, Items: []*Tier{}})
	if err != nil || string(l) != `{"kind":"TierList","apiVersion":"projectcalico.org/v3","metadata":{"resourceVersion":"5"},"items":[]}` {
		t.Errorf("List: got %s, %v", l, err)
	}
}
