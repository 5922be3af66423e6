// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// nodeSelectorField is the one field of the spec that is no parameter.
const nodeSelectorField = "nodeSelector"

// Overlay lays a spec of higher precedence over s: every parameter that
// higher sets is set in s, the others stay. Lists are replaced as a whole;
// an empty list that is set replaces. NodeSelector is not touched. Values are
// shared with higher.
func (s *FelixConfigurationSpec) Overlay(higher *FelixConfigurationSpec) {
	to, from := reflect.ValueOf(s).Elem(), reflect.ValueOf(higher).Elem()
	for _, f := range felixFields() {
		if v := from.FieldByIndex(f.index); !v.IsZero() {
			to.FieldByIndex(f.index).Set(v)
		}
	}
}

// SetFields are the JSON names of the parameters that are set, in the order
// of documents. What Default writes into every object is among them; see
// ChangedFields.
func (s *FelixConfigurationSpec) SetFields() []string {
	var names []string
	v := reflect.ValueOf(s).Elem()
	for _, f := range felixFields() {
		if !v.FieldByIndex(f.index).IsZero() {
			names = append(names, f.name)
		}
	}
	return names
}

// ChangedFields are the JSON names of the parameters that are set to
// something else than their default.
func (s *FelixConfigurationSpec) ChangedFields() []string {
	var names []string
	v := reflect.ValueOf(s).Elem()
	for _, f := range felixFields() {
		value := v.FieldByIndex(f.index)
		if value.IsZero() {
			continue
		}
		p, ok := felixByYAML[f.name]
		if !ok || !strings.EqualFold(felixText(value), p.Default) {
			names = append(names, f.name)
		}
	}
	return names
}

// Unset clears the parameter of that JSON name; it reports whether there is
// such a parameter.
func (s *FelixConfigurationSpec) Unset(name string) bool {
	for _, f := range felixFields() {
		if f.name == name {
			reflect.ValueOf(s).Elem().FieldByIndex(f.index).SetZero()
			return true
		}
	}
	return false
}

// Overrides are the parameters that annotations of the object set, by the
// parameter's name: they win over the spec and are written as in Calico's
// configuration file (durations in seconds). They are not validated.
func (f *FelixConfiguration) Overrides() map[string]string {
	var overrides map[string]string
	for k, v := range f.Annotations {
		if name, ok := strings.CutPrefix(k, AnnotationConfigPrefix); ok && name != "" {
			if overrides == nil {
				overrides = map[string]string{}
			}
			overrides[name] = v
		}
	}
	return overrides
}

// DropInvalid clears every parameter with a fault, as Calico's agent does
// with a value that it cannot use, and returns the faults.
func (f *FelixConfiguration) DropInvalid() []*FieldError {
	var dropped []*FieldError
	for _, e := range Faults(f.Validate()) {
		name, ok := strings.CutPrefix(e.Path, "spec.")
		if !ok {
			continue
		}
		if end := strings.IndexAny(name, ".["); end >= 0 {
			name = name[:end]
		}
		if f.Spec.Unset(name) {
			dropped = append(dropped, e)
		}
	}
	return dropped
}

// felixFields are the fields of the spec that are parameters.
func felixFields() []field {
	all := fields[reflect.TypeFor[FelixConfigurationSpec]()]
	for i, f := range all {
		if f.name == nodeSelectorField {
			return append(all[:i:i], all[i+1:]...)
		}
	}
	return all
}

// felixByYAML finds a parameter by its JSON name.
var felixByYAML = func() map[string]FelixParameter {
	m := make(map[string]FelixParameter, len(felixParameters))
	for _, p := range felixParameters {
		if p.YAML != "" {
			m[p.YAML] = p
		}
	}
	return m
}()

// felixText prints a value as the table of parameters does.
func felixText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return x
	case *bool:
		return strconv.FormatBool(*x)
	case *int:
		return strconv.Itoa(*x)
	case *uint32:
		return fmt.Sprintf("%#x", *x)
	case *Duration:
		return x.String()
	case *Port:
		return x.String()
	case *DSCP:
		return strconv.Itoa(int(x.Number()))
	case *[]Port:
		return joined(*x, Port.String)
	case *[]ProtoPort:
		return joined(*x, ProtoPort.String)
	case *[]string:
		return strings.Join(*x, ",")
	}
	return fmt.Sprintf("%v", v.Interface())
}

func joined[T any](list []T, text func(T) string) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = text(e)
	}
	return strings.Join(parts, ",")
}

// String is "tcp:22" or "tcp:10.0.0.0/8:22"; an IPv6 net is in brackets.
func (p ProtoPort) String() string {
	s := strings.ToLower(p.Protocol) + ":"
	if strings.Contains(p.Net, ":") {
		s += "[" + p.Net + "]:"
	} else if p.Net != "" {
		s += p.Net + ":"
	}
	return s + strconv.Itoa(int(p.Port))
}
