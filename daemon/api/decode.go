// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Document is one object of a file with its place.
type Document struct {
	Object Object
	// Source names the file, as given to DecodeAll.
	Source string
	// Line is where the object begins, from 1.
	Line int

	tree tree
	// line turns a position in tree into a line number.
	line func(pos int) int
}

// JSON is the document as it was written, as compact JSON: an object in a list
// without the kind that the list says.
func (d Document) JSON() []byte { return d.tree.appendJSON(nil) }

// Decode reads one object as JSON. It is strict: every unknown field, every
// field that is there twice and every value of the wrong type is a fault, and
// all faults are reported, each a *FieldError. The object is neither
// defaulted nor validated.
func Decode(data []byte) (Object, error) {
	t, err := parseJSON(data)
	if err != nil {
		return nil, &FieldError{Message: placed(err, lineCounter(data)).Error()}
	}
	o, found := decodeTree(&t, "", "", nil)
	var all faults
	for _, f := range found {
		all = append(all, f.FieldError)
	}
	if err := all.err(); err != nil {
		return nil, err
	}
	return o, nil
}

// DecodeLenient is Decode for writers that ask for leniency: fields that are
// unknown are left out, of fields that are there twice the last counts, and
// skipped tells of them. What says which packets may pass, the spec of a
// policy, profile, set, tier or endpoint, is read as strictly as ever: a rule
// without one of its matches would be another rule.
func DecodeLenient(data []byte) (o Object, skipped []*FieldError, err error) {
	t, err := parseJSON(data)
	if err != nil {
		return nil, nil, &FieldError{Message: placed(err, lineCounter(data)).Error()}
	}
	var left []placedFault
	o, found := decodeTree(&t, "", "", &left)
	slices.SortStableFunc(left, func(a, b placedFault) int { return cmp.Compare(a.pos, b.pos) })
	for _, f := range left {
		skipped = append(skipped, f.FieldError)
	}
	var all faults
	for _, f := range found {
		all = append(all, f.FieldError)
	}
	if err := all.err(); err != nil {
		return nil, nil, err
	}
	return o, skipped, nil
}

// ToJSON is one document of YAML or JSON as compact JSON, with the members of
// objects as they were written. Positions in errors are lines.
func ToJSON(data []byte) ([]byte, error) {
	if c := firstByte(data); c == '{' || c == '[' {
		t, err := parseJSON(data)
		if err == nil {
			return t.appendJSON(nil), nil
		}
		if len(data) > MaxDocumentBytes || !looksLikeYAML(data) {
			return nil, &FieldError{Message: placed(err, lineCounter(data)).Error()}
		}
	}
	var one *tree
	for _, part := range splitYAML(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		docs, err := parseYAML(part.text, part.line)
		if err != nil {
			return nil, &FieldError{Message: placed(err, func(line int) int { return line }).Error()}
		}
		for i := range docs {
			switch {
			case docs[i].kind == treeNull:
			case one != nil:
				return nil, &FieldError{Message: "more than one document"}
			default:
				one = &docs[i]
			}
		}
	}
	if one == nil {
		return nil, &FieldError{Message: "no document"}
	}
	return one.appendJSON(nil), nil
}

// placed is a syntax error with its line.
func placed(err error, line func(int) int) error {
	var se *syntaxError
	if errors.As(err, &se) {
		return fmt.Errorf("line %d: %s", line(se.pos), se.text)
	}
	return err
}

// lineCounter turns byte offsets into line numbers.
func lineCounter(data []byte) func(int) int {
	return func(pos int) int { return 1 + bytes.Count(data[:min(pos, len(data))], []byte("\n")) }
}

// DecodeAll reads every object in data: YAML documents, JSON, lists of kind
// "List" or "<Kind>List", bare arrays. It is as strict as Decode. All faults
// of all documents are reported, each a *DocumentError that says source and
// line, in order of lines within a document. Documents without fault are
// returned with the error, so that they can be checked further. Empty
// documents are skipped, so that there may be none. source names data in
// errors.
//
// Scalars are read as YAML 1.1: yes, no, on, off, y, n without quotes are
// booleans, and where a string is expected become "true" and "false".
func DecodeAll(data []byte, source string) ([]Document, error) {
	d := decoder{source: source}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if c := firstByte(data); c == '{' || c == '[' {
		t, err := parseJSON(data)
		if err == nil {
			d.line = lineCounter(data)
			d.document(&t, "", "")
			return d.result()
		}
		if len(data) > MaxDocumentBytes || !looksLikeYAML(data) {
			d.line = lineCounter(data)
			d.syntax(err)
			return d.result()
		}
	}
	d.line = func(pos int) int { return pos }
	for _, part := range splitYAML(data) {
		docs, err := parseYAML(part.text, part.line)
		for i := range docs {
			d.document(&docs[i], "", "")
		}
		if err != nil {
			d.syntax(err)
		}
	}
	return d.result()
}

