// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

// sample reads the good sample of a kind.
func sample(t testing.TB, kind Kind) Object {
	t.Helper()
	path := filepath.Join("testdata", strings.ToLower(string(kind))+".yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := DecodeAll(data, path)
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 1 {
		t.Fatalf("DecodeAll(%s): got %d documents, want 1", path, len(docs))
	}
	return docs[0].Object
}

func TestDecodeAll_SampleOfEveryKind(t *testing.T) {
	for _, d := range Kinds() {
		t.Run(string(d.Kind), func(t *testing.T) {
			o := sample(t, d.Kind)
			if o.Key().Kind != d.Kind {
				t.Fatalf("kind: got %s, want %s", o.Key().Kind, d.Kind)
			}
			o.Default()
			if err := o.Validate(); err != nil {
				t.Fatalf("Validate: %v", err)
			}
			again := Clone(o)
			again.Default()
			if diff := cmp.Diff(o, again); diff != "" {
				t.Errorf("Default twice differs from once (-once +twice):\n%s", diff)
			}
			data, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Decode(data)
			if err != nil {
				t.Fatalf("Decode of what was encoded: %v\n%s", err, data)
			}
			if diff := cmp.Diff(o, back); diff != "" {
				t.Errorf("encode and decode (-before +after):\n%s", diff)
			}
			stored, err := EncodeStored(o)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.ContainsAny(stored, "\n") {
				t.Errorf("EncodeStored: more than one line: %s", stored)
			}
			got := DecodeStored(o.Key(), stored, 0)
			if diff := cmp.Diff(o, got); diff != "" {
				t.Errorf("store and read (-before +after):\n%s", diff)
			}
		})
	}
}

// TestDecodeAll_Bad compares the exact error text of hand-made bad documents
// with what is beside them.
func TestDecodeAll_Bad(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(paths) < 50 {
		t.Fatalf("got %d bad documents, %v, want at least 50", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			docs, err := DecodeAll(data, name+".yaml")
			errs := []error{err}
			for _, d := range docs {
				errs = append(errs, d.Check())
			}
			err = errors.Join(errs...)
			if err == nil {
				t.Fatalf("%s was accepted", path)
			}
			if len(Faults(err)) == 0 {
				t.Errorf("Faults(%v): got none", err)
			}
			golden := filepath.Join("testdata/bad", name+".golden")
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("error text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeAll_Forms(t *testing.T) {
	tier := func(name string) string {
		return "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata:\n  name: " + name + "\n"
	}
	tests := []struct {
		name, text string
		want       []string // "line:key"
	}{
		{"nothing", "", nil},
		{"comments only", "# a\n---\n# b\n---\n\n", nil},
		{"one", tier("a"), []string{"1:Tier(a)"}},
		{"marker first", "---\n" + tier("a") + "---\n" + tier("b"), []string{"2:Tier(a)", "7:Tier(b)"}},
		{"directive", "%YAML 1.1\n---\n" + tier("a"), []string{"3:Tier(a)"}},
		{"comment before marker", "# hello\n---\n" + tier("a"), []string{"3:Tier(a)"}},
		{"end marker", tier("a") + "...\n---\n" + tier("b"), []string{"1:Tier(a)", "7:Tier(b)"}},
		{"CRLF", strings.ReplaceAll("---\n"+tier("a")+"---\n"+tier("b"), "\n", "\r\n"), []string{"2:Tier(a)", "7:Tier(b)"}},
		{"byte order mark", "\ufeff" + tier("a"), []string{"1:Tier(a)"}},
		{"JSON", "\n{\"apiVersion\":\"projectcalico.org/v3\",\n\"kind\":\"Tier\",\"metadata\":{\"name\":\"a\"}}", []string{"2:Tier(a)"}},
		{"JSON array", `[{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"a"}},` + "\n" + `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"b"}}]`, []string{"1:Tier(a)", "2:Tier(b)"}},
		{"flow YAML", "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}", []string{"1:Tier(a)"}},
		{"two in flow YAML", "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}\n---\n{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: b}}", []string{"1:Tier(a)", "3:Tier(b)"}},
		{"List", "kind: List\napiVersion: v1\nitems:\n- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}\n", []string{"4:Tier(a)"}},
		{"TierList of bare items", "kind: TierList\napiVersion: projectcalico.org/v3\nmetadata: {}\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n", []string{"5:Tier(a)", "6:Tier(b)"}},
		{"empty TierList", "kind: TierList\napiVersion: projectcalico.org/v3\nitems: []\n", nil},
		{"YAML array", "- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}\n", []string{"1:Tier(a)"}},
		{"anchors", "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: &n a, labels: {x: *n}}\n", []string{"1:Tier(a)"}},
		{"fields of Kubernetes that mean nothing", tier("a") + "  selfLink: /x\n  deletionTimestamp: null\n  managedFields: [{manager: kubectl}]\n", []string{"1:Tier(a)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			docs, err := DecodeAll([]byte(tt.text), "f")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range docs {
				if d.Source != "f" {
					t.Errorf("Source: got %q, want f", d.Source)
				}
				got = append(got, fmt.Sprintf("%d:%s", d.Line, d.Object.Key()))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("documents (-want +got):\n%s", diff)
			}
		})
	}
}

// Where a string is expected, YAML 1.1's booleans become strings, and numbers
// that are written as they are printed too.
func TestDecodeAll_PlainScalarsAsStrings(t *testing.T) {
	text := "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata:\n  name: t\n  labels:\n" +
		"    a: y\n    b: no\n    c: Off\n    d: 12\n    e: 'y'\n    f: \"no\"\n    g: !!str on\n    h: 2026-11-20\n    n: x\n"
	docs, err := DecodeAll([]byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "true", "b": "false", "c": "false", "d": "12", "e": "y", "f": "no", "g": "on", "h": "2026-11-20", "false": "x"}
	if diff := cmp.Diff(want, docs[0].Object.Metadata().Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestDecode_JSONHasNoPlainScalars(t *testing.T) {
	_, err := Decode([]byte(`{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":true,"labels":{"a":1}}}`))
	want := "metadata.name: true: expected a string, found a boolean; put it in quotes\n" +
		"metadata.labels[a]: 1: expected a string, found a number; put it in quotes"
	if err == nil || err.Error() != want {
		t.Errorf("Decode: got %v, want %s", err, want)
	}
}

func TestDecode_Limits(t *testing.T) {
	deep := func(n int) []byte {
		return []byte(`{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"t","managedFields":` +
			strings.Repeat("[", n) + strings.Repeat("]", n) + `}}`)
	}
	if _, err := Decode(deep(MaxDepth - 2)); err != nil {
		t.Errorf("Decode at the limit of depth: %v", err)
	}
	if _, err := Decode(deep(MaxDepth - 1)); err == nil || !strings.Contains(err.Error(), "nested deeper than 32") {
		t.Errorf("Decode beyond the limit of depth: got %v", err)
	}
	long := bytes.Repeat([]byte(" "), MaxDocumentBytes+1)
	if _, err := Decode(long); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Decode of %d bytes: got %v", len(long), err)
	}
	copy(long, "kind: x\n")
	if _, err := DecodeAll(long, "f"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("DecodeAll of %d bytes: got %v", len(long), err)
	}
}

// Every alias doubles the document: it must be refused early.
func TestDecodeAll_AliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 28; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	_, err := DecodeAll([]byte(b.String()), "bomb.yaml")
	if err == nil || !strings.Contains(err.Error(), "too many nodes") {
		t.Errorf("DecodeAll: got %v, want too many nodes", err)
	}
}

func TestDocument_LocateFindsTheLine(t *testing.T) {
	text := "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: p\n  labels:\n    a.b/c: d\nspec:\n" +
		"  ingress:\n    - action: Allow\n      source:\n        nets:\n          - 10.0.0.0/8\n          - 10.0.0.1/8\n"
	docs, err := DecodeAll([]byte(text), "f")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"spec.ingress[0].source.nets[1]":  13,
		"spec.ingress[0].source.notNets":  10,
		"spec.ingress[0].destination":     9,
		"spec.ingress[7]":                 8,
		"metadata.labels[a.b/c]":          6,
		"metadata.namespace":              3,
		"spec.selector":                   7,
		"":                                1,
		"nowhere":                         1,
		"spec.ingress[0].source.nets[1]x": 13,
	} {
		var de *DocumentError
		if !errors.As(docs[0].Locate(&FieldError{Path: path, Message: "x"}), &de) || de.Line != want {
			t.Errorf("Locate(%q): got line %d, want %d", path, de.Line, want)
		}
	}
	if docs[0].Locate(nil) != nil {
		t.Error("Locate(nil): got an error")
	}
}

// TestParseJSON_AgreesWithLibrary: parsing and printing gives what the
// standard library prints.
func TestParseJSON_AgreesWithLibrary(t *testing.T) {
	for _, s := range []string{
		`{}`, `[]`, ` [ ] `, `{"a":[1,-2.5e3,true,false,null,"x\"\\\u00e9\n"],"b":{"c":{}}}`, `"\ud83d\ude00"`, `0`,
		"[\n1 , 2\t]", `{"":"","a b":[[],[[]]]}`,
	} {
		tr, err := parseJSON([]byte(s))
		if err != nil {
			t.Errorf("parseJSON(%s): %v", s, err)
			continue
		}
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(s)); err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(tr.appendJSON(nil), &a); err != nil {
			t.Fatalf("parseJSON(%s) printed: %v", s, err)
		}
		if err := json.Unmarshal(want.Bytes(), &b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, a); diff != "" {
			t.Errorf("parseJSON(%s) (-want +got):\n%s", s, diff)
		}
	}
}

func TestDecodeLenient_LeavesOutOnlyWhatHarmsNobody(t *testing.T) {
	const policy = `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"p"%s},"spec":{"selector":"all()"%s}%s}`
	for _, c := range []struct {
		name, doc string
		skipped   []string
		fault     string
	}{
		{"nothing unknown", fmt.Sprintf(policy, "", "", ""), nil, ""},
		{"unknown in metadata", fmt.Sprintf(policy, `,"colour":"red"`, "", ""), []string{"metadata.colour: unknown field"}, ""},
		{"unknown at the top", fmt.Sprintf(policy, "", "", `,"extra":1`), []string{"extra: unknown field"}, ""},
		{"twice in metadata", fmt.Sprintf(policy, `,"name":"p"`, "", ""), []string{"metadata.name: there more than once"}, ""},
		{"what clients send back", fmt.Sprintf(policy, `,"selfLink":"/x"`, "", ""), nil, ""},
		{"unknown in an enforced spec", fmt.Sprintf(policy, "", `,"selectr":"x"`, ""), nil, "spec.selectr: unknown field"},
		{"twice in an enforced spec", fmt.Sprintf(policy, "", `,"selector":"x"`, ""), nil, "spec.selector: there more than once"},
		{"unknown deep in an enforced spec", fmt.Sprintf(policy, "", `,"ingress":[{"action":"Allow","sources":{}}]`, ""), nil, "spec.ingress[0].sources: unknown field"},
		{"a wrong type", fmt.Sprintf(policy, `,"labels":1`, "", ""), nil, "metadata.labels: "},
		{"unknown in a spec that is not enforced", `{"apiVersion":"projectcalico.org/v3","kind":"Node","metadata":{"name":"n"},"spec":{"x":{"y":1}}}`, []string{"spec.x: unknown field"}, ""},
		{"no document", `{`, nil, "not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, skipped, err := DecodeLenient([]byte(c.doc))
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("DecodeLenient: %v, want %q", err, c.fault)
				}
				return
			}
			if err != nil || o == nil {
				t.Fatalf("DecodeLenient: %v", err)
			}
			if len(skipped) != len(c.skipped) {
				t.Fatalf("skipped %v, want %v", skipped, c.skipped)
			}
			for i, s := range skipped {
				if !strings.HasPrefix(s.Error(), c.skipped[i]) {
					t.Errorf("skipped %v, want %v", skipped, c.skipped)
				}
			}
		})
	}
}

func TestToJSON(t *testing.T) {
	for _, c := range []struct{ in, want, fault string }{
		{"a: 1\nb: [x, \"2\", true]\n", `{"a":1,"b":["x","2",true]}`, ""},
		{`{"a": {"b": null}}`, `{"a":{"b":null}}`, ""},
		{"---\n# nothing\n---\na: 1\n", `{"a":1}`, ""},
		{"a: 1\n---\nb: 2\n", "", "more than one document"},
		{"", "", "no document"},
		{"a: [\n", "", "line "},
		{`{"a": 1]`, "", "line 1"},
	} {
		got, err := ToJSON([]byte(c.in))
		switch {
		case c.fault == "" && (err != nil || string(got) != c.want):
			t.Errorf("ToJSON(%q): %s, %v, want %s", c.in, got, err, c.want)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("ToJSON(%q): %s, %v, want %q", c.in, got, err, c.fault)
		}
	}
}
