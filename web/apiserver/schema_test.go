// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

var update = flag.Bool("update", false, "rewrite schema.json")

// TestSchema_IsWhatPackageAPISays: schema.json is what the types of package
// api and their comments give, and every field of every kind is described.
func TestSchema_IsWhatPackageAPISays(t *testing.T) {
	g := newGenerator(t)
	got := g.all()
	for _, m := range g.missing {
		t.Errorf("%s has no comment: kubectl explain could not say what it is", m)
	}
	for key := range facts {
		if !g.used[key] {
			t.Errorf("facts: %s is no field", key)
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(got); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile("schema.json"); err != nil || !bytes.Equal(want, out.Bytes()) {
		t.Errorf("schema.json is not what package api says (%v): run go test ./web/apiserver -run TestSchema -update", err)
	}
}

// facts are what the comments of package api say in words only, by "Type.Field"
// (of a policy's spec: of each kind's). An array's are of its elements.
var facts = map[string]node{
	"TierSpec.DefaultAction":                         {"enum": words("Allow", "Deny", "Pass")[1:], "default": "Deny"},
	"TierSpec.Order":                                 {"default": 1000000},
	"GlobalNetworkPolicySpec.Tier":                   {"default": api.DefaultTier},
	"NetworkPolicySpec.Tier":                         {"default": api.DefaultTier},
	"StagedGlobalNetworkPolicySpec.Tier":             {"default": api.DefaultTier},
	"StagedNetworkPolicySpec.Tier":                   {"default": api.DefaultTier},
	"StagedNetworkPolicySpec.StagedAction":           {"enum": words(api.StagedSet, api.StagedDelete, api.StagedLearn, api.StagedIgnore), "default": api.StagedSet},
	"StagedGlobalNetworkPolicySpec.StagedAction":     {"enum": words(api.StagedSet, api.StagedDelete, api.StagedLearn, api.StagedIgnore), "default": api.StagedSet},
	"GlobalNetworkPolicySpec.PerformanceHints":       {"enum": words(api.AssumeNeededOnEveryNode)},
	"NetworkPolicySpec.PerformanceHints":             {"enum": words(api.AssumeNeededOnEveryNode)},
	"StagedGlobalNetworkPolicySpec.PerformanceHints": {"enum": words(api.AssumeNeededOnEveryNode)},
	"StagedNetworkPolicySpec.PerformanceHints":       {"enum": words(api.AssumeNeededOnEveryNode)},
	"Rule.IPVersion":                                 {"enum": []any{4, 6}},
	"ICMPFields.Type":                                {"minimum": 0, "maximum": 254},
	"ICMPFields.Code":                                {"minimum": 0, "maximum": 255},
	"EndpointPort.Port":                              {"minimum": 1, "maximum": 65535},
	"WorkloadPort.Port":                              {"minimum": 1, "maximum": 65535},
	"WorkloadPort.HostPort":                          {"minimum": 0, "maximum": 65535},
	"WorkloadEndpointSpec.MAC":                       {"pattern": "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$"},
	"HostEndpointSpec.Node":                          {"pattern": "^[A-Za-z0-9_.-]{1,253}$"},
	"IPPoolSpec.VXLANMode":                           {"enum": words(api.EncapNever, api.EncapAlways, api.EncapCrossSubnet), "default": api.EncapNever},
	"IPPoolSpec.IPIPMode":                            {"enum": words(api.EncapNever, api.EncapAlways, api.EncapCrossSubnet), "default": api.EncapNever},
	"IPPoolSpec.BlockSize":                           {"minimum": 20, "maximum": 128},
	"IPPoolSpec.AllowedUses":                         {"enum": words(api.UseWorkload, api.UseTunnel, api.UseLoadBalancer)},
	"IPPoolSpec.AssignmentMode":                      {"enum": words("Automatic", "Manual"), "default": "Automatic"},
	"NodeAddress.Type":                               {"enum": words("CalicoNodeIP", "InternalIP", "ExternalIP")},
	"NamespaceStatus.Phase":                          {"enum": words(api.NamespaceActive), "default": api.NamespaceActive},
	"DatastoreStatus.Phase":                          {"enum": words("Waiting", "Resyncing", "InSync")},
	"DatastoreStatus.Source":                         {"enum": words("live", "snapshot")},
	"EndpointState.Status":                           {"enum": words("up", "down", "error")},
	"Condition.Status":                               {"enum": words("True", "False", "Unknown")},
	"ChangeStatus.Phase":                             {"enum": words(string(api.ChangePending), string(api.ChangeRollingBack), string(api.ChangeRolledBack))},
	"Meta.Finalizers":                                {"x-kubernetes-list-type": "set"},
	"Meta.OwnerReferences":                           {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": words("uid")},
}

func words(w ...string) []any {
	var out []any
	for _, s := range w {
		out = append(out, s)
	}
	return out
}

// generator makes schemas out of package api.
type generator struct {
	t       *testing.T
	docs    map[string]string // of "Type" and "Type.Field"
	after   map[string]string // of a field without a comment: the one before it that has one
	choices map[string][]any  // the constants of a type of strings
	felix   map[string]api.FelixParameter
	defs    node
	missing []string
	used    map[string]bool

	prefix string         // of names of schemas
	kind   api.Descriptor // that is being visited
}

func newGenerator(t *testing.T) *generator {
	g := &generator{t: t, docs: map[string]string{}, after: map[string]string{}, choices: map[string][]any{},
		felix: map[string]api.FelixParameter{}, defs: node{}, used: map[string]bool{}}
	for _, p := range api.FelixParameters() {
		g.felix[p.YAML] = p
	}
	files, err := filepath.Glob("../../daemon/api/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if gd, ok := d.(*ast.GenDecl); ok {
				g.declaration(gd)
			}
		}
	}
	return g
}

// declaration keeps the comments of types and fields, and typed constants.
func (g *generator) declaration(gd *ast.GenDecl) {
	for _, s := range gd.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			text := s.Doc.Text()
			if text == "" {
				text = gd.Doc.Text()
			}
			g.docs[s.Name.Name] = text
			if st, ok := s.Type.(*ast.StructType); ok {
				g.fields(s.Name.Name, st)
			}
		case *ast.ValueSpec:
			id, typed := s.Type.(*ast.Ident)
			for _, v := range s.Values {
				if lit, ok := v.(*ast.BasicLit); ok && typed && lit.Kind == token.STRING {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						g.t.Fatal(err)
					}
					g.choices[id.Name] = append(g.choices[id.Name], text)
				}
			}
		}
	}
}