// firstByte is the first byte that is not white space, or 0.
func firstByte(data []byte) byte {
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) > 0 {
		return t[0]
	}
	return 0
}

// looksLikeYAML reports whether data that begins like JSON, and is none, is
// YAML in flow style, or more than one document.
func looksLikeYAML(data []byte) bool {
	for _, part := range splitYAML(data) {
		if _, err := parseYAML(part.text, 1); err != nil {
			return false
		}
	}
	return true
}

// yamlPart is the text of one YAML document and the line it begins on.
type yamlPart struct {
	text []byte
	line int
}

// splitYAML cuts data before each line that begins a document, so that a
// fault in one does not hide the others.
func splitYAML(data []byte) []yamlPart {
	var parts []yamlPart
	start, first, line := 0, 1, 0
	content := false // something other than blank lines, comments, directives
	for pos := 0; pos < len(data); {
		end := bytes.IndexByte(data[pos:], '\n') + pos + 1
		if end <= pos {
			end = len(data)
		}
		line++
		text := strings.TrimRight(string(data[pos:min(end, pos+5)]), "\r\n")
		begins := text == "---" || strings.HasPrefix(text, "--- ") || strings.HasPrefix(text, "---\t")
		if begins && content {
			parts = append(parts, yamlPart{data[start:pos], first})
			start, first = pos, line
		}
		if c := firstByte(data[pos:end]); begins || c != 0 && c != '#' && c != '%' {
			content = true
		}
		pos = end
	}
	return append(parts, yamlPart{data[start:], first})
}

// decoder collects the objects and faults of one file.
type decoder struct {
	source string
	line   func(int) int
	docs   []Document
	errs   []error
}

func (d *decoder) result() ([]Document, error) { return d.docs, errors.Join(d.errs...) }

func (d *decoder) syntax(err error) {
	var se *syntaxError
	if errors.As(err, &se) {
		err = &DocumentError{Source: d.source, Line: d.line(se.pos), Err: &FieldError{Message: se.text}}
	}
	d.errs = append(d.errs, err)
}

// document decodes one document: an object, a list of them, or nothing. kind
// and version are what an object in a list has if it does not say.
func (d *decoder) document(t *tree, kind Kind, version string) {
	switch {
	case t.kind == treeNull:
		return
	case t.kind == treeList:
		for i := range t.list {
			d.document(&t.list[i], kind, version)
		}
		return
	case t.kind == treeObject && t.get("items") != nil:
		if k, ok := strings.CutSuffix(textOf(t.get("kind")), "List"); ok {
			d.list(t, Kind(k))
			return
		}
	}
	o, found := decodeTree(t, kind, version, nil)
	if len(found) > 0 {
		slices.SortStableFunc(found, func(a, b placedFault) int { return cmp.Compare(a.pos, b.pos) })
		for _, f := range found {
			d.errs = append(d.errs, &DocumentError{d.source, d.line(f.pos), nameOf(t, kind), f.FieldError})
		}
		return
	}
	d.docs = append(d.docs, Document{Object: o, Source: d.source, Line: d.line(t.pos), tree: *t, line: d.line})
}

// list decodes a List or <Kind>List.
func (d *decoder) list(t *tree, kind Kind) {
	version := textOf(t.get("apiVersion"))
	report := func(pos int, path, message, fix string) {
		d.errs = append(d.errs, &DocumentError{d.source, d.line(pos), string(kind) + "List", &FieldError{Path: path, Message: message, Fix: fix}})
	}
	if _, known := DescriptorOf(kind); kind != "" && !known {
		report(t.pos, "kind", "unknown kind "+quoted(string(kind)+"List"), "")
		return
	}
	seen := map[string]bool{}
	for i := range t.members {
		m := &t.members[i]
		switch m.name {
		case "kind", "apiVersion", "metadata", "items":
		default:
			report(m.pos, m.name, unknownField, didYouMean(m.name, []string{"kind", "apiVersion", "metadata", "items"}))
		}
		if seen[m.name] {
			report(m.pos, m.name, "there more than once", "")
		}
		seen[m.name] = true
	}
	items := t.get("items")
	if kind == "" {
		version = ""
	}
	switch items.kind {
	case treeList:
		d.document(items, kind, version)
	case treeNull:
	default:
		report(items.pos, "items", "expected a list, found "+items.kind.String(), "")
	}
}

