// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ripstop/ripstop/daemon/selector"
)

// checkSelector checks a label selector; empty is right. global() is right
// only where it may stand, and there only alone.
func checkSelector(f *faults, path, text string, mayBeGlobal bool) {
	if text == "" {
		return
	}
	if strings.TrimSpace(text) == "" {
		f.add(path, quoted(text), "blank selector", "leave it out, or write \"all()\"").soft = true
		return
	}
	s, err := selector.Parse(text)
	if err != nil {
		message := err.Error()
		var se *selector.SyntaxError
		if errors.As(err, &se) {
			message = fmt.Sprintf("character %d: %s", utf8.RuneCountInString(text[:min(se.Offset, len(text))])+1, se.Message)
		}
		f.add(path, quoted(text), message, "")
		return
	}
	if !s.UsesGlobal() {
		return
	}
	switch {
	case !mayBeGlobal:
		f.add(path, quoted(text), "global() may only be used in a rule's namespaceSelector", "")
	case s.String() != "global()":
		f.add(path, quoted(text), "global() must stand alone", "")
	}
}
