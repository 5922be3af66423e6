// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

const (
	envPrefix   = "RIPSTOP_"
	maxFileSize = 1 << 20
)

// Source is where a value came from.
type Source string

// Sources, the strongest first. A Source may go on with a place: a file's is
// "file /etc/ripstop/ripstopd.yaml:12".
const (
	FromFlag    Source = "flag"
	FromEnv     Source = "environment"
	FromFile    Source = "file"
	FromDefault Source = "default"
)

// Setting is a key with the value that is in force and where it is from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source Source `json:"source"`
}

// AddFlags adds a flag for each key to fs.
func AddFlags(fs *pflag.FlagSet, keys []Key) {
	for _, k := range keys {
		switch help := strings.TrimSuffix(k.Help, "."); {
		case k.isBool():
			fs.Bool(k.Name, k.Default == "true", help)
		case k.isList():
			fs.StringSlice(k.Name, splitList(k.Default), help)
		default:
			if list := k.oneOf(); list != nil {
				help += " (" + strings.Join(list, "|") + ")"
			}
			fs.String(k.Name, k.Default, help)
		}
	}
}

// values are the settings of one program, merged.
type values struct {
	keys     []Key
	viper    *viper.Viper
	settings []Setting
	file     string
}

// load merges flags, environment, file and defaults, and reports all faults
// at once.
func load(keys []Key, flags *pflag.FlagSet, environ []string) (*values, error) {
	v := &values{keys: keys, viper: viper.New()}
	faults := extraArguments(keys, flags)
	env, err := readEnviron(keys, environ)
	faults = append(faults, err)
	lines, err := v.readFile(flags)
	faults = append(faults, err)
	for _, k := range keys {
		v.viper.SetDefault(k.Name, k.Default)
		source, where := FromDefault, "default of "+k.Name
		if line, ok := lines[k.Name]; ok {
			source = FromFile + Source(fmt.Sprintf(" %s:%d", v.file, line))
			where = fmt.Sprintf("%s:%d: %s", v.file, line, k.Name)
		}
		// Set has the highest rank in viper, and the environment given here
		// is the caller's, not the process's.
		if text, ok := env[k.Name]; ok {
			v.viper.Set(k.Name, text)
			source, where = FromEnv+Source(" "+k.Env()), "environment variable "+k.Env()
		}
		if f := flags.Lookup(k.Name); f != nil && f.Changed {
			v.viper.Set(k.Name, flagText(f))
			source, where = FromFlag, "flag --"+k.Name
		}
		text := v.text(k.Name)
		if err := k.checkValue(text); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where, err))
		}
		if source != FromDefault || !k.FlagOnly {
			v.settings = append(v.settings, Setting{Key: k.Name, Value: text, Source: source})
		}
	}
	return v, errors.Join(faults...)
}

// extraArguments refuses what is neither a flag nor a flag's value: cleanup
// without its dashes must not start an agent.
func extraArguments(keys []Key, flags *pflag.FlagSet) (faults []error) {
	for _, a := range flags.Args() {
		hint := ""
		if slices.ContainsFunc(keys, func(k Key) bool { return k.Name == a }) {
			hint = ": did you mean --" + a + "?"
		}
		faults = append(faults, fmt.Errorf("argument %q is not expected, only flags are%s", a, hint))
	}
	return faults
}

// text is a value as text.
func (v *values) text(name string) string { return v.viper.GetString(name) }

// flagText is a flag's value as text; a list is separated by commas.
func flagText(f *pflag.Flag) string {
	if l, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Join(l.GetSlice(), ",")
	}
	return f.Value.String()
}

// readEnviron picks the variables that are ours. A variable that looks like a
// misspelt one of ours is a fault; others with our prefix belong to other
// programs.
func readEnviron(keys []Key, environ []string) (map[string]string, error) {
	out := map[string]string{}
	names := map[string]string{}
	for _, k := range keys {
		if !k.FlagOnly {
			names[k.Env()] = k.Name
		}
	}
	var faults []error
	for _, e := range environ {
		name, text, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, envPrefix) || text == "" {
			continue
		}
		if key, ok := names[name]; ok {
			out[key] = text
			continue
		}
		if near := nearest(name, sortedKeys(names), 2); near != "" && !slices.Contains(othersEnv, name) {
			faults = append(faults, fmt.Errorf("environment variable %s is unknown: did you mean %s?", name, near))
		}
	}
	return out, errors.Join(faults...)
}

// othersEnv are variables of Ripstop's other programs.
var othersEnv = []string{"RIPSTOP_SERVER", "RIPSTOP_LISTEN", "RIPSTOP_QUOTA", "RIPSTOP_ROLE", "RIPSTOP_NODE"}

