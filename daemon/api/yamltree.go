// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxAliased is how many nodes a YAML document may have after its aliases
// are expanded.
const maxAliased = 1 << 20

// parseYAML reads the YAML documents in text, which begins on line first of
// its source. Positions are line numbers. Documents before a fault are
// returned with it.
func parseYAML(text []byte, first int) ([]tree, error) {
	if len(text) > MaxDocumentBytes {
		return nil, &syntaxError{first, tooLong(len(text))}
	}
	if !utf8.Valid(text) {
		return nil, &syntaxError{first + bytes.Count(text[:badUTF8(text)], []byte("\n")), "not UTF-8"}
	}
	var docs []tree
	in := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		err := in.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return docs, yamlFault(err, first)
		}
		c := yamlConverter{first: first}
		t, err := c.convert(&n, 1)
		if err != nil {
			return docs, err
		}
		docs = append(docs, t)
	}
}

// yamlPlace is the line number in an error text of the YAML library.
var yamlPlace = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

// yamlFault turns an error of the YAML library into ours.
func yamlFault(err error, first int) error {
	text := err.Error()
	line := first
	if m := yamlPlace.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = first + n - 1
		}
		text = text[len(m[0]):]
	}
	return &syntaxError{line, "not YAML: " + text}
}

// yamlConverter turns the library's nodes into a tree. It reads scalars as
// YAML 1.1 does, as Calico's tools do: yes, no, on, off, y and n without
// quotes are booleans.
type yamlConverter struct {
	first int
	nodes int
	// open are the anchors being expanded: an alias inside of its own anchor
	// has no end.
	open []*yaml.Node
}

func (c *yamlConverter) fault(n *yaml.Node, text string) error {
	return &syntaxError{c.line(n), text}
}

func (c *yamlConverter) line(n *yaml.Node) int { return c.first + max(n.Line, 1) - 1 }

func (c *yamlConverter) convert(n *yaml.Node, depth int) (tree, error) {
	if c.nodes++; c.nodes > maxAliased {
		return tree{}, c.fault(n, "too many nodes after expanding aliases")
	}
	t := tree{pos: c.line(n)}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 0 {
			return tree{kind: treeNull, text: "null", pos: t.pos}, nil
		}
		return c.convert(n.Content[0], depth)
	case yaml.AliasNode:
		for _, o := range c.open {
			if o == n.Alias {
				return t, c.fault(n, "alias *"+n.Value+" is inside of what it stands for")
			}
		}
		c.open = append(c.open, n.Alias)
		v, err := c.convert(n.Alias, depth)
		c.open = c.open[:len(c.open)-1]
		v.pos = t.pos
		return v, err
	case yaml.ScalarNode:
		return c.scalar(n)
	case yaml.SequenceNode:
		if err := c.collection(n, "!!seq", depth); err != nil {
			return t, err
		}
		t.kind = treeList
		for _, e := range n.Content {
			v, err := c.convert(e, depth+1)
			if err != nil {
				return t, err
			}
			t.list = append(t.list, v)
		}
		return t, nil
	case yaml.MappingNode:
		if err := c.collection(n, "!!map", depth); err != nil {
			return t, err
		}
		t.kind = treeObject
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, err := c.key(n.Content[i])
			if err != nil {
				return t, err
			}
			v, err := c.convert(n.Content[i+1], depth+1)
			if err != nil {
				return t, err
			}
			t.members = append(t.members, member{name: name, pos: c.line(n.Content[i]), value: v})
		}
		return t, nil
	}
	return t, c.fault(n, "not YAML")
}

// collection checks a list or map itself.
func (c *yamlConverter) collection(n *yaml.Node, tag string, depth int) error {
	if depth > MaxDepth {
		return c.fault(n, tooDeep())
	}
	if n.Tag != "" && n.Tag != tag {
		return c.fault(n, "tag "+quoted(n.Tag)+" is not supported")
	}
	return nil
}

// key is the name of a member.
func (c *yamlConverter) key(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", c.fault(n, "a key must be a string")
	}
	if n.ShortTag() == "!!merge" {
		return "", c.fault(n, "merge keys (<<) are not supported; write the fields out")
	}
	t, err := c.scalar(n)
	if err != nil {
		return "", err
	}
	if t.kind == treeNull {
		return "", c.fault(n, "a key must be a string, not null")
	}
	if t.kind == treeNumber {
		return n.Value, nil
	}
	return t.text, nil
}

// yaml11Bools are YAML 1.1's booleans.
var yaml11Bools = map[string]string{
	"y": "true", "Y": "true", "yes": "true", "Yes": "true", "YES": "true",
	"on": "true", "On": "true", "ON": "true", "true": "true", "True": "true", "TRUE": "true",
	"n": "false", "N": "false", "no": "false", "No": "false", "NO": "false",
	"off": "false", "Off": "false", "OFF": "false", "false": "false", "False": "false", "FALSE": "false",
}

func (c *yamlConverter) scalar(n *yaml.Node) (tree, error) {
	t := tree{kind: treeString, text: n.Value, pos: c.line(n)}
	const quotes = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	tagged := n.Style&yaml.TaggedStyle != 0
	if n.Style&quotes != 0 && !tagged {
		return t, nil
	}
	if !tagged {
		if b, ok := yaml11Bools[n.Value]; ok {
			t.kind, t.plain, t.text, t.written = treeBool, true, b, n.Value
			return t, nil
		}
	}
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp", "!!merge":
		return t, nil
	case "!!null":
		t.kind, t.text = treeNull, "null"
	case "!!bool":
		b, ok := yaml11Bools[n.Value]
		if !ok {
			return t, c.fault(n, quoted(n.Value)+" is not a boolean")
		}
		t.kind, t.text = treeBool, b
	case "!!int":
		return c.integer(n, t)
	case "!!float":
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return t, c.fault(n, quoted(n.Value)+" is not a number that JSON has")
		}
		t.kind, t.plain, t.text, t.written = treeNumber, true, strconv.FormatFloat(f, 'g', -1, 64), n.Value
	default:
		return t, c.fault(n, "tag "+quoted(tag)+" is not supported")
	}
	return t, nil
}

// integer reads decimal, 0x, 0o and 0b numbers. 010 is refused: it is eight
// in YAML 1.1 and ten in YAML 1.2.
func (c *yamlConverter) integer(n *yaml.Node, t tree) (tree, error) {
	digits := strings.ReplaceAll(n.Value, "_", "")
	bare := strings.TrimLeft(digits, "+-")
	if len(bare) > 1 && bare[0] == '0' && allDigits(bare) {
		return t, c.fault(n, "number "+excerpt(n.Value)+" has a leading zero, which may mean octal; leave the zero out or put it in quotes")
	}
	t.kind, t.plain, t.written = treeNumber, true, n.Value
	digits = strings.TrimPrefix(digits, "+")
	if i, err := strconv.ParseInt(digits, 0, 64); err == nil {
		t.text = strconv.FormatInt(i, 10)
		return t, nil
	}
	if u, err := strconv.ParseUint(digits, 0, 64); err == nil {
		t.text = strconv.FormatUint(u, 10)
		return t, nil
	}
	return t, c.fault(n, "number "+excerpt(n.Value)+" is too large")
}
