// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
)

// pathOf is the URL of a kind's resources.
func pathOf(d api.Descriptor, namespace string) string {
	if !d.Namespaced {
		namespace = ""
	}
	return d.Path(namespace)
}

func TestEveryKind_LivesThroughAllVerbs(t *testing.T) {
	for _, d := range api.Kinds() {
		if (&kindInfo{Descriptor: d}).readOnly() {
			continue
		}
		t.Run(string(d.Kind), func(t *testing.T) {
			e := start(t, nil)
			o := sample(t, d.Kind)
			if tier, is := tierOf(o); is && tier != api.DefaultTier {
				e.want(201, "POST", tiers, `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"`+tier+`"},"spec":{"order":5}}`)
			}
			ns, name := o.Key().Namespace, o.Key().Name
			list := pathOf(d, ns)
			item := list + "/" + name

			e.want(404, "GET", item, "")
			created := e.want(201, "POST", list, encode(t, o))
			got := e.want(200, "GET", item, "")
			if diff := cmp.Diff(string(created.body), string(got.body)); diff != "" {
				t.Errorf("what create answers is not what get answers (-create +get):\n%s", diff)
			}
			var m struct{ Metadata api.Meta }
			got.decode(t, &m)
			if m.Metadata.UID == "" || m.Metadata.ResourceVersion == "" || m.Metadata.CreationTimestamp.IsZero() {
				t.Errorf("created: uid %q, resourceVersion %q, creationTimestamp %v: all must be set", m.Metadata.UID, m.Metadata.ResourceVersion, m.Metadata.CreationTimestamp)
			}

			same := e.want(200, "PUT", item, string(got.body))
			if string(same.body) != string(got.body) {
				t.Errorf("an update that changes nothing: got %s, want %s", same.body, got.body)
			}
			patched := e.want(200, "PATCH", item, `{"metadata":{"annotations":{"note":"x"}}}`, "Content-Type", "application/merge-patch+json")
			var p struct{ Metadata api.Meta }
			patched.decode(t, &p)
			if p.Metadata.Annotations["note"] != "x" || p.Metadata.ResourceVersion == m.Metadata.ResourceVersion || p.Metadata.UID != m.Metadata.UID {
				t.Errorf("patched metadata: %+v, before %+v", p.Metadata, m.Metadata)
			}
			after := e.want(200, "GET", item, "")
			if diff := cmp.Diff(string(patched.body), string(after.body)); diff != "" {
				t.Errorf("what patch answers is not what get answers (-patch +get):\n%s", diff)
			}
			e.want(409, "PUT", item, string(got.body)) // stale resourceVersion

			var l struct {
				Kind     string
				Metadata api.ListMeta
				Items    []json.RawMessage
			}
			e.want(200, "GET", list, "").decode(t, &l)
			found := false
			for _, i := range l.Items {
				found = found || strings.TrimSpace(string(after.body)) == string(i)
			}
			if l.Kind != string(d.Kind)+"List" || !found || l.Metadata.ResourceVersion == "" {
				t.Errorf("list: kind %q, resourceVersion %q, has the object: %v", l.Kind, l.Metadata.ResourceVersion, found)
			}

			st := e.want(200, "DELETE", item, "").status(t)
			if st.Status != api.StatusSuccess || st.Details == nil || st.Details.UID != m.Metadata.UID {
				t.Errorf("delete answers %+v, want Success with uid %s", st, m.Metadata.UID)
			}
			e.want(404, "DELETE", item, "")
		})
	}
}

