// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/audit"
	"github.com/ripstop/ripstop/daemon/store"
)

// memory is a Recorder that keeps records, or refuses them.
type memory struct {
	mu      sync.Mutex
	records []audit.Record
	full    bool
}

func (m *memory) Commit(r audit.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return fmt.Errorf("%w: no space left on device", audit.ErrUnwritable)
	}
	m.records = append(m.records, r)
	return nil
}

func (m *memory) Append(r audit.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, r)
}

// take is what was recorded since the last time, one word a line: stage, verb,
// resource, name and code.
func (m *memory) take() (words []string, records []audit.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %d", r.Stage, r.Verb, r.Resource+r.Path, r.Name, r.Code)))
	}
	records, m.records = m.records, nil
	return words, records
}

// audited is a server with a record.
func audited(t *testing.T, change func(*Config)) (*env, *memory) {
	m := &memory{}
	e := start(t, func(c *Config) {
		c.Audit = m
		if change != nil {
			change(c)
		}
	})
	return e, m
}

func TestRecord_HasAnIntentBeforeAndTheEndOfEachWrite(t *testing.T) {
	e, m := audited(t, nil)
	const sets = "globalnetworksets.projectcalico.org"
	for _, c := range []struct {
		method, path, body, typ string
		code                    int
		want                    string
	}{
		{"POST", gnss, netset("x"), typeJSON, 201, "intent create S x 0; done create S x 201"},
		{"POST", gnss, netset("x"), typeJSON, 409, "intent create S x 0; failed create S x 409"},
		{"POST", gnss, "{", typeJSON, 400, "failed create S  400"},
		{"PUT", gnss + "/x", netset("x", "a", "b"), typeJSON, 200, "intent update S x 0; done update S x 200"},
		{"PUT", gnss + "/x", netset("x", "a", "b"), typeJSON, 200, "done update S x 200"}, // it is so already
		{"PUT", gnss + "/y", netset("y"), typeJSON, 404, "failed update S y 404"},
		{"PATCH", gnss + "/x", `{"metadata":{"labels":{"a":"c"}}}`, typeMergePatch, 200, "intent patch S x 0; done patch S x 200"},
		{"PATCH", gnss + "/x?fieldManager=m", `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"x"},"spec":{"nets":["10.9.0.0/16"]}}`, typeApplyPatch, 409, "failed patch S x 409"},
		{"PATCH", gnss + "/z?fieldManager=m", `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"z"},"spec":{"nets":["10.9.0.0/16"]}}`, typeApplyPatch, 201, "intent patch S z 0; done patch S z 201"},
		{"PUT", gnss + "/x?dryRun=All", netset("x", "n", "2"), typeJSON, 200, ""},
		{"DELETE", gnss + "/x", `{"dryRun":["All"]}`, typeJSON, 200, ""},
		{"GET", gnss, "", "", 200, ""},
		{"GET", gnss + "/nobody", "", "", 404, ""},
		{"DELETE", gnss + "/x", "", "", 200, "intent delete S x 0; done delete S x 200"},
		{"POST", gnss, netset("w"), typeJSON, 201, "intent create S w 0; done create S w 201"},
		{"DELETE", gnss, "", "", 200, "intent deletecollection S w 0; intent deletecollection S z 0; done deletecollection S  200"},
		{"DELETE", tiers + "/default", "", "", 405, "failed delete tiers.projectcalico.org default 405"},
	} {
		a := e.want(c.code, c.method, c.path, c.body, "Content-Type", c.typ)
		words, records := m.take()
		if got := strings.Join(words, "; "); got != strings.ReplaceAll(c.want, " S ", " "+sets+" ") {
			t.Errorf("%s %s: recorded %q, want %q", c.method, c.path, got, c.want)
		}
		for _, r := range records {
			if r.Request != a.header.Get("Audit-Id") || r.Who.From != "unix" || r.Who.User == "" || r.Who.Method != "socket" || !strings.HasPrefix(r.Who.Credential, "pid:") {
				t.Errorf("%s %s: record %+v by %+v", c.method, c.path, r, r.Who)
			}
		}
	}
}

