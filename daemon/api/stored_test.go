// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var created = Time{time.Date(2026, 11, 20, 17, 44, 35, 0, time.UTC)}

// TestEncodeStored_AsCalico compares whole values with those that Calico
// v3.32 was seen to write.
func TestEncodeStored_AsCalico(t *testing.T) {
	const uid = "ec89fad0-0000-4000-8000-000000000000"
	yes, order := true, 5.0
	meta := Meta{UID: uid, CreationTimestamp: created, ResourceVersion: "7", Generation: 3, ManagedFields: []byte(`[]`)}
	named := func(name string) Meta { m := meta; m.Name = name; return m }
	head := func(kind, name string) string {
		return `{"kind":"` + kind + `","apiVersion":"projectcalico.org/v3","metadata":{"name":"` + name + `","uid":"` + uid + `","creationTimestamp":"2026-11-20T17:44:35Z"`
	}
	tests := []struct {
		name string
		o    Object
		want string
	}{
		{"policy", &GlobalNetworkPolicy{Meta: named("t1"), Spec: PolicySpec{Ingress: []Rule{{Action: Allow}}}},
			head("GlobalNetworkPolicy", "t1") + `,"labels":{"projectcalico.org/tier":"default"},` +
				`"annotations":{"projectcalico.org/metadata":"{\"name\":\"t1\"}"}},"spec":{"tier":"default",` +
				`"ingress":[{"action":"Allow","source":{},"destination":{}}],"types":["Ingress"]}}`},
		{"staged deletion", &StagedNetworkPolicy{Meta: named("d"), Spec: PolicySpec{StagedAction: StagedDelete}},
			head("StagedNetworkPolicy", "d") + `,"labels":{"projectcalico.org/tier":"default"},` +
				`"annotations":{"projectcalico.org/metadata":"{\"name\":\"d\"}"}},"spec":{"stagedAction":"Delete","tier":"default"}}`},
		{"staged policy", &StagedGlobalNetworkPolicy{Meta: named("s"), Spec: PolicySpec{Selector: "all()", Order: &order}},
			head("StagedGlobalNetworkPolicy", "s") + `,"labels":{"projectcalico.org/tier":"default"},` +
				`"annotations":{"projectcalico.org/metadata":"{\"name\":\"s\"}"}},"spec":{"stagedAction":"Set","tier":"default","order":5,"selector":"all()","types":["Ingress"]}}`},
		{"tier", &Tier{Meta: named("default")},
			head("Tier", "default") + `},"spec":{"order":1000000,"defaultAction":"Deny"},"status":{}}`},
		{"tier kube-admin", &Tier{Meta: named("kube-admin")},
			head("Tier", "kube-admin") + `},"spec":{"order":1000,"defaultAction":"Pass"},"status":{}}`},
		{"tier kube-baseline", &Tier{Meta: named("kube-baseline")},
			head("Tier", "kube-baseline") + `},"spec":{"order":10000000,"defaultAction":"Pass"},"status":{}}`},
		{"cluster information", &ClusterInformation{Meta: named("default"), Spec: ClusterInformationSpec{ClusterGUID: "1cc3c60a4f794e73942c0a8ffe2e3971", DatastoreReady: &yes}},
			head("ClusterInformation", "default") + `},"spec":{"clusterGUID":"1cc3c60a4f794e73942c0a8ffe2e3971","datastoreReady":true}}`},
		{"pool", &IPPool{Meta: named("p"), Spec: IPPoolSpec{CIDR: "10.244.0.0/16"}},
			head("IPPool", "p") + `},"spec":{"cidr":"10.244.0.0/16","vxlanMode":"Never","ipipMode":"Never","blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}}`},
		{"profile", &Profile{Meta: named("p"), Spec: ProfileSpec{Egress: []Rule{{Action: Deny}}}},
			head("Profile", "p") + `},"spec":{"egress":[{"action":"Deny","source":{},"destination":{}}]}}`},
		{"node", &Node{Meta: named("h1")},
			head("Node", "h1") + `},"spec":{},"status":{}}`},
		{"workload endpoint's port", &WorkloadEndpoint{Meta: named("w"), Spec: WorkloadEndpointSpec{Ports: []WorkloadPort{{Name: "a", Protocol: Protocol{Name: "TCP"}, Port: 1}}}},
			head("WorkloadEndpoint", "w") + `},"spec":{"ports":[{"name":"a","protocol":"TCP","port":1,"hostPort":0,"hostIP":""}]}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Default()
			before := Clone(tt.o)
			got, err := EncodeStored(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("EncodeStored (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tt.o); diff != "" {
				t.Errorf("EncodeStored changed its argument:\n%s", diff)
			}
		})
	}
}

func TestEncodeStored_FelixConfigurationWritesDefaults(t *testing.T) {
	f := &FelixConfiguration{Meta: Meta{Name: "default"}}
	f.Default()
	b, err := EncodeStored(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"nftablesMode":"Auto"`, `"bpfLogLevel":""`, `"bpfConnectTimeLoadBalancing":"TCP"`, `"bpfHostNetworkedNATWithoutCTLB":"Enabled"`, `"floatingIPs":"Disabled"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("EncodeStored: %s is not in %s", want, b)
		}
	}
}

func TestEncodeStored_UnreadableIsRefused(t *testing.T) {
	if b, err := EncodeStored(&Unreadable{K: Key{Kind: KindTier, Name: "x"}}); err == nil {
		t.Errorf("EncodeStored: got %s, want an error", b)
	}
}

// TestStoredTypes_HaveEveryField guards the copies of structs that are
// written in another way to the store.
func TestStoredTypes_HaveEveryField(t *testing.T) {
	full := sample(t, KindGlobalNetworkPolicy).(*GlobalNetworkPolicy)
	full.Spec.StagedAction, full.Spec.DoNotTrack, full.Spec.PreDNAT = StagedSet, true, true
	b, err := EncodeStored(full)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields[typeFor(full.Spec)] {
		if !strings.Contains(string(b), `"`+f.name+`":`) {
			t.Errorf("EncodeStored drops field %s of PolicySpec", f.name)
		}
	}
	for _, f := range fields[typeFor(Rule{})] {
		if !strings.Contains(string(b), `"`+f.name+`":`) {
			t.Errorf("EncodeStored drops field %s of Rule", f.name)
		}
	}
}

// stored makes a stored value of a kind of Calico.
func stored(kind Kind, name, spec string) string {
	return fmt.Sprintf(`{"kind":%q,"apiVersion":"projectcalico.org/v3","metadata":{"name":%q},"spec":%s}`, kind, name, spec)
}

func TestDecodeStored_Policy(t *testing.T) {
	key := Key{Kind: KindGlobalNetworkPolicy, Name: "t1"}
	value := `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"t1","creationTimestamp":"2026-11-20T17:44:35Z",` +
		`"annotations":{"projectcalico.org/metadata":"{\"name\":\"t1\"}"},"future":1},"spec":{"ingress":[{"action":"Allow","source":{},"destination":{}}]},"status":{"x":1}}`
	want := &GlobalNetworkPolicy{
		TypeMeta: TypeMeta{KindGlobalNetworkPolicy, VersionCalico},
		Meta:     Meta{Name: "t1", ResourceVersion: "9", CreationTimestamp: created, Labels: map[string]string{LabelTier: "default"}},
		Spec:     PolicySpec{Ingress: []Rule{{Action: Allow}}},
	}
	if diff := cmp.Diff(Object(want), DecodeStored(key, []byte(value), 9)); diff != "" {
		t.Errorf("DecodeStored (-want +got):\n%s", diff)
	}
}

func TestDecodeStored_PolicyNames(t *testing.T) {
	tests := []struct {
		name, key, inMeta, annotation, tier string
		want                                string // empty: unreadable
	}{
		{"annotated", "foo", "foo", `{"name":"foo"}`, "default", "foo"},
		{"annotated with the prefix", "default.foo", "default.foo", `{"name":"default.foo"}`, "default", "default.foo"},
		{"old", "default.foo", "default.foo", "", "default", "foo"},
		{"old without tier", "default.foo", "default.foo", "", "", "foo"},
		{"old in another tier", "sec.foo", "sec.foo", "", "sec", "sec.foo"},
		{"prefix of another tier", "default.foo", "default.foo", "", "sec", "default.foo"},
		{"no name at all", "foo", "", "", "default", "foo"},
		{"name of another", "foo", "bar", "", "default", ""},
		{"annotation of another", "foo", "foo", `{"name":"bar"}`, "default", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			annotations := "{}"
			if tt.annotation != "" {
				annotations = fmt.Sprintf(`{"projectcalico.org/metadata":%q,"a":"b"}`, tt.annotation)
			}
			value := fmt.Sprintf(`{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":%q,"namespace":"n","annotations":%s},"spec":{"tier":%q}}`, tt.inMeta, annotations, tt.tier)
			o := DecodeStored(Key{KindNetworkPolicy, "n", tt.key}, []byte(value), 1)
			u, bad := o.(*Unreadable)
			if bad != (tt.want == "") {
				t.Fatalf("DecodeStored: got %T (%v), want readable %t", o, o.Validate(), tt.want != "")
			}
			if bad {
				if u.Key().Name != tt.key {
					t.Errorf("Unreadable.Key: got %s, want %s", u.Key().Name, tt.key)
				}
				return
			}
			if o.Key().Name != tt.want {
				t.Errorf("name: got %q, want %q", o.Key().Name, tt.want)
			}
			if _, ok := o.Metadata().Annotations[AnnotationMetadata]; ok {
				t.Error("the annotation with the name is still there")
			}
			tier := tt.tier
			if tier == "" {
				tier = DefaultTier
			}
			if got := o.Metadata().Labels[LabelTier]; got != tier {
				t.Errorf("tier label: got %q, want %q", got, tier)
			}
		})
	}
}

