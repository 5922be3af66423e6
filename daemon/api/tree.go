// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of one document.
const (
	// MaxDocumentBytes is the longest document that is read.
	MaxDocumentBytes = 10 << 20
	// MaxDepth is how deep lists and objects may be nested.
	MaxDepth = 32
)

// treeKind is what a tree is.
type treeKind uint8

const (
	treeNull treeKind = iota
	treeBool
	treeNumber
	treeString
	treeList
	treeObject
)

// String is the kind as error texts say it.
func (k treeKind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// tree is a document before it becomes an object: JSON or YAML with the place
// of everything. Members keep their order and their duplicates.
type tree struct {
	kind treeKind
	// plain: a YAML scalar without quotes, which stands for a string where a
	// string is expected.
	plain bool
	// text is a string's value, else the JSON literal of a scalar.
	text string
	// written is how a plain scalar was written, where text differs.
	written string
	pos     int
	list    []tree
	members []member
}

// member is a named part of an object.
type member struct {
	name  string
	pos   int
	value tree
}

// get is the value of a member, the last if there are several, or nil.
func (t *tree) get(name string) *tree {
	for i := len(t.members) - 1; i >= 0; i-- {
		if t.members[i].name == name {
			return &t.members[i].value
		}
	}
	return nil
}

// appendJSON appends the tree as compact JSON.
func (t *tree) appendJSON(b []byte) []byte {
	switch t.kind {
	case treeString:
		q, _ := json.Marshal(t.text) // a string always can
		return append(b, q...)
	case treeList:
		b = append(b, '[')
		for i := range t.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = t.list[i].appendJSON(b)
		}
		return append(b, ']')
	case treeObject:
		b = append(b, '{')
		for i := range t.members {
			if i > 0 {
				b = append(b, ',')
			}
			q, _ := json.Marshal(t.members[i].name)
			b = append(append(b, q...), ':')
			b = t.members[i].value.appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, t.text...)
}

// sample is the tree for an error text: scalars as JSON, cut when long;
// nothing for lists and objects.
func (t *tree) sample() string {
	switch t.kind {
	case treeList, treeObject, treeNull:
		return ""
	case treeString:
		return quoted(t.text)
	}
	if t.written != "" {
		return excerpt(t.written)
	}
	return excerpt(t.text)
}

// syntaxError is a document that is no JSON or no YAML, with the place. pos is
// in the same unit as in the document's trees.
type syntaxError struct {
	pos  int
	text string
}

func (e *syntaxError) Error() string { return e.text }

// parseJSON reads exactly one JSON value. Positions are byte offsets.
func parseJSON(data []byte) (tree, error) { return new(jsonParser).parse(data) }

// parse is parseJSON that uses the memory of the tree before again: that one
// is no longer good.
func (p *jsonParser) parse(data []byte) (tree, error) {
	if len(data) > MaxDocumentBytes {
		return tree{}, &syntaxError{0, tooLong(len(data))}
	}
	if !utf8.Valid(data) {
		return tree{}, &syntaxError{badUTF8(data), "not UTF-8"}
	}
	if !json.Valid(data) {
		return tree{}, jsonFault(data)
	}
	p.in, p.pos = string(data), 0
	p.list, p.members = p.list[:0], p.members[:0]
	p.lists, p.objects = p.lists[:0], p.objects[:0]
	return p.value(1)
}

func tooLong(n int) string {
	return fmt.Sprintf("document of %d bytes is longer than %d", n, MaxDocumentBytes)
}

// badUTF8 is the offset of the first byte that is not UTF-8.
func badUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return 0
}

// jsonFault says what is wrong with data that is no JSON.
func jsonFault(data []byte) error {
	var any json.RawMessage
	err := json.Unmarshal(data, &any)
	var se *json.SyntaxError
	if errors.As(err, &se) {
		return &syntaxError{max(0, int(se.Offset)-1), "not JSON: " + se.Error()}
	}
	return &syntaxError{0, "not JSON"}
}

// jsonParser reads JSON that json.Valid has passed.
type jsonParser struct {
	in  string
	pos int
	// Parts of lists and objects that are not read to their end yet wait on
	// two stacks; once they are, they move to the ends of two long lists.
	list    []tree
	members []member
	lists   []tree
	objects []member
}

// keep moves what has waited to the end of all, and gives the place. If there
// is no room, all begins anew: who has a place has what is there.
func keep[T any](waited []T, all *[]T) []T {
	if n := len(waited); cap(*all)-len(*all) < n {
		*all = make([]T, 0, max(n, 2*cap(*all), 8))
	}
	from := len(*all)
	*all = append(*all, waited...)
	return slices.Clip((*all)[from:])
}

