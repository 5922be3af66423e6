// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func typeFor(v any) reflect.Type { return reflect.TypeOf(v) }

// equal compares objects; a list that is empty counts as one that is not
// there, since most are left out when they are empty.
var equal = cmp.FilterPath(func(p cmp.Path) bool {
	t := p.Last().Type()
	return t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && t != reflect.TypeFor[json.RawMessage]()
}, cmp.FilterValues(func(a, b any) bool {
	return reflect.ValueOf(a).Len() == 0 && reflect.ValueOf(b).Len() == 0
}, cmp.Ignore()))

func FuzzDecodeAll(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/bad/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte(`{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"t"},"spec":{"order":1e300},"status":{"conditions":[1]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, _ := DecodeAll(data, "f")
		for _, d := range docs {
			if d.Line < 1 {
				t.Fatalf("line %d", d.Line)
			}
			b, err := json.Marshal(d.Object)
			if err != nil {
				t.Fatalf("Marshal(%+v): %v", d.Object, err)
			}
			back, err := Decode(b)
			if err != nil {
				t.Fatalf("Decode of what was decoded and encoded: %v\n%s", err, b)
			}
			if diff := cmp.Diff(d.Object, back, equal); diff != "" {
				t.Fatalf("%s (-before +after):\n%s", b, diff)
			}
			once := Clone(d.Object)
			once.Default()
			twice := Clone(once)
			twice.Default()
			if diff := cmp.Diff(once, twice); diff != "" {
				t.Fatalf("Default twice (-once +twice):\n%s", diff)
			}
			// Locating faults must not panic; an object without faults is
			// read back from the store as it is.
			if d.Check() != nil {
				continue
			}
			value, err := EncodeStored(once)
			if err != nil {
				t.Fatal(err)
			}
			got := DecodeStored(once.Key(), value, 0)
			dropAnnotation(once.Metadata(), AnnotationMetadata)
			once.Metadata().ResourceVersion, once.Metadata().Generation, once.Metadata().ManagedFields = "", 0, nil
			if diff := cmp.Diff(once, got, equal); diff != "" {
				t.Fatalf("%s stored and read (-before +after):\n%s", value, diff)
			}
		}
	})
}

func FuzzDecodeStored(f *testing.F) {
	for i, d := range descriptors {
		o := sample(f, d.Kind)
		value, err := EncodeStored(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), o.Key().Namespace, o.Key().Name, value)
		f.Add(uint8(i), "", "x", value[:len(value)/2])
	}
	f.Add(uint8(8), "", "x", []byte(stored(KindGlobalNetworkPolicy, "x", `{"selector":"a","types":[null],"ingress":[{"actio":"Allow"}]}`)))
	f.Fuzz(func(t *testing.T, kind uint8, namespace, name string, value []byte) {
		d := descriptors[int(kind)%len(descriptors)]
		key := Key{d.Kind, namespace, name}
		switch o := DecodeStored(key, value, 5).(type) {
		case nil:
			t.Fatal("DecodeStored: got nil")
		case *Unreadable:
			if o.Err == nil || o.Key() != key {
				t.Fatalf("Unreadable: got key %s, error %v", o.Key(), o.Err)
			}
			if o.Salvaged != nil && storedFaults(o.Salvaged) != nil {
				t.Fatalf("Salvaged %+v is itself at fault: %v", o.Salvaged, storedFaults(o.Salvaged))
			}
		default:
			if found := storedFaults(o); found != nil {
				t.Fatalf("DecodeStored: got an object at fault: %v", found.err())
			}
			if o.Metadata().ResourceVersion != "5" {
				t.Fatalf("ResourceVersion: got %q, want 5", o.Metadata().ResourceVersion)
			}
			again, err := EncodeStored(o)
			if err != nil {
				t.Fatal(err)
			}
			if !utf8.ValidString(name + namespace) {
				return
			}
			back := DecodeStored(o.Key(), again, 5)
			if diff := cmp.Diff(o, back, equal); diff != "" {
				t.Fatalf("%s written and read again (-before +after):\n%s", again, diff)
			}
		}
	})
}

// FuzzParseJSON: our parser takes exactly what the standard library takes, up
// to its limits, and means the same.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[1,"a",null]`, `{"a":{"b":[true,-1e5]}}`, `"\ud800"`, `{"a":1,"a":2}`, ` 5 `, `[`, "\"\xff\"", `"\\"`, `[[],[[]]]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := parseJSON(data)
		if err != nil {
			return
		}
		var want, got any
		if err := json.Unmarshal(data, &want); err != nil {
			if _, isRange := err.(*json.UnmarshalTypeError); isRange {
				return // a number beyond float64
			}
			t.Fatalf("parseJSON(%q) takes what the library does not: %v", data, err)
		}
		if err := json.Unmarshal(tr.appendJSON(nil), &got); err != nil {
			t.Fatalf("parseJSON(%q) prints what is no JSON: %v", data, err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("parseJSON(%q): got %v, want %v", data, got, want)
		}
	})
}
