// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"reflect"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// TestIsZero_KnowsEveryField: a condition that were forgotten there would be
// forgotten in compiled policy.
func TestIsZero_KnowsEveryField(t *testing.T) {
	if !isZero(&ruleset.Match{}) {
		t.Error("isZero of a match without conditions: false")
	}
	typ := reflect.TypeFor[ruleset.Match]()
	for i := range typ.NumField() {
		var m ruleset.Match
		switch f := reflect.ValueOf(&m).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		default:
			f.SetUint(1)
		}
		if isZero(&m) {
			t.Errorf("isZero of a match with %s: true", typ.Field(i).Name)
		}
	}
}