// textOf is the text of a string, or "".
func textOf(t *tree) string {
	if t == nil || t.kind != treeString {
		return ""
	}
	return t.text
}

// nameOf names an object that may not be readable: "Tier(sec)". kind is its
// kind if it does not say.
func nameOf(t *tree, kind Kind) string {
	k := Key{Kind: kind}
	if t.get("kind") != nil {
		k.Kind = Kind(textOf(t.get("kind")))
	}
	if m := t.get("metadata"); m != nil {
		k.Name, k.Namespace = textOf(m.get("name")), textOf(m.get("namespace"))
	}
	if k.Kind == "" && k.Name == "" {
		return ""
	}
	return k.String()
}

// decodeTree turns a tree into the object it says it is. Where skipped is not
// nil it takes what DecodeLenient may leave out.
func decodeTree(t *tree, kind Kind, version string, skipped *[]placedFault) (Object, []placedFault) {
	a := assigner{strict: skipped == nil}
	if t.kind != treeObject {
		a.fault(t.pos, t.sample(), "expected an object with kind and apiVersion, found "+t.kind.String(), "")
		return nil, a.faults
	}
	duplicates(t, "", func(pos int, path string) {
		twice := placedFault{&FieldError{Path: path, Message: "there more than once"}, pos}
		if skipped != nil && !(inSpec(path) && enforced(Kind(textOf(t.get("kind"))))) {
			*skipped = append(*skipped, twice)
			return
		}
		a.faults = append(a.faults, twice)
	})
	head := func(name, missing string) string {
		v := t.get(name)
		if s := textOf(v); s != "" {
			return s
		}
		if missing != "" && v == nil {
			return missing
		}
		pos := t.pos
		if v != nil {
			pos = v.pos
		}
		a.path = append(a.path, step{name: name})
		a.fault(pos, "", "missing", "")
		a.path = a.path[:0]
		return ""
	}
	kind = Kind(head("kind", string(kind)))
	version = head("apiVersion", version)
	if kind == "" {
		return nil, a.faults
	}
	d, ok := DescriptorOf(kind)
	if !ok {
		a.path = append(a.path, step{name: "kind"})
		a.fault(t.find("kind"), quoted(string(kind)), "unknown kind", didYouMean(string(kind), kindNames()))
		return nil, a.faults
	}
	if version != "" && version != d.APIVersion() {
		a.path = append(a.path, step{name: "apiVersion"})
		a.fault(t.find("apiVersion"), quoted(version), string(kind)+" is in another group or version", "write "+quoted(d.APIVersion()))
		a.path = a.path[:0]
	}
	a.kind, a.strictSpec = kind, skipped != nil && enforced(kind)
	o := d.New()
	if PolicySpecOf(o) != nil && t.get("spec") == nil {
		// Without a selector a policy selects everything: say so.
		a.faults = append(a.faults, placedFault{&FieldError{Path: "spec", Message: "missing", Fix: "a policy without selector selects everything; write spec: {} if that is meant"}, t.pos})
	}
	a.assign(reflect.ValueOf(o).Elem(), t)
	if skipped != nil {
		*skipped = append(*skipped, a.skipped...)
	}
	if len(a.faults) > 0 {
		return nil, append(a.faults, restFaults(o, t, d.Namespaced, a.faults)...)
	}
	*typeOf(o) = TypeMeta{Kind: kind, APIVersion: d.APIVersion()}
	return o, nil
}

// typeOf is the object's own TypeMeta.
func typeOf(o Object) *TypeMeta {
	return reflect.ValueOf(o).Elem().FieldByName("TypeMeta").Addr().Interface().(*TypeMeta)
}

// Locate gives the faults of the document's object, as its Validate reports
// them, their place in the file: each becomes a *DocumentError.
func (d Document) Locate(err error) error {
	if err == nil {
		return nil
	}
	found := Faults(err)
	if len(found) == 0 {
		return &DocumentError{d.Source, d.Line, d.Object.Key().String(), err}
	}
	errs := make([]error, len(found))
	for i, f := range found {
		errs[i] = &DocumentError{d.Source, d.line(d.tree.find(f.Path)), d.Object.Key().String(), f}
	}
	slices.SortStableFunc(errs, func(a, b error) int {
		return cmp.Compare(a.(*DocumentError).Line, b.(*DocumentError).Line)
	})
	return errors.Join(errs...)
}

// Check reports what is wrong with the document's object as it would be after
// Default, with the place of every fault. The object is not changed.
func (d Document) Check() error {
	o := Clone(d.Object)
	o.Default()
	return d.Locate(o.Validate())
}
