// SPDX-License-Identifier: Apache-2.0

package api

import "reflect"

// Clone is a copy of o that shares no memory with it that could be changed.
// Clone of nil is nil.
func Clone(o Object) Object {
	if o == nil {
		return nil
	}
	return deepCopy(reflect.ValueOf(o)).Interface().(Object)
}

// deepCopy copies v with all that it points to. Unexported fields (those of
// time.Time) are copied by value.
func deepCopy(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		c := reflect.New(v.Type().Elem())
		c.Elem().Set(deepCopy(v.Elem()))
		return c
	case reflect.Interface:
		if o, ok := v.Interface().(Object); ok {
			return deepCopy(reflect.ValueOf(o))
		}
		return v // an error: not changed by anybody
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		if isFlat(v.Type().Elem()) {
			reflect.Copy(c, v)
			return c
		}
		for i := range v.Len() {
			c.Index(i).Set(deepCopy(v.Index(i)))
		}
		return c
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeMapWithSize(v.Type(), v.Len())
		for it := v.MapRange(); it.Next(); {
			c.SetMapIndex(it.Key(), deepCopy(it.Value()))
		}
		return c
	case reflect.Struct:
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !isFlat(f.Type) {
				c.Field(i).Set(deepCopy(v.Field(i)))
			}
		}
		return c
	}
	return v
}

// isFlat reports whether copying a value of t by assignment is enough.
func isFlat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return false
	case reflect.Struct:
		return t == reflect.TypeFor[Time]()
	}
	return true
}
