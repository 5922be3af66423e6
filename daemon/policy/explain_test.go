// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

const fleet = defaultTier +
	"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h1-eth0, labels: {role: web}}, spec: {node: h1, interfaceName: eth0, expectedIPs: [10.0.0.1, 'fd00::1']}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h2-eth0, labels: {role: db}}, spec: {node: h2, interfaceName: eth0, expectedIPs: [10.0.0.2]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h3-all, labels: {role: gw}}, spec: {node: h3, interfaceName: '*'}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h4-ip, labels: {role: db}}, spec: {node: h4, expectedIPs: [10.0.0.4]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h5-a, labels: {role: gw}}, spec: {node: h5, interfaceName: eth0}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h5-all, labels: {role: db}}, spec: {node: h5, interfaceName: '*'}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: h3}, spec: {addresses: [{address: 10.0.0.3}], bgp: {ipv4Address: 10.0.0.3/24}}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: db}, spec: {selector: role == 'db', ingress: [{action: Allow, protocol: TCP, source: {selector: role == 'web'}, destination: {ports: [5432]}}]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: web}, spec: {selector: role == 'web', ingress: [{action: Allow, protocol: TCP, destination: {ports: [443]}}], egress: [{action: Allow, protocol: TCP, destination: {ports: [5432]}}]}}\n" +
	"---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: gw}, spec: {selector: role == 'gw', applyOnForward: true, ingress: [{action: Allow, protocol: TCP, source: {nets: [10.0.0.0/24]}}], types: [Ingress]}}\n"

func explain(t *testing.T, w *World, text string, k Known) Answer {
	t.Helper()
	q, err := ParseFlow(text)
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.Explain(q, k)
	if err != nil {
		t.Fatalf("Explain(%s): %v", text, err)
	}
	return a
}

// outline is an answer's verdict and, for each case, the verdicts of its hops
// with the endpoint that decided.
func outline(a Answer) string {
	s := a.Verdict
	for _, c := range a.Cases {
		s += " |"
		for _, h := range c.Hops {
			iface := h.Flow.OutInterface
			if h.Flow.Direction != Outbound {
				iface = h.Flow.InInterface
			}
			s += " " + h.Flow.Direction.String() + ":" + h.Flow.Host.Name + ":" + iface + "=" + short(h.Decision)
		}
	}
	return s
}

