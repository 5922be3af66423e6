// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/base64"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ripstop/ripstop/daemon/api"
)

// warnings are the texts of the Warning headers.
func (a answer) warnings() string { return strings.Join(a.header.Values("Warning"), "\n") }

func TestFieldValidation(t *testing.T) {
	const (
		meta = `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x","colour":"red"},"spec":{}}`
		spec = `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{"netz":[]}}`
		// What says nothing about packets is read leniently on request.
		felix = `{"apiVersion":"projectcalico.org/v3","kind":"FelixConfiguration","metadata":{"name":"x"},"spec":{"healthPrt":1,"healthPort":1,"healthPort":2}}`
		yaml  = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: x, colour: red}\nspec: {}\n"
	)
	felixes := "/apis/projectcalico.org/v3/felixconfigurations"
	for _, c := range []struct {
		name, path, body, typ string
		code                  int
		warns                 []string
	}{
		{"nothing said", gnss, meta, typeJSON, 400, nil},
		{"Strict", gnss + "?fieldValidation=Strict", meta, typeJSON, 400, nil},
		{"Warn", gnss + "?fieldValidation=Warn", meta, typeJSON, 201, []string{"metadata.colour: unknown field"}},
		{"Ignore", gnss + "?fieldValidation=Ignore", meta, typeJSON, 201, nil},
		{"Warn with YAML", gnss + "?fieldValidation=Warn", yaml, typeYAML, 201, []string{"metadata.colour: unknown field"}},
		{"Warn in a spec that is enforced", gnss + "?fieldValidation=Warn", spec, typeJSON, 400, nil},
		{"Ignore in a spec that is enforced", gnss + "?fieldValidation=Ignore", spec, typeJSON, 400, nil},
		{"Warn in another spec", felixes + "?fieldValidation=Warn", felix, typeJSON, 201, []string{`spec.healthPrt: unknown field; did you mean \"healthPort\"`, "spec.healthPort: there more than once"}},
		{"Ignore in another spec", felixes + "?fieldValidation=Ignore", felix, typeJSON, 201, nil},
		{"another word", gnss + "?fieldValidation=Maybe", meta, typeJSON, 422, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := start(t, nil)
			a := e.want(c.code, "POST", c.path, c.body, "Content-Type", c.typ)
			for _, w := range c.warns {
				if !strings.Contains(a.warnings(), w) {
					t.Errorf("warnings %q lack %q", a.warnings(), w)
				}
			}
			if len(c.warns) != len(a.header.Values("Warning")) {
				t.Errorf("warnings %q, want %d", a.warnings(), len(c.warns))
			}
		})
	}
}

func TestJSONPatch(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("x", "a", "b"))
	typ := []string{"Content-Type", typeJSONPatch}
	var o api.GlobalNetworkSet
	e.want(200, "PATCH", gnss+"/x", `[{"op":"test","path":"/metadata/labels/a","value":"b"},{"op":"add","path":"/spec/nets/-","value":"192.0.2.0/24"},{"op":"remove","path":"/metadata/labels/a"}]`, typ...).decode(t, &o)
	if len(o.Spec.Nets) != 2 || o.Labels["a"] != "" {
		t.Errorf("patched: %+v %v", o.Spec, o.Labels)
	}
	e.want(422, "PATCH", gnss+"/x", `[{"op":"test","path":"/metadata/name","value":"y"}]`, typ...)
	e.want(422, "PATCH", gnss+"/x", `[{"op":"remove","path":"/spec/none"}]`, typ...)
	e.want(422, "PATCH", gnss+"/x", `[{"op":"remove","path":"/spec/nets/-1"}]`, typ...)
	e.want(400, "PATCH", gnss+"/x", `[{"op":"replace","path":"/metadata/name","value":"y"}]`, typ...)
	e.want(400, "PATCH", gnss+"/x", `[{"op":"add","path":"/spec/net","value":1}]`, typ...)
	e.want(400, "PATCH", gnss+"/x", `{"op":"add"}`, typ...)
	e.want(400, "PATCH", gnss+"/x", `[{"op":"add","op":"remove","path":"/spec/nets"}]`, typ...)
	many := "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"GlobalNetworkSet"},`, maxOperations) + `{"op":"test","path":"/kind","value":"GlobalNetworkSet"}]`
	e.want(413, "PATCH", gnss+"/x", many, typ...)
	// A few short lines that would double the document over and over.
	bomb := `[{"op":"add","path":"/metadata/annotations","value":{"a":"` + strings.Repeat("x", 1000) + `"}}`
	for range 40 {
		bomb += `,{"op":"copy","from":"/metadata/annotations","path":"/metadata/annotations/b"}`
	}
	if a := e.do("PATCH", gnss+"/x", bomb+"]", typ...); a.code != 422 && a.code != 413 && a.code != 400 {
		t.Errorf("a patch that grows without bound: %d", a.code)
	}
}