func TestCreate_Refuses(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("here"))
	for _, c := range []struct {
		name, path, body string
		headers          []string
		code             int
		reason, text     string
	}{
		{"what is there", gnss, netset("here"), nil, 409, api.ReasonAlreadyExists, "already exists"},
		{"bad JSON", gnss, `{"kind":`, nil, 400, api.ReasonBadRequest, "body:"},
		{"an empty body", gnss, ``, nil, 400, api.ReasonBadRequest, "body:"},
		{"an unknown field", gnss, `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{"net":[]}}`, nil, 400, api.ReasonBadRequest, "spec.net"},
		{"a field twice", gnss, `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{},"spec":{}}`, nil, 400, api.ReasonBadRequest, "spec"},
		{"another kind", gnss, gnp("x", "default"), nil, 400, api.ReasonBadRequest, "kind"},
		{"a resourceVersion", gnss, `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x","resourceVersion":"3"},"spec":{}}`, nil, 400, api.ReasonBadRequest, "resourceVersion"},
		{"a bad value", gnss, `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{"nets":["10.0.0.0/33"]}}`, nil, 422, api.ReasonInvalid, "10.0.0.0/33"},
		{"a policy in no tier", gnps, gnp("x", "nowhere"), nil, 422, api.ReasonInvalid, "spec.tier"},
		{"another media type", gnss, netset("x"), []string{"Content-Type", "application/vnd.kubernetes.protobuf"}, 415, api.ReasonMediaType, "protobuf"},
		{"dryRun that is not All", gnss + "?dryRun=Some", netset("x"), nil, 400, api.ReasonBadRequest, "dryRun"},
		{"the mark of what cannot be read", gnss, `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x","annotations":{"ripstop.io/unreadable":"x"}},"spec":{}}`, nil, 422, api.ReasonInvalid, "ripstop.io/unreadable"},
		{"a namespaced kind without its namespace", "/apis/projectcalico.org/v3/networksets", netset("x"), nil, 404, api.ReasonNotFound, "namespaced"},
		{"a cluster kind in a namespace", "/apis/projectcalico.org/v3/namespaces/a/globalnetworksets", netset("x"), nil, 404, api.ReasonNotFound, "not namespaced"},
		{"another namespace than the path's", "/apis/projectcalico.org/v3/namespaces/a/networksets",
			`{"apiVersion":"projectcalico.org/v3","kind":"NetworkSet","metadata":{"name":"x","namespace":"b"},"spec":{}}`, nil, 400, api.ReasonBadRequest, "metadata.namespace"},
		{"too large a body", gnss, strings.Repeat(" ", maxBody+1), nil, 413, api.ReasonTooLarge, "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := e.want(c.code, "POST", c.path, c.body, c.headers...).status(t)
			if st.Reason != c.reason || st.Code != c.code || st.Status != api.StatusFailure || !strings.Contains(st.Message, c.text) {
				t.Errorf("got reason %q, code %d, message %q; want %q, %d, ...%q...", st.Reason, st.Code, st.Message, c.reason, c.code, c.text)
			}
		})
	}
	if l := e.names(gnss); len(l) != 1 {
		t.Errorf("after refusals the store has %v, want only here", l)
	}
}

func TestInvalid_HasACausePerFault(t *testing.T) {
	e := start(t, nil)
	body := `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{"nets":["10.0.0.0/33","nonsense"]}}`
	st := e.want(422, "POST", gnss, body).status(t)
	var fields []string
	for _, c := range st.Details.Causes {
		fields = append(fields, c.Field)
	}
	if diff := cmp.Diff([]string{"spec.nets[0]", "spec.nets[1]"}, fields); diff != "" {
		t.Errorf("causes' fields (-want +got):\n%s", diff)
	}
	if st.Details.Kind != "GlobalNetworkSet" || st.Details.Name != "x" || st.Details.Group != "projectcalico.org" {
		t.Errorf("details: %+v", st.Details)
	}
}

// names are the names in a list.
func (e *env) names(path string) []string {
	e.t.Helper()
	var l struct{ Items []struct{ Metadata api.Meta } }
	e.want(200, "GET", path, "").decode(e.t, &l)
	var out []string
	for _, i := range l.Items {
		out = append(out, i.Metadata.Name)
	}
	return out
}

func TestCreate_GenerateNameAddsLetters(t *testing.T) {
	e := start(t, nil)
	body := `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"generateName":"set-"},"spec":{}}`
	seen := map[string]bool{}
	for range 20 {
		var o api.GlobalNetworkSet
		e.want(201, "POST", gnss, body).decode(t, &o)
		if !strings.HasPrefix(o.Name, "set-") || len(o.Name) != 9 || seen[o.Name] {
			t.Fatalf("generated name %q", o.Name)
		}
		seen[o.Name] = true
	}
}