func TestExplain(t *testing.T) {
	w := world(t, fleet)
	known := Known{ThisHost: "h4", Hosts: map[string]Host{"h4": {Name: "h4", Interfaces: map[string][]netip.Addr{
		"lo": addrs("127.0.0.1"), "ens3": addrs("10.0.0.4", "10.4.4.4", "fe80::4"), "ens4": addrs("10.9.9.9")}}}}
	for _, c := range []struct {
		ask  string
		k    Known
		want string
	}{
		{ask: "tcp from 10.0.0.1 to host/h2:5432", want: "Allow | inbound:h2:eth0=Allow Rule default db 1"},
		{ask: "tcp from 10.0.0.9 to host/h2:5432", want: "Deny | inbound:h2:eth0=Deny EndOfTier default"},
		{ask: "tcp from 10.0.0.9 to 10.0.0.2:5432", want: "Deny | inbound:h2:eth0=Deny EndOfTier default"},
		{ask: "tcp from host/h1 to host/h2:5432", want: "Allow | outbound:h1:eth0=Allow Rule default web 1 inbound:h2:eth0=Allow Rule default db 1"},
		{ask: "tcp from host/h1 to host/h2:5433", want: "Deny | outbound:h1:eth0=Deny EndOfTier default inbound:h2:eth0=Deny EndOfTier default"},
		{ask: "tcp from 10.0.0.1 to 10.0.0.2:5432", want: "Allow | outbound:h1:eth0=Allow Rule default web 1 inbound:h2:eth0=Allow Rule default db 1"},
		{ask: "tcp from hep/h1-eth0 to 1.2.3.4:443", want: "Deny | outbound:h1:eth0=Deny EndOfTier default"},
		{ask: "tcp from 10.0.0.1 to host/h2:5432 state established", want: "Allow | inbound:h2:eth0=Allow Established"},
		{ask: "tcp from fd00::9 to host/h1:443", want: "Allow | inbound:h1:eth0=Allow Rule default web 1"},
		{ask: "icmpv6 from fd00::9 to host/h1", want: "Deny | inbound:h1:eth0=Deny EndOfTier default"},
		// Another interface than that with the address.
		{ask: "tcp from 10.0.0.9 to host/h1:443 via eth1", want: "NotGoverned | inbound:h1:eth1=NotGoverned NoEndpoint"},
		// Addresses of a Node, under a wildcard endpoint.
		{ask: "tcp from 10.0.0.9 to host/h3:1", want: "Allow | inbound:h3:=Allow Rule default gw 1"},
		{ask: "tcp from 11.0.0.9 to hep/h3-all:1", want: "Deny | inbound:h3:=Deny EndOfTier default"},
		// An endpoint by expectedIPs only: on the interface that has them.
		{ask: "tcp from 10.0.0.1 to host/h4:5432", want: "Allow | inbound:h4:(with 10.0.0.4)=Allow Rule default db 1"},
		{ask: "tcp from 10.0.0.1 to hep/h4-ip:5432", want: "Allow | inbound:h4:(with 10.0.0.4)=Allow Rule default db 1"},
		{ask: "tcp from 10.0.0.1 to hep/h4-ip:5432", k: known, want: "Allow | inbound:h4:ens3=Allow Rule default db 1 | inbound:h4:ens3=Allow Rule default db 1"},
		{ask: "tcp from 10.0.0.1 to :5432 at 10.9.9.9", k: known, want: "NotGoverned | inbound:h4:ens4=NotGoverned NoEndpoint"},
		{ask: "tcp from 10.0.0.1 to :5432", k: known, want: "Depends | inbound:h4:ens3=Allow Rule default db 1 | inbound:h4:ens3=Allow Rule default db 1 | inbound:h4:ens4=NotGoverned NoEndpoint"},
		// No address is known, and the interface may be that of an endpoint or another.
		{ask: "tcp from 10.0.0.1 to host/h5:5432", want: "Allow | inbound:h5:eth0=Allow Rule default gw 1 | inbound:h5:=Allow Rule default db 1"},
		{ask: "tcp from 10.0.0.9 to host/h5:5432", want: "Depends | inbound:h5:eth0=Allow Rule default gw 1 | inbound:h5:=Deny EndOfTier default"},
		{ask: "tcp from 10.0.0.9 to host/h5:5432 at 10.0.0.5 via eth0", want: "Allow | inbound:h5:eth0=Allow Rule default gw 1"},
		{ask: "tcp from 10.0.0.9 to hep/h5-all:5432", want: "Deny | inbound:h5:=Deny EndOfTier default"},
		// A host reaches itself.
		{ask: "tcp from host/h1 to host/h1:9", want: "NotGoverned | outbound:h1:lo=NotGoverned NoEndpoint inbound:h1:lo=NotGoverned NoEndpoint | outbound:h1:lo=NotGoverned NoEndpoint inbound:h1:lo=NotGoverned NoEndpoint"},
		{ask: "tcp from host/h2 to 127.0.0.1:9", want: "NotGoverned | outbound:h2:lo=NotGoverned NoEndpoint inbound:h2:lo=NotGoverned NoEndpoint"},
		// Forwarded.
		{ask: "tcp from 10.0.0.9 to 10.7.0.9:80 through host/h3", want: "Allow | forwarded:h3:=Allow Rule default gw 1"},
		{ask: "tcp from 10.7.0.9 to 10.0.0.9:80 through host/h3", want: "Deny | forwarded:h3:=Deny EndOfTier default"},
		{ask: "tcp from 10.7.0.9 to 10.0.0.9:80 through host/h5 in eth1 out eth0", want: "Allow | forwarded:h5:eth1=Allow NoForwardPolicy"},
		{ask: "tcp from host/h1 to host/h2:5432 through host/h3", want: "Allow | outbound:h1:eth0=Allow Rule default web 1 forwarded:h3:=Allow Rule default gw 1 inbound:h2:eth0=Allow Rule default db 1"},
	} {
		a := explain(t, w, c.ask, c.k)
		if got := outline(a); got != c.want {
			t.Errorf("Explain(%s)\n got  %s\n want %s\n%s", c.ask, got, c.want, a)
		}
	}
}

func TestExplain_SaysWhatItAssumes(t *testing.T) {
	w := world(t, fleet+gnp("sport", "selector: has(nothing), ingress: [{action: Allow, protocol: TCP, source: {ports: [7]}}]"))
	for _, c := range []struct{ ask, want string }{
		{"icmp from 10.0.0.9 to host/h2", "the packet is taken to be an echo request (type 8 code 0)"},
		{"tcp from 10.0.0.9 to host/h2:1", "the source port is taken to be 49152; say which with: sport PORT"},
		{"tcp from 10.0.0.1 to host/h2:1", "10.0.0.1 is of host/h1, whose own rules are not asked; write host/h1 at 10.0.0.1 to ask them"},
		{"tcp from 10.0.0.9 to 10.0.0.2:1", "10.0.0.2 is of host/h2"},
		{"tcp from 10.0.0.9 to host/h5:1", "no IPv4 address of host/h5 is known, so 0.0.0.0 stands for one that is in no net and no set; say which with: at ADDRESS"},
		{"tcp from 10.0.0.9 to host/h5:1", "the interface is taken to be eth0"},
		{"tcp from 10.0.0.9 to host/h5:1", "the interface is taken to be none of eth0"},
		{"tcp from 10.0.0.9 to host/h5:1 at 10.0.0.5", "the interface of 10.0.0.5 is taken to be eth0"},
		{"tcp from 10.0.0.9 to 10.9.9.9:1 through host/h5 in eth0", "the interface it goes out by is taken to be none of eth0"},
		{"tcp from 10.0.0.9 to host/h1:1 via eth7", "no IPv4 address of host/h1 on eth7 is known"},
		{"tcp from fd00::9 to host/h2:1", "no IPv6 address of host/h2 is known"},
		{"tcp from host/h1 to host/h1:1", "host/h1 reaches its own address over lo"},
	} {
		a := explain(t, w, c.ask, Known{})
		if got := a.String(); !strings.Contains(got, "assumed: "+c.want) {
			t.Errorf("Explain(%s)\n%s\nwant the line\nassumed: %s", c.ask, got, c.want)
		}
	}
}

