// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// racks are two hosts with workloads: h1 with web and db, h2 with app. All
// workloads may do all but db, which web alone may reach.
const racks = defaultTier + allowAll +
	"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h1-eth0, labels: {role: host}}, spec: {node: h1, interfaceName: eth0, expectedIPs: [10.0.0.1]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: h2}, spec: {addresses: [{address: 10.0.0.2}]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, name: h1-k8s-web-eth0, labels: {app: web}}, spec: {node: h1, orchestrator: k8s, pod: web, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.65.0.1/32, 'fd65::1/128'], profiles: [open]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, name: h1-k8s-db-eth0, labels: {app: db}}, spec: {node: h1, orchestrator: k8s, pod: db, endpoint: eth0, interfaceName: cali2, ipNetworks: [10.65.0.2/32], profiles: [open]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, name: h2-k8s-app-eth0, labels: {app: app}}, spec: {node: h2, orchestrator: k8s, pod: app, endpoint: eth0, interfaceName: cali7, ipNetworks: [10.65.1.1/32], profiles: [open]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, name: h2-k8s-app-eth1, labels: {app: app}}, spec: {node: h2, orchestrator: k8s, pod: app, endpoint: eth1, interfaceName: cali8}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {namespace: prod, name: db}, spec: {selector: app == 'db', ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'web'}, destination: {ports: [5432]}}]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: published}, spec: {selector: role == 'host', preDNAT: true, applyOnForward: true, ingress: [{action: Deny, protocol: TCP, destination: {ports: [30000]}}]}}\n"

func TestExplain_Workloads(t *testing.T) {
	w := world(t, racks)
	for _, c := range []struct{ ask, want string }{
		{"tcp from workload/prod/web to workload/prod/db:5432", "Allow | forwarded:h1:cali1=Allow Rule default db 1"},
		{"tcp from wep/prod/h1-k8s-web-eth0 to wep/prod/db:80", "Deny | forwarded:h1:cali1=Deny EndOfTier default"},
		{"tcp from workload/prod/web to 10.65.0.2:5432", "Allow | forwarded:h1:cali1=Allow Rule default db 1"},
		{"tcp from 10.65.0.1 to 10.65.0.2:5432", "Allow | forwarded:h1:cali1=Allow Rule default db 1"},
		{"tcp from workload/prod/db to workload/prod/web:80", "Allow | forwarded:h1:cali2=Allow Profile open 1"},
		{"tcp from workload/prod/web at 10.65.0.9 to workload/prod/db:5432", "Deny | forwarded:h1:cali1=Deny SpoofedSource"},
		// To and from its own host.
		{"tcp from workload/prod/web to host/h1:80", "Deny | inbound:h1:cali1=Deny EndpointToHost"},
		{"tcp from workload/prod/web to 10.0.0.1:80", "Deny | inbound:h1:cali1=Deny EndpointToHost"},
		{"tcp from host/h1 to workload/prod/db:80", "NotGoverned | outbound:h1:cali2=NotGoverned ToWorkload"},
		{"tcp from 10.0.0.1 to workload/prod/db:80", "NotGoverned | outbound:h1:cali2=NotGoverned ToWorkload"},
		// To and from elsewhere: through its host, by an interface that may be known.
		{"tcp from 10.0.0.9 to workload/prod/web:80 via eth0", "Allow | forwarded:h1:eth0=Allow Profile open 1"},
		{"tcp from 10.0.0.9 to workload/prod/db:5432", "Deny | forwarded:h1:eth0=Deny EndOfTier default | forwarded:h1:=Deny EndOfTier default"},
		{"tcp from workload/prod/web to 192.0.2.1:80", "Allow | forwarded:h1:cali1=Allow Profile open 1 | forwarded:h1:cali1=Allow Profile open 1"},
		{"tcp from workload/prod/web via eth0 to 192.0.2.1:80", "Allow | forwarded:h1:cali1=Allow Profile open 1"},
		{"tcp from workload/prod/web via eth0 to host/h2:80", "Allow | forwarded:h1:cali1=Allow Profile open 1 inbound:h2:=NotGoverned NoEndpoint"},
		{"tcp from host/h2 to workload/prod/db:80 via eth0", "Deny | outbound:h2:=NotGoverned NoEndpoint forwarded:h1:eth0=Deny EndOfTier default"},
		{"tcp from workload/prod/h2-k8s-app-eth0 to workload/prod/db:5432 via eth0", "Deny | forwarded:h2:cali7=Allow Profile open 1 forwarded:h1:eth0=Deny EndOfTier default"},
		{"tcp from workload/prod/h2-k8s-app-eth1 at 10.65.1.2 to 192.0.2.1:80", "Deny | forwarded:h2:cali8=Deny UnknownInterface"},
		{"tcp from workload/prod/web via eth0 to 192.0.2.1:80 through host/h2 in eth0 out eth1", "Allow | forwarded:h1:cali1=Allow Profile open 1 forwarded:h2:eth0=NotGoverned NoEndpoint"},
		{"tcp from fd00::9 to workload/prod/web:80 via eth0", "Allow | forwarded:h1:eth0=Allow Profile open 1"},
		// A published port.
		{"tcp from 10.0.0.9 to workload/prod/web:8055 via eth0 dialled 10.0.0.1:30000", "Deny | forwarded:h1:eth0=Deny Rule default published 1"},
		{"tcp from 10.0.0.9 to workload/prod/web:30000 via eth0 dialled 10.0.0.1:8055", "Allow | forwarded:h1:eth0=Allow Profile open 1"},
		{"tcp from host/h2 to workload/prod/web:8055 via eth0 dialled 10.0.0.1:30000", "Deny | outbound:h2:=NotGoverned NoEndpoint forwarded:h1:eth0=Deny Rule default published 1"},
		{"tcp from 10.0.0.9 to host/h1:80 dialled 10.0.0.1:30000", "Deny | inbound:h1:eth0=Deny Rule default published 1"},
	} {
		a := explain(t, w, c.ask, Known{})
		if got := outline(a); got != c.want {
			t.Errorf("Explain(%s)\n got  %s\n want %s\n%s", c.ask, got, c.want, a)
		}
	}
}

