// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// paths are the paths of all faults of an object after Default.
func paths(o Object) []string {
	o.Default()
	var got []string
	for _, f := range Faults(o.Validate()) {
		got = append(got, f.Path)
	}
	return got
}

// TestValidate_EachRule tries what is right at the edge, and what is just
// beyond, one thing at a time. Documents are completed with a head.
func TestValidate_EachRule(t *testing.T) {
	gnp := func(spec string) string { return object(KindGlobalNetworkPolicy, "p", "", spec) }
	np := func(spec string) string { return object(KindNetworkPolicy, "p", "ns", spec) }
	in := func(rule string) string { return gnp("ingress: [{action: Allow, " + rule + "}]") }
	out := func(rule string) string { return gnp("egress: [{action: Allow, " + rule + "}]") }
	hep := func(spec string) string { return object(KindHostEndpoint, "p", "", spec) }
	felix := func(spec string) string { return object(KindFelixConfiguration, "default", "", spec) }
	tests := []struct {
		name, doc string
		want      []string
	}{
		{"empty policy", gnp(""), nil},
		{"policy name of two labels", object(KindGlobalNetworkPolicy, "a.b", "", ""), nil},
		{"policy name of three labels", object(KindGlobalNetworkPolicy, "a.b.c", "", ""), []string{"metadata.name"}},
		{"policy name with 63 characters", object(KindGlobalNetworkPolicy, strings.Repeat("a", 63), "", ""), nil},
		{"policy name with 64 characters", object(KindGlobalNetworkPolicy, strings.Repeat("a", 64), "", ""), []string{"metadata.name"}},
		{"policy name with path", object(KindGlobalNetworkPolicy, "../../x", "", ""), []string{"metadata.name"}},
		{"copied Kubernetes policy", object(KindNetworkPolicy, "knp.default.a.b.c", "ns", ""), nil},
		{"copied OpenStack policy", object(KindNetworkPolicy, "ossg.default.x", "ns", ""), nil},
		{"copied policy without rest", object(KindNetworkPolicy, "knp.default.", "ns", ""), []string{"metadata.name"}},
		{"global copy", object(KindGlobalNetworkPolicy, "knp.default.x", "", ""), []string{"metadata.name"}},
		{"namespace with dot", object(KindNetworkPolicy, "a", "a.b", ""), []string{"metadata.namespace"}},
		{"tier with dot", object(KindTier, "a.b", "", ""), []string{"metadata.name"}},
		{"set with dots", object(KindGlobalNetworkSet, "a.b.c", "", ""), nil},
		{"set with underscore", object(KindGlobalNetworkSet, "a_b", "", ""), []string{"metadata.name"}},
		{"set with dots at the edge", object(KindGlobalNetworkSet, "a..b", "", ""), []string{"metadata.name"}},

		{"types twice", gnp("types: [Ingress, Ingress]"), []string{"spec.types[1]"}},
		{"both types", gnp("types: [Egress, Ingress]"), nil},
		{"untracked", gnp("{doNotTrack: true, applyOnForward: true}"), nil},
		{"untracked without applyOnForward", gnp("doNotTrack: true"), []string{"spec.doNotTrack"}},
		{"preDNAT", gnp("{preDNAT: true, applyOnForward: true}"), nil},
		{"preDNAT without applyOnForward", gnp("preDNAT: true"), []string{"spec.preDNAT"}},
		{"preDNAT with egress", gnp("{preDNAT: true, applyOnForward: true, types: [Ingress], egress: [{action: Deny}]}"), []string{"spec.egress"}},
		{"preDNAT of type egress", gnp("{preDNAT: true, applyOnForward: true, types: [Egress]}"), []string{"spec.types[0]"}},
		{"preDNAT and untracked", gnp("{preDNAT: true, doNotTrack: true, applyOnForward: true}"), []string{"spec.preDNAT"}},
		{"blank selector", gnp("selector: ' '"), []string{"spec.selector"}},
		{"global() in the policy's namespaceSelector", gnp("namespaceSelector: global()"), []string{"spec.namespaceSelector"}},

		{"nets of one family", in("source: {nets: [10.0.0.0/8]}, destination: {notNets: [10.1.0.0/16]}"), nil},
		{"nets of two families", in("source: {nets: [10.0.0.0/8]}, destination: {notNets: ['fd00::/8']}"), []string{"spec.ingress[0].destination.notNets[0]"}},
		{"all of IPv4 in nets", in("source: {nets: [0.0.0.0/0]}"), nil},
		{"all of IPv4 in notNets", in("source: {notNets: [0.0.0.0/0]}"), []string{"spec.ingress[0].source.notNets[0]"}},
		{"host bits", in("source: {nets: [10.0.0.1/31]}"), []string{"spec.ingress[0].source.nets[0]"}},
		{"single address with length", in("source: {nets: [10.0.0.1/32]}"), nil},
		{"ipVersion agrees", in("ipVersion: 6, source: {nets: ['fd00::/8']}"), nil},
		{"ipVersion disagrees", in("ipVersion: 4, source: {nets: ['fd00::/8']}"), []string{"spec.ingress[0].source.nets[0]"}},
		{"ICMP with 6", in("ipVersion: 6, protocol: ICMP"), []string{"spec.ingress[0].protocol"}},
		{"number of ICMP with 6", in("ipVersion: 6, protocol: 1"), []string{"spec.ingress[0].protocol"}},
		{"ICMPv6 with 6", in("ipVersion: 6, protocol: ICMPv6"), nil},
		{"not ICMPv6 with 4", in("ipVersion: 4, notProtocol: ICMPv6"), []string{"spec.ingress[0].notProtocol"}},

		{"port with TCP", in("protocol: TCP, destination: {ports: [1, 65535, '1:65535', a_b.c-D]}"), nil},
		{"port with number 6", in("protocol: 6, destination: {ports: [80]}"), nil},
		{"port with SCTP", in("protocol: 132, source: {notPorts: [80]}"), nil},
		{"port with UDPLite", in("protocol: UDPLite, destination: {ports: [80]}"), []string{"spec.ingress[0].destination.ports[0]"}},
		{"port without protocol", in("destination: {ports: [80]}"), []string{"spec.ingress[0].destination.ports[0]"}},
		{"named port without protocol", in("destination: {ports: [http]}"), nil},
		{"named port with ICMP", in("protocol: ICMP, destination: {ports: [http]}"), []string{"spec.ingress[0].destination.ports[0]"}},
		{"port 0", in("protocol: TCP, source: {ports: ['0:1']}"), []string{"spec.ingress[0].source.ports[0]"}},

		{"ICMP type and code at the edge", in("protocol: ICMP, icmp: {type: 254, code: 255}"), nil},
		{"ICMP type beyond", in("protocol: ICMP, icmp: {type: 255}"), []string{"spec.ingress[0].icmp.type"}},
		{"ICMP negative", in("protocol: ICMPv6, notICMP: {type: -1, code: -1}"), []string{"spec.ingress[0].notICMP.type", "spec.ingress[0].notICMP.code"}},
		{"ICMP without fields", in("protocol: ICMP, icmp: {}"), nil},
		{"ICMP by number", in("protocol: 58, icmp: {type: 1}"), []string{"spec.ingress[0].icmp"}},

		{"empty list of nets", in("source: {nets: []}"), []string{"spec.ingress[0].source.nets"}},
		{"empty list of ports", in("protocol: TCP, destination: {ports: []}"), []string{"spec.ingress[0].destination.ports"}},
		{"empty lists that exclude nothing", in("source: {notNets: [], notPorts: []}"), nil},
		{"no service accounts", in("source: {serviceAccounts: {}}"), []string{"spec.ingress[0].source.serviceAccounts"}},

		{"global() alone", in("source: {namespaceSelector: global( )}"), nil},
		{"global() with more", in("source: {namespaceSelector: '!global()'}"), []string{"spec.ingress[0].source.namespaceSelector"}},
		{"global() of selector", in("source: {selector: global()}"), []string{"spec.ingress[0].source.selector"}},
		{"global() as a value", in("source: {selector: a == 'global()'}"), nil},
		{"service account's name", in("source: {serviceAccounts: {names: [a, A]}}"), []string{"spec.ingress[0].source.serviceAccounts.names[1]"}},

		{"service in egress", out("destination: {services: {name: a, namespace: b}}"), nil},
		{"service in ingress", in("source: {services: {name: a, namespace: b}, ports: [http]}"), nil},
		{"service on the wrong side", out("source: {services: {name: a, namespace: b}}"), []string{"spec.egress[0].source.services"}},
		{"service without namespace", out("destination: {services: {name: a}}"), []string{"spec.egress[0].destination.services.namespace"}},
		{"service without namespace in a namespace", np("egress: [{action: Allow, destination: {services: {name: a}}}]"), nil},
		{"service with ports", out("protocol: TCP, destination: {services: {name: a, namespace: b}, ports: [80]}"), []string{"spec.egress[0].destination.ports"}},
		{"service with nets", out("destination: {services: {name: a, namespace: b}, nets: [10.0.0.0/8]}"), []string{"spec.egress[0].destination.nets"}},

		{"HTTP", in("protocol: TCP, http: {methods: [GET], paths: [{exact: /}, {prefix: /a}]}"), nil},
		{"HTTP with number 6", in("protocol: 6, http: {}"), nil},
		{"HTTP without protocol", in("http: {}"), nil},
		{"HTTP with UDP", in("protocol: UDP, http: {}"), []string{"spec.ingress[0].http"}},
		{"HTTP in egress", out("http: {}"), []string{"spec.egress[0].http"}},
		{"HTTP in a deny rule", gnp("ingress: [{action: Deny, http: {}}]"), []string{"spec.ingress[0].http"}},
		{"HTTP with 20 methods", in("http: {methods: [a,b,c,d,e,f,g,h,i,j,k,l,m,o,p,q,r,s,t,u]}"), nil},
		{"HTTP with 21 methods", in("http: {methods: [a,b,c,d,e,f,g,h,i,j,k,l,m,o,p,q,r,s,t,u,v]}"), []string{"spec.ingress[0].http.methods"}},
		{"HTTP path of 1024", in("http: {paths: [{exact: /" + strings.Repeat("a", 1023) + "}]}"), nil},
		{"HTTP path of 1025", in("http: {paths: [{exact: /" + strings.Repeat("a", 1024) + "}]}"), []string{"spec.ingress[0].http.paths[0]"}},
		{"HTTP path with fragment", in("http: {paths: [{prefix: '/#a'}]}"), []string{"spec.ingress[0].http.paths[0]"}},

		{"pass in a profile", object(KindProfile, "p", "", "ingress: [{action: Pass}]"), nil},
		{"HTTP in egress of a profile", object(KindProfile, "p", "", "egress: [{action: Allow, http: {}}]"), []string{"spec.egress[0].http"}},
		{"reserved labels in a profile are its purpose", object(KindProfile, "p", "", "labelsToApply: {pcns.x: a}"), nil},

		{"interface of 15 characters", hep("{node: h, interfaceName: abcdefghijklmno}"), nil},
		{"interface of 16 characters", hep("{node: h, interfaceName: abcdefghijklmnop}"), []string{"spec.interfaceName"}},
		{"all interfaces", hep("{node: h, interfaceName: '*'}"), nil},
		{"addresses only", hep("{node: h, expectedIPs: ['::1']}"), nil},
		{"neither interface nor address", hep("{node: h}"), []string{"spec"}},
		{"expected prefix", hep("{node: h, expectedIPs: [10.0.0.0/8]}"), []string{"spec.expectedIPs[0]"}},

		{"default tier", object(KindTier, "default", "", ""), nil},
		{"kube-baseline with its order", object(KindTier, "kube-baseline", "", "{order: 10000000}"), nil},
		{"kube-baseline with another", object(KindTier, "kube-baseline", "", "{order: 1}"), []string{"spec.order"}},
		{"negative order", object(KindTier, "x", "", "{order: -1.5}"), nil},

		{"pool of one block", object(KindIPPool, "p", "", "{cidr: 10.0.0.0/26, blockSize: 26}"), nil},
		{"pool smaller than a block", object(KindIPPool, "p", "", "{cidr: 10.0.0.0/27}"), []string{"spec.blockSize"}},
		{"pool of IPv6", object(KindIPPool, "p", "", "{cidr: 'fd00::/64', vxlanMode: Always}"), nil},
		{"pool for load balancers", object(KindIPPool, "p", "", "{cidr: 10.0.0.0/24, allowedUses: [LoadBalancer]}"), nil},
		{"pool with namespaceSelector", object(KindIPPool, "p", "", "{cidr: 10.0.0.0/24, namespaceSelector: a == 'b'}"), []string{"spec.namespaceSelector"}},
		{"pool for workloads with namespaceSelector", object(KindIPPool, "p", "", "{cidr: 10.0.0.0/24, namespaceSelector: a == 'b', allowedUses: [Workload]}"), nil},

		{"failsafe in lower case", felix("failsafeInboundHostPorts: [{protocol: tcp, port: 22}, {protocol: UDP, port: 53, net: 10.0.0.1}]"), nil},
		{"no failsafes", felix("failsafeInboundHostPorts: []"), nil},
		{"insert in lower case", felix("chainInsertMode: insert"), nil},
		{"selector on default", felix("nodeSelector: all()"), []string{"spec.nodeSelector"}},
		{"selector on a host's", object(KindFelixConfiguration, "node.h1", "", "nodeSelector: all()"), []string{"spec.nodeSelector"}},
		{"selector on another", object(KindFelixConfiguration, "racks", "", "nodeSelector: has(a)"), nil},
		{"mark of two bits", felix("iptablesMarkMask: 3"), nil},
		{"mark of one bit", felix("iptablesMarkMask: 0x100"), []string{"spec.iptablesMarkMask"}},
		{"status name", object(KindHostStatus, "A", "", ""), []string{"metadata.name"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			docs, err := DecodeAll([]byte(tt.doc), "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, paths(docs[0].Object)); diff != "" {
				t.Errorf("paths of faults (-want +got):\n%s\n%v", diff, docs[0].Object.Validate())
			}
		})
	}
}

