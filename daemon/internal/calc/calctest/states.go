// SPDX-License-Identifier: Apache-2.0

package calctest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// State is all resources at one time.
type State struct {
	Name    string
	Objects map[api.Key]api.Object
}

// List is a list of states to lead a graph through. In the file, each state
// is a section with what is different from the one before, and is followed by
// a section with what calc is to make of it:
//
//	What the list is about.
//	-- name of the state --
//	HostEndpoint eth0 {labels: {role: web}} {node: h, interfaceName: eth0}
//	- NetworkSet prod/partners
//	! GlobalNetworkPolicy bad {} {types: [Ingress]}
//	-- name of the state: want --
//	endpoint eth0 ...
//
// A line is a resource: kind, name, metadata, spec, as flow YAML; metadata or
// both may be missing. A line that begins with a space goes on with the one
// before. "-" deletes; "!" is a value that cannot be read, of which what
// follows the name, if anything, could be salvaged.
type List struct {
	Name   string
	States []State
	// Ordered: the outcome depends on what was before, so that the states
	// must be walked in this order.
	Ordered bool

	path    string
	archive *archive
}

const (
	wantSuffix  = ": want"
	orderedWord = "(ordered)"
)

// Load reads all lists of a folder.
func Load(dir string) ([]*List, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	var lists []*List
	for _, p := range paths {
		l, err := load(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		lists = append(lists, l)
	}
	return lists, nil
}

func load(path string) (*List, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	a := parseArchive(string(data))
	l := &List{
		Name:    strings.TrimSuffix(filepath.Base(path), ".txtar"),
		Ordered: strings.Contains(a.comment, orderedWord),
		path:    path, archive: a,
	}
	now := map[api.Key]api.Object{}
	for _, f := range a.sections {
		if strings.HasSuffix(f.name, wantSuffix) {
			continue
		}
		now = maps.Clone(now)
		if err := apply(now, f.text); err != nil {
			return nil, fmt.Errorf("state %s: %w", f.name, err)
		}
		l.States = append(l.States, State{Name: f.name, Objects: now})
	}
	if len(l.States) == 0 {
		return nil, errors.New("no states")
	}
	return l, nil
}

// Want is what calc is to make of a state.
func (l *List) Want(state string) string {
	for _, f := range l.archive.sections {
		if f.name == state+wantSuffix {
			return f.text
		}
	}
	return ""
}

// Update writes what calc makes of the states into the file.
func (l *List) Update(got map[string]string) error {
	a := &archive{comment: l.archive.comment}
	for _, f := range l.archive.sections {
		if !strings.HasSuffix(f.name, wantSuffix) {
			a.sections = append(a.sections, f, section{f.name + wantSuffix, got[f.name]})
		}
	}
	return os.WriteFile(l.path, []byte(a.format()), 0o644)
}

func apply(now map[api.Key]api.Object, text string) error {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, " ") && len(lines) > 0:
			lines[len(lines)-1] += line
		default:
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		verb := line[0]
		key, rest, err := parseHead(strings.TrimLeft(line, "-! "))
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if verb == '-' {
			if now[key] == nil {
				return fmt.Errorf("%s: was not there", line)
			}
			delete(now, key)
			continue
		}
		var o api.Object
		if rest != "" || verb != '!' {
			if o, err = Object(strings.TrimLeft(line, "! ")); err != nil {
				return err
			}
		}
		if verb == '!' {
			o = &api.Unreadable{K: key, Salvaged: o, Err: errors.New("cannot be understood")}
		}
		now[key] = o
	}
	return nil
}

func parseHead(line string) (k api.Key, rest string, err error) {
	kind, rest, _ := strings.Cut(line, " ")
	name, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if name == "" {
		return k, "", errors.New("needs a kind and a name")
	}
	k = api.Key{Kind: api.Kind(kind), Name: name}
	if ns, n, ok := strings.Cut(name, "/"); ok {
		k.Namespace, k.Name = ns, n
	}
	return k, strings.TrimSpace(rest), nil
}

// Object reads one resource as a line of a list.
func Object(line string) (api.Object, error) {
	k, rest, err := parseHead(line)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", line, err)
	}
	groups, err := braces(rest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", line, err)
	}
	meta, spec := "{}", "{}"
	switch len(groups) {
	case 0:
	case 1:
		spec = groups[0]
	default:
		meta, spec = groups[0], groups[1]
	}
	yaml := fmt.Sprintf("{kind: %s, apiVersion: projectcalico.org/v3, spec: %s, metadata: {name: %q", k.Kind, spec, k.Name)
	if k.Namespace != "" {
		yaml += fmt.Sprintf(", namespace: %q", k.Namespace)
	}
	if inner := strings.TrimSuffix(strings.TrimPrefix(meta, "{"), "}"); strings.TrimSpace(inner) != "" {
		yaml += ", " + inner
	}
	docs, err := api.DecodeAll([]byte(yaml+"}}\n"), "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", line, err)
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: %d objects", line, len(docs))
	}
	return docs[0].Object, nil
}

// braces cuts a text into its balanced groups.
func braces(s string) ([]string, error) {
	var groups []string
	depth, start := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			if depth == 0 {
				start = i
			}
			depth++
		case '}':
			if depth--; depth == 0 {
				groups = append(groups, s[start:i+1])
			}
		}
	}
	if depth != 0 {
		return nil, errors.New("braces do not match")
	}
	return groups, nil
}

// Keys are the keys of a state, sorted.
func (s *State) Keys() []api.Key {
	return slices.SortedFunc(maps.Keys(s.Objects), api.Key.Compare)
}