// Before the host that rewrites the destination the packet is for what was
// dialled, behind it for what it was rewritten to.
func TestExplain_DialledIsRewrittenOnTheWay(t *testing.T) {
	a := explain(t, world(t, racks), "tcp from host/h2 to workload/prod/web:8055 via eth0 dialled 10.0.0.1:30000", Known{})
	hops := a.Cases[0].Hops
	first, second := hops[0].Flow, hops[1].Flow
	if first.Destination != netip.MustParseAddr("10.0.0.1") || first.DestinationPort != 30000 || first.Dialled.IsValid() {
		t.Errorf("the first hop is %s, want it for 10.0.0.1:30000", first)
	}
	if second.Destination != netip.MustParseAddr("10.65.0.1") || second.Dialled != netip.MustParseAddrPort("10.0.0.1:30000") {
		t.Errorf("the second hop is %s, want it for 10.65.0.1:8055, dialled as 10.0.0.1:30000", second)
	}
}

func TestExplain_OfWorkloadsSaysWhatItAssumesAndDoesNotKnow(t *testing.T) {
	w := world(t, racks+
		"---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: dev, name: h2-k8s-refused-eth0}, spec: {node: h2, orchestrator: k8s, pod: refused, endpoint: eth0, interfaceName: cali9, ipNetworks: [10.65.9.9], allowSpoofedSourcePrefixes: [10.0.0.0/8]}}\n")
	for _, c := range []struct{ ask, want string }{
		{"tcp from 10.0.0.9 to workload/prod/db:1", "assumed: the interface by which it reaches host/h1 is taken to be eth0"},
		{"tcp from workload/prod/db to 10.0.0.9:1", "assumed: the interface by which host/h1 sends it on is taken to be none of eth0"},
		{"tcp from workload/prod/web to 10.65.0.2:1", "assumed: 10.65.0.2 is of workload/prod/h1-k8s-db-eth0"},
		{"tcp from 10.0.0.9 to workload/prod/web:8055 via eth0 dialled 10.0.0.1:30000", "assumed: host/h1 rewrites the destination 10.0.0.1:30000 to 10.65.0.1:8055"},
		{"tcp from 10.0.0.9 to 10.65.0.2:1 through host/h2", "assumed: 10.65.0.2 is of workload/prod/h1-k8s-db-eth0, whose own rules are not asked"},
		{"tcp from workload/prod/nobody to 10.0.0.9:1", "workload/prod/nobody: there is no such WorkloadEndpoint, and none of such a workload; known are: dev/h2-k8s-refused-eth0, prod/h1-k8s-db-eth0, prod/h1-k8s-web-eth0"},
		{"tcp from workload/prod/app to 10.0.0.9:1", "workload/prod/app: several WorkloadEndpoints are of it; write one of: prod/h2-k8s-app-eth0, prod/h2-k8s-app-eth1"},
		{"tcp from workload/prod/h2-k8s-app-eth1 to 10.0.0.9:1", "workload/prod/h2-k8s-app-eth1 has no address"},
		{"tcp from 10.65.9.9 to 10.9.9.9:1", "10.65.9.9 and 10.9.9.9 are of no known host or workload"},
		{"tcp from workload/dev/refused to 10.9.9.9:1", "WorkloadEndpoint(dev/h2-k8s-refused-eth0) has allowSpoofedSourcePrefixes, for which workloadSourceSpoofing must be Any, and so counts as absent: denied"},
		{"tcp from fd00::9 to workload/prod/db:1", "the ends are not of the same IP version"},
	} {
		q, err := ParseFlow(c.ask)
		if err != nil {
			t.Fatal(err)
		}
		a, err := w.Explain(q, Known{})
		var got string
		if got = fmt.Sprint(err); err == nil {
			got = a.String()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("Explain(%s)\n got  %s\n want %s", c.ask, got, c.want)
		}
	}
}

