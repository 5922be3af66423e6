// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policytest"
	"github.com/ripstop/ripstop/daemon/store"
)

// A host, a test that port 80 is open and 9090 is not, and writes of a policy.
const (
	testedHost = `{"apiVersion":"projectcalico.org/v3","kind":"HostEndpoint","metadata":{"name":"h"},"spec":{"node":"h","interfaceName":"eth0","expectedIPs":["10.0.0.1"],"profiles":["projectcalico-default-allow"]}}`
	testOfHost = `{"apiVersion":"ripstop.io/v1","kind":"PolicyTest","metadata":{"name":"t"},"spec":{"cases":[
{"name":"open","from":{"ip":"192.0.2.7"},"to":{"host":"h"},"protocol":"TCP","port":80,"expect":"Allow","why":"it is the web"}]}}`
	denying  = `{"verb":"create","kind":"GlobalNetworkPolicy","body":{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"p"},"spec":{"selector":"all()","types":["Ingress"],"ingress":[{"action":"Deny","protocol":"TCP","destination":{"ports":[80]}},{"action":"Allow"}]}}}`
	allowing = `{"verb":"create","kind":"GlobalNetworkPolicy","body":{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"p"},"spec":{"selector":"all()","types":["Ingress"],"ingress":[{"action":"Allow"}]}}}`
)

// askTests posts a ChangeRequest and returns its status and the error text.
func askTests(t *testing.T, e *env, code int, spec, writes string) (api.ChangeRequestStatus, string) {
	t.Helper()
	a := e.want(code, "POST", api.ChangeRequestPath, `{"apiVersion":"ripstop.io/v1","kind":"ChangeRequest","spec":{`+spec+`,"writes":[`+writes+`]}}`)
	if code >= 400 {
		return api.ChangeRequestStatus{}, a.status(t).Message
	}
	var req api.ChangeRequest
	if err := json.Unmarshal(a.body, &req); err != nil {
		t.Fatal(err)
	}
	return req.Status, ""
}

// TestChange_ThatFailsAPolicyTestWritesNothing: in a dry run and in earnest; the
// test may be stored, or come with the change.
func TestChange_ThatFailsAPolicyTestWritesNothing(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", "/apis/projectcalico.org/v3/hostendpoints", testedHost)
	e.want(201, "POST", "/apis/ripstop.io/v1/policytests", testOfHost)
	want := `1 of 1 cases of policy tests would fail:
  PolicyTest(t): case "open": expected Allow: tcp from 192.0.2.7 to host/h:80: inbound TCP 192.0.2.7:49152 to 10.0.0.1:80 on h in eth0: denied, by GlobalNetworkPolicy(p) ingress rule 1 in tier default at HostEndpoint(h) (why: it is the web)`
	for _, spec := range []string{`"dryRun":true,"test":true`, `"timeout":"1m","test":true`} {
		if _, got := askTests(t, e, 422, spec, denying); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", spec, got, want)
		}
	}
	for _, k := range []api.Key{{Kind: api.KindGlobalNetworkPolicy, Name: "p"}} {
		if _, err := e.mem.Get(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", k, err)
		}
	}
	if objs, _, err := e.mem.List(t.Context(), api.KindChange, store.ListOptions{}); err != nil || len(objs) > 0 {
		t.Errorf("changes: %v, %v", objs, err)
	}
	if _, got := askTests(t, e, 200, `"dryRun":true`, denying); got != "" {
		t.Errorf("without a test: %s", got)
	}
	// The change may take the test along, or change it.
	if st, _ := askTests(t, e, 200, `"dryRun":true,"test":true`, denying+`,{"verb":"delete","kind":"PolicyTest","name":"t"}`); st.Tested != 0 {
		t.Errorf("without the test: %+v", st)
	}
	_, got := askTests(t, e, 422, `"timeout":"1m","test":true`, allowing+`,{"verb":"create","kind":"PolicyTest","body":`+strings.NewReplacer(`"name":"t"`, `"name":"u"`, `"Allow"`, `"Deny"`).Replace(testOfHost)+`}`)
	if !strings.HasPrefix(got, "1 of 2 cases") || !strings.Contains(got, "PolicyTest(u)") {
		t.Errorf("with a test that contradicts: %s", got)
	}
	st, _ := askTests(t, e, 201, `"timeout":"1m","test":true`, allowing)
	if st.Tested != 1 || st.Change == "" {
		t.Errorf("a change that passes: %+v", st)
	}
}

