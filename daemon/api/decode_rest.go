// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strings"
)

// restFaults are the faults that Validate finds in an object of which some
// fields could not be read, so that a person hears of all mistakes at once.
// found are the fields that could not be read. What may only follow from them
// is left out: faults at, above or below such a field, fields that are missing
// beside one, and faults that speak of one.
func restFaults(o Object, t *tree, namespaced bool, found []placedFault) []placedFault {
	o = Clone(o)
	if m := o.Metadata(); namespaced && m.Namespace == "" {
		m.Namespace = "default" // may be said elsewhere
	}
	o.Default()
	var rest []placedFault
	for _, f := range Faults(o.Validate()) {
		if slices.ContainsFunc(found, func(d placedFault) bool { return mayFollow(f, d.FieldError, t) }) {
			continue
		}
		rest = append(rest, placedFault{f, t.find(f.Path)})
	}
	return rest
}

// mayFollow reports whether fault f of an object may be there only because a
// field of it could not be read, which is what cause says.
func mayFollow(f, cause *FieldError, t *tree) bool {
	if within(f.Path, cause.Path) || within(cause.Path, f.Path) {
		return true
	}
	dir, name := parentPath(cause.Path)
	if above, _ := parentPath(f.Path); above == dir && !t.has(f.Path) {
		return true
	}
	meant := ""
	if _, after, ok := strings.Cut(cause.Fix, `did you mean "`); ok {
		meant, _, _ = strings.Cut(after, `"`)
	}
	if meant != "" && within(f.Path, join(dir, meant)) {
		return true
	}
	text := f.text()
	return mentions(text, name) || mentions(text, meant)
}

// within reports whether path is outer or below it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || outer == "" || rest[0] == '.' || rest[0] == '[')
}

// parentPath cuts the last field's name off a path; indexes and keys stay
// with the name before them.
func parentPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '.'); i >= 0 && !strings.HasSuffix(path, "]") {
		return path[:i], path[i+1:]
	}
	if i := strings.LastIndexByte(path, '['); i >= 0 {
		return path[:i], ""
	}
	return "", path
}

// has reports whether the tree has what a path names.
func (t *tree) has(path string) bool {
	dir, name := parentPath(path)
	if name == "" {
		return true // an element: it was named because it is there
	}
	at := t
	for part := range strings.SplitSeq(dir, ".") {
		field, index, _ := strings.Cut(part, "[")
		if field == "" {
			break
		}
		if at = at.get(field); at == nil {
			return false
		}
		for index != "" {
			var one string
			one, index, _ = strings.Cut(strings.TrimPrefix(index, "["), "]")
			if at = at.element(one); at == nil {
				return false
			}
		}
	}
	return at.get(name) != nil
}

// element is an element of a list by its index as text, or nil.
func (t *tree) element(index string) *tree {
	n := 0
	for _, c := range index {
		if c < '0' || c > '9' || n > len(t.list) {
			return nil
		}
		n = 10*n + int(c-'0')
	}
	if index == "" || n >= len(t.list) {
		return nil
	}
	return &t.list[n]
}

// mentions reports whether text has word as a whole word.
func mentions(text, word string) bool {
	return word != "" && slices.Contains(strings.FieldsFunc(text, func(r rune) bool {
		return r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z'
	}), word)
}
