// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
)

// enforced reports whether objects of a kind say what packets may pass or who
// may do what: a field that is not understood may then not be skipped.
func enforced(kind Kind) bool {
	switch kind {
	case KindGlobalNetworkPolicy, KindNetworkPolicy, KindStagedGlobalNetworkPolicy, KindStagedNetworkPolicy,
		KindProfile, KindGlobalNetworkSet, KindNetworkSet, KindTier, KindHostEndpoint, KindWorkloadEndpoint,
		KindRole, KindRoleBinding, KindCredential:
		return true
	}
	return false
}

// DecodeStored reads the value that the store holds under key at revision
// rev. It always returns an object: *Unreadable when the value
//
//   - is no JSON, has a value of the wrong type, or is deeper or longer than
//     the limits;
//   - says another kind, namespace or name than key;
//   - has, inside of the spec of a policy, profile, set, tier, endpoint, role,
//     binding or credential, a field that is not known or is there twice;
//   - is one of these, but for tiers, that Validate refuses for something in
//     its spec that changes what is enforced.
//
// Elsewhere unknown fields are skipped, as Calico does. Nothing is defaulted
// but the tier label of a policy: in particular empty types stay empty, and
// mean both directions.
//
// The object's ResourceVersion is rev. A policy's name comes from its
// annotation, which is removed; a policy without one, written by Calico
// before v3.32, loses the prefix "default." that its key then has, so that
// its Key differs from key: callers that keep objects by key use theirs.
//
// Unreadable.Salvaged is what to enforce meanwhile:
//
//   - a GlobalNetworkPolicy or NetworkPolicy whose selectors, tier and order
//     are known: the policy with one Deny rule for each of its types (both,
//     if they are not known);
//   - a Profile: the profile, denying both directions;
//   - a set: the set with the nets that are valid and without reserved
//     labels;
//   - a HostEndpoint whose node is known: the endpoint with what is valid, so
//     that its interface stays guarded;
//   - a Tier whose order is known: the tier, with Deny unless its action is
//     known;
//   - a FelixConfiguration: the object without the parameters in error;
//   - otherwise nil.
func DecodeStored(key Key, value []byte, rev Revision) Object {
	return new(StoredDecoder).Decode(key, value, rev)
}

// StoredDecoder reads many stored values, one after the other. It is for one
// goroutine. The zero value is ready.
type StoredDecoder struct{ json jsonParser }

// Decode is DecodeStored. It uses memory of the values before again, but none
// that an object has.
func (sd *StoredDecoder) Decode(key Key, value []byte, rev Revision) Object {
	u := &Unreadable{K: key, Meta: Meta{Name: key.Name, Namespace: key.Namespace}}
	if rev != 0 {
		u.Meta.ResourceVersion = strconv.FormatInt(int64(rev), 10)
	}
	fail := func(err error) Object {
		u.Raw, u.Err = bytes.Clone(value), err
		return u
	}
	d, ok := DescriptorOf(key.Kind)
	if !ok {
		return fail(&FieldError{Path: "kind", Value: quoted(string(key.Kind)), Message: "unknown kind"})
	}
	t, err := sd.json.parse(value)
	if err != nil {
		var se *syntaxError
		if errors.As(err, &se) {
			err = &FieldError{Message: fmt.Sprintf("byte %d: %s", se.pos, se.text)}
		}
		return fail(err)
	}
	if t.kind != treeObject {
		return fail(&FieldError{Value: t.sample(), Message: "expected an object, found " + t.kind.String()})
	}
	o := d.New()
	a := assigner{kind: key.Kind, strictSpec: enforced(key.Kind)}
	a.assign(reflect.ValueOf(o).Elem(), &t)
	var found faults
	for _, f := range a.faults {
		found = append(found, f.FieldError)
	}
	if spec := t.get("spec"); spec != nil && a.strictSpec {
		duplicates(spec, "spec", func(_ int, path string) { found.add(path, "", "there more than once", "") })
	}
	m := o.Metadata()
	m.ResourceVersion = u.Meta.ResourceVersion
	found = append(found, identify(o, d, key)...)
	typeFaults := len(found)
	found = append(found, storedFaults(o)...)
	if len(found) == 0 {
		return o
	}
	u.Meta = *m
	u.Salvaged = salvage(o, &t, found[:typeFaults], found[typeFaults:])
	return fail(found.err())
}

// identify checks that o is what key says, and gives it its name.
func identify(o Object, d Descriptor, key Key) (found faults) {
	t, m := typeOf(o), o.Metadata()
	if t.Kind != key.Kind {
		found.add("kind", quoted(string(t.Kind)), "stored under the key of a "+string(key.Kind), "")
	}
	if t.APIVersion != d.APIVersion() {
		found.add("apiVersion", quoted(t.APIVersion), "expected "+quoted(d.APIVersion()), "")
	}
	*t = TypeMeta{d.Kind, d.APIVersion()}
	if m.Namespace != key.Namespace && (m.Namespace != "" || !d.Namespaced) {
		found.add("metadata.namespace", quoted(m.Namespace), "stored under the key of namespace "+quoted(key.Namespace), "")
	}
	m.Namespace = key.Namespace
	spec := PolicySpecOf(o)
	name := m.Name
	if spec != nil {
		name = annotatedName(m)
		if _, ok := m.Labels[LabelTier]; !ok {
			tier := spec.Tier
			if tier == "" {
				tier = DefaultTier
			}
			setLabel(m, LabelTier, tier)
		}
	}
	m.Name = key.Name
	switch {
	case name != "" && name != key.Name:
		found.add("metadata.name", quoted(name), "stored under the key of "+quoted(key.Name), "")
	case spec != nil && m.Annotations[AnnotationMetadata] == "" && (spec.Tier == "" || spec.Tier == DefaultTier):
		m.Name = strings.TrimPrefix(key.Name, DefaultTier+".")
	}
	if spec != nil {
		dropAnnotation(m, AnnotationMetadata)
	}
	return found
}

// annotatedName is a policy's name: the annotation's, else the metadata's.
func annotatedName(m *Meta) string {
	var in struct {
		Name string `json:"name"`
	}
	if s := m.Annotations[AnnotationMetadata]; s != "" {
		if err := json.Unmarshal([]byte(s), &in); err == nil && in.Name != "" {
			return in.Name
		}
	}
	return m.Name
}

// dropAnnotation removes one annotation; the map is replaced, not changed.
func dropAnnotation(m *Meta, key string) {
	if _, ok := m.Annotations[key]; !ok {
		return
	}
	m.Annotations = maps.Clone(m.Annotations)
	delete(m.Annotations, key)
	if len(m.Annotations) == 0 {
		m.Annotations = nil
	}
}

// storedFaults are the faults of o that change what is enforced.
func storedFaults(o Object) faults {
	kind := o.Key().Kind
	// Every action of a tier but Pass means Deny, and every order is one.
	if !enforced(kind) || kind == KindTier {
		return nil
	}
	var found faults
	for _, f := range Faults(o.Validate()) {
		if !f.soft && (inSpec(f.Path) || isReservedFault(f)) {
			found = append(found, f)
		}
	}
	return found
}

func inSpec(path string) bool { return path == "spec" || strings.HasPrefix(path, "spec.") }

// isReservedFault reports whether a fault is of a reserved label.
func isReservedFault(f *FieldError) bool {
	key, ok := strings.CutPrefix(f.Path, "metadata.labels[")
	return ok && IsReservedLabel(strings.TrimSuffix(key, "]"))
}