func TestAnswer_SentencesNameThePhases(t *testing.T) {
	w := world(t, racks+
		"---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: raw}, spec: {selector: role == 'host', doNotTrack: true, applyOnForward: true, ingress: [{action: Deny, protocol: UDP}]}}\n"+
		"---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: idle}, spec: {selector: app == 'db', doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}]}}\n")
	got := explain(t, w, "tcp from 10.0.0.9 to workload/prod/db:5432 via eth0 dialled 10.0.0.1:15432", Known{}).String()
	want := `tcp from 10.0.0.9 to workload/prod/db:5432 via eth0 dialled 10.0.0.1:15432
assumed: host/h1 rewrites the destination 10.0.0.1:15432 to 10.65.0.2:5432
forwarded TCP 10.0.0.9:49152 to 10.65.0.2:5432 (dialled as 10.0.0.1:15432) on h1 in eth0 out cali2
  HostEndpoint(h1-eth0) governs interface eth0 (ingress, before connection tracking): it names the interface
  tier default: policy GlobalNetworkPolicy(raw) ingress rule 1 (Deny UDP) does not match: the protocol is TCP, not UDP
  no rule of doNotTrack policy decided: on to what comes next
  HostEndpoint(h1-eth0) governs interface eth0 (ingress, before destination NAT): it names the interface
  tier default: policy GlobalNetworkPolicy(published) ingress rule 1 (Deny TCP to port 30000) does not match: destination port 15432 is not in 30000
  no rule of preDNAT policy decided: on to what comes next
  HostEndpoint(h1-eth0) governs interface eth0 (ingress): it names the interface
  no applyOnForward policy with a say in Ingress selects the endpoint: allowed
  WorkloadEndpoint(prod/h1-k8s-db-eth0) governs interface cali2 (ingress): it is the workload's interface
  tier default: policy GlobalNetworkPolicy(idle) does not decide: it is doNotTrack, which workloads do not have
  tier default: policy NetworkPolicy(prod/db) ingress rule 1 (Allow TCP from app == 'web' to port 5432) does not match: source 10.0.0.9 is of no endpoint or network set with app == 'web'
  tier default: no rule decided, and the tier's default action is Deny: denied
  verdict: denied, by the end of tier default at WorkloadEndpoint(prod/h1-k8s-db-eth0)
answer: denied
`
	if got != want {
		t.Errorf("String\n got\n%s\n want\n%s", got, want)
	}
	everywhere := world(t, racks+
		"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h1-all, labels: {role: host}}, spec: {node: h1, interfaceName: '*'}}\n")
	got = explain(t, everywhere, "tcp from workload/prod/web to workload/prod/db:5432", Known{}).String()
	if want := "HostEndpoint(h1-all) governs interface cali1 (ingress, before destination NAT): a wildcard endpoint has a say at workload interfaces in preDNAT and applyOnForward policy"; !strings.Contains(got, want) {
		t.Errorf("String\n%s\nwant the line\n%s", got, want)
	}
	for _, c := range []struct{ ask, want string }{
		{"udp from 10.0.0.9 to host/h1:80", "verdict: denied, by GlobalNetworkPolicy(raw) ingress rule 1 in tier default at HostEndpoint(h1-eth0), before connection tracking"},
		{"tcp from 10.0.0.9 to host/h1:30000", "verdict: denied, by GlobalNetworkPolicy(published) ingress rule 1 in tier default at HostEndpoint(h1-eth0), before destination NAT"},
		{"tcp from 10.0.0.9 to host/h1:22", "failsafe tcp:22: on to what comes next"},
		{"tcp from 127.0.0.1 to host/h1:22", "source 127.0.0.1 is of the loopback interface, and this is interface eth0: denied"},
		{"tcp from workload/prod/web to host/h1:22", "defaultEndpointToHostAction is Drop: denied"},
		{"udp from workload/prod/web to 192.0.2.1:4789", "a workload sends VXLAN (UDP port 4789), which only allowVXLANPacketsFromWorkloads lets it: denied"},
		{"icmpv6 type 134 from workload/prod/web to host/h1", "a workload sends a router advertisement: denied"},
		{"tcp from workload/prod/web at 10.9.9.9 to 192.0.2.1:80", "source 10.9.9.9 is not an address of the workload: denied"},
		{"tcp from host/h1 to workload/prod/db:80", "verdict: passes, since a host may always reach its own workloads"},
		{"tcp from workload/prod/h2-k8s-app-eth1 at 10.65.1.2 to 192.0.2.1:80", "interface cali8 is of an unknown workload: it has a workload's prefix, and WorkloadEndpoint(prod/h2-k8s-app-eth1) has no ipNetworks, and so counts as absent: denied"},
	} {
		if got := explain(t, w, c.ask, Known{}).String(); !strings.Contains(got, c.want) {
			t.Errorf("Explain(%s)\n%s\nwant the line\n%s", c.ask, got, c.want)
		}
	}
}

func TestAnswer_JSONNamesPhaseAndDialled(t *testing.T) {
	w := world(t, racks)
	for ask, want := range map[string][]string{
		"tcp from 10.0.0.9 to workload/prod/web:8055 via eth0 dialled 10.0.0.1:30000": {`"dialled":"10.0.0.1:30000"`, `"phase":"preDNAT"`, `"reason":"Rule"`},
		"tcp from workload/prod/web to workload/prod/db:5432":                         {`"phase":"workload"`, `"endpoint":{"kind":"WorkloadEndpoint","namespace":"prod","name":"h1-k8s-db-eth0"}`},
	} {
		b, err := json.Marshal(explain(t, w, ask, Known{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(string(b), part) {
				t.Errorf("Marshal(%s) = %s\nwant it to contain %s", ask, b, part)
			}
		}
		if dialled := strings.Contains(string(b), `"dialled"`); dialled != strings.Contains(ask, "dialled") {
			t.Errorf("Marshal(%s): dialled is there: %v", ask, dialled)
		}
	}
}