func TestRecord_ShowsWhatWasAndWhatIsToBe(t *testing.T) {
	e, m := audited(t, nil)
	e.want(201, "POST", gnss, netset("x", "a", "1"))
	e.want(200, "PUT", gnss+"/x", netset("x", "a", "2"), "User-Agent", "curl", "Kubectl-Command", "kubectl replace")
	e.want(200, "DELETE", gnss+"/x", "")
	_, records := m.take()
	label := func(raw json.RawMessage) string {
		if raw == nil {
			return "none"
		}
		var o api.GlobalNetworkSet
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		return o.Labels["a"]
	}
	var got []string
	for _, r := range records {
		if r.Stage == audit.Intent {
			got = append(got, label(r.Before)+"→"+label(r.After))
		}
	}
	if fmt.Sprint(got) != "[none→1 1→2 2→none]" {
		t.Errorf("labels %v", got)
	}
	if w := records[2].Who; w.Agent != "curl" || w.Command != "kubectl replace" {
		t.Errorf("who %+v", w)
	}
}

func TestRecord_HasRefusalsOfEveryKind(t *testing.T) {
	e, m := audited(t, nil)
	h := e.srv.Handler()
	do := func(method, path, from string, headers ...string) int {
		req := httptest.NewRequest(method, path, strings.NewReader(netset("x")))
		req.Host, req.RemoteAddr = "localhost", from
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		return rec.Code
	}
	if code := do("GET", gnss, "192.0.2.1:5"); code != 401 { // a stranger who shows nothing
		t.Fatalf("got %d", code)
	}
	if words, _ := m.take(); len(words) != 0 {
		t.Errorf("a read by a stranger: recorded %v", words)
	}
	do("POST", gnss, "192.0.2.1:5")
	do("GET", gnss, "192.0.2.1:5", "Authorization", "Bearer canary-token")
	words, records := m.take()
	if len(words) != 2 || !strings.HasPrefix(words[0], "refused create ") || !strings.HasPrefix(words[1], "refused list ") {
		t.Fatalf("recorded %v", words)
	}
	if from := records[0].Who.From; from != "192.0.2.1:5" {
		t.Errorf("from %q", from)
	}
	e.want(403, "GET", gnss, "", "Impersonate-User", "bob")
	if words, _ := m.take(); len(words) != 1 || !strings.HasPrefix(words[0], "refused list ") || !strings.HasSuffix(words[0], " 403") {
		t.Errorf("recorded %v", words)
	}
}

// TestRecord_OfAFloodOfRefusalsIsBounded: strangers must not push the past out
// of the log.
func TestRecord_OfAFloodOfRefusalsIsBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	e, m := audited(t, func(c *Config) { c.Now = func() time.Time { return now } })
	for range 1000 {
		e.want(403, "GET", gnss, "", "Impersonate-User", "bob")
	}
	words, _ := m.take()
	if len(words) != refusalBurst {
		t.Errorf("%d lines, want %d", len(words), refusalBurst)
	}
	now = now.Add(time.Second)
	e.want(403, "GET", gnss, "", "Impersonate-User", "bob")
	if _, records := m.take(); len(records) != 1 || records[0].Missing != 1000-refusalBurst {
		t.Errorf("records %+v, want one that tells of %d", records, 1000-refusalBurst)
	}
}

