// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
)

// pages reads a list in parts and returns the names in all of them.
func (e *env) pages(path string, limit int) []string {
	e.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	var out []string
	next := ""
	for {
		var l struct {
			Metadata api.ListMeta
			Items    []struct{ Metadata api.Meta }
		}
		e.want(200, "GET", fmt.Sprintf("%s%slimit=%d&continue=%s", path, sep, limit, url.QueryEscape(next)), "").decode(e.t, &l)
		if len(l.Items) > limit {
			e.t.Fatalf("a page of %d has %d items", limit, len(l.Items))
		}
		for _, i := range l.Items {
			out = append(out, i.Metadata.Name)
		}
		if next = l.Metadata.Continue; next == "" {
			return out
		}
		if len(l.Items) != limit {
			e.t.Fatalf("a page of %d that is not the last has %d items", limit, len(l.Items))
		}
	}
}

func TestList_PagesAreThePictureOfTheFirst(t *testing.T) {
	e := start(t, nil)
	for i := range 7 {
		e.want(201, "POST", gnss, netset(fmt.Sprintf("s%d", i)))
	}
	var l struct{ Metadata api.ListMeta }
	e.want(200, "GET", gnss+"?limit=3", "").decode(t, &l)
	e.want(200, "DELETE", gnss+"/s5", "")
	e.want(201, "POST", gnss, netset("s55"))
	names := e.names(gnss + "?limit=100&continue=" + url.QueryEscape(l.Metadata.Continue))
	if diff := cmp.Diff([]string{"s3", "s4", "s5", "s6"}, names); diff != "" {
		t.Errorf("second page (-want +got):\n%s", diff)
	}
	_, now, err := e.mem.List(t.Context(), api.KindGlobalNetworkSet, listAll)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.mem.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	st := e.want(410, "GET", gnss+"?limit=100&continue="+url.QueryEscape(l.Metadata.Continue), "").status(t)
	if st.Reason != api.ReasonExpired {
		t.Errorf("a page of a forgotten picture: %+v, want %s", st, api.ReasonExpired)
	}
}

func TestList_FiltersAndNamespaces(t *testing.T) {
	e := start(t, nil)
	const sets = "/apis/projectcalico.org/v3/namespaces/%s/networksets"
	for _, s := range []struct{ ns, name, label string }{
		{"a", "one", "x"}, {"a", "two", "y"}, {"b", "one", "y"}, {"b", "three", ""}, {"c", "one", "x"},
	} {
		labels := ""
		if s.label != "" {
			labels = `,"labels":{"l":"` + s.label + `"}`
		}
		e.want(201, "POST", fmt.Sprintf(sets, s.ns),
			`{"apiVersion":"projectcalico.org/v3","kind":"NetworkSet","metadata":{"name":"`+s.name+`"`+labels+`},"spec":{}}`)
	}
	all := "/apis/projectcalico.org/v3/networksets"
	for _, c := range []struct {
		path  string
		names []string
	}{
		{all, []string{"one", "two", "one", "three", "one"}},
		{fmt.Sprintf(sets, "b"), []string{"one", "three"}},
		{fmt.Sprintf(sets, "none"), nil},
		{all + "?labelSelector=l%3Dy", []string{"two", "one"}},
		{all + "?labelSelector=l%21%3Dy", []string{"one", "three", "one"}},
		{all + "?labelSelector=%21l", []string{"three"}},
		{all + "?labelSelector=l+in+(x,y),l!%3Dx", []string{"two", "one"}},
		{all + "?fieldSelector=metadata.name%3Done", []string{"one", "one", "one"}},
		{all + "?fieldSelector=metadata.name%3Done,metadata.namespace!%3Da", []string{"one", "one"}},
		{fmt.Sprintf(sets, "a") + "?labelSelector=l%3Dx", []string{"one"}},
	} {
		if diff := cmp.Diff(c.names, e.names(c.path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.path, diff)
		}
		for limit := 1; limit <= 3; limit++ {
			if diff := cmp.Diff(c.names, e.pages(c.path, limit)); diff != "" {
				t.Errorf("%s in pages of %d (-want +got):\n%s", c.path, limit, diff)
			}
		}
	}
	for _, bad := range []string{
		"?labelSelector=l+is+x", "?fieldSelector=spec.node%3Dx", "?limit=-1", "?limit=x", "?continue=x", "?resourceVersion=x",
		"?resourceVersion=-1", "?resourceVersionMatch=Exact", "?resourceVersionMatch=Nearly", "?%zz",
		"?continue=" + continueToken{Revision: 1, Name: "a"}.String() + "&resourceVersion=1",
	} {
		if st := e.want(400, "GET", all+bad, "").status(t); st.Reason != api.ReasonBadRequest {
			t.Errorf("%s: reason %s", bad, st.Reason)
		}
	}
}