func TestCreate_YAMLIsTaken(t *testing.T) {
	e := start(t, nil)
	body := "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: y}\nspec: {nets: [10.0.0.0/8]}\n"
	e.want(201, "POST", gnss, body, "Content-Type", "application/yaml")
	e.want(400, "POST", gnss, body+"---\n"+body, "Content-Type", "application/yaml")
}

func TestCreate_ServerOwnedFieldsAreTheServers(t *testing.T) {
	e := start(t, nil)
	body := `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x","uid":"mine","creationTimestamp":"2001-01-01T00:00:00Z"},"spec":{}}`
	var o api.GlobalNetworkSet
	e.want(201, "POST", gnss, body).decode(t, &o)
	if o.UID == "mine" || o.UID == "" || o.CreationTimestamp.Year() == 2001 {
		t.Errorf("uid %q, creationTimestamp %v: the writer chose them", o.UID, o.CreationTimestamp)
	}
	o.UID, o.ResourceVersion = "", ""
	var u api.GlobalNetworkSet
	o.Spec.Nets = []string{"10.0.0.0/8"}
	e.want(200, "PUT", gnss+"/x", encode(t, o)).decode(t, &u)
	if u.UID == "" || u.CreationTimestamp != o.CreationTimestamp {
		t.Errorf("update: uid %q, creationTimestamp %v, want them kept", u.UID, u.CreationTimestamp)
	}
}

func TestUpdate_Refuses(t *testing.T) {
	e := start(t, nil)
	e.want(404, "PUT", gnss+"/x", netset("x"))
	e.want(404, "PATCH", gnss+"/x", `{}`, "Content-Type", "application/merge-patch+json")
	e.want(201, "POST", gnss, netset("x"))
	e.want(400, "PUT", gnss+"/x", netset("y"))
	other := strings.Replace(netset("x"), `"name":"x"`, `"name":"x","uid":"another"`, 1)
	if st := e.want(409, "PUT", gnss+"/x", other).status(t); st.Reason != api.ReasonConflict {
		t.Errorf("another uid: %+v", st)
	}
	for _, typ := range []string{"application/strategic-merge-patch+json", "application/apply-patch+cbor", "application/json", ""} {
		e.want(415, "PATCH", gnss+"/x", `{}`, "Content-Type", typ)
	}
	merge := []string{"Content-Type", "application/merge-patch+json"}
	e.want(400, "PATCH", gnss+"/x", `[]`, merge...)
	e.want(400, "PATCH", gnss+"/x", `{"spec":{},"spec":{}}`, merge...)
	e.want(400, "PATCH", gnss+"/x", `{"spec":{"net":[]}}`, merge...)
	e.want(422, "PATCH", gnss+"/x", `{"spec":{"nets":["nonsense"]}}`, merge...)
	e.want(400, "PATCH", gnss+"/x", `{"metadata":{"name":"y"}}`, merge...)
	e.want(409, "PATCH", gnss+"/x", `{"metadata":{"resourceVersion":"1"}}`, merge...)
	e.want(200, "PATCH", gnss+"/x", `{"spec":{"nets":null}}`, merge...)
	var o api.GlobalNetworkSet
	e.want(200, "GET", gnss+"/x", "").decode(t, &o)
	if len(o.Spec.Nets) != 0 {
		t.Errorf("null in a merge patch: nets %v, want none", o.Spec.Nets)
	}
}

