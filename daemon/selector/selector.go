// SPDX-License-Identifier: Apache-2.0

// Package selector parses, prints and evaluates Calico's label selectors.
//
// A selector is a condition on a map of labels, such as
//
//	role == 'web' && (env in {'prod', 'stage'} || !has(env))
//
// [Parse] reads the whole grammar, [Selector.String] writes it back in one
// canonical form (reading that again gives the same selector), and
// [Selector.Evaluate] decides without allocating. [And], [Not], [Equal], [Has],
// [In], [Selector.PrefixLabels] and [Selector.Replace] build the flat selectors
// that policies of namespaces and service accounts turn into. [Selector.Restrictions]
// tells an index where to look for what may match.
//
// It is not Kubernetes' label selector (matchLabels, matchExpressions), knows
// nothing of kinds or namespaces, and does not keep track of what matches: that
// is calc/index. It is used by api (validation), policy, calc and the CLI.
package selector

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
)

// Labels is what a selector is evaluated against.
type Labels interface {
	// Get is the label's value and whether the label is there.
	Get(key string) (value string, ok bool)
}

// Map is a plain map of labels.
type Map map[string]string

// Get looks the label up.
func (m Map) Get(key string) (string, bool) { v, ok := m[key]; return v, ok }

// Limits of Parse. They bound time, memory and stack for hostile input; real
// selectors are far below them.
const (
	// MaxLength is the longest text in bytes, both as written and in
	// canonical form.
	MaxLength = 1 << 20
	// MaxDepth is the deepest nesting of parentheses as written, and of &&
	// inside || inside && (and so on) in what they mean.
	MaxDepth = 200
	// MaxLabelLength is the longest label name in characters.
	MaxLabelLength = 512
)

// Selector is a condition on labels. It is made by Parse or one of the
// constructors (the zero value is not a selector), never changes, and is safe
// for concurrent use.
type Selector struct {
	root *node
	text string
}

// Parse reads a selector. An empty or blank text selects everything, like
// all(). The error is always a *SyntaxError.
func Parse(s string) (*Selector, error) {
	root, err := parse(s)
	if err != nil {
		return nil, err
	}
	sel := newSelector(root)
	if len(sel.text) > MaxLength {
		return nil, &SyntaxError{Input: s, Message: tooLong(len(sel.text))}
	}
	return sel, nil
}

func newSelector(root *node) *Selector {
	return &Selector{root: root, text: string(root.append(nil))}
}

// String is the canonical text: && and || groups parenthesised as a whole,
// single spaces around operators, values in double quotes (in single quotes if
// they contain a double quote), set members sorted and without duplicates,
// double negation removed. Selectors with equal texts match the same labels.
func (s *Selector) String() string { return s.text }

// Equal says whether both have the same canonical text. Two nil selectors are
// equal.
func (s *Selector) Equal(o *Selector) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.text == o.text
}

// ID is a short stable name: "s" and 20 characters of [a-z2-7], made from the
// SHA-256 hash of the canonical text. It fits names of nftables and ipset.
func (s *Selector) ID() string {
	sum := sha256.Sum256([]byte(s.text))
	var b [1 + 24]byte
	b[0] = 's'
	idEncoding.Encode(b[1:], sum[:15])
	return string(b[:1+20])
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Evaluate says whether the labels match. It does not allocate (unless Get
// does). global() is true here, like all(): whoever gives it another meaning
// does so with Replace before.
func (s *Selector) Evaluate(l Labels) bool { return s.root.eval(l) }

// UsesGlobal says whether global() occurs anywhere.
func (s *Selector) UsesGlobal() bool {
	found := false
	s.root.walk(func(n *node) { found = found || n.op == opGlobal })
	return found
}

// Labels lists the names of the labels that are asked for, sorted, each once.
func (s *Selector) Labels() []string {
	var names []string
	s.root.walk(func(n *node) {
		if n.op.hasLabel() {
			names = append(names, n.label)
		}
	})
	slices.Sort(names)
	return slices.Compact(names)
}