func TestExplain_SaysWhatItDoesNotKnow(t *testing.T) {
	w := world(t, fleet)
	for _, c := range []struct{ ask, want string }{
		{"tcp from 10.0.0.9 to host/nobody:1", "host/nobody: no Node and no endpoint is of this host; known are: h1, h2, h3, h4, h5"},
		{"tcp from 10.0.0.9 to hep/nobody:1", "hep/nobody: there is no such HostEndpoint; known are: h1-eth0, h2-eth0, h3-all, h4-ip, h5-a, h5-all"},
		{"tcp from 10.0.0.9 to :1", "it is not known which host this is; write host/NAME"},
		{"tcp from 10.0.0.9 to 10.0.0.8:1", "10.0.0.9 and 10.0.0.8 are of no known host or workload; write host/NAME or workload/NAMESPACE/NAME for one of them, or name the host that forwards: through host/NAME"},
		{"tcp from 10.0.0.9 to 10.0.0.8:1 through host/nobody", "host/nobody: no Node and no endpoint is of this host"},
		{"icmp from fd00::1 to 10.0.0.8", ""},
		{"tcp from host/h1 at 10.0.0.1 to host/h2:1 at fd00::2", "the ends are not of the same IP version"},
	} {
		q, err := ParseFlow(c.ask)
		if err == nil {
			_, err = w.Explain(q, Known{})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Explain(%s)\n got  %v\n want %s", c.ask, err, c.want)
		}
	}
}

func TestAnswer_Sentences(t *testing.T) {
	w := world(t, fleet+tierDoc("security", "order: 1")+
		gnp("sec", "tier: security, selector: role == 'db', ingress: [{action: Pass, protocol: TCP}]")+sgnp("new", "selector: role == 'db', ingress: [{action: Deny}]"))
	got := explain(t, w, "tcp from host/h1 to host/h2:5432", Known{}).String()
	want := `tcp from host/h1 to host/h2:5432
outbound TCP 10.0.0.1:49152 to 10.0.0.2:5432 on h1 out eth0
  HostEndpoint(h1-eth0) governs interface eth0 (egress): it names the interface
  tier default: policy GlobalNetworkPolicy(web) egress rule 1 (Allow TCP to port 5432) matched: allowed
  verdict: allowed, by GlobalNetworkPolicy(web) egress rule 1 in tier default at HostEndpoint(h1-eth0)
inbound TCP 10.0.0.1:49152 to 10.0.0.2:5432 on h2 in eth0
  HostEndpoint(h2-eth0) governs interface eth0 (ingress): it names the interface
  tier default: policy StagedGlobalNetworkPolicy(new) does not decide: it is staged
  tier security: policy GlobalNetworkPolicy(sec) ingress rule 1 (Pass TCP) matched: on to what comes next
  tier default: policy GlobalNetworkPolicy(db) ingress rule 1 (Allow TCP from role == 'web' to port 5432) matched: allowed
  verdict: allowed, by GlobalNetworkPolicy(db) ingress rule 1 in tier default at HostEndpoint(h2-eth0)
answer: allowed
`
	if got != want {
		t.Errorf("String\n got\n%s\n want\n%s", got, want)
	}
}

func TestAnswer_JSON(t *testing.T) {
	a := explain(t, world(t, fleet), "tcp from 10.0.0.9 to host/h2:5432", Known{})
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Query, Verdict string
		Cases          []struct {
			Verdict string
			Hops    []struct {
				Flow     struct{ Direction, Source, State string }
				Decision struct {
					Verdict, Reason, Tier string
					Endpoint              struct{ Kind, Name string }
					Policy                *struct{}
					RuleIndex             *int
					Steps                 []struct {
						Stage, Outcome, Why, Sentence string
						RuleIndex                     *int
					}
				}
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	d := got.Cases[0].Hops[0].Decision
	rule := d.Steps[1]
	if got.Verdict != "Deny" || d.Verdict != "Deny" || d.Reason != "EndOfTier" || d.Tier != "default" || d.Endpoint.Name != "h2-eth0" ||
		d.Policy != nil || d.RuleIndex != nil || rule.Stage != "rule" || rule.RuleIndex == nil || *rule.RuleIndex != 0 ||
		rule.Why == "" || rule.Sentence == "" || rule.Outcome != "continue" || got.Cases[0].Hops[0].Flow.Direction != "inbound" {
		t.Errorf("Marshal = %s", b)
	}
}