func TestDelete_Preconditions(t *testing.T) {
	e := start(t, nil)
	var o api.GlobalNetworkSet
	e.want(201, "POST", gnss, netset("x")).decode(t, &o)
	e.want(409, "DELETE", gnss+"/x", `{"preconditions":{"uid":"another"}}`)
	e.want(409, "DELETE", gnss+"/x", `{"preconditions":{"resourceVersion":"1"}}`)
	e.want(400, "DELETE", gnss+"/x", `{"precondition":{}}`)
	e.want(400, "DELETE", gnss+"/x", `{"kind":"Tier"}`)
	e.want(400, "DELETE", gnss+"/x", `{}`, "Content-Type", "application/vnd.kubernetes.protobuf")
	e.want(415, "DELETE", gnss+"/x", `{}`, "Content-Type", "text/plain")
	e.want(422, "DELETE", gnss+"/x", `{"propagationPolicy":"Never"}`)
	e.want(200, "DELETE", gnss+"/x", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background","preconditions":{"uid":"`+o.UID+`","resourceVersion":"`+o.ResourceVersion+`"}}`)
}

func TestDryRun_ChecksAndWritesNothing(t *testing.T) {
	e := start(t, nil)
	var o api.GlobalNetworkSet
	e.want(201, "POST", gnss+"?dryRun=All", netset("x")).decode(t, &o)
	if o.UID == "" || o.CreationTimestamp.IsZero() {
		t.Errorf("dry run answers %+v, want it as it would be", o)
	}
	e.want(404, "GET", gnss+"/x", "")
	e.want(422, "POST", gnps+"?dryRun=All", gnp("p", "nowhere"))
	before := e.want(201, "POST", gnss, netset("x"))
	e.want(409, "POST", gnss+"?dryRun=All", netset("x"))
	e.want(200, "PUT", gnss+"/x?dryRun=All", netset("x", "a", "b"))
	e.want(200, "PATCH", gnss+"/x?dryRun=All", `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type", "application/merge-patch+json")
	e.want(200, "DELETE", gnss+"/x?dryRun=All", "")
	e.want(200, "DELETE", gnss+"/x", `{"dryRun":["All"]}`)
	if after := e.want(200, "GET", gnss+"/x", ""); string(after.body) != string(before.body) {
		t.Errorf("after dry runs: got %s, want %s", after.body, before.body)
	}
}

func TestTiers_OfUseAndBuiltInStay(t *testing.T) {
	e := start(t, nil)
	for _, name := range builtinTiers {
		st := e.want(405, "DELETE", tiers+"/"+name, "").status(t)
		if !strings.Contains(st.Message, "Cannot delete "+name+" tier") {
			t.Errorf("message %q", st.Message)
		}
	}
	e.want(201, "POST", tiers, `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"sec"},"spec":{"order":5}}`)
	e.want(201, "POST", gnps, gnp("p", "sec"))
	e.want(422, "PUT", gnps+"/p", gnp("p", "nowhere"))
	e.want(200, "PUT", gnps+"/p", gnp("p", "default"))
	e.want(200, "PUT", gnps+"/p", gnp("p", "sec"))
	st := e.want(409, "DELETE", tiers+"/sec", "").status(t)
	if !strings.Contains(st.Message, "Cannot delete a non-empty tier") || len(st.Details.Causes) != 1 {
		t.Errorf("message %q, causes %v", st.Message, st.Details.Causes)
	}
	e.want(200, "DELETE", gnps+"/p", "")
	e.want(200, "DELETE", tiers+"/sec", "")
}

func TestPools_DoNotOverlapAndKeepTheirPrefix(t *testing.T) {
	e := start(t, nil)
	pool := func(name, cidr string) string {
		return `{"apiVersion":"projectcalico.org/v3","kind":"IPPool","metadata":{"name":"` + name + `"},"spec":{"cidr":"` + cidr + `"}}`
	}
	e.want(201, "POST", pools, pool("a", "10.0.0.0/16"))
	if st := e.want(422, "POST", pools, pool("b", "10.0.128.0/24")).status(t); !strings.Contains(st.Message, "overlaps IPPool a") {
		t.Errorf("message %q", st.Message)
	}
	e.want(201, "POST", pools, pool("b", "10.1.0.0/16"))
	e.want(422, "PUT", pools+"/b", pool("b", "10.2.0.0/16"))
	e.want(422, "PATCH", pools+"/b", `{"spec":{"blockSize":28}}`, "Content-Type", "application/merge-patch+json")
	e.want(200, "PATCH", pools+"/b", `{"spec":{"disabled":true}}`, "Content-Type", "application/merge-patch+json")
}

func TestBuiltinProfile_IsShownAndNotWritten(t *testing.T) {
	e := start(t, nil)
	profile := func(name string) string {
		return `{"apiVersion":"projectcalico.org/v3","kind":"Profile","metadata":{"name":"` + name + `"},"spec":{}}`
	}
	for _, name := range []string{"a", "z", "y", "b"} {
		e.want(201, "POST", profs, profile(name))
	}
	all := []string{"a", "b", api.DefaultAllowProfile, "y", "z"}
	if diff := cmp.Diff(all, e.names(profs)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "y", "z"}, e.names(profs+"?stored=true")); diff != "" {
		t.Errorf("names as stored (-want +got):\n%s", diff)
	}
	for limit := 1; limit <= 6; limit++ {
		if diff := cmp.Diff(all, e.pages(profs, limit)); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	var p api.Profile
	e.want(200, "GET", profs+"/"+api.DefaultAllowProfile, "").decode(t, &p)
	if len(p.Spec.Ingress) != 1 || p.Spec.Ingress[0].Action != api.Allow || p.ResourceVersion != "1" {
		t.Errorf("built-in profile: %+v", p)
	}
	e.want(404, "GET", profs+"/"+api.DefaultAllowProfile+"?stored=true", "")
	e.want(405, "POST", profs, profile(api.DefaultAllowProfile))
	e.want(405, "PUT", profs+"/"+api.DefaultAllowProfile, profile(api.DefaultAllowProfile))
	e.want(405, "DELETE", profs+"/"+api.DefaultAllowProfile, "")
}

func TestClusterInformation_IsReadOnly(t *testing.T) {
	e := start(t, nil)
	const path = "/apis/projectcalico.org/v3/clusterinformations"
	got := e.want(200, "GET", path+"/default", "")
	if st := e.want(405, "PUT", path+"/default", string(got.body)).status(t); !strings.Contains(st.Message, "resource is readonly") {
		t.Errorf("message %q", st.Message)
	}
	e.want(405, "PATCH", path+"/default", `{}`, "Content-Type", "application/merge-patch+json")
	e.want(405, "DELETE", path+"/default", "")
	e.want(405, "POST", path, string(got.body))
}

func TestTierAndPolicy_RaceLeavesNoPolicyWithoutATier(t *testing.T) {
	e := start(t, nil)
	const tier = `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"sec"},"spec":{"order":5}}`
	for i := range 50 {
		e.want(201, "POST", tiers, tier)
		var wg sync.WaitGroup
		var made, gone answer
		wg.Go(func() { made = e.do("POST", gnps, gnp("p", "sec")) })
		wg.Go(func() { gone = e.do("DELETE", tiers+"/sec", "") })
		wg.Wait()
		if (made.code == 201) == (gone.code == 200) {
			t.Fatalf("round %d: create %d, delete of the tier %d: want exactly one of them done", i, made.code, gone.code)
		}
		e.do("DELETE", gnps+"/p", "")
		e.do("DELETE", tiers+"/sec", "")
	}
}

func TestWriters_OfOneObjectDoNotLoseUpdates(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", gnss, netset("x"))
	const writers, rounds = 4, 15
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; i < rounds; {
				// Unconditional merge patches, each of its own annotation.
				a := e.do("PATCH", gnss+"/x", fmt.Sprintf(`{"metadata":{"annotations":{"w%d-%d":"x"}}}`, w, i), "Content-Type", "application/merge-patch+json")
				if a.code == 200 {
					i++
				} else if a.code != 409 {
					t.Errorf("patch: %d %s", a.code, a.body)
					return
				}
			}
		})
	}
	wg.Wait()
	var o api.GlobalNetworkSet
	e.want(200, "GET", gnss+"/x", "").decode(t, &o)
	if len(o.Annotations) != writers*rounds {
		t.Errorf("%d annotations, want %d: patches were lost", len(o.Annotations), writers*rounds)
	}
}