// blank skips white space.
func (p *jsonParser) blank() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// value reads one value; its lists and objects are at depth.
func (p *jsonParser) value(depth int) (tree, error) {
	p.blank()
	t := tree{pos: p.pos}
	switch c := p.in[p.pos]; c {
	case '"':
		t.kind, t.text = treeString, p.string()
		return t, nil
	case '{', '[':
		if depth > MaxDepth {
			return t, &syntaxError{p.pos, tooDeep()}
		}
		p.pos++
		if c == '[' {
			return p.elements(t, depth)
		}
		return p.object(t, depth)
	case 'n':
		t.kind = treeNull
	case 't', 'f':
		t.kind = treeBool
	default:
		t.kind = treeNumber
	}
	end := p.pos
	for end < len(p.in) && strings.IndexByte(" \t\r\n,]}", p.in[end]) < 0 {
		end++
	}
	t.text = p.in[p.pos:end]
	p.pos = end
	return t, nil
}

func tooDeep() string { return fmt.Sprintf("nested deeper than %d", MaxDepth) }

func (p *jsonParser) elements(t tree, depth int) (tree, error) {
	from := len(p.list)
	for {
		p.blank()
		switch p.in[p.pos] {
		case ']':
			p.pos++
			t.kind, t.list = treeList, keep(p.list[from:], &p.lists)
			p.list = p.list[:from]
			return t, nil
		case ',':
			p.pos++
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return t, err
		}
		p.list = append(p.list, v)
	}
}

func (p *jsonParser) object(t tree, depth int) (tree, error) {
	from := len(p.members)
	for {
		p.blank()
		switch p.in[p.pos] {
		case '}':
			p.pos++
			t.kind, t.members = treeObject, keep(p.members[from:], &p.objects)
			p.members = p.members[:from]
			return t, nil
		case ',':
			p.pos++
			p.blank()
		}
		m := member{pos: p.pos, name: p.string()}
		p.blank()
		p.pos++ // the colon
		var err error
		if m.value, err = p.value(depth + 1); err != nil {
			return t, err
		}
		p.members = append(p.members, m)
	}
}

// string reads a string; the position is on its opening quote.
func (p *jsonParser) string() string {
	start := p.pos + 1
	end, escaped := start, false
	for ; p.in[end] != '"'; end++ {
		if p.in[end] == '\\' {
			escaped = true
			end++
		}
	}
	p.pos = end + 1
	if !escaped {
		return p.in[start:end]
	}
	var s string
	if err := json.Unmarshal([]byte(p.in[start-1:end+1]), &s); err != nil {
		panic("api: JSON that was valid has a string that is not: " + err.Error())
	}
	return s
}

// duplicates reports members of objects that are there twice.
func duplicates(t *tree, path string, report func(pos int, path string)) {
	if !anyTwice(t) {
		return // without making paths
	}
	for i := range t.list {
		duplicates(&t.list[i], at(path, i), report)
	}
	var seen map[string]bool
	for i := range t.members {
		m := &t.members[i]
		twice := false
		if len(t.members) > 16 {
			if seen == nil {
				seen = make(map[string]bool, len(t.members))
			}
			twice = seen[m.name]
			seen[m.name] = true
		} else {
			for j := range i {
				twice = twice || t.members[j].name == m.name
			}
		}
		if twice {
			report(m.pos, join(path, m.name))
		}
		duplicates(&m.value, join(path, m.name), report)
	}
}

// anyTwice reports whether an object in t has a member twice.
func anyTwice(t *tree) bool {
	for i := range t.list {
		if anyTwice(&t.list[i]) {
			return true
		}
	}
	if len(t.members) > 16 {
		seen := make(map[string]bool, len(t.members))
		for i := range t.members {
			if seen[t.members[i].name] {
				return true
			}
			seen[t.members[i].name] = true
		}
	} else {
		for i := range t.members {
			for j := range i {
				if t.members[j].name == t.members[i].name {
					return true
				}
			}
		}
	}
	for i := range t.members {
		if anyTwice(&t.members[i].value) {
			return true
		}
	}
	return false
}

// join is the path of member name of path.
func join(path, name string) string {
	if !isWord(name, "_-") {
		return under(path, name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// find is the position of what a path names, as near as the tree has it.
func (t *tree) find(path string) int {
	pos := t.pos
	for path != "" {
		var name string
		index := -1
		switch path[0] {
		case '.':
			path = path[1:]
			continue
		case '[':
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return pos
			}
			name = path[1:end]
			path = path[end+1:]
			if n, err := strconv.Atoi(name); err == nil && t.kind == treeList {
				index = n
			}
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			name, path = path[:end], path[end:]
		}
		var next *tree
		if index >= 0 && index < len(t.list) {
			next = &t.list[index]
			pos = next.pos
		}
		for i := range t.members {
			if t.members[i].name == name {
				next, pos = &t.members[i].value, t.members[i].pos
			}
		}
		if next == nil {
			return pos
		}
		t = next
	}
	return pos
}
