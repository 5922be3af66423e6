// SPDX-License-Identifier: Apache-2.0

package calc_test

import (
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc/calctest"
)

// TestIntake_MisspeltPolicyInTheStoreDenies reads a policy as the store has
// it: what a misspelt match would have narrowed is denied, not let through.
func TestIntake_MisspeltPolicyInTheStoreDenies(t *testing.T) {
	key := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "web"}
	value := `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"web",
		"uid":"0c1a9c3e-0000-4000-8000-000000000001","creationTimestamp":"2026-01-01T00:00:00Z"},
		"spec":{"tier":"default","selector":"role == 'web'","types":["Ingress"],
		"ingress":[{"action":"Allow","source":{"netz":["10.0.0.0/8"]},"destination":{}}]}}`
	stored := api.DecodeStored(key, []byte(value), 7)
	if _, ok := stored.(*api.Unreadable); !ok {
		t.Fatalf("DecodeStored(%s) = %T, want *api.Unreadable", value, stored)
	}
	endpoint, err := calctest.Object("HostEndpoint e {labels: {role: web}} {node: h, interfaceName: eth0}")
	if err != nil {
		t.Fatal(err)
	}
	g, f := newGraph(), calctest.NewFacts()
	g.Note(api.Event{Key: endpoint.Key(), Object: endpoint})
	g.Note(api.Event{Key: key, Object: stored, Revision: 7})
	g.Flush(f.Take)
	if err := f.End(); err != nil {
		t.Error(err)
	}
	want := "policy GlobalNetworkPolicy(web) tier default\n  ingress 0 Deny\n"
	if got := f.Text(); !strings.Contains(got, want) {
		t.Errorf("facts:\n%s\nwant among them\n%s", got, want)
	}
	faults := g.Faults()
	for _, fault := range faults {
		if fault.Object == "GlobalNetworkPolicy(web)" && strings.Contains(fault.Message, "netz") && fault.Effect != "" {
			return
		}
	}
	t.Errorf("Faults() = %+v, want one that names the policy and the misspelt field", faults)
}
