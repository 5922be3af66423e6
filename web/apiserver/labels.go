// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// labelSelector is a parsed labelSelector parameter: requirements that must
// all hold. The empty selector matches everything. This is Kubernetes' syntax
// for clients, not Calico's syntax inside policies (package selector).
type labelSelector []requirement

// requirement is one comma-separated part of a label selector.
type requirement struct {
	key    string
	op     operator
	values []string // sorted, without duplicates; of opIn and opNotIn
	number int64    // of opGreater and opLess
}

// operator is what a requirement asks of a label.
type operator uint8

// The operators. opNotIn also covers "!=": it matches an absent label.
const (
	opExists operator = iota + 1
	opAbsent
	opIn
	opNotIn
	opGreater
	opLess
)

// maxSelector is the longest label or field selector, in bytes.
const maxSelector = 4096

// Matches reports whether labels meet every requirement.
func (l labelSelector) Matches(labels map[string]string) bool {
	for _, r := range l {
		if !r.matches(labels) {
			return false
		}
	}
	return true
}

func (r requirement) matches(labels map[string]string) bool {
	v, ok := labels[r.key]
	switch r.op {
	case opExists:
		return ok
	case opAbsent:
		return !ok
	case opIn:
		return ok && slices.Contains(r.values, v)
	case opNotIn:
		return !ok || !slices.Contains(r.values, v)
	case opGreater, opLess:
		n, err := strconv.ParseInt(v, 10, 64)
		if !ok || err != nil {
			return false
		}
		if r.op == opGreater {
			return n > r.number
		}
		return n < r.number
	default:
		panic("labelSelector: requirement without an operator")
	}
}