// TestChange_OfATestMayHaveMoreKinds: hosts and workloads are judged in a dry
// run, and never part of a change.
func TestChange_OfATestMayHaveMoreKinds(t *testing.T) {
	e := start(t, nil)
	node := `{"verb":"create","kind":"Node","body":{"apiVersion":"projectcalico.org/v3","kind":"Node","metadata":{"name":"h"},"spec":{"addresses":[{"address":"10.0.0.1"}]}}}`
	test := `{"verb":"create","kind":"PolicyTest","body":` + testOfHost + `}`
	if st, _ := askTests(t, e, 200, `"dryRun":true,"test":true`, node+","+test); st.Tested != 1 {
		t.Errorf("status: %+v", st)
	}
	if _, got := askTests(t, e, 422, `"dryRun":true,"test":true`, test); !strings.Contains(got, "host/h: no Node and no endpoint is of this host") {
		t.Errorf("without the node: %s", got)
	}
	for _, spec := range []string{`"dryRun":true`, `"timeout":"1m","test":true`} {
		if _, got := askTests(t, e, 422, spec, node); !strings.Contains(got, "cannot be part of a change") {
			t.Errorf("%s: %s", spec, got)
		}
	}
}

// TestChange_TestsAreForThoseWhoMayReadAll: who may write policies of a tier
// does not learn from tests what the policies of others do.
func TestChange_TestsAreForThoseWhoMayReadAll(t *testing.T) {
	a := startAccess(t)
	a.give("ann", "writer", `[{"verbs":["*"],"kinds":["GlobalNetworkPolicy"],"tiers":["default"]}]`)
	body := func(test string) string {
		return `{"apiVersion":"ripstop.io/v1","kind":"ChangeRequest","spec":{"dryRun":true` + test + `,"writes":[` + allowing + `]}}`
	}
	a.wantAs(200, person("ann"), "POST", api.ChangeRequestPath, body(""))
	got := a.wantAs(403, person("ann"), "POST", api.ChangeRequestPath, body(`,"test":true`))
	if m := got.status(t).Message; !strings.Contains(m, "may not list all of kind Tier") {
		t.Errorf("message: %s", m)
	}
	a.wantAs(200, root, "POST", api.ChangeRequestPath, body(`,"test":true`))
}

// TestChange_SaysWhatItsTestsLeftOut: of a case of too many pairs.
func TestChange_SaysWhatItsTestsLeftOut(t *testing.T) {
	e := start(t, nil)
	const hosts = 66
	for i := range hosts {
		e.want(201, "POST", "/apis/projectcalico.org/v3/hostendpoints", fmt.Sprintf(`{"apiVersion":"projectcalico.org/v3","kind":"HostEndpoint","metadata":{"name":"h%d","labels":{"side":"%d"}},"spec":{"node":"h%d","interfaceName":"eth0","expectedIPs":["10.0.0.%d"],"profiles":["projectcalico-default-allow"]}}`, i, i%2, i, i+1))
	}
	e.want(201, "POST", "/apis/ripstop.io/v1/policytests", `{"apiVersion":"ripstop.io/v1","kind":"PolicyTest","metadata":{"name":"t"},"spec":{"cases":[
{"name":"all","from":{"selector":"side == '0'"},"to":{"selector":"side == '1'"},"protocol":"TCP","port":80,"expect":"Allow"}]}}`)
	st, _ := askTests(t, e, 200, `"dryRun":true,"test":true`, allowing)
	if want := hosts/2*hosts/2 - policytest.MaxOfCase; st.Tested != 1 || st.Unjudged != want {
		t.Errorf("%d cases judged, %d pairs left out; want 1 and %d", st.Tested, st.Unjudged, want)
	}
}
