// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// assigner writes trees into Go values and collects every fault on the way.
// Names of fields are compared exactly.
type assigner struct {
	kind Kind
	// strict: an unknown field is a fault; else it is skipped.
	strict bool
	// strictSpec makes what is below "spec" strict.
	strictSpec bool
	faults     []placedFault
	// skipped are the unknown fields that were no faults.
	skipped []placedFault
	path    []step
}

// placedFault is a fault with its position in the document.
type placedFault struct {
	*FieldError
	pos int
}

// step is one step of a path: a field's name, a key of a map or an index.
type step struct {
	name  string
	key   bool
	index int
}

// at is the current path.
func (a *assigner) at() string {
	path := ""
	for _, s := range a.path {
		switch {
		case s.key:
			path = under(path, s.name)
		case s.name != "":
			path = join(path, s.name)
		default:
			path = at(path, s.index)
		}
	}
	return path
}

func (a *assigner) fault(pos int, value, message, fix string) {
	a.faults = append(a.faults, placedFault{&FieldError{Path: a.at(), Value: value, Message: message, Fix: fix}, pos})
}

// field is one field of a struct as JSON sees it.
type field struct {
	name  string
	index []int
}

// fields are the fields of every struct of this package that is read from
// JSON, in order.
var fields = tableOfFields(
	reflect.TypeFor[GlobalNetworkPolicy](), reflect.TypeFor[NetworkPolicy](),
	reflect.TypeFor[StagedGlobalNetworkPolicy](), reflect.TypeFor[StagedNetworkPolicy](),
	reflect.TypeFor[Tier](), reflect.TypeFor[GlobalNetworkSet](), reflect.TypeFor[NetworkSet](),
	reflect.TypeFor[HostEndpoint](), reflect.TypeFor[WorkloadEndpoint](), reflect.TypeFor[Profile](),
	reflect.TypeFor[Node](), reflect.TypeFor[FelixConfiguration](), reflect.TypeFor[ClusterInformation](),
	reflect.TypeFor[IPPool](), reflect.TypeFor[HostStatus](), reflect.TypeFor[Namespace](),
	reflect.TypeFor[Role](), reflect.TypeFor[RoleBinding](), reflect.TypeFor[Credential](),
	reflect.TypeFor[Change](), reflect.TypeFor[RevisionRecord](), reflect.TypeFor[PolicyTest](),
)

func tableOfFields(types ...reflect.Type) map[reflect.Type][]field {
	table := map[reflect.Type][]field{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(t.Elem())
		case reflect.Struct:
			if _, done := table[t]; done || readsItself(t) {
				return
			}
			table[t] = nil
			for _, f := range reflect.VisibleFields(t) {
				tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if tag == "" || len(f.Index) > 1 && t.Field(f.Index[0]).Tag.Get("json") != "" {
					continue // TypeMeta itself, or a field promoted out of Meta
				}
				table[t] = append(table[t], field{tag, f.Index})
				visit(f.Type)
			}
		}
	}
	for _, t := range types {
		visit(t)
	}
	return table
}

var unmarshalerType = reflect.TypeFor[json.Unmarshaler]()

// readsItself reports whether t has a form of its own in JSON.
func readsItself(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Uint32: // no others do, and asking is slow
		return reflect.PointerTo(t).Implements(unmarshalerType)
	}
	return false
}

// notOf are the fields of PolicySpec that a kind does not have.
var notOf = map[Kind][]string{
	KindGlobalNetworkPolicy: {"stagedAction"},
	KindNetworkPolicy:       {"stagedAction", "doNotTrack", "preDNAT", "applyOnForward", "namespaceSelector"},
	KindStagedNetworkPolicy: {"doNotTrack", "preDNAT", "applyOnForward", "namespaceSelector"},
}

// droppedMeta are fields of Kubernetes' ObjectMeta that users send back and
// that mean nothing here.
var droppedMeta = []string{"selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"}