// object is a document with a spec in YAML's flow style, or in one line.
func object(kind Kind, name, namespace, spec string) string {
	d, _ := DescriptorOf(kind)
	if spec == "" {
		spec = "{}"
	}
	if spec[0] != '{' {
		spec = "\n  " + spec
	}
	text := "apiVersion: " + d.APIVersion() + "\nkind: " + string(kind) + "\nmetadata: {name: '" + name + "', namespace: '" + namespace + "'}\n"
	if kind == KindHostStatus {
		return text
	}
	return text + "spec: " + spec + "\n"
}

// Objects made by programs do not pass the decoder.
func TestValidate_FieldsOfOtherKinds(t *testing.T) {
	p := &NetworkPolicy{Meta: Meta{Name: "p", Namespace: "n"}, Spec: PolicySpec{
		DoNotTrack: true, ApplyOnForward: true, NamespaceSelector: "all()", StagedAction: StagedSet,
	}}
	want := []string{"spec.stagedAction", "spec.doNotTrack", "spec.applyOnForward", "spec.namespaceSelector"}
	if diff := cmp.Diff(want, paths(p)); diff != "" {
		t.Errorf("paths of faults (-want +got):\n%s", diff)
	}
}

func TestValidate_WorkloadEndpointOwnLabels(t *testing.T) {
	w := sample(t, KindWorkloadEndpoint).(*WorkloadEndpoint)
	w.Name = ""
	w.Labels = map[string]string{LabelServiceAccount: "default"}
	w.Default()
	if err := w.Validate(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{LabelServiceAccount: "default", LabelNamespace: "prod", LabelOrchestrator: "k8s"}
	if diff := cmp.Diff(want, w.Labels); diff != "" || w.Name != "h1-k8s-p--1-eth0" {
		t.Errorf("Default: got name %q, labels (-want +got):\n%s", w.Name, diff)
	}
	w.Labels = map[string]string{LabelServiceAccount: "root", "pcsa.admin": "yes"}
	if got := paths(w); len(got) != 2 {
		t.Errorf("labels of another: got faults at %v, want two", got)
	}
}

func TestDefault_Types(t *testing.T) {
	r := []Rule{{Action: Deny}}
	for _, tt := range []struct {
		in, out []Rule
		want    []PolicyType
	}{
		{nil, nil, []PolicyType{Ingress}}, {r, nil, []PolicyType{Ingress}},
		{nil, r, []PolicyType{Egress}}, {r, r, []PolicyType{Ingress, Egress}},
	} {
		p := &GlobalNetworkPolicy{Spec: PolicySpec{Ingress: tt.in, Egress: tt.out}}
		p.Default()
		if diff := cmp.Diff(tt.want, p.Spec.Types); diff != "" {
			t.Errorf("types of %d, %d rules (-want +got):\n%s", len(tt.in), len(tt.out), diff)
		}
	}
	p := &GlobalNetworkPolicy{Meta: Meta{Labels: map[string]string{LabelTier: "mine"}}, Spec: PolicySpec{Tier: "sec", Types: []PolicyType{Egress}}}
	labels := p.Labels
	p.Default()
	if p.Labels[LabelTier] != "sec" || len(p.Spec.Types) != 1 {
		t.Errorf("Default: got tier label %q, types %v", p.Labels[LabelTier], p.Spec.Types)
	}
	if labels[LabelTier] != "mine" {
		t.Error("Default changed a map that others may hold")
	}
}

func TestDefault_FelixConnectTimeLoadBalancing(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		f := &FelixConfiguration{Spec: FelixConfigurationSpec{BPFConnectTimeLoadBalancingEnabled: &enabled}}
		f.Default()
		want := map[bool]string{true: "Enabled", false: "Disabled"}[enabled]
		if f.Spec.BPFConnectTimeLoadBalancing != want || f.Spec.BPFHostNetworkedNATWithoutCTLB != "Disabled" {
			t.Errorf("bpfConnectTimeLoadBalancingEnabled %t: got %q, %q", enabled, f.Spec.BPFConnectTimeLoadBalancing, f.Spec.BPFHostNetworkedNATWithoutCTLB)
		}
	}
}

func TestDefaultAllow_IsValidButForItsName(t *testing.T) {
	p := DefaultAllow()
	if diff := cmp.Diff([]string{"metadata.name"}, paths(p)); diff != "" {
		t.Errorf("faults of the built-in profile (-want +got):\n%s", diff)
	}
	if p.Key().Name != DefaultAllowProfile || p.ResourceVersion != "1" || p.Spec.Ingress[0].Action != Allow || p.Spec.Egress[0].Action != Allow {
		t.Errorf("DefaultAllow: got %+v", p)
	}
}