// String is the selector in canonical form; parsing it gives an equal
// selector.
func (l labelSelector) String() string {
	parts := make([]string, len(l))
	for i, r := range l {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// String is the requirement in canonical form.
func (r requirement) String() string {
	switch r.op {
	case opExists:
		return r.key
	case opAbsent:
		return "!" + r.key
	case opIn:
		if len(r.values) == 1 {
			return r.key + "=" + r.values[0]
		}
		return r.key + " in (" + strings.Join(r.values, ",") + ")"
	case opNotIn:
		if len(r.values) == 1 {
			return r.key + "!=" + r.values[0]
		}
		return r.key + " notin (" + strings.Join(r.values, ",") + ")"
	case opGreater:
		return r.key + ">" + strconv.FormatInt(r.number, 10)
	case opLess:
		return r.key + "<" + strconv.FormatInt(r.number, 10)
	default:
		panic("labelSelector: requirement without an operator")
	}
}

// parseLabelSelector reads Kubernetes' label selector syntax: comma-separated
// "key", "!key", "key=value", "key==value", "key!=value", "key in (a,b)",
// "key notin (a,b)", "key>1", "key<1".
func parseLabelSelector(s string) (labelSelector, error) {
	if len(s) > maxSelector {
		return nil, fmt.Errorf("label selector: %d bytes, the limit is %d", len(s), maxSelector)
	}
	p := &selectorParser{text: s}
	p.space()
	if p.end() {
		return nil, nil
	}
	var out labelSelector
	for {
		r, err := p.requirement()
		if err != nil {
			return nil, fmt.Errorf("label selector %q: at byte %d: %w", s, p.at, err)
		}
		out = append(out, r)
		p.space()
		if p.end() {
			return out, nil
		}
		if !p.take(",") {
			return nil, fmt.Errorf("label selector %q: at byte %d: want a comma or the end, have %q", s, p.at, p.text[p.at:])
		}
	}
}

// selectorParser walks over the text of a label selector.
type selectorParser struct {
	text string
	at   int
}

func (p *selectorParser) end() bool { return p.at >= len(p.text) }

func (p *selectorParser) space() {
	for !p.end() && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

func (p *selectorParser) take(tok string) bool {
	if strings.HasPrefix(p.text[p.at:], tok) {
		p.at += len(tok)
		return true
	}
	return false
}

// word is the longest run of bytes that can be part of a key or value.
func (p *selectorParser) word() string {
	start := p.at
	for !p.end() && !strings.ContainsRune(" \t,()=!<>", rune(p.text[p.at])) {
		p.at++
	}
	return p.text[start:p.at]
}

func (p *selectorParser) requirement() (requirement, error) {
	p.space()
	absent := p.take("!")
	p.space()
	key := p.word()
	if err := checkLabelKey(key); err != nil {
		return requirement{}, err
	}
	if absent {
		return requirement{key: key, op: opAbsent}, nil
	}
	p.space()
	switch {
	case p.end() || p.text[p.at] == ',':
		return requirement{key: key, op: opExists}, nil
	case p.take("!="):
		return p.equals(key, opNotIn)
	case p.take("==") || p.take("="):
		return p.equals(key, opIn)
	case p.take(">"):
		return p.compare(key, opGreater)
	case p.take("<"):
		return p.compare(key, opLess)
	}
	switch w := p.word(); w {
	case "in":
		return p.list(key, opIn)
	case "notin":
		return p.list(key, opNotIn)
	default:
		return requirement{}, fmt.Errorf("want =, ==, !=, in, notin, > or < after %q, have %q", key, w)
	}
}

func (p *selectorParser) equals(key string, op operator) (requirement, error) {
	p.space()
	v := p.word()
	if err := checkLabelValue(v); err != nil {
		return requirement{}, err
	}
	return requirement{key: key, op: op, values: []string{v}}, nil
}

func (p *selectorParser) compare(key string, op operator) (requirement, error) {
	p.space()
	w := p.word()
	n, err := strconv.ParseInt(w, 10, 64)
	if err != nil {
		return requirement{}, fmt.Errorf("want a whole number after %q, have %q", key, w)
	}
	return requirement{key: key, op: op, number: n}, nil
}

func (p *selectorParser) list(key string, op operator) (requirement, error) {
	p.space()
	if !p.take("(") {
		return requirement{}, fmt.Errorf("want ( and a list of values")
	}
	var values []string
	for {
		p.space()
		v := p.word()
		if err := checkLabelValue(v); err != nil {
			return requirement{}, err
		}
		values = append(values, v)
		p.space()
		if p.take(")") {
			slices.Sort(values)
			return requirement{key: key, op: op, values: slices.Compact(values)}, nil
		}
		if !p.take(",") {
			return requirement{}, fmt.Errorf("want , or ) in the list of values")
		}
	}
}

// checkLabelKey checks an optional DNS prefix, a slash and a name of 63 bytes.
func checkLabelKey(key string) error {
	prefix, name, found := strings.Cut(key, "/")
	if !found {
		name, prefix = key, ""
	} else if !isDNSName(prefix) {
		return fmt.Errorf("label key %q: the part before the slash is not a DNS name", key)
	}
	if name == "" || len(name) > 63 || !isLabelText(name) {
		return fmt.Errorf("label key %q: want 1 to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends", key)
	}
	return nil
}

// checkLabelValue checks that v can be the value of a label; empty is fine.
func checkLabelValue(v string) error {
	if v != "" && (len(v) > 63 || !isLabelText(v)) {
		return fmt.Errorf("label value %q: want up to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends", v)
	}
	return nil
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isLabelText(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return isAlnum(s[0]) && isAlnum(s[len(s)-1])
}

// isDNSName reports whether s is lower-case labels joined by dots, 253 bytes
// at most: what the name of a resource may be.
func isDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isDNSLabel(label) {
			return false
		}
	}
	return true
}

// isDNSLabel reports whether s is lower-case letters, digits and hyphens, not
// at the ends. The length of one label inside a longer name is not limited,
// as in Kubernetes.
func isDNSLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// fieldSelector is a parsed fieldSelector parameter. Only metadata.name and
// metadata.namespace can be asked for.
type fieldSelector []fieldTerm

type fieldTerm struct {
	namespace bool // the term is on metadata.namespace, else on metadata.name
	not       bool
	value     string
}

// parseFieldSelector reads "metadata.name=x", "==" and "!=", comma-separated.
func parseFieldSelector(s string) (fieldSelector, error) {
	if len(s) > maxSelector {
		return nil, fmt.Errorf("field selector: %d bytes, the limit is %d", len(s), maxSelector)
	}
	var out fieldSelector
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		field, value, not := "", "", false
		if f, v, ok := strings.Cut(part, "!="); ok {
			field, value, not = f, v, true
		} else if f, v, ok := strings.Cut(part, "=="); ok {
			field, value = f, v
		} else if f, v, ok := strings.Cut(part, "="); ok {
			field, value = f, v
		} else {
			return nil, fmt.Errorf("field selector %q: want field=value, field==value or field!=value, have %q", s, part)
		}
		switch strings.TrimSpace(field) {
		case "metadata.name":
			out = append(out, fieldTerm{not: not, value: strings.TrimSpace(value)})
		case "metadata.namespace":
			out = append(out, fieldTerm{namespace: true, not: not, value: strings.TrimSpace(value)})
		default:
			return nil, fmt.Errorf("field label not supported: %s (use metadata.name or metadata.namespace)", strings.TrimSpace(field))
		}
	}
	return out, nil
}

// Matches reports whether a resource of this namespace and name meets every
// term.
func (f fieldSelector) Matches(namespace, name string) bool {
	for _, t := range f {
		have := name
		if t.namespace {
			have = namespace
		}
		if (have == t.value) == t.not {
			return false
		}
	}
	return true
}