func (g *generator) fields(typ string, st *ast.StructType) {
	last := ""
	for _, f := range st.Fields.List {
		text := f.Doc.Text()
		if text == "" {
			text = f.Comment.Text()
		}
		for _, n := range f.Names {
			name := typ + "." + n.Name
			if text != "" {
				g.docs[name] = text
				last = name
			} else {
				g.after[name] = last
			}
		}
	}
}

// all is every schema of every kind and its list.
func (g *generator) all() node {
	g.prefix = metaPrefix
	g.ref(reflect.TypeFor[api.Meta]())
	for _, d := range api.Kinds() {
		g.kind, g.prefix = d, definitionPrefix(d)
		name := g.ref(reflect.TypeOf(d.New()).Elem())
		kind := g.defs[name].(node)
		gvk := func(kind string) []any {
			return []any{node{"group": d.Group, "version": d.Version, "kind": kind}}
		}
		kind["x-kubernetes-group-version-kind"] = gvk(string(d.Kind))
		g.defs[name+"List"] = node{
			"description": "A list of objects of kind " + string(d.Kind) + ".", "type": "object", "required": words("items"),
			"properties": node{
				"apiVersion": node{"type": "string", "description": "Version of the schema of this list."},
				"kind":       node{"type": "string", "description": "Kind of this list."},
				"metadata":   node{"description": "The list's place in the history of the datastore, and where it goes on.", "allOf": []any{pointTo(metaPrefix + "ListMeta")}, "default": node{}},
				"items":      node{"type": "array", "description": "The objects.", "items": pointTo(name)},
			},
			"x-kubernetes-group-version-kind": gvk(string(d.Kind) + "List"),
		}
	}
	g.defs[metaPrefix+"ListMeta"] = node{"type": "object", "description": "What a list says of itself.", "properties": node{
		"resourceVersion":    node{"type": "string", "description": "Revision of the datastore at which the list was true."},
		"continue":           node{"type": "string", "description": "Token with which the next part is asked for; empty: this is the end."},
		"remainingItemCount": node{"type": "integer", "format": "int64", "description": "How many items come after this part, if it is known."},
	}}
	return g.defs
}

