// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"strings"
	"testing"
)

func TestAdvice_OnSelectorsThatMatchNothing(t *testing.T) {
	var endpoints population
	endpoints.add(&labelled{"", map[string]string{"role": "web", "site": "berlin"}})
	endpoints.add(&labelled{"", map[string]string{"role": "db"}})
	for _, c := range []struct{ selector, want string }{
		{"role == 'web'", ""},
		{"all()", ""},
		{"!has(nothing)", ""},
		{"global()", ""},
		{"role == 'wbe'", `none has role "wbe"; did you mean "web"?`},
		{"role == 'frontend'", `none has role "frontend"; there is "db" or "web"`},
		{"rloe == 'web'", "none has the label rloe; did you mean role?"},
		{"role in {'x', 'yy'} && has(color)", `none has the label color, none has role "x" or "yy"`},
		{"role == 'db' && site == 'berlin'", "matches no endpoint that there is now"},
		{"!all()", "nothing can match it"},
	} {
		tries := 100
		got := mismatch(c.selector, "endpoint", &tries, &endpoints)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.selector, got, c.want)
		}
	}
}

func TestAdvice_CountsInheritedLabelsAndNamespaces(t *testing.T) {
	e := start(t, nil)
	slip := strings.Replace(gnp("p", "default"), "all()", "team == 'blue'", 1)
	if a := e.want(201, "POST", gnps+"?dryRun=All", slip); a.warnings() != "" {
		t.Errorf("without endpoints: %q", a.warnings())
	}
	e.want(201, "POST", profs, `{"apiVersion":"projectcalico.org/v3","kind":"Profile","metadata":{"name":"blue"},"spec":{"labelsToApply":{"team":"blue"}}}`)
	const heps = "/apis/projectcalico.org/v3/hostendpoints"
	e.want(201, "POST", heps, `{"apiVersion":"projectcalico.org/v3","kind":"HostEndpoint","metadata":{"name":"h"},"spec":{"node":"h","interfaceName":"eth0"}}`)
	if a := e.want(201, "POST", gnps+"?dryRun=All", slip); !strings.Contains(a.warnings(), "none has the label team") {
		t.Errorf("an endpoint without the profile: %q", a.warnings())
	}
	e.want(200, "PATCH", heps+"/h", `{"spec":{"profiles":["blue"]}}`, "Content-Type", typeMergePatch)
	if a := e.want(201, "POST", gnps+"?dryRun=All", slip); a.warnings() != "" {
		t.Errorf("an endpoint with the profile: %q", a.warnings())
	}
	// A policy in a namespace is about what is in it.
	in := `{"apiVersion":"projectcalico.org/v3","kind":"NetworkPolicy","metadata":{"name":"p"},"spec":{"selector":"team == 'blue'"}}`
	if a := e.want(201, "POST", "/apis/projectcalico.org/v3/namespaces/n/networkpolicies", in); !strings.Contains(a.warnings(), "of namespace n") {
		t.Errorf("in a namespace: %q", a.warnings())
	}
}
