// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/web/apiserver/authn"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// guarded is a server whose rights and credentials follow its store, with
// requests of anybody.
type guarded struct {
	*env
	rights *authz.Rights
}

// startAccess runs a server until the test ends.
func startAccess(t testing.TB) *guarded {
	a := &guarded{rights: authz.New()}
	known := authn.New(nil, nil)
	a.env = start(t, func(c *Config) {
		c.Rights, c.Authn = a.rights, known
		c.Limits = Limits{Rate: 1e6, Burst: 1e6, Logins: 1e6} // all come from one address here
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { a.rights.Run(ctx, a.mem, a.srv.log); done <- struct{}{} }()
	go func() { known.Run(ctx, a.mem, a.srv.log); done <- struct{}{} }()
	t.Cleanup(func() { cancel(); <-done; <-done })
	return a
}

// person is somebody known by name and groups.
func person(user string, groups ...string) Identity {
	return Identity{User: user, Groups: append([]string{GroupAuthenticated}, groups...), Via: "tcp", Method: authn.MethodCertificate}
}

var root = person("root", GroupAdmins)

// as makes a request as somebody. headers are pairs of name and value.
func (a *guarded) as(id Identity, method, path, body string, headers ...string) answer {
	a.t.Helper()
	req := httptest.NewRequestWithContext(context.WithValue(a.t.Context(), identityKey{}, id), method, path, strings.NewReader(body))
	req.Host = "localhost"
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	a.srv.Handler().ServeHTTP(rec, req)
	data, err := io.ReadAll(rec.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer{rec.Code, rec.Header(), data}
}

// wantAs makes a request whose answer must have a code.
func (a *guarded) wantAs(code int, id Identity, method, path, body string, headers ...string) answer {
	a.t.Helper()
	got := a.as(id, method, path, body, headers...)
	if got.code != code {
		a.t.Fatalf("%s %s as %s: got %d, want %d: %s", method, path, id.User, got.code, code, got.body)
	}
	return got
}

// await waits until the rights are as told.
func (a *guarded) await(what string, done func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("%s: not so within %v", what, patience)
		}
	}
}

const (
	roles    = "/apis/ripstop.io/v1/roles"
	bindings = "/apis/ripstop.io/v1/rolebindings"
	creds    = "/apis/ripstop.io/v1/credentials"
	heps     = "/apis/projectcalico.org/v3/hostendpoints"
	statuses = "/apis/ripstop.io/v1/hoststatuses"
	nodes    = "/apis/projectcalico.org/v3/nodes"
	sets     = "/apis/projectcalico.org/v3/namespaces/a/networksets"
)

// give makes a role of rules and gives it to somebody.
func (a *guarded) give(user, role, rules string) {
	a.t.Helper()
	a.wantAs(201, root, "POST", roles, `{"apiVersion":"ripstop.io/v1","kind":"Role","metadata":{"name":"`+role+`"},"spec":{"rules":`+rules+`}}`)
	a.bind(user, role)
}

// bind gives a role to somebody and waits until he has it.
func (a *guarded) bind(user, role string) {
	a.t.Helper()
	a.wantAs(201, root, "POST", bindings, binding(user+"-"+role, user, role))
	a.await("role "+role+" of "+user, func() bool { return len(a.rights.Of(person(user))) > 0 })
}

func binding(name, user, role string) string {
	return `{"apiVersion":"ripstop.io/v1","kind":"RoleBinding","metadata":{"name":"` + name + `"},"spec":{"role":"` + role + `","subjects":[{"kind":"User","name":"` + user + `"}]}}`
}

func tier(name string) string {
	return `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"` + name + `"},"spec":{"order":5}}`
}

// TestMatrix_EveryRouteForEveryRole asks every route of the table for every
// kind, as every role, for an object that is one's own and one that is not.
// What each may is written down here, apart from the roles' own rules; what is
// not written down is refused.
func TestMatrix_EveryRouteForEveryRole(t *testing.T) {
	a := startAccess(t)
	a.wantAs(201, root, "POST", bindings, binding("v", "viewer", "viewer"))
	a.wantAs(201, root, "POST", bindings, binding("o", "operator", "operator"))
	a.wantAs(201, root, "POST", bindings, binding("a", "boss", "admin"))
	a.await("bindings", func() bool {
		return len(a.rights.Of(person("viewer"))) > 0 && len(a.rights.Of(person("operator"))) > 0 && len(a.rights.Of(person("boss"))) > 0
	})
	who := map[string]Identity{
		"nobody": {Via: "tcp"}, "stranger": person("eve"), "viewer": person("viewer"), "operator": person("operator"),
		"admin": person("boss"), "node": person("node:own", authn.GroupNodes),
	}
	reads := []string{"get", "list", "watch"}
	written := []api.Kind{ // by an operator
		api.KindTier, api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy,
		api.KindGlobalNetworkSet, api.KindNetworkSet, api.KindProfile, api.KindHostEndpoint, api.KindWorkloadEndpoint, api.KindIPPool, api.KindNamespace,
		api.KindPolicyTest,
	}
	parted := []api.Kind{api.KindTier, api.KindIPPool, api.KindNode, api.KindHostStatus, api.KindNamespace, api.KindChange} // have a status by itself
	may := func(role string, k *kindInfo, verb, name, sub string) bool {
		isRead := slices.Contains(reads, verb)
		if sub != "" && !slices.Contains(parted, k.Kind) && role != "admin" {
			return false // there is no such thing, so nobody was given it
		}
		switch role {
		case "admin":
			return true
		case "viewer":
			return isRead && k.Kind != api.KindCredential
		case "operator":
			return isRead && k.Kind != api.KindCredential || slices.Contains(written, k.Kind) && sub == ""
		case "node":
			switch k.Kind {
			case api.KindNode, api.KindHostStatus:
				// A name in the body comes too late for what is asked here.
				return verb == "create" || name == "own" && verb != "delete" && verb != "deletecollection"
			case api.KindRole, api.KindRoleBinding, api.KindCredential, api.KindRevision, api.KindPolicyTest:
				return false
			}
			return isRead && sub == ""
		}
		return false
	}
	asked, in := 0, 0
	for _, rt := range routes {
		for _, k := range a.srv.catalog.kinds {
			if k.Group == api.GroupCore && strings.Contains(rt.path, "{group}") {
				continue // it has no name to put there
			}
			for role, id := range who {
				for _, name := range []string{"own", "other"} {
					base := strings.NewReplacer("{group}", k.Group, "{version}", k.Version, "{plural}", k.Plural, "{name}", name,
						"{namespace}", "n", "{subresource:status}", "status").Replace(rt.path)
					for _, watch := range []bool{false, true} {
						verb, path := rt.verb, base
						if watch {
							if verb != "list" {
								continue
							}
							path, verb = path+"?watch=true&timeoutSeconds=1&resourceVersion=1000000", "watch"
						}
						if rt.method != "GET" {
							path += "?dryRun=All" // what admins may do must not be done
						}
						got := a.as(id, rt.method, path, `{}`).code
						asked++
						sub := ""
						if strings.Contains(rt.path, "subresource") {
							sub = "status"
						}
						named := name
						if !strings.Contains(rt.path, "{name}") {
							named = ""
						}
						var want string
						switch {
						case rt.access == anybody, rt.access == known && role != "nobody":
							want = "in"
						case role == "nobody":
							want = "401"
						case strings.HasPrefix(rt.path, "/api/") != (k.Group == api.GroupCore):
							want = "in" // no such kind there: only for who may everything
							if role != "admin" {
								want = "403"
							}
						case may(role, k, verb, named, sub):
							want = "in"
						default:
							want = "403"
						}
						have := fmt.Sprint(got)
						if got != 401 && got != 403 {
							have = "in"
							in++
						}
						if have != want {
							t.Errorf("%s %s (%s) as %s: got %d, want %s", rt.method, path, verb, role, got, want)
						}
					}
				}
			}
		}
	}
	t.Logf("%d requests, %d let in", asked, in)
	if asked < 5000 || in == 0 {
		t.Errorf("only %d requests, %d let in", asked, in)
	}
}

// TestTier_AnEditorOfOneTierHasThatOnly goes through every way to touch a
// policy.
func TestTier_AnEditorOfOneTierHasThatOnly(t *testing.T) {
	a := startAccess(t)
	for _, name := range []string{"sec", "app"} {
		a.wantAs(201, root, "POST", tiers, tier(name))
	}
	a.give("ed", "sec", `[{"verbs":["*"],"kinds":["GlobalNetworkPolicy","Tier"],"tiers":["sec"]}]`)
	ed := person("ed")
	a.wantAs(201, root, "POST", gnps, gnp("theirs", "app"))
	mine, theirs := gnps+"/mine", gnps+"/theirs"
	const merge, jpatch, apply = "application/merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml"

	a.wantAs(403, ed, "POST", gnps, gnp("mine", "app"))
	a.wantAs(403, ed, "POST", gnps, gnp("mine", "default"))
	a.wantAs(403, ed, "POST", gnps, strings.Replace(gnp("mine", "x"), `"tier":"x",`, "", 1)) // the default tier
	a.wantAs(403, ed, "PATCH", mine+"?fieldManager=e", gnp("mine", "app"), "Content-Type", apply)
	a.wantAs(201, ed, "PATCH", mine+"?fieldManager=e", gnp("mine", "sec"), "Content-Type", apply)
	a.wantAs(200, ed, "GET", mine, "")
	a.wantAs(403, ed, "GET", theirs, "")

	// Out of the tier, in every way.
	a.wantAs(403, ed, "PUT", mine, gnp("mine", "app"))
	a.wantAs(403, ed, "PUT", mine+"?dryRun=All", gnp("mine", "app"))
	a.wantAs(403, ed, "PATCH", mine, `{"spec":{"tier":"app"}}`, "Content-Type", merge)
	a.wantAs(403, ed, "PATCH", mine, `{"spec":{"tier":null}}`, "Content-Type", merge)
	a.wantAs(403, ed, "PATCH", mine, `[{"op":"replace","path":"/spec/tier","value":"app"}]`, "Content-Type", jpatch)
	a.wantAs(403, ed, "PATCH", mine+"?fieldManager=e&force=true", gnp("mine", "app"), "Content-Type", apply)
	// Into it.
	a.wantAs(403, ed, "PUT", theirs, gnp("theirs", "sec"))
	a.wantAs(403, ed, "PATCH", theirs, `{"spec":{"tier":"sec"}}`, "Content-Type", merge)
	a.wantAs(403, ed, "PATCH", theirs+"?fieldManager=e&force=true", gnp("theirs", "sec"), "Content-Type", apply)
	a.wantAs(403, ed, "DELETE", theirs, "")
	a.wantAs(200, ed, "PATCH", mine, `{"spec":{"order":3}}`, "Content-Type", merge)

	// Lists show what may be seen, page by page too.
	for i := range 5 {
		a.wantAs(201, root, "POST", gnps, gnp(fmt.Sprintf("a%d", i), []string{"app", "sec"}[i%2]))
	}
	var seen []string
	for next := ""; ; {
		var l struct {
			Metadata api.ListMeta
			Items    []struct{ Metadata api.Meta }
		}
		a.wantAs(200, ed, "GET", gnps+"?limit=1&continue="+next, "").decode(t, &l)
		for _, i := range l.Items {
			seen = append(seen, i.Metadata.Name)
		}
		if next = l.Metadata.Continue; next == "" {
			break
		}
	}
	if !slices.Equal(seen, []string{"a1", "a3", "mine"}) {
		t.Errorf("list shows %v, want a1, a3, mine", seen)
	}

	// The tier itself, and no other.
	a.wantAs(200, ed, "PATCH", tiers+"/sec", `{"spec":{"order":7}}`, "Content-Type", merge)
	a.wantAs(403, ed, "PATCH", tiers+"/app", `{"spec":{"order":7}}`, "Content-Type", merge)
	a.wantAs(403, ed, "PATCH", tiers+"/nosuch", `{"spec":{"order":7}}`, "Content-Type", merge)
	a.wantAs(403, ed, "POST", tiers, tier("new"))
	// Other kinds have no tier.
	a.wantAs(403, ed, "GET", heps, "")
	a.wantAs(403, ed, "GET", "/apis/projectcalico.org/v3/networkpolicies", "")

	// A collection is deleted as far as it may be.
	a.wantAs(200, ed, "DELETE", gnps, "")
	var l struct{ Items []json.RawMessage }
	a.wantAs(200, root, "GET", gnps, "").decode(t, &l)
	if len(l.Items) != 4 {
		t.Errorf("%d policies are left, want the 4 of tier app", len(l.Items))
	}

	// Moving needs the right in both tiers.
	a.wantAs(200, root, "PUT", roles+"/sec", `{"apiVersion":"ripstop.io/v1","kind":"Role","metadata":{"name":"sec"},"spec":{"rules":[{"verbs":["*"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec","app"]}]}}`)
	a.await("both tiers", func() bool { return a.as(ed, "GET", theirs, "").code == 200 })
	a.wantAs(200, ed, "PATCH", theirs, `{"spec":{"tier":"sec"}}`, "Content-Type", merge)
}

func TestGiving_NobodyGivesWhatHeHasNot(t *testing.T) {
	a := startAccess(t)
	a.give("ann", "access", `[{"verbs":["*"],"kinds":["Role","RoleBinding","Credential"]},{"verbs":["get","update"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec"]}]`)
	ann := person("ann", "team")
	role := func(name, rules string) string {
		return `{"apiVersion":"ripstop.io/v1","kind":"Role","metadata":{"name":"` + name + `"},"spec":{"rules":` + rules + `}}`
	}
	for name, c := range map[string]struct {
		rules string
		code  int
	}{
		"the same":        {`[{"verbs":["get"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec"]}]`, 201},
		"narrower":        {`[{"verbs":["get"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec"],"names":["x"]}]`, 201},
		"another tier":    {`[{"verbs":["get"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec","app"]}]`, 403},
		"every tier":      {`[{"verbs":["get"],"kinds":["GlobalNetworkPolicy"]}]`, 403},
		"another verb":    {`[{"verbs":["get","delete"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec"]}]`, 403},
		"every verb":      {`[{"verbs":["*"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec"]}]`, 403},
		"another kind":    {`[{"verbs":["get"],"kinds":["HostEndpoint"]}]`, 403},
		"everything":      {`[{"verbs":["*"],"kinds":["*"]}]`, 403},
		"one of two":      {`[{"verbs":["get"],"kinds":["Role"]},{"verbs":["get"],"kinds":["Tier"]}]`, 403},
		"kinds of access": {`[{"verbs":["*"],"kinds":["Role","RoleBinding"]}]`, 201},
	} {
		id := strings.ReplaceAll(name, " ", "-")
		if got := a.as(ann, "POST", roles, role(id, c.rules)); got.code != c.code {
			t.Errorf("role with %s: got %d, want %d: %s", name, got.code, c.code, got.body)
		}
	}
	a.wantAs(201, ann, "POST", roles, role("small", `[{"verbs":["get"],"kinds":["Role"]}]`))
	a.wantAs(403, ann, "PUT", roles+"/small", role("small", `[{"verbs":["get"],"kinds":["*"]}]`))
	a.wantAs(403, ann, "PATCH", roles+"/small", `{"spec":{"rules":[{"verbs":["*"],"kinds":["*"]}]}}`, "Content-Type", "application/merge-patch+json")
	a.wantAs(403, ann, "PATCH", roles+"/small?fieldManager=x&force=true", role("small", `[{"verbs":["*"],"kinds":["*"]}]`), "Content-Type", "application/apply-patch+yaml")

	a.wantAs(201, root, "POST", roles, role("big", `[{"verbs":["*"],"kinds":["*"]}]`))
	for r, code := range map[string]int{"small": 201, "big": 403, "admin": 403, "operator": 403, "viewer": 403, "node": 403, "nosuch": 422} {
		if got := a.as(ann, "POST", bindings, binding("b-"+r, "eve", r)); got.code != code {
			t.Errorf("binding of %s: got %d, want %d: %s", r, got.code, code, got.body)
		}
	}
	a.wantAs(403, ann, "PUT", bindings+"/b-small", binding("b-small", "eve", "big"))
	a.wantAs(422, root, "POST", roles, role("admin", `[{"verbs":["*"],"kinds":["*"]}]`))

	credential := func(name, user string, groups ...string) string {
		c := &api.Credential{TypeMeta: api.TypeMeta{Kind: api.KindCredential, APIVersion: api.VersionOurs}}
		c.Name, c.Spec.User, c.Spec.Groups = name, user, groups
		c.Spec.Expires, c.Spec.TokenHash = api.Time{Time: time.Now().Add(time.Hour)}, api.HashToken("s")
		return encode(t, c)
	}
	a.wantAs(201, ann, "POST", creds, credential("mine", "ann", "team"))
	a.wantAs(403, ann, "POST", creds, credential("eves", "eve"))
	a.wantAs(403, ann, "POST", creds, credential("wider", "ann", "other"))
	a.wantAs(403, ann, "POST", creds, credential("widest", "ann", GroupAdmins))
	a.wantAs(403, ann, "PATCH", creds+"/hers?fieldManager=x", credential("hers", "eve"), "Content-Type", "application/apply-patch+yaml")
	a.wantAs(422, ann, "PUT", creds+"/mine", credential("mine", "eve"))
	a.wantAs(422, ann, "PATCH", creds+"/mine", `{"spec":{"user":"root"}}`, "Content-Type", "application/merge-patch+json")
	a.wantAs(200, ann, "PATCH", creds+"/mine", `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type", "application/merge-patch+json")
	a.wantAs(201, root, "POST", creds, credential("eves", "eve", "any"))
	long := strings.Replace(credential("long", "eve"), time.Now().UTC().Format("2006-"), time.Now().AddDate(2, 0, 0).UTC().Format("2006-"), 1)
	a.wantAs(422, root, "POST", creds, long)
}

func TestNode_HasItsOwnOnly(t *testing.T) {
	a := startAccess(t)
	h1 := person("node:h1", authn.GroupNodes)
	status := func(name string) string {
		return `{"apiVersion":"ripstop.io/v1","kind":"HostStatus","metadata":{"name":"` + name + `"},"status":{}}`
	}
	hep := func(host string) string {
		return `{"apiVersion":"projectcalico.org/v3","kind":"HostEndpoint","metadata":{"name":"` + host + `"},"spec":{"node":"` + host + `","interfaceName":"eth0"}}`
	}
	a.wantAs(201, h1, "POST", statuses, status("h1"))
	a.wantAs(403, h1, "POST", statuses, status("h2"))
	a.wantAs(201, root, "POST", statuses, status("h2"))
	a.wantAs(200, h1, "PUT", statuses+"/h1", status("h1"))
	a.wantAs(403, h1, "PUT", statuses+"/h2", status("h2"))
	a.wantAs(403, h1, "GET", statuses+"/h2", "")
	a.wantAs(403, h1, "GET", statuses, "")
	a.wantAs(200, h1, "GET", statuses+"?fieldSelector=metadata.name%3Dh1", "")
	a.wantAs(403, h1, "GET", statuses+"?fieldSelector=metadata.name%3Dh2", "")
	a.wantAs(403, h1, "GET", statuses+"?fieldSelector=metadata.name!%3Dh1", "")
	a.wantAs(403, h1, "DELETE", statuses+"/h1", "")
	// Labels and addresses of endpoints decide what other hosts let in.
	a.wantAs(201, root, "POST", heps, hep("h1"))
	a.wantAs(200, h1, "GET", heps, "")
	a.wantAs(403, h1, "PUT", heps+"/h1", hep("h1"))
	a.wantAs(403, h1, "GET", creds, "")
	// The group alone, and the name alone, are no host.
	a.wantAs(403, person("h1", authn.GroupNodes), "POST", statuses, status("h1"))
	a.wantAs(403, person("node:h3"), "POST", statuses, status("h3"))
}

func TestNamesAndNamespaces_KeepARuleToThem(t *testing.T) {
	a := startAccess(t)
	a.give("ed", "narrow", `[{"verbs":["*"],"kinds":["NetworkSet"],"namespaces":["a"]},{"verbs":["*"],"kinds":["GlobalNetworkSet"],"names":["x"]}]`)
	ed := person("ed")
	set := func(ns string) string {
		return `{"apiVersion":"projectcalico.org/v3","kind":"NetworkSet","metadata":{"name":"s","namespace":"` + ns + `"},"spec":{"nets":["10.0.0.0/8"]}}`
	}
	elsewhere := strings.Replace(sets, "/a/", "/b/", 1)
	a.wantAs(201, ed, "POST", sets, set("a"))
	a.wantAs(403, ed, "POST", elsewhere, set("b"))
	a.wantAs(400, ed, "POST", sets, set("b")) // the path is what counts
	a.wantAs(200, ed, "GET", sets, "")
	a.wantAs(403, ed, "GET", "/apis/projectcalico.org/v3/networksets", "")

	a.wantAs(201, ed, "POST", gnss, netset("x"))
	a.wantAs(403, ed, "POST", gnss, netset("y"))
	a.wantAs(403, ed, "POST", gnss, strings.Replace(netset("x"), `"name":"x"`, `"generateName":"x"`, 1))
	a.wantAs(200, ed, "GET", gnss+"/x", "")
	a.wantAs(403, ed, "GET", gnss+"/y", "")
	a.wantAs(403, ed, "GET", gnss, "")
	a.wantAs(403, ed, "DELETE", gnss, "")
	a.wantAs(200, ed, "GET", gnss+"?fieldSelector=metadata.name%3Dx", "")
	a.wantAs(200, ed, "DELETE", gnss+"?fieldSelector=metadata.name%3Dx", "")
	a.wantAs(404, ed, "GET", gnss+"/x", "")

	// Apply of what is not there is a create.
	a.give("pat", "patches", `[{"verbs":["get","patch"],"kinds":["GlobalNetworkSet"]}]`)
	const apply = "application/apply-patch+yaml"
	a.wantAs(403, person("pat"), "PATCH", gnss+"/z?fieldManager=p", netset("z"), "Content-Type", apply)
	a.wantAs(201, root, "POST", gnss, netset("z"))
	a.wantAs(200, person("pat"), "PATCH", gnss+"/z?fieldManager=p&force=true", netset("z", "a", "b"), "Content-Type", apply)
}

// watchAs follows a path as somebody; lines come until the watch ends.
func (a *guarded) watchAs(id Identity, path string) <-chan string {
	pr, pw := io.Pipe()
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), identityKey{}, id))
	a.t.Cleanup(cancel)
	req := httptest.NewRequestWithContext(ctx, "GET", path, nil)
	req.Host = "localhost"
	go func() {
		defer pw.Close()
		a.srv.Handler().ServeHTTP(&streamed{header: http.Header{}, w: pw}, req)
	}()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for d := json.NewDecoder(pr); ; {
			var e struct {
				Type   string
				Object struct {
					Metadata api.Meta
					Message  string
					Spec     struct{ Tier string }
				}
			}
			if d.Decode(&e) != nil {
				return
			}
			lines <- strings.TrimSpace(e.Type + " " + e.Object.Metadata.Name + " " + e.Object.Spec.Tier + e.Object.Message)
		}
	}()
	return lines
}

// streamed is a ResponseWriter that hands on what it gets.
type streamed struct {
	header http.Header
	w      io.Writer
}

func (s *streamed) Header() http.Header         { return s.header }
func (s *streamed) WriteHeader(int)             {}
func (s *streamed) Write(b []byte) (int, error) { return s.w.Write(b) }
func (s *streamed) Flush()                      {}

// next is the next line of a watch; "end" when there is none.
func (a *guarded) next(lines <-chan string) string {
	a.t.Helper()
	select {
	case l, open := <-lines:
		if !open {
			return "end"
		}
		return l
	case <-time.After(patience):
		a.t.Fatalf("nothing came within %v", patience)
		return ""
	}
}

func TestWatch_ShowsWhatMayBeSeenAndEndsWithTheRight(t *testing.T) {
	a := startAccess(t)
	for _, name := range []string{"sec", "app"} {
		a.wantAs(201, root, "POST", tiers, tier(name))
	}
	a.give("ed", "sec", `[{"verbs":["get","list","watch"],"kinds":["GlobalNetworkPolicy"],"tiers":["sec"]}]`)
	a.wantAs(201, root, "POST", gnps, gnp("p", "sec"))
	a.wantAs(201, root, "POST", gnps, gnp("q", "app"))
	w := a.watchAs(person("ed"), gnps+"?watch=true")
	want := func(line string) {
		t.Helper()
		if got := a.next(w); got != line {
			t.Fatalf("got %q, want %q", got, line)
		}
	}
	want("ADDED p sec")
	move := func(name, tier string) {
		a.wantAs(200, root, "PATCH", gnps+"/"+name, `{"spec":{"tier":"`+tier+`"}}`, "Content-Type", "application/merge-patch+json")
	}
	move("q", "sec")
	want("ADDED q sec")
	move("p", "app")
	want("DELETED p sec") // as it was: what it has become is not shown
	move("p", "sec")
	want("ADDED p sec")

	began := time.Now()
	a.wantAs(200, root, "DELETE", bindings+"/ed-sec", "")
	if got := a.next(w); !strings.HasPrefix(got, "ERROR ") || !strings.Contains(got, "have changed") {
		t.Errorf("after the right was taken: got %q, want an error that says so", got)
	}
	if got := a.next(w); got != "end" {
		t.Errorf("after the error: %q, want the end", got)
	}
	t.Logf("ended %v after the binding was deleted", time.Since(began).Round(time.Millisecond))
	a.wantAs(403, person("ed"), "GET", gnps+"?watch=true", "")
}

func TestRights_HoldWhileTheStoreIsAway(t *testing.T) {
	a := startAccess(t)
	a.bind("vi", "viewer")
	a.store.list, a.store.get, a.store.watch = fmt.Errorf("away"), fmt.Errorf("away"), fmt.Errorf("away")
	for id, code := range map[string]int{"vi": 500, "eve": 403} {
		if got := a.as(person(id), "GET", tiers, "").code; got != code {
			t.Errorf("%s: got %d, want %d", id, got, code)
		}
	}
}

func TestAccess_IsNotRefusedBeforeTheStoreHasTold(t *testing.T) {
	a := &guarded{rights: authz.New()}
	known := authn.New(nil, nil)
	var first *faulty
	a.env = start(t, func(c *Config) {
		c.Rights, c.Authn, first = a.rights, known, c.Store.(*faulty)
		c.Limits = Limits{Logins: 1}
	})
	first.list = fmt.Errorf("away")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { a.rights.Run(ctx, first, a.srv.log); done <- struct{}{} }()
	go func() { known.Run(ctx, first, a.srv.log); done <- struct{}{} }()
	t.Cleanup(func() { cancel(); <-done; <-done })
	token := []string{"Authorization", "Bearer " + api.Token("x", "y")}
	a.await("it waits", func() bool { return a.as(person("eve"), "GET", gnps+"/x", "").code == 503 })
	for range 5 { // none of which counts as a failed login
		a.await("it waits", func() bool { return a.as(Identity{Via: "tcp"}, "GET", gnps+"/x", "", token...).code == 503 })
	}
	a.wantAs(404, root, "GET", gnps+"/x", "") // needs nothing of the store
}

func TestToken_LetsInUntilItIsRevoked(t *testing.T) {
	a := startAccess(t)
	a.bind("ci", "viewer")
	c := &api.Credential{TypeMeta: api.TypeMeta{Kind: api.KindCredential, APIVersion: api.VersionOurs}}
	c.Name, c.Spec.User = "ci", "ci"
	c.Spec.Expires, c.Spec.TokenHash = api.Time{Time: time.Now().Add(time.Hour)}, api.HashToken("secret")
	a.wantAs(201, root, "POST", creds, encode(t, c))
	nobody := Identity{Via: "tcp"}
	bearer := func(token string) int { return a.as(nobody, "GET", tiers, "", "Authorization", "Bearer "+token).code }
	a.await("the token is known", func() bool { return bearer(api.Token("ci", "secret")) == 200 })
	// On the socket too, the token is what counts, and a wrong one is none.
	if got := a.do("GET", creds, "", "Authorization", "Bearer "+api.Token("ci", "secret")); got.code != 403 {
		t.Errorf("a token of a viewer on the socket of root: got %d, want 403", got.code)
	}
	if got := a.do("GET", tiers, "", "Authorization", "Bearer "+api.Token("ci", "wrong")); got.code != 401 || got.header.Get("WWW-Authenticate") == "" {
		t.Errorf("a wrong token on the socket of root: got %d (%v), want 401", got.code, got.header)
	}
	began := time.Now()
	a.wantAs(200, root, "DELETE", creds+"/ci", "")
	a.await("the token is void", func() bool { return bearer(api.Token("ci", "secret")) == 401 })
	t.Logf("void %v after it was revoked", time.Since(began).Round(time.Millisecond))
}

// TestToken_ExpiredLocksNobodyOut: a program that goes on with a token that has
// expired does not keep others behind its address from logging in.
func TestToken_ExpiredLocksNobodyOut(t *testing.T) {
	a := startAccess(t)
	c := &api.Credential{TypeMeta: api.TypeMeta{Kind: api.KindCredential, APIVersion: api.VersionOurs}}
	c.Name, c.Spec.User = "old", "ci"
	c.Spec.Expires, c.Spec.TokenHash = api.Time{Time: time.Now().Add(2 * time.Second)}, api.HashToken("secret")
	a.wantAs(201, root, "POST", creds, encode(t, c))
	bearer := func(token string) int {
		return a.as(Identity{Via: "tcp"}, "GET", tiers, "", "Authorization", "Bearer "+token).code
	}
	a.srv.limiter.limits.Logins = 1e6 // it may take a moment until the token is known
	a.await("the token is known", func() bool { return bearer(api.Token("old", "secret")) == 403 })
	a.srv.limiter.limits.Logins, a.srv.limiter.failures = 5, map[string]*strikes{}
	a.await("the token has expired", func() bool { return bearer(api.Token("old", "secret")) == 401 })
	for range 20 {
		if got := bearer(api.Token("old", "secret")); got != 401 {
			t.Fatalf("a token that has expired: got %d, want 401", got)
		}
	}
	for range 6 {
		bearer(api.Token("old", "guess"))
	}
	if got := bearer(api.Token("old", "secret")); got != 429 {
		t.Errorf("after six guesses: got %d, want 429", got)
	}
}
