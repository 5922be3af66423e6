// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

// A condition that cannot be understood or enforced never lets more through:
// an Allow or Pass that has one matches nothing, a Deny matches as if it were
// absent.
func TestEvaluate_BrokenConditions(t *testing.T) {
	for _, c := range []struct {
		name, condition string
		// meets is a flow that meets all other conditions of the rule, other
		// one that does not.
		meets, other string
	}{
		{"a net that cannot be read", "protocol: TCP, source: {nets: [10.0.0.0/99]}",
			"in eth0 tcp 11.0.0.2:1 10.0.0.1:80", "in eth0 udp 11.0.0.2:1 10.0.0.1:80"},
		{"a net that cannot be read beside one that can", "protocol: TCP, source: {nets: [10.0.0.0/8, x]}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"an excepted net that cannot be read", "protocol: TCP, destination: {notNets: ['fd00::/129']}",
			"in eth0 tcp [fd00::2]:1 [fd00::1]:80", "in eth0 udp [fd00::2]:1 [fd00::1]:80"},
		{"a selector that cannot be read", "protocol: TCP, source: {selector: 'role = x'}, destination: {ports: [80]}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 tcp 10.0.0.2:1 10.0.0.1:81"},
		{"a notSelector that cannot be read", "protocol: TCP, source: {notSelector: '((('}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"a namespaceSelector that cannot be read", "protocol: TCP, source: {namespaceSelector: '&&'}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"a service account selector that cannot be read", "protocol: TCP, source: {serviceAccounts: {selector: '&&'}}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"a protocol that is not known", "protocol: tcpp, source: {nets: [10.0.0.0/8]}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 tcp 11.0.0.2:1 10.0.0.1:80"},
		{"a notProtocol that is not known", "notProtocol: tcpp, source: {nets: [10.0.0.0/8]}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 tcp 11.0.0.2:1 10.0.0.1:80"},
		{"an IP version that there is not", "ipVersion: 5, protocol: TCP",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"an ICMP type without ICMP", "protocol: UDP, icmp: {type: 8}",
			"in eth0 udp 10.0.0.2:1 10.0.0.1:80", "in eth0 icmp/8/0 10.0.0.2 10.0.0.1"},
		{"an ICMP code without a type", "protocol: ICMP, notICMP: {code: 8}",
			"in eth0 icmp/8/0 10.0.0.2 10.0.0.1", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"ports by number without a protocol", "source: {nets: [10.0.0.0/8]}, destination: {ports: [80, http]}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 tcp 11.0.0.2:1 10.0.0.1:80"},
		{"excepted ports by number of a protocol without ports", "protocol: 47, destination: {notPorts: [80]}",
			"in eth0 47 10.0.0.2 10.0.0.1", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"a net that is empty", "protocol: TCP, source: {nets: ['']}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"a protocol that is not known beside one that is excepted", "protocol: tcpp, notProtocol: TCP",
			"in eth0 udp 10.0.0.2:1 10.0.0.1:80", "in eth0 tcp 10.0.0.2:1 10.0.0.1:80"},
		{"an ICMP type that is too large", "protocol: ICMP, icmp: {type: 264}",
			"in eth0 icmp/8/0 10.0.0.2 10.0.0.1", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"an excepted ICMP code that is negative", "protocol: ICMP, notICMP: {type: 8, code: -1}",
			"in eth0 icmp/8/0 10.0.0.2 10.0.0.1", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"an HTTP match", "protocol: TCP, http: {methods: [GET]}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"a source service", "protocol: TCP, source: {services: {name: a, namespace: b}}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
		{"a destination service", "protocol: TCP, destination: {services: {name: a, namespace: b}}",
			"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "in eth0 udp 10.0.0.2:1 10.0.0.1:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			judge := func(action, then, f string) string {
				w := world(t, defaultTier+eth0+gnp("p", "ingress: [{action: "+action+", "+c.condition+"}, {action: "+then+"}]"))
				return short(w.Evaluate(flow(t, f, nil)))
			}
			for _, x := range []struct{ action, then, flow, want string }{
				{"Allow", "Deny", c.meets, "Deny Rule default p 2"},
				{"Allow", "Deny", c.other, "Deny Rule default p 2"},
				{"Pass", "Deny", c.meets, "Deny Rule default p 2"},
				{"Deny", "Allow", c.meets, "Deny Rule default p 1"},
				{"Deny", "Allow", c.other, "Allow Rule default p 2"},
			} {
				if got := judge(x.action, x.then, x.flow); got != x.want {
					t.Errorf("%s if %s, then %s: %s: got %s, want %s", x.action, c.condition, x.then, x.flow, got, x.want)
				}
			}
		})
	}
}

func TestEvaluate_UnknownActionDenies(t *testing.T) {
	w := world(t, defaultTier+eth0+gnp("p", "ingress: [{action: allow}]"))
	if got, want := short(w.Evaluate(flow(t, "in eth0 tcp 10.0.0.2:1 10.0.0.1:80", nil))), "Deny Rule default p 1"; got != want {
		t.Errorf("Evaluate = %s, want %s", got, want)
	}
}

func TestEvaluate_EmptyICMPIsNoRestriction(t *testing.T) {
	w := world(t, defaultTier+eth0+gnp("p", "ingress: [{action: Allow, protocol: ICMP, icmp: {}, notICMP: {}}]"))
	if got := short(w.Evaluate(flow(t, "in eth0 icmp/8/0 10.0.0.2 10.0.0.1", nil))); got != allows {
		t.Errorf("Evaluate = %s, want %s", got, allows)
	}
}

func TestNewWorld_PolicyWithoutTypesSpeaksForBothDirections(t *testing.T) {
	objs := objects(t, defaultTier+eth0)
	objs = append(objs, &api.GlobalNetworkPolicy{Meta: api.Meta{Name: "p"}, Spec: api.PolicySpec{Selector: "all()"}})
	w := NewWorld(objs, Options{})
	for _, f := range []string{"in eth0 tcp 10.0.0.2:1 10.0.0.1:80", "out eth0 tcp 10.0.0.2:1 10.0.0.1:80"} {
		if got := short(w.Evaluate(flow(t, f, nil))); got != ended {
			t.Errorf("Evaluate(%s) = %s, want %s", f, got, ended)
		}
	}
}

func TestNewWorld_MissingTierComesAfterTiersWithoutOrder(t *testing.T) {
	objs := objects(t, eth0+gnp("a", "tier: absent, ingress: [{action: Deny}]")+gnp("z", "tier: there, ingress: [{action: Allow}]"))
	w := NewWorld(append(objs, &api.Tier{Meta: api.Meta{Name: "there"}}), Options{})
	if got, want := short(w.Evaluate(flow(t, "in eth0 tcp 10.0.0.2:1 10.0.0.1:80", nil))), "Allow Rule there z 1"; got != want {
		t.Errorf("Evaluate = %s, want %s", got, want)
	}
}

func TestNewWorld_OfAnUnreadableObjectTheSalvagedPartCounts(t *testing.T) {
	objs := objects(t, defaultTier+eth0+gnp("z", "ingress: [{action: Allow}]"))
	isolate := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: "p"}, Spec: api.PolicySpec{Types: []api.PolicyType{api.Ingress}, Ingress: []api.Rule{{Action: api.Deny}}}}
	key := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "p"}
	for _, c := range []struct {
		name     string
		salvaged api.Object
		want     string
	}{{"salvaged", isolate, "Deny Rule default p 1"}, {"lost", nil, "Allow Rule default z 1"}} {
		t.Run(c.name, func(t *testing.T) {
			w := NewWorld(append(objs[:len(objs):len(objs)], &api.Unreadable{K: key, Salvaged: c.salvaged}), Options{})
			if got := short(w.Evaluate(flow(t, "in eth0 tcp 10.0.0.2:1 10.0.0.1:80", nil))); got != c.want {
				t.Errorf("Evaluate = %s, want %s", got, c.want)
			}
		})
	}
}