func TestRecord_ThatCannotBeWrittenStopsWritesAndNothingElse(t *testing.T) {
	e, m := audited(t, nil)
	e.want(201, "POST", gnss, netset("x"))
	rev := e.revision(gnss)
	m.full = true
	for _, c := range []struct{ method, path, body, typ string }{
		{"POST", gnss, netset("y"), typeJSON}, {"PUT", gnss + "/x", netset("x", "a", "b"), typeJSON}, {"DELETE", gnss + "/x", "", ""},
		{"PATCH", gnss + "/x", `{"metadata":{"labels":{"a":"c"}}}`, typeMergePatch}, {"DELETE", gnss, "", ""},
	} {
		st := e.want(507, c.method, c.path, c.body, "Content-Type", c.typ).status(t)
		if st.Reason != reasonNoSpace || !strings.Contains(st.Message, "audit log") || !strings.Contains(st.Message, "no space left on device") {
			t.Errorf("%s: %+v", c.method, st)
		}
	}
	e.want(200, "GET", gnss+"/x", "")
	if now := e.revision(gnss); now != rev {
		t.Errorf("the store went from revision %s to %s", rev, now)
	}
	m.full = false
	e.want(201, "POST", gnss, netset("y"))
	if words, _ := m.take(); len(words) != 4 {
		t.Errorf("recorded %v, want the two writes that were done", words)
	}
}

func TestRecord_HasAPanic(t *testing.T) {
	e, m := audited(t, func(c *Config) { c.Store = panics{c.Store} })
	e.want(500, "POST", gnss, netset("x"))
	words, _ := m.take()
	if got := strings.Join(words, "; "); got != "intent create globalnetworksets.projectcalico.org x 0; failed create globalnetworksets.projectcalico.org x 500" {
		t.Errorf("recorded %q", got)
	}
}

// panics is a Store with a fault.
type panics struct{ store.Store }

func (panics) Put(context.Context, api.Object, store.If) (api.Revision, error) { panic("planted") }

// TestSecrets_ShowNowhere plants texts where secrets are and looks for them in
// the log at its lowest level, in the record, and in answers to others.
func TestSecrets_ShowNowhere(t *testing.T) {
	var log bytes.Buffer
	var answers bytes.Buffer
	e, m := audited(t, func(c *Config) {
		c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const canary = "canary-7d1f"
	const creds = "/apis/ripstop.io/v1/credentials"
	hash := api.HashToken(canary)
	credential := func(hash, user string) string {
		return fmt.Sprintf(`{"apiVersion":"ripstop.io/v1","kind":"Credential","metadata":{"name":"x"},"spec":{"user":%q,"tokenHash":%q,"expires":%q}}`, user, hash, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
	applied := strings.Replace(netset("x"), `"metadata":{`, `"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"password\":\"`+canary+`\"}"},`, 1)
	for _, c := range []struct {
		method, path, body, header, value string
		code                              int
	}{
		{"POST", gnss, applied, "X-A", "b", 201},
		{"POST", creds, credential(hash, "x"), "X-A", "b", 201},
		{"PUT", creds + "/x", credential(hash, "other"), "X-A", "b", 422},
		{"PUT", creds + "/x", credential(canary, "x"), "X-A", "b", 422}, // no hash
		{"POST", gnss, applied, "Authorization", "Bearer " + canary, 401},
		{"PUT", gnss + "/x", strings.Replace(applied, "10.0.0.0/8", "10.0.0.0/9", 1), "Authorization", "Basic " + canary, 401},
		{"GET", gnss + "?token=" + canary + "&access_token=" + canary, "", "Cookie", "session=" + canary, 200},
		{"GET", gnss + "/nobody", "", "Proxy-Authorization", canary, 404},
		{"POST", gnss, "{", "Authorization", "Bearer " + canary, 401},
		{"GET", tiers, "", "Impersonate-Extra-Token", canary, 403},
		{"DELETE", gnss + "/x", "", "Authorization", canary, 401},
	} {
		a := e.do(c.method, c.path, c.body, c.header, c.value)
		if a.code >= 400 {
			answers.Write(a.body)
		}
		if c.code != a.code {
			t.Errorf("%s %s: answered %d, want %d: %s", c.method, c.path, a.code, c.code, a.body)
		}
	}
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	_, records := m.take()
	if len(records) < 6 {
		t.Fatalf("%d records: %+v", len(records), records)
	}
	for name, text := range map[string]string{"log": log.String(), "record": encode(t, records), "answers": answers.String()} {
		for _, secret := range []string{canary, hash} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s: shows %q", name, text[max(0, i-200):i+len(secret)])
			}
		}
		if text == "" {
			t.Errorf("%s: is empty", name)
		}
	}
}
