// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/ripstop/ripstop/daemon/api"
)

// Every object remembers who set which of its fields (metadata.managedFields),
// so that several programs can each apply their part of it and hear when they
// disagree. The engine is that of Kubernetes, on plain JSON trees:
//
//	object ─► tree ─┐                     ┌─► tree ─► object
//	                ├─► apply or compare ─┤
//	patch ──► tree ─┘      (by schema)    └─► who set what

// fieldManagers are the engines by kind and subresource. They are safe for
// concurrent use.
type fieldManagers map[fieldManagerKey]*managedfields.FieldManager

type fieldManagerKey struct {
	kind        api.Kind
	subresource string
}

// managersOnce makes the engines once for all servers: they hold nothing but
// the schemas.
var managersOnce = sync.OnceValue(newFieldManagers)

func newFieldManagers() fieldManagers {
	types, err := managedfields.NewTypeConverter(schemas(), false)
	if err != nil {
		panic(fmt.Sprintf("apiserver: schema.json: %v", err))
	}
	m := fieldManagers{}
	for _, k := range newCatalog().kinds {
		gvk := schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: string(k.Kind)}
		add := func(subresource string, others ...string) {
			// What a path cannot write nobody owns through it.
			var reset map[fieldpath.APIVersion]fieldpath.Filter
			if len(others) > 0 {
				set := fieldpath.NewSet()
				for _, o := range others {
					set.Insert(fieldpath.MakePathOrDie(o))
				}
				reset = map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(k.APIVersion()): fieldpath.NewExcludeSetFilter(set)}
			}
			fm, err := managedfields.NewDefaultFieldManager(types, oneVersion{}, noDefaults{}, emptyTrees{}, gvk, gvk.GroupVersion(), subresource, reset)
			if err != nil {
				panic(fmt.Sprintf("apiserver: managed fields of %s: %v", k.Kind, err))
			}
			m[fieldManagerKey{k.Kind, subresource}] = fm
		}
		if k.statusApart() {
			add("", "status")
		} else {
			add("")
		}
		if k.hasStatus() {
			add("status", "metadata", "spec")
		}
	}
	return m
}

// oneVersion is a converter between the versions of a kind: there is one.
type oneVersion struct{}

func (oneVersion) Convert(_, _, _ any) error { return errors.New("there is one version only") }

func (oneVersion) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}

func (oneVersion) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// noDefaults leaves trees as they are: objects get their defaults later.
type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

// emptyTrees makes trees without content.
type emptyTrees struct{}

func (emptyTrees) New(k schema.GroupVersionKind) (runtime.Object, error) { return emptyTree(k), nil }

func emptyTree(k schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(k)
	return u
}

// treeOf is an object as a tree. Of nil and of what cannot be read it is the
// tree without content.
func treeOf(k *kindInfo, o api.Object) (*unstructured.Unstructured, error) {
	if _, bad := o.(*api.Unreadable); bad || o == nil {
		return emptyTree(schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: string(k.Kind)}), nil
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return parseTree(data)
}

func parseTree(data []byte) (*unstructured.Unstructured, error) {
	tree := map[string]any{}
	if err := utiljson.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	return &unstructured.Unstructured{Object: tree}, nil
}

