// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"reflect"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// shrink makes a failing picture as small as it can: it drops objects, rules
// and fields as long as the picture still fails.
func shrink(objs []api.Object, fails func([]api.Object) bool) []api.Object {
	for again := true; again; {
		again = false
		for i := 0; i < len(objs); i++ {
			without := slices.Delete(slices.Clone(objs), i, i+1)
			if fails(without) {
				objs, again = without, true
				i--
				continue
			}
			for {
				smaller, ok := shrinkOne(objs, i, fails)
				if !ok {
					break
				}
				objs, again = smaller, true
			}
		}
	}
	return objs
}

// shrinkOne tries every way to take one thing out of object i.
func shrinkOne(objs []api.Object, i int, fails func([]api.Object) bool) ([]api.Object, bool) {
	valid := objs[i].Validate() == nil // else it need not become so
	for n := 0; ; n++ {
		c := api.Clone(objs[i])
		left := n
		if !cut(reflect.ValueOf(c).Elem().FieldByName("Spec"), &left) {
			return nil, false
		}
		next := slices.Clone(objs)
		next[i] = c
		if (!valid || c.Validate() == nil) && fails(next) {
			return next, true
		}
	}
}

// cut takes the nth thing that can be taken out of v: a list's element, a
// pointer, a non-zero string or number. It reports whether there was an nth.
func cut(v reflect.Value, n *int) bool {
	zero := func() bool {
		if v.IsZero() {
			return false
		}
		if *n == 0 {
			v.SetZero()
			return true
		}
		*n--
		return false
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && cut(v.Field(i), n) {
				return true
			}
		}
		return false
	case reflect.Slice:
		for i := range v.Len() {
			if *n == 0 {
				v.Set(reflect.AppendSlice(v.Slice(0, i), v.Slice(i+1, v.Len())))
				return true
			}
			*n--
		}
		for i := range v.Len() {
			if cut(v.Index(i), n) {
				return true
			}
		}
		return false
	case reflect.Pointer:
		if zero() {
			return true
		}
		return !v.IsNil() && cut(v.Elem(), n)
	case reflect.String, reflect.Map, reflect.Bool:
		return zero()
	}
	return false
}