// readFile hands the file to viper and gives the line of each key.
func (v *values) readFile(flags *pflag.FlagSet) (map[string]int, error) {
	path := v.keys[0].Default // "config" is the first key of each program
	named := false
	if f := flags.Lookup("config"); f != nil && f.Changed {
		path, named = f.Value.String(), true
	}
	b, err := readAll(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	v.file = path
	doc, lines, err := parseFile(path, b, v.keys)
	return lines, errors.Join(err, v.viper.MergeConfigMap(doc))
}

// readAll reads a configuration file, which may be a symbolic link.
func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(b) > maxFileSize {
		err = fmt.Errorf("is larger than %d bytes", maxFileSize)
	}
	return b, err
}

// parseFile reads the document strictly: a flat map of known keys. Values
// come back as text.
func parseFile(path string, b []byte, keys []Key) (map[string]any, map[string]int, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return nil, nil, notYAML(path, err)
	}
	doc, lines := map[string]any{}, map[string]int{}
	if len(root.Content) == 0 || root.Content[0].Tag == "!!null" {
		return doc, lines, nil // nothing but comments
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, nil, fmt.Errorf("%s:%d: the file must be lines of the form key: value", path, top.Line)
	}
	var faults []error
	for i := 0; i+1 < len(top.Content); i += 2 {
		name, value := top.Content[i].Value, top.Content[i+1]
		line := top.Content[i].Line
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s:%d: %s: %w", path, line, name, fmt.Errorf(format, args...)))
		}
		k, err := findKey(name, keys)
		if err != nil {
			fault("%w", err)
			continue
		}
		if first, twice := lines[name]; twice {
			fault("is here for the second time: remove this line or line %d", first)
			continue
		}
		text, err := fileValue(k, value)
		if err != nil {
			fault("%w", err)
			continue
		}
		doc[name], lines[name] = text, line
	}
	return doc, lines, errors.Join(faults...)
}

// notYAML is a syntax error with its place: the library says "yaml: line 2:
// what".
func notYAML(path string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok {
			return fmt.Errorf("%s:%s: not YAML: %s", path, line, what)
		}
	}
	return fmt.Errorf("%s: not YAML: %s", path, text)
}

// findKey finds a key of the file, or says what is wrong with its name.
func findKey(name string, keys []Key) (Key, error) {
	var names []string
	for _, k := range keys {
		if k.Name == name && k.FlagOnly {
			return k, fmt.Errorf("is a flag only: use --%s", name)
		}
		if k.Name == name {
			return k, nil
		}
		if !k.FlagOnly {
			names = append(names, k.Name)
		}
	}
	if looksSecret(name) {
		return Key{}, errors.New("secrets do not belong into this file: put the secret into a file of its own with mode 0600 and name that file, as in etcd-password-file")
	}
	if near := nearest(name, names, max(2, len(name)/3)); near != "" {
		return Key{}, fmt.Errorf("unknown key: did you mean %s?", near)
	}
	slices.Sort(names)
	return Key{}, fmt.Errorf("unknown key: known are %s", strings.Join(names, ", "))
}

// looksSecret tells whether a key is named like a secret.
func looksSecret(name string) bool {
	name = strings.ToLower(name)
	if strings.HasSuffix(name, "-file") {
		return false
	}
	return slices.ContainsFunc([]string{"password", "passwd", "passphrase", "secret", "token", "credential", "private", "apikey", "api-key"}, func(w string) bool {
		return strings.Contains(name, w)
	}) || strings.HasSuffix(name, "-key")
}

// fileValue is a YAML value as text.
func fileValue(k Key, n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		return "", errors.New("is an alias: write the value itself")
	}
	if k.isList() && n.Kind == yaml.SequenceNode {
		var list []string
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode || strings.Contains(e.Value, ",") {
				return "", fmt.Errorf("entry in line %d is not plain text", e.Line)
			}
			list = append(list, e.Value)
		}
		return strings.Join(list, ","), nil
	}
	if n.Kind != yaml.ScalarNode {
		return "", fmt.Errorf("is not a plain value: its type is %s", k.Type)
	}
	if n.Tag == "!!null" {
		return "", nil
	}
	return n.Value, nil
}

// sortedKeys are a map's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// nearest is the name that text was most likely meant to be, with at most
// most letters wrong, or "".
func nearest(text string, names []string, most int) string {
	best, least := "", most+1
	for _, n := range names {
		if d := distance(strings.ToLower(text), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace to make b of
// a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// checkSecretFile refuses a file with a secret that others may read. That the
// file is missing is told when it is used.
func checkSecretFile(key, path string) error {
	if path == "" {
		return nil
	}
	err := host.CheckPrivate(path)
	if errors.Is(err, host.ErrLoose) {
		return fmt.Errorf("%s: %w: run chmod 600 %s", key, err, path)
	}
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
