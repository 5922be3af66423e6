// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// objects reads resources, with their defaults.
func objects(t testing.TB, text string) []api.Object {
	t.Helper()
	docs, err := api.DecodeAll([]byte(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	var list []api.Object
	for _, d := range docs {
		d.Object.Default()
		if err := d.Object.Validate(); err != nil {
			t.Fatalf("%s: %v", d.Object.Key(), err)
		}
		list = append(list, d.Object)
	}
	return list
}

const fleet = `
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 1000000, defaultAction: Deny}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: w1-eth0, labels: {role: web}}, spec: {node: w1, interfaceName: eth0, expectedIPs: [10.0.0.1, 'fd00::1'], ports: [{name: www, protocol: TCP, port: 8080}]}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: w1-eth1, labels: {role: web}}, spec: {node: w1, interfaceName: eth1, expectedIPs: [10.1.0.1], ports: [{name: www, protocol: TCP, port: 8081}]}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: w2-eth0, labels: {role: web}}, spec: {node: w2, interfaceName: eth0, expectedIPs: [10.0.0.2], ports: [{name: www, protocol: TCP, port: 8080}]}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: d1-eth0, labels: {role: db}}, spec: {node: d1, interfaceName: eth0, expectedIPs: [10.0.0.9, 'fd00::9']}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: x1-eth0, labels: {role: dark}}, spec: {node: x1, interfaceName: eth0}}
---
{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, labels: {app: six}}, spec: {node: d1, orchestrator: vm, workload: six, endpoint: eth0, interfaceName: calix, ipNetworks: ['fd00:1::6/128']}}
---
{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, labels: {app: four}}, spec: {node: d1, orchestrator: vm, workload: four, endpoint: eth0, interfaceName: calif, ipNetworks: [10.9.0.4/32]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: db}, spec: {selector: role == 'db', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {selector: role == 'web'}, destination: {ports: [5432]}}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: web}, spec: {selector: role == 'web', types: [Ingress, Egress], egress: [{action: Allow}], ingress: [{action: Allow, protocol: TCP, source: {nets: [192.0.2.0/25]}, destination: {ports: [www]}}, {action: Allow, protocol: ICMP, icmp: {type: 8}}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: dark}, spec: {selector: role == 'dark', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {nets: [192.0.2.0/24]}, destination: {ports: [80]}}]}}
`

// judged is what Run says of cases, as they stand in a file, one line each.
func judged(t *testing.T, cases string) string {
	t.Helper()
	objs := objects(t, "{apiVersion: ripstop.io/v1, kind: PolicyTest, metadata: {name: t}, spec: {cases: ["+cases+"]}}")
	var lines []string
	for _, r := range Run([]*api.PolicyTest{objs[0].(*api.PolicyTest)}, policy.NewWorld(objects(t, fleet), policy.Options{}), 1000) {
		lines = append(lines, fmt.Sprintf("%d flows: %s", r.Flows, strings.TrimPrefix(r.String(), `PolicyTest(t): case "c": `)))
	}
	return strings.Join(lines, "\n")
}

func TestRun_SaysOfEachCaseWhetherItIsSo(t *testing.T) {
	for name, c := range map[string]struct{ ask, want string }{
		"pairs of selectors, in both IP versions where both have them": {
			"from: {selector: role == 'web'}, to: {selector: role == 'db'}, protocol: TCP, port: 5432, expect: Allow",
			"4 flows: passed"},
		"the first flow that is otherwise is told, with the rule": {
			"from: {selector: role == 'web'}, to: {selector: role == 'db'}, protocol: TCP, port: 5432, expect: Deny",
			"1 flows: expected Deny: tcp from hep/w1-eth0 to hep/d1-eth0:5432: " +
				"outbound TCP 10.0.0.1:49152 to 10.0.0.9:5432 on w1 out eth0: allowed, by GlobalNetworkPolicy(web) egress rule 1 in tier default at HostEndpoint(w1-eth0); then " +
				"inbound TCP 10.0.0.1:49152 to 10.0.0.9:5432 on d1 in eth0: allowed, by GlobalNetworkPolicy(db) ingress rule 1 in tier default at HostEndpoint(d1-eth0)"},
		"only what denies is told of what is denied": {
			"from: {host: w2}, to: {host: d1}, protocol: TCP, port: 23, expect: Allow",
			"1 flows: expected Allow: tcp from host/w2 to host/d1:23: " +
				"inbound TCP 10.0.0.2:49152 to 10.0.0.9:23 on d1 in eth0: denied, by the end of tier default at HostEndpoint(d1-eth0)"},
		"an endpoint sends nothing to itself or its host's others": {
			"from: {selector: role == 'web'}, to: {selector: role == 'web'}, protocol: TCP, port: 23, expect: Deny",
			"4 flows: passed"},
		"a selector that only the other end itself matches": {
			"from: {endpoint: hep/w1-eth0}, to: {selector: \"role == 'web' && has(role)\", namespaceSelector: global()}, protocol: TCP, port: 23, expect: Deny",
			"1 flows: passed"},
		"nothing is left but the same host": {
			"from: {host: d1}, to: {selector: role == 'db'}, protocol: TCP, port: 23, expect: Deny",
			"0 flows: no two ends of it can send each other anything over a network: they are one and the same, or of different IP versions"},
		"a selector that selects nothing": {
			"from: {selector: role == 'wed'}, to: {selector: role == 'db'}, protocol: TCP, port: 5432, expect: Deny",
			"0 flows: from: the selector role == 'wed' selects no endpoint"},
		"a selector that selects nothing in these namespaces": {
			"from: {host: w1}, to: {selector: app == 'six', namespaceSelector: kubernetes.io/metadata.name == 'test'}, protocol: TCP, port: 5432, expect: Deny",
			"0 flows: to: the selector app == 'six' in namespaces with kubernetes.io/metadata.name == 'test' selects no endpoint"},
		"a host that is not there": {
			"from: {host: w9}, to: {host: d1}, protocol: TCP, port: 5432, expect: Deny",
			"0 flows: tcp from host/w9 to host/d1:5432: host/w9: no Node and no endpoint is of this host; known are: d1, w1, w2, x1"},
		"an endpoint that is not there": {
			"from: {host: w1}, to: {endpoint: hep/d9}, protocol: TCP, port: 5432, expect: Deny",
			"0 flows: tcp from host/w1 to hep/d9:5432: hep/d9: there is no such HostEndpoint; known are: d1-eth0, w1-eth0, w1-eth1, w2-eth0, x1-eth0"},
		"two addresses of nobody": {
			"from: {ip: 192.0.2.1}, to: {ip: 192.0.2.2}, protocol: TCP, port: 80, expect: Deny",
			"0 flows: tcp from 192.0.2.1 to 192.0.2.2:80: 192.0.2.1 and 192.0.2.2 are of no known host or workload; write host/NAME or workload/NAMESPACE/NAME for one of them, or name the host that forwards: through host/NAME"},
		"a named port is the number that each endpoint gives it": {
			"from: {ip: 192.0.2.1}, to: {selector: role == 'web'}, protocol: TCP, port: www, expect: Allow",
			"3 flows: passed"},
		"a named port of a host is each that its endpoints give it": {
			"from: {ip: 203.0.113.1}, to: {host: w1}, protocol: TCP, port: www, expect: Deny",
			"4 flows: passed"},
		"a named port that one of them does not have": {
			"from: {ip: 192.0.2.1}, to: {selector: \"role in {'web', 'db'}\"}, protocol: TCP, port: www, expect: Allow",
			"0 flows: to: hep/d1-eth0 has no port of TCP that is named \"www\""},
		"of a prefix the last address counts too": {
			"from: {ip: 192.0.2.0/24}, to: {host: w2}, protocol: TCP, port: 8080, expect: Allow",
			"2 flows: expected Allow: tcp from 192.0.2.128 to host/w2:8080: " +
				"inbound TCP 192.0.2.128:49152 to 10.0.0.2:8080 on w2 in eth0: denied, by the end of tier default at HostEndpoint(w2-eth0)"},
		"all three addresses of a prefix": {
			"from: {ip: 192.0.2.0/25}, to: {host: w2}, protocol: TCP, port: 8080, expect: Allow",
			"3 flows: passed"},
		"an echo request is what ICMP is without a type": {
			"from: {ip: 192.0.2.1}, to: {host: w2}, protocol: ICMP, expect: Allow", "1 flows: passed"},
		"another type": {
			"from: {ip: 192.0.2.1}, to: {host: w2}, protocol: ICMP, icmpType: 13, icmpCode: 0, expect: Deny", "1 flows: passed"},
		"workloads without an IP version in common are left out": {
			"from: {selector: has(app)}, to: {selector: app == 'six'}, protocol: TCP, port: 80, expect: Deny",
			"0 flows: no two ends of it can send each other anything over a network: they are one and the same, or of different IP versions"},
		"by the workload's own name": {
			"from: {host: w1}, to: {endpoint: workload/prod/four}, protocol: TCP, port: 80, expect: Deny", "4 flows: passed"},
	} {
		if got := judged(t, "{name: c, "+c.ask+"}"); got != c.want {
			t.Errorf("%s: %s\n got %s\nwant %s", name, c.ask, got, c.want)
		}
	}
}

func TestRun_SaysWhatItAssumes(t *testing.T) {
	objs := objects(t, `{apiVersion: ripstop.io/v1, kind: PolicyTest, metadata: {name: t}, spec: {cases: [
{name: c, from: {ip: 192.0.2.1}, to: {selector: role == 'dark'}, protocol: TCP, port: 80, expect: Allow, why: of course}]}}`)
	got := Run([]*api.PolicyTest{objs[0].(*api.PolicyTest)}, policy.NewWorld(objects(t, fleet), policy.Options{}), 1000)
	want := []Result{{Test: "t", Case: "c", Expect: api.Allow, Passed: true, Flows: 1, Why: "of course", Assumed: []string{
		"no IPv4 address of host/x1 on eth0 is known, so host/x1 on eth0 stands for one that is in no net and no set; say which with: at ADDRESS",
	}}}
	for i := range got {
		for k := range got[i].Assumed {
			got[i].Assumed[k] = strings.Replace(got[i].Assumed[k], "so 0.0.0.0 stands", "so host/x1 on eth0 stands", 1)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// many is a fleet of hosts of two roles, with policies.
func many(t testing.TB, hosts, policies int) *policy.World {
	var b strings.Builder
	b.WriteString(fleet)
	for i := range hosts {
		fmt.Fprintf(&b, "---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: m%d, labels: {side: '%d'}}, spec: {node: m%d, interfaceName: eth0, expectedIPs: [10.20.%d.%d], profiles: [projectcalico-default-allow]}}\n", i, i%2, i, i/256, i%256)
	}
	for i := range policies {
		fmt.Fprintf(&b, "---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: p%d}, spec: {selector: has(side), order: %d, types: [Ingress], ingress: [{action: Deny, protocol: TCP, source: {nets: [198.51.100.%d/32]}, destination: {ports: [%d]}}]}}\n", i, i, i%256, 1000+i)
	}
	return policy.NewWorld(objects(t, b.String()), policy.Options{})
}

func TestRun_IsBoundedAndSaysSo(t *testing.T) {
	objs := objects(t, `{apiVersion: ripstop.io/v1, kind: PolicyTest, metadata: {name: t}, spec: {cases: [
{name: c, from: {selector: side == '0'}, to: {selector: side == '1'}, protocol: TCP, port: 80, expect: Allow}]}}`)
	got := Run([]*api.PolicyTest{objs[0].(*api.PolicyTest)}, many(t, 100, 0), 5000)
	if r := got[0]; !r.Passed || r.Flows != MaxOfCase || r.Unjudged != 50*50-MaxOfCase {
		t.Errorf("got %+v", r)
	}
}

func TestRun_CasesShareTheQuestionsAndFailWithoutOne(t *testing.T) {
	c := "from: {selector: side == '0'}, to: {selector: side == '1'}, protocol: TCP, port: 80, expect: Allow}"
	objs := objects(t, "{apiVersion: ripstop.io/v1, kind: PolicyTest, metadata: {name: t}, spec: {cases: [{name: a, "+c+", {name: b, "+c+"]}}")
	got := Run([]*api.PolicyTest{objs[0].(*api.PolicyTest)}, many(t, 4, 0), 5)
	for i, want := range []int{3, 2} { // each has its share
		if r := got[i]; !r.Passed || r.Flows != want || r.Unjudged != 4-want {
			t.Errorf("case %d: %+v", i, r)
		}
	}
	got = Run([]*api.PolicyTest{objs[0].(*api.PolicyTest)}, many(t, 4, 0), 1)
	if !got[0].Passed || got[0].Flows != 1 {
		t.Errorf("the first: %+v", got[0])
	}
	if want := "not judged: the cases before it have used up all of 1 questions"; got[1].Passed || got[1].Fault != want {
		t.Errorf("the second: got %+v, want %s", got[1], want)
	}
}

func TestSpread_IsEachPairOnceAndEachEndEarly(t *testing.T) {
	for n := 1; n <= 12; n++ {
		for m := 1; m <= 12; m++ {
			list := func(n int) (l []end) {
				for i := range n {
					l = append(l, end{place: policy.Place{Port: uint16(i + 1)}})
				}
				return l
			}
			seen := map[[2]uint16]bool{}
			early := [2]map[uint16]bool{{}, {}}
			count := 0
			for a, b := range spread(list(n), list(m)) {
				seen[[2]uint16{a.place.Port, b.place.Port}] = true
				if count < max(n, m) {
					early[0][a.place.Port], early[1][b.place.Port] = true, true
				}
				count++
			}
			if count != n*m || len(seen) != n*m || len(early[0]) != n || len(early[1]) != m {
				t.Errorf("%d and %d: %d pairs, %d different; early %d and %d", n, m, count, len(seen), len(early[0]), len(early[1]))
			}
		}
	}
}

// BenchmarkRun is 100 cases, each an address and a host, by 1,000 policies that
// all look at the host and of which none decides.
func BenchmarkRun(b *testing.B) {
	w := many(b, 100, 1000)
	var cases []string
	for i := range 100 {
		cases = append(cases, fmt.Sprintf("{name: c%d, from: {ip: 203.0.113.%d}, to: {host: m%d}, protocol: TCP, port: 80, expect: Allow}", i, i, i))
	}
	objs := objects(b, "{apiVersion: ripstop.io/v1, kind: PolicyTest, metadata: {name: t}, spec: {cases: ["+strings.Join(cases, ", ")+"]}}")
	tests := []*api.PolicyTest{objs[0].(*api.PolicyTest)}
	for b.Loop() {
		if r := Run(tests, w, 1000); len(r) != 100 || r[0].Flows != 1 {
			b.Fatal(r[0])
		}
	}
}