// track notes in o who changed what since old, which is nil if o is new.
func (r *request) track(old, o api.Object) error {
	manager, err := r.fieldManager()
	if err != nil {
		return err
	}
	m := o.Metadata()
	// An empty list, or one empty entry, is a wish to forget all.
	forget := false
	if len(m.ManagedFields) > 0 {
		var entries []metav1.ManagedFieldsEntry
		err := json.Unmarshal(m.ManagedFields, &entries)
		forget = err == nil && (len(entries) == 0 || len(entries) == 1 && reflect.DeepEqual(entries[0], metav1.ManagedFieldsEntry{}))
		if err == nil && !forget {
			err = managedfields.ValidateManagedFields(entries)
		}
		if err != nil {
			return invalidObject(r, o, &api.FieldError{Path: "metadata.managedFields", Message: err.Error(), Fix: "leave it out: the server keeps it"})
		}
	}
	before, err := treeOf(r.desc, old)
	if err != nil {
		return err
	}
	after, err := treeOf(r.desc, o)
	if err != nil {
		return err
	}
	if forget {
		after.SetManagedFields([]metav1.ManagedFieldsEntry{{}}) // the form that the engine knows
	}
	result, err := managersOnce()[fieldManagerKey{r.desc.Kind, r.attrs.Subresource}].Update(before, after, manager)
	if err != nil {
		return fmt.Errorf("managed fields: %w", err)
	}
	m.ManagedFields, err = managedFieldsOf(result)
	return err
}

// managedFieldsOf are the managed fields of a tree as an object holds them.
func managedFieldsOf(o runtime.Object) (json.RawMessage, error) {
	entries := o.(*unstructured.Unstructured).GetManagedFields()
	if len(entries) == 0 {
		return nil, nil
	}
	return json.Marshal(entries)
}

// sameManaged reports whether two values of managedFields say the same, but
// for the times.
func sameManaged(a, b json.RawMessage) bool {
	timeless := func(raw json.RawMessage) string {
		var entries []metav1.ManagedFieldsEntry
		if len(raw) > 0 && json.Unmarshal(raw, &entries) != nil {
			return string(raw)
		}
		for i := range entries {
			entries[i].Time = nil
		}
		data, err := json.Marshal(entries)
		if err != nil || len(entries) == 0 {
			return ""
		}
		return string(data)
	}
	return timeless(a) == timeless(b)
}

// maxManager is the longest name of a manager, in bytes.
const maxManager = 128

// fieldManager is who writes: what the request says, or else the program.
func (r *request) fieldManager() (string, error) {
	if name := r.query.Get("fieldManager"); name != "" {
		if len(name) > maxManager || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return "", failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "fieldManager: want at most %d bytes that can be printed", maxManager)
		}
		return name, nil
	}
	program, _, _ := strings.Cut(r.UserAgent(), "/")
	program = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, program)
	if program == "" {
		program = "unknown"
	}
	return program[:min(len(program), maxManager)], nil
}

// merged is what old, nil if there is nothing yet, becomes by applying patch.
func (r *request) merged(old api.Object, patch *unstructured.Unstructured, force bool) (api.Object, error) {
	if u, bad := old.(*api.Unreadable); bad {
		return nil, unreadable(r, u)
	}
	manager, err := r.fieldManager()
	if err != nil {
		return nil, err
	}
	before, err := treeOf(r.desc, old)
	if err != nil {
		return nil, err
	}
	result, err := managersOnce()[fieldManagerKey{r.desc.Kind, r.attrs.Subresource}].Apply(before, patch.DeepCopy(), manager, force)
	if err != nil {
		return nil, applyFailure(err)
	}
	managed, err := managedFieldsOf(result)
	if err != nil {
		return nil, err
	}
	tree := result.(*unstructured.Unstructured)
	tree.SetManagedFields(nil)
	data, err := json.Marshal(tree.Object)
	if err != nil {
		return nil, err
	}
	o, err := r.decode(data)
	if err != nil {
		return nil, err
	}
	o.Metadata().ManagedFields = managed
	return o, fits(r, o)
}

// applyFailure is the Status for a patch that cannot be applied: a conflict
// with its causes, or a fault of the patch.
func applyFailure(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		data, merr := json.Marshal(status.Status())
		if merr != nil {
			return merr
		}
		st := &api.Status{}
		if uerr := json.Unmarshal(data, st); uerr != nil {
			return uerr
		}
		st.Kind, st.APIVersion = "Status", "v1"
		return st
	}
	return failure(http.StatusBadRequest, api.ReasonBadRequest, "body: %v", err)
}