func TestDeleteCollection(t *testing.T) {
	e := start(t, nil)
	for _, n := range []string{"a", "b", "c"} {
		e.want(201, "POST", gnss, netset(n, "keep", map[bool]string{true: "yes", false: "no"}[n == "c"]))
	}
	e.want(200, "DELETE", gnss+"?dryRun=All", "")
	e.want(200, "GET", gnss+"/a", "")
	e.want(400, "DELETE", gnss, `{"preconditions":{"uid":"x"}}`)
	var l struct{ Items []api.GlobalNetworkSet }
	e.want(200, "DELETE", gnss+"?labelSelector=keep%3Dno", `{"propagationPolicy":"Background"}`).decode(t, &l)
	if len(l.Items) != 2 {
		t.Errorf("deleted %d, want 2", len(l.Items))
	}
	e.want(404, "GET", gnss+"/a", "")
	e.want(200, "GET", gnss+"/c", "")
	// What may not go stops it, what is built in is passed over.
	e.want(405, "DELETE", tiers, "")
	e.want(200, "DELETE", profs, "")
	e.want(405, "DELETE", "/apis/projectcalico.org/v3/clusterinformations", "")
	e.want(404, "DELETE", "/apis/projectcalico.org/v3/networksets", "") // of all namespaces at once
}

func TestNamespaces(t *testing.T) {
	const namespaces = "/api/v1/namespaces"
	e := start(t, nil)
	var n api.Namespace
	e.want(200, "GET", namespaces+"/default", "").decode(t, &n)
	if n.Status.Phase != api.NamespaceActive || n.Labels[api.LabelNamespaceName] != "default" {
		t.Errorf("default: %+v", n)
	}
	e.want(403, "DELETE", namespaces+"/default", "")
	e.want(200, "PATCH", namespaces+"/default", `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type", typeMergePatch).decode(t, &n)
	if n.UID == "" || n.Labels["a"] != "b" {
		t.Errorf("default after a change: %+v", n.Meta)
	}
	e.want(403, "DELETE", namespaces+"/default", "")
	e.want(201, "POST", namespaces, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`)
	e.want(201, "POST", "/apis/projectcalico.org/v3/namespaces/shop/networksets", `{"apiVersion":"projectcalico.org/v3","kind":"NetworkSet","metadata":{"name":"s"},"spec":{}}`)
	if st := e.want(409, "DELETE", namespaces+"/shop", "").status(t); !strings.Contains(st.Message, "NetworkSet(shop/s)") {
		t.Errorf("message %q", st.Message)
	}
	e.want(200, "DELETE", "/apis/projectcalico.org/v3/namespaces/shop/networksets/s", "")
	e.want(200, "DELETE", namespaces+"/shop", "")
	var l struct{ Items []api.Namespace }
	e.want(200, "GET", namespaces, "").decode(t, &l)
	if len(l.Items) != 1 || l.Items[0].Name != "default" {
		t.Errorf("namespaces left: %+v", l.Items)
	}
}

// envelope is a body as Kubernetes' clients send it.
func envelope(t *testing.T, kind string, raw []byte) string {
	t.Helper()
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: kind}, Raw: raw}
	data, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return "k8s\x00" + string(data)
}

func TestProtobuf_OfWhatKubernetesClientsSend(t *testing.T) {
	e := start(t, nil)
	typ := []string{"Content-Type", typeProtobuf}
	meta, err := (&metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"a": "b"}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body := append([]byte{1<<3 | 2, byte(len(meta))}, meta...) // field 1, bytes
	body = append(body, 2<<3|2, 0, 3<<3|2, 0)                  // an empty spec, an empty status
	var n api.Namespace
	e.want(201, "POST", "/api/v1/namespaces", envelope(t, "Namespace", body), typ...).decode(t, &n)
	if n.Name != "shop" || n.Labels["a"] != "b" {
		t.Errorf("namespace: %+v", n.Meta)
	}
	policy := metav1.DeletePropagationBackground
	uid := metav1.NewUIDPreconditions("another")
	for _, c := range []struct {
		o    metav1.DeleteOptions
		code int
	}{{metav1.DeleteOptions{Preconditions: uid}, 409}, {metav1.DeleteOptions{PropagationPolicy: &policy}, 200}} {
		raw, err := c.o.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		e.want(c.code, "DELETE", "/api/v1/namespaces/shop", envelope(t, "DeleteOptions", raw), typ...)
	}
	for _, bad := range []string{"", "k8s\x00", "k8s\x00\xff\xff\xff", "junk", envelope(t, "Pod", nil), envelope(t, "Namespace", []byte{1<<3 | 2, 200}), envelope(t, "Namespace", []byte{1<<3 | 2, 2, 255, 255})} {
		if a := e.do("POST", "/api/v1/namespaces", bad, typ...); a.code != 400 && a.code != 422 {
			t.Errorf("%s: %d %s", base64.StdEncoding.EncodeToString([]byte(bad)), a.code, a.body)
		}
	}
	if st := e.want(400, "POST", "/api/v1/namespaces", envelope(t, "Pod", body), typ...).status(t); !strings.Contains(st.Message, "Pod") {
		t.Errorf("a Pod in the place of a Namespace: %q", st.Message)
	}
	e.want(415, "POST", gnss, envelope(t, "GlobalNetworkSet", nil), typ...)
}
