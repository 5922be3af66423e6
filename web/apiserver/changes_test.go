// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// changeRequest is a ChangeRequest of a tier, a policy in it, and a deletion.
const changeRequest = `{"apiVersion":"ripstop.io/v1","kind":"ChangeRequest","spec":{"timeout":"1m","writes":[
{"verb":"create","kind":"Tier","body":{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"t"},"spec":{"order":5}}},
{"verb":"create","kind":"GlobalNetworkPolicy","body":{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"p"},"spec":{"tier":"t","selector":"all()"}}},
{"verb":"delete","kind":"GlobalNetworkSet","name":"old"}]}}`

const (
	changesPath = "/apis/ripstop.io/v1/changes"
	oldSet      = `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"old"},"spec":{"nets":["192.0.2.0/24","2001:db8::/32"]}}`
)

// request posts changeRequest and returns the name of the change.
func requestOne(t *testing.T, e *env) string {
	t.Helper()
	var done api.ChangeRequest
	a := e.want(201, "POST", api.ChangeRequestPath, changeRequest)
	if err := json.Unmarshal(a.body, &done); err != nil || done.Status.Change == "" || done.Status.Until.IsZero() {
		t.Fatalf("answer %s: %v", a.body, err)
	}
	for i, want := range []string{api.DoneCreated, api.DoneCreated, api.DoneDeleted} {
		if got := done.Status.Writes[i].Done; got != want {
			t.Errorf("write %d: %s, want %s", i, got, want)
		}
	}
	return done.Status.Change
}

// there says which of the three objects are stored.
func there(t *testing.T, e *env) string {
	t.Helper()
	out := ""
	for _, k := range []api.Key{{Kind: api.KindTier, Name: "t"}, {Kind: api.KindGlobalNetworkPolicy, Name: "p"}, {Kind: api.KindGlobalNetworkSet, Name: "old"}} {
		_, err := e.mem.Get(t.Context(), k)
		switch {
		case err == nil:
			out += "1"
		case errors.Is(err, store.ErrNotFound):
			out += "0"
		default:
			t.Fatal(err)
		}
	}
	return out
}

func TestChange_WritesAllAndStaysWhenConfirmed(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", "/apis/projectcalico.org/v3/globalnetworksets", oldSet)
	name := requestOne(t, e)
	if got := there(t, e); got != "110" {
		t.Errorf("after the request: %s, want 110", got)
	}
	e.want(200, "POST", changesPath+"/"+name+"/confirm", "{}")
	e.want(404, "POST", changesPath+"/"+name+"/confirm", "{}")
	e.want(404, "POST", changesPath+"/"+name+"/rollback", "{}")
	if got := there(t, e); got != "110" {
		t.Errorf("confirmed: %s, want 110", got)
	}
	if a := e.want(200, "GET", "/apis/ripstop.io/v1/revisions", ""); !strings.Contains(string(a.body), `"outcome":"confirmed"`) {
		t.Errorf("the history: %s", a.body)
	}
}

func TestChange_RolledBackIsAsBefore(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", "/apis/projectcalico.org/v3/globalnetworksets", oldSet)
	name := requestOne(t, e)
	if a := e.want(409, "POST", api.ChangeRequestPath, strings.ReplaceAll(changeRequest, `"create","kind":"Tier"`, `"update","name":"t","kind":"Tier"`)); a.body == nil {
		t.Error("no answer")
	}
	e.want(200, "POST", changesPath+"/"+name+"/rollback", "{}")
	e.want(409, "POST", changesPath+"/"+name+"/confirm", "{}")
	if got := there(t, e); got != "001" {
		t.Errorf("rolled back: %s, want 001", got)
	}
}

func TestChange_WithAFaultWritesNothing(t *testing.T) {
	e := start(t, nil)
	e.want(201, "POST", "/apis/projectcalico.org/v3/globalnetworksets", oldSet)
	for code, body := range map[int]string{
		422: strings.Replace(changeRequest, "all()", "all(", 1),
		404: strings.Replace(changeRequest, `"name":"old"`, `"name":"older"`, 1),
		200: strings.Replace(changeRequest, `"timeout":"1m"`, `"dryRun":true`, 1),
	} {
		e.want(code, "POST", api.ChangeRequestPath, body)
		if got := there(t, e); got != "001" {
			t.Errorf("answer %d: %s, want 001", code, got)
		}
	}
	e.want(422, "POST", api.ChangeRequestPath, strings.Replace(changeRequest, `"1m"`, `"9s"`, 1))
	if a := e.want(200, "GET", changesPath, ""); !strings.Contains(string(a.body), `"items":[]`) || there(t, e) != "001" {
		t.Errorf("something is left: %s, %s", a.body, there(t, e))
	}
}

