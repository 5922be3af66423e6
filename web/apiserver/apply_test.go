// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ripstop/ripstop/daemon/api"
)

var applied = []string{"Content-Type", typeApplyPatch}

// applyPath is where a manager applies a policy.
func applyPath(name, manager string, more ...string) string {
	return gnps + "/" + name + "?fieldManager=" + manager + strings.Join(more, "")
}

// part is what a manager wants of a policy, as YAML.
func part(name, rest string) string {
	return "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: " + name + "}\n" + rest
}

// managers are who owns fields of an object, by name and operation.
func managers(t *testing.T, raw json.RawMessage) []string {
	t.Helper()
	var entries []metav1.ManagedFieldsEntry
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &entries); err != nil {
			t.Fatal(err)
		}
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Manager+" "+string(e.Operation)+" "+e.Subresource)
	}
	return out
}

func TestApply_MakesMergesAndTakesAway(t *testing.T) {
	e := start(t, nil)
	e.want(201, "PATCH", applyPath("p", "a"), part("p", "spec: {selector: all(), order: 1}"), applied...)
	e.want(200, "PATCH", applyPath("p", "b"), part("p", "spec: {applyOnForward: true}"), applied...)
	var p api.GlobalNetworkPolicy
	e.want(200, "PATCH", applyPath("p", "a"), part("p", "spec: {selector: all()}"), applied...).decode(t, &p)
	if p.Spec.Order != nil || p.Spec.Selector != "all()" || !p.Spec.ApplyOnForward {
		t.Errorf("after a gave order up: %+v", p.Spec)
	}
	if diff := cmp.Diff([]string{"a Apply ", "b Apply "}, managers(t, p.ManagedFields)); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}
	// The same again changes nothing, and is not written.
	var again api.GlobalNetworkPolicy
	e.want(200, "PATCH", applyPath("p", "a"), part("p", "spec: {selector: all()}"), applied...).decode(t, &again)
	if again.ResourceVersion != p.ResourceVersion {
		t.Errorf("the same again: resourceVersion %s, was %s", again.ResourceVersion, p.ResourceVersion)
	}
	// Who owned what is kept in the store.
	stored := e.want(200, "GET", gnps+"/p", "")
	stored.decode(t, &again)
	if diff := cmp.Diff(string(p.ManagedFields), string(again.ManagedFields)); diff != "" {
		t.Errorf("managedFields (-answered +stored):\n%s", diff)
	}
}

func TestApply_ConflictsAreToldWithTheirFields(t *testing.T) {
	e := start(t, nil)
	e.want(201, "PATCH", applyPath("p", "a"), part("p", "spec: {selector: all(), order: 1}"), applied...)
	st := e.want(409, "PATCH", applyPath("p", "b"), part("p", "spec: {selector: has(x), order: 2}"), applied...).status(t)
	var fields []string
	for _, c := range st.Details.Causes {
		if c.Reason != "FieldManagerConflict" || !strings.Contains(c.Message, `"a"`) {
			t.Errorf("cause %+v", c)
		}
		fields = append(fields, c.Field)
	}
	if diff := cmp.Diff([]string{".spec.order", ".spec.selector"}, fields); diff != "" || st.Reason != api.ReasonConflict {
		t.Errorf("reason %s, fields (-want +got):\n%s", st.Reason, diff)
	}
	e.want(200, "PATCH", applyPath("p", "b", "&force=true&dryRun=All"), part("p", "spec: {selector: has(x)}"), applied...)
	e.want(409, "PATCH", applyPath("p", "b"), part("p", "spec: {selector: has(x)}"), applied...)
	e.want(200, "PATCH", applyPath("p", "b", "&force=true"), part("p", "spec: {selector: has(x)}"), applied...)
	e.want(409, "PATCH", applyPath("p", "a"), part("p", "spec: {selector: all(), order: 1}"), applied...)
}

func TestApply_Refuses(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnps, gnp("p", "default"))
	for _, c := range []struct {
		name, path, body string
		code             int
		text             string
	}{
		{"no manager", gnps + "/p", part("p", "spec: {}"), 422, "fieldManager"},
		{"too long a manager", applyPath("p", strings.Repeat("x", 129)), part("p", "spec: {}"), 422, "128"},
		{"another kind", applyPath("p", "a"), "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: p}", 400, "kind"},
		{"another name", applyPath("p", "a"), part("q", "spec: {}"), 400, "metadata.name"},
		{"an unknown field", applyPath("p", "a"), part("p", "spec: {selectr: all()}"), 400, "spec.selectr"},
		{"a member twice", applyPath("p", "a"), `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","spec":{},"spec":{}}`, 400, "twice"},
		{"two documents", applyPath("p", "a"), part("p", "spec: {}") + "\n---\n" + part("p", "spec: {}"), 400, "more than one"},
		{"nothing", applyPath("p", "a"), "", 400, "no document"},
		{"a list", applyPath("p", "a"), "[]", 400, "body"},
		{"managed fields", applyPath("p", "a"), "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {managedFields: [{manager: x}]}", 400, "managedFields"},
		{"a bad value", applyPath("p", "a", "&force=true"), part("p", "spec: {selector: \"==\"}"), 422, "spec.selector"},
		{"a stale resourceVersion", applyPath("p", "a"), "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {resourceVersion: \"1\"}", 409, "resourceVersion"},
		{"a revision of what is not there", applyPath("q", "a"), "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {resourceVersion: \"1\"}\nspec: {}", 404, "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if st := e.want(c.code, "PATCH", c.path, c.body, applied...).status(t); !strings.Contains(st.Message, c.text) {
				t.Errorf("message %q lacks %q", st.Message, c.text)
			}
		})
	}
	e.want(422, "PATCH", gnps+"/p?force=true", `{}`, "Content-Type", typeMergePatch)
}

