// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// FieldError is one fault of one object.
type FieldError struct {
	// Path is the JSON path of the fault: spec.ingress[0].source.nets[1].
	// Keys of maps stand in brackets: metadata.labels[app]. Empty: the whole
	// document.
	Path string
	// Value is what was found there, as JSON, cut when long; may be empty.
	Value string
	// Message says what is wrong, Fix what to write instead (may be empty).
	Message, Fix string

	// soft: Calico accepts it and enforces the same; refused when written by
	// a user, not when read from the store.
	soft bool
}

// Error is "path: value: message; fix".
func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.text()
	}
	return e.Path + ": " + e.text()
}

// text is the error without its path.
func (e *FieldError) text() string {
	var b strings.Builder
	if e.Value != "" {
		b.WriteString(e.Value + ": ")
	}
	b.WriteString(e.Message)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// DocumentError is a fault with its place in a file. Line 0: not known;
// Object empty: the fault is not inside of an object.
type DocumentError struct {
	Source string
	Line   int
	Object string
	Err    error
}

// Error is "file:line: Kind(name): what".
func (e *DocumentError) Error() string {
	var b strings.Builder
	if e.Source != "" || e.Line > 0 {
		b.WriteString(e.Source)
		if e.Line > 0 {
			if e.Source == "" {
				b.WriteString("line ")
			} else {
				b.WriteByte(':')
			}
			b.WriteString(strconv.Itoa(e.Line))
		}
		b.WriteString(": ")
	}
	if e.Object != "" {
		b.WriteString(e.Object + ": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap is the fault without its place.
func (e *DocumentError) Unwrap() error { return e.Err }

// Faults are all FieldErrors in err, in order; err may be nil, joined and
// wrapped.
func Faults(err error) []*FieldError {
	if err == nil {
		return nil
	}
	if f, ok := err.(*FieldError); ok {
		return []*FieldError{f}
	}
	var all []*FieldError
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, Faults(one)...)
		}
	case interface{ Unwrap() error }:
		all = Faults(e.Unwrap())
	}
	return all
}

// faults collects what is wrong with an object.
type faults []*FieldError

func (f *faults) add(path, value, message, fix string) *FieldError {
	e := &FieldError{Path: path, Value: value, Message: message, Fix: fix}
	*f = append(*f, e)
	return e
}

// err is all faults joined, or nil.
func (f faults) err() error {
	errs := make([]error, len(f))
	for i, e := range f {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// quoted is s as a JSON string for an error text, cut when long.
func quoted(s string) string { return strconv.Quote(excerpt(s)) }

// at is the path of element i of a list.
func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// under is the path of key in the map path.
func under(path, key string) string { return path + "[" + excerpt(key) + "]" }

// repeated tells of each element of list whether it is there before. It is to
// be asked in order.
func repeated[T comparable](list []T) func(i int) bool {
	if len(list) <= 16 {
		return func(i int) bool { return slices.Contains(list[:i], list[i]) }
	}
	seen := make(map[T]bool, len(list))
	return func(i int) bool {
		was := seen[list[i]]
		seen[list[i]] = true
		return was
	}
}
