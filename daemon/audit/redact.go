// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// Hidden stands in the log for what is not shown.
const Hidden = "***"

// lastApplied is where kubectl keeps a whole object as text, secrets and all.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// maxObject is how large an object may be to stand in a line in full.
const maxObject = 512 << 10

// Object is an object as the log shows it: without its managed fields, and
// with *** in every field of a secret type or with the tag `secret:"true"`. Of
// one that is too large, the log has digest and size.
func Object(o api.Object) json.RawMessage {
	if o == nil {
		return nil
	}
	if u, bad := o.(*api.Unreadable); bad {
		return encode(map[string]string{"kind": string(u.Key().Kind), "unreadable": u.Err.Error()})
	}
	c := api.Clone(o)
	m := c.Metadata()
	m.ManagedFields = nil
	if _, has := m.Annotations[lastApplied]; has {
		m.Annotations[lastApplied] = Hidden
	}
	hide(reflect.ValueOf(c))
	data := encode(c)
	if len(data) > maxObject {
		return encode(map[string]any{"sha256": Hash(data), "size_bytes": len(data)})
	}
	return data
}

func encode(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(`"cannot be encoded"`)
	}
	return data
}

// hide overwrites the secrets in what v points to.
func hide(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			hide(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			hide(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			e := it.Value()
			if isSecret(e.Type()) {
				v.SetMapIndex(it.Key(), reflect.ValueOf(Hidden).Convert(e.Type()))
				continue
			}
			hide(e) // a struct by value cannot be changed in a map: api has none
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f, t := v.Field(i), v.Type().Field(i)
			if !t.IsExported() {
				continue
			}
			if (isSecret(t.Type) || t.Tag.Get("secret") == "true") && !f.IsZero() {
				cover(f)
				continue
			}
			hide(f)
		}
	default: // numbers, booleans, texts
	}
}

// cover puts *** in the place of a secret, or nothing where no text fits.
func cover(f reflect.Value) {
	switch f.Kind() {
	case reflect.String:
		f.SetString(Hidden)
	case reflect.Pointer:
		p := reflect.New(f.Type().Elem())
		cover(p.Elem())
		f.Set(p)
	default:
		f.SetZero()
	}
}

// isSecret reports whether a type is one that never shows: a text type whose
// name begins or ends with Secret.
func isSecret(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.String && t.Name() != "string" && (strings.HasPrefix(t.Name(), "Secret") || strings.HasSuffix(t.Name(), "Secret"))
}

// Secretive reports whether a kind has fields that the log does not show, so
// that messages which cite values of it are not shown either.
func Secretive(o api.Object) bool {
	return secretive(reflect.TypeOf(o), map[reflect.Type]bool{})
}

func secretive(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return isSecret(t.Elem()) || secretive(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.IsExported() && (isSecret(f.Type) || f.Tag.Get("secret") == "true" || secretive(f.Type, seen)) {
				return true
			}
		}
	default:
	}
	return false
}