// TestApply_ManagersAtOnceAllGetTheirPart: whoever comes in between is not
// overwritten.
func TestApply_ManagersAtOnceAllGetTheirPart(t *testing.T) {
	e := start(t, nil)
	var wg sync.WaitGroup
	codes := make(chan int, 4)
	for i := range 4 {
		wg.Go(func() {
			body := "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p, labels: {l" + fmt.Sprint(i) + ": x}}\nspec: {}"
			codes <- e.do("PATCH", applyPath("p", fmt.Sprintf("m%d", i)), body, applied...).code
		})
	}
	wg.Wait()
	close(codes)
	for code := range codes {
		if code != 200 && code != 201 {
			t.Errorf("apply: %d", code)
		}
	}
	var p api.GlobalNetworkPolicy
	e.want(200, "GET", gnps+"/p", "").decode(t, &p)
	if len(p.Labels) != 5 || len(managers(t, p.ManagedFields)) != 4 { // with the tier's label
		t.Errorf("labels %v, managers %v", p.Labels, managers(t, p.ManagedFields))
	}
}

func TestManagedFields_FollowOtherWrites(t *testing.T) {
	e := start(t, nil)
	var p, forgotten api.GlobalNetworkPolicy
	e.want(201, "POST", gnps+"?fieldManager=maker", gnp("p", "default")).decode(t, &p)
	e.want(200, "PATCH", gnps+"/p", `{"spec":{"order":5}}`, "Content-Type", typeMergePatch, "User-Agent", "tool/1.0 (x)").decode(t, &p)
	if diff := cmp.Diff([]string{"maker Update ", "tool Update "}, managers(t, p.ManagedFields)); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}
	// An update that does not bring them keeps them, an empty list forgets.
	e.want(200, "PUT", gnps+"/p?fieldManager=maker", gnp("p", "default")).decode(t, &p)
	if got := managers(t, p.ManagedFields); len(got) == 0 {
		t.Errorf("an update without managedFields: %v", got)
	}
	e.want(200, "PATCH", gnps+"/p", `{"metadata":{"managedFields":[]}}`, "Content-Type", typeMergePatch).decode(t, &forgotten)
	if got := managers(t, forgotten.ManagedFields); len(got) != 0 {
		t.Errorf("after managedFields: []: %v", got)
	}
	e.want(200, "PATCH", gnps+"/p", `{"metadata":{"managedFields":[{}]}}`, "Content-Type", typeMergePatch)
	e.want(422, "PATCH", gnps+"/p", `{"metadata":{"managedFields":[{"manager":"x","operation":"Nonsense"}]}}`, "Content-Type", typeMergePatch)
}

func TestSameManaged_LooksAtAllButTheTimes(t *testing.T) {
	const a = `[{"manager":"a","operation":"Apply","time":"2026-01-01T00:00:00Z","fieldsV1":{"f:spec":{}}}]`
	for _, c := range []struct {
		b    string
		same bool
	}{
		{strings.Replace(a, "2026", "2027", 1), true},
		{strings.Replace(a, `"a"`, `"b"`, 1), false},
		{strings.Replace(a, "f:spec", "f:status", 1), false},
		{"[]", false},
		{"", false},
	} {
		if got := sameManaged([]byte(a), []byte(c.b)); got != c.same {
			t.Errorf("sameManaged with %s: %v, want %v", c.b, got, c.same)
		}
	}
	if !sameManaged(nil, []byte("[]")) {
		t.Error("nothing and an empty list differ")
	}
}

func TestStatus_StandsApart(t *testing.T) {
	e := start(t, nil)
	merge := []string{"Content-Type", typeMergePatch}
	tier := tiers + "/t"
	e.want(201, "POST", tiers, `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"t"},"spec":{"order":5},"status":{"conditions":[{"type":"Forged"}]}}`)
	var o api.Tier
	e.want(200, "PATCH", tier, `{"status":{"conditions":[{"type":"Forged"}]}}`, merge...).decode(t, &o)
	if o.Status.Conditions != nil {
		t.Errorf("the main path wrote a status: %s", o.Status.Conditions)
	}
	e.want(200, "PATCH", tier+"/status?fieldManager=controller", `{"metadata":{"labels":{"a":"b"}},"spec":{"order":9},"status":{"conditions":[{"type":"Ready"}]}}`, merge...).decode(t, &o)
	if string(o.Status.Conditions) != `[{"type":"Ready"}]` || *o.Spec.Order != 5 || o.Labels["a"] != "" {
		t.Errorf("the status path: %+v, order %v, labels %v", o.Status, *o.Spec.Order, o.Labels)
	}
	if got := managers(t, o.ManagedFields); len(got) != 2 || got[1] != "controller Update status" {
		t.Errorf("managers %v", got)
	}
	e.want(200, "PATCH", tier, `{"spec":{"order":6}}`, merge...).decode(t, &o)
	if string(o.Status.Conditions) != `[{"type":"Ready"}]` {
		t.Errorf("a change of the spec lost the status: %s", o.Status.Conditions)
	}
	e.want(200, "PATCH", tier+"/status?fieldManager=c2&force=true", "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nstatus: {conditions: [{type: Applied}]}", applied...).decode(t, &o)
	if !strings.Contains(string(o.Status.Conditions), "Applied") {
		t.Errorf("applied status: %s", o.Status.Conditions)
	}
	e.want(200, "GET", tier+"/status", "")
	e.want(404, "PATCH", tiers+"/none/status?fieldManager=c", "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: none}\nstatus: {}", applied...)
	e.want(201, "POST", gnps, gnp("p", "default"))
	e.want(404, "GET", gnps+"/p/status", "") // has none
}