func TestDecodeStored_Unreadable(t *testing.T) {
	deny := []Rule{{Action: Deny}}
	policy := func(spec PolicySpec) Object { return &GlobalNetworkPolicy{Spec: spec} }
	both := []PolicyType{Ingress, Egress}
	order := 5.0
	tests := []struct {
		name   string
		key    Key
		value  string
		errHas string // empty: readable
		want   Object // salvaged, compared by its spec; nil: none
	}{
		{"garbage", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, "garbage\x00", "not JSON", nil},
		{"cut", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", "{}")[:60], "not JSON", nil},
		{"empty", Key{Kind: KindTier, Name: "x"}, "", "not JSON", nil},
		{"null", Key{Kind: KindTier, Name: "x"}, "null", "expected an object", nil},
		{"not UTF-8", Key{Kind: KindTier, Name: "x"}, "\"\xff\"", "not UTF-8", nil},
		{"deep", Key{Kind: KindTier, Name: "x"}, strings.Repeat("[", 40) + strings.Repeat("]", 40), "nested deeper", nil},
		{"another kind", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindTier, "x", "{}"), "kind:", nil},
		{"another version", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, strings.Replace(stored(KindGlobalNetworkPolicy, "x", "{}"), "org/v3", "org/v4", 1), "apiVersion:", nil},
		{"another namespace", Key{KindNetworkSet, "a", "x"}, `{"kind":"NetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"x","namespace":"b"}}`, "metadata.namespace", nil},
		{"unknown kind of key", Key{Kind: "Foo", Name: "x"}, `{}`, "unknown kind", nil},

		{"unknown match in a rule", Key{Kind: KindGlobalNetworkPolicy, Name: "x"},
			stored(KindGlobalNetworkPolicy, "x", `{"selector":"a == 'b'","order":5,"types":["Egress"],"egress":[{"action":"Allow","domains":["x"]}]}`),
			"spec.egress[0].domains: unknown field",
			policy(PolicySpec{Selector: "a == 'b'", Order: &order, Types: []PolicyType{Egress}, Egress: deny})},
		{"match in another case", Key{Kind: KindGlobalNetworkPolicy, Name: "x"},
			stored(KindGlobalNetworkPolicy, "x", `{"ingress":[{"action":"Allow","Protocol":"TCP"}]}`),
			"unknown field", policy(PolicySpec{Types: both, Ingress: deny, Egress: deny})},
		{"match there twice", Key{Kind: KindGlobalNetworkPolicy, Name: "x"},
			stored(KindGlobalNetworkPolicy, "x", `{"types":["Ingress"],"ingress":[{"action":"Allow","protocol":"TCP","protocol":"UDP"}]}`),
			"spec.ingress[0].protocol: there more than once", policy(PolicySpec{Types: []PolicyType{Ingress}, Ingress: deny})},
		{"bad prefix in a rule", Key{Kind: KindGlobalNetworkPolicy, Name: "x"},
			stored(KindGlobalNetworkPolicy, "x", `{"types":["Ingress"],"ingress":[{"action":"Allow","source":{"nets":["10.0.0.0/40"]}}]}`),
			"spec.ingress[0].source.nets[0]", policy(PolicySpec{Types: []PolicyType{Ingress}, Ingress: deny})},
		{"types that do not exist", Key{Kind: KindGlobalNetworkPolicy, Name: "x"},
			stored(KindGlobalNetworkPolicy, "x", `{"selector":"all()","types":["Ingress","Sideways"]}`),
			"spec.types[1]", policy(PolicySpec{Selector: "all()", Types: both, Ingress: deny, Egress: deny})},
		{"preDNAT denies ingress only", Key{Kind: KindGlobalNetworkPolicy, Name: "x"},
			stored(KindGlobalNetworkPolicy, "x", `{"selector":"all()","preDNAT":true,"applyOnForward":true,"ingress":[{"action":"Alow"}]}`),
			"spec.ingress[0].action", policy(PolicySpec{Selector: "all()", PreDNAT: true, ApplyOnForward: true, Types: []PolicyType{Ingress}, Ingress: deny})},
		{"untracked and preDNAT", Key{Kind: KindGlobalNetworkPolicy, Name: "x"},
			stored(KindGlobalNetworkPolicy, "x", `{"selector":"all()","preDNAT":true,"doNotTrack":true,"applyOnForward":true}`),
			"spec.preDNAT", policy(PolicySpec{Selector: "all()", ApplyOnForward: true, Types: both, Ingress: deny, Egress: deny})},
		{"bad selector", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", `{"selector":"a ="}`), "spec.selector", nil},
		{"misspelt selector", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", `{"selectr":"a == 'b'"}`), "spec.selectr", nil},
		{"order of another type", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", `{"order":"5"}`), "spec.order", nil},
		{"spec of another type", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", `[]`), "spec: expected an object", nil},
		{"bad rule of a staged policy", Key{Kind: KindStagedGlobalNetworkPolicy, Name: "x"}, stored(KindStagedGlobalNetworkPolicy, "x", `{"ingress":[{}]}`), "action: missing", nil},
		{"field of global policies", Key{KindNetworkPolicy, "a", "x"}, `{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"x","namespace":"a"},"spec":{"selector":"all()","doNotTrack":true}}`,
			"not a field", &NetworkPolicy{Spec: PolicySpec{Selector: "all()", Types: both, Ingress: deny, Egress: deny}}},

		{"profile", Key{Kind: KindProfile, Name: "x"}, stored(KindProfile, "x", `{"ingress":[{"action":"Allow","what":1}],"labelsToApply":{"a":"b"}}`),
			"spec.ingress[0].what", &Profile{Spec: ProfileSpec{Ingress: deny, Egress: deny, LabelsToApply: map[string]string{"a": "b"}}}},
		{"set", Key{Kind: KindGlobalNetworkSet, Name: "x"}, stored(KindGlobalNetworkSet, "x", `{"nets":["10.0.0.0/8","10.0.0.0/40","::1",""]}`),
			"spec.nets[1]", &GlobalNetworkSet{Spec: NetworkSetSpec{Nets: []string{"10.0.0.0/8", "::1"}}}},
		{"set with a number", Key{Kind: KindGlobalNetworkSet, Name: "x"}, stored(KindGlobalNetworkSet, "x", `{"nets":["10.0.0.0/8",5]}`),
			"spec.nets[1]", &GlobalNetworkSet{Spec: NetworkSetSpec{Nets: []string{"10.0.0.0/8"}}}},
		{"endpoint", Key{Kind: KindHostEndpoint, Name: "x"}, stored(KindHostEndpoint, "x", `{"node":"h1","interfaceName":"eth0","expectedIPs":["10.0.0.1","x"],"profiles":["p"],"ports":[{}],"future":1}`),
			"spec.future", &HostEndpoint{Spec: HostEndpointSpec{Node: "h1", InterfaceName: "eth0", ExpectedIPs: []string{"10.0.0.1"}, Profiles: []string{"p"}}}},
		{"endpoint without host", Key{Kind: KindHostEndpoint, Name: "x"}, stored(KindHostEndpoint, "x", `{"interfaceName":"eth0"}`), "spec.node", nil},
		{"tier", Key{Kind: KindTier, Name: "x"}, stored(KindTier, "x", `{"order":5,"defaultAction":7}`), "spec.defaultAction", &Tier{Spec: TierSpec{Order: &order, DefaultAction: Deny}}},
		{"tier's order", Key{Kind: KindTier, Name: "x"}, stored(KindTier, "x", `{"order":"5"}`), "spec.order", nil},
		{"configuration", Key{Kind: KindFelixConfiguration, Name: "default"}, stored(KindFelixConfiguration, "default", `{"logPrefix":"x","failsafeInboundHostPorts":[{"protocol":"tcp","port":22},5]}`),
			"spec.failsafeInboundHostPorts[1]", &FelixConfiguration{Spec: FelixConfigurationSpec{LogPrefix: "x"}}},

		{"unknown action of a tier means deny", Key{Kind: KindTier, Name: "x"}, stored(KindTier, "x", `{"defaultAction":"Foo"}`), "", nil},
		{"unknown fields of a configuration", Key{Kind: KindFelixConfiguration, Name: "default"}, stored(KindFelixConfiguration, "default", `{"future":[1],"LogPrefix":"x"}`), "", nil},
		{"unknown fields outside of spec", Key{Kind: KindProfile, Name: "x"}, strings.Replace(stored(KindProfile, "x", `{}`), `"metadata"`, `"future":{},"metadata"`, 1), "", nil},
		{"odd labels of a policy", Key{Kind: KindGlobalNetworkPolicy, Name: "X.y.z"}, stored(KindGlobalNetworkPolicy, "X.y.z", `{}`), "", nil},
		{"address there twice in a set", Key{Kind: KindGlobalNetworkSet, Name: "x"}, stored(KindGlobalNetworkSet, "x", `{"nets":["::1","::1"]}`), "", nil},
		{"empty list of nets", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", `{"ingress":[{"action":"Allow","source":{"nets":[]}}]}`), "", nil},
		{"applyOnForward of another type", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", `{"selector":"all()","types":["Ingress"],"applyOnForward":"yes"}`),
			"spec.applyOnForward", policy(PolicySpec{Selector: "all()", ApplyOnForward: true, Types: []PolicyType{Ingress}, Ingress: deny})},
		{"no types", Key{Kind: KindGlobalNetworkPolicy, Name: "x"}, stored(KindGlobalNetworkPolicy, "x", `{"selector":"all()"}`), "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			value := []byte(tt.value)
			o := DecodeStored(tt.key, value, 3)
			u, bad := o.(*Unreadable)
			if !bad {
				if tt.errHas != "" {
					t.Fatalf("DecodeStored: got %T, want *Unreadable with %q", o, tt.errHas)
				}
				return
			}
			if tt.errHas == "" || !strings.Contains(u.Err.Error(), tt.errHas) {
				t.Fatalf("error: got %q, want %q", u.Err, tt.errHas)
			}
			if u.Key() != tt.key || u.ResourceVersion != "3" || string(u.Raw) != tt.value || u.Validate() != u.Err {
				t.Errorf("Unreadable: got key %s, version %q, raw %q", u.Key(), u.ResourceVersion, u.Raw)
			}
			if (u.Salvaged == nil) != (tt.want == nil) {
				t.Fatalf("Salvaged: got %+v, want %+v", u.Salvaged, tt.want)
			}
			if tt.want == nil {
				return
			}
			if u.Salvaged.Key() != tt.key {
				t.Errorf("Salvaged.Key: got %s, want %s", u.Salvaged.Key(), tt.key)
			}
			got := Clone(u.Salvaged)
			*got.Metadata(), *typeOf(got) = Meta{}, TypeMeta{}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Salvaged (-want +got):\n%s", diff)
			}
		})
	}
}

// Labels that say who an endpoint is never count when a user wrote them.
func TestDecodeStored_ReservedLabelsAreNotTrusted(t *testing.T) {
	for _, kind := range []Kind{KindGlobalNetworkSet, KindHostEndpoint} {
		value := fmt.Sprintf(`{"kind":%q,"apiVersion":"projectcalico.org/v3","metadata":{"name":"x","labels":{"pcns.a":"b","projectcalico.org/namespace":"prod","ok":"1"}},"spec":{"node":"h1","interfaceName":"eth0"}}`, kind)
		if kind == KindGlobalNetworkSet {
			value = strings.Replace(value, `"node":"h1","interfaceName":"eth0"`, "", 1)
		}
		u, ok := DecodeStored(Key{Kind: kind, Name: "x"}, []byte(value), 1).(*Unreadable)
		if !ok || u.Salvaged == nil {
			t.Fatalf("%s: got %v, want an Unreadable with something salvaged", kind, u)
		}
		if diff := cmp.Diff(map[string]string{"ok": "1"}, u.Salvaged.Metadata().Labels); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", kind, diff)
		}
	}
}

func TestUnreadable_JSONSaysWhyAndNotWhat(t *testing.T) {
	u := DecodeStored(Key{Kind: KindTier, Name: "x"}, []byte("garbage"), 4).(*Unreadable)
	b, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"x","resourceVersion":"4","annotations":{"ripstop.io/unreadable":"` + u.Err.Error() + `"}}}`
	if diff := cmp.Diff(want, strings.ReplaceAll(string(b), `\"`, `"`)); diff != "" {
		t.Errorf("MarshalJSON (-want +got):\n%s", diff)
	}
}

func BenchmarkDecodeStored(b *testing.B) {
	o := sample(b, KindGlobalNetworkPolicy)
	o.Default()
	value, err := EncodeStored(o)
	if err != nil {
		b.Fatal(err)
	}
	key := o.Key()
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		DecodeStored(key, value, 1)
	}
}