func TestList_RevisionOfThePastAndTheFuture(t *testing.T) {
	e := start(t, nil)
	var first api.GlobalNetworkSet
	e.want(201, "POST", gnss, netset("a")).decode(t, &first)
	e.want(201, "POST", gnss, netset("b"))
	if diff := cmp.Diff([]string{"a"}, e.names(gnss+"?resourceVersionMatch=Exact&resourceVersion="+first.ResourceVersion)); diff != "" {
		t.Errorf("at the past (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, e.names(gnss+"?resourceVersion="+first.ResourceVersion)); diff != "" {
		t.Errorf("not older than the past (-want +got):\n%s", diff)
	}
	a := e.want(504, "GET", gnss+"?resourceVersion=100000", "")
	if a.header.Get("Retry-After") == "" || a.status(t).Reason != api.ReasonTimeout {
		t.Errorf("the future: Retry-After %q, %s", a.header.Get("Retry-After"), a.body)
	}
}

func TestTable_HasColumnsAndRows(t *testing.T) {
	e := start(t, nil)
	accept := []string{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"}
	var l table
	e.want(200, "GET", tiers, "", accept...).decode(t, &l)
	var head []string
	for _, c := range l.Columns {
		head = append(head, c.Name)
	}
	if diff := cmp.Diff([]string{"NAME", "ORDER", "AGE"}, head); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	if l.Kind != "Table" || l.APIVersion != "meta.k8s.io/v1" || l.Metadata.ResourceVersion == "" || len(l.Rows) != 3 || l.Rows[0].Cells[0] != "default" {
		t.Errorf("table: %+v", l)
	}
	var one struct {
		Rows []struct {
			Object struct {
				Kind     string
				Metadata api.Meta
				Spec     *api.TierSpec
			}
		}
	}
	e.want(200, "GET", tiers+"/default", "", accept...).decode(t, &one)
	if o := one.Rows[0].Object; o.Kind != "PartialObjectMetadata" || o.Metadata.Name != "default" || o.Spec != nil {
		t.Errorf("row's object: %+v", o)
	}
	e.want(200, "GET", tiers+"/default?includeObject=Object", "", accept...).decode(t, &one)
	if o := one.Rows[0].Object; o.Kind != "Tier" || o.Spec == nil {
		t.Errorf("row's object when asked for: %+v", o)
	}
	e.want(400, "GET", tiers+"?includeObject=Some", "", accept...)
	var p struct {
		Kind  string
		Items []partial
	}
	e.want(200, "GET", tiers, "", "Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").decode(t, &p)
	if p.Kind != "PartialObjectMetadataList" || len(p.Items) != 3 || p.Items[0].Metadata.UID == "" {
		t.Errorf("partial list: %+v", p)
	}
	if st := e.want(406, "GET", tiers, "", "Accept", "application/vnd.kubernetes.protobuf").status(t); st.Reason != api.ReasonNotAcceptable {
		t.Errorf("protobuf: %+v", st)
	}
}

func TestUnreadable_HidesNothingElse(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("good"))
	k := api.Key{Kind: api.KindGlobalNetworkSet, Name: "bad"}
	if _, err := e.mem.PutBytes(t.Context(), k, []byte(`{"kind":"GlobalNetworkSet","spec":{"nets":["nonsense"]}`)); err != nil {
		t.Fatal(err)
	}
	a := e.want(200, "GET", gnss, "")
	if diff := cmp.Diff([]string{"bad", "good"}, e.names(gnss)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if w := a.header.Get("Warning"); !strings.Contains(w, "GlobalNetworkSet(bad)") || !strings.HasPrefix(w, "299 - ") {
		t.Errorf("Warning %q", w)
	}
	st := e.want(500, "GET", gnss+"/bad", "").status(t)
	if !strings.Contains(st.Message, "cannot be read") {
		t.Errorf("message %q", st.Message)
	}
	var raw rawValue
	e.want(200, "GET", gnss+"/bad?stored=true", "").decode(t, &raw)
	if !strings.Contains(string(raw.Raw), "nonsense") || raw.Metadata.Annotations[api.AnnotationUnreadable] == "" {
		t.Errorf("as stored: %+v", raw)
	}
	e.want(500, "PATCH", gnss+"/bad", `{}`, "Content-Type", "application/merge-patch+json")
	e.want(200, "PUT", gnss+"/bad", netset("bad"))
	e.want(200, "GET", gnss+"/bad", "")
}