// assign writes t into v, which can be set.
func (a *assigner) assign(v reflect.Value, t *tree) {
	typ := v.Type()
	if typ.Kind() == reflect.Pointer {
		if t.kind == treeNull {
			return
		}
		p := reflect.New(typ.Elem())
		a.assign(p.Elem(), t)
		v.Set(p)
		return
	}
	if _, known := fields[typ]; !known && readsItself(typ) {
		a.assignItself(v, t)
		return
	}
	if t.kind == treeNull {
		return // as if it were not there
	}
	switch typ.Kind() {
	case reflect.String:
		if s, ok := a.text(t); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		if a.want(treeBool, t) {
			v.SetBool(t.text == "true")
		}
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint8:
		a.assignInteger(v, t)
	case reflect.Float64:
		if !a.want(treeNumber, t) {
			return
		}
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			a.fault(t.pos, t.sample(), "number is too large", "")
			return
		}
		v.SetFloat(f)
	case reflect.Slice:
		a.assignList(v, t)
	case reflect.Map:
		a.assignMap(v, t)
	case reflect.Struct:
		a.assignStruct(v, t)
	default:
		panic("api: cannot read into " + typ.String())
	}
}

// assignItself lets a type with UnmarshalJSON read.
func (a *assigner) assignItself(v reflect.Value, t *tree) {
	switch x := v.Addr().Interface().(type) {
	case *Port: // these two are in nearly every rule: without a detour
		if p, err := ParsePort(t.text); err == nil && (t.kind == treeString || t.kind == treeNumber && allDigits(t.text)) {
			p.Name = intern(p.Name)
			*x = p
			return
		}
	case *Protocol:
		if p, err := ParseProtocol(t.text); err == nil && (t.kind == treeString || t.kind == treeNumber && allDigits(t.text)) {
			p.Name = intern(p.Name)
			*x = p
			return
		}
	case *json.RawMessage:
		if t.kind != treeNull {
			v.SetBytes(t.appendJSON(nil))
		}
		return
	}
	if _, isTime := v.Addr().Interface().(*Time); !isTime {
		if t.kind == treeNull {
			return
		}
		if t.kind != treeString && t.kind != treeNumber {
			a.fault(t.pos, t.sample(), "expected a string or a number, found "+t.kind.String(), "")
			return
		}
	}
	if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(t.appendJSON(nil)); err != nil {
		a.fault(t.pos, "", err.Error(), "")
	}
}

// want reports whether t is of a kind, and faults it if not.
func (a *assigner) want(kind treeKind, t *tree) bool {
	if t.kind == kind {
		return true
	}
	a.fault(t.pos, t.sample(), fmt.Sprintf("expected %s, found %s", kind, t.kind), "")
	return false
}

// text is what t gives where a string is wanted. A plain YAML scalar that is
// a boolean gives "true" or "false", as in Calico; a number gives its digits
// unless it was written in another way than it would be printed.
func (a *assigner) text(t *tree) (string, bool) {
	if t.kind == treeString {
		return intern(t.text), true
	}
	if t.plain && (t.kind == treeBool || t.written == t.text) {
		return t.text, true
	}
	fix := ""
	if t.kind == treeNumber || t.kind == treeBool {
		fix = "put it in quotes"
	}
	a.fault(t.pos, t.sample(), fmt.Sprintf("expected %s, found %s", treeString, t.kind), fix)
	return "", false
}

func (a *assigner) assignInteger(v reflect.Value, t *tree) {
	if t.kind != treeNumber {
		a.fault(t.pos, t.sample(), "expected a whole number, found "+t.kind.String(), "")
		return
	}
	bits := v.Type().Bits()
	if v.CanInt() {
		n, err := strconv.ParseInt(t.text, 10, bits)
		if err == nil {
			v.SetInt(n)
			return
		}
	} else {
		n, err := strconv.ParseUint(t.text, 10, bits)
		if err == nil {
			v.SetUint(n)
			return
		}
	}
	if !allDigits(strings.TrimPrefix(t.text, "-")) {
		a.fault(t.pos, t.sample(), "expected a whole number", "")
		return
	}
	if v.CanInt() {
		a.fault(t.pos, t.sample(), fmt.Sprintf("beyond what a number of %d bits holds", bits), "")
		return
	}
	a.fault(t.pos, t.sample(), fmt.Sprintf("expected a number from 0 to %d", uint64(1)<<bits-1), "")
}