func pointTo(name string) node { return node{"$ref": "#/components/schemas/" + name} }

// ref makes the schema of a struct, if it is not there, and returns its name.
func (g *generator) ref(t reflect.Type) string {
	name, prefix := t.Name(), g.prefix
	switch t {
	case reflect.TypeFor[api.Meta]():
		name, prefix = "ObjectMeta", metaPrefix
	case reflect.TypeFor[api.OwnerReference]():
		prefix = metaPrefix
	case reflect.TypeFor[api.PolicySpec]():
		name = string(g.kind.Kind) + "Spec"
	case reflect.TypeFor[api.RevisionRecord]():
		name = string(api.KindRevision)
	}
	full := prefix + name
	if _, done := g.defs[full]; done {
		return full
	}
	def := node{"type": "object", "description": g.sentence(g.docs[t.Name()], t)}
	g.defs[full] = def
	props := node{}
	var required []string
	for _, f := range reflect.VisibleFields(t) {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" || len(f.Index) > 1 && t.Field(f.Index[0]).Tag.Get("json") != "" {
			continue
		}
		if t == reflect.TypeFor[api.PolicySpec]() && g.kind.Lacks(tag) {
			continue
		}
		props[tag] = g.field(t, name, f, tag)
		if options == "" && f.Type.Kind() != reflect.Struct && mustBeGiven[t.Name()+"."+f.Name] {
			required = append(required, tag)
		}
	}
	if t == reflect.TypeFor[api.PolicySpec]() || len(props) == 0 {
		required = nil
	}
	if _, isKind := api.DescriptorOf(api.Kind(t.Name())); isKind && g.kind.Kind == api.Kind(t.Name()) && api.PolicySpecOf(g.kind.New()) != nil {
		required = append(required, "spec")
	}
	def["properties"] = props
	if len(required) > 0 {
		def["required"] = words(required...)
	}
	return full
}

// mustBeGiven are fields without which Validate refuses an object.
var mustBeGiven = map[string]bool{
	"Rule.Action": true, "HostEndpointSpec.Node": true, "IPPoolSpec.CIDR": true,
	"EndpointPort.Name": true, "EndpointPort.Protocol": true, "EndpointPort.Port": true,
	"WorkloadPort.Protocol": true, "WorkloadPort.Port": true,
	"IPNAT.InternalIP": true, "IPNAT.ExternalIP": true, "OrchRef.Orchestrator": true, "NodeAddress.Address": true,
	"PolicyTestSpec.Cases": true, "PolicyTestCase.Name": true, "PolicyTestCase.From": true, "PolicyTestCase.To": true,
	"PolicyTestCase.Protocol": true, "PolicyTestCase.Expect": true,
	"OwnerReference.APIVersion": true, "OwnerReference.Kind": true, "OwnerReference.Name": true, "OwnerReference.UID": true,
}

// field is the schema of a field of t, which as a schema is called name.
func (g *generator) field(t reflect.Type, name string, f reflect.StructField, tag string) node {
	s := g.value(f.Type)
	owner := t.Name()
	if len(f.Index) > 1 { // of the embedded TypeMeta
		owner = t.Field(f.Index[0]).Name
	}
	text := g.docs[owner+"."+f.Name]
	if text == "" {
		before := g.docs[g.after[owner+"."+f.Name]]
		if regexp.MustCompile(`\b` + f.Name + `\b`).MatchString(before) {
			text = before
		}
	}
	description := g.sentence(text, t)
	switch p, isParameter := g.felix[tag]; {
	case owner == "TypeMeta":
		description = map[string]string{"kind": "Kind of this object, as in the name of its schema.", "apiVersion": "Group and version of the schema of this object."}[tag]
	case name == string(g.kind.Kind) && slices.Contains([]string{"metadata", "spec", "status"}, tag):
		description = map[string]string{"metadata": "Name, labels and what else every kind has.", "spec": "What is wanted.", "status": "What is."}[tag]
	case t == reflect.TypeFor[api.FelixConfigurationSpec]() && isParameter:
		description = g.parameter(s, p)
	}
	if description == "" {
		g.missing = append(g.missing, owner+"."+f.Name)
	}
	fact, key := facts[name+"."+f.Name], name+"."+f.Name
	if fact == nil {
		fact, key = facts[owner+"."+f.Name], owner+"."+f.Name
	}
	if fact != nil {
		g.used[key] = true
	}
	at := s
	if items, is := s["items"].(node); is && fact["x-kubernetes-list-type"] == nil {
		at = items
	}
	for k, v := range fact {
		at[k] = v
	}
	if _, is := s["$ref"]; is {
		s = node{"allOf": []any{s}}
		if f.Type.Kind() == reflect.Struct {
			s["default"] = node{}
		}
	}
	s["description"] = description
	return s
}