func TestDecision_SentencesSayWhichFieldDidNotMatch(t *testing.T) {
	for _, c := range []struct{ name, rule, flow, want string }{
		{"ports", "{action: Allow, protocol: TCP, destination: {ports: [80, 443, '1:9']}}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			"tier default: policy GlobalNetworkPolicy(p) ingress rule 1 (Allow TCP to port 80, 443, 1-9) does not match: destination port 8080 is not in 80, 443, 1-9"},
		{"not ports", "{action: Allow, protocol: TCP, source: {notPorts: [1]}}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			"(Allow TCP from not port 1) does not match: source port 1 is in 1"},
		{"protocol", "{action: Allow, protocol: UDP}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080", "(Allow UDP) does not match: the protocol is TCP, not UDP"},
		{"not protocol", "{action: Allow, notProtocol: 6}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080", "(Allow not TCP) does not match: the protocol is TCP"},
		{"nets", "{action: Allow, source: {nets: [10.1.0.0/16]}}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			"(Allow from 10.1.0.0/16) does not match: source 10.0.0.2 is not in 10.1.0.0/16"},
		{"not nets", "{action: Deny, source: {notNets: [10.0.0.0/16]}}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			"(Deny from not 10.0.0.0/16) does not match: source 10.0.0.2 is in 10.0.0.0/16"},
		{"selector", "{action: Allow, source: {selector: role == 'web', notSelector: has(x)}}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			"(Allow from role == 'web' and not (has(x))) does not match: source 10.0.0.2 is of no endpoint or network set with role == 'web' and not (has(x))"},
		{"version", "{action: Allow, ipVersion: 6}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			"(Allow IPv6) does not match: the rule is for IPv6 only, and this is IPv4"},
		{"ICMP", "{action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}}", "in eth0 icmp/3/1 10.0.0.2 10.0.0.1",
			"(Allow ICMP type 8 code 0) does not match: the ICMP type is 3 code 1, not type 8 code 0"},
		{"broken", "{action: Allow, source: {nets: [x]}}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			`(Allow from x) does not match: source net "x" cannot be read, so the rule matches nothing`},
		{"matched", "{action: Deny, protocol: TCP}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			"tier default: policy GlobalNetworkPolicy(p) ingress rule 1 (Deny TCP) matched: denied"},
		{"matched though broken", "{action: Deny, source: {nets: [x]}}", "in eth0 tcp 10.0.0.2:1 10.0.0.1:8080",
			`(Deny from x) matched (source net "x" cannot be read, so it is denied regardless): denied`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := world(t, defaultTier+eth0+gnp("p", "ingress: ["+c.rule+"]"))
			got := strings.Join(w.Evaluate(flow(t, c.flow, nil)).Sentences(), "\n")
			if !strings.Contains(got, c.want+"\n") {
				t.Errorf("Sentences:\n%s\nwant a line that ends in\n%s", got, c.want)
			}
		})
	}
}