func (a *assigner) assignList(v reflect.Value, t *tree) {
	if !a.want(treeList, t) {
		return
	}
	s := reflect.MakeSlice(v.Type(), len(t.list), len(t.list))
	a.path = append(a.path, step{})
	for i := range t.list {
		a.path[len(a.path)-1].index = i
		if t.list[i].kind == treeNull {
			a.fault(t.list[i].pos, "", "null in a list", "remove it")
			continue
		}
		a.assign(s.Index(i), &t.list[i])
	}
	a.path = a.path[:len(a.path)-1]
	v.Set(s)
}

func (a *assigner) assignMap(v reflect.Value, t *tree) {
	if !a.want(treeObject, t) {
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(t.members))
	for i := range t.members {
		a.path = append(a.path, step{name: t.members[i].name, key: true})
		e := reflect.New(v.Type().Elem()).Elem()
		a.assign(e, &t.members[i].value)
		m.SetMapIndex(reflect.ValueOf(intern(t.members[i].name)), e)
		a.path = a.path[:len(a.path)-1]
	}
	v.Set(m)
}

func (a *assigner) assignStruct(v reflect.Value, t *tree) {
	if !a.want(treeObject, t) {
		return
	}
	typ := v.Type()
	known, ok := fields[typ]
	if !ok {
		panic("api: " + typ.String() + " is in no kind")
	}
	for i := range t.members {
		m := &t.members[i]
		a.path = append(a.path, step{name: m.name})
		f := slices.IndexFunc(known, func(f field) bool { return f.name == m.name })
		switch {
		case f < 0 || typ == reflect.TypeFor[PolicySpec]() && slices.Contains(notOf[a.kind], m.name):
			if a.strict && !(typ == reflect.TypeFor[Meta]() && slices.Contains(droppedMeta, m.name)) {
				message, fix := a.unknown(typ, m.name)
				a.fault(m.pos, "", message, fix)
			} else if !a.strict && !(typ == reflect.TypeFor[Meta]() && slices.Contains(droppedMeta, m.name)) {
				message, fix := a.unknown(typ, m.name)
				a.skipped = append(a.skipped, placedFault{&FieldError{Path: a.at(), Message: message, Fix: fix}, m.pos})
			}
		default:
			was := a.strict
			a.strict = was || a.strictSpec && len(a.path) == 1 && m.name == "spec"
			a.assign(v.FieldByIndex(known[f].index), &m.value)
			a.strict = was
		}
		a.path = a.path[:len(a.path)-1]
	}
}

// unknownField is the message of a field that does not exist.
const unknownField = "unknown field"

// unknown says that typ has no field of that name, and where it is or what
// may have been meant.
func (a *assigner) unknown(typ reflect.Type, name string) (message, fix string) {
	var names []string
	for _, f := range fields[typ] {
		if typ == reflect.TypeFor[PolicySpec]() && slices.Contains(notOf[a.kind], f.name) {
			if f.name == name {
				return "not a field of " + string(a.kind), ""
			}
			continue
		}
		names = append(names, f.name)
	}
	var inside []string
	for _, f := range fields[typ] {
		t := typ.FieldByIndex(f.index).Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		for _, g := range fields[t] {
			if g.name == name {
				inside = append(inside, quoted(f.name))
			}
		}
	}
	if len(inside) > 0 {
		return unknownField, "it belongs inside of " + strings.Join(inside, " or ")
	}
	return unknownField, didYouMean(name, names)
}

// intern is a copy of s that does not keep the document alive; of words that
// are in every policy, always the same copy.
func intern(s string) string {
	switch s {
	case "":
		return ""
	case string(Allow):
		return string(Allow)
	case string(Deny):
		return string(Deny)
	case string(Pass):
		return string(Pass)
	case string(Log):
		return string(Log)
	case string(Ingress):
		return string(Ingress)
	case string(Egress):
		return string(Egress)
	case DefaultTier:
		return DefaultTier
	case "TCP":
		return "TCP"
	case "UDP":
		return "UDP"
	case "all()":
		return "all()"
	case LabelTier:
		return LabelTier
	}
	return strings.Clone(s)
}