// parameter adds to s what is known of a FelixConfiguration parameter, and
// describes it.
func (g *generator) parameter(s node, p api.FelixParameter) string {
	purpose := strings.TrimSuffix(p.Purpose, "; see text")
	text := strings.ToUpper(purpose[:1]) + purpose[1:] + "."
	if p.Default != "" {
		text += " When nothing sets it: " + p.Default + "."
	}
	kind, rest, _ := strings.Cut(p.Type, " ")
	lo, hi, isRange := strings.Cut(rest, "..")
	switch {
	case kind == "enum" && s["type"] == "string":
		s["enum"] = words(strings.Fields(rest)...)
	case kind == "int" && isRange && s["type"] == "integer":
		s["minimum"], s["maximum"] = json.Number(lo), json.Number(hi)
	case kind == "int" && strings.HasPrefix(rest, ">=") && s["type"] == "integer":
		s["minimum"] = json.Number(rest[2:])
	}
	return text
}

// value is the schema of a value of type t.
func (g *generator) value(t reflect.Type) node {
	switch t {
	case reflect.TypeFor[api.Time]():
		return node{"type": "string", "format": "date-time"}
	case reflect.TypeFor[api.Duration]():
		return node{"type": "string", "pattern": `^-?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`}
	case reflect.TypeFor[api.Port](), reflect.TypeFor[api.Protocol](), reflect.TypeFor[api.DSCP](), reflect.TypeFor[api.ASNumber]():
		name := g.prefix + t.Name()
		g.defs[name] = node{"description": g.sentence(g.docs[t.Name()], t), "x-kubernetes-int-or-string": true}
		return pointTo(name)
	case reflect.TypeFor[json.RawMessage](): // managedFields and conditions
		return node{"type": "array", "x-kubernetes-list-type": "atomic", "items": node{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.value(t.Elem())
	case reflect.String:
		s := node{"type": "string"}
		if c := g.choices[t.Name()]; len(c) > 0 && t.PkgPath() != "" && t.Name() != "Kind" {
			s["enum"] = c
		}
		return s
	case reflect.Bool:
		return node{"type": "boolean"}
	case reflect.Int, reflect.Uint16, reflect.Uint8:
		return node{"type": "integer", "format": "int32"}
	case reflect.Int64, reflect.Uint32:
		return node{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return node{"type": "number", "format": "double"}
	case reflect.Slice:
		return node{"type": "array", "x-kubernetes-list-type": "atomic", "items": g.value(t.Elem())}
	case reflect.Map:
		return node{"type": "object", "additionalProperties": g.value(t.Elem())}
	case reflect.Struct:
		return pointTo(g.ref(t))
	}
	g.t.Fatalf("%s: no schema for it", t)
	return nil
}

// sentence is a comment as a description: one line, with the names of fields
// as they are in JSON.
func (g *generator) sentence(text string, t reflect.Type) string {
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	text = strings.Join(strings.Fields(paragraphs[0]), " ")
	if t.Kind() != reflect.Struct {
		return text
	}
	for _, f := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "" || len(f.Index) > 1:
		case strings.HasPrefix(text, f.Name+" "):
			text = tag + text[len(f.Name):]
		case strings.ToUpper(f.Name) != f.Name: // ICMP is also a word
			text = regexp.MustCompile(`\b`+f.Name+`\b`).ReplaceAllString(text, tag)
		}
	}
	return text
}