func TestChange_IsMadeByARequestOnly(t *testing.T) {
	e := start(t, nil)
	o := sample(t, api.KindChange)
	a := e.want(405, "POST", changesPath, encode(t, o))
	if m := a.status(t).Message; !strings.Contains(m, "ripstop apply --confirm") {
		t.Errorf("message: %s", m)
	}
	e.want(405, "DELETE", changesPath+"/x", "")
}

// TestChange_SaysWhichWaysItShuts: of a dry run and of a change, by the
// addresses and the session that the client names.
func TestChange_SaysWhichWaysItShuts(t *testing.T) {
	e := start(t, nil)
	for _, o := range []string{
		`{"apiVersion":"projectcalico.org/v3","kind":"FelixConfiguration","metadata":{"name":"default"},"spec":{"failsafeInboundHostPorts":[]}}`,
		`{"apiVersion":"projectcalico.org/v3","kind":"HostEndpoint","metadata":{"name":"h"},"spec":{"node":"h","interfaceName":"eth0","expectedIPs":["10.0.0.1","fd00::1"],"profiles":["projectcalico-default-allow"]}}`,
	} {
		path := "/apis/projectcalico.org/v3/hostendpoints"
		if strings.Contains(o, "Felix") {
			path = "/apis/projectcalico.org/v3/felixconfigurations"
		}
		e.want(201, "POST", path, o)
	}
	ask := func(code int, spec string) api.ChangeRequestStatus {
		t.Helper()
		a := e.want(code, "POST", api.ChangeRequestPath, `{"apiVersion":"ripstop.io/v1","kind":"ChangeRequest","spec":{`+spec+`,"writes":[
{"verb":"create","kind":"GlobalNetworkPolicy","body":{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"p"},"spec":{"selector":"all()","types":["Ingress"],"ingress":[{"action":"Deny","source":{"nets":["192.0.2.0/24"]}},{"action":"Deny","protocol":"TCP","destination":{"ports":[2222]}},{"action":"Allow"}]}}}]}}`)
		var req api.ChangeRequest
		if err := json.Unmarshal(a.body, &req); code < 300 && err != nil {
			t.Fatal(err)
		}
		return req.Status
	}
	if st := ask(200, `"dryRun":true`); st.LostHosts != 0 || st.LostWays != nil {
		t.Errorf("nobody is named: %+v", st)
	}
	if st := ask(200, `"dryRun":true,"managedFrom":["192.0.2.7","2001:db8::7"]`); st.LostHosts != 1 || len(st.LostWays) != 1 ||
		st.LostWays[0] != (api.LostWay{Host: "h", From: "192.0.2.7", To: "10.0.0.1:22", Why: "by GlobalNetworkPolicy(p) ingress rule 1 in tier default at HostEndpoint(h)"}) {
		t.Errorf("SSH: %+v", st)
	}
	ask(422, `"timeout":"1m","operator":{"client":"[2001:db8::7]:40000","server":"[fd00::1]:2222"}`)
	if got := there(t, e); got != "000" {
		t.Errorf("a change that shuts its operator's session was made: %s", got)
	}
	st := ask(200, `"dryRun":true,"operator":{"client":"[2001:db8::7]:40000","server":"[fd00::1]:2222"}`)
	if st.LostHosts != 1 || len(st.LostWays) != 1 || st.LostWays[0].To != "[fd00::1]:2222" {
		t.Errorf("the session: %+v", st)
	}
	st = ask(201, `"timeout":"1m","operator":{"client":"[2001:db8::7]:40000","server":"[fd00::1]:22"}`)
	e.want(200, "POST", changesPath+"/"+st.Change+"/rollback", "{}")
	ask(422, `"dryRun":true,"managedFrom":["h1"]`)
	ask(422, `"dryRun":true,"operator":{"client":"192.0.2.7","server":"10.0.0.1:22"}`)
}
